"""Stories of whole clusters: the real minds of both daemons on each node, on a pure engine and pure kernels.

A story is a text file of blocks: lines that say what happens, a line "----", and what the daemons then do, in order, to
the byte. Lines beginning with "#" are for the reader. The laws are judged at each step, and the end of a story judges
once more. Run `python -m tests.transcripts.cluster_world --rewrite [FILE...]` to write down what the minds do now, and
read the difference: it is the review.

    set fencing none | manual          how lost nodes are fenced (a command, unless said)
    set grace | join delay | mount seconds SECONDS
    set two nodes | set locks          two_node quorum; locks are told of, too
    set careful | set hasty            actions one by one; or a whole step at once, as unless said
    set port n3 7778                   n3 uses another port from its next start on
    set version n3 1.1                 ... or claims another version of both protocols
    cluster 3                          three nodes, all off
    running 3 F n1 n2 G n3             the same, all up, with mounts; what that takes is not told

    boot n1 n2 | back n2 [ADDRESS]     power on; the latter perhaps with another address
    alone n2                           power on, with an engine that is alone before it meets the others
    fail n2 [last words of n2 lost]    power off; perhaps the others never hear what it said last
    mount n1 F | mount slowly n1 F     a client; a slow one does nothing yet after it was told to go on
    keep n1 F                          a client that holds F without mounting it: a region started by hand
    mount(2) n1 F | client n1 F dies | client n1 F mounts and dies
    umount n1 F | umount silently n1 F
    busy n1 F | free n1 F              somebody uses the device, or no more
    kill n1 ocfs2 | start n1 o2cb      kill -9 of a daemon, and its start
    pause n1 ocfs2 | unpause n1 ocfs2  SIGSTOP and SIGCONT
    garble n1                          ocfs2_controld of n1 multicasts what nobody understands
    signal n1 ocfs2 SIGTERM | shutdown n1      what daemon or engine are asked
    engine n1 crash | stop | begin stop | finish stop | start | start apart | merge | fast restart | hang | resume
    cut n1 n2 | n3 losing n2           the sides of the network; perhaps the others lack the last words of n2
    heal                               one network again
    readdress n2 ADDRESS | enlist 4 | strike 4     the configuration is read anew; nodes with a bare number never boot
    pin n1 n2 | unpin n1 n2            on n1, something besides links holds n2
    refuse n1 LINK n2 | accept n1      on n1, the kernel says ENOMEM
    fenced n2 | fence fails n2 | acknowledge n1 n2     the fencing device answers; an operator on n1 says n2 is off
    hold n1 ocfs2.channel | release ... | step ... [COUNT | until TEXT]
    wait SECONDS
    show F | show tree | show locks

What can be held: ocfs2.channel, ocfs2.membership, o2cb.membership (what the engine tells), "o2cb reads", "ocfs2 reads"
(the socket between the two), "connect", and with `set careful` "o2cb acts" and "ocfs2 acts". What is held happens
by `step` alone. All else happens at once, the lowest node first.
"""

import argparse
import sys
from itertools import groupby
from pathlib import Path
from typing import Final

from libo2cb.engine.values import ModelError
from tests.transcripts.cluster_story import Story, StoryError

HERE: Final = Path(__file__).parent
STORIES: Final = (HERE / "groups", HERE / "pair")
WANTED: Final[dict[str, str]] = {}
"""Stories that say what must be, and why it is not so yet. They are rewritten only when named."""


def _folded(lines: list[str]) -> list[str]:
    """What is said several times in a row, once."""
    runs = [(line, len(list(run))) for line, run in groupby(lines)]
    return [f"{line} ({n} times)" if n > 1 else line for line, n in runs]


def retell(text: str) -> str:
    """The story with what happens written anew below each "----".

    Raises:
        StoryError: A line cannot be told.
        Broken: A law does not hold.
    """
    story = Story()
    out: list[str] = []
    telling = True
    for number, line in enumerate(text.splitlines(), 1):
        if line == "----":
            out += [line, *_folded(story.world.lines)]
            story.world.lines.clear()
            telling = False
        elif not line.strip():
            out.append("")
            telling = True
        elif telling:
            out.append(line)
            if not line.startswith("#"):
                try:
                    story.command(line)
                except Exception as error:
                    error.add_note(f"line {number}: {line}; so far: " + "; ".join(story.world.lines[-8:]))
                    raise
    if story.world.lines:
        raise StoryError("the story ends before its last ----")
    if story.world.held:
        raise StoryError(f"still held: {sorted(story.world.held)}")
    story.world.judge_end()
    return "\n".join(out).rstrip("\n") + "\n"


def files() -> list[Path]:
    """All stories."""
    return sorted(path for folder in STORIES for path in folder.glob("*.txt"))


def main() -> int:
    """Compare or rewrite stories."""
    parser = argparse.ArgumentParser(description="Stories of whole clusters")
    parser.add_argument(
        "--rewrite", action="store_true", help="write down what happens now; read it before you keep it"
    )
    parser.add_argument("files", nargs="*", type=Path, default=[p for p in files() if p.stem not in WANTED])
    options = parser.parse_args()
    differ = 0
    for path in options.files:
        before = path.read_text()
        try:
            after = retell(before)
        except (StoryError, ModelError, AssertionError) as error:
            differ += 1
            print(f"{path.name}: {error} ({'; '.join(getattr(error, '__notes__', ()))})")
            continue
        if after != before:
            differ += 1
            print(f"{path.name}: {'rewritten' if options.rewrite else 'differs'}")
            if options.rewrite:
                path.write_text(after)
    return 1 if differ and not options.rewrite else 0


if __name__ == "__main__":
    sys.exit(main())
