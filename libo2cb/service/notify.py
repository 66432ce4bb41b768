"""What a daemon tells its service manager (sd_notify(3)): readiness, and a status line."""

import contextlib
import os
import socket


def notify(*assignments: str) -> None:
    """Send assignments such as "READY=1", or "STATUS=" with a sentence; without a service manager nothing happens."""
    name = os.environ.get("NOTIFY_SOCKET", "")
    if not name.startswith(("/", "@")):
        return
    address = f"\0{name[1:]}" if name.startswith("@") else name
    text = "\n".join(each.replace("\n", " ") for each in assignments)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock, contextlib.suppress(OSError):
        sock.sendto(text.encode("utf-8", "backslashreplace"), address)
