"""Whether and how this daemon ends (law 15, story 12).

A signal and the engine's question are one wish. It is granted only after the service lock was taken exclusively and,
under it, nothing was found that needs us. The order matters:

    ocfs2_controld on A was killed a moment ago: nobody holds the service lock, and A1B2 is still mounted. The look
    finds it. Or it was just started, for a mount: it holds the lock before it makes its first link. The lock is busy.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from errno import ENOENT
from typing import TypeAlias

from libo2cb.events import Event, log
from libo2cb.machine import Move, Table
from libo2cb.wording import errno_words, shown
from o2cb_controld.actions import (
    Action,
    AnswerShutdown,
    ClaimService,
    Exit,
    LookForUse,
    ReleaseService,
    RemoveCluster,
)
from o2cb_controld.reasons import of_cause
from o2cb_controld.state import IN_FLIGHT, Ending, State, Step, Tree, Wish
from protocol.frozen import replace

LONGEST = 20.0
"""Seconds: a node that cannot be removed for so long makes us stay, with the reason (law 18)."""
PROMISE = 10.0
"""Seconds: the engine stops within this after a yes, or somebody else said no."""
TRY_AGAIN = 1.0
"""Seconds between two tries to remove the cluster."""


class Cue(Enum):
    """What the ending can be told."""

    WISH = "somebody asks us to end"
    TAKEN = "the service lock is held"
    BUSY = "ocfs2_controld holds the service lock"
    NEEDED = "something needs us"
    FREE = "nothing needs us"
    EMPTY = "no node stands any more"
    REMOVED = "the cluster is gone"
    REFUSED = "the cluster cannot be removed"
    AGAIN = "try again to remove it"
    LATE = "it takes too long"
    ENGINE_GONE = "the engine went away"


@dataclass(frozen=True, slots=True)
class Turn:
    """One decision."""

    state: State
    now: float
    cue: Cue
    reason: str = ""
    errno: int = 0


Rule: TypeAlias = Callable[[Turn], Step]
Moves: TypeAlias = dict[tuple[Ending, Cue], Move[Ending, Rule]]


def _claim(t: Turn) -> Step:
    """Nobody may begin to need us while we look."""
    return replace(t.state, ending=Ending.CLAIMING), (ClaimService(),)


def _look(t: Turn) -> Step:
    """The lock is ours: look for whom needs us."""
    known = t.state.engine.cluster if t.state.tree is not Tree.UNREAD else None
    return replace(t.state, ending=Ending.INSPECTING), (LookForUse(known),)


def _wait(t: Turn) -> Step:
    """The wish is noted; the answer to the first one is its answer too."""
    return t.state, ()


def _busy(t: Turn) -> Step:
    """A group lives or joins."""
    return _stay_here(t, ())


def _needed(t: Turn) -> Step:
    """Links, regions or mounts stand, even if nobody holds the lock."""
    return _stay_here(t, (ReleaseService(),))


def _free(t: Turn) -> Step:
    """Nobody needs us: the engine may stop; on a signal the nodes go, too."""
    s = t.state
    answers = _yes(s.wishes)
    if not any(w.signal for w in s.wishes):
        return replace(s, ending=Ending.PROMISED, wishes=(), give_up_at=t.now + PROMISE), answers
    if s.tree is not Tree.STANDS:
        # Whose the tree is that may stand, is not known: it is left as it is.
        return _end(replace(t, state=replace(s, wishes=())), answers)
    signals = tuple(w for w in s.wishes if w.signal)
    return replace(s, ending=Ending.EMPTYING, wishes=signals, give_up_at=t.now + LONGEST), answers


def _agree(t: Turn) -> Step:
    """We end already: the engine may stop."""
    s = t.state
    return replace(s, wishes=tuple(w for w in s.wishes if w.signal)), _yes(s.wishes)


def _close(t: Turn) -> Step:
    """All nodes are gone, the local one last: the cluster goes."""
    return replace(t.state, ending=Ending.CLOSING), (RemoveCluster(t.state.engine.cluster),)


def _closed(t: Turn) -> Step:
    """Done."""
    s = replace(t.state, tree=Tree.GONE, errno=0)
    return _end(replace(t, state=s), (log(Event.CLUSTER_REMOVED, cluster=s.engine.cluster),))


def _retry(t: Turn) -> Step:
    """Something stands in it that is not a node: try again until it takes too long."""
    return replace(t.state, errno=t.errno, retry_at=t.now + TRY_AGAIN), ()


def _late(t: Turn) -> Step:
    """Give up, stay, and make again what was removed."""
    s = t.state
    pins = [f"node {shown(s.name_of(x.number))}: {of_cause(x.cause)}" for x in s.slots if x.cause]
    errno = f"the kernel says {errno_words(s.errno)} to the removal of the cluster"
    reason = "; ".join(pins) or (errno if s.errno else "a node could not be removed in time")
    return _stay_here(replace(t, state=replace(s, errno=0), reason=reason), (ReleaseService(),))


def _lift(t: Turn) -> Step:
    """The engine has stopped, or will not: the service lock is free again."""
    return replace(t.state, ending=Ending.RUNNING), (ReleaseService(),)


def _over(t: Turn) -> Step:
    """Exit was said."""
    return t.state, ()


def _stray(t: Turn) -> Step:
    """An answer to what was not asked: counted and logged; a lock that came so is given back."""
    release: tuple[Action, ...] = (ReleaseService(),) if t.cue is Cue.TAKEN else ()
    return t.state, (*release, log(Event.SURPRISE, "error", state=t.state.ending.name, cause=t.cue.name))


def _stay_here(t: Turn, first: tuple[Action, ...]) -> Step:
    """Law 15: no quiet exit. Everybody who asked is told, counted, and nothing is remembered."""
    actions: list[Action] = [*first]
    counts = dict(t.state.totals.refused_signals)
    for wish in t.state.wishes:
        if wish.question is not None:
            actions += _no(wish.question, t.reason)
        else:
            counts[wish.signal] = counts.get(wish.signal, 0) + 1
            actions.append(log(Event.SIGNAL_REFUSED, "warning", signal=wish.signal, cause=t.reason))
    last = t.reason if any(w.signal for w in t.state.wishes) else t.state.totals.last_refusal
    totals = replace(t.state.totals, refused_signals=tuple(sorted(counts.items())), last_refusal=last)
    return replace(t.state, ending=Ending.RUNNING, wishes=(), totals=totals), tuple(actions)


def _end(t: Turn, first: tuple[Action, ...]) -> Step:
    exiting = log(Event.EXITING, cause="asked to end, and nothing needs this daemon")
    return replace(t.state, ending=Ending.ENDED), (*first, exiting, Exit(0))


def _yes(wishes: tuple[Wish, ...]) -> tuple[Action, ...]:
    cause = "nothing here needs the engine"
    actions: list[Action] = []
    for w in wishes:
        if w.question is not None:
            said = log(Event.SHUTDOWN_ANSWERED, question=w.question, allow=True, cause=cause)
            actions += [AnswerShutdown(w.question, True, cause), said]
    return tuple(actions)


def _no(question: int, reason: str) -> tuple[Action, ...]:
    said = log(Event.SHUTDOWN_ANSWERED, "warning", question=question, allow=False, cause=reason)
    return AnswerShutdown(question, False, reason), said


def _table() -> Table[Ending, Cue, Rule]:
    e, c = Ending, Cue
    moves: Moves = {(s, q): Move(_stray, (s,)) for s in e for q in c}
    moves |= {(s, q): Move(_wait, (s,)) for s in e for q in (c.LATE, c.AGAIN, c.ENGINE_GONE, c.EMPTY)}
    moves |= {(e.ENDED, q): Move(_over, (e.ENDED,)) for q in c}
    moves |= {
        (e.RUNNING, c.WISH): Move(_claim, (e.CLAIMING,)),
        (e.CLAIMING, c.WISH): Move(_wait, (e.CLAIMING,)),
        (e.CLAIMING, c.TAKEN): Move(_look, (e.INSPECTING,)),
        (e.CLAIMING, c.BUSY): Move(_busy, (e.RUNNING,)),
        (e.INSPECTING, c.WISH): Move(_wait, (e.INSPECTING,)),
        (e.INSPECTING, c.NEEDED): Move(_needed, (e.RUNNING,)),
        (e.INSPECTING, c.FREE): Move(_free, (e.PROMISED, e.EMPTYING, e.ENDED)),
        (e.PROMISED, c.WISH): Move(_look, (e.INSPECTING,)),
        (e.PROMISED, c.LATE): Move(_lift, (e.RUNNING,)),
        (e.PROMISED, c.ENGINE_GONE): Move(_lift, (e.RUNNING,)),
        (e.EMPTYING, c.WISH): Move(_agree, (e.EMPTYING,)),
        (e.EMPTYING, c.EMPTY): Move(_close, (e.CLOSING,)),
        (e.EMPTYING, c.LATE): Move(_late, (e.RUNNING,)),
        (e.CLOSING, c.WISH): Move(_agree, (e.CLOSING,)),
        (e.CLOSING, c.REMOVED): Move(_closed, (e.ENDED,)),
        (e.CLOSING, c.REFUSED): Move(_retry, (e.CLOSING,)),
        (e.CLOSING, c.AGAIN): Move(_close, (e.CLOSING,)),
        (e.CLOSING, c.LATE): Move(_late, (e.RUNNING,)),
    }
    return Table("The end of o2cb_controld", Ending, Cue, moves)


ENDING: Table[Ending, Cue, Rule] = _table()


def tell(state: State, now: float, cue: Cue, reason: str = "", errno: int = 0) -> Step:
    """Run the machine."""
    return ENDING[state.ending, cue].rule(Turn(state, now, cue, reason, errno))


def wish(state: State, now: float, wish: Wish) -> Step:
    """A signal, or the engine's question. The same said again, before it was answered, is one wish."""
    wishes = state.wishes if wish in state.wishes else (*state.wishes, wish)
    return tell(replace(state, wishes=wishes), now, Cue.WISH)


def found(state: State, now: float, uses: tuple[str, ...]) -> Step:
    """What LookForUse has found."""
    if uses:
        return tell(state, now, Cue.NEEDED, "; ".join(uses))
    return tell(state, now, Cue.FREE)


def cluster_refused(state: State, now: float, errno: int) -> Step:
    """The cluster cannot be removed; that it is gone already is as good."""
    return tell(state, now, Cue.REMOVED if errno == ENOENT else Cue.REFUSED, errno=errno)


def advance(state: State, now: float) -> Step:
    """What follows from the state alone: the last node is gone."""
    if state.ending is Ending.EMPTYING and not state.standing and not any(s.phase in IN_FLIGHT for s in state.slots):
        return tell(state, now, Cue.EMPTY)
    return state, ()


def due(state: State, now: float) -> Step:
    """What follows from the time alone."""
    if state.ending in {Ending.PROMISED, Ending.EMPTYING, Ending.CLOSING} and state.give_up_at <= now:
        return tell(state, now, Cue.LATE)
    if state.ending is Ending.CLOSING and state.errno and state.retry_at <= now:
        return tell(replace(state, errno=0), now, Cue.AGAIN)
    return state, ()


def alarms(state: State) -> list[float]:
    """When `due` has something to do."""
    moments = [state.give_up_at] if state.ending in {Ending.PROMISED, Ending.EMPTYING, Ending.CLOSING} else []
    return moments + ([state.retry_at] if state.ending is Ending.CLOSING and state.errno else [])
