"""Being told by the kernel when a name in a directory is replaced: as much of inotify as that takes.

No polling: a descriptor that an event loop watches. Only files that are made by rename are seen, which is how the
sandbox makes all of its files.
"""

import ctypes
import errno as errnos
import os
import struct
from collections.abc import Iterator

IN_MOVED_TO = 0x00000080
IN_DELETE = 0x00000200
IN_UNMOUNT = 0x00002000
IN_Q_OVERFLOW = 0x00004000
IN_IGNORED = 0x00008000
IN_ONLYDIR = 0x01000000

_EVENT = struct.Struct("iIII")
_READ_BYTES = 64 * 1024

_libc = ctypes.CDLL(None, use_errno=True)


class DirectoryWatch:
    """A watch on one directory.

    Args:
        directory: what to watch; it must exist.

    Raises:
        OSError: with inotify's errno: ENOENT, ENOTDIR, EACCES, EMFILE, ENOSPC (limit of watches).
    """

    def __init__(self, directory: str) -> None:
        self._fd: int = _libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._fd < 0:
            raise _error("inotify_init1")
        mask = IN_MOVED_TO | IN_DELETE | IN_ONLYDIR
        if _libc.inotify_add_watch(self._fd, ctypes.c_char_p(os.fsencode(directory)), ctypes.c_uint32(mask)) < 0:
            error = _error(directory)
            self.close()
            raise error

    def fileno(self) -> int:
        """Readable when something happened; -1 after close."""
        return self._fd

    def changed(self) -> set[str] | None:
        """Names that were replaced or removed since the last call; never waits.

        None when names may be missing from the answer: the kernel's queue ran over, or the directory is gone.
        """
        names: set[str] = set()
        whole = True
        for mask, name in self._events():
            if mask & (IN_Q_OVERFLOW | IN_IGNORED | IN_UNMOUNT):
                whole = False
            elif name:
                names.add(os.fsdecode(name))
        return names if whole else None

    def _events(self) -> Iterator[tuple[int, bytes]]:
        while True:
            try:
                data = os.read(self._fd, _READ_BYTES)
            except BlockingIOError:
                return
            at = 0
            while at < len(data):
                _, mask, _, length = _EVENT.unpack_from(data, at)
                at += _EVENT.size
                yield mask, data[at : at + length].rstrip(b"\0")
                at += length

    def close(self) -> None:
        """Stop watching. May be called twice."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _error(what: str) -> OSError:
    number = ctypes.get_errno() or errnos.EIO
    return OSError(number, os.strerror(number), what)
