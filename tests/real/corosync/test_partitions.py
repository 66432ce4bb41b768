"""Five nodes whose network is parted, in two and in three, and joined again."""

import pytest

from tests.process.lab import O2CB, OCFS2, Volume, until
from tests.real.corosync.conftest import Shared
from tests.real.corosync.lab import RealLab, Settings

pytestmark = pytest.mark.process

MANUAL = Settings(fencing="manual", grace=120.0)
MAJORITY, MINORITY = ["n1", "n2", "n3"], ["n4", "n5"]


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
    for node in lab.nodes.values():
        node.group(volume, members=sorted(lab.nodes), links=[1, 2, 3, 4, 5], lost=[])


def test_a_majority_and_a_minority_of_which_nobody_is_fenced(shared: Shared) -> None:
    """All stop: the majority waits for an operator, the minority has no quorum. Joined again, they go on as before."""
    lab = shared(5, MANUAL)
    vm = everywhere(lab, "parted")
    lab.cut(MAJORITY, MINORITY)
    lab.rings(MAJORITY, MINORITY)
    for name in MAJORITY:
        lab[name].group(vm, "stopped", lost=MINORITY)
    for name in MINORITY:
        lab[name].group(vm, "stopped")
        lab[name].until_ocfs2("it has no quorum", lambda r: not r.engine.quorate)
        assert lab[name].links(vm) == sorted(lab.nodes)
    lab.heal()
    runs_everywhere(lab, vm)
    for node in lab.nodes.values():
        assert not node.lines(OCFS2, "unlinked")
        assert not node.lines(O2CB, "node_removed")


def test_three_parts_without_a_quorum(shared: Shared) -> None:
    lab = shared(5, MANUAL)
    vm = everywhere(lab, "three")
    sides = (["n1", "n4"], ["n2", "n5"], ["n3"])
    lab.cut(*sides)
    lab.rings(*sides)
    for name in lab.nodes:
        lab[name].until_ocfs2("it has no quorum", lambda r: r.engine.up and not r.engine.quorate)
        lab[name].group(vm, "stopped")
    lab.heal()
    runs_everywhere(lab, vm)


def test_the_majority_fences_the_minority_and_goes_on(shared: Shared) -> None:
    lab = shared(5)
    vm = everywhere(lab, "fenced")
    lab.cut(MINORITY)
    for name in MAJORITY:
        lab[name].group(vm, members=MAJORITY, links=[1, 2, 3], lost=[])
    until("the minority is off", lambda: not any(lab.is_on(name) for name in MINORITY))
    trees = [lab[name] for name in MAJORITY]
    until("it is out of the tree", lambda: all(sorted(node.addresses()) == MAJORITY for node in trees))
    lab.heal()
    for name in MINORITY:
        lab.power_on(name)
    for name in MINORITY:
        lab[name].ready()
        lab[name].mount(vm, "/fenced")
    runs_everywhere(lab, vm)
