"""One connected Unix stream socket that carries 256-byte records, some of them with a descriptor.

Bounded in every direction: at most one half record waits to be completed, and not for ever; what is to be sent has a
limit, and while much of it waits nothing more is read, so a peer that asks without reading the answers stops itself;
each wake-up reads one record at most, so that a fast peer cannot starve the others.

Descriptors (SCM_RIGHTS, unix(7)): a record with a descriptor is sent by its own sendmsg, which the kernel keeps in one
piece. The reader asks for no more than the rest of the record it is at, so whatever descriptor comes with the bytes
belongs to that very record. A plain recv() would drop descriptors silently: right where none are wanted.
"""

import asyncio
import errno
import socket
from collections import deque
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Protocol

from libo2cb.locks import Descriptor, receive, send_with_descriptor
from protocol.framing import RECORD, Decoder

_CHUNK: Final = 64 * RECORD  # bytes a system call
_CHUNKS: Final = 32  # system calls a wake-up
_LATER: Final = 0.1
_GONE: Final = frozenset({errno.EPIPE, errno.ECONNRESET})
_SHORT_OF: Final = frozenset({errno.ENOBUFS, errno.ENOMEM})


class Cause(StrEnum):
    """Why a stream ended."""

    ENDED = "the other end closed it"
    FAILED = "the socket failed"
    HALF_RECORD = "half a record was never completed"
    OVERFLOW = "the other end does not read its answers"
    NOT_FLUSHED = "the other end did not read the last answer in time"
    HANDLER_FAILED = "an error of our own"
    CLOSED = "closed by us"


class Violation(StrEnum):
    """What a peer did that it may not; counted for status."""

    TOO_MANY_CONNECTIONS = "too_many_connections"
    TOO_MANY_REQUESTS = "too_many_requests"
    OUT_OF_DESCRIPTORS = "out_of_descriptors"
    HALF_RECORD = "half_record"
    OVERFLOW = "overflow"
    NOT_FLUSHED = "not_flushed"
    DESCRIPTORS_LOST = "descriptors_lost"
    UNTRUSTED_SERVER = "untrusted_server"


@dataclass(frozen=True, slots=True)
class Limits:
    """How much one stream may take.

    Attributes:
        out_bytes: bytes that may wait to be sent; more ends the stream.
        pause_bytes: while more than this waits to be sent, nothing is read.
        half_record: seconds in which a record that was begun must be complete.
        flush: seconds that a last answer may take to be read.
    """

    out_bytes: int = 4 << 20
    pause_bytes: int = 64 << 10
    half_record: float = 30.0
    flush: float = 30.0


class Budget:
    """Bytes that several streams (those of one uid) may have waiting to be sent, together."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0

    def take(self, size: int) -> bool:
        """Whether there was room for so many bytes more; they are then in use."""
        if self.used + size > self.limit:
            return False
        self.used += size
        return True

    def give(self, size: int) -> None:
        """So many bytes are no longer in use."""
        self.used -= size


class Owner(Protocol):
    """Who is told what a stream does."""

    def received(self, text: bytes, descriptor: Descriptor | None) -> None:
        """A record came, its text up to the first NUL. Its descriptor is the owner's to close."""

    def ended(self, cause: Cause) -> None:
        """The stream is closed. Said once, from the loop, never from inside another call."""

    def violated(self, violation: Violation) -> None:
        """The other end broke a rule."""


class RecordStream:
    """A connected, nonblocking socket of records, served by the running loop.

    Args:
        sock: the socket; the stream closes it.
        owner: who is told.
        limits: how much it may take.
        descriptors: whether records may come with descriptors.
        budget: a limit that it shares with others.
    """

    def __init__(
        self, sock: socket.socket, owner: Owner, limits: Limits, *, descriptors: bool, budget: Budget | None = None
    ) -> None:
        sock.setblocking(False)
        self.undelivered = 0
        """Records that were to be sent and never reached the socket."""
        self._loop = asyncio.get_running_loop()
        self._sock = sock
        self._fd = sock.fileno()  # for the loop, which looks a number up in less time than a socket
        self._owner = owner
        self._limits = limits
        self._wants_descriptors = descriptors
        self._budget = budget
        self._decoder = Decoder()
        self._came: Descriptor | None = None  # with the record that is not complete yet
        self._out: deque[tuple[bytes, Descriptor | None]] = deque()  # each with whole records
        self._queued = 0  # bytes in _out
        self._sent = 0  # of these, bytes of the first that are sent
        self._reading = False
        self._writing = False
        self._flushing = False
        self._closed = False
        self._half_timer: asyncio.TimerHandle | None = None
        self._flush_timer: asyncio.TimerHandle | None = None
        self._retry_timer: asyncio.TimerHandle | None = None
        self._read_or_pause()

    @property
    def closed(self) -> bool:
        """Whether nothing comes or goes any more."""
        return self._closed

    @property
    def waiting(self) -> int:
        """Bytes that wait to be sent."""
        return self._queued - self._sent

    def send(self, records: bytes, descriptor: Descriptor | None = None) -> bool:
        """Send records, now or as soon as the other end reads. An answer of many is sent by few system calls.

        Args:
            records: one or more, of 256 bytes each; with a descriptor exactly one.
            descriptor: travels with the record. From here on it is the stream's, which closes it when it has been
                sent or never can be.

        Returns:
            False when they cannot all be sent: the stream is closed, or is now, because too much waits.

        Raises:
            ValueError: they have another length.
        """
        size = len(records)
        if size % RECORD or not size or (descriptor is not None and size != RECORD):
            raise ValueError(f"a record has {RECORD} bytes, not {size}")
        if self._closed or self._flushing:
            self._drop(size, descriptor)
            return False
        within = self.waiting + size <= self._limits.out_bytes
        if not within or (self._budget is not None and not self._budget.take(size)):
            self._drop(size, descriptor)
            self._owner.violated(Violation.OVERFLOW)
            self.close(Cause.OVERFLOW)
            return False
        self._out.append((records, descriptor))
        self._queued += size
        if self._writing or self._retry_timer is not None:
            self._read_or_pause()
        else:
            self._flush()
        return not self._closed

    def close_after_flush(self) -> None:
        """Read nothing more, send what waits, and close; at the latest after the limit's seconds."""
        if self._closed or self._flushing:
            return
        self._flushing = True
        if not self._out:
            self.close(Cause.CLOSED)
            return
        self._read_or_pause()
        self._flush_timer = self._loop.call_later(self._limits.flush, self._not_flushed)

    def close(self, cause: Cause = Cause.CLOSED) -> None:
        """Close at once; the owner is told a moment later, once. What waited counts as undelivered."""
        if self._closed:
            return
        self._closed = True
        if self._reading:
            self._loop.remove_reader(self._fd)
        if self._writing:
            self._loop.remove_writer(self._fd)
        for timer in (self._half_timer, self._flush_timer, self._retry_timer):
            if timer is not None:
                timer.cancel()
        if self._budget is not None:
            self._budget.give(self._queued)
        for records, descriptor in self._out:
            self._drop(len(records), descriptor)
        self.undelivered -= self._sent // RECORD
        self._out.clear()
        self._queued = self._sent = 0
        if self._came is not None:
            self._came.close()
            self._came = None
        self._sock.close()
        self._loop.call_soon(self._owner.ended, cause)

    def _drop(self, size: int, descriptor: Descriptor | None) -> None:
        self.undelivered += size // RECORD
        if descriptor is not None:
            descriptor.close()

    def _read_or_pause(self) -> None:
        """Read unless we are about to close, or the other end has enough answers to read first."""
        wanted = not self._closed and not self._flushing and self.waiting <= self._limits.pause_bytes
        if wanted and not self._reading:
            self._loop.add_reader(self._fd, self._readable)
        elif not wanted and self._reading:
            self._loop.remove_reader(self._fd)
        self._reading = wanted
        self._watch_half()

    def _watch_half(self) -> None:
        """Give a record that was begun its time, from its first byte on: a byte now and then buys no more.

        While we do not read, the delay is ours.
        """
        waits = self._reading and self._decoder.pending > 0
        if waits and self._half_timer is None:
            self._half_timer = self._loop.call_later(self._limits.half_record, self._half_for_too_long)
        elif not waits:
            self._forget_half()

    def _forget_half(self) -> None:
        if self._half_timer is not None:
            self._half_timer.cancel()
            self._half_timer = None

    def _half_for_too_long(self) -> None:
        self._owner.violated(Violation.HALF_RECORD)
        self.close(Cause.HALF_RECORD)

    def _readable(self) -> None:
        """Read one record, or what has come of it. What else waits stays in the socket for the next wake-up."""
        try:
            data = self._receive(RECORD - self._decoder.pending)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._fail(error)
            return
        if not data:
            self._end()
            return
        for text in self._decoder.feed(data):
            self._forget_half()
            descriptor, self._came = self._came, None
            self._deliver(text, descriptor)
        self._watch_half()

    def _receive(self, size: int) -> bytes:
        if not self._wants_descriptors:
            return self._sock.recv(size)
        data, descriptors, flags = receive(self._sock, size)
        if flags & socket.MSG_CTRUNC:
            self._owner.violated(Violation.DESCRIPTORS_LOST)
        for descriptor in descriptors:
            if self._came is None:
                self._came = descriptor
                continue
            # A record may bring one. Sent in many pieces, it could bring one with each.
            descriptor.close()
            self._owner.violated(Violation.DESCRIPTORS_LOST)
        return data

    def _fail(self, error: OSError) -> None:
        self.close(Cause.ENDED if error.errno in _GONE else Cause.FAILED)

    def _end(self) -> None:
        if self._decoder.pending:
            self._owner.violated(Violation.HALF_RECORD)
        self.close(Cause.ENDED)

    def _deliver(self, text: bytes, descriptor: Descriptor | None) -> None:
        try:
            self._owner.received(text, descriptor)
        except Exception as error:  # noqa: BLE001 (our own mistake must not hurt the other connections)
            self.close(Cause.HANDLER_FAILED)
            self._loop.call_exception_handler(
                {"message": f"a record could not be handled: {text!r}", "exception": error}
            )

    def _flush(self) -> None:
        self._retry_timer = None
        for turn in range(_CHUNKS):
            if not self._out:
                break
            try:
                size = self._send_some()
            except (BlockingIOError, InterruptedError):
                break
            except OSError as error:
                if error.errno not in _SHORT_OF:
                    self._fail(error)
                    return
                size = 0
            if size:
                self._count_sent(size)
            elif self._writing and turn == 0:
                # The socket has room, but the kernel is short of something, such as descriptors on their way: to wait
                # for room would spin.
                self._retry_timer = self._loop.call_later(_LATER, self._flush)
                break
            else:
                break
        self._write_or_rest(wanted=bool(self._out) and self._retry_timer is None)
        if self._flushing and not self._out:
            self.close(Cause.CLOSED)
        else:
            self._read_or_pause()

    def _send_some(self) -> int:
        first, descriptor = self._out[0]
        if descriptor is not None and self._sent == 0:
            return send_with_descriptor(self._sock, first, descriptor.fileno())
        if self._sent == 0 and len(self._out) == 1 and len(first) <= _CHUNK:
            return self._sock.send(first)
        return self._sock.sendmsg(self._chunk())

    def _chunk(self) -> list[memoryview]:
        """The next bytes to be sent, up to the next descriptor."""
        pieces: list[memoryview] = []
        room, start = _CHUNK, self._sent
        for records, descriptor in self._out:
            if room <= 0 or (pieces and descriptor is not None):
                break
            pieces.append(memoryview(records)[start : start + room])
            room -= len(pieces[-1])
            start = 0
        return pieces

    def _count_sent(self, size: int) -> None:
        self._sent += size
        while self._out and self._sent >= len(self._out[0][0]):
            records, descriptor = self._out.popleft()
            self._sent -= len(records)
            self._queued -= len(records)
            if self._budget is not None:
                self._budget.give(len(records))
            if descriptor is not None:
                descriptor.close()

    def _write_or_rest(self, *, wanted: bool) -> None:
        if wanted and not self._writing:
            self._loop.add_writer(self._fd, self._flush)
        elif not wanted and self._writing:
            self._loop.remove_writer(self._fd)
        self._writing = wanted

    def _not_flushed(self) -> None:
        self._owner.violated(Violation.NOT_FLUSHED)
        self.close(Cause.NOT_FLUSHED)
