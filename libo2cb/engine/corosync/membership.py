"""MembershipPort on corosync: quorum says who is here, cmap who is configured, cfg asks whether we may stop."""

import asyncio
import os
from collections.abc import Callable
from itertools import count
from typing import Final, TypeVar

from libo2cb.engine.corosync import nodelist
from libo2cb.engine.corosync.assembler import Assembler
from libo2cb.engine.corosync.errors import CorosyncError, NoQuorumProvider
from libo2cb.engine.corosync.handles import Cfg, Cmap, Quorum
from libo2cb.engine.corosync.libraries import libraries
from libo2cb.engine.corosync.nodelist import Configuration
from libo2cb.engine.corosync.process import ProcessEnd, shows_the_end
from libo2cb.engine.corosync.resolver import Resolver
from libo2cb.engine.corosync.said import SHUTDOWN_REQUEST, KeyChanged, NodeList, Quorate, Shutdown
from libo2cb.engine.corosync.session import Hear, Link, Session, Source
from libo2cb.engine.port import Configured, EngineDown, EngineUp, MembershipEvent, ShutdownAsked

H = TypeVar("H", Quorum, Cmap, Cfg)

MANY: Final = 100_000
"""More changes of keys than one reload makes."""
ASK_AGAIN: Final = 10.0
"""Seconds after which a host name is asked for again that nobody knew: a name server may start after this daemon."""


class CorosyncMembership:
    """MembershipPort of this node's corosync.

    Args:
        listener: name of this daemon, for its thread.
        enter: called first on each thread of the port: a lab enters the namespaces of a node there.

    Raises:
        LibraryMissing: a client library of corosync is not installed.
    """

    def __init__(self, listener: str, enter: Callable[[], None] | None = None) -> None:
        libraries()
        self._resolver = Resolver(enter)
        self._questions = count(1)
        self._link: _MembershipLink | None = None
        self._session: Session[MembershipEvent] = Session(
            f"corosync for {listener}", self._make_link, EngineDown, enter
        )

    async def start(self, sink: Callable[[MembershipEvent], None]) -> None:
        """Begin to deliver events to sink, from the running loop."""
        await self._session.start(sink)

    def answer_shutdown(self, question: int, allow: bool, reason: str) -> None:
        """Answer a ShutdownAsked. A late answer does nothing. corosync has no word for the reason."""
        del reason
        if self._link is not None:
            self._link.answer(question, allow=allow)

    def put_out(self, node: int, reason: str) -> None:
        """Ask corosync to put a node out. Never counts as fencing; best effort, never blocks."""
        if self._link is not None:
            self._link.put_out(node, reason)

    async def close(self) -> None:
        """Stop; nothing more is delivered. Ends within session.CLOSE_TIME, also when corosync hangs."""
        await self._session.close(leave=False)

    def _make_link(self) -> "_MembershipLink":
        self._link = _MembershipLink(self._session, self._resolver, self._questions)
        return self._link


class _MembershipLink(Link):
    """The connections of one life of corosync. cmap and cfg are the worker's while it makes a call on them."""

    _cfg: Cfg
    _cmap: Cmap
    _quorum: Quorum
    _configuration: Configuration

    def __init__(self, session: Session[MembershipEvent], resolver: Resolver, questions: "count[int]") -> None:
        self._session = session
        self._resolver = resolver
        self._questions = questions
        self._opened: list[Source] = []
        self._local = 0
        self._assembler = Assembler()
        self._question: int | None = None
        self._attached = False
        self._timer: asyncio.TimerHandle | None = None

    # on the worker

    def open(self) -> None:
        """Connect to all three services. The keys are tracked before they are read: no change is missed."""
        self._cfg = self._opening(Cfg.open())
        if not shows_the_end(self._cfg.fileno()):
            self._opened.append(ProcessEnd())
        self._local = self._cfg.local()
        self._cfg.track()
        self._cmap = self._opening(Cmap.open())
        for prefix in nodelist.TRACKED:
            self._cmap.track(prefix)
        self._quorum = self._opening(Quorum.open())
        if not self._quorum.provided:
            raise NoQuorumProvider
        self._configuration = self._read()
        while list(self._cmap.take(MANY)):  # it was read anew meanwhile: see _have_read
            self._configuration = self._read()
        self._quorum.track()

    def close(self, *, leave: bool) -> None:
        """Close what is open."""
        del leave
        while self._opened:
            self._opened.pop().finalize()

    def _opening(self, handle: H) -> H:
        self._opened.append(handle)
        return handle

    def _read(self) -> Configuration:
        keys = {key: value for prefix in nodelist.PREFIXES for key, value in self._cmap.read(prefix).items()}
        resolved = self._resolver.resolve(nodelist.host_names(keys))
        return nodelist.read(keys, self._local, os.uname().nodename, resolved)

    # on the loop

    def handles(self) -> tuple[tuple[Source, Hear], ...]:
        """All that is open."""
        hear: dict[Source, Hear] = {
            self._quorum: self._hear_quorum,
            self._cmap: self._hear_key,
            self._cfg: self._hear_shutdown,
        }
        return tuple((source, hear.get(source, _nobody)) for source in self._opened)

    def attached(self) -> None:
        """Say who we are."""
        self._attached = True
        now = self._configuration
        self._session.tell(EngineUp(now.cluster, self._local, now.nodes, now.two_node, now.notes))
        self._ask_again()

    def detached(self) -> None:
        """Nothing is asked or answered any more."""
        self._attached = False
        self._question = None
        self._ask_later(None)

    async def drained(self, patience: float) -> None:
        """Nothing is sent here."""

    def answer(self, question: int, *, allow: bool) -> None:
        """Answer the open question."""
        if question == self._question:
            self._question = None
            self._call_cfg(lambda: self._cfg.reply(allow=allow))

    def put_out(self, node: int, reason: str) -> None:
        """Ask for a node's end."""
        if self._attached:
            self._call_cfg(lambda: self._cfg.kill_node(node, reason))

    def _hear_quorum(self, said: NodeList | Quorate) -> None:
        if (event := self._assembler.hear(said)) is not None:
            self._session.tell(event)

    def _hear_shutdown(self, said: Shutdown) -> None:
        if said.flags == SHUTDOWN_REQUEST:
            self._question = next(self._questions)
            self._session.tell(ShutdownAsked(self._question))
        else:
            # corosync stops whatever is said, but waits five seconds for those who say nothing.
            self._call_cfg(lambda: self._cfg.reply(allow=True))
            self.farewell = "corosync was told to stop in any case (corosync-cfgtool -H --force), which asks nobody"

    def _hear_key(self, _: KeyChanged) -> None:
        """A reload tells of dozens of keys: they are read once, and again if more has changed while they were read."""
        self._read_anew()

    def _reread(self) -> None:
        """Read the configuration. cmap is paused until that is done, and nothing else begins to read it meanwhile."""
        self._ask_later(None)
        try:
            for _ in self._cmap.take(MANY):
                pass
        except CorosyncError as error:
            self._session.lose(f"{self.farewell}: {error.head()}")
        else:
            self._session.worker.call(self._read).add_done_callback(self._have_read)

    def _have_read(self, answer: "asyncio.Future[Configuration]") -> None:
        if not self._attached:
            if not answer.cancelled():
                answer.exception()
            return
        try:
            now = answer.result()
            # corosync reads a file anew between two of our questions: then we have half of each, and a notice is here.
            if any(True for _ in self._cmap.take(1)):
                self._reread()
                return
        except CorosyncError as error:
            self._session.lose(f"{self.farewell}: {error.head()}")
            return
        except Exception as error:  # noqa: BLE001 (handed on)
            self._session.fail(error)
            return
        self._session.resume(self._cmap)
        before, self._configuration = self._configuration, now
        if (now.nodes, now.two_node, now.notes) != (before.nodes, before.two_node, before.notes):
            self._session.tell(Configured(now.nodes, now.two_node, now.notes))
        self._ask_again()

    def _ask_again(self) -> None:
        """Read again after a while, as long as a host name has no address."""
        self._ask_later(ASK_AGAIN if self._configuration.unresolved and self._attached else None)

    def _ask_later(self, seconds: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        loop = asyncio.get_running_loop()
        self._timer = None if seconds is None else loop.call_later(seconds, self._read_anew)

    def _read_anew(self) -> None:
        self._session.pause(self._cmap)
        self._reread()

    def _call_cfg(self, function: Callable[[], None]) -> None:
        self._session.pause(self._cfg)
        self._session.worker.call(function).add_done_callback(self._have_called)

    def _have_called(self, answer: "asyncio.Future[None]") -> None:
        if not answer.cancelled():
            answer.exception()  # best effort: that corosync is away shows on the descriptor
        if self._attached:
            self._session.resume(self._cfg)


def _nobody(_: object) -> None:
    """What says nothing is heard by nobody."""
