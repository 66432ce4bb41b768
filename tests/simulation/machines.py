"""The machines of a simulated cluster: nodes with their kernels, daemons, clients and mounts.

What a daemon does in one step it does at once, unless `careful` is set: then each action is a choice of its own, and
the daemon can be killed between any two.
"""

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import lru_cache

from libo2cb.engine.model import Cluster
from libo2cb.engine.port import ConfiguredNode
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
from protocol.group import Assembler, Envelope, ViewMember
from protocol.handshake import GROUP, PROTOCOL, Version, decode, standard
from protocol.handshake import encode as blocks_of
from tests.laws.history import Client as Mounts
from tests.laws.history import Engine, Kernel, Process
from tests.simulation.kernel_model import KernelModel

CLUSTER, PORT, PROGRAM = "demo", 7777, "0.1.0"
KEPT = 1000
"""Envelopes that are kept decoded."""
O2CB, OCFS2 = "o2cb_controld", "ocfs2_controld"


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
    refs: dict[str, int] = field(default_factory=dict)
    tools: dict[str, tuple[ocev.Tool, ...]] = field(default_factory=dict)
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


class Machines:
    """The cluster's machines.

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
        self.versions: dict[int, Version] = {}
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

    def put_out(self, number: int, target: int) -> None:
        """One node asks the engine to put another out."""
        self.engine.put_out(number, target)

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
            blocks=self.blocks(number),
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
        own = next((n.identity for n in node.kernel.nodes if n.local and n.complete), None)
        found = ocev.KernelFound(FrozenMap(regions), own, hands=FrozenMap(node.refs), tools=FrozenMap(node.tools))
        self.ocfs2(number, self._mount_table(node), found)
        self.engine.listen(number, OCFS2, node.ocfs2_pid)
        self.engine.join(number, OCFS2, node.ocfs2_pid)

    def blocks(self, number: int) -> bytes:
        """The handshake blocks of a node's daemon, of whatever version that is."""
        ours = decode(standard(self.ports.get(number, PORT), PROGRAM).blocks())
        version = self.versions.get(number)
        return blocks_of(ours if version is None else ours | dict.fromkeys((PROTOCOL, GROUP), bytes(version)))

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
        node.kernel = node.kernel.close_all("ocfs2").close_all("socket").close_all("reading")
        node.reading = None
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

    # what their shells do

    def _o2cb_act(self, node: SimNode) -> None:
        raise NotImplementedError

    def _ocfs2_act(self, node: SimNode) -> None:
        raise NotImplementedError
