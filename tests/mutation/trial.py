"""Run in a copy of the tree: ask one witness after the other until something notices. Prints who did.

python -m tests.mutation.trial [--first WITNESS ...] [--seeds A B] [--steps N] [--without-stories] [--mind NAME]

A witness is "transcript FOLDER/STORY", "unit MODULE" or "seed N".
"""

import argparse
import contextlib
import io
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.simulation.nemesis import STEPS, Run
from tests.simulation.world import O2CB
from tests.transcripts import cluster_world, ordering_world

FINE = "nothing"
HERE = Path(__file__).parents[2]
UNITS = (
    "test_ledger",
    "test_topology",
    "test_ocfs2_requests",
    "test_ocfs2_clients",
    "test_ocfs2_membership",
    "test_ocfs2_channel",
    "test_ancestor_bugs",
)
"""Unit tests of the minds that take a second or two each."""


def _stories(mind: str) -> Iterator[str]:
    """The stories' names. Those about this mind are told first."""
    told = [f"transcript {p.parent.name}/{p.stem}" for p in sorted(ordering_world.STORIES.glob("*.txt"))]
    rules = sorted(cluster_world.files(), key=lambda p: (not p.stem.startswith("rule"), p))
    at = len(told) if mind == O2CB else 0
    told[at:at] = [f"transcript {p.parent.name}/{p.stem}" for p in rules]
    yield from told


def _story(name: str) -> str:
    """What the world of a story says of it; empty when it goes as written."""
    path = Path(cluster_world.HERE, name).with_suffix(".txt")
    retell = ordering_world.retell if path.parent == ordering_world.STORIES else cluster_world.retell
    text = path.read_text()
    try:
        return "" if retell(text) == text else "it goes otherwise"
    except Exception as e:  # noqa: BLE001 (whatever a broken mind raises, it is noticed)
        return f"{type(e).__name__}: {e}"


def _unit(name: str) -> str:
    said = io.StringIO()
    path = HERE / "tests" / "unit" / f"{name}.py"
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        code = pytest.main(["-x", "-q", "-p", "no:cacheprovider", "-m", "not slow", str(path)])
    failed = [line for line in said.getvalue().splitlines() if line.startswith(("FAILED", "ERROR"))]
    return "" if code == pytest.ExitCode.OK else (failed or [f"pytest ended with {code}"])[0].split("::")[-1]


def _seed(seed: int, steps: int) -> str:
    try:
        Run(seed, steps=steps).go()
    except Exception as e:  # noqa: BLE001 (whatever a broken mind raises, it is noticed)
        return f"{type(e).__name__}: {e}"
    return ""


def ask(witness: str, steps: int) -> str:
    """What one witness says; empty when it notices nothing.

    Raises:
        ValueError: there is no such witness.
    """
    kind, _, name = witness.partition(" ")
    match kind:
        case "transcript":
            return _story(name)
        case "unit":
            return _unit(name)
        case "seed":
            return _seed(int(name), steps)
        case _:
            raise ValueError(f"no witness: {witness}")


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutation.trial")
    parser.add_argument("--first", nargs="+", default=(), metavar="WITNESS", help="asked before all others")
    parser.add_argument("--seeds", type=int, nargs=2, default=(0, 100), metavar=("A", "B"))
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--without-stories", action="store_true", help="nor unit tests")
    parser.add_argument("--mind", default=O2CB, help="the one that was edited")
    options = parser.parse_args()
    witnesses = list(options.first)
    if not options.without_stories:
        witnesses += [*_stories(options.mind), *(f"unit {name}" for name in UNITS)]
    witnesses += [f"seed {n}" for n in range(*options.seeds)]
    for witness in dict.fromkeys(witnesses):
        if said := ask(witness, options.steps):
            print(f"{witness}: {said}".splitlines()[0][:300])
            return 0
    print(FINE)
    return 0


if __name__ == "__main__":
    sys.exit(main())
