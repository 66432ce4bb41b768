"""What clients and kernel of this node do with a filesystem, and what follows for its group. Pure.

The way of a first mount is IDLE -> JOINING -> TOLD -> USED -> RELEASING -> LEAVING -> IDLE. The outcome of a mount is
what the kernel says (law 12): a living client's MRESULT is believed; of a client that ends without one, the mount table
tells. An UNMOUNT is answered at once, since umount(2) itself waits for the answer with the device still held; the group
is left when the kernel says that nobody uses the device any more.
"""

from collections.abc import Callable
from enum import Enum, auto
from errno import EBUSY, EINVAL, ENOENT, ESHUTDOWN, ETIMEDOUT

from libo2cb.engine.advice import about_fencing
from libo2cb.events import Event, log
from libo2cb.machine import Move, Table
from ocfs2_controld.actions import Answer, CheckDevice, HoldService, KeepRefs, WatchProcess
from ocfs2_controld.explain import why_mount_waits
from ocfs2_controld.services import ended, hands, holders, kind_of, mounts
from ocfs2_controld.state import Local, Role, Service, ServiceKind, Session, Turn, Usage
from protocol.client import MOUNT_SERVICE
from protocol.frozen import EMPTY, FrozenMap
from protocol.group import Join

ALREADY = 114
"""EALREADY: joined already, go on and mount. Said as a number since real clients compare it with 114."""
SECOND_CHANCE = 2.0
"""Seconds that a withdrawal may take before its client is answered without it."""
CHECK_FIRST, CHECK_MOST = 0.05, 1.0
"""Seconds between looks at a device that is to become free."""
MOST_FILESYSTEMS = 1024
"""Filesystems that this node may use at once; what was found in the kernel at start is kept in any case."""
MOST_SERVICES = 1024
"""Services (mounts, tools, holders) that one filesystem may have on this node at once."""


class Happening(Enum):
    """What happens to a filesystem on this node."""

    MOUNT = auto()  # a client asks to mount it, or to hold it
    JOINED = auto()  # the FINISH of a START that our kernel has made
    REFUSED = auto()  # the join was undone, or cannot be begun
    WITHDRAWN = auto()  # our withdrawal was in time
    DEADLINE = auto()  # the MOUNT has waited too long
    CLIENT_GONE = auto()  # the client ended, or its answer could not be delivered
    RESULT_OK = auto()  # MRESULT 0
    RESULT_FAILED = auto()  # MRESULT with an error
    UNMOUNT = auto()  # a client says that a service ends
    MOUNT_SEEN = auto()  # the mount table shows it
    MOUNT_GONE = auto()  # the mount table showed it and does no more
    HOLDER_GONE = auto()  # a tool's process has ended
    FREE = auto()  # nobody uses the device
    BUSY = auto()  # somebody does
    LEFT = auto()  # our leave was delivered, and our links and region are gone
    ADOPTED = auto()  # found in the kernel at start


class Call:
    """What a rule works on.

    Attributes:
        turn: the step.
        fs: the filesystem.
        connection: the client that it comes from, or 0.
        service: the service that it names.
        code: errno of REFUSED or RESULT_FAILED.
        text: sentence of REFUSED, BUSY.
        device: device of a MOUNT.
        path: the same, as typed.
        label: the volume's label.
    """

    __slots__ = ("code", "connection", "device", "fs", "label", "path", "service", "text", "turn")

    def __init__(
        self,
        turn: Turn,
        fs: str,
        *,
        connection: int = 0,
        service: str = "",
        code: int = 0,
        text: str = "",
        device: str = "",
        path: str = "",
        label: str = "",
    ) -> None:
        self.turn = turn
        self.fs = fs
        self.connection = connection
        self.service = service
        self.code = code
        self.text = text
        self.device = device
        self.path = path
        self.label = label

    @property
    def local(self) -> Local:
        """The filesystem as it stands now."""
        return self.turn.state.local(self.fs)

    @property
    def session(self) -> Session | None:
        """The client's session."""
        return self.turn.state.sessions.get(self.connection)

    def become(self, usage: Usage, **changes: object) -> None:
        """Change the usage, and other fields with it."""
        self.turn.put_local(self.fs, usage=usage, since=self.turn.now, **changes)

    def answer(self, connection: int | None, code: int, text: str, role: Role = Role.FREE) -> None:
        """Answer a MOUNT that waits, if its client is still there."""
        if connection is None:
            return
        session = self.turn.state.sessions.get(connection)
        if session is None:
            return
        self.turn.put_session(connection, role=role, since=self.turn.now)
        self.turn.do(
            Answer(connection, code, text),
            log(Event.MOUNT_ANSWERED, fs=self.fs, code=code, cause=text, service=session.service),
        )

    def wait(self) -> None:
        """Let this MOUNT's client wait for its answer."""
        self.turn.put_session(self.connection, role=Role.WAITING, fs=self.fs, service=self.service, since=self.turn.now)

    def unmounted(self, code: int, text: str) -> None:
        """Answer an UNMOUNT."""
        if self.connection:
            self.turn.do(
                Answer(self.connection, code, text),
                log(Event.UNMOUNT_ANSWERED, fs=self.fs, code=code, cause=text, service=self.service),
            )


def _surprise(c: Call) -> None:
    c.turn.count("surprises")
    c.turn.do(log(Event.SURPRISE, "warning", fs=c.fs, state=c.local.usage.name))


def _ignore(_c: Call) -> None:
    """Nothing follows."""


def _busy(c: Call) -> None:
    c.answer(c.connection, EBUSY, "Another mount is in progress")


def _begin_join(c: Call) -> None:
    t = c.turn
    c.wait()
    c.become(
        Usage.JOINING,
        connection=c.connection,
        service=c.service,
        device=c.device,
        path=c.path,
        label=c.label,
        mount_points=t.state.mounts.get(c.fs, ()),
        deadline=t.now + t.state.settings.mount_seconds,
    )
    if t.state.service is False:
        t.put(service=None)
        t.do(HoldService())


def _joined(c: Call) -> None:
    """The mounter hears last (law 10): every member has linked this node, and it all members."""
    local = c.local
    if local.connection is None:
        # Its client is gone, and was told nothing: nobody mounts.
        c.become(Usage.LEAVING, deadline=None)
        return
    c.become(Usage.TOLD, deadline=None, gone=False)
    c.answer(local.connection, 0, _with_warning(c, "OK"), Role.TOLD)


def _with_warning(c: Call, text: str) -> str:
    """What every mounter should know beforehand."""
    warning = about_fencing(c.turn.state.settings.fencing.name.lower())
    return f"{text}; {warning}" if warning else text


def _refused(c: Call) -> None:
    local = c.local
    c.become(Usage.IDLE, connection=None, deadline=None)
    c.answer(local.connection, c.code or ESHUTDOWN, c.text)


def _heard_of(c: Call) -> bool:
    """Whether the channel has, or may yet have, our wish to join."""
    state = c.turn.state
    g = state.group(c.fs)
    if Join(c.fs) in state.said or g.joiner == state.me:
        return True
    return state.me in g.queue or state.me in g.members


def _deadline_over(c: Call) -> str:
    """Log that a MOUNT has waited for long enough, and for what; the sentence for its client."""
    why = why_mount_waits(c.turn.state, c.fs, c.turn.now)
    c.turn.do(log(Event.DEADLINE, "warning", fs=c.fs, cause=why))
    return f"gave up after {c.turn.state.settings.mount_seconds:.0f} s: {why}"


def _give_up(c: Call) -> None:
    local, t = c.local, c.turn
    text = _deadline_over(c)
    if not _heard_of(c):
        c.become(Usage.IDLE, connection=None, deadline=None)
        c.answer(local.connection, ETIMEDOUT, text)
    elif not t.state.complete:
        # The engine is silent: nobody can say how it ends. The client is told now, and the group is left.
        c.become(Usage.WITHDRAWING, connection=None, deadline=None)
        c.answer(local.connection, ETIMEDOUT, text)
    else:
        c.become(Usage.WITHDRAWING, deadline=t.now + SECOND_CHANCE, busy=text)


def _give_up_late(c: Call) -> None:
    local = c.local
    c.turn.put_local(c.fs, connection=None, deadline=None)
    c.answer(local.connection, ETIMEDOUT, local.busy or "the cluster engine is silent")


def _mounter_gone(c: Call) -> None:
    c.turn.do(log(Event.CLIENT_LOST, fs=c.fs, cause="while its MOUNT waited"))
    c.become(Usage.WITHDRAWING if _heard_of(c) else Usage.IDLE, connection=None, deadline=None)


def _withdrawer_gone(c: Call) -> None:
    c.turn.do(log(Event.CLIENT_LOST, fs=c.fs, cause="while its MOUNT was taken back"))
    c.turn.put_local(c.fs, connection=None, deadline=None)


def _withdrawn(c: Call) -> None:
    local = c.local
    c.become(Usage.IDLE, connection=None, deadline=None)
    c.answer(local.connection, ETIMEDOUT, local.busy or "the mount was given up")


def _put_services(c: Call, services: FrozenMap[str, Service]) -> None:
    """Change who uses the filesystem. The kernel counts a holder by hand before its client hears that it is one."""
    before = hands(c.local.services)
    c.turn.put_local(c.fs, services=services)
    if hands(services) != before:
        c.turn.do(KeepRefs(c.fs, hands(services)))


def _add_service(c: Call, service: str, session: Session | None) -> None:
    kind = kind_of(service)
    peer = session.peer if session else None
    record = Service(kind, peer.pid if peer else 0, peer.started if peer else 0.0, peer.program if peer else "")
    _put_services(c, c.local.services.put(service, record))
    if kind is ServiceKind.TOOL and record.pid:
        c.turn.do(WatchProcess(record.pid, record.started))


def _result_ok(c: Call) -> None:
    """A has mounted, B unmounts it at once, and only now comes A's MRESULT: no table will show it go any more."""
    if c.local.gone and kind_of(c.service) is ServiceKind.MOUNT:
        c.become(Usage.USED, connection=None)
        _release_if_unused(c)
        return
    _add_service(c, c.service, c.session)
    c.become(Usage.USED, connection=None)


def _result_failed(c: Call) -> None:
    c.become(Usage.USED, connection=None)
    _release_if_unused(c)


def _told_client_gone(c: Call) -> None:
    """The client was told 0 or 114 and ended without a word: whether it has mounted, the kernel says (law 12)."""
    local = c.local
    session = c.turn.state.sessions.get(local.connection or 0)
    c.turn.do(log(Event.CLIENT_LOST, "warning", fs=c.fs, cause="between MOUNT and MRESULT"))
    if local.mount_points and local.service in (*local.mount_points, MOUNT_SERVICE):
        _add_service(c, local.service, session)
    c.become(Usage.USED, connection=None)
    _release_if_unused(c)


def _one_more(c: Call) -> None:
    """A further mount of what is mounted, or a further holder."""
    local, now = c.local, c.turn.now
    known = local.services.get(c.service)
    if local.device and c.device and local.device != c.device:
        c.answer(
            c.connection, EINVAL, f'Trying to mount fs "{c.fs}" on device {c.path}, but it is in use on {local.path}'
        )
        return
    is_stale = c.service.startswith("/") and c.service not in local.mount_points
    if known is not None and c.service != MOUNT_SERVICE and not is_stale:
        who = f" by {known.program} pid {known.pid}" if known.pid else ""
        c.answer(c.connection, EBUSY, f"Filesystem {c.fs} is already mounted on {c.service}{who}")
        return
    c.turn.put_session(c.connection, fs=c.fs, service=c.service, since=now)
    c.become(
        Usage.TOLD_AGAIN,
        connection=c.connection,
        service=c.service,
        device=local.device or c.device,
        path=local.path or c.path,
        label=local.label or c.label,
        gone=False,
    )
    c.answer(c.connection, ALREADY, _with_warning(c, "Already mounted, go ahead"), Role.TOLD)


def _release_if_unused(c: Call) -> None:
    if not c.local.used:
        _release(c)


def _release(c: Call) -> None:
    c.become(Usage.RELEASING, connection=None, services=EMPTY, gone=False, check_at=None, busy="", deadline=None)
    c.turn.do(CheckDevice(c.fs, c.local.path))


def _unmount_unknown(c: Call) -> None:
    c.unmounted(ENOENT, f"Filesystem {c.fs} is unknown or not mounted anywhere")


def _unmount_in_progress(c: Call) -> None:
    """An UNMOUNT does not take over a MOUNT's place; if something was unmounted, the mount table says so too."""
    c.unmounted(EBUSY, "Another mount is in progress")


def _unmount(c: Call) -> None:
    local = c.local
    known = local.services.get(c.service)
    if kind_of(c.service) is not ServiceKind.MOUNT:
        name = ended(local.services, c.service)
        if name is None:
            c.unmounted(ENOENT, f"Filesystem {c.fs} is not held by {c.service}")
            return
        _put_services(c, local.services.without(name))
        c.unmounted(0, "OK")
        _release_if_unused(c)
        return
    if known is None and not local.mount_points and not mounts(local.services) and not local.gone:
        c.unmounted(ENOENT, f"Filesystem {c.fs} is not mounted on {c.service}")
        return
    c.unmounted(0, "OK")
    c.turn.put_local(c.fs, gone=False)
    if local.mount_points:
        # Still mounted elsewhere: 1.8.7 says "ocfs2" for all its mounts, and the table counts them.
        if c.service not in (*local.mount_points, MOUNT_SERVICE):
            c.turn.put_local(c.fs, services=local.services.without(c.service))
        return
    c.turn.put_local(c.fs, services=local.services.without(c.service))
    _release_if_unused(c)


def _unmount_again(c: Call) -> None:
    c.unmounted(0, "OK")


def _mount_gone(c: Call) -> None:
    """Seen mounted, and then gone: left without an UNMOUNT, which quirks of real clients and kernels leave out.

    It may also be on its way. A has F mounted, and a region of F started by hand. umount(2) takes F out of the table,
    and then runs the helper: when its UNMOUNT comes, F is held by the region alone. It is answered 0 all the same.
    """
    c.turn.do(log(Event.MOUNT_GONE, fs=c.fs))
    c.turn.put_local(c.fs, services=holders(c.local.services), gone=True)
    _release_if_unused(c)


def _mount_gone_told(c: Call) -> None:
    """One mount went while another is made: the latter's outcome decides."""
    c.turn.do(log(Event.MOUNT_GONE, fs=c.fs))
    c.turn.put_local(c.fs, services=holders(c.local.services), gone=True)


def _mount_seen_told(c: Call) -> None:
    """The client's own mount, as far as anybody can tell: its MRESULT will be believed."""
    c.turn.put_local(c.fs, gone=False)


def _holder_gone(c: Call) -> None:
    c.turn.put_local(c.fs, services=c.local.services.without(c.service))
    if c.local.usage is Usage.USED:
        _release_if_unused(c)


def _mounted_after_all(c: Call) -> None:
    """Mounted again, or still, while we wait for the device: it is used."""
    waiting = c.local.waiting
    c.become(Usage.USED, waiting=None, deadline=None, check_at=None)
    if waiting is not None:
        session = c.turn.state.sessions.get(waiting)
        again = Call(c.turn, c.fs, connection=waiting, service=session.service if session else MOUNT_SERVICE)
        _one_more(again)


def _wait_for_leave(c: Call) -> None:
    local = c.local
    if local.waiting is not None:
        _busy(c)
        return
    if local.usage is Usage.RELEASING and local.device and c.device and local.device != c.device:
        # A snapshot with the same UUID: were its device looked at instead, it would be free, and F left in use.
        text = f'Trying to mount fs "{c.fs}" on device {c.path}, but it is still in use on {local.path}'
        c.answer(c.connection, EINVAL, text)
        return
    c.wait()
    c.turn.put_local(
        c.fs,
        waiting=c.connection,
        service=c.service,
        device=c.device,
        path=c.path,
        label=c.label or c.local.label,
        deadline=c.turn.now + c.turn.state.settings.mount_seconds,
    )


def _waiter_gives_up(c: Call) -> None:
    waiter, text = c.local.waiting, _deadline_over(c)
    c.turn.put_local(c.fs, waiting=None, deadline=None)
    c.answer(waiter, ETIMEDOUT, text)


def _waiter_gone(c: Call) -> None:
    c.turn.do(log(Event.CLIENT_LOST, fs=c.fs, cause="while its MOUNT waited for this node's leave"))
    c.turn.put_local(c.fs, waiting=None, deadline=None)


def _free(c: Call) -> None:
    c.become(Usage.LEAVING, check_at=None, busy="")


def _still_busy(c: Call) -> None:
    local, now = c.local, c.turn.now
    pause = min(CHECK_MOST, max(CHECK_FIRST, (now - local.since) / 2))
    c.turn.put_local(c.fs, check_at=now + pause, busy=c.text)


def _left(c: Call) -> None:
    local = c.local
    if local.waiting is None:
        c.become(Usage.IDLE, connection=None)
        return
    c.become(Usage.JOINING, connection=local.waiting, waiting=None)


def _adopt(c: Call) -> None:
    """Found in the kernel: kept if it is mounted or held, and otherwise left as if it had been unmounted."""
    if not c.local.used:
        _release(c)
        return
    c.become(Usage.USED)
    for service in c.local.services.values():
        if service.kind is ServiceKind.TOOL:
            c.turn.do(WatchProcess(service.pid, service.started))


_I, _J, _W, _T, _U, _A, _R, _L = Usage
_H = Happening
Rule = Callable[[Call], None]
_ROWS: dict[Happening, dict[Usage, tuple[Rule, tuple[Usage, ...]]]] = {
    _H.MOUNT: {
        _I: (_begin_join, (_J,)),
        _J: (_busy, ()),
        _W: (_busy, ()),
        _T: (_busy, ()),
        _U: (_one_more, (_A,)),
        _A: (_busy, ()),
        _R: (_wait_for_leave, ()),
        _L: (_wait_for_leave, ()),
    },
    _H.JOINED: {
        **dict.fromkeys(Usage, (_surprise, ())),
        _J: (_joined, (_T,)),
        _W: (_joined, (_T, _L)),
    },
    _H.REFUSED: {
        **dict.fromkeys(Usage, (_ignore, ())),
        _J: (_refused, (_I,)),
        _W: (_refused, (_I,)),
    },
    _H.WITHDRAWN: {**dict.fromkeys(Usage, (_ignore, ())), _W: (_withdrawn, (_I,))},
    _H.DEADLINE: {
        **dict.fromkeys(Usage, (_surprise, ())),
        _J: (_give_up, (_W, _I)),
        _W: (_give_up_late, ()),
        _R: (_waiter_gives_up, ()),
        _L: (_waiter_gives_up, ()),
    },
    _H.CLIENT_GONE: {
        **dict.fromkeys(Usage, (_surprise, ())),
        _J: (_mounter_gone, (_W, _I)),
        _W: (_withdrawer_gone, ()),
        _T: (_told_client_gone, (_U, _R)),
        _A: (_told_client_gone, (_U, _R)),
        _R: (_waiter_gone, ()),
        _L: (_waiter_gone, ()),
    },
    _H.RESULT_OK: {**dict.fromkeys(Usage, (_surprise, ())), _T: (_result_ok, (_U, _R)), _A: (_result_ok, (_U, _R))},
    _H.RESULT_FAILED: {
        **dict.fromkeys(Usage, (_surprise, ())),
        _T: (_result_failed, (_U, _R)),
        _A: (_result_failed, (_U, _R)),
    },
    _H.UNMOUNT: {
        _I: (_unmount_unknown, ()),
        _J: (_unmount_in_progress, ()),
        _W: (_unmount_in_progress, ()),
        _T: (_unmount_in_progress, ()),
        _U: (_unmount, (_R,)),
        _A: (_unmount_in_progress, ()),
        _R: (_unmount_again, ()),
        _L: (_unmount_again, ()),
    },
    _H.MOUNT_SEEN: {
        **dict.fromkeys(Usage, (_ignore, ())),
        _T: (_mount_seen_told, ()),
        _A: (_mount_seen_told, ()),
        _R: (_mounted_after_all, (_U, _A)),
        _L: (_surprise, ()),
    },
    _H.MOUNT_GONE: {
        **dict.fromkeys(Usage, (_ignore, ())),
        _T: (_mount_gone_told, ()),
        _U: (_mount_gone, (_R,)),
        _A: (_mount_gone_told, ()),
    },
    _H.HOLDER_GONE: {
        **dict.fromkeys(Usage, (_ignore, ())),
        _U: (_holder_gone, (_R,)),
        _A: (_holder_gone, ()),
    },
    _H.FREE: {**dict.fromkeys(Usage, (_ignore, ())), _R: (_free, (_L,))},
    _H.BUSY: {**dict.fromkeys(Usage, (_ignore, ())), _R: (_still_busy, ())},
    _H.LEFT: {**dict.fromkeys(Usage, (_surprise, ())), _L: (_left, (_I, _J))},
    _H.ADOPTED: {**dict.fromkeys(Usage, (_ignore, ())), _I: (_adopt, (_U, _R))},
}
USAGE: Table[Usage, Happening, Rule] = Table(
    "Usage of a filesystem on this node",
    Usage,
    Happening,
    {(u, h): Move(*_ROWS[h][u]) for u in Usage for h in Happening},
)


def happen(happening: Happening, call: Call) -> None:
    """Apply the rule of this happening to the filesystem."""
    USAGE[call.local.usage, happening].rule(call)
