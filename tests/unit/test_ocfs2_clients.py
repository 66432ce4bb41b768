"""The mind's side of the client protocol: mounts, holders and their clients' deaths, from MOUNT to the leave.

Wrong requests, deadlines and what only root may say: test_ocfs2_requests.
"""

from errno import EBUSY, EINVAL, ENOENT, ETIMEDOUT

import pytest

from libo2cb.events import Event, Log
from ocfs2_controld import actions as do
from ocfs2_controld import events as told
from ocfs2_controld.state import Usage
from protocol.client import (
    MountResult,
)
from tests.simulation.desk import Caller, Desk, F
from tests.simulation.world import uuid

ALREADY = 114
TOOLS = ["fsck.ocfs2", "tunefs.ocfs2", "mkfs.ocfs2"]
MINE = "a region of my own"


def told_caller(desk: Desk, service: str = "ocfs2") -> Caller:
    """A client whose MOUNT was answered 0 or 114, and that has not said MRESULT."""
    caller = desk.call()
    caller.mount(service)
    desk.settle()
    assert caller.codes in ([0], [ALREADY])
    return caller


# mounts of 1.8.7


def test_the_first_mount_waits_for_the_join_and_ends_with_mresult() -> None:
    desk = Desk()
    caller = desk.call()
    assert caller.mount() == []
    assert desk.usage() is Usage.JOINING
    desk.settle()
    assert caller.statuses == [(0, "OK")]
    assert desk.here.kernel.links == {(F, "n1")}
    desk.mounted("/mnt")
    assert caller.result() == [(0, "OK")]
    assert desk.usage() is Usage.USED
    assert desk.local.mount_points == ("/mnt",)
    assert desk.local.label == "F"


def test_the_mounter_hears_last() -> None:
    desk = Desk(2)
    other = desk.client(2, "F")
    desk.settle()
    assert desk.nodes[2].clients.get(other) is None, "its mount is finished"
    caller = desk.call()
    caller.mount()
    while not caller.codes:
        desk.do(desk.choices()[0])
    assert (F, "n1") in desk.nodes[2].kernel.links
    assert {(F, "n1"), (F, "n2")} <= desk.here.kernel.links


def test_a_further_mount_is_told_114_and_one_unmount_does_not_end_the_others() -> None:
    desk = Desk()
    desk.used("ocfs2")
    caller = desk.call()
    assert caller.mount() == [(ALREADY, "Already mounted, go ahead")]
    desk.mounted("/mnt/0", "/mnt/1")
    assert caller.result() == [(0, "OK")]

    desk.mounted("/mnt/1")
    assert desk.call("ocfs2_hb_ctl").unmount() == [(0, "OK")]
    desk.settle()
    assert desk.usage() is Usage.USED
    assert desk.here.kernel.links

    desk.mounted()
    assert desk.call("ocfs2_hb_ctl").unmount() == [(0, "OK")]
    desk.settle()
    assert desk.left


def test_an_unmount_counts_by_the_mount_table_however_often_it_is_said() -> None:
    desk = Desk()
    desk.used("ocfs2")
    for _ in range(3):
        assert desk.call("ocfs2_hb_ctl").unmount() == [(0, "OK")]
        desk.settle()
        assert desk.usage() is Usage.USED
        assert list(desk.local.services) == ["ocfs2"], "who lists the mounts still sees it"
    desk.mounted()
    desk.settle()
    assert desk.left


def test_an_unmount_is_answered_at_once_without_quorum() -> None:
    desk = Desk(3)
    desk.used("ocfs2")
    for number in (2, 3):
        desk.power_off(number)
    desk.settle()
    assert not desk.state.engine.quorate
    desk.mounted()
    assert desk.call("ocfs2_hb_ctl").unmount() == [(0, "OK")]
    desk.settle()
    assert desk.left, "a leave waits for no one (law 18)"


def test_a_filesystem_seen_mounted_and_then_gone_is_left_without_an_unmount() -> None:
    desk = Desk()
    desk.used("ocfs2")
    desk.mounted()
    desk.settle()
    assert desk.left


def test_umount_l_keeps_the_group_until_the_kernel_says_that_the_device_is_free() -> None:
    desk = Desk()
    desk.used("ocfs2")
    desk.here.busy.add("F")
    desk.mounted()
    assert desk.call("ocfs2_hb_ctl").unmount() == [(0, "OK")]
    desk.wait(60)
    assert desk.usage() is Usage.RELEASING
    assert desk.here.kernel.links == {(F, "n1")}
    assert desk.local.running
    assert any(
        isinstance(a, Log) and a.event is Event.WAITING and "somebody holds it" in dict(a.fields)["cause"]  # type: ignore[operator]
        for a in desk.done
    ), "what waits says why (law 17)"
    desk.here.busy.clear()
    desk.wait(2)
    assert desk.left


def test_the_device_is_never_opened_exclusively_between_mount_and_its_outcome() -> None:
    desk = Desk()
    caller = told_caller(desk)
    desk.wait(30)
    desk.mounted("/mnt")
    caller.result()
    desk.wait(30)
    assert not [a for a in desk.done if isinstance(a, do.CheckDevice)]


def test_a_mount_that_shows_up_again_while_the_device_is_waited_for_is_kept() -> None:
    desk = Desk()
    desk.used("ocfs2")
    desk.here.busy.add("F")
    desk.mounted()
    waiter = desk.call()
    assert waiter.mount() == []
    desk.mounted("/mnt")
    assert waiter.codes == [ALREADY]
    desk.mounted("/mnt", "/mnt2")
    waiter.result()
    assert desk.usage() is Usage.USED
    desk.here.busy.clear()
    desk.wait(5)
    assert desk.usage() is Usage.USED


# a mount in the midst of a leave


@pytest.mark.parametrize("busy", [True, False], ids=["releasing", "leaving"])
def test_a_mount_during_a_leave_waits_for_the_leave_and_then_joins(busy: bool) -> None:
    desk = Desk()
    desk.used("ocfs2")
    if busy:
        desk.here.busy.add("F")
    desk.mounted()
    assert desk.usage() is (Usage.RELEASING if busy else Usage.LEAVING)
    waiter, second = desk.call(), desk.call()
    assert waiter.mount() == []
    assert second.mount() == [(EBUSY, "Another mount is in progress")]
    begun = len(desk.done)
    desk.here.busy.clear()
    desk.wait(2)
    assert waiter.statuses == [(0, "OK")]
    events = [a.event for a in desk.done[begun:] if isinstance(a, Log)]
    assert events.index(Event.LEFT) < events.index(Event.JOIN_ASKED)
    desk.mounted("/mnt")
    assert waiter.result() == [(0, "OK")]
    assert desk.usage() is Usage.USED


def test_who_waits_for_a_leave_may_go_away() -> None:
    desk = Desk()
    desk.used("ocfs2")
    desk.here.busy.add("F")
    desk.mounted()
    waiter = desk.call()
    waiter.mount()
    waiter.close()
    desk.here.busy.clear()
    desk.wait(2)
    assert desk.left
    assert waiter.codes == []


def test_who_waits_for_a_leave_is_told_at_its_deadline_what_uses_the_device() -> None:
    desk = Desk()
    desk.used("ocfs2")
    desk.here.busy.add("F")
    desk.mounted()
    waiter = desk.call()
    waiter.mount()
    desk.wait(301)
    assert waiter.codes == [ETIMEDOUT]
    assert "gave up after 300 s" in waiter.statuses[0][1]
    assert "somebody holds it" in waiter.statuses[0][1]
    desk.here.busy.clear()
    desk.wait(2)
    assert desk.left


def test_another_device_with_the_same_uuid_does_not_end_the_wait_for_the_first() -> None:
    """A snapshot of F is mounted while `umount -l` still holds F: what is looked at must go on being F."""
    desk = Desk()
    desk.used("ocfs2")
    desk.here.busy.add("F")
    desk.mounted()
    desk.done.clear()
    answer = desk.call().mount(device="snapshot")
    desk.wait(5)
    assert {a.path for a in desk.done if isinstance(a, do.CheckDevice)} == {"/dev/F"}
    assert [code for code, _ in answer] == [EINVAL]


# clients of 2007: the service is the mount point


def test_clients_of_2007_mount_unmount_and_are_told_apart_by_their_mount_points() -> None:
    desk = Desk()
    desk.used("/mnt/a")
    again = desk.call().mount("/mnt/a")
    assert again[0][0] == EBUSY
    assert f"Filesystem {F} is already mounted on /mnt/a" in again[0][1]

    second = desk.call()
    assert [code for code, _ in second.mount("/mnt/b")] == [ALREADY]
    desk.mounted("/mnt/a", "/mnt/b")
    assert second.result(0, "/mnt/b") == [(0, "OK")]
    assert sorted(desk.local.services) == ["/mnt/a", "/mnt/b"]

    desk.mounted("/mnt/b")
    assert desk.call("umount.ocfs2").unmount("/mnt/a") == [(0, "OK")]
    desk.settle()
    assert desk.usage() is Usage.USED
    assert sorted(desk.local.services) == ["/mnt/b"]
    desk.mounted()
    assert desk.call("umount.ocfs2").unmount("/mnt/b") == [(0, "OK")]
    desk.settle()
    assert desk.left


def test_a_mount_point_that_the_table_no_longer_shows_can_be_mounted_again() -> None:
    desk = Desk()
    desk.used("/mnt/a", "/mnt/b")
    desk.mounted("/mnt/b")
    again = desk.call()
    assert [code for code, _ in again.mount("/mnt/a")] == [ALREADY]
    desk.mounted("/mnt/a", "/mnt/b")
    assert again.result(0, "/mnt/a") == [(0, "OK")]


def test_a_dead_client_of_2007_has_mounted_only_what_the_table_shows() -> None:
    desk = Desk()
    desk.used("/mnt/a")
    told_caller(desk, "/mnt/b").close()
    assert sorted(desk.local.services) == ["/mnt/a"]
    assert desk.usage() is Usage.USED


# holders: tools, and regions started by hand


@pytest.mark.parametrize("tool", TOOLS)
@pytest.mark.parametrize("end", ["unmount", "process"])
def test_a_tool_holds_until_unmount_or_the_end_of_its_process(tool: str, end: str) -> None:
    desk = Desk()
    caller = desk.call(tool)
    caller.mount(tool)
    desk.settle()
    assert caller.result(0, tool) == [(0, "OK")]
    watched = [a for a in desk.done if isinstance(a, do.WatchProcess)]
    assert [(a.pid, a.started) for a in watched] == [(caller.peer.pid, caller.peer.started)]
    caller.close()
    desk.settle()
    assert desk.usage() is Usage.USED, "the end of the connection is not the end of the tool"
    if end == "unmount":
        assert desk.call(tool).unmount(tool) == [(0, "OK")]
    else:
        desk.ocfs2(1, told.ProcessEnded(caller.peer.pid, caller.peer.started + 1))
        desk.settle()
        assert desk.usage() is Usage.USED, "another process with the same pid"
        desk.ocfs2(1, told.ProcessEnded(caller.peer.pid, caller.peer.started))
    desk.settle()
    assert desk.left


def test_a_tool_that_runs_already_is_named_to_the_next() -> None:
    desk = Desk()
    desk.used("fsck.ocfs2")
    code, text = desk.call("fsck.ocfs2").mount("fsck.ocfs2")[0]
    assert code == EBUSY
    assert "fsck.ocfs2" in text
    assert "pid" in text


def test_a_tool_whose_dlm_failed_says_so_with_a_com_err_code() -> None:
    desk = Desk()
    caller = told_caller(desk, "fsck.ocfs2")
    assert caller.result(-1485330940, "fsck.ocfs2") == [(0, "OK")]
    desk.settle()
    assert desk.left


def test_a_region_started_by_hand_ends_by_unmount_alone() -> None:
    desk = Desk()
    caller = told_caller(desk, MINE)
    assert caller.result(0, MINE) == [(0, "OK")]
    caller.close()
    desk.ocfs2(1, told.ProcessEnded(caller.peer.pid, caller.peer.started))
    desk.wait(1000)
    assert desk.usage() is Usage.USED
    assert desk.call("ocfs2_hb_ctl").unmount("somebody else's")[0][0] == ENOENT
    assert desk.call("ocfs2_hb_ctl").unmount(MINE) == [(0, "OK")]
    desk.settle()
    assert desk.left


def test_mounts_and_holders_each_keep_the_group() -> None:
    desk = Desk()
    desk.used("ocfs2", "fsck.ocfs2", MINE)
    desk.mounted()
    assert desk.call("ocfs2_hb_ctl").unmount() == [(0, "OK")], "it comes from inside the last umount(2)"
    assert desk.call("ocfs2_hb_ctl").unmount()[0][0] == ENOENT
    assert sorted(desk.local.services) == sorted([MINE, "fsck.ocfs2"])
    assert desk.call("fsck.ocfs2").unmount("fsck.ocfs2") == [(0, "OK")]
    desk.settle()
    assert desk.usage() is Usage.USED
    assert desk.call().unmount(MINE) == [(0, "OK")]
    desk.settle()
    assert desk.left


# clients that die, and answers that cannot be delivered


@pytest.mark.parametrize("heard", [True, False], ids=["join said", "join not said"])
def test_a_client_that_dies_before_its_status_leaves_nothing(heard: bool) -> None:
    desk = Desk() if heard else Desk(1, up=())
    if not heard:
        desk.start_ocfs2(1)
        desk.here.power = True
    caller = desk.call()
    assert caller.mount() == []
    caller.close()
    desk.settle()
    assert F not in desk.state.locals
    assert F not in desk.here.kernel.regions
    assert caller.codes == []


def test_a_withdrawal_that_comes_too_late_ends_in_a_leave() -> None:
    desk = Desk(2)
    desk.client(2, "F")
    desk.settle()
    caller = desk.call()
    caller.mount()
    while (F, "n1") not in desk.nodes[2].kernel.links:
        desk.do(desk.choices()[0])
    caller.close()
    desk.settle()
    assert desk.left
    assert (F, "n1") not in desk.nodes[2].kernel.links
    assert caller.codes == []


@pytest.mark.parametrize("mounted", [True, False])
def test_a_client_that_dies_after_its_status_is_resolved_by_the_kernel(mounted: bool) -> None:
    desk = Desk()
    caller = told_caller(desk)
    if mounted:
        desk.here.mounts["F"] = ["/mnt"]
    caller.close()
    desk.settle()
    if mounted:
        assert desk.usage() is Usage.USED
        assert list(desk.local.services) == ["ocfs2"]
        desk.mounted()
        desk.settle()
    assert desk.left


@pytest.mark.parametrize("mounted", [True, False])
@pytest.mark.parametrize("service", ["ocfs2", "/mnt/b", "fsck.ocfs2"])
def test_a_client_that_dies_after_114_costs_the_others_nothing(mounted: bool, service: str) -> None:
    desk = Desk()
    desk.used("ocfs2")
    caller = told_caller(desk, service)
    if mounted:
        desk.here.mounts["F"].append("/mnt/b")
    caller.close()
    desk.settle()
    assert desk.usage() is Usage.USED
    assert "fsck.ocfs2" not in desk.local.services, "a tool's word is MRESULT"
    assert desk.call().mount()[0][0] == ALREADY, "and the next is served"


def test_the_table_may_be_seen_after_the_clients_end() -> None:
    """The device is still in use, so the group is kept until the table is read, and then for good."""
    desk = Desk()
    caller = told_caller(desk)
    desk.here.busy.add("F")
    desk.ocfs2(1, told.ClientClosed(caller.connection))
    assert desk.usage() is Usage.RELEASING
    desk.mounted("/mnt")
    desk.wait(5)
    assert desk.usage() is Usage.USED
    assert desk.here.kernel.links


def test_a_client_that_ends_after_mresult_changes_nothing() -> None:
    desk = Desk()
    desk.used("ocfs2")
    caller = desk.call()
    caller.mount()
    caller.result()
    caller.close()
    desk.settle()
    assert desk.usage() is Usage.USED
    assert caller.connection not in desk.state.sessions


# MRESULT


@pytest.mark.parametrize("code", [19, -1485330940, 2**31 - 1, -(2**31)])
def test_a_first_mount_that_failed_is_left_and_mresult_never_echoes_its_error(code: int) -> None:
    desk = Desk()
    caller = told_caller(desk)
    assert caller.result(code) == [(0, "OK")]
    desk.settle()
    assert desk.left


def test_a_further_mount_that_failed_keeps_the_first() -> None:
    desk = Desk()
    desk.used("ocfs2")
    assert told_caller(desk).result(5) == [(0, "OK")]
    desk.settle()
    assert desk.usage() is Usage.USED


def test_a_mount_that_went_before_its_mresult_is_left() -> None:
    """A has mounted, B unmounts it at once, and only now A's MRESULT 0 comes: seen mounted and gone (law 12)."""
    desk = Desk()
    caller = told_caller(desk)
    desk.mounted("/mnt")
    desk.mounted()
    desk.call("ocfs2_hb_ctl").unmount()
    assert caller.result() == [(0, "OK")]
    desk.settle()
    assert desk.left


def test_a_mount_that_no_table_shows_is_believed_and_ends_by_unmount() -> None:
    """In a mount namespace of its own the daemon cannot see it."""
    desk = Desk()
    caller = told_caller(desk)
    assert caller.result() == [(0, "OK")]
    desk.wait(1000)
    assert desk.usage() is Usage.USED
    assert desk.call("ocfs2_hb_ctl").unmount() == [(0, "OK")]
    desk.settle()
    assert desk.left


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (MountResult("ocfs2", uuid("G"), 0, "ocfs2"), EINVAL),
        (MountResult("ocfs2", "rubbish", 0, "ocfs2"), EINVAL),
        (MountResult("ocfs2", F, 0, "/wrong"), ENOENT),
        (MountResult("ext4", F, 0, "ocfs2"), EINVAL),
    ],
)
def test_an_mresult_that_does_not_fit_is_answered_and_the_operation_stays_open(message: MountResult, code: int) -> None:
    desk = Desk()
    caller = told_caller(desk)
    for _ in range(3):
        assert [c for c, _ in caller.send(message)] == [code]
        assert desk.usage() is Usage.TOLD
    desk.mounted("/mnt")
    assert caller.result() == [(0, "OK")]
    assert desk.usage() is Usage.USED


def test_an_mresult_with_a_bad_number_leaves_the_operation_open() -> None:
    desk = Desk()
    caller = told_caller(desk)
    text = "Invalid error code string: zz"
    assert caller.garble(EINVAL, text) == [(EINVAL, text)]
    assert caller.result() == [(0, "OK")]


def test_an_mresult_without_its_mount_is_answered_22() -> None:
    desk = Desk()
    assert desk.call().result() == [(EINVAL, "Client is not attached to a mountgroup")]
    caller = desk.call()
    caller.mount()
    assert caller.result() == [(EINVAL, "MRESULT before the answer to MOUNT")]
    desk.settle()
    assert caller.codes == [EINVAL, 0], "its MOUNT is answered all the same"
    assert desk.call().result()[0][0] == EINVAL, "of another connection"
    caller.result(5)
    assert caller.result()[0][0] == EINVAL, "once is enough"


# busy


@pytest.mark.parametrize("waits", [True, False], ids=["waiting", "told"])
def test_one_connection_mounts_one_thing_at_a_time(waits: bool) -> None:
    desk = Desk()
    caller = desk.call()
    caller.mount()
    if not waits:
        desk.settle()
    assert caller.mount(fs="G") == [(EBUSY, "Another mount is in progress")]
    assert uuid("G") not in desk.state.locals
    desk.settle()
    assert caller.codes == ([EBUSY, 0] if waits else [0, EBUSY])
    assert caller.result() == [(0, "OK")]
    assert caller.mount(fs="G") == []
    desk.settle()
    assert caller.codes[-1] == 0, "one connection after another"


def test_of_500_clients_that_mount_first_one_gets_it_and_the_others_16_at_once() -> None:
    desk = Desk()
    callers = [desk.call() for _ in range(500)]
    at_once = [c.mount() for c in callers]
    assert at_once[0] == []
    assert at_once[1:] == [[(EBUSY, "Another mount is in progress")]] * 499
    desk.settle()
    assert callers[0].codes == [0]
    assert all(c.codes == [EBUSY] for c in callers[1:])
    for c in callers[1:]:
        c.close()
    assert desk.usage() is Usage.TOLD
    assert callers[0].result() == [(0, "OK")]


def test_an_unmount_does_not_take_over_a_mount_in_progress() -> None:
    desk = Desk()
    caller = desk.call()
    caller.mount()
    busy = [(EBUSY, "Another mount is in progress")]
    assert desk.call().unmount() == busy
    desk.settle()
    assert desk.call().unmount() == busy
    desk.mounted("/mnt")
    assert caller.result() == [(0, "OK")]
    second = told_caller(desk)
    assert desk.call().unmount() == busy
    assert second.result() == [(0, "OK")]
