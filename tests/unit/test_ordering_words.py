"""The words between the two daemons."""

import errno

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol import client, framing, ordering
from protocol.client import Dump, Item, ItemCount, Mount, Replace, Report, Status
from protocol.framing import BadMessage, Decoder, TextTooLong
from protocol.identity import NodeIdentity
from protocol.ordering import Cancel, Lock, Locked, OrderingMessage, Queued, Refused, Unlocked, Waiting

GRAMMAR: list[tuple[bytes, OrderingMessage]] = [
    (b"LOCK 7 3 10.0.0.3 7777 db3", Lock(7, NodeIdentity(3, "10.0.0.3", 7777, "db3"))),
    (b"LOCK 7 3 10.0.0.3 7777 my  node ", Lock(7, NodeIdentity(3, "10.0.0.3", 7777, "my  node "))),
    (b"LOCK 0 0 fe80::1 0 x", Lock(0, NodeIdentity(0, "fe80::1", 0, "x"))),
    (b"LOCK 1 255 10.0.0.3 65535 ...", Lock(1, NodeIdentity(255, "10.0.0.3", 65535, "..."))),
    (b"LOCK 1 5 10.0.0.3 7777 n\xff", Lock(1, NodeIdentity(5, "10.0.0.3", 7777, "n\udcff"))),
    (b"LOCKED 7", Locked(7)),
    (b"LOCKED 9223372036854775807", Locked(ordering.MAX_REQUEST)),
    (b"QUEUED 7 node db3 is not complete yet", Queued(7, "node db3 is not complete yet")),
    (b"QUEUED 7 ", Queued(7, "")),
    (b"REFUSED 7 22 number 0 cannot be told from unset", Refused(7, 22, "number 0 cannot be told from unset")),
    (b"CANCEL 7", Cancel(7)),
    (b"UNLOCKED 3", Unlocked(3)),
    (b"WAITING 3 B left, and A1B2 still links it", Waiting(3, "B left, and A1B2 still links it")),
    (b"REPORT", Report()),
    (b"DUMP", Dump()),
    (b"REPLACE", Replace()),
    (b"STATUS 22 no", Status(22, "no")),
    (b"ITEMCOUNT 1", ItemCount(1)),
    (b"ITEM {}", Item("{}")),
]


@pytest.mark.parametrize(("text", "message"), GRAMMAR)
def test_each_word_is_read_and_written(text: bytes, message: OrderingMessage) -> None:
    assert ordering.parse(text) == message
    assert ordering.encode(message) == text.ljust(256, b"\0")


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"lock 7 3 10.0.0.3 7777 db3",
        b"LOCK 7 3 10.0.0.3 7777",
        b"LOCK 7 -3 10.0.0.3 7777 db3",
        b"LOCK 7 2147483648 10.0.0.3 7777 db3",
        b"LOCK 7 3 10.0.0.3 65536 db3",
        b"LOCK 7 3 10.0.0.3  db3",
        b"LOCK 9223372036854775808 3 10.0.0.3 7777 db3",
        b"LOCK x 3 10.0.0.3 7777 db3",
        b"LOCKED",
        b"LOCKED ",
        b"LOCKED 7 8",
        b"LOCKED 7 ",
        b"QUEUED 7",
        b"REFUSED 7 22",
        b"REFUSED 7 0 fine",
        b"REFUSED 7 -1 reason",
        b"REFUSED 7 2147483648 reason",
        b"CANCEL -1",
        b"UNLOCKED db3",
        b"WAITING 3",
        b"DUMP ",
        b"STATUS 0",
        b"MOUNT ocfs2 U C dev ocfs2",
        b"UNMOUNT ocfs2 U ocfs2",
        b"FENCED db3 life",
        b"LISTCLUSTERS",
    ],
)
def test_what_is_no_message_here_is_refused(text: bytes) -> None:
    with pytest.raises(BadMessage) as caught:
        ordering.parse(text)
    assert caught.value.code == errno.EINVAL


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("", "needs a name"),
        (".", r'"\."'),
        ("..", r'"\.\."'),
        ("a/b", "slash"),
        ("/", "slash"),
        ("a\nb", "newline"),
        ("n" * 65, "65 bytes"),
        ("\u00e9" * 33, "66 bytes"),
    ],
)
def test_a_name_that_no_directory_can_have_is_refused_both_ways(name: str, why: str) -> None:
    with pytest.raises(BadMessage, match=why):
        ordering.encode(Lock(1, NodeIdentity(3, "10.0.0.3", 7777, name)))
    with pytest.raises(BadMessage, match=why):
        ordering.parse(b"LOCK 1 3 10.0.0.3 7777 " + framing.to_bytes(name))


def test_a_nul_in_a_name_is_refused_also_where_no_record_was() -> None:
    with pytest.raises(BadMessage, match="NUL"):
        ordering.check_name("a\0b")
    with pytest.raises(BadMessage, match="NUL"):
        ordering.encode(Lock(1, NodeIdentity(3, "10.0.0.3", 7777, "a\0b")))
    with pytest.raises(BadMessage, match="NUL"):
        ordering.parse(b"LOCK 1 3 10.0.0.3 7777 a\0b")


@pytest.mark.parametrize("name", ["a", " ", "my node", "...", ".hidden", "n" * 64, "\u00e9" * 32])
def test_other_names_are_fine(name: str) -> None:
    assert ordering.check_name(name) == name


@pytest.mark.parametrize(
    "message",
    [
        Lock(-1, NodeIdentity(3, "10.0.0.3", 7777, "db3")),
        Lock(1, NodeIdentity(-3, "10.0.0.3", 7777, "db3")),
        Lock(1, NodeIdentity(3, "10.0.0.3 ", 7777, "db3")),
        Lock(1, NodeIdentity(3, "10.0.0.3", 65536, "db3")),
        Locked(2**63),
        Queued(-1, "why"),
        Refused(1, 0, "why"),
        Refused(1, -22, "why"),
        Cancel(-1),
        Unlocked(2**31),
        Waiting(-1, "why"),
        Status(0, ""),
    ],
)
def test_what_would_be_misread_is_not_written(message: OrderingMessage) -> None:
    with pytest.raises(BadMessage):
        ordering.encode(message)


def test_an_address_is_never_cut() -> None:
    with pytest.raises(TextTooLong):
        ordering.encode(Lock(1, NodeIdentity(3, "1" * 255, 7777, "db3")))


@pytest.mark.parametrize(
    ("message", "text"),
    [
        (Queued(7, "x" * 999), b"QUEUED 7 " + b"x" * 243 + b"..."),
        (Refused(7, 22, "\u20ac" * 99), b"REFUSED 7 22 " + "\u20ac".encode() * 79 + b"..."),
        (Waiting(3, "x" * 999), b"WAITING 3 " + b"x" * 242 + b"..."),
        (Waiting(3, "a\0b\ud83d"), b"WAITING 3 a\xe2\x90\x80b\\ud83d"),
    ],
)
def test_a_reason_is_cut_to_fit(message: OrderingMessage, text: bytes) -> None:
    assert Decoder().feed(ordering.encode(message)) == [text]
    ordering.parse(text)


requests = st.integers(0, ordering.MAX_REQUEST)
numbers = st.integers(0, 2**31 - 1)
reasons = st.binary(max_size=200).map(lambda raw: framing.to_text(raw.replace(b"\0", b"")))
names = (
    st.binary(min_size=1, max_size=64)
    .filter(lambda raw: not set(raw) & set(b"/\0\n") and raw not in (b".", b".."))
    .map(framing.to_text)
)
identities = st.builds(
    NodeIdentity, numbers, st.ip_addresses().map(str), st.integers(0, 65535), st.one_of(names, st.just(" a  b "))
)
messages: st.SearchStrategy[OrderingMessage] = st.one_of(
    st.builds(Lock, requests, identities),
    st.builds(Locked, requests),
    st.builds(Queued, requests, reasons),
    st.builds(Refused, requests, st.integers(1, 2**31 - 1), reasons),
    st.builds(Cancel, requests),
    st.builds(Unlocked, numbers),
    st.builds(Waiting, numbers, reasons),
    st.builds(ItemCount, st.integers(0, 2**32 - 1)),
    st.sampled_from([Report(), Dump(), Replace(), Status(5, "a b"), Item(" ")]),
)


@settings(deadline=None)
@given(messages)
def test_every_message_is_read_back_as_it_was_written(message: OrderingMessage) -> None:
    assert [ordering.parse(text) for text in Decoder().feed(ordering.encode(message))] == [message]


@settings(deadline=None)
@given(
    st.one_of(
        st.binary(max_size=255),
        st.builds(
            lambda word, rest: word + rest,
            st.sampled_from(sorted([*ordering._FORMS, *client._FORMS])),
            st.text(" 0-5z./\n\u00e9", max_size=40).map(str.encode),
        ),
    )
)
def test_garbage_is_a_message_or_a_bad_message_and_nothing_else(text: bytes) -> None:
    try:
        message = ordering.parse(text)
    except BadMessage as error:
        answer = Decoder().feed(client.status(error.code, str(error)))
    else:
        assert message.word.encode() == framing.command(text)
        return
    assert isinstance(ordering.parse(answer[0]), Status)


def test_a_mount_does_not_belong_here() -> None:
    (text,) = Decoder().feed(client.encode(Mount("ocfs2", "U", "C", "dev", "ocfs2")))
    with pytest.raises(BadMessage, match='Unknown message "MOUNT" on the ordering socket'):
        ordering.parse(text)
