"""The search: breadth first from a scene's first state, until nothing new comes, then backwards from rest.

Reduction (`Scene.reduced`). Two kinds of steps of one ocfs2_controld are *silent*: they change neither kernel nor
client nor channel nor fence, nor what a law looks at from another node (whether a filesystem runs here, and by which
START).

- Its next event on the channel is a message, and nothing waits for it on the membership; or
- something waits for it on both, and either is silent.

Then these one or two steps are made, and nothing else is tried in that state. They commute with whatever other nodes
do, for that only adds to the ends of the queues, which are not empty; with this node's death and its daemon's, for what
was read dies with the reader. With this node's own clients, timers and fences they need not: a deadline that passes
before a message is read is not one that passes after it. So with each of those that can happen in the same state both
orders are tried, and where they do not come to the same state nothing is left out. A message must be the reader's own,
or the world one that loses no last message: else who has read it decides whether others will ever get it. Each such
step takes from a queue, so none is put off for ever. test_search.py compares the states of rest with and without.
"""

import contextlib
import gc
import time
from array import array
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count

from libo2cb.engine.model import Key, Stream
from libo2cb.engine.port import Delivered
from protocol.group import Envelope
from tests.search.canon import Canon
from tests.search.judge import Broken
from tests.search.scene import Option, Scene
from tests.search.states import Saved, States
from tests.search.world import SearchWorld
from tests.simulation.world import OCFS2, Choice


@dataclass(frozen=True)
class Finding:
    """A law that does not hold, or a state without a way to rest, and how one comes there."""

    law: str
    path: tuple[Option, ...]


@dataclass
class Result:
    """What a search found.

    Attributes:
        scene: the world.
        states: how many.
        steps: how many transitions.
        closed: nothing was cut off: all states of this world were seen.
        seconds: of this process's time that it took.
        findings: one for each law.
        rests: keys of the states of rest.
    """

    scene: Scene
    states: int
    steps: int
    closed: bool
    seconds: float
    findings: list[Finding]
    rests: int
    endings: frozenset[tuple[object, ...]]


def search(scene: Scene, most: int = 1_000_000, seconds: float = 1e9, *, first_only: bool = False) -> Result:
    """Search a world.

    Args:
        scene: the world.
        most: states, at most.
        seconds: stop after that.
        first_only: end at the first law that is broken.
    """
    return _Search(scene, most, seconds, first_only).go()


class _Search:
    def __init__(self, scene: Scene, most: int, seconds: float, first_only: bool) -> None:
        self.scene = scene
        self.most = most
        self.end = time.monotonic() + seconds
        self.began = time.process_time()
        self.first_only = first_only
        self.world = SearchWorld(scene)
        self.canon = Canon(places=scene.budget.unreceived > 0)
        self.states = States(self.world, self.canon)
        self.seen: dict[tuple[int, ...], int] = {}
        self.parent = array("i")
        self.by: list[Option] = []
        self.options: dict[Option, Option] = {}
        self.rest = bytearray()
        self.queue: deque[tuple[int, Saved]] = deque()
        self.tail, self.head = array("i"), array("i")
        self.laws: dict[str, Finding] = {}
        self.endings: set[tuple[object, ...]] = set()
        self.closed = True
        self.steps = 0
        self.bad: str | None = None

    def go(self) -> Result:
        """All of it, without the collector of cycles: nothing here has any, and it would look at all states again."""
        collects = gc.isenabled()
        gc.disable()
        try:
            return self._go()
        finally:
            if collects:
                gc.enable()

    def _go(self) -> Result:
        self._arrive(-1, Option(("begin", "0"), False))
        while self.queue:
            index, saved = self.queue.popleft()
            for option in self._expand(saved):
                if self.laws and self.first_only:
                    self.queue.clear()
                    break
                j = self._arrive(index, option)
                if j is not None and option.progress:
                    self.tail.append(index)
                    self.head.append(j)
            if time.monotonic() > self.end and self.queue:
                self.closed = False
                self.queue.clear()
        if self.closed and not (self.laws and self.first_only):
            self._live()
        took = time.process_time() - self.began
        findings = list(self.laws.values())
        return Result(
            self.scene,
            len(self.seen),
            self.steps,
            self.closed,
            took,
            findings,
            sum(self.rest),
            frozenset(self.endings),
        )

    def _expand(self, saved: Saved) -> Iterator[Option]:
        """Make each step from a state in turn; the world is then after the step."""
        world = self.world
        self.states.load(saved)
        options = [(o, world.fusable(o.choice)) for o in world.options()]
        if self.scene.reduced and (first := self._first(saved, [o for o, _ in options])):
            for option in first:
                self._take(saved, option)
                yield option
            return
        for option, fusable in options:
            if self._take(saved, option):
                yield option
            for calls in count(1) if fusable else ():
                fused = Option(("killed", str(calls), *option.choice), False, option.spends)
                if not self._take(saved, fused):
                    break
                yield fused

    def _first(self, saved: Saved, options: list[Option]) -> list[Option]:
        """The steps that can be made before all others, and stand for them; none where there are no such."""
        waiting: dict[str, list[Option]] = {}
        for option in options:
            if option.choice[0] == "deliver" and option.choice[2] == OCFS2:
                waiting.setdefault(option.choice[1], []).append(option)
        alone = [(n, events) for n, events in waiting.items() if int(n) not in self.scene.full and self._alone(events)]
        for n, events in alone:
            own = [o for o in options if o.choice[1] == n and o not in events and o.choice[0] not in _ENDS]
            if all(self._is_silent(saved, e) for e in events) and all(
                self._commute(saved, e, o) for o in own for e in events
            ):
                return events
        return []

    def _alone(self, events: list[Option]) -> bool:
        """Whether nothing that comes later can come before: both streams, or a message alone; and one that can."""
        message = False
        for option in events:
            port = self.world.engine.ports[_queue_of(option)]
            event = port.queue[0].event
            if isinstance(event, Delivered):
                message = True
                if self.scene.budget.unreceived and event.sender.node != int(option.choice[1]):
                    return False
        return message or len(events) == len(Stream)

    def _is_silent(self, saved: Saved, option: Option) -> bool:
        self.states.load(saved)
        n = int(option.choice[1])
        before = self.world.shown(n)
        taken = self._take(saved, option)
        broken, self.bad = self.bad, None
        return taken and broken is None and self.world.silent and self.world.shown(n) == before

    def _commute(self, saved: Saved, one: Option, other: Option) -> bool:
        """Whether two steps come to the same state in either order."""
        first, second = self._after(saved, one, other), self._after(saved, other, one)
        return first is not None and first == second

    def _after(self, saved: Saved, one: Option, other: Option) -> tuple[int, ...] | None:
        """The state after two steps; None if the second is not to be had after the first, or a law does not hold."""
        world = self.world
        taken = self._take(saved, one)
        if taken and self.bad is None and other in set(world.options()):
            try:
                self.steps += 1
                if world.take(other):
                    return self.canon.key(self.states.save())
            except Broken:
                pass
        self.bad = None
        return None

    def _take(self, saved: Saved, option: Option) -> bool:
        self.states.load(saved)
        self.steps += 1
        try:
            return self.world.take(option)
        except Broken as e:
            self.bad = str(e)
            return True

    def _arrive(self, index: int, option: Option) -> int | None:
        """Number the state that the world is in; None if it is broken, or one too many."""
        if self.bad is not None:
            bad, self.bad = self.bad, None
            self._broken(bad, index, option)
            return None
        saved = self.states.save()
        key = self.canon.key(saved)
        known = self.seen.get(key)
        if known is not None:
            return known
        if len(self.seen) >= self.most:
            self.closed = False
            return None
        try:
            self.world.judge()
        except Broken as e:
            self._broken(str(e), index, option)
            return None
        number = self.seen[key] = len(self.seen)
        self.parent.append(index)
        self.by.append(self.options.setdefault(option, option))
        rest = self.world.at_rest()
        self.rest.append(rest)
        if rest:
            self.endings.add(_ending(self.world))
        self.queue.append((number, saved))
        return number

    def _broken(self, bad: str, index: int, option: Option) -> None:
        self.laws.setdefault(bad.translate(_NO_DIGITS), Finding(bad, (*self._path(index), option)))

    def _path(self, index: int) -> tuple[Option, ...]:
        found = []
        while index > 0:
            found.append(self.by[index])
            index = self.parent[index]
        return tuple(reversed(found))

    def _live(self) -> None:
        """From every state a path to rest by progress alone, else the first that has none."""
        back: list[list[int]] = [[] for _ in self.rest]
        for a, b in zip(self.tail, self.head, strict=True):
            back[b].append(a)
        live = bytearray(self.rest)
        stack = [i for i, r in enumerate(live) if r]
        while stack:
            for a in back[stack.pop()]:
                if not live[a]:
                    live[a] = 1
                    stack.append(a)
        stuck = [i for i, x in enumerate(live) if not x]
        if stuck:
            law = f"law 3: {len(stuck)} states have no way to rest"
            self.laws[law] = Finding(law, self._path(stuck[0]))


_ENDS = frozenset(("off", "cut", "kill c", "kill o"))
"""What takes a daemon, or the engine, with all that it has read."""


def _queue_of(option: Option) -> Key:
    _, n, listener, stream = option.choice
    return Key(int(n), listener, Stream(stream))


# The same breach by other nodes, or with other names, is no news.
_NO_DIGITS = str.maketrans("", "", "0123456789")


def _ending(world: SearchWorld) -> tuple[object, ...]:
    """What a state of rest looks like to somebody who only sees machines."""
    return tuple(
        (n.power, n.boots, n.kernel.regions, n.kernel.links, tuple(n.mounts), world.engine.engines[n.number].members)
        for n in world.nodes.values()
    )


def story(scene: Scene, finding: Finding) -> Iterator[str]:
    """A finding told step by step, with what the daemons did."""
    world = SearchWorld(scene)
    lines: list[str] = []
    world.tell = lines.append
    for option in finding.path:
        yield _name(world, option.choice)
        with contextlib.suppress(Broken):
            world.take(option)
            world.judge()
        yield from (f"      {x}" for x in lines)
        lines.clear()
    yield f"=> {finding.law}"


def _name(world: SearchWorld, choice: Choice) -> str:
    match choice:
        case ("killed", k, *rest):
            return f"{_name(world, tuple(rest))}, and the daemon is killed after {k} calls of that step"
        case ("deliver", n, listener, stream):
            event = world.engine.ports[Key(int(n), listener, Stream(stream))].queue[0].event
            payload: object = event.payload if isinstance(event, Delivered) else None
            if isinstance(event, Delivered) and isinstance(payload, Envelope):
                words = ", ".join(type(w).__name__ for w in payload.words)
                return f"n{n} {listener} reads n{event.sender.node}'s {words}"
            return f"n{n} {listener} hears {event}"
        case (what, n, *rest):
            return f"n{n} {what} {' '.join(rest)}".rstrip()
    return " ".join(choice)


__all__ = ["Finding", "Result", "search", "story"]
