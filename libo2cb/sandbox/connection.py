"""One client's connection to the hub: lines in, lines out, each on its own.

Reading and writing must not share their fate, as they do in asyncio's transports: A says its last word and is killed;
the hub, about to tell A something, is refused (EPIPE) and drops the connection with A's last word unread; B never hears
it. A cluster engine does not lose it (measured on corosync). So what is written goes out on a descriptor of its own,
and what was sent is read to its end, whatever became of the sender.
"""

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable

from libo2cb.engine.wire import MAX_LINE, Json, decode, encode
from libo2cb.processes import peer_credentials


class Connection(asyncio.Protocol):
    """A client's connection.

    Args:
        hear: called with each message.
        lost: called once, when there will be no more.

    Attributes:
        pid: the process at the other end, as it was when it connected.
        uid: its user.
    """

    def __init__(self, hear: Callable[["Connection", Json], None], lost: Callable[["Connection"], None]) -> None:
        self.pid = 0
        self.uid = -1
        self._hear = hear
        self._lost = lost
        self._transport: asyncio.BaseTransport | None = None
        self._out: socket.socket | None = None
        self._unread = b""
        self._unsent = bytearray()

    @property
    def unsent(self) -> int:
        """Bytes that the client has not taken yet."""
        return len(self._unsent)

    def say(self, message: Json) -> None:
        """Send a message; to a client that is gone, nothing. Never waits."""
        if self._out is not None:
            self._unsent += encode(message)
            self._flush()

    def close(self) -> None:
        """End the connection; what can go out at once has gone."""
        self._hush()
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the loop."""
        self._transport = transport
        self._out = socket.socket(fileno=os.dup(transport.get_extra_info("socket").fileno()))
        self._out.setblocking(False)
        self.pid, self.uid, _ = peer_credentials(self._out)

    def data_received(self, data: bytes) -> None:
        """Called by the loop."""
        *lines, self._unread = (self._unread + data).split(b"\n")
        try:
            for line in lines:
                if self._transport is None or self._transport.is_closing():
                    return
                self._hear(self, decode(line))
            if len(self._unread) > MAX_LINE:
                raise ValueError(f"a line has {MAX_LINE} bytes at most")
        except (ValueError, KeyError, TypeError) as error:
            what = f"it has no {error}" if isinstance(error, KeyError) else str(error)
            self.say({"error": f"the hub does not understand this: {what}"})
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the loop: all that was sent has been read."""
        del exc
        self._hush()
        self._lost(self)

    def _flush(self) -> None:
        out = self._out
        if out is None:
            return
        loop = asyncio.get_running_loop()
        try:
            while self._unsent:
                del self._unsent[: out.send(self._unsent)]
        except BlockingIOError:
            loop.add_writer(out, self._flush)
        except OSError:
            self._hush()  # nobody reads any more; what was said is still to be read
        else:
            loop.remove_writer(out)

    def _hush(self) -> None:
        if self._out is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                asyncio.get_running_loop().remove_writer(self._out)
            self._out.close()
            self._out = None
        self._unsent.clear()
