"""A cluster of real corosync nodes with the two real daemons on each, on a sandbox's kernel; judged by the laws.

    with RealLab.of(3) as lab:                 n1 n2 n3: corosync, o2cb_controld, ocfs2_controld
        volume = lab.volume("vm")
        lab["n1"].mount(volume, "/vm")         all that the sandbox's lab has (tests/process/lab.py), but for its hub
        lab.kill_engine("n3")
        lab.cut(["n1", "n2"], ["n3"])
        lab.rest()
        assert not lab.judged()

A node is a machine of namespaces.py: its daemons and tools run there, and hear its own corosync. A power-off, by a
fence command, by the node's own reset or by a test, unplugs the machine first; so it is one instant for the others.
"""

import fcntl
import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from libo2cb.processes import Process
from libo2cb.sandbox import power
from libo2cb.sandbox.ask import HubError
from libo2cb.sandbox.homes import Sandbox, SandboxError, power_lock, read_record
from tests.process.lab import DAEMONS, KEEP, Daemon, Lab, Node, NotWithinError, become_subreaper, until
from tests.process.node import DEADLINE, is_stopped
from tests.real.corosync import cluster as engine
from tests.real.corosync.cluster import Cluster, Member
from tests.real.corosync.keeper import inhabitants
from tests.real.corosync.rings import SWITCH, fences, lives, untold
from tests.real.corosync.supply import Supply

PORT: Final = 7777
PATIENCE: Final = 3 * DEADLINE
"""Seconds to mend everything: fences, joins and starts of programs, one after the other, on a busy machine."""
_SWITCHES: Final = 10.0
_COROSYNC: Final = engine.Settings()


@dataclass(frozen=True, slots=True)
class Settings:
    """Of every node.

    Attributes:
        fencing: command (a power-off of the node's home), or manual.
        mount, grace, join_delay: timeouts of the daemons, in seconds.
        level: of their logs.
        corosync: of the cluster below.
    """

    fencing: str = "command"
    mount: float = 300.0
    grace: float = 30.0
    join_delay: float = 10.0
    level: str = "info"
    corosync: engine.Settings = _COROSYNC


def write_config(sandbox: Sandbox, name: str, settings: Settings) -> None:
    """Make a node's home and its configuration."""
    node = sandbox.node(name)
    node.make()
    fencing: dict[str, object] = {"kind": settings.fencing}
    if settings.fencing == "command":
        command = [sys.executable, "-m", SWITCH, "--home", str(sandbox.root), "kill"]
        fencing |= {"command": command, "timeout": 20.0, "retry": 1.0, "retry_max": 5.0}
    tables: Mapping[str, Mapping[str, object]] = {
        "cluster": {"port": PORT},
        "engine": {"kind": "corosync"},
        "kernel": {"driver": "sandbox", "root": str(node.root / "kernel")},
        "sockets": {"clients": str(node.clients), "ordering": str(node.ordering), "run": str(node.run)},
        "fencing": fencing,
        "log": {"format": "json", "level": settings.level},
        "timeouts": {"mount": settings.mount, "grace": settings.grace, "join_delay": settings.join_delay},
    }
    lines = []
    for table, keys in tables.items():
        # JSON's strings, numbers and lists of strings are TOML's as well.
        lines += [f"[{table}]", *(f"{key} = {json.dumps(value)}" for key, value in keys.items()), ""]
    node.config.write_text("\n".join(lines))


class RealLab(Lab):
    """The lab. Made by `of`.

    Attributes:
        cluster: the corosync nodes and their machines.
        supply: power, and the history.
    """

    def __init__(self, sandbox: Sandbox, cluster: Cluster, supply: Supply, settings: Settings) -> None:
        super().__init__(sandbox)
        self.cluster = cluster
        self.supply = supply
        self._settings = settings

    @classmethod
    @contextmanager
    def of(cls, count: int, settings: Settings | None = None, *, daemons: bool = True) -> Iterator[Self]:
        """A lab whose nodes see each other and are ready; closed at the end, its home removed.

        Args:
            count: nodes.
            settings: of each.
            daemons: start both on each node, and wait until they are ready; without it nobody runs there.
        """
        become_subreaper()
        chosen = settings or Settings()
        sandbox = Sandbox(Path(tempfile.mkdtemp(prefix="real")))
        try:
            with (
                Cluster.up(count, chosen.corosync, start=False, directory=sandbox.root) as cluster,
                Supply.of(cluster, sandbox.hub, sandbox.history) as supply,
            ):
                lab = cls(sandbox, cluster, supply, chosen)
                try:
                    for member in cluster.members:
                        lab._make_node(member)
                        lab.power_on(member.name, daemons=False)
                    cluster.until({number: list(cluster.seats) for number in cluster.seats})
                    if daemons:
                        lab.start_daemons(*lab.nodes)
                    yield lab
                finally:
                    lab.close()
        finally:
            if KEEP not in os.environ:
                shutil.rmtree(sandbox.root, ignore_errors=True)

    def _make_node(self, member: Member) -> None:
        write_config(self.sandbox, member.name, self._settings)
        self.nodes[member.name] = Node(self, self.sandbox.node(member.name))

    def start_daemons(self, *names: str) -> None:
        """Start both daemons on these nodes, and wait until they are ready."""
        for name in names:
            for daemon in DAEMONS:
                self[name].start(daemon)
        for name in names:
            self[name].ready()

    def power_on(self, name: str, address: str | None = None, *, daemons: bool = True) -> None:
        """Switch a node on, with both daemons; they need not be ready when this returns.

        All under the lock of its power: whoever fences it meanwhile does so before or after.
        """
        config = str(self[name].home.config)
        commands = [(d, (*self.prefix(name), sys.executable, "-m", d, "--config", config)) for d in DAEMONS]
        power.start(self.sandbox, name, commands if daemons else [], address)
        for daemon in DAEMONS:
            if (process := read_record(self[name].home.processes / f"{daemon}.json")) is not None:
                self.keep(process)

    def start_daemon(self, name: str, daemon: Daemon) -> bool:
        """Start a daemon that has ended, unless its node is off; whether it was started."""
        with self._power_stays(name) as on:
            if on and not self[name].lives(daemon):
                self[name].start(daemon)
                return True
        return False

    def prefix(self, name: str) -> tuple[str, ...]:
        """What a command line begins with to run on a node."""
        return self.cluster.prefix(self.number(name))

    def number(self, name: str) -> int:
        """A node's number."""
        return self.supply.number(name)

    def add_node(self, number: int) -> str:
        """One more node, in everybody's configuration, and on; its name. Its daemons are started by `start_daemons`."""
        with self.supply.lock:
            member = Member.of(number)
            self.cluster.add(member)
            self.cluster.configure()
            self._reload()
            self.supply.note("configured", nodes=self.supply.nodes())
        self._make_node(member)
        self.power_on(member.name, daemons=False)
        return member.name

    def remove_node(self, name: str) -> None:
        """Take a node that is off out of everybody's configuration."""
        with self.supply.lock:
            self.cluster.forget(self.number(name))
            self.cluster.configure()
            self._reload()
            self.supply.note("configured", nodes=self.supply.nodes())
        del self.nodes[name]

    def _reload(self) -> None:
        on = next(number for number, seat in self.cluster.seats.items() if seat.lives())
        done = self.cluster.reload(on)
        assert done.returncode == 0, done.stderr

    # The engine of one node.

    def kill_engine(self, name: str) -> None:
        """A crash of corosync alone."""
        with self.supply.lock:
            self._engine(name, "down", "kill")
            self.cluster.kill(self.number(name))

    def stop_engine(self, name: str) -> int:
        """SIGTERM for corosync, and wait for its end; its exit code."""
        with self.supply.lock:
            self._engine(name, "stopping", "stop")
            return self.cluster.stop(self.number(name))

    def start_engine(self, name: str) -> None:
        """Start corosync alone, in the same life of the node. Of a node that was switched off meanwhile, nothing."""
        with self._power_stays(name) as on, self.supply.lock:
            if on:
                self.cluster.start(self.number(name))
                self._engine(name, "up", "start")

    def restart_engine(self, name: str) -> None:
        """A crash of corosync, and a new start, faster than its death is noticed."""
        with self._power_stays(name) as on, self.supply.lock:
            if on:
                self._engine(name, "up", "restart")
                self.cluster.restart(self.number(name))

    @contextmanager
    def _power_stays(self, name: str) -> Iterator[bool]:
        """Whether a node is on, which does not change within. Before the supply's lock, as who switches does it."""
        with power_lock(self[name].home, fcntl.LOCK_SH):
            yield self.is_on(name)

    def hang_engine(self, name: str) -> None:
        """SIGSTOP for corosync alone."""
        with self.supply.lock:
            self._engine(name, "hung", "hang")
            self.cluster.pause(self.number(name))

    def resume_engine(self, name: str) -> None:
        """Let it go on."""
        with self.supply.lock:
            self.cluster.resume(self.number(name))
            self._engine(name, "up", "resume")

    def engine_hangs(self, name: str) -> bool:
        """Whether corosync stands still."""
        corosync = self.cluster.seats[self.number(name)].corosync
        return corosync is not None and corosync.poll() is None and is_stopped(corosync.pid)

    def _engine(self, name: str, state: str, cause: str) -> None:
        self.supply.note("engine", node=self.number(name), state=state, cause=cause)

    # The network.

    def cut(self, *sides: Iterable[str]) -> None:
        """Part the network; nodes that are not named are one more side."""
        numbers = [[self.number(name) for name in side] for side in sides]
        with self.supply.lock:
            self.supply.note("cut", groups=numbers)
            self.cluster.cut(*numbers)

    def heal(self) -> None:
        """Join it again."""
        with self.supply.lock:
            self.cluster.heal()
            self.supply.note("heal")

    def rings(self, *sides: Iterable[str]) -> None:
        """Wait until the corosyncs of each side see exactly each other."""
        numbers = [[self.number(name) for name in side] for side in sides]
        self.cluster.until({number: side for side in numbers for number in side})

    # The daemons.

    def kill(self, name: str, daemon: Daemon) -> bool:
        """SIGKILL for a daemon, of which the history tells that it came from outside; whether it was still there."""
        process = self.running(name, daemon)
        if process is None or not process.kill():
            return False
        until(f"{process} is gone", lambda: not process.alive())
        fields = {"node": self.number(name), "listener": daemon, "pid": process.pid, "cause": "died"}
        self.supply.note("detach", stream="membership", **fields)
        return True

    def running(self, name: str, daemon: Daemon) -> Process | None:
        """A daemon's process, if it runs. It may be switched off with its node at any moment."""
        process = read_record(self[name].home.processes / f"{daemon}.json")
        return process if process is not None and process.alive() else None

    # Everything as it was.

    def restore(self) -> None:
        """Join the network, bring up all that is down or stands still, unmount everything, and come to rest.

        A node that was put out or fenced meanwhile is switched on again, as often as it takes.

        Raises:
            NotWithinError: it does not come to rest; the text says what moved last.
        """
        self._bring("everything is up, unmounted and at rest", self._mended, self._moving, self._unmounted, self._left)

    def mend(self) -> None:
        """Bring up all that is down or stands still, as often as it takes, and come to rest.

        Raises:
            NotWithinError: it does not.
        """
        self._bring("everything is up, and rests", self._mended, self._moving)

    def _bring(self, what: str, *steps: Callable[[], Iterable[str]]) -> None:
        """Do what each step does, in this order, until none has anything to do any more."""
        self.heal()
        said: list[str] = []

        def done() -> bool:
            said[:] = next(filter(None, map(list, (step() for step in steps))), [])
            return not said

        try:
            until(what, done, PATIENCE)
        except NotWithinError as late:
            raise NotWithinError(f"{late}; last: {'; '.join(said)}") from late

    def _unmounted(self) -> Iterator[str]:
        """Unmount all that is mounted; what that was."""
        for name, node in self.nodes.items():
            for mount in node.mounts.mounts():
                before, tool = lives(self), node.tool("umount", mount.mount_point)
                assert tool.wait() == 0 or lives(self) != before, f"umount on {name}: {tool.said()}"
                yield f"{mount.mount_point} was mounted on {name}"

    def _left(self) -> Iterator[str]:
        """What was unmounted, and is not forgotten yet."""
        for name, node in self.nodes.items():
            report = node.ocfs2()
            if report is None or report.groups:
                yield f"{name} knows a group"

    def _mended(self) -> Iterator[str]:
        """Bring up what is not; what that was."""
        for name in self.nodes:
            number = self.number(name)
            if not self.is_on(name):
                # A fence that is under way may be faster, or not have ended yet.
                with suppress(SandboxError, HubError):
                    self.power_on(name)
                yield f"{name} was off"
                continue
            if not self.cluster.seats[number].lives():
                self.start_engine(name)
                yield f"corosync on {name} was down"
            elif self.engine_hangs(name):
                self.resume_engine(name)
                yield f"corosync on {name} stood still"
            for daemon in DAEMONS:
                if self.start_daemon(name, daemon):
                    yield f"{daemon} on {name} was down"
                elif self._thaw(name, daemon):
                    yield f"{daemon} on {name} stood still"

    def _thaw(self, name: str, daemon: Daemon) -> bool:
        """Let a daemon go on that was stopped, but not by a power switch; whether there was one."""
        with self._power_stays(name) as on:
            process = self.running(name, daemon)
            return on and process is not None and is_stopped(process.pid) and process.kill(signal.SIGCONT)

    # What the sandbox's lab asks its hub.

    def _moving(self) -> list[str]:
        return super()._moving() or list(fences(self._processes()))

    def breaches(self, *, at_rest: bool = False) -> str:
        """What the judges say. Records that a ring change without a test's doing has found half read are read again."""
        while True:
            before, broken = lives(self), super().breaches(at_rest=at_rest)
            if not broken or not at_rest or lives(self) == before:
                return broken
            self.rest()

    def _undelivered(self) -> list[str]:
        return list(untold(self))

    def _processes(self) -> list[Process]:
        machines = [seat.machine for seat in self.cluster.seats.values()]
        holders = {machine.holder.pid for machine in machines}
        return [it for it in inhabitants([machine.namespace for machine in machines]) if it.pid not in holders]

    def close(self) -> None:
        """Switch everything off, and see that nothing is left behind.

        Raises:
            AssertionError: some process of the lab escaped its power-off; it has been killed now.
        """
        # All cut off first: the last nodes do not begin to fence the first.
        with self.supply.lock:
            self.cluster.machines.move(dict.fromkeys(self.cluster.seats))
        for name in self.nodes:
            self.power_off(name)
        # A node that was just resetting itself is switched off by a command of its own, which ends when it is done.
        with suppress(NotWithinError):
            until("commands that switch nodes off have ended", lambda: not self._processes(), _SWITCHES)
        super().close()
