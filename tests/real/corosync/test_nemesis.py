"""Faults from a seed: a few rounds in every run of the tests, five minutes where there is time."""

import pytest

from tests.real.corosync import nemesis
from tests.real.corosync.cluster import Settings as Corosync
from tests.real.corosync.lab import Settings

NODES = ("n1", "n2", "n3")
SETTINGS = Settings(mount=60.0, grace=15.0, join_delay=5.0)


def test_the_same_seed_gives_the_same_deeds() -> None:
    assert list(nemesis.deeds(7, 3, NODES)) == list(nemesis.deeds(7, 3, NODES))
    assert list(nemesis.deeds(7, 3, NODES)) != list(nemesis.deeds(7, 4, NODES))
    drawn = {deed.what for number in range(100) for deed in nemesis.deeds(1, number, NODES)}
    assert drawn == set(nemesis.WEIGHTS)


@pytest.mark.process
def test_a_few_rounds() -> None:
    done = nemesis.run(seed=1, rounds=6, minutes=60, nodes=3, settings=SETTINGS)
    assert done["rounds"] == 6
    assert done["mount"]


@pytest.mark.process
@pytest.mark.long
@pytest.mark.parametrize("transport", ["udpu", "knet"])
def test_five_minutes(transport: str) -> None:
    corosync = Corosync(transport="knet" if transport == "knet" else "udpu")
    settings = Settings(mount=60.0, grace=15.0, join_delay=5.0, corosync=corosync)
    done = nemesis.run(seed=2, rounds=None, minutes=5, nodes=3, settings=settings)
    assert done["rounds"]
