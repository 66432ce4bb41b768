"""Calls that may wait without limit, made off the event loop.

asyncio's own executor will not do: the loop, and the interpreter after it, wait for its threads when they end, so one
device that never answers would keep a daemon from ever exiting. A thread from here ends with the process.
"""

import asyncio
import contextlib
import errno
import threading
from collections.abc import Callable
from typing import TypeVar

R = TypeVar("R")


def in_thread(call: Callable[[], R], name: str = "call") -> asyncio.Future[R]:
    """Make a call in a thread of its own, from the running loop.

    Args:
        call: what to do.
        name: the thread's name, for whoever debugs the daemon.

    Returns:
        What the call returns or raises; OSError (EAGAIN) where no thread could be started.
    """
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[R] = loop.create_future()

    def give(result: R) -> None:
        if not answer.done():
            answer.set_result(result)

    def fail(error: BaseException) -> None:
        if not answer.done():
            answer.set_exception(error)

    def run() -> None:
        # The loop may have ended meanwhile: then nobody asks any more.
        try:
            result = call()
        except BaseException as error:  # noqa: BLE001 (it is raised where the answer is awaited)
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(fail, error)
        else:
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(give, result)

    try:
        threading.Thread(target=run, name=name, daemon=True).start()
    except RuntimeError:
        fail(OSError(errno.EAGAIN, "no thread can be started"))
    return answer
