"""What takes its time: looking whether a device is free, fencing, and the reset of this node. Answered by events."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final

from libo2cb.config import Fencing
from libo2cb.engine.port import ChannelPort
from libo2cb.errors import O2cbError
from libo2cb.events import Event, log
from libo2cb.kernel.port import KernelPort
from libo2cb.service.logs import Logger
from libo2cb.service.notify import notify
from libo2cb.service.threads import in_thread
from ocfs2_controld import fence_command
from ocfs2_controld.actions import RunFence
from ocfs2_controld.devices import Volumes
from ocfs2_controld.events import DeviceAnswer, FenceDone

POWER_OFF_SECONDS: Final = 5.0
"""From one try of a reset to the next."""


class Errands:
    """Slow work, each in a task of its own. From the running loop.

    Args:
        volumes: the mount table.
        fencing: the fence command.
        logger: the log.
        tell: takes the answers.
    """

    def __init__(
        self, volumes: Volumes, fencing: Fencing, logger: Logger, tell: Callable[[DeviceAnswer | FenceDone], None]
    ) -> None:
        self._volumes = volumes
        self._fencing = fencing
        self._logger = logger
        self._tell = tell
        self._tasks: set[asyncio.Task[None]] = set()

    def close(self) -> None:
        """Wait for no answer any more. Threads end with the process, and a fence command goes on."""
        for task in self._tasks:
            task.cancel()

    def check_device(self, fs: str, path: str, device: str) -> None:
        """Find out whether anybody still uses a device; see Volumes.busy."""
        self._begin(self._check_device(fs, path, device))

    def fence(self, fence: RunFence) -> None:
        """Run the fence command."""
        self._begin(self._fence(fence))

    def leave(self, channel: ChannelPort) -> None:
        """Leave the engine's channel."""
        self._begin(channel.close())

    def power_off(self, kernel: KernelPort, why: str) -> None:
        """Reset this node, once the log is written."""
        self._begin(self._power_off(kernel, why))

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _check_device(self, fs: str, path: str, device: str) -> None:
        try:
            answer = await in_thread(lambda: self._volumes.busy(fs, path, device), "busy")
        except OSError as error:
            answer = DeviceAnswer(fs, free=False, why=str(error))
        self._tell(answer)

    async def _fence(self, fence: RunFence) -> None:
        command, timeout = self._fencing.command, self._fencing.timeout
        try:
            outcome = await in_thread(lambda: fence_command.run(command, fence, timeout), f"fence {fence.name}")
        except OSError as error:
            outcome = fence_command.Outcome(None, "", 0.0, f"the fence command cannot be run: {error}")
        self._logger.write(
            log(
                Event.FENCE_ANSWERED,
                "info" if outcome.ok else "error",
                life=str(fence.life),
                code=outcome.code,
                output=outcome.output,
                seconds=round(outcome.seconds, 3),
                cause=outcome.problem or None,
            )
        )
        self._tell(FenceDone(fence.life.node, outcome.ok, outcome.text))

    async def _power_off(self, kernel: KernelPort, why: str) -> None:
        """Until it has worked nothing else will do: others write what this node still believes to be its own."""
        while True:
            try:
                await in_thread(self._logger.flush, "flush")
                await in_thread(lambda: kernel.power_off(why), "power off")
            except (O2cbError, OSError) as error:
                cause = f"this node must be reset, and cannot reset itself: {error}; switch it off"
                self._logger.write(log(Event.PUT_OUT, "error", cause=cause))
                notify(f"STATUS={cause}")
            await asyncio.sleep(POWER_OFF_SECONDS)
