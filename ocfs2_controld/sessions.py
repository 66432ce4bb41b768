"""Client connections: what each request means in each state of its connection. Pure.

A connection serves one MOUNT at a time: FREE -> WAITING -> TOLD -> FREE. Lists and reports are answered in any state.
Errors belong to the request that made them, never to the filesystem or to the next request.
"""

from collections.abc import Callable
from enum import Enum, auto
from errno import EBUSY, EINVAL, ENAMETOOLONG, ENOENT, ENOSPC, EPERM
from typing import TypeAlias

from libo2cb.events import Event, log
from libo2cb.machine import Move, Table
from ocfs2_controld.actions import Answer, AnswerDump, AnswerList, AnswerReport, Exit
from ocfs2_controld.events import ClientGarbled, ClientSaid
from ocfs2_controld.state import Role, Session, State, Turn
from ocfs2_controld.table import MOST_GROUPS, needs_fence
from ocfs2_controld.usage import MOST_FILESYSTEMS, MOST_SERVICES, Call, Happening, happen
from protocol.client import (
    ClientMessage,
    Dump,
    Fenced,
    ListClusters,
    ListFs,
    ListMounts,
    Mount,
    MountResult,
    Replace,
    Report,
    Unmount,
)
from protocol.group import Fenced as FencedWord
from protocol.identity import Life

FSTYPE = "ocfs2"
UUID_LENGTH = 32


class Request(Enum):
    """What a client may send, or do."""

    MOUNT = auto()
    RESULT = auto()
    UNMOUNT = auto()
    LIST_FS = auto()
    LIST_MOUNTS = auto()
    LIST_CLUSTERS = auto()
    DUMP = auto()
    REPORT = auto()
    FENCED = auto()
    REPLACE = auto()
    WRONG = auto()  # a word that only the daemon says
    GARBLED = auto()  # no word of the protocol
    CLOSED = auto()  # the connection has ended, or an answer could not be delivered


_REQUESTS: dict[type[ClientMessage], Request] = {
    Mount: Request.MOUNT,
    MountResult: Request.RESULT,
    Unmount: Request.UNMOUNT,
    ListFs: Request.LIST_FS,
    ListMounts: Request.LIST_MOUNTS,
    ListClusters: Request.LIST_CLUSTERS,
    Dump: Request.DUMP,
    Report: Request.REPORT,
    Fenced: Request.FENCED,
    Replace: Request.REPLACE,
}
_CHANGES = frozenset({Request.MOUNT, Request.RESULT, Request.UNMOUNT, Request.FENCED, Request.REPLACE})
"""Requests that change something, and need root (law 14)."""


class Ask:
    """One request, and the step it is part of."""

    __slots__ = ("connection", "event", "turn")

    def __init__(self, turn: Turn, connection: int, event: ClientSaid | ClientGarbled | None) -> None:
        self.turn = turn
        self.connection = connection
        self.event = event

    @property
    def session(self) -> Session:
        """The connection's session."""
        return self.turn.state.sessions[self.connection]

    @property
    def message(self) -> ClientMessage:
        """The request."""
        assert isinstance(self.event, ClientSaid)  # noqa: S101 (a rule that asks for it is only for words)
        return self.event.message

    def answer(self, code: int, text: str) -> None:
        """Send STATUS."""
        self.turn.do(Answer(self.connection, code, text))

    def wrong(self, code: int, text: str) -> None:
        """Send STATUS for a request that breaks the rules, and count it."""
        self.turn.count("violations")
        self.turn.do(log(Event.VIOLATION, "warning", peer=f"pid {self.session.peer.pid}", cause=text))
        self.answer(code, text)


def _check_uuid(uuid: str) -> tuple[int, str] | None:
    if len(uuid) > UUID_LENGTH:
        return ENAMETOOLONG, f"UUID too long: {uuid}"
    if len(uuid) != UUID_LENGTH or not all(c in "0123456789ABCDEFabcdef" for c in uuid):
        return EINVAL, f"UUID {uuid!r} is not 32 hexadecimal digits"
    return None


def wrong_cluster(volume: str, ours: str) -> str:
    """The refusal of a volume of another cluster."""
    return f"Invalid cluster name: the volume is of cluster {volume}, this node of {ours}"


def _refuse_mount(ask: Ask, m: Mount) -> tuple[int, str] | None:
    engine = ask.turn.state.engine
    if m.fstype != FSTYPE:
        return EINVAL, f"Invalid filesystem type: {m.fstype}"
    if bad := _check_uuid(m.uuid):
        return bad
    if engine.cluster and m.cluster != engine.cluster:
        return EINVAL, wrong_cluster(m.cluster, engine.cluster)
    if not m.service:
        return EINVAL, "Invalid service name: empty"
    if isinstance(ask.event, ClientSaid) and ask.event.problem is not None:
        return ask.event.problem
    return _no_room(ask.turn.state, m.uuid.upper(), m.service)


def _no_room(state: State, fs: str, service: str) -> tuple[int, str] | None:
    local = state.locals.get(fs)
    if local is not None:
        if service in local.services or len(local.services) < MOST_SERVICES:
            return None
        return ENOSPC, f"Filesystem {fs} has {MOST_SERVICES} services on this node, the most it can have: end one first"
    if len(state.locals) >= MOST_FILESYSTEMS:
        return ENOSPC, f"This node uses {len(state.locals)} filesystems, {MOST_FILESYSTEMS} at most: unmount one first"
    # Counted with what is on its way. Each node counts for itself, so several at once may come to a few more.
    groups = {*state.table.groups, *state.locals} if state.table is not None else set(state.locals)
    if fs not in groups and len(groups) >= MOST_GROUPS:
        return (
            ENOSPC,
            f"The cluster uses {len(groups)} filesystems, {MOST_GROUPS} at most: unmount one everywhere first",
        )
    return None


def _mount(ask: Ask) -> None:
    m, event = ask.message, ask.event
    if not isinstance(m, Mount) or not isinstance(event, ClientSaid):
        return
    peer = ask.session.peer
    uuid = m.uuid.upper()
    ask.turn.do(
        log(
            Event.MOUNT_ASKED,
            fs=uuid,
            pid=peer.pid,
            uid=peer.uid,
            program=peer.program,
            device=m.device,
            service=m.service,
        )
    )
    if bad := _refuse_mount(ask, m):
        ask.answer(*bad)
        ask.turn.do(log(Event.MOUNT_ANSWERED, fs=uuid, code=bad[0], cause=bad[1], service=m.service))
        return
    ask.turn.put_session(ask.connection, fs=uuid, service=m.service)
    call = Call(
        ask.turn,
        uuid,
        connection=ask.connection,
        service=m.service,
        device=event.device or "",
        path=m.device,
        label=event.label,
    )
    happen(Happening.MOUNT, call)
    if not ask.turn.state.engine.cluster and uuid in ask.turn.state.locals:
        ask.turn.put_local(uuid, cluster=m.cluster)


def _mount_twice(ask: Ask) -> None:
    ask.answer(EBUSY, "Another mount is in progress")


def _not_attached(ask: Ask) -> None:
    ask.wrong(EINVAL, "Client is not attached to a mountgroup")


def _too_early(ask: Ask) -> None:
    ask.wrong(EINVAL, "MRESULT before the answer to MOUNT")


def _result(ask: Ask) -> None:
    """An MRESULT that does not fit leaves the operation open: the right one may follow."""
    m, session = ask.message, ask.session
    if not isinstance(m, MountResult):
        return
    if m.fstype != FSTYPE:
        ask.wrong(EINVAL, f"Invalid filesystem type: {m.fstype}")
    elif m.uuid.upper() != session.fs:
        ask.wrong(EINVAL, f"MRESULT for {m.uuid}, but this client mounts {session.fs}")
    elif m.service != session.service:
        ask.wrong(ENOENT, f"Unknown service {m.service} for filesystem {session.fs}")
    else:
        t = ask.turn
        t.put_session(ask.connection, role=Role.FREE, since=t.now)
        t.do(log(Event.MOUNT_RESULT, fs=session.fs, code=m.code, service=m.service))
        happening = Happening.RESULT_FAILED if m.code else Happening.RESULT_OK
        happen(happening, Call(t, session.fs, connection=ask.connection, service=m.service, code=m.code))
        ask.answer(0, "OK")


def _unmount(ask: Ask) -> None:
    m, peer = ask.message, ask.session.peer
    if not isinstance(m, Unmount):
        return
    uuid = m.uuid.upper()
    ask.turn.do(log(Event.UNMOUNT_ASKED, fs=uuid, pid=peer.pid, uid=peer.uid, program=peer.program, service=m.service))
    call = Call(ask.turn, uuid, connection=ask.connection, service=m.service)
    if m.fstype != FSTYPE:
        call.unmounted(EINVAL, f"Invalid filesystem type: {m.fstype}")
    elif bad := _check_uuid(m.uuid):
        call.unmounted(*bad)
    else:
        happen(Happening.UNMOUNT, call)


def listing(state: State, connection: int, m: ListFs | ListMounts | ListClusters) -> Answer | AnswerList:
    """The answer to a request for a list: it depends on nothing but the state, and changes nothing."""
    if isinstance(m, ListClusters):
        return AnswerList(connection, (state.engine.cluster,) if state.engine.cluster else ())
    if m.fstype != FSTYPE:
        return Answer(connection, EINVAL, f"Invalid filesystem type: {m.fstype}")
    if isinstance(m, ListFs):
        if m.cluster != state.engine.cluster:
            return Answer(connection, EINVAL, f"Invalid cluster name: {m.cluster}")
        return AnswerList(connection, tuple(sorted(fs for fs, x in state.locals.items() if x.region)))
    local = state.locals.get(m.uuid.upper())
    if local is None:
        return Answer(connection, ENOENT, f"Filesystem {m.uuid} is unknown or not mounted anywhere")
    return AnswerList(connection, tuple(sorted({*local.mount_points, *local.services})))


def _list(ask: Ask) -> None:
    m = ask.message
    if isinstance(m, ListFs | ListMounts | ListClusters):
        ask.turn.do(listing(ask.turn.state, ask.connection, m))


def _dump(ask: Ask) -> None:
    ask.turn.do(AnswerDump(ask.connection))


def _report(ask: Ask) -> None:
    ask.turn.do(AnswerReport(ask.connection))


def _lost_lives(ask: Ask, node: str) -> list[Life]:
    state = ask.turn.state
    asked = needs_fence(state.table) if state.table else ()
    return [x for x in asked if state.engine.name(x.node) == node or str(x.node) == node]


def _fenced(ask: Ask) -> None:
    """An operator says that a node is off. Believed for what is asked for, and for nothing else (law 11)."""
    m, t = ask.message, ask.turn
    if not isinstance(m, Fenced):
        return
    lives = _lost_lives(ask, m.node)
    if m.life and m.life not in ("-", "*"):
        lives = [x for x in lives if str(x) == m.life or x.boot == m.life]
    if not t.state.complete:
        ask.answer(EBUSY, "The cluster is in the midst of a change of membership; say it again in a moment")
    elif not lives:
        ask.answer(ENOENT, f"No group waits for a fence of {m.node}; nothing was changed")
    else:
        uid = ask.session.peer.uid
        for life in lives:
            t.do(log(Event.ACKNOWLEDGED, "warning", life=str(life), uid=uid))
            t.say(FencedWord(life, f"acknowledged by uid {uid}"))
        ask.answer(0, f"{m.node} is taken as fenced")


def _replace(ask: Ask) -> None:
    t = ask.turn
    t.do(log(Event.REPLACED, "warning"))
    ask.answer(0, "OK, everything is left standing for the successor")
    t.put(ending="replaced")
    t.do(Exit(0, "replaced: everything is left standing for a successor"))


def _wrong(ask: Ask) -> None:
    ask.wrong(EINVAL, f"{ask.message.word} is not for a client to say")


def _garbled(ask: Ask) -> None:
    if isinstance(ask.event, ClientGarbled):
        ask.wrong(ask.event.code, ask.event.why)


def _forget(ask: Ask) -> None:
    t = ask.turn
    t.put(sessions=t.state.sessions.without(ask.connection))


def _abandon(ask: Ask) -> None:
    """The client ended in the midst of its MOUNT; its session is still there for the rule to look at."""
    happen(Happening.CLIENT_GONE, Call(ask.turn, ask.session.fs, connection=ask.connection))
    _forget(ask)


Rule: TypeAlias = Callable[[Ask], None]
_F, _W, _T = Role
_ANY: dict[Request, Rule] = {
    Request.UNMOUNT: _unmount,
    Request.LIST_FS: _list,
    Request.LIST_MOUNTS: _list,
    Request.LIST_CLUSTERS: _list,
    Request.DUMP: _dump,
    Request.REPORT: _report,
    Request.FENCED: _fenced,
    Request.REPLACE: _replace,
    Request.WRONG: _wrong,
    Request.GARBLED: _garbled,
}
SESSIONS: Table[Role, Request, Rule] = Table(
    "A client's connection",
    Role,
    Request,
    {
        **{(role, request): Move(rule, ()) for role in Role for request, rule in _ANY.items()},
        (_F, Request.MOUNT): Move(_mount, (_W, _T)),
        (_W, Request.MOUNT): Move(_mount_twice, ()),
        (_T, Request.MOUNT): Move(_mount_twice, ()),
        (_F, Request.RESULT): Move(_not_attached, ()),
        (_W, Request.RESULT): Move(_too_early, ()),
        (_T, Request.RESULT): Move(_result, (_F,)),
        (_F, Request.CLOSED): Move(_forget, ()),
        (_W, Request.CLOSED): Move(_abandon, ()),
        (_T, Request.CLOSED): Move(_abandon, ()),
    },
)


def said(turn: Turn, event: ClientSaid | ClientGarbled) -> None:
    """A client's record."""
    session = turn.state.sessions.get(event.connection)
    if session is None:
        return
    ask = Ask(turn, event.connection, event)
    request = Request.GARBLED
    if isinstance(event, ClientSaid):
        request = _REQUESTS.get(type(event.message), Request.WRONG)
        if request in _CHANGES and not session.peer.trusted:
            ask.wrong(EPERM, f"Only root may say {event.message.word}")
            return
    SESSIONS[session.role, request].rule(ask)


def closed(turn: Turn, connection: int) -> None:
    """A client's connection has ended."""
    session = turn.state.sessions.get(connection)
    if session is not None:
        SESSIONS[session.role, Request.CLOSED].rule(Ask(turn, connection, None))
