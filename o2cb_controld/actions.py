"""What the mind of o2cb_controld can ask of its shell. Carried out in the order given."""

from dataclasses import dataclass
from typing import TypeAlias

from libo2cb.events import Log
from protocol.identity import NodeIdentity
from protocol.ordering import Queued, Waiting
from protocol.ordering import Refused as LockRefused


@dataclass(frozen=True, slots=True)
class ReadKernel:
    """Read the clusters, and the nodes of this one. Answer: KernelRead or KernelUnread."""

    cluster: str


@dataclass(frozen=True, slots=True)
class MakeCluster:
    """Answer: ClusterMade or ClusterRefused."""

    cluster: str


@dataclass(frozen=True, slots=True)
class RemoveCluster:
    """Answer: ClusterRemoved or ClusterRefused."""

    cluster: str


@dataclass(frozen=True, slots=True)
class TryLock:
    """flock(LOCK_EX|LOCK_NB) on the number's file. Answer: LockTaken, LockBusy or Refused.

    Number 0 has no file: no lock is ever granted for it, so it is taken without one.
    """

    number: int


@dataclass(frozen=True, slots=True)
class Unlock:
    """Close the exclusive descriptor of the number. No answer."""

    number: int


@dataclass(frozen=True, slots=True)
class ListLinks:
    """List the regions that link this directory, or in which it beats on disk. Answer: LinksListed or Refused."""

    number: int
    name: str


@dataclass(frozen=True, slots=True)
class MakeNode:
    """mkdir and all attributes in the kernel's order. Answer: Made or Refused."""

    identity: NodeIdentity
    local: bool


@dataclass(frozen=True, slots=True)
class RemoveNode:
    """rmdir. Answer: Removed or Refused.

    Attributes:
        number: whose lock is held; 0 for a directory without number.
        name: the directory.
    """

    number: int
    name: str


@dataclass(frozen=True, slots=True)
class Grant:
    """Open the number's file, flock(LOCK_SH|LOCK_NB), hand LOCKED with the descriptor to the connection's stream.

    The stream keeps both while the socket is full, and closes its copy when they are sent or the connection ends.
    Answer: GrantSent or GrantUndeliverable.
    """

    connection: int
    request: int
    number: int


@dataclass(frozen=True, slots=True)
class Say:
    """Send a message of the ordering protocol."""

    connection: int
    message: Queued | LockRefused | Waiting


@dataclass(frozen=True, slots=True)
class Drop:
    """Close a connection that broke the rules. Answer: Closed."""

    connection: int
    why: str


@dataclass(frozen=True, slots=True)
class ClaimService:
    """flock(LOCK_EX|LOCK_NB) on the service lock. Answer: ServiceLock."""


@dataclass(frozen=True, slots=True)
class ReleaseService:
    """Close the service lock. No answer."""


@dataclass(frozen=True, slots=True)
class LookForUse:
    """Look for links, regions and mounts of the cluster; of any when None. Answer: UseFound."""

    cluster: str | None


@dataclass(frozen=True, slots=True)
class AnswerShutdown:
    """Answer the engine's shutdown question."""

    question: int
    allow: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Ready:
    """Law 16 holds from here on."""


@dataclass(frozen=True, slots=True)
class NotReady:
    """Law 16 does not hold; why, in a sentence."""

    reason: str


@dataclass(frozen=True, slots=True)
class WakeAt:
    """Send Tick at this moment of the same clock; None: no wake-up. Replaces the one before."""

    at: float | None


@dataclass(frozen=True, slots=True)
class Exit:
    """End the process, at once and without touching the tree."""

    code: int


Action: TypeAlias = (
    ReadKernel
    | MakeCluster
    | RemoveCluster
    | TryLock
    | Unlock
    | ListLinks
    | MakeNode
    | RemoveNode
    | Grant
    | Say
    | Drop
    | ClaimService
    | ReleaseService
    | LookForUse
    | AnswerShutdown
    | Ready
    | NotReady
    | WakeAt
    | Exit
    | Log
)
