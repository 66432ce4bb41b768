"""Who notices which edit: `python -m tests.mutation [--only NAME ...] [--list] [--seeds A B]`.

First the unedited tree must pass the same stories and seeds. Then each edit of the catalog is made in a copy; the table
says who caught it first. `--by simulation` leaves the stories out. Ends with 1 when an edit is caught by nobody that is
not listed as a survivor in docs/simulation.md.
"""

import argparse
import sys

from tests.mutation.bench import ROOT, Trial, tree, tried
from tests.mutation.catalog import MUTATIONS
from tests.simulation.nemesis import STEPS

DOCS = ROOT / "docs" / "simulation.md"
MARK = "## Survivors"


def argued() -> set[str]:
    """The names in the section on survivors."""
    text = DOCS.read_text() if DOCS.exists() else ""
    section = text.partition(MARK)[2].partition("\n## ")[0]
    return {m.name for m in MUTATIONS if f"`{m.name}`" in section}


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these edits")
    parser.add_argument("--list", action="store_true", help="name the edits, and try none")
    parser.add_argument("--seeds", type=int, nargs=2, default=(0, 100), metavar=("A", "B"))
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--by", choices=("all", "simulation"), default="all", help="who may notice")
    parser.add_argument("--unchecked", action="store_true", help="do not try the unedited tree first")
    options = parser.parse_args()
    known = {m.name for m in MUTATIONS}
    if unknown := set(options.only or ()) - known:
        parser.error(f"no such edit: {', '.join(sorted(unknown))}")
    chosen = [m for m in MUTATIONS if not options.only or m.name in options.only]
    if options.list:
        print("\n".join(f"{m.name:42} {m.against:26} {m.file}" for m in chosen))
        return 0
    trial = Trial(tuple(options.seeds), options.steps, options.by == "all")
    survivors, excused = 0, argued() if options.by == "all" else known
    with tree() as copy:
        if not options.unchecked and (wrong := tried(copy, None, trial)):
            print(f"the unedited tree is not clean: {wrong}")
            return 1
        for m in chosen:
            caught = tried(copy, m, trial)
            argued_for = "nobody (argued in docs/simulation.md)" if m.name in excused else "NOBODY"
            print(f"{m.name:42} {m.against:26} {caught or argued_for}", flush=True)
            survivors += not caught and m.name not in excused
    print(f"{len(chosen)} edits, {survivors} survivors that nobody has argued for")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
