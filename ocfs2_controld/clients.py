"""The clients' socket: its connections and records as events, and the mind's answers as records.

Records of one connection are told in their order, and a MOUNT is told when it is known what its device is. Finding that
out may wait without limit, for a device that does not answer; then that connection waits, and no other.
"""

import asyncio
import contextlib
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import replace
from errno import EBUSY
from functools import partial
from typing import Final, TypeAlias

from libo2cb.errors import O2cbError
from libo2cb.events import Event as Logged
from libo2cb.events import Log, log
from libo2cb.locks import Descriptor
from libo2cb.service.server import Connection, RecordServer
from libo2cb.service.stream import Violation
from libo2cb.service.threads import in_thread
from libo2cb.superblock import read_superblock
from ocfs2_controld import events as told
from ocfs2_controld.actions import Answer, AnswerList
from ocfs2_controld.devices import Looked, look
from protocol import client
from protocol.framing import BadMessage, cut, to_bytes, to_text

MOST_WAITING: Final = 64
"""Records of one connection that may wait for the mind. A client that waits for its answers never has two."""
FLUSH_SECONDS: Final = 2.0
"""For the clients to have read their last answers when the daemon ends."""

ListRequest: TypeAlias = client.ListFs | client.ListMounts | client.ListClusters
ClientEvent: TypeAlias = told.ClientOpened | told.ClientSaid | told.ClientGarbled | told.ClientClosed


def _reading_of(mount: client.Mount) -> client.Mount | None:
    """The MOUNT that a client meant whose device leads nowhere: its path has blanks, and the grammar cut it.

    A says `ocfs2_hb_ctl -S -d "/srv/my disk" backup`: that reads as device "/srv/my" and service "disk backup", and A's
    MRESULT will say "backup". The volume itself tells: the first path that holds the UUID of this MOUNT is meant.
    """
    words = mount.service.split(" ")
    for n in range(1, len(words)):
        device = " ".join((mount.device, *words[:n]))
        with contextlib.suppress(O2cbError):
            if read_superblock(device).uuid == mount.uuid.upper():
                return replace(mount, device=device, service=" ".join(words[n:]))
    return None


class Clients:
    """The clients of the daemon.

    Args:
        name: the socket.
        trusted: uids that may change anything (law 14).
        max_per_uid: connections of one uid.
        tell: takes events, in order.
        document: makes the answer to REPORT or DUMP, at any time.
        listing: makes the answer to a request for a list, at any time.
        note: takes lines for the log.
        refusal: errno and sentence while no MOUNT can be served whatever its device is. It may wait: it is for threads.
    """

    def __init__(
        self,
        name: str,
        *,
        trusted: frozenset[int],
        max_per_uid: int,
        tell: Callable[[ClientEvent], None],
        document: Callable[[client.Report | client.Dump], str],
        listing: Callable[[int, ListRequest], Answer | AnswerList],
        note: Callable[[Log], None],
        refusal: Callable[[], tuple[int, str] | None] = lambda: None,
    ) -> None:
        self.server = RecordServer(self, name, mode=0o666, max_per_uid=max_per_uid)
        self._trusted = trusted
        self._tell = tell
        self._document = document
        self._listing = listing
        self._note = note
        self._refusal = refusal
        self._waiting: Counter[int] = Counter()
        self._lines: dict[int, deque[told.ClientSaid | told.ClientGarbled]] = {}
        self._lookups: set[asyncio.Task[None]] = set()
        self._all_gone = asyncio.Event()

    def taken(self, events: Iterable[told.Event]) -> None:
        """The mind has been told these."""
        for event in events:
            if isinstance(event, told.ClientSaid | told.ClientGarbled):
                self._waiting[event.connection] -= 1
                if self._waiting[event.connection] <= 0:
                    del self._waiting[event.connection]

    def status(self, connection: int, code: int, text: str) -> None:
        """Answer STATUS. What cannot be delivered is told as the connection's end."""
        self._send(connection, [client.status(code, text)])

    def items(self, connection: int, items: Iterable[str]) -> None:
        """Answer a list; an item that no record carries is cut."""
        self._send(connection, client.items(to_text(cut(to_bytes(item), client.MAX_ITEM)) for item in items))

    def document(self, connection: int, asked: client.Report | client.Dump) -> None:
        """Answer REPORT or DUMP."""
        self._send(connection, client.document(self._document(asked)))

    async def finish(self) -> None:
        """Read nothing more, send what waits, for two seconds at most, and close the socket."""
        for task in self._lookups:
            task.cancel()
        for connection in list(self.server.connections.values()):
            connection.close_after_flush()
        if self.server.connections:
            self._all_gone.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._all_gone.wait(), FLUSH_SECONDS)
        self.server.close()
        await asyncio.sleep(0)  # the connections' own last words

    def opened(self, connection: Connection) -> None:
        """For the server."""
        started = float(connection.process.started) if connection.process is not None else 0.0
        trusted = connection.uid in self._trusted
        peer = told.Peer(connection.pid, connection.uid, started, connection.program, trusted)
        self._tell(told.ClientOpened(connection.id, peer))

    def closed(self, connection: Connection) -> None:
        """For the server. What still waited for a device is not told any more: nobody waits for its answer."""
        self._lines.pop(connection.id, None)
        self._waiting.pop(connection.id, None)
        self._tell(told.ClientClosed(connection.id))
        if not self.server.connections:
            self._all_gone.set()

    def record(self, connection: Connection, text: bytes, descriptor: Descriptor | None) -> None:
        """For the server."""
        if descriptor is not None:
            descriptor.close()
        try:
            message = client.parse(text)
        except BadMessage as error:
            self._take(connection, told.ClientGarbled(connection.id, error.code, str(error)))
            return
        if connection.id in self._waiting or not self._answered(connection.id, message):
            self._take(connection, told.ClientSaid(connection.id, message))

    def _answered(self, connection: int, message: client.ClientMessage) -> bool:
        """Answer what only asks, from the mind's present state.

        Also while the mind waits for a kernel that does not answer: that is when people ask.
        """
        match message:
            case client.Report() | client.Dump():
                self.document(connection, message)
            case client.ListFs() | client.ListMounts() | client.ListClusters():
                match self._listing(connection, message):
                    case Answer(_, code, text):
                        self.status(connection, code, text)
                    case AnswerList(_, items):
                        self.items(connection, items)
            case _:
                return False
        return True

    def _take(self, connection: Connection, event: told.ClientSaid | told.ClientGarbled) -> None:
        if self._waiting[connection.id] >= MOST_WAITING:
            why = f"{MOST_WAITING} of your requests wait already; send the next when one is answered"
            self._note(log(Logged.VIOLATION, "warning", peer=str(connection), cause=why))
            self.server.violations[Violation.TOO_MANY_REQUESTS] += 1
            connection.send(client.status(EBUSY, why))
            connection.close_after_flush()
            return
        self._waiting[connection.id] += 1
        if connection.id in self._lines:
            self._lines[connection.id].append(event)
        elif self._needs_look(connection, event):
            self._lines[connection.id] = deque([event])
            task = asyncio.get_running_loop().create_task(self._look(connection))
            self._lookups.add(task)
            task.add_done_callback(self._lookups.discard)
        else:
            self._tell(event)

    def _needs_look(self, connection: Connection, event: told.ClientSaid | told.ClientGarbled) -> bool:
        mounts = isinstance(event, told.ClientSaid) and isinstance(event.message, client.Mount)
        return mounts and connection.uid in self._trusted

    async def _look(self, connection: Connection) -> None:
        """Tell what stands in the line of a connection; each MOUNT once its device is known."""
        line = self._lines[connection.id]
        while line:
            event = line[0]
            if isinstance(event, told.ClientSaid) and isinstance(event.message, client.Mount):
                mount = event.message
                try:
                    mount, found = await in_thread(partial(self._look_at, mount), "device")
                except OSError as error:
                    found = Looked(None, (error.errno or EBUSY, f"cannot look at the device: {error.strerror}"))
                if self._lines.get(connection.id) is not line:
                    return
                event = told.ClientSaid(connection.id, mount, found.device, found.problem, found.label)
            line.popleft()
            self._tell(event)
        del self._lines[connection.id]

    def _look_at(self, mount: client.Mount) -> tuple[client.Mount, Looked]:
        refused = self._refusal()
        if refused is not None:
            return mount, Looked(None, refused)
        found = look(mount.device)
        if found.problem is not None and (other := _reading_of(mount)) is not None:
            return other, look(other.device)
        return mount, found

    def _send(self, connection: int, records: Iterable[bytes]) -> None:
        to = self.server.connections.get(connection)
        if to is not None:
            to.send(b"".join(records))
