"""The sixteen stories of lock and queue, and some more, word for word."""

from pathlib import Path

import pytest

from tests.transcripts.ordering_world import STORIES, retell

FILES = sorted(STORIES.glob("*.txt"))


@pytest.mark.parametrize("path", FILES, ids=[p.stem for p in FILES])
def test_a_story_goes_as_written(path: Path) -> None:
    story = path.read_text()
    assert retell(story) == story, (
        f"read the difference, then: python -m tests.transcripts.ordering_world --rewrite {path}"
    )


def test_all_sixteen_are_told() -> None:
    told = {p.stem[:2] for p in FILES}
    assert {f"{n:02}" for n in range(16)} <= told
