"""Fencing: which lost lives are made sure to be off, by whom, and when. Pure.

That a life is fenced is a replicated fact, and that its fence is begun is another. One node acts, the lowest number in
the quorate channel: it says to all that it begins, and has the device act when it has heard that itself, if it is still
needed then. So nobody begins a second time while the first is at work, also when there is a new lowest; and a life that
is being fenced does not go on when the network is healed meanwhile. When the one that acts is lost its successor begins
anew, and a device that finds the node off already says so at once. Only a verified answer of the device, an operator's
word, or a newer life of the node counts (law 11).
"""

from collections.abc import Callable
from enum import Enum, auto
from typing import TypeAlias

from libo2cb.events import Event, log
from libo2cb.machine import Move, Table
from ocfs2_controld.actions import RunFence
from ocfs2_controld.events import FenceDone
from ocfs2_controld.explain import named
from ocfs2_controld.state import Fence, FencePhase, FencingKind, State, Turn
from ocfs2_controld.table import needs_fence
from protocol.frozen import replace
from protocol.group import NOBODY, FenceBegun, Fenced, FenceFailed
from protocol.identity import Life


class Prod(Enum):
    """What moves a fencing on."""

    DUE = auto()  # its time has come, and this node acts
    HEARD = auto()  # this node has heard its own word that it begins
    TAKEN = auto()  # another node acts
    OFF = auto()  # the device says: verified off
    FAILURE = auto()  # the device could not
    NEEDLESS = auto()  # nobody asks for it any more


class Act:
    """What a rule works on."""

    __slots__ = ("life", "text", "turn")

    def __init__(self, turn: Turn, life: Life, text: str = "") -> None:
        self.turn = turn
        self.life = life
        self.text = text

    @property
    def fence(self) -> Fence:
        """The fencing as it stands now."""
        return self.turn.state.fences[self.life]

    def put(self, **changes: object) -> None:
        """Change fields of it."""
        changed = replace(self.fence, **changes)  # type: ignore[arg-type]  # fields of Fence
        self.turn.put(fences=self.turn.state.fences.put(self.life, changed))


def _announce(a: Act) -> None:
    t, life = a.turn, a.life
    kind = t.state.settings.fencing
    if kind is FencingKind.COMMAND:
        a.put(phase=FencePhase.ANNOUNCED)
        t.say(FenceBegun(life, t.state.member))
    elif kind is FencingKind.NONE:
        attempt = a.fence.attempts + 1
        t.do(log(Event.FENCE_BEGUN, "warning", life=str(life), attempt=attempt))
        a.put(phase=FencePhase.DONE, attempts=attempt, text="assumed: fencing is none, which is unsafe")


def _begin(a: Act) -> None:
    t, life = a.turn, a.life
    attempt = a.fence.attempts + 1
    t.do(log(Event.FENCE_BEGUN, "warning", life=str(life), attempt=attempt))
    node = t.state.engine.known(life.node)
    a.put(phase=FencePhase.RUNNING, attempts=attempt)
    t.do(RunFence(life, named(t.state, life), node.address if node is not None else ""))


def _off(a: Act) -> None:
    a.put(phase=FencePhase.DONE, text=a.text)


def _retry(a: Act) -> None:
    settings = a.turn.state.settings
    pause = min(settings.fence_retry_most, settings.fence_retry_seconds * 2 ** (a.fence.attempts - 1))
    a.turn.do(
        log(
            Event.FENCE_FAILED,
            "error",
            life=str(a.life),
            attempt=a.fence.attempts,
            cause=a.text,
            retry=pause,
        )
    )
    a.put(phase=FencePhase.FAILED, text=a.text, due=a.turn.now + pause)


def _drop(a: Act) -> None:
    a.turn.put(fences=a.turn.state.fences.without(a.life))


def _keep(_a: Act) -> None:
    """A device that acts cannot be called back; its answer is heard out."""


def _nothing(_a: Act) -> None:
    """It is under way, or done."""


Rule: TypeAlias = Callable[[Act], None]
_P, _D = FencePhase, Prod
FENCING: Table[FencePhase, Prod, Rule] = Table(
    "The fencing of a lost life, on the node that acts",
    FencePhase,
    Prod,
    {
        (_P.WAITING, _D.DUE): Move(_announce, (_P.ANNOUNCED, _P.DONE)),
        (_P.WAITING, _D.HEARD): Move(_nothing, ()),
        (_P.WAITING, _D.TAKEN): Move(_drop, ()),
        (_P.WAITING, _D.OFF): Move(_off, (_P.DONE,)),
        (_P.WAITING, _D.FAILURE): Move(_nothing, ()),
        (_P.WAITING, _D.NEEDLESS): Move(_drop, ()),
        (_P.ANNOUNCED, _D.DUE): Move(_announce, ()),
        (_P.ANNOUNCED, _D.HEARD): Move(_begin, (_P.RUNNING,)),
        (_P.ANNOUNCED, _D.TAKEN): Move(_drop, ()),
        (_P.ANNOUNCED, _D.OFF): Move(_off, (_P.DONE,)),
        (_P.ANNOUNCED, _D.FAILURE): Move(_nothing, ()),
        (_P.ANNOUNCED, _D.NEEDLESS): Move(_drop, ()),
        (_P.RUNNING, _D.DUE): Move(_nothing, ()),
        (_P.RUNNING, _D.HEARD): Move(_nothing, ()),
        (_P.RUNNING, _D.TAKEN): Move(_keep, ()),
        (_P.RUNNING, _D.OFF): Move(_off, (_P.DONE,)),
        (_P.RUNNING, _D.FAILURE): Move(_retry, (_P.FAILED,)),
        (_P.RUNNING, _D.NEEDLESS): Move(_keep, ()),
        (_P.FAILED, _D.DUE): Move(_announce, (_P.ANNOUNCED,)),
        (_P.FAILED, _D.HEARD): Move(_nothing, ()),
        (_P.FAILED, _D.TAKEN): Move(_drop, ()),
        (_P.FAILED, _D.OFF): Move(_off, (_P.DONE,)),
        (_P.FAILED, _D.FAILURE): Move(_nothing, ()),
        (_P.FAILED, _D.NEEDLESS): Move(_drop, ()),
        (_P.DONE, _D.DUE): Move(_nothing, ()),
        (_P.DONE, _D.HEARD): Move(_nothing, ()),
        (_P.DONE, _D.TAKEN): Move(_nothing, ()),
        (_P.DONE, _D.OFF): Move(_nothing, ()),
        (_P.DONE, _D.FAILURE): Move(_nothing, ()),
        (_P.DONE, _D.NEEDLESS): Move(_drop, ()),
    },
)


def _prod(t: Turn, life: Life, prod: Prod, text: str = "") -> None:
    FENCING[t.state.fences[life].phase, prod].rule(Act(t, life, text))


def answered(t: Turn, event: FenceDone) -> None:
    """The device's answer. It acted on the node, so it speaks for each life that was being fenced there."""
    for life, fence in t.state.fences.items():
        if life.node == event.number and fence.phase is FencePhase.RUNNING:
            _prod(t, life, Prod.OFF if event.ok else Prod.FAILURE, event.text)
    settle(t)


def due_at(state: State, life: Life, now: float) -> float:
    """When this life may be fenced at the earliest.

    A device acts on a node, not on a life. B dies and boots again; its new life is in the engine, and its daemon is
    about to say that the old one is over. To power B off now would kill the wrong life: such a node is given the grace
    time from its appearance. An unknown life is given the join delay: the node may only be slow to come up.
    """
    due = now
    if life.node in state.engine.members and life.node not in state.present:
        due = max(due, state.engine.appeared.get(life.node, now) + state.settings.grace_seconds)
    if life.unknown and state.engine.quorate_since is not None:
        due = max(due, state.engine.quorate_since + state.settings.join_delay_seconds)
    return due


def settle(t: Turn) -> None:
    """Begin what this node has to fence, say what is proven, drop what nobody asks for."""
    state = t.state
    asked = needs_fence(state.table) if state.table is not None else ()
    if not asked and not state.fences:
        return
    for life, fence in state.fences.items():
        if life not in asked and (state.complete or fence.phase is FencePhase.RUNNING):
            _prod(t, life, Prod.NEEDLESS)
    if not state.complete or state.table is None:
        return
    for life in t.state.fences:
        if _elsewhere(state, life) or (state.good and not state.acts and not _ours(state, life)):
            _prod(t, life, Prod.TAKEN)
    if state.acts:
        _begin_due(t, asked)
    for life, fence in t.state.fences.items():
        _follow(t, life, fence, asked)


def _ours(state: State, life: Life) -> bool:
    """Whether this daemon has said that it begins. What was dropped with its change was said to nobody."""
    by = state.table.begun.get(life) if state.table is not None else None
    return by == state.member or FenceBegun(life, state.member) in state.said


def _elsewhere(state: State, life: Life) -> bool:
    """Whether another daemon has the device act already."""
    by = state.table.begun.get(life, NOBODY) if state.table is not None else NOBODY
    return by not in (NOBODY, state.member)


def _follow(t: Turn, life: Life, fence: Fence, asked: tuple[Life, ...]) -> None:
    """What is said of one fencing, until all have heard it; and the look just before the device acts."""
    state = t.state
    heard = state.table is not None and state.table.begun.get(life) == state.member
    match fence.phase:
        case FencePhase.ANNOUNCED if heard and state.good:
            due = due_at(state, life, t.now)
            if due <= t.now and life.node not in _busy(t, besides=life):
                _prod(t, life, Prod.HEARD)
            else:
                t.put(fences=t.state.fences.put(life, replace(fence, due=due)))
        case FencePhase.RUNNING if not heard and life in asked and not _elsewhere(state, life):
            # It was not asked for any more, and is again: the node came back, and is lost once more.
            t.say(FenceBegun(life, state.member))
        case FencePhase.FAILED if heard:
            t.say(FenceFailed(life))
        case FencePhase.DONE if life in asked:
            t.say(Fenced(life, fence.text))
        case _:
            pass


def _busy(t: Turn, besides: Life | None = None) -> set[int]:
    """Nodes on which a device acts, one at a time over the whole cluster, or has acted: all are about to hear of it."""
    acting = (FencePhase.RUNNING, FencePhase.DONE)
    here = {x.node for x, f in t.state.fences.items() if f.phase in acting and x != besides}
    begun = t.state.table.begun if t.state.table is not None else {}
    return here | {x.node for x in begun if _elsewhere(t.state, x)}


def _begin_due(t: Turn, asked: tuple[Life, ...]) -> None:
    busy = _busy(t)
    # Known lives first: a node that was seen off has no unknown life either.
    for life in sorted(asked, key=lambda x: (x.unknown, x)):
        if _elsewhere(t.state, life):
            continue
        due = due_at(t.state, life, t.now)
        fence = t.state.fences.get(life, Fence(FencePhase.WAITING, due=due, since=t.now))
        if fence.phase is FencePhase.WAITING:
            fence = replace(fence, due=due)
        t.put(fences=t.state.fences.put(life, fence))
        if fence.phase is FencePhase.ANNOUNCED and _ours(t.state, life):
            continue
        if fence.due <= t.now and life.node not in busy:
            _prod(t, life, Prod.DUE)
            busy.add(life.node)
