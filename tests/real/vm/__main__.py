"""A guest for one thing.

python -m tests.real.vm run 'uname -a'      a command
python -m tests.real.vm story 0 [ocfs2]     a story of the race on a real kernel, with this daemon killed in it
python -m tests.real.vm fetch               none: the cache is filled, and that is all
"""

import argparse
import os
import sys

from libo2cb.tools.screens import wants_colour
from tests.real.vm import kernel, module
from tests.real.vm.cache import Unavailable
from tests.real.vm.lab import Regions, VmLab


def main() -> int:
    """Do what the command line says; the exit code, that of the command in the guest."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.real.vm", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("do", choices=("run", "story", "demo", "fetch"))
    parser.add_argument("words", nargs="*")
    options = parser.parse_args()
    try:
        with VmLab.up() as lab:
            return _do(lab, options.do, options.words)
    except Unavailable as why:
        print(f"The lab cannot be had here: {why}", file=sys.stderr)
        return 2


def _do(lab: VmLab, what: str, words: list[str]) -> int:
    if what == "fetch":
        linux = kernel.fetch()
        kernel.initrd(linux)
        module.build(linux)
        return 0
    guest = lab.guest()
    with guest.scene(what):
        if what == "run":
            done = guest.run(" ".join(words), seconds=3600)
        elif what == "demo":
            colour = "colour" if wants_colour(os.environ, terminal=sys.stdout.isatty()) else "plain"
            lab.load(guest, Regions.LINKING, "ocfs2", "loop")
            done = guest.call("tests.real.vm.demo", "show", colour, seconds=600)
        else:
            name, kill = (*words, "none")[:2]
            lab.load(guest, Regions.LINKING, "ocfs2", "loop")
            done = guest.call("tests.real.vm.stories", "play", name, kill, seconds=600)
    print(done.out, end="")
    print(*guest.costs, sep="\n", file=sys.stderr)
    return 124 if done.code is None else done.code


if __name__ == "__main__":
    sys.exit(main())
