"""The model does what was measured of corosync: the same events, the same orders, the same traps."""

from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from libo2cb.engine.model import Cluster, Key, ModelError, State, Stream, Verdict
from libo2cb.engine.port import (
    ChannelDown,
    ChannelMember,
    ChannelMembers,
    ChannelRing,
    Configured,
    ConfiguredNode,
    Delivered,
    EngineDown,
    EngineUp,
    Members,
    Reason,
    ShutdownAsked,
)
from libo2cb.engine.wire import decode, encode, event_to_json, membership_event
from protocol.identity import Ring

O2CB, OCFS2 = "o2cb_controld", "ocfs2_controld"
ALL = (1, 2, 3)


def configured(count: int) -> list[ConfiguredNode]:
    return [ConfiguredNode(i, f"n{i}", f"10.0.0.{10 + i}") for i in range(1, count + 1)]


def member(node: int, pid: int = 0) -> ChannelMember:
    return ChannelMember(node, pid or 100 + node)


def cluster(count: int = 3, *, two_node: bool = False) -> Cluster:
    """All engines up in one ring, both listeners on each node, nothing undelivered."""
    model = Cluster(configured(count), two_node=two_node)
    for n in range(1, count + 1):
        model.start_engine(n)
        model.listen(n, O2CB, 200 + n)
        model.listen(n, OCFS2, 100 + n)
        model.join(n, OCFS2, 100 + n)
    drain_all(model)
    return model


def drain_all(model: Cluster) -> None:
    for key in model.pending():
        drain(model, *key)


def drain(model: Cluster, node: int, listener: str, stream: Stream) -> list[object]:
    events: list[object] = []
    while Key(node, listener, stream) in model.pending():
        events.append(model.deliver(node, listener, stream))
    return events


def membership(model: Cluster, node: int, listener: str = O2CB) -> list[object]:
    return drain(model, node, listener, Stream.MEMBERSHIP)


def channel(model: Cluster, node: int) -> list[object]:
    return drain(model, node, OCFS2, Stream.CHANNEL)


def ring(model: Cluster, node: int) -> Ring:
    found = model.engines[node].ring
    assert found is not None
    return found


def test_a_fresh_engine_is_alone_and_without_quorum_and_then_meets_the_others() -> None:
    model = cluster()
    model.crash(3)
    membership(model, 3)
    model.start_engine(3, merge=False)
    up, alone = membership(model, 3)
    assert up == EngineUp("sandbox", 3, tuple(configured(3)))
    assert alone == Members(ring(model, 3), False, (3,), (3,), ())
    model.merge()
    assert membership(model, 3) == [Members(ring(model, 1), True, ALL, (1, 2), ())]
    assert membership(model, 1)[-1] == Members(ring(model, 1), True, ALL, (3,), ())


def test_a_channel_joined_in_the_singleton_is_node_up_for_the_others() -> None:
    model = cluster()
    model.power_off(3)
    drain_all(model)
    model.start_engine(3, merge=False)
    model.join(3, OCFS2, 333)
    model.merge()
    assert channel(model, 1) == [
        ChannelMembers((member(1), member(2), member(3, 333)), ((member(3, 333), Reason.NODEUP),), ()),
        ChannelRing(ring(model, 1), ALL),
    ]


def test_without_a_singleton_the_first_ring_is_the_full_one() -> None:
    model = cluster()
    model.crash(3)
    drain_all(model)
    model.start_engine(3, singleton=False)
    assert [type(e) for e in membership(model, 3)] == [EngineUp, Members]
    assert channel(model, 1)[1:] == [ChannelMembers((member(1), member(2), member(3)), ((member(3), Reason.JOIN),), ())]


@pytest.mark.parametrize("ring_first", [True, False])
def test_the_first_ring_comes_before_or_after_the_own_join(ring_first: bool) -> None:
    model = cluster()
    model.join(1, "tool", 7, ring_first=ring_first)
    mine = ChannelMembers((member(1, 7),), ((member(1, 7), Reason.JOIN),), ())
    seated = ChannelRing(ring(model, 1), ALL)
    events = drain(model, 1, "tool", Stream.CHANNEL)
    assert events == ([seated, mine] if ring_first else [mine, seated])
    assert channel(model, 2) == [], "another name is another channel"


def test_a_join_is_told_to_all_without_a_ring() -> None:
    model = cluster()
    model.process_died(2, OCFS2)
    drain_all(model)
    model.join(2, OCFS2, 999)
    view = (member(1), member(2, 999), member(3))
    assert channel(model, 1) == [ChannelMembers(view, ((member(2, 999), Reason.JOIN),), ())]


def test_a_crash_is_node_down_then_the_ring() -> None:
    model = cluster()
    old = ring(model, 1)
    model.crash(3)
    assert channel(model, 1) == [
        ChannelMembers((member(1), member(2)), (), ((member(3), Reason.NODEDOWN),)),
        ChannelRing(ring(model, 1), (1, 2)),
    ]
    assert membership(model, 1) == [Members(ring(model, 1), True, (1, 2), (), (3,))]
    assert ring(model, 1) > old
    assert [membership(model, 3), channel(model, 3)] == [
        [EngineDown("the engine died")],
        [ChannelDown("the engine died")],
    ]


def test_a_clean_stop_is_process_down_and_the_ring_without_a_second_channel_event() -> None:
    model = cluster()
    old = ring(model, 1)
    model.begin_stop(3)
    assert channel(model, 1) == [ChannelMembers((member(1), member(2)), (), ((member(3), Reason.PROCDOWN),))]
    assert membership(model, 1) == []
    model.send(1, OCFS2, b"in between")
    model.finish_stop(3)
    assert channel(model, 1) == [Delivered(member(1), b"in between"), ChannelRing(ring(model, 1), (1, 2))]
    assert membership(model, 1) == [Members(ring(model, 1), True, (1, 2), (), (3,))]
    assert ring(model, 1) > old
    assert channel(model, 3) == [ChannelDown("the engine was stopped")]


@pytest.mark.parametrize("singleton", [True, False])
def test_a_fast_restart_is_one_event_with_unchanged_members(singleton: bool) -> None:
    model = cluster()
    model.fast_restart(3, singleton=singleton)
    assert membership(model, 1) == [Members(ring(model, 1), True, ALL, (3,), (3,))]
    down = ChannelMembers((member(1), member(2)), (), ((member(3), Reason.NODEDOWN),))
    how = Reason.NODEUP if singleton else Reason.JOIN
    back = ChannelMembers((member(1), member(2), member(3)), ((member(3), how),), ())
    seated = ChannelRing(ring(model, 1), ALL)
    assert channel(model, 1) == ([down, back, seated] if singleton else [down, seated, back])
    down_up = membership(model, 3)
    assert down_up[0] == EngineDown("the engine died")
    assert isinstance(down_up[1], EngineUp)


def test_a_fast_restart_of_the_whole_node_leaves_its_processes_down() -> None:
    model = cluster()
    model.ports = {k: p for k, p in model.ports.items() if k.node != 3}
    model.fast_restart(3)
    assert membership(model, 1) == [Members(ring(model, 1), True, ALL, (3,), (3,))]
    assert [type(e) for e in channel(model, 1)] == [ChannelMembers, ChannelRing]


def test_a_partition_and_its_healing() -> None:
    model = cluster()
    model.cut([[1, 2], [3]])
    assert membership(model, 1) == [Members(ring(model, 1), True, (1, 2), (), (3,))]
    assert membership(model, 3) == [Members(ring(model, 3), False, (3,), (), (1, 2))]
    assert channel(model, 3)[0] == ChannelMembers(
        (member(3),), (), ((member(1), Reason.NODEDOWN), (member(2), Reason.NODEDOWN))
    )
    assert ring(model, 1) != ring(model, 3)
    model.send(3, OCFS2, b"alone")
    assert channel(model, 3)[-1] == Delivered(member(3), b"alone"), "the channel does not ask for quorum"
    channel(model, 1)
    model.heal()
    view = (member(1), member(2), member(3))
    assert channel(model, 1) == [
        ChannelMembers(view, ((member(3), Reason.NODEUP),), ()),
        ChannelRing(ring(model, 1), ALL),
    ]
    ups = ((member(1), Reason.NODEUP), (member(2), Reason.NODEUP))
    assert channel(model, 3)[0] == ChannelMembers(view, ups, ())
    assert membership(model, 3) == [Members(ring(model, 1), True, ALL, (1, 2), ())]


def test_the_unnamed_nodes_of_a_cut_are_one_side() -> None:
    model = cluster(5)
    model.cut([[2]])
    assert model.engines[1].members == (1, 3, 4, 5)
    model.cut([[1, 2], [3]])
    assert [model.engines[n].members for n in (2, 3, 4)] == [(1, 2), (3,), (4, 5)]


def test_who_joins_while_apart_is_node_up_after_the_healing() -> None:
    model = cluster()
    model.cut([[3]])
    model.join(3, "tool", 5)
    model.join(1, "tool", 6)
    drain_all(model)
    model.heal()
    first = drain(model, 1, "tool", Stream.CHANNEL)[0]
    assert first == ChannelMembers((member(1, 6), member(3, 5)), ((member(3, 5), Reason.NODEUP),), ())


def test_a_pause_is_a_crash_for_the_others_and_a_leaving_of_all_for_the_paused() -> None:
    model = cluster()
    model.hang(3)
    assert channel(model, 1)[0] == ChannelMembers((member(1), member(2)), (), ((member(3), Reason.NODEDOWN),))
    membership(model, 1)
    assert [membership(model, 3), channel(model, 3)] == [[], []], "a hung engine tells nothing"
    model.resume(3)
    alone, back = membership(model, 3)
    assert isinstance(alone, Members)
    assert (alone.members, alone.left, alone.quorate) == ((3,), (1, 2), False)
    assert back == Members(ring(model, 1), True, ALL, (1, 2), ())
    assert channel(model, 1)[-2:] == [
        ChannelMembers((member(1), member(2), member(3)), ((member(3), Reason.NODEUP),), ()),
        ChannelRing(ring(model, 1), ALL),
    ]


def test_a_pause_may_show_all_leave_and_come_back_in_one_event() -> None:
    model = cluster()
    model.hang(3)
    model.resume(3, singleton=False)
    assert membership(model, 3) == [Members(ring(model, 1), True, ALL, (1, 2), (1, 2))]
    down, up, _ = channel(model, 3)
    assert isinstance(down, ChannelMembers)
    assert isinstance(up, ChannelMembers)
    assert (len(down.left), len(up.joined)) == (2, 2)


def test_what_is_sent_while_the_engine_hangs_is_read_by_its_sender_alone_and_a_new_listener_waits() -> None:
    model = cluster()
    model.hang(3)
    model.hang(2)
    model.send(3, OCFS2, b"late")
    model.listen(3, "tool")
    model.join(3, "tool", 999)
    model.send(3, "tool", b"lost: it is not on the channel yet")
    model.process_died(3, O2CB)
    drain_all(model)
    model.resume(3)
    first, *_, last = channel(model, 3)
    assert first == Delivered(member(3), b"late"), "in the ring that it still believes in, before it hears of any loss"
    assert last == ChannelRing(ring(model, 1), (1, 3))
    assert isinstance(membership(model, 3, "tool")[0], EngineUp)
    assert Delivered not in {type(e) for e in drain(model, 3, "tool", Stream.CHANNEL)}
    model.resume(2)
    assert Delivered not in {type(e) for n in (1, 2) for e in channel(model, n)}


def test_the_death_of_a_process_is_process_down_and_a_leave_is_a_leave() -> None:
    model = cluster()
    model.process_died(3, OCFS2)
    model.leave(2, OCFS2)
    first, second = channel(model, 1)
    assert first == ChannelMembers((member(1), member(2)), (), ((member(3), Reason.PROCDOWN),))
    assert second == ChannelMembers((member(1),), (), ((member(2), Reason.LEAVE),))
    assert membership(model, 1) == []


def test_messages_have_one_order_and_the_sender_gets_its_own() -> None:
    model = cluster()
    model.send(1, OCFS2, b"a")
    model.send(2, OCFS2, b"b")
    said = [Delivered(member(1), b"a"), Delivered(member(2), b"b")]
    assert [channel(model, n) for n in ALL] == [said, said, said]


@pytest.mark.parametrize("received", [True, False])
def test_what_a_dead_node_said_last_is_received_by_all_survivors_or_by_none(received: bool) -> None:
    model = cluster()
    model.send(3, OCFS2, b"last")
    assert model.deliver(3, OCFS2, Stream.CHANNEL) == Delivered(member(3), b"last"), "it may have read it itself"
    model.crash(3, unreceived=() if received else {3})
    for n in (1, 2):
        assert (Delivered(member(3), b"last") in channel(model, n)) is received


def test_what_one_survivor_has_read_all_survivors_get() -> None:
    model = cluster()
    model.send(3, OCFS2, b"first")
    model.send(3, OCFS2, b"second")
    model.deliver(1, OCFS2, Stream.CHANNEL)
    model.process_died(1, OCFS2)
    model.crash(3, unreceived={3})
    said = [e for e in channel(model, 2) if isinstance(e, Delivered)]
    assert said == [Delivered(member(3), b"first")], "also when the process that read it is gone"


def test_a_survivors_own_messages_are_never_lost() -> None:
    model = cluster()
    model.send(3, OCFS2, b"theirs")
    model.send(1, OCFS2, b"ours")
    model.cut([[3]], unreceived={1, 3})
    assert [e.payload for e in channel(model, 2) if isinstance(e, Delivered)] == [b"ours"]
    assert [e.payload for e in channel(model, 3) if isinstance(e, Delivered)] == [b"theirs"]


def test_behind_a_gap_other_departed_nodes_messages_are_lost_too() -> None:
    model = cluster(5)
    model.send(4, OCFS2, b"before")
    model.send(5, OCFS2, b"gap")
    model.send(4, OCFS2, b"behind")
    model.send(1, OCFS2, b"ours")
    model.cut([[4, 5]], unreceived={5})
    assert [e.payload for e in channel(model, 2) if isinstance(e, Delivered)] == [b"before", b"ours"]


def test_messages_of_an_older_ring_stay_when_the_next_ring_is_lost() -> None:
    model = cluster()
    model.send(3, OCFS2, b"old ring")
    model.crash(3)
    model.crash(2, unreceived={3, 2})
    assert Delivered(member(3), b"old ring") in channel(model, 1)


def quorate(model: Cluster, node: int) -> bool:
    return model.engines[node].quorate


def test_two_nodes_need_each_other_once() -> None:
    model = Cluster(configured(2), two_node=True)
    model.start_engine(1)
    assert not quorate(model, 1)
    model.start_engine(2)
    assert quorate(model, 1)
    model.crash(2)
    assert quorate(model, 1)
    model.crash(1)
    model.start_engine(1)
    assert not quorate(model, 1), "a fresh engine waits for all again"


def test_half_of_the_nodes_is_no_quorum() -> None:
    model = cluster(4)
    model.cut([[1, 2]])
    assert [model.engines[n].quorate for n in (1, 2, 3, 4)] == [False] * 4


def test_the_configuration_is_told_to_all_membership_listeners() -> None:
    model = cluster()
    model.readdress(3, "10.0.0.99")
    assert membership(model, 1) == [Configured(model.nodes)]
    assert membership(model, 1, OCFS2) == [Configured(model.nodes)]
    assert model.configured(3).address == "10.0.0.99"
    assert channel(model, 1) == []


def test_nodes_that_are_added_may_cost_the_quorum_on_the_same_ring() -> None:
    model = cluster()
    before = ring(model, 1)
    model.configure([*configured(3), *(ConfiguredNode(i, f"n{i}", "10.0.0.9") for i in (4, 5, 6))])
    assert membership(model, 1) == [Configured(model.nodes), Members(before, False, ALL, (), ())]


def test_a_live_node_that_is_removed_is_lost_to_the_others_and_does_not_know() -> None:
    model = cluster()
    model.remove_node(3)
    assert membership(model, 1)[1] == Members(ring(model, 1), True, (1, 2), (), (3,))
    assert membership(model, 3) == [Configured(model.nodes)]
    assert model.engines[3].quorate
    model.send(1, OCFS2, b"x")
    assert channel(model, 3) == []
    model.add_node(configured(3)[2])
    model.merge()
    _, alone, back = membership(model, 3)
    assert isinstance(alone, Members)
    assert (alone.members, alone.left) == ((3,), (1, 2))
    assert back == Members(ring(model, 1), True, ALL, (1, 2), ())


def test_a_hung_engine_reads_the_configuration_when_it_goes_on() -> None:
    model = cluster()
    model.hang(3)
    model.readdress(1, "10.0.0.99")
    assert membership(model, 3) == []
    model.resume(3)
    assert membership(model, 3)[0] == Configured(model.nodes)


@pytest.mark.parametrize(
    ("answers", "verdict"),
    [
        ({O2CB: True, OCFS2: True}, Verdict.ALLOWED),
        ({O2CB: True, OCFS2: False}, Verdict.VETOED),
        ({O2CB: False}, Verdict.VETOED),
        ({O2CB: True}, Verdict.OPEN),
    ],
)
def test_one_no_is_a_veto_and_a_yes_needs_everybody(answers: dict[str, bool], verdict: Verdict) -> None:
    model = cluster()
    question = model.ask_shutdown(3)
    assert membership(model, 3) == membership(model, 3, OCFS2) == [ShutdownAsked(question)]
    for listener, allow in answers.items():
        model.answer_shutdown(3, listener, question, allow=allow, reason="because")
    asked = model.question(3)
    assert asked is not None
    assert asked.verdict is verdict
    closed = model.close_question(3)
    assert (closed.verdict is Verdict.ALLOWED) is (verdict is Verdict.ALLOWED), "silence is a veto"
    assert model.engines[3].state is State.UP, "the caller stops the engine"
    model.answer_shutdown(3, O2CB, question, allow=False)
    assert model.question(3) is None, "a late answer does nothing"


@pytest.mark.parametrize(
    "event",
    [
        EngineUp("c", 1, (ConfiguredNode(1, "n1", "10.0.0.1"),), True, ("a note",)),
        Configured((), False, ("one", "two")),
        Configured((ConfiguredNode(2, "n2", "fd00::1"),), True),
    ],
)
def test_what_an_operator_should_know_passes_the_hub(event: EngineUp | Configured) -> None:
    assert membership_event(decode(encode(event_to_json(event)))) == event


def test_who_is_put_out_crashes_if_the_word_reaches_it() -> None:
    model = cluster()
    model.cut([[1, 2], [3]])
    drain_all(model)
    for by, target in ((1, 3), (3, 1), (1, 99)):
        model.put_out(by, target)
    assert model.pending() == [], "nobody is reached"
    model.put_out(1, 2)
    assert model.engines[2].state is State.DOWN
    assert [type(e) for e in membership(model, 2)] == [EngineDown]
    assert [e.left for e in membership(model, 1) if isinstance(e, Members)] == [(2,)]
    model.put_out(1, 1)
    assert model.engines[1].state is State.DOWN, "a node may put itself out"


def test_either_of_two_is_said_while_there_are_two() -> None:
    model = cluster(2, two_node=True)
    model.listen(1, "late")
    (up, _) = membership(model, 1, "late")
    assert isinstance(up, EngineUp)
    assert up.two_node
    model.add_node(ConfiguredNode(3, "n3", "10.0.0.13"))
    assert [e.two_node for e in membership(model, 1) if isinstance(e, Configured)] == [False]


def test_a_silent_listener_that_dies_no_longer_vetoes() -> None:
    model = cluster()
    question = model.ask_shutdown(3)
    model.answer_shutdown(3, OCFS2, question, allow=True)
    model.process_died(3, O2CB)
    asked = model.question(3)
    assert asked is not None
    assert asked.verdict is Verdict.ALLOWED


def test_any_skew_between_streams_is_the_callers() -> None:
    model = cluster()
    model.crash(3)
    first = model.copy()
    assert isinstance(first.deliver(1, O2CB, Stream.MEMBERSHIP), Members)
    assert Key(1, OCFS2, Stream.CHANNEL) in first.pending()
    other = model.copy()
    assert isinstance(other.deliver(1, OCFS2, Stream.CHANNEL), ChannelMembers)
    assert Key(1, O2CB, Stream.MEMBERSHIP) in other.pending()
    assert model.key() != first.key() != other.key()
    other.deliver(1, O2CB, Stream.MEMBERSHIP)
    first.deliver(1, OCFS2, Stream.CHANNEL)
    assert first.key() == other.key()
    assert hash(first.key()) == hash(other.key())


def test_what_makes_no_sense_is_refused_and_changes_nothing() -> None:
    model = cluster()
    before = model.key()
    for wrong in (
        lambda: model.start_engine(1),
        lambda: model.crash(9),
        lambda: model.resume(1),
        lambda: model.finish_stop(1),
        lambda: model.cut([[1], [1]]),
        lambda: model.cut([[9]]),
        lambda: model.join(1, OCFS2, 1),
        lambda: model.leave(1, O2CB),
        lambda: model.deliver(1, O2CB, Stream.MEMBERSHIP),
        lambda: model.add_node(ConfiguredNode(1, "other", "10.0.0.1")),
        lambda: model.add_node(ConfiguredNode(9, "n1", "10.0.0.1")),
        lambda: model.close_question(1),
        lambda: model.power_off(9),
        lambda: model.process_died(1, "nobody"),
    ):
        with pytest.raises(ModelError):
            wrong()
        assert model.key() == before


OPERATIONS = ("crash", "start", "late", "fast", "hang", "resume", "cut", "heal", "stop", "kill", "join", "send", "read")


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(OPERATIONS), st.integers(1, 3), st.booleans()), max_size=25))
@example([("crash", 1, False), ("read", 2, False), ("kill", 2, False), ("join", 2, False)])
def test_virtual_synchrony_holds_whatever_happens(steps: list[tuple[str, int, bool]]) -> None:
    """Rings only grow for a process, one ring has one membership, and who shares two rings in a row reads the same."""
    model = cluster()
    heard: dict[int, list[object]] = {n: [] for n in ALL}

    def read(n: int) -> None:
        heard[n].extend(channel(model, n))

    for count, (operation, n, flag) in enumerate(steps):
        try:
            match operation:
                case "crash":
                    model.crash(n, unreceived={n} if flag else ())
                case "start":
                    model.start_engine(n, singleton=flag)
                case "late":
                    model.start_engine(n, merge=False)
                case "fast":
                    model.fast_restart(n, singleton=flag)
                case "hang":
                    model.hang(n, unreceived={n} if flag else ())
                case "resume":
                    model.resume(n, singleton=flag)
                case "cut":
                    model.cut([[n]], unreceived=ALL if flag else ())
                case "heal":
                    model.heal()
                case "stop":
                    model.stop_engine(n)
                case "kill":
                    model.process_died(n, OCFS2)
                    heard[n].append(ChannelDown("killed"))  # another process begins anew, in the same ring perhaps
                case "join":
                    model.listen(n, OCFS2)
                    model.join(n, OCFS2, 1000 + count, ring_first=flag)
                case "send":
                    model.send(n, OCFS2, str(count).encode())
                case _:
                    read(n)
        except ModelError:
            continue
    for n in ALL:
        if Key(n, OCFS2, Stream.CHANNEL) in model.ports:
            read(n)
    spans: dict[tuple[Ring, Ring], set[tuple[object, ...]]] = {}
    for events in heard.values():
        spells: list[tuple[Ring, list[object]]] = []
        for event in events:
            if isinstance(event, ChannelDown):
                spells.append((Ring(0, 0), []))
            elif isinstance(event, ChannelRing):
                spells.append((event.ring, []))
            elif isinstance(event, Delivered) and spells:
                spells[-1][1].append(event)
        rings = [r for r, _ in spells if r.sequence]
        assert rings == sorted(rings)
        for (one, said), (two, _) in pairwise(spells):
            if one.sequence and two.sequence:
                assert one != two
                spans.setdefault((one, two), set()).add(tuple(said))
    members = {e.ring: e.nodes for n in ALL for e in heard[n] if isinstance(e, ChannelRing)}
    assert all(e.nodes == members[e.ring] for n in ALL for e in heard[n] if isinstance(e, ChannelRing))
    # A process that joined in the middle of a ring has read the end of what the others have.
    for said_by in spans.values():
        longest = max(said_by, key=len)
        assert all(longest[len(longest) - len(said) :] == said for said in said_by)
