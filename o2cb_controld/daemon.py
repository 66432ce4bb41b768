"""The shell of o2cb_controld: turns sockets, signals, timers and the engine into events, and actions into calls.

It decides nothing. Events are taken one at a time; whatever happens while the mind's actions are carried out, is taken
after them.

What touches the kernel or the lock files is done by one thread, in the order in which the mind said it, and its answers
are events like all others: an rmdir can wait in the kernel for a connection to end, and REPORT, LOCK and the engine's
question must not wait with it. Why nothing is out of order by that:

    The change of n3 is over: the mind says Unlock 3, and Grant 3 to who waits for it. Both are the thread's, so the
    shared lock is tried once the exclusive one is closed. n3 dies while its grant is still being made: the mind says
    TryLock 3, which comes after the grant in the same line, finds the shared lock, and waits for it.

    rmdir of n3 does not return, and n3 is wanted again: until the answer comes its number is in flight in the mind,
    which grants it to nobody and asks nothing more of it. Other numbers' actions wait in line behind the rmdir; what
    waits is named.

    The daemon is replaced meanwhile: what waits in line is given up, as by a kill, and the exclusive lock of n3 stays
    held until the kernel lets go of this process. A successor finds it busy, and looks again each second.

A lock file itself never waits. So while nothing is in that line, locks are tried, granted and closed at once: it
overtakes nothing, and n3, which died, goes one errand of a thread sooner.
"""

import asyncio
import errno
import os
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

from libo2cb.config import Config
from libo2cb.engine.port import EngineUp, MembershipEvent, MembershipPort
from libo2cb.events import Event, Log, log
from libo2cb.locks import Descriptor
from libo2cb.service import report as schema
from libo2cb.service import signals
from libo2cb.service.cli import VERSION
from libo2cb.service.logs import Logger
from libo2cb.service.notify import ServiceManager
from libo2cb.service.server import Connection, ListenError, NameTaken, RecordServer
from libo2cb.service.threads import Worker
from libo2cb.tools.facts import Facts as Shown
from libo2cb.tools.screens import headline
from libo2cb.wording import shown
from o2cb_controld import actions as do
from o2cb_controld import events as told
from o2cb_controld.documents import Documents, Seen
from o2cb_controld.hands import Hands, KernelAction
from o2cb_controld.mind import step
from o2cb_controld.report import Facts, build
from o2cb_controld.state import State
from protocol import client, ordering
from protocol.framing import BadMessage, to_text

MOST_EVENTS = 65_536
"""Events that may wait for the mind; who says one more is told so, and closed. The engine's are always taken."""
SLICE = 0.02
"""Seconds for which events are taken in one go."""
SILENT_SECONDS: Final = 5.0
"""A call to the kernel that takes longer is named in status (law 17)."""
LAST_CALL_SECONDS: Final = 1.0
"""How long the end waits for the kernel to come back from a call."""


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
            fencing="" if config.kernel.driver == "classic" else config.fencing.kind,
        )
        self._server = RecordServer(self, config.sockets.ordering, mode=0o666, max_per_uid=config.sockets.max_per_uid)
        self._worker = Worker("kernel")
        self._documents = Documents(ports.hands, self._document)
        self._manager = ServiceManager(lambda: headline(Shown(o2cb=self._report(Seen()))))
        self._events: deque[told.MindEvent] = deque()
        self._busy = False
        self._timer: asyncio.TimerHandle | None = None
        self._exit: asyncio.Future[int] | None = None
        self._started = time.time()

    async def run(self) -> int:
        """Serve until the mind says Exit; the exit code."""
        loop = asyncio.get_running_loop()
        self._exit = loop.create_future()
        self._logger.write(log(Event.STARTING, version=VERSION, pid=os.getpid(), driver=self._state.driver))
        try:
            await self._worker.do(lambda: None)  # without its thread nothing can be done
            self._server.listen()
        except ListenError as error:
            self._cannot_listen(error)
            return 1
        except OSError as error:
            self._logger.write(log(Event.EXITING, "error", cause=str(error)))
            return 1
        unwatch = signals.watch(lambda name: self._tell(told.Signal(name)))
        documents = asyncio.create_task(self._documents.serve(), name="documents")
        try:
            await self._ports.membership.start(self._engine)
            return await self._exit
        finally:
            unwatch()
            if self._timer is not None:
                self._timer.cancel()
            documents.cancel()
            self._manager.close()
            await self._ports.membership.close()
            self._server.close()
            await self._let_go()
            await asyncio.sleep(0)  # the connections' last words

    async def _let_go(self) -> None:
        """Close the locks, unless the kernel is still at work under one: then they end with the process."""
        self._worker.clear()
        await asyncio.wait({self._worker.do(self._ports.hands.close)}, timeout=LAST_CALL_SECONDS)
        self._worker.close()

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
        if isinstance(message, client.Report | client.Dump):
            self._documents.ask(connection, message, self._state.engine.cluster)
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

    def _document(self, asked: client.Report | client.Dump, seen: Seen) -> str:
        return to_text(self._logger.ring.text()) if isinstance(asked, client.Dump) else schema.dump(self._report(seen))

    def _report(self, seen: Seen) -> schema.O2cbReport:
        origin = self._logger.origin
        facts = Facts(
            version=VERSION,
            pid=os.getpid(),
            incarnation=origin.incarnation,
            boot=origin.boot,
            started=self._started,
            made=time.time(),
            links=seen.links,
            uses=seen.uses,
            peers={c.id: f"{c.program} pid {c.pid}" for c in self._server.connections.values()},
            violations={v.value: n for v, n in self._server.violations.items()},
            silent=call if (call := self._worker.under_way) and call[1] >= SILENT_SECONDS else None,
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
                self._manager.stir()
                for action in actions:
                    self._perform(action)
                if self._events and loop.time() > until:
                    loop.call_soon(self._pump)
                    return
        except BaseException:
            self._busy = False
            raise
        self._busy = False

    def _perform(self, action: do.Action) -> None:  # noqa: C901, PLR0912 (one arm an action)
        match action:
            case Log():
                self._logger.write(action)
            case do.Grant(number=number):
                shared = partial(self._ports.hands.locks.shared, number)
                if self._worker.idle:
                    self._grant(action, shared)
                else:
                    taken = self._worker.do(shared, f"lock of number {number}")
                    taken.add_done_callback(lambda answer: self._grant(action, answer.result))
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
                self._manager.ready()
            case do.NotReady():
                pass  # the status line says why
            case do.WakeAt(at):
                self._wake_at(at)
            case do.Exit(code):
                if self._exit is not None and not self._exit.done():
                    self._exit.set_result(code)
            case do.TryLock() | do.Unlock() if self._worker.idle:
                self._answered(self._ports.hands.carry_out(action))
            case _:
                done = self._worker.do(partial(self._ports.hands.carry_out, action), _named(action))
                done.add_done_callback(lambda answer: self._answered(answer.result()))

    def _answered(self, event: told.MindEvent | None) -> None:
        if event is not None:
            self._tell(event)

    def _grant(self, grant: do.Grant, take: Callable[[], Descriptor | None]) -> None:
        """Take the shared lock, and send it."""
        to = self._server.connections.get(grant.connection)
        try:
            lock = take()
        except OSError as error:
            self._tell(told.GrantUndeliverable(grant.connection, grant.request, error.errno or errno.EIO))
            return
        if lock is None:
            self._tell(told.GrantUndeliverable(grant.connection, grant.request, errno.EAGAIN))
        elif to is None or not to.open:
            lock.close()  # Closed is on its way, or was told
        else:
            # It is the stream's from here on, which closes it once it is sent, or never can be.
            to.send(ordering.encode(ordering.Locked(grant.request)), lock)
            self._tell(told.GrantSent(grant.connection, grant.request))

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


def _named(action: KernelAction) -> str:
    """A call to the kernel, for a person."""
    match action:
        case do.MakeNode(identity):
            return f"making of node {identity}"
        case do.RemoveNode(_, name):
            return f"rmdir of node {shown(name)}"
        case do.MakeCluster(cluster) | do.RemoveCluster(cluster):
            return f"{type(action).__name__} of {shown(cluster)}"
        case _:
            return type(action).__name__
