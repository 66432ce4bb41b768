"""The mount table of a sandbox node: one file in a directory, shared by every process of the node.

The file is replaced by one rename under a lock, so any reader sees a whole table, and so does whoever comes after a
kill -9 at any point. Watchers are told by inotify. What comes and goes is journalled (mount_journal.py).

A device is in use while the table shows it, and also while it is *held*. That is the state in which a real umount(2)
waits for its helper: out of the table, and the device still taken. A mount in another namespace, or after `umount -l`,
looks the same.
"""

import asyncio
import errno as errnos
import fcntl
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from libo2cb.errors import ConfigurationError, KernelRefusal, ServiceUnavailable
from libo2cb.inotify import DirectoryWatch
from libo2cb.kernel.home import SandboxHome
from libo2cb.mount_port import Busy, DeviceId, DeviceKind, Mount, NoDevice, identify
from libo2cb.processes import Process
from libo2cb.sandbox.mount_journal import CLEAR, MOUNT, UMOUNT, MountJournal
from libo2cb.verbose import Scope, verbosef

TABLE = "mounts"
LOCK = "mounts.lock"
ASIDE = "mounts.new"
FSTYPE = "ocfs2"


@dataclass(frozen=True, slots=True)
class SandboxMount:
    """A line of the table.

    Attributes:
        uuid: the volume's UUID.
        device: path of its device or image, as named at the mount.
        mount_point: where.
        pid: the process that mounted it; it may be long gone.
        identity: which device the path was.
    """

    uuid: str
    device: str
    mount_point: str
    pid: int
    identity: DeviceId


@dataclass(frozen=True, slots=True)
class Hold:
    """A device that stays in use although the table may not show it.

    Attributes:
        device: path, for people.
        identity: which device.
        holder: the process that ends the hold with its death; None for a hold that stays until it is released.
    """

    device: str
    identity: DeviceId
    holder: Process | None = None

    @property
    def lasts(self) -> bool:
        """Whether it still holds."""
        return self.holder is None or self.holder.alive()


@dataclass(frozen=True, slots=True)
class _Table:
    mounts: tuple[SandboxMount, ...] = ()
    held: tuple[Hold, ...] = ()


class SandboxMounts:
    """The mount table of the node that lives in a directory.

    Args:
        directory: where the table lies; made when it is missing. The journal lies in log/ beside it, and the node's
            tree in kernel/.
    """

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self.directory = Path(directory)
        self._journal = MountJournal(self.directory.parent / "log")
        self._watch: DirectoryWatch | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def entries(self) -> list[SandboxMount]:
        """The table with all that it knows, in order of mounting."""
        return list(self._read().mounts)

    def holds(self) -> list[Hold]:
        """What is held, without the holds of processes that died."""
        return [h for h in self._read().held if h.lasts]

    def mounts(self) -> list[Mount]:
        """All mounts, in order of mounting."""
        return [Mount(e.identity, e.mount_point, FSTYPE, e.device) for e in self._read().mounts]

    def enter(self, device: str, mount_point: str, uuid: str, *, clustered: bool = False) -> None:
        """Mount: put the volume into the table.

        Args:
            device: path of the volume.
            mount_point: where.
            uuid: of the volume.
            clustered: mount it as a kernel with links does, which looks for the region of the volume first.

        Raises:
            NoDevice: the path leads to no device or image.
            KernelRefusal: EBUSY, something is mounted there; EINVAL, no region stands for it.
        """
        entry = SandboxMount(uuid, device, mount_point, os.getpid(), identify(device))
        with self._change() as table:
            error = None
            if any(e.mount_point == mount_point for e in table.mounts):
                error = KernelRefusal(
                    "mount", mount_point, errnos.EBUSY, why="something is mounted there", do="unmount it first"
                )
            elif clustered and not self._region_stands(uuid):
                error = KernelRefusal(
                    "mount",
                    mount_point,
                    errnos.EINVAL,
                    why=f"no heartbeat region {uuid} stands in this node's tree",
                    do="mount it with mount.ocfs2, which asks ocfs2_controld for one; if it did, mount again",
                )
            if error is not None:
                verbosef(Scope.OCFS2, "mount", device, mount_point, FSTYPE, result=error)
                raise error
            self._journal.append(MOUNT, uuid, mount_point)
            self._write(_Table((*table.mounts, entry), table.held))
        verbosef(Scope.OCFS2, "mount", device, mount_point, FSTYPE)

    def leave(self, mount_point: str, *, hold: bool = False) -> SandboxMount:
        """Unmount: take it out of the table.

        Args:
            mount_point: where it was mounted.
            hold: in the same instant let the calling process hold the device, until it releases it or dies.

        Returns:
            What was mounted there.

        Raises:
            KernelRefusal: EINVAL, nothing is mounted there.
        """
        with self._change() as table:
            gone = next((e for e in table.mounts if e.mount_point == mount_point), None)
            if gone is None:
                error = KernelRefusal("umount", mount_point, errnos.EINVAL, why="nothing is mounted there")
                verbosef(Scope.OCFS2, "umount", mount_point, result=error)
                raise error
            held = table.held
            if hold:
                held = (*held, Hold(gone.device, gone.identity, Process.current()))
            self._journal.append(UMOUNT, gone.uuid, mount_point)
            self._write(_Table(tuple(e for e in table.mounts if e is not gone), held))
        verbosef(Scope.OCFS2, "umount", mount_point)
        return gone

    def hold(self, device: str) -> None:
        """Let a device stay in use until it is released, whatever the table shows. Holding twice is holding once.

        Raises:
            NoDevice: the path leads to no device or image.
        """
        hold = Hold(device, identify(device))
        with self._change() as table:
            if not any(h.holder is None and h.identity == hold.identity for h in table.held):
                self._write(_Table(table.mounts, (*table.held, hold)))

    def release(self, device: str) -> None:
        """End all holds on a device. None held: nothing happens. The path may have gone meanwhile."""
        try:
            identity = identify(device)
        except NoDevice:
            identity = None
        with self._change() as table:
            kept = tuple(h for h in table.held if h.device != device and h.identity != identity)
            if kept != table.held:
                self._write(_Table(table.mounts, kept))

    def clear(self) -> None:
        """Forget everything: the node was powered off."""
        with self._change() as table:
            if table.mounts:
                self._journal.append(CLEAR)
            if table != _Table():
                self._write(_Table())

    def busy(self, path: str, device: DeviceId | None = None) -> Busy:
        """BUSY while the table shows the device or it is held, else FREE; UNKNOWN for a path that is another device."""
        try:
            found = identify(path)
        except NoDevice:
            return Busy.UNKNOWN
        if device is not None and found != device:
            return Busy.UNKNOWN
        table = self._read()
        used = any(e.identity == found for e in table.mounts) or any(
            h.identity == found and h.lasts for h in table.held
        )
        return Busy.BUSY if used else Busy.FREE

    def watch(self, loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> None:
        """Call back on the loop after every change of the table or of what is held.

        The death of a process that holds a device is no change of the table: ask busy again after a while.
        """
        if self._watch is not None:
            raise RuntimeError("the mount table is watched already")
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            watch = DirectoryWatch(str(self.directory))
        except OSError as error:
            raise ServiceUnavailable(f"the mount table in {self.directory}", says="cannot be watched") from error

        def woken() -> None:
            changed = watch.changed()
            if changed is None or TABLE in changed:
                callback()

        loop.add_reader(watch.fileno(), woken)
        self._watch, self._loop = watch, loop

    def has_changed(self) -> bool:
        """Whether the table may be another than when this was last asked, or the watcher last told. Never waits."""
        if self._watch is None:
            return True
        changed = self._watch.changed()
        return changed is None or TABLE in changed

    def close(self) -> None:
        """Stop watching."""
        if self._watch is not None:
            if self._loop is not None and not self._loop.is_closed():
                self._loop.remove_reader(self._watch.fileno())
            self._watch.close()
        self._watch = self._loop = None

    def _region_stands(self, uuid: str) -> bool:
        clusters = SandboxHome(self.directory.parent).tree
        return any((cluster / "heartbeat" / uuid).is_dir() for cluster in clusters.glob("*"))

    def _read(self) -> _Table:
        path = self.directory / TABLE
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return _Table()
        except OSError as error:
            raise ServiceUnavailable(f"the mount table {path}", says="cannot be read") from error
        try:
            return _parse(json.loads(data))
        except (ValueError, RecursionError) as error:
            raise ConfigurationError(
                f"the mount table {path}", says="is damaged", do="power the node off and remove the file", cause=error
            ) from error

    @contextmanager
    def _change(self) -> Iterator[_Table]:
        """The table under its lock. The lock ends with its holder, also by kill -9."""
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            fd = os.open(self.directory / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise ServiceUnavailable(f"the mount table in {self.directory}", says="cannot be changed") from error
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            table = self._read()
            self._journal.settle([e.mount_point for e in table.mounts])
            yield table
        finally:
            os.close(fd)

    def _write(self, table: _Table) -> None:
        aside = self.directory / ASIDE  # only the holder of the lock writes it; what a dead one left is overwritten
        try:
            aside.write_bytes(json.dumps(_plain(table), indent=1).encode("ascii"))
            aside.replace(self.directory / TABLE)
        except OSError as error:
            raise ServiceUnavailable(f"the mount table in {self.directory}", says="cannot be changed") from error


def _plain(table: _Table) -> dict[str, object]:
    def identity(of: DeviceId) -> list[object]:
        return [of.kind.value, of.device, of.inode]

    return {
        "mounts": [[e.uuid, e.device, e.mount_point, e.pid, identity(e.identity)] for e in table.mounts],
        "held": [
            [h.device, identity(h.identity), [h.holder.pid, h.holder.started] if h.holder else None] for h in table.held
        ],
    }


def _parse(plain: object) -> _Table:
    """The table from its JSON; ValueError for anything else."""

    def identity(value: object) -> DeviceId:
        match value:
            case [str(kind), int(device), int(inode)]:
                return DeviceId(DeviceKind(kind), device, inode)
        raise ValueError("an identity is not [kind, device, inode]")

    def mount(value: object) -> SandboxMount:
        match value:
            case [str(uuid), str(device), str(mount_point), int(pid), of]:
                return SandboxMount(uuid, device, mount_point, pid, identity(of))
        raise ValueError("a mount is not [uuid, device, mount point, pid, identity]")

    def hold(value: object) -> Hold:
        match value:
            case [str(device), of, None]:
                return Hold(device, identity(of))
            case [str(device), of, [int(pid), int(started)]]:
                return Hold(device, identity(of), Process(pid, started))
        raise ValueError("a hold is not [device, identity, holder]")

    match plain:
        case {"mounts": [*mounts], "held": [*held]}:
            return _Table(tuple(map(mount, mounts)), tuple(map(hold, held)))
    raise ValueError("it has no mounts and held")
