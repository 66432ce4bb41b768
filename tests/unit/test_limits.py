"""What a cluster or a node must be like to stand in the kernel's tree."""

import os
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libo2cb.errors import (
    ConfigurationError,
    InvalidClusterName,
    InvalidNodeNum,
    O2cbError,
)
from libo2cb.limits import check_cluster_name, check_identities, check_identity
from protocol.identity import NodeIdentity

GOOD = NodeIdentity(3, "10.0.0.3", 7777, "n3")


@pytest.mark.parametrize(
    "identity",
    [
        GOOD,
        NodeIdentity(1, "1.2.3.4", 1, "x" * 64),
        NodeIdentity(254, "255.0.0.1", 65534, "a b.c"),
        NodeIdentity(9, "10.0.0.9", 7777, os.fsdecode(b"\xff\xfe")),
    ],
)
def test_what_the_tree_can_hold_is_accepted(identity: NodeIdentity) -> None:
    check_identity(identity)


@pytest.mark.parametrize(
    ("identity", "kind", "words"),
    [
        (NodeIdentity(0, "10.0.0.3", 7777, "n3"), InvalidNodeNum, "number 0 cannot be told from one that is not set"),
        (NodeIdentity(255, "10.0.0.3", 7777, "n3"), InvalidNodeNum, "255 is outside 1 to 254"),
        (NodeIdentity(-1, "10.0.0.3", 7777, "n3"), InvalidNodeNum, "-1 is outside 1 to 254"),
        (NodeIdentity(3, "fe80::1", 7777, "n3"), ConfigurationError, "IPv6"),
        (NodeIdentity(3, "::ffff:1.2.3.4", 7777, "n3"), ConfigurationError, "IPv6"),
        (NodeIdentity(3, "1.2.3.4.5", 7777, "n3"), ConfigurationError, "no dotted IPv4 address"),
        (NodeIdentity(3, "1.2.3", 7777, "n3"), ConfigurationError, "no dotted IPv4 address"),
        (NodeIdentity(3, "1.2.3.256", 7777, "n3"), ConfigurationError, "no dotted IPv4 address"),
        (NodeIdentity(3, "1.2.3.04", 7777, "n3"), ConfigurationError, "no dotted IPv4 address"),
        (NodeIdentity(3, "host.example", 7777, "n3"), ConfigurationError, "no dotted IPv4 address"),
        (NodeIdentity(3, " 1.2.3.4", 7777, "n3"), ConfigurationError, "no dotted IPv4 address"),
        (NodeIdentity(3, "", 7777, "n3"), ConfigurationError, "no dotted IPv4 address"),
        (NodeIdentity(3, "0.0.0.0", 7777, "n3"), ConfigurationError, "not set"),  # noqa: S104 (refused)
        (NodeIdentity(3, "10.0.0.3", 0, "n3"), ConfigurationError, "port 0 is outside 1 to 65534"),
        (NodeIdentity(3, "10.0.0.3", 65535, "n3"), ConfigurationError, "port 65535 is outside"),
        (NodeIdentity(3, "10.0.0.3", 7777, ""), ConfigurationError, "empty"),
        (NodeIdentity(3, "10.0.0.3", 7777, "x" * 65), ConfigurationError, "65 bytes, and 64 is the limit"),
        (NodeIdentity(3, "10.0.0.3", 7777, "ü" * 33), ConfigurationError, "66 bytes"),
        (NodeIdentity(3, "10.0.0.3", 7777, "a/b"), ConfigurationError, "a slash"),
        (NodeIdentity(3, "10.0.0.3", 7777, "a\0b"), ConfigurationError, "a NUL byte"),
        (NodeIdentity(3, "10.0.0.3", 7777, "a\nb"), ConfigurationError, "a newline"),
        (NodeIdentity(3, "10.0.0.3", 7777, "."), ConfigurationError, "no name for a directory"),
        (NodeIdentity(3, "10.0.0.3", 7777, ".."), ConfigurationError, "no name for a directory"),
        (NodeIdentity(3, "10.0.0.3", 7777, "\ud800"), ConfigurationError, "cannot be written as bytes"),
    ],
)
def test_what_the_tree_cannot_hold_is_refused_by_name(
    identity: NodeIdentity, kind: type[O2cbError], words: str
) -> None:
    with pytest.raises(kind) as raised:
        check_identity(identity)
    assert words in str(raised.value)
    assert f"(number {identity.number})" in str(raised.value)
    assert raised.value.do


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (NodeIdentity(3, "10.0.0.4", 7777, "n4"), "both have number 3"),
        (NodeIdentity(4, "10.0.0.4", 7777, "n3"), "both have name n3"),
        (NodeIdentity(4, "10.0.0.3", 7777, "n4"), "both have address 10.0.0.3:7777"),
    ],
)
def test_two_nodes_alike_are_refused(other: NodeIdentity, words: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        check_identities([GOOD, other])
    assert words in str(raised.value)
    assert '"n3"' in str(raised.value)


def test_one_address_with_two_ports_is_two_nodes() -> None:
    check_identities([GOOD, NodeIdentity(4, "10.0.0.3", 7778, "n4")])


@given(st.integers(-1, 300), st.from_regex(r"\A[0-9.]{0,12}\Z"), st.integers(-1, 66000), st.text())
def test_any_identity_is_held_or_refused_as_one_of_ours(number: int, address: str, port: int, name: str) -> None:
    with suppress(O2cbError):
        check_identity(NodeIdentity(number, address, port, name))
        assert 1 <= number <= 254
        assert 1 <= port <= 65534
        assert 1 <= len(name.encode()) <= 64
        assert all(0 <= int(octet) <= 255 for octet in address.split("."))


@pytest.mark.parametrize("name", ["c", "x" * 16, "größe", "a-b_c.d"])
def test_good_cluster_names(name: str) -> None:
    check_cluster_name(name)


@pytest.mark.parametrize("name", ["", "x" * 17, "ü" * 9, "a b", "a/b", "a\0", "a\n", ".", "..", "\ud800"])
def test_bad_cluster_names(name: str) -> None:
    with pytest.raises(InvalidClusterName) as raised:
        check_cluster_name(name)
    assert "cannot be used" in str(raised.value)
