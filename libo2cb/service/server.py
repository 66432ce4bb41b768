"""The server of 256-byte records on a Unix stream socket: for clients, and for the ordering between the daemons.

Nobody can hurt anybody else here: each uid has so many connections and so many unread bytes, root's are counted apart,
and a part of the process's descriptors is kept for root. Who is one too many is told so, with STATUS 24, and closed.
"""

import asyncio
import contextlib
import errno
import os
import resource
import socket
import stat
from collections import Counter
from pathlib import Path
from typing import Final, Protocol

from libo2cb.locks import Descriptor
from libo2cb.processes import Process, holder_of, peer_credentials, socket_address
from libo2cb.service.stream import Budget, Cause, Limits, RecordStream, Violation
from protocol.framing import RECORD, encode_sentence

_BACKLOG: Final = 1024
_ACCEPTS: Final = 64  # a wake-up
_ACCEPT_PAUSE: Final = 0.1
_UID_BUDGET: Final = 4  # times what one connection may have waiting
_SPARE_DESCRIPTORS: Final = 256  # for locks, logs, the engine, the mount table
_NO_ROOM: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class ListenError(Exception):
    """The server cannot listen. The text says on what, why, and what to do."""


class NameTaken(ListenError):
    """Somebody else listens on our name.

    Attributes:
        name: the socket's name.
        holder: who; None when that cannot be seen from here.
    """

    def __init__(self, name: str, holder: Process | None) -> None:
        self.name = name
        self.holder = holder
        who = (
            f"by {holder}" if holder is not None else "by a process that cannot be seen from here (ask ss -xlp as root)"
        )
        super().__init__(f"the socket {name} is taken {who}; two daemons cannot share it: stop that one first")


class Connection:
    """A peer of the server.

    Attributes:
        id: never used twice in the life of this server.
        pid: the peer's process at its connect(); 0 when it lives in a pid namespace that we cannot see.
        uid: its uid.
        gid: its gid.
        process: the peer's process, told apart from a successor with its pid; None when it has ended.
        program: its program's name.
        cause: why it ended; None while it lives.
    """

    def __init__(self, server: "RecordServer", number: int, sock: socket.socket, peer: tuple[int, int, int]) -> None:
        self.id = number
        self.pid, self.uid, self.gid = peer
        self.process, self.program = Process.named(self.pid)
        self.cause: Cause | None = None
        self._server = server
        self._stream = RecordStream(
            sock, self, server.limits, descriptors=server.descriptors, budget=server.budget_of(self.uid)
        )

    @property
    def undelivered(self) -> int:
        """Records for this peer that never reached its socket."""
        return self._stream.undelivered

    @property
    def waiting(self) -> int:
        """Bytes that wait to be read by this peer."""
        return self._stream.waiting

    @property
    def open(self) -> bool:
        """Whether it can still be sent to."""
        return not self._stream.closed

    def send(self, records: bytes, descriptor: Descriptor | None = None) -> bool:
        """Send records, or one with a descriptor that is then no longer the caller's. See `RecordStream.send`."""
        return self._stream.send(records, descriptor)

    def close_after_flush(self) -> None:
        """Read nothing more, send what waits, then close."""
        self._stream.close_after_flush()

    def close(self) -> None:
        """Close at once."""
        self._stream.close()

    def received(self, text: bytes, descriptor: Descriptor | None) -> None:
        """For the stream."""
        self._server.handler.record(self, text, descriptor)

    def ended(self, cause: Cause) -> None:
        """For the stream."""
        self.cause = cause
        self._server.forget(self)

    def violated(self, violation: Violation) -> None:
        """For the stream."""
        self._server.violations[violation] += 1

    def __str__(self) -> str:
        return f"{self.program} (pid {self.pid}, uid {self.uid})"


class RecordHandler(Protocol):
    """What is done with connections and records."""

    def opened(self, connection: Connection) -> None:
        """Somebody connected."""

    def record(self, connection: Connection, text: bytes, descriptor: Descriptor | None) -> None:
        """A record came, its text up to the first NUL; any bytes. Its descriptor is the handler's to close."""

    def closed(self, connection: Connection) -> None:
        """It has ended, once, for `connection.cause`; `connection.undelivered` records could not be sent."""


class RecordServer:
    """Listens on a Unix stream socket and serves its connections from the running loop.

    Args:
        handler: what is done with them.
        name: "@abstract" or a path.
        mode: permissions of a path; whoever may not write to it cannot connect.
        max_per_uid: connections of one uid.
        descriptors: whether records may come with descriptors.
        limits: how much one connection may take.
    """

    def __init__(
        self,
        handler: RecordHandler,
        name: str,
        *,
        mode: int = 0o600,
        max_per_uid: int = 1000,
        descriptors: bool = False,
        limits: Limits | None = None,
    ) -> None:
        self.handler = handler
        self.name = name
        self.mode = mode
        self.max_per_uid = max_per_uid
        self.descriptors = descriptors
        self.limits = limits or Limits()
        self.violations: Counter[Violation] = Counter()
        """How often which rule was broken, since the start."""
        self.connections: dict[int, Connection] = {}
        """Those that are open, by id."""
        self._privileged = frozenset({0, os.geteuid()})
        self._per_uid: Counter[int] = Counter()
        self._budgets: dict[int, Budget] = {}
        self._next_id = 1
        self._listener: socket.socket | None = None
        self._accepting = False
        self._resume: asyncio.TimerHandle | None = None
        self._inode: tuple[int, int] | None = None
        self._reserve: int | None = None
        self._room_for_others = 0

    def listen(self) -> None:
        """Take the name and begin to serve.

        A path that nobody listens on is left over from a daemon that was killed, and is taken over. Hold the pid file
        before you call this, so that two daemons cannot both find it left over.

        Raises:
            NameTaken: somebody else has it; the text says who.
            ListenError: the name cannot be used.
        """
        self._room_for_others = _make_room(self.max_per_uid)
        self._listener = self._bind()
        self._reserve = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
        self._listener.listen(_BACKLOG)
        self._accept_or_rest(wanted=True)

    def close(self) -> None:
        """Give up the name and close all connections; the handler hears of each a moment later."""
        if self._listener is not None:
            self._accept_or_rest(wanted=False)
            if self._resume is not None:
                self._resume.cancel()
            self._unlink_own()
            self._listener.close()
            self._listener = None
        if self._reserve is not None:
            os.close(self._reserve)
            self._reserve = None
        for connection in list(self.connections.values()):
            connection.close()

    def budget_of(self, uid: int) -> Budget:
        """For connections: what all connections of a uid may have waiting, together."""
        return self._budgets.setdefault(uid, Budget(_UID_BUDGET * self.limits.out_bytes))

    def forget(self, connection: Connection) -> None:
        """For connections: this one has ended."""
        del self.connections[connection.id]
        self._per_uid[connection.uid] -= 1
        if not self._per_uid[connection.uid]:
            del self._per_uid[connection.uid]
            del self._budgets[connection.uid]
        self.handler.closed(connection)

    def _bind(self) -> socket.socket:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            self._bind_or_take_over(listener)
            if not self.name.startswith("@"):
                # Before listen() nobody can connect, so nobody slips in under the wrong mode.
                Path(self.name).chmod(self.mode)
                found = os.stat(self.name)  # noqa: PTH116 (beside the chmod of the same path)
                self._inode = (found.st_dev, found.st_ino)
        except OSError as error:
            listener.close()
            raise ListenError(f"the socket {self.name} cannot be made: {error.strerror}") from error
        except ListenError:
            listener.close()
            raise
        return listener

    def _bind_or_take_over(self, listener: socket.socket) -> None:
        address = socket_address(self.name)
        try:
            listener.bind(address)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            if self.name.startswith("@") or not _left_over(self.name):
                raise NameTaken(self.name, holder_of(self.name)) from error
            Path(self.name).unlink()
            listener.bind(address)

    def _unlink_own(self) -> None:
        """Remove the path, if it is still ours and not a successor's."""
        if self._inode is None:
            return
        with contextlib.suppress(FileNotFoundError):
            found = Path(self.name).lstat()
            if (found.st_dev, found.st_ino) == self._inode:
                Path(self.name).unlink()

    def _accept_or_rest(self, *, wanted: bool) -> None:
        if self._listener is None or wanted == self._accepting:
            return
        loop = asyncio.get_running_loop()
        if wanted:
            loop.add_reader(self._listener, self._acceptable)
        else:
            loop.remove_reader(self._listener)
        self._accepting = wanted

    def _acceptable(self) -> None:
        for _ in range(_ACCEPTS):
            if self._listener is None:
                return
            try:
                sock, _address = self._listener.accept()
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                if error.errno in _NO_ROOM:
                    self._refuse_without_room(self._listener)
                    return
                continue  # that client has gone again
            self._admit(sock)

    def _admit(self, sock: socket.socket) -> None:
        peer = peer_credentials(sock)
        uid = peer[1]
        if self._per_uid[uid] >= self.max_per_uid:
            self._refuse(sock, f"uid {uid} has {self.max_per_uid} connections already; close some")
            return
        others = sum(n for its, n in self._per_uid.items() if its not in self._privileged)
        if uid not in self._privileged and others >= self._room_for_others:
            self._refuse(sock, f"{others} connections are open, and the rest is kept for root; try again later")
            return
        self._per_uid[uid] += 1
        connection = Connection(self, self._next_id, sock, peer)
        self._next_id += 1
        self.connections[connection.id] = connection
        try:
            self.handler.opened(connection)
        except Exception as error:  # noqa: BLE001 (our own mistake must not hurt the other connections)
            connection.close()
            asyncio.get_running_loop().call_exception_handler(
                {"message": f"{connection} could not be served", "exception": error}
            )

    def _refuse(self, sock: socket.socket, why: str, violation: Violation = Violation.TOO_MANY_CONNECTIONS) -> None:
        self.violations[violation] += 1
        sock.setblocking(False)
        with sock, contextlib.suppress(OSError):
            sock.send(encode_sentence(f"STATUS {errno.EMFILE}", why))
            # Closed with unread bytes the peer would see a reset in place of an end.
            sock.recv(RECORD)

    def _refuse_without_room(self, listener: socket.socket) -> None:
        """Without a descriptor left, accept() fails and the socket stays readable: the loop would spin.

        The reserve makes room to tell one of them; then we rest a moment.
        """
        if self._reserve is not None:
            os.close(self._reserve)
            self._reserve = None
            with contextlib.suppress(OSError):
                sock, _address = listener.accept()
                self._refuse(sock, "the daemon has no descriptor left; try again later", Violation.OUT_OF_DESCRIPTORS)
        with contextlib.suppress(OSError):
            self._reserve = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
        self._accept_or_rest(wanted=False)
        self._resume = asyncio.get_running_loop().call_later(_ACCEPT_PAUSE, lambda: self._accept_or_rest(wanted=True))


def _left_over(path: str) -> bool:
    """Whether nobody listens on this socket any more.

    Raises:
        ListenError: it is no socket, and so nothing that we may remove.
    """
    if not stat.S_ISSOCK(Path(path).lstat().st_mode):
        raise ListenError(f"{path} is there and is no socket; it is not removed: name another path, or move it away")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            return True
        except OSError:
            return False
    return False


def _make_room(max_per_uid: int) -> int:
    """Raise the limit of open files for so many connections of root and of others; how many others may have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = max(soft, min(hard, 4 * max_per_uid + _SPARE_DESCRIPTORS))
    if wanted > soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return max(wanted - max_per_uid - _SPARE_DESCRIPTORS, wanted // 4)
