"""`python -m tests.bench`: timings beside their floors, in one run on one machine, as JSON.

A floor is what the same kind of work costs with nothing of ours in it; a ratio to it means something on any machine,
a time alone does not. A ratio to the floor of 0.6 says: 0.6 times as many rounds a second as a bare echo server.
"""

import argparse
import json
import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from libo2cb.sandbox import power
from libo2cb.superblock import read_superblock
from protocol import client
from tests.bench import corosync, failure, life, rounds
from tests.process.node import until

VOLUME = Path(power.__file__).with_name("volume.img")


def serving(home: Path) -> subprocess.Popen[bytes]:
    """The process of tests/bench/serving.py, ready."""
    command = [sys.executable, "-m", "tests.bench.serving", str(home)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE)
    until("the echo server listens", (home / "e.sock").exists)
    until("the daemons are ready", lambda: (home / "log").read_text().count('"event":"ready"') == 2)
    return process


def in_process(home: Path) -> dict[str, Any]:
    """The client server with the engine model in its own process, beside the echo server there."""
    daemon, echo = home / "c.sock", home / "e.sock"
    device = home / "volume.img"
    device.write_bytes(VOLUME.read_bytes())
    uuid = read_superblock(str(device)).uuid
    result = {"list_clusters": rounds.queries(daemon, echo).told(0.6)}
    first = rounds.cycle(daemon, uuid, str(device), "bench")
    result["first_service_cycle"] = rounds.beside(first, rounds.bare_cycle(echo), 10).told(0.6)
    with rounds.connect(daemon) as holder:
        for word in (
            client.Mount("ocfs2", uuid, "demo", str(device), "holder"),
            client.MountResult("ocfs2", uuid, 0, "holder"),
        ):
            rounds.exchange(holder, client.encode(word))
        further = rounds.cycle(daemon, uuid, str(device), "bench", (114,))
        result["further_service_cycle"] = rounds.beside(further, rounds.bare_cycle(echo), 20).told(0.6)
    return result


def main() -> int:
    """Measure, and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="on corosync: few kills, and no thousand groups")
    options = parser.parse_args()
    result: dict[str, Any] = {"python": platform.python_version(), "machine": platform.machine()}
    with tempfile.TemporaryDirectory(prefix="ocfs2b") as name:
        process = serving(Path(name))
        try:
            result |= in_process(Path(name))
            result |= life.measure(Path(name) / "e.sock")
        finally:
            process.kill()
            process.communicate()
    result["failure_change"] = [failure.change(1000, 254, 8), failure.change(1000, 3, 3), failure.change(10, 254, 254)]
    result["failure_change_target_ms"] = 100
    result["corosync"] = corosync.measure(quick=options.quick)
    print(json.dumps(result, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
