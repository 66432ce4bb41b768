"""What ocfs2_controld says of a wait, where no report of a running cluster comes to."""

from libo2cb.engine.port import ChannelRing
from libo2cb.tools.facts import Facts
from libo2cb.tools.screens import _daemon, status
from libo2cb.tools.verdict import START_ENGINE, Verdict, findings
from ocfs2_controld import explain
from protocol.identity import Life
from tests.simulation.world import World, uuid
from tests.unit import samples
from tests.unit.test_ocfs2_channel import OLD, started, statement, told, view
from tests.unit.test_ocfs2_report import cluster, report


def hung() -> World:
    """The engine of n3 has begun to hang, and a client there asks for G."""
    world = cluster(3)
    world.settle()
    world.engine.hang(3)
    world.client(3, "G")
    world.settle()
    return world


def test_an_engine_that_hangs_is_named_once_it_owes_a_word_for_too_long() -> None:
    world = hung()
    world.wait(4)
    (group,) = report(world, 3).groups
    assert group.waits_for == "its turn to join"
    assert report(world, 3).waits == ()
    world.wait(2)
    found = report(world, 3)
    (group,) = found.groups
    assert group.waits_for == "the cluster engine: for 6 s it has not delivered what this node said; it may hang"
    (wait,) = [w for w in found.waits if not w.fs]
    assert wait.what == "what this node said to the others"
    assert wait.why == "the cluster engine has not delivered it for 6 s"
    action = findings(Facts(ocfs2=found))[0]
    assert action.verdict is Verdict.ACTION
    assert any("corosync-quorumtool" in text for key, text in action.lines if key == "do")


def test_a_word_that_has_come_back_is_owed_no_more() -> None:
    world = hung()
    world.wait(6)
    world.engine.resume(3)
    world.settle()
    assert report(world, 3).waits == ()
    assert [g.state for g in report(world, 3).groups if g.fs == uuid("G")] == ["running"]


def test_whose_own_statement_has_not_come_back_waits_for_the_engine() -> None:
    state, _ = told(started(), ChannelRing(OLD, (1, 2, 3)))
    own = "the cluster engine: it has not delivered this node's own statement"
    assert explain.collection_wait(state) == own
    state, _ = told(state, statement(2, view(OLD, 1, 2, 3)))
    assert explain.collection_wait(state) == own
    state, _ = told(state, statement(1, view(OLD, 1, 2, 3)))
    assert explain.collection_wait(state) == "a statement of n3"


def test_a_name_with_a_blank_is_quoted_in_what_is_to_be_typed() -> None:
    world = cluster(1)
    world.settle()
    state = world.nodes[1].ocfs2
    assert state is not None
    _, do = explain.fence_wait(state, Life(12, ""), 0.0)
    assert do.endswith("then:  ocfs2_hb_ctl --fenced 'node 12'")


def test_without_its_engine_a_node_is_told_to_start_it_and_not_to_look_for_others() -> None:
    world = cluster(3)
    world.manual_fences = True
    world.client(1, "F")
    world.settle()
    world.engine.crash(1)
    world.settle()
    found = Facts(ocfs2=report(world, 1))
    stopped = findings(found)[0]
    assert stopped.verdict is Verdict.STOPPED
    assert stopped.head.startswith("F on n1: waits for the cluster engine")
    assert ("why", "without the cluster engine there is no quorum") in stopped.lines
    assert [text for key, text in stopped.lines if key == "do"] == [START_ENGINE]
    assert _daemon(found, 2) == "unknown"
    # What else waits for the engine is not told once more.
    world.wait(6)
    assert report(world, 1).waits
    assert [f.verdict for f in findings(Facts(ocfs2=report(world, 1)))] == [Verdict.STOPPED, Verdict.ACTION]


def test_a_group_whose_members_are_all_lost_is_on_no_node() -> None:
    world = cluster(3)
    world.manual_fences = True
    world.client(3, "F")
    world.settle()
    world.power_off(3)
    world.settle()
    assert findings(Facts(ocfs2=report(world, 1)))[0].head.endswith(
        "on no node any more: n3 is lost and not yet fenced"
    )


def test_a_node_that_was_never_away_is_not_said_to_be_back() -> None:
    """Its address was changed in the configuration while it lives and has something mounted."""
    facts = samples.queued()
    assert facts.ocfs2 is not None
    groups = tuple(group.model_copy(update={"lost": ()}) for group in facts.ocfs2.groups)
    lines = status(Facts(facts.o2cb, facts.ocfs2.model_copy(update={"groups": groups})))
    (then,) = [line for line in lines if line.startswith("  then")]
    assert then.endswith("(it has a new address in the configuration; its mount waits)")
