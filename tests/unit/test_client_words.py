"""The client vocabulary: each row and oddity that was measured on the real clients and daemons."""

import errno
from dataclasses import replace

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from protocol import client, framing
from protocol.client import (
    ClientMessage,
    Dump,
    Fenced,
    Item,
    ItemCount,
    ListClusters,
    ListError,
    ListFs,
    ListMounts,
    ListReader,
    Mount,
    MountResult,
    Replace,
    Report,
    Status,
    Unmount,
)
from protocol.framing import BadMessage, Decoder, TextTooLong
from protocol.ordering import Locked

UUID = "A1B2C3D4E5F60718293A4B5C6D7E8F90"

GRAMMAR: list[tuple[bytes, ClientMessage]] = [
    (f"MOUNT ocfs2 {UUID} web /dev/sdb1 ocfs2".encode(), Mount("ocfs2", UUID, "web", "/dev/sdb1", "ocfs2")),
    (f"MRESULT ocfs2 {UUID} 0 ocfs2".encode(), MountResult("ocfs2", UUID, 0, "ocfs2")),
    (f"MRESULT ocfs2 {UUID} 19 my service ".encode(), MountResult("ocfs2", UUID, 19, "my service ")),
    (b"MRESULT ocfs2 U -1485330940 fsck.ocfs2", MountResult("ocfs2", "U", -1485330940, "fsck.ocfs2")),
    (b"UNMOUNT ocfs2 U a  b", Unmount("ocfs2", "U", "a  b")),
    (b"STATUS 0 OK", Status(0, "OK")),
    (b"STATUS 114 Already mounted, go ahead", Status(114, "Already mounted, go ahead")),
    (b"LISTFS ocfs2 web", ListFs("ocfs2", "web")),
    (b"LISTMOUNTS ocfs2 U", ListMounts("ocfs2", "U")),
    (b"LISTCLUSTERS", ListClusters()),
    (b"ITEMCOUNT 0", ItemCount(0)),
    (b"ITEMCOUNT 4294967295", ItemCount(4294967295)),
    (b"ITEM a b\nc ", Item("a b\nc ")),
    (b"DUMP", Dump()),
    (b"REPORT", Report()),
    (b"REPLACE", Replace()),
    (b"FENCED db1 9f1c-77", Fenced("db1", "9f1c-77")),
    (b"FENCED my node 9f1c-77", Fenced("my node", "9f1c-77")),
    (b"FENCED my node ", Fenced("my node", "")),
    (b"MOUNT ocfs2 U  /dev/sdb1 ocfs2", Mount("ocfs2", "U", "", "/dev/sdb1", "ocfs2")),
    (b"MOUNT ocfs2 U C /dev/sdb1 ", Mount("ocfs2", "U", "C", "/dev/sdb1", "")),
    (b"MOUNT ocfs2 U C dev\xff ocfs2", Mount("ocfs2", "U", "C", "dev\udcff", "ocfs2")),
]

READ_ONLY: list[tuple[bytes, ClientMessage]] = [
    (b"STATUS  txt", Status(0, "txt")),
    (b"STATUS 0 ", Status(0, "")),
    (b"STATUS -16 Another mount is in process", Status(-16, "Another mount is in process")),
    (b"STATUS +5 x", Status(5, "x")),
    (b"STATUS \t5 x", Status(5, "x")),
    (b"STATUS 2147483647 x", Status(2147483647, "x")),
    (b"STATUS -2147483648 x", Status(-2147483648, "x")),
    (b"MRESULT ocfs2 U 007 ocfs2", MountResult("ocfs2", "U", 7, "ocfs2")),
    (b"ITEM ", Item("")),
]


@pytest.mark.parametrize(("text", "message"), GRAMMAR + READ_ONLY)
def test_each_row_of_the_grammar_is_read(text: bytes, message: ClientMessage) -> None:
    assert client.parse(text) == message


@pytest.mark.parametrize(("text", "message"), GRAMMAR)
def test_each_row_of_the_grammar_is_written(text: bytes, message: ClientMessage) -> None:
    assert client.encode(message) == text.ljust(256, b"\0")


@pytest.mark.parametrize(
    ("text", "device", "service"),
    [
        (b"MOUNT ocfs2 U C img/my disk.img ocfs2", "img/my disk.img", "ocfs2"),
        (b"MOUNT ocfs2 U C a  b  ocfs2", "a  b ", "ocfs2"),
        (b"MOUNT ocfs2 U C ocfs2 ocfs2", "ocfs2", "ocfs2"),
        (b"MOUNT ocfs2 U C  ocfs2", "", "ocfs2"),
        (b"MOUNT ocfs2 U C dev my ocfs2 service", "dev", "my ocfs2 service"),
        (b"MOUNT ocfs2 U C dev fsck.ocfs2", "dev", "fsck.ocfs2"),
        (b"MOUNT ocfs2 U C dev notocfs2", "dev", "notocfs2"),
        (b"MOUNT ocfs2 U C dev ocfs2 ", "dev", "ocfs2 "),
    ],
)
def test_a_device_with_blanks_is_understood_when_the_last_word_is_ocfs2(text: bytes, device: str, service: str) -> None:
    message = Mount("ocfs2", "U", "C", device, service)
    assert client.parse(text) == message
    assert Decoder().feed(client.encode(message)) == [text]


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b" ",
        b" DUMP",
        b"dump",
        b"DUMPX",
        b"DUMP\n",
        b"DUMP ",
        b"DUMP x",
        b"LISTCLUSTERS ",
        b"REPORT now",
        b"REPLACE ",
        b"MOUNTS ocfs2 U C d s",
        b"MOUNT",
        b"MOUNT ocfs2 U C ocfs2",
        b"MRESULT ocfs2 U 0",
        b"UNMOUNT ocfs2 U",
        b"LISTFS ocfs2",
        b"LISTMOUNTS ocfs2",
        b"ITEM",
        b"ITEMCOUNT",
        b"ITEMCOUNT ",
        b"ITEMCOUNT -1",
        b"ITEMCOUNT 3 x",
        b"ITEMCOUNT 4294967296",
        b"STATUS 0",
        b"STATUS zz text",
        b"STATUS 5x text",
        b"STATUS - text",
        b"STATUS \t text",
        b"STATUS 0x5 text",
        b"STATUS 1_0 text",
        b"STATUS 2147483648 text",
        b"STATUS -2147483649 text",
        b"MRESULT ocfs2 U  ocfs2",
        b"FENCED",
        b"FENCED db1",
        b"FENCED  life",
        b"LOCKED 5",
    ],
)
def test_what_is_no_message_is_answered_22_with_a_sentence(text: bytes) -> None:
    with pytest.raises(BadMessage) as caught:
        client.parse(text)
    assert caught.value.code == errno.EINVAL
    assert client.parse(Decoder().feed(client.status(caught.value.code, str(caught.value)))[0]) == Status(
        errno.EINVAL, str(caught.value)
    )


@pytest.mark.parametrize("code", ["zz", "5x", "2147483648", "-", ""])
def test_a_bad_number_in_mresult_is_answered_in_upstreams_words(code: str) -> None:
    with pytest.raises(BadMessage) as caught:
        client.parse(f"MRESULT ocfs2 U {code} ocfs2".encode())
    assert (caught.value.code, str(caught.value)) == (22, f"Invalid error code string: {code}")


@pytest.mark.parametrize(
    ("message", "why"),
    [
        (Mount("ocfs2", "U U", "C", "dev", "ocfs2"), "only its last argument may hold a blank"),
        (Mount("ocfs2", "U", "my cluster", "dev", "ocfs2"), "only its last argument"),
        (Mount("ocfs2", "U", "C", "my disk.img", "fsck.ocfs2"), "only its last argument"),
        (Mount("ocfs2", "U", "C", "dev", "my ocfs2"), "would be taken for the device"),
        (MountResult("ocfs2", "U", 2**31, "ocfs2"), "must be from"),
        (Unmount("ocfs2", "a b", "ocfs2"), "only its last argument"),
        (Status(0, ""), "STATUS needs a text"),
        (Status(-16, "busy"), "must be from 0"),
        (Status(2**31, "much"), "must be from 0"),
        (Item(""), "ITEM needs a text"),
        (ItemCount(-1), "count of items"),
        (ItemCount(2**32), "count of items"),
        (Fenced("", "life"), "name of a node"),
        (Fenced("db1", "a b"), "holds no blank"),
        (Item("\ud83d"), "surrogate"),
    ],
)
def test_what_would_be_misread_is_not_written(message: ClientMessage, why: str) -> None:
    with pytest.raises(BadMessage, match=why):
        client.encode(message)


def test_an_argument_is_never_cut() -> None:
    fits = Mount("ocfs2", UUID, "web", "/" + "d" * 199, "ocfs2")
    assert client.parse(Decoder().feed(client.encode(fits))[0]) == fits
    with pytest.raises(TextTooLong, match="256 bytes"):
        client.encode(replace(fits, device="/" + "d" * 200))
    with pytest.raises(TextTooLong, match="NUL"):
        client.encode(Item("a\0b"))


anything = st.binary(max_size=60).map(lambda raw: framing.to_text(raw.replace(b"\0", b"")))
# Blanks go before the bytes become text: taken out behind, they could leave surrogates that together spell UTF-8.
solid = st.binary(max_size=60).map(lambda raw: framing.to_text(raw.replace(b"\0", b"").replace(b" ", b"")))
some = anything.filter(bool)
messages: st.SearchStrategy[ClientMessage] = st.one_of(
    st.builds(Mount, solid, solid, solid, solid, anything.filter(lambda text: not text.endswith(" ocfs2"))),
    st.builds(Mount, solid, solid, solid, anything, st.just("ocfs2")),
    st.builds(MountResult, solid, solid, st.integers(-(2**31), 2**31 - 1), anything),
    st.builds(Unmount, solid, solid, anything),
    st.builds(Status, st.integers(0, 2**31 - 1), some),
    st.builds(ListFs, solid, anything),
    st.builds(ListMounts, solid, anything),
    st.builds(ItemCount, st.integers(0, 2**32 - 1)),
    st.builds(Item, some),
    st.builds(Fenced, some, solid),
    st.sampled_from([ListClusters(), Dump(), Report(), Replace()]),
)


@settings(deadline=None)
@given(messages)
def test_every_message_is_read_back_as_it_was_written(message: ClientMessage) -> None:
    try:
        record = client.encode(message)
    except TextTooLong:
        assume(False)
    assert [client.parse(text) for text in Decoder().feed(record)] == [message]


garbage = st.one_of(
    st.binary(max_size=255),
    st.builds(
        lambda word, rest: word + rest,
        st.sampled_from(sorted(client._FORMS)),
        st.text(" 0-5zk\n\u00e9", max_size=30).map(str.encode),
    ),
)


@settings(deadline=None)
@given(garbage)
@example(b"STATUS " + b"9" * 248)
def test_garbage_is_a_message_or_a_bad_message_and_nothing_else(text: bytes) -> None:
    try:
        message = client.parse(text)
    except BadMessage as error:
        answer = Decoder().feed(client.status(error.code, str(error)))
    else:
        assert message.word.encode() == framing.command(text)
        return
    assert isinstance(client.parse(answer[0]), Status)


@settings(deadline=None)
@given(st.integers(0, 2**31 - 1), st.text(st.characters()))
def test_a_status_never_fails_for_its_text(code: int, text: str) -> None:
    (got,) = Decoder().feed(client.status(code, text))
    message = client.parse(got)
    assert isinstance(message, Status)
    assert message.code == code
    assert message.text
    got.decode("utf-8", "surrogateescape")


def test_a_long_status_is_cut_between_characters() -> None:
    (got,) = Decoder().feed(client.status(22, "\u20ac" * 200))
    assert got.decode() == "STATUS 22 " + "\u20ac" * 80 + "..."
    assert client.parse(Decoder().feed(client.status(0, ""))[0]) == Status(0, "OK")
    assert client.parse(Decoder().feed(client.status(5, ""))[0]) == Status(5, "Error 5")


def read_list(records: list[bytes]) -> tuple[str, ...] | None:
    reader = ListReader()
    got = None
    for text in Decoder().feed(b"".join(records)):
        assert got is None
        got = reader.feed(client.parse(text))
    return got


def test_an_answered_list_is_itemcount_items_and_status() -> None:
    assert [record.rstrip(b"\0") for record in client.items(["one", "and  two "])] == [
        b"ITEMCOUNT 2",
        b"ITEM one",
        b"ITEM and  two ",
        b"STATUS 0 OK",
    ]


@settings(deadline=None)
@given(st.lists(some))
def test_a_list_is_read_as_it_was_answered(texts: list[str]) -> None:
    assert read_list(client.items(texts)) == tuple(texts)


def test_an_item_that_no_reader_would_accept_is_refused() -> None:
    assert read_list(client.items(["x" * client.MAX_ITEM])) == ("x" * 250,)
    with pytest.raises(TextTooLong):
        client.items(["x" * 251])
    with pytest.raises(BadMessage):
        client.items(["a", ""])


@settings(deadline=None)
@given(st.one_of(st.text(min_size=200), st.text("\u20ac\U0001f600a", min_size=200, max_size=900), st.text()))
def test_the_pieces_of_a_document_join_to_the_document(text: str) -> None:
    text = text.replace("\0", "")
    pieces = read_list(client.document(text))
    assert pieces is not None
    assert "".join(pieces) == text
    assert all(0 < len(piece.encode()) <= client.MAX_ITEM for piece in pieces)


@settings(deadline=None)
@given(st.binary(min_size=240, max_size=800))
def test_a_document_may_hold_bytes_that_are_no_text(raw: bytes) -> None:
    text = framing.to_text(raw.replace(b"\0", b"\x80"))
    pieces = read_list(client.document(text))
    assert pieces is not None
    assert "".join(pieces) == text


def test_a_document_never_fails() -> None:
    assert read_list(client.document("")) == ()
    assert read_list(client.document("a\0b\ud83d")) == ("a\u2400b\\ud83d",)


@pytest.mark.parametrize(
    ("texts", "sentence", "code"),
    [
        ([b"ITEM x"], "Too many items!", errno.EBADMSG),
        ([b"ITEMCOUNT 1", b"ITEM x", b"ITEM y"], "Too many items!", errno.EBADMSG),
        ([b"ITEMCOUNT 0", b"ITEM x"], "Too many items!", errno.EBADMSG),
        ([b"ITEMCOUNT 1", b"ITEMCOUNT 1"], "Unexpected itemcount", errno.EBADMSG),
        ([b"STATUS 0 OK"], "Unexpected STATUS 0 from daemon", errno.EBADMSG),
        ([b"ITEMCOUNT 2", b"ITEM x", b"STATUS 0 OK"], "Unexpected STATUS 0 from daemon", errno.EBADMSG),
        ([b"ITEMCOUNT 0", b"STATUS 0 OK", b"STATUS 0 OK"], "Unexpected STATUS 0 from daemon", errno.EBADMSG),
        ([b"ITEMCOUNT 1", b"ITEM "], "Empty item message", errno.EBADMSG),
        ([b"ITEMCOUNT 1", b"DUMP"], "Unexpected message DUMP from daemon", errno.EBADMSG),
        ([b"STATUS 22 Invalid cluster name"], "Error 22 from daemon: Invalid cluster name", 22),
        ([b"ITEMCOUNT 1", b"ITEM x", b"STATUS 5 gone"], "Error 5 from daemon: gone", 5),
        ([b"STATUS -16 busy"], "Error -16 from daemon: busy", -16),
    ],
)
def test_a_list_reader_is_as_strict_as_upstream(texts: list[bytes], sentence: str, code: int) -> None:
    reader = ListReader()
    for text in texts[:-1]:
        reader.feed(client.parse(text))
    with pytest.raises(ListError) as caught:
        reader.feed(client.parse(texts[-1]))
    assert (str(caught.value), caught.value.code) == (sentence, code)


def test_a_list_reader_names_words_of_the_other_vocabulary_too() -> None:
    with pytest.raises(ListError, match="Unexpected message LOCKED from daemon"):
        ListReader().feed(Locked(1))
