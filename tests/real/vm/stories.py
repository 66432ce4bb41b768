"""The stories of lock and queue on a real kernel: in a guest, with both daemons of n1 on its configfs.

n2 is the node B of the stories, and all is seen from n1. Every order is forced, none is slept for. Each story may be
struck: a daemon of n1 is killed with SIGKILL at the story's decisive moment, and started again. Then what must have
happened in the kernel is the same. `play` is what a guest calls.
"""

import os
import signal
from collections.abc import Callable
from contextlib import suppress
from errno import EBUSY
from pathlib import Path
from typing import Final, cast

from libo2cb.sandbox.homes import Settings
from libo2cb.service.report import Ocfs2Report
from tests.process.lab import CLUSTER, DAEMONS, O2CB, OCFS2, Daemon, Lab, Volume, until
from tests.real.vm.cluster import RealLab, stands_still

PIN: Final = Path("/sys/module/ocfs2_nodemanager/parameters/links_pin")
NEW_ADDRESS: Final = "10.0.0.99"
SETTINGS: Final = Settings(fencing="manual", grace=3600.0, join_delay=3600.0)
"""A START after a death comes when an operator says so, or when the node is back: never by itself."""
KILLS: Final[dict[str, Daemon | None]] = {"none": None, "o2cb": O2CB, "ocfs2": OCFS2}

Strike = Callable[[], None]
Story = Callable[[Lab, Strike], None]


def mounted(lab: Lab, label: str, *names: str) -> Volume:
    """A volume that these nodes have mounted; what was logged before is not looked at any more."""
    volume = lab.volume(label)
    for name in names:
        lab[name].mount(volume, f"/mnt/{label}")
    numbers = [int(name[1:]) for name in names]
    lab["n1"].group(volume, members=list(names), links=numbers)
    for node in lab.nodes.values():
        node.mark()
    return volume


def link(volume: Volume) -> str:
    """n2's link, below the cluster."""
    return f"heartbeat/{volume.uuid}/n2"


def changes(lab: Lab, volume: Volume) -> list[str]:
    """What was done in n1's kernel with n2 and with its link, in order, in the words of the stories."""
    words = {
        f"symlink {CLUSTER}/{link(volume)}": "link",
        f"unlink {CLUSTER}/{link(volume)}": "unlink",
        f"rmdir {CLUSTER}/node/n2": "rmdir",
        f"mkdir {CLUSTER}/node/n2": "mkdir",
    }
    return [words[call] for call in lab["n1"].calls("symlink", "unlink", "mkdir", "rmdir") if call in words]


def refusals(lab: Lab) -> int:
    """How often n1's kernel has refused to remove n2, by strace's word."""
    removal = ("rmdir", f"{CLUSTER}/node/n2", "EBUSY")
    return sum((call.name, call.path, call.error) == removal for call in cast("RealLab", lab).traced())


def dies(lab: Lab, volume: Volume) -> None:
    """n2 dies; n1 has stopped the group, and its removal is queued."""
    lab.power_off("n2")
    lab["n1"].event(OCFS2, "group_stopped", fs=volume.uuid)
    lab["n1"].queued("n2")


def to_be_fenced(report: Ocfs2Report) -> bool:
    """Whether n1's daemon waits for somebody to say that n2 is off."""
    lost = [each for group in report.groups for each in group.lost if not each.fenced]
    return any(each.name == "n2" for each in (*report.unfenced, *lost))


def n2_joins(report: Ocfs2Report) -> bool:
    """Whether n2 waits to join a group of n1's."""
    return any(join.number == 2 for group in report.groups for join in group.queue)


def fenced(lab: Lab, *, stops: bool = False) -> None:
    """An operator says that n2 is off, once n1's daemon asks for it.

    Args:
        lab: the cluster.
        stops: the daemon stands still at what follows from the word, and that may be before it has answered it.
    """
    n1 = lab["n1"]
    n1.until_ocfs2("n2 is to be fenced", to_be_fenced)

    def taken() -> bool:
        if n1.tool("hb_ctl", "--fenced", "n2", "--yes-i-am-sure").wait() == 0:
            return True
        # While nodes still tell each other what they know, the word is refused. It is refused, too, for the second of
        # two lives of n2, when the word for the first has settled both.
        report = n1.ocfs2()
        if report is None:
            return stops and stands_still(n1.process(OCFS2).pid)
        return report.ready and not to_be_fenced(report)

    until("n1 takes the word", taken)


def fenced_again(lab: Lab) -> None:
    """The same, if it is asked for: a daemon that was killed does not know who was fenced."""
    if to_be_fenced(lab["n1"].until_ocfs2("it has groups", lambda r: r.ready and bool(r.groups))):
        fenced(lab)


def alone(lab: Lab, *volumes: Volume) -> None:
    """n1's groups run without n2, and n2 is gone from the kernel."""
    n1 = lab["n1"]
    for volume in volumes:
        n1.group(volume, members=["n1"], links=[1], lost=[])
    until("n2 is gone", lambda: "n2" not in n1.addresses())


def story_0(lab: Lab, strike: Strike) -> None:
    """The race as it was written down."""
    n1, vm = lab["n1"], mounted(lab, "vm", "n1", "n2")
    lab.hold("n1", O2CB)
    lab.power_off("n2")
    n1.event(OCFS2, "group_stopped", fs=vm.uuid)
    assert not n1.lines(O2CB, "node_unwanted")
    lab.release("n1", O2CB)
    assert n1.queued("n2").links == (vm.uuid,)
    assert changes(lab, vm) == ["mkdir", "link"]
    strike()
    n1.queued("n2")
    fenced(lab)
    alone(lab, vm)
    assert changes(lab, vm) == ["mkdir", "link", "unlink", "rmdir"]


def story_1(lab: Lab, strike: Strike) -> None:
    """o2cb_controld hears of the death first."""
    n1, vm = lab["n1"], mounted(lab, "vm", "n1", "n2")
    lab.hold("n1", OCFS2)
    lab.power_off("n2")
    n1.event(O2CB, "change_queued", number=2)
    assert n1.links(vm) == ["n1", "n2"]
    assert not n1.lines(OCFS2, "group_stopped")
    lab.release("n1", OCFS2)
    strike()
    fenced(lab)
    alone(lab, vm)
    assert changes(lab, vm) == ["mkdir", "link", "unlink", "rmdir"]


def story_2(lab: Lab, strike: Strike) -> None:
    """ocfs2_controld hears first: unlinked and closed before the removal is even wanted."""
    n1, vm = lab["n1"], mounted(lab, "vm", "n1", "n2")
    lab.hold("n1", O2CB)
    lab.power_off("n2")
    n1.event(OCFS2, "group_stopped", fs=vm.uuid)
    fenced(lab)
    n1.event(OCFS2, "lock_closed", number=2)
    assert changes(lab, vm) == ["mkdir", "link", "unlink"]
    lab.release("n1", O2CB)
    strike()
    until("n2 is gone", lambda: "n2" not in n1.addresses())
    assert changes(lab, vm) == ["mkdir", "link", "unlink", "rmdir"]
    fenced_again(lab)
    alone(lab, vm)


def story_3(lab: Lab, strike: Strike) -> None:
    """B is back with the same address before START."""
    n1, n2, vm = lab["n1"], lab["n2"], mounted(lab, "vm", "n1", "n2")
    lab.order("n1", O2CB, OCFS2)
    dies(lab, vm)
    strike()
    lab.power_on("n2")
    n1.event(OCFS2, "unlinked", number=2)
    n2.ready()
    n1.group(vm, members=["n1"], links=[1])
    n2.mount(vm, "/mnt/vm")
    n1.group(vm, members=["n1", "n2"], links=[1, 2])
    assert changes(lab, vm) == ["mkdir", "link", "unlink", "link"]


def story_4(lab: Lab, strike: Strike) -> None:
    """B is back with a new address before START."""
    n1, n2, vm = lab["n1"], lab["n2"], mounted(lab, "vm", "n1", "n2")
    lab.order("n1", O2CB, OCFS2)
    dies(lab, vm)
    strike()
    n1.ready()
    lab.hold("n1", f"{OCFS2}.channel")
    lab.power_on("n2", NEW_ADDRESS)
    until("the new node waits on n1", lambda: (it := n1.tree("n2")) and it.queue and it.wanted and it.tree == "differs")
    assert n1.links(vm) == ["n1", "n2"]
    assert n1.addresses()["n2"] != NEW_ADDRESS
    lab.release("n1", f"{OCFS2}.channel")
    n2.ready()
    n2.mount(vm, "/mnt/vm")
    n1.group(vm, members=["n1", "n2"], links=[1, 2])
    assert changes(lab, vm) == ["mkdir", "link", "unlink", "rmdir", "mkdir", "link"]
    assert n1.addresses()["n2"] == n2.addresses()["n2"] == NEW_ADDRESS


def story_5(lab: Lab, strike: Strike) -> None:
    """B is in two filesystems, and one recovers long before the other: the change waits for the second unlink."""
    n1, n3 = lab["n1"], lab["n3"]
    other = mounted(lab, "other", "n1", "n2", "n3")
    vm = mounted(lab, "vm", "n1", "n2")
    n3.kill(OCFS2)
    n1.event(OCFS2, "group_stopped", fs=other.uuid)
    dies(lab, vm)
    fenced(lab)
    n1.group(vm, members=["n1"], links=[1])
    strike()
    fenced_again(lab)
    assert n1.queued("n2").links == (other.uuid,)
    assert n1.links(other) == ["n1", "n2", "n3"]
    n3.start(OCFS2)
    n1.group(other, members=["n1", "n3"], links=[1, 3])
    until("n2 is gone", lambda: "n2" not in n1.addresses())
    assert changes(lab, other) == ["mkdir", "link", "unlink", "rmdir"]


def story_6(lab: Lab, strike: Strike) -> None:
    """B joins and mounts while o2cb_controld is still adding it: QUEUED, then LOCKED, then links."""
    n1, n2, vm = lab["n1"], lab["n2"], mounted(lab, "vm", "n1")
    lab.power_off("n2")
    until("n2 is gone", lambda: "n2" not in n1.addresses())
    lab.hold("n1", O2CB)
    lab.power_on("n2")
    n2.ready()
    n1.mark()
    mount = n2.begin_mount(vm, "/mnt/vm")
    n1.event(O2CB, "lock_queued", number=2)
    assert "n2" not in n1.addresses()
    lab.release("n1", O2CB)
    strike()
    mount.worked()
    n1.group(vm, members=["n1", "n2"], links=[1, 2])
    assert changes(lab, vm) == ["mkdir", "rmdir", "mkdir", "link"]


def story_7(lab: Lab, strike: Strike) -> None:
    """ocfs2_controld is killed between unlink and the hint: the lock is gone with it."""
    n1, vm = lab["n1"], mounted(lab, "vm", "n1", "n2")
    dies(lab, vm)
    with n1.stop_at("unlink", link(vm)):
        fenced(lab, stops=True)
        n1.frozen(OCFS2)
        # Unlinked, and not closed: the lock alone keeps the node now.
        assert n1.links(vm) == ["n1"]
        standing = next(node for node in n1.look_again(2).nodes if node.name == "n2")
        assert standing.queue is not None
        assert "ocfs2_controld holds its lock" in standing.queue
        assert changes(lab, vm) == ["mkdir", "link", "unlink"]
        n1.kill(OCFS2)
    n1.event(O2CB, "node_removed", number=2)
    n1.start(OCFS2)
    strike()
    fenced(lab)
    alone(lab, vm)
    assert changes(lab, vm) == ["mkdir", "link", "unlink", "rmdir"]


def story_8(lab: Lab, strike: Strike) -> None:
    """o2cb_controld is killed with a change queued: its successor finds difference and link, and waits."""
    n1, vm = lab["n1"], mounted(lab, "vm", "n1", "n2")
    dies(lab, vm)
    n1.kill(O2CB)
    n1.mark()
    n1.start(O2CB)
    n1.queued("n2")
    strike()
    n1.until_o2cb("it is ready, with a queue", lambda r: r.ready)
    assert n1.links(vm) == ["n1", "n2"]
    fenced(lab)
    alone(lab, vm)
    assert changes(lab, vm) == ["mkdir", "link", "unlink", "rmdir"]


def _both_killed(lab: Lab, strike: Strike, first: Daemon, second: Daemon) -> None:
    n1, vm = lab["n1"], mounted(lab, "vm", "n1", "n2")
    dies(lab, vm)
    for daemon in DAEMONS:
        n1.kill(daemon)
    n1.mark()
    n1.start(first)
    n1.event(first, "engine_up")
    n1.start(second)
    n1.queued("n2")
    n1.group(vm, "stopped")
    strike()
    assert n1.links(vm) == ["n1", "n2"]
    fenced(lab)
    alone(lab, vm)
    assert changes(lab, vm) == ["mkdir", "link", "unlink", "rmdir"]


def story_9a(lab: Lab, strike: Strike) -> None:
    """Both are killed while B is dying; o2cb_controld is back first."""
    _both_killed(lab, strike, O2CB, OCFS2)


def story_9b(lab: Lab, strike: Strike) -> None:
    """Both are killed while B is dying; ocfs2_controld is back first."""
    _both_killed(lab, strike, OCFS2, O2CB)


def story_10(lab: Lab, strike: Strike) -> None:
    """Something else pins the node in the kernel: EBUSY; named; done when it goes."""
    n1, vm = lab["n1"], mounted(lab, "vm", "n1", "n2")
    PIN.write_text("2")
    try:
        dies(lab, vm)
        fenced(lab)
        n1.event(O2CB, "node_refused", number=2)
        strike()
        before = refusals(lab)
        until("the kernel is asked again", lambda: refusals(lab) > before)
        queued = n1.queued("n2")
        assert not queued.links
        assert "EBUSY" in (queued.queue or "")
    finally:
        PIN.write_text("0")
    until("n2 is gone", lambda: "n2" not in n1.addresses())
    fenced_again(lab)
    alone(lab, vm)
    assert changes(lab, vm) == ["mkdir", "link", "unlink", "rmdir"]


def story_11(lab: Lab, strike: Strike) -> None:
    """A change is queued and the engine itself goes away: nothing is torn down under a live mount."""
    n1, vm = lab["n1"], mounted(lab, "vm", "n1", "n2")
    dies(lab, vm)
    lab.hub("engine", node="n1", do="kill")
    for daemon in DAEMONS:
        n1.event(daemon, "engine_down")
    assert n1.links(vm) == ["n1", "n2"]
    n1.mark()
    lab.hub("engine", node="n1", do="start")
    for daemon in DAEMONS:
        n1.event(daemon, "engine_up")
    strike()
    n1.queued("n2")
    assert changes(lab, vm) == ["mkdir", "link"]
    fenced(lab)
    alone(lab, vm)
    assert changes(lab, vm) == ["mkdir", "link", "unlink", "rmdir"]


def story_12(lab: Lab, strike: Strike) -> None:
    """The local node goes last, and never while a region exists."""
    n1, vm = lab["n1"], mounted(lab, "vm", "n1")
    strike()
    for daemon in DAEMONS:
        n1.signal(daemon, signal.SIGTERM)
        n1.event(daemon, "signal_refused")
    assert n1.links(vm) == ["n1"]
    n1.umount("/mnt/vm")
    n1.until_ocfs2("no group is left", lambda r: not r.groups)
    for daemon in reversed(DAEMONS):
        n1.signal(daemon, signal.SIGTERM)
        assert n1.exit_code(daemon) == 0
    assert n1.is_empty()
    ends = [call.removeprefix(f"rmdir {CLUSTER}") for call in n1.calls("unlink", "rmdir")]
    assert [end for end in ends if "probe" not in end] == [
        f"unlink {CLUSTER}/heartbeat/{vm.uuid}/n1",
        f"/heartbeat/{vm.uuid}",
        "/node/n2",
        "/node/n1",
        "",
    ]


def story_13(lab: Lab, strike: Strike) -> None:
    """B is back with a new address and mounts another filesystem before F's START: no link to the old address."""
    n1, n2, old = lab["n1"], lab["n2"], mounted(lab, "vm", "n1", "n2")
    other = lab.volume("other")
    n1.mount(other, "/mnt/other")
    dies(lab, old)
    strike()
    n1.ready()
    n1.refuse("unlink", link(old), EBUSY)
    lab.power_on("n2", NEW_ADDRESS)
    n2.ready()
    n1.event(OCFS2, "kernel_refused", fs=old.uuid, call="unlink n2")
    mount = n2.begin_mount(other, "/mnt/other")
    n1.until_ocfs2("n2's join waits", n2_joins)
    until("n2 waits for its old link", lambda: (it := n1.tree("n2")) and it.links == (old.uuid,) and it.queue)
    assert n1.links(other) == ["n1"]
    assert not mount.ended()
    n1.allow("unlink", link(old))
    mount.worked()
    n1.group(other, members=["n1", "n2"], links=[1, 2])
    assert n1.addresses()["n2"] == NEW_ADDRESS


def story_14(lab: Lab, strike: Strike) -> None:
    """LOCK, CANCEL and LOCK again in quick succession: the first answer is not taken for the second."""
    n1, n2, vm = lab["n1"], lab["n2"], mounted(lab, "vm", "n1")
    n1.freeze(O2CB)
    first = n2.begin_mount(vm, "/mnt/vm")
    n1.until_ocfs2("n2's join waits for its lock", n2_joins)
    with suppress(ProcessLookupError):
        os.killpg(first.process.pid, signal.SIGKILL)
    n1.until_ocfs2("n2's join is taken back", lambda r: not n2_joins(r))
    second = n2.begin_mount(vm, "/mnt/vm")
    n1.until_ocfs2("n2's second join waits for its lock", n2_joins)
    n1.thaw(O2CB)
    strike()
    second.worked()
    n1.group(vm, members=["n1", "n2"], links=[1, 2])
    assert changes(lab, vm) == ["mkdir", "link"]


def story_15(lab: Lab, strike: Strike) -> None:
    """o2cb_controld dies between granting and the reading of the grant: the descriptor is read, valid, and used."""
    n1, n2, vm = lab["n1"], lab["n2"], mounted(lab, "vm", "n1")
    n1.freeze(O2CB)
    mount = n2.begin_mount(vm, "/mnt/vm")
    n1.until_ocfs2("n2's join waits for its lock", n2_joins)
    n1.freeze(OCFS2)
    n1.thaw(O2CB)
    n1.event(O2CB, "lock_granted", number=2)
    n1.kill(O2CB)
    n1.start(O2CB)
    n1.thaw(OCFS2)
    strike()
    mount.worked()
    n1.group(vm, members=["n1", "n2"], links=[1, 2])
    assert changes(lab, vm) == ["mkdir", "link"]


STORIES: Final[dict[str, Story]] = {
    name.removeprefix("story_"): told for name, told in list(globals().items()) if name.startswith("story_")
}
NODES: Final = {"5": 3, "11": 3}
"""Nodes of a story, if they are not two."""


def play(name: str, kill: str) -> None:
    """Play a story, struck or not, and judge it by the laws and by the audit."""
    daemon = KILLS[kill]
    with RealLab.up(NODES.get(name, 2), SETTINGS) as lab:

        def strike() -> None:
            if daemon is None:
                return
            n1 = lab["n1"]
            n1.mark()
            n1.kill(daemon)
            n1.start(daemon)
            n1.event(daemon, "engine_up")

        STORIES[name](lab, strike)
        broken = lab.breaches() if name == "12" else lab.judged()
        assert not broken, broken
        found = lab.audit()
        assert found.links, "strace has seen no link at all"
        print(f"strace: {found.links} links, {found.removals} removals of nodes, {found.refused} of them EBUSY")
