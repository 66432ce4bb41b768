"""The shell of ocfs2_controld: turns sockets, signals, timers and the engine into events, and actions into calls.

It decides nothing. The mind is told all that has happened since its last step, in order; what the actions of a step
have led to in the kernel is told first in the next one, together. No event is told while actions are carried out.
"""

import asyncio
import os
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from errno import EAGAIN
from functools import partial
from typing import Final

from libo2cb.config import Config
from libo2cb.engine.port import ChannelPort, EngineUp, MembershipEvent, MembershipPort
from libo2cb.errors import O2cbError
from libo2cb.events import Event as Logged
from libo2cb.events import Log, log
from libo2cb.locks import Descriptor, LockDirectory
from libo2cb.semaphores import NoRefs, RegionRefs
from libo2cb.service import report as schema
from libo2cb.service import signals
from libo2cb.service.cli import VERSION
from libo2cb.service.logs import Logger
from libo2cb.service.notify import ServiceManager, notify
from libo2cb.service.server import ListenError, NameTaken
from libo2cb.service.threads import Worker
from libo2cb.tools.facts import Facts as Shown
from libo2cb.tools.screens import headline
from ocfs2_controld import actions as do
from ocfs2_controld import events as told
from ocfs2_controld.clients import Clients
from ocfs2_controld.devices import Volumes
from ocfs2_controld.errands import Errands
from ocfs2_controld.hands import Hands
from ocfs2_controld.holders import ProcessWatch, tools_at_work
from ocfs2_controld.mind import begin, next_wake, step
from ocfs2_controld.neighbour import Neighbour
from ocfs2_controld.report import Facts, build
from ocfs2_controld.sessions import listing
from ocfs2_controld.sightings import Sightings
from ocfs2_controld.state import FencingKind, Settings
from ocfs2_controld.voice import Voice
from protocol import client
from protocol.framing import to_text
from protocol.frozen import EMPTY, FrozenMap
from protocol.handshake import standard

_RESULTS_OF_USE: Final = (client.Unmount, client.MountResult)


@dataclass(frozen=True, slots=True)
class Ports:
    """What the daemon works with.

    Attributes:
        membership: the engine's membership.
        channel: the engine's channel.
        hands: the kernel's tree.
        volumes: the mount table.
        locks: the run directory's lock files.
        refs: the kernel's counts of who holds a region by hand.
        trusted: uids of clients and servers that are believed (law 14).
        refusal: errno and sentence while this kernel cannot serve any MOUNT; for threads.
    """

    membership: MembershipPort
    channel: ChannelPort
    hands: Hands
    volumes: Volumes
    locks: LockDirectory
    trusted: frozenset[int]
    refs: RegionRefs = NoRefs()  # noqa: RUF009 (it has no state)
    refusal: Callable[[], tuple[int, str] | None] = lambda: None


class Daemon:
    """One run of ocfs2_controld.

    Args:
        config: the configuration.
        ports: what it works with.
        logger: its log; its origin names boot and incarnation.
    """

    def __init__(self, config: Config, ports: Ports, logger: Logger) -> None:
        self._config = config
        self._ports = ports
        self._logger = logger
        self._state = begin(
            Settings(
                boot=logger.origin.boot,
                incarnation=logger.origin.incarnation,
                pid=os.getpid(),
                port=config.cluster.port,
                blocks=standard(config.cluster.port, VERSION).blocks(),
                fencing=FencingKind[config.fencing.kind.upper()],
                mount_seconds=config.timeouts.mount,
                grace_seconds=config.timeouts.grace,
                cluster=config.cluster.name or "",
                naming_seconds=config.status.waiting,
                fence_retry_seconds=config.fencing.retry,
                fence_retry_most=config.fencing.retry_max,
                join_delay_seconds=config.timeouts.join_delay,
            )
        )
        sockets = config.sockets
        self._clients = Clients(
            sockets.clients,
            trusted=ports.trusted,
            max_per_uid=sockets.max_per_uid,
            tell=self._tell,
            document=self._document,
            listing=lambda connection, asked: listing(self._state, connection, asked),
            note=logger.write,
            refusal=self._refusal,
        )
        self._neighbour = Neighbour(sockets.ordering, ports.trusted, self._tell, logger.write)
        self._holders = ProcessWatch(self._tell)
        self._errands = Errands(ports.volumes, config.fencing, logger, self._tell)
        abandon = partial(self._errands.leave, ports.channel)
        self._voice = Voice(ports.channel, self._tell, lambda: len(self._inbox), abandon)
        self._sightings = Sightings()
        self._worker = Worker("kernel")
        self._manager = ServiceManager(lambda: headline(Shown(ocfs2=self._report())))
        self._inbox: deque[told.Event] = deque()
        self._opened = 0  # events of the inbox that can wait for another one
        self._results: list[told.Event] = []
        self._stirred = asyncio.Event()
        self._mounts_changed = False
        self._mounts_unread = False
        self._timer: asyncio.TimerHandle | None = None
        self._alarm: float | None = None
        self._service: Descriptor | None = None
        self._exit: int | None = None
        self._reason = ""
        self._unserved: tuple[int, str] | None = None
        self._refused: Counter[str] = Counter()
        self._started = time.time()
        self._epoch = 0.0

    async def run(self) -> int:
        """Serve until the mind says Exit; the exit code."""
        self._epoch = asyncio.get_running_loop().time()
        self._logger.write(log(Logged.STARTING, version=VERSION, pid=os.getpid(), driver=self._config.kernel.driver))
        try:
            # Taken for empty, what cannot be read would get live groups torn down.
            mounts = await self._worker.do(self._ports.volumes.mounts)
            # Before the regions are listed: a probe that was killed has left one.
            refused = await self._worker.do(self._refusal)
            regions = await self._worker.do(self._ports.hands.found)
            sources = await self._worker.do(self._ports.volumes.sources) if regions.regions else EMPTY
            found = replace(regions, sources=sources)
            if found.regions:
                hands = await self._worker.do(lambda: {fs: self._ports.refs.count(fs) for fs in found.regions})
                tools = await self._worker.do(lambda: tools_at_work(found.regions))
                found = replace(found, hands=FrozenMap(hands), tools=tools)
            # The name before the engine: a second daemon must not get as far as the channel, as this node's other.
            self._clients.server.listen()
            self._ports.volumes.watch(asyncio.get_running_loop(), self._mounts_stirred)
        except ListenError as error:
            self._cannot_listen(error)
            return 1
        except (O2cbError, OSError) as error:
            self._clients.server.close()
            why = error.sentence() if isinstance(error, O2cbError) else str(error)
            self._logger.write(log(Logged.EXITING, "error", cause=f"it cannot be seen what stands here: {why}"))
            return 1
        if refused is not None:
            self._logger.write(log(Logged.LINKS_REFUSED, "error", errno=refused[0], cause=refused[1]))
        unwatch = signals.watch(lambda name: self._tell(told.SignalCame(name)))
        try:
            await self._step([told.MountTable(mounts), found], self._now())
            self._mounts_changed = True  # it may have, before it was watched
            await self._ports.membership.start(self._of_engine)
            await self._voice.start()
            self._neighbour.start()
            return await self._think()
        finally:
            unwatch()
            await self._end()

    async def _end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._manager.close()
        self._errands.close()
        await self._clients.finish()
        await self._voice.leave()
        await self._ports.membership.close()
        self._ports.volumes.close()
        self._worker.close()
        self._holders.close()
        self._neighbour.close()
        if self._service is not None:
            self._service.close()

    def _cannot_listen(self, error: ListenError) -> None:
        if isinstance(error, NameTaken):
            holder = error.holder
            pid, program = (holder.pid, holder.program) if holder is not None else (None, None)
            self._logger.write(log(Logged.NAME_TAKEN, "error", socket=error.name, pid=pid, program=program))
        notify(f"STATUS=not ready: {error}")
        self._logger.write(log(Logged.EXITING, "error", cause=str(error)))

    # What happens, as events.

    def _refusal(self) -> tuple[int, str] | None:
        """Why no MOUNT can be served; for threads, and kept for status."""
        self._unserved = self._ports.refusal()
        return self._unserved

    def _tell(self, event: told.Event) -> None:
        self._inbox.append(event)
        if isinstance(event, told.ClientOpened):
            self._opened += 1  # nothing follows from it until the client says something
        else:
            self._stirred.set()

    def _mounts_stirred(self) -> None:
        self._mounts_changed = True
        self._stirred.set()

    def _of_engine(self, event: MembershipEvent) -> None:
        if isinstance(event, EngineUp):
            name = next((n.name for n in event.nodes if n.number == event.local), "")
            self._logger.origin.node = name or self._logger.origin.node
        self._tell(event)

    # The mind's steps.

    async def _think(self) -> int:
        while True:
            waits = len(self._inbox) > self._opened
            if not (self._results or waits or self._mounts_changed or self._is_due(self._now())):
                self._stirred.clear()
                await self._stirred.wait()  # what else this wake-up of the loop has brought is there when this goes on
            else:
                await asyncio.sleep(0)
            events = await self._taken()
            now = self._now()
            if self._is_due(now):
                events.append(told.Tick())
            if events:
                await self._step(events, now)
            else:
                self._wake_at(self._alarm)  # the loop's timers may ring a nanosecond early
            if self._exit is not None:
                return self._exit

    async def _step(self, events: list[told.Event], now: float) -> None:
        self._state, actions = step(self._state, now, events)
        self._sightings.look(self._state, now)
        await self._carry_out(actions)
        self._manager.stir()
        self._neighbour.drop()
        # Seen from the step: what has become due since, while its actions were carried out, is not passed over.
        self._wake_at(next_wake(self._state, now))

    async def _taken(self) -> list[told.Event]:
        """The events of the next step: results first, then the mount table where it has changed, then all others.

        No more than one of them comes with a descriptor, so that it is known whose the mind speaks of.
        """
        results, self._results = self._results, []
        events: list[told.Event] = []
        while self._inbox:
            events.append(self._inbox.popleft())
            if isinstance(events[-1], told.ClientOpened):
                self._opened -= 1
            if isinstance(events[-1], told.OrderingSaid) and events[-1].descriptor:
                self._neighbour.taken()
                break
        self._clients.taken(events)
        if self._mounts_changed or (any(_ends_use(e) for e in events) and self._may_have_changed()):
            events = [*await self._changed_mounts(), *events]
        return [*results, *events]

    def _may_have_changed(self) -> bool:
        """Whether the mind's mount table may be out of date.

        A's client mounts, says MRESULT and ends: were its end told before the mount is, A would look unmounted. That
        the watcher has said nothing is no answer, since it may be told of the mount after MRESULT has come.
        """
        return self._mounts_unread or self._ports.volumes.has_changed()

    async def _changed_mounts(self) -> list[told.Event]:
        """The mount table, if it is another than the mind knows."""
        self._mounts_changed = False
        self._ports.volumes.has_changed()  # whatever came before it is seen by the look that follows
        self._mounts_unread = True
        try:
            mounts = await self._worker.do(self._ports.volumes.mounts)
            self._mounts_unread = False
        except (O2cbError, OSError) as error:
            why = error.sentence() if isinstance(error, O2cbError) else str(error)
            self._logger.write(log(Logged.SURPRISE, "error", state="mount table", cause=why))
            return []
        return [] if mounts == self._state.mounts else [told.MountTable(mounts)]

    def _now(self) -> float:
        """The mind's clock: seconds since the daemon started, and with that its first wait."""
        return asyncio.get_running_loop().time() - self._epoch

    def _is_due(self, now: float) -> bool:
        return self._alarm is not None and self._alarm <= now

    def _wake_at(self, at: float | None) -> None:
        """One timer, or none: nothing wakes a daemon at rest."""
        if at == self._alarm and self._timer is not None:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._alarm = at
        self._timer = None if at is None else asyncio.get_running_loop().call_at(self._epoch + at, self._ring)

    def _ring(self) -> None:
        self._timer = None
        self._stirred.set()

    # The mind's actions.

    async def _carry_out(self, actions: Iterable[do.Action]) -> None:
        """All actions in their order, the kernel's in a thread. Log lines need not wait for it: they say decisions."""
        calls: list[do.CallKernel] = []
        for action in actions:
            match action:
                case do.CallKernel():
                    calls.append(action)
                case Log():
                    self._note(action)
                case _:
                    await self._call_kernel(calls)
                    calls = []
                    await self._perform(action)
        await self._call_kernel(calls)

    async def _call_kernel(self, calls: list[do.CallKernel]) -> None:
        if not calls:
            return
        cluster = self._state.engine.cluster
        try:
            self._results += await self._worker.do(lambda: self._ports.hands.carry_out(cluster, calls))
        except OSError as error:  # no thread: tried again, as after any refusal
            code = error.errno or EAGAIN
            self._results += [told.KernelDone(c.call, c.fs, c.number, code, str(error)) for c in calls]

    def _note(self, entry: Log) -> None:
        if entry.event is Logged.SIGNAL_REFUSED:
            self._refused[str(dict(entry.fields).get("signal"))] += 1
        self._logger.write(entry)

    async def _perform(self, action: do.Action) -> None:  # noqa: C901, PLR0912 (one arm an action)
        match action:
            case do.Multicast(envelope):
                self._voice.say(envelope)
            case do.LeaveChannel():
                await self._voice.leave()
            case do.Answer(connection, code, text):
                self._clients.status(connection, code, text)
            case do.AnswerList(connection, items):
                self._clients.items(connection, items)
            case do.AnswerReport(connection):
                self._clients.document(connection, client.Report())
            case do.AnswerDump(connection):
                self._clients.document(connection, client.Dump())
            case do.SayOrdering(message):
                self._neighbour.say(message)
            case do.KeepLock(key):
                self._neighbour.keep(key)
            case do.DropLock():
                self._neighbour.drop()
            case do.CloseLock(key):
                self._neighbour.close_lock(key)
            case do.HoldService():
                self._results.append(told.ServiceAnswer(self._hold_service()))
            case do.ReleaseService():
                if self._service is not None:
                    self._service.close()
                    self._service = None
            case do.CheckDevice(fs, path):
                self._errands.check_device(fs, path, self._state.local(fs).device)
            case do.KeepRefs(fs, count):
                await self._keep_refs(fs, count)
            case do.WatchProcess(pid, started):
                self._holders.watch(pid, started)
            case do.RunFence():
                self._errands.fence(action)
            case do.AnswerShutdown(question, allow, reason):
                self._ports.membership.answer_shutdown(question, allow, reason)
            case do.PutOut(node, why):
                self._ports.membership.put_out(node, why)
            case do.PowerOff(why):
                self._errands.power_off(self._ports.hands.kernel, why)
            case do.Ready(ready, why):
                self._reason = why
                if ready:
                    self._manager.ready()
            case do.Exit(code, why):
                self._logger.write(log(Logged.EXITING, "error" if code else "info", cause=why))
                self._exit = code
            case do.CallKernel() | Log():
                raise AssertionError(action)  # carried out above

    async def _keep_refs(self, fs: str, count: int) -> None:
        try:
            await self._worker.do(lambda: self._ports.refs.keep(fs, count))
        except (O2cbError, OSError) as error:
            why = error.sentence() if isinstance(error, O2cbError) else str(error)
            cause = f"{why}; a restart of the daemon would not know that {fs} is held by hand"
            self._logger.write(log(Logged.SURPRISE, "warning", fs=fs, state="reference count", cause=cause))

    def _hold_service(self) -> bool:
        if self._service is None:
            try:
                self._service = self._ports.locks.hold_service()
            except OSError as error:
                self._logger.write(log(Logged.SURPRISE, "error", state="service lock", cause=str(error)))
        return self._service is not None

    # What others ask at any time.

    def _document(self, asked: client.Report | client.Dump) -> str:
        return to_text(self._logger.ring.text()) if isinstance(asked, client.Dump) else schema.dump(self._report())

    def _report(self) -> schema.Ocfs2Report:
        broken = self._clients.server.violations + self._neighbour.client.violations
        facts = Facts(
            version=VERSION,
            pid=os.getpid(),
            incarnation=self._logger.origin.incarnation,
            boot=self._logger.origin.boot,
            driver=self._config.kernel.driver,
            started=self._started,
            made=time.time(),
            reason=self._reason,
            signals=self._refused,
            violations={v.value: n for v, n in broken.items()},
            daemons=self._sightings.daemons,
            joiners=self._sightings.joiners,
            notes=(f"every MOUNT is refused: {self._unserved[1]}",) if self._unserved else (),
        )
        return build(self._state, self._now(), facts)


def _ends_use(event: told.Event) -> bool:
    """Whether the mind judges this event by the mount table."""
    if isinstance(event, told.ClientSaid):
        return isinstance(event.message, _RESULTS_OF_USE)
    return isinstance(event, told.ClientClosed)
