"""The life of one number's change: lock it, list its links under the lock, change it, unlock.

A node is changed only while LOCK_EX is held on its file, and only after the links to it were listed under that lock and
none was found:

    A link that stood before ocfs2_controld was restarted has no lock behind it, so the lock alone would not do. A link
    that is about to be made has a lock but is not listed yet, so the list alone would not do.

Each decision asks anew what is needed: node B may be wanted again between any two of these steps, and again with
another address.

With the classic driver nothing links, and the kernels alone say who is alive, by heartbeat on disk. Then the list under
the lock is of the regions in which the node beats, and it pins in the same way:

    C is taken out of the configuration while it has F mounted; the network between A and C is cut as well. A's kernel
    has closed its connection to C, so its rmdir would be allowed, and A would forget a node that writes to F. A's own
    heartbeat thread still reads C's beats from F: the change waits until C has unmounted, or is silent.

A configured node with a new address is the same: its old identity has left the configuration, and goes once the kernel
holds it for dead.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from errno import EBUSY
from typing import TypeAlias

from libo2cb.events import Event, log
from libo2cb.kernel.port import StandingNode
from libo2cb.machine import Move, Table
from libo2cb.wording import errno_words
from o2cb_controld.actions import Action, ListLinks, MakeNode, ReadKernel, RemoveNode, Say, TryLock, Unlock
from o2cb_controld.events import Answer, LinksListed, LockBusy, LockTaken, Made, Refused, Removed
from o2cb_controld.reasons import of_cause, what, why
from o2cb_controld.state import IN_FLIGHT, Cause, Node, Pin, Slot, State, Step
from o2cb_controld.topology import ORPHANS, Held, Make, Need, Nothing, Remove
from protocol.frozen import replace
from protocol.ordering import Waiting

LOOK_AGAIN = 1.0
"""Seconds: what a lost hint costs at most."""
LONGEST_PAUSE = 5.0
"""Seconds: the pauses after refusals of the kernel grow up to this."""


class Cue(Enum):
    """What a number's machine can be told."""

    AGREES = "wanted and standing agree"
    DIFFERS = "they differ, and the change may be tried"
    BARS = "they differ, and the change may not be tried"
    LOOK = "the pause is over, or the lock was given up"
    TAKEN = "exclusive lock taken"
    BUSY = "exclusive lock not to be had"
    FREE = "no link to it"
    LINKED = "links to it"
    REMOVED = "rmdir done"
    MADE = "mkdir done"
    FAILED = "refused"


@dataclass(frozen=True, slots=True)
class Turn:
    """One decision: the number, its slot as it is, and what it needs now."""

    state: State
    now: float
    slot: Slot
    need: Need
    cue: Cue
    regions: tuple[str, ...] = ()
    errno: int = 0
    blind: bool = False


Outcome: TypeAlias = tuple[Slot | None, tuple[Action, ...]]
Rule: TypeAlias = Callable[[Turn], Outcome]
Moves: TypeAlias = dict[tuple[Node, Cue], Move[Node, Rule]]


def _rest(_: Turn) -> Outcome:
    """Nothing to do, and nothing to keep."""
    return None, ()


def _stay(t: Turn) -> Outcome:
    """As it is."""
    return t.slot, ()


def _lock(t: Turn) -> Outcome:
    """Try for the exclusive lock."""
    return replace(t.slot, phase=Node.LOCKING), (TryLock(t.slot.number),)


def _bar(t: Turn) -> Outcome:
    """Not yet: the engine is away, or another node holds the name or the address."""
    slot = replace(t.slot, phase=Node.BARRED, cause=None)
    if not isinstance(t.need, Held) or not t.state.acting:
        return slot, ()
    reason = f"{what(t.state, slot.number, t.need)} waits: {why(t.state, slot.number, t.need)}"
    if reason == slot.told:
        return slot, ()
    queued = log(Event.CHANGE_QUEUED, number=slot.number, name=t.need.identity.name, links=[], cause=reason)
    return replace(slot, told=reason), (queued,)


def _cancel(t: Turn) -> Outcome:
    """The engine wants again what stands."""
    if t.slot.cause is None and not t.slot.told:
        return None, ()
    return None, (log(Event.CHANGE_CANCELLED, number=t.slot.number),)


def _release(t: Turn) -> Outcome:
    if isinstance(t.need, Nothing):
        return None, (Unlock(t.slot.number), log(Event.CHANGE_CANCELLED, number=t.slot.number))
    return replace(t.slot, phase=Node.BARRED, cause=None), (Unlock(t.slot.number),)


def _list(t: Turn) -> Outcome:
    """List the links under the lock; or unlock, when there is nothing to change any more."""
    name = _directory(t.need)
    if name is None or not t.state.acting:
        return _release(t)
    return replace(t.slot, phase=Node.LOOKING, target=name), (ListLinks(t.slot.number, name),)


def _change(t: Turn) -> Outcome:
    """No link: change, if the directory that was looked at is still the one to change."""
    if _directory(t.need) != t.slot.target or not t.state.acting:
        return _list(t)
    match t.need:
        case Remove(name):
            return replace(t.slot, phase=Node.REMOVING), (RemoveNode(t.slot.number, name),)
        case Make(identity):
            local = identity.number == t.state.engine.local
            return replace(t.slot, phase=Node.MAKING), (MakeNode(identity, local),)
        case _:
            return _list(t)


def _made_room(t: Turn) -> Outcome:
    """Make the node again in the same breath, if it is wanted; nobody can have linked it under our lock."""
    t = replace(t, slot=replace(t.slot, cause=None, pause=0.0))
    return _change(t) if isinstance(t.need, Make) else _done(t)


def _done(t: Turn) -> Outcome:
    """The change is made: unlock. If something else is wanted by now, begin again with the list."""
    if isinstance(t.need, Nothing):
        return None, (Unlock(t.slot.number),)
    return _list(t)


def _pin(t: Turn) -> Outcome:
    """Wait for the lock or the links, and say so once."""
    cause = Cause(_kind(t), t.regions) if t.cue is Cue.LINKED else Cause(Pin.LOCK)
    unlock: tuple[Action, ...] = (Unlock(t.slot.number),) if t.cue is Cue.LINKED else ()
    if isinstance(t.need, Nothing):
        return None, (*unlock, log(Event.CHANGE_CANCELLED, number=t.slot.number))
    slot = replace(t.slot, phase=Node.PINNED, cause=cause, look_at=t.now + LOOK_AGAIN)
    said: list[Action] = []
    if cause != t.slot.cause:
        said.append(_queued(t, cause))
    reason = f"{what(t.state, t.slot.number, t.need)} waits: {of_cause(cause)}"
    if t.slot.number != ORPHANS and reason != t.slot.told:
        said.extend(Say(c, Waiting(t.slot.number, reason)) for c in sorted(t.state.peers))
        slot = replace(slot, told=reason)
    return slot, (*unlock, *said)


def _kind(t: Turn) -> Pin:
    if t.state.driver != "classic":
        return Pin.LINK
    return Pin.BLIND if t.blind else Pin.BEAT


def _refused(t: Turn) -> Outcome:
    """The kernel said no. That is an answer: look again later, with growing pauses."""
    unlock: tuple[Action, ...] = () if t.slot.phase is Node.LOCKING else (Unlock(t.slot.number),)
    cause = Cause(Pin.KERNEL, errno=t.errno)
    pause = min(t.slot.pause * 2 or LOOK_AGAIN, LONGEST_PAUSE)
    slot = replace(t.slot, phase=Node.REFUSED, cause=cause, pause=pause, look_at=t.now + pause)
    said: tuple[Action, ...] = ()
    if cause != t.slot.cause:
        name = t.slot.target or t.state.name_of(t.slot.number)
        words = errno_words(t.errno)
        refusal = log(Event.NODE_REFUSED, "warning", number=t.slot.number, name=name, errno=t.errno, cause=words)
        said = (refusal, _queued(t, cause))
    # Anything but EBUSY says that the tree is not what we took it for.
    read: tuple[Action, ...] = () if t.errno == EBUSY else (ReadKernel(t.state.engine.cluster),)
    return slot, (*unlock, *said, *read)


def _stray(t: Turn) -> Outcome:
    """An answer that nobody waits for: counted and logged. A lock that came so is given back."""
    surprise = log(Event.SURPRISE, "error", state=t.slot.phase.name, cause=f"{t.cue.name} of number {t.slot.number}")
    unlock: tuple[Action, ...] = (Unlock(t.slot.number),) if t.cue is Cue.TAKEN else ()
    return (None if t.slot.phase in _AT_REST else t.slot), (*unlock, surprise)


def _queued(t: Turn, cause: Cause) -> Action:
    return log(
        Event.CHANGE_QUEUED,
        number=t.slot.number,
        name=t.slot.target or t.state.name_of(t.slot.number),
        links=list(cause.regions),
        cause=f"{what(t.state, t.slot.number, t.need)} waits: {of_cause(cause)}",
    )


def _directory(need: Need) -> str | None:
    match need:
        case Remove(name):
            return name
        case Make(identity):
            return identity.name
        case _:
            return None


_AT_REST = (Node.ABSENT, Node.RIGHT)
_WISHES = (Cue.AGREES, Cue.DIFFERS, Cue.BARS, Cue.LOOK)


def _table() -> Table[Node, Cue, Rule]:
    moves: Moves = {(s, c): Move(_stray, (s,)) for s in Node for c in Cue}
    for s in _AT_REST:
        moves |= {
            (s, Cue.AGREES): Move(_rest, (s,)),
            (s, Cue.LOOK): Move(_rest, (s,)),
            (s, Cue.DIFFERS): Move(_lock, (Node.LOCKING,)),
            (s, Cue.BARS): Move(_bar, (Node.BARRED,)),
        }
    for s in (Node.BARRED, Node.PINNED, Node.REFUSED):
        again = s is Node.BARRED
        moves |= {
            (s, Cue.AGREES): Move(_cancel, _AT_REST),
            (s, Cue.BARS): Move(_bar, (Node.BARRED,)),
            # PINNED and REFUSED wait for LOOK: an event about something else is no reason to ask the kernel again.
            (s, Cue.DIFFERS): Move(_lock, (Node.LOCKING,)) if again else Move(_stay, (s,)),
            (s, Cue.LOOK): Move(_stay, (s,)) if again else Move(_lock, (Node.LOCKING,)),
        }
    for s in IN_FLIGHT:
        moves |= {(s, c): Move(_stay, (s,)) for c in _WISHES}
        moves[s, Cue.FAILED] = Move(_refused, (Node.REFUSED,))
    free = (*_AT_REST, Node.BARRED)
    moves |= {
        (Node.LOCKING, Cue.TAKEN): Move(_list, (Node.LOOKING, *free)),
        (Node.LOCKING, Cue.BUSY): Move(_pin, (Node.PINNED, *_AT_REST)),
        (Node.LOOKING, Cue.FREE): Move(_change, (Node.REMOVING, Node.MAKING, Node.LOOKING, *free)),
        (Node.LOOKING, Cue.LINKED): Move(_pin, (Node.PINNED, *_AT_REST)),
        (Node.REMOVING, Cue.REMOVED): Move(_made_room, (Node.MAKING, Node.LOOKING, *free)),
        (Node.MAKING, Cue.MADE): Move(_done, (Node.LOOKING, *free)),
    }
    return Table("One number's change", Node, Cue, moves)


NODE: Table[Node, Cue, Rule] = _table()


def tell(
    state: State,
    now: float,
    number: int,
    cue: Cue,
    *,
    regions: tuple[str, ...] = (),
    errno: int = 0,
    blind: bool = False,
) -> Step:
    """Run one number's machine."""
    difference = state.difference()
    slot = state.slot(number)
    if slot is None:
        slot = Slot(number, Node.ABSENT if difference.holder(number) is None else Node.RIGHT)
    turn = Turn(state, now, slot, difference.need(number), cue, regions, errno, blind)
    after, actions = NODE[slot.phase, cue].rule(turn)
    return (state.without_slot(number) if after is None else state.with_slot(after)), actions


def answered(state: State, now: float, answer: Answer) -> Step:
    """Take in an answer of the shell."""
    match answer:
        case LockTaken(number):
            return tell(state, now, number, Cue.TAKEN)
        case LockBusy(number):
            return tell(state, now, number, Cue.BUSY)
        case LinksListed(number, ()):
            return tell(state, now, number, Cue.FREE)
        case LinksListed(number) if state.driver == "classic" and isinstance(state.difference().need(number), Make):
            # A kernel heeds no beat of a node that it does not have: there is nothing to undo.
            return tell(state, now, number, Cue.FREE)
        case LinksListed(number, regions, blind):
            return tell(state, now, number, Cue.LINKED, regions=tuple(sorted(regions)), blind=blind)
        case Refused(number, errno):
            return tell(state, now, number, Cue.FAILED, errno=errno)
        case Removed(number, name):
            gone = next((s for s in state.standing if s.name == name), StandingNode(name, number, "0.0.0.0", 0, False))  # noqa: S104 (not set)
            left = tuple(s for s in state.standing if s.name != name)
            state, actions = tell(replace(state, standing=left), now, number, Cue.REMOVED)
            said = log(Event.NODE_REMOVED, number=gone.number, name=name, address=gone.address, port=gone.port)
            return state, (said, *actions)
        case Made(number, i, local):
            new = StandingNode(i.name, i.number, i.address, i.port, local)
            standing = tuple(sorted((*(s for s in state.standing if s.name != i.name), new)))
            state, actions = tell(replace(state, standing=standing), now, number, Cue.MADE)
            return state, (log(Event.NODE_MADE, number=number, name=i.name, address=i.address, port=i.port), *actions)


def reconcile(state: State, now: float) -> Step:
    """Hold every number's wish against what stands, and set going what may go."""
    actions: tuple[Action, ...] = ()
    difference = state.difference()
    slots = {s.number: s for s in state.slots}
    for number in sorted({*difference.differing(), *slots}):
        need = difference.need(number)
        slot = slots.get(number)
        if slot is None and (isinstance(need, Nothing) or not state.acting):
            continue
        wish = _wish(state, need)
        if slot is not None and NODE[slot.phase, wish].rule is _stay:
            continue  # the most by far while many nodes change at once
        state, more = tell(state, now, number, wish)
        actions += more
    return state, actions


def look(state: State, now: float) -> Step:
    """Look again at what is due."""
    actions: tuple[Action, ...] = ()
    for slot in state.slots:
        if slot.phase in {Node.PINNED, Node.REFUSED} and slot.look_at <= now:
            state, more = tell(state, now, slot.number, Cue.LOOK)
            actions += more
    return state, actions


def _wish(state: State, need: Need) -> Cue:
    if isinstance(need, Nothing):
        return Cue.AGREES
    return Cue.DIFFERS if state.acting and not isinstance(need, Held) else Cue.BARS
