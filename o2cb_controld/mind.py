"""The mind of o2cb_controld: `step(state, now, event)` gives the next state and what to do.

Pure: it opens nothing, sleeps never and asks no clock. The rules stand in four tables and their modules: one number's
change (changes), one lock request (ledger), the end (ending), the cluster directory (cluster). Here they are put in
order: first what the event says, then every number's wish against what stands, then the requests, then what an
operator hears.
"""

from libo2cb.engine.advice import advice
from libo2cb.engine.port import Configured, ConfiguredNode, EngineDown, EngineUp, Members, ShutdownAsked
from libo2cb.events import Event, log
from libo2cb.wording import shown
from o2cb_controld import changes, cluster, ending, ledger
from o2cb_controld.actions import Action, Exit, NotReady, ReadKernel, Ready, WakeAt
from o2cb_controld.events import (
    Asked,
    Cancelled,
    Closed,
    ClusterMade,
    ClusterRefused,
    ClusterRemoved,
    GrantSent,
    GrantUndeliverable,
    HintUnlocked,
    KernelRead,
    KernelUnread,
    LinksListed,
    LockBusy,
    LockTaken,
    Made,
    MindEvent,
    Refused,
    Removed,
    Replace,
    ServiceLock,
    Signal,
    Tick,
    UseFound,
)
from o2cb_controld.reasons import standing_back, unready, what, why
from o2cb_controld.state import Ending, Engine, Lock, Node, State, Step, Tree, Wait, Wish
from o2cb_controld.topology import Nothing, unfit, wanted_nodes
from protocol.frozen import replace

SETTLED = 1.0
"""Seconds for which a reason must have stood before it is named: a change under way is none."""
HOLDS_SERVICE = "ocfs2_controld has a filesystem mounted or joining: unmount it first"


def step(state: State, now: float, event: MindEvent) -> Step:
    """Take in one event.

    Args:
        state: the state so far.
        now: seconds on a monotonic clock, the same as in WakeAt. math.inf in a search: every Tick is then due.
        event: what happened.

    Returns:
        The next state, and the actions to carry out in their order.
    """
    if state.ending is Ending.ENDED:
        return state, ()
    before = state
    state, actions = _hear(state, now, event)
    if state.ending is Ending.ENDED:
        return state, actions
    for follow in (changes.reconcile, ending.advance, ledger.answer_all, _readiness, _name_waits, _alarm):
        state, more = follow(state, now)
        actions += more
    if state.readdressed:
        state = replace(state, readdressed=_still_readdressed(state))
    surprises = sum(1 for a in actions if getattr(a, "event", None) is Event.SURPRISE)
    if surprises:
        totals = replace(state.totals, surprises=before.totals.surprises + surprises)
        state = replace(state, totals=totals)
    return state, actions


def _hear(state: State, now: float, event: MindEvent) -> Step:  # noqa: C901, PLR0912 (one arm a word of the vocabulary)
    match event:
        case EngineUp():
            return _engine_up(state, event)
        case EngineDown(reason):
            return _engine_down(state, now, reason)
        case Configured():
            return _configured(state, event)
        case Members():
            return _members(state, event)
        case ShutdownAsked(question):
            state, actions = ending.wish(state, now, Wish(question=question))
            return state, (log(Event.SHUTDOWN_ASKED, question=question), *actions)
        case KernelRead():
            return cluster.read(state, event)
        case KernelUnread():
            return cluster.unread(state, now, event)
        case ClusterMade():
            return cluster.made(state, event)
        case ClusterRemoved():
            return ending.tell(state, now, ending.Cue.REMOVED)
        case ClusterRefused(errno):
            if state.ending is Ending.CLOSING:
                return ending.cluster_refused(state, now, errno)
            return cluster.refused(state, now, event)
        case LockTaken() | LockBusy() | LinksListed() | Made() | Removed() | Refused():
            return changes.answered(state, now, event)
        case Asked():
            return ledger.ask(state, event)
        case Cancelled() | GrantSent() | GrantUndeliverable():
            return ledger.tell(state, now, event)
        case HintUnlocked(connection, number):
            granted = state.granted - {(connection, number)}
            heard = replace(state, peers=state.peers | {connection}, granted=granted)
            return changes.tell(heard, now, number, changes.Cue.LOOK)
        case Closed(connection):
            return ledger.forget(state, connection), ()
        case Signal(name):
            return ending.wish(state, now, Wish(signal=name))
        case ServiceLock(ok):
            return ending.tell(state, now, ending.Cue.TAKEN if ok else ending.Cue.BUSY, HOLDS_SERVICE)
        case UseFound(uses):
            return ending.found(state, now, uses)
        case Replace():
            said = log(Event.REPLACED), log(Event.EXITING, cause="a successor takes over; everything stays")
            return replace(state, ending=Ending.ENDED), (*said, Exit(0))
        case Tick():
            return _tick(state, now)


def _engine_up(state: State, event: EngineUp) -> Step:
    said = log(Event.ENGINE_UP, cluster=event.cluster, local=event.local)
    wrong = cluster.why_not(state, event.cluster)
    first = state.tree is Tree.UNREAD
    if first and wrong:
        return cluster.refuse_to_start(state, wrong)
    if not first and event.cluster != state.engine.cluster:
        # Law 15: live mounts may need us, so we stay, and touch nothing of either cluster.
        mine = shown(state.engine.cluster)
        reason = f"it came back as cluster {shown(event.cluster)}; this daemon serves {mine} until it is restarted"
        return replace(state, engine=replace(state.engine, up=False, members=None, reason=reason)), (said,)
    notes = _notes(state, event)
    engine = Engine(up=True, cluster=event.cluster, local=event.local, configured=event.nodes, reason="", notes=notes)
    tree = Tree.READING if first else state.tree
    read: tuple[Action, ...] = (ReadKernel(event.cluster),) if tree in {Tree.READING, Tree.STANDS} else ()
    named = (*_name_unfit(state, event.nodes), *_name_notes(state, notes))
    return replace(state, engine=engine, tree=tree), (said, *named, *read)


def _engine_down(state: State, now: float, reason: str) -> Step:
    """Story 11: nothing is torn down under a live mount. What was wanted stays as it was, and no change begins."""
    engine = replace(state.engine, up=False, members=None, quorate=False, ring=None, reason=reason)
    wishes = tuple(w for w in state.wishes if w.signal)
    state, actions = ending.tell(replace(state, engine=engine, wishes=wishes), now, ending.Cue.ENGINE_GONE)
    return state, (log(Event.ENGINE_DOWN, "warning", cause=reason), *actions)


def _configured(state: State, event: Configured) -> Step:
    nodes, notes = event.nodes, _notes(state, event)
    said = (
        log(Event.CONFIGURED, nodes=[n.name for n in nodes]),
        *_name_unfit(state, nodes),
        *_name_notes(state, notes),
    )
    old = {w.number: w for w in state.wanted}
    state = replace(state, engine=replace(state.engine, configured=nodes, notes=notes))
    state, actions = _want(state)
    # The engine's configuration gave B another address while B lives: its kernel still has the old one.
    moved = {w.number for w in state.wanted if w.number in old and w.key != old[w.number].key}
    return replace(state, readdressed=state.readdressed | moved), (*said, *actions)


def _members(state: State, event: Members) -> Step:
    said = log(
        Event.MEMBERS,
        ring=str(event.ring),
        quorate=event.quorate,
        members=list(event.members),
        joined=list(event.joined),
        left=list(event.left),
    )
    if not state.engine.up:
        return state, (said, log(Event.SURPRISE, "warning", state="engine down", cause="a membership"))
    engine = replace(state.engine, members=event.members, quorate=event.quorate, ring=event.ring)
    # Who left has ended its life, also when it is in members again: what comes back is new, and may be elsewhere.
    state = replace(state, engine=engine, readdressed=state.readdressed - {*event.left})
    state, actions = _want(state)
    return state, (said, *actions)


def _want(state: State) -> Step:
    e = state.engine
    if e.members is None:
        return state, ()
    wanted = wanted_nodes(state.driver, state.port, e.configured, e.members, e.local)
    old, new = {w.number: w for w in state.wanted}, {w.number: w for w in wanted}
    gone = [log(Event.NODE_UNWANTED, number=n) for n in sorted(old.keys() - new.keys())]
    come = [
        log(Event.NODE_WANTED, number=w.number, name=w.name, address=w.address, port=w.port)
        for w in wanted
        if old.get(w.number) != w
    ]
    return replace(state, wanted=wanted, readdressed=frozenset(state.readdressed & new.keys())), (*gone, *come)


def _name_unfit(state: State, nodes: tuple[ConfiguredNode, ...]) -> tuple[Action, ...]:
    known = {*unfit(state.engine.configured, state.port)}
    return tuple(
        log(Event.NODE_UNFIT, "warning", number=u.number, name=u.name, cause=u.why)
        for u in unfit(nodes, state.port)
        if u not in known
    )


def _notes(state: State, event: EngineUp | Configured) -> tuple[str, ...]:
    return (*event.notes, *advice(len(event.nodes), state.fencing, two_node=event.two_node))


def _name_notes(state: State, notes: tuple[str, ...]) -> tuple[Action, ...]:
    """Once, and again when another stands in its place."""
    return tuple(log(Event.NOTE, "warning", cause=n) for n in notes if n not in state.engine.notes)


def _still_readdressed(state: State) -> frozenset[int]:
    difference = state.difference()
    return frozenset(n for n in state.readdressed if not isinstance(difference.need(n), Nothing))


def _tick(state: State, now: float) -> Step:
    state = replace(state, alarm=None)
    actions: tuple[Action, ...] = ()
    for part in (changes.look, ending.due, cluster.due):
        state, more = part(state, now)
        actions += more
    return state, actions


def _readiness(state: State, _: float) -> Step:
    reason = unready(state, state.difference())
    if (reason == "") == state.ready and reason == state.unready:
        return state, ()
    flips = (reason == "") != state.ready
    after = replace(state, ready=reason == "", unready=reason)
    if after.ready:
        queued = len(after.slots)
        but = f", but for {queued} queued and named" if queued else ""
        return after, (Ready(), log(Event.READY, cause=f"the node tree is as the cluster engine says{but}"))
    return after, (NotReady(reason), log(Event.NOT_READY, "info" if flips else "debug", cause=reason))


def waiting(state: State) -> dict[str, str]:
    """All that waits: what, and why."""
    found: dict[str, str] = {}
    if (back := standing_back(state)) and state.ending is not Ending.CLOSING:
        found["the node tree"] = back
    difference = state.difference()
    for number in difference.differing():
        need = difference.need(number)
        found[what(state, number, need)] = why(state, number, need)
    for r in state.requests:
        because = r.reason if r.phase is Lock.QUEUED else "its grant is being sent"
        found[f"lock of {shown(r.identity.name)} for request {r.request} of connection {r.connection}"] = because
    if state.ending not in {Ending.RUNNING, Ending.PROMISED}:
        found["end of this daemon"] = state.ending.value
    return found


def _name_waits(state: State, now: float) -> Step:
    """Law 17: what waits longer than five seconds is named, once for each reason."""
    known = {w.what: w for w in state.waits}
    waits: list[Wait] = []
    said: list[Action] = []
    for thing, reason in waiting(state).items():
        wait = known.get(thing) or Wait(thing, now, reason, now)
        if wait.reason != reason:
            wait = replace(wait, reason=reason, changed=now)
        if wait.named != reason and now >= _named_at(wait, state.patience):
            seconds = round(now - wait.since, 1)
            said.append(log(Event.WAITING, "warning", what=thing, seconds=seconds, cause=reason))
            wait = replace(wait, named=reason)
        waits.append(wait)
    return replace(state, waits=tuple(waits)), tuple(said)


def _named_at(wait: Wait, patience: float) -> float:
    """When a wait is to be named: a new reason of an old wait only after it has stood for a moment."""
    return max(wait.since + patience, wait.changed + SETTLED)


def _alarm(state: State, _: float) -> Step:
    """The next moment at which something is due. While nothing waits there is none."""
    moments = [s.look_at for s in state.slots if s.phase in {Node.PINNED, Node.REFUSED}]
    moments += [r.again_at for r in state.requests if r.phase is Lock.QUEUED and r.errno]
    moments += [_named_at(w, state.patience) for w in state.waits if w.named != w.reason]
    moments += ending.alarms(state) + cluster.alarms(state)
    alarm = min(moments, default=None)
    if alarm == state.alarm:
        return state, ()
    return replace(state, alarm=alarm), (WakeAt(alarm),)
