"""Makes each edit in a copy of the tree, and asks who notices."""

import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from enum import Enum
from multiprocessing.pool import ThreadPool
from pathlib import Path
from queue import SimpleQueue

from tests.mutation.catalog import Mutation
from tests.mutation.noticed import NOTICED
from tests.mutation.trial import FINE
from tests.simulation.nemesis import STEPS
from tests.simulation.world import O2CB

ROOT = Path(__file__).parents[2]
PACKAGES = ("libo2cb", "protocol", "o2cb_controld", "ocfs2_controld")
TESTS = ("laws", "simulation", "transcripts", "mutation", "unit")
LIMIT = 240
"""Seconds of work for one trial; on a busy machine it may take longer."""
PATIENCE = 20
"""Times as long a trial may take by the clock, where it waits or the machine is busy."""
SEEDS = (0, 100)
"""First seed of the full form, and one beyond its last."""
SHORT_SEEDS = (0, 25)
"""The same of the short form: for such edits only as nobody notices who noticed them last."""


class CatalogError(ValueError):
    """The text that a mutation replaces is not there, or more than once."""


class Verdict(Enum):
    """What came of one trial."""

    CAUGHT = "caught"
    MISSED = "missed"
    UNDECIDED = "undecided"  # it came to no end, or did not run: neither noticed nor passed over


@dataclass(frozen=True, slots=True)
class Finding:
    """The outcome of a trial.

    Attributes:
        verdict: noticed or not.
        by: who noticed; or why it is undecided.
    """

    verdict: Verdict
    by: str = ""


@dataclass(frozen=True, slots=True)
class Trial:
    """What to run.

    Attributes:
        seeds: first seed, and one beyond the last.
        steps: of each seed.
        stories: whether transcripts and unit tests are asked before the seeds.
        hints: whether who noticed an edit last is asked first.
        limit: seconds of work after which a trial is undecided.
    """

    seeds: tuple[int, int] = SEEDS
    steps: int = STEPS
    stories: bool = True
    hints: bool = True
    limit: int = LIMIT


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
        shutil.copy(ROOT / "pyproject.toml", copy)
        shutil.copy(ROOT / "tests" / "__init__.py", copy / "tests")
        for package in TESTS:
            shutil.copytree(ROOT / "tests" / package, copy / "tests" / package, ignore=skip)
        yield copy


def tried(copy: Path, mutation: Mutation | None, trial: Trial) -> Finding:
    """Who notices this edit in this copy; for None, what is not clean in the unedited tree. The copy is as before then.

    Raises:
        CatalogError: the mutation does not fit the tree.
    """
    if mutation is None:
        # What counts against an edit must pass without it: also the seeds and tests that are only somebody's hint.
        return _run(copy, trial, O2CB, sorted(set(NOTICED.values())) if trial.hints else [], every=True)
    path = copy / mutation.file
    before = path.read_text()
    path.write_text(applied(mutation, before))
    hints = [NOTICED[mutation.name]] if trial.hints and mutation.name in NOTICED else []
    try:
        return _run(copy, trial, mutation.file.partition("/")[0], hints)
    finally:
        path.write_text(before)


def tried_all(mutations: Sequence[Mutation], trial: Trial, jobs: int) -> Iterator[tuple[Mutation, Finding]]:
    """Try edits, several at a time, each in a copy of its own; in the order given.

    Raises:
        CatalogError: a mutation does not fit the tree.
    """
    with ExitStack() as stack:
        copies: SimpleQueue[Path] = SimpleQueue()
        for _ in range(jobs):
            copies.put(stack.enter_context(tree()))

        def one(mutation: Mutation) -> tuple[Mutation, Finding]:
            copy = copies.get()
            try:
                return mutation, tried(copy, mutation, trial)
            finally:
                copies.put(copy)

        with ThreadPool(jobs) as pool:
            yield from pool.imap(one, mutations)


def _run(copy: Path, trial: Trial, mind: str, hints: Sequence[str], *, every: bool = False) -> Finding:
    limit = trial.limit * (4 if every else 1)
    # From the first import on: an edit may be in what is run then.
    command = ["prlimit", f"--cpu={limit}", sys.executable, "-B", "-m", "tests.mutation.trial"]
    command += ["--steps", str(trial.steps)]
    command += ["--seeds", *map(str, trial.seeds), "--mind", mind]
    if not trial.stories:
        command.append("--without-stories")
    if hints:
        command += ["--first", *hints]
    try:
        done = subprocess.run(command, cwd=copy, capture_output=True, text=True, timeout=limit * PATIENCE, check=False)
    except subprocess.TimeoutExpired:
        return Finding(Verdict.UNDECIDED, f"no end within {limit * PATIENCE} s")
    if done.returncode in {-signal.SIGXCPU, -signal.SIGKILL}:
        return Finding(Verdict.UNDECIDED, f"no end within {limit} s of work")
    said = done.stdout.strip()
    if done.returncode:
        why = (done.stderr.strip().splitlines() or ["no reason said"])[-1]
        return Finding(Verdict.UNDECIDED, f"it does not run: {why}")
    return Finding(Verdict.MISSED) if said == FINE else Finding(Verdict.CAUGHT, said)
