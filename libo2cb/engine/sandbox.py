"""The sandbox's engine as a daemon sees it: both ports, as clients of the hub (libo2cb.sandbox.hub)."""

import asyncio
import base64
import contextlib
import os
import socket
from collections.abc import Callable
from typing import Final, Generic, TypeVar

from libo2cb.engine.port import ChannelDown, ChannelEvent, EngineDown, MembershipEvent
from libo2cb.engine.wire import MAX_LINE, MAX_PAYLOAD, Json, channel_event, decode, encode, membership_event
from libo2cb.processes import peer_credentials, socket_address

FIRST_PAUSE: Final = 0.02
LONGEST_PAUSE: Final = 1.0
MAX_UNSENT: Final = 32 * 1024 * 1024
"""Bytes that may wait for a hub that does not read; beyond them the connection is given up."""
LEAVE_TIME: Final = 2.0
"""Seconds that close() waits for the hub to have taken what was sent."""

E = TypeVar("E", MembershipEvent, ChannelEvent)


class _Client(Generic[E]):
    """One connection to the hub, made again whenever it is lost.

    Args:
        hub: the hub's socket: a path, or "@NAME".
        hello: the first line.
        read: makes an event of a message.
        down: makes the event that says why there is no engine.
    """

    def __init__(self, hub: str, hello: Json, read: Callable[[Json], E], down: Callable[[str], E]) -> None:
        self._hub = hub
        self._hello = hello
        self._read: Callable[[Json], E] = read
        self._down: Callable[[str], E] = down
        self._is_down = False
        self._sink: Callable[[E], None] | None = None
        self._task: asyncio.Task[None] | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def start(self, sink: Callable[[E], None]) -> None:
        """Begin to deliver events, from the running loop."""
        if self._task is not None:
            raise RuntimeError("this port was started before")
        self._sink = sink
        self._task = asyncio.create_task(self._run(), name=f"hub {self._hub}")
        self._task.add_done_callback(_report)

    def say(self, message: Json) -> None:
        """Send a line; without a connection it is lost."""
        writer = self._writer
        if writer is None or writer.is_closing():
            return
        writer.write(encode(message))
        if writer.transport.get_write_buffer_size() > MAX_UNSENT:
            writer.transport.abort()

    async def close(self, last: Json | None = None) -> None:
        """Stop. The last line, where there is one, is said after all others, and the hub then ends the connection."""
        task, self._sink = self._task, None
        if task is None or task.done():
            return
        if last is not None and self._writer is not None:
            self.say(last)
            await asyncio.wait({task}, timeout=LEAVE_TIME)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    def _tell(self, event: E) -> None:
        self._is_down = isinstance(event, EngineDown | ChannelDown)
        if self._sink is not None:
            self._sink(event)

    def _tell_down(self, reason: str) -> None:
        if not self._is_down:
            self._tell(self._down(reason))

    async def _run(self) -> None:
        pause = FIRST_PAUSE
        while True:
            reason, heard = await self._session()
            if self._sink is None:
                return
            self._tell_down(reason)
            pause = FIRST_PAUSE if heard else min(2 * pause, LONGEST_PAUSE)
            await asyncio.sleep(pause)

    async def _session(self) -> tuple[str, bool]:
        """One connection, to its end. Returns why it ended, and whether the hub had said anything worth hearing."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            await asyncio.get_running_loop().sock_connect(sock, socket_address(self._hub))
            uid = peer_credentials(sock)[1]
            if uid not in (0, os.geteuid()):
                sock.close()
                return f"the hub at {self._hub} belongs to uid {uid}, whom this process does not believe", False
            reader, writer = await asyncio.open_unix_connection(sock=sock, limit=MAX_LINE)
        except OSError as error:
            sock.close()
            return f"the sandbox's hub at {self._hub} does not answer: {error.strerror or error}", False
        except BaseException:
            sock.close()
            raise
        self._writer = writer
        try:
            self.say(self._hello)
            return await self._hear(reader)
        finally:
            self._writer = None
            writer.transport.abort()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _hear(self, reader: asyncio.StreamReader) -> tuple[str, bool]:
        count = 0
        while True:
            try:
                line = await reader.readline()
                if not line:
                    return "the sandbox's hub closed the connection", count > 0
                message = decode(line)
                if "error" in message:
                    return str(message["error"]), False
                event = self._read(message)
            except ConnectionError as error:
                return f"the connection to the sandbox's hub broke: {error.strerror or error}", count > 0
            except (ValueError, KeyError, TypeError) as error:
                return f"the sandbox's hub says what this version does not understand: {error}", False
            self._tell_once(event)
            count += 1
            self.say({"op": "ack", "count": count})

    def _tell_once(self, event: E) -> None:
        if not (self._is_down and isinstance(event, EngineDown | ChannelDown)):
            self._tell(event)


def _report(task: asyncio.Task[None]) -> None:
    """A sink that raises is a bug of its owner: the loop's handler hears of it, and the port is silent from then on."""
    if not task.cancelled() and (error := task.exception()):
        task.get_loop().call_exception_handler({"message": f"{task.get_name()}: a sink failed", "exception": error})


class SandboxMembership:
    """MembershipPort of a node of the sandbox.

    Args:
        hub: the hub's socket.
        node: name of this node.
        listener: name of this daemon; one process a node has it.
    """

    def __init__(self, hub: str, node: str, listener: str) -> None:
        hello = {"op": "listen", "node": node, "listener": listener}
        self._client: _Client[MembershipEvent] = _Client(hub, hello, membership_event, EngineDown)

    async def start(self, sink: Callable[[MembershipEvent], None]) -> None:
        """Begin to deliver events to sink, from the running loop."""
        await self._client.start(sink)

    def answer_shutdown(self, question: int, allow: bool, reason: str) -> None:
        """Answer a ShutdownAsked. A late answer does nothing."""
        self._client.say({"op": "answer", "question": question, "allow": allow, "reason": reason})

    def put_out(self, node: int, reason: str) -> None:
        """Ask the engine to put a node out. Never counts as fencing; best effort, never blocks."""
        self._client.say({"op": "put_out", "node": node, "reason": reason})

    async def close(self) -> None:
        """Stop; nothing more is delivered."""
        await self._client.close()


class SandboxChannel:
    """ChannelPort of a node of the sandbox.

    Args:
        hub: the hub's socket.
        node: name of this node.
        listener: name of the channel; one process a node is on it.
    """

    def __init__(self, hub: str, node: str, listener: str) -> None:
        hello = {"op": "join", "node": node, "listener": listener}
        self._client: _Client[ChannelEvent] = _Client(hub, hello, channel_event, ChannelDown)

    async def start(self, sink: Callable[[ChannelEvent], None]) -> None:
        """Join, and begin to deliver events to sink, from the running loop."""
        await self._client.start(sink)

    def send(self, payload: bytes) -> None:
        """Multicast. Never blocks.

        Raises:
            ValueError: payload is larger than 64 KiB.
        """
        if len(payload) > MAX_PAYLOAD:
            raise ValueError(f"a message has {MAX_PAYLOAD} bytes at most, this one has {len(payload)}")
        self._client.say({"op": "send", "payload": base64.b64encode(payload).decode("ascii")})

    async def close(self) -> None:
        """Leave the channel, after all that was sent has gone out, and stop."""
        await self._client.close({"op": "leave"})
