"""What was recorded since the last look, from all processes of the cluster, in the order in which it happened."""

import json
import time
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from libo2cb.events import Event
from tests.demo.telling import Names, Step, tell
from tests.laws.history import Fact, Kernel, Source
from tests.laws.loading import load


class Timeline:
    """The recorded steps of a home.

    Args:
        root: the home.
        names: what filesystems are called.
    """

    def __init__(self, root: Path, names: Names) -> None:
        self._root = root
        self._names = names
        self._shown: set[Step] = set()
        self.zero = 0

    def begin(self) -> None:
        """A scene begins: the seconds count from here, and what was before is not shown any more."""
        self.zero = time.monotonic_ns()

    def more(self, wanted: Mapping[str, Collection[str]]) -> list[Step]:
        """The steps of this scene that have come since the last look.

        Args:
            wanted: verbs, by node; those of the first also count for what concerns no node in particular.
        """
        facts = load(self._root).facts
        everywhere = next(iter(wanted.values()))
        steps = [
            step
            for step in self._steps(facts, self._callers(facts))
            if step.mono > self.zero and step not in self._shown
            if step.verb in wanted.get(step.node, () if step.node else everywhere)
        ]
        self._shown.update(steps)
        return steps

    def _steps(self, facts: Collection[Fact], callers: dict[tuple[str, int], str]) -> Iterator[Step]:
        stopped: set[tuple[str, str]] = set()
        for fact in facts:
            who = callers.get((fact.node or "", fact.mono or 0), "") if fact.source is Source.KERNEL else fact.daemon
            step = tell(fact, who, self._names)
            place = fact.node or "", fact.fs
            if fact.kind == Event.GROUP_STOPPED:
                stopped.add(place)
            if fact.kind == Kernel.UNLINK and place in stopped and step is not None:
                # No line of a log says that a START begins; its first act in the kernel does.
                stopped.discard(place)
                yield Step(step.mono, step.node, who, "START", f"{self._names.fs(fact.fs)}: the links of the dead go")
            if step is not None:
                yield step

    def _callers(self, facts: Collection[Fact]) -> dict[tuple[str, int], str]:
        """Who made each call in a kernel tree, by node and time: the journal has the pid, and each daemon logs its."""
        daemons = {(f.node, f.number("pid")): f.daemon for f in facts if f.kind == Event.STARTING}
        found: dict[tuple[str, int], str] = {}
        for path in self._root.glob("*/log/kernel.jsonl"):
            node = path.parent.parent.name
            for line in path.read_bytes().splitlines():
                entry = json.loads(line)
                pid = entry["pid"]
                found[node, entry["mono"]] = daemons.get((node, pid), f"pid {pid}")
        return found
