"""Real daemons of a sandbox: their start, what they take at rest, and a mount's cycle through all of it."""

import re
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from libo2cb.processes import Process
from tests.bench.rounds import bare_cycle, beside, cycle
from tests.process.lab import DAEMONS, Daemon, Lab, Node, until

STARTS = 5
REST_SECONDS = 12.0
"""Longer than whatever wakes up each ten seconds."""
SETTLING_SECONDS = 3.0


def empty_python() -> float:
    """Seconds of a Python that does nothing, the floor of each start."""
    found = []
    for _ in range(STARTS):
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", "pass"], check=True)
        found.append(time.perf_counter() - began)
    return statistics.median(found)


def _used(process: Process) -> float:
    """Seconds of processor time since its start."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


def _start(node: Node, daemon: Daemon) -> tuple[float, float]:
    """Kill a daemon and start it again: seconds from its exec to READY, and of processor time until then."""
    node.kill(daemon)
    node.mark()
    began = time.monotonic_ns()
    process = node.start(daemon)
    ready = node.event(daemon, "ready")
    used = _used(process)
    return (int(ready["mono"]) - began) / 1e9, used


def starts(node: Node) -> dict[str, Any]:
    """From exec to ready, beside an empty Python."""
    floor = empty_python()
    result: dict[str, Any] = {"floor_empty_python_s": round(floor, 3), "target_s": 0.5}
    for daemon in DAEMONS:
        found = [_start(node, daemon) for _ in range(STARTS)]
        node.ready()
        seconds, used = (statistics.median(each) for each in zip(*found, strict=True))
        result[daemon] = {
            "median_s": round(seconds, 3),
            "processor_s": round(used, 3),
            "ratio_to_floor": round(seconds / floor, 1),
        }
    return result


def _status(path: Path, key: str) -> int:
    found = re.search(rf"^{key}:\s*(\d+)", path.read_text(), re.MULTILINE)
    assert found is not None, (path, key)
    return int(found[1])


def _wakes(process: Process) -> int:
    """How often the threads of a process have gone to sleep, and so how often they woke up."""
    threads = Path(f"/proc/{process.pid}/task").iterdir()
    return sum(_status(thread / "status", "voluntary_ctxt_switches") for thread in threads)


def rest(node: Node) -> dict[str, Any]:
    """What both daemons take while nothing happens: memory, and wake-ups of their threads."""
    processes = {daemon: node.process(daemon) for daemon in DAEMONS}
    time.sleep(SETTLING_SECONDS)
    before = {daemon: _wakes(process) for daemon, process in processes.items()}
    time.sleep(REST_SECONDS)
    return {
        daemon: {
            "resident_mb": round(_status(Path(f"/proc/{process.pid}/status"), "VmRSS") / 1024, 1),
            "target_mb": 48,
            "wakeups": _wakes(process) - before[daemon],
            "seconds": REST_SECONDS,
        }
        for daemon, process in processes.items()
    }


def measure(echo: Path) -> dict[str, Any]:
    """A sandbox of one node: its starts, its rest, its cycles beside bare rounds of the echo server."""
    with Lab.up(1) as lab:
        node = lab["n1"]
        volume = lab.volume("bench")
        result = {"start_to_ready": starts(node), "at_rest": rest(node)}
        work = cycle(node.home.clients, volume.uuid, str(volume.path), "bench")
        result["sandbox_cycle"] = beside(work, bare_cycle(echo), 3, 5).told(0.6)
        until("the last leave is over", lambda: not (report := node.ocfs2()) or not report.groups)
    return result
