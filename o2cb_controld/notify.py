"""What the service manager is told (sd_notify(3)): readiness, and a status line."""

import contextlib
import os
import socket


def notify(state: str) -> None:
    """Send one notification, such as "READY=1"; without a service manager nothing happens."""
    name = os.environ.get("NOTIFY_SOCKET", "")
    if not name.startswith(("/", "@")):
        return
    address = f"\0{name[1:]}" if name.startswith("@") else name
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock, contextlib.suppress(OSError):
        sock.sendto(state.encode("utf-8", "backslashreplace"), address)
