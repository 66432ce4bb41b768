"""Asking a daemon over its socket: REPORT, and the words that get one STATUS.

Blocking, for programs that a person or the kernel runs. Every way in which a daemon can fail to answer becomes one
Unanswered, which says what happened and what to do: status prints it instead of the report.
"""

import os
import time
from typing import Final, TypeVar

from libo2cb.config import Config
from libo2cb.connection import Connection
from libo2cb.errors import IoError, O2cbError, ServiceUnavailable
from libo2cb.service.report import O2cbReport, Ocfs2Report, ReportError, parse
from protocol import client
from protocol.framing import RECORD

TIMEOUT: Final = 10.0
"""Seconds after which a daemon counts as silent: it answers REPORT always, also while the engine hangs."""
MAX_REPORT: Final = 64 << 20
"""Bytes of records read for one report; beyond that the server is no daemon of ours."""
START_IT: Final = "start it"

R = TypeVar("R", O2cbReport, Ocfs2Report)


class Unanswered(Exception):
    """A daemon did not answer, or not as one of ours.

    Attributes:
        daemon: its name.
        why: what happened, as a clause.
        do: what to do about it; START_IT when nobody listens.
    """

    def __init__(self, daemon: str, why: str, do: str) -> None:
        super().__init__(f"{daemon} does not answer: {why}; {do}")
        self.daemon = daemon
        self.why = why
        self.do = do

    @classmethod
    def from_error(cls, daemon: str, error: O2cbError, begun: float, timeout: float) -> "Unanswered":
        """The same said of a daemon whose connection failed; begun is the monotonic time of the question."""
        if isinstance(error, IoError) and time.monotonic() - begun >= timeout:
            return cls(daemon, f"it was silent for {timeout:g} s", "look into its log: it may hang")
        why = f"{error.head()}: {error.why}" if error.why else error.head()
        return cls(daemon, why, START_IT if isinstance(error, ServiceUnavailable) else error.do or "look into its log")


def server_uids(config: Config) -> frozenset[int]:
    """Who may hold the daemons' sockets: root; in the sandbox also whoever we are (law 14)."""
    return frozenset({0, os.geteuid()}) if config.kernel.driver == "sandbox" else frozenset({0})


def ask_report(
    kind: type[R], name: str, uids: frozenset[int], timeout: float = TIMEOUT, *, max_bytes: int = MAX_REPORT
) -> R:
    """A daemon's report.

    Args:
        kind: O2cbReport or Ocfs2Report; it also names the daemon.
        name: its socket.
        uids: see `server_uids`.
        timeout: seconds for the whole.
        max_bytes: of the answer.

    Raises:
        Unanswered: it gave none that we can read.
    """
    daemon = str(kind.model_fields["daemon"].default)
    begun = time.monotonic()
    try:
        with Connection(name, uids, daemon=daemon) as connection:
            return parse(_document(connection, timeout, max_bytes), kind)
    except O2cbError as error:
        raise Unanswered.from_error(daemon, error, begun, timeout) from error
    except _EndlessError as error:
        raise Unanswered(daemon, "its report has no end", "look whose socket that is") from error
    except (client.ListError, ReportError) as error:
        raise Unanswered(daemon, str(error), "see that tools and daemons are of one version") from error


class _EndlessError(Exception):
    """More came than any report can be."""


def _document(connection: Connection, timeout: float, max_bytes: int) -> str:
    reader = client.ListReader()
    deadline = time.monotonic() + timeout
    connection.send(client.encode(client.Report()))
    for _ in range(max_bytes // RECORD):
        message = connection.wait("REPORT", max(0.0, deadline - time.monotonic()))
        items = reader.feed(message)
        if items is not None:
            return "".join(items)
    raise _EndlessError


def ask(
    daemon: str, name: str, uids: frozenset[int], message: client.ClientMessage, timeout: float = TIMEOUT
) -> client.Status:
    """The STATUS that answers one message.

    Raises:
        Unanswered: none came.
        BadMessage: the message cannot travel.
    """
    record = client.encode(message)
    begun = time.monotonic()
    try:
        with Connection(name, uids, daemon=daemon) as connection:
            connection.send(record)
            answer = connection.wait(message.word, timeout)
    except O2cbError as error:
        raise Unanswered.from_error(daemon, error, begun, timeout) from error
    if not isinstance(answer, client.Status):
        raise Unanswered(daemon, f"it answered {answer.word} where STATUS was due", "look whose socket that is")
    return answer
