"""The lab itself: what it starts ends with it, whatever happens, and its judges can find a law broken."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from libo2cb.kernel.sandbox import SandboxFs
from tests.process.lab import DAEMONS, until
from tests.real.corosync.cluster import Settings as Corosync
from tests.real.corosync.keeper import Namespace, end_all, inhabitants
from tests.real.corosync.lab import RealLab, Settings
from tests.real.corosync.namespaces import SOURCE, environment
from tests.real.corosync.rings import untold

pytestmark = pytest.mark.process

BRINGS_UP: Final = """
from tests.real.corosync.lab import RealLab
with RealLab.of(2) as lab:
    volume = lab.volume("vm")
    lab["n1"].mount(volume, "/vm")
    print(lab.sandbox.root, *(seat.machine.holder.pid for seat in lab.cluster.seats.values()), flush=True)
    input()
"""


def test_nothing_is_left_of_a_lab_whose_process_is_killed() -> None:
    command = (sys.executable, "-c", BRINGS_UP)
    with subprocess.Popen(
        command, cwd=SOURCE, env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as run:
        assert run.stdout is not None
        home, *holders = run.stdout.readline().split()
        networks = [Namespace.of(int(pid)) for pid in holders]
        assert len(inhabitants(networks)) >= 2 * (2 + len(DAEMONS))  # on each a holder, a corosync, and both daemons
        run.send_signal(signal.SIGKILL)
    try:
        until("the keeper has ended them all", lambda: not inhabitants(networks))
        until("the home is gone", lambda: not Path(home).exists())
    finally:
        end_all(networks)
        for network in networks:
            network.close()


def test_nothing_is_left_of_a_lab_whose_test_fails() -> None:
    networks: list[Namespace] = []

    def fails() -> None:
        with RealLab.of(1) as lab:
            networks.append(Namespace.of(lab.cluster.seats[1].machine.holder.pid))
            lab.hang_engine("n1")
            raise LookupError

    with pytest.raises(LookupError):
        fails()
    assert not inhabitants(networks)
    networks[0].close()


def test_a_death_that_nobody_has_seen_yet_is_no_rest() -> None:
    """The token is far longer than a look at the lab takes."""
    with RealLab.of(2, Settings(corosync=Corosync(token=20_000))) as lab:
        lab.rest()
        assert list(untold(lab)) == []
        lab.kill_engine("n2")
        assert "n1: corosync's ring is [1, 2], not [1]" in list(untold(lab))


def test_a_fence_command_that_is_still_at_work_is_no_rest() -> None:
    with RealLab.of(1) as lab:
        lab.rest()
        fence = lab.run(lab["n1"], ["sh", "-c", "sleep 600; exit", "libo2cb.sandbox.cli", "kill"], {})
        until("it is seen", lambda: any("switches a node off" in what for what in lab._moving()))
        os.killpg(fence.process.pid, signal.SIGKILL)
        fence.wait()
        lab.rest()


def test_the_judges_see_a_law_broken() -> None:
    """Somebody takes the link of a live member away, behind the daemon's back."""
    with RealLab.of(1) as lab:
        n1, vm = lab["n1"], lab.volume("vm")
        n1.mount(vm, "/vm")
        n1.group(vm, links=[1])
        lab.rest()
        assert lab.breaches(at_rest=True) == ""
        SandboxFs(n1.home.root).unlink(f"demo/heartbeat/{vm.uuid}/n1")
        assert "broken" in lab.breaches(at_rest=True)
