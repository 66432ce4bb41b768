"""What the mind of o2cb_controld can be told.

The engine's events (libo2cb.engine.port) come in as they are. Answers to actions come in the order in which the actions
were given: the shell carries out what touches the kernel and the lock files one at a time.
"""

from dataclasses import dataclass
from typing import TypeAlias

from libo2cb.engine.port import MembershipEvent
from libo2cb.kernel.port import StandingNode
from protocol.identity import NodeIdentity


@dataclass(frozen=True, slots=True)
class KernelRead:
    """Answer to ReadKernel: what stands.

    Attributes:
        clusters: names of all clusters in the kernel, ours or not.
        nodes: the node directories of our cluster, by name; none when it does not stand.
    """

    clusters: tuple[str, ...]
    nodes: tuple[StandingNode, ...]


@dataclass(frozen=True, slots=True)
class KernelUnread:
    """Answer to ReadKernel: the tree cannot be read."""

    errno: int


@dataclass(frozen=True, slots=True)
class ClusterMade:
    """Answer to MakeCluster: it stands."""


@dataclass(frozen=True, slots=True)
class ClusterRemoved:
    """Answer to RemoveCluster: it is gone."""


@dataclass(frozen=True, slots=True)
class ClusterRefused:
    """Answer to MakeCluster or RemoveCluster: the kernel said no."""

    errno: int


@dataclass(frozen=True, slots=True)
class LockTaken:
    """Answer to TryLock: this number's lock is held exclusively."""

    number: int


@dataclass(frozen=True, slots=True)
class LockBusy:
    """Answer to TryLock: somebody holds a granted descriptor, or one is on its way."""

    number: int


@dataclass(frozen=True, slots=True)
class LinksListed:
    """Answer to ListLinks: the regions that link the node, listed under the exclusive lock.

    Attributes:
        number: the node.
        regions: those that link it; with the classic driver, those in which its heartbeat is seen.
        blind: the classic driver cannot see who beats in these regions, so they count.
    """

    number: int
    regions: tuple[str, ...]
    blind: bool = False


@dataclass(frozen=True, slots=True)
class Made:
    """Answer to MakeNode: it stands complete."""

    number: int
    identity: NodeIdentity
    local: bool


@dataclass(frozen=True, slots=True)
class Removed:
    """Answer to RemoveNode: the directory is gone (or was not there)."""

    number: int
    name: str


@dataclass(frozen=True, slots=True)
class Refused:
    """Answer to TryLock, ListLinks, MakeNode or RemoveNode: it failed with this errno.

    A failed TryLock holds no lock. A failed MakeNode has taken back what it made, as far as it could.
    """

    number: int
    errno: int


@dataclass(frozen=True, slots=True)
class Asked:
    """LOCK: a trusted connection asks for the lock of a node.

    Attributes:
        connection: names the connection in this run of the daemon; never used twice.
        request: the asker's id of the request.
        identity: what the joiner's own statement says.
    """

    connection: int
    request: int
    identity: NodeIdentity


@dataclass(frozen=True, slots=True)
class Cancelled:
    """CANCEL: the request is taken back. It may cross its answer."""

    connection: int
    request: int


@dataclass(frozen=True, slots=True)
class HintUnlocked:
    """UNLOCKED: the asker has closed this number's lock; look now."""

    connection: int
    number: int


@dataclass(frozen=True, slots=True)
class Closed:
    """The connection is gone, and every grant that was not read with it."""

    connection: int


@dataclass(frozen=True, slots=True)
class GrantSent:
    """Answer to Grant: the descriptor is the stream's or the socket's; it goes out, or ends with the connection."""

    connection: int
    request: int


@dataclass(frozen=True, slots=True)
class GrantUndeliverable:
    """Answer to Grant: no descriptor could be had (errno); the connection stands."""

    connection: int
    request: int
    errno: int


@dataclass(frozen=True, slots=True)
class Signal:
    """SIGTERM, SIGINT, SIGHUP or SIGQUIT, by name."""

    name: str


@dataclass(frozen=True, slots=True)
class ServiceLock:
    """Answer to ClaimService: whether the service lock is held exclusively now."""

    ok: bool


@dataclass(frozen=True, slots=True)
class UseFound:
    """Answer to LookForUse: what needs this daemon, each as the subject of a sentence ("A1B2 links n2").

    Links, regions and mounts of our cluster; of any cluster while ours is not known.
    """

    uses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Replace:
    """REPLACE: a successor is about to start; leave at once and leave everything standing."""


@dataclass(frozen=True, slots=True)
class Tick:
    """The time that WakeAt named has come."""


Answer: TypeAlias = LockTaken | LockBusy | LinksListed | Made | Removed | Refused
"""What is said of one number's change."""

MindEvent: TypeAlias = (
    MembershipEvent
    | KernelRead
    | KernelUnread
    | ClusterMade
    | ClusterRemoved
    | ClusterRefused
    | Answer
    | Asked
    | Cancelled
    | HintUnlocked
    | Closed
    | GrantSent
    | GrantUndeliverable
    | Signal
    | ServiceLock
    | UseFound
    | Replace
    | Tick
)
