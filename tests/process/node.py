"""One node of a lab (lab.py), its daemons, reports, logs, kernel and commands; and how tests wait."""

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar

import psutil

from libo2cb.connection import Connection
from libo2cb.kernel import journal
from libo2cb.kernel.sandbox import SandboxFs, clear_fault, clear_stop, set_fault, set_stop
from libo2cb.kernel.tree import TreeKernel
from libo2cb.processes import Process
from libo2cb.report_client import Unanswered, ask_report
from libo2cb.sandbox import power
from libo2cb.sandbox.homes import NodeHome, read_record
from libo2cb.sandbox.mounts import SandboxMounts
from libo2cb.service.report import Group, O2cbReport, Ocfs2Report, TreeNode, parse
from protocol import client, ordering

if TYPE_CHECKING:  # lab.py makes nodes, and a node knows its lab
    from tests.process.lab import Lab

O2CB: Final = "o2cb_controld"
OCFS2: Final = "ocfs2_controld"
Daemon = Literal["o2cb_controld", "ocfs2_controld"]
DAEMONS: Final[tuple[Daemon, ...]] = ("o2cb_controld", "ocfs2_controld")
CLUSTER: Final = "demo"
"""The cluster that the sandbox's image names, and so every lab's."""
DEADLINE: Final = float(os.environ.get("OCFS2_LAB_DEADLINE", "60"))
"""Seconds after which something is taken for never."""
STEP: Final = 0.01
TRUSTED: Final = frozenset({0, os.geteuid()})

T = TypeVar("T")
Line = dict[str, Any]


class NotWithinError(AssertionError):
    """Something that was waited for did not come."""


def until(what: str, found: Callable[[], T | None], deadline: float = DEADLINE) -> T:
    """Look until something is found (not None, not False), and return it. The pause between looks decides nothing.

    Raises:
        NotWithinError: it is not within the deadline.
    """
    end = time.monotonic() + deadline
    while True:
        it = found()
        if it is not None and it is not False:
            return it
        if time.monotonic() > end:
            raise NotWithinError(f"not within {deadline:.0f} s: {what}")
        time.sleep(STEP)


@dataclass(frozen=True, slots=True)
class Volume:
    """An image file with an OCFS2 superblock."""

    path: Path
    uuid: str
    label: str


@dataclass(slots=True)
class Tool:
    """A command that runs on a node."""

    process: subprocess.Popen[str]
    output: Path

    def wait(self) -> int:
        """Its exit code, once it has ended."""
        return self.process.wait(DEADLINE)

    def ended(self) -> bool:
        """Whether it has ended."""
        return self.process.poll() is not None

    def said(self) -> str:
        """What it has written so far."""
        return self.output.read_text()

    def worked(self) -> None:
        """Wait for its end, which must be a good one."""
        assert self.wait() == 0, self.said()

    def stopped(self) -> None:
        """Wait until a SIGSTOP has it."""
        until(f"{self.process.args!r} is stopped", lambda: is_stopped(self.process.pid))


def is_stopped(pid: int) -> bool:
    """Whether a process is stopped by a signal."""
    with suppress(psutil.Error):
        return bool(psutil.Process(pid).status() == psutil.STATUS_STOPPED)
    return False


@dataclass(slots=True)
class Node:
    """One node of the lab."""

    lab: "Lab"
    home: NodeHome
    _marks: dict[str, int] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Its name."""
        return self.home.name

    # Processes.

    def start(self, daemon: Daemon) -> Process:
        """Start one daemon; it need not be ready when this returns."""
        command = (*self.lab.prefix(self.name), sys.executable, "-m", daemon, "--config", str(self.home.config))
        record = self.home.processes / f"{daemon}.json"
        process = power.spawn(command, self.log(daemon), record, config=self.home.config)
        self.lab.keep(process)
        return process

    def start_again(self, daemon: Daemon) -> "Tool":
        """Start a second one beside the first, as a command of its own."""
        return self.lab.run(self, [sys.executable, "-m", daemon, "--config", str(self.home.config)], {})

    def process(self, daemon: Daemon) -> Process:
        """The daemon's process, which may have ended."""
        process = read_record(self.home.processes / f"{daemon}.json")
        assert process is not None, f"{daemon} was never started on {self.name}"
        return process

    def lives(self, daemon: Daemon) -> bool:
        """Whether a daemon runs."""
        process = read_record(self.home.processes / f"{daemon}.json")
        return process is not None and process.alive()

    def signal(self, daemon: Daemon, number: signal.Signals) -> None:
        """Send a signal to a daemon that lives."""
        assert self.process(daemon).kill(number), f"{daemon} on {self.name} lives no more"

    def kill(self, daemon: Daemon) -> None:
        """SIGKILL, and wait for the end."""
        process = self.process(daemon)
        assert process.kill(), f"{daemon} on {self.name} lives no more"
        until(f"{process} is gone", lambda: not process.alive())

    def freeze(self, daemon: Daemon) -> None:
        """SIGSTOP, and wait until it stands."""
        self.signal(daemon, signal.SIGSTOP)
        self.frozen(daemon)

    def frozen(self, daemon: Daemon) -> None:
        """Wait until it stands still."""
        until(f"{daemon} on {self.name} stands still", lambda: is_stopped(self.process(daemon).pid))

    def thaw(self, daemon: Daemon) -> None:
        """SIGCONT."""
        self.signal(daemon, signal.SIGCONT)

    def exit_code(self, daemon: Daemon) -> int:
        """Wait until a daemon has ended by itself; its exit code, below zero for a signal."""
        return exit_code(self.process(daemon))

    # Reports.

    def o2cb(self) -> O2cbReport | None:
        """o2cb_controld's report; None while it gives none."""
        with suppress(Unanswered):
            return ask_report(O2cbReport, str(self.home.ordering), TRUSTED)
        return None

    def ocfs2(self) -> Ocfs2Report | None:
        """ocfs2_controld's report; None while it gives none."""
        with suppress(Unanswered):
            return ask_report(Ocfs2Report, str(self.home.clients), TRUSTED)
        return None

    def until_o2cb(self, what: str, holds: Callable[[O2cbReport], bool]) -> O2cbReport:
        """Wait until o2cb_controld's report is so."""
        last: list[O2cbReport | None] = [None]

        def found() -> O2cbReport | None:
            last[0] = self.o2cb()
            return last[0] if last[0] is not None and holds(last[0]) else None

        return self._until(what, found, last)

    def until_ocfs2(self, what: str, holds: Callable[[Ocfs2Report], bool]) -> Ocfs2Report:
        """Wait until ocfs2_controld's report is so."""
        last: list[Ocfs2Report | None] = [None]

        def found() -> Ocfs2Report | None:
            last[0] = self.ocfs2()
            return last[0] if last[0] is not None and holds(last[0]) else None

        return self._until(what, found, last)

    def _until(self, what: str, found: Callable[[], T | None], last: list[Any]) -> T:
        try:
            return until(f"{what} on {self.name}", found)
        except NotWithinError as late:
            shown = last[0].model_dump_json(indent=1) if last[0] is not None else "no report"
            raise NotWithinError(f"{late}; its last report: {shown}") from late

    def ready(self) -> None:
        """Wait until both daemons are ready."""
        self.until_o2cb("o2cb_controld is ready", lambda r: r.ready)
        self.until_ocfs2("ocfs2_controld is ready", lambda r: r.ready and r.o2cb)

    def group(self, volume: Volume, state: str = "running", **wanted: object) -> Group:
        """Wait until a group is in this state, with these attributes; members: names, in order."""
        return until_group(self, volume, state, wanted)

    def tree(self, name: str) -> TreeNode | None:
        """A node of the tree, as o2cb_controld reports it."""
        found = self.o2cb()
        return next((n for n in found.nodes if n.name == name), None) if found else None

    def queued(self, name: str) -> TreeNode:
        """Wait until a change of a node is queued here."""
        self.until_o2cb(f"a change of {name} is queued", lambda r: any(n.name == name and n.queue for n in r.nodes))
        node = self.tree(name)
        assert node is not None
        return node

    def look_again(self, number: int) -> O2cbReport:
        """Have o2cb_controld look at a node's change now, as UNLOCKED does; its report right after that look.

        Both go over one connection, so that the report cannot come before the look.
        """
        reader = client.ListReader()
        with closing(Connection(str(self.home.ordering), TRUSTED)) as connection:
            connection.send(ordering.encode(ordering.Unlocked(number)))
            connection.send(client.encode(client.Report()))
            while (items := reader.feed(connection.wait("REPORT", DEADLINE))) is None:
                pass
        return parse("".join(items), O2cbReport)

    # Logs.

    def log(self, daemon: Daemon) -> Path:
        """The file that a daemon's log lines are in."""
        return self.home.log / f"{daemon}.jsonl"

    def mark(self) -> None:
        """From here on `lines` and `event` look at what is logged later only."""
        for daemon in DAEMONS:
            with suppress(FileNotFoundError):
                self._marks[daemon] = self.log(daemon).stat().st_size

    def lines(self, daemon: Daemon, event: str | None = None, /, **fields: object) -> list[Line]:
        """The log lines since `mark`, of this event, with these fields."""
        try:
            with self.log(daemon).open("rb") as file:
                file.seek(self._marks.get(daemon, 0))
                text = file.read()
        except FileNotFoundError:
            return []
        raw = text[: text.rfind(b"\n") + 1].splitlines()
        lines = [json.loads(line) for line in raw if line.startswith(b"{")]
        return [
            line
            for line in lines
            if (event is None or line["event"] == event) and all(line.get(k) == v for k, v in fields.items())
        ]

    def event(self, daemon: Daemon, event: str, /, **fields: object) -> Line:
        """Wait until an event is logged; the first such line since `mark`."""
        what = " ".join([event, *(f"{k}={v}" for k, v in fields.items())])

        def found() -> Line | None:
            return next(iter(self.lines(daemon, event, **fields)), None)

        return until(f"{daemon} on {self.name} logs {what}", found)

    # Kernel and mounts.

    @property
    def kernel(self) -> TreeKernel:
        """The kernel's tree."""
        return TreeKernel(SandboxFs(self.home.root))

    @property
    def mounts(self) -> SandboxMounts:
        """The mount table."""
        return SandboxMounts(self.home.mounts)

    def links(self, volume: Volume) -> list[str]:
        """Names of the nodes that are linked into a filesystem's region; none without a region."""
        with suppress(FileNotFoundError):
            return sorted(e.name for e in self._region(volume).iterdir() if e.is_symlink())
        return []

    def addresses(self) -> dict[str, str]:
        """Name and address of each node that stands in the tree."""
        tree = self.home.root / "kernel" / "tree"
        nodes = (p for c in tree.glob("*/node") for p in c.iterdir())
        return {p.name: (p / "ipv4_address").read_text().strip() for p in nodes}

    def is_empty(self) -> bool:
        """Whether nothing stands in the tree."""
        return not any((self.home.root / "kernel" / "tree").iterdir())

    def _region(self, volume: Volume) -> Path:
        return self.home.root / "kernel" / "tree" / CLUSTER / "heartbeat" / volume.uuid

    def calls(self, *names: str) -> list[str]:
        """What was done in the kernel's tree, in order: "rmdir demo/node/n3"; these calls, or all."""
        done = journal.effects(journal.read(self.home.log / "kernel.jsonl"))
        return [f"{e['call']} {e['path']}".rstrip() for e in done if not names or e["call"] in names]

    def refuse(self, call: str, path: str, code: int) -> None:
        """Let the kernel refuse a call from now on; the path is below the cluster "demo"."""
        set_fault(self.home.root, call, f"{CLUSTER}/{path}", code)

    def allow(self, call: str, path: str) -> None:
        """Take `refuse` back."""
        clear_fault(self.home.root, call, f"{CLUSTER}/{path}")

    @contextmanager
    def stop_at(self, call: str, path: str) -> Iterator[None]:
        """Within, whoever has made this call stops right after it, before it learns that it has worked."""
        set_stop(self.home.root, call, f"{CLUSTER}/{path}")
        try:
            yield
        finally:
            clear_stop(self.home.root, call, f"{CLUSTER}/{path}")

    # Commands.

    def tool(self, tool: str, *arguments: str, environ: Mapping[str, str] | None = None) -> Tool:
        """Begin one of our tools (mount, umount, hb_ctl) on this node."""
        command = [sys.executable, "-m", f"libo2cb.tools.{tool}", *arguments]
        return self.lab.run(self, command, environ or {})

    def begin_mount(self, volume: Volume, point: str, environ: Mapping[str, str] | None = None) -> Tool:
        """Begin a mount."""
        return self.tool("mount", str(volume.path), point, environ=environ)

    def mount(self, volume: Volume, point: str) -> None:
        """Mount, and wait for it."""
        self.begin_mount(volume, point).worked()

    def umount(self, point: str) -> None:
        """Unmount, and wait for it."""
        self.tool("umount", point).worked()

    def fenced(self, name: str) -> None:
        """An operator's word that a lost node is off."""
        self.tool("hb_ctl", "--fenced", name, "--yes-i-am-sure").worked()

    def status(self) -> int:
        """The exit code of ocfs2_hb_ctl -I."""
        return self.tool("hb_ctl", "-I").wait()


def exit_code(process: Process) -> int:
    """Wait until a child of this process ends by itself; its exit code."""
    try:
        descriptor = os.pidfd_open(process.pid)
    except ProcessLookupError as error:
        raise AssertionError(f"{process} has been waited for already") from error
    try:
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        assert poll.poll(DEADLINE * 1000), f"{process} does not end"
    finally:
        os.close(descriptor)
    return os.waitstatus_to_exitcode(os.waitpid(process.pid, 0)[1])


def until_group(node: Node, volume: Volume, state: str, wanted: Mapping[str, object]) -> Group:
    """Wait until a node reports a group in a state, with these attributes; members, lost, queue: names in order."""

    def of(group: Group) -> bool:
        return (
            group.fs == volume.uuid and group.state == state and all(_plain(group, k) == v for k, v in wanted.items())
        )

    report = node.until_ocfs2(f"{volume.label} is {state} {dict(wanted)}", lambda r: any(map(of, r.groups)))
    return next(g for g in report.groups if of(g))


def _plain(group: Group, key: str) -> object:
    value = getattr(group, key)
    if key in ("members", "lost", "queue"):
        return [it.name for it in value]
    return list(value) if isinstance(value, tuple) else value
