"""The memory of a daemon that runs for months: level, whatever it was asked to do once.

Three things make that of a Python daemon grow although nothing leaks (measured in a soak):

- The interpreter keeps tuples, lists and the like that were freed, some thousands of each size, for the next that is
  made. It gives them back in a full collection of cycles. A daemon that makes no cycles never has one: a collection
  comes when many more objects were made than freed.
- The interpreter has one table of all interned strings, and pathlib interns each part of each path. A name that goes
  leaves a hole, and after some thousand holes the table is made anew: half a megabyte larger the first time, some hours
  after the start, and then up and down by as much again and again.
- glibc gives each thread an arena of its own, up to eight a core, and takes none of it back for other threads.

So the collector looks at young objects often, which work brings about and no clock, and a full collection follows, at
most one a second. It is short, about a millisecond, since what was there at the start is left out of it. The table is
made anew a few times at the start, and glibc keeps the room that two of it need: three megabytes, from then on. And all
threads share one arena; here they wait far more than they allocate.
"""

import asyncio
import ctypes
import gc
import sys
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, Final, TypeVar

YOUNG: Final = 200
"""Objects more than were freed, until the collector looks at them."""
SECONDS: Final = 1.0
"""From the first look at young objects to the full collection, and so from one to the next at least."""
_FULL: Final = 2
HOLES: Final = 150_000
"""Names that come and go at the start: the table of a program of this size is made anew after 44000 at the latest."""
KEPT: Final = 4 << 20
"""Bytes up to which a block is taken from the heap, and up to which the heap keeps what is free at its end."""
_M_ARENA_MAX: Final = -8
_M_MMAP_THRESHOLD: Final = -3
_M_TRIM_THRESHOLD: Final = -1

R = TypeVar("R")


def tune() -> None:
    """Have all threads share one heap that keeps its size, and the table of interned strings its room in it.

    To be called once, before the first thread. The heap is tuned only where libc is glibc.
    """
    with suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        for option, value in ((_M_ARENA_MAX, 1), (_M_MMAP_THRESHOLD, KEPT), (_M_TRIM_THRESHOLD, KEPT)):
            mallopt(option, value)
    for number in range(HOLES):
        sys.intern(f"hole {number}")


async def level(work: Coroutine[Any, Any, R]) -> R:
    """Do a daemon's work, and keep its memory level meanwhile.

    Args:
        work: all that the daemon does from here on.

    Returns:
        What the work returns.
    """
    loop = asyncio.get_running_loop()
    due = False

    def tidy() -> None:
        nonlocal due
        gc.collect()
        due = False

    def plan() -> None:
        # Not at once, in the midst of what brings it about: that may be the death of a node, after an hour of rest.
        loop.call_later(SECONDS, tidy)

    def looked(phase: str, info: dict[str, int]) -> None:
        # In any thread, in the midst of anything; and a collection within a collection does nothing.
        nonlocal due
        if phase == "stop" and info["generation"] < _FULL and not due:
            due = True
            with suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(plan)

    before = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.callbacks.append(looked)
    gc.set_threshold(YOUNG)
    try:
        return await work
    finally:
        gc.set_threshold(*before)
        gc.callbacks.remove(looked)
        gc.unfreeze()
