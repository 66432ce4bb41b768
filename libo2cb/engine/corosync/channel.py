"""ChannelPort on corosync: one group of CPG."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

from libo2cb.engine.corosync import nodelist
from libo2cb.engine.corosync.errors import CorosyncError, NoSeat
from libo2cb.engine.corosync.handles import Cmap, Cpg
from libo2cb.engine.corosync.libraries import libraries
from libo2cb.engine.corosync.process import ProcessEnd, shows_the_end
from libo2cb.engine.corosync.said import Confchg, Message, TotemConfchg
from libo2cb.engine.corosync.session import Hear, Link, Session, Source
from libo2cb.engine.port import (
    ChannelDown,
    ChannelEvent,
    ChannelMember,
    ChannelMembers,
    ChannelRing,
    Delivered,
    Reason,
)

MAX_PAYLOAD: Final = 64 * 1024
MAX_UNSENT: Final = 32 * 1024 * 1024
"""Bytes that may wait for a corosync that takes nothing; beyond them the connection is given up."""
FIRST_PAUSE: Final = 0.001
LONGEST_PAUSE: Final = 0.05
BURST: Final = 64
"""Messages that go out at once; then others have the loop."""
GROUP_BYTES: Final = 128

_REASONS: Final = {
    1: Reason.JOIN,
    2: Reason.LEAVE,
    3: Reason.NODEDOWN,
    4: Reason.NODEUP,
    5: Reason.PROCDOWN,
}


class CorosyncChannel:
    """ChannelPort of this node's corosync.

    Args:
        group: the group's name, up to 128 bytes: that of the daemons that talk to each other.
        enter: called first on the port's thread: a lab enters the namespaces of a node there.

    Raises:
        LibraryMissing: a client library of corosync is not installed.
        ValueError: the name is too long.
    """

    def __init__(self, group: str, enter: Callable[[], None] | None = None) -> None:
        name = group.encode("utf-8", "surrogateescape")
        if len(name) > GROUP_BYTES:
            raise ValueError(f"a group's name has {GROUP_BYTES} bytes at most, {group!r} has {len(name)}")
        libraries()
        self._name = name
        self._link: _ChannelLink | None = None
        self._session: Session[ChannelEvent] = Session(f"corosync group {group}", self._make_link, ChannelDown, enter)

    async def start(self, sink: Callable[[ChannelEvent], None]) -> None:
        """Join, and begin to deliver events to sink, from the running loop."""
        await self._session.start(sink)

    def send(self, payload: bytes) -> None:
        """Multicast. Never blocks; what is sent while the channel is down is lost.

        Raises:
            ValueError: payload is larger than 64 KiB.
        """
        if len(payload) > MAX_PAYLOAD:
            raise ValueError(f"a message has {MAX_PAYLOAD} bytes at most, this one has {len(payload)}")
        if self._link is not None:
            self._link.send(payload)

    async def close(self) -> None:
        """Leave, after all that was sent has gone out, and stop.

        A corosync that hangs is waited for twice session.CLOSE_TIME. Then the leave is left to the worker thread, and
        comes when corosync goes on; what had not gone out is lost.
        """
        await self._session.close(leave=True)

    def _make_link(self) -> "_ChannelLink":
        self._link = _ChannelLink(self._session, self._name)
        return self._link


class _ChannelLink(Link):
    """One membership of the group, on a handle of its own: none is ever joined twice."""

    _cpg: Cpg

    def __init__(self, session: Session[ChannelEvent], group: bytes) -> None:
        self._session = session
        self._group = group
        self._opened = False
        self._end: ProcessEnd | None = None
        self._attached = False
        self._unsent: deque[bytes] = deque()
        self._size = 0
        self._pause = FIRST_PAUSE
        self._timer: asyncio.TimerHandle | None = None
        self._empty = asyncio.Event()
        self._empty.set()

    # on the worker

    def open(self) -> None:
        """Connect and join."""
        self._cpg = Cpg.open()
        self._opened = True
        if not shows_the_end(self._cpg.fileno()):
            self._end = ProcessEnd()
        local = self._cpg.local()
        with Cmap.open() as cmap:
            if not nodelist.seated(cmap.read("nodelist.node."), local):
                raise NoSeat(local, nodelist.SEATS)
        self._cpg.join(self._group)

    def close(self, *, leave: bool) -> None:
        """Leave, where that is meant, and close. A close without a leave is a dead process for the others."""
        if self._end is not None:
            self._end.finalize()
            self._end = None
        if not self._opened:
            return
        self._opened = False
        try:
            if leave:
                self._cpg.leave(self._group)
        except CorosyncError:
            pass  # corosync is gone, and with it the membership
        finally:
            self._cpg.finalize()

    # on the loop

    def handles(self) -> tuple[tuple[Source, Hear], ...]:
        """The one handle, and what may have to stand beside it."""
        return ((self._cpg, self._hear), *(((self._end, self._hear),) if self._end is not None else ()))

    def attached(self) -> None:
        """From now on messages go out."""
        self._attached = True

    def detached(self) -> None:
        """What has not gone out is lost."""
        self._attached = False
        self._unsent.clear()
        self._size = 0
        self._empty.set()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def drained(self, patience: float) -> None:
        """Wait until nothing waits to go out, or corosync takes nothing for so long."""
        while self._unsent:
            before = len(self._unsent)
            try:
                async with asyncio.timeout(patience):
                    await self._empty.wait()
            except TimeoutError:
                if len(self._unsent) >= before:
                    return

    def send(self, payload: bytes) -> None:
        """Send now, or in its turn."""
        if not self._attached:
            return
        self._unsent.append(payload)
        self._size += len(payload)
        if self._timer is None:
            self._flush()
        if self._size > MAX_UNSENT:
            self._session.lose(f"corosync takes no messages: more than {MAX_UNSENT} bytes wait")
            self._unsent.clear()
            self._size = 0

    def _flush(self) -> None:
        self._timer = None
        try:
            sent = self._send_some()
        except CorosyncError as error:
            self._session.lose(f"{self.farewell}: {error.head()}")
            return
        if not self._unsent:
            self._pause = FIRST_PAUSE
            self._empty.set()
            return
        self._empty.clear()
        self._pause = FIRST_PAUSE if sent else min(2 * self._pause, LONGEST_PAUSE)
        self._timer = asyncio.get_running_loop().call_later(self._pause if sent < BURST else 0, self._flush)

    def _send_some(self) -> int:
        sent = 0
        while self._unsent and sent < BURST and self._cpg.mcast(self._unsent[0]):
            self._size -= len(self._unsent.popleft())
            sent += 1
        return sent

    def _hear(self, said: Message | Confchg | TotemConfchg) -> None:
        match said:
            case Message():
                self._session.tell(Delivered(said.sender, said.payload))
            case TotemConfchg():
                self._session.tell(ChannelRing(said.ring, tuple(sorted(said.nodes))))
            case Confchg():
                members = tuple(sorted(said.members))
                joined, left = _changes(said.joined, Reason.JOIN), _changes(said.left, Reason.PROCDOWN)
                self._session.tell(ChannelMembers(members, joined, left))


def _changes(
    changes: tuple[tuple[ChannelMember, int], ...], otherwise: Reason
) -> tuple[tuple[ChannelMember, Reason], ...]:
    """With the reasons' names; one that this version does not know is the one that claims least."""
    return tuple(sorted((member, _REASONS.get(reason, otherwise)) for member, reason in changes))
