"""The cluster of real corosync nodes itself: it does what it says, and leaves nothing behind."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.process.node import until
from tests.real.corosync.cluster import Cluster, Member, Settings
from tests.real.corosync.keeper import Namespace, end_all, inhabitants
from tests.real.corosync.namespaces import SOURCE, environment

pytestmark = pytest.mark.process

NOBODY: Final = 65534
BRINGS_UP: Final = """
from tests.real.corosync.cluster import Cluster
with Cluster.up(2) as cluster:
    print(cluster.directory, *(seat.machine.holder.pid for seat in cluster.seats.values()), flush=True)
    input()
"""
FORMS_A_RING: Final = """
from tests.real.corosync.cluster import Cluster, missing
if why := missing():
    print(why)
else:
    with Cluster.up(3) as cluster:
        cluster.cut([3])
        cluster.until({1: [1, 2], 2: [1, 2], 3: [3]})
        print(cluster.ring(1), cluster.ring(3))
"""


def test_it_is_parted_and_joined_again() -> None:
    with Cluster.up(5) as cluster:
        cluster.cut([1, 2, 3], [4, 5])
        cluster.until({1: [1, 2, 3], 4: [4, 5], 5: [4, 5]})
        assert cluster.ring(1)[1]
        assert not cluster.ring(4)[1]
        cluster.cut([1, 2], [3, 4], [5])
        cluster.until({1: [1, 2], 2: [1, 2], 3: [3, 4], 4: [3, 4], 5: [5]})
        assert not any(cluster.ring(number)[1] for number in cluster.seats)
        cluster.heal()
        cluster.until({number: [1, 2, 3, 4, 5] for number in cluster.seats})
        assert all(cluster.ring(number)[1] for number in cluster.seats)


@pytest.mark.parametrize("transport", ["udpu", "knet"])
def test_what_can_happen_to_a_corosync(transport: str) -> None:
    all_three = {1: [1, 2, 3], 2: [1, 2, 3], 3: [1, 2, 3]}
    with Cluster.up(3, Settings(transport="knet" if transport == "knet" else "udpu")) as cluster:
        cluster.kill(3)
        cluster.until({1: [1, 2], 2: [1, 2]})
        cluster.start_all()
        cluster.pause(3)
        cluster.until({1: [1, 2], 2: [1, 2]})
        cluster.resume(3)
        cluster.until(all_three)
        assert cluster.stop(3) == 0
        cluster.until({1: [1, 2], 2: [1, 2]})
        cluster.start(3)
        cluster.until(all_three)
        cluster.power_off(3)
        assert not cluster.seats[3].lives()
        cluster.until({1: [1, 2], 2: [1, 2]})
        cluster.start_all()


def test_nodes_are_added_removed_and_moved_by_a_reload() -> None:
    with Cluster.up(3) as cluster:
        cluster.add(Member.of(4))
        cluster.configure()
        assert cluster.reload(2).returncode == 0
        cluster.start_all()
        cluster.stop(4)
        cluster.readdress(4, "10.99.0.44")
        cluster.start_all()
        assert "10.99.0.44" in cluster.run(1, ("corosync-cmapctl", "nodelist.")).stdout
        cluster.stop(4)
        cluster.configure(cluster.members[:3])
        assert cluster.reload(1).returncode == 0
        assert "10.99.0.44" not in cluster.run(1, ("corosync-cmapctl", "nodelist.")).stdout


def test_a_live_address_cannot_be_changed_by_a_reload() -> None:
    """It is corosync that refuses, and says how it goes; `Cluster.readdress` rests on it."""
    with Cluster.up(2) as cluster:
        cluster.configure([Member.of(1), Member(2, "n2", ("10.99.0.22",))])
        assert "CS_ERR_INVALID_PARAM" in cluster.reload(1).stderr
        assert "10.99.0.22" not in cluster.run(1, ("corosync-cmapctl", "nodelist.")).stdout


def test_a_power_off_ends_whatever_runs_on_the_machine() -> None:
    with Cluster.up(1) as cluster:
        command = (*cluster.prefix(1), "/bin/sh", "-c", "setsid sleep 600 & exec sleep 600")
        with subprocess.Popen(command) as process:
            until("both sleep", lambda: len(inhabitants([cluster.seats[1].machine.namespace])) == 4)
            cluster.power_off(1)
            assert process.wait() == -signal.SIGKILL
        left = inhabitants([cluster.seats[1].machine.namespace])
        assert [it.pid for it in left] == [cluster.seats[1].machine.holder.pid]
        memory = subprocess.run((*cluster.prefix(1), "ls", "/dev/shm"), capture_output=True, text=True, check=True)  # noqa: S108 (a machine's own)
        assert not memory.stdout


def test_nobody_is_ended_who_lives_in_our_own_network() -> None:
    with pytest.raises(PermissionError):
        Namespace.of(os.getpid())


def test_nothing_is_left_of_a_cluster_whose_process_is_killed() -> None:
    command = (sys.executable, "-c", BRINGS_UP)
    with subprocess.Popen(
        command, cwd=SOURCE, env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as run:
        assert run.stdout is not None
        directory, *holders = run.stdout.readline().split()
        networks = [Namespace.of(int(pid)) for pid in holders]
        assert len(inhabitants(networks)) == 4  # on each a holder and a corosync
        run.send_signal(signal.SIGKILL)
    try:
        until("the keeper has ended them all", lambda: not inhabitants(networks))
        until("the directory is gone", lambda: not Path(directory).exists())
    finally:
        end_all(networks)
        for network in networks:
            network.close()


def test_it_needs_no_root_where_the_kernel_allows_user_namespaces() -> None:
    drop: tuple[str, ...] = ()
    if os.geteuid() == 0:
        drop = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups")
    python = _python_of_nobody(drop)
    if python is None:
        pytest.skip("no Python that can import this source may be run by nobody: it lies where only root may read")
    done = _run_apart((*drop, python, "-c", FORMS_A_RING))
    if done.stdout.strip() != "([1, 2], True) ([3], False)" and "namespaces" in done.stdout:
        pytest.skip(done.stdout.strip())
    assert done.stdout.strip() == "([1, 2], True) ([3], False)", done.stderr


def _run_apart(command: tuple[str, ...]) -> "subprocess.CompletedProcess[str]":
    """Run Python with what this one can import, and with nothing that only its user has."""
    ours = [str(SOURCE), *(path for path in sys.path if path.endswith("-packages"))]
    environ = {**environment(), "PYTHONPATH": os.pathsep.join(ours), "PYTHONDONTWRITEBYTECODE": "1", "HOME": "/"}
    return subprocess.run(
        command, cwd="/", env=environ, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False
    )


def _python_of_nobody(drop: tuple[str, ...]) -> str | None:
    """A Python that another user can run and start again, with this source and what it needs."""
    tries = "import subprocess, sys, tests.real.corosync.cluster; subprocess.run((sys.executable, '-V'), check=True)"
    for python in filter(None, (sys.executable, shutil.which("python3", path="/usr/bin"))):
        if _run_apart((*drop, python, "-c", tries)).returncode == 0:
            return python
    return None
