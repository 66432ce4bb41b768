"""Replay one run, or try many: `python -m tests.simulation --seed N`, `python -m tests.simulation --from A --to B`.

A seed gives the same story each time, byte for byte. A run that breaks a law is named by its seed, and shown.
"""

import argparse
import sys

from tests.simulation.nemesis import Broken, Run


def replay(seed: int, steps: int) -> int:
    """Print one run as a story."""
    run = Run(seed, steps=steps)
    try:
        tally = run.go()
    except Broken as e:
        print("\n".join(run.story))
        print(f"seed {seed}: {e}")
        return 1
    print("\n".join(run.story))
    faults = sum(tally.faults.values())
    done = f"{tally.steps} steps, {faults} faults, {tally.mounts} mounts, {tally.starts} STARTs"
    print(f"seed {seed}: {done}: 0 laws broken")
    return 0


def many(first: int, last: int, steps: int) -> int:
    """Try seeds, and name those that break a law."""
    broken, done, faults, starts = 0, 0, 0, 0
    for seed in range(first, last):
        run = Run(seed, steps=steps)
        try:
            tally = run.go()
        except Broken as e:
            broken += 1
            print(f"seed {seed}: {e}")
            continue
        done += tally.steps
        faults += sum(tally.faults.values())
        starts += tally.starts
    print(f"{last - first} seeds, {done} steps, {faults} faults, {starts} STARTs: {broken} seeds broke a law")
    return 1 if broken else 0


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seed", type=int, help="replay this one")
    parser.add_argument("--from", dest="first", type=int, default=0, help="the first seed")
    parser.add_argument("--to", dest="last", type=int, default=100, help="one beyond the last seed")
    parser.add_argument("--steps", type=int, default=300, help="steps before all trouble ends")
    options = parser.parse_args()
    if options.seed is not None:
        return replay(options.seed, options.steps)
    return many(options.first, options.last, options.steps)


if __name__ == "__main__":
    sys.exit(main())
