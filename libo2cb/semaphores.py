"""Reference counts of heartbeat regions: kernel state that outlives every program, and ends with a boot.

The tools of the classic stack count there who uses a region, in a set of two System V semaphores for each region; both
kinds of tools print it (`ocfs2_hb_ctl -I -u UUID`: "UUID: 2 refs"). With a user stack they count nothing: there
ocfs2_controld counts the regions that were started by hand, since nothing else in the kernel would tell its successor.

    key     CRC-32 (that of zlib) of the UUID as 32 upper-case hex digits
    set     two semaphores, mode 000: for root alone
    sem 0   a mutex: wait for 0 and add 1 in one operation; minus 1 to let go; both undone at the holder's death
    sem 1   the count: plus or minus 1, undone at the caller's death unless it is to persist
    at 0    the set is removed, under the mutex. Who waited then gets EIDRM, and looks the set up again.
"""

import contextlib
import ctypes
import errno as errnos
import os
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, Protocol

from libo2cb.errors import BadSem, NoSem, O2cbError, RegionInUse
from libo2cb.verbose import Scope, verbosef

MUTEX_SECONDS: Final = 5.0
"""How long another program may hold the mutex of a set. The originals hold it for the removal of a region."""
LARGEST: Final = 32767
"""The kernel's limit of a semaphore's value."""

_IPC_CREAT: Final = 0o1000
_IPC_RMID: Final = 0
_GETVAL: Final = 12
_UNDO: Final = 0x1000
_NOWAIT: Final = 0o4000
_MUTEX: Final = 0
_COUNT: Final = 1
_SIZE: Final = 2


class RegionRefs(Protocol):
    """Counts of who holds which region, as the kernel keeps them. May wait: for threads."""

    def count(self, region: str) -> int:
        """References of a region; 0 for one that nobody counts.

        Raises:
            O2cbError: they cannot be read.
        """

    def keep(self, region: str, count: int) -> None:
        """Let so many references stand from now on, whatever stood before. They outlive this process.

        Raises:
            O2cbError: they cannot be changed.
        """


class NoRefs:
    """A kernel that counts nothing."""

    def count(self, region: str) -> int:  # noqa: ARG002 (the port's name)
        """None."""
        return 0

    def keep(self, region: str, count: int) -> None:
        """Nothing is kept."""


class _SemBuf(ctypes.Structure):
    _fields_ = (("number", ctypes.c_ushort), ("operation", ctypes.c_short), ("flags", ctypes.c_short))


class _TimeSpec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


def key_of(region: str) -> int:
    """The key of a region's set, as an unsigned number; region: its UUID, in either case."""
    return zlib.crc32(region.upper().encode("ascii", "surrogateescape"))


class RegionSemaphores:
    """The semaphores of this machine, or of this process's IPC namespace.

    Args:
        mutex_seconds: how long the mutex of a set is waited for.
    """

    def __init__(self, mutex_seconds: float = MUTEX_SECONDS) -> None:
        self._mutex_seconds = mutex_seconds
        self._libc = ctypes.CDLL(None, use_errno=True)

    def count(self, region: str) -> int:
        """References of a region. Makes no set where none is, unlike the originals.

        Raises:
            BadSem: the set cannot be read.
        """
        while True:
            found = self._find(region, create=False)
            if found is None:
                return 0
            with contextlib.suppress(_GoneError):
                return self._value(region, found)

    def get(self, region: str, *, persist: bool = True) -> int:
        """Take one reference.

        Args:
            region: its UUID.
            persist: whether it outlives this process.

        Returns:
            How many there are now.

        Raises:
            BadSem: the kernel refuses.
            NoSem: somebody removed the set meanwhile, without its mutex.
            RegionInUse: the mutex does not come free.
        """
        with self._locked(region) as found:
            self._change(region, found, 1, undo=not persist)
            return self._value(region, found)

    def put(self, region: str, *, persist: bool = True) -> int:
        """Give one reference back. With none left, nothing happens: the originals tolerate that as well.

        Args:
            region: its UUID.
            persist: whether it was taken so.

        Returns:
            How many are left; with 0 the set is gone.

        Raises:
            BadSem: the kernel refuses.
            NoSem: somebody removed the set meanwhile, without its mutex.
            RegionInUse: the mutex does not come free.
        """
        with self._locked(region) as found:
            count = self._value(region, found)
            if count:
                self._change(region, found, -1, undo=not persist)
                count -= 1
            if not count:
                self._remove(region, found)
            return count

    def keep(self, region: str, count: int) -> None:
        """Let so many references stand, persistent ones.

        Raises:
            BadSem: the kernel refuses, or the count is below 0 or more than LARGEST.
            NoSem: somebody removed the set meanwhile, without its mutex.
        """
        if not 0 <= count <= LARGEST:
            says, why = f"cannot become {count}", f"a semaphore holds 0 to {LARGEST}"
            raise BadSem(f"the reference count of filesystem {region}", says=says, why=why)
        if not count and self._find(region, create=False) is None:
            return
        with self._locked(region) as found:
            now = self._value(region, found)
            if count != now:
                self._change(region, found, count - now, undo=False)
            if not count:
                self._remove(region, found)

    # The kernel's calls.

    def _find(self, region: str, *, create: bool) -> int | None:
        """The identifier of a region's set; None when there is none."""
        key = ctypes.c_int(key_of(region) - (1 << 32) if key_of(region) >> 31 else key_of(region))
        found = self._libc.semget(key, _SIZE, _IPC_CREAT if create else 0)
        code = ctypes.get_errno()
        self._tell("semget", f"{key_of(region):#010x}", result=found if found >= 0 else OSError(code, ""))
        if found >= 0:
            return int(found)
        if code == errnos.ENOENT:
            return None
        raise self._bad(region, "cannot be had", code)

    @contextmanager
    def _locked(self, region: str) -> Iterator[int]:
        """The set of a region, made where it is missing, with its mutex held. Removed meanwhile: looked up again."""
        deadline = time.monotonic() + self._mutex_seconds
        while True:
            found = self._find(region, create=True)
            assert found is not None  # noqa: S101 (made if it was missing)
            with contextlib.suppress(_GoneError):
                self._lock(region, found, deadline)
                break
        try:
            yield found
        except _GoneError as gone:
            subject = f"the reference count of filesystem {region}"
            raise NoSem(subject, says="was removed by somebody who did not lock it", do="see who calls ipcrm") from gone
        finally:
            # Gone: it was removed in the block, and the mutex with it.
            with contextlib.suppress(_GoneError):
                self._operate(region, found, [(_MUTEX, -1, _UNDO)])

    def _lock(self, region: str, found: int, deadline: float) -> None:
        left = deadline - time.monotonic()
        try:
            self._operate(region, found, [(_MUTEX, 0, _UNDO), (_MUTEX, 1, _UNDO)], max(0.0, left))
        except _WaitedError:
            raise RegionInUse(
                f"the reference count of filesystem {region}",
                says=f"has been locked by another program for {self._mutex_seconds:g} s",
                do="see which ocfs2 tool hangs (ps axl), and end it",
            ) from None

    def _value(self, region: str, found: int) -> int:
        value = self._libc.semctl(found, _COUNT, _GETVAL)
        if value < 0:
            self._failed(region, "cannot be read")
        return int(value)

    def _change(self, region: str, found: int, by: int, *, undo: bool) -> None:
        self._operate(region, found, [(_COUNT, by, _NOWAIT | (_UNDO if undo else 0))])

    def _remove(self, region: str, found: int) -> None:
        if self._libc.semctl(found, 0, _IPC_RMID) < 0:
            with contextlib.suppress(_GoneError):
                self._failed(region, "cannot be removed")
        self._tell("semctl", found, "IPC_RMID")

    def _operate(
        self, region: str, found: int, operations: list[tuple[int, int, int]], seconds: float | None = None
    ) -> None:
        array = (_SemBuf * len(operations))(*(_SemBuf(*operation) for operation in operations))
        while True:
            limit = None if seconds is None else _TimeSpec(int(seconds), int(seconds % 1 * 1e9))
            result = self._libc.semtimedop(found, array, len(operations), limit and ctypes.byref(limit))
            if result == 0:
                return
            if ctypes.get_errno() == errnos.EINTR:
                continue
            if ctypes.get_errno() == errnos.EAGAIN and seconds is not None:
                raise _WaitedError
            self._failed(region, "cannot be changed")

    def _failed(self, region: str, says: str) -> None:
        """Raise what the errno of the last call means."""
        code = ctypes.get_errno()
        if code in (errnos.EIDRM, errnos.EINVAL):
            raise _GoneError
        raise self._bad(region, says, code)

    def _bad(self, region: str, says: str, code: int) -> O2cbError:
        do = "do it as root" if code in (errnos.EACCES, errnos.EPERM) else "see ipcs -s, and the limits in ipcs -ls"
        return BadSem(f"the reference count of filesystem {region}", says=says, why=os.strerror(code), do=do)

    def _tell(self, call: str, *arguments: object, result: int | OSError = 0) -> None:
        verbosef(Scope.O2CB, call, *arguments, result=result)


class _GoneError(Exception):
    """The set was removed."""


class _WaitedError(Exception):
    """The mutex did not come free."""
