"""The connection with o2cb_controld, and the locks that came over it: descriptors, kept for as long as they hold."""

from collections import deque
from collections.abc import Callable
from typing import Final

from libo2cb.events import Event, Log, log
from libo2cb.locks import Descriptor
from libo2cb.service.client import RecordClient
from libo2cb.service.stream import Cause
from ocfs2_controld.events import OrderingDown, OrderingSaid, OrderingUp
from protocol import ordering
from protocol.framing import BadMessage
from protocol.ordering import Locked, OrderingMessage

MOST_CAME: Final = 1024
"""Grants that may wait for the mind; it never has more than some 250 requests open."""


class Neighbour:
    """Our end of the ordering socket.

    Args:
        name: the socket.
        trusted: uids of which its server is believed.
        tell: takes events, in order. A step of the mind is told at most one that came with a descriptor.
        note: takes lines for the log.
    """

    def __init__(
        self,
        name: str,
        trusted: frozenset[int],
        tell: Callable[[OrderingUp | OrderingDown | OrderingSaid], None],
        note: Callable[[Log], None],
    ) -> None:
        self.client = RecordClient(self, name, trusted=trusted)
        self._tell = tell
        self._note = note
        self._came: deque[Descriptor] = deque()  # with what was told, and the mind has not been given yet
        self._judged: Descriptor | None = None  # with what the mind speaks of in this step
        self._kept: dict[tuple[int, str, int], Descriptor] = {}

    def start(self) -> None:
        """Connect, and connect again whenever that ends."""
        self.client.start()

    def say(self, message: OrderingMessage) -> None:
        """Send. Without a connection it is lost: the mind asks again when there is one."""
        self.client.send(ordering.encode(message))

    def taken(self) -> None:
        """The mind is given the next event that came with a descriptor: `keep` and `drop` are about that one now.

        While the actions of a step are carried out the next grant may come in. A's lock is being kept, B's comes: to
        close "what is left" by then would close B's, and give C's to B.
        """
        self.drop()
        self._judged = self._came.popleft() if self._came else None

    def keep(self, key: tuple[int, str, int]) -> None:
        """Keep the descriptor of the event just taken, as the lock of this identity."""
        lock, self._judged = self._judged, None
        if lock is not None:
            self.close_lock(key)
            self._kept[key] = lock

    def drop(self) -> None:
        """Close the descriptor of the event just taken, if it is still there."""
        lock, self._judged = self._judged, None
        if lock is not None:
            lock.close()

    def close_lock(self, key: tuple[int, str, int]) -> None:
        """Close a kept descriptor."""
        if key in self._kept:
            self._kept.pop(key).close()

    def close(self) -> None:
        """End the connection and give up all locks."""
        self.client.close()
        self.drop()
        for lock in (*self._came, *self._kept.values()):
            lock.close()
        self._came.clear()
        self._kept.clear()

    def connected(self) -> None:
        """For the client."""
        self._tell(OrderingUp())

    def disconnected(self, cause: Cause) -> None:
        """For the client."""
        self._tell(OrderingDown(f"the connection with o2cb_controld ended: {cause}"))

    def unreachable(self, reason: str) -> None:
        """For the client."""
        self._tell(OrderingDown(reason))

    def record(self, text: bytes, descriptor: Descriptor | None) -> None:
        """For the client. A descriptor means something beside LOCKED only."""
        try:
            message = ordering.parse(text)
        except BadMessage as error:
            self._note(log(Event.VIOLATION, "warning", peer="o2cb_controld", cause=str(error)))
            message = None
        granted = isinstance(message, Locked) and descriptor is not None
        if descriptor is not None:
            if granted and len(self._came) >= MOST_CAME:
                # As if it had come without: the mind asks again, if it still wants it.
                cause = f"{MOST_CAME} grants wait already; one more is given back"
                self._note(log(Event.VIOLATION, "warning", peer="o2cb_controld", cause=cause))
                granted = False
            if granted:
                self._came.append(descriptor)
            else:
                descriptor.close()
        if message is not None:
            self._tell(OrderingSaid(message, granted))
