r"""The mount table: what is mounted where, being told when that changes, and whether a device is still in use.

The outcome of a mount is what the kernel says, so the table is asked and not remembered. Two things are asked, and
they differ. A story: A's umount(2) takes the mount out of the table, then runs `ocfs2_hb_ctl -K`, and waits for it with
the device still held. So "not in the table" does not mean "not in use", nor does it with `umount -l`, or with a mount
in a namespace that we cannot see. `busy` answers the second question.

/proc/self/mountinfo, one line a mount, blank, tab, newline and backslash of a name as \ooo:

    36 35 253:16 / /srv/vm\040images rw,noatime shared:1 - ocfs2 /dev/vdb rw,...
    id parent major:minor root mount-point options optional... - fstype source options
"""

import asyncio
import errno as errnos
import fcntl
import os
import re
import select
import struct
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from libo2cb.errors import ServiceUnavailable
from libo2cb.mount_port import Busy, DeviceId, DeviceKind, Mount, MountTable, NoDevice, device_of, identify
from libo2cb.sandbox.mounts import SandboxMounts
from libo2cb.verbose import Scope, verbosef

__all__ = [
    "Busy",
    "DeviceId",
    "DeviceKind",
    "KernelMounts",
    "Mount",
    "MountTable",
    "NoDevice",
    "SandboxMounts",
    "device_of",
    "identify",
    "parse_mountinfo",
]

OCFS2 = "ocfs2"
MOUNTINFO = "/proc/self/mountinfo"
BLOCK_DEVICES = "/sys/block"

READ_ATTEMPTS = 10
READ_BYTES = 64 * 1024

LOOP_GET_STATUS64 = 0x4C05
_LOOP_INFO64 = struct.Struct("=QQ216x")  # device and inode of the backing file, and what does not matter here

_FIELDS_BEFORE_OPTIONAL = 6
_FIELDS_AFTER_DASH = 2
_ESCAPE = re.compile(rb"\\([0-7]{3})")


def _read_table() -> bytes:
    """The whole table as it stood at one moment, unless it changes faster than it can be read.

    The kernel hands it out a page at a time. A's volume is behind the page's end while B's, before it, is unmounted:
    on kernels before 5.8 all behind moves up by one, the next page begins after A's line, and A's volume seems gone.
    """
    fd = os.open(MOUNTINFO, os.O_RDONLY | os.O_CLOEXEC)
    try:
        for _ in range(READ_ATTEMPTS):
            os.lseek(fd, 0, os.SEEK_SET)
            data = b"".join(iter(lambda: os.read(fd, READ_BYTES), b""))
            if not _changed(fd):
                break
        return data
    finally:
        os.close(fd)


def _changed(fd: int) -> bool:
    """Whether the table changed since the descriptor was opened, or last asked."""
    poll = select.poll()
    poll.register(fd, select.POLLPRI)
    return bool(poll.poll(0))


def parse_mountinfo(data: bytes, fstypes: Iterable[str] = (OCFS2,)) -> list[Mount]:
    """The mounts of these file system types in the text of a mountinfo. Lines that are none are passed over."""
    wanted = {os.fsencode(f) for f in fstypes}
    return [mount for line in data.split(b"\n") if (mount := _parse_line(line, wanted)) is not None]


def _parse_line(line: bytes, wanted: set[bytes]) -> Mount | None:
    fields = line.split(b" ")
    try:
        dash = fields.index(b"-", _FIELDS_BEFORE_OPTIONAL)
        fstype, source = fields[dash + 1 : dash + 1 + _FIELDS_AFTER_DASH]
        major, minor = map(int, fields[2].split(b":"))
        device = os.makedev(major, minor)
    except (ValueError, OverflowError):
        return None
    if fstype not in wanted:
        return None
    return Mount(DeviceId(DeviceKind.BLOCK, device), _unescape(fields[4]), os.fsdecode(fstype), _unescape(source))


def _unescape(field: bytes) -> str:
    return os.fsdecode(_ESCAPE.sub(lambda found: bytes([int(found[1], 8) & 0xFF]), field))


class KernelMounts:
    """The mount table of the kernel, as this process's namespace shows it.

    Args:
        fstypes: which file systems count.
    """

    def __init__(self, fstypes: Iterable[str] = (OCFS2,)) -> None:
        self._fstypes = tuple(fstypes)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._table: int | None = None
        self._asked: int | None = None  # has_changed's own: a descriptor is told of each change once
        self._inner: select.epoll | None = None

    def mounts(self) -> list[Mount]:
        """All mounts, in the kernel's order."""
        try:
            data = _read_table()
        except OSError as error:
            verbosef(Scope.OCFS2, "read", MOUNTINFO, result=error)
            raise ServiceUnavailable("the mount table", says="cannot be read", do="mount /proc") from error
        verbosef(Scope.OCFS2, "read", MOUNTINFO, result=len(data))
        return parse_mountinfo(data, self._fstypes)

    def watch(self, loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> None:
        """Call back on the loop after every change."""
        if self._inner is not None:
            raise RuntimeError("the mount table is watched already")
        try:
            self._table = os.open(MOUNTINFO, os.O_RDONLY | os.O_CLOEXEC)
            self._asked = os.open(MOUNTINFO, os.O_RDONLY | os.O_CLOEXEC)
            self._inner = select.epoll()
            # mountinfo is always readable, and a change is told as priority data: a plain add_reader on it would spin.
            # So an epoll that waits for priority data only lies between.
            self._inner.register(self._table, select.EPOLLPRI)
        except OSError as error:
            self.close()
            raise ServiceUnavailable("the mount table", says="cannot be watched", do="mount /proc") from error

        def woken() -> None:
            # The kernel tells each change once, and the loop's own look at the inner epoll may already have used it
            # up: that poll(0) comes back empty says nothing. It is called to end the wake-up, not to be believed.
            if self._inner is not None:
                self._inner.poll(0)
            callback()

        loop.add_reader(self._inner.fileno(), woken)
        self._loop = loop

    def has_changed(self) -> bool:
        """Whether the table may be another than when this was last asked, or since `watch`. Never waits."""
        return self._asked is None or _changed(self._asked)

    def close(self) -> None:
        """Stop watching."""
        if self._inner is not None:
            if self._loop is not None and not self._loop.is_closed():
                self._loop.remove_reader(self._inner.fileno())
            self._inner.close()
        for descriptor in (self._table, self._asked):
            if descriptor is not None:
                os.close(descriptor)
        self._loop = self._inner = self._table = self._asked = None

    def busy(self, path: str, device: DeviceId | None = None) -> Busy:
        """Ask the kernel: an exclusive open of a block device fails with EBUSY while it is mounted.

        A regular file knows no exclusive open. Where loop devices lie on it they are asked in its place; where none is
        seen, the answer is UNKNOWN.
        """
        try:
            found = identify(path)
        except NoDevice:
            return Busy.UNKNOWN
        if device is not None and found != device:
            return Busy.UNKNOWN
        if found.kind is DeviceKind.BLOCK:
            return _exclusive(path, found)
        answers = {_exclusive(loop, None) for loop in _loops_on(found)}
        if Busy.BUSY in answers:
            return Busy.BUSY
        return Busy.FREE if answers == {Busy.FREE} else Busy.UNKNOWN


def _exclusive(path: str, device: DeviceId | None) -> Busy:
    flags = os.O_RDONLY | os.O_EXCL | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        fd = os.open(path, flags)
    except OSError as error:
        verbosef(Scope.OCFS2, "open", path, "O_RDONLY|O_EXCL", result=error)
        return Busy.BUSY if error.errno == errnos.EBUSY else Busy.UNKNOWN
    verbosef(Scope.OCFS2, "open", path, "O_RDONLY|O_EXCL", result=fd)
    try:
        if device is not None and device_of(os.fstat(fd)) != device:
            return Busy.UNKNOWN  # the name was given to another device between stat and open
        return Busy.FREE
    finally:
        os.close(fd)


def _loops_on(file: DeviceId) -> Iterator[str]:
    """Loop devices that lie on a file, by the kernel's own word and not by the path that it remembers."""
    for backing in Path(BLOCK_DEVICES).glob("loop*/loop/backing_file"):
        loop = f"/dev/{backing.parent.parent.name}"
        try:
            fd = os.open(loop, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            info = fcntl.ioctl(fd, LOOP_GET_STATUS64, bytes(_LOOP_INFO64.size))
        except OSError:  # ENXIO: it was detached meanwhile
            continue
        finally:
            os.close(fd)
        if _LOOP_INFO64.unpack(info) == (file.device, file.inode):
            yield loop
