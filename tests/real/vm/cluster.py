"""In a guest: a cluster of the process tests' kind, whose first node stands on the guest's own kernel.

n1 has the driver links, real configfs and a real mount table. Its volumes are mounted by the kernel as local ones,
since a cluster's would need a DLM, and labelled for the cluster while they are being mounted. n2, n3, ... are nodes of
the sandbox, and the hub is the engine of all. One kernel holds one cluster, and so one node.

Both daemons of n1 run under strace from their first call on: what is said of the kernel is said by that alone. strace
is also what stops a daemon right after a call, or has a call fail. All processes are forked from one that has imported
everything (nursery.py).
"""

import json
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from errno import errorcode
from importlib import import_module
from pathlib import Path
from typing import Final, Self, cast

import psutil

from libo2cb.config import load
from libo2cb.join import begin_group_join, group_leave
from libo2cb.kernel.configfs import BOOT_ID, RealFs
from libo2cb.kernel.links import PROBE
from libo2cb.kernel.tree import TreeKernel
from libo2cb.processes import Process
from libo2cb.report_client import Unanswered, ask_report
from libo2cb.sandbox import power
from libo2cb.sandbox.ask import ask
from libo2cb.sandbox.homes import NodeHome, Settings, write_record
from libo2cb.sandbox.mount_journal import MOUNT, UMOUNT, MountJournal
from libo2cb.sandbox.plan import Plan
from libo2cb.service.report import Ocfs2Report
from libo2cb.superblock import INCOMPAT_LOCAL_MOUNT, INCOMPAT_USERSPACE_STACK, read_superblock
from libo2cb.tools.mount import kernel_mount
from libo2cb.tools.mount_options import MountOptions
from protocol.client import MOUNT_SERVICE
from tests.laws.history import Fact, Source
from tests.laws.loading import load as load_history
from tests.laws.world import World
from tests.process.lab import CLUSTER, OCFS2, Daemon, Lab, Node, Tool, Volume, until
from tests.process.node import DEADLINE, TRUSTED
from tests.real.vm import trace
from tests.real.vm.nursery import forked
from tests.real.vm.trace import TREE, Audit, Call

REAL: Final = "n1"
CLIENTS: Final = "@ocfs2_controld_sock"
TOLD_LINES: Final = 25
VOLUME_BYTES: Final = 32 << 20
KINDS: Final = {"rmdir": "rmdir", "mkdir": "mkdir", "unlink": "unlink", "symlink": "symlink"}


_SUPERBLOCK: Final = 2 * 4096
_INCOMPAT: Final = _SUPERBLOCK + 0xE0
_CLUSTER_INFO: Final = _SUPERBLOCK + 0x160
_FEATURES: Final = struct.Struct("<I")


class Forked:
    """A forked command, with as much of subprocess.Popen as a lab's Tool uses."""

    def __init__(self, pid: int, args: Sequence[str]) -> None:
        self.pid = pid
        self.args = args
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Its exit code; None while it runs."""
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Its exit code, once it has ended."""
        until(f"{' '.join(self.args)} ends", lambda: self.poll() is not None, timeout or DEADLINE)
        assert self.returncode is not None
        return self.returncode


def _program(command: Sequence[str]) -> Callable[[], object] | None:
    """What `python -m MODULE ARGUMENTS` runs; None for any other command."""
    match list(command):
        case [sys.executable, "-m", str(module), *arguments]:
            name = f"{module}.__main__" if module in ("o2cb_controld", "ocfs2_controld") else module

            def run() -> object:
                sys.argv = [module, *arguments]
                return import_module(name).main()

            return run
    return None


def _spawn(
    command: Sequence[str],
    log: Path,
    record: Path,
    *,
    config: Path | None = None,
    before: Callable[[], None] = lambda: None,
) -> Process:
    """libo2cb.sandbox.power.spawn, by a fork: recorded before it does anything."""
    run = _program(command)
    assert run is not None, command
    environ = {**os.environ, **({"OCFS2_CONTROLD_CONFIG": str(config)} if config else {})}
    log.parent.mkdir(parents=True, exist_ok=True)

    def recorded() -> None:
        process = Process.of(os.getpid())
        assert process is not None
        write_record(record, process, record.stem, session=True)
        os.chdir("/")
        before()

    record.unlink(missing_ok=True)
    pid = forked(run, log, environ, recorded)
    until(f"{' '.join(command)} is recorded", record.exists)
    process = Process.of(pid)
    assert process is not None, log.read_text()
    return process


def _until_traced() -> None:
    status = Path("/proc/self/status")
    while "TracerPid:\t0\n" in status.read_text():
        time.sleep(0.005)


def stands_still(pid: int) -> bool:
    """Whether a process has been stopped, traced or not."""
    still = (psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP)
    # A tracing stop may also be that of one call: it is a stop of ours only if it lasts.
    for _ in range(10):
        if psutil.Process(pid).status() not in still:
            return False
        time.sleep(0.01)
    return True


class RealNode(Node):
    """The node on the guest's kernel."""

    def start(self, daemon: Daemon) -> Process:
        """Start one daemon under strace."""
        command = (sys.executable, "-m", daemon, "--config", str(self.home.config))
        record = self.home.processes / f"{daemon}.json"
        process = _spawn(command, self.log(daemon), record, config=self.home.config, before=_until_traced)
        self.lab.keep(process)
        cast("RealLab", self.lab).attach(daemon, process)
        return process

    def ocfs2(self) -> Ocfs2Report | None:
        """ocfs2_controld's report; None while it gives none."""
        with suppress(Unanswered):
            return ask_report(Ocfs2Report, CLIENTS, TRUSTED)
        return None

    def frozen(self, daemon: Daemon) -> None:
        """Wait until it stands still: a process that is traced stops in another way."""
        pid = self.process(daemon).pid
        until(f"{daemon} on {self.name} stands still", lambda: stands_still(pid))

    @property
    def kernel(self) -> TreeKernel:
        """The guest's own."""
        return TreeKernel(RealFs())

    def calls(self, *names: str) -> list[str]:
        """What was done in the kernel's tree, in order, by strace's word."""
        done = [call for call in cast("RealLab", self.lab).traced() if call.worked]
        return [f"{call.name} {call.path}" for call in done if not names or call.name in names]

    def refuse(self, call: str, path: str, code: int) -> None:
        """Let this call of ocfs2_controld fail from now on, whatever its path; the kernel never sees it."""
        del path
        cast("RealLab", self.lab).attach(OCFS2, self.process(OCFS2), f"inject={KINDS[call]}:error={errorcode[code]}")

    def allow(self, call: str, path: str) -> None:
        """Take `refuse` back."""
        del call, path
        cast("RealLab", self.lab).attach(OCFS2, self.process(OCFS2))

    @contextmanager
    def stop_at(self, call: str, path: str) -> Iterator[None]:
        """Within, ocfs2_controld stops right after its next such call, before it learns that it has worked."""
        del path
        lab = cast("RealLab", self.lab)
        lab.attach(OCFS2, self.process(OCFS2), f"inject={KINDS[call]}:signal=STOP:when=1")
        yield
        if self.lives(OCFS2):
            lab.attach(OCFS2, self.process(OCFS2))

    def begin_mount(self, volume: Volume, point: str, environ: Mapping[str, str] | None = None) -> Tool:
        """Begin a mount: MOUNT, mount(2) of the kernel, MRESULT."""
        del environ
        lab = cast("RealLab", self.lab)
        Path(point).mkdir(parents=True, exist_ok=True)
        return lab.fork(f"mount {point}", lambda: _mount(self.home, volume, lab.device(volume), point))

    def umount(self, point: str) -> None:
        """Unmount, by the kernel; then UNMOUNT."""
        lab = cast("RealLab", self.lab)
        volume = lab.mounted(point)
        lab.fork(f"umount {point}", lambda: _umount(self.home, volume, point)).worked()


def _mount(home: NodeHome, volume: Volume, device: str, point: str) -> int:
    socket = load(home.config).sockets.clients
    join = begin_group_join(
        volume.uuid, CLUSTER, device, MOUNT_SERVICE, socket_name=socket, trusted_uids=TRUSTED, timeout=DEADLINE
    )
    with join, _held_elsewhere(device, point):
        _label(device)
        MountJournal(home.log).append(MOUNT, volume.uuid, point)
        kernel_mount(device, point, MountOptions(0, ("heartbeat=none",)))
        join.complete(0)
    return 0


@contextmanager
def _held_elsewhere(device: str, point: str) -> Iterator[None]:
    """Within, the device is mounted in another namespace: its label is not read again by the next mount(2)."""
    script = 'mount -i -t ocfs2 -o heartbeat=none "$1" "$2" && echo mounted && read -r done'
    command = ("unshare", "--mount", "--propagation", "private", "/bin/sh", "-c", script, "holder", device, point)
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"mounted\n"
        yield
        holder.communicate(b"done\n")


def _label(device: str) -> None:
    """Give a local volume, which the kernel has read already, the label of one of the cluster: ours go by that."""
    with open(device, "r+b") as file:  # noqa: PTH123 (a device)
        file.seek(_INCOMPAT)
        (features,) = _FEATURES.unpack(file.read(_FEATURES.size))
        assert features & INCOMPAT_LOCAL_MOUNT, f"{device} is labelled already"
        file.seek(_INCOMPAT)
        file.write(_FEATURES.pack(features & ~INCOMPAT_LOCAL_MOUNT | INCOMPAT_USERSPACE_STACK))
        file.seek(_CLUSTER_INFO)
        file.write(b"cman".ljust(8, b"\0") + CLUSTER.encode().ljust(16, b"\0"))
        file.flush()
        os.fsync(file.fileno())
    assert read_superblock(device).stack == "cman"


def _umount(home: NodeHome, volume: Volume, point: str) -> int:
    MountJournal(home.log).append(UMOUNT, volume.uuid, point)
    subprocess.run(("umount", "-i", point), check=True)
    group_leave(volume.uuid, socket_name=load(home.config).sockets.clients, trusted_uids=TRUSTED)
    return 0


class RealLab(Lab):
    """A lab whose n1 is on the guest's kernel."""

    _born: int
    _traces: int
    _tracers: dict[Daemon, subprocess.Popen[bytes]]
    _devices: dict[str, str]

    @classmethod
    @contextmanager
    def up(cls, count: int, settings: Settings | None = None, *, daemons: bool = True, seed: int = 0) -> Iterator[Self]:
        """As Lab.up, with each process forked from this one."""
        power.spawn = _spawn  # the hub, and the daemons of the sandbox's nodes
        with super().up(count, settings, daemons=daemons, seed=seed) as lab:
            try:
                yield lab
            except BaseException:
                lab.tell()
                raise

    def tell(self) -> None:
        """Print the ends of what was written: the home is gone when a test's failure is read."""
        for file in sorted(self.sandbox.root.rglob("*")):
            if file.suffix in (".jsonl", ".log", ".said", ".out") and (text := file.read_text(errors="replace")):
                print(f"--- {file.relative_to(self.sandbox.root)}", *text.splitlines()[-TOLD_LINES:], sep="\n")
        print("--- strace", *self.traced(), sep="\n")

    def _build(self, count: int, settings: Settings, seed: int) -> None:
        self._traces, self._tracers, self._devices = 0, {}, {}
        try:
            self._build_real(count, settings, seed)
        except BaseException:
            self.tell()
            raise

    def _build_real(self, count: int, settings: Settings, seed: int) -> None:
        super()._build(count, settings, seed)
        home = self.sandbox.node(REAL)
        self.nodes[REAL] = RealNode(self, home)
        # Debian's clients know no other name.
        text = home.config.read_text().replace(json.dumps(str(home.clients)), json.dumps(CLIENTS))
        text = re.sub(r"(?s)\[kernel\]\n.*?\n\n", '[kernel]\ndriver = "links"\n\n', text)
        home.config.write_text(text)
        # Whoever looks into the home finds the real tree; and this life of the node is that of the guest.
        tree = home.root / "kernel" / "tree"
        tree.rmdir()
        tree.symlink_to(TREE)
        boot = Path(BOOT_ID).read_text().strip()
        (home.root / "kernel" / "boot_id").write_text(boot + "\n")
        home.mark.write_text(boot + "\n")
        ask(self.sandbox.hub, "boot", node=REAL, boot=boot)
        self._born = time.monotonic_ns()
        # A node is local only with an address of this machine.
        address = next(node.address for node in Plan.read(self.sandbox.plan).nodes if node.name == REAL)
        subprocess.run(("ip", "address", "replace", f"{address}/32", "dev", "lo"), check=True)

    def _keep(self) -> None:
        """Nobody: the guest ends with the test."""

    def volume(self, label: str) -> Volume:
        """A volume for the sandbox's nodes, and one with its UUID on a loop device for the guest's kernel."""
        volume = super().volume(label)
        image = self.sandbox.root / f"{label}.real"
        with image.open("wb") as file:
            file.truncate(VOLUME_BYTES)
        # On the device, since mkfs opens with O_DIRECT, which files in memory do not know.
        loop = subprocess.run(("losetup", "-f", "--show", str(image)), check=True, capture_output=True, text=True)
        device = self._devices[volume.uuid] = loop.stdout.strip()
        make = ("mkfs.ocfs2", "-F", "-q", "-M", "local", "-b", "4096", "-C", "4096", "-N", "1", "-U", volume.uuid)
        subprocess.run((*make, "-L", label, device), check=True, stdin=subprocess.DEVNULL, capture_output=True)
        return volume

    def device(self, volume: Volume) -> str:
        """The block device that the guest's kernel has for a volume."""
        return self._devices[volume.uuid]

    def mounted(self, point: str) -> Volume:
        """What is mounted on a directory."""
        found = subprocess.run(("findmnt", "-n", "-o", "SOURCE", point), check=True, capture_output=True, text=True)
        uuid = next(uuid for uuid, device in self._devices.items() if device == found.stdout.strip())
        return Volume(Path(found.stdout.strip()), uuid, uuid)

    # Processes.

    def fork(self, name: str, run: Callable[[], object]) -> Tool:
        """Begin a function as a command of its own."""
        output = self.sandbox.root / f"tool{len(self._tools)}.out"
        output.touch()
        tool = Tool(cast("subprocess.Popen[str]", Forked(forked(run, output), (name,))), output)
        self._tools.append(tool)
        return tool

    def _begin(self, command: list[str], environ: Mapping[str, str]) -> Tool:
        run = _program(command)
        if run is None:
            return super()._begin(command, environ)
        output = self.sandbox.root / f"tool{len(self._tools)}.out"
        output.touch()
        pid = forked(run, output, {**os.environ, **environ})
        tool = Tool(cast("subprocess.Popen[str]", Forked(pid, command)), output)
        self._tools.append(tool)
        return tool

    def attach(self, daemon: Daemon, process: Process, *more: str) -> None:
        """Trace a daemon of n1 from now on, with these further expressions; its calls up to now are kept."""
        self.detach(daemon)
        self._traces += 1
        output = self.sandbox.root / f"strace.{self._traces}.{process.pid}"
        expressions = [word for each in more for word in ("-e", each)]
        command = ("strace", *trace.OPTIONS, *expressions, "-o", str(output), "-p", str(process.pid))
        with (self.sandbox.root / "strace.said").open("ab") as said:
            self._tracers[daemon] = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=said, stderr=said)
        status = Path(f"/proc/{process.pid}/status")
        until(f"{daemon} is traced", lambda: "TracerPid:\t0\n" not in status.read_text())

    def detach(self, daemon: Daemon) -> None:
        """End the tracing of a daemon, which goes on."""
        if (tracer := self._tracers.pop(daemon, None)) is not None:
            tracer.send_signal(signal.SIGTERM)
            tracer.wait(DEADLINE)

    def traced(self) -> list[Call]:
        """All calls of both daemons in the tree so far."""
        found = []
        for file in self.sandbox.root.glob("strace.*.*"):
            calls = trace.read(file.read_text(errors="surrogateescape"))
            # A call of a daemon's thread is that daemon's.
            found += [replace(call, pid=int(file.suffix[1:])) for call in calls]
        return sorted(found, key=lambda call: call.entry)

    def audit(self) -> Audit:
        """What strace says of the order of things."""
        return trace.audit(self.traced())

    # The end.

    def breaches(self, *, at_rest: bool = False) -> str:
        """What the judges say, and the audit: the journal of n1's kernel is made of strace's word."""
        self.write_journal()
        found = self.audit()
        late = [f"the judges take this for a dead life's, and do not hear it: {fact}" for fact in self._unheard()]
        return "\n".join(filter(None, [*found.breaches, *late, super().breaches(at_rest=at_rest)]))

    def _unheard(self) -> Iterator[Fact]:
        """What n1's daemons said that the judges leave out. Its life does not end, so there must be none."""
        world = World()
        for fact in load_history(self.sandbox.root).facts:
            if fact.node == REAL and fact.source is Source.DAEMON and world.silenced(fact):
                yield fact
            world.apply(fact)

    def write_journal(self) -> None:
        """Write n1's journal of kernel calls by strace's word, as judges and demo read one."""
        offset = time.time_ns() - time.monotonic_ns()
        # The sandbox has begun another life of n1 before: told earlier, this one would be over for the judges.
        born = {"mono": self._born, "pid": 0, "call": "boot", "path": "", "errno": 0}
        lines: list[dict[str, object]] = [{**born, "boot": Path(BOOT_ID).read_text().strip()}]
        numbers = {name: number for number, name in errorcode.items()}
        for call in self.traced():
            if PROBE in call.path:
                continue  # the question whether regions take links: its link leads nowhere, and is never made
            # A refusal is told when it came, a link from its beginning on, and its end when it was over.
            moment = call.back if call.name == "unlink" else call.entry
            entry = {"mono": int(moment * 1e9) - offset, "pid": call.pid, "call": call.name, "path": call.path}
            more = {"symlink": "target", "write": "value"}.get(call.name)
            code = numbers.get(call.error, 0)
            lines.append({**entry, "errno": code, **({more: call.what} if more else {})})
        lines = [{"seq": seq, **line} for seq, line in enumerate(lines, 1)]
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (self.sandbox.node(REAL).log / "kernel.jsonl").write_text(text)

    def close(self) -> None:
        """End everything in the guest that is ours; what stands in the kernel is the next scene's to remove."""
        for tool in self._tools:
            with suppress(ProcessLookupError):
                os.killpg(tool.process.pid, signal.SIGKILL)
        for process in self._started:
            process.kill()
        for tracer in self._tracers.values():
            tracer.kill()
            tracer.wait()
        for device in self._devices.values():
            subprocess.run(("umount", "-i", device), check=False, capture_output=True)
            subprocess.run(("losetup", "-d", device), check=False, capture_output=True)
        shutil.rmtree(self.sandbox.root, ignore_errors=True)
