"""Lock requests, the tables, and the mind as a whole where a story would be too long."""

import math
from errno import EBUSY, EINVAL, ENOENT, ENOSPC, ESHUTDOWN

import pytest

from libo2cb.engine.port import Configured, ConfiguredNode, EngineUp, Members
from libo2cb.events import Event, Log
from libo2cb.kernel.port import StandingNode
from o2cb_controld import actions as do
from o2cb_controld import changes, ending, ledger
from o2cb_controld import events as told
from o2cb_controld.mind import step
from o2cb_controld.report import Facts, build
from o2cb_controld.state import Ending, Lock, Node, Slot, State, Tree
from protocol.identity import NodeIdentity, Ring
from protocol.ordering import Queued, Waiting
from protocol.ordering import Refused as LockRefused

N1 = NodeIdentity(1, "10.0.0.1", 7777, "n1")
N2 = NodeIdentity(2, "10.0.0.2", 7777, "n2")
CONFIGURED = tuple(ConfiguredNode(i.number, i.name, i.address) for i in (N1, N2))
FACTS = Facts("0.1.0", 1, "i", "b", 0.0, 1.0)


def standing(i: NodeIdentity, *, local: bool = False) -> StandingNode:
    return StandingNode(i.name, i.number, i.address, i.port, local)


def run(state: State, *events: told.MindEvent, now: float = 0.0) -> tuple[State, list[do.Action]]:
    all_actions: list[do.Action] = []
    for event in events:
        state, actions = step(state, now, event)
        all_actions += actions
    return state, all_actions


def settled(*members: int) -> State:
    state, _ = run(
        State("links", 7777),
        EngineUp("prod", 1, CONFIGURED),
        told.KernelRead(("prod",), (standing(N1, local=True), standing(N2))),
        Members(Ring(4, 1), True, members or (1, 2), (1, 2), ()),
    )
    return state


def logged(actions: list[do.Action], event: Event) -> list[Log]:
    return [a for a in actions if isinstance(a, Log) and a.event is event]


def without_logs(actions: list[do.Action]) -> list[do.Action]:
    return [a for a in actions if not isinstance(a, Log | do.WakeAt | do.Ready | do.NotReady)]


@pytest.mark.parametrize("table", [changes.NODE, ledger.REQUEST, ending.ENDING], ids=lambda t: t.name)
def test_every_pair_is_decided_and_can_be_drawn(table: object) -> None:
    drawing = table.drawing()  # type: ignore[attr-defined]
    assert all(f"| **{s.name}** |" in drawing for s in table.states)  # type: ignore[attr-defined]


@pytest.mark.parametrize("phase", list(Node), ids=lambda p: p.name)
@pytest.mark.parametrize("cue", list(changes.Cue), ids=lambda c: c.name)
def test_a_change_ends_where_its_table_says(phase: Node, cue: changes.Cue) -> None:
    for members in ((1, 2), (1,)):
        state = settled(*members).without_slot(2)
        if phase not in {Node.ABSENT, Node.RIGHT}:
            state = state.with_slot(Slot(2, phase, "n2"))
        elif phase is Node.ABSENT:
            continue
        after, _ = changes.tell(state, 0.0, 2, cue, regions=("F",), errno=EBUSY)
        slot = after.slot(2)
        assert (Node.RIGHT if slot is None else slot.phase) in changes.NODE[phase, cue].to


def test_the_lock_of_a_node_that_stands_is_granted_at_once() -> None:
    state, actions = run(settled(), told.Asked(7, 1, N2))
    assert without_logs(actions) == [do.Grant(7, 1, 2)]
    state, _ = run(state, told.GrantSent(7, 1))
    assert not state.requests


@pytest.mark.parametrize(
    ("asked", "errno", "word"),
    [
        (NodeIdentity(0, "10.0.0.2", 7777, "n2"), EINVAL, "number 0"),
        (NodeIdentity(255, "10.0.0.2", 7777, "n2"), EINVAL, "254"),
        (NodeIdentity(2, "fe80::2", 7777, "n2"), EINVAL, "IPv6"),
        (NodeIdentity(2, "10.0.0.2", 7778, "n2"), EINVAL, "7778"),
        (NodeIdentity(9, "10.0.0.9", 7777, "n9"), ENOENT, "prod"),
    ],
)
def test_what_can_never_be_granted_is_refused(asked: NodeIdentity, errno: int, word: str) -> None:
    state, actions = run(settled(), told.Asked(7, 1, asked))
    (said,) = without_logs(actions)
    assert isinstance(said, do.Say)
    assert isinstance(said.message, LockRefused)
    assert said.message.errno == errno
    assert word in said.message.reason
    assert not state.requests


def test_nothing_is_granted_while_the_lock_is_or_may_be_held_exclusively() -> None:
    state, actions = run(settled(), Members(Ring(8, 1), True, (1,), (), (2,)))
    assert do.TryLock(2) in actions
    # n2 is back before the answer: it stands as wanted, but the lock may be ours any moment.
    state, actions = run(state, Members(Ring(12, 1), True, (1, 2), (2,), ()), told.Asked(7, 1, N2))
    assert [type(a.message) for a in actions if isinstance(a, do.Say)] == [Queued]
    state, actions = run(state, told.LockTaken(2))
    assert without_logs(actions) == [do.Unlock(2), do.Grant(7, 1, 2)]


def test_nothing_is_granted_while_another_identity_stands() -> None:
    moved = (CONFIGURED[0], ConfiguredNode(2, "n2", "10.0.0.22"))
    new = NodeIdentity(2, "10.0.0.22", 7777, "n2")
    state, _ = run(settled(), Members(Ring(8, 1), True, (1,), (), (2,)), told.LockBusy(2), Configured(moved))
    state, actions = run(state, Members(Ring(12, 1), True, (1, 2), (2,), ()), told.Asked(7, 1, new))
    assert [type(a.message) for a in actions if isinstance(a, do.Say)] == [Queued]
    _, actions = run(state, told.Asked(7, 2, N2))
    assert [type(a.message) for a in actions if isinstance(a, do.Say)] == [Queued]


def test_a_reason_is_said_again_only_when_it_changes() -> None:
    state, actions = run(State("links", 7777), told.Asked(7, 1, N2))
    assert sum(isinstance(a, do.Say) for a in actions) == 1
    state, actions = run(state, told.Tick(), told.Tick())
    assert not [a for a in actions if isinstance(a, do.Say)]


def test_a_grant_without_descriptor_is_tried_again_in_a_second() -> None:
    state, _ = run(settled(), told.Asked(7, 1, N2))
    state, actions = run(state, told.GrantUndeliverable(7, 1, 24))
    assert do.WakeAt(1.0) in actions
    assert [type(a.message) for a in actions if isinstance(a, do.Say)] == [Queued]
    state, actions = run(state, told.Tick(), now=0.5)
    assert not without_logs(actions)
    state, actions = run(state, told.Tick(), now=1.0)
    assert without_logs(actions) == [do.Grant(7, 1, 2)]


def test_one_request_id_twice_ends_the_connection() -> None:
    state, actions = run(State("links", 7777), told.Asked(7, 1, N2), told.Asked(7, 1, N1))
    assert any(isinstance(a, do.Drop) for a in actions)
    assert logged(actions, Event.VIOLATION)
    assert len(state.requests) == 1
    state, _ = run(state, told.Closed(7))
    assert not state.requests
    assert not state.peers


def test_one_connection_cannot_fill_the_memory() -> None:
    state = State("links", 7777)
    for i in range(ledger.MOST_REQUESTS):
        state, _ = ledger.ask(state, told.Asked(7, i, N2))
    after, actions = ledger.ask(state, told.Asked(7, -1, N2))
    assert len(after.requests) == ledger.MOST_REQUESTS
    assert any(isinstance(a, do.Drop) for a in actions)


def test_those_who_speak_are_told_what_waits_for_them_once() -> None:
    state, _ = run(settled(), told.Asked(7, 1, N2), told.GrantSent(7, 1))
    state, actions = run(state, Members(Ring(8, 1), True, (1,), (), (2,)), told.LockBusy(2))
    assert [a.connection for a in actions if isinstance(a, do.Say) and isinstance(a.message, Waiting)] == [7]
    state, actions = run(state, told.Tick(), told.LockBusy(2), now=1.0)
    assert not [a for a in actions if isinstance(a, do.Say)]
    assert state.ready, "a queue that is named does not keep us from being ready"


def test_nothing_is_removed_before_the_first_membership() -> None:
    state, actions = run(
        State("links", 7777),
        EngineUp("prod", 1, CONFIGURED),
        told.KernelRead(("prod",), (standing(N1, local=True), standing(N2))),
        told.Tick(),
    )
    assert not [a for a in actions if isinstance(a, do.TryLock | do.RemoveNode)]
    assert not state.ready
    assert not state.slots


@pytest.mark.parametrize("answer", [told.KernelRead(("other",), ()), told.ClusterRefused(ENOSPC)])
def test_another_cluster_in_the_kernel_is_left_alone_and_named(answer: told.MindEvent) -> None:
    events: list[told.MindEvent] = [EngineUp("prod", 1, CONFIGURED)]
    if isinstance(answer, told.ClusterRefused):
        events.append(told.KernelRead((), ()))
    state, actions = run(State("links", 7777), *events, answer)
    assert do.Exit(1) in actions
    assert "prod" in str(logged(actions, Event.EXITING)[0].fields)
    assert state.ending is Ending.ENDED


def test_an_engine_that_serves_another_cluster_than_configured_is_refused() -> None:
    _, actions = run(State("links", 7777, expected="mine"), EngineUp("prod", 1, CONFIGURED))
    assert do.Exit(1) in actions


def test_an_engine_that_comes_back_as_another_cluster_ends_nothing() -> None:
    state, actions = run(settled(), EngineUp("other", 1, CONFIGURED))
    assert not [a for a in actions if isinstance(a, do.Exit | do.TryLock)]
    assert not state.ready
    assert "other" in state.engine.reason


def test_a_signal_before_the_engine_has_answered_leaves_the_tree_alone() -> None:
    state, actions = run(State("links", 7777), told.Signal("SIGTERM"), told.ServiceLock(True))
    assert without_logs(actions) == [do.ClaimService(), do.LookForUse(None)]
    used, actions = run(state, told.UseFound(("F links n2",)))
    assert without_logs(actions) == [do.ReleaseService()]
    assert used.totals.refused_signals == (("SIGTERM", 1),)
    _, actions = run(state, told.UseFound(()))
    assert without_logs(actions) == [do.Exit(0)]


def test_while_it_ends_locks_are_refused_and_it_gives_up_in_time() -> None:
    ask: list[told.MindEvent] = [told.Signal("SIGTERM"), told.ServiceLock(True), told.UseFound(())]
    state, actions = run(settled(), *ask)
    assert do.TryLock(2) in actions
    assert do.TryLock(1) not in actions
    state, actions = run(state, told.Asked(7, 1, N2))
    assert [a.message.errno for a in actions if isinstance(a, do.Say) and isinstance(a.message, LockRefused)] == [
        ESHUTDOWN
    ]
    state, actions = run(state, told.LockTaken(2), told.LinksListed(2, ()), told.Refused(2, EBUSY))
    state, actions = run(state, told.Tick(), now=ending.LONGEST)
    assert do.ReleaseService() in actions
    assert "EBUSY" in str(logged(actions, Event.SIGNAL_REFUSED)[0].fields)
    assert state.ending is Ending.RUNNING
    assert state.tree is Tree.STANDS


def test_an_answer_that_nobody_waits_for_is_counted_and_its_lock_given_back() -> None:
    state, actions = run(settled(), told.LockTaken(2))
    assert without_logs(actions) == [do.Unlock(2)]
    assert state.totals.surprises == 1


def test_nothing_is_ready_while_a_change_is_made_that_nobody_wants_any_more() -> None:
    # n2 leaves, its rmdir is on its way, and n2 is back before the answer: for a moment what stands is what is wanted.
    state, actions = run(
        settled(1, 2), Members(Ring(9, 1), True, (1,), (), (2,)), told.LockTaken(2), told.LinksListed(2, ())
    )
    assert any(isinstance(a, do.RemoveNode) for a in actions)
    assert not state.ready
    state, actions = run(state, Members(Ring(10, 1), True, (1, 2), (2,), ()))
    assert not state.ready
    state, _ = run(state, told.Removed(2, "n2"))
    assert not state.ready, "it has to be made again"


def test_equal_futures_are_equal_states() -> None:
    """Moments, counters and what was said do not tell states apart; an exhaustive search depends on it."""
    gone = Members(Ring(8, 1), True, (1,), (), (2,))
    back = Members(Ring(12, 1), True, (1, 2), (2,), ())
    first, _ = run(settled(), told.Asked(7, 1, N2), told.GrantSent(7, 1), now=math.inf)
    state = first
    for _ in range(3):
        state, _ = run(state, gone, told.LockBusy(2), told.Tick(), told.LockBusy(2), back, now=math.inf)
        assert state == first
        assert hash(state) == hash(first)
    asked, _ = run(first, told.Asked(7, 2, N2))
    assert asked != first
    assert asked.requests[0].phase is Lock.GRANTED


def test_the_report_names_what_is_queued() -> None:
    state, _ = run(settled(), Members(Ring(8, 1), True, (1,), (), (2,)), told.LockTaken(2), told.LinksListed(2, ("F",)))
    state, _ = run(state, told.Tick(), now=6.0)
    report = build(state, 6.0, FACTS)
    (n1, n2) = report.nodes
    assert (n1.tree, n2.tree, n2.member) == ("ok", "unwanted", False)
    assert n2.queue == "removal of n2: filesystem F still links it"
    assert n2.queue_seconds == 6.0
    assert [w.node for w in report.waits] == [2]
    assert report.ready


def test_with_the_classic_driver_no_lock_is_granted() -> None:
    state, _ = run(
        State("classic", 7777),
        EngineUp("prod", 1, CONFIGURED),
        told.KernelRead(("prod",), (standing(N1, local=True), standing(N2))),
        Members(Ring(4, 1), True, (1, 2), (1, 2), ()),
    )
    _, actions = run(state, told.Asked(7, 1, N2))
    [said] = without_logs(actions)
    assert isinstance(said, do.Say)
    assert isinstance(said.message, LockRefused)
    assert "kernel.driver is classic" in said.message.reason


@pytest.mark.parametrize("driver", ["links", "classic", "sandbox"])
def test_a_kernel_without_the_module_is_waited_for_with_the_line_to_type(driver: str) -> None:
    state, actions = run(State(driver, 7777), EngineUp("prod", 1, CONFIGURED), told.KernelUnread(ENOENT))
    assert not [a for a in actions if isinstance(a, do.Exit)]
    assert ("modprobe ocfs2_nodemanager" in state.unready) == (driver != "sandbox")
    state, actions = run(state, told.Tick(), now=1.0)
    assert do.ReadKernel("prod") in actions
    state, actions = run(state, told.KernelRead((), ()), now=1.0)
    assert do.MakeCluster("prod") in actions
