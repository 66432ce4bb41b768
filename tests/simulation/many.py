"""Many seeds on all processors."""

import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from tests.simulation.nemesis import STEPS, Run
from tests.simulation.shrink import failure_of

BLOCK = 25
"""Seeds that one process tries at a stretch."""


def failures(first: int, last: int, steps: int = STEPS) -> list[str]:
    """What goes wrong in these seeds, the last one left out: a line for each that fails."""
    found = ((seed, failure_of(Run(seed, steps=steps))) for seed in range(first, last))
    return [f"seed {seed}: {type(failure).__name__}: {failure}" for seed, failure in found if failure is not None]


def everywhere(first: int, last: int) -> Iterator[str]:
    """The same with as many processes as there are processors."""
    starts = range(first, last, BLOCK)
    # Spawned: a process that is forked off a test runner takes over threads and descriptors that it knows nothing of.
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as pool:
        for found in pool.map(failures, starts, [min(n + BLOCK, last) for n in starts]):
            yield from found
