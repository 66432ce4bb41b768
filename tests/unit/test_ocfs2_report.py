"""The report of ocfs2_controld, of states that the mind really comes to: the simulated cluster's."""

import json

import pytest

from libo2cb.engine.port import ConfiguredNode
from libo2cb.events import Event, Log
from libo2cb.service.report import Group, Ocfs2Report, dump, parse
from libo2cb.tools.facts import Facts as Both
from libo2cb.tools.screens import status
from libo2cb.tools.verdict import Verdict, findings
from ocfs2_controld.report import Facts, build, life_text
from ocfs2_controld.sightings import Sightings
from ocfs2_controld.state import FencingKind
from protocol.identity import Life
from tests.simulation.desk import Desk
from tests.simulation.world import World, uuid

STARTED = 1_700_000_000.0


def report(world: World, number: int, **more: object) -> Ocfs2Report:
    """What this node would answer now; read back from its document, as tools do."""
    node = world.nodes[number]
    assert node.ocfs2 is not None
    sightings = Sightings()
    sightings.look(node.ocfs2, 0.0)
    values: dict[str, object] = {"daemons": sightings.daemons, "joiners": sightings.joiners, **more}
    facts = Facts(
        version="0.1.0",
        pid=node.ocfs2_pid,
        incarnation=node.ocfs2.settings.incarnation,
        boot=node.boot,
        driver="sandbox",
        started=STARTED,
        made=STARTED + world.now,
        **values,  # type: ignore[arg-type]  # fields of Facts
    )
    return parse(dump(build(node.ocfs2, world.now, facts)), Ocfs2Report)


def only(found: Ocfs2Report) -> Group:
    (group,) = found.groups
    return group


def cluster(size: int, **options: object) -> World:
    world = World(size, **options)  # type: ignore[arg-type]  # its own arguments
    for number in range(1, size + 1):
        world.power_on(number)
    world.settle()
    world.wait(1)
    return world


@pytest.fixture
def mounted() -> World:
    """n1 and n2 have F mounted; n3 is there. A node that dies is fenced when the test says so."""
    world = cluster(3)
    world.manual_fences = True
    world.client(1, "F")
    world.settle()
    world.client(2, "F")
    world.settle()
    return world


def test_a_daemon_that_has_just_started_says_what_it_waits_for() -> None:
    world = World(1)
    world.nodes[1].power = True
    world.nodes[1].boots = 1
    world.engine.start_engine(1)
    world.start_ocfs2(1)
    found = report(world, 1)
    assert not found.ready
    assert found.reason == "it has just started"
    assert report(world, 1, reason="the engine is silent").reason == "the engine is silent"
    assert not found.engine.up
    assert found.engine.reason
    assert found.groups == ()
    assert found.local is None


def test_a_running_group(mounted: World) -> None:
    found = report(mounted, 1)
    group = only(found)
    assert found.ready
    assert found.reason is None
    assert found.engine.votes == "3/3"
    assert found.engine.quorate
    assert found.o2cb
    assert found.live_regions == 1
    assert (group.fs, group.label, group.device, group.here) == (uuid("F"), "F", "/dev/F", True)
    assert group.state == "running"
    assert [(m.name, m.number, m.phase) for m in group.members] == [("n1", 1, "running"), ("n2", 2, "running")]
    assert group.mount_points == ("/mnt/F",)
    assert [h.service for h in group.holders] == ["ocfs2"]
    assert group.holders[0].pid
    assert group.holders[0].program == "mount.ocfs2"
    assert group.links == (1, 2)
    assert group.change is None
    assert group.stopped_for is None
    assert group.conditions == ()
    assert group.waits_for is None
    assert group.queue == ()
    assert found.waits == ()
    assert findings(Both(ocfs2=found)) == ()


def test_a_group_of_other_nodes_is_shown_and_is_not_here(mounted: World) -> None:
    group = only(report(mounted, 3))
    assert not group.here
    assert group.state == "running"
    assert [m.name for m in group.members] == ["n1", "n2"]
    assert group.links == ()
    assert group.mount_points == ()


def test_lives_are_named_whole(mounted: World) -> None:
    """An operator's FENCED repeats the boot id from the report; a shortened one would fit no life."""
    mounted.power_off(2)
    mounted.settle()
    (lost,) = only(report(mounted, 1)).lost
    life = Life(2, mounted.nodes[2].boot)
    assert lost.life == life_text(life) == f"2/{life.boot}"
    long = Life(3, "0b0a0d0c-1111-4222-8333-444455556666")
    assert life_text(long) == "3/0b0a0d0c-1111-4222-8333-444455556666"


def test_a_dead_node_that_is_not_fenced_yet(mounted: World) -> None:
    mounted.power_off(2)
    mounted.wait(7)
    found = report(mounted, 1)
    group = only(found)
    assert group.state == "stopped"
    assert group.stopped_for == pytest.approx(7)
    assert [(m.name, m.phase) for m in group.members] == [("n1", "stopped")]
    (lost,) = group.lost
    assert (lost.name, lost.fenced, lost.by, lost.attempts, lost.last_error, lost.next_try) == (
        "n2",
        False,
        "n1",
        1,
        None,
        None,
    )
    failing = [c for c in group.conditions if not c.ok]
    assert [c.name for c in failing] == ["fencing"]
    assert "n2" in (failing[0].why or "")
    assert group.change is not None
    assert group.change.stopped == ("n1",)
    assert group.change.owing == ()
    assert group.change.start == ()
    assert "n2" in (group.waits_for or "")
    assert [w.what for w in found.waits if w.node == 2] == ["fencing of n2"]
    assert all(w.seconds >= 5 for w in found.waits)
    assert found.last_death is None
    first = findings(Both(ocfs2=found))[0]
    assert first.verdict is Verdict.STOPPED
    assert "n2 is lost and not yet fenced" in first.head


def test_nothing_that_waits_for_less_than_five_seconds_is_named(mounted: World) -> None:
    mounted.power_off(2)
    mounted.wait(4)
    assert report(mounted, 1).waits == ()


def test_a_wait_that_is_over_and_begins_again_before_any_tick_is_said_again() -> None:
    desk = Desk(2)
    desk.client(1, "F")
    desk.settle()
    for times in (1, 2):
        # The votes of two more nodes, which are off, are missing, and then they are not: the same ring all the while.
        for number in (3, 4):
            desk.engine.add_node(ConfiguredNode(number, f"n{number}", f"10.0.0.{10 + number}"))
        desk.settle()
        assert not desk.local.running
        desk.wait(6)
        said = [dict(a.fields)["what"] for a in desk.done if isinstance(a, Log) and a.event is Event.WAITING]
        assert said.count("START of F") == times
        for number in (3, 4):
            desk.engine.remove_node(number)
        desk.settle()
        assert desk.local.running


def test_a_fence_that_failed_says_how_and_when_it_is_tried_again(mounted: World) -> None:
    mounted.power_off(2)
    mounted.settle()
    mounted.fence_done(0, ok=False, text="connection timed out")
    (lost,) = only(report(mounted, 1)).lost
    assert lost.attempts == 1
    assert lost.last_error == "connection timed out"
    assert lost.next_try == pytest.approx(5)
    screen = "\n".join(status(Both(ocfs2=report(mounted, 1))))
    assert 'try 1 failed, "connection timed out"; next try in 5' in screen
    assert "ocfs2_hb_ctl --fenced n2" in screen


def test_a_recovered_death_is_remembered(mounted: World) -> None:
    mounted.power_off(2)
    mounted.wait(3)
    mounted.fence_done(0, ok=True)
    mounted.settle()
    mounted.wait(10)
    found = report(mounted, 1)
    assert only(found).state == "running"
    assert only(found).links == (1,)
    assert found.last_death is not None
    assert found.last_death.node == "n2"
    assert found.last_death.ago == pytest.approx(13)
    assert found.last_death.stopped_for == pytest.approx(3)


def test_a_daemon_that_is_away_has_a_time_until_its_node_is_fenced(mounted: World) -> None:
    mounted.kill_ocfs2(2)
    mounted.wait(6)
    found = report(mounted, 1)
    group = only(found)
    assert group.state == "stopped"
    assert [(m.name, m.phase) for m in group.members] == [("n1", "stopped"), ("n2", "away")]
    assert group.change is not None
    assert group.change.owing == ("n2",)
    peer = next(p for p in found.nodes if p.number == 2)
    assert peer.up is None
    assert peer.away == pytest.approx(6)
    assert peer.fenced_in == pytest.approx(24)
    assert next(p for p in found.nodes if p.number == 3).up is not None


def test_without_quorum_the_group_stops_and_says_so(mounted: World) -> None:
    mounted.power_off(2)
    mounted.power_off(3)
    mounted.settle()
    group = only(report(mounted, 1))
    assert group.state == "stopped"
    assert "quorum" in [c.name for c in group.conditions if not c.ok]
    assert report(mounted, 1).engine.votes == "1/3"


def test_a_mount_that_waits_is_a_joiner_with_its_deadline(mounted: World) -> None:
    mounted.power_off(2)
    mounted.settle()
    mounted.client(3, "F")
    mounted.wait(7)
    found = report(mounted, 3)
    group = only(found)
    assert group.state == "joining"
    (mine,) = [j for j in group.queue if j.number == 3]
    assert mine.seconds == pytest.approx(7)
    assert mine.gives_up == pytest.approx(293)
    assert "n2" in mine.why
    assert any(w.what.startswith("MOUNT of") for w in found.waits)
    (theirs,) = only(report(mounted, 1)).queue
    assert (theirs.name, theirs.gives_up) == ("n3", None)


def test_a_group_that_is_being_left_says_who_uses_the_device(mounted: World) -> None:
    mounted.nodes[1].busy.add("F")
    mounted.umount(1, "F")
    mounted.wait(6)
    group = only(report(mounted, 1))
    assert group.state == "leaving"
    assert group.mount_points == ()
    assert "somebody holds it" in (group.waits_for or "")
    mounted.nodes[1].busy.clear()
    mounted.wait(10)
    assert not only(report(mounted, 1)).here


def test_a_tool_that_holds_the_filesystem_is_named() -> None:
    world = cluster(1)
    connection = world.client(1, "F", service="fsck.ocfs2")
    world.settle()
    (holder,) = only(report(world, 1)).holders
    assert holder.service == "fsck.ocfs2"
    assert holder.pid == 1000 + connection


def test_nodes_that_nobody_has_seen_block_the_first_mount_and_are_listed() -> None:
    world = World(3)
    world.manual_fences = True
    for number in (1, 2):
        world.power_on(number)
    world.settle()
    found = report(world, 1)
    assert [(x.name, x.life, x.fenced) for x in found.unfenced] == [("n3", "3/", False)]
    unseen = next(p for p in found.nodes if p.number == 3)
    assert (unseen.up, unseen.away, unseen.version) == (None, None, None)


@pytest.mark.parametrize(
    ("kind", "word", "alone"),
    [(FencingKind.NONE, "none", True), (FencingKind.MANUAL, "manual", False), (FencingKind.COMMAND, "command", True)],
)
def test_how_a_lost_node_is_made_safe(kind: FencingKind, word: str, alone: bool) -> None:
    fencing = report(cluster(1, fencing=kind), 1).fencing
    assert (fencing.kind, fencing.alone) == (word, alone)
    assert ("UNSAFE" in fencing.sentence) == (kind is FencingKind.NONE)


def test_with_manual_fencing_nobody_acts_and_no_try_is_counted() -> None:
    world = cluster(2, fencing=FencingKind.MANUAL, two_node=True)
    world.client(1, "F")
    world.settle()
    world.client(2, "F")
    world.settle()
    world.power_off(2)
    world.wait(6)
    lost = only(report(world, 1)).lost
    # Either of two has quorum alone, so that a life of n2 which nobody here has seen is in doubt too. It is one node.
    assert [it.life for it in lost] == [f"2/{world.nodes[2].boot}"]
    assert "n2 is lost" in (only(report(world, 1)).waits_for or "")
    assert all((it.by, it.attempts, it.next_try) == (None, 0, None) for it in lost)
    assert any("--fenced n2" in (w.do or "") for w in report(world, 1).waits)


STRAY = "the group of the mount on /mnt/a"


def stray() -> Desk:
    """n1 has mounted F by a client that asked nobody; n2 has it by one that did."""
    desk = Desk(2)
    desk.client(2, "F")
    desk.settle()
    desk.mounted("/mnt/a")
    return desk


def test_a_mount_whose_client_asked_nobody_is_told_after_five_seconds_until_it_is_gone() -> None:
    desk = stray()
    desk.wait(4)
    assert report(desk, 1).waits == ()
    desk.wait(2)
    (wait,) = report(desk, 1).waits
    assert wait.what == STRAY
    assert uuid("F") in wait.why
    assert [(it.verdict, it.head) for it in findings(Both(ocfs2=report(desk, 1)))] == [
        (Verdict.ACTION, f"{STRAY} waits")
    ]
    logged = [a for a in desk.done if isinstance(a, Log) and a.event is Event.WAITING]
    assert [(a.level, dict(a.fields)["what"]) for a in logged] == [("warning", STRAY)]
    desk.mounted()
    assert report(desk, 1).waits == ()
    assert not desk.state.strays


def test_a_mount_that_is_asked_for_after_all_is_no_stray() -> None:
    desk = stray()
    desk.wait(6)
    caller = desk.call()
    caller.mount()
    desk.settle()
    assert caller.codes == [0]
    assert not desk.state.strays


def test_the_mounts_of_an_earlier_run_are_no_strays_and_one_that_asked_nobody_still_is() -> None:
    desk = stray()
    desk.client(1, "G")
    desk.settle()
    desk.kill_ocfs2(1)
    desk.start_ocfs2(1)
    desk.settle()
    assert list(desk.state.strays) == [uuid("F")]
    assert list(desk.state.locals) == [uuid("G")]


def test_what_the_shell_counts_is_passed_on(mounted: World) -> None:
    found = report(mounted, 1, signals={"SIGTERM": 3}, violations={"half_record": 2})
    assert found.signals_refused == {"SIGTERM": 3}
    assert found.violations["half_record"] == 2


def test_no_two_nodes_reports_of_any_state_contradict_the_schema(mounted: World) -> None:
    """Each step of a recovery, seen from both survivors, is a document that the tools' reader takes."""
    mounted.client(3, "F")
    mounted.power_off(2)
    states = set()
    for _ in range(500):
        choices = mounted.choices()
        for number in (1, 3):
            group = next(iter(report(mounted, number).groups), None)
            states.add(group.state if group else None)
            json.loads(dump(report(mounted, number)))
        if not choices:
            if not mounted.fences:
                break
            mounted.fence_done(0, ok=True)
            continue
        mounted.do(choices[0])
    assert {"stopped", "joining", "running"} <= states
    assert [m.phase for m in only(report(mounted, 1)).members] == ["running", "running"]
