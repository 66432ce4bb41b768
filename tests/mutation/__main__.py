"""Who notices which edit: `python -m tests.mutation [--only NAME ...] [--list] [--short] [--seeds A B] [--jobs N]`.

First the unedited tree must pass the same stories, unit tests and seeds. Then each edit of the catalog is made in a
copy; the table says who caught it first. An edit whose trial comes to no end, or does not run, is undecided: that
counts as nothing. `--short` is the form for every day: few seeds, and who noticed an edit last is asked first.
`--by simulation` asks seeds alone, and judges nobody. Ends with 1 when an edit is undecided, or caught by nobody and
not argued for in docs/mutations.md.
"""

import argparse
import sys
from collections import Counter
from pathlib import Path

from tests.mutation.bench import LIMIT, ROOT, SEEDS, SHORT_SEEDS, Finding, Trial, Verdict, tree, tried, tried_all
from tests.mutation.catalog import MUTATIONS, Mutation
from tests.mutation.noticed import NOTICED
from tests.simulation.nemesis import STEPS

DOCS = ROOT / "docs" / "mutations.md"
MARK = "## Survivors"
NOTICED_FILE = Path(__file__).with_name("noticed.py")


def argued() -> set[str]:
    """The names in the section on survivors."""
    text = DOCS.read_text() if DOCS.exists() else ""
    section = text.partition(MARK)[2].partition("\n## ")[0]
    return {m.name for m in MUTATIONS if f"\n- `{m.name}`" in section}


def judged(mutation: Mutation, finding: Finding, excused: set[str], *, whole: bool) -> tuple[str, str]:
    """Which kind of outcome this is, and how it reads."""
    match finding.verdict:
        case Verdict.CAUGHT:
            return "caught", finding.by
        case Verdict.UNDECIDED:
            return "undecided", f"UNDECIDED: {finding.by}"
        case Verdict.MISSED if not whole:
            return "not noticed", "not noticed by these seeds"
        case Verdict.MISSED if mutation.name in excused:
            return "argued", "nobody (argued in docs/mutations.md)"
        case Verdict.MISSED:
            return "survived", "NOBODY"


def write(found: dict[str, str]) -> None:
    """Remember who noticed."""
    head = NOTICED_FILE.read_text().partition("NOTICED:")[0]
    noticed = NOTICED | {name: by.partition(":")[0] for name, by in found.items()}
    lines = "".join(f'    "{m.name}": "{noticed[m.name]}",\n' for m in MUTATIONS if m.name in noticed)
    NOTICED_FILE.write_text(f"{head}NOTICED: dict[str, str] = {{\n{lines}}}\n")


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these edits")
    parser.add_argument("--list", action="store_true", help="name the edits, and try none")
    parser.add_argument("--short", action="store_true", help="the form for every day")
    parser.add_argument("--seeds", type=int, nargs=2, metavar=("A", "B"))
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--by", choices=("all", "simulation"), default="all", help="who may notice")
    parser.add_argument("--jobs", type=int, default=2, help="edits at a time")
    parser.add_argument("--limit", type=int, default=LIMIT, metavar="SECONDS", help="of work, for one trial")
    parser.add_argument("--unchecked", action="store_true", help="do not try the unedited tree first")
    parser.add_argument("--write", action="store_true", help="remember in noticed.py who noticed")
    options = parser.parse_args()
    known = {m.name for m in MUTATIONS}
    if unknown := set(options.only or ()) - known:
        parser.error(f"no such edit: {', '.join(sorted(unknown))}")
    chosen = [m for m in MUTATIONS if not options.only or m.name in options.only]
    if options.list:
        print("\n".join(f"{m.name:42} {m.against:26} {m.file}" for m in chosen))
        return 0
    whole = options.by == "all"
    seeds = tuple(options.seeds or (SHORT_SEEDS if options.short else SEEDS))
    trial = Trial((seeds[0], seeds[1]), options.steps, stories=whole, hints=whole, limit=options.limit)
    if not options.unchecked:
        with tree() as copy:
            clean = tried(copy, None, trial)
        if clean.verdict is not Verdict.MISSED:
            print(f"the unedited tree is not clean: {clean.by}")
            return 1
    excused, counts, found = argued(), Counter[str](), dict[str, str]()
    for m, finding in tried_all(chosen, trial, options.jobs):
        kind, text = judged(m, finding, excused, whole=whole)
        counts[kind] += 1
        if kind == "caught":
            found[m.name] = finding.by
        print(f"{m.name:42} {m.against:26} {text}", flush=True)
    print(f"{len(chosen)} edits: {', '.join(f'{n} {kind}' for kind, n in sorted(counts.items()))}")
    if options.write:
        write(found)
    return 1 if counts["survived"] or counts["undecided"] else 0


if __name__ == "__main__":
    sys.exit(main())
