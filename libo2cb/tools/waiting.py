"""What a mount shows while it waits: a block that is redrawn on a terminal, a line each ten seconds elsewhere."""

import os
import shutil
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Final, TextIO

from libo2cb.tools import screens
from libo2cb.tools.facts import Facts
from libo2cb.tools.human import clean

INTERVAL: Final = 10.0
"""Seconds between two lines without a terminal."""


class Waiting:
    """The display of one wait.

    Args:
        command: the program's name.
        title: "vm-images in cluster prod".
        fs: UUID.
        ask: gives the facts; called each time something is shown.
        stream: where to; stderr unless a test says otherwise.
        redraw: whether the stream is a terminal that understands cursor movements; None: look.
        width: the terminal's width; asked at each drawing, for it may be resized.
    """

    def __init__(
        self,
        command: str,
        title: str,
        fs: str,
        ask: Callable[[], Facts],
        *,
        stream: TextIO | None = None,
        redraw: bool | None = None,
        width: Callable[[], int] = lambda: shutil.get_terminal_size().columns,
    ) -> None:
        self._head = clean(f"{command}: joining {title}")
        self._fs = fs
        self._ask = ask
        self._stream = sys.stderr if stream is None else stream
        self._redraw = screens.moves_cursor(os.environ, terminal=self._stream.isatty()) if redraw is None else redraw
        self._width = width
        self._drawn = 0
        self._next = 0.0
        self._begun = False
        self.last: Facts | None = None
        """The facts that were shown last; they say what to do when the wait ends badly."""

    def tick(self, elapsed: float) -> None:
        """Show the wait after so many seconds. Never fails: a stream that is gone hides it only."""
        if not self._redraw and elapsed < self._next:
            return
        self._next = elapsed + INTERVAL
        self.last = self._ask()
        lines = screens.joining(self.last, self._fs, elapsed)
        text = "" if self._begun else self._head + "\n"
        self._begun = True
        if self._redraw:
            lines = screens.wrapped(lines, self._width())
            text += self._erase() + "\n".join(lines) + "\n"
            self._drawn = len(lines)
        else:
            text += "; ".join(line.strip() for line in lines) + "\n"
        self._write(text)

    def done(self) -> None:
        """Erase the block, so that the last line says how it ended."""
        self._write(self._erase())
        self._drawn = 0

    def _erase(self) -> str:
        return f"\x1b[{self._drawn}F\x1b[J" if self._drawn else ""

    def _write(self, text: str) -> None:
        with suppress(OSError, ValueError):
            self._stream.write(text)
            self._stream.flush()
