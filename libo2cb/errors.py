"""All that libo2cb raises: the o2cb error table, and the kernel's refusals.

Each error knows its subject, why it happened and what to do; `sentence()` joins them, and the chain of causes below,
to one line for an operator:

    node db3 cannot be removed yet: filesystem A1B2 still links it; waiting 4.2 s for fencing

What the kernel refuses is a KernelRefusal: its errno is an answer that callers decide on, and EBUSY has a name, Pinned.
"""

import errno as errnos
from enum import Enum
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
    "describe_code",
    "from_code",
    "table_entry",
]


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
