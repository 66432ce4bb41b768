"""The end of corosync's process, where its connections do not show it.

With `qb_ipc_type: socket` in corosync.conf a connection's descriptor is a datagram socket, which says nothing when the
other end dies (measured). There the process itself is watched. With shared memory, the default, the descriptor is a
stream, which ends with corosync.
"""

import os
import socket
from collections.abc import Iterator
from typing import Final

from libo2cb.engine.corosync.errors import LIBRARY, CorosyncError
from libo2cb.errors import ServiceUnavailable
from libo2cb.processes import peer_credentials

_SUN_PATH: Final = 108
_NAME: Final = "\0cmap".ljust(_SUN_PATH, "\0")
"""Where corosync listens for cmap: an abstract name, which libqb fills up with NULs."""


def shows_the_end(fd: int) -> bool:
    """Whether a connection's descriptor becomes readable when corosync dies."""
    with socket.socket(fileno=os.dup(fd)) as connection:
        return connection.type == socket.SOCK_STREAM


class ProcessEnd:
    """Says when the corosync that listens now has ended. Heard as a Handle is.

    A connection made before is of the same process if a call on it still succeeds afterwards.

    Raises:
        ServiceUnavailable: nobody listens, or the process cannot be watched from here.
    """

    def __init__(self) -> None:
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
                listener.connect(_NAME)
                self._fd = os.pidfd_open(peer_credentials(listener)[0])
        except OSError as error:
            raise ServiceUnavailable(
                "corosync's process",
                says="cannot be watched",
                why="its connections (qb_ipc_type: socket) would not show its end",
                do="say qb_ipc_type: shm in the system section of corosync.conf, and restart corosync",
            ) from error

    def fileno(self) -> int:
        """Readable when the process has ended (pidfd_open(2))."""
        return self._fd

    def take(self, limit: int) -> Iterator[None]:
        """Nothing is ever said but the end.

        Raises:
            CorosyncError: always.
        """
        del limit
        raise CorosyncError("watching corosync's process", LIBRARY)

    def finalize(self) -> None:
        """Close the descriptor."""
        os.close(self._fd)
