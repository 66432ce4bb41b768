"""A sandbox cluster of real daemons for tests and scenes: homes, hub, processes, and the judges of the laws.

    with Lab.up(3) as lab:                       a home in a short directory, hub, nodes n1 n2 n3, both daemons each
        volume = lab.volume("vm")                an image with a UUID of its own
        lab["n1"].mount(volume, "/vm")           mount.ocfs2, as a process
        lab.hold("n1", "ocfs2_controld.membership")
        ...
        lab.rest()                               until nothing moves, by REPORT
        assert not lab.breaches()

Nothing sleeps to force a race: an order is forced by the hub (`order`, `hold`), by stopping a process, or by a stop
that is set at a kernel call (`Node.stop_at`). Whatever is waited for is asked for, with a deadline that decides
nothing but how long a broken test takes.

Every process is a child of this one, or becomes it (subreaper), and leads a session of its own. `close` switches the
nodes off, ends the hub, and looks for processes that still name the home. Should this process itself be killed, a
keeper sees its end and does the same.
"""

import ctypes
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import psutil

from libo2cb.engine.wire import Json
from libo2cb.processes import Process
from libo2cb.sandbox import power
from libo2cb.sandbox.ask import HubAway, ask
from libo2cb.sandbox.homes import Sandbox, Settings, read_record, write_config
from libo2cb.sandbox.plan import Plan
from tests.keeper import kept
from tests.laws import judge, report
from tests.laws.loading import load
from tests.process.node import (
    CLUSTER,
    DAEMONS,
    O2CB,
    OCFS2,
    TRUSTED,
    Daemon,
    Node,
    NotWithinError,
    Tool,
    Volume,
    exit_code,
    until,
)

if TYPE_CHECKING:
    from libo2cb.service.report import Group

__all__ = [
    "CLUSTER",
    "DAEMONS",
    "KEEP",
    "O2CB",
    "OCFS2",
    "TRUSTED",
    "Daemon",
    "Lab",
    "Node",
    "NotWithinError",
    "Tool",
    "Volume",
    "exit_code",
    "until",
]

KEEP: Final = "OCFS2_LAB_KEEP"
"""Environment: let homes lie after the test, to be looked at."""

_VOLUME: Final = Path(power.__file__).with_name("volume.img")
_SUPERBLOCK: Final = 2 * 4096
_LABEL: Final = slice(_SUPERBLOCK + 0x110, _SUPERBLOCK + 0x150)
_UUID: Final = slice(_SUPERBLOCK + 0x150, _SUPERBLOCK + 0x160)
_SOURCE: Final = Path(__file__).resolve().parents[2]
_PR_SET_CHILD_SUBREAPER: Final = 36


class Lab:
    """A sandbox cluster. Made by `up`.

    Attributes:
        sandbox: its home.
        nodes: by name.
    """

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox
        self.nodes: dict[str, Node] = {}
        self._tools: list[Tool] = []
        self._started: list[Process] = []
        self._kept = ExitStack()

    @classmethod
    @contextmanager
    def up(cls, count: int, settings: Settings | None = None, *, daemons: bool = True, seed: int = 0) -> Iterator[Self]:
        """A lab whose nodes are ready; closed at the end, its home removed.

        Args:
            count: nodes.
            settings: of each node.
            daemons: start both on each node; without it, the nodes are on and nobody runs there.
            seed: of the skew between the engine's streams.
        """
        become_subreaper()
        lab = cls(Sandbox(Path(tempfile.mkdtemp(prefix="lab"))))
        try:
            lab._build(count, settings or Settings(), seed)
            if daemons:
                for node in lab.nodes.values():
                    for daemon in DAEMONS:
                        node.start(daemon)
                for node in lab.nodes.values():
                    node.ready()
            yield lab
        finally:
            lab.close()

    def _build(self, count: int, settings: Settings, seed: int) -> None:
        # Of two nodes each is a quorum once it has seen both, so that one may die.
        plan = Plan(Plan.of(count).nodes, cluster=CLUSTER, two_node=count == 2, seed=seed)
        self.nodes = {n.name: Node(self, self.sandbox.node(n.name)) for n in plan.nodes}
        for name in self.nodes:
            write_config(self.sandbox, name, settings)
        plan.write(self.sandbox.plan)
        self._kept.enter_context(kept(self.sandbox.root))
        command = (sys.executable, "-m", "libo2cb.sandbox.hub", "--home", str(self.sandbox.root))
        hub = power.spawn(command, self.sandbox.root / "hub.log", self.sandbox.hub_record)
        self.keep(hub)
        until("the hub answers", self._hub_answers)
        assert hub.alive()
        for name in self.nodes:
            power.start(self.sandbox, name, [])

    def _hub_answers(self) -> bool:
        with suppress(HubAway):
            return bool(ask(self.sandbox.hub, "status"))
        return False

    def __getitem__(self, name: str) -> Node:
        return self.nodes[name]

    # Things in it.

    def keep(self, process: Process) -> None:
        """Remember a child of this process, to be reaped at the end."""
        self._started.append(process)

    def volume(self, label: str) -> Volume:
        """A new image, of the lab's cluster, with a UUID of its own."""
        path, number = self.sandbox.root / f"{label}.img", uuid.uuid4()
        image = bytearray(_VOLUME.read_bytes())
        image[_LABEL] = label.encode().ljust(_LABEL.stop - _LABEL.start, b"\0")
        image[_UUID] = number.bytes
        path.write_bytes(image)
        return Volume(path, number.hex.upper(), label)

    def prefix(self, _name: str) -> tuple[str, ...]:
        """What a command line begins with to run on a node: nothing, where all nodes are this machine."""
        return ()

    def run(self, node: Node, command: list[str], environ: Mapping[str, str]) -> Tool:
        """Begin a command on a node, in a session of its own; it is ended with the lab."""
        return self._begin(
            [*self.prefix(node.name), *command], {"OCFS2_CONTROLD_CONFIG": str(node.home.config), **environ}
        )

    def command(self, *arguments: str) -> Tool:
        """Begin `o2cb_sandbox` with these arguments."""
        home = ("--home", str(self.sandbox.root))
        return self._begin([sys.executable, "-m", "libo2cb.sandbox.cli", *home, *arguments], {})

    def _begin(self, command: list[str], environ: Mapping[str, str]) -> Tool:
        output = self.sandbox.root / f"tool{len(self._tools)}.out"
        variables = {**os.environ, "PYTHONPATH": str(_SOURCE), **environ}
        with output.open("w") as out:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env=variables,
                text=True,
                start_new_session=True,
            )
        tool = Tool(process, output)
        self._tools.append(tool)
        return tool

    # The hub and the power.

    def hub(self, op: str, **fields: Any) -> Json:
        """Say one of the hub's control words."""
        return ask(self.sandbox.hub, op, **fields)

    def order(self, node: str, *listeners: str) -> None:
        """On a node, the first listener hears everything before the others; none: no order."""
        self.hub("order", node=node, listeners=listeners)

    def hold(self, node: str, what: str) -> None:
        """Keep LISTENER, LISTENER.membership or LISTENER.channel from hearing."""
        self.hub("hold", node=node, what=what)

    def release(self, node: str, what: str) -> None:
        """Let it hear again."""
        self.hub("release", node=node, what=what)

    def power_off(self, name: str) -> None:
        """Cut a node's power."""
        power.power_off(self.sandbox, name)

    def power_on(self, name: str, address: str | None = None, *, daemons: bool = True) -> None:
        """Switch a node on, with both daemons; they need not be ready when this returns."""
        power.start(self.sandbox, name, [], address)
        for daemon in DAEMONS if daemons else ():
            self[name].start(daemon)

    def is_on(self, name: str) -> bool:
        """Whether a node is on."""
        return self[name].home.mark.exists()

    # Rest, and the laws.

    def rest(self) -> None:
        """Wait until nothing moves: all daemons of all nodes that are on are ready, all groups run, no queue is left.

        Raises:
            NotWithinError: it does not come to rest; the text says what moved last.
        """
        moving: list[str] = []

        def is_at_rest() -> bool:
            moving[:] = self._moving()
            return not moving

        try:
            until("rest", is_at_rest)
        except NotWithinError as late:
            raise NotWithinError(f"{late}; what moves: {'; '.join(moving)}") from late

    def _undelivered(self) -> list[str]:
        """What the engine has not told its listeners yet, where it can be asked that."""
        return [
            f"{node['name']} has {node['pending']} events undelivered"
            for node in self.hub("status")["nodes"]
            if node["pending"] and node["listeners"]
        ]

    def _moving(self) -> list[str]:
        found = self._undelivered()
        on = [node for node in self.nodes.values() if self.is_on(node.name)]
        members: dict[str, set[int]] = {}
        groups: list[tuple[Node, Group]] = []
        for node in on:
            o2cb, ocfs2 = node.o2cb(), node.ocfs2()
            if o2cb is None or ocfs2 is None:
                found.append(f"{node.name}: a daemon is silent")
                continue
            found += [f"{node.name}: {r.daemon} is not ready, {r.reason}" for r in (o2cb, ocfs2) if not r.ready]
            found += [f"{node.name}: {n.name} is {n.tree}, {n.queue}" for n in o2cb.nodes if n.queue or n.tree != "ok"]
            found += [f"{node.name}: LOCK of {r.node.name}, {r.why}" for r in o2cb.requests]
            if not ocfs2.o2cb:
                found.append(f"{node.name}: the daemons are not connected")
            if ocfs2.local is not None:
                for group in ocfs2.groups:
                    groups.append((node, group))
                    if group.here:
                        members.setdefault(group.fs, set()).add(ocfs2.local)
        for node, group in groups:
            if group.state != "running" or group.queue or (group.change and not group.change.finished):
                found.append(f"{node.name}: {group.label or group.fs} is {group.state}, waits for {group.waits_for}")
            elif group.here and set(group.links) != members[group.fs]:
                found.append(f"{node.name}: {group.label or group.fs} links {group.links}, not {members[group.fs]}")
        return found

    def breaches(self, *, at_rest: bool = False) -> str:
        """What the judges of the laws say of all that was recorded: "" when no law was broken and all could be read."""
        history = load(self.sandbox.root, at_rest=at_rest)
        verdicts = judge(history)
        kept = all(verdict.kept for verdict in verdicts)
        # A node on which a daemon never ran has no log of it; everything else that cannot be read is a fault.
        unread = [p for p in history.problems if not re.fullmatch(r".*\.jsonl of .* is missing", p)]
        return "" if kept and not unread else report(history, verdicts)

    def judged(self) -> str:
        """What the judges say at the end of a test: also of what is due sometime, if the lab comes to rest by itself.

        A lab with a daemon that has ended, on a node that is on, is not expected to rest.
        """
        on = [node for node in self.nodes.values() if self.is_on(node.name)]
        resting = all(node.lives(daemon) for node in on for daemon in DAEMONS)
        if resting:
            self.rest()
        return self.breaches(at_rest=resting)

    # The end.

    def close(self) -> None:
        """Switch everything off, and see that nothing is left behind.

        Raises:
            AssertionError: some process of the lab escaped its power-off; it has been killed now.
        """
        ours = [*self._started, *self._processes()]
        for tool in self._tools:
            with suppress(ProcessLookupError):
                os.killpg(tool.process.pid, signal.SIGKILL)
            tool.process.wait()
        # The hub first: without an engine, the last nodes do not begin to fence the first.
        if (hub := read_record(self.sandbox.hub_record)) is not None:
            power.end([hub])
        for name in self.nodes:
            if self[name].home.config.exists():
                power.power_off(self.sandbox, name)
        self._kept.close()
        left = self._processes()
        power.end(left)
        _reap([*ours, *left])
        if KEEP not in os.environ:
            shutil.rmtree(self.sandbox.root, ignore_errors=True)
        assert not left, f"left behind: {', '.join(map(str, left))}"

    def _processes(self) -> list[Process]:
        """The living descendants of this process that name the home in their command line or environment.

        Only descendants: whoever looks into the home with a tool of his own is none of ours to end. And all of them:
        an orphan is given to this process, which is a subreaper.
        """
        home, found = os.fsencode(self.sandbox.root), []
        for child in psutil.Process().children(recursive=True):
            with suppress(OSError):
                named = (Path(f"/proc/{child.pid}/{what}").read_bytes() for what in ("cmdline", "environ"))
                if any(home in text for text in named) and (process := Process.of(child.pid)):
                    found.append(process)
        return found


def become_subreaper() -> None:
    """Have orphans of our children given to us."""
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "cannot become a subreaper")


def _reap(processes: Iterable[Process]) -> None:
    """Take away children that have ended; no other child of this process, whose exit code somebody may want."""
    for process in processes:
        with suppress(ChildProcessError):
            os.waitpid(process.pid, os.WNOHANG)
