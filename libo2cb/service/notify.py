"""What a daemon tells its service manager (sd_notify(3)): readiness, and a status line."""

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable
from typing import Final

PACE: Final = 1.0
"""Seconds between two status lines: a busy daemon has better things to do, and nobody reads faster."""


def notify(*assignments: str) -> None:
    """Send assignments such as "READY=1", or "STATUS=" with a sentence; without a service manager nothing happens."""
    name = _manager()
    if not name:
        return
    address = f"\0{name[1:]}" if name.startswith("@") else name
    text = "\n".join(each.replace("\n", " ") for each in assignments)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock, contextlib.suppress(OSError):
        sock.sendto(text.encode("utf-8", "backslashreplace"), address)


def _manager() -> str:
    name = os.environ.get("NOTIFY_SOCKET", "")
    return name if name.startswith(("/", "@")) else ""


class ServiceManager:
    """Says READY once, and keeps the status line up to date, at PACE and only where it changes. From the running loop.

    Args:
        make: makes the line.
    """

    def __init__(self, make: Callable[[], str]) -> None:
        self._make = make
        self._said = ""
        self._ready = False
        self._at = -PACE
        self._timer: asyncio.TimerHandle | None = None

    def ready(self) -> None:
        """Say READY, the first time. A unit knows no way back from it; what is amiss later, the status line says."""
        if not self._ready:
            self._ready = True
            notify("READY=1")

    def stir(self) -> None:
        """Something has happened that the line may tell."""
        if self._timer is None and _manager():
            loop = asyncio.get_running_loop()
            self._timer = loop.call_at(max(loop.time(), self._at + PACE), self._tell)

    def close(self) -> None:
        """Say nothing more."""
        if self._timer is not None:
            self._timer.cancel()

    def _tell(self) -> None:
        self._timer = None
        line = self._make()
        if line != self._said:
            self._said, self._at = line, asyncio.get_running_loop().time()
            notify(f"STATUS={line}")
