"""The sandbox kernel's journal: one JSON line for each call that changes the tree, or tries to.

A line is written before the effect, under the lock of the tree, with its errno already decided. So of all lines only
the last can lack its effect, when its writer was killed between the two; the next caller sees that in the tree and
adds a line "undone". A reader that skips each undone line has the true history of the tree.

Fields of a line:
    seq      counts from 1, without gaps
    mono     time.monotonic_ns() when it was written
    pid      the caller's
    call     mkdir, rmdir, symlink, unlink or write; boot, clear and power_off; undone
    path     below the cluster root; "" for the calls on the whole tree
    errno    0, or the refusal
    number, address, port, local   the node as it stood before the call, where the call is about a node or its link
    target   symlink: the path of the node
    value    write: what was written, cut at 200 characters; content: what the attribute then reads
    boot     boot: the new boot id
    why      power_off: the reason
    undoes   undone: the seq of the line without an effect
"""

import json
import os
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

Entry = dict[str, Any]

_TAIL = 1 << 16
"""Longer than any line: a path has at most three names of 255 bytes, each byte six characters in JSON."""
_ORDINARY_TAIL = 1 << 10
"""Longer than most lines."""
_encode = json.JSONEncoder(separators=(",", ":")).encode


class Journal:
    """The journal, open. Only who holds the lock of the tree may have it open for more than reading."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        self._last = self._read_last()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _t: type[BaseException] | None, _e: BaseException | None, _b: TracebackType | None) -> None:
        os.close(self._fd)

    @property
    def last(self) -> Entry | None:
        """The last line."""
        return self._last

    def append(self, entry: Entry) -> None:
        """Add a line; seq, mono and pid are put in front."""
        seq = 1 + (self._last["seq"] if self._last else 0)
        self._last = {"seq": seq, "mono": time.monotonic_ns(), "pid": os.getpid(), **entry}
        line = _encode(self._last).encode() + b"\n"
        while line:
            line = line[os.write(self._fd, line) :]

    def _read_last(self) -> Entry | None:
        size = os.fstat(self._fd).st_size
        for length in (_ORDINARY_TAIL, _TAIL):
            start = max(0, size - length)
            tail = os.pread(self._fd, size - start, start)
            whole = tail.rfind(b"\n") + 1
            begin = tail.rfind(b"\n", 0, max(whole - 1, 0)) + 1
            if begin or not start:
                break
        if whole != len(tail):
            # A writer was killed inside write(2). Its effect would have come after the line, so nothing is lost.
            os.ftruncate(self._fd, start + whole)
        return dict(json.loads(tail[begin:whole])) if whole else None


def read(path: Path) -> list[Entry]:
    """All whole lines of a journal, undone ones included; empty when there is none."""
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        return []
    return [json.loads(line) for line in text[: text.rfind(b"\n") + 1].splitlines()]


def effects(entries: list[Entry]) -> list[Entry]:
    """The lines that changed the tree: errno 0 and not undone."""
    undone = {entry["undoes"] for entry in entries if entry["call"] == "undone"}
    return [
        entry for entry in entries if entry["errno"] == 0 and entry["seq"] not in undone and entry["call"] != "undone"
    ]
