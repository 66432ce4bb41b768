"""The state machines of both daemons as docs/tables.md: `python -m tests.tables --write` writes it anew.

Without --write it only says whether the file is up to date.
"""

import argparse
import difflib
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from libo2cb.machine import Table
from o2cb_controld.changes import NODE
from o2cb_controld.ending import ENDING
from o2cb_controld.ledger import REQUEST
from ocfs2_controld.fencing import FENCING
from ocfs2_controld.sessions import SESSIONS
from ocfs2_controld.state import FencePhase, Role, Usage
from ocfs2_controld.table import PHASES
from ocfs2_controld.usage import USAGE
from protocol.group import Phase

FILE = Path(__file__).parent.parent / "docs" / "tables.md"
FIRST_LINE = "<!-- Generated from the code by `python -m tests.tables --write`. Do not edit. -->"
PREFACE = """\
# State machines

Each table decides every pair of a state (row) and an event (column). A cell names the rule that decides, and behind an
arrow the states to which it may lead; without an arrow the state stays. The diagram below each table shows the arrows
alone, each with its event and, in parentheses, its rule.
"""


@dataclass(frozen=True, slots=True)
class Arrow:
    """A transition that no cell of the table makes.

    Attributes:
        start: from where; None for everywhere else.
        end: to where; None for the end.
        why: its label.
    """

    start: Enum | None
    end: Enum | None
    why: str


@dataclass(frozen=True, slots=True)
class Chapter:
    """One table and what a reader should know with it.

    Attributes:
        daemon: whose it is.
        module: where it stands.
        table: the table.
        first: the state in which everything begins; where several can be, the one that comes first.
        further: transitions that no cell makes.
        note: where those come from.
    """

    daemon: str
    module: str
    table: Table[Any, Any, Any]
    first: Enum
    further: tuple[Arrow, ...] = ()
    note: str = ""


ADVANCE = (
    Arrow(Phase.RUN, Phase.LOCK, "advance: somebody is first in the queue"),
    Arrow(Phase.RUN, Phase.STOP, "advance: a member has left"),
    Arrow(Phase.LOCK, Phase.STOP, "advance: all have the locks"),
    Arrow(Phase.STOP, Phase.START, "advance: all have stopped"),
    Arrow(Phase.STOP, Phase.RUN, "advance: nobody is left"),
    Arrow(Phase.START, Phase.RUN, "advance: all have started"),
    Arrow(Phase.RECOVER, Phase.RUN, "advance: the lost are fenced, all have started"),
)
"""What `table.advance` makes of a group after each word, and after each change."""
RECONCILE = (
    *(Arrow(p, Phase.RECOVER, "change: a member is lost, away or restarted") for p in Phase if p is not Phase.RECOVER),
    Arrow(Phase.LOCK, Phase.RUN, "change: the joiner is gone"),
    *(
        Arrow(p, Phase.STOP, "change: one is stopped for itself, or all run and nobody is lost")
        for p in Phase
        if p is not Phase.STOP
    ),
)
"""What `change.reconcile` makes of a group in a change of membership."""

CHAPTERS = (
    Chapter(
        "ocfs2_controld",
        "ocfs2_controld/table.py",
        PHASES,
        Phase.RECOVER,
        (*ADVANCE, *RECONCILE),
        "A group that nobody has begins in RECOVER, since nodes never seen may have had it. The cells say what a word"
        " does to a group. After each word, and after each change of the membership, the group goes on by itself"
        " (`advance`) for as long as nobody owes an answer; a change of the membership (`reconcile`) comes before all.",
    ),
    Chapter("ocfs2_controld", "ocfs2_controld/usage.py", USAGE, Usage.IDLE),
    Chapter(
        "ocfs2_controld",
        "ocfs2_controld/sessions.py",
        SESSIONS,
        Role.FREE,
        (
            Arrow(Role.WAITING, Role.FREE, "the MOUNT is refused or given up"),
            Arrow(Role.WAITING, Role.TOLD, "the MOUNT is answered 0 or 114"),
            *(Arrow(r, None, "CLOSED") for r in Role),
        ),
        "The answer to a MOUNT that waits is a rule of the usage of its filesystem.",
    ),
    Chapter(
        "ocfs2_controld",
        "ocfs2_controld/fencing.py",
        FENCING,
        FencePhase.WAITING,
        tuple(Arrow(p, None, "NEEDLESS") for p in FencePhase if p is not FencePhase.RUNNING),
    ),
    Chapter(
        "o2cb_controld",
        "o2cb_controld/changes.py",
        NODE,
        next(iter(NODE.states)),
        note="ABSENT and RIGHT are both rest: which of the two it is, is what stands in the tree.",
    ),
    Chapter("o2cb_controld", "o2cb_controld/ledger.py", REQUEST, next(iter(REQUEST.states))),
    Chapter("o2cb_controld", "o2cb_controld/ending.py", ENDING, next(iter(ENDING.states))),
)


def arrows(table: Table[Any, Any, Any]) -> Iterator[tuple[Enum, Enum, str]]:
    """Every arrow of the table: from, to, label; states in their order, then events in theirs."""
    for state in table.states:
        for event in table.events:
            move = table[state, event]
            label = f"{event.name} ({move.rule.__name__.strip('_')})"
            yield from ((state, end, label) for end in move.to if end is not state)


def diagram(chapter: Chapter) -> str:
    """The table as text of a mermaid state diagram."""
    lines = ["```mermaid", "stateDiagram-v2", f"    [*] --> {chapter.first.name}"]
    lines += [f"    {start.name} --> {end.name}: {label}" for start, end, label in arrows(chapter.table)]
    for a in chapter.further:
        start, end = (x.name if x is not None else "[*]" for x in (a.start, a.end))
        lines.append(f"    {start} --> {end}: {a.why.replace(':', ',')}")
    return "\n".join([*lines, "```", ""])


def document(chapters: Iterable[Chapter] = CHAPTERS) -> str:
    """The whole file."""
    parts = [FIRST_LINE + "\n", PREFACE]
    for chapter in chapters:
        heading, _, rows = chapter.table.drawing().partition("\n")
        about = f"{chapter.daemon}, `{chapter.module}`" + (f". {chapter.note}" if chapter.note else "")
        parts += [f"{heading}\n\n{about}\n{rows}", diagram(chapter)]
    return "\n".join(parts)


def main(arguments: list[str] | None = None) -> int:
    """Compare the file with the code, or write it."""
    parser = argparse.ArgumentParser(prog="python -m tests.tables", description=__doc__)
    parser.add_argument("--write", action="store_true", help="write docs/tables.md")
    options = parser.parse_args(arguments)
    now, before = document(), FILE.read_text() if FILE.exists() else ""
    if options.write:
        FILE.parent.mkdir(exist_ok=True)
        FILE.write_text(now)
        return 0
    sys.stdout.writelines(difflib.unified_diff(before.splitlines(True), now.splitlines(True), "docs/tables.md", "code"))
    return int(now != before)


if __name__ == "__main__":
    sys.exit(main())
