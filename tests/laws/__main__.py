"""python -m tests.laws DIR: judges the recorded home of a sandbox, and prints the verdicts."""

import argparse
import sys
from pathlib import Path

from tests.laws import judge, report
from tests.laws.loading import load


def main(arguments: list[str] | None = None) -> int:
    """Judge a home.

    Returns:
        0 when every law that applies was kept, 1 when one was broken, 2 when there was nothing to judge.
    """
    parser = argparse.ArgumentParser(prog="python -m tests.laws", description="Judges a recorded sandbox home.")
    parser.add_argument("directory", type=Path, help="the home that o2cb_sandbox made")
    parser.add_argument("--at-rest", action="store_true", help="it had come to rest: judge what is due sometime, too")
    options = parser.parse_args(arguments)
    try:
        history = load(options.directory, at_rest=options.at_rest)
    except (OSError, ValueError) as wrong:
        print(f"cannot judge {options.directory}: {wrong}", file=sys.stderr)
        return 2
    if not len(history):
        print(f"cannot judge {options.directory}: nothing is recorded there", file=sys.stderr)
        return 2
    verdicts = judge(history)
    print(report(history, verdicts))
    return 0 if all(verdict.kept for verdict in verdicts) else 1


if __name__ == "__main__":
    sys.exit(main())
