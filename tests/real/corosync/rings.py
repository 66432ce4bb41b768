"""What is at work in a lab behind its reports: rings that change, news that is on its way, fences.

A death takes a token's time to be seen. Until then everything looks as if it rested: nobody waits for anything. So rest
is asked of corosync first, then of the daemons: which nodes hear each other is known here, for here they are cut,
killed and paused.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from libo2cb.processes import Process
from libo2cb.service.report import EngineState, O2cbReport, Ocfs2Report
from tests.process.node import DAEMONS

if TYPE_CHECKING:  # the lab asks us
    from tests.real.corosync.lab import RealLab

SWITCH: Final = "libo2cb.sandbox.cli"
"""The program of fence commands, which is called with the word "kill"."""


def hearers(lab: "RealLab", name: str) -> list[int]:
    """Numbers of the nodes on this one's side of the network whose corosync runs and does not stand still."""
    side = lab.cluster.machines.side(lab.number(name))
    return sorted(
        lab.number(each)
        for each in lab.nodes
        if side is not None
        and lab.cluster.machines.side(lab.number(each)) == side
        and lab.cluster.seats[lab.number(each)].lives()
        and not lab.engine_hangs(each)
    )


def untold(lab: "RealLab") -> Iterator[str]:
    """What a corosync has not seen, or has not told the daemons of its node yet. A hung one tells nobody anything."""
    rings = {number: lab.cluster.ring_id(number) for number in lab.cluster.seats}
    for name, node in lab.nodes.items():
        number = lab.number(name)
        if not lab.is_on(name) or lab.engine_hangs(name):
            continue
        wanted = hearers(lab, name) if lab.cluster.seats[number].lives() else []
        if wanted and (ring := lab.cluster.ring(number)[0]) != wanted:
            yield f"{name}: corosync's ring is {ring}, not {wanted}"
        elif wanted and (others := {rings[each] for each in wanted}) != {rings[number]}:
            yield f"{name}: corosync is in ring {rings[number]}, others on its side are in {sorted(others)}"
        reports: Sequence[O2cbReport | Ocfs2Report | None] = (node.o2cb(), node.ocfs2())
        for daemon, report in zip(DAEMONS, reports, strict=True):
            if report is None:
                yield f"{name}: {daemon} is silent"
            elif not _was_told(report.engine, rings[number], wanted):
                yield f"{name}: {daemon} was told of ring {report.engine.ring}, not yet of {rings[number]}"


def _was_told(engine: EngineState, ring: str, members: list[int]) -> bool:
    """Whether a daemon knows its engine as it is; without members there is none."""
    if not members:
        return not engine.up
    return engine.up and (engine.ring, list(engine.members)) == (ring, members)


def lives(lab: "RealLab") -> list[tuple[str, str]]:
    """The life and the ring of each node. They change without a test's doing where a busy machine loses a token."""
    found = []
    for name, node in lab.nodes.items():
        boot = ""
        with suppress(FileNotFoundError):  # it is off
            boot = node.home.mark.read_text()
        found.append((boot, lab.cluster.ring_id(lab.number(name))))
    return found


def fences(processes: Iterable[Process]) -> Iterator[str]:
    """Those of some processes that switch a node off. They act on a node, and not on a life: the next may be hit."""
    for process in processes:
        with suppress(OSError):
            words = Path(f"/proc/{process.pid}/cmdline").read_bytes().split(b"\0")
            if SWITCH.encode() in words and b"kill" in words:
                yield f"{process} switches a node off"
