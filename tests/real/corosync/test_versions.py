"""Nodes of different versions: who can talk to the running cluster joins it; who cannot says so, and hurts nobody."""

import signal
import sys

import pytest

from libo2cb.sandbox import power
from tests.process.lab import OCFS2
from tests.real.corosync.lab import RealLab, Settings

pytestmark = pytest.mark.process


def start_build(lab: RealLab, name: str, kind: str) -> None:
    """End ocfs2_controld on a node, in peace, and start another build (build.py) in its place."""
    node = lab[name]
    node.signal(OCFS2, signal.SIGTERM)
    assert node.exit_code(OCFS2) == 0
    node.mark()
    build = (sys.executable, "-m", "tests.real.corosync.build", kind, "--config", str(node.home.config))
    record = node.home.processes / f"{OCFS2}.json"
    lab.keep(power.spawn((*lab.prefix(name), *build), node.log(OCFS2), record, config=node.home.config))


def test_the_next_minor_version_runs_with_this_one() -> None:
    with RealLab.of(3, Settings()) as lab:
        start_build(lab, "n3", "minor")
        lab["n3"].ready()
        vm = lab.volume("vm")
        for node in lab.nodes.values():
            node.mount(vm, "/vm")
        for node in lab.nodes.values():
            node.group(vm, members=["n1", "n2", "n3"], links=[1, 2, 3])
        lab.power_off("n1")
        for name in ("n2", "n3"):
            lab[name].group(vm, members=["n2", "n3"], links=[2, 3], lost=[])
        lab.rest()
        assert not lab.breaches(at_rest=True)


@pytest.mark.parametrize("kind", ["major", pytest.param("block", marks=pytest.mark.long), "words"])
def test_who_cannot_talk_to_the_running_cluster_says_so_and_hurts_nobody(kind: str) -> None:
    with RealLab.of(3, Settings()) as lab:
        vm = lab.volume("vm")
        for name in ("n1", "n2"):
            lab[name].mount(vm, "/vm")
        start_build(lab, "n3", kind)
        n3 = lab["n3"]
        last = n3.event(OCFS2, "exiting")
        assert "cannot talk to the running cluster" in last["cause"]
        assert n3.exit_code(OCFS2) != 0
        assert n3.begin_mount(vm, "/vm").wait() != 0
        # Another change of the group, to see that it still can.
        lab["n2"].umount("/vm")
        lab["n1"].group(vm, members=["n1"], links=[1])
        lab["n2"].mount(vm, "/vm")
        for name in ("n1", "n2"):
            lab[name].group(vm, members=["n1", "n2"], links=[1, 2], lost=[])
            assert lab.is_on(name)
        assert not lab.breaches()
