"""A cluster of guests: real corosync and our daemons in each, on its own kernel, configured as on real machines.

    with Cluster.up(lab, (1, 2), LINKS) as cluster:     n1, n2 have formed, and their daemons are ready
        cluster.power_off(2)                            SIGKILL for its QEMU
        cluster.until("n2 is gone", lambda: list(cluster.tree(1)) == ["n1"])
        cluster.readdress(2, "10.9.0.22")
        cluster.power_on(2)

Guest n is the node nN. What a daemon, strace or corosync writes lies in a directory that the host shares with the
guest, so to look at it costs the guest nothing, and it can be read after the guest's death.

The fence device is the host: a node's command asks it for another node, it kills that QEMU process, sees that the
process is gone, and only then says so.
"""

import json
import re
import shlex
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Self, TypeVar

from tests.real.corosync.cluster import Member, Settings, configuration
from tests.real.vm import station, trace
from tests.real.vm.guest import Done, Guest
from tests.real.vm.lab import Regions, VmLab

T = TypeVar("T")

NAME: Final = "demo"
O2CB: Final = "o2cb_controld"
OCFS2: Final = "ocfs2_controld"
DEADLINE: Final = 300.0
"""Seconds after which something is taken for never."""
TOKEN: Final = 6000
"""Milliseconds: a guest on a busy host may get no processor for seconds. A death is seen some 13 s after it."""
TREE: Final = "/sys/kernel/config/cluster"
_STEP: Final = 0.05
_TOLD_LINES: Final = 30
_MEMBERS: Final = re.compile(r"\[QUORUM\] Members\[\d+\]:((?: \d+)+)")
_FENCE: Final = """#!/bin/sh
# The device is on the host, which sees files of this directory.
ask=/out/fence/$OCFS2_FENCE_NODE.$$
printf '%s' "$OCFS2_FENCE_LIFE" >"$ask.part"
mv "$ask.part" "$ask.ask"
until [ -e "$ask.off" ]; do sleep 0.1; done
cat "$ask.off"
"""


@dataclass(frozen=True, slots=True)
class Driver:
    """How the daemons tell the kernel.

    Attributes:
        name: of the driver, in the configuration.
        regions: which ocfs2_nodemanager it needs.
        modules: what is loaded beside it.
        daemons: which run.
    """

    name: str
    regions: Regions
    modules: tuple[str, ...]
    daemons: tuple[str, ...]


LINKS: Final = Driver("links", Regions.LINKING, ("ocfs2", "loop"), (O2CB, OCFS2))
CLASSIC: Final = Driver("classic", Regions.STOCK, ("ocfs2_stack_o2cb", "ocfs2_dlmfs", "ocfs2"), (O2CB,))


def controld(driver: Driver) -> str:
    """A controld.toml."""
    text = f'[cluster]\nname = "{NAME}"\n[engine]\nkind = "corosync"\n[kernel]\ndriver = "{driver.name}"\n'
    fencing = '[fencing]\nkind = "command"\ncommand = ["/bin/sh", "/out/fence.sh"]\ntimeout = 240.0\n'
    log = '[log]\nformat = "json"\n'
    return text + (fencing if driver is LINKS else "") + log


class Cluster:
    """The cluster. Made by `up`.

    Attributes:
        lab: whose guests these are.
        driver: of all nodes.
        members: corosync's nodelist, by number; a node may be in it that is no guest yet.
        guests: those that are on.
        fenced: what the fence device has done: node, and what it said.
    """

    def __init__(self, lab: VmLab, driver: Driver, scenes: ExitStack, title: str) -> None:
        self.lab = lab
        self.driver = driver
        self.members: dict[int, Member] = {}
        self.guests: dict[int, Guest] = {}
        self.fenced: list[tuple[int, str]] = []
        self._lives: dict[int, str] = {}
        self._scenes = scenes
        self._title = title
        self._ends = threading.Event()
        self._device = threading.Thread(target=self._serve, name="fence device", daemon=True)

    @classmethod
    @contextmanager
    def up(cls, lab: VmLab, numbers: Iterable[int], driver: Driver, title: str) -> Iterator[Self]:
        """A cluster that has formed; ended when the context is left. After a failure its guests are not used again.

        Args:
            lab: where the guests come from.
            numbers: of the nodes.
            driver: of all.
            title: of the scene, under which its costs are told.
        """
        numbers = tuple(numbers)
        with ExitStack() as scenes:
            cluster = cls(lab, driver, scenes, title)
            cluster._device.start()
            try:
                cluster.members = {number: cls.member(number) for number in numbers}
                cluster.power_on(*numbers)
                yield cluster
            except BaseException:
                cluster.tell()
                for number in list(cluster.guests):
                    cluster._end(number)
                raise
            finally:
                cluster._ends.set()
                cluster._device.join()
            for number, guest in cluster.guests.items():
                if not guest.machine.lives():
                    continue
                # What is left is nobody's now, and a node's address may be another one.
                guest.sweep()
                guest.run("ip addr flush dev eth0; rm -rf /run/ocfs2").worked()
                if cluster.members.get(number) != cls.member(number):
                    guest.power_off()

    @staticmethod
    def member(number: int) -> Member:
        """As it is configured at first."""
        return Member(number, f"n{number}", (VmLab.address(number),))

    # Power.

    def power_on(self, *numbers: int) -> None:
        """Boot nodes, with corosync and daemons, and wait until all that are on have formed and are ready."""
        new = self.lab.guests(*numbers)
        for number, guest in zip(numbers, new, strict=True):
            self._scenes.enter_context(guest.scene(self._title))
            self.guests[number] = guest
        self.each(self._prepare, numbers)
        self.each(self._start, numbers)
        on = sorted(self.guests)
        self.until(f"{on} see each other", lambda: all(self.ring(number) == on for number in on))
        for number in numbers:
            for daemon in self.driver.daemons:
                self.event(number, daemon, "ready")

    def power_off(self, number: int) -> None:
        """Kill its QEMU, and let it be: nothing in the guest hears of it before."""
        self.guests[number].power_off()

    def _end(self, number: int) -> None:
        self.guests.pop(number).power_off()
        self._lives.pop(number, None)
        self.lab.end(number)

    def forget(self, number: int) -> None:
        """A node whose QEMU is dead: the next `power_on` has a new one. Its files are gone then."""
        assert not self.guests[number].machine.lives()
        self._end(number)

    def _prepare(self, number: int) -> None:
        guest = self.guests[number]
        self.lab.load(guest, self.driver.regions, *self.driver.modules)
        out = guest.out
        (out / "fence").mkdir(exist_ok=True)
        (out / "fence.sh").write_text(_FENCE)
        (address,) = self.members[number].addresses
        script = f"""
            set -e
            hostname n{number}
            ip addr flush dev eth0
            ip addr add {address}/24 dev eth0
            rm -rf /run/ocfs2 /dev/shm/qb-* /var/log/corosync /etc/ocfs2/cluster.conf /out/log
            rm -f /out/*.jsonl /out/strace.* /out/*.said
            mkdir -p /etc/corosync/uidgid.d /etc/ocfs2 /var/lib/corosync /out/log
            ln -s /out/log /var/log/corosync
            printf %s {shlex.quote(controld(self.driver))} >/etc/ocfs2/controld.toml
        """
        guest.run(script).worked()
        self._configure(number)
        self._lives[number] = guest.run("cat /proc/sys/kernel/random/boot_id").worked().strip()

    def _start(self, number: int) -> None:
        guest = self.guests[number]
        guest.run("setsid corosync -f >/out/corosync.said 2>&1 </dev/null &").worked()
        for daemon in self.driver.daemons:
            guest.call(station.__name__, "begin", daemon, seconds=DEADLINE).worked()

    # What is configured.

    def _configure(self, number: int) -> None:
        text = configuration(self.members.values(), Settings(NAME, token=TOKEN, two_node=len(self.members) == 2))
        self.guests[number].run(f"printf %s {shlex.quote(text)} >/etc/corosync/corosync.conf").worked()

    def reload(self, members: Mapping[int, Member]) -> None:
        """Write a new nodelist on all nodes that are on, and have them read it.

        Raises:
            AssertionError: corosync refuses.
        """
        self.members = dict(members)
        on = [number for number, guest in self.guests.items() if guest.machine.lives()]
        self.each(self._configure, on)
        self.guests[on[0]].run(["corosync-cfgtool", "-R"]).worked()

    def add(self, number: int) -> None:
        """One more node in everybody's nodelist."""
        self.reload({**self.members, number: self.member(number)})

    def drop(self, number: int) -> None:
        """Take a node out of everybody's nodelist."""
        self.reload({key: member for key, member in self.members.items() if key != number})

    def readdress(self, number: int, address: str) -> None:
        """Give a node that is off another address: out in one reload, in again in the next."""
        member = replace(self.members[number], addresses=(address,))
        self.drop(number)
        self.reload(dict(sorted({**self.members, number: member}.items())))

    # What is seen.

    def ring(self, number: int) -> list[int]:
        """The members that a node's corosync has told of last."""
        log = self.guests[number].out / "log" / "corosync.log"
        told = _MEMBERS.findall(log.read_text(errors="replace")) if log.exists() else []
        return [int(member) for member in told[-1].split()] if told else []

    def tree(self, number: int) -> dict[str, str]:
        """The nodes in a node's kernel, each with its address."""
        each = 'echo "$(basename "$node") $(cat "$node"ipv4_address 2>/dev/null)"'
        script = f"shopt -s nullglob; for node in {TREE}/{NAME}/node/*/; do {each}; done"
        said = self.guests[number].run(script).worked()
        lines = [line.split() for line in said.splitlines()]
        # A node that is just being removed has no address any more.
        return {line[0]: line[1] for line in lines if len(line) == 2}

    def links(self, number: int, region: str) -> list[str]:
        """The nodes that a region of a node's kernel links."""
        said = self.guests[number].run(f"find {TREE}/{NAME}/heartbeat/{region} -type l -printf '%f\\n'")
        return sorted(said.out.splitlines()) if said.code == 0 else []

    def lines(self, node: int, daemon: str, event: str = "", /, **fields: object) -> list[dict[str, Any]]:
        """What a daemon has logged, in order."""
        log = self.guests[node].out / f"{daemon}.jsonl"
        told = log.read_text(errors="surrogateescape") if log.exists() else ""
        # The last line may not be whole yet.
        lines = [json.loads(line) for line in told.splitlines(keepends=True) if line[:1] == "{" and line[-1:] == "\n"]
        wanted = {"event": event, **fields} if event else fields
        return [line for line in lines if all(line.get(key) == value for key, value in wanted.items())]

    def event(self, node: int, daemon: str, event: str, /, **fields: object) -> dict[str, Any]:
        """Wait until a daemon has logged it; the first such line."""
        what = f"{daemon} of n{node} says {event} {fields or ''}"
        return self.until(what, lambda: self.lines(node, daemon, event, **fields))[0]

    def traced(self, number: int) -> list[trace.Call]:
        """All calls of a node's daemons in its kernel's tree, by strace's word."""
        found = []
        for file in self.guests[number].out.glob("strace.*"):
            calls = trace.read(file.read_text(errors="surrogateescape"))
            found += [replace(call, pid=int(file.suffix[1:])) for call in calls]
        return sorted(found, key=lambda call: call.entry)

    def done(self, number: int, *paths: str) -> list[str]:
        """The calls of a node's daemons that have made, linked or removed one of these, in order."""
        below = [f"{NAME}/{path}" for path in paths]
        names = ("mkdir", "rmdir", "symlink", "unlink")
        calls = [call for call in self.traced(number) if call.worked and call.name in names]
        return [f"{call.name} {call.path.removeprefix(NAME + '/')}" for call in calls if call.path in below]

    def until(self, what: str, found: Callable[[], T], deadline: float = DEADLINE) -> T:
        """Wait for something true.

        Raises:
            AssertionError: it does not come.
        """
        end = time.monotonic() + deadline
        while not (it := found()):
            assert time.monotonic() < end, f"not within {deadline:.0f} s: {what}"
            time.sleep(_STEP)
        return it

    def each(self, run: Callable[[int], T], numbers: Iterable[int]) -> list[T]:
        """Run it for several nodes at the same time."""
        with ThreadPoolExecutor() as pool:
            return list(pool.map(run, numbers))

    def run(self, number: int, command: str, seconds: float = DEADLINE) -> Done:
        """Run a command on a node."""
        return self.guests[number].run(command, seconds=seconds)

    def tell(self) -> None:
        """Print the ends of what was written."""
        for number, guest in self.guests.items():
            for file in sorted(guest.out.rglob("*")):
                if file.suffix in (".jsonl", ".log", ".said") or file.name.startswith("strace."):
                    lines = file.read_text(errors="replace").splitlines()
                    print(f"--- n{number} {file.relative_to(guest.out)}", *lines[-_TOLD_LINES:], sep="\n")

    # The fence device.

    def _serve(self) -> None:
        while not self._ends.wait(_STEP):
            for guest in list(self.guests.values()):
                # A guest that is ended meanwhile takes its questions with it.
                with suppress(FileNotFoundError):
                    for ask in (guest.out / "fence").glob("*.ask"):
                        self._fence(ask)

    def _fence(self, ask: Path) -> None:
        number, life = int(ask.name.partition(".")[0].removeprefix("n")), ask.read_text()
        said = self._off(number, life)
        ask.unlink()
        self.fenced.append((number, said))
        part = ask.with_suffix(".said")
        part.write_text(said + "\n")
        part.rename(ask.with_suffix(".off"))

    def _off(self, number: int, life: str) -> str:
        guest = self.guests.get(number)
        if guest is None:
            return f"n{number} is off: it has no QEMU"
        if life and self._lives.get(number) not in (None, life):
            return f"that life of n{number} is over: its QEMU was seen dead before this one was started"
        was = "was dead already" if not guest.machine.lives() else "was killed"
        guest.power_off()
        assert not guest.machine.lives()
        return f"n{number} is off: its QEMU process {guest.machine.process.pid} {was}, and is gone"
