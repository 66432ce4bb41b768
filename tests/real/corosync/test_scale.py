"""Many nodes, many groups, on real corosync. Run with -s for the figures."""

import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.process.lab import DAEMONS, OCFS2, Daemon, Node
from tests.real.corosync.cluster import Settings as Corosync
from tests.real.corosync.crowds import Crowd
from tests.real.corosync.lab import RealLab, Settings

pytestmark = pytest.mark.process

MIB = 1 << 20


class Clock:
    """Says what happened when, since it was made."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    def __call__(self, what: str) -> None:
        print(f"{time.monotonic() - self._began:7.1f} s  {what}", flush=True)


def memory(node: Node, daemon: Daemon) -> float:
    """MiB that are a daemon's own."""
    text = Path(f"/proc/{node.process(daemon).pid}/status").read_text()
    return int(dict(line.split(":", 1) for line in text.splitlines())["RssAnon"].split()[0]) * 1024 / MIB


def connections(lab: RealLab, name: str) -> int:
    """How many members ocfs2_controld of a node is of process groups of corosync."""
    pid = lab[name].process(OCFS2).pid
    text = lab.cluster.run(lab.number(name), ("corosync-cpgtool",)).stdout
    return sum(
        pid == int(line.split()[0]) for line in text.splitlines() if line.split()[:1] and line.split()[0].isdigit()
    )


def test_sixteen_nodes_lose_three_at_once() -> None:
    says = Clock()
    with RealLab.of(16, Settings(grace=120.0, corosync=Corosync(token=1000))) as lab:
        says("16 nodes are up, both daemons ready on each")
        vm = lab.volume("vm")
        mounts = [node.begin_mount(vm, "/vm") for node in lab.nodes.values()]
        for mount in mounts:
            mount.worked()
        lab.rest()
        says("all have mounted, and rest")
        gone = ["n5", "n11", "n16"]
        with lab.supply.lock:
            lab.cluster.machines.move({lab.number(name): None for name in gone})
        for name in gone:
            lab.power_off(name)
        lab.rest()
        says("three are gone, recovered, and out of the tree")
        left = sorted(name for name in lab.nodes if name not in gone)
        for name in left:
            assert lab[name].links(vm) == left
            assert sorted(lab[name].addresses()) == left
        broken = lab.breaches(at_rest=True)
        assert not broken, broken
        says("judged")
        for daemon in DAEMONS:
            print(f"{daemon} on n1: {memory(lab['n1'], daemon):.1f} MiB")


@pytest.mark.parametrize("count", [100, pytest.param(1000, marks=pytest.mark.long)])
def test_so_many_groups_lose_a_node(count: int) -> None:
    says = Clock()
    with RealLab.of(3) as lab, ExitStack() as stack:
        says("3 nodes are up")
        for name in lab.nodes:
            stack.enter_context(Crowd.on(lab, name, count))
            says(f"{name} has joined {count} groups")
        lab.rest()
        for name in lab.nodes:
            assert connections(lab, name) == 1
            for daemon in DAEMONS:
                print(f"{daemon} on {name}: {memory(lab[name], daemon):.1f} MiB")
        lab.power_off("n3")
        says("n3 has lost its power")
        lab.rest()
        says("all groups are recovered")
        for name in ("n1", "n2"):
            report = lab[name].ocfs2()
            assert report is not None
            assert len(report.groups) == count
            assert {(group.state, group.links) for group in report.groups} == {("running", (1, 2))}
            assert sorted(lab[name].addresses()) == ["n1", "n2"]
        broken = lab.breaches(at_rest=True)
        assert not broken, broken
        says("judged")
