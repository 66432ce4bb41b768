"""Whole clusters under a seeded scheduler: short here, 2,000 seeds behind `slow`."""

import pytest

from ocfs2_controld.actions import PutOut
from tests.simulation.coverage import TABLES, Coverage, watched
from tests.simulation.judged import Broken, Judged
from tests.simulation.many import everywhere, failures
from tests.simulation.nemesis import Replay, Run
from tests.simulation.shrink import failure_of, kind_of, shrunk
from tests.simulation.world import World, uuid

FLOORS = {
    "Phases of a mount group": 15,
    "Usage of a filesystem on this node": 13,
    "A client's connection": 5,
    "The fencing of a lost life, on the node that acts": 7,
    "One number's change": 16,
    "One lock request": 2,
    "The end of o2cb_controld": 7,
}
"""Pairs of each table that 50 runs must come to: somewhat below what was measured."""


@pytest.mark.parametrize("block", range(3))
def test_no_seed_breaks_a_law(block: int) -> None:
    coverage = Coverage()
    with watched(coverage):
        for seed in range(block * 50, block * 50 + 50):
            coverage.add(Run(seed).go())
    print(coverage.report())
    few = {t.name: coverage.of(t) for t in TABLES if coverage.of(t) < FLOORS[t.name]}
    assert not few, f"a simulation in which nothing happens breaks no law either: {few}"
    assert len(coverage.faults) >= 25
    assert len(coverage.met) >= 80
    assert coverage.starts > 150
    assert coverage.mounts > 80
    assert coverage.facts > 10_000
    assert coverage.seconds > 10_000


@pytest.mark.slow
def test_no_seed_of_two_thousand_breaks_a_law() -> None:
    assert list(everywhere(10_000, 12_000)) == [], "look at one: python -m tests.simulation --seed N --shrink"


def test_what_fails_on_another_processor_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    assert list(everywhere(0, 4)) == []
    monkeypatch.setattr("ocfs2_controld.groupwork._may_start", lambda state, _g: state.good)
    told = failures(0, 40)
    assert told
    assert all(line.startswith("seed ") and "law" in line for line in told)


def test_a_seed_is_a_history() -> None:
    runs = [Run(7), Run(7)]
    for run in runs:
        run.go()
    assert runs[0].story == runs[1].story
    assert runs[0].decisions == runs[1].decisions


def test_a_killed_daemon_keeps_no_lock_that_it_was_about_to_take() -> None:
    world = World(1, careful=True)
    world.power_on(1)
    world.settle()
    world.client(1, "F")
    node = world.nodes[1]
    while node.reading is None:
        world.do(world.choices()[0])
    assert any(f.file == "1" for f in node.kernel.flocks)
    world.kill_ocfs2(1)
    assert [f.file for f in node.kernel.flocks if not f.exclusive] == []


def test_who_was_told_of_lost_quorum_has_nobody_put_out() -> None:
    world = Judged(3, careful=True)
    for number in world.nodes:
        world.power_on(number)
    world.settle()
    world.engine.cut([[1], [2, 3]])
    world.nodes[1].ocfs2_todo.append(PutOut(2, "it was decided before the cut"))
    world.do(("ocfs2 acts", "1"))
    world.settle()
    world.nodes[1].ocfs2_todo.append(PutOut(3, "it was decided after it"))
    with pytest.raises(Broken, match="law 6: n1 has n3 put out without quorum"):
        world.do(("ocfs2 acts", "1"))


def test_the_decisions_of_a_run_are_the_run() -> None:
    run = Run(11)
    run.go()
    again = Replay(run, run.decisions)
    again.go()
    assert again.story == run.story


def test_a_failing_run_is_made_short(monkeypatch: pytest.MonkeyPatch) -> None:
    # The checks themselves: without the fencing condition a seed starts a group without a node that can write.
    monkeypatch.setattr("ocfs2_controld.groupwork._may_start", lambda state, _g: state.good)
    tried = ((run, failure_of(run)) for run in map(Run, range(60)))
    run, failure = next((r, f) for r, f in tried if f is not None)
    short = shrunk(run, failure, tries=40)
    assert len(short.decisions) < len(run.decisions)
    assert kind_of(failure) == kind_of(failure_of(Replay(run, short.decisions)) or AssertionError("it fails no more"))


def test_three_nodes_mount_and_one_dies() -> None:
    world = World(3)
    for n in (1, 2, 3):
        world.power_on(n)
    world.settle()
    for n in (1, 2, 3):
        world.client(n, "F")
        world.settle()
    world.power_off(3)
    world.settle()
    for n in (1, 2):
        assert world.nodes[n].kernel.links == {(uuid("F"), "n1"), (uuid("F"), "n2")}
        assert [x.name for x in world.nodes[n].kernel.nodes] == ["n1", "n2"]
