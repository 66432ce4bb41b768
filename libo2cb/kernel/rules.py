"""What configfs's cluster tree takes and what it refuses: pure rules for the sandbox, errno for errno.

Measured on a real kernel, where the tests of tests/kernel run as well. A refusal is an OSError.

Paths are tuples of names below the cluster root:

    (C,)  (C, "node")  (C, "node", N)  (C, "node", N, attribute)
    (C, "heartbeat")  (C, "heartbeat", R)  (C, "heartbeat", R, attribute or link)
"""

import errno
import os
import re
from dataclasses import dataclass
from enum import Enum

NODE_NAME_BYTES = 64
REGION_NAME_BYTES = 32
NODE_NUMBERS = 255
PORT_BEYOND = 0xFFFF
UNSIGNED_BEYOND = 0xFFFFFFFF
LARGEST_OCTET = 255
MIN_DEAD_THRESHOLD = 2
VALUE_BYTES = 4095
"""More than a page is cut, as configfs does."""

NODE_DEFAULTS = {"num": b"0\n", "ipv4_address": b"0.0.0.0\n", "ipv4_port": b"0\n", "local": b"0\n"}
REGION_DEFAULTS = {"block_bytes": b"0\n", "start_block": b"0\n", "blocks": b"0\n", "dev": b"", "pid": b""}
CLUSTER_DEFAULTS = {
    "idle_timeout_ms": b"30000\n",
    "keepalive_delay_ms": b"2000\n",
    "reconnect_delay_ms": b"2000\n",
    "fence_method": b"reset\n",
}
HEARTBEAT_DEFAULTS = {"dead_threshold": b"31\n", "mode": b"local\n"}


class Place(Enum):
    """What a path stands for, by its place in the tree alone."""

    ROOT = "the tree itself"
    CLUSTER = "a cluster"
    GROUP = "node/ or heartbeat/"
    NODE = "a node"
    REGION = "a region"
    NODE_ATTRIBUTE = "an attribute of a node"
    IN_REGION = "a link in a region, or an attribute of it"
    ELSEWHERE = "an attribute of a cluster or of heartbeat/, or nothing"


def place(path: tuple[str, ...]) -> Place:
    """What the path stands for."""
    match path:
        case ():
            return Place.ROOT
        case (_,):
            return Place.CLUSTER
        case (_, "node" | "heartbeat"):
            return Place.GROUP
        case (_, "node", _):
            return Place.NODE
        case (_, "heartbeat", name) if name not in HEARTBEAT_DEFAULTS:
            return Place.REGION
        case (_, "node", _, _):
            return Place.NODE_ATTRIBUTE
        case (_, "heartbeat", _, _):
            return Place.IN_REGION
        case _:
            return Place.ELSEWHERE


def refuse(code: int) -> OSError:
    """The error of this errno."""
    return OSError(code, os.strerror(code))


def may_mkdir(path: tuple[str, ...], clusters: int) -> None:
    """Whether a directory may be made at a path where nothing stands, beside so many clusters."""
    size = len(os.fsencode(path[-1])) if path else 0
    match place(path):
        case Place.CLUSTER:
            if clusters:
                raise refuse(errno.ENOSPC)
        case Place.NODE:
            if size > NODE_NAME_BYTES:
                raise refuse(errno.ENAMETOOLONG)
        case Place.REGION:
            if size > REGION_NAME_BYTES:
                raise refuse(errno.ENAMETOOLONG)
        case _:
            raise refuse(errno.EPERM)


@dataclass(frozen=True, slots=True)
class NodeState:
    """The attributes of a node; None is one that was never written, which reads as 0."""

    number: int | None = None
    address: str | None = None
    port: int | None = None
    local: bool = False


@dataclass(frozen=True, slots=True)
class Host:
    """What a node's attributes are checked against.

    Attributes:
        others: the other nodes of the cluster.
        addresses: the addresses of this host; None when any will do.
    """

    others: tuple[NodeState, ...] = ()
    addresses: frozenset[str] | None = None


def number(text: bytes, base: int = 0) -> int:
    """A number as the kernel reads one: decimal, 0x or leading 0, one newline allowed, nothing else around it."""
    text = text.split(b"\0", 1)[0]
    if base:
        pattern = rb"()([0-9]+)"
    elif re.match(rb"0[xX][0-9a-fA-F]", text):
        pattern, base = rb"(0[xX])([0-9a-fA-F]+)", 16
    elif text.startswith(b"0"):
        pattern, base = rb"()([0-7]+)", 8
    else:
        pattern, base = rb"()([0-9]+)", 10
    found = re.match(pattern, text)
    if not found or text[found.end() :][:1] not in {b"", b"\n"}:
        raise refuse(errno.EINVAL)
    return int(found[2], base) % 2**64


def address(text: bytes) -> str:
    """An address as the kernel reads one: four numbers of up to three digits; whatever follows is not looked at."""
    found = re.match(rb"\s*([0-9]{1,3})\.\s*([0-9]{1,3})\.\s*([0-9]{1,3})\.\s*([0-9]{1,3})", text)
    if not found:
        raise refuse(errno.EINVAL)
    octets = [int(octet) for octet in found.groups()]
    if max(octets) > LARGEST_OCTET:
        raise refuse(errno.ERANGE)
    return ".".join(str(octet) for octet in octets)


def write_node(attribute: str, value: bytes, own: NodeState, host: Host) -> bytes:
    """The new content of a node's attribute.

    Raises:
        OSError: EINVAL, ERANGE, EEXIST, EBUSY or EADDRNOTAVAIL.
    """
    match attribute:
        case "num":
            return b"%d\n" % _node_number(value, own, host)
        case "ipv4_port":
            port = number(value)
            if port == 0:
                raise refuse(errno.EINVAL)
            if port >= PORT_BEYOND:
                raise refuse(errno.ERANGE)
            if own.port is not None:
                raise refuse(errno.EBUSY)
            return b"%d\n" % port
        case "ipv4_address":
            wanted = address(value)
            # The kernel's tree of addresses knows no ports: two nodes cannot share an address.
            if any(node.address == wanted for node in (own, *host.others)):
                raise refuse(errno.EEXIST)
            if own.address is not None:
                raise refuse(errno.EBUSY)
            return wanted.encode() + b"\n"
        case _:
            return b"%d\n" % _node_local(value, own, host)


def _node_number(value: bytes, own: NodeState, host: Host) -> int:
    wanted = number(value)
    if wanted >= NODE_NUMBERS:
        raise refuse(errno.ERANGE)
    if own.address is None or own.port is None:
        raise refuse(errno.EINVAL)
    if any(node.number == wanted for node in (own, *host.others)):
        raise refuse(errno.EEXIST)
    if own.number is not None:
        raise refuse(errno.EBUSY)
    return wanted


def _node_local(value: bytes, own: NodeState, host: Host) -> bool:
    wanted = number(value) != 0
    if own.address is None or own.port is None or own.number is None:
        raise refuse(errno.EINVAL)
    if wanted and any(node.local for node in host.others):
        raise refuse(errno.EBUSY)
    if wanted and not own.local and host.addresses is not None and own.address not in host.addresses:
        raise refuse(errno.EADDRNOTAVAIL)
    return wanted


def write_cluster(attribute: str, value: bytes, now: dict[str, bytes]) -> bytes:
    """The new content of a cluster's attribute, given the contents of all."""
    if attribute == "fence_method":
        if value.lower() not in {b"reset\n", b"panic\n"}:
            raise refuse(errno.EINVAL)
        return value.lower()
    wanted = number(value)
    if wanted == 0:
        raise refuse(errno.EINVAL)
    if wanted >= UNSIGNED_BEYOND:
        raise refuse(errno.ERANGE)
    if attribute == "idle_timeout_ms" and wanted <= int(now["keepalive_delay_ms"]):
        raise refuse(errno.EINVAL)
    if attribute == "keepalive_delay_ms" and wanted >= int(now["idle_timeout_ms"]):
        raise refuse(errno.EINVAL)
    return b"%d\n" % wanted


def write_heartbeat(attribute: str, value: bytes, now: bytes) -> bytes:
    """The new content of an attribute of heartbeat/; a dead_threshold that is too small is ignored, not refused."""
    if attribute == "mode":
        mode = value.removesuffix(b"\n").lower()
        if mode not in {b"local", b"global"}:
            raise refuse(errno.EINVAL)
        return mode + b"\n"
    threshold = number(value, 10) % 2**32
    return b"%d\n" % threshold if threshold > MIN_DEAD_THRESHOLD else now


def write_region(attribute: str, value: bytes) -> bytes:
    """The new content of a region's attribute. There is no disk heartbeat here: dev takes nothing."""
    if attribute == "pid":
        raise refuse(errno.EACCES)
    wanted = number(value)
    match attribute:
        case "block_bytes":
            right = wanted in {512, 1024, 2048, 4096}
        case "start_block":
            right = wanted != 0
        case "blocks":
            if wanted > LARGEST_OCTET:
                raise refuse(errno.ERANGE)
            right = wanted != 0
        case _:
            right = False
    if not right:
        raise refuse(errno.EINVAL)
    return b"%d\n" % wanted
