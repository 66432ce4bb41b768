"""All that libo2cb raises: the o2cb error table, the kernel's refusals, and refusals of names and nodes.

Each error knows its subject, why it happened and what to do; `sentence()` joins them, and the chain of causes below,
to one line for an operator:

    node db3 cannot be removed yet: filesystem A1B2 still links it; waiting 4.2 s for fencing

What the kernel refuses is a KernelRefusal: its errno is an answer that callers decide on, and EBUSY has a name, Pinned.
"""

import errno as errnos
from collections.abc import Iterable
from enum import Enum
from ipaddress import IPv4Address
from typing import Self

from libo2cb.error_table import (
    BASE,
    BadSem,
    BadVersion,
    ClusterExists,
    ConfigurationError,
    HostnameUnknown,
    InternalFailure,
    InvalidBlockCount,
    InvalidBlockSize,
    InvalidClusterName,
    InvalidHeartbeatMode,
    InvalidNodeNum,
    InvalidStackName,
    IoError,
    ModuleNotLoaded,
    NodeExists,
    NoMemory,
    NoSem,
    O2cbError,
    PermissionDenied,
    RegionExists,
    RegionInUse,
    ServiceUnavailable,
    UnknownRegion,
    describe_code,
    from_code,
)
from libo2cb.wording import errno_name, errno_words, shown
from protocol.identity import NodeIdentity

__all__ = [
    "BASE",
    "AlreadyThere",
    "BadSem",
    "BadValue",
    "BadVersion",
    "ClusterExists",
    "ConfigurationError",
    "HostnameUnknown",
    "InternalFailure",
    "InvalidBlockCount",
    "InvalidBlockSize",
    "InvalidClusterName",
    "InvalidHeartbeatMode",
    "InvalidNodeNum",
    "InvalidStackName",
    "IoError",
    "KernelRefusal",
    "Kind",
    "ModuleNotLoaded",
    "NameTooLong",
    "NoMemory",
    "NoRoom",
    "NoSem",
    "NodeExists",
    "NotAllowed",
    "NotEmpty",
    "NotThere",
    "O2cbError",
    "PermissionDenied",
    "Pinned",
    "RegionExists",
    "RegionInUse",
    "ServiceUnavailable",
    "UnknownRegion",
    "check_cluster_name",
    "check_identities",
    "check_identity",
    "describe_code",
    "from_code",
    "table_entry",
]

FIRST_NODE = 1
LAST_NODE = 254
LAST_PORT = 65534
NODE_NAME_BYTES = 64
CLUSTER_NAME_BYTES = 16


class Kind(Enum):
    """What a call to the kernel was about; it decides which entry of the table an errno stands for."""

    CLUSTER = "cluster"
    NODE = "node"
    REGION = "region"
    LINK = "link"
    ATTRIBUTE = "attribute"
    OTHER = "other"


_EXISTS: dict[Kind, type[O2cbError]] = {
    Kind.CLUSTER: ClusterExists,
    Kind.NODE: NodeExists,
    Kind.REGION: RegionExists,
    Kind.LINK: NodeExists,
}


def table_entry(errno: int, kind: Kind = Kind.OTHER) -> type[O2cbError]:
    """Which entry of the table an errno of the kernel stands for.

    EBUSY is an answer and never "internal failure": whatever is pinned is pinned by a region in use.
    """
    if errno == errnos.EEXIST:
        return _EXISTS.get(kind, InternalFailure)
    if errno == errnos.EBUSY or (errno == errnos.ENOTEMPTY and kind is Kind.REGION):
        return RegionInUse
    if errno == errnos.EISDIR and kind is not Kind.ATTRIBUTE:
        return InternalFailure
    return {
        errnos.EACCES: PermissionDenied,
        errnos.EPERM: PermissionDenied,
        errnos.EROFS: PermissionDenied,
        errnos.ENOMEM: NoMemory,
        errnos.ENOTDIR: ServiceUnavailable,
        errnos.ENOENT: ServiceUnavailable,
        errnos.EISDIR: ServiceUnavailable,
        errnos.EIO: IoError,
    }.get(errno, InternalFailure)


class KernelRefusal(O2cbError):
    """The kernel said no, and its errno is the answer.

    KernelRefusal(...) makes the subclass that the errno has, if any: `except Pinned` catches every EBUSY.

    Args:
        call: the system call: "rmdir".
        subject: what it was done to: a path, or "node n3".
        errno: the answer, positive.
        kind: what it was about.
        why: the reason, where it is known better than by errno.
        do: what to do.
        cause: the OSError, when it is not raised from it.

    Attributes:
        code: code of the entry of the table that the errno stands for; `name` and `text` likewise.
        stands_for: the class of that entry.
    """

    errnos: tuple[int, ...] = ()
    """The answers that this subclass names."""

    def __new__(cls, call: str, subject: str, errno: int, **_: object) -> Self:
        """The subclass that names the errno."""
        if cls is KernelRefusal:
            for named in cls.__subclasses__():
                if errno in named.errnos:
                    return super().__new__(named, call, subject, errno)
        return super().__new__(cls, call, subject, errno)

    def __init__(
        self,
        call: str,
        subject: str,
        errno: int,
        *,
        kind: Kind = Kind.OTHER,
        why: str = "",
        do: str = "",
        cause: BaseException | None = None,
    ) -> None:
        super().__init__(subject, why=why, do=do, cause=cause)
        if self.errnos and errno not in self.errnos:
            raise ValueError(f"{type(self).__name__} is not the name of {errno_name(errno)}")
        self.args = (call, subject, errno)
        self.call = call
        self.errno = errno
        self.kind = kind
        self.stands_for = table_entry(errno, kind)
        self.code, self.name, self.text = self.stands_for.code, self.stands_for.name, self.stands_for.text

    @classmethod
    def from_os(cls, call: str, subject: str, error: OSError, kind: Kind = Kind.OTHER) -> "KernelRefusal":
        """The refusal that an OSError carries; EIO when it carries none."""
        return cls(call, subject, error.errno or errnos.EIO, kind=kind, cause=None)

    def head(self) -> str:
        """What was tried, on what, and the errno."""
        return f"{self.call} {shown(self.subject, 200)}: {errno_words(self.errno)}"


class Pinned(KernelRefusal):
    """EBUSY: something in the kernel still holds it. It stays queued, and is tried again when the holder goes."""

    errnos = (errnos.EBUSY,)


class AlreadyThere(KernelRefusal):
    """EEXIST: it stands, or its number or address is another's."""

    errnos = (errnos.EEXIST,)


class NotThere(KernelRefusal):
    """ENOENT: it does not stand, or what it needs does not."""

    errnos = (errnos.ENOENT,)


class NotEmpty(KernelRefusal):
    """ENOTEMPTY: a cluster with nodes or regions, a region with links."""

    errnos = (errnos.ENOTEMPTY,)


class NotAllowed(KernelRefusal):
    """EPERM, EACCES, EROFS: not for us, or not on this kernel (links in a stock region)."""

    errnos = (errnos.EPERM, errnos.EACCES, errnos.EROFS)


class NoRoom(KernelRefusal):
    """ENOSPC: for a cluster, another cluster stands in the kernel."""

    errnos = (errnos.ENOSPC,)


class NameTooLong(KernelRefusal):
    """ENAMETOOLONG: more than 64 bytes for a node, 32 for a region."""

    errnos = (errnos.ENAMETOOLONG,)


class BadValue(KernelRefusal):
    """EINVAL, ERANGE: an attribute does not take this value, or not yet."""

    errnos = (errnos.EINVAL, errnos.ERANGE)


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
