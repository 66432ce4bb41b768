"""What o2cb cannot hold, on real corosync: it is named with what to do, and all others go on."""

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import pytest

from tests.process.lab import DAEMONS, O2CB, until
from tests.real.corosync import cluster as engine
from tests.real.corosync.cluster import Member
from tests.real.corosync.lab import RealLab, Settings

if TYPE_CHECKING:
    from libo2cb.service.report import TreeNode

pytestmark = pytest.mark.process

ALL: Final = ["n1", "n2", "n3"]
TWICE: Final = "2 nodes are called n2: give each its own name"
NOT_MOUNTED: Final = 32
LONG: Final = "x" * 65
BIG: Final = Member(300, "big", ("10.99.0.30",))
UNNUMBERED: Final = Member(0, "unnumbered", ("10.99.0.31",))
NAMED: Final = Member(4, LONG, ("10.99.0.4",))
SLASHED: Final = Member(5, "a/b", ("10.99.0.5",))
SAME: Final = Member(6, "n2", ("10.99.0.6",))


def reload(lab: RealLab, *more: Member) -> None:
    """Have all corosyncs read a nodelist with these nodes as well."""
    lab.cluster.configure((*lab.cluster.members, *more))
    done = lab.cluster.reload(1)
    assert done.returncode == 0, done.stderr


def unfit(lab: RealLab, name: str, *which: str) -> dict[str, str]:
    """Wait until a node's status has these nodes as such that cannot be held, and no others; why each is not."""
    report = lab[name].until_o2cb(f"{which} are named", lambda r: {n.name for n in r.nodes if _is_unfit(n)} == {*which})
    return {node.name: node.queue or "" for node in report.nodes if _is_unfit(node)}


def _is_unfit(node: "TreeNode") -> bool:
    return node.tree == "unfit"


def test_nodes_that_o2cb_cannot_hold_are_named_and_the_others_mount() -> None:
    with RealLab.of(3, Settings(fencing="manual", join_delay=0.0), daemons=False) as lab:
        # Whoever can be no node of OCFS2 has never written: a first mount does not wait for its fence.
        reload(lab, BIG, UNNUMBERED)
        lab.start_daemons(*ALL)
        vm = lab.volume("vm")
        lab["n1"].mount(vm, "/vm")
        for name in ALL:
            why = unfit(lab, name, "big", "unnumbered")
            assert "300 is outside 1 to 254; give it a number from 1 to 254" in why["big"]
            # corosync makes a number of the address of a node that has none; o2cb cannot hold that either.
            assert "is outside 1 to 254" in why["unnumbered"]
        reload(lab, NAMED, SLASHED)
        for name in ALL:
            why = unfit(lab, name, LONG, "a/b")
            assert "its name has 65 bytes, and 64 is the limit" in why[LONG]
            assert "its name holds a slash" in why["a/b"]
        # The others, and what they mount, are not touched by it.
        lab["n2"].mount(vm, "/vm")
        for name in ALL[:2]:
            lab[name].group(vm, members=ALL[:2], links=[1, 2])
            lab[name].until_o2cb("all three stand", lambda r: [n.name for n in r.nodes if n.tree == "ok"] == ALL)
        reload(lab, SAME)
        for name in ALL:
            lab[name].until_o2cb("it knows of two n2", lambda r: TWICE in r.notes and not any(map(_is_unfit, r.nodes)))
        reload(lab)
        for name in ALL:
            lab[name].until_o2cb("all is well", lambda r: TWICE not in r.notes)
        lab.rest()
        assert not lab.judged()


def test_a_live_node_that_o2cb_cannot_hold_is_refused_its_mount_and_hurts_nobody() -> None:
    with RealLab.of(3, Settings(fencing="manual", join_delay=0.0), daemons=False) as lab:
        third = lab.cluster.members[2]
        lab.cluster.configure((*lab.cluster.members[:2], replace(third, name=LONG)))
        assert lab.cluster.reload(1).returncode == 0
        for daemon in DAEMONS:
            lab["n3"].start(daemon)
        lab.start_daemons("n1", "n2")
        for name in ALL:  # a reload reaches the nodes one after the other
            unfit(lab, name, LONG)
        vm = lab.volume("vm")
        lab["n1"].mount(vm, "/vm")
        mount = lab["n3"].begin_mount(vm, "/vm")
        assert mount.wait() == NOT_MOUNTED
        assert "its name has 65 bytes, and 64 is the limit" in mount.said()
        lab["n2"].mount(vm, "/vm")
        for name in ("n1", "n2"):
            lab[name].group(vm, members=["n1", "n2"], links=[1, 2])
        assert all(node.lives(daemon) for node in lab.nodes.values() for daemon in DAEMONS)


def test_a_second_link_with_ipv4_is_used_and_who_has_none_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Member, "of", classmethod(lambda cls, n: cls(n, f"n{n}", (f"fd00::{n}", f"10.99.0.{n}"))))
    with RealLab.of(2, Settings(fencing="manual", corosync=engine.Settings(transport="knet", token=1000))) as lab:
        until("both stand", lambda: lab["n1"].addresses() == {"n1": "10.99.0.1", "n2": "10.99.0.2"})
        said = "node n2: ring0_addr says fd00::2, so OCFS2 uses its other link, 10.99.0.2"
        lab["n1"].until_o2cb("it is said", lambda r: said in r.notes)
        vm = lab.volume("vm")
        lab["n1"].mount(vm, "/vm")
        lab["n2"].mount(vm, "/vm")
        lab.rest()
        assert not lab.judged()


def test_a_cluster_name_that_no_superblock_holds_is_refused_by_name() -> None:
    long = "a" * 17
    with RealLab.of(1, Settings(fencing="manual", corosync=engine.Settings(cluster=long)), daemons=False) as lab:
        n1 = lab["n1"]
        daemon = n1.start(O2CB)
        until("it has ended", lambda: not daemon.alive())
        said = n1.event(O2CB, "exiting")["cause"]
        assert json.dumps(long) in said
        assert "its name has 17 bytes, and 16 is the limit" in said
