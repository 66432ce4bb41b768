"""`python -m tests.fuzz --minutes N`: new scripts against the real daemon, for so long.

A script that gets answers of a kind that no script got before is worth to be changed further; `--keep` writes it to the
corpus, which everyday runs replay. One that breaks something is made as short as it can be, written, and named; the
exit code is then 1.
"""

import argparse
import hashlib
import random
import sys
import time
from pathlib import Path

from tests.fuzz.labs import CORPUS, Target
from tests.fuzz.running import Broken, shortest
from tests.fuzz.scripts import Script, mutated, obeyed, parsed, written
from tests.process.lab import Lab


def main() -> int:
    """Fuzz."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Fuzz the clients' socket.")
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    parser.add_argument("--keep", action="store_true", help="write scripts with new answers to the corpus")
    options = parser.parse_args()
    print(f"seed {options.seed}")
    chance = random.Random(options.seed)  # noqa: S311 (to be the same again for the same seed)
    corpus = [parsed(path.read_text()) for path in sorted(CORPUS.glob("*.txt"))]
    known: set[str] = set()
    kept = len(corpus)
    with Lab.up(1) as lab:
        target = Target(lab)
        end, runs = time.monotonic() + 60 * options.minutes, 0
        while runs < kept or time.monotonic() < end:
            script = corpus[runs] if runs < kept else mutated(chance, corpus)
            if runs >= kept and obeyed(script):
                continue
            runs += 1
            try:
                seen = target.run(script)
            except Broken as error:
                return _broken(target, script, error)
            if (new := seen - known) and runs > kept:
                corpus.append(script)
                print(f"run {runs}: {'; '.join(sorted(new))}")
                if options.keep:
                    print(f"  kept as {_kept(script, sorted(new))}")
            known |= seen
    print(f"{runs} scripts, {len(known)} kinds of answers, nothing broken")
    return 0


def _broken(target: Target, script: Script, error: Broken) -> int:
    print(f"broken: {error}")
    short = shortest(script, target.fails) if target.fails(script) else script
    print(f"the script, also in {_kept(short, [str(error)])}:\n{written(short)}")
    return 1


def _kept(script: Script, why: list[str]) -> Path:
    name = hashlib.sha256(written(script).encode()).hexdigest()[:12]
    path = CORPUS / f"{name}.txt"
    comments = "".join(f"# {line}\n" for each in why for line in each.splitlines())
    path.write_text(comments + written(script))
    return path


if __name__ == "__main__":
    sys.exit(main())
