"""python -m tests.demo: plays the scenes, judges the laws, and says so in the last line."""

import argparse
import os
import signal
import sys
import time
import traceback
from pathlib import Path
from types import FrameType
from typing import Final

from libo2cb.tools.screens import wants_colour
from tests.demo.paper import Paper
from tests.demo.scenes import Play
from tests.demo.stage import Stage
from tests.laws import judge, report
from tests.laws.loading import load
from tests.process.lab import KEEP

KEPT: Final = "demo: 0 laws broken"


def main(arguments: list[str] | None = None) -> int:
    """Run the demo.

    Returns:
        0 when every law was kept; 1 when one was broken, or a scene did not go as it must; 130 when interrupted.
    """
    parser = argparse.ArgumentParser(prog="python -m tests.demo", description="A cluster of three nodes, to watch.")
    parser.add_argument("--plain", action="store_true", help="no colours, also on a terminal")
    parser.add_argument("--keep", action="store_true", help="let the home lie when it is over, to be looked at")
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, _interrupted)
    colour = not options.plain and wants_colour(os.environ, terminal=sys.stdout.isatty())
    paper = Paper(sys.stdout, colour=colour)
    if options.keep:
        os.environ[KEEP] = "1"
    try:
        return _run(paper, keep=options.keep)
    except KeyboardInterrupt:
        paper.line("demo: interrupted; everything is ended and removed")
        return 130
    except Exception as failure:  # noqa: BLE001 (whatever it is, a viewer gets the traceback, and then a sentence)
        traceback.print_exc()
        paper.line()
        paper.text(
            f"demo: a scene did not go as it must: {'; '.join([str(failure), *getattr(failure, '__notes__', ())])}"
        )
        return 1


def _interrupted(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _run(paper: Paper, *, keep: bool) -> int:
    begun = time.monotonic()
    with Stage.up() as stage:
        paper.text(
            "A cluster of three nodes on this machine: a kernel tree, o2cb_controld and ocfs2_controld each, all "
            "separate processes, and a hub in place of the cluster engine. "
            f"The volume: {stage.origin}. Home: {stage.root}"
        )
        try:
            Play(stage, paper).run()
            paper.line()
            last = judged(stage.root, paper)
        except Exception as failure:
            os.environ[KEEP] = "1"
            failure.add_note(f"everything is ended, and the record is kept in {stage.root}")
            raise
        if last != KEPT:
            os.environ[KEEP] = "1"
    paper.line(f"All is ended after {time.monotonic() - begun:.1f} s.")
    if keep or last != KEPT:
        paper.line(f"The record is kept in {stage.root}; to judge it again: python -m tests.laws {stage.root}")
    paper.line(last)
    return 0 if last == KEPT else 1


def judged(root: Path, paper: Paper) -> str:
    """Judge the laws over what was recorded in a home, and show the verdict.

    Returns:
        The last line: KEPT, or what is broken.
    """
    history = load(root, at_rest=True)
    verdicts = judge(history)
    broken = [verdict for verdict in verdicts if not verdict.kept]
    paper.text(f"Judged: {len(verdicts)} laws over {len(history)} facts, recorded by all processes of the cluster.")
    if not broken and not history.problems:
        return KEPT
    paper.line(report(history, verdicts))
    if not broken:
        return f"demo: the record cannot be judged: {history.problems[0]}"
    laws = "law" if len(broken) == 1 else "laws"
    return f"demo: {len(broken)} {laws} broken: {'; '.join(f'{v.law}, {v.title}' for v in broken)}"


if __name__ == "__main__":
    sys.exit(main())
