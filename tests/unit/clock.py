"""An event loop whose time passes only while nothing happens: an hour of silence takes no time at all."""

import asyncio
import selectors
from typing import Any


class _Selector(selectors.DefaultSelector):
    """Finds what is ready now; where nothing is, the time that was to be waited has passed."""

    passed = 0.0

    def select(self, timeout: float | None = None) -> Any:
        """What is ready."""
        ready = super().select(0)
        if ready or timeout is None or timeout <= 0:
            return ready or super().select(timeout)
        self.passed += timeout
        return ready


class SimulatedLoop(asyncio.SelectorEventLoop):
    """Run a test with `asyncio.Runner(loop_factory=SimulatedLoop)`. For sockets that are all in this process."""

    def __init__(self) -> None:
        self._clock = _Selector()
        super().__init__(self._clock)

    def time(self) -> float:
        """Seconds that have passed."""
        return self._clock.passed
