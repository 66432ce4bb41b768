"""Faults from a seed: some five minutes of them in every run of the tests, and over knet where there is time."""

from typing import Final

import pytest

from tests.real.corosync import nemesis

NODES: Final = ("n1", "n2", "n3")
SEED: Final = 1
ROUNDS: Final = 2 * len(nemesis.FAULTS)
"""As rounds, not as minutes: what they have to have done is the same on a slow machine."""


def drawn(seed: int, rounds: int) -> list[nemesis.Deed]:
    return [deed for number in range(rounds) for deed in nemesis.deeds(seed, number, NODES)]


def test_the_same_seed_gives_the_same_deeds() -> None:
    assert drawn(7, 10) == drawn(7, 10)
    assert drawn(7, 10) != drawn(8, 10)
    assert list(nemesis.deeds(7, 3, NODES)) != list(nemesis.deeds(7, 4, NODES))


def test_every_fault_is_dealt_before_one_comes_again() -> None:
    turns = [[nemesis.dealt(7, turn * len(nemesis.FAULTS) + n) for n in range(len(nemesis.FAULTS))] for turn in (0, 1)]
    assert [sorted(turn) for turn in turns] == [sorted(nemesis.FAULTS)] * 2
    assert turns[0] != turns[1]


def test_what_the_rounds_of_every_run_have_in_them() -> None:
    """All that can be drawn; and each fault while a client is at work, with time enough for the others to see it."""
    assert {deed.what for deed in drawn(SEED, ROUNDS)} == set(nemesis.WEIGHTS)
    for number in range(ROUNDS):
        client, fault, *_ = nemesis.deeds(SEED, number, NODES)
        assert client.what in ("mount", "unmount")
        assert (fault.what, fault.daemon) == nemesis.dealt(SEED, number)
        assert fault.pause > 2 * nemesis.UDPU.token / 1000


@pytest.mark.process
@pytest.mark.parametrize("transport", ["udpu", pytest.param("knet", marks=pytest.mark.long)])
def test_two_turns_of_all_faults(transport: str) -> None:
    settings = nemesis.settings_of(transport)
    done = nemesis.run(seed=SEED, rounds=ROUNDS, minutes=None, nodes=len(NODES), settings=settings)
    assert done["rounds"] == ROUNDS
    for what, daemon in nemesis.FAULTS:
        fault = nemesis.named(what, daemon)
        assert done[fault] >= 2, f"{fault} was done {done[fault]} times only: {done}"
