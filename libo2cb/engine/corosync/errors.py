"""The errors of corosync's libraries: the code, its meaning, and what to do."""

from typing import Final, NamedTuple

from libo2cb.errors import O2cbError

OK: Final = 1
LIBRARY: Final = 2
TRY_AGAIN: Final = 6
NOT_EXIST: Final = 12
NO_SPACE: Final = 15
NO_SECTIONS: Final = 27
"""An iteration over cmap has come to its end."""
AWAY: Final = frozenset({LIBRARY, 4, TRY_AGAIN})
"""What connecting says while corosync does not run, or is still starting."""


class _Meaning(NamedTuple):
    name: str
    why: str
    do: str = ""


_NEWER: Final = "compare the versions of the corosync libraries and of corosync itself"
_MEANINGS: Final[dict[int, _Meaning]] = {
    2: _Meaning("CS_ERR_LIBRARY", "corosync does not run, or has just ended", "start it: systemctl start corosync"),
    3: _Meaning("CS_ERR_VERSION", "the library and corosync are of versions that do not fit", _NEWER),
    4: _Meaning("CS_ERR_INIT", "corosync is still starting"),
    5: _Meaning("CS_ERR_TIMEOUT", "corosync did not answer in time"),
    6: _Meaning("CS_ERR_TRY_AGAIN", "corosync is busy: a new ring is being formed, or its queue is full"),
    7: _Meaning("CS_ERR_INVALID_PARAM", "corosync does not accept what was asked", _NEWER),
    8: _Meaning("CS_ERR_NO_MEMORY", "there is no memory left"),
    9: _Meaning("CS_ERR_BAD_HANDLE", "the connection is closed already"),
    10: _Meaning("CS_ERR_BUSY", "corosync refuses to do this now"),
    11: _Meaning(
        "CS_ERR_ACCESS",
        "corosync admits only root and the users in its uidgid.d",
        "run the daemon as root, or name its user in a file in /etc/corosync/uidgid.d",
    ),
    12: _Meaning("CS_ERR_NOT_EXIST", "there is no such thing in corosync"),
    13: _Meaning("CS_ERR_NAME_TOO_LONG", "the name has more bytes than corosync takes"),
    14: _Meaning("CS_ERR_EXIST", "this process is in the group already"),
    15: _Meaning(
        "CS_ERR_NO_SPACE",
        "there is no room in /dev/shm for the connection, which takes 3 MB of it",
        "make /dev/shm larger, or say qb_ipc_type: socket in the system section of corosync.conf",
    ),
    18: _Meaning("CS_ERR_NO_RESOURCES", "corosync has no descriptors or memory left for another connection"),
    19: _Meaning("CS_ERR_NOT_SUPPORTED", "this corosync cannot do that", _NEWER),
    20: _Meaning("CS_ERR_BAD_OPERATION", "corosync does not do this in its present state"),
    22: _Meaning("CS_ERR_MESSAGE_ERROR", "the message could not be read", _NEWER),
    26: _Meaning("CS_ERR_TOO_BIG", "the message is larger than corosync takes"),
    100: _Meaning("CS_ERR_SECURITY", "corosync does not trust this process"),
}


class CorosyncError(O2cbError):
    """A call of a corosync library failed.

    Args:
        call: the function: "cpg_join".
        error: the code that it returned.

    Attributes:
        call: the function.
        error: the code.
    """

    def __init__(self, call: str, error: int) -> None:
        meaning = _MEANINGS.get(error, _Meaning("an error of corosync", "corosync's own documentation names it"))
        super().__init__(call, says=f"failed with {meaning.name} ({error})", why=meaning.why, do=meaning.do)
        self.args = (call, error)
        self.call = call
        self.error = error


class LibraryMissing(O2cbError):
    """One of corosync's client libraries cannot be loaded.

    Args:
        library: its file: "libcpg.so.4".
        package: the Debian package that has it.
        why: what the loader said.
    """

    def __init__(self, library: str, package: str, why: str) -> None:
        super().__init__(
            library, says="cannot be loaded", why=why, do=f"install it: apt-get install {package} (Debian's name)"
        )
        self.args = (library, package, why)


class LibraryTooOld(O2cbError):
    """One of corosync's client libraries is of a version before 3.1: it has the same file name.

    Args:
        library: its file: "libquorum.so.5".
        function: what it does not have: "quorum_model_initialize".
    """

    def __init__(self, library: str, function: str) -> None:
        super().__init__(
            library, says="is too old", why=f"it has no {function}", do="install corosync 3.1 or later on all nodes"
        )
        self.args = (library, function)


class NoQuorumProvider(O2cbError):
    """Corosync runs without a quorum provider: it takes every ring for a quorum and tells of no membership."""

    def __init__(self) -> None:
        super().__init__(
            "corosync",
            says="has no quorum provider",
            why="without one each side of a cut would go on alone",
            do="write quorum { provider: corosync_votequorum } in corosync.conf on all nodes and restart corosync",
        )
        self.args = ()


class NoSeat(O2cbError):
    """This node is one too many for the channel.

    Args:
        node: this node's number.
        seats: how many nodes the channel holds.
    """

    def __init__(self, node: int, seats: int) -> None:
        super().__init__(
            f"node {node}",
            says="does not join the channel",
            why=f"a corosync group holds {seats} members, and {seats} configured nodes have lower numbers",
            do="take nodes out of the nodelist that do not mount OCFS2, or give this one a lower number",
        )
        self.args = (node, seats)
