"""What the mind wants done. The shell does it in this order, and tells what came of it as events."""

from dataclasses import dataclass
from typing import TypeAlias

from libo2cb.events import Log
from ocfs2_controld.events import Call
from protocol.group import Envelope
from protocol.identity import Life
from protocol.ordering import OrderingMessage


@dataclass(frozen=True, slots=True)
class Multicast:
    """Say this on the channel."""

    envelope: Envelope


@dataclass(frozen=True, slots=True)
class LeaveChannel:
    """Leave the channel for good."""


@dataclass(frozen=True, slots=True)
class CallKernel:
    """Change the kernel's tree; answered by KernelDone.

    Attributes:
        call: which.
        fs: the region.
        number: the node's, for LINK and UNLINK.
    """

    call: Call
    fs: str
    number: int = 0


@dataclass(frozen=True, slots=True)
class Answer:
    """Send STATUS to a client."""

    connection: int
    code: int
    text: str


@dataclass(frozen=True, slots=True)
class AnswerList:
    """Send a list to a client."""

    connection: int
    items: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AnswerDump:
    """Send the ring of log lines to a client."""

    connection: int


@dataclass(frozen=True, slots=True)
class AnswerReport:
    """Send the report to a client."""

    connection: int


@dataclass(frozen=True, slots=True)
class SayOrdering:
    """Send to o2cb_controld."""

    message: OrderingMessage


@dataclass(frozen=True, slots=True)
class KeepLock:
    """Keep the descriptor that came with the message just told, as the lock of this identity."""

    key: tuple[int, str, int]


@dataclass(frozen=True, slots=True)
class DropLock:
    """Close the descriptor that came with the message just told: nobody asks for it any more."""


@dataclass(frozen=True, slots=True)
class CloseLock:
    """Close a kept descriptor."""

    key: tuple[int, str, int]


@dataclass(frozen=True, slots=True)
class HoldService:
    """Take the service lock, shared; answered by ServiceAnswer."""


@dataclass(frozen=True, slots=True)
class ReleaseService:
    """Give the service lock back."""


@dataclass(frozen=True, slots=True)
class CheckDevice:
    """Find out whether anybody still uses the device; answered by DeviceAnswer.

    Attributes:
        fs: the filesystem.
        path: its device as the client named it; empty when no client did.
    """

    fs: str
    path: str


@dataclass(frozen=True, slots=True)
class KeepRefs:
    """Have the kernel count those who hold a region by hand, for a later run of the daemon.

    Attributes:
        fs: the region.
        count: how many there are.
    """

    fs: str
    count: int


@dataclass(frozen=True, slots=True)
class WatchProcess:
    """Tell when this process ends."""

    pid: int
    started: float


@dataclass(frozen=True, slots=True)
class RunFence:
    """Switch a node off and verify it; answered by FenceDone."""

    life: Life
    name: str
    address: str


@dataclass(frozen=True, slots=True)
class PutOut:
    """Have the engine put a node out. That is no fence: the node may still write. Best effort; nothing answers it."""

    node: int
    why: str


@dataclass(frozen=True, slots=True)
class AnswerShutdown:
    """Answer the engine's question."""

    question: int
    allow: bool
    reason: str


@dataclass(frozen=True, slots=True)
class PowerOff:
    """Reset this node at once (law 9)."""

    why: str


@dataclass(frozen=True, slots=True)
class Exit:
    """End the daemon, after what was said before has gone out."""

    code: int
    why: str


@dataclass(frozen=True, slots=True)
class Ready:
    """Tell the service manager whether the daemon is ready, and why not."""

    ready: bool
    why: str


Action: TypeAlias = (
    Log
    | Multicast
    | LeaveChannel
    | CallKernel
    | Answer
    | AnswerList
    | AnswerDump
    | AnswerReport
    | SayOrdering
    | KeepLock
    | DropLock
    | CloseLock
    | HoldService
    | ReleaseService
    | CheckDevice
    | KeepRefs
    | WatchProcess
    | RunFence
    | PutOut
    | AnswerShutdown
    | PowerOff
    | Exit
    | Ready
)
