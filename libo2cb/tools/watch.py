"""A status that is drawn again and again, until Ctrl-C: `ocfs2_hb_ctl -I --watch`."""

import argparse
import importlib.util
import os
import signal
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final, TextIO

from libo2cb.tools import common, screens

SECONDS: Final = 2.0
"""Between two pictures, unless said otherwise."""
LEAST: Final = 0.1
MOST: Final = 3600.0

Picture = tuple[list[str], int]
"""Lines, and the exit code that `-I` would have with them."""


def seconds(text: str) -> float:
    """The argument of --watch.

    Raises:
        ArgumentTypeError: it is no number of seconds that makes sense.
    """
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not LEAST <= value <= MOST:
        raise argparse.ArgumentTypeError(f'"{text}" is no pause: a number of seconds from {LEAST:g} to {MOST:g}')
    return value


def watch(command: str, picture: Callable[[], Picture], every: float, stream: TextIO | None = None) -> int:
    """Draw pictures until SIGINT.

    On a terminal that can do it each takes the place of the last one, and follows the terminal's size; that needs the
    package rich, and without it, or elsewhere, they follow each other, each under the time at which it was made.

    Args:
        command: the program's name, for the word about rich.
        picture: makes one; may take its time.
        every: seconds between two.
        stream: where to; stdout unless given.

    Returns:
        The exit code of the last picture.
    """
    stream = sys.stdout if stream is None else stream
    terminal = screens.moves_cursor(os.environ, terminal=stream.isatty())
    colour = screens.wants_colour(os.environ, terminal=stream.isatty())
    if terminal and importlib.util.find_spec("rich") is not None:
        return _in_place(picture, every, stream, colour=colour)
    if terminal:
        common.say(
            command,
            "--watch draws in place with the Python package rich (pip install 'ocfs2-controld[watch]', or Debian's"
            " python3-rich); without it each picture follows the last",
        )
    return _one_after_the_other(picture, every, stream, colour=colour)


def _one_after_the_other(picture: Callable[[], Picture], every: float, stream: TextIO, *, colour: bool) -> int:
    code = 0
    try:
        while True:
            lines, code = picture()
            now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
            stream.write("\n".join([f"-- {now}", *(screens.paint(lines) if colour else lines)]) + "\n")
            stream.flush()
            time.sleep(every)
    except KeyboardInterrupt:
        return code


def _in_place(picture: Callable[[], Picture], every: float, stream: TextIO, *, colour: bool) -> int:
    """With rich, on the alternate screen; the last picture stays on the ordinary one."""
    from rich.console import Console  # noqa: PLC0415 (only here: rich is an extra)
    from rich.live import Live  # noqa: PLC0415 (the same)
    from rich.text import Text  # noqa: PLC0415 (the same)

    def shown(lines: list[str]) -> Text:
        return Text.from_ansi("\n".join(screens.paint(lines) if colour else lines), no_wrap=True, overflow="ellipsis")

    console = Console(file=stream, highlight=False)
    lines, code = picture()
    # A change of the terminal's size is waited for as the time is: so it is redrawn at once, and never in between.
    resized = {signal.SIGWINCH}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, resized)
    try:
        with Live(shown(lines), console=console, screen=True, auto_refresh=False) as live:
            while True:
                due = time.monotonic() + every
                while (left := due - time.monotonic()) > 0 and signal.sigtimedwait(resized, left) is not None:
                    live.refresh()
                lines, code = picture()
                live.update(shown(lines), refresh=True)
    except KeyboardInterrupt:
        console.print(shown(lines))
        return code
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
