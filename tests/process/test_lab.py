"""The lab itself: what it starts ends with it, whatever happens, and its judges can find a law broken."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from libo2cb.kernel.sandbox import SandboxFs
from libo2cb.processes import Process
from libo2cb.sandbox.homes import read_record
from tests.process.lab import DAEMONS, OCFS2, Lab, until

pytestmark = pytest.mark.process

ROOT: Final = Path(__file__).parents[2]
BRINGS_UP: Final = """
from tests.process.lab import Lab
with Lab.up(1) as lab:
    print(lab.sandbox.root, flush=True)
    input()
"""


def processes(lab: Lab) -> list[Process]:
    """The hub and all daemons."""
    hub = read_record(lab.sandbox.hub_record)
    assert hub is not None
    return [hub, *(node.process(daemon) for node in lab.nodes.values() for daemon in DAEMONS)]


def test_nothing_is_left_of_a_lab_whose_test_fails() -> None:
    known: list[Process] = []

    def fails() -> None:
        with Lab.up(1) as lab:
            known.extend(processes(lab))
            lab["n1"].freeze(OCFS2)
            raise LookupError

    with pytest.raises(LookupError):
        fails()
    assert len(known) == 3
    assert not any(process.alive() for process in known)


def test_a_process_that_escaped_its_power_off_is_ended_and_told_of() -> None:
    known: list[Process] = []

    def escapes() -> None:
        with Lab.up(1, daemons=False) as lab:
            # Its parent ends at once, and no node has a record of it: it is ours by the subreaper alone.
            command = ("/bin/sh", "-c", "sleep 600 >/dev/null & echo $!")
            environ = {**os.environ, "HOME": str(lab.sandbox.root)}
            shell = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environ)
            orphan = Process.of(int(shell.stdout))
            assert orphan is not None
            known.append(orphan)

    with pytest.raises(AssertionError, match="left behind: pid"):
        escapes()
    assert not known[0].alive()


def test_nothing_is_left_of_a_lab_whose_process_is_killed() -> None:
    with subprocess.Popen(
        (sys.executable, "-c", BRINGS_UP), cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as run:
        assert run.stdout is not None
        home = Path(run.stdout.readline().strip())
        records = [home / "hub.json", *(home / "n1" / "run" / "processes" / f"{d}.json" for d in DAEMONS)]
        known = [process for process in map(read_record, records) if process is not None]
        assert len(known) == 3
        run.send_signal(signal.SIGKILL)
    until("the keeper has ended them all", lambda: not any(process.alive() for process in known))
    until("the home is gone", lambda: not home.exists())


def test_the_judges_see_a_law_broken() -> None:
    """Somebody takes the link of a live member away, behind the daemon's back."""
    with Lab.up(1) as it:
        n1, vm = it["n1"], it.volume("vm")
        n1.mount(vm, "/vm")
        n1.group(vm, links=[1])
        it.rest()
        assert it.breaches(at_rest=True) == ""
        SandboxFs(n1.home.root).unlink(f"demo/heartbeat/{vm.uuid}/n1")
        assert "broken" in it.breaches(at_rest=True)
