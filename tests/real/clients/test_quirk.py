"""What the clients of 1.8.7 leave out where the kernel has dlm_recover_callback_support, row by row.

They read that file in /sys/fs/ocfs2: one byte in it is enough. As measured of Debian's programs:

    stack  file            libdlm   MOUNT           MRESULT   UNMOUNT   here
    cman   absent, empty   any      sent            sent      sent      test_nothing_is_left_out
    cman   not empty       any      sent            left out  left out  test_mresult_and_unmount_are_left_out and after
    pcmk   absent, empty   fails    refused         -         sent      test_pcmk_without_a_dlm
    pcmk   not empty       fails    refused         -         left out  test_pcmk_without_a_dlm
    pcmk   absent, empty   5, 6     sent            sent      sent      test_pcmk_with_a_dlm
    pcmk   not empty       6        left out        left out  left out  test_pcmk_with_a_dlm
    pcmk   not empty       5        internal error  -         left out  test_pcmk_with_a_dlm

So the daemon hears a MOUNT, answers it, and then the connection ends, whether mount(2) has worked or not; and of an
unmount it hears nothing. The mount table tells (law 12).
"""

import errno

import pytest

from tests.process.lab import OCFS2, until
from tests.real.clients.dlm import DlmDevice
from tests.real.clients.lab import ClientLab, ClientNode
from tests.real.clients.scene import Scene
from tests.real.clients.volumes import formatting

pytestmark = pytest.mark.process

ON = "1\n"


@pytest.mark.parametrize("text", [None, ""], ids=["absent", "empty"])
def test_nothing_is_left_out(lab: ClientLab, node: ClientNode, text: str | None) -> None:
    name = "absent" if text is None else "empty"
    vm = lab.volume(f"vm{name}")
    node.callbacks(text)
    scene, device, a = Scene(node, f"quirk_cman_{name}", vm), node.device(vm), node.point("a")
    scene.run("mount.ocfs2", device, a)
    scene.in_use(vm, [a], ["ocfs2"])
    scene.unmount(a)
    scene.unused()
    scene.check()


def test_mresult_and_unmount_are_left_out(lab: ClientLab, node: ClientNode) -> None:
    vm = lab.volume("silent")
    node.callbacks(ON)
    scene, device = Scene(node, "quirk_cman", vm), node.device(vm)
    a, b = node.point("a"), node.point("b")
    scene.run("mount.ocfs2", device, a)
    scene.in_use(vm, [a], ["ocfs2"])
    scene.run("mount.ocfs2", device, b)
    scene.in_use(vm, [a, b], ["ocfs2"])
    scene.note("umount(2) of the first, then of the last")
    scene.unmount(a)
    scene.in_use(vm, [b], ["ocfs2"])
    scene.unmount(b)
    scene.unused()
    scene.note("regions by hand: started with a MOUNT alone, they are nothing that could be kept")
    scene.run("ocfs2_hb_ctl", "-S", "-d", device, "backup")
    scene.unused()
    scene.check()


def test_a_mount_that_fails_silently(lab: ClientLab, node: ClientNode) -> None:
    vm = lab.volume("silentfail")
    node.callbacks(ON)
    scene, device, a = Scene(node, "quirk_cman_failed", vm), node.device(vm), node.point("a")
    with node.shim.refusing(errno.ENODEV):
        scene.run("mount.ocfs2", device, a)
    scene.unused()
    scene.run("mount.ocfs2", device, a)
    with node.shim.refusing(errno.EACCES):
        scene.run("mount.ocfs2", device, node.point("b"))
    scene.in_use(vm, [a], ["ocfs2"])
    scene.unmount(a)
    scene.unused()
    scene.check()
    until("all three are lost", lambda: len(node.lines(OCFS2, "client_lost", fs=vm.uuid)) == 3)


def test_tools_that_fall_silent(lab: ClientLab, node: ClientNode) -> None:
    """fsck.ocfs2 keeps its one connection till it ends: the group is held by that, and nobody else is let in."""
    vm = lab.volume("silenttool")
    node.callbacks(ON)
    scene, device = Scene(node, "quirk_cman_tools", vm), node.device(vm)
    with node.shim.stop("read", "STATUS") as stop:
        client = node.begin("fsck.ocfs2", "-y", device)
        stop.wait()
        scene.note("fsck.ocfs2 has its answer, and works")
        scene.run("mount.ocfs2", device, node.point("a"))
    scene.ended(client)
    scene.unused()
    scene.run("tunefs.ocfs2", "-L", "renamed", device)
    scene.unused()
    scene.run("mkfs.ocfs2", *formatting(vm), device)
    scene.unused()
    scene.check()


def test_mount_that_is_killed_or_mounts_and_is_killed(lab: ClientLab, node: ClientNode) -> None:
    """A living client's MRESULT is believed; of a dead one the mount table tells."""
    vm = lab.volume("killed")
    scene, device, a = Scene(node, "mount_killed", vm), node.device(vm), node.point("a")
    with node.shim.stop("mount") as stop:
        client = node.begin("mount.ocfs2", device, a)
        stop.wait()
        scene.note("killed before mount(2)")
        scene.tell(client.command, client.kill())
    scene.unused()
    with node.shim.stop("mount", mount=True) as stop:
        client = node.begin("mount.ocfs2", device, a)
        stop.wait()
        scene.note("killed in mount(2), which has worked")
        scene.tell(client.command, client.kill())
    scene.in_use(vm, [a], ["ocfs2"])
    scene.unmount(a)
    scene.unused()
    scene.note("killed while its MOUNT waits: SIGKILL is all that it does not block")
    lab.hold("n1", "ocfs2_controld.channel")
    node.mark()
    client = node.begin("mount.ocfs2", device, a)
    node.event(OCFS2, "mount_asked", fs=vm.uuid)
    scene.tell(client.command, client.kill())
    node.event(OCFS2, "client_lost", fs=vm.uuid)
    lab.release("n1", "ocfs2_controld.channel")
    scene.unused()
    scene.check()


@pytest.mark.parametrize("text", [None, "", ON], ids=["absent", "empty", "on"])
def test_pcmk_without_a_dlm(lab: ClientLab, node: ClientNode, text: str | None) -> None:
    """No DLM in this kernel: libdlm fails, and mount.ocfs2 asks nobody."""
    name = {None: "absent", "": "empty", ON: "on"}[text]
    vm = lab.volume(f"pcmk{name}", stack="pcmk")
    node.stack("pcmk")
    node.callbacks(text)
    scene, device = Scene(node, f"quirk_pcmk_{name}_no_dlm", vm), node.device(vm)
    scene.run("mount.ocfs2", device, node.point("a"))
    scene.run("ocfs2_hb_ctl", "-K", "-u", vm.uuid)
    scene.unused()
    scene.check()


@pytest.mark.parametrize("major", [5, 6])
@pytest.mark.parametrize("text", [None, "", ON], ids=["absent", "empty", "on"])
def test_pcmk_with_a_dlm(lab: ClientLab, node: ClientNode, text: str | None, major: int) -> None:
    name = {None: "absent", "": "empty", ON: "on"}[text]
    vm = lab.volume(f"pcmk{name}{major}", stack="pcmk")
    node.stack("pcmk")
    node.callbacks(text)
    scene, device, a = Scene(node, f"quirk_pcmk_{name}_dlm{major}", vm), node.device(vm), node.point("a")
    with DlmDevice(node, major):
        ran = scene.run("mount.ocfs2", device, a)
        mounted = any(e.mount_point == a for e in node.mounts.entries())
        assert mounted == (ran.code == 0)
        if any(deed.word == "connect" for deed in ran.deeds):
            scene.in_use(vm, [a], ["ocfs2"])
        else:
            scene.note("our daemon has heard nothing")
            scene.unused()
            if mounted:
                scene.unheard(a)
        if mounted:
            scene.unmount(a)
        scene.unused()
    scene.check()
