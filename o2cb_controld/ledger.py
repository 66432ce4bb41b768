"""The lock requests: who asks for which node, and what each is answered.

A lock is granted for exactly one identity of a node: asked, wanted and standing must be one and the same, or A would
link B's new life to B's old address. What was granted is not kept here as a fact to decide by: the kernel's flock knows
it, and outlives both daemons.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from errno import EBUSY, EINVAL, ENOENT, ESHUTDOWN
from typing import TypeAlias

from libo2cb.events import Event, Log, log
from libo2cb.limits import FIRST_NODE, LAST_NODE
from libo2cb.machine import Move, Table
from libo2cb.wording import errno_words, shown
from o2cb_controld.actions import Action, Drop, Grant, Say
from o2cb_controld.events import Asked, Cancelled, GrantSent, GrantUndeliverable
from o2cb_controld.reasons import BEING_CHANGED, standing_back, what, why
from o2cb_controld.state import IN_FLIGHT, Ending, Lock, Pin, Request, State, Step
from o2cb_controld.topology import Difference, why_unfit
from protocol.frozen import replace
from protocol.identity import NodeIdentity
from protocol.ordering import Queued
from protocol.ordering import Refused as LockRefused

MOST_REQUESTS = 4096
"""Unfinished requests that one connection may have; 254 nodes in a handful of joins are far below."""
TRY_AGAIN = 1.0
"""Seconds until a grant that found no descriptor is tried again."""


@dataclass(frozen=True, slots=True)
class Now:
    """The lock may be granted at once."""


@dataclass(frozen=True, slots=True)
class Later:
    """Not yet, and why."""

    reason: str


@dataclass(frozen=True, slots=True)
class Never:
    """It can never be granted, and why."""

    errno: int
    reason: str


Verdict: TypeAlias = Now | Later | Never


def verdict(state: State, difference: Difference, asked: NodeIdentity) -> Verdict:
    """What a request for this identity is answered at this moment."""
    if never := _impossible(state, asked):
        return never
    if not state.acting:
        return Later(standing_back(state))
    number = asked.number
    wanted = difference.wanted.get(number)
    if wanted is None:
        return Later(f"{asked} is not a member of the cluster engine here, or not yet")
    need = difference.need(number)
    slot = state.slot(number)
    if number in state.readdressed and slot is not None and slot.cause and slot.cause.pin is not Pin.KERNEL:
        # B's address was changed by a reload while B lives and is linked: its kernel still talks from the old one, and
        # the change must wait until B has left its filesystems here. A further mount would make it wait for ever.
        return Never(
            EBUSY,
            f"the address of {shown(asked.name)} was changed to {wanted.address}:{wanted.port} while it is in a group"
            " here: unmount its filesystems first, or reset it",
        )
    if wanted.key != asked.key:
        return Later(f"it asks as {asked}, and the cluster engine here says {wanted}")
    if not difference.right(wanted):
        return Later(f"{what(state, number, need)} waits: {why(state, number, need)}")
    if slot is not None and slot.phase in IN_FLIGHT:
        return Later(BEING_CHANGED)
    return Now()


def _impossible(state: State, asked: NodeIdentity) -> Never | None:
    if not FIRST_NODE <= asked.number <= LAST_NODE or why_unfit(asked):
        return Never(EINVAL, why_unfit(asked) or "")
    if state.ending in {Ending.EMPTYING, Ending.CLOSING, Ending.ENDED}:
        return Never(ESHUTDOWN, "o2cb_controld is ending: start it again, then mount")
    if state.driver == "classic":
        return Never(EINVAL, "kernel.driver is classic here: nodes are linked nowhere, and no lock is granted")
    if asked.port != state.port:
        return Never(EINVAL, f"{asked} asks with port {asked.port}, and cluster.port here is {state.port}")
    if state.engine.up and all(c.number != asked.number for c in state.engine.configured):
        cluster = shown(state.engine.cluster)
        return Never(ENOENT, f"cluster {cluster} has no node {asked}: add it to the engine's configuration first")
    return None


class Cue(Enum):
    """What a request can be told."""

    MAY = "it may be granted"
    WAIT = "not yet"
    NEVER = "never"
    CANCEL = "taken back"
    SENT = "the descriptor is in the socket"
    UNSENT = "no descriptor could be had"


@dataclass(frozen=True, slots=True)
class Turn:
    """One decision: the request as it is, and what comes with the cue."""

    now: float
    request: Request
    cue: Cue
    reason: str = ""
    errno: int = 0


Outcome: TypeAlias = tuple[Request | None, tuple[Action, ...]]
Rule: TypeAlias = Callable[[Turn], Outcome]
Moves: TypeAlias = dict[tuple[Lock, Cue], Move[Lock, Rule]]


def _say(t: Turn, event: Event, errno: int | None = None, cause: str | None = None) -> Log:
    i = t.request.identity
    return log(
        event, number=i.number, address=i.address, port=i.port, request=t.request.request, errno=errno, cause=cause
    )


def _grant(t: Turn) -> Outcome:
    """Send the lock."""
    r = t.request
    return replace(r, phase=Lock.GRANTED, errno=0), (Grant(r.connection, r.request, r.identity.number),)


def _queue(t: Turn) -> Outcome:
    """Say why not yet; say it again only when the reason is another."""
    r = t.request
    if r.phase is Lock.QUEUED and r.reason == t.reason:
        return r, ()
    queued = replace(r, phase=Lock.QUEUED, reason=t.reason)
    return queued, (Say(r.connection, Queued(r.request, t.reason)), _say(t, Event.LOCK_QUEUED, cause=t.reason))


def _refuse(t: Turn) -> Outcome:
    """Say why never."""
    r = t.request
    refusal = LockRefused(r.request, t.errno, t.reason)
    return None, (Say(r.connection, refusal), _say(t, Event.LOCK_REFUSED, t.errno, t.reason))


def _forget(t: Turn) -> Outcome:
    """The asker took it back."""
    return None, (_say(t, Event.LOCK_CANCELLED),)


def _over(t: Turn) -> Outcome:
    """Granted, and no more ours."""
    return None, (_say(t, Event.LOCK_GRANTED),)


def _try_later(t: Turn) -> Outcome:
    """No descriptor was to be had: try again in a second."""
    cause = f"no descriptor for it could be had: {errno_words(t.errno)}; tried again each second"
    r = replace(t.request, phase=Lock.QUEUED, reason=cause, errno=t.errno, again_at=t.now + TRY_AGAIN)
    return r, (Say(r.connection, Queued(r.request, cause)), _say(t, Event.LOCK_QUEUED, t.errno, cause))


def _stay(t: Turn) -> Outcome:
    """As it is: the grant on its way holds the node still, so whatever the verdict is by now, it is right."""
    return t.request, ()


def _nothing(_: Turn) -> Outcome:
    """It is over already: CANCEL and the answer crossed."""
    return None, ()


def _stray(t: Turn) -> Outcome:
    """An answer to a grant that was not given: counted and logged."""
    kept = t.request
    return kept, (log(Event.SURPRISE, "error", state=kept.phase.name, cause=f"{t.cue.name} of request {kept.request}"),)


def _table() -> Table[Lock, Cue, Rule]:
    gone = (Lock.GONE,)
    moves: Moves = {(Lock.GONE, c): Move(_nothing, gone) for c in Cue}
    for s in (Lock.ASKED, Lock.QUEUED):
        moves |= {
            (s, Cue.MAY): Move(_grant, (Lock.GRANTED,)),
            (s, Cue.WAIT): Move(_queue, (Lock.QUEUED,)),
            (s, Cue.NEVER): Move(_refuse, gone),
            (s, Cue.CANCEL): Move(_forget, gone),
            (s, Cue.SENT): Move(_stray, (s,)),
            (s, Cue.UNSENT): Move(_stray, (s,)),
        }
    for c in (Cue.MAY, Cue.WAIT, Cue.NEVER):
        moves[Lock.GRANTED, c] = Move(_stay, (Lock.GRANTED,))
    moves |= {
        # Story 14: the grant reaches an asker who no longer knows its request, and closes the descriptor.
        (Lock.GRANTED, Cue.CANCEL): Move(_forget, gone),
        (Lock.GRANTED, Cue.SENT): Move(_over, gone),
        (Lock.GRANTED, Cue.UNSENT): Move(_try_later, (Lock.QUEUED,)),
    }
    return Table("One lock request", Lock, Cue, moves)


REQUEST: Table[Lock, Cue, Rule] = _table()


def ask(state: State, asked: Asked) -> Step:
    """Take a request in; `answer_all` answers it."""
    of_peer = [r for r in state.requests if r.connection == asked.connection]
    if any(r.request == asked.request for r in of_peer):
        return _violated(state, asked.connection, f"LOCK {asked.request} while that request is not answered yet")
    if len(of_peer) >= MOST_REQUESTS:
        return _violated(state, asked.connection, f"more than {MOST_REQUESTS} unanswered LOCKs")
    request = Request(asked.connection, asked.request, asked.identity)
    state = replace(state, requests=(*state.requests, request), peers=state.peers | {asked.connection})
    return state, (_say(Turn(0.0, request, Cue.WAIT), Event.LOCK_ASKED),)


def tell(state: State, now: float, event: Cancelled | GrantSent | GrantUndeliverable) -> Step:
    """Tell a request what has become of it."""
    found = next((r for r in state.requests if (r.connection, r.request) == (event.connection, event.request)), None)
    if found is None:
        return state, ()
    match event:
        case Cancelled():
            turn = Turn(now, found, Cue.CANCEL)
        case GrantSent():
            granted = state.granted | {(found.connection, found.identity.number)}
            state, turn = replace(state, granted=granted), Turn(now, found, Cue.SENT)
        case GrantUndeliverable(errno=errno):
            turn = Turn(now, found, Cue.UNSENT, errno=errno)
    return _run(state, (turn,))


def answer_all(state: State, now: float) -> Step:
    """Hold every unfinished request against the present, in the order of asking."""
    if not state.requests:
        return state, ()
    difference = state.difference()
    return _run(state, [_turn(state, difference, now, r) for r in state.requests if r.phase is not Lock.GRANTED])


def forget(state: State, connection: int) -> State:
    """The connection is gone; so are its requests, and whatever it held was closed by the kernel."""
    return replace(
        state,
        requests=tuple(r for r in state.requests if r.connection != connection),
        peers=state.peers - {connection},
        granted=frozenset(g for g in state.granted if g[0] != connection),
    )


def _turn(state: State, difference: Difference, now: float, request: Request) -> Turn:
    match verdict(state, difference, request.identity):
        case Never(errno, reason):
            return Turn(now, request, Cue.NEVER, reason, errno)
        case Later(reason):
            slot = state.slot(request.identity.number)
            if request.phase is Lock.QUEUED and slot is not None and slot.phase in IN_FLIGHT:
                reason = request.reason  # it is being looked at: the answer to that is the next reason
            return Turn(now, request, Cue.WAIT, reason)
        case Now():
            if request.errno and request.again_at > now:
                return Turn(now, request, Cue.WAIT, request.reason)
            return Turn(now, request, Cue.MAY)


def _run(state: State, turns: Iterable[Turn]) -> Step:
    after: dict[tuple[int, int], Request | None] = {}
    actions: list[Action] = []
    for turn in turns:
        request, more = REQUEST[turn.request.phase, turn.cue].rule(turn)
        after[turn.request.connection, turn.request.request] = request
        actions += more
    kept = (after.get((r.connection, r.request), r) for r in state.requests)
    return replace(state, requests=tuple(r for r in kept if r is not None)), tuple(actions)


def _violated(state: State, connection: int, cause: str) -> Step:
    totals = replace(state.totals, violations=state.totals.violations + 1)
    said = log(Event.VIOLATION, "warning", peer=f"connection {connection}", cause=cause)
    return replace(state, totals=totals), (said, Drop(connection, cause))
