"""A client's side of the mount protocol: join a filesystem's group, tell how the mount went, leave.

    join = begin_group_join(uuid, "demo", "/dev/vdb")     # MOUNT; may wait as long as the daemon does, 300 s
    ... mount(2) ...
    join.complete(0)                                      # MRESULT, on the same connection

    group_leave(uuid)                                     # UNMOUNT, on a connection of its own

Unlike with the libo2cb of ocfs2-tools several joins may be open at once, an error carries the daemon's own sentence,
the answer to MRESULT counts, a wait can show progress and be given up, and the server must be somebody we trust.

Blocking, for programs that a person or the kernel runs. A program with a loop of its own uses GroupJoin directly: watch
`fileno()`, and call `receive()` when it is readable.
"""

import errno as errnos
from collections.abc import Callable
from enum import Enum
from types import TracebackType
from typing import Self

from libo2cb.connection import ROOT_ONLY, Connection, Waiting
from libo2cb.errors import ConfigurationError, InternalFailure, IoError, O2cbError, ServiceUnavailable, describe_code
from libo2cb.wording import shown
from protocol import client
from protocol.framing import BadMessage, TextTooLong

CLIENT_SOCKET = "@ocfs2_controld_sock"
FSTYPE = "ocfs2"
ANSWER_TIMEOUT = 60.0
"""Seconds for what a daemon answers at once: MRESULT and UNMOUNT."""


class DaemonRefused(ConfigurationError):
    """The daemon answered with an error.

    Attributes:
        status: its code, as a rule a positive errno; never 0.
        said: its own sentence.
    """

    def __init__(self, subject: str, says: str, status: int, said: str) -> None:
        super().__init__(subject, says=f"{says} ({describe_code(status)})", why=said)
        self.args = (subject, says, status, said)
        self.status = status
        self.said = said


class JoinState(Enum):
    """How far a join is."""

    ASKED = "asked"
    JOINED = "joined"
    OVER = "over"


class GroupJoin:
    """One join of a filesystem's group, from MOUNT to MRESULT. Making it connects and sends MOUNT.

    Left without `complete`, by `close` or by death, the join is resolved by the daemon: it asks the kernel whether the
    filesystem is mounted.

    Args:
        uuid: the volume's UUID, 32 hexadecimal digits.
        cluster: the cluster that the volume names.
        device: path of the volume; only with the service "ocfs2" it may hold a blank.
        service: "ocfs2" for a mount; a tool's name, or any text, for other uses of the volume.
        socket_name: the daemon's socket.
        trusted_uids: who may be the server.

    Attributes:
        state: how far it is.
        already: once joined, whether this node was in the group before: go on and mount all the same.
        said: once joined, the daemon's words.

    Raises:
        O2cbError: MOUNT cannot be written or sent; see Connection.
    """

    def __init__(
        self,
        uuid: str,
        cluster: str,
        device: str,
        service: str = FSTYPE,
        *,
        socket_name: str = CLIENT_SOCKET,
        trusted_uids: frozenset[int] = ROOT_ONLY,
    ) -> None:
        self.uuid = uuid
        self.service = service
        self.state = JoinState.ASKED
        self.already = False
        self.said = ""
        record = _encode(client.Mount(FSTYPE, uuid, cluster, device, service), uuid)
        self._connection = Connection(socket_name, trusted_uids)
        try:
            self._connection.send(record)
        except BaseException:
            self.close()
            raise

    def fileno(self) -> int:
        """The connection's descriptor: readable when the answer is there. -1 once closed."""
        return self._connection.fileno()

    def receive(self) -> bool:
        """Take in what came; never waits.

        Returns:
            Whether the node has joined.

        Raises:
            DaemonRefused: the daemon says no. The join is over then, as with any other error.
            IoError, InternalFailure: the connection broke, or something else came than an answer.
        """
        return self._step(self._connection.receive)

    def wait(self, waiting: Waiting | None = None, every: float = 1.0, timeout: float | None = None) -> None:
        """Wait until the node has joined.

        Args:
            waiting: called each time that `every` seconds passed, with the seconds so far.
            every: seconds.
            timeout: seconds; None for as long as the daemon's own deadline.

        Raises:
            O2cbError: see receive; IoError also when the time is over. The connection is closed then, and the daemon
                undoes what it began.
        """
        what = f"the join of filesystem {shown(self.uuid)}"
        self._step(lambda: self._connection.wait(what, timeout, waiting, every))

    def _step(self, next_message: Callable[[], client.ClientMessage | None]) -> bool:
        if self.state is JoinState.ASKED:
            try:
                message = next_message()
                if message is not None:
                    self._answered(message)
            except BaseException:
                self.close()
                raise
        if self.state is JoinState.OVER:
            raise _over(self.uuid)
        return self.state is JoinState.JOINED

    def _answered(self, message: client.ClientMessage) -> None:
        subject = f"filesystem {shown(self.uuid)}"
        status = _status(message)
        if status.code not in {0, errnos.EALREADY}:
            raise DaemonRefused(subject, "was not joined", status.code, status.text)
        self._connection.idle()
        self.state = JoinState.JOINED
        self.already = status.code == errnos.EALREADY
        self.said = status.text

    def complete(self, result: int, timeout: float | None = ANSWER_TIMEOUT) -> None:
        """Tell the daemon how the mount went, and close.

        Args:
            result: 0, or the mount's errno, or a com_err code.
            timeout: seconds for the answer.

        Raises:
            ServiceUnavailable: there is no join to complete.
            DaemonRefused: the daemon did not take it.
            IoError, InternalFailure: the connection broke, or something else came than an answer. A mount that worked
                stands all the same: the daemon learns it from the kernel.
        """
        if self.state is not JoinState.JOINED:
            raise _over(self.uuid)
        try:
            record = _encode(client.MountResult(FSTYPE, self.uuid, result, self.service), self.uuid)
            self._connection.idle()
            self._connection.send(record)
            what = f"the result of mounting filesystem {shown(self.uuid)}"
            status = _status(self._connection.wait(what, timeout))
            if status.code:
                subject = f"the mount's result ({describe_code(result)}) for filesystem {shown(self.uuid)}"
                raise DaemonRefused(subject, "was not taken", status.code, status.text)
        finally:
            self.close()

    def close(self) -> None:
        """Give it up, or be done with it. May be called twice."""
        self.state = JoinState.OVER
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def begin_group_join(
    uuid: str,
    cluster: str,
    device: str,
    service: str = FSTYPE,
    *,
    socket_name: str = CLIENT_SOCKET,
    trusted_uids: frozenset[int] = ROOT_ONLY,
    waiting: Waiting | None = None,
    every: float = 1.0,
    timeout: float | None = None,
) -> GroupJoin:
    """Ask the daemon to join the group, and wait until this node may mount. Arguments as for GroupJoin and its wait.

    Raises:
        O2cbError: it may not mount. Nothing is left behind: the connection is closed, and the daemon undoes the join.
    """
    join = GroupJoin(uuid, cluster, device, service, socket_name=socket_name, trusted_uids=trusted_uids)
    join.wait(waiting, every, timeout)
    return join


def complete_group_join(join: GroupJoin, result: int) -> None:
    """Tell how the mount went; see GroupJoin.complete."""
    join.complete(result)


def group_leave(
    uuid: str,
    service: str = FSTYPE,
    *,
    socket_name: str = CLIENT_SOCKET,
    trusted_uids: frozenset[int] = ROOT_ONLY,
    timeout: float | None = ANSWER_TIMEOUT,
) -> str:
    """Tell the daemon that a service of the filesystem ends.

    Returns:
        The daemon's words.

    Raises:
        DaemonRefused: the daemon says no.
        O2cbError: it could not be asked, or did not answer.
    """
    record = _encode(client.Unmount(FSTYPE, uuid, service), uuid)
    connection = Connection(socket_name, trusted_uids)
    try:
        connection.send(record)
        status = _status(connection.wait(f"the leave of filesystem {shown(uuid)}", timeout))
        if status.code:
            raise DaemonRefused(f"filesystem {shown(uuid)}", "was not left", status.code, status.text)
        return status.text
    finally:
        connection.close()


def _encode(message: client.ClientMessage, uuid: str) -> bytes:
    try:
        return client.encode(message)
    except (BadMessage, TextTooLong) as error:
        raise IoError(
            f"{message.word} of filesystem {shown(uuid)}", says="cannot be sent", do="use a short path without blanks"
        ) from error


def _status(message: client.ClientMessage) -> client.Status:
    if isinstance(message, client.Status):
        return message
    raise InternalFailure("ocfs2_controld", says=f"answered {message.word} where STATUS was due")


def _over(uuid: str) -> O2cbError:
    return ServiceUnavailable(f"filesystem {shown(uuid)}", says="has no open join here", do="begin one first")
