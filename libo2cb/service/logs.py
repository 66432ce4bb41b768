"""The log: one line an event, to stderr, as JSON or for people; and it never makes a daemon wait.

The fields are an interface. Each line has time (UTC, ISO 8601 with microseconds), mono (nanoseconds of CLOCK_MONOTONIC,
which order the lines of one machine), boot, node, daemon, incarnation, event and level, then the event's own fields as
`libo2cb.events` names them. The order between nodes comes from the fields change and ring, never from clocks.

A line is rendered where the event happens and written by a thread of its own. When the reader of stderr is slower than
the events, lines are dropped, counted, and the count is logged as soon as there is room.
"""

import json
import os
import select
import threading
import time
from collections import deque
from collections.abc import MutableMapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Literal

import structlog

from libo2cb.events import Event, Field, Log, log
from libo2cb.service.ring import LineRing

QUEUE_BYTES: Final = 4 << 20
FLUSH_SECONDS: Final = 2.0
_ORDINARY_LINE: Final = 1024
_BASE: Final = ("time", "mono", "boot", "node", "daemon", "incarnation", "event", "level")
_SEVERITY: Final = {"debug": 10, "info": 20, "warning": 30, "error": 40}

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
        self.dropped = 0
        """Lines dropped since the start."""
        self._descriptor = descriptor
        self._limit = limit
        self._lines: deque[bytes] = deque()
        self._size = 0
        self._ending = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self._thread.start()

    def put(self, line: bytes) -> bool:
        """Have a line written; False when it was dropped."""
        with self._changed:
            if self._ending or self._size + len(line) > self._limit:
                self.dropped += 1
                return False
            self._lines.append(line)
            self._size += len(line)
            self._changed.notify()
            return True

    def has_room(self) -> bool:
        """Whether a line of ordinary length would be taken."""
        return not self._ending and self._size + _ORDINARY_LINE <= self._limit

    def flush(self, seconds: float = FLUSH_SECONDS) -> bool:
        """Wait until all lines that are there are written, for so many seconds at most; whether they are."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._size, seconds)

    def close(self, seconds: float = FLUSH_SECONDS) -> bool:
        """Take no more lines; wait for those that are there, for so many seconds at most.

        Returns:
            Whether all was written.
        """
        with self._changed:
            self._ending = True
            self._changed.notify()
        self._thread.join(seconds)
        return not self._thread.is_alive() and not self._size

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._lines and not self._ending:
                    self._changed.wait()
                if not self._lines:
                    return
                line = self._lines[0]
            written = self._write(line)
            with self._changed:
                self._lines.popleft()
                self._size -= len(line)
                if not written:
                    self.dropped += 1
                self._changed.notify_all()

    def _write(self, line: bytes) -> bool:
        """The whole line, however the descriptor takes it; False when nobody is there to read."""
        rest = memoryview(line)
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
        )

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
        return json.dumps(fields, separators=(",", ":")).encode("ascii") + b"\n"


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
        case str() if value and value.isprintable() and not set(value) & set(' "=[]\\'):
            return value
        case str():
            # Strangers' bytes get here (device names, programs): nothing in them ends the line or moves a cursor.
            return json.dumps(value, ensure_ascii=not value.isprintable())
        case _:
            return str(value)
