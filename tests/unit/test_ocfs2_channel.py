"""What ocfs2_controld makes of the channel, word for word, where no story of the engine's model comes to."""

from dataclasses import replace

import pytest

from libo2cb.engine.port import (
    ChannelMember,
    ChannelMembers,
    ChannelRing,
    Configured,
    ConfiguredNode,
    EngineUp,
    Members,
    Reason,
)
from libo2cb.events import Event as Logged
from libo2cb.events import Log
from ocfs2_controld import actions as do
from ocfs2_controld import groupwork, mind
from ocfs2_controld.events import Call, Event, Garbled, Heard, KernelFound, MountTable, OrderingUp
from ocfs2_controld.state import Local, Present, Settings, State, Turn, Usage
from ocfs2_controld.table import apply
from protocol.frozen import EMPTY, FrozenMap
from protocol.group import (
    Envelope,
    Expel,
    Group,
    GroupTable,
    Phase,
    Started,
    StartName,
    Statement,
    Stopped,
    View,
    ViewMember,
)
from protocol.handshake import standard
from protocol.identity import Life, NodeIdentity, Ring

NODES = tuple(ConfiguredNode(n, f"n{n}", f"10.0.0.{10 + n}") for n in (1, 2, 3))
BLOCKS = standard(7777).blocks()
OLD, NEW = Ring(8, 1), Ring(12, 1)
A, B, C = (Life(n, f"boot{n}") for n in (1, 2, 3))
F = "F" * 32


def member(number: int) -> ChannelMember:
    return ChannelMember(number, 100 + number)


def told(state: State, *events: Event) -> tuple[State, list[do.Action]]:
    """The mind after these, one a step, and all that it did."""
    done: list[do.Action] = []
    for event in events:
        state, actions = mind.step(state, 0.0, (event,))
        done += actions
    return state, done


def statement(number: int, view: View, *, blocks: bytes = BLOCKS, table: GroupTable | None = None) -> Heard:
    node = NODES[number - 1]
    said = Statement(
        view=view,
        life=Life(number, f"boot{number}"),
        incarnation=f"run{number}",
        nonce=f"{number}.{view.ring}",
        identity=NodeIdentity(number, node.address, 7777, node.name),
        blocks=blocks,
        configured=(1, 2, 3),
        table=table,
        claims=EMPTY,
        away=(),
        doubt=False,
    )
    return Heard(ViewMember(number, 100 + number), Envelope(None, (said,)))


def view(ring: Ring, *numbers: int) -> View:
    return View(ring, tuple(ViewMember(n, 100 + n) for n in numbers))


def started() -> State:
    """n1's mind on the channel with n2 and n3, before it has said anything."""
    state = mind.begin(Settings("boot1", "run1", 101, blocks=BLOCKS))
    state, _ = told(
        state,
        MountTable(EMPTY),
        KernelFound(EMPTY),
        OrderingUp(),
        EngineUp("demo", 1, NODES),
        Members(OLD, True, (1, 2, 3), (1, 2, 3), ()),
        ChannelMembers(tuple(map(member, (1, 2, 3))), ((member(1), Reason.JOIN),), ()),
    )
    return state


def running() -> State:
    """The same after the first change."""
    state, _ = told(started(), ChannelRing(OLD, (1, 2, 3)), *(statement(n, view(OLD, 1, 2, 3)) for n in (1, 2, 3)))
    assert state.complete
    return state


def spoken(done: list[do.Action]) -> list[object]:
    return [w for a in done if isinstance(a, do.Multicast) for w in a.envelope.words]


def test_between_a_death_and_the_next_ring_nothing_is_known_and_nothing_said() -> None:
    # n3 dies. The channel tells of it first, its ring later, and the quorum service last of all: for a while all ring
    # numbers that n1 has agree, and are those of a cluster that is no more. A change in that ring would have quorum.
    down = ChannelMembers((member(1), member(2)), (), ((member(3), Reason.NODEDOWN),))
    state, done = told(running(), down, *(statement(n, view(OLD, 1, 2)) for n in (1, 2)))
    assert state.view is None
    assert not spoken(done), "a statement for a ring that is over"
    assert not state.complete
    assert not state.good
    state, done = told(state, ChannelRing(NEW, (1, 2)))
    assert [w.view for w in spoken(done) if isinstance(w, Statement)] == [view(NEW, 1, 2)]
    state, _ = told(state, *(statement(n, view(NEW, 1, 2)) for n in (1, 2)))
    assert state.complete
    assert not state.good, "the last word on quorum is of another ring"
    state, _ = told(state, Members(NEW, True, (1, 2), (), (3,)))
    assert state.good


def test_a_daemon_is_ready_when_the_first_change_is_complete_and_not_before() -> None:
    state, done = told(started(), ChannelRing(OLD, (1, 2, 3)))
    assert not any(isinstance(a, do.Ready) and a.ready for a in done), "n1 does not know its own groups yet"
    assert not state.ready
    state, done = told(state, *(statement(n, view(OLD, 1, 2, 3)) for n in (1, 2, 3)))
    assert [a.ready for a in done if isinstance(a, do.Ready)] == [True]


@pytest.mark.parametrize("answer", [Started, Stopped])
def test_an_answer_to_an_older_start_is_recognised_and_ignored(answer: type[Started | Stopped]) -> None:
    phase = Phase.START if answer is Started else Phase.STOP
    older, present = StartName(NEW, 1), StartName(NEW, 2)
    group = Group(members=(A, B), phase=phase, answers=(A,), start=present)
    table = GroupTable(groups=FrozenMap({F: group}), named=present)
    assert apply(table, NEW, B, answer(F, older)) is table
    assert apply(table, NEW, C, answer(F, present)) is table, "nor does anybody else's answer count"
    after = apply(table, NEW, B, answer(F, present)).groups[F]
    assert after.phase is not phase, "the right one is the last that was owed"
    assert replace(after, answers=()).members == (A, B)


def test_a_link_goes_by_its_life_and_not_by_its_name() -> None:
    # n2 has died and come back at its old address, and is let in again. Whatever has happened in between, the link that
    # was made for its old life is not taken for the new one's.
    again = Life(2, "boot2'")
    group = Group(members=(A, again), phase=Phase.START, joiner=again, start=StartName(OLD, 2))
    identities = [NodeIdentity(n.number, n.address, 7777, n.name) for n in NODES[:2]]
    state = running()
    present = Present(ViewMember(2, 202), again, identities[1], "run2'")
    state = replace(
        state,
        table=GroupTable(groups=FrozenMap({F: group})),
        present=state.present.put(2, present),
        locals=FrozenMap({F: Local(Usage.USED, region=True, links=FrozenMap({1: A, 2: B}))}),
        locks=replace(state.locks, held=frozenset(x.key for x in identities)),
    )
    turn = Turn(state, 0.0)
    groupwork.settle(turn, F)
    assert [(a.call, a.number) for a in turn.actions if isinstance(a, do.CallKernel)] == [(Call.UNLINK, 2)]


def test_what_runs_by_an_elder_start_is_stopped_before_it_starts_anew() -> None:
    # Whatever has put the group into RECOVER, n1 runs it by a START that is over: it stops, and makes this one.
    group = Group(members=(A,), phase=Phase.RECOVER, start=StartName(OLD, 2))
    running_by = Local(Usage.USED, region=True, links=FrozenMap({1: A}), running=True, started=StartName(OLD, 1))
    state = replace(running(), table=GroupTable(groups=FrozenMap({F: group})), locals=FrozenMap({F: running_by}))
    turn = Turn(state, 0.0)
    groupwork.settle(turn, F)
    said = [a.event for a in turn.actions if isinstance(a, Log)]
    assert said[:2] == [Logged.GROUP_STOPPED, Logged.GROUP_STARTED]
    assert turn.state.local(F).started == group.start
    assert Started(F, group.start) in turn.words


OTHER = "protocol 2.0 is not ours, 1.0"


def test_who_understands_nobody_and_has_no_table_yet_does_not_join() -> None:
    # n1 is of another major version than n2 and n3. Were it to put them out of its view, it would be alone with the
    # engine's quorum, and have both switched off before its first mount.
    state, _ = told(started(), ChannelRing(OLD, (1, 2, 3)))
    state, done = told(state, Garbled(ViewMember(2, 102), OTHER))
    assert not any(isinstance(w, Expel) for w in spoken(done))
    assert do.LeaveChannel() in done
    why = f"this daemon cannot talk to the running cluster: what n2 says cannot be understood: {OTHER}"
    assert [a for a in done if isinstance(a, do.Exit)] == [do.Exit(1, why)]
    assert state.ending == why
    assert not state.complete


def test_who_has_a_table_puts_out_whom_it_does_not_understand() -> None:
    _, done = told(running(), Garbled(ViewMember(2, 102), OTHER))
    assert [w.member for w in spoken(done) if isinstance(w, Expel)] == [ViewMember(2, 102)]
    assert not any(isinstance(a, do.Exit) for a in done)
    _, done = told(running(), Garbled(ViewMember(1, 101), OTHER), Garbled(ViewMember(9, 109), OTHER))
    assert not spoken(done), "neither itself, nor who is not there"


def test_a_newcomer_cannot_put_out_who_has_a_table() -> None:
    # n3's daemon is started anew, of a build that understands nobody, and wants n2 out. n1 and n2 have a table.
    new = ViewMember(3, 999)
    now = View(OLD, (ViewMember(1, 101), ViewMember(2, 102), new))
    left = ChannelMembers((member(1), member(2)), (), ((member(3), Reason.PROCDOWN),))
    members = (member(1), member(2), ChannelMember(3, 999))
    state, _ = told(running(), left, ChannelMembers(members, ((members[2], Reason.JOIN),), ()))
    assert state.view == now
    expelled = Envelope(None, (Expel(now, ViewMember(2, 102), "it says what cannot be understood"),))
    state, _ = told(state, Heard(new, expelled))
    assert not state.channel.expelled
    state, _ = told(state, Heard(ViewMember(1, 101), expelled))
    assert state.channel.expelled == {ViewMember(2, 102)}, "who has a table may"


def test_what_the_engine_says_of_its_configuration_is_kept() -> None:
    up = EngineUp("demo", 1, NODES[:2], two_node=True, notes=("n2 calls itself web2",))
    state, _ = told(mind.begin(Settings("boot1", "run1", 101)), up)
    assert (state.engine.two_node, state.engine.notes) == (True, up.notes)
    state, _ = told(state, Configured(NODES))
    assert (state.engine.two_node, state.engine.notes) == (False, ())


@pytest.mark.parametrize("number", [0, 255, 300, 174260255])
def test_a_number_that_ocfs2_cannot_have_is_not_stated_as_a_node_that_may_write(number: int) -> None:
    odd = ConfiguredNode(number, "odd", "10.0.0.99")
    _, done = told(started(), Configured((*NODES, odd), two_node=False), ChannelRing(OLD, (1, 2, 3)))
    (word,) = spoken(done)
    assert isinstance(word, Statement)
    assert word.configured == (1, 2, 3)
