"""Holders that are no mounts: tools end with their process at the latest, and regions by hand outlive the daemon."""

import pytest

from tests.process.lab import OCFS2
from tests.real.clients.lab import ClientLab, ClientNode
from tests.real.clients.scene import Scene
from tests.real.clients.volumes import formatting

pytestmark = pytest.mark.process


@pytest.mark.parametrize("tool", ["fsck.ocfs2", "tunefs.ocfs2", "mkfs.ocfs2"])
def test_kill_9_of_a_tool_at_work_ends_its_hold(lab: ClientLab, node: ClientNode, tool: str) -> None:
    vm = lab.volume(f"kill{tool[0]}")
    words = {"fsck.ocfs2": ("-y",), "tunefs.ocfs2": ("-L", "renamed"), "mkfs.ocfs2": formatting(vm)}[tool]
    scene, device = Scene(node, f"killed_{tool.partition('.')[0]}", vm), node.device(vm)
    with node.shim.stop("write", "MRESULT") as stop:
        client = node.begin(tool, *words, device)
        stop.wait()
        scene.note("killed before its MRESULT")
        scene.tell(client.command, client.kill())
    scene.unused()
    with node.shim.stop("write", "UNMOUNT") as stop:
        client = node.begin(tool, *words, device)
        stop.wait()
        scene.note("killed after its work and before its UNMOUNT")
        scene.in_use(vm, [], [tool])
        scene.tell(client.command, client.kill())
    scene.unused()
    scene.check()


def test_a_tool_is_found_again_by_a_daemon_that_was_restarted_under_it(lab: ClientLab, node: ClientNode) -> None:
    vm = lab.volume("found")
    scene, device = Scene(node, "restart_under_fsck", vm), node.device(vm)
    with node.shim.stop("write", "UNMOUNT") as stop:
        client = node.begin("fsck.ocfs2", "-y", device)
        stop.wait()
        scene.in_use(vm, [], ["fsck.ocfs2"])
        node.kill(OCFS2)
        node.start(OCFS2)
        node.ready()
        scene.note("ocfs2_controld was killed and has a successor, and fsck.ocfs2 works on")
        scene.in_use(vm, [], ["fsck.ocfs2"])
        scene.tell(client.command, client.kill())
    scene.unused()
    scene.check()


def test_regions_by_hand_outlive_the_daemon(lab: ClientLab, node: ClientNode) -> None:
    """The kernel counts two and knows no names: each UNMOUNT ends one."""
    vm = lab.volume("byhand")
    scene, device = Scene(node, "restart_under_regions", vm), node.device(vm)
    for service in ("backup", "nightly backup of db"):
        scene.run("ocfs2_hb_ctl", "-S", "-d", device, service)
    node.kill(OCFS2)
    node.start(OCFS2)
    node.ready()
    scene.note("ocfs2_controld was killed and has a successor")
    unnamed = "somebody since before the restart #"
    scene.in_use(vm, [], [f"{unnamed}1", f"{unnamed}2"])
    scene.run("ocfs2_hb_ctl", "-K", "-d", device, "backup")
    scene.in_use(vm, [], [f"{unnamed}2"])
    node.kill(OCFS2)
    node.start(OCFS2)
    node.ready()
    scene.in_use(vm, [], [f"{unnamed}1"])
    scene.run("ocfs2_hb_ctl", "-K", "-d", device, "nightly backup of db")
    scene.unused()
    scene.check()
