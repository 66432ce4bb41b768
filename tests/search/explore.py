"""The search: breadth first from a scene's first state, until nothing new comes, then backwards from rest."""

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
from tests.search.judge import Broken
from tests.search.reduce import Reduction
from tests.search.scene import Option, Scene
from tests.search.states import Saved
from tests.search.steps import Steps
from tests.search.words import Said
from tests.search.world import SearchWorld
from tests.simulation.world import Choice


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
        self.make = Steps(scene)
        self.world, self.canon, self.states = self.make.world, self.make.canon, self.make.states
        self.reduction = Reduction(scene, self.make) if scene.reduced else None
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
            self.make.count,
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
        every = list(world.options())
        fusable = {o for o in every if world.fusable(o.choice)}
        options = self.reduction.enough(saved, every) if self.reduction else every
        for option in options:
            if self.make.take(saved, option):
                yield option
            # Where one step stands for all, its daemon may as well be killed before it, or after.
            for calls in count(1) if len(options) == len(every) and option in fusable else ():
                fused = Option(("killed", str(calls), *option.choice), False, option.spends)
                if not self.make.take(saved, fused):
                    break
                yield fused

    def _arrive(self, index: int, option: Option) -> int | None:
        """Number the state that the world is in; None if it is broken, or one too many."""
        bad = self.make.bad
        if bad is not None:
            self.make.forgive()
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
            if isinstance(event, Delivered) and isinstance(payload, Said):
                words = ", ".join(type(w).__name__ for w in payload.envelope.words)
                return f"n{n} {listener} reads n{event.sender.node}'s {words}"
            return f"n{n} {listener} hears {event}"
        case (what, n, *rest):
            return f"n{n} {what} {' '.join(rest)}".rstrip()
    return " ".join(choice)


__all__ = ["Finding", "Result", "search", "story"]
