"""Whole clusters under a seeded scheduler: short here; `python -m tests.simulation --from A --to B` for hours."""

import pytest

from tests.simulation.nemesis import Run
from tests.simulation.world import World, uuid


@pytest.mark.parametrize("block", range(6))
def test_no_seed_breaks_a_law(block: int) -> None:
    for seed in range(block * 12, block * 12 + 12):
        Run(seed, steps=250).go()


@pytest.mark.slow
@pytest.mark.parametrize("block", range(20))
def test_no_seed_of_many_breaks_a_law(block: int) -> None:
    for seed in range(10_000 + block * 30, 10_000 + block * 30 + 30):
        Run(seed, steps=400).go()


def test_a_seed_is_a_history() -> None:
    stories = []
    for _ in range(2):
        run = Run(7)
        run.go()
        stories.append(run.story)
    assert stories[0] == stories[1]


def test_the_scheduler_gets_somewhere() -> None:
    # A simulation in which nothing happens breaks no law either.
    tallies = [Run(seed, steps=250).go() for seed in range(20)]
    assert sum(t.mounts for t in tallies) > 40
    assert sum(t.starts for t in tallies) > 80
    assert len({kind.split()[0] for t in tallies for kind in t.faults}) >= 12


def test_a_world_that_forgets_fencing_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    # The check itself: without the fencing condition some seed starts a group without a node that can write.
    monkeypatch.setattr("ocfs2_controld.groupwork._may_start", lambda state, _g: state.good)
    with pytest.raises(AssertionError):
        _try_seeds(40)


def _try_seeds(last: int) -> None:
    for seed in range(last):
        Run(seed, steps=300).go()


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
