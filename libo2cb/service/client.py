"""The client of the ordering socket: connects, connects again, and believes only a trusted server."""

import asyncio
import os
import socket
from collections import Counter
from dataclasses import replace
from typing import Final, Protocol

from libo2cb.locks import Descriptor
from libo2cb.processes import peer_credentials, program_name, socket_address
from libo2cb.service.stream import Cause, Limits, RecordStream, Violation

_FIRST_PAUSE: Final = 0.01
_LONGEST_PAUSE: Final = 1.0


class RecordClientHandler(Protocol):
    """What is done with the connection and its records."""

    def connected(self) -> None:
        """There is a connection, and its server is trusted. Nothing that was sent before is under way."""

    def record(self, text: bytes, descriptor: Descriptor | None) -> None:
        """A record came. Its descriptor is the handler's to close."""

    def disconnected(self, cause: Cause) -> None:
        """The connection ended; the client tries again by itself."""

    def unreachable(self, reason: str) -> None:
        """It cannot connect; said again only when the reason changes."""


class RecordClient:
    """Keeps a connection to a server of records, from the running loop.

    Pauses between two tries grow from 10 ms to a second, and begin anew once a connection has lasted for a second.

    Args:
        handler: what is done with it.
        name: "@abstract" or a path.
        trusted: uids of which a server is believed; anyone can take an abstract name first.
        limits: how much it may take.
    """

    def __init__(
        self,
        handler: RecordClientHandler,
        name: str,
        *,
        trusted: frozenset[int] | None = None,
        limits: Limits | None = None,
    ) -> None:
        self.handler = handler
        self.name = name
        self.trusted = frozenset({0, os.geteuid()}) if trusted is None else trusted
        # A always reads, however much it has to send: were A and B both to wait until the other reads, both would wait
        # for ever.
        self.limits = replace(limits or Limits(), pause_bytes=(limits or Limits()).out_bytes)
        self.violations: Counter[Violation] = Counter()
        """How often which rule was broken by the server, since the start."""
        self.server_pid = 0
        """The server's process while there is a connection."""
        self._stream: RecordStream | None = None
        self._since = 0.0
        self._pause = _FIRST_PAUSE
        self._timer: asyncio.Handle | None = None
        self._reason = ""
        self._closed = False

    @property
    def is_connected(self) -> bool:
        """Whether there is a connection now."""
        return self._stream is not None and not self._stream.closed

    def start(self) -> None:
        """Try to connect, now and until it works. The handler hears of it a moment later."""
        self._timer = asyncio.get_running_loop().call_soon(self._connect)

    def send(self, records: bytes, descriptor: Descriptor | None = None) -> bool:
        """Send records, or one with a descriptor that is then no longer the caller's.

        Returns:
            False when there is no connection; nothing is kept for the next one.
        """
        if self._stream is None:
            if descriptor is not None:
                descriptor.close()
            return False
        return self._stream.send(records, descriptor)

    def close(self) -> None:
        """Close the connection, and try no more. The handler hears nothing more."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        if self._stream is not None:
            self._stream.close()

    def received(self, text: bytes, descriptor: Descriptor | None) -> None:
        """For the stream."""
        self.handler.record(text, descriptor)

    def violated(self, violation: Violation) -> None:
        """For the stream."""
        self.violations[violation] += 1

    def ended(self, cause: Cause) -> None:
        """For the stream."""
        self._stream = None
        self.server_pid = 0
        if self._closed:
            return
        if asyncio.get_running_loop().time() - self._since >= _LONGEST_PAUSE:
            self._pause = _FIRST_PAUSE
        self._later()
        self.handler.disconnected(cause)

    def _later(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._pause, self._connect)
        self._pause = min(2 * self._pause, _LONGEST_PAUSE)

    def _connect(self) -> None:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            sock.connect(socket_address(self.name))  # a Unix socket is connected at once, or not at all
            pid, uid, _ = peer_credentials(sock)
        except OSError as error:
            sock.close()
            self._unreachable(f"{self.name}: {error.strerror}: is the daemon that listens there running?")
            return
        if uid not in self.trusted:
            sock.close()
            self.violations[Violation.UNTRUSTED_SERVER] += 1
            self._unreachable(
                f"{self.name} is held by {program_name(pid)} (pid {pid}) of uid {uid}, which is not to be believed; "
                "end that process"
            )
            return
        self._reason = ""
        self._since = asyncio.get_running_loop().time()
        self.server_pid = pid
        self._stream = RecordStream(sock, self, self.limits, descriptors=True)
        self.handler.connected()

    def _unreachable(self, reason: str) -> None:
        self._later()
        if reason != self._reason:
            self._reason = reason
            self.handler.unreachable(reason)
