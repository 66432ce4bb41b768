"""The state of the mind: frozen, comparable, and rebuilt from kernel, mount table and channel after each restart."""

from dataclasses import dataclass, field
from enum import Enum, auto
from typing import TypeAlias

from libo2cb.engine.port import ConfiguredNode
from ocfs2_controld.actions import Action
from ocfs2_controld.events import Peer
from ocfs2_controld.table import bound
from protocol.frozen import EMPTY, FrozenMap, replace
from protocol.group import NO_START, Group, GroupTable, Refuse, StartName, Statement, View, ViewMember, Word
from protocol.identity import Life, NodeIdentity, Ring, life

LockKey: TypeAlias = tuple[int, str, int]
"""Number, address and port: what a lock is granted for."""


class FencingKind(Enum):
    """How a lost node is made sure to be off."""

    NONE = auto()  # not at all: unsafe, and said so
    MANUAL = auto()  # an operator acknowledges
    COMMAND = auto()  # a command of the operator's


@dataclass(frozen=True, slots=True)
class Settings:
    """What never changes while the daemon runs.

    Attributes:
        boot: this node's boot id.
        incarnation: this run of the daemon.
        pid: the daemon's, as the engine names it.
        port: the o2cb port of the cluster.
        blocks: our handshake blocks.
        fencing: how lost nodes are fenced.
        mount_seconds: a MOUNT that has waited for so long is given up.
        grace_seconds: how long a daemon may be away, or owe an answer, before its node is treated as lost.
        cluster: the cluster's name by the configuration; empty for whatever the engine says.
        naming_seconds: after so long a wait says what it waits for; 5 at most (law 17).
        fence_retry_seconds: pause after a fencing device's first failure; doubled from try to try.
        fence_retry_most: at most so many seconds.
        join_delay_seconds: how long a cluster that starts without knowing waits for nodes before it fences them.
    """

    boot: str
    incarnation: str
    pid: int
    port: int = 7777
    blocks: bytes = b""
    fencing: FencingKind = FencingKind.MANUAL
    mount_seconds: float = 300.0
    grace_seconds: float = 30.0
    cluster: str = ""
    naming_seconds: float = 5.0
    fence_retry_seconds: float = 5.0
    fence_retry_most: float = 60.0
    join_delay_seconds: float = 30.0


@dataclass(frozen=True, slots=True)
class Engine:
    """What the membership port has told.

    Attributes:
        up: it answers.
        why: why not.
        cluster: the cluster's name.
        local: this node's number.
        nodes: the configured nodes.
        former: nodes that have left the configuration, by number, as they stood in it last.
        two_node: quorum is granted to either of two nodes alone: only a fence decides a cut.
        notes: what an operator should know of the configuration.
        ring: the ring that the rest is said of; None before the first word.
        quorate: whether that ring has quorum.
        members: who is in it.
        left_at: node to the ring in which it last left a part of the cluster that had quorum.
        appeared: node to when it last joined.
        gone_at: node to when it last left, as long as it is gone.
        quorate_since: when quorum was last gained; None without quorum.
    """

    up: bool = False
    why: str = "the engine has not answered yet"
    cluster: str = ""
    local: int = 0
    nodes: tuple[ConfiguredNode, ...] = ()
    former: FrozenMap[int, ConfiguredNode] = EMPTY
    two_node: bool = False
    notes: tuple[str, ...] = ()
    ring: Ring | None = None
    quorate: bool = False
    members: frozenset[int] = frozenset()
    left_at: FrozenMap[int, Ring] = EMPTY
    appeared: FrozenMap[int, float] = EMPTY
    gone_at: FrozenMap[int, float] = EMPTY
    quorate_since: float | None = None

    def node(self, number: int) -> ConfiguredNode | None:
        """The configured node of this number."""
        return next((n for n in self.nodes if n.number == number), None)

    def known(self, number: int) -> ConfiguredNode | None:
        """The node of this number, as it is or as it was last configured.

        B is dead. Before it is fenced it gets another address, for which it leaves the configuration for a moment; or
        it leaves for good. Its fence goes by the name that the power switch knows.
        """
        return self.node(number) or self.former.get(number)

    def name(self, number: int) -> str:
        """A node's name for people."""
        node = self.known(number)
        return f"node {number}" if node is None else node.name


@dataclass(frozen=True, slots=True)
class Present:
    """A member of the present change, by its own statement.

    Attributes:
        member: its daemon on the channel.
        life: its node's.
        identity: as the others lock and link it.
        incarnation: this run of its daemon.
        program: its program's version, for people; empty where it does not say.
    """

    member: ViewMember
    life: Life
    identity: NodeIdentity
    incarnation: str
    program: str = ""


@dataclass(frozen=True, slots=True)
class Channel:
    """The channel's view, and the collection or change that it is in.

    Attributes:
        ring: the channel's ring; None while it is unknown (after a NODEDOWN, until the next totem callback).
        members: the channel's members.
        expelled: those of them that were put out of this view.
        statements: those of this view so far.
        early: those that came while the ring was unknown, by sender.
        told: our own was said for this view.
        change: the name of the complete change; None while we collect.
        refused: members whose handshake blocks do not fit: the change cannot be completed with them.
        doubt: we were in a ring without which the others could have had a quorum.
        count: statements said so far; makes nonces.
        since: when this collection began.
    """

    ring: Ring | None = None
    members: tuple[ViewMember, ...] = ()
    expelled: frozenset[ViewMember] = frozenset()
    statements: FrozenMap[ViewMember, Statement] = EMPTY
    early: FrozenMap[ViewMember, Statement] = EMPTY
    told: bool = False
    change: str | None = None
    refused: FrozenMap[int, str] = EMPTY
    doubt: bool = False
    count: int = 0
    since: float = 0.0


class Usage(Enum):
    """What the clients and the kernel of this node do with a filesystem."""

    IDLE = auto()  # nothing
    JOINING = auto()  # a MOUNT waits for its join
    WITHDRAWING = auto()  # it waits no more; the channel's order decides whether it was too late
    TOLD = auto()  # MOUNT was answered 0: the client mounts
    USED = auto()  # mounted, or held
    TOLD_AGAIN = auto()  # used, and one more MOUNT was answered 114
    RELEASING = auto()  # unmounted; the kernel may still use the device
    LEAVING = auto()  # nobody uses the device any more: the leave is on its way


class ServiceKind(Enum):
    """What a service is."""

    MOUNT = auto()  # "ocfs2", or a mount point as clients of 2007 say it: the mount table knows better
    TOOL = auto()  # fsck.ocfs2 and its like: ends with its process at the latest
    HAND = auto()  # a region started by hand: ends by UNMOUNT alone


@dataclass(frozen=True, slots=True)
class Service:
    """Somebody who uses the filesystem.

    Attributes:
        kind: what it is.
        pid: its process; 0 when unknown.
        started: start time of the process.
        program: its name.
        named: whether its service is known; not when only the kernel's count tells of it.
    """

    kind: ServiceKind
    pid: int
    started: float
    program: str
    named: bool = True


@dataclass(frozen=True, slots=True)
class Local:
    """One filesystem on this node.

    Attributes:
        usage: what clients and kernel do with it.
        region: the region stands in the kernel.
        links: linked numbers, and the life that each link means; None for one found at start, whose life is unknown.
        running: the group runs here; false from STOP to START.
        started: the newest START made here.
        connection: the client whose MOUNT is being served (JOINING to TOLD, TOLD_AGAIN), if it is still there.
        waiting: a client whose MOUNT waits for our leave.
        service: the service of the client that is being served.
        services: who uses it, by service name.
        mount_points: where the mount table shows it.
        gone: the table showed it after its client was told to go on, or since the last UNMOUNT, and does no more.
        device: what the device is, for comparison; empty when unknown.
        cluster: the cluster that the volume belongs to, as its client said before the engine had told ours.
        path: the device as the first client named it.
        label: the volume's label, where known.
        deadline: when the MOUNT that waits is given up.
        check_at: when to look again whether the device is free; None while a look is under way.
        busy: who used the device at the last look.
        refusal: call, errno and sentence of the kernel's last refusal, until the call succeeds.
        refused_since: since when the kernel refuses.
        retry_at: when to try the refused call again.
        calls: calls that are under way.
        since: when the usage last changed.
        stopped_at: when the group stopped here; None while it runs.
        stop_cause: why.
        owed: phase, START and answers for which `owed_since` counts.
        owed_since: since when everybody could answer and somebody has not.
        needs: identities whose lock this filesystem needs now.
    """

    usage: Usage = Usage.IDLE
    region: bool = False
    links: FrozenMap[int, Life | None] = EMPTY
    running: bool = False
    started: StartName = NO_START
    connection: int | None = None
    waiting: int | None = None
    service: str = ""
    services: FrozenMap[str, Service] = EMPTY
    mount_points: tuple[str, ...] = ()
    gone: bool = False
    device: str = ""
    cluster: str = ""
    path: str = ""
    label: str = ""
    deadline: float | None = None
    check_at: float | None = None
    busy: str = ""
    refusal: tuple[str, int, str] | None = None
    refused_since: float | None = None
    retry_at: float | None = None
    calls: frozenset[tuple[str, int]] = frozenset()
    since: float = 0.0
    stopped_at: float | None = None
    stop_cause: str = ""
    owed: tuple[object, ...] | None = None
    owed_since: float | None = None
    needs: frozenset[NodeIdentity] = frozenset()

    @property
    def used(self) -> bool:
        """Whether somebody is known to use it."""
        return bool(self.mount_points or self.services)


class Role(Enum):
    """What a client's connection is in the midst of."""

    FREE = auto()  # nothing
    WAITING = auto()  # its MOUNT waits for an answer
    TOLD = auto()  # its MOUNT was answered 0 or 114: it owes an MRESULT


@dataclass(frozen=True, slots=True)
class Session:
    """One client's connection."""

    peer: Peer
    role: Role = Role.FREE
    fs: str = ""
    service: str = ""
    since: float = 0.0


@dataclass(frozen=True, slots=True)
class Locks:
    """Our side of the ordering protocol.

    Attributes:
        connected: with o2cb_controld.
        why: why not.
        held: locks whose descriptor we keep.
        asked: request id to what it asks for.
        queued: why o2cb_controld cannot grant yet.
        refused: errno and sentence of what it never will.
        following: the next request id. Ids are not used again, so that an old answer is never taken for a new one.
        waiting: number to why o2cb_controld has a change queued behind us.
    """

    connected: bool = False
    why: str = "o2cb_controld has not answered yet"
    held: frozenset[LockKey] = frozenset()
    asked: FrozenMap[int, NodeIdentity] = EMPTY
    queued: FrozenMap[LockKey, str] = EMPTY
    refused: FrozenMap[LockKey, tuple[int, str]] = EMPTY
    following: int = 1
    waiting: FrozenMap[int, str] = EMPTY


class FencePhase(Enum):
    """Where the fencing of a node stands, on the node that acts."""

    WAITING = auto()  # not begun: a delay, or an operator
    ANNOUNCED = auto()  # said to all that it begins; the device acts when this node has heard that itself
    RUNNING = auto()  # the device acts
    FAILED = auto()  # it could not; tried again later
    DONE = auto()  # verified; to be said until it is heard


@dataclass(frozen=True, slots=True)
class Fence:
    """The fencing of one lost life.

    Attributes:
        phase: where it stands.
        attempts: how often the device was asked.
        text: what it last said, or the proof.
        due: when it is tried (again).
        since: when it was first needed.
    """

    phase: FencePhase
    attempts: int = 0
    text: str = ""
    due: float = 0.0
    since: float = 0.0


@dataclass(frozen=True, slots=True)
class Out:
    """A node that has to go, and that the engine is to put out unless it goes by itself.

    Attributes:
        due: when the engine is asked, or asked again.
        why: for people.
        daemon: it is enough that its daemon leaves the channel; else the node has to leave the engine.
    """

    due: float
    why: str
    daemon: bool


_NO_GROUP, _IDLE = Group(), Local()


@dataclass(frozen=True, slots=True)
class State:
    """Everything that the mind knows.

    Attributes:
        settings: what never changes.
        engine: the membership port's word.
        channel: the view, and the collection or change.
        table: the replicated table; None before this daemon's first complete change.
        present: members of the complete change, by node.
        standing: this node as it last stated itself, or as its own kernel had it when this daemon started.
        spoke: node to the ring of the last complete change in which it was present.
        away: node to since when its daemon is away while the node is not.
        said: our words of this change that have not come back yet.
        said_at: since when none of them has come back.
        locals: filesystems of this node, by UUID.
        mounts: the mount table, by UUID.
        strays: what it shows and no client has asked for here, by UUID: since when.
        sessions: client connections.
        locks: our side of the ordering protocol.
        fences: fencings under way here.
        outs: nodes that have to go.
        clean: nodes whose daemon has said goodbye, and that have not come back since.
        service: the service lock: True held, False refused or not asked, None asked.
        service_at: when to ask for the service lock again, after it was refused.
        out: why this node was put out; None while it is not.
        ending: why the daemon ends; None while it does not.
        ready: as last told to the service manager.
        found: the kernel's tree was read after start.
        named: waits that have been logged, with when they began and the reason.
        counts: signals refused, violations and such, by name.
        last_death: life, when, and for how many seconds its groups were stopped here.
    """

    settings: Settings
    engine: Engine = field(default_factory=Engine)
    channel: Channel = field(default_factory=Channel)
    table: GroupTable | None = None
    present: FrozenMap[int, Present] = EMPTY
    standing: NodeIdentity | None = None
    spoke: FrozenMap[int, Ring] = EMPTY
    away: FrozenMap[int, float] = EMPTY
    said: frozenset[Word] = frozenset()
    said_at: float = 0.0
    locals: FrozenMap[str, Local] = EMPTY
    mounts: FrozenMap[str, tuple[str, ...]] = EMPTY
    strays: FrozenMap[str, float] = EMPTY
    sessions: FrozenMap[int, Session] = EMPTY
    locks: Locks = field(default_factory=Locks)
    fences: FrozenMap[Life, Fence] = EMPTY
    outs: FrozenMap[int, Out] = EMPTY
    clean: frozenset[int] = frozenset()
    service: bool | None = False
    service_at: float = 0.0
    out: str | None = None
    ending: str | None = None
    ready: bool = False
    found: bool = False
    named: FrozenMap[str, tuple[float, str]] = EMPTY
    counts: FrozenMap[str, int] = EMPTY
    last_death: tuple[Life, float, float | None] | None = None

    @property
    def me(self) -> Life:
        """This node's life."""
        return life(self.engine.local, self.settings.boot)

    @property
    def identity(self) -> NodeIdentity | None:
        """This node as the others shall lock and link it; None before the engine has told.

        The configuration gives A another address while A is in a group. Its own kernel keeps the old one, pinned by the
        links; B, which joins now, must not link A at an address that A's life does not have (law 4). So A goes on under
        its old address until it is in no group, and B's join is refused or waits till then.
        """
        node = self.engine.node(self.engine.local)
        if node is None:
            return None
        configured = NodeIdentity(node.number, node.address, self.settings.port, node.name)
        if self.standing is None or self.standing == configured:
            return configured
        pinned = any(local.region for local in self.locals.values())
        return self.standing if pinned or (self.table is not None and bound(self.table, self.me)) else configured

    @property
    def member(self) -> ViewMember:
        """This daemon on the channel."""
        return ViewMember(self.engine.local, self.settings.pid)

    @property
    def view(self) -> View | None:
        """The view that a statement answers; None while there is none.

        Whether we know our own number yet does not matter: a statement that comes before the engine has told us would
        be lost, and waited for in vain.
        """
        ring, members = self.channel.ring, self.channel.members
        if ring is None or not members:
            return None
        return View(ring, tuple(m for m in members if m not in self.channel.expelled))

    @property
    def complete(self) -> bool:
        """Whether a change is complete, so that words can be said in it."""
        return self.channel.change is not None and self.table is not None and self.out is None and self.ending is None

    @property
    def good(self) -> bool:
        """Conditions *ring* and *quorum*: the quorum is that of the ring that the channel has."""
        return self.engine.up and self.engine.quorate and self.engine.ring == self.channel.ring is not None

    @property
    def actor(self) -> int:
        """The node that acts for all where one has to: the lowest of the change that is not to go; 0 for none."""
        return min((n for n in self.present if n not in self.outs), default=0)

    @property
    def acts(self) -> bool:
        """Whether that is this node, and it may act now."""
        return self.complete and self.good and self.actor == self.engine.local

    def group(self, fs: str) -> Group:
        """A group of the table; an empty one when there is none."""
        return self.table.groups.get(fs, _NO_GROUP) if self.table is not None else _NO_GROUP

    def local(self, fs: str) -> Local:
        """A filesystem of this node; an idle one when it is not known."""
        return self.locals.get(fs, _IDLE)


class Turn:
    """One step in the making: the state so far, what is to be done, and which groups to look at before it ends."""

    def __init__(self, state: State, now: float) -> None:
        self.state = state
        self.now = now
        self.actions: list[Action] = []
        self.words: list[Word] = []
        self.refusals: list[Refuse] = []
        self.dirty: set[str] = set()
        self.needs_changed = False

    def do(self, *actions: Action) -> None:
        """Add to what is to be done, after all that was said so far."""
        self.actions.extend(actions)

    def put(self, **changes: object) -> None:
        """Change fields of the state."""
        self.state = replace(self.state, **changes)  # type: ignore[arg-type]  # fields of State

    def put_local(self, fs: str, **changes: object) -> Local:
        """Change fields of a filesystem, and look at its group before the step ends."""
        local = replace(self.state.local(fs), **changes)  # type: ignore[arg-type]  # fields of Local
        self.put(locals=self.state.locals.put(fs, local))
        self.dirty.add(fs)
        return local

    def put_session(self, connection: int, **changes: object) -> None:
        """Change fields of a session, if it is still there."""
        session = self.state.sessions.get(connection)
        if session is not None:
            changed = replace(session, **changes)  # type: ignore[arg-type]  # fields of Session
            self.put(sessions=self.state.sessions.put(connection, changed))

    def say(self, word: Word) -> bool:
        """Say a word in this change, unless it is on its way already."""
        if word in self.state.said:
            return False
        since = self.state.said_at if self.state.said else self.now
        self.put(said=self.state.said | {word}, said_at=since)
        self.words.append(word)
        return True

    def count(self, name: str) -> None:
        """Count something for status."""
        self.put(counts=self.state.counts.put(name, self.state.counts.get(name, 0) + 1))
