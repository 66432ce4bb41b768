"""Random walks through the world of the stories: the audits of the world hold, and rest is the right one."""

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.simulation.kernel_model import Refusal
from tests.transcripts.ordering_world import ScriptedOcfs2, StoryError, World

LINES = [
    "fail n2",
    "back n2",
    "back n2 10.0.0.22",
    "restarts n2 10.0.0.23",
    "reload n2=10.0.0.24",
    "engine down gone",
    "engine up",
    "o2cb killed",
    "o2cb killed in mkdir",
    "o2cb starts",
    "ocfs2 connects",
    "ocfs2 asks lock n2",
    "ocfs2 asks lock n2; ocfs2 reads; ocfs2 links F/n2",
    "ocfs2 asks lock n2; ocfs2 reads; ocfs2 links G/n2",
    "ocfs2 reads",
    "ocfs2 links F/n2",
    "ocfs2 links G/n2",
    "ocfs2 unlinks F/n2",
    "ocfs2 unlinks G/n2",
    "ocfs2 closes lock n2",
    "ocfs2 closes lock n2 silently",
    "ocfs2 killed",
    "pin n2",
    "unpin n2",
    "wait 1",
    "thread slow",
    "thread slow; fail n2; thread works; thread works; back n2",
    "thread works",
    "thread works",
    "thread fast",
    "signal SIGTERM",
]


def possible(world: World, line: str) -> bool:
    """Whether the players may do this now: the script keeps to ocfs2_controld's part of the protocol."""
    side = world.ocfs2
    assert isinstance(side, ScriptedOcfs2)
    up = world.state is not None
    match line.split():
        case ["o2cb", "starts"]:
            return not up
        case ["o2cb", *_] | ["signal", *_]:
            return up
        case ["ocfs2", "connects"]:
            return up and not side.connected
        case ["ocfs2", "asks", *_]:
            return side.connected
        case ["ocfs2", "links", _]:
            return bool(side.held)  # whatever was granted: it must fit what stands
        case ["ocfs2", "closes", *_]:
            return not world.kernel.linked("n2")
        case ["engine", "down", _]:
            return world.engine_up
        case ["engine", "up"]:
            return not world.engine_up
        case _:
            return world.engine_up or line.startswith(("ocfs2", "wait", "pin", "unpin"))


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from(LINES), max_size=40))
def test_no_walk_breaks_a_law_and_every_walk_comes_to_rest(lines: list[str]) -> None:
    world = World(ScriptedOcfs2)
    world.command("running n1 n2")
    for line in [word for step in lines for word in step.split("; ")]:
        if possible(world, line):
            try:
                world.command(line)
            except (Refusal, StoryError):
                continue  # the kernel or the script says no: as if it had not been tried
    side = world.ocfs2
    assert isinstance(side, ScriptedOcfs2)
    for line in ("thread fast", "unpin n2", "ocfs2 reads", "ocfs2 unlinks F/n2", "ocfs2 unlinks G/n2", "ocfs2 killed"):
        try:
            world.command(line)
        except (Refusal, StoryError):
            continue
    world._dies_in_mkdir = False
    if not world.engine_up:
        world.command("engine up")
    world.command("wait 30")
    if world.state is None:  # killed, or it has ended as it was asked to
        world.command("o2cb starts")
        world.command("wait 30")
    assert world.state is not None
    assert world.state.ready, world.state.unready
    want = {n.name: n.address for n in world.configured if n.number in world.members}
    assert {n.name: n.address for n in world.kernel.nodes} == want
    assert all(n.complete for n in world.kernel.nodes)
    assert not world.kernel.flocks
    assert not world.state.slots
    assert not world.state.totals.surprises
