"""The configured nodes, from the keys of corosync's cmap. Pure.

corosync keeps its nodelist as `nodelist.node.POSITION.{nodeid,name,ring0_addr,ring1_addr,...}`. The position says
nothing: it shifts when a node above is taken out.

*Name*: nodelist.node.N.name; without it, this node's host name for this node, and node<ID> for others.

*Address*: ring0_addr if it is IPv4; else the first IPv4 of ring1_addr and so on; else the first IPv4 address that a
host name in one of them has; else what ring0_addr says, which is then refused with the node's name by whoever needs an
address. A literal goes before a host name so that all nodes choose alike, whatever each one's resolver knows.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import Final

from libo2cb.engine.corosync.said import Value
from libo2cb.engine.port import ConfiguredNode

PREFIXES: Final = ("nodelist.", "totem.cluster_name", "quorum.two_node", "runtime.votequorum.two_node")
"""What is read of cmap."""
TRACKED: Final = ("config.", "nodelist.", "runtime.votequorum.two_node")
"""What changes when the configuration was read anew."""
SEATS: Final = 128
"""Members that a corosync group holds (CPG_MEMBERS_MAX)."""
TWO: Final = 2
_KEY: Final = re.compile(r"nodelist\.node\.(\d+)\.(nodeid|name|ring(\d+)_addr)")


@dataclass(frozen=True, slots=True)
class Configuration:
    """What cmap says of the cluster.

    Attributes:
        cluster: its name; empty if it has none.
        nodes: the configured nodes, by number.
        two_node: corosync grants quorum to either of two nodes alone.
        notes: what an operator should know, a sentence each.
        unresolved: host names that stand in the way of a node's address. They are worth asking for again.
    """

    cluster: str
    nodes: tuple[ConfiguredNode, ...]
    two_node: bool
    notes: tuple[str, ...]
    unresolved: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class _Entry:
    position: int
    number: int
    name: str
    addresses: tuple[str, ...]


def host_names(keys: Mapping[str, Value]) -> frozenset[str]:
    """The host names that have to be asked for: those of nodes without a literal IPv4 address."""
    entries = (e for e in _entries(keys) if not any(map(_is_ipv4, e.addresses)))
    return frozenset(a for e in entries for a in e.addresses if _is_host_name(a))


def read(keys: Mapping[str, Value], local: int, host: str, resolved: Mapping[str, str]) -> Configuration:
    """The configuration that is in these keys.

    Args:
        keys: keys and values of cmap.
        local: this node's number.
        host: this node's host name.
        resolved: IPv4 addresses of host names.
    """
    notes: list[str] = []
    unresolved: set[str] = set()
    nodes: dict[int, ConfiguredNode] = {}
    for entry in _entries(keys):
        node = ConfiguredNode(entry.number, _name(entry, local, host), _address(entry, resolved))
        if (other := nodes.setdefault(entry.number, node)) is not node:
            notes.append(
                f"two entries of the nodelist have nodeid {entry.number}, {other.name} and {node.name}: the second is "
                "ignored; give each its own nodeid"
            )
            continue
        unknown = [] if _is_ipv4(node.address) else [a for a in entry.addresses if _is_host_name(a)]
        unresolved.update(unknown)
        notes.extend((*_name_notes(entry, node, local, host), *_address_notes(entry, node, unknown)))
    found = tuple(nodes[number] for number in sorted(nodes))
    cluster = keys.get("totem.cluster_name", "")
    if not cluster:
        notes.append("corosync.conf has no cluster_name: write one of 1 to 16 bytes in its totem section on all nodes")
    notes.extend(_common_notes(found, local))
    flag = keys.get("runtime.votequorum.two_node", keys.get("quorum.two_node", 0))
    return Configuration(
        cluster=cluster if isinstance(cluster, str) else "",
        nodes=found,
        two_node=flag == 1 and len(found) in (0, TWO),
        notes=tuple(notes),
        unresolved=frozenset(unresolved),
    )


def seated(keys: Mapping[str, Value], local: int) -> bool:
    """Whether this node has a place in a group: the nodes with the lowest numbers have one."""
    return local in sorted({e.number for e in _entries(keys)} | {local})[:SEATS]


def _entries(keys: Mapping[str, Value]) -> list[_Entry]:
    """The nodelist's entries, by position. One without a usable nodeid has number 0, which nobody can hold."""
    found: dict[int, dict[str, Value]] = {}
    for key, value in keys.items():
        if (match := _KEY.fullmatch(key)) is not None:
            found.setdefault(int(match[1]), {})[match[2]] = value
    entries = []
    for position, values in sorted(found.items()):
        number, name = values.get("nodeid", 0), values.get("name", "")
        rings = sorted((int(key[4:-5]), value) for key, value in values.items() if key.startswith("ring"))
        entries.append(
            _Entry(
                position,
                number if isinstance(number, int) else 0,
                name if isinstance(name, str) else "",
                tuple(value for _, value in rings if isinstance(value, str)),
            )
        )
    return entries


def _name(entry: _Entry, local: int, host: str) -> str:
    if entry.name:
        return entry.name
    return host if entry.number == local and host else f"node{entry.number}"


def _address(entry: _Entry, resolved: Mapping[str, str]) -> str:
    literal = (a for a in entry.addresses if _is_ipv4(a))
    asked = (resolved[a] for a in entry.addresses if a in resolved)
    return next(literal, None) or next(asked, None) or next(iter(entry.addresses), "")


def _name_notes(entry: _Entry, node: ConfiguredNode, local: int, host: str) -> Iterator[str]:
    if not entry.name:
        source = "its host name" if node.name == host else "its number"
        yield (
            f"node {node.number} has no name in corosync.conf and is called {node.name} after {source}; other nodes "
            f"may call it otherwise: write name: in its node section on all nodes"
        )
    elif entry.number == local and host and not _alike(entry.name, host):
        yield (
            f"this node is called {entry.name} in corosync.conf, and its host name is {host}: tools that go by the "
            "host name will not find it; make the two equal"
        )


def _address_notes(entry: _Entry, node: ConfiguredNode, unknown: list[str]) -> Iterator[str]:
    first = entry.addresses[0] if entry.addresses else "nothing"
    if _is_ipv4(node.address) and node.address != first and not _is_host_name(first):
        yield f"node {node.name}: ring0_addr says {first}, so OCFS2 uses its other link, {node.address}"
    if unknown:
        yield (
            f"node {node.name}: no IPv4 address was found for {' or '.join(unknown)}; write addresses in "
            "corosync.conf, or the names in /etc/hosts of all nodes"
        )


def _common_notes(nodes: tuple[ConfiguredNode, ...], local: int) -> list[str]:
    notes = []
    if not nodes:
        notes.append("corosync.conf has no nodelist: no node can be made; write one, with name and ring0_addr of each")
    elif local not in {n.number for n in nodes}:
        notes.append(
            f"this node, number {local}, is not in the nodelist of its own corosync: the others will drop it, or have"
        )
    notes.extend(
        f"{count} nodes are called {name}: give each its own name"
        for name, count in sorted(Counter(n.name for n in nodes).items())
        if count > 1
    )
    if beyond := nodes[SEATS:]:
        names = ", ".join(n.name for n in beyond)
        notes.append(
            f"a corosync group holds {SEATS} members and {len(nodes)} nodes are configured: {names} cannot mount OCFS2"
        )
    return notes


def _alike(name: str, host: str) -> bool:
    """Whether a node's name is its host's: whole, or up to the first dot of one of them."""
    return name == host or name == host.split(".", 1)[0] or name.split(".", 1)[0] == host


def _is_ipv4(address: str) -> bool:
    try:
        IPv4Address(address)
    except AddressValueError:
        return False
    return True


def _is_host_name(address: str) -> bool:
    """Whether this is something to ask a resolver for: no address of either kind."""
    if not address or _is_ipv4(address):
        return False
    try:
        IPv6Address(address)
    except AddressValueError:
        return ":" not in address
    return False
