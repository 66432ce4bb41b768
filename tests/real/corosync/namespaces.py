"""Machines that are namespaces: each has a network, a hostname and mounts of its own, and all are on one switch.

Nothing appears outside: the switch is a network namespace, too. As root they are made directly; without root, inside
one user namespace of which this user is root, where the kernel allows that.

A machine lives as long as its *holder*, a process that only waits in its namespaces. Whatever runs "on" a machine is
started with its `prefix`. Its network interface is eth0, on the switch's end v1, v2, ...

Should this process be killed, a keeper (keeper.py) ends all that lives in the namespaces, and they go with it.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Final

from tests.real.corosync.keeper import Namespace, end_all

SOURCE: Final = Path(__file__).resolve().parents[3]
_NEEDED: Final = ("unshare", "nsenter", "ip", "mount", "hostname")
_OF_ITS_OWN: Final = ("unshare", "-n", "-m", "-u", "--propagation", "private")
_PATIENCE: Final = 20.0
_SHELL: Final = ("/bin/sh", "-e", "-c")
# It ends with its input, so with whoever holds the other end of that pipe. cat has the shell's pid.
_HOLD: Final = "echo ready; exec cat >/dev/null 2>&1"
_MACHINE: Final = """
hostname "$1"
mount -t tmpfs -o size=64m,mode=755 run /run
mkdir -p /run/lock
mount -t tmpfs -o "size=$3,mode=1777" shm /dev/shm
for each in lib:varlib log:varlog; do
  mkdir -p "$2/${each#*:}"
  mount --bind "$2/${each#*:}" "/var/${each%:*}/corosync"
done
mount --bind "$2/etc" /etc/corosync
ip link set lo up
"""


@cache
def missing() -> str:
    """Why no machine can be made here; "" when one can."""
    absent = [name for name in _NEEDED if shutil.which(name) is None]
    if absent:
        return f"not installed: {', '.join(absent)}"
    command = (*_outer(), *_OF_ITS_OWN, "true")
    tried = subprocess.run(command, capture_output=True, text=True, check=False)
    if tried.returncode:
        whose = "root in this container" if os.geteuid() == 0 else "this user"
        return f"{whose} may make no namespaces here: {tried.stderr.strip()}"
    return ""


def _outer() -> tuple[str, ...]:
    """What makes the namespace in which this user may make others."""
    return () if os.geteuid() == 0 else ("unshare", "-U", "-r")


def environment() -> dict[str, str]:
    """The environment of Python programs that import what this one does, wherever they run."""
    path = os.pathsep.join(filter(None, (str(SOURCE), os.environ.get("PYTHONPATH"))))
    return {**os.environ, "PYTHONPATH": path}


class Machine:
    """One machine. Made by `Machines.add`.

    Attributes:
        number: of its place on the switch.
        name: its hostname.
        namespace: its network.
    """

    def __init__(self, number: int, name: str, holder: "subprocess.Popen[str]") -> None:
        self.number = number
        self.name = name
        self.holder = holder
        self.namespace = Namespace.of(holder.pid)

    def end(self) -> None:
        """Kill whatever runs on it, as if it lost its power; the machine itself stays."""
        end_all([self.namespace], {self.holder.pid})
        self.clear()

    def clear(self) -> None:
        """Its memory goes with its power: what thirty killed corosyncs shared with their clients would fill it."""
        for left in Path(f"/proc/{self.holder.pid}/root/dev/shm").iterdir():
            if left.is_dir():
                shutil.rmtree(left)
            else:
                left.unlink()


class Machines:
    """The machines, and the switch.

    Args:
        directory: where they keep their files; removed by the keeper should this process be killed.
        shm: size of each machine's /dev/shm, for tmpfs.
    """

    def __init__(self, directory: Path, shm: str = "1g") -> None:
        self._shm = shm
        self._bridges = 1
        self._sides: dict[int, int | None] = {}
        self._keeper = self._start_keeper(directory)
        self._switch = self._hold((*_outer(), "unshare", "-n"), "ip link set lo up\n", [])
        self._namespaces = [Namespace.of(self._switch.pid)]
        self.machines: dict[int, Machine] = {}
        self._ip(["link add br0 type bridge stp_state 0 forward_delay 0", "link set br0 up"])

    def _start_keeper(self, directory: Path) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            (sys.executable, "-m", "tests.real.corosync.keeper", str(directory)),
            stdin=subprocess.PIPE,
            env=environment(),
            text=True,
            start_new_session=True,
        )

    def _hold(self, outer: Sequence[str], script: str, arguments: Iterable[str]) -> "subprocess.Popen[str]":
        holder = subprocess.Popen(
            (*outer, *_SHELL, script + _HOLD, "holder", *arguments),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert holder.stdout is not None
        with holder.stdout as output:
            said = output.readline()
        if said != "ready\n":
            raise RuntimeError(f"a machine could not be made: exit code {holder.wait()}; see what it wrote above")
        self._tell(str(holder.pid))
        return holder

    def _tell(self, line: str) -> None:
        assert self._keeper.stdin is not None
        self._keeper.stdin.write(line + "\n")
        self._keeper.stdin.flush()

    def add(self, number: int, name: str, addresses: Iterable[str], directory: Path) -> Machine:
        """Make a machine, on the switch.

        Args:
            number: 1 to 254.
            name: its hostname.
            addresses: of its interface, all in one network of 24 bits.
            directory: holds etc, which becomes its /etc/corosync, and gets varlib and varlog.
        """
        inside = (
            *self._inside(self._switch.pid, mounts=False),
            "unshare",
            "-n",
            "-m",
            "-u",
            "--propagation",
            "private",
        )
        holder = self._hold(inside, _MACHINE, (name, str(directory), self._shm))
        machine = self.machines[number] = Machine(number, name, holder)
        self._namespaces.append(machine.namespace)
        self._ip([f"link add v{number} type veth peer name eth0 netns {holder.pid}", f"link set v{number} up"])
        self.move({number: 0})
        self.address(number, addresses)
        return machine

    def address(self, number: int, addresses: Iterable[str]) -> None:
        """Give a machine's interface these addresses, and no others."""
        lines = ["link set eth0 up", "addr flush dev eth0", *(f"addr add {a}/24 dev eth0{_now(a)}" for a in addresses)]
        self._batch(self.prefix(number), lines)

    def _inside(self, pid: int, *, mounts: bool = True) -> tuple[str, ...]:
        user = () if os.geteuid() == 0 else ("-U", "--preserve-credentials")
        return ("nsenter", "-t", str(pid), *user, "-n", *(("-m", "-u") if mounts else ()))

    def prefix(self, number: int) -> tuple[str, ...]:
        """What a command line begins with to run on a machine. It execs: the pid is the command's own."""
        return self._inside(self.machines[number].holder.pid)

    def _ip(self, lines: Iterable[str]) -> None:
        self._batch(self._inside(self._switch.pid, mounts=False), lines)

    def _batch(self, prefix: Sequence[str], lines: Iterable[str]) -> None:
        text = "".join(f"{line}\n" for line in lines)
        done = subprocess.run((*prefix, "ip", "-batch", "-"), input=text, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"ip refused one of {text.splitlines()}: {done.stderr.strip()}")

    # The network.

    def move(self, sides: dict[int, int | None]) -> None:
        """Put machines on sides of the network, all at once: those on one side hear each other. None: unplugged."""
        most = max((side for side in sides.values() if side is not None), default=0)
        lines = []
        while self._bridges <= most:
            bridge = f"br{self._bridges}"
            lines += [f"link add {bridge} type bridge stp_state 0 forward_delay 0", f"link set {bridge} up"]
            self._bridges += 1
        for number, side in sides.items():
            if self._sides.get(number, -1) != side:
                lines.append(f"link set v{number} {'nomaster' if side is None else f'master br{side}'}")
                self._sides[number] = side
        if lines:
            self._ip(lines)

    def mute(self, number: int, peers: Iterable[str]) -> None:
        """Lose all that a machine sends to these addresses, and nothing that it is sent: a cut in one direction."""
        nobody = "lladdr 02:00:00:00:00:01 dev eth0 nud permanent"
        self._batch(self.prefix(number), [f"neigh replace {address} {nobody}" for address in peers])

    def unmute(self, number: int, peers: Iterable[str]) -> None:
        """Take `mute` back."""
        self._batch(self.prefix(number), [f"neigh del {address} dev eth0" for address in peers])

    def side(self, number: int) -> int | None:
        """On which side a machine is; None when it is unplugged."""
        return self._sides[number]

    # The end.

    def close(self) -> None:
        """End everything that lives in the namespaces, and with that the namespaces."""
        try:
            end_all(self._namespaces)
        finally:
            for namespace in self._namespaces:
                namespace.close()
            for holder in (self._switch, *(machine.holder for machine in self.machines.values())):
                holder.communicate(timeout=_PATIENCE)
            self._keeper.communicate("done\n")


def _now(address: str) -> str:
    """What makes an address usable at once: of IPv6, nobody is asked first whether it is taken."""
    return " nodad" if ":" in address else ""
