"""REPORT and DUMP, answered in the order of asking, also while the kernel does not answer."""

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from libo2cb.service.server import Connection
from libo2cb.service.threads import Worker
from o2cb_controld.hands import Hands
from protocol import client

LOOK_SECONDS: Final = 1.0
"""How long a REPORT waits for a look at the kernel, before it tells what was seen last."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What the kernel showed when it was last looked at.

    Attributes:
        links: regions by node name.
        uses: what would keep the daemon from ending.
    """

    links: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    uses: tuple[str, ...] = ()


Asked: TypeAlias = client.Report | client.Dump


class Documents:
    """Makes and sends them.

    A listing waits in the kernel behind an rmdir of the same directory, so the look is made in a thread of its own. One
    that does not return is waited for once, and the documents then say what was seen before.

    Args:
        hands: looks at the kernel.
        make: makes the text of a document.
    """

    def __init__(self, hands: Hands, make: Callable[[Asked, Seen], str]) -> None:
        self._hands = hands
        self._make = make
        self._asked: asyncio.Queue[tuple[Connection, Asked, str]] = asyncio.Queue()
        self._looker = Worker("look")
        self._look: asyncio.Future[Seen] | None = None
        self._seen = Seen()

    def ask(self, connection: Connection, asked: Asked, cluster: str) -> None:
        """Answer when its turn comes.

        Args:
            connection: who asks.
            asked: for what.
            cluster: ours; "" while it is not known.
        """
        self._asked.put_nowait((connection, asked, cluster))

    async def serve(self) -> None:
        """Answer until cancelled."""
        try:
            while True:
                connection, asked, cluster = await self._asked.get()
                if isinstance(asked, client.Report):
                    await self._look_at(cluster)
                try:
                    self._send(connection, asked)
                except Exception as error:  # noqa: BLE001 (our own mistake must not hurt who asks next)
                    connection.close_after_flush()
                    context = {"message": f"{asked.word} could not be answered", "exception": error}
                    asyncio.get_running_loop().call_exception_handler(context)
        finally:
            self._looker.close()

    def _send(self, connection: Connection, asked: Asked) -> None:
        for record in client.document(self._make(asked, self._seen)):
            if not connection.send(record):
                return

    async def _look_at(self, cluster: str) -> None:
        overdue = self._look is not None
        if self._look is None:
            self._look = self._looker.do(lambda: Seen(self._hands.links(cluster), self._hands.uses(cluster or None)))
        await asyncio.wait({self._look}, timeout=0 if overdue else LOOK_SECONDS)
        if self._look.done():
            with contextlib.suppress(OSError):  # no thread is to be had: what was seen last is told
                self._seen = self._look.result()
            self._look = None
