"""Run in a copy of the tree: tell the stories, then try seeds, until something notices. Prints who did.

python -m tests.mutation.trial [--seeds A B] [--steps N] [--without-stories] [--mind NAME]
"""

import argparse
import sys
from typing import TYPE_CHECKING

from tests.simulation.nemesis import STEPS, Run
from tests.simulation.world import O2CB
from tests.transcripts import cluster_world, ordering_world

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

FINE = "nothing"


def stories(mind: str) -> str:
    """The first story that goes otherwise than written; empty for none. Those about this mind are told first."""
    told: list[tuple[Callable[[str], str], Path]] = []
    told += [(ordering_world.retell, p) for p in sorted(ordering_world.STORIES.glob("*.txt"))]
    rules = sorted(cluster_world.files(), key=lambda p: (not p.stem.startswith("rule"), p))
    at = len(told) if mind == O2CB else 0
    told[at:at] = [(cluster_world.retell, p) for p in rules]
    for retell, path in told:
        text = path.read_text()
        try:
            if retell(text) == text:
                continue
        except Exception as e:  # noqa: BLE001 (whatever a broken mind raises, it is noticed)
            return f"transcript {path.parent.name}/{path.stem} ({type(e).__name__})"
        return f"transcript {path.parent.name}/{path.stem}"
    return ""


def simulation(first: int, last: int, steps: int) -> str:
    """The first seed that breaks; empty for none."""
    for seed in range(first, last):
        try:
            Run(seed, steps=steps).go()
        except Exception as e:  # noqa: BLE001 (whatever a broken mind raises, it is noticed)
            return f"seed {seed}: {type(e).__name__}: {e}"
    return ""


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutation.trial")
    parser.add_argument("--seeds", type=int, nargs=2, default=(0, 100), metavar=("A", "B"))
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--without-stories", action="store_true")
    parser.add_argument("--mind", default=O2CB, help="the one that was edited")
    options = parser.parse_args()
    found = "" if options.without_stories else stories(options.mind)
    print((found or simulation(options.seeds[0], options.seeds[1], options.steps) or FINE).splitlines()[0][:300])
    return 0


if __name__ == "__main__":
    sys.exit(main())
