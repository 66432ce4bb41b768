"""What the mind is told. Time comes with each step, never from a clock."""

from dataclasses import dataclass
from enum import Enum, auto
from typing import TypeAlias

from libo2cb.engine.port import (
    ChannelDown,
    ChannelMembers,
    ChannelRing,
    Configured,
    EngineDown,
    EngineUp,
    Members,
    ShutdownAsked,
)
from protocol.client import ClientMessage
from protocol.frozen import EMPTY, FrozenMap
from protocol.group import Envelope, ViewMember
from protocol.identity import NodeIdentity
from protocol.ordering import OrderingMessage


class Call(Enum):
    """A call to the kernel's tree."""

    MAKE_REGION = auto()
    REMOVE_REGION = auto()
    LINK = auto()
    UNLINK = auto()


@dataclass(frozen=True, slots=True)
class Heard:
    """An envelope in the channel's order."""

    sender: ViewMember
    envelope: Envelope


@dataclass(frozen=True, slots=True)
class Garbled:
    """Bytes in the channel's order that nobody understands."""

    sender: ViewMember
    why: str


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool that works on a volume: fsck.ocfs2 and its like.

    Attributes:
        service: its program, which is also its service.
        pid: its process.
        started: start time of the process.
    """

    service: str
    pid: int
    started: float


@dataclass(frozen=True, slots=True)
class KernelFound:
    """What the kernel's tree shows when the daemon starts, before anything else.

    Attributes:
        regions: UUID to the numbers of the nodes that it links.
        local: this node as it stands in the tree; None when it does not.
        sources: UUID to device path and label, of those that are mounted.
        hands: UUID to how many hold it by hand, as the kernel counts.
        tools: UUID to the tools that have its device open.
    """

    regions: FrozenMap[str, tuple[int, ...]]
    local: NodeIdentity | None = None
    sources: FrozenMap[str, tuple[str, str]] = EMPTY
    hands: FrozenMap[str, int] = EMPTY
    tools: FrozenMap[str, tuple[Tool, ...]] = EMPTY


@dataclass(frozen=True, slots=True)
class KernelDone:
    """A call to the kernel's tree has returned.

    Attributes:
        call: which one.
        fs: the region.
        number: the node's, for LINK and UNLINK.
        errno: 0 when it was done.
        why: the refusal, for people.
    """

    call: Call
    fs: str
    number: int
    errno: int
    why: str


@dataclass(frozen=True, slots=True)
class MountTable:
    """The mount table, whole.

    Attributes:
        mounts: UUID to the mount points of this filesystem, where it has any.
    """

    mounts: FrozenMap[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Peer:
    """Who is at the other end of a client's connection.

    Attributes:
        pid: its process; 0 when unknown.
        uid: its user.
        started: start time of the process, so that a reused pid is not taken for it.
        program: its name, for the log.
        trusted: whether it may change anything (law 14).
    """

    pid: int
    uid: int
    started: float
    program: str
    trusted: bool


@dataclass(frozen=True, slots=True)
class ClientOpened:
    """A client connected. Connection numbers are never used twice."""

    connection: int
    peer: Peer


@dataclass(frozen=True, slots=True)
class ClientSaid:
    """A client's request.

    Attributes:
        connection: whose.
        message: what.
        device: what its device path names, for MOUNT; None when that could not be found out.
        problem: errno and sentence of that failure.
        label: the volume's label, where it could be read.
    """

    connection: int
    message: ClientMessage
    device: str | None = None
    problem: tuple[int, str] | None = None
    label: str = ""


@dataclass(frozen=True, slots=True)
class ClientGarbled:
    """A record that is no request: the code and the sentence to answer."""

    connection: int
    code: int
    why: str


@dataclass(frozen=True, slots=True)
class ClientClosed:
    """A client's connection has ended, or an answer could not be delivered on it. Comes once."""

    connection: int


@dataclass(frozen=True, slots=True)
class ProcessEnded:
    """A watched process is no more."""

    pid: int
    started: float


@dataclass(frozen=True, slots=True)
class DeviceAnswer:
    """Whether anybody still uses the device of a filesystem that was unmounted.

    Attributes:
        fs: the filesystem.
        free: nobody does.
        why: who or what does, for people.
    """

    fs: str
    free: bool
    why: str


@dataclass(frozen=True, slots=True)
class OrderingUp:
    """Connected with o2cb_controld."""


@dataclass(frozen=True, slots=True)
class OrderingDown:
    """No connection with o2cb_controld; what was asked of it is forgotten there."""

    why: str


@dataclass(frozen=True, slots=True)
class OrderingSaid:
    """A message of o2cb_controld.

    Attributes:
        message: what.
        descriptor: whether a descriptor came with it.
    """

    message: OrderingMessage
    descriptor: bool


@dataclass(frozen=True, slots=True)
class ServiceAnswer:
    """Whether the service lock is held now. It is not while o2cb_controld ends."""

    held: bool


@dataclass(frozen=True, slots=True)
class FenceDone:
    """A fencing device has answered.

    Attributes:
        number: the node's.
        ok: verified off.
        text: what it said.
    """

    number: int
    ok: bool
    text: str


@dataclass(frozen=True, slots=True)
class SignalCame:
    """One of the four signals that ask a daemon to end."""

    name: str


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed; nothing else happened."""


Event: TypeAlias = (
    EngineUp
    | EngineDown
    | Configured
    | Members
    | ShutdownAsked
    | ChannelMembers
    | ChannelRing
    | ChannelDown
    | Heard
    | Garbled
    | KernelFound
    | KernelDone
    | MountTable
    | ClientOpened
    | ClientSaid
    | ClientGarbled
    | ClientClosed
    | ProcessEnded
    | DeviceAnswer
    | OrderingUp
    | OrderingDown
    | OrderingSaid
    | ServiceAnswer
    | FenceDone
    | SignalCame
    | Tick
)
