"""The shells of both daemons, as the simulation plays them: each action of a mind, done to the simulated machine."""

from errno import EAGAIN, EIO
from errno import errorcode as errno_names

from libo2cb.events import Log
from o2cb_controld import actions as o2do
from o2cb_controld import events as o2ev
from ocfs2_controld import actions as ocdo
from ocfs2_controld import events as ocev
from protocol import ordering
from protocol.group import encode
from protocol.identity import NodeIdentity
from tests.laws.history import Kernel
from tests.simulation.kernel_model import Refusal
from tests.simulation.machines import O2CB, OCFS2, Machines, SimNode, uuid

_CALLS = {
    ocev.Call.MAKE_REGION: Kernel.MAKE_REGION,
    ocev.Call.REMOVE_REGION: Kernel.REMOVE_REGION,
    ocev.Call.LINK: Kernel.LINK,
    ocev.Call.UNLINK: Kernel.UNLINK,
}


class Shells(Machines):
    """The cluster's machines, and what the daemons do on them."""

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
            case ocdo.PutOut(target, why):
                self.tell(f"n{number} ocfs2: has n{target} put out by the engine: {why}")
                self.put_out(number, target)
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
            case ocdo.KeepRefs(fs, count):
                node.refs[fs] = count
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
