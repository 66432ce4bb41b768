"""What may befall a cluster besides what it does by itself: each fault by its name and its arguments.

A fault is a decision that can be written down, read again, and left out. One that makes no sense at its moment (a node
without power cannot lose it) does nothing and says so, so that any part of a list of decisions is a list of decisions.
"""

from collections.abc import Callable
from errno import EINVAL

from libo2cb.engine.model import State, Verdict
from o2cb_controld import events as o2ev
from ocfs2_controld import events as told
from protocol.client import ClientMessage, Fenced, Mount, Unmount
from tests.simulation.judged import O2CB, OCFS2, Broken, Judged
from tests.simulation.world import CLUSTER, Client, SimNode, uuid

Decision = tuple[object, ...]
"""("do", choice), ("time", most), or the name of a fault with its arguments."""


class Faults:
    """The faults of one world.

    Args:
        world: the world.
        tell: told each fault that takes place.
    """

    def __init__(self, world: Judged, tell: Callable[[str], None]) -> None:
        self.world = world
        self.tell = tell
        self.never: set[int] = set()
        self._known: dict[str, Callable[..., bool]] = {
            name.removeprefix("on_").replace("_", " "): getattr(self, name) for name in dir(self) if name[:3] == "on_"
        }

    @property
    def names(self) -> list[str]:
        """All faults, sorted."""
        return sorted(self._known)

    def apply(self, name: str, *args: object) -> bool:
        """Let a fault happen; whether it could."""
        w = self.world
        tables = [n.ocfs2.table for n in w.nodes.values() if n.ocfs2 is not None and n.ocfs2.table is not None]
        self.tell(f"-- {' '.join([name, *map(_shown, args)])}")
        if not self._known[name](*args):
            self.tell("   (nothing to do)")
            return False
        w.tally.faults[name] = w.tally.faults.get(name, 0) + 1
        w.tally.met.update((name, str(g.phase)) for t in tables for g in t.groups.values())
        w.judge()
        return True

    def _node(self, n: int) -> SimNode:
        return self.world.nodes[n]

    def _runs(self, n: int, *states: State) -> bool:
        return self._node(n).power and self.world.engine.engines[n].state in states

    # clients

    def on_mount(self, n: int, fs: str, hold: bool) -> bool:
        node = self._node(n)
        if not node.power or node.ocfs2 is None or node.mounts.get(fs):
            return False
        self.world.client(n, fs, hold=hold)
        return True

    def on_client_dies(self, n: int, which: int, mounts: bool) -> bool:
        """A client dies; one that has been answered may have mounted before, and told nobody."""
        w, node = self.world, self._node(n)
        if not node.clients:
            return False
        connection = sorted(node.clients)[which % len(node.clients)]
        client = node.clients[connection]
        if mounts and client.mounts and client.hold and client.answered in ([0], [114]):
            w.mount_succeeds(n, connection, tell_daemon=False)
            w.ocfs2(n)
        w.client_dies(n, connection)
        return True

    def on_umount(self, n: int, fs: str, silent: bool) -> bool:
        if not self._node(n).mounts.get(fs):
            return False
        self.world.umount(n, fs, silent=silent)
        return True

    def on_stranger(self, n: int, fs: str, what: int) -> bool:
        """Somebody who is not root asks; law 14."""
        w, node = self.world, self._node(n)
        if node.ocfs2 is None or OCFS2 in node.paused or node.ocfs2_todo:
            return False
        w.connections += 1
        connection = w.connections
        client = node.clients[connection] = Client(n, fs, "ocfs2", mounts=False, hold=True)
        peer = told.Peer(1000 + connection, 1000, float(connection), "stranger", False)
        others = [x.name for x in w.nodes.values()]
        words: list[ClientMessage] = [Mount("ocfs2", uuid(fs), CLUSTER, f"/dev/{fs}", "ocfs2")]
        words += [Unmount("ocfs2", uuid(fs), "ocfs2"), *(Fenced(x, "") for x in others)]
        word = words[what % len(words)]
        before = node.ocfs2.locals, node.ocfs2.table
        w.ocfs2(n, told.ClientOpened(connection, peer), told.ClientSaid(connection, word, f"dev{fs}", None, fs))
        after = node.ocfs2
        assert after is not None
        if (after.locals, after.table) != before:
            raise Broken(f"law 14: n{n} has done what a stranger asked: {word}")
        while node.ocfs2_todo:
            w.do(("ocfs2 acts", str(n)))
        if not client.answered or client.answered[0] == 0:
            raise Broken(f"law 14: n{n} answers a stranger's {word} with {client.answered}")
        w.client_dies(n, connection)
        return True

    def on_garbage(self, n: int) -> bool:
        """A client sends what cannot be read; law 13."""
        w, node = self.world, self._node(n)
        if node.ocfs2 is None:
            return False
        w.connections += 1
        peer = told.Peer(1000 + w.connections, 0, float(w.connections), "noise", True)
        node.clients[w.connections] = Client(n, "F", "", mounts=False)
        w.ocfs2(n, told.ClientOpened(w.connections, peer), told.ClientGarbled(w.connections, EINVAL, "no such word"))
        return True

    # fences

    def on_fence(self, which: int) -> bool:
        """A fencing device has seen the node off; some never do."""
        w = self.world
        able = [i for i, (_, target) in enumerate(w.fences) if target not in self.never]
        if not able:
            return False
        w.tally.fenced += 1
        w.fence_done(able[which % len(able)], ok=True)
        return True

    def on_fence_fails(self, which: int) -> bool:
        w = self.world
        if not w.fences:
            return False
        w.fence_done(which % len(w.fences), ok=False)
        return True

    def on_fence_never(self, n: int) -> bool:
        """The device of this node answers nobody any more."""
        self.never.add(n)
        return True

    def on_lie(self, which: int) -> bool:
        """An operator says that a node is off, and it is not."""
        w = self.world
        if not w.fences:
            return False
        w.lie(which % len(w.fences))
        return True

    def on_acknowledge(self, n: int, target: int, honest: bool) -> bool:
        """An operator switches a node off and says so to a daemon; one who is not honest only says so."""
        w, node = self.world, self._node(n)
        if node.ocfs2 is None or n == target:
            return False
        if honest:
            w.power_off(target)
        elif self._node(target).power:
            w.lied.add(w.life(target))
        w.connections += 1
        node.clients[w.connections] = Client(n, "the operator", "", mounts=False, hold=True)
        peer = told.Peer(1000 + w.connections, 0, float(w.connections), "ocfs2_hb_ctl", True)
        w.ocfs2(n, told.ClientOpened(w.connections, peer), told.ClientSaid(w.connections, Fenced(f"n{target}", "-")))
        return True

    # power and processes

    def on_power_off(self, n: int, unreceived: tuple[int, ...]) -> bool:
        if not self._node(n).power:
            return False
        self.world.power_off(n, unreceived=unreceived)
        return True

    def on_power_on(self, n: int, address: str, singleton: bool) -> bool:
        if self._node(n).power:
            return False
        if address:
            self.world.readdress(n, address)
        self.world.power_on(n, singleton=singleton)
        return True

    def on_readdress(self, n: int, address: str) -> bool:
        """The configuration is read again, whatever the node is in the midst of."""
        self.world.readdress(n, address)
        return True

    def on_kill(self, n: int, daemon: str) -> bool:
        node = self._node(n)
        if (node.o2cb if daemon == O2CB else node.ocfs2) is None:
            return False
        (self.world.kill_o2cb if daemon == O2CB else self.world.kill_ocfs2)(n)
        return True

    def on_start(self, n: int, daemon: str) -> bool:
        node = self._node(n)
        if not node.power or (node.o2cb if daemon == O2CB else node.ocfs2) is not None:
            return False
        (self.world.start_o2cb if daemon == O2CB else self.world.start_ocfs2)(n)
        return True

    def on_pause(self, n: int, daemon: str) -> bool:
        node = self._node(n)
        if (node.o2cb if daemon == O2CB else node.ocfs2) is None or daemon in node.paused:
            return False
        self.world.pause(n, daemon)
        return True

    def on_go_on(self, n: int, daemon: str) -> bool:
        if daemon not in self._node(n).paused:
            return False
        self.world.go_on(n, daemon)
        return True

    def on_signal(self, n: int, daemon: str, name: str) -> bool:
        """A signal asks a daemon to end, and is refused while a group is live; law 15."""
        node = self._node(n)
        if (node.o2cb if daemon == O2CB else node.ocfs2) is None:
            return False
        if daemon == O2CB:
            self.world.o2cb(n, o2ev.Signal(name))
        else:
            self.world.ocfs2(n, told.SignalCame(name))
        return True

    # network and engine

    def on_cut(self, side: tuple[int, ...], unreceived: tuple[int, ...]) -> bool:
        if not 0 < len(side) < len(self.world.nodes):
            return False
        self.world.engine.cut([side], unreceived=unreceived)
        return True

    def on_heal(self) -> bool:
        if not any(e.side for e in self.world.engine.engines.values()):
            return False
        self.world.engine.heal()
        return True

    def on_engine_crash(self, n: int, unreceived: tuple[int, ...]) -> bool:
        if not self._runs(n, State.UP):
            return False
        self.world.engine.crash(n, unreceived=unreceived)
        return True

    def on_engine_stop(self, n: int) -> bool:
        if not self._runs(n, State.UP):
            return False
        self.world.engine.stop_engine(n)
        return True

    def on_engine_asks(self, n: int) -> bool:
        """Somebody wants to stop the engine: it asks its listeners, and stops if none says no; law 15."""
        w = self.world
        if not self._runs(n, State.UP):
            return False
        if w.engine.question(n) is None:
            w.engine.ask_shutdown(n)
            return True
        if w.engine.close_question(n).verdict is Verdict.ALLOWED:
            w.engine.stop_engine(n)
        return True

    def on_engine_start(self, n: int, singleton: bool) -> bool:
        if not self._runs(n, State.DOWN):
            return False
        self.world.engine.start_engine(n, singleton=singleton)
        return True

    def on_fast_restart(self, n: int, singleton: bool, unreceived: tuple[int, ...]) -> bool:
        if not self._runs(n, State.UP):
            return False
        self.world.engine.fast_restart(n, singleton=singleton, unreceived=unreceived)
        return True

    def on_hang(self, n: int, unreceived: tuple[int, ...]) -> bool:
        if not self._runs(n, State.UP):
            return False
        self.world.engine.hang(n, unreceived=unreceived)
        return True

    def on_resume(self, n: int, singleton: bool) -> bool:
        if not self._runs(n, State.HUNG):
            return False
        self.world.engine.resume(n, singleton=singleton)
        return True

    # the kernel

    def on_refuse(self, n: int, call: str, name: str, errno: int) -> bool:
        """The kernel refuses a call from now on: EBUSY from somebody else's pin, ENOMEM, EIO."""
        node = self._node(n)
        if not node.power:
            return False
        node.refusals[call, name, ""] = errno
        return True

    def on_obey(self, n: int) -> bool:
        """The kernel refuses no more."""
        node = self._node(n)
        if not node.refusals:
            return False
        node.refusals.clear()
        return True

    def on_busy(self, n: int, fs: str) -> bool:
        """Somebody holds the device: `umount -l`, another namespace."""
        if not self._node(n).mounts.get(fs):
            return False
        self._node(n).busy.add(fs)
        return True

    def on_free(self, n: int) -> bool:
        if not self._node(n).busy:
            return False
        self._node(n).busy.clear()
        return True


def _shown(argument: object) -> str:
    if isinstance(argument, tuple):
        return f"({','.join(map(str, argument))})"
    return str(argument)


__all__ = ["Decision", "Faults"]
