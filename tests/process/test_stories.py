"""The stories of the lock and the queue, with real processes. Every order is forced, none is slept for.

n2 is the node B of the stories; all is seen from n1.
"""

from errno import EBUSY

import pytest

from libo2cb.sandbox.homes import Settings
from tests.process.conftest import Up
from tests.process.lab import DAEMONS, O2CB, OCFS2, Daemon, Lab, Volume, until

pytestmark = pytest.mark.process

MANUAL = Settings(fencing="manual")
"""A START after a death comes when an operator says so, or when the node is back: never by itself."""
NEW_ADDRESS = "10.0.0.99"


def both_mount(lab: Lab, label: str = "vm") -> Volume:
    """A volume that both nodes have mounted; what was logged before is not looked at any more."""
    volume = lab.volume(label)
    lab["n1"].mount(volume, f"/{label}")
    lab["n2"].mount(volume, f"/{label}")
    lab["n1"].group(volume, members=["n1", "n2"], links=[1, 2])
    for node in lab.nodes.values():
        node.mark()
    return volume


def link(volume: Volume, name: str = "n2") -> str:
    return f"heartbeat/{volume.uuid}/{name}"


def changes(lab: Lab, volume: Volume) -> list[str]:
    """What was done on n1 with n2 and with its link, in order, in the words of the stories."""
    words = {
        f"symlink demo/{link(volume)}": "link",
        f"unlink demo/{link(volume)}": "unlink",
        "rmdir demo/node/n2": "rmdir",
        "mkdir demo/node/n2": "mkdir",
    }
    return [words[call] for call in lab["n1"].calls("symlink", "unlink", "mkdir", "rmdir") if call in words]


def test_0_the_race_as_it_was_written_down(up: Up) -> None:
    lab = up(2, MANUAL)
    n1, vm = lab["n1"], both_mount(lab)
    lab.hold("n1", O2CB)
    lab.power_off("n2")
    n1.event(OCFS2, "group_stopped", fs=vm.uuid)
    assert not n1.lines(O2CB, "node_unwanted")
    lab.release("n1", O2CB)
    queued = n1.queued("n2")
    assert queued.links == (vm.uuid,)
    assert changes(lab, vm) == ["mkdir", "link"]

    n1.fenced("n2")
    n1.event(O2CB, "node_removed", number=2)
    n1.group(vm, members=["n1"], links=[1], lost=[])
    assert changes(lab, vm) == ["mkdir", "link", "unlink", "rmdir"]


def test_1_o2cb_hears_first(up: Up) -> None:
    lab = up(2)
    n1, vm = lab["n1"], both_mount(lab)
    lab.hold("n1", OCFS2)
    lab.power_off("n2")
    n1.event(O2CB, "change_queued", number=2)
    assert n1.links(vm) == ["n1", "n2"]
    assert not n1.lines(OCFS2, "group_stopped")
    lab.release("n1", OCFS2)
    n1.event(O2CB, "node_removed", number=2)
    n1.event(OCFS2, "lock_closed", number=2)
    told = [line["event"] for line in n1.lines(OCFS2)]
    assert told.index("group_stopped") < told.index("life_fenced") < told.index("unlinked") < told.index("lock_closed")
    assert changes(lab, vm) == ["mkdir", "link", "unlink", "rmdir"]


def test_3_back_with_the_same_address_before_the_start(up: Up) -> None:
    lab = up(2, MANUAL)
    n1, vm = lab["n1"], both_mount(lab)
    lab.order("n1", O2CB, OCFS2)
    lab.power_off("n2")
    n1.event(OCFS2, "group_stopped", fs=vm.uuid)
    n1.queued("n2")
    lab.power_on("n2")
    n1.event(OCFS2, "unlinked", number=2)
    lab["n2"].ready()
    n1.group(vm, members=["n1"], links=[1])
    n1.event(O2CB, "change_cancelled", number=2)
    lab["n2"].mount(vm, "/vm")
    n1.group(vm, members=["n1", "n2"], links=[1, 2])
    assert changes(lab, vm) == ["mkdir", "link", "unlink", "link"]


def test_4_back_with_a_new_address_before_the_start(up: Up) -> None:
    lab = up(2, MANUAL)
    n1, n2, vm = lab["n1"], lab["n2"], both_mount(lab)
    lab.order("n1", O2CB, OCFS2)
    n1.refuse("unlink", link(vm), EBUSY)
    lab.power_off("n2")
    n1.event(OCFS2, "group_stopped", fs=vm.uuid)
    lab.power_on("n2", NEW_ADDRESS)
    n2.ready()
    n1.event(OCFS2, "kernel_refused", fs=vm.uuid, call="unlink n2")
    mount = n2.begin_mount(vm, "/vm")
    until("the new node waits on n1", lambda: (it := n1.tree("n2")) and it.queue and it.wanted and it.tree == "differs")
    n1.until_ocfs2("n2's join waits", lambda r: any(j.number == 2 for g in r.groups for j in g.queue))
    assert n1.addresses()["n2"] != NEW_ADDRESS
    assert not mount.ended()

    n1.allow("unlink", link(vm))
    mount.worked()
    n1.group(vm, members=["n1", "n2"], links=[1, 2])
    assert changes(lab, vm) == ["mkdir", "link", "unlink", "rmdir", "mkdir", "link"]
    assert n1.addresses()["n2"] == n2.addresses()["n2"] == NEW_ADDRESS


def test_7_ocfs2_controld_is_killed_between_unlink_and_hint(up: Up) -> None:
    lab = up(2)
    n1, vm = lab["n1"], both_mount(lab)
    with n1.stop_at("unlink", link(vm)):
        lab.power_off("n2")
        n1.frozen(OCFS2)
        # Unlinked, and not closed: the lock alone keeps the node now.
        assert n1.links(vm) == ["n1"]
        n1.queued("n2")
        (standing,) = [node for node in n1.look_again(2).nodes if node.name == "n2"]
        assert standing.queue is not None
        assert "ocfs2_controld holds its lock" in standing.queue
        assert not standing.links
        assert changes(lab, vm) == ["mkdir", "link", "unlink"]
        n1.kill(OCFS2)
    n1.event(O2CB, "node_removed", number=2)
    n1.start(OCFS2)
    # Its successor cannot know that n2 was fenced: to it, n2 is a node that nobody has seen.
    n1.until_ocfs2("n2 is not taken for fenced", lambda r: any(lost.name == "n2" for lost in r.unfenced))
    n1.fenced("n2")
    n1.group(vm, members=["n1"], links=[1])


def test_8_o2cb_controld_is_killed_with_a_change_queued(up: Up) -> None:
    lab = up(2, MANUAL)
    n1, vm = lab["n1"], both_mount(lab)
    lab.power_off("n2")
    n1.queued("n2")
    n1.kill(O2CB)
    n1.mark()
    n1.start(O2CB)
    n1.queued("n2")
    assert n1.links(vm) == ["n1", "n2"]
    n1.until_o2cb("it is ready, with a queue", lambda r: r.ready)
    n1.fenced("n2")
    n1.event(O2CB, "node_removed", number=2)
    assert changes(lab, vm) == ["mkdir", "link", "unlink", "rmdir"]


@pytest.mark.parametrize("first", DAEMONS)
def test_9_both_are_killed_while_b_is_dying(up: Up, first: Daemon) -> None:
    lab = up(2, MANUAL)
    n1, vm = lab["n1"], both_mount(lab)
    lab.power_off("n2")
    n1.queued("n2")
    n1.event(OCFS2, "group_stopped", fs=vm.uuid)
    for daemon in DAEMONS:
        n1.kill(daemon)
    n1.mark()
    n1.start(first)
    n1.event(first, "engine_up")
    n1.start(OCFS2 if first == O2CB else O2CB)
    n1.queued("n2")
    n1.group(vm, "stopped")
    assert n1.links(vm) == ["n1", "n2"]
    n1.fenced("n2")
    n1.event(O2CB, "node_removed", number=2)
    n1.group(vm, members=["n1"], links=[1])
    assert changes(lab, vm) == ["mkdir", "link", "unlink", "rmdir"]


def test_13_back_with_a_new_address_and_mounting_elsewhere(up: Up) -> None:
    lab = up(2, MANUAL)
    n1, n2, old = lab["n1"], lab["n2"], both_mount(lab)
    other = lab.volume("other")
    n1.mount(other, "/other")
    n1.refuse("unlink", link(old), EBUSY)
    lab.power_off("n2")
    lab.power_on("n2", NEW_ADDRESS)
    n2.ready()
    n1.event(OCFS2, "kernel_refused", fs=old.uuid, call="unlink n2")
    mount = n2.begin_mount(other, "/other")
    n1.until_ocfs2("n2's join waits", lambda r: any(j.number == 2 for g in r.groups for j in g.queue))
    until("n2 waits for its old link", lambda: (it := n1.tree("n2")) and it.links == (old.uuid,) and it.queue)
    assert n1.links(other) == ["n1"]
    assert not mount.ended()

    n1.allow("unlink", link(old))
    mount.worked()
    n1.group(other, members=["n1", "n2"], links=[1, 2])
    assert n1.addresses()["n2"] == NEW_ADDRESS
    assert changes(lab, other) == ["mkdir", "rmdir", "mkdir", "link"]
    assert changes(lab, old) == ["mkdir", "link", "unlink", "rmdir", "mkdir"]


def test_15_o2cb_controld_dies_between_granting_and_the_reading(up: Up) -> None:
    lab = up(1)
    n1, vm = lab["n1"], lab.volume("vm")
    n1.freeze(O2CB)
    mount = n1.begin_mount(vm, "/vm")
    # It has asked, for it says that it waits; both are shown by one step.
    n1.until_ocfs2("the lock is waited for", lambda r: any(c.name == "locks" for g in r.groups for c in g.conditions))
    n1.freeze(OCFS2)
    n1.thaw(O2CB)
    granted = n1.event(O2CB, "lock_granted", number=1)
    n1.kill(O2CB)
    n1.thaw(OCFS2)
    n1.event(OCFS2, "lock_held", number=1)
    mount.worked()
    n1.group(vm, members=["n1"], links=[1])

    n1.mark()
    n1.start(O2CB)
    n1.ready()
    assert not n1.lines(O2CB, "lock_granted", request=granted["request"])
    assert n1.links(vm) == ["n1"]
