"""The one thread on which a port calls what may wait for corosync."""

import asyncio
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
        """Make a call; the future has what it returns or raises. Cancelling the future does not stop the call."""
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

        self._put(run)
        return answer

    def end(self) -> None:
        """Let the thread end after the calls that wait."""
        if self._thread is not None:
            self._calls.put(None)

    def _put(self, run: Callable[[], None]) -> None:
        self._calls.put(run)
        if self._thread is None:
            self._thread = Thread(target=self._work, name=self._name, daemon=True)
            self._thread.start()

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
