"""The log: one line an event, to stderr, as JSON or for people; and it never makes a daemon wait.

The fields are an interface. Each line has time (UTC, ISO 8601 with microseconds), mono (nanoseconds of CLOCK_MONOTONIC,
which order the lines of one machine), boot, node, daemon, incarnation, event and level, then the event's own fields as
`libo2cb.events` names them. The order between nodes comes from the fields change and ring, never from clocks.

A line is rendered where the event happens and written by a thread of its own. When the reader of stderr is slower than
the events, lines are dropped, counted, and the count is logged as soon as there is room.
"""

import asyncio
import json
import os
import re
import select
import threading
import time
from collections import deque
from collections.abc import MutableMapping
from dataclasses import dataclass
from datetime import UTC, datetime
from queue import SimpleQueue
from typing import Any, Final, Literal

import structlog

from libo2cb.events import Event, Field, Log, log
from libo2cb.service.ring import LineRing

QUEUE_BYTES: Final = 4 << 20
FLUSH_SECONDS: Final = 2.0
PACE_SECONDS: Final = 0.002
"""For which a line may wait for others, to be written with them."""
_ORDINARY_LINE: Final = 1024
_BATCH_BYTES: Final = 64 << 10
_BASE: Final = frozenset({"time", "mono", "boot", "node", "daemon", "incarnation", "event", "level"})
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

    On an event loop the thread is called PACE_SECONDS after a line, once for all lines that have come by then. It would
    run at once, in place of the loop and with the interpreter to itself: A logs ten lines while it deals with a death,
    and each time stands still for longer than the line took to make. Elsewhere the thread is called at once.

    Args:
        descriptor: where to; stays open.
        limit: bytes that may wait.
    """

    def __init__(self, descriptor: int, limit: int = QUEUE_BYTES) -> None:
        self._descriptor = descriptor
        self._limit = limit
        # No lock is shared with the thread: whoever logs would wait for it. Each side has counters of its own.
        self._lines: deque[bytes] = deque()
        self._calls: SimpleQueue[threading.Event | None] = SimpleQueue()
        """What the thread sleeps at: an event is set once all that was put before is written; None is the end."""
        self._called = False
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
            self._lines.append(line)
            if self._called:
                return True
            self._called = True
        try:
            asyncio.get_running_loop().call_later(PACE_SECONDS, self._call)
        except RuntimeError:  # this thread has none, or none that goes on
            self._call()
        return True

    def has_room(self) -> bool:
        """Whether a line of ordinary length would be taken."""
        return not self._ending and self._waiting + _ORDINARY_LINE <= self._limit

    def flush(self, seconds: float = FLUSH_SECONDS) -> bool:
        """Wait until all lines that are there are written, for so many seconds at most; whether they are."""
        written = threading.Event()
        if self._thread.is_alive():
            self._calls.put(written)
            written.wait(seconds)
        return not self._waiting

    def close(self, seconds: float = FLUSH_SECONDS) -> bool:
        """Take no more lines; wait for those that are there, for so many seconds at most.

        Returns:
            Whether all was written.
        """
        with self._putting:
            self._ending = True
            self._calls.put(None)
        self._thread.join(seconds)
        return not self._thread.is_alive() and not self._waiting

    @property
    def _waiting(self) -> int:
        return self._taken - self._done

    def _call(self) -> None:
        self._calls.put(threading.Event())

    def _run(self) -> None:
        ended = False
        while not ended:
            written = self._calls.get()
            ended = written is None
            self._called = False  # whoever puts a line from here on calls again
            while lines := self._batch():
                if not self._write(b"".join(lines)):
                    self._unread += len(lines)
                self._done += sum(map(len, lines))
            if written is not None:
                written.set()

    def _batch(self) -> list[bytes]:
        """What waits already, to be written by one call."""
        lines: list[bytes] = []
        size = 0
        while self._lines and size < _BATCH_BYTES:
            lines.append(self._lines.popleft())
            size += len(lines[-1])
        return lines

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
        origin = self.origin
        stamped: Fields = {
            "time": f"{datetime.now(UTC).isoformat(timespec='microseconds')[:-6]}Z",
            "mono": time.monotonic_ns(),
            "boot": origin.boot,
            "node": origin.node,
            "daemon": origin.daemon,
            "incarnation": origin.incarnation,
            "event": entry.event.value,
            "level": level,
        }
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
    words = [fields["time"], f"{fields['level']:<7}", fields["node"] or "-", fields["daemon"], fields["event"]]
    words += [f"{name}={_shown(value)}" for name, value in fields.items() if name not in _BASE]
    return " ".join(words).encode("utf-8", "backslashreplace") + b"\n"


def _shown(value: Field) -> str:
    if isinstance(value, str):
        if value.isalnum() or (_PLAIN(value) and value.isprintable()):
            return value
        # Strangers' bytes get here (device names, programs): nothing in them ends the line or moves a cursor.
        return json.dumps(value, ensure_ascii=not value.isprintable())
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return f"[{' '.join([_shown(each) for each in value])}]"
    return str(value)
