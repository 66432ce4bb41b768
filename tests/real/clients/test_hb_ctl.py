"""ocfs2_hb_ctl of Debian: regions by hand, and the kernel's call form."""

import pytest

from tests.real.clients.lab import ClientLab, ClientNode
from tests.real.clients.scene import Scene

pytestmark = pytest.mark.process


def test_a_region_is_started_and_stopped_by_device(lab: ClientLab, node: ClientNode) -> None:
    vm = lab.volume("bydevice")
    scene, device = Scene(node, "hb_ctl_device", vm), node.device(vm)
    scene.run("ocfs2_hb_ctl", "-S", "-d", device, "backup")
    scene.in_use(vm, [], ["backup"])
    scene.note("once more under the same name")
    scene.run("ocfs2_hb_ctl", "-S", "-d", device, "backup")
    scene.note("under another, with blanks")
    scene.run("ocfs2_hb_ctl", "-S", "-d", device, "nightly backup of db")
    scene.in_use(vm, [], ["backup", "nightly backup of db"])
    scene.run("ocfs2_hb_ctl", "-K", "-d", device, "backup")
    scene.note("which is gone, and cannot go twice")
    scene.run("ocfs2_hb_ctl", "-K", "-d", device, "backup")
    scene.in_use(vm, [], ["nightly backup of db"])
    scene.run("ocfs2_hb_ctl", "-K", "-d", device, "nightly backup of db")
    scene.unused()
    scene.note("and nothing is left to be stopped")
    scene.run("ocfs2_hb_ctl", "-K", "-d", device, "backup")
    scene.check()


def test_a_region_is_started_and_stopped_by_uuid(lab: ClientLab, node: ClientNode) -> None:
    vm = lab.volume("byuuid")
    node.device(vm)
    scene = Scene(node, "hb_ctl_uuid", vm)
    scene.run("ocfs2_hb_ctl", "-S", "-u", vm.uuid, "backup")
    scene.in_use(vm, [], ["backup"])
    scene.note("without a service it is the kernel's call, and means a mount: there is none")
    scene.run("ocfs2_hb_ctl", "-K", "-u", vm.uuid)
    scene.in_use(vm, [], ["backup"])
    scene.run("ocfs2_hb_ctl", "-K", "-u", vm.uuid, "backup")
    scene.unused()
    scene.check()


def test_a_region_outlives_the_mounts_beside_it_and_they_it(lab: ClientLab, node: ClientNode) -> None:
    vm = lab.volume("beside")
    scene, device, a = Scene(node, "hb_ctl_beside_mounts", vm), node.device(vm), node.point("a")
    scene.run("ocfs2_hb_ctl", "-S", "-d", device, "backup")
    scene.run("mount.ocfs2", device, a)
    scene.in_use(vm, [a], ["backup", "ocfs2"])
    scene.unmount(a)
    scene.in_use(vm, [], ["backup"])
    scene.run("mount.ocfs2", device, a)
    scene.run("ocfs2_hb_ctl", "-K", "-d", device, "backup")
    scene.in_use(vm, [a], ["ocfs2"])
    scene.unmount(a)
    scene.unused()
    scene.check()


def test_a_device_path_with_blanks_is_told_by_its_volume(lab: ClientLab, node: ClientNode) -> None:
    """The wire cuts it at the first blank. Whose UUID the MOUNT names is the path that was meant."""
    vm, named = lab.volume("blanks"), lab.sandbox.root / "my own disk"
    named.symlink_to(node.device(vm))
    scene = Scene(node, "hb_ctl_blanks", vm)
    scene.run("ocfs2_hb_ctl", "-S", "-d", named, "nightly backup")
    scene.in_use(vm, [], ["nightly backup"])
    scene.run("fsck.ocfs2", "-y", named)
    scene.run("ocfs2_hb_ctl", "-K", "-d", named, "nightly backup")
    scene.unused()
    scene.check()


def test_references_are_shown_without_asking_the_daemon(lab: ClientLab, node: ClientNode) -> None:
    vm = lab.volume("refs")
    scene, device = Scene(node, "hb_ctl_refs", vm), node.device(vm)
    scene.run("ocfs2_hb_ctl", "-I", "-d", device)
    scene.run("ocfs2_hb_ctl", "-I", "-u", vm.uuid)
    scene.check()


def test_calls_that_cannot_be_understood(lab: ClientLab, node: ClientNode) -> None:
    vm, other = lab.volume("usage"), lab.volume("usage2", cluster="elsewhere")
    scene, device = Scene(node, "hb_ctl_refused", vm, other), node.device(vm)
    scene.note("another stack runs than the volume is of")
    node.stack("pcmk")
    scene.run("ocfs2_hb_ctl", "-K", "-d", device, "backup")
    node.stack("cman")
    scene.note("a service that fills the record")
    scene.run("ocfs2_hb_ctl", "-S", "-d", device, "x" * 200)
    scene.note("a cluster of another name")
    scene.run("ocfs2_hb_ctl", "-S", "-d", node.device(other), "backup")
    scene.unused()
    scene.check()
