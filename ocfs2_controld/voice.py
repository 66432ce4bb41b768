"""The channel as the mind hears and speaks it: envelopes, whole, in the place of pieces of bytes."""

from collections.abc import Callable
from typing import Final, TypeAlias

from libo2cb.engine.port import ChannelDown, ChannelEvent, ChannelMembers, ChannelPort, ChannelRing, Delivered
from ocfs2_controld.events import Garbled, Heard
from protocol.group import Assembler, BadEnvelope, Envelope, ViewMember, encode

MOST_EVENTS: Final = 100_000
"""Events that may wait for the mind."""

ChannelSaid: TypeAlias = ChannelMembers | ChannelRing | ChannelDown | Heard | Garbled


class Voice:
    """One daemon on the channel.

    Args:
        port: the channel.
        tell: takes events, in the channel's order.
        waiting: how many events the mind has not taken yet.
        abandon: begins to close the port, when those are too many.
    """

    def __init__(
        self,
        port: ChannelPort,
        tell: Callable[[ChannelSaid], None],
        waiting: Callable[[], int],
        abandon: Callable[[], None],
    ) -> None:
        self._port = port
        self._tell = tell
        self._waiting = waiting
        self._abandon = abandon
        self._abandoned = False
        self._assemblers: dict[ViewMember, Assembler] = {}
        self._serial = 0

    async def start(self) -> None:
        """Join the channel."""
        await self._port.start(self._hear)

    def say(self, envelope: Envelope) -> None:
        """Multicast an envelope, in as many pieces as it takes."""
        self._serial += 1
        for piece in encode(envelope, self._serial):
            self._port.send(piece)

    async def leave(self) -> None:
        """Leave the channel, after all that was said. May be called twice."""
        await self._port.close()

    def _hear(self, event: ChannelEvent) -> None:
        if self._abandoned:
            return
        if self._waiting() >= MOST_EVENTS:
            self._give_up()
            return
        match event:
            case Delivered(sender, payload):
                self._assemble(ViewMember(sender.node, sender.pid), payload)
                return
            case ChannelMembers(members):
                here = {ViewMember(m.node, m.pid) for m in members}
                self._assemblers = {m: a for m, a in self._assemblers.items() if m in here}
            case ChannelDown():
                self._assemblers.clear()
            case ChannelRing():
                pass
        self._tell(event)

    def _give_up(self) -> None:
        """Leave the channel for good: for the others a daemon that is away, whose node they fence in time (law 8).

        A's kernel call never returns, and the cluster goes on. No word may be left out, or A's table would be another;
        and A cannot keep them all.
        """
        self._assemblers.clear()
        self._abandoned = True
        self._abandon()
        self._tell(
            ChannelDown(f"{MOST_EVENTS} events wait here, so that it is too far behind to go on: restart this daemon")
        )

    def _assemble(self, sender: ViewMember, payload: bytes) -> None:
        try:
            envelope = self._assemblers.setdefault(sender, Assembler()).feed(payload)
        except BadEnvelope as error:
            self._tell(Garbled(sender, str(error)))
            return
        if envelope is not None:
            self._tell(Heard(sender, envelope))
