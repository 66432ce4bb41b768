"""Can a sender read its own last message although nobody else ever gets it?

    python -m tests.real.corosync.lastword [--rounds 30] [--transport udpu] [--one-way]

The rule `joinfence` rests on a yes: a joiner may have read the word that makes it a member, and answered its client,
while the others never hear that word. So from the moment at which all have stopped for it they take it for a member.

Method: members of one group on three machines; that on machine 3 says numbered messages as fast as they come back, so
that each visit of the token takes some along. Machine 3 is cut off at some instant: both directions at once, or first
what it sends, and 20 ms later what it is sent too (the token may then still come, and what is sent with it is lost).
Then it is compared which of its messages machine 3 had delivered to itself before it was told that the others are
lost, and which ones the others had when they were told that it is lost; they never get one of them later. Read alone
are those that are in the first and not in the second.
"""

import argparse
import random
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from statistics import median

from tests.real.corosync.cluster import Cluster, Settings
from tests.real.corosync.hearing import Hearing, Said

CUT = 3
"""The machine that is cut off. Not 1: the ring's representative keeps the token while nobody has anything to say."""
LAG = 0.02
"""Seconds between the two halves of a one-way cut: far less than a token's time-out."""


@dataclass(frozen=True, slots=True)
class Cut:
    """What one cut has shown.

    Attributes:
        alone: how many of its messages machine 3 had read, and nobody else ever got.
        waited: seconds from the reading of the last of them to the moment at which machine 3 was told of the cut;
            0 without one.
        agreed: whether the other two, if they lost machine 3 together, had got exactly the same of all messages.
    """

    alone: int
    waited: float
    agreed: bool


def measure(rounds: int, settings: Settings, seed: int, *, one_way: bool = False) -> list[Cut]:
    """So many cuts."""
    drawn = random.Random(seed)  # noqa: S311 (instants, not secrets)
    found = []
    with Cluster.up(3, settings) as cluster, ExitStack() as stack:
        talk = {CUT: ("--talk",)}
        ears = {n: stack.enter_context(Hearing.on(cluster, n, "lastword", *talk.get(n, ()))) for n in (1, 2, 3)}
        for _ in range(rounds):
            for ear in ears.values():
                ear.members(1, 2, 3, since=max(0, len(ear.said) - 1))
            since = {n: len(ear.said) for n, ear in ears.items()}
            time.sleep(drawn.uniform(0.05, 0.15))  # any instant will do
            if one_way:
                cluster.mute(CUT)
                time.sleep(LAG)
            cluster.cut([CUT])
            found.append(_compare(ears[CUT].lost(1, since[CUT]), [ears[n].lost(CUT, since[n]) for n in (1, 2)]))
            if one_way:
                cluster.unmute(CUT)
            cluster.heal()
            for n, ear in ears.items():
                ear.members(1, 2, 3, since=since[n])
    return found


def _compare(cut_off: Said, others: Sequence[Said]) -> Cut:
    reached = max(other["heard"].get(str(CUT), 0) for other in others)
    alone = [(number, mono) for number, mono in cut_off["own"] if number > reached]
    waited = (cut_off["mono"] - alone[-1][1]) / 1e9 if alone else 0.0
    together = others[0]["members"] == others[1]["members"]
    return Cut(len(alone), waited, not together or others[0]["heard"] == others[1]["heard"])


def report(cuts: Sequence[Cut]) -> str:
    """The figures, for people."""
    some = [cut for cut in cuts if cut.alone]
    lines = [f"cuts {len(cuts)}; with messages that their sender alone has read {len(some)}"]
    if some:
        counts, waits = [cut.alone for cut in some], [cut.waited * 1000 for cut in some]
        lines.append(f"messages read alone, a cut: median {median(counts):.0f}, most {max(counts)}")
        lines.append(f"read before the sender was told of the cut: {min(waits):.0f} to {max(waits):.0f} ms")
    lines.append(f"cuts after which the other two had not the same messages: {sum(not cut.agreed for cut in cuts)}")
    return "\n".join(lines)


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m tests.real.corosync.lastword")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--transport", choices=("udpu", "knet"), default="udpu")
    parser.add_argument("--token", type=int, default=300, help="milliseconds")
    parser.add_argument("--one-way", action="store_true", help="what is sent is lost first")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    settings = Settings(transport=options.transport, token=options.token)
    print(report(measure(options.rounds, settings, options.seed, one_way=options.one_way)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
