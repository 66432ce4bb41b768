"""Node locks and the service lock: flocks that travel as descriptors.

The lock on a node is an open file description, not a message. The kernel frees it with its last descriptor, wherever
that is: in a daemon that ends, in one that is killed, or in a socket whose reader died. Why not a message: A tells C
"B is yours" and is killed. A's successor knows nothing of it, and removes B while C links it. With a descriptor the
kernel refuses the successor's LOCK_EX for as long as C lives and holds it.

Traps, each with its test:

- The files are never unlinked, renamed or replaced: a second inode would be a second lock.
- LOCK_UN on any copy of a descriptor frees the lock for all of them. Nothing here calls it; one closes.
- recv() drops descriptors without a word: a socket that may carry them is read with receive() or RecordReceiver only.
- A LOCKED whose descriptor is missing is no grant.
- Some 167 unread grants fill a socket: a send that does not go is kept, with its descriptor, and sent later.
- /proc/locks names the process that took the lock, not the one that holds it.
"""

import array
import errno
import fcntl
import os
import socket
import warnings
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from libo2cb.limits import FIRST_NODE, LAST_NODE

RECORD: Final = 256
"""Bytes of a record on the ordering socket."""

_INT = array.array("i").itemsize
_ROOM = socket.CMSG_SPACE(4 * _INT)
"""More than the one descriptor that may come with a record, so that a peer that sends two is seen to."""
_FULL = {errno.EAGAIN, errno.ETOOMANYREFS}
"""The socket is full; or too many descriptors of this user are on their way (not for root)."""


class Descriptor:
    """An open file descriptor that has one owner. Close it, or use it as a context manager.

    Args:
        fd: the number; this object owns it from now on.
        name: what it is, for messages.
    """

    __slots__ = ("_fd", "_name")

    def __init__(self, fd: int, name: str = "descriptor") -> None:
        self._fd = fd
        self._name = name

    def __repr__(self) -> str:
        return f"<{self._name} {'closed' if self.closed else self._fd}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _t: type[BaseException] | None, _e: BaseException | None, _b: TracebackType | None) -> None:
        self.close()

    def __del__(self) -> None:
        # getattr: a half-made object has no _fd. A lock that nobody can close any more would stand for ever.
        if getattr(self, "_fd", -1) >= 0:
            warnings.warn(f"{self!r} was never closed", ResourceWarning, stacklevel=2, source=self)
            self.close()

    @property
    def closed(self) -> bool:
        """Whether close was called."""
        return self._fd < 0

    def fileno(self) -> int:
        """The number.

        Raises:
            ValueError: it is closed.
        """
        if self._fd < 0:
            raise ValueError(f"{self._name} is closed")
        return self._fd

    def close(self) -> None:
        """Close it; again does nothing. The lock goes when the last copy is closed, wherever that one is."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


class LockDirectory:
    """The lock files of one node's run directory. Both daemons name the same directory, which outlives either.

    Args:
        path: the directory; made when it is not there.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        path.mkdir(mode=0o755, parents=True, exist_ok=True)

    def exclusive(self, number: int) -> Descriptor | None:
        """The right to change the node of this number; None while a grant lives anywhere.

        Raises:
            ValueError: the number is not 1 to 254.
        """
        return self._lock(_node_file(number), fcntl.LOCK_EX)

    def shared(self, number: int) -> Descriptor | None:
        """A new grant for the node of this number, to be sent and then closed; None while somebody changes the node.

        Raises:
            ValueError: the number is not 1 to 254.
        """
        return self._lock(_node_file(number), fcntl.LOCK_SH)

    def hold_service(self) -> Descriptor | None:
        """What ocfs2_controld keeps while any group lives or joins; None while o2cb_controld ends."""
        return self._lock("service.lock", fcntl.LOCK_SH)

    def claim_service(self) -> Descriptor | None:
        """What o2cb_controld takes before it ends; None while ocfs2_controld needs it."""
        return self._lock("service.lock", fcntl.LOCK_EX)

    def _lock(self, name: str, how: int) -> Descriptor | None:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        lock = Descriptor(os.open(self._path / name, flags, 0o600), name)
        try:
            fcntl.flock(lock.fileno(), how | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            return None
        except BaseException:
            lock.close()
            raise
        return lock


def _node_file(number: int) -> str:
    if not FIRST_NODE <= number <= LAST_NODE:
        raise ValueError(f"node number {number} is outside {FIRST_NODE} to {LAST_NODE}")
    return f"node-{number}.lock"


def send_with_descriptor(sock: socket.socket, record: bytes, fd: int) -> int:
    """Send a record with a copy of a descriptor, on a nonblocking stream socket of AF_UNIX.

    The descriptor goes with the first byte. Once anything was sent, the caller closes its own copy and sends what is
    left of the record, without a descriptor and before anything else.

    Returns:
        How many bytes went: all of them in practice; 0 when nothing and no descriptor did, because the socket is full
        or this user has too many descriptors on their way. Keep both then, and send later.

    Raises:
        OSError: the connection is broken.
    """
    try:
        return sock.sendmsg([record], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]).tobytes())])
    except OSError as error:
        if error.errno in _FULL:
            return 0
        raise


def receive(sock: socket.socket, bufsize: int) -> tuple[bytes, list[Descriptor], int]:
    """Receive bytes and the descriptors that came with them.

    On a stream a descriptor is a barrier: the bytes of one call end with the message that carried it, at the latest.
    So it belongs to the message of the last byte, never to an earlier one, and two messages with descriptors never come
    in one call.

    Returns:
        The bytes (none: the peer closed), the descriptors, and the flags; MSG_CTRUNC says that descriptors were lost,
        for want of free numbers.

    Raises:
        BlockingIOError: there is nothing now.
        OSError: the connection is broken.
    """
    data, ancillary, flags, _ = sock.recvmsg(bufsize, _ROOM, socket.MSG_CMSG_CLOEXEC)
    fds = array.array("i")
    for level, kind, payload in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            fds.frombytes(payload[: len(payload) - len(payload) % _INT])
    return data, [Descriptor(fd, "received descriptor") for fd in fds], flags


@dataclass(frozen=True, slots=True)
class Received:
    """A record of the ordering socket.

    Attributes:
        record: its bytes, all of them.
        descriptor: what came with it. Whoever takes the record owns it.
        lost: whether a descriptor came that could not be kept, for want of free numbers: ask again.
    """

    record: bytes
    descriptor: Descriptor | None = None
    lost: bool = False


class StrayDescriptorError(ConnectionError):
    """The peer sent descriptors that belong to no single record; the connection is to be closed."""


class RecordReceiver:
    """Records with their descriptors, from a nonblocking stream socket.

    It never asks for bytes beyond the end of a record. So whatever descriptor comes belongs to the record at hand, and
    a grant is never paired with a neighbour, however many come in one burst.

    Args:
        sock: the socket; nobody else may read from it.
        size: bytes of a record.
    """

    def __init__(self, sock: socket.socket, size: int = RECORD) -> None:
        self._sock = sock
        self._size = size
        self._part = b""
        self._descriptor: Descriptor | None = None
        self._lost = False
        self.ended = False
        """Whether the peer has closed; half a record may have been left."""

    def next(self) -> Received | None:
        """The next whole record; None when there is none yet, or when the connection has ended.

        Raises:
            StrayDescriptorError: more than one descriptor came for one record. All of them are closed.
            OSError: the connection is broken.
        """
        while len(self._part) < self._size:
            try:
                data, descriptors, flags = receive(self._sock, self._size - len(self._part))
            except BlockingIOError:
                return None
            held = [self._descriptor] if self._descriptor else []
            if len(held) + len(descriptors) > 1:
                self.close()
                for descriptor in descriptors:
                    descriptor.close()
                raise StrayDescriptorError(f"{len(held) + len(descriptors)} descriptors came with one record")
            if descriptors:
                self._descriptor = descriptors[0]
            self._lost = self._lost or bool(flags & socket.MSG_CTRUNC)
            if not data:
                self.ended = True
                return None
            self._part += data
        received = Received(self._part, self._descriptor, self._lost)
        self._part, self._descriptor, self._lost = b"", None, False
        return received

    def close(self) -> None:
        """Close a descriptor whose record never became whole. The socket stays the caller's."""
        if self._descriptor:
            self._descriptor.close()
            self._descriptor = None
