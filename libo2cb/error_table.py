"""The o2cb error table as exceptions, and the sentence that a chain of them makes.

Codes and texts are those of com_err's table "o2cb", base -1485349888; tools print the texts, and some clients send the
codes as the number of their MRESULT. Import from libo2cb.errors.
"""

import errno as errnos
import os
from collections.abc import Iterator

from libo2cb.wording import errno_words, one_line, shown

BASE = -1485349888
"""Code of the first entry of the table "o2cb"."""

O2DLM_BASE = -1485330944
"""Code of the first entry of the table "o2dlm"; fsck, tunefs and mkfs send such codes as the number of an MRESULT."""

COM_ERR_TABLE = 256
"""Codes that one com_err table may hold."""

_TABLE: dict[int, "type[O2cbError]"] = {}


class O2cbError(Exception):
    """An entry of the o2cb error table, said of something.

    Args:
        subject: what it is said of: "node n3".
        says: what is the matter with it, as the subject's predicate ("cannot be removed yet"); the table's text if
            empty.
        why: the reason, a clause: "filesystem A1B2 still links it".
        do: what to do, a clause in the imperative: "unmount it first".
        cause: what led to this, when it is not raised from it. The sentence walks `__cause__`.

    Attributes:
        code: the com_err code.
        name: its name, "O2CB_ET_...".
        text: the table's text.
    """

    code: int = BASE + 4
    name: str = "O2CB_ET_INTERNAL_FAILURE"
    text: str = "Internal logic failure"

    def __init_subclass__(cls, *, number: int | None = None, name: str = "", text: str = "") -> None:
        """Enter a class with a number into the table; a class without one inherits its parent's entry."""
        super().__init_subclass__()
        if number is not None:
            cls.code, cls.name, cls.text = BASE + number, f"O2CB_ET_{name}", text
            _TABLE[cls.code] = cls

    def __init__(
        self, subject: str = "", *, says: str = "", why: str = "", do: str = "", cause: BaseException | None = None
    ) -> None:
        super().__init__(subject)
        self.subject = subject
        self.says = says
        self.why = why
        self.do = do
        if cause is not None:
            self.__cause__ = cause

    def head(self) -> str:
        """Subject and predicate, without reason and advice."""
        if self.says:
            return f"{self.subject} {self.says}".strip()
        if not self.subject:
            return self.text.rstrip(".")
        text = self.text.rstrip(".")
        return f"{self.subject}: {text if text[1:2] == '/' else text[:1].lower() + text[1:]}"

    def sentence(self) -> str:
        """One line: what failed, why down to the last cause, and what to do. Never with a newline."""
        reasons: list[str] = []
        advice: list[str] = []
        for error in _chain(self):
            if isinstance(error, O2cbError):
                clauses = [error.why] if error is self else [error.head(), error.why]
                advice.append(error.do)
            else:
                clauses = [_foreign(error, self.head())]
            reasons.extend(clauses)
        tail = "; ".join(dict.fromkeys(c for c in [*reasons, *advice] if c))
        return one_line(f"{self.head()}: {tail}" if tail else self.head())

    def __str__(self) -> str:
        return self.sentence()


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error and its causes, outermost first; a circle of causes ends where it closes."""
    seen: set[int] = set()
    at: BaseException | None = error
    while at is not None and id(at) not in seen:
        seen.add(id(at))
        yield at
        at = at.__cause__


def _foreign(error: BaseException, told: str) -> str:
    """What an exception of somebody else says, without Python's decoration, nor a name that was told already."""
    if isinstance(error, OSError) and error.errno is not None:
        names = [shown(n) for n in map(_name_text, (error.filename, error.filename2)) if n and shown(n) not in told]
        said = errno_words(error.errno)
        return f"{' -> '.join(names)}: {said}" if names else said
    return str(error) or type(error).__name__


def _name_text(name: object) -> str:
    return os.fsdecode(name) if isinstance(name, bytes) else "" if name is None else str(name)


class InvalidClusterName(O2cbError, number=0, name="INVALID_CLUSTER_NAME", text="Cluster name is invalid"):
    """The cluster's name cannot be used, or is another cluster's."""


class NoMemory(O2cbError, number=1, name="NO_MEMORY", text="Memory allocation failed"):
    """ENOMEM."""


class IoError(O2cbError, number=2, name="IO", text="I/O error on channel"):
    """A connection, device or attribute broke while it was read or written."""


class ServiceUnavailable(O2cbError, number=3, name="SERVICE_UNAVAILABLE", text="Unable to access cluster service"):
    """A daemon does not run, or a file system of the kernel is not there."""


class InternalFailure(O2cbError, number=4, name="INTERNAL_FAILURE", text="Internal logic failure"):
    """What nobody foresaw."""


class PermissionDenied(
    O2cbError, number=5, name="PERMISSION_DENIED", text="Insufficient permissions to access cluster service"
):
    """EACCES, EPERM, EROFS; or the other side of a socket is not root."""


class ClusterExists(O2cbError, number=6, name="CLUSTER_EXISTS", text="Cluster already exists"):
    """A cluster of this name stands."""


class NodeExists(O2cbError, number=7, name="NODE_EXISTS", text="Node already exists"):
    """A node of this name, or its link, stands."""


class RegionExists(O2cbError, number=8, name="REGION_EXISTS", text="Heartbeat region already exists"):
    """A region of this name stands."""


class RegionInUse(O2cbError, number=9, name="REGION_IN_USE", text="Heartbeat region in use"):
    """A region holds links, or a node is held by one."""


class InvalidBlockSize(O2cbError, number=10, name="INVALID_BLOCK_SIZE", text="Block size is invalid"):
    """A block size that OCFS2 does not have."""


class InvalidBlockCount(O2cbError, number=11, name="INVALID_BLOCK_COUNT", text="Block count is invalid"):
    """A count of blocks that a region cannot have."""


class HostnameUnknown(O2cbError, number=12, name="HOSTNAME_UNKNOWN", text="Could not determine local host name"):
    """This node does not know its own name."""


class ConfigurationError(O2cbError, number=13, name="CONFIGURATION_ERROR", text="Configuration error discovered"):
    """A setting, or what a daemon refuses on the strength of one."""


class InvalidNodeNum(O2cbError, number=14, name="INVALID_NODE_NUM", text="Node number is invalid"):
    """A node number that o2cb cannot hold."""


class ModuleNotLoaded(O2cbError, number=15, name="MODULE_NOT_LOADED", text="Node manager kernel module is not loaded"):
    """ocfs2_nodemanager is missing."""


class BadSem(O2cbError, number=16, name="BAD_SEM", text="Could not access heartbeat region semaphore set"):
    """The reference count of a region cannot be used."""


class NoSem(O2cbError, number=17, name="NO_SEM", text="Region semaphore set destroyed"):
    """The reference count of a region went away meanwhile."""


class BadVersion(O2cbError, number=18, name="BAD_VERSION", text="Revision of OCFS2-Tools is out of date."):
    """The kernel's interface is newer than we know."""


class InvalidStackName(O2cbError, number=19, name="INVALID_STACK_NAME", text="Cluster stack is invalid"):
    """A cluster stack that does not exist, or is not the running one."""


class UnknownRegion(O2cbError, number=20, name="UNKNOWN_REGION", text="Heartbeat region could not be found"):
    """No such region."""


class InvalidHeartbeatMode(O2cbError, number=21, name="INVALID_HEARTBEAT_MODE", text="Heartbeat mode is invalid"):
    """Neither local nor global, or not the running one."""


def from_code(code: int) -> type[O2cbError]:
    """The class of a code of the table.

    Raises:
        ValueError: the code is not in the table.
    """
    try:
        return _TABLE[code]
    except KeyError:
        raise ValueError(f"{code} is no code of the o2cb error table ({BASE} to {max(_TABLE)})") from None


def describe_code(code: int) -> str:
    """Words for the number of an MRESULT or STATUS: 0, an errno, or a com_err code of the tables o2cb and o2dlm."""
    if code == 0:
        return "success"
    if code in _TABLE:
        return _TABLE[code].text.rstrip(".")
    if O2DLM_BASE <= code < O2DLM_BASE + COM_ERR_TABLE:
        return f"o2dlm error {code - O2DLM_BASE}"
    return errno_words(code) if code in errnos.errorcode else f"error {code}"
