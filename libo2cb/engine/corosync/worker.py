"""The one thread on which a port calls what may wait for corosync."""

import asyncio
import errno
from collections.abc import Callable
from functools import partial
from queue import SimpleQueue
from threading import Thread
from typing import TypeVar

R = TypeVar("R")


class Worker:
    """Calls that may block, one after the other, on one thread that sleeps between them.

    While corosync hangs, one call waits and the others queue behind it: there is never a second thread. The thread is
    a daemon's: it keeps no process from ending.

    Args:
        name: the thread's name, for whoever debugs the daemon.
        enter: called first on the thread: a lab enters the namespaces of a node there.
    """

    def __init__(self, name: str, enter: Callable[[], None] | None = None) -> None:
        self._calls: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._name = name
        self._enter = enter
        self._thread: Thread | None = None

    def call(self, function: Callable[[], R]) -> "asyncio.Future[R]":
        """Make a call; the future has what it returns or raises. Cancelling the future does not stop the call.

        Where no thread can be started the future has OSError (EAGAIN), and the call is not made.
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
            try:
                result = function()
            except BaseException as error:  # noqa: BLE001 (it is raised where the answer is awaited)
                _soon(loop, partial(fail, error))
            else:
                _soon(loop, partial(give, result))

        if self._starts():
            self._calls.put(run)
        else:
            answer.set_exception(OSError(errno.EAGAIN, "no thread can be started"))
        return answer

    def end(self) -> None:
        """Let the thread end after the calls that wait."""
        if self._thread is not None:
            self._calls.put(None)

    def _starts(self) -> bool:
        """Whether there is a thread."""
        if self._thread is None:
            thread = Thread(target=self._work, name=self._name, daemon=True)
            try:
                thread.start()
            except RuntimeError:
                return False
            self._thread = thread
        return True

    def _work(self) -> None:
        if self._enter is not None:
            self._enter()
        while (run := self._calls.get()) is not None:
            run()
            del run


def _soon(loop: asyncio.AbstractEventLoop, function: Callable[[], None]) -> None:
    try:
        loop.call_soon_threadsafe(function)
    except RuntimeError:
        return  # the loop has ended meanwhile: nobody asks any more
