"""The search: breadth first from a scene's first state, until nothing new comes, then backwards from rest.

Reduction (`Scene.reduced`): where some daemon's next event on the channel is a message, nothing waits for it on the
membership, and reading it changes neither kernel nor client nor channel nor fence, it is read first, and nothing else
is tried in that state. Reading such a message commutes with whatever other nodes do, for that only adds to the end of
the queue; with this node's death, for what was read dies with the reader; and with this node's own clients, timers and
membership, since the mind looks at all that it owes anew after each event. The message must be the reader's own, or the
world one that loses no last message: else who has read it decides whether others will ever get it. test_search.py
compares the states of rest with and without.
"""

import contextlib
import time
from array import array
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from typing import Any

from libo2cb.engine.model import Key, Stream
from libo2cb.engine.port import Delivered
from protocol.group import Envelope
from tests.search.canon import Canon
from tests.search.judge import Broken
from tests.search.scene import Option, Scene
from tests.search.states import load, parts, save
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
        self.seen: dict[tuple[int, ...], int] = {}
        self.parent = array("i")
        self.by: list[Option] = []
        self.options: dict[Option, Option] = {}
        self.rest = bytearray()
        self.queue: deque[tuple[int, Any]] = deque()
        self.tail, self.head = array("i"), array("i")
        self.laws: dict[str, Finding] = {}
        self.endings: set[tuple[object, ...]] = set()
        self.closed = True
        self.steps = 0
        self.bad: str | None = None

    def go(self) -> Result:
        """All of it."""
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

    def _expand(self, saved: Any) -> Iterator[Option]:
        """Make each step from a state in turn; the world is then after the step."""
        world = self.world
        load(world, saved)
        options = [(o, world.fusable(o.choice)) for o in world.options()]
        if self.scene.reduced:
            for option in [o for o, _ in options if self._reads(o)]:
                if self._take(saved, option) and world.silent:
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

    def _reads(self, option: Option) -> bool:
        """Whether this is the reading of a message that can come first."""
        world, choice = self.world, option.choice
        if choice[0] != "deliver" or choice[2:] != (OCFS2, Stream.CHANNEL.value):
            return False
        n = int(choice[1])
        if n in self.scene.full or world.engine.ports[Key(n, OCFS2, Stream.MEMBERSHIP)].queue:
            return False
        event = world.engine.ports[Key(n, OCFS2, Stream.CHANNEL)].queue[0].event
        return isinstance(event, Delivered) and (event.sender.node == n or not self.scene.budget.unreceived)

    def _take(self, saved: Any, option: Option) -> bool:
        load(self.world, saved)
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
            self.laws.setdefault(bad.translate(_NO_DIGITS), Finding(bad, (*self._path(index), option)))
            return None
        key = self.canon.key(parts(self.world, self.canon))
        known = self.seen.get(key)
        if known is not None:
            return known
        if len(self.seen) >= self.most:
            self.closed = False
            return None
        number = self.seen[key] = len(self.seen)
        self.parent.append(index)
        self.by.append(self.options.setdefault(option, option))
        rest = self.world.at_rest()
        self.rest.append(rest)
        if rest:
            self.endings.add(_ending(self.world))
        self.queue.append((number, save(self.world)))
        return number

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
