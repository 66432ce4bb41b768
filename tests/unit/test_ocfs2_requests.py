"""Requests that are wrong or not allowed, deadlines, lists, and what root may say to the mind of ocfs2_controld."""

from errno import EBUSY, EINVAL, ENAMETOOLONG, ENOENT, EPERM, ESHUTDOWN, ETIMEDOUT

import pytest

from libo2cb.engine.port import ShutdownAsked
from libo2cb.events import Event, Log
from ocfs2_controld import actions as do
from ocfs2_controld import events as told
from ocfs2_controld.state import FencingKind, Role, Usage
from protocol.client import (
    ClientMessage,
    Dump,
    Fenced,
    Item,
    ListClusters,
    ListFs,
    ListMounts,
    Mount,
    MountResult,
    Replace,
    Report,
    Status,
    Unmount,
    encode,
    parse,
)
from protocol.group import Envelope, Phase, Refuse
from tests.simulation.desk import Desk, F
from tests.simulation.world import CLUSTER, uuid

ALREADY = 114
MINE = "a region of my own"


# wrong requests


def wrong(**changes: str) -> dict[str, str]:
    return {"fstype": "ocfs2", "uuid": F, "cluster": CLUSTER, "device": "/dev/F", "service": "ocfs2"} | changes


@pytest.mark.parametrize(
    ("fields", "code", "words"),
    [
        (wrong(fstype="ext4"), EINVAL, "ext4"),
        (wrong(cluster="other"), EINVAL, "Invalid cluster name: the volume is of cluster other, this node of demo"),
        (wrong(uuid=F + "0"), ENAMETOOLONG, "UUID too long"),
        (wrong(uuid="A" * 200), ENAMETOOLONG, "UUID too long"),
        (wrong(uuid=F[:-1]), EINVAL, "32 hexadecimal digits"),
        (wrong(uuid="G" * 32), EINVAL, "32 hexadecimal digits"),
        (wrong(uuid=""), EINVAL, "32 hexadecimal digits"),
        (wrong(service=""), EINVAL, "service"),
    ],
)
def test_a_wrong_mount_is_refused_at_once_and_nothing_is_remembered(
    fields: dict[str, str], code: int, words: str
) -> None:
    desk = Desk()
    caller = desk.call()
    answer = caller.send(Mount(**fields), device="devF")
    assert [c for c, _ in answer] == [code]
    assert words in answer[0][1]
    assert not desk.state.locals
    assert desk.state.sessions[caller.connection].role is Role.FREE
    caller.mount()
    desk.settle()
    assert caller.codes == [code, 0], "the same connection may try again"


def test_a_device_that_cannot_be_looked_at_refuses_its_own_mount_with_the_reason() -> None:
    desk = Desk()
    problem = ENOENT, 'Failed to stat device "/dev/F": No such file or directory'
    message = Mount("ocfs2", F, CLUSTER, "/dev/F", "ocfs2")
    assert desk.call().send(message, problem=problem) == [problem]
    assert not desk.state.locals


def test_another_device_of_the_same_uuid_is_refused_by_both_names() -> None:
    desk = Desk()
    desk.used("ocfs2")
    code, text = desk.call().mount(device="G")[0]
    assert code == EINVAL
    assert text == f'Trying to mount fs "{F}" on device /dev/G, but it is in use on /dev/F'
    assert desk.call().mount()[0][0] == ALREADY, "and the right one is not hurt"


@pytest.mark.parametrize("service", ["ocfs2", "/mnt/a", "fsck.ocfs2", MINE])
def test_an_unmount_of_what_is_not_mounted_is_answered_2(service: str) -> None:
    desk = Desk()
    assert desk.call().unmount(service) == [(ENOENT, f"Filesystem {F} is unknown or not mounted anywhere")]
    desk.used(MINE if service != MINE else "ocfs2")
    assert desk.call().unmount(service if service != MINE else "fsck.ocfs2")[0][0] == ENOENT
    assert desk.usage() is Usage.USED


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (Unmount("ext4", F, "ocfs2"), EINVAL),
        (Unmount("ocfs2", F + "0", "ocfs2"), ENAMETOOLONG),
        (Unmount("ocfs2", "zz", "ocfs2"), EINVAL),
        (Unmount("ocfs2", uuid("G"), "ocfs2"), ENOENT),
        (ListFs("ext4", CLUSTER), EINVAL),
        (ListFs("ocfs2", "other"), EINVAL),
        (ListMounts("ext4", F), EINVAL),
        (ListMounts("ocfs2", uuid("G")), ENOENT),
        (Status(0, "OK"), EINVAL),
        (Item("x"), EINVAL),
        (Fenced("n1", "*"), ENOENT),
    ],
)
def test_every_wrong_request_is_answered_and_changes_nothing(message: ClientMessage, code: int) -> None:
    desk = Desk()
    desk.used("ocfs2")
    before = desk.state.locals
    assert [c for c, _ in desk.call().send(message)] == [code]
    desk.settle()
    assert desk.state.locals == before


def test_small_and_large_hexadecimal_digits_are_one_filesystem() -> None:
    desk = Desk()
    small = desk.call()
    small.send(Mount("ocfs2", F.lower(), CLUSTER, "/dev/F", "ocfs2"), device="devF")
    desk.settle()
    desk.mounted("/mnt")
    assert small.send(MountResult("ocfs2", F.lower(), 0, "ocfs2")) == [(0, "OK")]
    assert list(desk.state.locals) == [F]
    assert desk.call().mount()[0][0] == ALREADY


def test_a_mount_of_another_cluster_is_refused_also_when_it_came_before_the_engine() -> None:
    desk = Desk(1, up=())
    desk.here.power = True
    desk.start_o2cb(1)
    desk.start_ocfs2(1)
    caller = desk.call()
    caller.mount(cluster="other")
    desk.engine.start_engine(1)
    desk.settle()
    assert caller.codes == [EINVAL]


@pytest.mark.parametrize("errno", [1, 108, 0, -16, 2**31, 10**30])
@pytest.mark.parametrize("reason", ["n2 cannot link n1: no", ""])
def test_a_peer_that_refuses_the_join_cannot_make_an_answer_that_no_client_reads(errno: int, reason: str) -> None:
    desk = Desk(2)
    desk.client(2, "F")
    desk.settle()
    caller = desk.call()
    caller.mount()
    while desk.state.group(F).phase is not Phase.LOCK:
        desk.do(desk.choices()[0])
    word = Refuse(F, desk.state.me, errno, reason)
    peer = desk.state.present[2].member
    desk.ocfs2(1, told.Heard(peer, Envelope(desk.state.channel.change, (word,))))
    code, text = caller.statuses[0]
    assert parse(encode(Status(code, text)).rstrip(b"\0")) == Status(code, text)
    assert code == (errno if errno in (1, 108) else EPERM)
    assert text == (reason or "a member of F cannot link this node, and does not say why")
    assert desk.usage() is Usage.IDLE


# trust


@pytest.mark.parametrize(
    "message",
    [
        Mount("ocfs2", F, CLUSTER, "/dev/F", "ocfs2"),
        MountResult("ocfs2", F, 0, "ocfs2"),
        Unmount("ocfs2", F, "ocfs2"),
        Fenced("n1", "*"),
        Replace(),
    ],
)
def test_only_root_changes_anything(message: ClientMessage) -> None:
    desk = Desk()
    desk.used("ocfs2")
    before = desk.state.locals
    stranger = desk.call(uid=1000, trusted=False)
    assert stranger.send(message) == [(EPERM, f"Only root may say {message.word}")]
    desk.settle()
    assert desk.state.locals == before
    assert desk.state.ending is None


def test_anybody_is_served_lists_and_reports() -> None:
    desk = Desk()
    desk.used("ocfs2", "/mnt/b", "fsck.ocfs2")
    caller = desk.call(uid=1000, trusted=False)
    for message in (ListClusters(), ListFs("ocfs2", CLUSTER), ListMounts("ocfs2", F.lower())):
        assert caller.send(message) == []
    assert caller.lists[:2] == [(CLUSTER,), (F,)]
    assert {"/mnt/b", "fsck.ocfs2"} <= set(caller.lists[2])
    caller.send(Report())
    caller.send(Dump())
    assert do.AnswerReport(caller.connection) in desk.done
    assert do.AnswerDump(caller.connection) in desk.done


def test_lists_are_true_before_the_engine_has_answered_and_after_everything_was_left() -> None:
    desk = Desk(1, up=())
    desk.here.power = True
    desk.start_ocfs2(1)
    caller = desk.call()
    caller.send(ListClusters())
    assert caller.lists == [()]
    up = Desk()
    caller = up.call()
    caller.send(ListFs("ocfs2", CLUSTER))
    assert caller.lists == [()]


@pytest.mark.parametrize("role", ["waiting", "told"])
def test_lists_are_served_in_the_midst_of_a_mount(role: str) -> None:
    desk = Desk()
    caller = desk.call()
    caller.mount()
    if role == "told":
        desk.settle()
    caller.send(ListClusters())
    assert caller.lists == [(CLUSTER,)]
    desk.settle()
    assert caller.codes == [0]
    assert caller.result() == [(0, "OK")]


# deadlines


def test_a_mount_without_quorum_says_so_at_its_deadline() -> None:
    desk = Desk(3, up=(1,))
    caller = desk.call()
    caller.mount()
    desk.wait(299)
    assert caller.codes == []
    desk.wait(3)
    assert caller.statuses == [(ETIMEDOUT, "gave up after 300 s: quorum (1/3 nodes are here)")]
    desk.settle()
    assert F not in desk.state.locals
    assert not desk.here.kernel.regions


def test_a_mount_without_o2cb_controld_says_so_at_its_deadline() -> None:
    desk = Desk()
    desk.kill_o2cb(1)
    desk.settle()
    caller = desk.call()
    caller.mount()
    desk.wait(303)
    assert caller.codes == [ETIMEDOUT]
    assert "lock of n1" in caller.statuses[0][1]
    assert "o2cb_controld" in caller.statuses[0][1]
    assert F not in desk.here.kernel.regions


def test_a_mount_without_an_engine_says_so_at_its_deadline() -> None:
    desk = Desk(1, up=())
    desk.here.power = True
    desk.start_ocfs2(1)
    caller = desk.call()
    caller.mount()
    desk.wait(301)
    assert caller.codes == [ETIMEDOUT]
    assert "engine" in caller.statuses[0][1]
    assert F not in desk.state.locals


def test_a_mount_is_answered_within_its_deadline_while_the_engine_hangs() -> None:
    desk = Desk(2)
    caller = desk.call()
    desk.engine.hang(1)
    caller.mount()
    desk.wait(303)
    assert caller.codes == [ETIMEDOUT]
    desk.engine.resume(1)
    desk.wait(60)
    assert F not in desk.state.locals
    assert F not in desk.here.kernel.regions
    assert caller.codes == [ETIMEDOUT], "nothing is said twice"


def test_a_mount_that_waits_for_a_lost_node_names_it_at_its_deadline() -> None:
    desk = Desk(3, fencing=FencingKind.MANUAL)
    desk.client(2, "F")
    desk.settle()
    desk.power_off(2)
    desk.settle()
    caller = desk.call()
    caller.mount()
    desk.wait(303)
    assert caller.codes == [ETIMEDOUT]
    assert "n2 is lost and fencing is manual" in caller.statuses[0][1]


def test_a_mount_while_o2cb_controld_is_ending_is_refused_with_that_reason() -> None:
    desk = Desk()
    locked = desk.here.kernel.flock("service", True, "o2cb")
    assert locked is not None
    desk.here.kernel = locked
    caller = desk.call()
    caller.mount()
    desk.settle()
    assert caller.codes == [ESHUTDOWN]
    assert "o2cb_controld is ending" in caller.statuses[0][1]
    desk.here.kernel = desk.here.kernel.close("service", True, "o2cb")
    again = desk.call()
    again.mount()
    desk.settle()
    assert again.codes == [0]


# the end of the daemon


SIGNALS = ["SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT"]


def exits(desk: Desk) -> list[do.Exit]:
    return [a for a in desk.done if isinstance(a, do.Exit)]


@pytest.mark.parametrize("name", SIGNALS)
@pytest.mark.parametrize("when", ["joining", "told", "used", "releasing"])
def test_no_signal_ends_the_daemon_while_a_group_is_live_and_none_is_remembered(name: str, when: str) -> None:
    desk = Desk()
    caller = desk.call()
    caller.mount()
    if when != "joining":
        desk.settle()
    if when in ("used", "releasing"):
        desk.mounted("/mnt")
        caller.result()
    if when == "releasing":
        desk.here.busy.add("F")
        desk.mounted()
    desk.ocfs2(1, told.SignalCame(name))
    assert desk.state.counts["signals_refused"] == 1
    assert any(isinstance(a, Log) and a.event is Event.SIGNAL_REFUSED for a in desk.done)
    desk.here.busy.clear()
    desk.settle()
    if when in ("joining", "told"):
        caller.result(5)
    desk.mounted()
    desk.wait(5)
    assert desk.left
    assert not exits(desk)


@pytest.mark.parametrize("name", SIGNALS)
def test_a_signal_ends_an_idle_daemon_with_0_after_its_goodbye(name: str) -> None:
    desk = Desk()
    desk.done.clear()
    desk.ocfs2(1, told.SignalCame(name))
    kinds = [type(a) for a in desk.done if not isinstance(a, Log)]
    assert kinds == [do.Multicast, do.LeaveChannel, do.Exit]
    assert exits(desk)[0].code == 0


def test_the_engines_question_is_answered_no_with_the_reason_while_a_group_is_live() -> None:
    desk = Desk()
    desk.ocfs2(1, ShutdownAsked(1))
    desk.used("ocfs2")
    desk.ocfs2(1, ShutdownAsked(2))
    answer = next(a for a in desk.done if isinstance(a, do.AnswerShutdown))
    assert (answer.question, answer.allow) == (2, False)
    assert "F" in answer.reason
    assert "unmount first" in answer.reason


def test_the_engines_question_is_answered_yes_while_nothing_is_live() -> None:
    desk = Desk()
    desk.ocfs2(1, ShutdownAsked(7))
    answer = next(a for a in desk.done if isinstance(a, do.AnswerShutdown))
    assert (answer.question, answer.allow) == (7, True)
    assert answer.reason


def test_replace_ends_the_daemon_and_leaves_everything_standing_for_its_successor() -> None:
    desk = Desk()
    desk.used("ocfs2")
    links = desk.here.kernel.links
    caller = desk.call("ocfs2_hb_ctl")
    desk.done.clear()
    desk.ocfs2(1, told.ClientSaid(caller.connection, Replace()))
    assert caller.codes == [0]
    assert exits(desk)[0].code == 0
    assert not [a for a in desk.done if isinstance(a, do.CallKernel | do.LeaveChannel | do.Multicast)]
    assert desk.here.kernel.links == links
    desk.start_ocfs2(1)
    desk.settle()
    assert desk.usage() is Usage.USED
    assert desk.local.running
    assert desk.here.kernel.links == links


# FENCED


def lost_node() -> Desk:
    """n1 and n2 have F mounted, n3 watches; n2 is lost, and an operator has to say that it is off."""
    desk = Desk(3, fencing=FencingKind.MANUAL)
    desk.used("ocfs2")
    desk.client(2, "F")
    desk.settle()
    desk.power_off(2)
    desk.settle()
    assert not desk.local.running
    return desk


@pytest.mark.parametrize(("node", "life"), [("n2", "*"), ("n2", "-"), ("n2", ""), ("2", ""), ("n2", "boot1")])
def test_an_operators_word_fences_a_lost_node(node: str, life: str) -> None:
    desk = lost_node()
    assert desk.call("ocfs2_hb_ctl").send(Fenced(node, life)) == [(0, f"{node} is taken as fenced")]
    desk.settle()
    assert desk.local.running
    assert (F, "n2") not in desk.here.kernel.links
    assert any(isinstance(a, Log) and a.event is Event.ACKNOWLEDGED for a in desk.done)


@pytest.mark.parametrize(("node", "life"), [("n3", "*"), ("n1", "*"), ("n9", "*"), ("", ""), ("n2", "an older boot")])
def test_a_fence_that_nobody_waits_for_is_not_believed(node: str, life: str) -> None:
    desk = lost_node()
    code, text = desk.call("ocfs2_hb_ctl").send(Fenced(node, life))[0]
    assert code == ENOENT
    assert "nothing was changed" in text
    desk.settle()
    assert not desk.local.running


def test_a_fence_in_the_midst_of_a_change_is_to_be_said_again() -> None:
    desk = lost_node()
    desk.engine.stop_engine(3)
    while desk.state.complete:
        desk.do(desk.choices()[0])
    assert desk.call("ocfs2_hb_ctl").send(Fenced("n2", "*"))[0][0] == EBUSY
