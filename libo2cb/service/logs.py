"""The log: one line an event, to stderr, as JSON or for people; and it never makes a daemon wait.

The fields are an interface. Each line has time (UTC, ISO 8601 with microseconds), mono (nanoseconds of CLOCK_MONOTONIC,
which order the lines of one machine), boot, node, daemon, incarnation, event and level, then the event's own fields as
`libo2cb.events` names them. The order between nodes comes from the fields change and ring, never from clocks.

A line is rendered where the event happens and written by a thread of its own. When the reader of stderr is slower than
the events, lines are dropped, counted, and the count is logged as soon as there is room.
"""

import json
import os
import re
import select
import threading
import time
from collections.abc import MutableMapping
from dataclasses import dataclass
from datetime import UTC, datetime
from queue import Empty, SimpleQueue
from typing import Any, Final, Literal

import structlog

from libo2cb.events import Event, Field, Log, log
from libo2cb.service.ring import LineRing

QUEUE_BYTES: Final = 4 << 20
FLUSH_SECONDS: Final = 2.0
_ORDINARY_LINE: Final = 1024
_BATCH_BYTES: Final = 64 << 10
_BASE: Final = ("time", "mono", "boot", "node", "daemon", "incarnation", "event", "level")
_SEVERITY: Final = {"debug": 10, "info": 20, "warning": 30, "error": 40}

_PLAIN: Final = re.compile(r'[^ "=\[\]\\]+').fullmatch
_json: Final = json.JSONEncoder(separators=(",", ":")).encode

Fields = MutableMapping[str, Any]


@dataclass(slots=True)
class Origin:
    """Who writes a log. What is not known yet at start is filled in later.

    Attributes:
        daemon: the daemon's name.
        incarnation: names this run of it.
        boot: the boot id, this node's life.
        node: the node's name.
    """

    daemon: str
    incarnation: str
    boot: str = ""
    node: str = ""


class Writer:
    """Writes lines to a descriptor from a thread, in order and whole; bounded, and never waited for.

    Args:
        descriptor: where to; stays open.
        limit: bytes that may wait.
    """

    def __init__(self, descriptor: int, limit: int = QUEUE_BYTES) -> None:
        self._descriptor = descriptor
        self._limit = limit
        # No lock is shared with the thread: whoever logs would wait for it. Each side has counters of its own.
        self._queue: SimpleQueue[bytes | threading.Event | None] = SimpleQueue()
        self._putting = threading.Lock()
        self._taken = 0  # bytes that were put
        self._refused = 0  # lines for which there was no room
        self._done = 0  # of the bytes that were put, those that wait no more
        self._unread = 0  # lines that nobody was there to read
        self._ending = False
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self._thread.start()

    @property
    def dropped(self) -> int:
        """Lines dropped since the start."""
        return self._refused + self._unread

    def put(self, line: bytes) -> bool:
        """Have a line written; False when it was dropped."""
        with self._putting:
            if self._ending or self._waiting + len(line) > self._limit:
                self._refused += 1
                return False
            self._taken += len(line)
            self._queue.put(line)
            return True

    def has_room(self) -> bool:
        """Whether a line of ordinary length would be taken."""
        return not self._ending and self._waiting + _ORDINARY_LINE <= self._limit

    def flush(self, seconds: float = FLUSH_SECONDS) -> bool:
        """Wait until all lines that are there are written, for so many seconds at most; whether they are."""
        written = threading.Event()
        if self._thread.is_alive():
            self._queue.put(written)
            written.wait(seconds)
        return not self._waiting

    def close(self, seconds: float = FLUSH_SECONDS) -> bool:
        """Take no more lines; wait for those that are there, for so many seconds at most.

        Returns:
            Whether all was written.
        """
        with self._putting:
            self._ending = True
            self._queue.put(None)
        self._thread.join(seconds)
        return not self._thread.is_alive() and not self._waiting

    @property
    def _waiting(self) -> int:
        return self._taken - self._done

    def _run(self) -> None:
        while (first := self._queue.get()) is not None:
            if isinstance(first, threading.Event):
                first.set()
                continue
            lines, last = self._batch(first)
            size = sum(map(len, lines))
            if not self._write(b"".join(lines)):
                self._unread += len(lines)
            self._done += size
            if last is None:
                return
            if isinstance(last, threading.Event):
                last.set()

    def _batch(self, first: bytes) -> tuple[list[bytes], bytes | threading.Event | None]:
        """What waits already, to be written by one call, and the last thing that was taken from the queue."""
        lines, size = [first], len(first)
        last: bytes | threading.Event | None = first
        while size < _BATCH_BYTES:
            try:
                last = self._queue.get_nowait()
            except Empty:
                break
            if not isinstance(last, bytes):
                break
            lines.append(last)
            size += len(last)
        return lines, last

    def _write(self, lines: bytes) -> bool:
        """All of it, however the descriptor takes it; False when nobody is there to read."""
        rest = memoryview(lines)
        while rest:
            try:
                rest = rest[os.write(self._descriptor, rest) :]
            except BlockingIOError:
                # Whoever shares stderr with us may have made it nonblocking.
                ready = select.poll()
                ready.register(self._descriptor, select.POLLOUT)
                ready.poll()
            except OSError:
                return False
        return True


class Logger:
    """The daemon's log.

    Args:
        origin: who writes.
        form: "human" or "json".
        level: the least that is written; the ring keeps all, in the human form.
        descriptor: where to.
        ring: keeps the last lines for DUMP.
        limit: bytes that may wait to be written.
    """

    def __init__(
        self,
        origin: Origin,
        *,
        form: Literal["human", "json"] = "human",
        level: str = "info",
        descriptor: int = 2,
        ring: LineRing | None = None,
        limit: int = QUEUE_BYTES,
    ) -> None:
        self.origin = origin
        self.ring = LineRing() if ring is None else ring
        self._least = _SEVERITY[level]
        self._human = form == "human"
        self._writer = Writer(descriptor, limit)
        self._told = 0
        self._lock = threading.RLock()
        self._logger: structlog.BoundLogger = structlog.wrap_logger(
            _Sink(self._writer),
            processors=[self._stamp, self._keep, self._render],
            wrapper_class=structlog.BoundLogger,
        ).bind()  # once: the lazy logger would be bound anew for each line

    @property
    def dropped(self) -> int:
        """Lines dropped since the start, for status."""
        return self._writer.dropped

    def write(self, entry: Log) -> None:
        """Log one event; never waits."""
        with self._lock:  # so that mono, the ring and the lines have one order, whichever thread writes
            self._tell_dropped()
            self._emit(entry)

    def flush(self, seconds: float = FLUSH_SECONDS) -> bool:
        """Wait until what was logged is written, for so many seconds at most; whether it is. For a thread."""
        return self._writer.flush(seconds)

    def close(self, seconds: float = FLUSH_SECONDS) -> bool:
        """Write what waits, for so many seconds at most; whether all was written."""
        with self._lock:
            self._tell_dropped()
        return self._writer.close(seconds)

    def _tell_dropped(self) -> None:
        lost = self._writer.dropped - self._told
        if lost and self._writer.has_room():
            self._told += lost
            self._emit(log(Event.LOGS_DROPPED, level="warning", count=lost, cause="the log is read too slowly"))

    def _emit(self, entry: Log) -> None:
        getattr(self._logger, entry.level)(entry.event.value, entry=entry)

    def _stamp(self, _logger: object, level: str, fields: Fields) -> Fields:
        """The fields of every line, then the event's own; one that has the name of the former gets a "_"."""
        entry: Log = fields["entry"]
        now = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        origin = self.origin
        base = (
            now,
            time.monotonic_ns(),
            origin.boot,
            origin.node,
            origin.daemon,
            origin.incarnation,
            entry.event.value,
        )
        stamped: Fields = dict(zip(_BASE, (*base, level), strict=True))
        for name, value in entry.fields:
            stamped[f"{name}_" if name in _BASE else name] = value
        return stamped

    def _keep(self, _logger: object, level: str, fields: Fields) -> Fields:
        line = human(fields)
        self.ring.append(line)
        if _SEVERITY[level] < self._least:
            raise structlog.DropEvent
        return {"line": line} if self._human else fields

    def _render(self, _logger: object, _level: str, fields: Fields) -> bytes:
        if self._human:
            line: bytes = fields["line"]
            return line
        return _json(fields).encode("ascii") + b"\n"


class _Sink:
    """What structlog writes to: a method for each level."""

    def __init__(self, writer: Writer) -> None:
        self.debug = self.info = self.warning = self.error = writer.put


def human(fields: Fields) -> bytes:
    """One line for people: time, level, node, daemon, event, then name=value, quoted where it could mislead."""
    head = f"{fields['time']} {fields['level']:<7} {fields['node'] or '-'} {fields['daemon']} {fields['event']}"
    rest = "".join(f" {name}={_shown(value)}" for name, value in fields.items() if name not in _BASE)
    return (head + rest).encode("utf-8", "backslashreplace") + b"\n"


def _shown(value: Field) -> str:
    match value:
        case bool():
            return "yes" if value else "no"
        case list():
            return f"[{' '.join(_shown(each) for each in value)}]"
        case str() if _PLAIN(value) and value.isprintable():
            return value
        case str():
            # Strangers' bytes get here (device names, programs): nothing in them ends the line or moves a cursor.
            return json.dumps(value, ensure_ascii=not value.isprintable())
        case _:
            return str(value)
