"""A sandbox cluster that lives for minutes: `python -m tests.soak [--minutes 5] [--seed N] [--nodes 3]`.

Real daemons; clients mount and unmount, nodes lose power and come back, all drawn from the seed. Each round ends at
rest, with everything unmounted and every node on: there the memory and the open descriptors of every daemon are taken.
In the end:

- memory: the median of the last fifth of the rests is at most 1 % above that of the second;
- descriptors: equal at all rests of one run of a daemon, but for the first, which is before its first mount;
- laws: the judges of tests/laws find none broken in all that was recorded.

A daemon that was started with its node is another run: its numbers are compared with each other, and all runs' medians
of memory with one another by the time at which they were taken. At least two nodes are never switched off.
"""

import argparse
import json
import random
import sys
import time
from collections import defaultdict
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Final

from libo2cb.sandbox.homes import Settings
from tests.process.lab import DAEMONS, Daemon, Lab, Node, Volume, until

MIB: Final = 1 << 20
GROWTH: Final = 0.01
"""By how much memory may have grown, from the second fifth of the rests to the last."""
FIFTHS: Final = 5
VOLUMES: Final = 2
RING: Final = 16 << 10
"""Bytes of log kept in memory: so few that they are full long before the second fifth. A full ring is no leak."""
SETTINGS: Final = Settings(mount=60.0, grace=30.0, join_delay=20.0)


@dataclass(frozen=True, slots=True)
class Sample:
    """One daemon at one rest.

    Attributes:
        round: after how many rounds.
        node: where.
        daemon: which.
        pid: which run of it.
        rss: bytes of memory that are its own (anonymous; mapped files come and go with the machine's cache).
        fds: open descriptors.
    """

    round: int
    node: str
    daemon: str
    pid: int
    rss: int
    fds: int


@dataclass(frozen=True, slots=True)
class Memory:
    """Of one run of a daemon, or of all of one daemon on nodes that were never off.

    Attributes:
        second: median of the second fifth, bytes.
        last: of the last.
    """

    second: float
    last: float

    @property
    def growth(self) -> float:
        """Part of the second by which the last is greater."""
        return self.last / self.second - 1

    @property
    def kept(self) -> bool:
        """Whether that is little enough."""
        return self.growth <= GROWTH


@dataclass(frozen=True, slots=True)
class Result:
    """What a soak has come to.

    Attributes:
        rounds: how many.
        deeds: how often each thing was done.
        memory: by "node daemon", of those that ran all the time and often enough at rest.
        leaks: descriptors that are not equal at rest, each a sentence.
        laws: what the judges say; "" when no law was broken.
        samples: all that was measured.
    """

    rounds: int
    deeds: dict[str, int]
    memory: dict[str, Memory]
    leaks: tuple[str, ...]
    laws: str
    samples: tuple[Sample, ...]

    def kept(self) -> bool:
        """Whether everything is as it must be."""
        return bool(self.memory) and all(m.kept for m in self.memory.values()) and not self.leaks and not self.laws

    def text(self) -> str:
        """For people."""
        deeds = ", ".join(f"{n} {what}" for what, n in sorted(self.deeds.items()))
        lines = [f"{self.rounds} rests; {deeds}"]
        for who, m in sorted(self.memory.items()):
            said = "ok" if m.kept else f"GROWS by more than {GROWTH:.0%}"
            lines.append(
                f"memory {who}: {m.second / MIB:.2f} MiB in the second fifth, {m.last / MIB:.2f} in the last"
                f" ({m.growth:+.2%}): {said}"
            )
        if not self.memory:
            lines.append("memory: too few rests to say anything")
        lines += [f"descriptors: {leak}" for leak in self.leaks] or ["descriptors: exactly equal at rest"]
        lines.append(self.laws or "0 laws broken")
        return "\n".join(lines)


def fifths(values: list[int]) -> Memory | None:
    """The medians of the second and the last fifth; None of fewer than ten values."""
    size = len(values) // FIFTHS
    if size < 2:
        return None
    return Memory(median(values[size : 2 * size]), median(values[-size:]))


def leaks(samples: Iterable[Sample]) -> tuple[str, ...]:
    """Where the descriptors of one run of a daemon differ between two rests, its first left out."""
    runs: dict[tuple[str, str, int], list[Sample]] = defaultdict(list)
    for s in samples:
        runs[s.node, s.daemon, s.pid].append(s)
    return tuple(
        f"{node} {daemon} (pid {pid}) has {b.fds} at rest {b.round}, and had {a.fds} at rest {a.round}"
        for (node, daemon, pid), run in sorted(runs.items())
        for a, b in pairwise(run[1:])
        if a.fds != b.fds
    )


class Soak:
    """One run.

    Args:
        lab: its cluster, at rest.
        seed: of all that is done.
    """

    def __init__(self, lab: Lab, seed: int) -> None:
        self._lab = lab
        self._random = random.Random(seed)  # noqa: S311 (a seed is a history)
        self._volumes = [lab.volume(f"v{i}") for i in range(VOLUMES)]
        self._mounted: set[tuple[str, Volume]] = set()
        self._steady = set(list(lab.nodes)[:2])
        self._samples: list[Sample] = []
        self._deeds: dict[str, int] = defaultdict(int)
        self._rounds = 0

    def run(self, seconds: float) -> Result:
        """Live for so long; the last round is finished."""
        end = time.monotonic() + seconds
        self._rest()
        while time.monotonic() < end:
            self._round()
            self._rest()
        memory: dict[str, Memory] = {}
        for name in sorted(self._steady):
            for daemon in DAEMONS:
                values = [s.rss for s in self._samples if (s.node, s.daemon) == (name, daemon)]
                found = fifths(values[1:])
                if found is not None:
                    memory[f"{name} {daemon}"] = found
        laws = self._lab.breaches(at_rest=True)
        return Result(self._rounds, dict(self._deeds), memory, leaks(self._samples), laws, tuple(self._samples))

    # A round.

    def _round(self) -> None:
        """Some deeds, and then everything as it was: all on, nothing mounted."""
        self._rounds += 1
        for _ in range(self._random.randint(2, 5)):
            self._random.choice((self._mount, self._mount, self._unmount, self._read))()
        if len(self._lab.nodes) > len(self._steady) and self._random.random() < 0.25:
            self._death()
        while self._mounted:
            self._unmount()

    def _node(self) -> Node:
        return self._lab[self._random.choice(sorted(self._lab.nodes))]

    def _mount(self) -> None:
        node, volume = self._node(), self._random.choice(self._volumes)
        if (node.name, volume) in self._mounted:
            return
        node.mount(volume, f"/{volume.label}")
        self._mounted.add((node.name, volume))
        self._deeds["mounts"] += 1

    def _unmount(self) -> None:
        if not self._mounted:
            return
        name, volume = self._random.choice(sorted(self._mounted, key=lambda it: (it[0], it[1].label)))
        self._lab[name].umount(f"/{volume.label}")
        self._mounted.discard((name, volume))
        self._deeds["unmounts"] += 1

    def _read(self) -> None:
        assert self._node().tool("hb_ctl", "-I").wait() in range(256)
        self._deeds["looks at status"] += 1

    def _death(self) -> None:
        """A node loses power, the others recover, and it comes back, sometimes at another address."""
        name = self._random.choice(sorted(set(self._lab.nodes) - self._steady))
        self._lab.power_off(name)
        self._mounted = {it for it in self._mounted if it[0] != name}
        self._deeds["deaths"] += 1
        # Not before it is fenced: a device acts on a node, and would switch the new life off.
        self._lab.rest()
        address = f"127.0.0.{100 + self._deeds['deaths'] % 100}" if self._random.random() < 0.5 else None
        self._lab.power_on(name, address)
        self._lab[name].ready()

    # At rest.

    def _rest(self) -> None:
        self._lab.rest()
        until("all have forgotten what was unmounted", self._is_empty)
        self._lab.rest()
        for node in self._lab.nodes.values():
            for daemon in DAEMONS:
                self._samples.append(self._sample(node, daemon))

    def _is_empty(self) -> bool:
        reports = [node.ocfs2() for node in self._lab.nodes.values()]
        return all(r is not None and not r.groups for r in reports)

    def _sample(self, node: Node, daemon: Daemon) -> Sample:
        pid = node.process(daemon).pid
        fds = until(f"{daemon} on {node.name} is alone", lambda: _settled_descriptors(pid))
        return Sample(self._rounds, node.name, daemon, pid, _own_memory(pid), fds)


def _own_memory(pid: int) -> int:
    fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":" in line)
    return int(fields["RssAnon"].split()[0]) * 1024


def _settled_descriptors(pid: int) -> int | None:
    """How many are open, once the clients that asked for reports are gone: two looks that agree, twice."""
    looks = []
    for _ in range(4):
        with suppress(FileNotFoundError):
            looks.append(frozenset(p.name for p in Path(f"/proc/{pid}/fd").iterdir()))
        time.sleep(0.02)
    return len(looks[0]) if len(set(looks)) == 1 else None


def soak(minutes: float, seed: int, nodes: int) -> Result:
    """A cluster's life of so many minutes."""
    with Lab.up(nodes, SETTINGS, daemons=False, seed=seed) as lab:
        for node in lab.nodes.values():
            with node.home.config.open("a") as config:
                config.write(f"\n[status]\nring = {RING}\n")
            for daemon in DAEMONS:
                node.start(daemon)
        for node in lab.nodes.values():
            node.ready()
        return Soak(lab, seed).run(minutes * 60)


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=5.0, help="how long (5)")
    parser.add_argument("--seed", type=int, default=1, help="of all that is done (1)")
    parser.add_argument("--nodes", type=int, default=3, help="two of which are never off (3)")
    parser.add_argument("--samples", type=Path, help="a file for all that was measured, a JSON object a line")
    options = parser.parse_args()
    if options.nodes < 2:
        parser.error("it takes two nodes at least")
    result = soak(options.minutes, options.seed, options.nodes)
    print(result.text())
    if options.samples is not None:
        lines = (json.dumps(asdict(sample)) for sample in result.samples)
        options.samples.write_text("".join(f"{each}\n" for each in lines))
    return 0 if result.kept() else 1


if __name__ == "__main__":
    sys.exit(main())
