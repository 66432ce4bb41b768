"""State machines as tables that one can read, test for completeness, and draw.

A table maps every (state, event) pair to a Move: the states it may lead to, a rule's name, and the sentence that says
why. A test asserts that no pair is missing, so a wrong event is always somebody's decision.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Generic, TypeVar

S = TypeVar("S", bound=Enum)
E = TypeVar("E", bound=Enum)
F = TypeVar("F", bound=Callable[..., object])


@dataclass(frozen=True, slots=True)
class Move(Generic[S, F]):
    """What is done for one (state, event) pair.

    Attributes:
        rule: the pure function that decides; its name is drawn on the arrow.
        to: every state it may lead to.
    """

    rule: F
    to: tuple[S, ...]


class Table(Generic[S, E, F]):
    """A complete table over the states and events of two enums.

    Args:
        name: title of the drawing.
        states: the enum of states.
        events: the enum of events.
        moves: a Move for every pair.

    Raises:
        ValueError: a pair is missing.
    """

    def __init__(self, name: str, states: type[S], events: type[E], moves: Mapping[tuple[S, E], Move[S, F]]) -> None:
        self.name = name
        self.states = states
        self.events = events
        missing = [f"({s.name}, {e.name})" for s in states for e in events if (s, e) not in moves]
        if missing:
            raise ValueError(f"{name}: undecided pairs: {', '.join(missing)}")
        self._moves: dict[tuple[S, E], Move[S, F]] = dict(moves)

    def __getitem__(self, pair: tuple[S, E]) -> Move[S, F]:
        return self._moves[pair]

    def __iter__(self) -> Iterator[tuple[S, E, Move[S, F]]]:
        for (state, event), move in self._moves.items():
            yield state, event, move

    def drawing(self) -> str:
        """The table as Markdown: one row a state, one column an event; "rule -> states" in each cell."""
        head = "| state \\ event | " + " | ".join(e.name for e in self.events) + " |"
        rows = [f"## {self.name}", "", head, "|" + " --- |" * (len(self.events) + 1)]
        for s in self.states:
            cells = []
            for e in self.events:
                move = self._moves[s, e]
                ends = ", ".join(t.name for t in move.to if t is not s)
                cells.append(move.rule.__name__.strip("_") + (f" → {ends}" if ends else ""))
            rows.append(f"| **{s.name}** | " + " | ".join(cells) + " |")
        return "\n".join(rows) + "\n"
