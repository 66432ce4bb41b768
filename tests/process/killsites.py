"""Call sites of a running daemon, as strace sees them, and strace with a kill before one of them.

A site is a system call, what it is about with its numbers folded, and the scene. What it is about: a path below the
node's home, or a socket by its role and, for what is sent, the first word. Before a site of a path the kill is chosen
by that path (`-P`), at the first call that any thread makes; before one of a socket that stands before the scene, by
the socket's inode, which -P takes as well; before one of a connection made during the scene, by the count of the call.

strace counts an injection for each thread and each name of a call, and does not execute the call that it kills at.
"""

import ctypes
import os
import re
import signal
import socket
import subprocess
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

from tests.process.node import Daemon, Node, Volume, until

PATH_CALLS: Final = (
    *("openat", "read", "pread64", "write", "ftruncate", "close", "flock", "fcntl", "getdents64", "newfstatat"),
    *("readlink", "mkdir", "rmdir", "rename", "symlink", "unlink", "unlinkat", "utimensat"),
)
"""lseek, and ioctl for a terminal, are left out: they neither change nor learn anything outside of the process."""
SOCKET_CALLS: Final = ("accept4", "getsockopt", "sendto", "sendmsg", "recvfrom", "recvmsg", "close")
_TRACED: Final = ",".join(dict.fromkeys((*PATH_CALLS, *SOCKET_CALLS, "execve")))
_WATCHED: Final = re.compile(r"kernel/|mounts/|log/kernel\.jsonl$|run/.*\.lock$")
"""Below the node's home: the kernel's tree with its lock and journal, the mount table, the node locks."""

_ENTRY: Final = re.compile(r"^(\d+) +([a-z0-9_]+)\((.*)$")
_DESCRIPTOR: Final = re.compile(r"^(?:\d+)<([^>]*)>")
_STRING: Final = re.compile(r'"((?:[^"\\]|\\.)*)"')
_WORD: Final = re.compile(r'"(?:\{\\"op\\":\\")?([A-Za-z_]{2,})')
_SOCKET: Final = re.compile(r"^socket:\[\d+\]$")
_KILLED: Final = re.compile(r"^(\d+) +\+\+\+ killed by SIGKILL")
_UUID: Final = re.compile(r"[0-9A-F]{32}")
PATIENCE: Final = 2.0
"""Seconds for strace to let go of a daemon. To end it too early does no harm: its output is written line by line."""
_SYS_PIDFD_GETFD: Final = 438
_SO_ACCEPTCONN: Final = 30


@dataclass(frozen=True, slots=True, order=True)
class Site:
    """Where a daemon can be killed.

    Attributes:
        scene: what goes on.
        daemon: which one is killed.
        call: the system call.
        about: what it is about, numbers folded.
    """

    scene: str
    daemon: Daemon
    call: str
    about: str

    def __str__(self) -> str:
        return f"{self.scene} {self.daemon} {self.call} {self.about}"


@dataclass(frozen=True, slots=True)
class Shot:
    """How a site is hit.

    Attributes:
        site: which one.
        path: the path with {home} and {fs} for -P; or a socket's role; "" where the count alone decides.
        when: at the how-manieth such call of a thread.
    """

    site: Site
    path: str
    when: int


@dataclass(frozen=True, slots=True)
class Call:
    """One call as it was begun.

    Attributes:
        thread: by which thread.
        name: of the call.
        path: what -P takes for it, with {home} and {fs}; "" for a connection made during the scene.
        about: what it is about, numbers folded.
        nth: the how-manieth call of this name its thread made, wherever it went.
    """

    thread: int
    name: str
    path: str
    about: str
    nth: int


@dataclass(slots=True)
class Places:
    """What the paths and sockets of one run are called in all runs.

    Attributes:
        home: of the node.
        fs: the scene's volume.
        sockets: roles of the sockets that stood before the scene, by "socket:[INODE]".
    """

    home: Path
    fs: str
    sockets: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, node: Node, daemon: Daemon, volume: Volume) -> "Places":
        """As they are now."""
        return cls(node.home.root, volume.uuid, dict(_roles(node.process(daemon).pid)))

    def call(self, thread: int, name: str, arguments: str, nth: int = 0) -> Call | None:
        """A line of strace; None for what is none of ours."""
        at = _DESCRIPTOR.match(arguments)
        if at and _SOCKET.match(at[1]):
            role = self.sockets.get(at[1], "connection")
            # Closes are too many for a count to choose one.
            if name not in SOCKET_CALLS or role == "wake-up" or (role == "connection" and name == "close"):
                return None
            word = _WORD.search(arguments) if name.startswith("send") else None
            path = "" if role == "connection" else role
            return Call(thread, name, path, f"{role} {word[1]}" if word else role, nth)
        if name not in PATH_CALLS:
            return None
        texts = [at[1]] if at else _STRING.findall(arguments)
        ours = [p for t in texts if (p := self._watched(t))]
        if not ours:
            return None
        # Of rename(aside, tree) the tree tells more; -P looks at its first path only.
        telling = next((p for p in ours if "/aside/" not in p), ours[-1])
        path = ours[0] if name == "rename" else telling
        return Call(thread, name, path, re.sub(r"\d+", "N", telling.removeprefix("{home}/").replace("{fs}", "FS")), nth)

    def _watched(self, text: str) -> str | None:
        inside = text.removeprefix(f"{self.home}/")
        if inside == text or not _WATCHED.match(inside) or text.endswith(" (deleted)"):
            return None
        inside = inside.replace(self.fs, "{fs}")
        # A region of an earlier scene is a leftover of ours, not of this scene.
        return None if _UUID.search(inside) else f"{{home}}/{inside}"

    def real(self, path: str) -> str:
        """What -P takes in this run."""
        inodes = {role: inode for inode, role in self.sockets.items()}
        return inodes.get(path) or path.replace("{home}", str(self.home)).replace("{fs}", self.fs)


def _roles(pid: int) -> Iterator[tuple[str, str]]:
    """Role of each socket of a process: looked at through a copy of the descriptor, for only the socket knows."""
    libc = ctypes.CDLL(None, use_errno=True)
    whose = os.pidfd_open(pid)
    try:
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            name = entry.readlink().name
            if not _SOCKET.match(name):
                continue
            copy = libc.syscall(_SYS_PIDFD_GETFD, whose, int(entry.name), 0)
            if copy < 0:
                raise OSError(ctypes.get_errno(), f"cannot look at descriptor {entry.name} of process {pid}")
            with closing(socket.socket(fileno=copy)) as it:
                own = Path(str(it.getsockname())).name
                if it.getsockopt(socket.SOL_SOCKET, _SO_ACCEPTCONN):
                    yield name, f"listening {own}"
                else:
                    yield name, Path(str(it.getpeername())).name or own or "wake-up"
    finally:
        os.close(whose)


class Strace:
    """strace, attached to a daemon. It follows threads and children, and ends when all of them have.

    A context: at its end strace has let go, whatever happened.

    Args:
        pid: the daemon.
        output: where its lines go.
        options: what to trace, and what to inject.
    """

    def __init__(self, pid: int, output: Path, *options: str) -> None:
        self._output = output
        command = ("strace", "-f", "-y", "-s", "64", "-o", str(output), *options, "-p", str(pid))
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        assert self._process.stderr is not None
        said = []
        for line in self._process.stderr:
            said.append(line)
            if "attached" in line:
                return
        raise AssertionError(f"strace cannot attach: {''.join(said)}")

    @classmethod
    def recorder(cls, pid: int, output: Path) -> "Strace":
        """Records each call that can be a site."""
        return cls(pid, output, "-e", f"trace={_TRACED}")

    @classmethod
    def killer(cls, pid: int, output: Path, shot: Shot, places: Places) -> "Strace":
        """Kills before the call."""
        call = shot.site.call
        chosen = ("-P", places.real(shot.path)) if shot.path else ()
        return cls(pid, output, "-e", f"trace={call}", *chosen, "-e", f"inject={call}:signal=KILL:when={shot.when}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._let_go()

    def ended(self) -> None:
        """Wait for its end: a child of a killed daemon, a fence command that still runs, is waited for as well."""
        until("strace sees the end of all that it traced", lambda: self._process.poll() is not None)
        self._let_go()

    def stop(self) -> None:
        """Let go of what it traces, which need not live any more.

        strace lets go of one thread after the other, and waits until the kernel says that this one has stopped. A
        daemon that is killed meanwhile is never let go: of its first thread the kernel says nothing before all others
        are taken away, and those are strace's to take. So strace has its time, and then its own SIGKILL; the kernel
        lets go of what a dead tracer traced.
        """
        self._process.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(PATIENCE)
        self._let_go()

    def _let_go(self) -> None:
        self._process.kill()  # of no effect once it has ended
        self._process.wait()
        assert self._process.stderr is not None
        self._process.stderr.close()

    def lines(self) -> list[str]:
        """What it has written."""
        return self._output.read_text(errors="surrogateescape").splitlines()


def calls(lines: Iterable[str], places: Places) -> Iterator[Call]:
    """The calls of a recording, without those of children that became another program."""
    entries = [m for line in lines if (m := _ENTRY.match(line))]
    children = {m[1] for m in entries if m[2] == "execve"}
    nth: Counter[tuple[str, str]] = Counter()
    for thread, name, arguments in (m.groups() for m in entries):
        nth[thread, name] += 1
        if thread not in children and (call := places.call(int(thread), name, arguments, nth[thread, name])):
            yield call


def shots(recording: Iterable[Call], scene: str, daemon: Daemon, *, each: bool) -> list[Shot]:
    """How to hit each site of a recording, once; each: with each path that folds into it, and each count of a thread.

    A count beyond the first is met by the first thread that gets so far.
    """
    count: Counter[tuple[int, str, str]] = Counter()
    found: dict[tuple[object, ...], Shot] = {}
    for call in recording:
        place = (call.thread, call.name, call.path)
        count[place] += 1
        site = Site(scene, daemon, call.name, call.about)
        shot = Shot(site, call.path, count[place] if call.path else call.nth)
        found.setdefault((site, shot.path, shot.when) if each else (site,), shot)
    return list(found.values())


def killed_at(lines: list[str], places: Places) -> list[Call]:
    """The calls that were not executed because their thread was killed there: one, or more that waited meanwhile."""
    last: dict[str, str] = {}
    dead: list[str] = []
    for line in lines:
        if m := _KILLED.match(line):
            dead.append(m[1])
        elif m := _ENTRY.match(line):
            last[m[1]] = line
        elif " resumed>" in line and not re.search(r"= \?$", line):
            last.pop(line.split(maxsplit=1)[0], None)
    unfinished = (m for t in dead if (m := _ENTRY.match(last.get(t, ""))) and re.search(r"(= \?$|<unfinished)", m[3]))
    return [call for m in unfinished if (call := places.call(int(m[1]), m[2], m[3]))]
