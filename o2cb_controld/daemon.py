"""The shell of o2cb_controld: turns sockets, signals, timers and the engine into events, and actions into calls.

It decides nothing. Events are taken one at a time; whatever happens while the mind's actions are carried out, is taken
after them.
"""

import asyncio
import errno
import os
import time
from collections import deque
from dataclasses import dataclass

from libo2cb.config import Config
from libo2cb.engine.port import EngineUp, MembershipEvent, MembershipPort
from libo2cb.events import Event, Log, log
from libo2cb.locks import Descriptor
from libo2cb.service import report as schema
from libo2cb.service import signals
from libo2cb.service.cli import VERSION
from libo2cb.service.logs import Logger
from libo2cb.service.notify import notify
from libo2cb.service.server import Connection, ListenError, NameTaken, RecordServer
from o2cb_controld import actions as do
from o2cb_controld import events as told
from o2cb_controld.hands import Hands
from o2cb_controld.mind import step
from o2cb_controld.report import Facts, build
from o2cb_controld.state import State
from protocol import client, ordering
from protocol.framing import BadMessage, to_text

MOST_EVENTS = 65_536
"""Events that may wait for the mind; who says one more is told so, and closed. The engine's are always taken."""
SLICE = 0.02
"""Seconds for which events are taken in one go."""


@dataclass(frozen=True, slots=True)
class Ports:
    """What the daemon works with.

    Attributes:
        membership: the engine.
        hands: kernel, mount table and lock files.
        trusted: uids whose ordering words are believed (law 14).
    """

    membership: MembershipPort
    hands: Hands
    trusted: frozenset[int]


class Daemon:
    """One run of o2cb_controld.

    Args:
        config: the configuration.
        ports: what it works with.
        logger: its log.
    """

    def __init__(self, config: Config, ports: Ports, logger: Logger) -> None:
        self._ports = ports
        self._logger = logger
        self._state = State(
            config.kernel.driver,
            config.cluster.port,
            expected=config.cluster.name or "",
            patience=config.status.waiting,
        )
        self._server = RecordServer(self, config.sockets.ordering, mode=0o666, max_per_uid=config.sockets.max_per_uid)
        self._events: deque[told.MindEvent] = deque()
        self._busy = False
        self._timer: asyncio.TimerHandle | None = None
        self._exit: asyncio.Future[int] | None = None
        self._started = time.time()

    async def run(self) -> int:
        """Serve until the mind says Exit; the exit code."""
        loop = asyncio.get_running_loop()
        self._exit = loop.create_future()
        self._logger.write(log(Event.STARTING, version=VERSION, pid=os.getpid()))
        try:
            self._server.listen()
        except ListenError as error:
            self._cannot_listen(error)
            return 1
        unwatch = signals.watch(lambda name: self._tell(told.Signal(name)))
        try:
            await self._ports.membership.start(self._engine)
            return await self._exit
        finally:
            unwatch()
            if self._timer is not None:
                self._timer.cancel()
            await self._ports.membership.close()
            self._server.close()
            self._ports.hands.close()
            await asyncio.sleep(0)  # the connections' last words

    def opened(self, connection: Connection) -> None:
        """Nothing: a connection is somebody once it speaks."""

    def closed(self, connection: Connection) -> None:
        """Its requests are void."""
        self._tell(told.Closed(connection.id))

    def record(self, connection: Connection, text: bytes, descriptor: Descriptor | None) -> None:
        """One record of the ordering socket; every one is answered or acted on."""
        if descriptor is not None:
            descriptor.close()
        try:
            message = ordering.parse(text)
        except BadMessage as error:
            self._violated(connection, errno.EINVAL, str(error))
            return
        if isinstance(message, client.Report):
            self._send_document(connection, schema.dump(self._report()))
        elif isinstance(message, client.Dump):
            self._send_document(connection, to_text(self._logger.ring.text()))
        elif connection.uid not in self._ports.trusted:
            self._violated(
                connection, errno.EPERM, f"{message.word} is root's to say, and you are uid {connection.uid}"
            )
        else:
            self._hear(connection, message)

    def _hear(self, connection: Connection, message: ordering.OrderingMessage) -> None:
        if len(self._events) >= MOST_EVENTS:
            self._violated(connection, errno.EBUSY, f"{MOST_EVENTS} events wait here already; ask again later")
            connection.close_after_flush()
            return
        match message:
            case ordering.Lock(request, identity):
                self._tell(told.Asked(connection.id, request, identity))
            case ordering.Cancel(request):
                self._tell(told.Cancelled(connection.id, request))
            case ordering.Unlocked(number):
                self._tell(told.HintUnlocked(connection.id, number))
            case client.Replace():
                connection.send(client.status(0, "o2cb_controld exits now, and leaves everything standing"))
                self._tell(told.Replace())
            case _:
                self._violated(connection, errno.EINVAL, f"{message.word} is for o2cb_controld to say")

    def _violated(self, connection: Connection, code: int, cause: str) -> None:
        self._logger.write(log(Event.VIOLATION, "warning", peer=str(connection), cause=cause))
        connection.send(client.status(code, cause))

    def _send_document(self, connection: Connection, text: str) -> None:
        for record in client.document(text):
            if not connection.send(record):
                return

    def _report(self) -> schema.O2cbReport:
        hands, origin = self._ports.hands, self._logger.origin
        facts = Facts(
            version=VERSION,
            pid=os.getpid(),
            incarnation=origin.incarnation,
            boot=origin.boot,
            started=self._started,
            made=time.time(),
            links=hands.links(),
            uses=hands.uses(self._state.engine.cluster or None),
            peers={c.id: f"{c.program} pid {c.pid}" for c in self._server.connections.values()},
            violations={v.value: n for v, n in self._server.violations.items()},
        )
        return build(self._state, asyncio.get_running_loop().time(), facts)

    def _engine(self, event: MembershipEvent) -> None:
        if isinstance(event, EngineUp):
            name = next((n.name for n in event.nodes if n.number == event.local), "")
            self._logger.origin.node = name or self._logger.origin.node
        self._tell(event)

    def _tell(self, event: told.MindEvent) -> None:
        self._events.append(event)
        if not self._busy:
            self._busy = True
            self._pump()

    def _pump(self) -> None:
        """Take events until none is left; after a while let others have the loop, with 254 nodes there are many."""
        loop = asyncio.get_running_loop()
        until = loop.time() + SLICE
        try:
            while self._events:
                self._state, actions = step(self._state, loop.time(), self._events.popleft())
                self._events.extend(answer for action in actions if (answer := self._perform(action)) is not None)
                if self._events and loop.time() > until:
                    loop.call_soon(self._pump)
                    return
        except BaseException:
            self._busy = False
            raise
        self._busy = False

    def _perform(self, action: do.Action) -> told.MindEvent | None:  # noqa: C901, PLR0912 (one arm an action)
        match action:
            case Log():
                self._logger.write(action)
            case do.Grant():
                return self._grant(action)
            case do.Say(connection, message):
                if (to := self._server.connections.get(connection)) is not None:
                    to.send(ordering.encode(message))
            case do.Drop(connection, why):
                if (to := self._server.connections.get(connection)) is not None:
                    to.send(client.status(errno.EINVAL, why))
                    to.close_after_flush()
            case do.AnswerShutdown(question, allow, reason):
                self._ports.membership.answer_shutdown(question, allow, reason)
            case do.Ready():
                notify("READY=1", "STATUS=ready")
            case do.NotReady(reason):
                notify(f"STATUS=not ready: {reason}")
            case do.WakeAt(at):
                self._wake_at(at)
            case do.Exit(code):
                if self._exit is not None and not self._exit.done():
                    self._exit.set_result(code)
            case _:
                return self._ports.hands.carry_out(action)
        return None

    def _grant(self, grant: do.Grant) -> told.MindEvent | None:
        to = self._server.connections.get(grant.connection)
        if to is None or not to.open:
            return None  # Closed is on its way
        try:
            lock = self._ports.hands.locks.shared(grant.number)
        except OSError as error:
            return told.GrantUndeliverable(grant.connection, grant.request, error.errno or errno.EIO)
        if lock is None:
            return told.GrantUndeliverable(grant.connection, grant.request, errno.EAGAIN)
        # It is the stream's from here on, which closes it once it is sent, or never can be.
        to.send(ordering.encode(ordering.Locked(grant.request)), lock)
        return told.GrantSent(grant.connection, grant.request)

    def _wake_at(self, at: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        loop = asyncio.get_running_loop()
        self._timer = None if at is None else loop.call_at(at, self._tell, told.Tick())

    def _cannot_listen(self, error: ListenError) -> None:
        if isinstance(error, NameTaken):
            pid, program = (error.holder.pid, error.holder.program) if error.holder else (None, None)
            self._logger.write(log(Event.NAME_TAKEN, "error", socket=error.name, pid=pid, program=program))
        self._logger.write(log(Event.EXITING, "error", cause=str(error)))
