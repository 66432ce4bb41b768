"""The pure difference between wanted and standing nodes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libo2cb.engine.port import ConfiguredNode
from libo2cb.kernel.port import StandingNode
from o2cb_controld.topology import (
    NOTHING,
    ORPHANS,
    Difference,
    Held,
    Make,
    Nothing,
    Remove,
    difference,
    identity_of,
    unfit,
    wanted_nodes,
)
from protocol.identity import NodeIdentity

PORT = 7777
UNSET = "0.0.0.0"  # noqa: S104 (the kernel's "not set")


def ident(number: int, name: str = "", address: str = "") -> NodeIdentity:
    return NodeIdentity(number, address or f"10.0.0.{number}", PORT, name or f"n{number}")


def stands(number: int, name: str = "", address: str = "", *, local: bool = False) -> StandingNode:
    i = ident(number, name, address)
    return StandingNode(i.name, i.number, i.address, i.port, local)


def bare(name: str) -> StandingNode:
    return StandingNode(name, 0, UNSET, 0, local=False)


def test_only_fit_members_of_the_configuration_are_wanted() -> None:
    nodes = (
        ConfiguredNode(0, "zero", "10.0.0.9"),
        ConfiguredNode(1, "n1", "10.0.0.1"),
        ConfiguredNode(2, "n2", "fe80::2"),
        ConfiguredNode(3, "n3", "10.0.0.3"),
        ConfiguredNode(4, "n4", "10.0.0.4"),
        ConfiguredNode(255, "far", "10.0.0.8"),
        ConfiguredNode(6, "a/b", "10.0.0.6"),
    )
    here = (0, 1, 2, 3, 6, 255, 77)
    assert [w.number for w in wanted_nodes("links", PORT, nodes, here, 1)] == [1, 3]
    assert [w.number for w in wanted_nodes("classic", PORT, nodes, here, 1)] == [1, 3, 4]
    assert [u.number for u in unfit(nodes, PORT)] == [0, 2, 255, 6]
    assert all(u.name in u.why for u in unfit(nodes, PORT) if u.name.isalnum())


def test_the_local_node_is_wanted_before_it_is_a_member() -> None:
    nodes = (ConfiguredNode(1, "n1", "10.0.0.1"), ConfiguredNode(2, "n2", "10.0.0.2"))
    assert wanted_nodes("sandbox", PORT, nodes, (), 1) == (identity_of(nodes[0], PORT),)


def test_what_stands_as_wanted_needs_nothing() -> None:
    d = Difference([ident(1), ident(2)], [stands(1, local=True), stands(2)], 1)
    assert d.need(1) == d.need(2) == NOTHING
    assert d.numbers() == [1, 2]


@pytest.mark.parametrize(
    "standing",
    [
        stands(2, address="10.0.0.99"),
        stands(2, name="other"),
        stands(2, local=True),
        StandingNode("n2", 2, "10.0.0.2", 7778, local=False),
    ],
)
def test_another_identity_is_removed_before_the_wanted_one_is_made(standing: StandingNode) -> None:
    assert Difference([ident(2)], [standing], 1).need(2) == Remove(standing.name, ident(2))


def test_a_node_without_local_mark_is_no_local_node() -> None:
    assert Difference([ident(1)], [stands(1)], 1).need(1) == Remove("n1", ident(1))


def test_a_directory_without_number_belongs_to_whoever_wants_its_name() -> None:
    d = Difference([ident(2)], [bare("n2"), bare("left")], 1)
    assert d.need(2) == Remove("n2", ident(2))
    assert d.need(ORPHANS) == Remove("left", None)
    assert Difference([ident(2)], [bare("n2")], 1).need(ORPHANS) == NOTHING


def test_a_name_or_an_address_that_another_holds_is_waited_for() -> None:
    by_name = Difference([ident(3, "n2")], [stands(2)], 1)
    assert by_name.need(3) == Held(ident(3, "n2"), "n2", "the name n2")
    assert by_name.need(2) == Remove("n2", None)
    by_address = Difference([ident(3, address="10.0.0.2")], [stands(2)], 1)
    assert by_address.need(3) == Held(ident(3, address="10.0.0.2"), "n2", "the address 10.0.0.2:7777")


def test_of_the_same_tuples_it_is_the_same_one_and_of_others_another() -> None:
    wanted, standing = (ident(1), ident(2)), (stands(1, local=True), stands(2))
    first = difference(wanted, standing, 1)
    assert first.differing() == ()
    assert difference(wanted, standing, 1) is first
    assert difference(wanted, standing, 2).differing() == (1, 2), "neither is local as it should be"
    assert difference(wanted, standing, 1) is first, "each node of a simulation has its own"
    assert difference(wanted, standing[:1], 1).need(2) == Make(ident(2))
    assert difference(wanted[:1], standing, 1).need(2) == Remove("n2", None)


numbers = st.integers(1, 4)
names = st.sampled_from(["a", "b", "c", "d"])
addresses = st.sampled_from([f"10.0.0.{i}" for i in range(1, 5)])
identities = st.builds(NodeIdentity, numbers, addresses, st.just(PORT), names)


def alone(items: list[NodeIdentity]) -> list[NodeIdentity]:
    """Those that can stand together: no number, name or address twice."""
    kept: list[NodeIdentity] = []
    for i in items:
        if all(k.number != i.number and k.name != i.name and k.address != i.address for k in kept):
            kept.append(i)
    return kept


@given(st.lists(identities, max_size=4).map(alone), st.lists(identities, max_size=4).map(alone), st.sets(names))
def test_from_any_tree_the_steps_lead_to_what_is_wanted(
    wanted: list[NodeIdentity], old: list[NodeIdentity], bares: set[str]
) -> None:
    tree = {i.name: StandingNode(i.name, i.number, i.address, i.port, local=False) for i in old}
    tree |= {name: bare(name) for name in bares if name not in tree}
    for _ in range(30):
        d = Difference(wanted, tree.values(), None)
        steps = [n for n in map(d.need, d.numbers()) if not isinstance(n, Nothing)]
        assert [d.need(number) for number in d.differing()] == steps
        if not steps:
            break
        possible = [s for s in steps if not isinstance(s, Held)]
        assert possible, "everybody waits for somebody"
        match possible[0]:
            case Remove(name):
                assert all(tree[name].identity != w for w in wanted), "what is wanted and stands is never removed"
                del tree[name]
            case Make(i):
                assert i.name not in tree
                assert all(s.number != i.number and s.address != i.address for s in tree.values())
                tree[i.name] = StandingNode(i.name, i.number, i.address, i.port, local=False)
    assert sorted(s.identity for s in tree.values()) == sorted(wanted)
