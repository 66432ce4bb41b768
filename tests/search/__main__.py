"""Search small worlds to the end: `python -m tests.search [WORLD ...] [--states MAX] [--seconds S] [--all] [--list]`.

Without a name the worlds of the short form are searched; with --all each of them. A law that is broken, or a state
without a way to rest, is told as a story, and the exit status is 1. A world that was cut off is no failure, but it is
said: only its laws were judged, and its way to rest was not.
"""

import argparse
import sys
import time
from collections.abc import Sequence

from tests.search.explore import Result, search, story
from tests.search.scenes import OPEN, SCENES, SHORT


def show(result: Result) -> None:
    """One line for a world, and the story of each finding."""
    extent = "to the end" if result.closed else "CUT OFF"
    rate = result.states / max(result.seconds, 1e-9)
    print(
        f"{result.scene.name:24} {result.states:8} states {result.steps:8} steps {result.rests:6} at rest, {extent},"
        f" {result.seconds:.0f} s, {rate:.0f} states/s, {len(result.findings)} laws broken"
        f"   ({result.scene.about})",
        flush=True,
    )
    for finding in result.findings:
        for line in story(result.scene, finding):
            print(f"    {line}")


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m tests.search", description=__doc__)
    parser.add_argument("world", nargs="*", choices=[*SCENES, []], metavar="WORLD", help="which worlds")
    parser.add_argument("--states", type=int, default=1_000_000, help="states of a world, at most")
    parser.add_argument("--seconds", type=float, default=240.0, help="for all of them together, at most")
    parser.add_argument("--all", action="store_true", help="every world")
    parser.add_argument("--list", action="store_true", help="name the worlds, and end")
    options = parser.parse_args(arguments)
    names = list(SCENES) if options.all or options.list else options.world or list(SHORT)
    if options.list:
        for name in names:
            print(f"{name:24} {SCENES[name].about}")
        return 0
    end, states, broken = time.monotonic() + options.seconds, 0, 0
    for i, name in enumerate(names):
        # What has an end is searched first, and to it. The others share what is left.
        shared = sum(other in OPEN for other in names[i:]) if name in OPEN else 1
        result = search(SCENES[name], options.states, (end - time.monotonic()) / shared)
        states += result.states
        broken += len(result.findings)
        show(result)
    print(f"{len(names)} worlds, {states} states: {broken} laws broken")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
