"""Processes named so that a reused pid is never taken for its predecessor, and who holds a socket's name.

A process is its pid with its start time, counted by the kernel in clock ticks since boot (field 22 of /proc/PID/stat,
see proc(5)). Wall-clock start times will not do: they are computed from a boot time that moves when the clock is set,
so one step of NTP would make every living holder look dead.
"""

import errno
import os
import re
import signal
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

import psutil

UNKNOWN_PROGRAM: Final = "unknown"
_STATE = 0  # fields of /proc/PID/stat, counted behind the program's name
_START_TIME = 19
_STAT_BYTES: Final = 4096  # some fifty numbers; the kernel gives it out whole
_DEAD: Final = "ZXx"
_SOCKET_LINE: Final = re.compile(rb"\S+: (?:\S+ ){5} *(?P<inode>\d+) (?P<name>.*)", re.DOTALL)
_UCRED: Final = struct.Struct("=iII")


@dataclass(frozen=True, slots=True, order=True)
class Process:
    """One process, told apart from every other that had or will have its pid.

    Attributes:
        pid: process id in our own pid namespace.
        started: start time in clock ticks since boot.
    """

    pid: int
    started: int

    @classmethod
    def of(cls, pid: int) -> Self | None:
        """The process that has this pid now; None when there is none, or only its zombie."""
        return cls.named(pid)[0]

    @classmethod
    def named(cls, pid: int) -> tuple[Self | None, str]:
        """The process that has this pid now, and its program's name, by one look at /proc.

        Returns:
            None for the process when there is none, or only its zombie; the name as of `program_name`.
        """
        found = _stat(pid)
        if found is None:
            return None, UNKNOWN_PROGRAM
        state, started, raw = found
        name = _text(raw) if b"\\" not in raw else program_name(pid)  # some kernels escape it there
        return (cls(pid, started) if state not in _DEAD or _has_other_threads(pid) else None), name

    @classmethod
    def current(cls) -> Self:
        """This process.

        Raises:
            OSError: /proc is not mounted.
        """
        process = cls.of(os.getpid())
        if process is None:
            raise OSError(errno.ENOENT, "this process does not find itself: is /proc mounted?", "/proc")
        return process

    def alive(self) -> bool:
        """Whether this very process still runs. A zombie does not: it holds no file and no socket any more."""
        found = _stat(self.pid)
        if found is None:
            return False
        state, started, _ = found
        return started == self.started and (state not in _DEAD or _has_other_threads(self.pid))

    def kill(self, sig: signal.Signals = signal.SIGKILL) -> bool:
        """Send a signal to this very process; never to a successor that has its pid.

        Returns:
            Whether it was there to be signalled.

        Raises:
            PermissionError: it is another user's.
        """
        try:
            descriptor = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return False
        except OSError as error:
            if error.errno in (errno.EINVAL, errno.ENOENT):  # no pid at all, or a thread's (EINVAL until Linux 6.8)
                return False
            raise
        try:
            # The descriptor names whoever had the pid when it was opened. Had A ended before that and B taken its pid,
            # the start time is B's; should A end from here on, the signal finds nobody.
            if not self.alive():
                return False
            signal.pidfd_send_signal(descriptor, sig)
        except ProcessLookupError:
            return False
        finally:
            os.close(descriptor)
        return True

    @property
    def program(self) -> str:
        """The program's name; UNKNOWN_PROGRAM when it has ended."""
        name = program_name(self.pid)
        return name if self.alive() else UNKNOWN_PROGRAM

    def __str__(self) -> str:
        return f"pid {self.pid} ({self.program})"


def program_name(pid: int) -> str:
    """What the kernel calls the program of this pid: at most 15 bytes, as in ps(1); UNKNOWN_PROGRAM when it is gone.

    The command line would say more, but to read it waits for the other's memory lock, and so for the other.
    """
    try:
        raw = Path(f"/proc/{pid}/comm").read_bytes()
    except OSError:
        return UNKNOWN_PROGRAM
    return _text(raw.rstrip(b"\n"))


def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape") or UNKNOWN_PROGRAM


def set_program_name(name: str) -> None:
    """Name this process in ps(1) and in others' errors. Cut to 15 bytes; ignored where the kernel refuses it."""
    try:
        Path("/proc/self/comm").write_bytes(name.encode("utf-8", "surrogateescape")[:15])
    except OSError:
        return


def socket_address(name: str) -> bytes:
    """The bytes of a Unix socket's address: a leading "@" is an abstract name, anything else a path."""
    raw = os.fsencode(name)
    return b"\0" + raw[1:] if raw.startswith(b"@") else raw


def peer_credentials(connected: socket.socket) -> tuple[int, int, int]:
    """Pid, uid and gid of the other end of a connected Unix socket (SO_PEERCRED).

    They are those at the other's connect() or listen(). The pid is 0 when it lives in a pid namespace that we cannot
    see.
    """
    pid, uid, gid = _UCRED.unpack(connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    return pid, uid, gid


def holder_of(name: str) -> Process | None:
    """Who holds a Unix stream socket's name ("@abstract" or a path).

    The socket itself is asked first, since the kernel remembers who called listen(), and tells everyone. Where that
    process has passed it on and ended, or nobody listens, the open files of all processes are searched: those of other
    users only as root. May take some 100 ms on a busy machine: for start-up and errors, not for the event loop.
    """
    listener = _listener(name)
    if listener is not None:
        return listener
    inodes = _inodes_of(name)
    return next((process for process in map(Process.of, _owners(inodes)) if process is not None), None)


def _inodes_of(name: str) -> set[str]:
    """The sockets of this name. psutil knows them as well, but none whose name holds a blank."""
    wanted = os.fsencode(name)
    try:
        lines = Path("/proc/net/unix").read_bytes().split(b"\n")[1:]
    except OSError:
        return set()
    found = (_SOCKET_LINE.fullmatch(line) for line in lines)
    return {match["inode"].decode("ascii") for match in found if match is not None and match["name"] == wanted}


def _owners(inodes: set[str]) -> Iterator[int]:
    """Pids of the processes that have one of these sockets open."""
    links = {f"socket:[{inode}]" for inode in inodes}
    for pid in psutil.pids() if links else ():
        if any(_target(entry) in links for entry in _entries(Path(f"/proc/{pid}/fd"))):
            yield pid


def _entries(directory: Path) -> list[Path]:
    """What a directory of /proc holds; nothing when its process has ended, or is another user's."""
    try:
        return list(directory.iterdir())
    except OSError:
        return []


def _target(link: Path) -> str:
    try:
        return os.fspath(link.readlink())
    except OSError:  # closed meanwhile
        return ""


def _listener(name: str) -> Process | None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as probe:
        try:
            probe.connect(socket_address(name))
        except (OSError, ValueError):
            return None
        return Process.of(peer_credentials(probe)[0])


def _stat(pid: int) -> tuple[str, int, bytes] | None:
    """State, start time and program's name, from one read, so that they are of one process."""
    if pid <= 0:
        return None
    try:
        descriptor = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        raw = os.read(descriptor, _STAT_BYTES)
    except OSError:  # it has ended since the open
        return None
    finally:
        os.close(descriptor)
    # The name is in parentheses and may hold blanks and parentheses itself; all behind the last one is numbers.
    head, _, tail = raw.rpartition(b")")
    fields = tail.split()
    return fields[_STATE].decode("ascii"), int(fields[_START_TIME]), head.partition(b"(")[2]


def _has_other_threads(pid: int) -> bool:
    """Whether a "zombie" is only the first thread of a process whose other threads go on."""
    return len(_entries(Path(f"/proc/{pid}/task"))) > 1
