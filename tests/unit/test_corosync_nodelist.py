"""The configured nodes, as they are read from corosync's keys."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libo2cb.engine.corosync import nodelist
from libo2cb.engine.corosync.said import Value
from libo2cb.engine.port import ConfiguredNode


def entry(position: int, number: int, name: str = "", *rings: str) -> dict[str, Value]:
    prefix = f"nodelist.node.{position}"
    keys: dict[str, Value] = {f"{prefix}.nodeid": number}
    if name:
        keys[f"{prefix}.name"] = name
    return keys | {f"{prefix}.ring{link}_addr": address for link, address in enumerate(rings) if address}


def cluster(*entries: dict[str, Value], **more: Value) -> dict[str, Value]:
    keys: dict[str, Value] = {"totem.cluster_name": "prod", "nodelist.local_node_pos": 0}
    for each in entries:
        keys |= each
    return keys | more


def read(
    keys: dict[str, Value], local: int = 1, host: str = "n1", **resolved: str
) -> tuple[tuple[ConfiguredNode, ...], str]:
    found = nodelist.read(keys, local, host, resolved)
    return found.nodes, " | ".join(found.notes)


N1, N2 = entry(0, 1, "n1", "10.0.0.1"), entry(1, 2, "n2", "10.0.0.2")


def test_a_plain_cluster_has_nothing_to_note() -> None:
    found = nodelist.read(cluster(N1, N2), 1, "n1", {})
    assert found.cluster == "prod"
    assert found.nodes == (ConfiguredNode(1, "n1", "10.0.0.1"), ConfiguredNode(2, "n2", "10.0.0.2"))
    assert (found.two_node, found.notes) == (False, ())


def test_the_position_is_not_the_number_and_nodes_come_by_number() -> None:
    nodes, notes = read(cluster(entry(7, 3, "c", "10.0.0.3"), entry(10, 1, "n1", "10.0.0.1")))
    assert [(n.number, n.name) for n in nodes] == [(1, "n1"), (3, "c")]
    assert notes == ""


@pytest.mark.parametrize(
    ("rings", "address", "asked"),
    [
        (("10.0.0.1",), "10.0.0.1", set()),
        (("10.0.0.1", "10.1.0.1"), "10.0.0.1", set()),
        (("fd00::1", "10.1.0.1"), "10.1.0.1", set()),
        (("db1", "10.1.0.1"), "10.1.0.1", set()),
        (("", "10.1.0.1"), "10.1.0.1", set()),
        (("db1",), "10.9.9.1", {"db1"}),
        (("fd00::1", "db1"), "10.9.9.1", {"db1"}),
        (("lost", "db1"), "10.9.9.1", {"lost", "db1"}),
        (("lost",), "lost", {"lost"}),
        (("fd00::1",), "fd00::1", set()),
        ((), "", set()),
        (("10.0.0.300",), "10.0.0.300", {"10.0.0.300"}),
    ],
)
def test_the_address_of_a_node(rings: tuple[str, ...], address: str, asked: set[str]) -> None:
    keys = cluster(entry(0, 1, "n1", *rings))
    assert nodelist.host_names(keys) == asked
    nodes, _ = read(keys, db1="10.9.9.1")
    assert nodes == (ConfiguredNode(1, "n1", address),)


def test_the_tenth_link_comes_after_the_second() -> None:
    keys = cluster(
        {"nodelist.node.0.nodeid": 1, "nodelist.node.0.ring10_addr": "10.10.0.1"},
        {"nodelist.node.0.name": "n1", "nodelist.node.0.ring2_addr": "10.2.0.1"},
    )
    assert read(keys)[0] == (ConfiguredNode(1, "n1", "10.2.0.1"),)


def test_what_is_worth_asking_for_again_is_what_stands_in_the_way() -> None:
    keys = cluster(entry(0, 1, "n1", "lost", "db1"), entry(1, 2, "n2", "gone"), entry(2, 3, "n3", "fd00::1"))
    assert nodelist.read(keys, 1, "n1", {"db1": "10.9.9.1"}).unresolved == {"gone"}


def test_another_link_and_a_host_name_nobody_knows_are_noted_with_the_node() -> None:
    _, notes = read(cluster(entry(0, 1, "n1", "fd00::1", "10.1.0.1"), entry(1, 2, "n2", "lost")))
    assert "node n1: ring0_addr says fd00::1, so OCFS2 uses its other link, 10.1.0.1" in notes
    assert "node n2: no IPv4 address was found for lost" in notes


def test_a_node_without_a_name_is_called_after_its_host_or_its_number_and_that_is_noted() -> None:
    nodes, notes = read(cluster(entry(0, 1, "", "10.0.0.1"), entry(1, 2, "", "10.0.0.2")), host="db1")
    assert [n.name for n in nodes] == ["db1", "node2"]
    assert "node 1 has no name in corosync.conf and is called db1 after its host name" in notes
    assert "called node2 after its number" in notes


@pytest.mark.parametrize(
    ("name", "host", "said"),
    [
        ("db1", "db1", False),
        ("db1", "db1.example.com", False),
        ("db1.example.com", "db1", False),
        ("db1", "db2", True),
        ("db1", "", False),
    ],
)
def test_a_name_that_is_not_the_hosts_is_noted(name: str, host: str, said: bool) -> None:
    _, notes = read(cluster(entry(0, 1, name, "10.0.0.1"), N2), host=host)
    assert ("its host name is" in notes) is said


def test_of_two_nodes_with_one_number_the_first_stays_and_both_are_named() -> None:
    nodes, notes = read(cluster(N1, entry(1, 1, "twin", "10.0.0.9"), entry(2, 3, "n1", "10.0.0.3")))
    assert [n.name for n in nodes] == ["n1", "n1"]
    assert "nodeid 1, n1 and twin" in notes
    assert "2 nodes are called n1" in notes


def test_a_node_without_a_number_has_one_that_nobody_can_hold() -> None:
    nodes, _ = read(cluster(N1, {"nodelist.node.1.name": "n2", "nodelist.node.1.ring0_addr": "10.0.0.2"}))
    assert nodes[0] == ConfiguredNode(0, "n2", "10.0.0.2")


@pytest.mark.parametrize(
    ("nodes", "keys", "two"),
    [
        (2, {"runtime.votequorum.two_node": 1}, True),
        (2, {"runtime.votequorum.two_node": 0, "quorum.two_node": 1}, False),
        (2, {"quorum.two_node": 1}, True),
        (3, {"quorum.two_node": 1}, False),
        (2, {}, False),
    ],
)
def test_either_of_two(nodes: int, keys: dict[str, Value], two: bool) -> None:
    entries = (entry(i, i + 1, f"n{i + 1}", f"10.0.0.{i + 1}") for i in range(nodes))
    assert nodelist.read(cluster(*entries, **keys), 1, "n1", {}).two_node is two


def test_no_nodelist_and_a_node_that_is_not_in_it_are_noted() -> None:
    assert "no nodelist" in read(cluster())[1]
    assert "this node, number 9, is not in the nodelist" in read(cluster(N1, N2), local=9)[1]


def test_a_cluster_without_a_name_is_noted() -> None:
    found = nodelist.read(N1, 1, "n1", {})
    assert found.cluster == ""
    assert [note.split(":")[0] for note in found.notes] == ["corosync.conf has no cluster_name"]


def test_a_group_holds_128_and_the_others_are_named() -> None:
    keys = cluster(*(entry(i, i + 1, f"n{i + 1}", f"10.0.0.{i + 1}") for i in range(130)))
    nodes, notes = read(keys)
    assert len(nodes) == 130, "they are configured all the same"
    assert "n129, n130 cannot mount OCFS2" in notes
    assert [nodelist.seated(keys, n) for n in (1, 128, 129, 130)] == [True, True, False, False]
    assert not nodelist.seated(keys, 500), "a node that is not in the list comes last"
    assert nodelist.seated({}, 500)


KEYS = st.one_of(
    st.sampled_from(["totem.cluster_name", "quorum.two_node", "nodelist.local_node_pos", "nodelist.node.x.nodeid"]),
    st.builds(
        "nodelist.node.{}.{}".format,
        st.integers(0, 3),
        st.sampled_from(["nodeid", "name", "ring0_addr", "ring1_addr", "ring_addr", "quorum_votes"]),
    ),
)
VALUES = st.one_of(st.integers(0, 300), st.text(max_size=8), st.binary(max_size=4), st.floats(), st.just("10.0.0.1"))


@given(st.dictionaries(KEYS, VALUES), st.integers(0, 300), st.text(max_size=5))
def test_whatever_the_keys_are_each_entry_is_a_node_or_is_named(keys: dict[str, Value], local: int, host: str) -> None:
    found = nodelist.read(keys, local, host, {})
    positions = {key.split(".")[2] for key in keys if nodelist._KEY.fullmatch(key)}
    ignored = sum("is ignored" in note or "second is" in note for note in found.notes)
    assert len(found.nodes) + ignored == len(positions)
    assert [n.number for n in found.nodes] == sorted({n.number for n in found.nodes})
    assert all(n.name for n in found.nodes)
