"""What a cluster or a node must be like to stand in the kernel's tree: numbers, names, addresses, ports."""

from collections.abc import Iterable
from ipaddress import IPv4Address

from libo2cb.errors import ConfigurationError, InvalidClusterName, InvalidNodeNum
from libo2cb.wording import shown
from protocol.identity import NodeIdentity

FIRST_NODE = 1
LAST_NODE = 254
LAST_PORT = 65534
NODE_NAME_BYTES = 64
CLUSTER_NAME_BYTES = 16


def _bad_name(name: str, limit: int) -> str:
    """Why a name cannot be a directory of the tree; empty if it can."""
    try:
        size = len(name.encode("utf-8", "surrogateescape"))
    except UnicodeEncodeError:
        return "its name cannot be written as bytes"
    if size == 0:
        return "its name is empty"
    if size > limit:
        return f"its name has {size} bytes, and {limit} is the limit"
    if name in {".", ".."}:
        return f'"{name}" is no name for a directory'
    for char, word in (("/", "a slash"), ("\0", "a NUL byte"), ("\n", "a newline")):
        if char in name:
            return f"its name holds {word}"
    return ""


def check_cluster_name(name: str) -> None:
    """Refuse a cluster name that a volume or a MOUNT could not carry.

    1 to 16 bytes in UTF-8, as a superblock holds it; no slash, NUL, newline, and no blank, for the cluster is not the
    last word of MOUNT.

    Raises:
        InvalidClusterName: says what is wrong.
    """
    why = _bad_name(name, CLUSTER_NAME_BYTES)
    if not why and " " in name:
        why = "its name holds a blank, which would shift the words of MOUNT"
    if why:
        raise InvalidClusterName(
            f'cluster "{shown(name)}"',
            says="cannot be used",
            why=why,
            do="give the cluster a name of 1 to 16 bytes without blanks and slashes",
        )


def check_identity(identity: NodeIdentity) -> None:
    """Refuse a node that the node tree cannot hold, naming the node.

    Raises:
        InvalidNodeNum: the number is not 1 to 254.
        ConfigurationError: name, address or port cannot be used.
    """
    subject = f'node "{shown(identity.name)}" (number {identity.number})'
    says = "cannot be held by o2cb"
    if not FIRST_NODE <= identity.number <= LAST_NODE:
        zero = "number 0 cannot be told from one that is not set"
        beyond = f"{identity.number} is outside {FIRST_NODE} to {LAST_NODE}"
        raise InvalidNodeNum(
            subject,
            says=says,
            why=zero if identity.number == 0 else beyond,
            do=f"give it a number from {FIRST_NODE} to {LAST_NODE} in the engine's configuration",
        )
    if why := _bad_name(identity.name, NODE_NAME_BYTES):
        raise ConfigurationError(
            subject, says=says, why=why, do=f"give it a name of 1 to {NODE_NAME_BYTES} bytes without a slash"
        )
    if why := _bad_address(identity.address):
        raise ConfigurationError(subject, says=says, why=why, do="give it a dotted IPv4 address such as 10.0.0.3")
    if not 1 <= identity.port <= LAST_PORT:
        raise ConfigurationError(
            subject, says=says, why=f"port {identity.port} is outside 1 to {LAST_PORT}", do="set cluster.port"
        )


def _bad_address(address: str) -> str:
    """Why an address cannot be a node's; empty if it can."""
    if ":" in address:
        return f"{shown(address)} is IPv6 or carries a port, and the node tree holds IPv4 only"
    try:
        IPv4Address(address)
    except ValueError:
        return f'"{shown(address)}" is no dotted IPv4 address'
    return "address 0.0.0.0 cannot be told from one that is not set" if address == "0.0.0.0" else ""  # noqa: S104 (refused)


def check_identities(identities: Iterable[NodeIdentity]) -> None:
    """Refuse a set of nodes that cannot stand in one tree together: each by check_identity, and no two alike.

    Raises:
        InvalidNodeNum: a number cannot be used.
        ConfigurationError: something else cannot be used, or two nodes share a number, a name, or an address with port.
    """
    seen: dict[object, NodeIdentity] = {}
    for identity in identities:
        check_identity(identity)
        endpoint = f"{identity.address}:{identity.port}"
        for what, value in (("number", identity.number), ("name", identity.name), ("address", endpoint)):
            other = seen.setdefault((what, value), identity)
            if other is not identity:
                raise ConfigurationError(
                    f'nodes "{shown(other.name)}" and "{shown(identity.name)}"',
                    says="cannot stand together",
                    why=f"both have {what} {shown(str(value))}",
                    do=f"give each its own {what}",
                )
