"""Ends what lives in some network namespaces when whoever started this process is gone, however it went.

    python -m tests.real.corosync.keeper DIRECTORY

Reads lines: a pid names the namespace of that process, and "done" says that nothing is left to do. When the input
ends without that word, its writer was killed: every process in those namespaces is ended, and the directory removed.
"""

import errno
import os
import shutil
import signal
import sys
import time
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from libo2cb.processes import Process

PATIENCE = 10.0
"""Seconds for killed processes to be gone."""


@dataclass(frozen=True, slots=True)
class Namespace:
    """A network namespace. It is kept by an open file, so that its name is no other's meanwhile.

    Attributes:
        file: the open file.
        name: as the kernel shows it: "net:[4026532000]".
    """

    file: int
    name: str

    @classmethod
    def of(cls, pid: int) -> Self:
        """The one in which a process is.

        Raises:
            OSError: there is no such process, or it is in our own.
        """
        file = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        name = str(Path(f"/proc/self/fd/{file}").readlink())
        if name == str(Path("/proc/self/ns/net").readlink()):
            os.close(file)
            raise OSError(errno.EPERM, "that is our own network, whose inhabitants are not ours to end")
        return cls(file, name)

    def close(self) -> None:
        """Let it go."""
        os.close(self.file)


def inhabitants(namespaces: Collection[Namespace]) -> list[Process]:
    """The processes that live in these namespaces, whoever started them; never this one."""
    names = {namespace.name for namespace in namespaces}
    found = []
    for entry in os.scandir("/proc"):
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with suppress(OSError):
                if str(Path(f"{entry.path}/ns/net").readlink()) in names and (process := Process.of(int(entry.name))):
                    found.append(process)
    return found


def end_all(namespaces: Collection[Namespace], spared: Collection[int] = ()) -> None:
    """Kill every process in these namespaces, but for the spared pids, and wait until none is left.

    Raises:
        TimeoutError: one does not go.
    """
    deadline = time.monotonic() + PATIENCE
    while left := [it for it in inhabitants(namespaces) if it.pid not in spared]:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{', '.join(map(str, left))} did not die within {PATIENCE:.0f} s of SIGKILL")
        for process in left:
            process.kill()
        time.sleep(0.005)


def main() -> int:
    """The command."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # a test that is interrupted still has to be cleaned up after
    namespaces: list[Namespace] = []
    for line in sys.stdin:
        if line.strip() == "done":
            return 0
        with suppress(OSError):
            namespaces.append(Namespace.of(int(line)))
    end_all(namespaces)
    shutil.rmtree(Path(sys.argv[1]), ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
