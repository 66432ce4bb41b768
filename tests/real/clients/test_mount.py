"""mount.ocfs2 of Debian, and the kernel's umount(2): word for word, and what the daemon makes of it."""

import errno

import pytest

from tests.process.lab import OCFS2
from tests.real.clients import volumes
from tests.real.clients.lab import ClientLab, ClientNode
from tests.real.clients.scene import Scene

pytestmark = pytest.mark.process


def test_the_first_mount(lab: ClientLab, node: ClientNode) -> None:
    vm = lab.volume("first")
    scene, device, a = Scene(node, "mount_first", vm), node.device(vm), node.point("a")
    assert scene.run("mount.ocfs2", device, a).code == 0
    scene.in_use(vm, [a], ["ocfs2"])
    scene.unmount(a)
    scene.unused()
    scene.check()


def test_a_second_mount_and_a_third_and_one_unmount_for_all(lab: ClientLab, node: ClientNode) -> None:
    """Three MOUNTs, and in all one UNMOUNT, from inside the last umount(2): the table counts, not the words."""
    vm = lab.volume("second")
    scene, device = Scene(node, "mount_second", vm), node.device(vm)
    a, b, c = (node.point(name) for name in "abc")
    for point in (a, b, c):
        scene.run("mount.ocfs2", device, point)
    scene.in_use(vm, [a, b, c], ["ocfs2"])
    scene.unmount(b)
    scene.in_use(vm, [a, c], ["ocfs2"])
    scene.unmount(a)
    scene.in_use(vm, [c], ["ocfs2"])
    scene.note("the device is held until the helper has ended, and the helper is answered at once")
    scene.unmount(c)
    scene.unused()
    scene.check()


def test_a_first_mount_that_the_kernel_refuses(lab: ClientLab, node: ClientNode) -> None:
    vm = lab.volume("failed")
    scene, device = Scene(node, "mount_failed", vm), node.device(vm)
    with node.shim.refusing(errno.ENODEV):
        scene.run("mount.ocfs2", device, node.point("a"))
    scene.unused()
    scene.check()


def test_an_additional_mount_that_the_kernel_refuses(lab: ClientLab, node: ClientNode) -> None:
    vm = lab.volume("additional")
    scene, device, a = Scene(node, "mount_failed_additional", vm), node.device(vm), node.point("a")
    scene.run("mount.ocfs2", device, a)
    with node.shim.refusing(errno.EACCES):
        scene.run("mount.ocfs2", device, node.point("b"))
    scene.in_use(vm, [a], ["ocfs2"])
    scene.note("and on the same directory: EBUSY is the kernel's own answer")
    scene.run("mount.ocfs2", device, a)
    scene.in_use(vm, [a], ["ocfs2"])
    scene.unmount(a)
    scene.unused()
    scene.check()


def test_a_remount_asks_nobody(lab: ClientLab, node: ClientNode) -> None:
    vm = lab.volume("remount")
    scene, device, a = Scene(node, "mount_remount", vm), node.device(vm), node.point("a")
    scene.run("mount.ocfs2", device, a)
    scene.run("mount.ocfs2", "-o", "remount,ro", device, a)
    scene.in_use(vm, [a], ["ocfs2"])
    scene.unmount(a)
    scene.unused()
    scene.check()


def test_volumes_that_are_not_ours(lab: ClientLab, node: ClientNode) -> None:
    other, classic = lab.volume("other", cluster="elsewhere"), lab.volume("classic", stack="o2cb", cluster="demo")
    local = volumes.make(lab.sandbox.root / "local.img", "local", stack="")
    scene = Scene(node, "mount_not_ours", other, classic, local)
    scene.note("the cluster is another one")
    scene.run("mount.ocfs2", node.device(other), node.point("a"))
    scene.unused()
    scene.note("the stack is another one: mount.ocfs2 writes its name into cluster_stack, and asks nobody")
    scene.run("mount.ocfs2", node.device(classic), node.point("a"))
    node.stack("cman")
    scene.note("no cluster at all")
    scene.run("mount.ocfs2", node.device(local), node.point("a"))
    for each in node.mounts.entries():
        node.vanish(each.mount_point)
    scene.unused()
    scene.check()


def test_a_mount_while_another_is_in_progress(lab: ClientLab, node: ClientNode) -> None:
    """The second is told 16 at once, and the first goes on unhurt, as does what comes after (lines 5, 6, 9)."""
    vm = lab.volume("busy")
    scene, device = Scene(node, "mount_busy", vm), node.device(vm)
    a, b = node.point("a"), node.point("b")
    with node.shim.stop("mount") as stop:
        first = node.begin("mount.ocfs2", device, a)
        stop.wait()
        scene.note("a first mount.ocfs2 stands before its mount(2)")
        scene.run("mount.ocfs2", device, b)
        scene.run("ocfs2_hb_ctl", "-K", "-u", vm.uuid)
        scene.note("it goes on")
    scene.ended(first)
    scene.run("mount.ocfs2", device, b)
    scene.in_use(vm, [a, b], ["ocfs2"])
    scene.unmount(a)
    scene.unmount(b)
    scene.unused()
    scene.check()


def test_a_copy_with_the_same_uuid_is_named(lab: ClientLab, node: ClientNode) -> None:
    vm = lab.volume("original")
    copy = lab.sandbox.root / "copy.img"
    copy.write_bytes(vm.path.read_bytes())
    scene, a = Scene(node, "mount_copy", vm), node.point("a")
    scene.run("mount.ocfs2", node.device(vm), a)
    with volumes.loop(copy) as device:
        scene.run("mount.ocfs2", device, node.point("b"))
    scene.in_use(vm, [a], ["ocfs2"])
    scene.unmount(a)
    scene.unused()
    scene.check()
    answered = node.event(OCFS2, "mount_answered", fs=vm.uuid, code=errno.EINVAL)
    assert "it is in use on /dev/loop" in answered["cause"]


def test_a_device_path_with_blanks(lab: ClientLab, node: ClientNode) -> None:
    """The wire cuts such a path in two; it is put together again, since the service "ocfs2" can be told apart."""
    vm, named = lab.volume("blanks"), lab.sandbox.root / "my own disk"
    named.symlink_to(node.device(vm))
    scene, a = Scene(node, "mount_blanks", vm), node.point("a")
    scene.run("mount.ocfs2", named, a)
    scene.in_use(vm, [a], ["ocfs2"])
    scene.unmount(a)
    scene.unused()
    scene.check()
    assert node.event(OCFS2, "mount_asked", fs=vm.uuid)["device"] == str(named)


def test_a_mount_without_a_daemon_and_one_that_loses_it(lab: ClientLab, node: ClientNode) -> None:
    """A daemon that dies in the midst of a mount leaves it to its successor, which sees it in the mount table."""
    vm = lab.volume("orphan")
    scene, device, a = Scene(node, "mount_daemon_gone", vm), node.device(vm), node.point("a")
    with node.shim.stop("mount") as stop:
        client = node.begin("mount.ocfs2", device, a)
        stop.wait()
        node.kill(OCFS2)
        scene.note("ocfs2_controld is killed before mount(2)")
    scene.ended(client)
    scene.note("nobody listens")
    scene.run("mount.ocfs2", device, node.point("b"))
    node.start(OCFS2)
    node.ready()
    scene.note("its successor")
    scene.in_use(vm, [a])
    scene.unmount(a)
    scene.unused()
    scene.check()
