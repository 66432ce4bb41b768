"""The tools that hold a filesystem: which are at work when the daemon starts, and being told when one ends.

They end with their process at the latest. A daemon that is restarted under them has no word of theirs any more; but
the kernel shows which programs run, and what they have open.
"""

import asyncio
import os
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path
from typing import Final

from libo2cb.errors import O2cbError
from libo2cb.mounts import device_of
from libo2cb.processes import Process
from libo2cb.superblock import read_superblock
from ocfs2_controld.events import ProcessEnded, Tool
from ocfs2_controld.services import TOOLS
from protocol.frozen import FrozenMap

MOST_DESCRIPTORS: Final = 256
"""Processes that are watched by a descriptor each; further ones are looked at, so that clients keep theirs."""
POLL_SECONDS: Final = 1.0
"""Pause between two looks at a process for which the kernel gives no descriptor."""


def tools_at_work(volumes: Collection[str]) -> FrozenMap[str, tuple[Tool, ...]]:
    """The tools of this machine that have one of these volumes open: UUID to tools. May wait: for threads.

    Only those in this process's network namespace: others could not have told us anything.
    """
    found: dict[str, tuple[Tool, ...]] = {}
    for entry in Path("/proc").iterdir():
        with suppress(OSError):  # it has ended, or is not ours to look at
            if not entry.name.isdigit() or (name := (entry / "comm").read_text().rstrip("\n")) not in TOOLS:
                continue
            process = Process.of(int(entry.name))
            here = (entry / "ns" / "net").readlink() == Path("/proc/self/ns/net").readlink()
            if process is None or not here:
                continue
            for uuid in _volumes_open(entry) & set(volumes):
                found[uuid] = (*found.get(uuid, ()), Tool(name, process.pid, float(process.started)))
    return FrozenMap(found)


def _volumes_open(process: Path) -> set[str]:
    """UUIDs of the volumes that a process has open."""
    uuids = set()
    for descriptor in (process / "fd").iterdir():
        with suppress(OSError, O2cbError):  # closed meanwhile, or no volume
            if device_of(descriptor.stat()) is not None:
                uuids.add(read_superblock(str(descriptor)).uuid)
    return uuids


class ProcessWatch:
    """Watches processes from the running loop.

    Args:
        ended: told once for each process that has ended.
    """

    def __init__(self, ended: Callable[[ProcessEnded], None]) -> None:
        self._ended = ended
        self._descriptors: dict[Process, int] = {}
        self._timers: dict[Process, asyncio.TimerHandle] = {}

    def watch(self, pid: int, started: float) -> None:
        """Watch a process; one that has ended already is told a moment later. Watching twice is watching once."""
        process = Process(pid, int(started))
        if process in self._descriptors or process in self._timers:
            return
        loop = asyncio.get_running_loop()
        try:
            descriptor = os.pidfd_open(pid) if len(self._descriptors) < MOST_DESCRIPTORS else None
        except OSError:
            # It has ended, the kernel is older than 5.3, or there is no descriptor left. Looking at it finds out.
            descriptor = None
        if descriptor is None:
            self._timers[process] = loop.call_later(0, self._look, process)
            return
        self._descriptors[process] = descriptor
        loop.add_reader(descriptor, self._gone, process)
        if not process.alive():
            # Its successor has the pid, and the descriptor.
            loop.call_soon(self._gone, process)

    def close(self) -> None:
        """Watch nothing any more."""
        for process in list(self._descriptors):
            self._forget(process)
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def _look(self, process: Process) -> None:
        if process.alive():
            self._timers[process] = asyncio.get_running_loop().call_later(POLL_SECONDS, self._look, process)
            return
        if self._timers.pop(process, None) is not None:
            self._ended(ProcessEnded(process.pid, process.started))

    def _gone(self, process: Process) -> None:
        if process in self._descriptors:
            self._forget(process)
            self._ended(ProcessEnded(process.pid, process.started))

    def _forget(self, process: Process) -> None:
        descriptor = self._descriptors.pop(process)
        asyncio.get_running_loop().remove_reader(descriptor)
        os.close(descriptor)
