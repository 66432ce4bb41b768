"""The pid file: held locked for a daemon's life, so that a second one sees the first.

The lock is flock(2) on the file, and ends with the process however that ends. The file itself stays: were it unlinked,
A could hold the lock of the old file while B locks a new one. Its content, "PID STARTTIME" and a newline with the start
time in clock ticks since boot, is for people and for the error of the second daemon.
"""

import contextlib
import fcntl
import os
from pathlib import Path
from typing import Final, Self

from libo2cb.processes import Process

_MODE: Final = 0o644
_DIRECTORY_MODE: Final = 0o755
_MAX_CONTENT: Final = 64


class PidFileError(Exception):
    """The pid file cannot be used. The text says why, and what to do."""


class AlreadyRunning(PidFileError):
    """Another daemon holds the pid file.

    Attributes:
        path: the pid file.
        holder: who holds it; None while it has not written its pid yet.
    """

    def __init__(self, path: Path, holder: Process | None) -> None:
        self.path = path
        self.holder = holder
        who = f"{holder}" if holder is not None else "a process that has not written its pid yet"
        super().__init__(f"already running: {who} holds {path}; stop it first, or let it be")


class PidFile:
    """A pid file that is ours. Leaving the context, or `release`, empties it and lets it go."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._descriptor: int | None = descriptor

    @classmethod
    def take(cls, path: Path) -> Self:
        """Lock the file and write our pid into it; makes its directory where there is none.

        Raises:
            AlreadyRunning: another daemon holds it.
            PidFileError: it cannot be made.
        """
        try:
            path.parent.mkdir(mode=_DIRECTORY_MODE, parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, _MODE)
        except OSError as error:
            raise PidFileError(f"the pid file {path} cannot be made: {error.strerror}") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            me = Process.current()
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{me.pid} {me.started}\n".encode("ascii"), 0)
        except BlockingIOError as error:
            os.close(descriptor)
            raise AlreadyRunning(path, read(path)) from error
        except OSError as error:
            os.close(descriptor)
            raise PidFileError(f"the pid file {path} cannot be written: {error.strerror}") from error
        return cls(path, descriptor)

    def release(self) -> None:
        """Empty the file and unlock it."""
        if self._descriptor is None:
            return
        with contextlib.suppress(OSError):
            os.ftruncate(self._descriptor, 0)
        os.close(self._descriptor)
        self._descriptor = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def read(path: Path) -> Process | None:
    """Whom a pid file names, if that process is alive."""
    try:
        with path.open("rb") as file:
            words = file.read(_MAX_CONTENT).split()
    except OSError:
        return None
    if len(words) != 2 or not all(word.isdigit() for word in words):  # noqa: PLR2004 (PID STARTTIME)
        return None
    process = Process(int(words[0]), int(words[1]))
    return process if process.alive() else None
