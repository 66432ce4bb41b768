"""The 256-byte record and its splitter."""

import errno

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol import framing
from protocol.framing import MAX_TEXT, RECORD, BadMessage, Decoder, TextTooLong

texts = st.binary(max_size=MAX_TEXT).map(lambda raw: raw.replace(b"\0", b"."))


def test_a_record_is_its_text_padded_with_nuls_to_256_bytes() -> None:
    record = framing.encode(b"STATUS 0 OK")
    assert record == b"STATUS 0 OK" + bytes(245)
    assert len(record) == RECORD == 256


def test_255_bytes_are_carried_and_256_refused() -> None:
    assert Decoder().feed(framing.encode(b"x" * 255)) == [b"x" * 255]
    with pytest.raises(TextTooLong, match="256 bytes, and a record carries 255"):
        framing.encode(b"x" * 256)


def test_a_nul_inside_is_refused_since_it_would_cut_the_text() -> None:
    with pytest.raises(TextTooLong, match="NUL"):
        framing.encode(b"MOUNT\0ocfs2")


def test_text_ends_at_the_first_nul_and_what_stands_behind_means_nothing() -> None:
    assert Decoder().feed(b"DUMP\0UNMOUNT ocfs2 U ocfs2".ljust(RECORD, b"z")) == [b"DUMP"]


def test_byte_255_counts_as_nul_whatever_it_is() -> None:
    assert Decoder().feed(b"y" * RECORD) == [b"y" * 255]


def test_an_empty_record_is_an_empty_text() -> None:
    assert Decoder().feed(bytes(RECORD)) == [b""]


@settings(deadline=None)
@given(st.lists(texts, max_size=5), st.data())
def test_chopped_in_any_way_the_same_texts_come_out(sent: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(framing.encode(text) for text in sent)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=20)))
    decoder = Decoder()
    got = []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        got += decoder.feed(stream[start:end])
        assert decoder.pending == end % RECORD
    assert got == sent


@settings(deadline=None)
@given(st.lists(st.binary(max_size=700), max_size=8))
def test_any_stream_leaves_less_than_a_record_in_memory(chunks: list[bytes]) -> None:
    decoder = Decoder()
    count = 0
    for chunk in chunks:
        count += len(decoder.feed(chunk))
        assert 0 <= decoder.pending < RECORD
        assert len(decoder._half) == decoder.pending
    assert count * RECORD + decoder.pending == sum(map(len, chunks))


@pytest.mark.parametrize(
    ("text", "arity", "arguments"),
    [
        (b"DUMP", 0, []),
        (b"ITEM a  b ", 1, [b"a  b "]),
        (b"ITEM ", 1, [b""]),
        (b"ITEM  ", 1, [b" "]),
        (b"STATUS 0 OK then go", 2, [b"0", b"OK then go"]),
        (b"STATUS 0 ", 2, [b"0", b""]),
        (b"STATUS  txt", 2, [b"", b"txt"]),
        (b"MOUNT ocfs2 U C img/my disk.img ocfs2", 5, [b"ocfs2", b"U", b"C", b"img/my", b"disk.img ocfs2"]),
        (b"UNMOUNT ocfs2  U ", 3, [b"ocfs2", b"", b"U "]),
        (b"ITEM\ttab", 0, []),
    ],
)
def test_the_splitter(text: bytes, arity: int, arguments: list[bytes]) -> None:
    assert framing.words(text, arity) == (framing.command(text), arguments)


@pytest.mark.parametrize(
    ("text", "arity"),
    [
        (b"STATUS 0", 2),
        (b"STATUS", 2),
        (b"ITEM", 1),
        (b"MOUNT ocfs2 U C dev", 5),
        (b"DUMP ", 0),
        (b"DUMP x", 0),
        (b"", 1),
    ],
)
def test_too_few_or_unwanted_arguments_are_no_message(text: bytes, arity: int) -> None:
    with pytest.raises(BadMessage) as caught:
        framing.words(text, arity)
    assert caught.value.code == errno.EINVAL


@settings(deadline=None)
@given(st.lists(st.text("ab\n\u00e9", max_size=5), max_size=4), st.text(" ab", max_size=9))
def test_what_is_spelled_is_split_again(inner: list[str], last: str) -> None:
    arguments = [*inner, last]
    word, got = framing.words(framing.spell("WORD", *arguments), len(arguments))
    assert (word, [framing.to_text(raw) for raw in got]) == (b"WORD", arguments)


def test_a_blank_before_the_last_argument_cannot_be_spelled() -> None:
    with pytest.raises(BadMessage, match='MOUNT cannot carry "a b"'):
        framing.spell("MOUNT", "ocfs2", "a b", "c")


@settings(deadline=None)
@given(st.binary())
def test_any_bytes_survive_as_text(raw: bytes) -> None:
    assert framing.to_bytes(framing.to_text(raw)) == raw


def test_escaped_bytes_that_together_are_utf8_keep_their_bytes_and_come_back_as_the_character() -> None:
    assert framing.to_bytes("\udcc2\udc80") == b"\xc2\x80"
    assert framing.to_text(b"\xc2\x80") == "\x80"


def test_half_a_surrogate_pair_is_a_bad_message_and_no_codec_error() -> None:
    with pytest.raises(BadMessage, match="surrogate"):
        framing.to_bytes("\ud83d")


@settings(deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"])), st.integers(4, 40))
def test_cut_never_splits_a_character(text: str, limit: int) -> None:
    raw = text.encode()
    got = framing.cut(raw, limit)
    assert raw.startswith(got)
    assert text.startswith(got.decode("utf-8", "strict"))
    assert min(len(raw), limit) - 3 <= len(got) <= limit


@settings(deadline=None)
@given(st.binary(), st.integers(4, 40))
def test_cut_of_any_bytes_is_never_empty_and_reads_as_before(raw: bytes, limit: int) -> None:
    got = framing.cut(raw, limit)
    assert len(got) <= limit
    assert got or not raw
    assert framing.to_text(got) + framing.to_text(raw[len(got) :]) == framing.to_text(raw)


@settings(deadline=None)
@given(st.text(st.characters()), st.integers(7, 60))
def test_a_sentence_for_people_always_fits(text: str, limit: int) -> None:
    got = framing.human(text, limit)
    assert len(got) <= limit
    assert b"\0" not in got
    assert got or not text


def test_a_cut_sentence_shows_that_it_was_cut() -> None:
    assert framing.human("x" * 255) == b"x" * 255
    assert framing.human("x" * 256) == b"x" * 252 + b"..."
    assert framing.human("\u20ac" * 100) == ("\u20ac" * 84 + "...").encode()


def test_bytes_that_are_no_text_stay_as_they_are_in_a_sentence() -> None:
    assert framing.human("device \udcff") == b"device \xff"
    assert framing.human("a\0b") == "a\u2400b".encode()
    assert framing.human("half \ud83d") == b"half \\ud83d"


def test_a_sentence_behind_its_head_fills_the_record_to_the_last_byte() -> None:
    record = framing.encode_sentence("STATUS 22", "x" * 500)
    assert record == b"STATUS 22 " + b"x" * 242 + b"...\0"
    with pytest.raises(TextTooLong):
        framing.encode_sentence("H" * 254, "a sentence without room")


@pytest.mark.parametrize(
    ("raw", "quoted"),
    [(b"FOO", '"FOO"'), (b"a\nb\x1b", r'"a\nb\x1b"'), (b"\xff", r'"\xff"'), (b"x" * 70, '"' + "x" * 60 + '..."')],
)
def test_a_strangers_bytes_are_shown_on_one_printable_line(raw: bytes, quoted: str) -> None:
    assert framing.shown(raw) == quoted


@pytest.mark.parametrize("digits", ["", "-1", "+1", " 1", "1 ", "1_0", "0x1", "\u0663", "256", "9" * 200])
def test_what_is_no_number_or_too_great_is_refused_by_name(digits: str) -> None:
    with pytest.raises(BadMessage, match="a port must be a number from 0 to 255"):
        framing.number(digits, "a port", 255)


@settings(deadline=None)
@given(st.integers(0, 2**63))
def test_numbers_are_read(value: int) -> None:
    assert framing.number(str(value), "a number", 2**63) == value
