"""The two ports to a cluster engine.

*Membership* says who is configured, who is here, and whether that is a quorum; it also asks whether this node may shut
down. *Channel* carries ordered messages between the daemons of one kind. An engine may have the first alone;
o2cb_controld needs only that.

Both deliver events to a sink, in order within a port and in no order between the two: a node's death may reach either
first (measured on corosync: up to 2.3 ms apart, 55 ms on a clean stop).
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from protocol.identity import Ring


@dataclass(frozen=True, slots=True, order=True)
class ConfiguredNode:
    """A node of the engine's configuration.

    Attributes:
        number: the engine's node id. May be one that o2cb cannot hold (0, or beyond 254).
        name: the node's name.
        address: its IPv4 address, or what the configuration says instead (IPv6, a host name).
    """

    number: int
    name: str
    address: str


@dataclass(frozen=True, slots=True)
class EngineUp:
    """The engine answers. Sent first, and again after each loss.

    Attributes:
        cluster: name of the cluster. One that has not 1 to 16 bytes cannot be used.
        local: this node's number.
        nodes: the configured nodes, by number.
        two_node: the engine grants quorum to either of two nodes alone, so that only fencing decides a cut.
        notes: what an operator should know of this configuration, a sentence each: a node's name that is not its
            host's, a node whose address o2cb cannot hold, more nodes than the channel has room for.
    """

    cluster: str
    local: int
    nodes: tuple[ConfiguredNode, ...]
    two_node: bool = False
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class EngineDown:
    """The engine went away; the adapter tries again by itself. Nothing else comes before the next EngineUp.

    Said again only when the reason has become another that somebody has to mend.
    """

    reason: str


@dataclass(frozen=True, slots=True)
class Configured:
    """The configuration was read anew: all configured nodes, by number, with two_node and notes as in EngineUp."""

    nodes: tuple[ConfiguredNode, ...]
    two_node: bool = False
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Members:
    """The membership of the engine, with its quorum.

    A node that restarts faster than the token comes as ONE event with unchanged members and the node in both joined
    and left: use the lists, never the difference of two member sets.

    Attributes:
        ring: the ring this is said of.
        quorate: whether this ring has quorum.
        members: numbers of the members, ascending.
        joined: who is here and was not, or was another life, before.
        left: who was here before and has gone.
    """

    ring: Ring
    quorate: bool
    members: tuple[int, ...]
    joined: tuple[int, ...]
    left: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ShutdownAsked:
    """The engine asks whether this node may shut down. Silence is a veto after five seconds.

    Attributes:
        question: names the question in the answer.
    """

    question: int


MembershipEvent = EngineUp | EngineDown | Configured | Members | ShutdownAsked


class MembershipPort(Protocol):
    """Who is configured, who is here, and whether that is a quorum."""

    async def start(self, sink: Callable[[MembershipEvent], None]) -> None:
        """Begin to deliver events to sink, from the running loop.

        Returns at once; connects and reconnects by itself.
        """

    def answer_shutdown(self, question: int, allow: bool, reason: str) -> None:
        """Answer a ShutdownAsked. A late answer does nothing."""

    def put_out(self, node: int, reason: str) -> None:
        """Ask the engine to put a node out (corosync_cfg_kill_node).

        Never counts as fencing: the node may still write. Best effort, never blocks; whether it went shows in Members.
        """

    async def close(self) -> None:
        """Stop; nothing more is delivered."""


class Reason(StrEnum):
    """Why the channel's membership changed."""

    JOIN = "JOIN"
    LEAVE = "LEAVE"
    NODEDOWN = "NODEDOWN"
    NODEUP = "NODEUP"
    PROCDOWN = "PROCDOWN"


@dataclass(frozen=True, slots=True, order=True)
class ChannelMember:
    """A process on the channel: node number and pid, as the engine names it."""

    node: int
    pid: int


@dataclass(frozen=True, slots=True)
class ChannelMembers:
    """The channel's membership changed.

    Attributes:
        members: all members now, sorted.
        joined: the new ones with JOIN or NODEUP (a healed partition or pause: the same pid, and both sides went on).
        left: the gone ones with LEAVE, NODEDOWN or PROCDOWN. A clean stop of the engine is PROCDOWN as well.
    """

    members: tuple[ChannelMember, ...]
    joined: tuple[tuple[ChannelMember, Reason], ...]
    left: tuple[tuple[ChannelMember, Reason], ...]


@dataclass(frozen=True, slots=True)
class ChannelRing:
    """The ring under the channel, and its nodes.

    Comes once after a join, before or after the own join in ChannelMembers. On a failure it follows the ChannelMembers
    with NODEDOWN: in between the ring is unknown.
    """

    ring: Ring
    nodes: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Delivered:
    """A message in the channel's one order. The sender gets its own as well."""

    sender: ChannelMember
    payload: bytes


@dataclass(frozen=True, slots=True)
class ChannelDown:
    """The channel is lost with the engine; the adapter joins again by itself. Said again as EngineDown is."""

    reason: str


ChannelEvent = ChannelMembers | ChannelRing | Delivered | ChannelDown


class ChannelPort(Protocol):
    """One ordered channel between the daemons of one kind on all nodes."""

    async def start(self, sink: Callable[[ChannelEvent], None]) -> None:
        """Join, and begin to deliver events to sink, from the running loop. Returns at once; rejoins by itself."""

    def send(self, payload: bytes) -> None:
        """Multicast. Never blocks; what is sent while the channel is down is lost, as is what its death overtakes.

        Raises:
            ValueError: payload is larger than 64 KiB.
        """

    async def close(self) -> None:
        """Leave the channel, after all that was sent has gone out, and stop."""
