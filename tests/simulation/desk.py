"""A cluster whose clients are played by hand: each record is sent, each answer read, when a test says so."""

from dataclasses import dataclass

from ocfs2_controld import actions as do
from ocfs2_controld import events as told
from ocfs2_controld.state import FencingKind, Local, State, Usage
from protocol.client import ClientMessage, Mount, MountResult, Unmount
from tests.simulation.world import CLUSTER, SimNode, World, uuid

F = uuid("F")


@dataclass
class Caller:
    """A client on its connection with n1."""

    desk: "Desk"
    connection: int
    peer: told.Peer

    def send(
        self,
        message: ClientMessage,
        *,
        device: str | None = None,
        problem: tuple[int, str] | None = None,
        label: str = "",
    ) -> list[tuple[int, str]]:
        """Send a record; what was answered to it at once."""
        return self._tell(told.ClientSaid(self.connection, message, device, problem, label))

    def garble(self, code: int, why: str) -> list[tuple[int, str]]:
        """Send what the shell cannot read."""
        return self._tell(told.ClientGarbled(self.connection, code, why))

    def mount(
        self, service: str = "ocfs2", *, fs: str = "F", device: str | None = None, cluster: str = CLUSTER
    ) -> list[tuple[int, str]]:
        """Send MOUNT, of the device that the filesystem is on unless said."""
        message = Mount("ocfs2", uuid(fs), cluster, f"/dev/{device or fs}", service)
        return self.send(message, device=f"dev{device or fs}", label=fs)

    def result(self, code: int = 0, service: str = "ocfs2", *, fs: str = "F") -> list[tuple[int, str]]:
        """Send MRESULT."""
        return self.send(MountResult("ocfs2", uuid(fs), code, service))

    def unmount(self, service: str = "ocfs2", *, fs: str = "F") -> list[tuple[int, str]]:
        """Send UNMOUNT."""
        return self.send(Unmount("ocfs2", uuid(fs), service))

    def close(self) -> None:
        """End the connection; as in the daemon, the mount table is read before."""
        self.desk.ocfs2(1, self.desk.table(), told.ClientClosed(self.connection))

    @property
    def statuses(self) -> list[tuple[int, str]]:
        """Every STATUS on this connection."""
        return [
            (a.code, a.text) for a in self.desk.done if isinstance(a, do.Answer) and a.connection == self.connection
        ]

    @property
    def codes(self) -> list[int]:
        """Their codes."""
        return [code for code, _ in self.statuses]

    @property
    def lists(self) -> list[tuple[str, ...]]:
        """Every list on this connection."""
        return [a.items for a in self.desk.done if isinstance(a, do.AnswerList) and a.connection == self.connection]

    def _tell(self, event: told.Event) -> list[tuple[int, str]]:
        before = len(self.statuses)
        self.desk.ocfs2(1, event)
        return self.statuses[before:]


class Desk(World):
    """A cluster that is up, with every action of n1 written down, and every answer judged (law 13).

    Args:
        size: number of nodes.
        up: those that have power; all unless said.
        fencing: how lost nodes are fenced.
    """

    def __init__(
        self, size: int = 1, *, up: tuple[int, ...] | None = None, fencing: FencingKind = FencingKind.COMMAND
    ) -> None:
        super().__init__(size, fencing=fencing)
        self.done: list[do.Action] = []
        for number in up if up is not None else range(1, size + 1):
            self.power_on(number)
        self.settle()

    def _ocfs2_act(self, node: SimNode) -> None:
        action = node.ocfs2_todo[0]
        if node.number == 1:
            self.done.append(action)
        if isinstance(action, do.Answer):
            assert action.code >= 0, f"upstream's clients take {action.code} for another error"
            assert action.text, "a STATUS without text is an I/O error for upstream's clients"
        super()._ocfs2_act(node)

    def call(self, program: str = "mount.ocfs2", *, uid: int = 0, trusted: bool = True) -> Caller:
        """Somebody connects to n1."""
        self.connections += 1
        peer = told.Peer(1000 + self.connections, uid, float(self.connections), program, trusted)
        self.ocfs2(1, told.ClientOpened(self.connections, peer))
        return Caller(self, self.connections, peer)

    @property
    def here(self) -> SimNode:
        """The node n1."""
        return self.nodes[1]

    @property
    def state(self) -> State:
        """The mind of n1."""
        assert self.here.ocfs2 is not None
        return self.here.ocfs2

    @property
    def local(self) -> Local:
        """Filesystem F on n1."""
        return self.state.local(F)

    def usage(self) -> Usage:
        """What n1 does with F."""
        return self.local.usage

    @property
    def left(self) -> bool:
        """Whether nothing of F is left on n1: neither in the mind nor in the kernel."""
        return F not in self.state.locals and F not in self.here.kernel.regions and not self.here.kernel.links

    def table(self) -> told.MountTable:
        """The mount table of n1."""
        return self._mount_table(self.here)

    def mounted(self, *points: str) -> None:
        """The kernel now shows F at exactly these; the daemon sees it."""
        self.here.mounts["F"] = list(points)
        self.ocfs2(1, self.table())

    def used(self, *services: str) -> None:
        """F mounted or held by these, from MOUNT to MRESULT, in their order."""
        points: list[str] = []
        for service in services:
            caller = self.call(service if service.endswith(".ocfs2") else "mount.ocfs2")
            caller.mount(service)
            self.settle()
            if service == "ocfs2" or service.startswith("/"):
                points.append(service if service.startswith("/") else f"/mnt/{len(points)}")
                self.mounted(*points)
            caller.result(0, service)
            caller.close()
        assert self.usage() is Usage.USED
        self.done.clear()
