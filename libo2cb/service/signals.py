"""Signals as events of the loop: what ends other daemons is only asked of ours, which decide and say why not.

Nothing runs inside a signal handler but what asyncio does there: it writes a byte to the loop. SIGSEGV keeps its
meaning, for a fault that returns into itself burns a processor for ever.
"""

import asyncio
import signal
from collections.abc import Callable
from typing import Final

ASKED: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
"""The signals that become events."""


def watch(callback: Callable[[str], None]) -> Callable[[], None]:
    """Give each signal's name, such as "SIGTERM", to the callback, from the running loop; ignore SIGPIPE.

    Returns:
        A function that gives the signals back their usual effect.
    """
    loop = asyncio.get_running_loop()
    before = signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    for each in ASKED:
        loop.add_signal_handler(each, callback, each.name)

    def unwatch() -> None:
        for each in ASKED:
            loop.remove_signal_handler(each)
        signal.signal(signal.SIGPIPE, before)

    return unwatch
