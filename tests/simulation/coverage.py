"""What runs have been through: the pairs of every table, and which fault met a group in which phase."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from libo2cb.machine import Move, Table
from o2cb_controld.changes import NODE
from o2cb_controld.ending import ENDING
from o2cb_controld.ledger import REQUEST
from ocfs2_controld.fencing import FENCING
from ocfs2_controld.sessions import SESSIONS
from ocfs2_controld.table import PHASES
from ocfs2_controld.usage import USAGE
from protocol.group import Phase
from tests.simulation.judged import Tally

TABLES: tuple[Table[Any, Any, Any], ...] = (PHASES, USAGE, SESSIONS, FENCING, NODE, REQUEST, ENDING)
"""Every table of both minds."""


@dataclass
class Coverage:
    """Totals over many runs.

    Attributes:
        pairs: (table, state, event) that some run has asked its table for.
        met: (fault, phase of a group in somebody's table when it came).
    """

    runs: int = 0
    steps: int = 0
    starts: int = 0
    mounts: int = 0
    fenced: int = 0
    facts: int = 0
    seconds: float = 0.0
    faults: dict[str, int] = field(default_factory=dict)
    met: set[tuple[str, str]] = field(default_factory=set)
    pairs: set[tuple[str, str, str]] = field(default_factory=set)

    def add(self, tally: Tally) -> None:
        """Count one run."""
        self.runs += 1
        self.steps += tally.steps
        self.starts += tally.starts
        self.mounts += tally.mounts
        self.fenced += tally.fenced
        self.facts += tally.facts
        self.seconds += tally.seconds
        for name, count in tally.faults.items():
            self.faults[name] = self.faults.get(name, 0) + count
        self.met |= tally.met

    def of(self, table: Table[Any, Any, Any]) -> int:
        """How many pairs of this table were asked for."""
        return sum(1 for name, _, _ in self.pairs if name == table.name)

    def unmet(self, table: Table[Any, Any, Any]) -> list[str]:
        """The pairs of this table that no run has come to."""
        return [f"{s.name} {e.name}" for s, e, _ in table if (table.name, s.name, e.name) not in self.pairs]

    def report(self) -> str:
        """For people."""
        lines = [
            f"{self.runs} runs, {self.steps} steps, {self.seconds:.0f} s of simulated time",
            f"{sum(self.faults.values())} faults of {len(self.faults)} kinds",
            f"{self.mounts} mounts answered 0, {self.starts} STARTs, {self.fenced} fences, {self.facts} facts judged",
            f"faults x phases: {len(self.met)} of {len(self.faults) * len(Phase)}",
        ]
        lines += [f"pairs of '{t.name}': {self.of(t)} of {sum(1 for _ in t)}" for t in TABLES]
        return "\n".join(lines)


@contextmanager
def watched(coverage: Coverage) -> Iterator[None]:
    """While this lasts, each question to any table is noted."""
    look = Table.__getitem__
    pairs = coverage.pairs

    def spied(table: Table[Any, Any, Any], pair: tuple[Enum, Enum]) -> Move[Any, Any]:
        pairs.add((table.name, pair[0].name, pair[1].name))
        return look(table, pair)

    Table.__getitem__ = spied  # type: ignore[method-assign]  # one place sees all tables
    try:
        yield
    finally:
        Table.__getitem__ = look  # type: ignore[method-assign]
