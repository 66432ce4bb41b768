"""Handshake blocks: what every node's daemon must have in common before it may speak with the others.

Each subsystem generates one block; a statement carries all of them. Bytes, little endian: u16 magic, u16 length of the
data, data; block after block, nothing around them. The two top bits of a magic are the block's mode, so that a daemon
can judge also a block that it has never heard of:

    01 must match   both have it, and equal          10 negotiate   both have it, and the same major version
    11 optional     never refuses                    00 reserved    refused, so that later versions can use it

All daemons must come to the same verdict over the same blocks. So whether a block is there is judged before any value,
and by the bytes alone; and an optional block cannot refuse, for who does not know it could not.
"""

import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import pairwise
from operator import eq
from typing import Final, NamedTuple

from protocol.framing import BadMessage

MAX_DATA: Final = 2**16 - 1
"""Bytes of the longest block's data."""

_HEADER: Final = struct.Struct("<HH")
_VERSION: Final = struct.Struct("<HH")
_PORT: Final = struct.Struct("<H")
_MODE_SHIFT: Final = 14
_MAX_NUMBER: Final = 2**_MODE_SHIFT - 1
_MAX_PORT: Final = 65534
_LONGEST_VALUE_SHOWN: Final = 32


class Mode(Enum):
    """What becomes of two nodes whose blocks differ. The value is the two top bits of the magic."""

    MUST_MATCH = 0b01
    NEGOTIATE = 0b10
    OPTIONAL = 0b11


class Version(NamedTuple):
    """The data of a block that is negotiated: u16 major, u16 minor."""

    major: int
    minor: int

    @classmethod
    def read(cls, data: bytes) -> "Version":
        """Raises BadMessage: the data is not 4 bytes long."""
        if len(data) != _VERSION.size:
            raise BadMessage(f"a version has {_VERSION.size} bytes, not {len(data)}")
        return cls(*_VERSION.unpack(data))

    def __bytes__(self) -> bytes:
        return _VERSION.pack(*self)

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}"


def magic_of(mode: Mode, number: int) -> int:
    """The magic of the block with this number, 0 to 16383, of its mode's own."""
    if not 0 <= number <= _MAX_NUMBER:
        raise ValueError(f"a block's number must be from 0 to {_MAX_NUMBER}, not {number}")
    return mode.value << _MODE_SHIFT | number


def mode_of(magic: int) -> Mode:
    """The mode of a block, also of an unknown one.

    Raises:
        BadMessage: the reserved mode.
    """
    try:
        return Mode(magic >> _MODE_SHIFT)
    except ValueError:
        raise BadMessage(f"block {magic:#06x} is of a mode that this version does not know") from None


def hexadecimal(data: bytes) -> str:
    """Data of an unknown format for an error's sentence, cut after 32 bytes."""
    tail = "..." if len(data) > _LONGEST_VALUE_SHOWN else ""
    return f"0x{data[:_LONGEST_VALUE_SHOWN].hex()}{tail}" if data else "nothing"


PROTOCOL: Final = magic_of(Mode.NEGOTIATE, 1)
"""The version of everything that the daemons say to each other."""

GROUP: Final = magic_of(Mode.NEGOTIATE, 2)
"""The version of the group protocol."""

O2CB_PORT: Final = magic_of(Mode.MUST_MATCH, 1)
"""The TCP port on which the kernels of the cluster speak with each other; u16."""

PROGRAM: Final = magic_of(Mode.OPTIONAL, 1)
"""The version of the daemon's program, for people: UTF-8, no longer than LONGEST_PROGRAM bytes."""

LONGEST_PROGRAM: Final = 32
PROTOCOL_VERSION: Final = Version(1, 0)
GROUP_VERSION: Final = Version(1, 0)


@dataclass(frozen=True, slots=True)
class Subsystem:
    """One block: what it says, and when two of them agree.

    Attributes:
        magic: see `magic_of`.
        key: what people call it; named in a refusal.
        mode: must be the one in the magic.
        generate: the data of this node's block.
        compare: whether two data agree, for Mode.MUST_MATCH. An equivalence, and the same in all versions of the
            daemon; it is only called with data of the right length, if there is one.
        length: bytes of the data, if always the same.
        show: a value for people.

    Raises:
        ValueError: the magic is of another mode.
    """

    magic: int
    key: str
    mode: Mode
    generate: Callable[[], bytes]
    compare: Callable[[bytes, bytes], bool] = eq
    length: int | None = None
    show: Callable[[bytes], str] = hexadecimal

    def __post_init__(self) -> None:
        if self.magic >> _MODE_SHIFT != self.mode.value:
            raise ValueError(f"{self.key}: magic {self.magic:#06x} is not of the mode {self.mode.name}")

    def value(self, data: bytes) -> str:
        """The data for people, also where its length is wrong."""
        return self.show(data) if self.length in (None, len(data)) else hexadecimal(data)


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why two nodes cannot be in one group, or why nobody can be in one with `node`.

    Attributes:
        key: the subsystem.
        node: one node.
        value: what it has, for people.
        other_node: the other node; `node` itself if its blocks cannot be read.
        other_value: what that has, or should have.
        advice: what to do.
    """

    key: str
    node: str
    value: str
    other_node: str
    other_value: str
    advice: str

    def __str__(self) -> str:
        if self.node == self.other_node:
            return f"node {self.node}: {self.key}: {self.value}; {self.advice}"
        return (
            f"{self.key}: node {self.node} has {self.value}, but node {self.other_node} has {self.other_value};"
            f" {self.advice}"
        )


_UPDATE: Final = "run the same version of the daemons on both"
_CONFIGURE: Final = "it must be the same on every node of the cluster"


def encode(blocks: Mapping[int, bytes]) -> bytes:
    """Blocks by magic as bytes, in order of their magics.

    Raises:
        ValueError: data is too long.
    """
    for magic, data in blocks.items():
        if len(data) > MAX_DATA:
            raise ValueError(f"block {magic:#06x}: {len(data)} bytes of data; {MAX_DATA} is the most")
    return b"".join(_HEADER.pack(magic, len(data)) + data for magic, data in sorted(blocks.items()))


def decode(raw: bytes) -> dict[int, bytes]:
    """Blocks by magic, in the order in which they came.

    Raises:
        BadMessage: a block is cut short, comes twice, or is of the reserved mode.
    """
    blocks: dict[int, bytes] = {}
    at = 0
    while at < len(raw):
        if len(raw) - at < _HEADER.size:
            raise BadMessage(f"{len(raw) - at} bytes where a handshake block should begin: cut short")
        magic, length = _HEADER.unpack_from(raw, at)
        at += _HEADER.size
        if len(raw) - at < length:
            raise BadMessage(f"block {magic:#06x} says {length} bytes of data, but {len(raw) - at} are left: cut short")
        if magic in blocks:
            raise BadMessage(f"block {magic:#06x} comes twice")
        mode_of(magic)
        blocks[magic] = raw[at : at + length]
        at += length
    return blocks


class Handshake:
    """The subsystems of this daemon: makes its blocks, and judges those of any nodes.

    Args:
        subsystems: in any order.

    Raises:
        ValueError: two have the same magic.
    """

    def __init__(self, subsystems: Iterable[Subsystem]) -> None:
        ordered = sorted(subsystems, key=lambda subsystem: subsystem.magic)
        for one, other in pairwise(ordered):
            if one.magic == other.magic:
                raise ValueError(f"{one.key} and {other.key} have the same magic {one.magic:#06x}")
        self._subsystems = {subsystem.magic: subsystem for subsystem in ordered}

    def blocks(self) -> bytes:
        """This node's blocks, freshly generated.

        Raises:
            ValueError: a subsystem's data is not of the length that it registered.
        """
        made = {magic: subsystem.generate() for magic, subsystem in self._subsystems.items()}
        for magic, data in made.items():
            if (length := self._subsystems[magic].length) not in (None, len(data)):
                raise ValueError(f"{self._subsystems[magic].key}: {len(data)} bytes of data, but {length} registered")
        return encode(made)

    def judge(self, mine: bytes, theirs: bytes, my_node: str, their_node: str) -> Refusal | None:
        """Whether two nodes fit together; either of them, and any third, gets the same answer.

        Blocks that cannot be read are a Refusal of their node, never an exception.
        """
        return self.first_refusal(sorted([(my_node, mine), (their_node, theirs)]))

    def first_refusal(self, blocks_by_node: Sequence[tuple[str, bytes]]) -> Refusal | None:
        """The first reason why these nodes cannot be in one group, or None.

        Every daemon that gives the same sequence and is itself among the nodes refuses the same nodes for the same
        block. To agree is an equivalence, so each node is held against the first only.

        Args:
            blocks_by_node: name and blocks of each node, in an order that all daemons use alike.
        """
        nodes: list[tuple[str, dict[int, bytes]]] = []
        for name, raw in blocks_by_node:
            try:
                nodes.append((name, decode(raw)))
            except BadMessage as error:
                return Refusal("handshake", name, str(error), name, "", _UPDATE)
        # A and B know a block that C has never heard of, with a comparison of their own. C could judge A's and B's
        # values by their bytes only, and blame B where A and B blame C. Once nobody lacks a block, all know it.
        for judge in (self._absence, self._difference):
            for node in nodes[1:]:
                if refusal := judge(nodes[0], node):
                    return refusal
        # A node that is alone may not run at a version that nobody can read either.
        return self._unreadable(nodes[0]) if nodes else None

    def lowest(self, blocks_of_all: Iterable[bytes], magic: int = GROUP) -> int:
        """The minor version at which these nodes can speak with each other: the lowest of them all.

        Args:
            blocks_of_all: of nodes that fit together, this one among them.
            magic: a block that is negotiated.

        Raises:
            BadMessage: a node lacks the block, cannot be read, or has another major version.
            ValueError: no nodes, or no such block is negotiated.
        """
        if mode_of(magic) is not Mode.NEGOTIATE:
            raise ValueError(f"{self._key(magic)} is not negotiated")
        versions = []
        for raw in blocks_of_all:
            data = decode(raw).get(magic)
            if data is None:
                raise BadMessage(f"{self._key(magic)}: a node has none")
            versions.append(Version.read(data))
        if not versions:
            raise ValueError(f"{self._key(magic)}: no nodes, so no version")
        if len({version.major for version in versions}) > 1:
            raise BadMessage(f"{self._key(magic)}: different major versions: {', '.join(map(str, versions))}")
        return min(version.minor for version in versions)

    def _absence(self, one: tuple[str, dict[int, bytes]], other: tuple[str, dict[int, bytes]]) -> Refusal | None:
        for magic in sorted(one[1].keys() ^ other[1].keys()):
            if mode_of(magic) is not Mode.OPTIONAL:
                return self._refusal(magic, one, other, _UPDATE)
        return None

    def _difference(self, one: tuple[str, dict[int, bytes]], other: tuple[str, dict[int, bytes]]) -> Refusal | None:
        for magic in sorted(one[1].keys() & other[1].keys()):
            mine, theirs = one[1][magic], other[1][magic]
            match mode_of(magic):
                case Mode.MUST_MATCH:
                    if not self._equal(magic, mine, theirs):
                        return self._refusal(magic, one, other, _CONFIGURE)
                case Mode.NEGOTIATE:
                    if not _compatible(mine, theirs):
                        return self._refusal(magic, one, other, _UPDATE)
                case Mode.OPTIONAL:
                    pass
        return None

    def _unreadable(self, node: tuple[str, dict[int, bytes]]) -> Refusal | None:
        name, blocks = node
        for magic, data in sorted(blocks.items()):
            if mode_of(magic) is Mode.NEGOTIATE and len(data) != _VERSION.size:
                return Refusal(self._key(magic), name, f"{hexadecimal(data)} is no version", name, "", _UPDATE)
        return None

    def _equal(self, magic: int, one: bytes, other: bytes) -> bool:
        subsystem = self._subsystems.get(magic)
        if subsystem is None or any(subsystem.length not in (None, len(data)) for data in (one, other)):
            return one == other
        return subsystem.compare(one, other)

    def _key(self, magic: int) -> str:
        subsystem = self._subsystems.get(magic)
        return subsystem.key if subsystem else f"unknown block {magic:#06x}"

    def _value(self, magic: int, data: bytes | None) -> str:
        if data is None:
            return "none"
        subsystem = self._subsystems.get(magic)
        return subsystem.value(data) if subsystem else hexadecimal(data)

    def _refusal(
        self, magic: int, one: tuple[str, dict[int, bytes]], other: tuple[str, dict[int, bytes]], advice: str
    ) -> Refusal:
        values = [self._value(magic, blocks.get(magic)) for _, blocks in (one, other)]
        return Refusal(self._key(magic), one[0], values[0], other[0], values[1], advice)


def program_of(raw: bytes) -> str:
    """The program's version that these blocks tell, fit to be shown; empty where they tell none."""
    try:
        data = decode(raw).get(PROGRAM, b"")
    except BadMessage:
        return ""
    text = data[:LONGEST_PROGRAM].decode("utf-8", "replace")
    return "".join(c if c.isprintable() else "?" for c in text)


def _compatible(one: bytes, other: bytes) -> bool:
    try:
        return Version.read(one).major == Version.read(other).major
    except BadMessage:
        return False


def standard(port: int, program: str = "") -> Handshake:
    """The blocks of this version of the daemons.

    Args:
        port: the o2cb port of this node's configuration, 1 to 65534.
        program: the version of the program, cut where it is too long; not told when empty.

    Raises:
        ValueError: no such port.
    """
    told = Subsystem(PROGRAM, "program version", Mode.OPTIONAL, generate=lambda: program.encode()[:LONGEST_PROGRAM])
    if not 1 <= port <= _MAX_PORT:
        raise ValueError(f"the o2cb port must be from 1 to {_MAX_PORT}, not {port}")

    def negotiated(magic: int, key: str, version: Version) -> Subsystem:
        return Subsystem(
            magic,
            key,
            Mode.NEGOTIATE,
            generate=lambda: bytes(version),
            length=_VERSION.size,
            show=lambda data: str(Version.read(data)),
        )

    return Handshake(
        [
            negotiated(PROTOCOL, "protocol version", PROTOCOL_VERSION),
            negotiated(GROUP, "group protocol version", GROUP_VERSION),
            Subsystem(
                O2CB_PORT,
                "o2cb port",
                Mode.MUST_MATCH,
                generate=lambda: _PORT.pack(port),
                length=_PORT.size,
                show=lambda data: str(_PORT.unpack(data)[0]),
            ),
            *((told,) if program else ()),
        ]
    )
