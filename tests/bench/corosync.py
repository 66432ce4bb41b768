"""Both daemons on three real corosync nodes, beside bare members of a process group in the same run.

    python -m tests.bench.corosync [--quick]

- `mount`: from MOUNT to STATUS, one at a time, into groups that another node is in. A join is four rounds of multicast
  (join, locks, stopped, started), so the floor is four rounds of a bare member on the same node, one at a time. Target:
  a millisecond above it, in the median. Beside it the processor time that each daemon uses for one.
- `node_gone`: a node loses its power; times from the moment at which a bare member on n1 is told NODEDOWN, to the last
  link gone and to the node gone in the kernel of n1 (its journal's times). Fencing is "none": how long a fence takes is
  the fence's own. The floor is another bare member on n1: how much later, or sooner, it is told. Targets: the node is
  gone within 5 ms for one group, within 250 ms for a thousand; growth is linear.
- `at_rest`: processor time of each daemon while nothing happens, beside corosync's own.
"""

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

from libo2cb.kernel import journal
from tests.process.lab import DAEMONS, Node, until
from tests.real.corosync.cluster import missing
from tests.real.corosync.crowd import uuid_of
from tests.real.corosync.crowds import Crowd
from tests.real.corosync.hearing import Hearing
from tests.real.corosync.lab import RealLab, Settings

FULL: Final = {1: 30, 10: 30, 100: 10, 1000: 3}
QUICK: Final = {1: 5, 10: 3, 100: 2}
"""How many kills for how many groups."""
ROUNDS: Final = 4
"""Rounds of multicast of a join into a group that runs."""
MOUNTS: Final = 200
WORD: Final = 150
"""Bytes of a word of one group, more or less."""
_HERTZ: Final = os.sysconf("SC_CLK_TCK")
REST: Final = 10.0
"""Seconds of rest that are measured."""


def measure(*, quick: bool = False) -> dict[str, Any]:
    """All figures; why there are none where no corosync can run."""
    if why := missing():
        return {"left_out": why}
    with RealLab.of(3, Settings(fencing="none", join_delay=0.0)) as lab:
        result: dict[str, Any] = {"nodes": 3, "mount": mounts(lab), "at_rest": at_rest(lab)}
        result["node_gone"] = [kills(lab, count, times) for count, times in (QUICK if quick else FULL).items()]
    result["node_gone_target_ms"] = {"1": 5, "1000": 250}
    return result


def mounts(lab: RealLab) -> dict[str, Any]:
    """MOUNT to STATUS on n2, beside the rounds of multicast that it takes."""
    with Crowd.on(lab, "n1", MOUNTS):
        before = bare_rounds(lab, "n2")
        processor = {f"{name} {daemon}": lab[name].process(daemon).pid for name in ("n1", "n2") for daemon in DAEMONS}
        ticks = {who: _ticks(pid) for who, pid in processor.items()}
        with Crowd.on(lab, "n2", MOUNTS, at_once=1) as crowd:
            took = crowd.took
            used = {
                who: round(1000 * (_ticks(pid) - ticks[who]) / _HERTZ / MOUNTS, 2) for who, pid in processor.items()
            }
        floor = [ROUNDS * each for each in before + bare_rounds(lab, "n2")]
    lab.restore()
    over = statistics.median(took) - statistics.median(floor)
    return {
        **told(took),
        "floor_four_rounds": told(floor),
        "above_floor_ms": round(over / 1e6, 3),
        "target_ms": 1,
        "processor_ms_a_mount": used,
    }


def bare_rounds(lab: RealLab, name: str) -> list[int]:
    """Rounds of multicast of a bare member on a node, in ns."""
    with Hearing.on(lab.cluster, lab.number(name), "bare", "--rounds", str(MOUNTS), str(WORD)) as ear:
        return list(ear.until("it has measured", lambda said: "rounds" in said)["rounds"])


def kills(lab: RealLab, count: int, times: int) -> dict[str, Any]:
    """So many power-offs of n3, each with so many groups."""
    links: list[int] = []
    nodes: list[int] = []
    floor: list[int] = []
    with ExitStack() as stack:
        for name in ("n1", "n2"):
            stack.enter_context(Crowd.on(lab, name, count))
        for _ in range(times):
            with (
                Crowd.on(lab, "n3", count),
                Hearing.on(lab.cluster, 1, "bare") as one,
                Hearing.on(lab.cluster, 1, "bare") as other,
                Hearing.on(lab.cluster, 3, "bare"),
            ):
                one.members(1, 1, 3)
                other.members(1, 1, 3)
                lab.rest()
                lab.power_off("n3")
                told_at, other_at = (ear.lost(3, 0)["mono"] for ear in (one, other))
            until("n3 is out of the tree", lambda: "n3" not in lab["n1"].addresses())
            link, node = gone(lab["n1"], told_at, count)
            links.append(link - told_at)
            nodes.append(node - told_at)
            floor.append(other_at - told_at)
            lab.power_on("n3")
            lab["n3"].ready()
    lab.restore()
    floor_told = told([abs(each) for each in floor])
    return {"groups": count, "link_gone": told(links), "node_gone": told(nodes), "floor_other_listener": floor_told}


def gone(node: Node, since: int, count: int) -> tuple[int, int]:
    """When the last link to n3 went after a moment, and when n3 itself did."""
    calls = [it for it in journal.effects(journal.read(node.home.log / "kernel.jsonl")) if it["mono"] > since - 10**9]
    ours = {f"demo/heartbeat/{uuid_of(number)}/n3" for number in range(1, count + 1)}
    unlinked = [it["mono"] for it in calls if it["call"] == "unlink" and it["path"] in ours]
    assert len(unlinked) == count, f"{len(unlinked)} of {count} links went"
    (removed,) = (it["mono"] for it in calls if it["call"] == "rmdir" and it["path"] == "demo/node/n3")
    return max(unlinked), removed


def at_rest(lab: RealLab) -> dict[str, Any]:
    """Processor time of each program on n1 while nothing happens, in percent of one processor."""
    number = lab.number("n1")
    pids = {"corosync": lab.cluster.process(number).pid} | {d: lab["n1"].process(d).pid for d in DAEMONS}
    lab.rest()
    before = {who: _ticks(pid) for who, pid in pids.items()}
    time.sleep(REST)
    return {f"{who}_percent": round(100 * (_ticks(pid) - before[who]) / _HERTZ / REST, 2) for who, pid in pids.items()}


def _ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def told(nanoseconds: Sequence[int]) -> dict[str, Any]:
    """Median and maximum, in ms."""
    ordered = sorted(nanoseconds)
    return {
        "n": len(ordered),
        "median_ms": round(statistics.median(ordered) / 1e6, 3),
        "max_ms": round(ordered[-1] / 1e6, 3),
    }


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.corosync")
    parser.add_argument("--quick", action="store_true", help="few kills, and no thousand groups")
    print(json.dumps(measure(quick=parser.parse_args().quick), indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
