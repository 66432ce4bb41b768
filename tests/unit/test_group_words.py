"""The words on the channel: every one survives its bytes, in pieces too, and no bytes do harm."""

import contextlib
import json
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.frozen import FrozenMap
from protocol.group import (
    MAJOR,
    NO_START,
    PIECE,
    Assembler,
    BadEnvelope,
    Claim,
    Envelope,
    Expel,
    FenceBegun,
    Fenced,
    FenceFailed,
    Goodbye,
    Group,
    GroupTable,
    HaveLock,
    Identify,
    Inside,
    Join,
    Leave,
    Lost,
    Phase,
    Refuse,
    Started,
    StartName,
    Statement,
    Stopped,
    View,
    ViewMember,
    Withdraw,
    encode,
)
from protocol.identity import Life, NodeIdentity, Ring

numbers = st.integers(0, 2**63)
texts = st.text(max_size=20)
lives = st.builds(Life, numbers, texts)
many_lives = st.lists(lives, max_size=3).map(tuple)
rings = st.builds(Ring, numbers, numbers)
starts = st.builds(StartName, rings, numbers)
views = st.builds(View, rings, st.lists(st.builds(ViewMember, numbers, numbers), max_size=3).map(tuple))
identities = st.builds(NodeIdentity, numbers, texts, numbers, texts)
groups = st.builds(
    Group,
    members=many_lives,
    lost=many_lives,
    away=many_lives,
    phase=st.sampled_from(Phase),
    joiner=st.none() | lives,
    answers=many_lives,
    queue=many_lives,
    gone=st.booleans(),
    start=starts,
    made=starts,
)
tables = st.builds(
    GroupTable,
    groups=st.dictionaries(texts, groups, max_size=3).map(FrozenMap),
    fenced=many_lives,
    unseen=many_lives,
    newest=starts,
    named=starts,
    begun=st.dictionaries(lives, st.builds(ViewMember, numbers, numbers), max_size=3).map(FrozenMap),
)
claims = st.builds(Claim, st.sampled_from(Inside), st.booleans(), starts)
statements = st.builds(
    Statement,
    view=views,
    life=lives,
    incarnation=texts,
    nonce=texts,
    identity=identities,
    blocks=st.binary(max_size=40),
    configured=st.lists(numbers, max_size=4).map(tuple),
    table=st.none() | tables,
    claims=st.dictionaries(texts, claims, max_size=3).map(FrozenMap),
    away=st.lists(numbers, max_size=3).map(tuple),
    doubt=st.booleans(),
)
words = st.one_of(
    statements,
    st.builds(Expel, views, st.builds(ViewMember, numbers, numbers), texts),
    st.builds(Join, texts),
    st.builds(Withdraw, texts),
    st.builds(Leave, texts),
    st.builds(HaveLock, texts, lives),
    st.builds(Refuse, texts, lives, numbers, texts),
    st.builds(Stopped, texts, starts),
    st.builds(Started, texts, starts),
    st.builds(Fenced, lives, texts),
    st.builds(FenceBegun, lives, st.builds(ViewMember, numbers, numbers)),
    st.builds(FenceFailed, lives),
    st.builds(Lost, lives, texts),
    st.builds(Identify, identities),
    st.builds(Goodbye),
)
envelopes = st.builds(Envelope, st.none() | texts, st.lists(words, max_size=4).map(tuple))


@given(envelopes, numbers)
def test_every_word_survives_its_bytes(envelope: Envelope, serial: int) -> None:
    assembler = Assembler()
    (piece,) = list(encode(envelope, serial))
    assert assembler.feed(piece) == envelope


def large(size: int) -> Envelope:
    return Envelope("c", (Fenced(Life(1, "b"), "x" * size),))


@pytest.mark.parametrize("size", [0, PIECE - 200, PIECE, PIECE + 1, 5 * PIECE])
def test_a_large_document_travels_in_pieces(size: int) -> None:
    assembler = Assembler()
    pieces = list(encode(large(size), 7))
    assert all(len(p) <= PIECE for p in pieces)
    assert [assembler.feed(p) for p in pieces[:-1]] == [None] * (len(pieces) - 1)
    assert assembler.feed(pieces[-1]) == large(size)


def test_who_joins_in_the_middle_of_a_document_waits_for_the_next() -> None:
    assembler = Assembler()
    first, second, *_ = list(encode(large(3 * PIECE), 1))
    assert first
    assert assembler.feed(second) is None
    (whole,) = list(encode(Envelope("c", (Join("F"),)), 2))
    assert assembler.feed(whole) == Envelope("c", (Join("F"),))


def test_pieces_of_two_documents_are_not_mixed() -> None:
    assembler = Assembler()
    one, two = list(encode(large(3 * PIECE), 1)), list(encode(large(3 * PIECE), 2))
    assert assembler.feed(one[0]) is None
    assert all(assembler.feed(p) is None for p in two[1:])
    assert [assembler.feed(p) for p in two][-1] == large(3 * PIECE)


@given(st.binary(max_size=200))
def test_no_bytes_do_harm(payload: bytes) -> None:
    # Nothing but a BadEnvelope may come of them, and almost none are the beginning of a document.
    with contextlib.suppress(BadEnvelope):
        assert Assembler().feed(payload) is None


def raw(body: bytes) -> bytes:
    return struct.pack("<4sBBHHI", b"o2gm", MAJOR, 0, 0, 1, 1) + body


@pytest.mark.parametrize(
    ("document", "says"),
    [
        ([], "an object was expected"),
        ({"words": []}, "'change' is missing"),
        ({"change": 7, "words": []}, "a text was expected, not 7"),
        ({"change": None, "words": {}}, "a list was expected"),
        ({"change": None, "words": [{"word": "sing"}]}, "the word 'sing' is not of protocol 1.0"),
        ({"change": "c", "words": [{"word": "join"}]}, "'fs' is missing"),
        ({"change": "c", "words": [{"word": "join", "fs": 1}]}, "a text was expected"),
        ({"change": "c", "words": [{"word": "fenced", "life": [True, "b"], "how": ""}]}, "a number was expected"),
        ({"change": "c", "words": [{"word": "started", "fs": "F", "start": [1, 2]}]}, "a list of 3 was expected"),
    ],
)
def test_a_document_that_breaks_the_rules_says_how(document: object, says: str) -> None:
    with pytest.raises(BadEnvelope, match=says):
        Assembler().feed(raw(json.dumps(document).encode()))


@given(st.binary(max_size=60))
def test_any_body_is_a_document_or_an_error(body: bytes) -> None:
    with pytest.raises(BadEnvelope):
        Assembler().feed(raw(b"\xff" + body))


def test_another_protocol_is_refused_by_name() -> None:
    with pytest.raises(BadEnvelope, match=r"protocol 9\.0 is not ours, 1\.0"):
        Assembler().feed(struct.pack("<4sBBHHI", b"o2gm", 9, 0, 0, 1, 1) + b"{}")
    with pytest.raises(BadEnvelope, match="magic"):
        Assembler().feed(struct.pack("<4sBBHHI", b"http", 1, 0, 0, 1, 1) + b"{}")
    with pytest.raises(BadEnvelope, match="piece 3 of 2"):
        Assembler().feed(struct.pack("<4sBBHHI", b"o2gm", MAJOR, 0, 3, 2, 1) + b"{}")


def test_names_of_starts_ascend() -> None:
    first = NO_START.following(Ring(4, 1))
    second = first.following(Ring(4, 1))
    later = second.following(Ring(8, 2))
    assert NO_START < first < second < later
    assert [str(x) for x in (first, second, later)] == ["1.4#1", "1.4#2", "2.8#1"]
