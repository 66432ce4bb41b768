"""Who has to go is put out by the engine only as long as the cluster keeps its quorum without it."""

from hypothesis import given
from hypothesis import strategies as st

from libo2cb.engine.port import ConfiguredNode
from ocfs2_controld import outs
from ocfs2_controld.state import Engine, Out, Settings, State
from protocol.frozen import FrozenMap

NOW = 100.0


def state(configured: int, members: set[int], going: dict[int, float], *, two_node: bool = False) -> State:
    """The mind of the lowest member. going: when each that has to go is due."""
    nodes = tuple(ConfiguredNode(n, f"n{n}", f"10.0.0.{n}") for n in range(1, configured + 1))
    engine = Engine(up=True, local=min(members), nodes=nodes, two_node=two_node, members=frozenset(members))
    must = FrozenMap({n: Out(at, "others have recovered it", daemon=False) for n, at in going.items()})
    return State(Settings("boot1", "run1", 101), engine=engine, outs=must)


def due(
    configured: int, members: set[int], going: dict[int, float], *, two_node: bool = False
) -> tuple[object, object]:
    return outs.due(state(configured, members, going, two_node=two_node), NOW)


def test_whose_vote_is_needed_stays() -> None:
    assert due(3, {1, 2, 3}, {2: 0.0}) == ((2,), ())
    assert due(3, {1, 2}, {2: 0.0}) == ((), (2,))
    assert due(2, {1, 2}, {2: 0.0}) == ((), (2,))
    assert due(2, {1, 2}, {2: 0.0}, two_node=True) == ((2,), ())


def test_of_five_of_eight_nobody_is_put_out_and_of_eight_as_many_as_leave_five() -> None:
    four = {2: 0.0, 3: 0.0, 4: 0.0, 5: 0.0}
    assert due(8, {1, 2, 3, 4, 5}, four) == ((), (2, 3, 4, 5))
    assert due(8, {1, 2, 3, 4, 5, 6, 7}, four) == ((2, 3), (4, 5))
    assert due(8, {1, 2, 3, 4, 5, 6, 7, 8}, four) == ((2, 3, 4), (5,))


def test_who_may_still_go_by_itself_counts_as_gone() -> None:
    # n2 was asked for, and n3 was told that it has to go a moment ago.
    assert due(5, {1, 2, 3, 4, 5}, {2: NOW + 30, 3: NOW + 1, 4: 0.0}) == ((), (4,))
    assert due(5, {1, 2, 3, 4, 5}, {3: NOW + 1, 4: 0.0}) == ((4,), ())


def test_who_is_gone_already_and_this_node_itself_are_not_put_out() -> None:
    assert due(5, {1, 2, 3, 4}, {5: 0.0}) == ((), ())
    assert due(5, {1, 2, 3, 4}, {1: 0.0, 2: 0.0}) == ((), (2,))


@given(
    st.integers(1, 9).flatmap(
        lambda count: st.tuples(
            st.just(count),
            st.sets(st.integers(1, count + 1), min_size=1),
            st.dictionaries(st.integers(1, count + 1), st.sampled_from([0.0, NOW, NOW + 1])),
        )
    ),
    st.booleans(),
)
def test_what_goes_never_costs_a_quorum_that_is_there(
    cluster: tuple[int, set[int], dict[int, float]], two_node: bool
) -> None:
    count, members, going = cluster
    two_node = two_node and count == 2
    here = state(count, members, going, two_node=two_node)
    go, stay = outs.due(here, NOW)
    assert {*go, *stay} == {n for n, at in going.items() if n in members and n != min(members) and at <= NOW}
    every = {*range(1, count + 1), *members}
    left = members - {*go} - {n for n, at in going.items() if at > NOW}
    if go:
        assert len(left) >= (1 if two_node else len(every) // 2 + 1)
