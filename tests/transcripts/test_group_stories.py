"""The stories of whole clusters, word for word: both real minds on every node, the laws judged at each step."""

from pathlib import Path

import pytest

from tests.simulation.nemesis import Broken
from tests.transcripts.cluster_story import StoryError
from tests.transcripts.cluster_world import HERE, WANTED, files, retell

FILES = files()
RULES = (
    "view",
    "table",
    "stopped",
    "winner",
    "recovered",
    "tag",
    "restart",
    "fresh",
    "joinfence",
    "requeue",
    "first",
    "gone",
    "ring",
    "own",
    "expel_statement",
    "expel_answer",
    "doubt",
)
"""What GROUPS.md names in `code`; expel has two causes."""


def _case(path: Path) -> object:
    why = WANTED.get(path.stem)
    marks = [] if why is None else [pytest.mark.xfail(strict=True, raises=AssertionError, reason=why)]
    return pytest.param(path, marks=marks, id=f"{path.parent.name}-{path.stem}")


@pytest.mark.parametrize("path", [_case(p) for p in FILES])
def test_a_story_goes_as_written(path: Path) -> None:
    story = path.read_text()
    assert retell(story) == story, (
        f"read the difference, then: python -m tests.transcripts.cluster_world --rewrite {path}"
    )


def test_all_sixteen_stories_of_the_pair_are_told() -> None:
    told = {p.stem[:2] for p in FILES if p.parent.name == "pair"}
    assert told == {f"{n:02}" for n in range(16)}


def test_each_rule_has_a_story() -> None:
    assert [r for r in RULES if not (HERE / "groups" / f"rule_{r}.txt").exists()] == []


def test_a_story_that_breaks_a_law_is_not_told() -> None:
    """An operator acknowledges the fence of a node that writes on: no daemon can know, and the judges do."""
    story = "set fencing manual\nrunning 3 F n1 n2 n3\ncut n1 n2 | n3\nacknowledge n1 n3\n----\n"
    with pytest.raises(Broken, match="law 11"):
        retell(story)


@pytest.mark.parametrize(
    ("story", "why"),
    [
        ("running 2\nsing\n----\n", "unknown: sing"),
        ("running 2\nfail x\n----\n", "no node: x"),
        ("running 2 F n1\numount n1 F\n", "before its last ----"),
        ("running 2\nhold n1 ocfs2.channel\n----\n", "still held"),
        ("running 2\nstep n1 ocfs2.channel\n----\n", "nothing to do"),
        ("running 2\nfenced n1\n----\n", "nobody fences n1"),
        ("mount n1 F\n----\n", "no cluster yet"),
    ],
)
def test_a_wrong_line_is_named(story: str, why: str) -> None:
    with pytest.raises(StoryError, match=why):
        retell(story)
