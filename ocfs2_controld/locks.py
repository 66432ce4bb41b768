"""Our side of the ordering protocol: which locks are asked for, held, and given back. Pure.

A link is made only under a lock that was granted for exactly this identity of the node, and the lock is kept until the
last link to the node is gone. Links found at a restart need no lock: they protect themselves, since o2cb_controld lists
links before each change.
"""

from errno import EINVAL

from libo2cb.errors import O2cbError
from libo2cb.events import Event, log
from libo2cb.limits import FIRST_NODE, LAST_NODE, check_identity
from ocfs2_controld.actions import CloseLock, DropLock, KeepLock, SayOrdering
from ocfs2_controld.events import OrderingSaid
from ocfs2_controld.state import Locks, Turn
from protocol.framing import BadMessage, TextTooLong
from protocol.frozen import EMPTY, FrozenMap, replace
from protocol.identity import NodeIdentity
from protocol.ordering import Cancel, Lock, Locked, Queued, Refused, Unlocked, Waiting, encode


def _put(t: Turn, **changes: object) -> None:
    t.put(locks=replace(t.state.locks, **changes))  # type: ignore[arg-type]  # fields of Locks
    t.dirty.update(fs for fs, local in t.state.locals.items() if local.needs)


def connected(t: Turn) -> None:
    """Connected (again): what we still want is asked for (again) at the end of the step."""
    _put(t, connected=True, why="", asked=EMPTY, queued=EMPTY, refused=EMPTY, waiting=EMPTY)
    t.needs_changed = True


def disconnected(t: Turn, why: str) -> None:
    """o2cb_controld is away. The locks that we hold are ours all the same: they are descriptors."""
    _put(t, connected=False, why=why, asked=EMPTY, queued=EMPTY, waiting=EMPTY)


def _wanted(t: Turn) -> dict[tuple[int, str, int], NodeIdentity]:
    return {x.key: x for local in t.state.locals.values() for x in local.needs}


def linked(t: Turn, number: int) -> bool:
    """Whether any filesystem links this node."""
    return any(number in local.links for local in t.state.locals.values())


def heard(t: Turn, event: OrderingSaid) -> None:
    """A message of o2cb_controld."""
    message, locks = event.message, t.state.locks
    match message:
        case Locked():
            _granted(t, message.request, event.descriptor)
        case Queued() if message.request in locks.asked:
            key = locks.asked[message.request].key
            t.do(log(Event.LOCK_QUEUED, number=key[0], request=message.request, cause=message.reason))
            _put(t, queued=locks.queued.put(key, message.reason))
        case Refused() if message.request in locks.asked:
            identity = locks.asked[message.request]
            t.do(
                log(
                    Event.LOCK_REFUSED,
                    "warning",
                    number=identity.number,
                    request=message.request,
                    errno=message.errno,
                    cause=message.reason,
                )
            )
            _put(
                t,
                asked=locks.asked.without(message.request),
                queued=locks.queued.without(identity.key),
                refused=locks.refused.put(identity.key, (message.errno, message.reason)),
            )
        case Waiting() if FIRST_NODE <= message.number <= LAST_NODE:
            _put(t, waiting=locks.waiting.put(message.number, message.reason))
        case Queued() | Refused():
            pass  # an answer to what was cancelled
        case Waiting():
            t.count("violations")
            t.do(log(Event.VIOLATION, "warning", peer="o2cb_controld", cause=f"there is no node {message.number}"))
        case _:
            t.count("violations")
            t.do(log(Event.VIOLATION, "warning", peer="o2cb_controld", cause=f"{message.word} is not for it to say"))


def _granted(t: Turn, request: int, descriptor: bool) -> None:
    """A grant counts by its request's id: A asks, cancels, asks again; the first answer is not the second's."""
    locks = t.state.locks
    identity = locks.asked.get(request)
    if not descriptor:
        t.count("violations")
        t.do(log(Event.VIOLATION, "warning", peer="o2cb_controld", cause="LOCKED without a descriptor is no grant"))
        if identity is not None:
            _put(t, asked=locks.asked.without(request))
            t.needs_changed = True
        return
    wanted = identity is not None and (identity.key in _wanted(t) or linked(t, identity.number))
    if identity is None or not wanted or identity.key in locks.held:
        t.do(DropLock())
        if identity is not None:
            _put(t, asked=locks.asked.without(request), queued=locks.queued.without(identity.key))
        return
    number, address, port = identity.key
    t.do(KeepLock(identity.key), log(Event.LOCK_HELD, number=number, address=address, port=port))
    _put(
        t,
        held=locks.held | {identity.key},
        asked=locks.asked.without(request),
        queued=locks.queued.without(identity.key),
    )


def _unsayable(identity: NodeIdentity) -> str:
    """Why no LOCK can name this node, which o2cb_controld would refuse all the same; empty if one can.

    B has a name of 65 bytes, and asks to join. A daemon that tried to say LOCK would end, and so would those of all
    members, each with its mounts.
    """
    try:
        encode(Lock(0, identity))
    except (BadMessage, TextTooLong) as error:
        try:
            check_identity(identity)
        except O2cbError as refusal:
            # Without its subject: whoever tells of it names the node, and a name of 255 bytes would leave no room.
            return f"{refusal.why}; {refusal.do}"
        return str(error)
    return ""


def _ask(locks: Locks, identity: NodeIdentity, t: Turn) -> Locks:
    if why := _unsayable(identity):
        return replace(locks, refused=locks.refused.put(identity.key, (EINVAL, why)))
    request = locks.following
    number, address, port = identity.key
    t.do(
        SayOrdering(Lock(request, identity)),
        log(Event.LOCK_ASKED, "debug", number=number, address=address, port=port, request=request),
    )
    return replace(locks, asked=locks.asked.put(request, identity), following=request + 1)


def settle(t: Turn) -> None:
    """Ask for what is needed, take back what is not, and close what neither a link nor a need keeps."""
    locks, wanted = t.state.locks, _wanted(t)
    for request, identity in locks.asked.items():
        if identity.key not in wanted:
            t.do(SayOrdering(Cancel(request)), log(Event.LOCK_CANCELLED, number=identity.number, request=request))
            locks = replace(locks, asked=locks.asked.without(request), queued=locks.queued.without(identity.key))
    for key in sorted(locks.held):
        if key not in wanted and not linked(t, key[0]):
            number, address, port = key
            t.do(CloseLock(key), log(Event.LOCK_CLOSED, number=number, address=address, port=port))
            locks = replace(locks, held=locks.held - {key}, waiting=locks.waiting.without(number))
            if locks.connected:
                t.do(SayOrdering(Unlocked(number)))
    refused = {k: v for k, v in locks.refused.items() if k in wanted}
    if len(refused) != len(locks.refused):
        locks = replace(locks, refused=FrozenMap(refused))
    asked = {x.key for x in locks.asked.values()}
    if locks.connected:
        for key, identity in sorted(wanted.items()):
            if key not in locks.held and key not in asked and key not in locks.refused:
                locks = _ask(locks, identity, t)
    t.put(locks=locks)
    t.needs_changed = False


def hint(t: Turn, number: int) -> None:
    """The last link to a node is gone: o2cb_controld may look again. A lost hint costs a second."""
    held = any(key[0] == number for key in t.state.locks.held)
    if t.state.locks.connected and not held and not linked(t, number):
        t.do(SayOrdering(Unlocked(number)))
