"""The calls to the kernel's tree: regions and links of the groups, by node number.

They are made in the order of the mind's actions, all of one step in one go, in a thread: a call can wait (for the
sandbox's lock, for the kernel's heartbeat callbacks), and the loop must not.
"""

from collections.abc import Iterable
from errno import EEXIST, ENOENT

from libo2cb import heartbeat
from libo2cb.errors import KernelRefusal, ModuleNotLoaded, NotThere, O2cbError
from libo2cb.kernel.port import KernelPort
from ocfs2_controld.actions import CallKernel
from ocfs2_controld.events import Call, KernelDone, KernelFound
from protocol.frozen import FrozenMap
from protocol.identity import NodeIdentity  # noqa: TC001 (one import style; nothing is imported twice for types)

_DONE_ALREADY = {
    Call.MAKE_REGION: EEXIST,
    Call.LINK: EEXIST,
    Call.UNLINK: ENOENT,
    Call.REMOVE_REGION: ENOENT,
}
"""The refusal that says of each call that its effect stands already: what a killed predecessor did is done."""


class Hands:
    """The kernel's tree, as the mind's actions speak of it.

    Args:
        kernel: the kernel.
    """

    def __init__(self, kernel: KernelPort) -> None:
        self.kernel = kernel
        self._names: dict[int, str] = {}  # where to look first

    def found(self) -> KernelFound:
        """All regions that stand, with the numbers of the nodes that they link.

        Raises:
            KernelRefusal: the tree cannot be read. It is not to be taken for empty.
            ModuleNotLoaded: there is none.
        """
        regions: dict[str, set[int]] = {}
        local: NodeIdentity | None = None
        for cluster in self._clusters():
            for region in self.kernel.regions(cluster):
                regions.setdefault(region, set())
            for node in self.kernel.nodes(cluster):
                local = node.identity if node.local and node.complete else local
                for region in self.kernel.linked(cluster, node.name):
                    regions.setdefault(region, set()).add(node.number)
        linked = {region: tuple(sorted(numbers)) for region, numbers in regions.items()}
        return KernelFound(FrozenMap(linked), local)

    def _clusters(self) -> list[str]:
        try:
            return self.kernel.clusters()
        except NotThere as refusal:
            do = "modprobe ocfs2_nodemanager, with configfs mounted, and start o2cb_controld first"
            raise ModuleNotLoaded("the kernel's cluster tree", says="is not there", do=do) from refusal

    def carry_out(self, cluster: str, calls: Iterable[CallKernel]) -> list[KernelDone]:
        """Make calls, one after the other; what came of each. Raises nothing that the kernel says."""
        names: dict[int, str] = {}
        done: list[KernelDone] = []
        for call in calls:
            try:
                if call.number and call.number not in names:
                    # Links pin nodes, and locks keep those that are to be linked: no name changes meanwhile.
                    names[call.number] = self._name_of(cluster, call.number)
                self._make(cluster, call, names.get(call.number, ""))
            except KernelRefusal as refusal:
                done.append(self._judged(cluster, call, refusal, names.get(call.number, "")))
            else:
                done.append(KernelDone(call.call, call.fs, call.number, 0, ""))
        return done

    def _name_of(self, cluster: str, number: int) -> str:
        """The complete node of this number; empty without one.

        Looked for among all only where it has moved. A had number 3; while nothing linked it, its directory was
        removed, and that of number 3 has another name by now, or A has another number: so the node itself is asked.
        """
        name = self._names.get(number)
        try:
            if name is not None and self.kernel.number(cluster, name) == number:
                return name
        except NotThere:
            pass
        self._names = {n.number: n.name for n in self.kernel.nodes(cluster) if n.complete}
        return self._names.get(number, "")

    def _make(self, cluster: str, call: CallKernel, name: str) -> None:
        if call.number and not name:
            subject = f"node {call.number} in filesystem {call.fs}"
            raise KernelRefusal(call.call.name.lower(), subject, ENOENT, why="no complete node has that number")
        match call.call:
            case Call.MAKE_REGION:
                heartbeat.create_region(self.kernel, cluster, call.fs)
            case Call.REMOVE_REGION:
                heartbeat.remove_region(self.kernel, cluster, call.fs)
            case Call.LINK:
                heartbeat.node_up(self.kernel, cluster, call.fs, name)
            case Call.UNLINK:
                heartbeat.node_down(self.kernel, cluster, call.fs, name)

    def _judged(self, cluster: str, call: CallKernel, refusal: KernelRefusal, name: str) -> KernelDone:
        done = refusal.errno == _DONE_ALREADY[call.call]
        if done and call.call is Call.UNLINK and name and self._is_linked(cluster, call.fs, name):
            why = f"{refusal.sentence()}; a link of another name still leads to {name}: remove it by hand"
            return KernelDone(call.call, call.fs, call.number, refusal.errno, why)
        if done:
            return KernelDone(call.call, call.fs, call.number, 0, "")
        return KernelDone(call.call, call.fs, call.number, refusal.errno, refusal.sentence())

    def _is_linked(self, cluster: str, fs: str, name: str) -> bool:
        try:
            return fs in self.kernel.linked(cluster, name)
        except O2cbError:
            return True
