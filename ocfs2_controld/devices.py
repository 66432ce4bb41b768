"""Devices and the mount table as the mind speaks of them: by UUID. What is here may wait: it is for threads."""

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotYet
from dataclasses import dataclass
from errno import ENOENT
from os import strerror
from pathlib import Path
from typing import Final, Protocol

from libo2cb.errors import O2cbError
from libo2cb.mounts import Busy, DeviceId, KernelMounts, MountTable, NoDevice, SandboxMounts, identify
from libo2cb.superblock import read_superblock
from libo2cb.wording import shown
from ocfs2_controld.events import DeviceAnswer
from protocol.frozen import FrozenMap

PARTITIONS: Final = Path("/proc/partitions")
SYS_CLASS_BLOCK: Final = Path("/sys/class/block")
LOOKUP_SECONDS: Final = 1.0
"""How long the superblock of a mounted device may take before the table is told without it."""


@dataclass(frozen=True, slots=True)
class Looked:
    """What a MOUNT's device path leads to.

    Attributes:
        device: the device's identity as text; None when the path leads nowhere.
        problem: then errno and sentence.
        label: the volume's label; empty where it has none or cannot be read.
    """

    device: str | None
    problem: tuple[int, str] | None = None
    label: str = ""


def look(path: str) -> Looked:
    """Find out what a device path leads to."""
    try:
        device = identify(path)
    except NoDevice as error:
        why = error.why or strerror(error.errno)
        return Looked(None, (ENOENT, f'Failed to stat device "{shown(path, 200)}": {why}'))
    try:
        return Looked(str(device), label=read_superblock(path).label)
    except O2cbError:
        return Looked(str(device))


class Volumes(Protocol):
    """The mount table by UUID."""

    def mounts(self) -> FrozenMap[str, tuple[str, ...]]:
        """UUID to mount points; without local volumes, which one node mounts alone and which need no group.

        Raises:
            O2cbError: the table cannot be read. It is not to be taken for empty.
        """

    def sources(self) -> FrozenMap[str, tuple[str, str]]:
        """UUID to device path and label, of what is mounted: what clients of an earlier run of the daemon had said.

        Raises:
            O2cbError: the table cannot be read.
        """

    def busy(self, fs: str, path: str, device: str) -> DeviceAnswer:
        """Whether anybody still uses the device of a filesystem that was unmounted.

        Args:
            fs: the filesystem.
            path: its device as a client named it; empty when none did.
            device: what that path led to, as `look` said; empty when unknown.
        """

    def watch(self, loop: asyncio.AbstractEventLoop, changed: Callable[[], None]) -> None:
        """Call back on the loop after every change. For the loop itself, like the next."""

    def has_changed(self) -> bool:
        """Whether the table may be another than when this was last asked; see MountTable."""

    def close(self) -> None:
        """Stop watching."""


def _by_uuid(pairs: Iterable[tuple[str, str]]) -> FrozenMap[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for uuid, point in pairs:
        found[uuid.upper()] = (*found.get(uuid.upper(), ()), point)
    return FrozenMap(found)


class SandboxVolumes:
    """The sandbox's table, which knows the UUIDs.

    Args:
        table: the node's mount table.
    """

    def __init__(self, table: SandboxMounts) -> None:
        self._table = table
        self._local: dict[DeviceId, bool] = {}
        self.watch = table.watch
        self.has_changed = table.has_changed
        self.close = table.close

    def mounts(self) -> FrozenMap[str, tuple[str, ...]]:
        """UUID to mount points, without local volumes."""
        entries = self._table.entries()
        known = self._local
        self._local = {e.identity: known[e.identity] if e.identity in known else _is_local(e.device) for e in entries}
        return _by_uuid((e.uuid, e.mount_point) for e in entries if not self._local[e.identity])

    def sources(self) -> FrozenMap[str, tuple[str, str]]:
        """UUID to device path and label."""
        return FrozenMap({e.uuid.upper(): (e.device, look(e.device).label) for e in self._table.entries()})

    def busy(self, fs: str, path: str, device: str) -> DeviceAnswer:  # noqa: ARG002 (the table answers without path)
        """By the table, and by what is held."""
        try:
            point = next((e.mount_point for e in self._table.entries() if e.uuid.upper() == fs), None)
            if point is not None:
                return DeviceAnswer(fs, free=False, why=f"it is mounted on {shown(point)}")
            for hold in self._table.holds():
                if str(hold.identity) == device or _uuid_of(hold.device) == fs:
                    who = "" if hold.holder is None else f" by {hold.holder}"
                    return DeviceAnswer(fs, free=False, why=f"{shown(hold.device)} is held{who}")
        except O2cbError as error:
            return DeviceAnswer(fs, free=False, why=error.sentence())
        return DeviceAnswer(fs, free=True, why="")


def block_devices(partitions: Path = PARTITIONS, sys_class: Path = SYS_CLASS_BLOCK) -> list[str]:
    """Paths of the block devices of this machine, without those on which others lie (a disk below a multipath device).

    Raises:
        OSError: /proc cannot be read.
    """
    names = [fields[3] for line in partitions.read_text("ascii").splitlines() if (fields := line.split())[3:]]
    return [f"/dev/{name}" for name in names if name != "name" and not _has_holders(sys_class / name / "holders")]


def _has_holders(holders: Path) -> bool:
    try:
        return any(holders.iterdir())
    except OSError:
        return False


class KernelVolumes:
    """A mount table that knows devices alone: the superblocks say which filesystem they are.

    A superblock is read once for each device, in a thread of its own: A's path to its storage is dead, and a read of it
    never returns. B's mounts and stops must not wait for that. The table is told without A after a second, and told
    again, by the watcher's callback, should A answer after all.

    Args:
        table: the mount table.
        devices: the devices among which a filesystem is looked for when nobody knows its path any more.
    """

    def __init__(self, table: MountTable, devices: Callable[[], list[str]] = block_devices) -> None:
        self._table = table
        self._devices = devices
        self.has_changed = table.has_changed
        self._known: dict[DeviceId, Future[str]] = {}
        self._changed: Callable[[], None] = lambda: None

    def mounts(self) -> FrozenMap[str, tuple[str, ...]]:
        """UUID to mount points; without local volumes, and without the mounts whose device does not answer."""
        table = self._table.mounts()
        for gone in self._known.keys() - {m.device for m in table}:
            del self._known[gone]  # another volume may be behind that number next time
        for mount in table:
            if mount.device not in self._known:
                self._known[mount.device] = self._read(mount.source)
        return _by_uuid((uuid, m.mount_point) for m in table if (uuid := self._wait(self._known[m.device])))

    def sources(self) -> FrozenMap[str, tuple[str, str]]:
        """UUID to device path and label; without the mounts whose device does not answer."""
        self.mounts()
        found = [(self._wait(self._known[m.device]), m.source) for m in self._table.mounts() if m.device in self._known]
        return FrozenMap({uuid.upper(): (path, look(path).label) for uuid, path in found if uuid})

    def busy(self, fs: str, path: str, device: str) -> DeviceAnswer:
        """By an exclusive open; where nobody can say, the device is not called free."""
        try:
            if not path:
                return self._search(fs)
            found = identify(path)
            if device and str(found) != device:
                return DeviceAnswer(fs, free=False, why=f"{shown(path)} is {found} by now, and it lay on {device}")
            match self._table.busy(path, found):
                case Busy.FREE:
                    return DeviceAnswer(fs, free=True, why="")
                case Busy.BUSY:
                    why = f"{shown(path)} is in use: a lazy unmount, another namespace, or another program"
                    return DeviceAnswer(fs, free=False, why=why)
                case Busy.UNKNOWN:
                    return DeviceAnswer(fs, free=False, why=f"whether {shown(path)} is in use cannot be found out")
        except O2cbError as error:
            return DeviceAnswer(fs, free=False, why=error.sentence())

    def _search(self, fs: str) -> DeviceAnswer:
        """By the superblocks: A was restarted, and the client that had named the device is long gone."""
        try:
            bearing = [path for path in self._devices() if _uuid_of(path).upper() == fs]
        except OSError as error:
            return DeviceAnswer(fs, free=False, why=f"its device cannot be looked for: {error.strerror}")
        if not bearing:
            why = "which device it lies on is not known since the restart, and none here bears its UUID"
            return DeviceAnswer(fs, free=False, why=why)
        answers = [self.busy(fs, path, "") for path in bearing]
        return next((answer for answer in answers if not answer.free), DeviceAnswer(fs, free=True, why=""))

    def watch(self, loop: asyncio.AbstractEventLoop, changed: Callable[[], None]) -> None:
        """Call back on the loop after every change, and when a slow device has answered."""
        self._table.watch(loop, changed)

        def answered() -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(changed)

        self._changed = answered

    def close(self) -> None:
        """Stop watching."""
        self._changed = lambda: None
        self._table.close()

    def _read(self, path: str) -> Future[str]:
        answer: Future[str] = Future()
        threading.Thread(
            target=lambda: answer.set_result(_uuid_of(path, clustered=True)), name=f"superblock {path}", daemon=True
        ).start()
        return answer

    def _wait(self, answer: Future[str]) -> str:
        try:
            return answer.result(LOOKUP_SECONDS)
        except NotYet:
            answer.add_done_callback(lambda _: self._changed())
            return ""


def volumes_of(table: KernelMounts | SandboxMounts) -> Volumes:
    """The volumes of a mount table: the sandbox's knows their UUIDs, the kernel's knows devices."""
    return SandboxVolumes(table) if isinstance(table, SandboxMounts) else KernelVolumes(table)


def _uuid_of(path: str, *, clustered: bool = False) -> str:
    """The UUID of the volume at a path; empty when there is none, or none that is wanted."""
    try:
        volume = read_superblock(path)
    except O2cbError:
        return ""
    return "" if clustered and volume.local else volume.uuid


def _is_local(path: str) -> bool:
    """Whether one node mounts the volume at a path alone."""
    try:
        return read_superblock(path).local
    except O2cbError:
        return False
