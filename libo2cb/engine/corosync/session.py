"""A port's life: it connects to corosync, hears what is said, and connects again whenever corosync went away."""

import asyncio
import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Final, Generic, Protocol, TypeAlias, TypeVar

from libo2cb.engine.corosync.errors import AWAY, CorosyncError
from libo2cb.engine.corosync.worker import Worker
from libo2cb.errors import O2cbError

FIRST_PAUSE: Final = 0.02
LONGEST_PAUSE: Final = 1.0
SILENCE: Final = 5.0
"""Seconds after which a corosync that admits nobody is said to be silent."""
CLOSE_TIME: Final = 2.0
"""Seconds that close() waits for a corosync that takes nothing, and again for its connections to be closed."""
DRAIN_TIME: Final = 30.0
"""Seconds for which close() goes on sending what waits, as long as corosync takes some of it."""
BATCH: Final = 100
"""Events that are heard at once; then others have the loop."""

E = TypeVar("E")
Hear: TypeAlias = Callable[[Any], None]


class Source(Protocol):
    """Something open that is heard: a Handle."""

    def fileno(self) -> int:
        """Readable when there is something to take."""

    def take(self, limit: int) -> Iterator[Any]:
        """What it says, up to that many events; raises CorosyncError when it is lost."""

    def finalize(self) -> None:
        """Close it. On the worker."""


class Link(ABC):
    """One connection of a port to corosync, from its opening to its loss; never opened twice.

    Attributes:
        farewell: why it is lost, if corosync has said that before.
    """

    farewell = "corosync went away"

    @abstractmethod
    def open(self) -> None:
        """Open all handles. On the worker.

        Raises:
            O2cbError: corosync does not run, or cannot be used.
        """

    @abstractmethod
    def handles(self) -> tuple[tuple[Source, Hear], ...]:
        """The open handles, and who hears what each says."""

    @abstractmethod
    def attached(self) -> None:
        """It is open, and nothing was heard of it yet. On the loop."""

    @abstractmethod
    def detached(self) -> None:
        """It is lost, or is to be closed: nothing more will be heard. On the loop."""

    @abstractmethod
    async def drained(self, patience: float) -> None:
        """Wait until all that was sent has gone out, or nothing of it goes out for so many seconds."""

    @abstractmethod
    def close(self, *, leave: bool) -> None:
        """Close whatever is open, in good order if leave says so. On the worker."""


class Session(Generic[E]):
    """Keeps one Link at a time.

    Args:
        name: the worker thread's name.
        link: makes a new link.
        down: makes the event that says why there is no corosync.
        enter: called first on the worker: a lab enters the namespaces of a node there.

    Attributes:
        worker: where everything is called that may block.
    """

    def __init__(
        self, name: str, link: Callable[[], Link], down: Callable[[str], E], enter: Callable[[], None] | None = None
    ) -> None:
        self.worker = Worker(name, enter)
        self._make = link
        self._down: Callable[[str], E] = down
        self._is_down = False
        self._reason = ""
        self._name = name
        self._sink: Callable[[E], None] | None = None
        self._task: asyncio.Task[None] | None = None
        self._link: Link | None = None
        self._lost: asyncio.Future[str] | None = None
        self._readers: dict[Source, tuple[int, Hear]] = {}
        self._paused: dict[Source, int] = {}
        self._leave = False

    async def start(self, sink: Callable[[E], None]) -> None:
        """Begin to deliver events, from the running loop.

        Raises:
            RuntimeError: it was started before.
        """
        if self._task is not None:
            raise RuntimeError("this port was started before")
        self._sink = sink
        self._task = asyncio.create_task(self._run(), name=self._name)

    def tell(self, event: E) -> None:
        """Give the sink an event.

        A sink that raises is a bug of its owner: the loop's handler hears of it, and the port is silent from then on.
        """
        self._is_down = False
        if self._sink is None or self._task is None:
            return
        try:
            self._sink(event)
        except Exception as error:  # noqa: BLE001 (handed on)
            self._sink = None
            self._task.cancel()
            context = {"message": f"{self._name}: a sink failed", "exception": error}
            asyncio.get_running_loop().call_exception_handler(context)

    def lose(self, reason: str) -> None:
        """Give the present link up, soon: nothing more is heard of it, and the sink is told why."""
        if self._lost is not None and not self._lost.done():
            self._lost.set_result(reason)

    def fail(self, error: Exception) -> None:
        """Something of ours has failed: give the present link up as in `lose`, and have the loop's handler hear of it.

        A port that fell silent instead would leave its daemon with the membership of that moment for ever.
        """
        if self._lost is not None and not self._lost.done():
            self._lost.set_exception(error)

    def pause(self, handle: Source) -> None:
        """Leave a handle to the worker: the loop does not touch it until it is resumed as often."""
        self._paused[handle] = self._paused.get(handle, 0) + 1
        if handle in self._readers:
            asyncio.get_running_loop().remove_reader(self._readers[handle][0])

    def resume(self, handle: Source) -> None:
        """Hear a handle again; what it has said meanwhile comes now."""
        self._paused[handle] -= 1
        self._listen(handle)

    async def close(self, *, leave: bool) -> None:
        """Stop: nothing is told any more.

        If corosync hangs it ends within twice CLOSE_TIME, and what hangs with it is left to the worker.
        """
        task, self._sink = self._task, None
        if task is not None and not task.done():
            if leave and self._link is not None:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(DRAIN_TIME):
                        await self._link.drained(CLOSE_TIME)
            self._leave = leave
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            with contextlib.suppress(OSError):  # it takes too long, or there never was a thread
                async with asyncio.timeout(CLOSE_TIME):
                    await self.worker.call(lambda: None)  # the last call before it has closed everything
        self.worker.end()

    async def _run(self) -> None:
        pause = FIRST_PAUSE
        while True:
            link = self._make()
            reason, was_up, news = await self._live(link)
            self._tell_down(reason, news=news)
            pause = FIRST_PAUSE if was_up else min(2 * pause, LONGEST_PAUSE)
            await asyncio.sleep(pause)

    async def _live(self, link: Link) -> tuple[str, bool, bool]:
        """One link, to its end: why it ended, whether it was ever open, whether the reason is more than "not here"."""
        loop = asyncio.get_running_loop()
        silent = "corosync admits nobody: it hangs, or is still starting; this goes on by itself when it answers"
        alarm = loop.call_later(SILENCE, partial(self._tell_down, silent, news=True))
        try:
            await self.worker.call(link.open)
            alarm.cancel()
            self._lost, self._link = loop.create_future(), link
            link.attached()
            for handle, hear in link.handles():
                self._readers[handle] = (handle.fileno(), hear)
                self._listen(handle)
            return await self._lost, True, False
        except O2cbError as error:
            away = isinstance(error, CorosyncError) and error.error in AWAY
            return error.sentence(), False, not away
        except OSError as error:
            return f"this process cannot connect to corosync: {error.strerror or error}", False, True
        except Exception as error:  # noqa: BLE001 (the loop's handler has it; the port connects again)
            return self._bug(error), False, True
        finally:
            alarm.cancel()
            for fd, _ in self._readers.values():
                loop.remove_reader(fd)
            self._readers.clear()
            self._paused.clear()
            self._lost = self._link = None
            link.detached()
            leave = self._leave
            self.worker.call(lambda: link.close(leave=leave))

    def _listen(self, handle: Source) -> None:
        if handle in self._readers and not self._paused.get(handle):
            fd, hear = self._readers[handle]
            asyncio.get_running_loop().add_reader(fd, self._hear, handle, hear)

    def _hear(self, handle: Source, hear: Hear) -> None:
        lost = self._lost
        if lost is None or lost.done():
            return
        try:
            for event in handle.take(BATCH):
                hear(event)
                if lost.done() or self._paused.get(handle):
                    return
        except CorosyncError as error:
            self.lose(f"{self._link.farewell if self._link else Link.farewell}: {error.head()}")
        except Exception as error:  # noqa: BLE001 (handed on)
            self.fail(error)

    def _bug(self, error: Exception) -> str:
        """Why there is no corosync; the loop's handler hears of it, once as long as it is the only thing to tell."""
        reason = f"what corosync says cannot be dealt with, which is a bug of this daemon: {error!r}"
        if not self._is_down or reason != self._reason:
            context = {"message": f"{self._name}: it connects again", "exception": error}
            asyncio.get_running_loop().call_exception_handler(context)
        return reason

    def _tell_down(self, reason: str, *, news: bool) -> None:
        """Say that there is no corosync: once, and again when an operator has something else to mend than before."""
        if not self._is_down or (news and reason != self._reason):
            self.tell(self._down(reason))
            self._is_down, self._reason = True, reason
