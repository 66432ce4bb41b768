"""What a judge says, and how the judges are run: after every fact, or over a whole history."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from tests.laws.history import Fact, History, Source
from tests.laws.world import World

Key = tuple[Source, str]
Hearing = Callable[[Fact], Iterator["Breach | Doubt"]]


@dataclass(frozen=True, slots=True)
class Breach:
    """A law broken.

    Attributes:
        law: its number.
        story: `order` of the facts that tell how, ascending.
        sentence: what was done, by whom, against what.
    """

    law: int
    story: tuple[int, ...]
    sentence: str


@dataclass(frozen=True, slots=True)
class Doubt:
    """A breach that hangs on a line which another daemon has not logged.

    B is killed after it stopped F and before it could say so; A, who has B's answer, starts F: that is no breach. So it
    counts only if B's same incarnation says something later (lines come in order, so none is missing before it), or is
    still up when all has come to rest.

    Attributes:
        breach: what it is if the line is not missing.
        node: name of the node whose line it hangs on.
        daemon: which of its daemons.
    """

    breach: Breach
    node: str
    daemon: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """The judgement of one law over one history."""

    law: int
    title: str
    breaches: tuple[Breach, ...]

    @property
    def kept(self) -> bool:
        """Whether the law was kept."""
        return not self.breaches


class Rule(ABC):
    """The judge of one law, fact by fact.

    A hearing is called with the world as it stands *before* the fact. It may keep what it needs in the rule itself.
    """

    law: ClassVar[int]
    title: ClassVar[str]

    def __init__(self, world: World) -> None:
        self.world = world

    @abstractmethod
    def hears(self) -> Mapping[Key, Hearing]:
        """Which facts it wants to hear, and who hears them."""

    def at_rest(self) -> Iterator[Breach]:
        """What is due once nothing moves any more."""
        return iter(())

    def doubt(self, node: str, daemon: str, sentence: str, *story: int) -> Doubt:
        """A breach unless a line of that daemon is missing."""
        return Doubt(self.breach(sentence, *story), node, daemon)

    def breach(self, sentence: str, *story: int) -> Breach:
        """A breach of this law; orders below zero (not recorded) are left out of the story."""
        return Breach(self.law, tuple(sorted({order for order in story if order >= 0})), sentence)


@dataclass(slots=True)
class Judge:
    """Judges fact by fact, as the simulation does after each step.

    Attributes:
        rules: the classes of the laws to judge.
        owner: the uid that counts as root.
    """

    rules: Iterable[type[Rule]]
    owner: int = 0
    world: World = field(init=False)
    _bench: list[Rule] = field(init=False)
    _hearings: dict[Key, list[Hearing]] = field(init=False)
    _doubts: dict[tuple[str, str], list[tuple[int, Breach]]] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.world = World(self.owner)
        self._bench = [rule(self.world) for rule in self.rules]
        self._hearings = {}
        for rule in self._bench:
            for key, hearing in rule.hears().items():
                self._hearings.setdefault(key, []).append(hearing)

    def feed(self, fact: Fact) -> list[Breach]:
        """Hear one fact, in order; the breaches that it completes.

        Raises:
            ValueError: a field of the fact is not what its kind says.
        """
        found: list[Breach] = []
        if self.world.silenced(fact):
            return found
        for hearing in self._hearings.get((fact.source, fact.kind), ()):
            for said in hearing(fact):
                if isinstance(said, Breach):
                    found.append(said)
                else:
                    since = self._incarnation(said.node, said.daemon)
                    self._doubts.setdefault((said.node, said.daemon), []).append((since, said.breach))
        self.world.apply(fact)
        if self._doubts and fact.source is Source.DAEMON and fact.node is not None:
            found.extend(self._settled((fact.node, fact.daemon)))
        return found

    def finish(self, at_rest: bool) -> list[Breach]:
        """The end of the history. What is due sometime is judged only when it came to rest."""
        if not at_rest:
            return []
        found = [breach for whose in list(self._doubts) for breach in self._settled(whose)]
        return found + [breach for rule in self._bench for breach in rule.at_rest()]

    def _incarnation(self, node: str, daemon: str) -> int:
        """Where the daemon's present incarnation began; below zero when it is not up."""
        it = self.world.node(node).daemon_up(daemon)
        return it.order if it else -1

    def _settled(self, whose: tuple[str, str]) -> Iterator[Breach]:
        now = self._incarnation(*whose)
        return iter([breach for since, breach in self._doubts.pop(whose, ()) if since == now >= 0])


def judged(rule: type[Rule], history: History) -> Iterator[Breach]:
    """All breaches of one law in a history."""
    judge = Judge((rule,), history.owner)
    for fact in history:
        yield from judge.feed(fact)
    yield from judge.finish(history.at_rest)
