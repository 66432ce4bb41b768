"""The port to the mount table, and what it speaks of: devices, mounts, and whether a device is in use.

Import from libo2cb.mounts, which has the adapters as well.
"""

import asyncio
import errno as errnos
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from libo2cb.errors import ConfigurationError
from libo2cb.verbose import Scope, verbosef
from libo2cb.wording import shown


class DeviceKind(Enum):
    """What a volume lies on."""

    BLOCK = "block"
    FILE = "file"


@dataclass(frozen=True, slots=True)
class DeviceId:
    """Identity of a device, whatever path led to it.

    Attributes:
        kind: a block device or a regular file.
        device: st_rdev of a block device; st_dev of a file.
        inode: st_ino of a file; 0 for a block device.
    """

    kind: DeviceKind
    device: int
    inode: int = 0

    def __str__(self) -> str:
        number = f"{os.major(self.device)}:{os.minor(self.device)}"
        return f"block device {number}" if self.kind is DeviceKind.BLOCK else f"file {self.inode} on {number}"


class NoDevice(ConfigurationError):
    """A path that leads to no block device or regular file.

    Attributes:
        path: the path.
        errno: why it could not be looked at; ENOTBLK for one that is something else.
    """

    def __init__(
        self, path: str, errno: int = errnos.ENOTBLK, why: str = "", cause: BaseException | None = None
    ) -> None:
        super().__init__(f'device "{shown(path, 200)}"', says="cannot be used", why=why, cause=cause)
        self.args = (path, errno)
        self.path = path
        self.errno = errno
        self.do = "check the name of the device"


def identify(path: str) -> DeviceId:
    """Which device a path leads to. Follows links, opens nothing.

    Raises:
        NoDevice: it leads nowhere, or to something that holds no volume.
    """
    try:
        status = os.stat(path)  # noqa: PTH116 (Path("") would be the working directory)
    except OSError as error:
        verbosef(Scope.OCFS2, "stat", path, result=error)
        raise NoDevice(path, error.errno or errnos.EIO) from error
    except ValueError as error:
        raise NoDevice(path, errnos.EINVAL) from error
    verbosef(Scope.OCFS2, "stat", path)
    device = device_of(status)
    if device is None:
        raise NoDevice(path, why="it is neither a block device nor an image file")
    return device


def device_of(status: os.stat_result) -> DeviceId | None:
    """The identity in a stat result; None for what can hold no volume."""
    if stat.S_ISBLK(status.st_mode):
        return DeviceId(DeviceKind.BLOCK, status.st_rdev)
    if stat.S_ISREG(status.st_mode):
        return DeviceId(DeviceKind.FILE, status.st_dev, status.st_ino)
    return None


@dataclass(frozen=True, slots=True)
class Mount:
    """One mount of a volume. One volume may be mounted at several places.

    Attributes:
        device: the volume's device.
        mount_point: where, as this process sees it; stray bytes by surrogateescape.
        fstype: "ocfs2".
        source: the device as it was named at the mount.
    """

    device: DeviceId
    mount_point: str
    fstype: str
    source: str


class Busy(Enum):
    """Whether somebody uses a device exclusively."""

    FREE = "free"
    BUSY = "busy"
    UNKNOWN = "unknown"
    """Nobody can say: a regular file, or a device that is gone or not ours to open."""


class MountTable(Protocol):
    """What is mounted, and what is still in use."""

    def mounts(self) -> list[Mount]:
        """All mounts of OCFS2 volumes, in the table's order.

        Raises:
            O2cbError: the table cannot be read.
        """

    def watch(self, loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> None:
        """Call back on the loop after every change; read the table once after this call.

        A call may stand for many changes, or for none that concerns us.

        Raises:
            O2cbError: the table cannot be watched.
            RuntimeError: it is watched already.
        """

    def has_changed(self) -> bool:
        """Whether the table may be another than when this was last asked, or since `watch`. Never waits.

        A change that came before the call is seen by it, whatever the watcher has been told so far; the watcher may
        then be told no more of that one.
        """

    def close(self) -> None:
        """Stop watching. May be called twice."""

    def busy(self, path: str, device: DeviceId | None = None) -> Busy:
        """Whether somebody uses the device exclusively, as a mount does.

        To be asked only after an UNMOUNT: the question itself holds the device for a moment, and between MOUNT and its
        outcome that would make the mount fail. It may wait without limit: ask in a thread.

        Args:
            path: the device.
            device: which device that path meant; when it means another one by now, the answer is UNKNOWN.
        """
