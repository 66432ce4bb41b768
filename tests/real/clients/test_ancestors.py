"""What was wrong with the daemons of 2007, through real clients: the numbers are those of test_ancestor_bugs.

Where a program of Debian can trigger a line it does, here or in the test that SHOWN names; else UNSHOWN says why not,
and the line is tried below the clients, in tests/unit/test_ancestor_bugs.py.
"""

import importlib
import signal
from errno import EBUSY, EIO
from typing import Final

import pytest

from tests.process.lab import OCFS2
from tests.real.clients.lab import ClientLab, ClientNode
from tests.real.clients.scene import Scene

SHOWN: Final = {
    1: "test_mount.test_a_second_mount_and_a_third_and_one_unmount_for_all",
    2: "test_mount.test_the_first_mount",
    5: "test_mount.test_a_mount_while_another_is_in_progress",
    6: "test_mount.test_a_mount_while_another_is_in_progress",
    7: "test_hb_ctl.test_a_device_path_with_blanks_is_told_by_its_volume",
    8: "test_mount.test_a_second_mount_and_a_third_and_one_unmount_for_all",
    9: "test_mount.test_a_mount_while_another_is_in_progress",
    10: "test_quirk.test_mount_that_is_killed_or_mounts_and_is_killed",
    11: "test_quirk.test_mount_that_is_killed_or_mounts_and_is_killed",
    12: "test_mount.test_a_mount_while_another_is_in_progress",
    13: "test_ancestors.test_13_a_region_that_cannot_be_made",
    14: "test_ancestors.test_13_a_region_that_cannot_be_made",
    15: "test_ancestors.test_15_a_failed_mount_whose_leave_fails",
    16: "test_ancestors.test_16_an_unmount_whose_leave_fails",
    22: "test_quirk.test_a_mount_that_fails_silently",
    24: "test_identity.test_a_daemon_that_finds_its_name_taken_says_by_whom",
    25: "test_ancestors.test_25_a_clean_end_is_exit_0_and_no_end_under_a_mount",
    26: "test_ancestors.test_26_a_mount_waits_for_what_is_late",
    27: "test_ancestors.test_27_a_lost_engine_tears_nothing_down_under_a_mount",
}
UNSHOWN: Final = {
    3: "no client can make the daemon fault",
    4: "libo2cb sends no MRESULT without a MOUNT that was answered",
    17: "Debian's programs take the UUID from the superblock: it has always 32 digits",
    18: "they send no other words than those of the protocol",
    19: "they send a record with one write(2)",
    20: "they ask one thing at a time, and read all of the answer",
    21: "buffers of C",
    23: "arrays of C",
    **dict.fromkeys(range(28, 36), "of o2cb_controld: no client speaks with it"),
}


def test_every_line_is_shown_or_said_not_to_be() -> None:
    assert sorted([*SHOWN, *UNSHOWN]) == list(range(1, 36))
    for where in SHOWN.values():
        module, _, test = where.partition(".")
        assert hasattr(importlib.import_module(f"tests.real.clients.{module}"), test), where


@pytest.mark.process
def test_13_a_region_that_cannot_be_made(lab: ClientLab, node: ClientNode) -> None:
    """Its mount waits, and says why in status; given up it leaves nothing, and when the kernel relents it works."""
    vm = lab.volume("noregion")
    scene, device, a = Scene(node, "ancestor_13", vm), node.device(vm), node.point("a")
    node.refuse("mkdir", f"heartbeat/{vm.uuid}", EIO)
    client = node.begin("mount.ocfs2", device, a)
    node.event(OCFS2, "kernel_refused", fs=vm.uuid)
    scene.note("the kernel refuses the region; killed while it waits")
    scene.tell(client.command, client.kill())
    scene.unused()
    node.mark()
    client = node.begin("mount.ocfs2", device, a)
    node.event(OCFS2, "kernel_refused", fs=vm.uuid)
    node.allow("mkdir", f"heartbeat/{vm.uuid}")
    scene.note("the kernel relents")
    scene.ended(client)
    scene.in_use(vm, [a], ["ocfs2"])
    scene.unmount(a)
    scene.unused()
    scene.check()


@pytest.mark.process
def test_15_a_failed_mount_whose_leave_fails(lab: ClientLab, node: ClientNode) -> None:
    """Its MRESULT is answered all the same, and the leave is tried again until the kernel takes it."""
    vm = lab.volume("failedleave")
    scene, device = Scene(node, "ancestor_15", vm), node.device(vm)
    node.refuse("rmdir", f"heartbeat/{vm.uuid}", EBUSY)
    with node.shim.refusing(EIO):
        scene.run("mount.ocfs2", device, node.point("a"))
    node.event(OCFS2, "kernel_refused", fs=vm.uuid)
    node.allow("rmdir", f"heartbeat/{vm.uuid}")
    scene.unused()
    scene.check()


@pytest.mark.process
def test_16_an_unmount_whose_leave_fails(lab: ClientLab, node: ClientNode) -> None:
    """It is answered, may be said again, and is finished later; a MOUNT meanwhile waits for it."""
    vm = lab.volume("stuckleave")
    scene, device, a = Scene(node, "ancestor_16", vm), node.device(vm), node.point("a")
    scene.run("mount.ocfs2", device, a)
    node.refuse("rmdir", f"heartbeat/{vm.uuid}", EBUSY)
    scene.unmount(a)
    node.event(OCFS2, "kernel_refused", fs=vm.uuid)
    scene.note("the kernel keeps the region")
    scene.run("ocfs2_hb_ctl", "-K", "-u", vm.uuid)
    node.mark()
    client = node.begin("mount.ocfs2", device, a)
    node.event(OCFS2, "mount_asked", fs=vm.uuid)
    scene.note("it gives the region back while a mount waits for that")
    node.allow("rmdir", f"heartbeat/{vm.uuid}")
    scene.ended(client)
    scene.in_use(vm, [a], ["ocfs2"])
    scene.unmount(a)
    scene.unused()
    scene.check()


@pytest.mark.process
def test_25_a_clean_end_is_exit_0_and_no_end_under_a_mount(lab: ClientLab, node: ClientNode) -> None:
    vm = lab.volume("term")
    device, a = node.device(vm), node.point("a")
    assert node.run("mount.ocfs2", device, a).code == 0
    node.signal(OCFS2, signal.SIGTERM)
    node.event(OCFS2, "signal_refused", signal="SIGTERM")
    assert node.run("debugfs.ocfs2", "-R", "controld dump").said.count("signal_refused") == 1
    assert node.unmount(a) is not None
    node.unused()
    node.signal(OCFS2, signal.SIGTERM)
    assert node.exit_code(OCFS2) == 0
    node.start(OCFS2)
    node.ready()


@pytest.mark.process
def test_26_a_mount_waits_for_what_is_late(lab: ClientLab, node: ClientNode) -> None:
    vm = lab.volume("late")
    node.kill(OCFS2)
    lab.hold("n1", "ocfs2_controld.membership")
    node.start(OCFS2)
    node.event(OCFS2, "starting")
    node.until_ocfs2("it answers", lambda r: not r.ready)
    client = node.begin("mount.ocfs2", node.device(vm), node.point("a"))
    node.event(OCFS2, "mount_asked", fs=vm.uuid)
    assert not client.tool.ended()
    lab.release("n1", "ocfs2_controld.membership")
    assert client.wait().code == 0
    node.in_use(vm, [node.point("a")], ["ocfs2"])
    assert node.unmount(node.point("a")) is not None


@pytest.mark.process
def test_27_a_lost_engine_tears_nothing_down_under_a_mount(lab: ClientLab, node: ClientNode) -> None:
    vm = lab.volume("lost")
    device, a, b = node.device(vm), node.point("a"), node.point("b")
    assert node.run("mount.ocfs2", device, a).code == 0
    lab.hub("engine", node="n1", do="hang")
    assert node.run("mount.ocfs2", device, b).code == 0, "it is mounted already: nobody needs to be asked"
    assert node.links(vm) == ["n1"]
    assert node.unmount(b) is None
    umount = node.unmount(a)
    assert umount is not None
    assert umount.code == 0, "an unmount waits for no engine"
    lab.hub("engine", node="n1", do="resume")
    node.unused()
