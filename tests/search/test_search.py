"""Small worlds searched to the end with the real minds; `python -m tests.search --all` for the larger ones."""

from dataclasses import replace
from typing import Any

import pytest

from o2cb_controld import changes
from ocfs2_controld import groupwork
from ocfs2_controld.state import State
from protocol.group import Group, Phase
from tests.beside import Job
from tests.search.broken import break_minds
from tests.search.explore import Finding, search, story
from tests.search.scene import Scene
from tests.search.scenes import SCENES, SHORT
from tests.search.world import SearchWorld


def told(scene: Scene, findings: list[Finding]) -> str:
    return "\n".join(line for finding in findings for line in story(scene, finding))


@pytest.mark.parametrize("name", SHORT)
def test_no_state_of_a_small_world_breaks_a_law_and_each_has_a_way_to_rest(name: str) -> None:
    scene = SCENES[name]
    result = search(scene, 50_000)
    assert not result.findings, told(scene, result.findings)
    assert result.closed
    assert result.rests


@pytest.mark.parametrize(
    "name",
    [
        *("group2-join", "group2-join-leave", "group2-give-up", "group2-c-killed", "group2-expelled"),
        *("group2-death", "group3-death"),
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("group2-grace", "group2-return")),
    ],
)
def test_the_reduction_loses_no_state_of_rest(name: str) -> None:
    scene = SCENES[name]
    whole = search(replace(scene, reduced=False), 50_000)
    reduced = search(scene, 50_000)
    assert whole.closed
    assert reduced.endings == whole.endings
    assert reduced.states < whole.states


def test_two_searches_find_the_same_states() -> None:
    one, two = (search(SCENES["ordering-o-killed"], 50_000) for _ in range(2))
    assert (one.states, one.steps, one.rests, one.endings) == (two.states, two.steps, two.rests, two.endings)


@pytest.mark.slow
@pytest.mark.beside("search")
def test_every_world_as_far_as_four_minutes_go(beside: Job) -> None:
    """In the background, while other tests run: how far it came is shown at the end."""
    assert beside.wait() == 0, beside.said()
    assert f"{len(SCENES)} worlds" in beside.said()
    assert beside.said().rstrip().endswith("0 laws broken")


def test_a_search_that_is_cut_off_says_so() -> None:
    result = search(SCENES["group2-death"], 50)
    assert not result.closed
    assert result.states == 50


def test_a_start_that_does_not_wait_for_fencing_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def may_start(state: State, g: Group) -> bool:
        return state.good and (g.phase is Phase.START or not g.away)

    monkeypatch.setattr(groupwork, "_may_start", may_start)
    assert "law 11" in _first("group3-cut")


@pytest.mark.slow
def test_a_start_without_quorum_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    real = groupwork._may_start

    def may_start(state: State, g: Group) -> bool:
        ring = state.channel.ring
        blind = replace(state, engine=replace(state.engine, up=True, quorate=True, ring=ring))
        return ring is not None and real(blind, g)

    monkeypatch.setattr(groupwork, "_may_start", may_start)
    assert "law 6" in _first("group3-cut-one-side")


def test_a_removal_that_does_not_look_at_the_links_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    real = changes.tell

    def blind(state: Any, now: float, number: int, cue: changes.Cue, **rest: Any) -> object:
        if cue is changes.Cue.LINKED:
            return real(state, now, number, changes.Cue.FREE)
        return real(state, now, number, cue, **rest)

    monkeypatch.setattr(changes, "tell", blind)
    assert "law 1" in _first("ordering-c-killed")


FRESH, RESTART, ALONE = (
    "a-restarted-daemon-was-never-away",
    "the-stopped-are-not-started",
    "who-is-stopped-alone-says-nothing",
)


@pytest.mark.parametrize(
    ("edits", "world", "law"),
    [
        (["a-grant-of-any-request"], "ordering-grant", "law 4"),
        (["words-of-another-change"], "group2-join-c-killed", "law 7"),
        (["a-statement-of-another-view"], "group2-return", "law 7"),
        ([FRESH, RESTART, ALONE], "group2-c-killed", "law 3"),
        ([RESTART, ALONE], "group4-halves", "law 3"),
        pytest.param(["zero-for-an-elder-start"], "group3-unanswered", "law 10", marks=pytest.mark.slow),
    ],
)
def test_a_rule_that_is_dropped_is_found(
    edits: list[str], world: str, law: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    break_minds(monkeypatch, edits)
    assert law in _first(world)


@pytest.mark.parametrize("kept", [FRESH, RESTART, ALONE])
def test_any_of_three_rules_has_a_restarted_daemon_start_again(kept: str, monkeypatch: pytest.MonkeyPatch) -> None:
    break_minds(monkeypatch, [edit for edit in (FRESH, RESTART, ALONE) if edit != kept])
    scene = SCENES["group2-c-killed"]
    result = search(scene, 5000)
    assert result.closed
    assert not result.findings, told(scene, result.findings)


def test_an_edit_that_is_in_no_function_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(LookupError, match="in no function"):
        break_minds(monkeypatch, ["a-failed-fence-is-a-fence"])


def test_who_has_to_go_is_put_out_by_the_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time passes there, a little: else the world would show nothing of it."""
    put_out: list[int] = []
    real = SearchWorld.put_out

    def watched(world: SearchWorld, number: int, target: int) -> None:
        put_out.append(target)
        real(world, number, target)

    monkeypatch.setattr(SearchWorld, "put_out", watched)
    scene = SCENES["group3-put-out"]
    result = search(scene, 3000)
    assert not result.findings, told(scene, result.findings)
    assert 3 in put_out


def _first(name: str) -> str:
    """The story of the first law that is broken."""
    scene = SCENES[name]
    result = search(scene, 50_000, first_only=True)
    assert result.findings, f"{result.states} states, and nothing found"
    return told(scene, result.findings[:1])
