"""What can happen to three nodes on real corosync, and what the two daemons then do. No law is broken by any of it."""

from collections.abc import Callable

import pytest

from libo2cb.sandbox import power
from tests.process.lab import DAEMONS, O2CB, OCFS2, Daemon, Node, Volume, until
from tests.real.corosync.conftest import Shared
from tests.real.corosync.lab import RealLab, Settings

pytestmark = pytest.mark.process

ALL = ["n1", "n2", "n3"]
MANUAL = Settings(fencing="manual", grace=120.0)
"""Nobody is switched off by itself: whoever is lost may come back as it was, also on a slow machine."""
COMMAND = Settings()
SOON = Settings(join_delay=1.0)
Fault = Callable[[RealLab, str], object]


def everywhere(lab: RealLab, label: str) -> Volume:
    """A volume that all nodes have mounted; what was logged before is not looked at any more."""
    volume = lab.volume(label)
    for mount in [node.begin_mount(volume, f"/{label}") for node in lab.nodes.values()]:
        mount.worked()
    runs_everywhere(lab, volume)
    for node in lab.nodes.values():
        node.mark()
    return volume


def runs_everywhere(lab: RealLab, volume: Volume) -> None:
    numbers = sorted(lab.number(name) for name in lab.nodes)
    for node in lab.nodes.values():
        node.group(volume, members=sorted(lab.nodes), links=numbers, lost=[])


def a_fence_was_answered(lab: RealLab) -> None:
    """A daemon writes its log while it goes on: a line may come after what it tells of was seen."""
    both = [lab["n1"], lab["n2"]]
    until("a fence is answered", lambda: any(node.lines(OCFS2, "fence_answered", code=0) for node in both))


def has_left(lab: RealLab, volume: Volume, name: str) -> None:
    """Wait until a node has left, and all others know: umount is done before that."""
    lab[name].until_ocfs2("it has left", lambda r: not any(it.fs == volume.uuid and it.here for it in r.groups))
    others = sorted(set(lab.nodes) - {name})
    for other in others:
        lab[other].group(volume, members=others, links=[lab.number(each) for each in others])


def changes(node: Node, name: str, since: int = 0) -> list[str]:
    """What was done in a node's kernel with another node and its links, in order, from that call on."""
    return [call for call in node.calls("symlink", "unlink", "mkdir", "rmdir")[since:] if call.endswith(f"/{name}")]


def is_mounted(node: Node, volume: Volume) -> bool:
    return any(mount.mount_point == f"/{volume.label}" for mount in node.mounts.mounts())


@pytest.mark.parametrize("fault", [RealLab.kill_engine, RealLab.stop_engine], ids=["SIGKILL", "SIGTERM"])
def test_corosync_ends_on_one_node_and_comes_back(shared: Shared, fault: Fault) -> None:
    """The node keeps its tree and its mounts, stops its groups, and says so; the others wait for a word on it."""
    lab = shared(3, MANUAL)
    vm = everywhere(lab, f"ends{fault.__name__}")
    n1, n3 = lab["n1"], lab["n3"]
    before = len(n1.calls("symlink", "unlink", "mkdir", "rmdir"))
    fault(lab, "n3")
    assert n3.until_ocfs2("it has no engine", lambda r: not r.engine.up).engine.reason
    assert n3.until_o2cb("it has no engine", lambda r: not r.engine.up).engine.reason
    n3.group(vm, "stopped", links=[1, 2, 3])
    assert is_mounted(n3, vm)
    assert sorted(n3.addresses()) == ALL
    assert n3.status() != 0
    for name in ("n1", "n2"):
        lab[name].group(vm, "stopped", lost=["n3"], links=[1, 2, 3])
    assert vm.uuid in n1.queued("n3").links

    lab.start_engine("n3")
    runs_everywhere(lab, vm)
    lab.rest()
    assert is_mounted(n3, vm)
    assert not changes(n1, "n3", before)


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(RealLab.kill_engine, id="SIGKILL"),
        pytest.param(RealLab.stop_engine, id="SIGTERM", marks=pytest.mark.long),
    ],
)
def test_corosync_ends_on_one_node_which_is_fenced(shared: Shared, fault: Fault) -> None:
    lab = shared(3, COMMAND)
    vm = everywhere(lab, f"fenced{fault.__name__}")
    fault(lab, "n3")
    for name in ("n1", "n2"):
        lab[name].group(vm, members=["n1", "n2"], links=[1, 2], lost=[])
        lab[name].event(O2CB, "node_removed", number=3)
    until("n3 is off", lambda: not lab.is_on("n3"))
    a_fence_was_answered(lab)


@pytest.mark.parametrize("daemon", DAEMONS)
def test_a_daemon_is_killed_and_comes_back(shared: Shared, daemon: Daemon) -> None:
    lab = shared(3, MANUAL)
    vm = everywhere(lab, f"killed{daemon[:2]}")
    n2 = lab["n2"]
    before = len(n2.calls("symlink", "unlink", "mkdir", "rmdir"))
    lab.kill("n2", daemon)
    if daemon == OCFS2:
        lab["n1"].group(vm, "stopped")
        lab["n1"].until_ocfs2("it is away", lambda r: any(p.name == "n2" and p.away is not None for p in r.nodes))
    assert n2.links(vm) == ALL
    n2.start(daemon)
    runs_everywhere(lab, vm)
    lab.rest()
    # Its daemon was away, its life was not: nobody's links were taken away for that.
    assert n2.calls("symlink", "unlink", "mkdir", "rmdir")[before:] == []
    assert is_mounted(n2, vm)


def test_a_corosync_that_stands_still_longer_than_the_token(shared: Shared) -> None:
    lab = shared(3, MANUAL)
    vm = everywhere(lab, "stands")
    lab.hang_engine("n3")
    for name in ("n1", "n2"):
        lab[name].group(vm, "stopped", lost=["n3"])
    # Its own daemons are told nothing, and answer all the same.
    n3 = lab["n3"]
    assert n3.ocfs2() is not None
    assert n3.o2cb() is not None
    assert n3.links(vm) == ALL
    lab.resume_engine("n3")
    runs_everywhere(lab, vm)


def test_a_mount_is_asked_for_while_corosync_stands_still(shared: Shared) -> None:
    """The client hears what is waited for, and gets its mount when corosync goes on; nobody is hurt by it."""
    lab = shared(3, MANUAL)
    vm, other = everywhere(lab, "before"), lab.volume("during")
    n3 = lab["n3"]
    lab.hang_engine("n3")
    lab["n1"].group(vm, "stopped", lost=["n3"])
    mount = n3.begin_mount(other, "/during")
    until("the client hears what is waited for", lambda: "waiting" in mount.said())
    assert not mount.ended()
    assert n3.status() != 0
    lab.resume_engine("n3")
    mount.worked()
    runs_everywhere(lab, vm)


def test_a_corosync_that_is_restarted_faster_than_the_token(shared: Shared) -> None:
    lab = shared(3, MANUAL)
    vm = everywhere(lab, "fast")
    n1 = lab["n1"]
    before = len(n1.calls("symlink", "unlink", "mkdir", "rmdir"))
    lab.restart_engine("n3")
    for name in ("n1", "n2"):
        lab[name].event(OCFS2, "group_stopped", fs=vm.uuid)
    for name in ALL:
        lab[name].event(OCFS2, "group_finished", fs=vm.uuid)
    runs_everywhere(lab, vm)
    lab.rest()
    assert not changes(n1, "n3", before)


def test_one_node_is_cut_off_and_joined_again(shared: Shared) -> None:
    lab = shared(3, MANUAL)
    vm = everywhere(lab, "cut")
    lab.cut(["n3"])
    lab["n3"].until_ocfs2("it has no quorum", lambda r: r.engine.up and not r.engine.quorate)
    for name in ALL:
        lab[name].group(vm, "stopped")
    lab["n1"].until_ocfs2("it has quorum", lambda r: r.engine.quorate)
    lab.heal()
    runs_everywhere(lab, vm)


def test_an_operator_acknowledges_a_fence(shared: Shared) -> None:
    lab = shared(3, MANUAL)
    vm = everywhere(lab, "acked")
    n1 = lab["n1"]
    lab.power_off("n3")
    n1.group(vm, "stopped", lost=["n3"])
    assert not n1.until_ocfs2("fencing is manual", lambda r: r.fencing.kind == "manual").fencing.alone
    n1.queued("n3")
    n1.fenced("n3")
    for name in ("n1", "n2"):
        lab[name].group(vm, members=["n1", "n2"], links=[1, 2], lost=[])
        lab[name].event(O2CB, "node_removed", number=3)
    assert [call.split()[0] for call in changes(n1, "n3")[-2:]] == ["unlink", "rmdir"]
    lab.power_on("n3")
    lab["n3"].ready()
    lab["n3"].mount(vm, "/acked")
    runs_everywhere(lab, vm)


def test_who_was_acknowledged_as_fenced_and_lives_resets_itself(shared: Shared) -> None:
    """The operator was wrong: n3 is only cut off. It never goes on as a member."""
    lab = shared(3, MANUAL)
    vm = everywhere(lab, "wrong")
    n1 = lab["n1"]
    lab.cut(["n3"])
    n1.group(vm, "stopped", lost=["n3"])
    n1.fenced("n3")
    for name in ("n1", "n2"):
        lab[name].group(vm, members=["n1", "n2"], links=[1, 2], lost=[])
    assert is_mounted(lab["n3"], vm)
    lab.heal()
    until("n3 has reset itself", lambda: not lab.is_on("n3"))
    for name in ("n1", "n2"):
        lab[name].group(vm, members=["n1", "n2"], links=[1, 2], lost=[])


def test_the_node_list_changes_and_the_tree_follows(shared: Shared) -> None:
    """Added, moved and removed by corosync-cfgtool -R; no daemon is restarted for it."""
    lab = shared(3, MANUAL)
    pids = {(name, daemon): lab[name].process(daemon).pid for name in ALL for daemon in DAEMONS}
    vm = everywhere(lab, "moves")
    n4 = lab[lab.add_node(4)]
    lab.start_daemons("n4")
    n4.mount(vm, "/moves")
    runs_everywhere(lab, vm)
    assert lab["n1"].addresses()["n4"] == "10.99.0.4"

    n4.umount("/moves")
    has_left(lab, vm, "n4")
    power.power_off(lab.sandbox, "n4")
    until("n4 is gone from the tree", lambda: "n4" not in lab["n1"].addresses())
    lab.power_on("n4", "10.99.0.44")
    n4.ready()
    n4.mount(vm, "/moves")
    runs_everywhere(lab, vm)
    assert {node.addresses()["n4"] for node in lab.nodes.values()} == {"10.99.0.44"}

    n4.umount("/moves")
    has_left(lab, vm, "n4")
    lab.power_off("n4")
    lab.remove_node("n4")
    until("n4 is forgotten", lambda: not any("n4" in lab[name].addresses() for name in ALL))
    runs_everywhere(lab, vm)
    assert pids == {(name, daemon): lab[name].process(daemon).pid for name in ALL for daemon in DAEMONS}


def test_a_shutdown_is_refused_while_a_group_lives(shared: Shared) -> None:
    lab = shared(3, MANUAL)
    vm = everywhere(lab, "asks")
    n3 = lab["n3"]
    done = lab.cluster.run(3, ("corosync-cfgtool", "-H"))
    assert "Could not shutdown" in done.stderr
    assert lab.cluster.seats[3].lives()
    refused = n3.event(OCFS2, "shutdown_answered")
    assert refused["allow"] is False
    assert "asks" in refused["cause"] or vm.uuid in refused["cause"]
    n3.umount("/asks")
    has_left(lab, vm, "n3")

    def has_ended() -> bool:
        """The lock that says that a group is here goes a moment after the group."""
        lab.cluster.run(3, ("corosync-cfgtool", "-H"))
        return not lab.cluster.seats[3].lives()

    until("corosync on n3 may end", has_ended)
    # It has left in peace: nobody is lost.
    lab["n1"].until_o2cb("n3 is no member", lambda r: r.engine.members == (1, 2))
    for name in ("n1", "n2"):
        lab[name].group(vm, members=["n1", "n2"], links=[1, 2], lost=[])
        assert not lab[name].lines(OCFS2, "life_lost")


def test_a_node_that_nobody_has_seen_is_fenced_before_the_first_mount() -> None:
    with RealLab.of(3, SOON, daemons=False) as lab:
        lab.power_off("n3")
        lab.rings(["n1", "n2"])
        lab.start_daemons("n1", "n2")
        vm = lab.volume("first")
        lab["n1"].mount(vm, "/first")
        a_fence_was_answered(lab)
        lab["n2"].mount(vm, "/first")
        lab.rest()
        assert not lab.breaches(at_rest=True)


def test_a_node_that_nobody_has_seen_waits_for_an_operator() -> None:
    with RealLab.of(3, Settings(fencing="manual", join_delay=1.0), daemons=False) as lab:
        lab.power_off("n3")
        lab.rings(["n1", "n2"])
        lab.start_daemons("n1", "n2")
        vm = lab.volume("first")
        mount = lab["n1"].begin_mount(vm, "/first")
        for name in ("n1", "n2"):  # an operator's word is taken for what a group waits for, and here by n2
            lab[name].until_ocfs2(
                "n3 blocks it", lambda r: any(lost.name == "n3" for group in r.groups for lost in group.lost)
            )
        assert not mount.ended()
        lab["n2"].fenced("n3")
        mount.worked()
        lab.rest()
        assert not lab.breaches(at_rest=True)
