"""Stories of the classic driver, word for word, and random walks through their world: the laws' judges hear both."""

from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.simulation.kernel_model import Refusal
from tests.transcripts.classic_world import STORIES, ClassicWorld, NoOcfs2, retold
from tests.transcripts.ordering_world import StoryError

FILES = sorted(STORIES.glob("*.txt"))
BACK_TOO_LATE = "thread slow; drop n2; thread works; thread works; add n2"
"""n2 is back in the configuration when its rmdir, or a call before it, is in line."""
LINES = [
    *("fail n2", "back n2", "drop n2", "add n2", "add n2 10.0.0.22", "drop n3", "add n3", "add n3 10.0.0.2"),
    *("mounts F", "unmounts F", "mounts G", "unmounts G", "beats F/n2", "beats G/n2", "silent F/n2", "silent G/n2"),
    *("reload n1=10.0.0.11", "debugfs off", "debugfs on", "pin n2", "unpin n2", "wait 1"),
    *("engine down gone", "engine up", "o2cb killed", "o2cb killed in mkdir", "o2cb starts", "signal SIGTERM"),
    *("thread slow", "thread works", "thread works", "thread fast"),
    *(BACK_TOO_LATE, "thread slow; drop n2; thread works; add n2"),
]


@pytest.mark.parametrize("path", FILES, ids=[p.stem for p in FILES])
def test_a_story_goes_as_written(path: Path) -> None:
    story = path.read_text()
    assert retold(story) == story, (
        f"read the difference, then: python -m tests.transcripts.classic_world --rewrite {path}"
    )


def possible(world: ClassicWorld, line: str) -> bool:
    match line.split():
        case ["o2cb", "starts"]:
            return world.state is None
        case ["o2cb" | "signal", *_]:
            return world.state is not None
        case ["engine", "down", _]:
            return world.engine_up
        case ["engine", "up"]:
            return not world.engine_up
        case ["drop" | "add" | "reload" | "fail" | "back", *_]:
            return world.engine_up
        case _:
            return True


def try_each(world: ClassicWorld, lines: list[str]) -> None:
    for line in [each for step in lines for each in step.split("; ")]:
        if possible(world, line):
            try:
                world.command(line)
            except (Refusal, StoryError):
                continue  # the kernel or the story says no: as if it had not been tried


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from(LINES), max_size=40))
@example([BACK_TOO_LATE, "thread works", BACK_TOO_LATE])  # the second time its mkdir is overtaken, then its rmdir
def test_no_walk_breaks_a_law_and_every_walk_comes_to_rest(lines: list[str]) -> None:
    world = ClassicWorld(lambda _: NoOcfs2())
    world.command("running n1 n2")
    try_each(world, lines)
    try_each(world, ["thread fast", "unmounts F", "unmounts G", "unpin n2", "debugfs on", "engine up", "wait 30"])
    if world.state is None:
        world.command("o2cb starts")
    world._dies_in_mkdir = False
    world.command("wait 30")
    assert world.state is not None
    assert world.state.ready, world.state.unready
    taken = [n for n in world.configured if [m.address for m in world.configured].count(n.address) > 1]
    want = {n.name: n.address for n in world.configured if n not in taken}
    assert {n.name: n.address for n in world.kernel.nodes if n.name in want} == want
    assert all(n.complete for n in world.kernel.nodes)
    assert {n.name for n in world.kernel.nodes} <= {n.name for n in world.configured}
    assert not world.kernel.flocks
    assert not world.state.totals.surprises
    if not taken:
        assert not world.state.slots
        world.at_rest()
