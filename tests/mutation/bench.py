"""Makes each edit in a copy of the tree, and asks who notices."""

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.mutation.catalog import Mutation
from tests.mutation.trial import FINE
from tests.simulation.nemesis import STEPS
from tests.simulation.world import O2CB

ROOT = Path(__file__).parents[2]
PACKAGES = ("libo2cb", "protocol", "o2cb_controld", "ocfs2_controld")
TESTS = ("laws", "simulation", "transcripts", "mutation")
LIMIT = 300.0
"""Seconds for one trial; a mind that comes to no rest is noticed by it."""


class CatalogError(ValueError):
    """The text that a mutation replaces is not there, or more than once."""


@dataclass(frozen=True, slots=True)
class Trial:
    """What to run.

    Attributes:
        seeds: first seed, and one beyond the last.
        steps: of each seed.
        stories: whether the transcripts are told first.
    """

    seeds: tuple[int, int] = (0, 100)
    steps: int = STEPS
    stories: bool = True


def applied(mutation: Mutation, text: str) -> str:
    """The text of the mutation's file with its edit.

    Raises:
        CatalogError: the text to be replaced does not stand there exactly once.
    """
    count = text.count(mutation.old)
    if count != 1:
        raise CatalogError(f"{mutation.name}: its text stands {count} times in {mutation.file}; adapt the catalog")
    return text.replace(mutation.old, mutation.new)


@contextmanager
def tree() -> Iterator[Path]:
    """A copy of the minds and of the tests that judge them."""
    with tempfile.TemporaryDirectory(prefix="mutation-") as name:
        copy = Path(name)
        skip = shutil.ignore_patterns("__pycache__")
        for package in PACKAGES:
            shutil.copytree(ROOT / package, copy / package, ignore=skip)
        (copy / "tests").mkdir()
        shutil.copy(ROOT / "tests" / "__init__.py", copy / "tests")
        for package in TESTS:
            shutil.copytree(ROOT / "tests" / package, copy / "tests" / package, ignore=skip)
        yield copy


def tried(copy: Path, mutation: Mutation | None, trial: Trial) -> str:
    """Who notices this edit in this copy; empty for nobody. The copy is as before afterwards.

    Raises:
        CatalogError: the mutation does not fit the tree.
    """
    if mutation is None:
        return _run(copy, trial)
    path = copy / mutation.file
    before = path.read_text()
    path.write_text(applied(mutation, before))
    try:
        return _run(copy, trial, mutation.file.partition("/")[0])
    finally:
        path.write_text(before)


def _run(copy: Path, trial: Trial, mind: str = O2CB) -> str:
    command = [sys.executable, "-B", "-m", "tests.mutation.trial", "--steps", str(trial.steps)]
    command += ["--seeds", *map(str, trial.seeds), "--mind", mind]
    if not trial.stories:
        command.append("--without-stories")
    try:
        done = subprocess.run(command, cwd=copy, capture_output=True, text=True, timeout=LIMIT, check=False)
    except subprocess.TimeoutExpired:
        return f"it comes to no end within {LIMIT:.0f} s"
    said = done.stdout.strip()
    if done.returncode:
        said = f"it does not run: {(done.stderr.strip().splitlines() or ['no reason said'])[-1]}"
    return "" if said == FINE else said
