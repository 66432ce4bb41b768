"""kill -9 of Debian's clients wherever they touch the daemon or the kernel: the mount table tells (law 12)."""

import pytest

from tests.real.clients.lab import ClientLab, ClientNode

pytestmark = pytest.mark.process


@pytest.mark.parametrize(
    ("word", "needle", "mounted"),
    [
        ("connect", "", False),
        ("write", "MOUNT", False),
        ("read", "STATUS", False),
        ("mount", "", False),
        ("mount", "", True),
        ("write", "MRESULT", True),
        ("close", "", True),
    ],
)
def test_a_mount_that_is_killed_is_what_the_table_says(
    lab: ClientLab, node: ClientNode, word: str, needle: str, mounted: bool
) -> None:
    """Each stands still before the deed; a mount that shall be mounted stands behind it."""
    vm = lab.volume(f"k{word}{needle}{mounted}")
    device, a, b = node.device(vm), node.point("a"), node.point("b")
    with node.shim.stop(word, needle, mount=word == "mount" and mounted) as stop:
        client = node.begin("mount.ocfs2", device, a)
        stop.wait()
        client.kill()
    assert [entry.mount_point for entry in node.mounts.entries()] == [a] * mounted
    if mounted:
        node.in_use(vm, [a], ["ocfs2"])
    else:
        node.unused()
    assert node.run("mount.ocfs2", device, b).code == 0, "nobody after it is hurt"
    node.in_use(vm, [*[a] * mounted, b], ["ocfs2"])
    for point in [a] * mounted:
        assert node.unmount(point) is None
    umount = node.unmount(b)
    assert umount is not None
    assert umount.code == 0
    node.unused()


@pytest.mark.parametrize(("word", "needle"), [("connect", ""), ("write", "UNMOUNT"), ("read", "STATUS"), ("close", "")])
def test_an_unmount_whose_helper_is_killed_is_one_all_the_same(
    lab: ClientLab, node: ClientNode, word: str, needle: str
) -> None:
    vm = lab.volume(f"u{word}")
    a = node.point("a")
    assert node.run("mount.ocfs2", node.device(vm), a).code == 0
    with node.shim.stop(word, needle) as stop:
        gone = node.mounts.leave(a, hold=True)
        client = node.begin("ocfs2_hb_ctl", "-K", "-u", vm.uuid)
        stop.wait()
        client.kill()
    node.mounts.release(gone.device)
    node.unused()


@pytest.mark.parametrize(("word", "needle", "held"), [("write", "MRESULT", False), ("close", "", True)])
def test_a_region_by_hand_stands_when_its_result_was_heard(
    lab: ClientLab, node: ClientNode, word: str, needle: str, held: bool
) -> None:
    vm = lab.volume(f"r{word}")
    with node.shim.stop(word, needle) as stop:
        client = node.begin("ocfs2_hb_ctl", "-S", "-d", node.device(vm), "backup")
        stop.wait()
        client.kill()
    if held:
        node.in_use(vm, [], ["backup"])
        assert node.run("ocfs2_hb_ctl", "-K", "-d", node.device(vm), "backup").code == 0
    node.unused()
