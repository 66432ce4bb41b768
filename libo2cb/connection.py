"""A client's connection to a daemon: who listens there, records out and in, and waiting that can be watched.

Blocking, for programs that a person or the kernel runs.
"""

import errno as errnos
import select
import socket
import struct
import time
from collections.abc import Callable
from typing import Self

from libo2cb.errors import ConfigurationError, IoError, PermissionDenied, ServiceUnavailable
from libo2cb.processes import peer_credentials, program_name, socket_address
from libo2cb.verbose import Scope, received, sent, verbosef
from libo2cb.wording import shown
from protocol import client
from protocol.framing import RECORD, BadMessage, Decoder, to_text

ROOT_ONLY = frozenset({0})

CONNECT_TIMEOUT = 30.0
"""Seconds for a place in the daemon's queue of connections, which is short when hundreds come at once."""

Waiting = Callable[[float], None]
"""Called while an answer is awaited, with the seconds so far. What it raises ends the wait."""


class Connection:
    """One connection to a daemon's client socket.

    Leaving its context closes it.

    Args:
        name: "@abstract" or a path.
        trusted_uids: who may be the server: root, and in the sandbox our own user.
        daemon: whose socket it is, for the sentences of errors.

    Raises:
        ServiceUnavailable: nobody listens there.
        PermissionDenied: somebody listens whom we do not trust, or the path is not for us.
        ConfigurationError: the name is no name of a socket.
    """

    def __init__(self, name: str, trusted_uids: frozenset[int] = ROOT_ONLY, *, daemon: str = "ocfs2_controld") -> None:
        self.name = name
        self.daemon = daemon
        self._decoder = Decoder()
        self._texts: list[bytes] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            self._connect()
            self._check_server(trusted_uids)
        except BaseException:
            self._socket.close()
            raise

    def _connect(self) -> None:
        # A non-blocking connect fails at once with EAGAIN while the daemon's queue is full; a blocking one waits for
        # its turn. So the limit is the kernel's, on sending, and not Python's, which would make it non-blocking.
        seconds = int(CONNECT_TIMEOUT)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("@ll", seconds, 0))
        subject = f"socket {shown(self.name, 120)}"
        if "\0" in self.name or self.name in {"", "@"}:  # the kernel would cut a path at its NUL, and go elsewhere
            raise ConfigurationError(subject, says="is no name of a socket", why="it is empty or holds a NUL byte")
        try:
            self._socket.connect(socket_address(self.name))
        except OSError as error:
            verbosef(Scope.O2CB, "connect", self.name, result=error)
            if error.errno in {errnos.ECONNREFUSED, errnos.ENOENT, errnos.ENOTDIR}:
                raise ServiceUnavailable(subject, says="has no daemon", do=f"start {self.daemon}") from error
            if error.errno == errnos.EAGAIN:
                why = f"its daemon took no connection in {seconds} s"
                raise ServiceUnavailable(subject, says="is jammed", why=why, do="look into its log") from error
            if error.errno in {errnos.EACCES, errnos.EPERM}:
                raise PermissionDenied(subject, says="is not for this user", do="do it as root") from error
            if error.errno is None:  # Python's own: the path is too long
                raise ConfigurationError(subject, says="is no name of a socket") from error
            raise ServiceUnavailable(subject, says="cannot be reached") from error
        except ValueError as error:
            raise ConfigurationError(subject, says="is no name of a socket") from error
        verbosef(Scope.O2CB, "connect", self.name)

    def _check_server(self, trusted_uids: frozenset[int]) -> None:
        """Anyone may take an abstract name before the daemon does."""
        pid, uid, _ = peer_credentials(self._socket)
        if uid not in trusted_uids:
            program = f"{program_name(pid)} (pid {pid})" if pid else "a program that this namespace does not show"
            raise PermissionDenied(
                f"socket {shown(self.name, 120)}",
                says="is not the daemon's",
                why=f"uid {uid} listens there with {program}, and is not to be trusted",
                do=f"end that program and start {self.daemon}",
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def fileno(self) -> int:
        """The descriptor; readable when something came. -1 after close."""
        return self._socket.fileno()

    def send(self, record: bytes) -> None:
        """Send one record.

        Raises:
            IoError: the daemon is gone, or takes nothing.
        """
        try:
            self._socket.sendall(record, socket.MSG_NOSIGNAL)
        except OSError as error:
            verbosef(Scope.O2CB, "send", self.name, record, result=error)
            raise self._broken("does not take the message", f"look whether {self.daemon} still runs") from error
        sent(Scope.O2CB, self.name, len(record), to_text(record.rstrip(b"\0")))

    def receive(self) -> client.ClientMessage | None:
        """The next message if it is there, else None; never waits.

        Raises:
            IoError: the connection ended, or what came is no message.
        """
        if not self._texts:
            self._read()
        if not self._texts:
            return None
        try:
            return client.parse(self._texts.pop(0))
        except BadMessage as error:
            raise self._broken("answers what is no message", "look who listens there") from error

    def idle(self) -> None:
        """Assert that the daemon says nothing unasked.

        Raises:
            IoError: it does, or the connection ended.
        """
        if not self._texts and not self._decoder.pending:
            self._read()
        if self._texts or self._decoder.pending:
            raise self._broken("says more than it was asked", "look who listens there")

    def _read(self) -> None:
        try:
            data = self._socket.recv(16 * RECORD, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        except OSError as error:
            verbosef(Scope.O2CB, "recv", self.name, result=error)
            raise self._broken("broke", f"look whether {self.daemon} still runs") from error
        if not data:
            verbosef(Scope.O2CB, "recv", self.name, result=0)
            half = self._decoder.pending
            says = f"ended inside an answer, after {half} of {RECORD} bytes" if half else "ended without an answer"
            raise self._broken(says, f"look into the log of {self.daemon}")
        self._texts = self._decoder.feed(data)
        told = "; ".join(to_text(t) for t in self._texts) or "(part of a record)"
        received(Scope.O2CB, self.name, len(data), told)

    def wait(
        self, what: str, timeout: float | None, waiting: Waiting | None = None, every: float = 1.0
    ) -> client.ClientMessage:
        """The next message, waited for.

        Args:
            what: what it answers, for the error.
            timeout: seconds; None for as long as the daemon likes.
            waiting: called each time that `every` seconds passed.
            every: seconds, more than 0 (else ValueError).

        Raises:
            IoError: see receive; or the time is over.
        """
        if every <= 0:
            raise ValueError(f"every must be more than 0 seconds, not {every}")
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        start = time.monotonic()
        calls = 1
        while True:
            message = self.receive()
            if message is not None:
                return message
            elapsed = time.monotonic() - start
            if timeout is not None and elapsed >= timeout:
                raise IoError(
                    what,
                    says=f"was not answered in {timeout:g} s",
                    do=f"see what {self.daemon} waits for: ocfs2_hb_ctl -I",
                )
            if waiting is not None and elapsed >= calls * every:
                calls = int(elapsed / every) + 1
                waiting(elapsed)
            limits = [start + at for at in (timeout, calls * every if waiting else None) if at is not None]
            left = min(limits) - time.monotonic() if limits else None
            poll.poll(None if left is None else max(0, int(left * 1000) + 1))

    def close(self) -> None:
        """Close it. May be called twice."""
        self._socket.close()

    def _broken(self, says: str, do: str) -> IoError:
        return IoError(f"connection to {shown(self.name, 120)}", says=says, do=do)
