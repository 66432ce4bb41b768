"""One Members event from the two callbacks of corosync's quorum service, in whatever order they come."""

from hypothesis import given
from hypothesis import strategies as st

from libo2cb.engine.corosync.assembler import Assembler
from libo2cb.engine.corosync.said import NodeList, Quorate
from libo2cb.engine.port import Members
from protocol.identity import Ring

ONE, TWO, THREE = Ring(5, 1), Ring(9, 1), Ring(13, 1)


def all_of(assembler: Assembler, *said: NodeList | Quorate) -> list[Members]:
    return [event for s in said if (event := assembler.hear(s)) is not None]


def quorate(ring: Ring) -> Quorate:
    return Quorate(ring, quorate=True)


def test_the_first_ring_is_told_whole_once_both_are_here() -> None:
    assembler = Assembler()
    assert assembler.hear(NodeList(ONE, (3, 1, 2), (), ())) is None, "its quorum is not known"
    assert assembler.hear(quorate(ONE)) == Members(ONE, True, (1, 2, 3), (1, 2, 3), ())


def test_the_order_of_the_two_makes_no_difference() -> None:
    said = (NodeList(TWO, (1, 2), (), (3,)), Quorate(TWO, quorate=False))
    for order in (said, said[::-1]):
        assembler = Assembler()
        all_of(assembler, NodeList(ONE, (1, 2, 3), (), ()), quorate(ONE))
        assert all_of(assembler, *order) == [Members(TWO, False, (1, 2), (), (3,))]


def test_a_restart_faster_than_the_token_has_the_node_in_both_lists() -> None:
    assembler = Assembler()
    all_of(assembler, NodeList(ONE, (1, 2, 3), (), ()), quorate(ONE))
    told = all_of(assembler, NodeList(TWO, (1, 2, 3), (3,), (3,)), quorate(TWO))
    assert told == [Members(TWO, True, (1, 2, 3), (3,), (3,))]


def test_a_ring_that_is_overtaken_is_not_forgotten() -> None:
    assembler = Assembler()
    all_of(assembler, NodeList(ONE, (1, 2, 3), (), ()), quorate(ONE))
    overtaken = NodeList(TWO, (1, 2), (), (3,)), NodeList(THREE, (1, 2, 3), (3,), ()), quorate(THREE)
    assert all_of(assembler, *overtaken) == [Members(THREE, True, (1, 2, 3), (3,), (3,))]


def test_who_came_and_went_unseen_is_in_no_list() -> None:
    assembler = Assembler()
    all_of(assembler, NodeList(ONE, (1, 2), (), ()), quorate(ONE))
    passing = NodeList(TWO, (1, 2, 3), (3,), ()), NodeList(THREE, (1, 2), (), (3,)), quorate(THREE)
    assert all_of(assembler, *passing) == [Members(THREE, True, (1, 2), (), ())]


def test_quorum_alone_is_told_when_it_changes_and_not_when_it_is_counted_again() -> None:
    assembler = Assembler()
    all_of(assembler, NodeList(ONE, (1, 2), (), ()), quorate(ONE))
    again = quorate(ONE), Quorate(ONE, quorate=False), Quorate(ONE, quorate=False)
    assert all_of(assembler, *again) == [Members(ONE, False, (1, 2), (), ())]


def test_a_word_on_another_ring_waits_for_its_members() -> None:
    assembler = Assembler()
    all_of(assembler, NodeList(ONE, (1,), (), ()))
    assert all_of(assembler, quorate(TWO)) == []
    assert all_of(assembler, NodeList(TWO, (1, 2), (2,), ())) == [Members(TWO, True, (1, 2), (1, 2), ())]


def test_an_engine_without_a_ring_says_nothing() -> None:
    assert all_of(Assembler(), NodeList(Ring(0, 0), (), (), ()), quorate(Ring(0, 0))) == []


@st.composite
def lives(draw: st.DrawFn) -> list[tuple[dict[int, int], bool]]:
    """Rings, one after the other: which life of each node is in it, and whether its quorum is heard in time."""
    rings = []
    life = dict.fromkeys(range(1, 5), 0)
    for _ in range(draw(st.integers(1, 8))):
        for node in draw(st.sets(st.integers(2, 4))):
            life[node] += 1
        here = draw(st.sets(st.integers(2, 4))) | {1}
        rings.append(({node: life[node] for node in here}, draw(st.booleans())))
    return rings


@given(lives())
def test_the_lists_always_lead_from_what_was_told_to_what_is(rings: list[tuple[dict[int, int], bool]]) -> None:
    assembler = Assembler()
    before: dict[int, int] = {}
    told: dict[int, int] | None = None
    for sequence, (here, counted) in enumerate(rings, 1):
        ring = Ring(sequence, 1)
        joined = tuple(n for n in here if before.get(n) != here[n])
        left = tuple(n for n in before if here.get(n) != before[n])
        events = all_of(assembler, NodeList(ring, tuple(here), joined, left), *([quorate(ring)] if counted else []))
        assert len(events) == counted
        for event in events:
            assert (event.ring, event.members) == (ring, tuple(sorted(here)))
            if told is None:
                assert (event.joined, event.left) == (event.members, ())
            else:
                # Every life that was told of and is over is in left, and every life that is new in joined.
                assert {n for n in told if here.get(n) != told[n]} <= set(event.left) <= set(told)
                assert {n for n in here if told.get(n) != here[n]} <= set(event.joined)
                assert set(told) - set(event.left) | set(event.joined) == set(here)
            told = dict(here)
        before = here
