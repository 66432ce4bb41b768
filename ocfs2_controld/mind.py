"""The mind of ocfs2_controld: (state, time, events) -> (state, actions), without I/O or clock.

The same function runs in the daemon, in the simulation and in the exhaustive search. A step takes events in their
order, then looks at each group that they concern, and ends with the words to say and the actions to do.
"""

from collections.abc import Iterator, Sequence
from errno import EINVAL

from libo2cb.engine.port import (
    ChannelDown,
    ChannelMembers,
    ChannelRing,
    Configured,
    ConfiguredNode,
    EngineDown,
    EngineUp,
    Members,
    ShutdownAsked,
)
from libo2cb.events import Event as Logged
from libo2cb.events import log
from libo2cb.limits import LAST_NODE
from ocfs2_controld import channel, fencing, groupwork, locks, services, sessions
from ocfs2_controld.actions import Action, AnswerShutdown, Exit, LeaveChannel, Multicast, Ready
from ocfs2_controld.events import (
    ClientClosed,
    ClientGarbled,
    ClientOpened,
    ClientSaid,
    DeviceAnswer,
    Event,
    FenceDone,
    Garbled,
    Heard,
    KernelDone,
    KernelFound,
    MountTable,
    OrderingDown,
    OrderingSaid,
    OrderingUp,
    ProcessEnded,
    ServiceAnswer,
    SignalCame,
    Tick,
)
from ocfs2_controld.explain import collection_wait, waiting_since, waits
from ocfs2_controld.state import Engine, Local, ServiceKind, Session, Settings, State, Turn, Usage
from ocfs2_controld.usage import Call, Happening, happen
from protocol.frozen import FrozenMap, replace
from protocol.group import Envelope, Expel, Goodbye, Identify, Lost, Statement, ViewMember
from protocol.identity import Life


def begin(settings: Settings) -> State:
    """The state of a daemon that has just started."""
    return State(settings)


def step(state: State, now: float, events: Sequence[Event]) -> tuple[State, tuple[Action, ...]]:
    """One step.

    Args:
        state: the state before.
        now: seconds; never less than in the step before.
        events: what has happened, in order.

    Returns:
        The state after, and what is to be done, in this order.
    """
    t = Turn(state, now)
    for event in events:
        if t.state.ending is None:
            _take(t, event)
    _settle(t, events)
    return t.state, tuple(t.actions)


def _take(t: Turn, event: Event) -> None:  # noqa: C901, PLR0912 (one case an event, each a line)
    match event:
        case EngineUp() | EngineDown() | Configured() | Members() | ShutdownAsked():
            _engine(t, event)
        case ChannelMembers():
            channel.members_changed(t, event)
        case ChannelRing():
            channel.ring_changed(t, event)
        case ChannelDown():
            channel.lost(t, f"the engine's channel is lost: {event.reason}")
        case Heard():
            channel.heard(t, event)
            for word in t.refusals:
                groupwork.refused(t, word)
            t.refusals.clear()
        case Garbled():
            channel.garbled(t, event)
        case KernelFound():
            _adopt(t, event)
        case KernelDone():
            groupwork.kernel_done(t, event)
        case MountTable():
            _mount_table(t, event)
        case ClientOpened():
            t.put(sessions=t.state.sessions.put(event.connection, Session(event.peer, since=t.now)))
        case ClientSaid() | ClientGarbled():
            sessions.said(t, event)
        case ClientClosed():
            sessions.closed(t, event.connection)
        case ProcessEnded():
            _process_ended(t, event)
        case DeviceAnswer():
            happen(Happening.FREE if event.free else Happening.BUSY, Call(t, event.fs, text=event.why))
        case OrderingUp():
            locks.connected(t)
        case OrderingDown():
            locks.disconnected(t, event.why)
        case OrderingSaid():
            locks.heard(t, event)
        case ServiceAnswer():
            groupwork.service_answered(t, event.held)
        case FenceDone():
            fencing.answered(t, event)
        case SignalCame():
            _signal(t, event.name)
        case Tick():
            groupwork.timers(t)


def _engine(t: Turn, event: EngineUp | EngineDown | Configured | Members | ShutdownAsked) -> None:
    engine = t.state.engine
    match event:
        case EngineUp():
            _engine_up(t, event)
        case EngineDown():
            t.put(engine=replace(engine, up=False, why=event.reason, quorate=False, ring=None, members=frozenset()))
            t.do(log(Logged.ENGINE_DOWN, "error", cause=event.reason))
            # The channel is told of its own loss. A comes back so fast that its daemon is on the channel again before
            # it hears that the membership service was away: what it heard there since is not to be forgotten.
            channel.halt_all(t, f"the cluster engine is lost: {event.reason}")
        case Configured():
            former = _former(engine, event.nodes)
            t.put(engine=replace(engine, nodes=event.nodes, former=former, two_node=event.two_node, notes=event.notes))
            t.do(log(Logged.CONFIGURED, nodes=[f"{n.number} {n.name} {n.address}" for n in event.nodes]))
            t.dirty.update(t.state.locals)
        case Members():
            _members(t, event)
        case ShutdownAsked():
            t.do(log(Logged.SHUTDOWN_ASKED, question=event.question))
            allow, why = not t.state.locals, "no filesystem is mounted here" if not t.state.locals else _live(t.state)
            t.do(
                AnswerShutdown(event.question, allow, why),
                log(Logged.SHUTDOWN_ANSWERED, question=event.question, allow=allow, cause=why),
            )


def _engine_up(t: Turn, event: EngineUp) -> None:
    engine = t.state.engine
    t.do(log(Logged.ENGINE_UP, cluster=event.cluster, local=event.local))
    if t.state.settings.cluster not in ("", event.cluster):
        why = f"it is of cluster {event.cluster}, and cluster.name of the configuration is {t.state.settings.cluster}"
        t.put(engine=replace(engine, up=False, why=why))
        return
    if t.state.locals and engine.cluster not in ("", event.cluster):
        # What is mounted here is of the cluster that was: groups of two clusters must not meet in one table.
        why = f"it came back as cluster {event.cluster}; this daemon serves {engine.cluster} until it is restarted"
        t.put(engine=replace(engine, up=False, why=why))
        return
    t.put(
        engine=Engine(
            up=True,
            why="",
            cluster=event.cluster,
            local=event.local,
            nodes=event.nodes,
            former=_former(engine, event.nodes),
            two_node=event.two_node,
            notes=event.notes,
        )
    )
    if t.state.member in t.state.channel.expelled:
        # The word was heard before this daemon knew its own number, and so not taken to be about itself.
        channel.put_out(t, "it was expelled before it could make its statement")
    for fs, local in t.state.locals.items():
        if local.usage is Usage.JOINING and local.cluster not in ("", event.cluster):
            text = sessions.wrong_cluster(local.cluster, event.cluster)
            happen(Happening.REFUSED, Call(t, fs, code=EINVAL, text=text))


def _former(engine: Engine, nodes: Sequence[ConfiguredNode]) -> FrozenMap[int, ConfiguredNode]:
    """Who has left the configuration once these are in it."""
    stays = {n.number for n in nodes}
    known = (*engine.former.values(), *engine.nodes)
    return FrozenMap({n.number: n for n in known if n.number not in stays and n.number <= LAST_NODE})


def _members(t: Turn, event: Members) -> None:
    """The membership: by its joined and left lists, since a fast restart changes no set."""
    engine = t.state.engine
    gone = sorted({*engine.gone_at, *event.left} - set(event.members))
    since = (engine.quorate_since if engine.quorate_since is not None else t.now) if event.quorate else None
    t.put(
        engine=replace(
            engine,
            ring=event.ring,
            quorate=event.quorate,
            members=frozenset(event.members),
            # Without quorum it is rather this node that left: A is cut off alone, sees B and C "leave", and is back.
            # B's daemon had died meanwhile; B itself was never away, and A must not call it lost.
            left_at=engine.left_at.merge(dict.fromkeys(event.left if event.quorate else (), event.ring)),
            appeared=engine.appeared.merge(dict.fromkeys(event.joined, t.now)),
            gone_at=FrozenMap({n: engine.gone_at.get(n, t.now) for n in gone}),
            quorate_since=since,
        ),
        outs=FrozenMap({n: out for n, out in t.state.outs.items() if n in event.members and n not in event.left}),
    )
    t.do(
        log(
            Logged.MEMBERS,
            ring=str(event.ring),
            quorate=event.quorate,
            members=list(event.members),
            joined=list(event.joined),
            left=list(event.left),
        )
    )
    if not event.quorate:
        channel.halt_all(t, "quorum is lost")
    t.dirty.update(t.state.locals)


def _live(state: State) -> str:
    names = [local.label or fs for fs, local in sorted(state.locals.items())]
    return f"mount groups are live on this node: {', '.join(names)}; unmount first"


def _signal(t: Turn, name: str) -> None:
    """No quiet exit (law 15): while a group is live, no signal ends the daemon, and none is remembered."""
    if t.state.locals:
        t.count("signals_refused")
        t.do(log(Logged.SIGNAL_REFUSED, "warning", signal=name, cause=_live(t.state)))
        return
    why = f"{name}, and no group is live"
    if t.state.complete:
        t.words.append(Goodbye())
    _flush(t)
    t.put(ending=why)
    t.do(LeaveChannel(), Exit(0, why))


def _adopt(t: Turn, event: KernelFound) -> None:
    """What an earlier run left in the kernel is ours again, and torn down only if nobody uses it (law 5)."""
    t.put(found=True, standing=event.local)
    for fs, numbers in sorted(event.regions.items()):
        links: dict[int, Life | None] = dict.fromkeys(numbers)
        points = t.state.mounts.get(fs, ())
        path, label = event.sources.get(fs, ("", ""))
        local = Local(
            region=True,
            links=FrozenMap(links),
            mount_points=points,
            path=path,
            label=label,
            services=services.found(event.tools.get(fs, ()), event.hands.get(fs, 0)),
            since=t.now,
            stopped_at=t.now,
        )
        t.put(locals=t.state.locals.put(fs, local))
        t.do(log(Logged.ADOPTED, fs=fs, links=list(numbers)))
        happen(Happening.ADOPTED, Call(t, fs))


def _mount_table(t: Turn, event: MountTable) -> None:
    t.put(mounts=event.mounts)
    for fs, local in t.state.locals.items():
        points = event.mounts.get(fs, ())
        if points == local.mount_points:
            continue
        was = local.mount_points
        t.put_local(fs, mount_points=points)
        for point in points:
            if point not in was:
                t.do(log(Logged.MOUNT_SEEN, fs=fs, mount_point=point))
        if points and not was:
            happen(Happening.MOUNT_SEEN, Call(t, fs))
        elif was and not points:
            happen(Happening.MOUNT_GONE, Call(t, fs))


def _find_strays(t: Turn) -> None:
    """Mounts whose clients asked nobody: no other node links this one for them, nor hears of its death there."""
    state = t.state
    alone = state.mounts.keys() - state.locals.keys()
    if alone != state.strays.keys():
        t.put(strays=FrozenMap({fs: state.strays.get(fs, t.now) for fs in sorted(alone)}))


def _process_ended(t: Turn, event: ProcessEnded) -> None:
    for fs, local in t.state.locals.items():
        for name, service in local.services.items():
            ours = (service.pid, service.started) == (event.pid, event.started)
            if ours and service.kind is ServiceKind.TOOL:
                happen(Happening.HOLDER_GONE, Call(t, fs, service=name))


def _settle(t: Turn, events: Sequence[Event]) -> None:
    """Look at everything that the events concern, until nothing follows any more."""
    if t.state.ending is None:
        channel.tell(t)
        _identify(t)
        _lost_for_good(t)
        _owed_statements(t)
        while True:
            for fs in sorted(t.dirty):
                t.dirty.discard(fs)
                groupwork.settle(t, fs)
            if t.needs_changed:
                locks.settle(t)
                t.dirty.update(fs for fs, local in t.state.locals.items() if local.needs)
                continue
            if not t.dirty:
                break
        fencing.settle(t)
        channel.settle_outs(t)
        groupwork.settle_service(t)
        _readiness(t)
        if t.state.strays or any(isinstance(event, MountTable | KernelFound) for event in events):
            _find_strays(t)
        if any(isinstance(event, Tick) for event in events):
            _name_waits(t)
    _flush(t)


def _flush(t: Turn) -> None:
    """Say the words of this step: those that name a view by themselves, the others in the name of the change."""
    if not t.words:
        return
    free = tuple(w for w in t.words if isinstance(w, Statement | Expel))
    tagged = tuple(w for w in t.words if not isinstance(w, Statement | Expel))
    if free:
        t.do(Multicast(Envelope(None, free)))
    if tagged and t.state.channel.change is not None:
        t.do(Multicast(Envelope(t.state.channel.change, tagged)))
    t.words.clear()


def _identify(t: Turn) -> None:
    """Tell the others when a reload of the configuration has given this node another identity."""
    state = t.state
    here, identity = state.present.get(state.engine.local), state.identity
    if state.complete and here is not None and identity is not None and identity != here.identity:
        t.say(Identify(identity))


def has_left(state: State, life: Life) -> bool:
    """Whether a node whose daemon is away has left the engine since it last spoke on the channel.

    Judged by rings, since nothing orders the two services: B leaves and comes back, its new daemon speaks in ring 7 and
    dies, and only now the quorum service tells that B left in ring 6. That is over: B is still here.
    """
    engine = state.engine
    spoke = state.spoke.get(life.node)
    if spoke is None or engine.ring is None:
        return False
    left = engine.left_at.get(life.node)
    return (left is not None and left > spoke) or (life.node not in engine.members and engine.ring > spoke)


def _lost_for_good(t: Turn) -> None:
    """PROCDOWN followed by the node's leaving the engine loses the life; so does silence for the grace time (law 8)."""
    state = t.state
    if not state.complete or state.table is None:
        return
    if not state.away:  # since when each daemon is away that some group names
        return
    away = sorted({x for g in state.table.groups.values() for x in g.away})
    lowest = state.actor == state.engine.local
    for life in away:
        since = state.away.get(life.node, t.now)
        if has_left(state, life):
            t.say(Lost(life, "it has left the engine"))
        elif lowest and t.now >= since + state.settings.grace_seconds:
            t.say(Lost(life, f"its daemon was silent for {t.now - since:.0f} s"))


def _owed_statements(t: Turn) -> None:
    """A member whose statement is missing for the grace time is put out; one of those who have stated says so."""
    state = t.state
    silent = t.now - state.channel.since
    if silent < state.settings.grace_seconds or state.channel.change is not None or state.out is not None:
        return
    view = state.view
    stated: list[ViewMember] = sorted(state.channel.statements)
    if view is None or not stated or stated[0] != state.member:
        return
    for m in view.members:
        if m not in state.channel.statements:
            channel.expel(t, m, f"it owes its statement for {silent:.0f} s")


def _readiness(t: Turn) -> None:
    state = t.state
    why = "" if state.table is not None else collection_wait(state) or "the first change is not complete yet"
    if not why and not state.locks.connected:
        why = f"o2cb_controld: {state.locks.why}"
    ready = not why
    if ready != state.ready:
        t.put(ready=ready)
        event = Logged.READY if ready else Logged.NOT_READY
        t.do(Ready(ready, why), log(event, cause=why or "the groups of this node are known"))


def _name_waits(t: Turn) -> None:
    """Whatever waits longer than five seconds says why, once for each reason (law 17).

    A wait is known by when it began, too: A has no quorum and says so, has it again for a second, and loses it. No
    Tick came between, and the second wait has the words of the first; it is another one, and is said.
    """
    patience = t.state.settings.naming_seconds
    if not t.state.named and not any(t.now - since >= patience for since in waiting_since(t.state)):
        return
    old = [w for w in waits(t.state, t.now) if t.now - w.since >= patience]
    named: dict[str, tuple[float, str]] = {}
    for w in old:
        reason = "".join(c for c in w.why if not c.isdigit())
        named[w.what] = (w.since, reason)
        if t.state.named.get(w.what) != named[w.what]:
            cause = f"{w.why}; do: {w.do}" if w.do else w.why
            t.do(log(Logged.WAITING, "warning", what=w.what, seconds=round(t.now - w.since, 3), cause=cause))
    if t.state.named != FrozenMap(named):
        t.put(named=FrozenMap(named))


def next_wake(state: State, now: float) -> float | None:
    """When the mind wants a Tick, if nothing else happens before; None for never."""
    return min((at for at in _wakes(state, now) if at > now), default=None)


def _wakes(state: State, now: float) -> Iterator[float]:
    grace = state.settings.grace_seconds
    yield from _wakes_of_locals(state)
    if state.view is not None and state.channel.change is None:
        yield state.channel.since + grace
    for fence in state.fences.values():
        yield fence.due
    for since in state.away.values():
        yield since + grace
    yield from (out.due for out in state.outs.values())
    if state.locals and state.service is False:
        yield state.service_at
    for since in waiting_since(state):
        # Looked at again in the same rhythm, for the reason may have changed.
        patience = state.settings.naming_seconds
        yield since + patience * max(1, (now - since) // patience + 1)


def _wakes_of_locals(state: State) -> Iterator[float]:
    # Asked after each step, and most have nothing due: no more than a test for each.
    for local in state.locals.values():
        if local.deadline is not None:
            yield local.deadline
        if local.check_at is not None:
            yield local.check_at
        if local.retry_at is not None:
            yield local.retry_at
        if local.owed_since is not None:
            yield local.owed_since + state.settings.grace_seconds
        if local.usage is Usage.RELEASING and state.table is None:
            yield local.since + channel.DEVICE_SECONDS
