"""Handshake blocks: their bytes, and that all daemons judge them alike."""

import itertools
import struct
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol import handshake
from protocol.framing import BadMessage
from protocol.handshake import (
    GROUP,
    O2CB_PORT,
    PROGRAM,
    PROTOCOL,
    Handshake,
    Mode,
    Refusal,
    Subsystem,
    Version,
    magic_of,
    program_of,
    standard,
)

MUST = magic_of(Mode.MUST_MATCH, 100)
NEGOTIATED = magic_of(Mode.NEGOTIATE, 100)
OPTIONAL = magic_of(Mode.OPTIONAL, 100)


def changed(raw: bytes, changes: dict[int, bytes | None]) -> bytes:
    """The blocks with some of them replaced, added, or (None) taken out."""
    blocks: dict[int, bytes | None] = {**handshake.decode(raw), **changes}
    return handshake.encode({magic: data for magic, data in blocks.items() if data is not None})


def sentence(refusal: Refusal | None) -> str:
    assert refusal is not None
    return str(refusal)


def test_the_bytes_of_the_first_blocks() -> None:
    assert standard(7777).blocks() == bytes.fromhex("0140 0200 611e  0180 0400 0100 0000  0280 0400 0100 0000")


def test_a_mode_is_known_from_a_magic_alone() -> None:
    for mode in Mode:
        for number in (0, 1, 16383):
            assert handshake.mode_of(magic_of(mode, number)) is mode
    with pytest.raises(BadMessage, match="mode"):
        handshake.mode_of(0x3FFF)
    with pytest.raises(ValueError, match="16384"):
        magic_of(Mode.OPTIONAL, 16384)


def test_a_subsystem_cannot_contradict_its_magic() -> None:
    with pytest.raises(ValueError, match="MUST_MATCH"):
        Subsystem(OPTIONAL, "idle", Mode.MUST_MATCH, bytes)


def test_two_subsystems_cannot_share_a_magic() -> None:
    with pytest.raises(ValueError, match="one and two have the same magic"):
        Handshake([Subsystem(MUST, "one", Mode.MUST_MATCH, bytes), Subsystem(MUST, "two", Mode.MUST_MATCH, bytes)])


def test_a_subsystem_keeps_to_its_registered_length() -> None:
    with pytest.raises(ValueError, match="3 bytes of data, but 2 registered"):
        Handshake([Subsystem(MUST, "idle", Mode.MUST_MATCH, lambda: b"abc", length=2)]).blocks()
    with pytest.raises(ValueError, match="65536 bytes"):
        Handshake([Subsystem(MUST, "idle", Mode.MUST_MATCH, lambda: bytes(65536))]).blocks()


@pytest.mark.parametrize("port", [0, 65535, -1])
def test_a_port_that_no_node_can_have(port: int) -> None:
    with pytest.raises(ValueError, match="o2cb port"):
        standard(port)


magics = st.builds(magic_of, st.sampled_from(Mode), st.integers(0, 16383))


@settings(deadline=None)
@given(st.dictionaries(magics, st.binary(max_size=300), max_size=8))
def test_blocks_are_read_back(blocks: dict[int, bytes]) -> None:
    assert handshake.decode(handshake.encode(blocks)) == blocks


@pytest.mark.parametrize("end", range(1, 22))
def test_truncated_blocks_are_a_bad_message(end: int) -> None:
    raw = standard(7777).blocks()
    if end in (6, 14):
        assert len(handshake.decode(raw[:end])) == end // 6
        return
    with pytest.raises(BadMessage, match="cut short"):
        handshake.decode(raw[:end])


def test_a_block_twice_or_of_the_reserved_mode_is_a_bad_message() -> None:
    with pytest.raises(BadMessage, match="twice"):
        handshake.decode(struct.pack("<HHHH", OPTIONAL, 0, OPTIONAL, 0))
    with pytest.raises(BadMessage, match="mode"):
        handshake.decode(struct.pack("<HH", 1, 0))


@settings(deadline=None)
@given(st.binary(max_size=80))
def test_garbage_is_blocks_or_a_bad_message_and_always_a_verdict(raw: bytes) -> None:
    try:
        handshake.decode(raw)
        readable = True
    except BadMessage:
        readable = False
    ours = standard(7777)
    verdict = ours.judge(ours.blocks(), raw, "A", "B")
    assert verdict is not None
    assert "B" in str(verdict)
    if not readable:
        assert (verdict.node, verdict.other_node) == ("B", "B")


def test_equal_blocks_agree() -> None:
    ours = standard(7777)
    assert ours.judge(ours.blocks(), standard(7777).blocks(), "A", "B") is None
    assert ours.first_refusal([]) is None
    assert ours.first_refusal([("A", ours.blocks())]) is None


def test_a_refusal_names_key_values_and_nodes() -> None:
    ours = standard(7777)
    verdict = ours.judge(ours.blocks(), standard(7778).blocks(), "db1", "db3")
    assert verdict == Refusal(
        "o2cb port", "db1", "7777", "db3", "7778", "it must be the same on every node of the cluster"
    )
    assert str(verdict) == (
        "o2cb port: node db1 has 7777, but node db3 has 7778; it must be the same on every node of the cluster"
    )


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({MUST: b"\x01"}, "unknown block 0x4064: node A has none, but node B has 0x01"),
        ({NEGOTIATED: bytes(Version(1, 0))}, "unknown block 0x8064: node A has none"),
        ({O2CB_PORT: None}, "o2cb port: node A has 7777, but node B has none"),
        ({GROUP: None}, "group protocol version: node A has 1.0, but node B has none"),
        ({PROTOCOL: bytes(Version(2, 0))}, "protocol version: node A has 1.0, but node B has 2.0"),
        ({GROUP: bytes(Version(0, 9))}, "group protocol version: node A has 1.0, but node B has 0.9"),
        ({PROTOCOL: b"\x01\x00"}, "protocol version: node A has 1.0, but node B has 0x0100"),
        ({O2CB_PORT: b""}, "o2cb port: node A has 7777, but node B has nothing"),
        ({O2CB_PORT: b"\x61\x1e\x00"}, "o2cb port: node A has 7777, but node B has 0x611e00"),
        ({MUST: bytes(40)}, "node B has 0x" + "00" * 32 + "..."),
    ],
)
def test_what_does_not_fit_is_refused_by_either_side_in_the_same_words(
    changes: dict[int, bytes | None], says: str
) -> None:
    ours = standard(7777)
    mine, theirs = ours.blocks(), changed(ours.blocks(), changes)
    verdict = ours.judge(mine, theirs, "A", "B")
    assert says in sentence(verdict)
    assert ours.judge(theirs, mine, "B", "A") == verdict


@pytest.mark.parametrize(
    "changes",
    [{OPTIONAL: b"news"}, {PROTOCOL: bytes(Version(1, 7))}, {GROUP: bytes(Version(1, 65535))}],
)
def test_optional_blocks_and_minor_versions_never_refuse(changes: dict[int, bytes | None]) -> None:
    ours = standard(7777)
    theirs = changed(ours.blocks(), changes)
    assert ours.judge(ours.blocks(), theirs, "A", "B") is None
    assert ours.judge(changed(ours.blocks(), {OPTIONAL: b"other"}), theirs, "A", "B") is None


def test_a_node_alone_is_refused_for_a_version_that_cannot_be_read() -> None:
    ours = standard(7777)
    verdict = ours.first_refusal([("A", changed(ours.blocks(), {GROUP: b"\x01"}))])
    assert sentence(verdict).startswith("node A: group protocol version: 0x01 is no version")


def test_the_group_runs_at_the_lowest_minor() -> None:
    ours = standard(7777)
    raw = ours.blocks()
    newer = changed(raw, {GROUP: bytes(Version(1, 4))})
    newest = changed(raw, {GROUP: bytes(Version(1, 6)), PROTOCOL: bytes(Version(1, 2))})
    assert ours.lowest([newest, newer]) == 4
    assert ours.lowest([newest, newer, raw]) == 0
    assert ours.lowest([newest], PROTOCOL) == 2


@pytest.mark.parametrize(("change", "why"), [(None, "none"), (b"\x01", "4 bytes"), (bytes(Version(2, 0)), "major")])
def test_no_common_version_is_a_bad_message(change: bytes | None, why: str) -> None:
    ours = standard(7777)
    with pytest.raises(BadMessage, match=why):
        ours.lowest([ours.blocks(), changed(ours.blocks(), {GROUP: change})])


def test_only_what_is_negotiated_of_somebody_has_a_lowest_version() -> None:
    ours = standard(7777)
    with pytest.raises(ValueError, match="not negotiated"):
        ours.lowest([ours.blocks()], O2CB_PORT)
    with pytest.raises(ValueError, match="no nodes"):
        ours.lowest([])


def test_a_comparison_of_its_own_sees_only_data_of_the_registered_length() -> None:
    ours = Handshake(
        [
            Subsystem(
                MUST,
                "idle time",
                Mode.MUST_MATCH,
                generate=lambda: struct.pack("<I", 30_004),
                compare=lambda one, other: struct.unpack("<I", one)[0] // 10 == struct.unpack("<I", other)[0] // 10,
                length=4,
                show=lambda data: f"{struct.unpack('<I', data)[0]} ms",
            )
        ]
    )
    near, far = (handshake.encode({MUST: struct.pack("<I", idle)}) for idle in (30_009, 30_010))
    assert ours.judge(ours.blocks(), near, "A", "B") is None
    assert "node A has 30004 ms, but node B has 30010 ms" in sentence(ours.judge(ours.blocks(), far, "A", "B"))
    short = handshake.encode({MUST: b"\x01"})
    assert "node B has 0x01" in sentence(ours.judge(ours.blocks(), short, "A", "B"))


def test_who_does_not_know_a_block_blames_the_same_nodes_as_who_does() -> None:
    # A and B compare a block that C has never heard of, so that theirs agree though their bytes differ.
    knowing = Handshake(
        [Subsystem(MUST, "idle", Mode.MUST_MATCH, lambda: b"a", compare=lambda one, other: bool(one and other))]
    )
    ignorant = Handshake([])
    nodes = [("A", handshake.encode({MUST: b"a"})), ("B", handshake.encode({MUST: b"b"})), ("C", b"")]
    assert knowing.first_refusal(nodes[:2]) is None
    verdicts = [judge.first_refusal(nodes) for judge in (knowing, knowing, ignorant)]
    assert {(v.node, v.other_node) for v in verdicts if v} == {("A", "C")}
    assert None not in verdicts


few = st.sampled_from([b"", b"\x01\x00", bytes(Version(1, 0)), bytes(Version(1, 3)), bytes(Version(2, 0))])
some_blocks = st.one_of(
    st.dictionaries(st.sampled_from([MUST, NEGOTIATED, OPTIONAL, PROTOCOL, O2CB_PORT]), few).map(handshake.encode),
    st.just(b"\x01"),
)


@settings(deadline=None)
@given(st.lists(some_blocks, max_size=4))
def test_nobody_is_refused_exactly_when_each_two_fit(raw: Sequence[bytes]) -> None:
    ours = standard(7777)
    nodes = [(f"n{index}", blocks) for index, blocks in enumerate(raw)]
    pairs = [ours.judge(a, b, m, n) for (m, a), (n, b) in itertools.combinations(nodes, 2)]
    alone = [ours.first_refusal([node]) for node in nodes]
    assert (ours.first_refusal(nodes) is None) == (not any(pairs) and not any(alone))
    if nodes and ours.first_refusal(nodes) is None and all(GROUP in handshake.decode(blocks) for blocks in raw):
        ours.lowest(raw)


@settings(deadline=None)
@given(some_blocks, some_blocks)
def test_either_of_two_and_a_third_with_another_registry_refuse_alike(a: bytes, b: bytes) -> None:
    ours, other = standard(7777), Handshake([])
    verdict = ours.judge(a, b, "A", "B")
    assert ours.judge(b, a, "B", "A") == verdict
    assert (other.judge(a, b, "A", "B") is None) == (verdict is None)


def test_the_programs_version_is_told_and_refuses_nobody() -> None:
    ours = standard(7777, "0.1.0")
    assert program_of(ours.blocks()) == "0.1.0"
    for other in (standard(7777), standard(7777, "9.9"), standard(7777, "x" * 100)):
        assert ours.judge(ours.blocks(), other.blocks(), "A", "B") is None
        assert other.judge(ours.blocks(), other.blocks(), "A", "B") is None
    assert program_of(standard(7777).blocks()) == ""
    assert program_of(standard(7777, "x" * 100).blocks()) == "x" * 32
    assert program_of(handshake.encode({PROGRAM: b"\x1b[2J\xff"})) == "?[2J\ufffd", (
        "what a peer says is shown to people"
    )
    assert program_of(b"cut short") == ""
