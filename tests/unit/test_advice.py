"""What an operator hears beforehand: in the log, in status, at every mount."""

from dataclasses import replace

import pytest

from libo2cb.engine.advice import NOT_ALONE, UNSAFE, advice
from libo2cb.engine.port import Configured, ConfiguredNode, EngineUp, MembershipEvent
from libo2cb.events import Event, Log
from libo2cb.tools import screens
from o2cb_controld.mind import step
from o2cb_controld.report import Facts, build
from o2cb_controld.state import State
from ocfs2_controld.state import FencingKind
from tests.simulation.desk import Desk
from tests.unit import samples

TWO = (ConfiguredNode(1, "n1", "10.0.0.1"), ConfiguredNode(2, "n2", "10.0.0.2"))
THREE = (*TWO, ConfiguredNode(3, "n3", "10.0.0.3"))


@pytest.mark.parametrize(
    ("nodes", "kind", "two_node", "words"),
    [
        (3, "command", False, []),
        (2, "command", True, []),
        (3, "manual", False, ["will not recover alone"]),
        (3, "none", False, ["destroys data"]),
        (2, "command", False, ["two nodes without two_node"]),
        (2, "manual", False, ["will not recover alone", "two nodes without two_node"]),
        (2, "manual", True, ["will not recover alone", "both wait for an operator"]),
        (2, "none", True, ["destroys data", "data is lost"]),
        (2, "", True, []),
        (1, "manual", False, ["will not recover alone"]),
    ],
)
def test_what_can_happen_is_said_of_each_kind(nodes: int, kind: str, two_node: bool, words: list[str]) -> None:
    said = advice(nodes, kind, two_node=two_node)
    assert len(said) == len(words)
    assert all(word in sentence for word, sentence in zip(words, said, strict=True))


def notes(state: State, event: MembershipEvent) -> tuple[State, list[object]]:
    state, actions = step(state, 0.0, event)
    return state, [dict(a.fields)["cause"] for a in actions if isinstance(a, Log) and a.event is Event.NOTE]


def test_notes_are_logged_at_start_and_when_they_change_and_stand_in_the_report() -> None:
    state, said = notes(
        State("links", 7777, fencing="manual"), EngineUp("prod", 1, TWO, two_node=True, notes=("n2 is its host's not",))
    )
    both = advice(2, "manual", two_node=True)
    assert said == ["n2 is its host's not", *both]
    state, said = notes(state, Configured(TWO, two_node=True, notes=("n2 is its host's not",)))
    assert said == []
    state, said = notes(state, Configured(TWO, two_node=True, notes=("another",)))
    assert said == ["another"]
    assert build(state, 0.0, Facts("0.1.0", 1, "i", "b", 0.0, 0.0)).notes == ("another", *both)
    state, said = notes(state, Configured(THREE))
    assert said == []
    assert build(state, 0.0, Facts("0.1.0", 1, "i", "b", 0.0, 0.0)).notes == advice(3, "manual", two_node=False)


def test_status_shows_notes_and_the_classic_driver() -> None:
    facts = replace(samples.healthy(), o2cb=samples.o2cb().model_copy(update={"notes": ("one", "two")}))
    assert [line for line in screens.status(facts) if line.startswith("note: ")] == ["note: one", "note: two"]
    classic = replace(facts, ocfs2=None, o2cb=samples.o2cb().model_copy(update={"driver": "classic"}))
    assert "classic driver" in screens.status(classic)[0]


@pytest.mark.parametrize(
    ("kind", "warning"),
    [(FencingKind.COMMAND, ""), (FencingKind.MANUAL, f"; {NOT_ALONE}"), (FencingKind.NONE, f"; {UNSAFE}")],
)
def test_every_mount_hears_that_the_cluster_will_not_recover_alone(kind: FencingKind, warning: str) -> None:
    desk = Desk(fencing=kind)
    first, second = desk.call(), desk.call()
    first.mount()
    desk.settle()
    assert first.statuses == [(0, f"OK{warning}")]
    desk.mounted("/mnt")
    first.result()
    second.mount()
    assert second.statuses == [(114, f"Already mounted, go ahead{warning}")]
