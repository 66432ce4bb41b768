"""What corosync says, as plain values: one class for each callback of its libraries."""

from dataclasses import dataclass
from typing import Final, TypeAlias

from libo2cb.engine.port import ChannelMember
from protocol.identity import Ring

SHUTDOWN_REQUEST: Final = 0

Value: TypeAlias = int | float | str | bytes
"""A value of cmap: text is UTF-8 with surrogateescape."""


@dataclass(frozen=True, slots=True)
class Message:
    """A message of the group."""

    sender: ChannelMember
    payload: bytes


@dataclass(frozen=True, slots=True)
class Confchg:
    """The group's membership changed: all members, and (member, reason) of who left and who joined."""

    members: tuple[ChannelMember, ...]
    left: tuple[tuple[ChannelMember, int], ...]
    joined: tuple[tuple[ChannelMember, int], ...]


@dataclass(frozen=True, slots=True)
class TotemConfchg:
    """The ring under the group changed."""

    ring: Ring
    nodes: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class NodeList:
    """quorum's first callback: the members of a ring, and who is new and gone since the ring before."""

    ring: Ring
    members: tuple[int, ...]
    joined: tuple[int, ...]
    left: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Quorate:
    """quorum's second callback: whether a ring has quorum."""

    ring: Ring
    quorate: bool


@dataclass(frozen=True, slots=True)
class KeyChanged:
    """A tracked key of cmap was added, changed or deleted."""

    key: str


@dataclass(frozen=True, slots=True)
class Shutdown:
    """corosync asks whether it may shut down; with other flags than SHUTDOWN_REQUEST it only says so."""

    flags: int
