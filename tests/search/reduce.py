"""Which steps of a state stand for all: partial-order reduction (`Scene.reduced`).

Nothing here relies on a rule of the minds: each time the steps in question are made, in both orders where that matters,
by the minds that are searched. test_search.py compares the states of rest with and without.

**Words that count for nobody** (`words.py`) are left out of the key, and to say one is to be silent.

**What is silent goes first.** The next event on the channel of an ocfs2_controld is *silent* where taking it changes
neither kernel nor client nor fence, nor what others will read, nor what a law looks at from another node (whether a
filesystem runs here, and by which START). Then this step is made, and nothing else is tried in that state, provided
that it commutes with whatever this node itself may do or be told before:

- its own clients, timers and fences that could come in between: both orders are tried, and must come to the same state;
- what waits for it on the membership, event by event, and after that any one membership that a change of the network
  might bring: both orders must leave the node the same, with the same words said.

With what other nodes do it commutes, for that only adds to the ends of queues; with the death of its node or daemon,
for what was read dies with the reader. Where a world loses last messages the message must be the reader's own, since
else who has read it decides whether others will ever get it. Each such step takes from a queue, so none is put off for
ever.

**Who lags behind catches up one by one.** Often several nodes have not read yet of the last view, each with the rest of
an older view before it, while nobody can do anything but read: nothing is left that could change the network. Until all
have stated themselves in that view nobody says a word that counts, but for those statements, whose order among each
other does not matter. So what each of them does until then depends on its own two queues alone, and the lowest goes
first. Each must be *calm*: along each order of its two streams it changes no kernel, answers no client, starts nothing
(that is what laws judge against other nodes), and moves nothing but its own running groups to a stop. Each order is
tried, by the minds; where one of the nodes is not calm, nothing is left out.
"""

from typing import TYPE_CHECKING

from libo2cb.engine.model import Key, ModelError, Stream
from libo2cb.engine.port import Delivered
from protocol.group import Statement
from tests.search.canon import Part
from tests.search.scene import Option, Scene
from tests.search.states import Saved
from tests.search.steps import Steps
from tests.simulation.world import OCFS2

if TYPE_CHECKING:
    from collections.abc import Hashable

_CHANNEL, _MEMBERSHIP = (OCFS2, Stream.CHANNEL), (OCFS2, Stream.MEMBERSHIP)
_BESIDE = frozenset(("deliver", "off", "cut", "heal", "kill c", "kill o"))
"""What is looked at by itself, adds to queues alone, or takes a daemon with all that it has read."""


class Reduction:
    """What need not be tried.

    Args:
        scene: the world's.
        steps: of the search.
    """

    def __init__(self, scene: Scene, steps: Steps) -> None:
        self._scene, self._steps = scene, steps
        self._world, self._states, self._canon = steps.world, steps.states, steps.canon
        # Answers are kept by the ids of what they depend on, and what these are of is kept alive.
        self._overtaking: dict[Hashable, bool] = {}
        self._calm: dict[Hashable, bool] = {}
        self._kept: list[object] = []

    def enough(self, saved: Saved, options: list[Option]) -> list[Option]:
        """Steps of a state that stand for all of them; all, where there are no such."""
        if len(options) == 1:
            return options
        silent = self._silent(saved, options)
        if silent is not None:
            return [silent]
        return self._of_one_behind(saved, options) or options

    # what is silent

    def _silent(self, saved: Saved, options: list[Option]) -> Option | None:
        for option in options:
            self._states.load(saved)
            if option.choice[0] != "deliver" or option.choice[2:] != _CHANNEL or not self._may_be_first(option):
                continue
            n = option.choice[1]
            own = [o for o in options if o.choice[1] == n and o.choice[0] not in _BESIDE]
            if self._world.waits(int(n)):
                own.append(Option(("deadline", n), False))  # which a cut of the network may bring
            if (
                self._is_silent(saved, option)
                and all(self._commute(saved, option, o) for o in own)
                and self._overtakes(saved, option)
            ):
                return option
        return None

    def _may_be_first(self, option: Option) -> bool:
        """Whether it makes no difference to others that this event has been read here."""
        n = int(option.choice[1])
        event = self._world.engine.ports[Key(n, *_CHANNEL)].queue[0].event
        foreign = isinstance(event, Delivered) and event.sender.node != n
        return n not in self._scene.full and not (self._scene.budget.unreceived and foreign)

    def _is_silent(self, saved: Saved, option: Option) -> bool:
        world, n = self._world, int(option.choice[1])
        self._states.load(saved)
        before = world.shown(n)
        if not self._steps.well(saved, option):
            return False
        return not world.loud and not world.audible and world.shown(n) == before

    def _commute(self, saved: Saved, one: Option, other: Option) -> bool:
        """Whether two steps come to the same state in either order."""
        first, second = self._after(saved, one, other), self._after(saved, other, one)
        return first is not None and first == second

    def _after(self, saved: Saved, one: Option, other: Option) -> tuple[int, ...] | None:
        """The state after two steps; None if the second is not to be had after the first, or a law does not hold."""
        if not self._steps.well(saved, one):
            return None
        if other.spends and other not in set(self._world.options()):
            return None
        if not self._steps.go_on(other) or not self._steps.forgive():
            return None
        return self._canon.key(self._states.save())

    def _overtakes(self, saved: Saved, option: Option) -> bool:
        """Whether a step commutes with all that this node may be told of the membership before it."""
        self._states.load(saved)
        n, ports = int(option.choice[1]), self._world.engine.ports
        event = ports[Key(n, *_CHANNEL)].queue[0].event
        waiting = tuple([q.event for q in ports[Key(n, *_MEMBERSHIP)].queue])
        key = id(self._states.node(saved, n)), id(event), waiting
        known = self._overtaking.get(key)
        if known is None:
            self._kept.append(event)
            known = self._overtaking[key] = self._commutes_with_membership(saved, option, len(waiting))
        return known

    def _commutes_with_membership(self, saved: Saved, option: Option, waiting: int) -> bool:
        n = int(option.choice[1])
        told = Option(("deliver", str(n), *_MEMBERSHIP))
        for _ in range(waiting):
            if not self._swap(saved, option, told) or not self._steps.well(saved, told):
                return False
            saved = self._states.save()
        self._states.load(saved)
        for event in list(self._world.may_be_told(n)):
            self._states.load(saved)
            self._world.whisper(n, event)
            if not self._swap(self._states.save(), option, told):
                return False
        return True

    def _swap(self, saved: Saved, one: Option, other: Option) -> bool:
        """Whether two steps of a node leave it in the same state in either order, and say the same to others."""
        one_first, said, then = self._both(saved, one, other)
        other_first, before, after = self._both(saved, other, one)
        return one_first is not None and (one_first, said, then) == (other_first, after, before)

    def _both(self, saved: Saved, one: Option, other: Option) -> tuple[object, list[Part], list[Part]]:
        """What two steps make of a node, and what is said in each; None if they cannot be made."""
        said: list[list[Part]] = []
        for i, option in enumerate((one, other)):
            try:
                taken = self._steps.take(saved, option) if i == 0 else self._steps.go_on(option)
            except ModelError:  # the daemon has ended, and its port is gone
                taken = False
            if not taken or not self._steps.forgive():
                return None, [], []
            said.append([self._canon.part(x) for x in self._world.uttered])
        node = self._states.node(self._states.save(), int(one.choice[1]))
        return self._canon.key([node]), said[0], said[1]

    # who lags behind

    def _of_one_behind(self, saved: Saved, options: list[Option]) -> list[Option]:
        """The steps of one node that has not read of the last view yet, where they stand for all."""
        if self._scene.full or any(o.choice[0] != "deliver" for o in options):
            return []
        self._states.load(saved)
        up = [n for n, node in self._world.nodes.items() if node.power]
        behind = [n for n in up if self._world.is_behind(n)]
        if not behind or not all(self._is_calm(saved, n) for n in up):
            return []
        return [o for o in options if o.choice[1] == str(behind[0])]

    def _is_calm(self, saved: Saved, number: int) -> bool:
        """Whether a node only stops, and says no more than its statement, until it has read of the last view."""
        self._states.load(saved)
        ports = [self._world.engine.ports[Key(number, OCFS2, x)] for x in Stream]
        key = (id(self._states.node(saved, number)), *[id(port) for port in ports])
        known = self._calm.get(key)
        if known is None:
            self._kept += ports
            known = self._calm[key] = self._stays_calm(saved, number)
        return known

    def _stays_calm(self, saved: Saved, number: int) -> bool:
        world, was_behind = self._world, self._world.is_behind(number)
        todo = [saved]
        while todo:
            saved = todo.pop()
            for stream in Stream:
                self._states.load(saved)
                if was_behind and not world.is_behind(number):
                    break
                if not world.engine.ports[Key(number, OCFS2, stream)].queue:
                    continue
                before = world.shown(number)
                if not self._steps.well(saved, Option(("deliver", str(number), OCFS2, stream))):
                    return False
                stopped = {(fs, False, started) for fs, _, started in before}
                only_stops = stopped.union(before).issuperset(world.shown(number))
                words = [word for said in world.uttered for word in said.envelope.words]
                speaks = words if not was_behind else [x for x in words if not isinstance(x, Statement)]
                if world.loud or not only_stops or (world.audible and speaks):
                    return False
                todo.append(self._states.save())
        return True


__all__ = ["Reduction"]
