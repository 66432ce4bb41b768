"""The other programs of ocfs2-tools: those that hold a filesystem while they work, and those that ask nobody."""

import re

import pytest

from tests.real.clients.lab import ClientLab, ClientNode
from tests.real.clients.scene import Scene, records_of

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
    again = ("-x", "-q", "-b", "4096", "-C", "4096", "-N", "2", "-J", "size=4M", "-U", vm.uuid, "-L", "mkfs")
    scene.run("mkfs.ocfs2", "--cluster-stack=cman", "--cluster-name=demo", *again, device)
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
