"""The state of the mind: frozen, small, equal when the future is equal.

An exhaustive search takes this state as a key, so what cannot change what is done later (moments, pauses, counters,
what was said last) stands in fields that take no part in comparison. A search that gives math.inf as the time of every
event finds each Tick due.
"""

from dataclasses import dataclass, field
from enum import Enum
from typing import TypeAlias

from libo2cb.engine.port import ConfiguredNode
from libo2cb.kernel.port import StandingNode
from o2cb_controld.actions import Action
from o2cb_controld.topology import Difference, difference
from protocol.frozen import replace
from protocol.identity import NodeIdentity, Ring


class Node(Enum):
    """Where one number stands. Numbers in ABSENT and RIGHT have no slot."""

    ABSENT = "nothing wanted, nothing stands"
    RIGHT = "stands complete as wanted"
    BARRED = "differs; not to be touched yet"
    LOCKING = "exclusive lock asked for"
    LOOKING = "exclusive lock held, links being listed"
    REMOVING = "exclusive lock held, rmdir under way"
    MAKING = "exclusive lock held, mkdir under way"
    PINNED = "differs; a lock or a link holds it"
    REFUSED = "differs; the kernel said no"


IN_FLIGHT = frozenset({Node.LOCKING, Node.LOOKING, Node.REMOVING, Node.MAKING})
"""An answer is due, and the lock is or may be held exclusively."""


class Pin(Enum):
    """What kept a change back when it was last looked at."""

    LOCK = "lock"
    LINK = "link"
    BEAT = "disk heartbeat"
    BLIND = "a disk heartbeat that cannot be seen"
    KERNEL = "kernel"


@dataclass(frozen=True, slots=True)
class Cause:
    """Why a change is queued.

    Attributes:
        pin: what holds it.
        regions: for LINK, BEAT and BLIND, which regions.
        errno: for KERNEL, its answer.
    """

    pin: Pin
    regions: tuple[str, ...] = ()
    errno: int = 0


@dataclass(frozen=True, slots=True)
class Slot:
    """A number whose change is queued or under way.

    Attributes:
        number: the node number, or ORPHANS.
        phase: where it stands.
        target: the directory that the listing of links was asked for.
        cause: the obstacle last found; kept while it is looked for again.
        pause: seconds until the next look after a refusal.
        look_at: when to look again.
        told: the reason last told in WAITING, or logged.
    """

    number: int
    phase: Node
    target: str = ""
    cause: Cause | None = None
    pause: float = field(default=0.0, compare=False)
    look_at: float = field(default=0.0, compare=False)
    told: str = field(default="", compare=False)


class Lock(Enum):
    """Where one LOCK request stands. Requests in GONE are not kept."""

    ASKED = "nothing answered yet"
    QUEUED = "QUEUED was answered"
    GRANTED = "LOCKED was handed to the shell"
    GONE = "answered for good, or taken back"


@dataclass(frozen=True, slots=True)
class Request:
    """A LOCK that is not finished.

    Attributes:
        connection: who asked.
        request: its id there.
        identity: the identity asked for.
        phase: where it stands.
        reason: the reason last told.
        errno: why the last grant could not be sent, until it is tried again; 0 for none.
        again_at: when to try to send again.
    """

    connection: int
    request: int
    identity: NodeIdentity
    phase: Lock = Lock.ASKED
    reason: str = field(default="", compare=False)
    errno: int = 0
    again_at: float = field(default=0.0, compare=False)


@dataclass(frozen=True, slots=True)
class Engine:
    """What the engine has said.

    Attributes:
        up: it answers.
        cluster: the cluster of its last EngineUp; "" before the first.
        local: this node's number; 0 before the first EngineUp.
        configured: its configuration.
        members: the members; None from EngineUp until the first membership.
        quorate: shown in status, decides nothing here.
        ring: likewise.
        reason: why it is not up.
        notes: what an operator should know of its configuration.
    """

    up: bool = False
    cluster: str = ""
    local: int = 0
    configured: tuple[ConfiguredNode, ...] = ()
    members: tuple[int, ...] | None = None
    quorate: bool = False
    ring: Ring | None = field(default=None, compare=False)
    reason: str = field(default="it has not answered since this daemon started", compare=False)
    notes: tuple[str, ...] = field(default=(), compare=False)


class Tree(Enum):
    """Our cluster directory."""

    UNREAD = "not read yet"
    READING = "being read for the first time"
    MAKING = "being made"
    STANDS = "adopted or made"
    GONE = "removed at our end"


class Ending(Enum):
    """Whether this daemon ends."""

    RUNNING = "no"
    CLAIMING = "asked to; service lock asked for"
    INSPECTING = "service lock held; looking for whom needs us"
    PROMISED = "the engine was told that it may stop; service lock held until it does"
    EMPTYING = "the nodes go, the local one last"
    CLOSING = "the cluster goes"
    ENDED = "Exit was said"


@dataclass(frozen=True, slots=True)
class Wish:
    """Who asks this daemon to end: a signal by name, or the engine's question."""

    signal: str = ""
    question: int | None = None


@dataclass(frozen=True, slots=True)
class Wait:
    """Memory of something that waits, for law 17.

    Attributes:
        what: what waits: "removal of n3".
        since: since when.
        reason: why, at present.
        changed: since when that is the reason.
        named: the sentence last logged; "" for none.
    """

    what: str
    since: float
    reason: str
    changed: float
    named: str = ""


@dataclass(frozen=True, slots=True)
class Totals:
    """Counted for status."""

    refused_signals: tuple[tuple[str, int], ...] = ()
    last_refusal: str = ""
    violations: int = 0
    surprises: int = 0


@dataclass(frozen=True, slots=True)
class State:
    """All that o2cb_controld knows.

    Attributes:
        driver: kernel.driver of the configuration.
        port: the cluster's port.
        expected: the only cluster that the configuration allows; "" for any.
        patience: seconds after which what waits is named.
        fencing: fencing.kind of the configuration; "" where that is not ours (the classic driver).
        engine: what the engine has said.
        tree: our cluster directory.
        standing: its nodes, by name.
        wanted: what should stand by the last membership, by number; kept while the engine is away.
        readdressed: live members whose address a reload changed, until they die or the change is made.
        slots: changes queued or under way, by number.
        requests: unfinished LOCKs, in the order of asking.
        peers: connections that have spoken the ordering protocol.
        ending: whether we end.
        wishes: who asked for it and is not answered.
        errno: why the cluster cannot be made, read or removed, while it is tried again.
        ready: law 16, as last said.
        unready: why not, as last said.
        granted: grants that were sent, by connection and number, until UNLOCKED or the connection's end: for status.
        retry_at: when to try again what concerns the cluster directory.
        give_up_at: when ending is given up.
        waits: memory of what waits.
        alarm: the last WakeAt.
        totals: counters.
    """

    driver: str
    port: int
    expected: str = ""
    patience: float = 5.0
    fencing: str = ""
    engine: Engine = Engine()
    tree: Tree = Tree.UNREAD
    standing: tuple[StandingNode, ...] = ()
    wanted: tuple[NodeIdentity, ...] = ()
    readdressed: frozenset[int] = frozenset()
    slots: tuple[Slot, ...] = ()
    requests: tuple[Request, ...] = ()
    peers: frozenset[int] = frozenset()
    ending: Ending = Ending.RUNNING
    wishes: tuple[Wish, ...] = ()
    errno: int = 0
    ready: bool = False
    unready: str = field(default="", compare=False)
    granted: frozenset[tuple[int, int]] = field(default=frozenset(), compare=False)
    retry_at: float = field(default=0.0, compare=False)
    give_up_at: float = field(default=0.0, compare=False)
    waits: tuple[Wait, ...] = field(default=(), compare=False)
    alarm: float | None = field(default=None, compare=False)
    totals: Totals = field(default=Totals(), compare=False)

    @property
    def acting(self) -> bool:
        """Whether nodes may be changed: by a membership that is known, or because we end."""
        if self.tree is not Tree.STANDS:
            return False
        return self.ending is Ending.EMPTYING or (self.engine.up and self.engine.members is not None)

    def target(self) -> tuple[NodeIdentity, ...]:
        """What should stand now: while we end nothing, but the local node until it stands alone (story 12)."""
        if self.ending not in {Ending.EMPTYING, Ending.CLOSING, Ending.ENDED}:
            return self.wanted
        local = tuple(w for w in self.wanted if w.number == self.engine.local)
        alone = all(s.number == self.engine.local for s in self.standing)
        return () if alone else local

    def difference(self) -> Difference:
        """Target against standing."""
        return difference(self.target(), self.standing, self.engine.local)

    def slot(self, number: int) -> Slot | None:
        """The slot of this number, if it has one."""
        return next((s for s in self.slots if s.number == number), None)

    def with_slot(self, slot: Slot) -> "State":
        """The slot set."""
        return replace(self, slots=tuple(sorted((*self._others(slot.number), slot), key=_number)))

    def without_slot(self, number: int) -> "State":
        """The slot gone: the number is at rest."""
        return replace(self, slots=self._others(number))

    def _others(self, number: int) -> tuple[Slot, ...]:
        return tuple(s for s in self.slots if s.number != number)

    def name_of(self, number: int) -> str:
        """The name by which a person knows this number."""
        for s in self.standing:
            if number and s.number == number:
                return s.name
        for w in self.wanted:
            if w.number == number:
                return w.name
        return next((c.name for c in self.engine.configured if c.number == number), f"node {number}")


def _number(slot: Slot) -> int:
    return slot.number


Step: TypeAlias = tuple[State, tuple[Action, ...]]
"""A new state, and what to do, in order."""
