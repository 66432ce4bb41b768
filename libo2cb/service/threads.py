"""Calls that may wait without limit, made off the event loop.

asyncio's own executor will not do: the loop, and the interpreter after it, wait for its threads when they end, so one
device that never answers would keep a daemon from ever exiting. A thread from here ends with the process.
"""

import asyncio
import contextlib
import errno
import threading
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any, Final, TypeVar

R = TypeVar("R")


def in_thread(call: Callable[[], R], name: str = "call") -> asyncio.Future[R]:
    """Make a call in a thread of its own, from the running loop.

    For what may never come back, such as a dead device: no other call is held up by it. A thread that came back serves
    the next call: to start one takes time, and memory that the process may not give back.

    Args:
        call: what to do.
        name: the thread's name, for whoever debugs the daemon.

    Returns:
        What the call returns or raises; OSError (EAGAIN) where no thread could be started.
    """
    run, answer = _prepared(call)
    try:
        calls = _idle.pop()
    except IndexError:
        calls = SimpleQueue()
        try:
            threading.Thread(target=_serve, args=(calls,), daemon=True).start()
        except RuntimeError:
            answer.set_exception(OSError(errno.EAGAIN, "no thread can be started"))
            return answer
    calls.put((name, run))
    return answer


MOST_IDLE: Final = 4
"""Threads that are kept for calls to come."""
_idle: Final[list[SimpleQueue[tuple[str, Callable[[], None]]]]] = []
"""What threads without a call wait at."""


def _serve(calls: SimpleQueue[tuple[str, Callable[[], None]]]) -> None:
    while True:
        threading.current_thread().name, run = calls.get()
        run()
        del run  # and with it what it was about
        if len(_idle) >= MOST_IDLE:
            return
        _idle.append(calls)


class Worker:
    """One thread for calls that are made one after the other, in the order in which they were given.

    Args:
        name: the thread's name.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._waiting: SimpleQueue[tuple[str, Callable[[], None]] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._closed = False
        self._unanswered = 0
        self._current: tuple[str, float] | None = None

    def do(self, call: Callable[[], R], what: str = "") -> asyncio.Future[R]:
        """Make a call after all that were given before, from the running loop.

        Args:
            call: what to do.
            what: it, for a person: "rmdir of node n3".

        Returns:
            What the call returns or raises; answers come in the order of the calls. OSError (EAGAIN) where no thread
            could be started. After close(), and for what close() overtook, it is never answered.
        """
        run, answer = _prepared(call)
        if self._closed:
            return answer
        if self._thread is None:
            thread = threading.Thread(target=self._work, name=self._name, daemon=True)
            try:
                thread.start()
            except RuntimeError:
                answer.set_exception(OSError(errno.EAGAIN, "no thread can be started"))
                return answer
            self._thread = thread
        self._unanswered += 1
        answer.add_done_callback(self._answered)
        self._waiting.put((what, run))
        return answer

    @property
    def idle(self) -> bool:
        """Whether all calls are made and answered: what the loop does itself by then overtakes nothing."""
        return not self._unanswered

    def _answered(self, _: object) -> None:
        self._unanswered -= 1

    @property
    def under_way(self) -> tuple[str, float] | None:
        """The call that is being made: what it is, and for how many seconds; None at rest."""
        current = self._current
        return None if current is None else (current[0], time.monotonic() - current[1])

    def clear(self) -> None:
        """Give up what waits. The call that is being made goes on."""
        with contextlib.suppress(Empty):
            while True:
                self._waiting.get_nowait()

    def close(self) -> None:
        """Give up what waits, and end the thread when it comes back from its call."""
        self._closed = True
        self.clear()
        self._waiting.put(None)

    def _work(self) -> None:
        while (call := self._waiting.get()) is not None:
            what, run = call
            self._current = (what, time.monotonic())
            run()
            self._current = None
            del call, run  # and with it what it was about: the thread may sleep for days


def _prepared(call: Callable[[], R]) -> tuple[Callable[[], None], asyncio.Future[R]]:
    """What a thread is to run, and where its answer comes, on the running loop."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[R] = loop.create_future()

    def tell(say: Callable[[Any], None], outcome: object) -> None:
        def on_loop() -> None:
            if not answer.done():
                say(outcome)

        with contextlib.suppress(RuntimeError):  # the loop has ended: nobody asks any more
            loop.call_soon_threadsafe(on_loop)

    def run() -> None:
        try:
            result = call()
        except BaseException as error:  # noqa: BLE001 (it is raised where the answer is awaited)
            tell(answer.set_exception, error)
        else:
            tell(answer.set_result, result)

    return run, answer
