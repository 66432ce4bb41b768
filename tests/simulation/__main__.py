"""Replay one run, or try many.

    python -m tests.simulation --seed N [--size N] [--steps N] [--shrink]
    python -m tests.simulation --from A --to B        these seeds
    python -m tests.simulation --hours H [--from A]   as many as fit

A seed gives the same story each time, byte for byte. A run that breaks a law is named by its seed, and shown; --shrink
leaves out what is not needed for it.
"""

import argparse
import itertools
import sys
import time

from tests.simulation.coverage import TABLES, Coverage, watched
from tests.simulation.nemesis import STEPS, Run
from tests.simulation.shrink import failure_of, shrunk

HOUR = 3600.0


def replay(run: Run, *, shrink: bool) -> int:
    """Print one run as a story; a run that fails is made short first if that is wished."""
    failure = failure_of(run)
    shown = shrunk(run, failure) if failure is not None and shrink else run
    print("\n".join(shown.story))
    if failure is not None:
        faults = [d for d in shown.decisions if d[0] != "do"]
        print(f"{len(shown.decisions)} decisions, {len(faults)} of them faults or time")
        print(f"seed {run.seed}: {type(failure).__name__}: {failure}")
        return 1
    tally = run.world.tally
    done = f"{tally.steps} steps, {sum(tally.faults.values())} faults, {tally.mounts} mounts, {tally.starts} STARTs"
    print(f"seed {run.seed}: {done}, {tally.seconds:.0f} s simulated: 0 laws broken")
    return 0


def many(first: int, last: int | None, steps: int, hours: float, *, verbose: bool) -> int:
    """Try seeds, and name those that break a law."""
    broken, coverage, end = 0, Coverage(), time.monotonic() + hours * HOUR
    with watched(coverage):
        for seed in itertools.count(first):
            if seed == last or (last is None and time.monotonic() > end):
                break
            run = Run(seed, steps=steps)
            failure = failure_of(run)
            coverage.add(run.world.tally)
            if failure is not None:
                broken += 1
                print(f"seed {seed}: {type(failure).__name__}: {failure}", flush=True)
    print(coverage.report())
    if verbose:
        for table in TABLES:
            print(f"not come to in '{table.name}': {', '.join(coverage.unmet(table)) or 'none'}")
    print(f"{broken} seeds broke a law")
    return 1 if broken else 0


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.simulation", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, help="replay this one")
    parser.add_argument("--size", type=int, choices=range(2, 9), help="nodes; with --seed")
    parser.add_argument("--shrink", action="store_true", help="make a failing run short; with --seed")
    parser.add_argument("--from", dest="first", type=int, default=0, help="the first seed")
    parser.add_argument("--to", dest="last", type=int, help="one beyond the last seed; 100 more than the first")
    parser.add_argument("--hours", type=float, help="go on for so long instead")
    parser.add_argument("--steps", type=int, default=STEPS, help="steps before all trouble ends")
    parser.add_argument("--verbose", action="store_true", help="name the pairs that no run has come to")
    options = parser.parse_args()
    if options.seed is not None:
        return replay(Run(options.seed, size=options.size, steps=options.steps), shrink=options.shrink)
    last = None if options.hours else options.last or options.first + 100
    return many(options.first, last, options.steps, options.hours or 0.0, verbose=options.verbose)


if __name__ == "__main__":
    sys.exit(main())
