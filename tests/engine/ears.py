"""What a test hears from a port, and how it waits for it."""

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar

E = TypeVar("E")
PATIENCE = 30.0


class Ear(Generic[E]):
    """A sink that keeps what it was given."""

    def __init__(self) -> None:
        self.events: list[E] = []
        self._news = asyncio.Event()

    def __call__(self, event: E) -> None:
        self.events.append(event)
        self._news.set()

    async def until(self, done: Callable[[list[E]], bool]) -> list[E]:
        """Wait until that is true of what was heard since the last time; return and forget that."""
        try:
            async with asyncio.timeout(PATIENCE):
                while not done(self.events):
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            raise AssertionError(f"this did not come; heard: {self.events}") from None
        heard, self.events = self.events, []
        return heard

    async def last(self, event: E) -> list[E]:
        """Wait until that event comes."""
        return await self.until(lambda heard: event in heard)
