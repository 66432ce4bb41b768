"""A whole cluster in one process: the daemons' real minds, the pure engine model, a pure kernel for each node.

Nothing happens by itself: `choices` lists what can happen next and `do` lets one of it happen, so that a transcript, a
seeded scheduler and a search can all drive the same world. What a daemon does in one step it does at once, unless
`careful` is set: then each action is a choice of its own, and the daemon can be killed between any two.
"""

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from errno import EAGAIN, EIO
from errno import errorcode as errno_names
from functools import lru_cache

from libo2cb.engine.model import Cluster, Key, State, Stream
from libo2cb.engine.port import ChannelDown, ChannelMembers, ChannelRing, ConfiguredNode, Delivered, Members
from libo2cb.events import Log
from o2cb_controld import actions as o2do
from o2cb_controld import events as o2ev
from o2cb_controld import mind as o2mind
from o2cb_controld.state import State as O2State
from ocfs2_controld import actions as ocdo
from ocfs2_controld import events as ocev
from ocfs2_controld import mind as ocmind
from ocfs2_controld.state import FencingKind, Settings
from ocfs2_controld.state import State as OcState
from protocol import ordering
from protocol.client import Mount, MountResult, Unmount
from protocol.frozen import FrozenMap
from protocol.group import Assembler, BadEnvelope, Envelope, ViewMember, encode
from protocol.handshake import standard
from protocol.identity import NodeIdentity
from tests.laws.history import Client as Mounts
from tests.laws.history import Engine, Kernel, Process
from tests.simulation.kernel_model import KernelModel, Refusal

CLUSTER, PORT = "demo", 7777
KEPT = 1000
"""Envelopes that are kept decoded."""
O2CB, OCFS2 = "o2cb_controld", "ocfs2_controld"


_CALLS = {
    ocev.Call.MAKE_REGION: Kernel.MAKE_REGION,
    ocev.Call.REMOVE_REGION: Kernel.REMOVE_REGION,
    ocev.Call.LINK: Kernel.LINK,
    ocev.Call.UNLINK: Kernel.UNLINK,
}


@lru_cache
def uuid(fs: str) -> str:
    """The UUID of a filesystem that stories call F, G, ..."""
    return (fs.encode().hex().upper() * 32)[:32]


@dataclass
class Client:
    """A client on its connection."""

    node: int
    fs: str
    service: str
    mounts: bool = True
    hold: bool = False
    answered: list[int] = field(default_factory=list)
    mounted: bool = False


@dataclass
class SimNode:
    """One node: its kernel, its mounts, its daemons."""

    number: int
    name: str
    power: bool = False
    boots: int = 0
    kernel: KernelModel = field(default_factory=KernelModel)
    mounts: dict[str, list[str]] = field(default_factory=dict)
    busy: set[str] = field(default_factory=set)
    o2cb: O2State | None = None
    o2cb_todo: deque[o2do.Action] = field(default_factory=deque)
    ocfs2: OcState | None = None
    ocfs2_todo: deque[ocdo.Action] = field(default_factory=deque)
    ocfs2_inbox: list[ocev.Event] = field(default_factory=list)
    ocfs2_pid: int = 0
    paused: set[str] = field(default_factory=set)
    o2cb_inbox: list[o2ev.MindEvent] = field(default_factory=list)
    connection: int = 0
    to_o2cb: deque[ordering.OrderingMessage] = field(default_factory=deque)
    to_ocfs2: deque[tuple[ordering.OrderingMessage, int | None]] = field(default_factory=deque)
    clients: dict[int, Client] = field(default_factory=dict)
    assemblers: dict[ViewMember, Assembler] = field(default_factory=dict)
    reading: int | None = None
    refusals: dict[tuple[str, str, str], int] = field(default_factory=dict)

    @property
    def boot(self) -> str:
        """The boot id of the present life."""
        return f"boot{self.boots}"


Choice = tuple[str, ...]


class World:
    """The cluster.

    Args:
        size: number of nodes, named n1, n2, ...
        fencing: how lost nodes are fenced.
        tell: told each line of the story.
        careful: actions one by one.
    """

    def __init__(
        self,
        size: int,
        *,
        fencing: FencingKind = FencingKind.COMMAND,
        tell: Callable[[str], None] = lambda _: None,
        careful: bool = False,
        two_node: bool = False,
    ) -> None:
        self.configuration = [ConfiguredNode(i, f"n{i}", f"10.0.0.{10 + i}") for i in range(1, size + 1)]
        self.engine = Cluster(self.configuration, name=CLUSTER, two_node=two_node)
        self.nodes = {i: SimNode(i, f"n{i}") for i in range(1, size + 1)}
        self.fencing = fencing
        self.tell = tell
        self.careful = careful
        self.now = 0.0
        self.fences: list[tuple[int, int]] = []
        self.held: set[str] = set()
        self.serial = 0
        self.pids = 100
        self.connections = 0
        self.logs: list[tuple[int, str, Log]] = []
        self.manual_fences = False
        self.grace = 30.0
        self.join_delay = 0.0
        self.mount_seconds = 300.0
        self.ports: dict[int, int] = {}
        self._decoded: dict[bytes, Envelope] = {}
        self._whole: set[bytes] = set()

    def fact(self, node: int, kind: Kernel | Engine | Process | Mounts, /, **fields: object) -> None:
        """Something has happened to a node that the judges of the laws want to know; here nobody listens."""

    # power and processes

    def power_on(self, number: int, *, singleton: bool = False) -> None:
        """Boot a node: its engine and both daemons."""
        node = self.nodes[number]
        node.power = True
        node.boots += 1
        address = self.engine.configured(number).address
        self.fact(number, Engine.BOOTED, number=number, boot=node.boot, address=address)
        self.engine.start_engine(number, singleton=singleton)
        self.start_o2cb(number)
        self.start_ocfs2(number)

    def power_off(self, number: int, *, unreceived: Iterable[int] = ()) -> None:
        """Take a node's power."""
        node = self.nodes[number]
        if not node.power:
            return
        node.power = False
        self.fact(number, Engine.DIED, cause="its power is off")
        self.engine.power_off(number, unreceived=tuple(unreceived))
        self.nodes[number] = SimNode(number, node.name, boots=node.boots)

    def start_o2cb(self, number: int) -> None:
        """Start o2cb_controld."""
        node = self.nodes[number]
        node.o2cb = O2State(driver="sandbox", port=self.ports.get(number, PORT))
        pid = self._pid()
        self.fact(number, Process.STARTED, daemon=O2CB, pid=pid, incarnation=f"i{pid}", boot=node.boot)
        self.engine.listen(number, O2CB, pid)

    def start_ocfs2(self, number: int) -> None:
        """Start ocfs2_controld: it reads mount table and kernel before anything else."""
        node = self.nodes[number]
        node.ocfs2_pid = self._pid()
        settings = Settings(
            boot=node.boot,
            incarnation=f"i{node.ocfs2_pid}",
            pid=node.ocfs2_pid,
            port=self.ports.get(number, PORT),
            blocks=standard(self.ports.get(number, PORT)).blocks(),
            fencing=self.fencing,
            grace_seconds=self.grace,
            join_delay_seconds=self.join_delay,
            mount_seconds=self.mount_seconds,
        )
        node.ocfs2 = ocmind.begin(settings)
        names = {"daemon": OCFS2, "incarnation": settings.incarnation, "boot": node.boot}
        self.fact(number, Process.STARTED, pid=node.ocfs2_pid, **names)
        regions: dict[str, tuple[int, ...]] = {}
        for region in node.kernel.regions:
            linked = [n for r, n in node.kernel.links if r == region]
            numbers = [n.number for n in node.kernel.nodes if n.name in linked]
            regions[region] = tuple(sorted(numbers))
        self.ocfs2(number, self._mount_table(node), ocev.KernelFound(FrozenMap(regions)))
        self.engine.listen(number, OCFS2, node.ocfs2_pid)
        self.engine.join(number, OCFS2, node.ocfs2_pid)

    def kill_o2cb(self, number: int) -> None:
        """Kill -9: what it sent stays readable, its descriptors are closed."""
        node = self.nodes[number]
        node.o2cb = None
        self.fact(number, Process.KILLED, daemon=O2CB)
        node.paused.discard(O2CB)
        node.o2cb_inbox.clear()
        node.o2cb_todo.clear()
        node.kernel = node.kernel.close_all("o2cb")
        node.to_o2cb.clear()
        self.engine.process_died(number, O2CB)

    def kill_ocfs2(self, number: int) -> None:
        """Kill -9: its descriptors are closed, also those it had not read; its clients see the end."""
        node = self.nodes[number]
        node.ocfs2 = None
        self.fact(number, Process.KILLED, daemon=OCFS2)
        node.paused.discard(OCFS2)
        node.ocfs2_todo.clear()
        node.ocfs2_inbox.clear()
        node.kernel = node.kernel.close_all("ocfs2").close_all("socket")
        node.to_ocfs2.clear()
        node.to_o2cb.clear()
        node.assemblers.clear()
        for client in node.clients.values():
            client.answered.append(-1)
        node.clients.clear()
        if node.connection:
            connection, node.connection = node.connection, 0
            if node.o2cb is not None:
                self.o2cb(number, o2ev.Closed(connection))
        self.engine.process_died(number, OCFS2)

    def pause(self, number: int, daemon: str) -> None:
        """SIGSTOP: the daemon does nothing more, and what it is told waits."""
        self.nodes[number].paused.add(daemon)

    def go_on(self, number: int, daemon: str) -> None:
        """SIGCONT."""
        node = self.nodes[number]
        node.paused.discard(daemon)
        if daemon == OCFS2:
            self.ocfs2(number)
            return
        waiting, node.o2cb_inbox = node.o2cb_inbox, []
        for event in waiting:
            self.o2cb(number, event)

    def _pid(self) -> int:
        self.pids += 1
        return self.pids

    # clients

    def client(self, number: int, fs: str, *, service: str = "ocfs2", hold: bool = False) -> int:
        """A client connects and sends MOUNT. With `hold` it does nothing after its STATUS."""
        node = self.nodes[number]
        self.connections += 1
        connection = self.connections
        node.clients[connection] = Client(number, fs, service, hold=hold, mounts=service == "ocfs2")
        peer = ocev.Peer(1000 + connection, 0, float(connection), "mount.ocfs2", True)
        message = Mount("ocfs2", uuid(fs), CLUSTER, f"/dev/{fs}", service)
        self.ocfs2(
            number, ocev.ClientOpened(connection, peer), ocev.ClientSaid(connection, message, f"dev{fs}", None, fs)
        )
        return connection

    def umount(self, number: int, fs: str, *, silent: bool = False, service: str = "ocfs2") -> None:
        """Unmount: the mount goes, then UNMOUNT is sent, unless the client is one that forgets it."""
        node = self.nodes[number]
        if service == "ocfs2":
            for point in node.mounts.pop(fs, ()):
                self.fact(number, Mounts.UNMOUNTED, fs=uuid(fs), mount_point=point)
            self.tell(f"n{number} kernel: {fs} unmounted")
        if node.ocfs2 is None:
            return
        self.ocfs2(number, self._mount_table(node))
        if silent:
            return
        self.connections += 1
        connection = self.connections
        peer = ocev.Peer(1000 + connection, 0, float(connection), "ocfs2_hb_ctl", True)
        node.clients[connection] = Client(number, fs, service, mounts=False, hold=True)
        message = Unmount("ocfs2", uuid(fs), service)
        self.ocfs2(number, ocev.ClientOpened(connection, peer), ocev.ClientSaid(connection, message))

    def client_dies(self, number: int, connection: int) -> None:
        """A client's process ends."""
        node = self.nodes[number]
        node.clients.pop(connection, None)
        self.ocfs2(number, self._mount_table(node), ocev.ClientClosed(connection))

    def _answered(self, node: SimNode, connection: int, code: int, text: str) -> None:
        client = node.clients.get(connection)
        if client is None:
            return
        client.answered.append(code)
        self.tell(f"n{node.number} client of {client.fs}: STATUS {code} {text}")
        if client.hold or not node.power:
            return
        if client.mounted or not client.mounts:
            if code in (0, 114) and not client.mounted:
                client.mounted = True
                self._say_result(node, connection, client)
                return
            node.clients.pop(connection)
            node.ocfs2_inbox.append(ocev.ClientClosed(connection))
            return
        if code in (0, 114):
            self.mount_succeeds(node.number, connection)
        else:
            node.clients.pop(connection)
            node.ocfs2_inbox.append(ocev.ClientClosed(connection))

    def mount_succeeds(self, number: int, connection: int, *, tell_daemon: bool = True) -> None:
        """mount(2) has succeeded; the client says so."""
        node = self.nodes[number]
        client = node.clients[connection]
        client.mounted = True
        points = node.mounts.setdefault(client.fs, [])
        points.append(f"/mnt/{client.fs}{len(points) or ''}")
        self.fact(number, Mounts.MOUNTED, fs=uuid(client.fs), mount_point=points[-1])
        self.tell(f"n{number} kernel: {client.fs} mounted")
        node.ocfs2_inbox.append(self._mount_table(node))
        if tell_daemon:
            self._say_result(node, connection, client)

    def _say_result(self, node: SimNode, connection: int, client: Client) -> None:
        message = MountResult("ocfs2", uuid(client.fs), 0, client.service)
        node.ocfs2_inbox.append(ocev.ClientSaid(connection, message))

    def _mount_table(self, node: SimNode) -> ocev.MountTable:
        return ocev.MountTable(FrozenMap({uuid(fs): tuple(p) for fs, p in node.mounts.items() if p}))

    # minds

    def o2cb(self, number: int, event: o2ev.MindEvent) -> None:
        """One step of o2cb_controld."""
        node = self.nodes[number]
        if node.o2cb is None:
            return
        if O2CB in node.paused:
            node.o2cb_inbox.append(event)
            return
        node.o2cb, todo = o2mind.step(node.o2cb, self.now, event)
        node.o2cb_todo.extend(todo)
        while node.o2cb_todo and not self.careful:
            self._o2cb_act(node)

    def ocfs2(self, number: int, *events: ocev.Event) -> None:
        """One step of ocfs2_controld."""
        node = self.nodes[number]
        if node.ocfs2 is not None:
            node.ocfs2_inbox.extend(events)
        if OCFS2 in node.paused:
            return
        while (state := node.ocfs2) is not None and (node.ocfs2_inbox or node.ocfs2_todo):
            if not node.ocfs2_todo:
                taken, node.ocfs2_inbox = node.ocfs2_inbox, []
                node.ocfs2, todo = ocmind.step(state, self.now, taken)
                node.ocfs2_todo.extend(todo)
            if self.careful:
                return
            while node.ocfs2_todo:
                self._ocfs2_act(node)

    def _note(self, node: SimNode, daemon: str, entry: Log) -> None:
        self.logs.append((node.number, daemon, entry))

    def _o2cb_act(self, node: SimNode) -> None:
        action = node.o2cb_todo.popleft()
        number = node.number
        match action:
            case Log():
                self._note(node, O2CB, action)
            case o2do.ReadKernel(cluster):
                clusters = (node.kernel.cluster,) if node.kernel.cluster else ()
                nodes = node.kernel.nodes if node.kernel.cluster == cluster else ()
                self.o2cb(number, o2ev.KernelRead(clusters, nodes))
            case o2do.MakeCluster(cluster):
                node.kernel = node.kernel.create_cluster(cluster)
                self.o2cb(number, o2ev.ClusterMade())
            case o2do.RemoveCluster(cluster):
                self.tell(f"n{number} o2cb: rmdir {cluster}")
                node.kernel = node.kernel.remove_cluster(cluster)
                self.o2cb(number, o2ev.ClusterRemoved())
            case o2do.TryLock(n):
                locked = node.kernel.flock(str(n), True, "o2cb") if n else node.kernel
                if locked is None:
                    self.o2cb(number, o2ev.LockBusy(n))
                else:
                    node.kernel = locked
                    self.o2cb(number, o2ev.LockTaken(n))
            case o2do.Unlock(n):
                if n:
                    node.kernel = node.kernel.close(str(n), True, "o2cb")
            case o2do.ListLinks(n, name):
                self.o2cb(number, o2ev.LinksListed(n, node.kernel.linked(name)))
            case o2do.MakeNode(identity, local):
                self._make_node(node, identity, local)
            case o2do.RemoveNode(n, name):
                try:
                    self._fault(node, "rmdir", name)
                    node.kernel = node.kernel.remove_node(name)
                except Refusal as e:
                    self.fact(number, Kernel.REMOVE_NODE, name=name, errno=e.errno)
                    self.tell(f"n{number} o2cb: rmdir {name}: {errno_names[e.errno]}")
                    self.o2cb(number, o2ev.Refused(n, e.errno))
                else:
                    self.fact(number, Kernel.REMOVE_NODE, name=name, errno=0)
                    self.tell(f"n{number} o2cb: rmdir {name}")
                    self.o2cb(number, o2ev.Removed(n, name))
            case o2do.Grant(connection, request, n):
                granted = node.kernel.flock(str(n), False, "socket")
                if granted is None or connection != node.connection:
                    self.o2cb(number, o2ev.GrantUndeliverable(connection, request, EAGAIN))
                else:
                    node.kernel = granted
                    node.to_ocfs2.append((ordering.Locked(request), n))
                    self.o2cb(number, o2ev.GrantSent(connection, request))
            case o2do.Say(connection, message):
                if connection == node.connection:
                    node.to_ocfs2.append((message, None))
            case o2do.ClaimService():
                claimed = node.kernel.flock("service", True, "o2cb")
                node.kernel = claimed or node.kernel
                self.o2cb(number, o2ev.ServiceLock(claimed is not None))
            case o2do.ReleaseService():
                node.kernel = node.kernel.close("service", True, "o2cb")
            case o2do.LookForUse():
                uses = [f"{r} links {n}" for r, n in sorted(node.kernel.links)]
                self.o2cb(number, o2ev.UseFound(tuple(uses + sorted(node.kernel.regions))))
            case o2do.AnswerShutdown(question, allow, reason):
                self.tell(f"n{number} o2cb: shutdown {'yes' if allow else 'no'}: {reason}")
                self.engine.answer_shutdown(number, O2CB, question, allow=allow, reason=reason)
            case o2do.Exit():
                self.tell(f"n{number} o2cb: exits")
                self.kill_o2cb(number)
            case o2do.Drop(connection, _):
                self.o2cb(number, o2ev.Closed(connection))
            case o2do.Ready() | o2do.NotReady() | o2do.WakeAt():
                pass

    def _fault(self, node: SimNode, call: str, name: str) -> None:
        errno = node.refusals.get((call, name, ""), 0)
        if errno:
            raise Refusal(errno)

    def _make_node(self, node: SimNode, identity: NodeIdentity, local: bool) -> None:
        try:
            self._fault(node, "mkdir", identity.name)
            node.kernel = node.kernel.make_node(identity, local)
        except Refusal as e:
            self.fact(node.number, Kernel.MAKE_NODE, name=identity.name, errno=e.errno)
            self.tell(f"n{node.number} o2cb: mkdir {identity.name}: {errno_names[e.errno]}")
            self.o2cb(node.number, o2ev.Refused(identity.number, e.errno))
        else:
            self._made(node.number, identity, local)
            self.tell(f"n{node.number} o2cb: mkdir {identity.name} {identity.address}")
            self.o2cb(node.number, o2ev.Made(identity.number, identity, local))

    def _made(self, number: int, identity: NodeIdentity, local: bool) -> None:
        self.fact(number, Kernel.MAKE_NODE, name=identity.name, errno=0)
        attributes: list[tuple[str, object]] = [
            ("ipv4_port", identity.port),
            ("ipv4_address", identity.address),
            ("num", identity.number),
        ]
        for attribute, value in (*attributes, *((("local", 1),) if local else ())):
            self.fact(number, Kernel.SET_NODE, name=identity.name, attribute=attribute, value=value, errno=0)

    def _ocfs2_act(self, node: SimNode) -> None:
        action = node.ocfs2_todo.popleft()
        number = node.number
        match action:
            case Log():
                self._note(node, OCFS2, action)
            case ocdo.Multicast(envelope):
                self.serial += 1
                pieces = list(encode(envelope, self.serial))
                if len(pieces) == 1:
                    self._whole.add(pieces[0])
                for piece in pieces:
                    self.engine.send(number, OCFS2, piece)
            case ocdo.LeaveChannel():
                self.engine.leave(number, OCFS2)
            case ocdo.CallKernel(call, fs, n):
                node.ocfs2_inbox.append(self._call_kernel(node, call, fs, n))
            case ocdo.Answer(connection, code, text):
                self._answered(node, connection, code, text)
            case ocdo.SayOrdering(message):
                if node.connection and node.o2cb is not None:
                    node.to_o2cb.append(message)
            case ocdo.KeepLock(key):
                node.kernel = node.kernel.hand_over(str(key[0]), "reading", "ocfs2")
            case ocdo.DropLock():
                node.kernel = node.kernel.close(str(node.reading), False, "reading")
            case ocdo.CloseLock(key):
                node.kernel = node.kernel.close(str(key[0]), False, "ocfs2")
            case ocdo.HoldService():
                held = node.kernel.flock("service", False, "ocfs2")
                node.kernel = held or node.kernel
                node.ocfs2_inbox.append(ocev.ServiceAnswer(held is not None))
            case ocdo.ReleaseService():
                node.kernel = node.kernel.close("service", False, "ocfs2")
            case ocdo.CheckDevice(fs, _):
                busy = any(uuid(f) == fs for f in node.busy)
                node.ocfs2_inbox.append(ocev.DeviceAnswer(fs, not busy, "somebody holds it" if busy else ""))
            case ocdo.RunFence(life, name, _):
                self.tell(f"n{number} ocfs2: fence {name}")
                self.fences.append((number, life.node))
            case ocdo.AnswerShutdown(question, allow, reason):
                self.tell(f"n{number} ocfs2: shutdown {'yes' if allow else 'no'}: {reason}")
                self.engine.answer_shutdown(number, OCFS2, question, allow=allow, reason=reason)
            case ocdo.PowerOff(why):
                self.fact(number, Kernel.POWER_OFF, why=why, errno=0)
                self.tell(f"n{number} ocfs2: resets this node: {why}")
                self.power_off(number)
            case ocdo.Exit(_, why):
                self.tell(f"n{number} ocfs2: exits: {why}")
                self.kill_ocfs2(number)
            case ocdo.Ready() | ocdo.WatchProcess() | ocdo.AnswerList() | ocdo.AnswerDump() | ocdo.AnswerReport():
                pass

    def _call_kernel(self, node: SimNode, call: ocev.Call, fs: str, number: int) -> ocev.KernelDone:
        name = next((n.name for n in node.kernel.nodes if n.number == number), "")
        short = next((f for f in "FGHIJ" if uuid(f) == fs), fs[:8])
        verb = call.name.lower().replace("_", " ")
        what = f"n{node.number} ocfs2: {verb} {short}{'/' + name if number else ''}"
        try:
            self._fault(node, call.name, name)
            match call:
                case ocev.Call.MAKE_REGION:
                    node.kernel = node.kernel.create_region(fs)
                case ocev.Call.REMOVE_REGION:
                    node.kernel = node.kernel.remove_region(fs)
                case ocev.Call.LINK:
                    node.kernel = node.kernel.link(fs, name)
                case ocev.Call.UNLINK:
                    node.kernel = node.kernel.unlink(fs, name)
        except Refusal as e:
            self.fact(node.number, _CALLS[call], fs=fs, name=name, errno=e.errno)
            self.tell(f"{what}: {errno_names[e.errno]}")
            return ocev.KernelDone(call, fs, number, e.errno or EIO, errno_names[e.errno])
        self.fact(node.number, _CALLS[call], fs=fs, name=name, errno=0)
        self.tell(what)
        return ocev.KernelDone(call, fs, number, 0, "")

    # what can happen next

    def choices(self) -> list[Choice]:
        """Everything that can happen now without anybody's doing."""
        found: list[Choice] = []
        for node in self.nodes.values():
            if not node.power:
                continue
            n = str(node.number)
            o2cb = node.o2cb if O2CB not in node.paused else None
            ocfs2 = node.ocfs2 if OCFS2 not in node.paused else None
            if o2cb is not None:
                if node.o2cb_todo:
                    found.append(("o2cb acts", n))
                if node.to_o2cb and not node.o2cb_todo:
                    found.append(("o2cb reads", n))
                if o2cb.alarm is not None and o2cb.alarm <= self.now:
                    found.append(("o2cb tick", n))
            if ocfs2 is not None:
                if node.ocfs2_todo or (self.careful and node.ocfs2_inbox):
                    found.append(("ocfs2 acts", n))
                if node.to_ocfs2:
                    if not node.ocfs2_todo:
                        found.append(("ocfs2 reads", n))
                elif node.o2cb is None:
                    if node.connection and not node.ocfs2_todo:
                        found.append(("disconnect", n))
                elif not node.connection:
                    found.append(("connect", n))
        for key in self.engine.pending():
            node = self.nodes[key.node]
            if not node.power or self.engine.engines[key.node].state is State.HUNG:
                continue
            todo = node.o2cb_todo if key.listener == O2CB else node.ocfs2_todo
            if not todo and key.listener not in node.paused:
                found.append(("deliver", str(key.node), key.listener, key.stream.value))
        if not self.manual_fences:
            found.extend(("fence", str(i)) for i in range(len(self.fences)))
        return [c for c in found if not self._is_held(c)] if self.held else found

    def _is_held(self, choice: Choice) -> bool:
        node = f"n{choice[1]}"
        if choice[0] == "deliver":
            name = f"{node} {choice[2]}"
            return bool({name, f"{name}.{choice[3]}"} & self.held)
        return f"{node} {choice[0]}" in self.held

    def do(self, choice: Choice) -> None:
        """Let one thing happen."""
        match choice:
            case ("o2cb acts", n):
                self._o2cb_act(self.nodes[int(n)])
            case ("ocfs2 acts", n):
                node = self.nodes[int(n)]
                if node.ocfs2_todo:
                    self._ocfs2_act(node)
                if not node.ocfs2_todo:
                    self.ocfs2(int(n))
            case ("connect", n):
                self.connections += 1
                self.nodes[int(n)].connection = self.connections
                self.ocfs2(int(n), ocev.OrderingUp())
            case ("disconnect", n):
                self.nodes[int(n)].connection = 0
                self.ocfs2(int(n), ocev.OrderingDown("o2cb_controld does not run"))
            case ("o2cb reads", n):
                self._o2cb_reads(self.nodes[int(n)])
            case ("ocfs2 reads", n):
                self._ocfs2_reads(self.nodes[int(n)])
            case ("o2cb tick", n):
                self.o2cb(int(n), o2ev.Tick())
            case ("deliver", n, listener, stream):
                self._deliver(int(n), listener, Stream(stream))
            case ("fence", i):
                self.fence_done(int(i), ok=True)
            case _:
                raise AssertionError(choice)

    def fence_done(self, index: int, *, ok: bool, text: str = "") -> None:
        """A fencing device answers."""
        actor, target = self.fences.pop(index)
        if ok:
            if self.nodes[target].power:
                self.tell(f"n{target} is switched off")
                self.power_off(target)
            text = text or "verified off"
        self.ocfs2(actor, ocev.FenceDone(target, ok, text or "connection timed out"))

    def _o2cb_reads(self, node: SimNode) -> None:
        message = node.to_o2cb.popleft()
        match message:
            case ordering.Lock(request, identity):
                self.o2cb(node.number, o2ev.Asked(node.connection, request, identity))
            case ordering.Cancel(request):
                self.o2cb(node.number, o2ev.Cancelled(node.connection, request))
            case ordering.Unlocked(number):
                self.o2cb(node.number, o2ev.HintUnlocked(node.connection, number))
            case _:
                raise AssertionError(message)

    def _ocfs2_reads(self, node: SimNode) -> None:
        message, fd = node.to_ocfs2.popleft()
        if fd is not None:
            node.kernel = node.kernel.hand_over(str(fd), "socket", "reading")
            node.reading = fd
        self.ocfs2(node.number, ocev.OrderingSaid(message, fd is not None))

    def _deliver(self, number: int, listener: str, stream: Stream) -> None:
        node = self.nodes[number]
        event = self.engine.deliver(*Key(number, listener, stream))
        if listener == O2CB:
            assert not isinstance(event, ChannelMembers | ChannelRing | Delivered | ChannelDown)
            if isinstance(event, Members):
                said = {"quorate": event.quorate, "members": event.members, "joined": event.joined, "left": event.left}
                self.fact(number, Engine.MEMBERS, ring=str(event.ring), **said)
            self.o2cb(number, event)
            return
        if isinstance(event, Delivered):
            sender = ViewMember(event.sender.node, event.sender.pid)
            try:
                envelope = self._read(node, sender, event.payload)
            except BadEnvelope as e:
                self.ocfs2(number, ocev.Garbled(sender, str(e)))
                return
            if envelope is not None:
                self.ocfs2(number, ocev.Heard(sender, envelope))
            return
        self.ocfs2(number, event)

    def _read(self, node: SimNode, sender: ViewMember, payload: bytes) -> Envelope | None:
        """What this piece completes. A whole envelope is the same to each who reads it, and decoded once."""
        if payload in self._decoded:
            node.assemblers.pop(sender, None)
            return self._decoded[payload]
        assembler = node.assemblers.setdefault(sender, Assembler())
        envelope = assembler.feed(payload)
        if envelope is not None and payload in self._whole:
            if len(self._decoded) > KEPT:
                self._decoded.clear()
                self._whole.clear()
            self._decoded[payload] = envelope
        return envelope

    # time

    def settle(self, limit: int = 20_000) -> None:
        """Let happen whatever can, the first choice first, without time passing."""
        for _ in range(limit):
            found = self.choices()
            if not found:
                return
            self.do(found[0])
        raise AssertionError("the world does not come to rest: " + repr(self.choices()[:5]))

    def wakes(self) -> list[float]:
        """The moments at which some daemon wants to look again."""
        found: list[float] = []
        for node in self.nodes.values():
            if node.o2cb is not None and O2CB not in node.paused and node.o2cb.alarm is not None:
                found.append(node.o2cb.alarm)
            if node.ocfs2 is not None and OCFS2 not in node.paused:
                wake = ocmind.next_wake(node.ocfs2, self.now)
                if wake is not None:
                    found.append(wake)
        return found

    def wait(self, seconds: float) -> None:
        """Let time pass, with everything that it brings."""
        end = self.now + seconds
        self.settle()
        while True:
            wake = min((w for w in self.wakes() if w > self.now), default=end)
            if wake >= end:
                break
            self.now = wake
            self.tick()
            self.settle()
        self.now = end
        self.tick()
        self.settle()

    def tick(self) -> None:
        """Tell every daemon that time has passed."""
        for number, node in self.nodes.items():
            if node.o2cb is not None and O2CB not in node.paused:
                self.o2cb(number, o2ev.Tick())
            if node.ocfs2 is not None and OCFS2 not in node.paused:
                self.ocfs2(number, ocev.Tick())
