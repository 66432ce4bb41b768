"""The other programs of ocfs2-tools: those that hold a filesystem while they work, and those that ask nobody."""

import re

import pytest

from tests.process.lab import OCFS2
from tests.real.clients.lab import ClientLab, ClientNode
from tests.real.clients.scene import Scene, records_of
from tests.real.clients.volumes import formatting

pytestmark = pytest.mark.process


def test_fsck_holds_the_filesystem_while_it_works(lab: ClientLab, node: ClientNode) -> None:
    vm = lab.volume("fsck")
    scene, device = Scene(node, "fsck", vm), node.device(vm)
    with node.shim.stop("write", "UNMOUNT") as stop:
        client = node.begin("fsck.ocfs2", "-y", device)
        stop.wait()
        scene.note("fsck.ocfs2 -y is about to say UNMOUNT")
        scene.in_use(vm, [], ["fsck.ocfs2"])
    scene.ended(client)
    scene.unused()
    scene.note("read only it asks nobody")
    scene.run("fsck.ocfs2", "-n", device)
    scene.check()


def test_tunefs_holds_it_too(lab: ClientLab, node: ClientNode) -> None:
    vm = lab.volume("tunefs")
    scene, device = Scene(node, "tunefs", vm), node.device(vm)
    scene.run("tunefs.ocfs2", "-L", "renamed", device)
    scene.unused()
    scene.note("a question asks nobody")
    scene.run("tunefs.ocfs2", "-Q", "%V\\n", device)
    scene.check()


def test_mkfs_over_a_volume_asks_first(lab: ClientLab, node: ClientNode) -> None:
    vm = lab.volume("mkfs")
    scene, device = Scene(node, "mkfs", vm), node.device(vm)
    scene.run("mkfs.ocfs2", *formatting(vm), device)
    scene.unused()
    scene.check()


def test_tools_on_what_is_mounted(lab: ClientLab, node: ClientNode) -> None:
    """They are told 114 and go on to their own lock, which only a real DLM can refuse."""
    vm = lab.volume("both")
    scene, device, a = Scene(node, "fsck_mounted", vm), node.device(vm), node.point("a")
    scene.run("mount.ocfs2", device, a)
    scene.run("fsck.ocfs2", "-y", device)
    scene.in_use(vm, [a], ["ocfs2"])
    scene.unmount(a)
    scene.unused()
    scene.check()


def test_a_second_fsck_is_refused_and_a_mount_is_not(lab: ClientLab, node: ClientNode) -> None:
    """One of a name at a time; who is refused hurts neither the first nor what comes after."""
    vm = lab.volume("twice")
    scene, device, a = Scene(node, "fsck_twice", vm), node.device(vm), node.point("a")
    with node.shim.stop("write", "UNMOUNT") as stop:
        first = node.begin("fsck.ocfs2", "-y", device)
        stop.wait()
        scene.note("fsck.ocfs2 is at work")
        scene.run("fsck.ocfs2", "-y", device)
        scene.run("mount.ocfs2", device, a)
        scene.in_use(vm, [a], ["fsck.ocfs2", "ocfs2"])
        scene.note("it ends")
    scene.ended(first)
    scene.in_use(vm, [a], ["ocfs2"])
    scene.unmount(a)
    scene.unused()
    scene.check()


def test_without_a_daemon_each_says_so(lab: ClientLab, node: ClientNode) -> None:
    """The kernel's call inside umount(2) fails then, and umount(2) does not: the successor finds nothing mounted."""
    vm = lab.volume("nodaemon")
    scene, device, a = Scene(node, "no_daemon", vm), node.device(vm), node.point("a")
    assert node.run("mount.ocfs2", device, a).code == 0
    node.kill(OCFS2)
    scene.note("mounted, and then ocfs2_controld was killed")
    scene.run("ocfs2_hb_ctl", "-S", "-d", device, "backup")
    scene.run("ocfs2_hb_ctl", "-K", "-d", device, "backup")
    scene.run("fsck.ocfs2", "-y", device)
    scene.run("tunefs.ocfs2", "-L", "renamed", device)
    scene.run("mkfs.ocfs2", *formatting(vm), device)
    scene.run("debugfs.ocfs2", "-R", "controld dump")
    scene.unmount(a)
    node.start(OCFS2)
    node.ready()
    scene.note("its successor")
    scene.unused()
    scene.check()


def test_tools_whose_dlm_fails(lab: ClientLab, node: ClientNode) -> None:
    """Without dlmfs, and no DLM in this kernel: MRESULT carries a com_err code, and that is an ordinary failure."""
    vm = lab.volume("nodlm")
    scene, device = Scene(node, "fsck_without_dlm", vm), node.device(vm)
    capabilities = node.spaces.sys / "module" / "ocfs2_dlmfs" / "parameters" / "capabilities"
    text = capabilities.read_text()
    capabilities.unlink()
    try:
        scene.run("fsck.ocfs2", "-y", device)
        scene.run("tunefs.ocfs2", "-L", "renamed", device)
    finally:
        capabilities.write_text(text)
    scene.unused()
    scene.check()


def test_those_that_ask_nobody(lab: ClientLab, node: ClientNode) -> None:
    vm = lab.volume("quiet")
    scene, device = Scene(node, "no_contact", vm), node.device(vm)
    scene.run("mounted.ocfs2", "-d", device)
    scene.run("mounted.ocfs2", "-f", device)
    scene.run("o2cluster", "-o", device)
    scene.run("debugfs.ocfs2", "-R", "stats -h", "/dev/null")
    scene.check()


def test_the_dump_is_the_daemons_log_in_whole_lines(lab: ClientLab, node: ClientNode) -> None:
    vm = lab.volume("dump")
    for where in ((), (node.device(vm),)):
        ran = node.run("debugfs.ocfs2", "-R", "controld dump", *where)
        assert ran.code == 0
        lines = ran.said.splitlines()
        assert all(re.match(r"\d{4}-\d\d-\d\dT[0-9:.]+Z \w+ +n1 ocfs2_controld \w+", line) for line in lines), ran.said
        assert any(" ocfs2_controld ready " in line for line in lines)

        records = records_of(ran.deeds, "read")
        assert records_of(ran.deeds, "write") == ["DUMP"]
        assert records[0] == f"ITEMCOUNT {len(records) - 2}"
        assert "".join(record.removeprefix("ITEM ") for record in records[1:-1]) == ran.said
        assert records[-1] == "STATUS 0 OK"
    scene = Scene(node, "debugfs")
    scene.note("words that it does not know; nothing is sent")
    scene.run("debugfs.ocfs2", "-R", "controld")
    scene.run("debugfs.ocfs2", "-R", "controld foo")
    scene.check()
