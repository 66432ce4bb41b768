"""docs/argument.md shows what tests/argument.py plays; the naive world ends wrong, and the real one right."""

import re
from pathlib import Path

import pytest

from tests.argument import MEANING, PAGE, RETURNED, OldStory, Played, play, split, text
from tests.laws import RULES, WITHOUT_JUDGE
from tests.transcripts.cluster_story import Story

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def naive() -> Played:
    return play(OldStory())


@pytest.fixture(scope="module")
def real() -> Played:
    return play(Story())


def test_the_page_shows_what_is_played() -> None:
    assert split(PAGE.read_text())[1] == text(), "read the difference, then: python -m tests.argument --write"


def test_without_the_queue_the_dead_node_stays_and_its_return_is_linked_at_the_old_address(naive: Played) -> None:
    lines = [line.strip() for line in naive.lines]
    dead = lines.index("n2: off")
    assert "n2=10.0.0.12" in lines[dead - 1], "n1 still has the dead node after its link is gone"
    assert "linked" not in lines[dead - 1].partition("n2=")[2].partition(",")[0]
    assert "n1 o2cb: rmdir n2: EBUSY" in lines
    assert "n1 o2cb: mkdir n2: EEXIST" in lines
    assert (naive.standing, naive.linked) == ("10.0.0.12", True)
    assert [b.partition(" (")[0] for b in naive.breaches] == list(MEANING)


def test_with_the_queue_the_node_goes_after_its_link_and_comes_back_new(real: Played) -> None:
    lines = [line.strip() for line in real.lines]
    waits = next(i for i, line in enumerate(lines) if line.startswith("n1 o2cb: removal of n2 waits"))
    assert waits < lines.index("n1 ocfs2: unlink F/n2") < lines.index("n1 o2cb: rmdir n2")
    assert not any("EBUSY" in line for line in lines)
    assert (real.standing, real.linked) == (RETURNED, True)
    assert real.breaches == ()


def test_both_worlds_are_told_the_same(naive: Played, real: Played) -> None:
    told = [[line for line in p.lines if line.startswith(("> ", "# "))] for p in (naive, real)]
    assert told[0] == told[1]


def test_the_page_speaks_of_each_law_that_is_judged_and_names_its_judge() -> None:
    page = PAGE.read_text()
    sections = dict(re.findall(r"^### (\d+)\. .*\n((?:(?!^##).*\n)*)", page, re.MULTILINE))
    assert {int(n) for n in sections} == {rule.law for rule in RULES}
    for rule in RULES:
        assert f"`{rule.__name__}`" in sections[str(rule.law)], f"law {rule.law}"
    assert all(str(law) in page for law in WITHOUT_JUDGE)


def test_what_the_page_names_is_there() -> None:
    page = PAGE.read_text()
    files = set(re.findall(r"`((?:tests|libo2cb|ocfs2_controld|o2cb_controld|protocol)/[\w./]+)`", page))
    assert files
    assert [f for f in sorted(files) if not (ROOT / f).exists()] == []
    tests = set(re.findall(r"`(test_[a-z0-9_]+)(?:\*)?`", page))
    found = "\n".join(p.read_text() for p in (ROOT / "tests").rglob("test_*.py"))
    assert [t for t in sorted(tests) if f"def {t}" not in found] == []
    rules = {r for line in re.findall(r"[Rr]ules? (`[^;).]*`)", page) for r in re.findall(r"`(\w+)`", line)}
    stories = ROOT / "tests" / "transcripts" / "groups"
    assert [r for r in sorted(rules) if not list(stories.glob(f"rule_{r}*.txt"))] == []
    code = "\n".join(
        p.read_text() for d in ("o2cb_controld", "ocfs2_controld", "libo2cb") for p in (ROOT / d).rglob("*.py")
    )
    functions = set(re.findall(r"`(?:\w+\.)*(_\w+)`", page))
    assert [f for f in sorted(functions) if f"def {f}(" not in code] == []
