"""Fencing: which lost lives are made sure to be off, by whom, and when. Pure.

That a life is fenced is a replicated fact. One node acts, the lowest number in the quorate channel; when it is lost its
successor begins anew, and a device that finds the node off already says so at once. Only a verified answer of the
device, an operator's word, or a newer life of the node counts (law 11).
"""

from collections.abc import Callable
from dataclasses import replace
from enum import Enum, auto
from typing import TypeAlias

from libo2cb.events import Event, log
from libo2cb.machine import Move, Table
from ocfs2_controld.actions import RunFence
from ocfs2_controld.events import FenceDone
from ocfs2_controld.explain import named
from ocfs2_controld.state import Fence, FencePhase, FencingKind, State, Turn
from ocfs2_controld.table import needs_fence
from protocol.group import Fenced
from protocol.identity import Life


class Prod(Enum):
    """What moves a fencing on."""

    DUE = auto()  # its time has come, and this node acts
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


def _begin(a: Act) -> None:
    t, life = a.turn, a.life
    kind = t.state.settings.fencing
    if kind is FencingKind.MANUAL:
        return
    attempt = a.fence.attempts + 1
    t.do(log(Event.FENCE_BEGUN, "warning", life=str(life), attempt=attempt))
    if kind is FencingKind.NONE:
        a.put(phase=FencePhase.DONE, attempts=attempt, text="assumed: fencing is none, which is unsafe")
        return
    node = t.state.engine.node(life.node)
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
        (_P.WAITING, _D.DUE): Move(_begin, (_P.RUNNING, _P.DONE)),
        (_P.WAITING, _D.OFF): Move(_off, (_P.DONE,)),
        (_P.WAITING, _D.FAILURE): Move(_nothing, ()),
        (_P.WAITING, _D.NEEDLESS): Move(_drop, ()),
        (_P.RUNNING, _D.DUE): Move(_nothing, ()),
        (_P.RUNNING, _D.OFF): Move(_off, (_P.DONE,)),
        (_P.RUNNING, _D.FAILURE): Move(_retry, (_P.FAILED,)),
        (_P.RUNNING, _D.NEEDLESS): Move(_keep, ()),
        (_P.FAILED, _D.DUE): Move(_begin, (_P.RUNNING,)),
        (_P.FAILED, _D.OFF): Move(_off, (_P.DONE,)),
        (_P.FAILED, _D.FAILURE): Move(_nothing, ()),
        (_P.FAILED, _D.NEEDLESS): Move(_drop, ()),
        (_P.DONE, _D.DUE): Move(_nothing, ()),
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


def acts(state: State) -> bool:
    """Whether this node is the one that fences now."""
    return state.complete and state.good and min(state.present, default=0) == state.engine.local


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
    for life, fence in state.fences.items():
        if life not in asked and (state.complete or fence.phase is FencePhase.RUNNING):
            _prod(t, life, Prod.NEEDLESS)
    if acts(state):
        _begin_due(t, asked)
    if state.complete:
        for life, fence in t.state.fences.items():
            if fence.phase is FencePhase.DONE and life in asked:
                t.say(Fenced(life, fence.text))


def _begin_due(t: Turn, asked: tuple[Life, ...]) -> None:
    busy = {x.node for x, f in t.state.fences.items() if f.phase is FencePhase.RUNNING}
    # Known lives first: a node that was seen off has no unknown life either.
    for life in sorted(asked, key=lambda x: (x.unknown, x)):
        due = due_at(t.state, life, t.now)
        fence = t.state.fences.get(life, Fence(FencePhase.WAITING, due=due, since=t.now))
        if fence.phase is FencePhase.WAITING:
            fence = replace(fence, due=due)
        t.put(fences=t.state.fences.put(life, fence))
        if fence.due <= t.now and life.node not in busy:
            _prod(t, life, Prod.DUE)
            busy.add(life.node)
