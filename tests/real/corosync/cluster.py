"""A cluster of real corosync processes, each on a machine of its own (namespaces.py). It knows nothing of any daemon.

    with Cluster.up(3) as cluster:                      machines 1, 2, 3 with corosync, which see each other
        cluster.run(1, ["corosync-quorumtool", "-s"])   a command on a machine
        cluster.cut([1, 2], [3])                        both sides go on, and hear nothing of each other
        cluster.until({1: [1, 2], 3: [3]})              what each corosync says of its ring
        cluster.heal()

`kill` is a crash, `stop` a clean end (SIGTERM), `pause` a hang, `power_off` the end of all that runs on a machine, at
once for the others. `configure` writes corosync.conf for all machines, `reload` has corosync read it.

Times are short: with a token of 300 ms a death is seen within 0.6 to 0.7 s. What a corosync says is read from its
log: a look costs no process, and a hung corosync still has one.
"""

import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Final, Literal, Self

from libo2cb.processes import Process
from tests.real.corosync import namespaces
from tests.real.corosync.namespaces import Machine, Machines

Transport = Literal["udpu", "knet"]

NETWORK: Final = "10.99.0"
DEADLINE: Final = 60.0
"""Seconds after which something is taken for never."""
_STEP: Final = 0.01
_PATIENCE: Final = 20.0
_MEMBERS: Final = re.compile(r"\[QUORUM\] Members\[\d+\]:((?: \d+)+)")
_QUORATE: Final = re.compile(r"This node is within the (non-)?primary component")
_FORMED: Final = re.compile(r"\[TOTEM \] A new membership \((\d+)\.([0-9a-f]+)\) was formed")


@dataclass(frozen=True, slots=True)
class Member:
    """A node of corosync's nodelist.

    Attributes:
        number: its nodeid.
        name: its name; the machine's hostname is the same.
        addresses: of its links, one for each.
    """

    number: int
    name: str
    addresses: tuple[str, ...]

    @classmethod
    def of(cls, number: int) -> Self:
        """Number 3 is n3 at 10.99.0.3."""
        return cls(number, f"n{number}", (f"{NETWORK}.{number}",))


@dataclass(frozen=True, slots=True)
class Settings:
    """What corosync.conf says beside the nodelist.

    Attributes:
        cluster: its name.
        transport: udpu forms a ring within 0.3 s, knet needs a second more.
        token: milliseconds until a lost token is noticed; a death is seen about twice as late.
        two_node: two nodes, each a quorum alone, without waiting for the other at start.
        quorum, system: further lines of these sections.
    """

    cluster: str = "demo"
    transport: Transport = "udpu"
    token: int = 300
    two_node: bool = False
    quorum: tuple[str, ...] = ()
    system: tuple[str, ...] = ()


def configuration(members: Iterable[Member], settings: Settings) -> str:
    """A corosync.conf.

    The token gets no coefficient for the number of nodes, so that it is what it says. corosync runs in real time where
    it may, as it does by default: other work on this machine then loses it no token.
    """
    lines = ["totem {", "  version: 2", f"  cluster_name: {settings.cluster}", f"  transport: {settings.transport}"]
    if settings.transport == "knet":
        lines += ["  crypto_model: nss", "  crypto_cipher: none", "  crypto_hash: none"]
    lines += [f"  token: {settings.token}", "  token_coefficient: 0", "}", "nodelist {"]
    for it in members:
        links = [f"    ring{link}_addr: {address}" for link, address in enumerate(it.addresses)]
        lines += ["  node {", f"    name: {it.name}", f"    nodeid: {it.number}", *links, "  }"]
    lines += ["}", "quorum {", "  provider: corosync_votequorum"]
    if settings.two_node:
        lines += ["  two_node: 1", "  wait_for_all: 0"]
    lines += [*(f"  {line}" for line in settings.quorum), "}"]
    lines += ["system {", "  move_to_root_cgroup: no", *(f"  {line}" for line in settings.system), "}"]
    lines += ["logging {", "  to_stderr: no", "  to_syslog: no", "  to_logfile: yes", "  timestamp: hires"]
    lines += ["  logfile: /var/log/corosync/corosync.log", "}"]
    return "".join(f"{line}\n" for line in lines)


@cache
def missing() -> str:
    """Why no cluster can be made here; "" when one can."""
    absent = [each for each in ("corosync", "corosync-cfgtool") if shutil.which(each) is None]
    return f"not installed: {', '.join(absent)}" if absent else namespaces.missing()


class NotWithinError(AssertionError):
    """Something that was waited for did not come."""


@dataclass(slots=True)
class Seat:
    """A machine with its corosync.

    Attributes:
        member: as it is configured.
        machine: the machine.
        directory: where its files lie.
        corosync: the process, once it was started; it may have ended.
        seen: the bytes of the log that are of former processes.
    """

    member: Member
    machine: Machine
    directory: Path
    corosync: "subprocess.Popen[bytes] | None" = None
    seen: int = 0

    @property
    def log(self) -> Path:
        """Corosync's log."""
        return self.directory / "varlog" / "corosync.log"

    def lives(self) -> bool:
        """Whether corosync runs, or is paused."""
        return self.corosync is not None and self.corosync.poll() is None


@dataclass(slots=True)
class Cluster:
    """The cluster. Made by `up`.

    Attributes:
        directory: for the files of all machines.
        settings: of corosync.conf.
        machines: the machines.
        seats: by number.
    """

    directory: Path
    settings: Settings
    machines: Machines
    seats: dict[int, Seat] = field(default_factory=dict)

    @classmethod
    @contextmanager
    def up(
        cls,
        count: int,
        settings: Settings | None = None,
        *,
        start: bool = True,
        directory: Path | None = None,
    ) -> Iterator[Self]:
        """A cluster, ended when the context is left, and all that runs on its machines with it.

        Args:
            count: machines, numbered from 1.
            settings: of corosync.
            start: start corosync on each, and wait until all see each other.
            directory: where to keep files; a temporary one unless given. Removed should this process be killed.
        """
        here = directory or Path(tempfile.mkdtemp(prefix="corosync"))
        try:
            cluster = cls(here, settings or Settings(), Machines(here))
            try:
                for number in range(1, count + 1):
                    cluster.add(Member.of(number))
                cluster.configure()
                if start:
                    cluster.start_all()
                yield cluster
            finally:
                cluster.machines.close()
                for seat in cluster.seats.values():
                    if seat.corosync is not None:
                        seat.corosync.wait(_PATIENCE)
        finally:
            if directory is None:
                shutil.rmtree(here, ignore_errors=True)

    # Machines, and what is configured.

    def add(self, member: Member) -> Seat:
        """One more machine. It is in nobody's configuration before `configure`, not in its own either."""
        directory = self.directory / "corosync" / member.name
        (directory / "etc" / "uidgid.d").mkdir(parents=True)
        machine = self.machines.add(member.number, member.name, member.addresses, directory)
        self.seats[member.number] = Seat(member, machine, directory)
        return self.seats[member.number]

    def forget(self, number: int) -> None:
        """A machine whose corosync does not run is in no configuration from the next `configure` on."""
        assert not self.seats[number].lives()
        del self.seats[number]

    @property
    def members(self) -> tuple[Member, ...]:
        """All machines, as they are to be configured."""
        return tuple(seat.member for _, seat in sorted(self.seats.items()))

    def configure(self, members: Iterable[Member] | None = None) -> None:
        """Write corosync.conf on every machine; running corosyncs read it by `reload` only. Default: all machines."""
        text = configuration(self.members if members is None else members, self.settings)
        for seat in self.seats.values():
            (seat.directory / "etc" / "corosync.conf").write_text(text)

    def reload(self, number: int) -> "subprocess.CompletedProcess[str]":
        """Have all corosyncs that are in this one's ring read their files again. Exit code 0: done."""
        return self.run(number, ("corosync-cfgtool", "-R"))

    def readdress(self, number: int, *addresses: str) -> None:
        """Give a machine other addresses, and have all running corosyncs know.

        Its own corosync must not run. corosync refuses to change the address of a node that it knows ("it must be
        deleted and recreated"), so two reloads it takes.

        Raises:
            AssertionError: corosync refused to reload.
        """
        seat = self.seats[number]
        assert not seat.lives(), "corosync of the machine itself can change its address only by a restart"
        self._reload_with(it for it in self.members if it.number != number)
        seat.member = replace(seat.member, addresses=addresses)
        self.machines.address(number, addresses)
        self._reload_with(self.members)

    def _reload_with(self, members: Iterable[Member]) -> None:
        """Have each corosync reload that lives. One of a ring is not enough: the network may just have been cut."""
        self.configure(members)
        for number, seat in self.seats.items():
            end = time.monotonic() + _PATIENCE
            while seat.lives() and (done := self.reload(number)).returncode:  # another reload may be under way
                assert time.monotonic() < end, f"no reload on {seat.member.name}: {done.stdout} {done.stderr}"
                time.sleep(_STEP)

    # Commands.

    def prefix(self, number: int) -> tuple[str, ...]:
        """What a command line begins with to run on a machine; the pid stays the command's own."""
        return self.machines.prefix(number)

    def run(self, number: int, command: Sequence[str], timeout: float = DEADLINE) -> "subprocess.CompletedProcess[str]":
        """Run a command on a machine to its end; whatever its exit code is."""
        whole = (*self.prefix(number), *command)
        return subprocess.run(
            whole, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=timeout, check=False
        )

    # corosync's life.

    def start(self, number: int) -> Process:
        """Start corosync, and return at once: it has its ring some 0.2 s later. An unplugged machine is plugged in."""
        seat = self.seats[number]
        assert not seat.lives(), f"corosync runs already on {seat.member.name}"
        if self.machines.side(number) is None:
            self.machines.move({number: 0})
        with suppress(FileNotFoundError):
            seat.seen = seat.log.stat().st_size
        with (seat.directory / "stdout").open("ab") as output:
            seat.corosync = subprocess.Popen(
                (*self.prefix(number), "corosync", "-f"),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        return self.process(number)

    def start_all(self) -> None:
        """Start every corosync that does not run, and wait until all see each other, with quorum."""
        for number, seat in self.seats.items():
            if not seat.lives():
                self.start(number)
        self.until({number: list(self.seats) for number in self.seats})

    def process(self, number: int) -> Process:
        """The process of corosync, which lives."""
        corosync = self.seats[number].corosync
        process = Process.of(corosync.pid) if corosync is not None else None
        assert process is not None, f"no corosync on {self.seats[number].member.name}"
        return process

    def kill(self, number: int) -> None:
        """A crash of corosync alone: SIGKILL, and wait for its end."""
        self._end(number, signal.SIGKILL)

    def stop(self, number: int) -> int:
        """Stop it cleanly, by SIGTERM, which nobody can refuse; its exit code."""
        return self._end(number, signal.SIGTERM)

    def _end(self, number: int, signal_: signal.Signals) -> int:
        corosync = self.seats[number].corosync
        assert corosync is not None
        corosync.send_signal(signal_)
        return corosync.wait(_PATIENCE)

    def restart(self, number: int) -> None:
        """A crash and a new start, faster than the token: its ring loses and gets it in one step."""
        self.kill(number)
        self.start(number)

    def pause(self, number: int) -> None:
        """A hang: SIGSTOP. Longer than the token it looks like a death to the others."""
        self._signal(number, signal.SIGSTOP)

    def resume(self, number: int) -> None:
        """Let it go on."""
        self._signal(number, signal.SIGCONT)

    def _signal(self, number: int, signal_: signal.Signals) -> None:
        """Send a signal; a corosync that has just ended gets none."""
        corosync = self.seats[number].corosync
        assert corosync is not None
        corosync.send_signal(signal_)

    def power_off(self, number: int) -> None:
        """End a machine for the others at once, and kill all that runs on it. It stays unplugged until `start`."""
        self.machines.move({number: None})
        seat = self.seats[number]
        seat.machine.end()
        if seat.corosync is not None:
            seat.corosync.wait(_PATIENCE)

    # The network.

    def cut(self, *sides: Iterable[int]) -> None:
        """Part the network. All packets between two sides are lost; machines that are not named are one more side."""
        to = {number: side for side, numbers in enumerate(sides) for number in numbers}
        plugged = [number for number in self.seats if self.machines.side(number) is not None]
        self.machines.move({number: to.get(number, len(sides)) for number in plugged})

    def mute(self, number: int) -> None:
        """Lose all packets that a machine sends to the others; it still hears them."""
        self.machines.mute(number, self._peers(number))

    def unmute(self, number: int) -> None:
        """Take `mute` back."""
        self.machines.unmute(number, self._peers(number))

    def _peers(self, number: int) -> list[str]:
        return [address for it in self.members if it.number != number for address in it.addresses]

    def heal(self) -> None:
        """Join the network again. A machine that is off stays off."""
        self.machines.move({number: 0 for number in self.seats if self.machines.side(number) is not None})

    # What corosync says.

    def ring(self, number: int) -> tuple[list[int], bool]:
        """The members of a corosync's ring and whether it has quorum, as it said last; nobody before it said so."""
        text = self._said(number)
        members = _MEMBERS.findall(text)
        said = _QUORATE.findall(text)
        return [int(each) for each in members[-1].split()] if members else [], bool(said) and not said[-1]

    def ring_id(self, number: int) -> str:
        """The ring that a corosync formed last, as a daemon reports it: "1.40"; "" before it said so."""
        formed = _FORMED.findall(self._said(number))
        return f"{formed[-1][0]}.{int(formed[-1][1], 16)}" if formed else ""

    def _said(self, number: int) -> str:
        """What a corosync has logged since it was started."""
        seat = self.seats[number]
        try:
            with seat.log.open("rb") as file:
                file.seek(seat.seen)
                return file.read().decode(errors="replace")
        except FileNotFoundError:
            return ""

    def until(self, rings: Mapping[int, Iterable[int]], *, deadline: float = DEADLINE) -> None:
        """Wait until each corosync that is named says that its ring has exactly these members.

        Raises:
            NotWithinError: one does not within the deadline.
        """
        wanted = {number: sorted(members) for number, members in rings.items()}
        end = time.monotonic() + deadline
        while (found := {number: self.ring(number)[0] for number in wanted}) != wanted:
            if time.monotonic() > end:
                raise NotWithinError(f"not within {deadline:.0f} s: rings {wanted}; they are {found}")
            time.sleep(_STEP)
