"""Connections to corosync: one class for each library, typed.

A library calls back from within its dispatch function. What it says is only taken down there, as a plain value; take()
hands it out when the library has returned. So whoever hears of an event may do anything, also close the connection,
and an exception is raised where somebody can catch it.

A connection is used by one thread at a time. dispatch (here: take) and mcast never wait for corosync; everything else
does, without limit while corosync hangs.
"""

import select
import struct
from collections import deque
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, ClassVar, Final, Generic, Self, TypeVar

from libo2cb.engine.corosync.errors import NO_SECTIONS, NO_SPACE, NOT_EXIST, OK, TRY_AGAIN, CorosyncError
from libo2cb.engine.corosync.libraries import FFI, call, insist, libraries, outcome
from libo2cb.engine.corosync.said import (
    Confchg,
    KeyChanged,
    Message,
    NodeList,
    Quorate,
    Shutdown,
    TotemConfchg,
    Value,
)
from libo2cb.engine.port import ChannelMember
from protocol.identity import Ring

DISPATCH_ONE_NONBLOCKING: Final = 4
MODEL_V1: Final = 1
DELIVER_INITIAL_TOTEM_CONF: Final = 1
TYPE_AGREED: Final = 2
TRACK_CURRENT: Final = 1
TRACK_CHANGES: Final = 2
QUORUM_FREE: Final = 0
"""Type of the quorum service when no provider is configured."""
CMAP_TRACK_ALL: Final = 4 | 1 | 2 | 8  # added, deleted, modified; below a prefix
CMAP_STRING: Final = 11
KEY_BYTES: Final = 256
REASON_BYTES: Final = 255
"""Of the reason for which a node is put out: of more, corosync takes nothing (CS_ERR_NAME_TOO_LONG)."""

_FORMATS: Final = {1: "b", 2: "B", 3: "h", 4: "H", 5: "i", 6: "I", 7: "q", 8: "Q", 9: "f", 10: "d"}
"""cmap's types of numbers, as struct has them."""


E = TypeVar("E")


class Handle(Generic[E]):
    """An open connection of one library.

    Args:
        number: the library's handle.
    """

    LIBRARY: ClassVar[str]
    PREFIX: ClassVar[str]
    OPEN: ClassVar[dict[int, Any]]
    """The open connections of this library, by handle: whom a callback is for."""

    def __init__(self, number: int) -> None:
        self._number = number
        self._library = getattr(libraries(), self.LIBRARY)
        self._said: deque[E] = deque()
        self._failed: BaseException | None = None
        self.OPEN[number] = self

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.finalize()

    def fileno(self) -> int:
        """The descriptor that is readable while take() has something to say, or the connection is lost."""
        fd = FFI.new("int *")
        call(self._library, f"{self.PREFIX}_fd_get", self._number, fd)
        return int(fd[0])

    def take(self, limit: int) -> Iterator[E]:
        """What corosync has said, up to that many events; never waits.

        Raises:
            CorosyncError: the connection is lost.
        """
        dispatch = getattr(self._library, f"{self.PREFIX}_dispatch")
        for _ in range(limit):
            if self._number not in self.OPEN:
                return  # whoever heard the event before has closed the connection
            error = dispatch(self._number, DISPATCH_ONE_NONBLOCKING)
            if self._failed is not None:
                failed, self._failed = self._failed, None
                raise failed
            while self._said:
                yield self._said.popleft()
            if error == TRY_AGAIN:
                return
            if error != OK:
                raise CorosyncError(f"{self.PREFIX}_dispatch", error)

    def finalize(self) -> None:
        """Close the connection; a second time does nothing. May block while corosync hangs."""
        if self.OPEN.pop(self._number, None) is not None:
            getattr(self._library, f"{self.PREFIX}_finalize")(self._number)  # also when it fails, all is released

    def say(self, event: E) -> None:
        """Take an event down (called by the callbacks)."""
        self._said.append(event)

    def fail(self, error: BaseException) -> None:
        """A callback failed; take() raises it."""
        self._failed = error


class Cpg(Handle[Message | Confchg | TotemConfchg]):
    """A connection to the group service. It joins one group, once; to leave is to close it."""

    LIBRARY = "cpg"
    PREFIX = "cpg"
    OPEN: ClassVar[dict[int, Any]] = {}

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self._room = select.poll()
        self._room.register(self.fileno(), select.POLLOUT)

    @classmethod
    def open(cls) -> Self:
        """Connect. Raises CorosyncError."""
        number = FFI.new("cpg_handle_t *")
        model = FFI.new("cpg_model_v1_data_t *", (MODEL_V1, _deliver, _confchg, _totem, DELIVER_INITIAL_TOTEM_CONF))
        insist(libraries().cpg, "cpg_model_initialize", number, MODEL_V1, model, FFI.NULL)
        return cls(number[0])

    def local(self) -> int:
        """This node's number."""
        node = FFI.new("unsigned int *")
        insist(self._library, "cpg_local_get", self._number, node)
        return int(node[0])

    def join(self, group: bytes) -> None:
        """Join a group; its name has up to 128 bytes. Raises CorosyncError."""
        insist(self._library, "cpg_join", self._number, _group(group))

    def leave(self, group: bytes) -> None:
        """Leave the group. The connection is of no more use then, and is to be closed."""
        insist(self._library, "cpg_leave", self._number, _group(group))

    def mcast(self, payload: bytes) -> bool:
        """Send a message to the group; False: not now. Never waits.

        The message goes into shared memory, and with it one byte into the connection's socket, to wake corosync up. A
        hung corosync reads none of them: some hundreds of small messages fill the socket before they fill the memory,
        and then the library waits without limit (measured). So nothing is sent unless the socket has ample room.

        Raises:
            CorosyncError: the connection is lost.
        """
        if not self._room.poll(0):
            return False
        data = FFI.from_buffer(payload)
        part = FFI.new("struct iovec *", (FFI.cast("void *", data), len(payload)))
        error = self._library.cpg_mcast_joined(self._number, TYPE_AGREED, part, 1)
        if error not in (OK, TRY_AGAIN):
            raise CorosyncError("cpg_mcast_joined", error)
        return bool(error == OK)


class Quorum(Handle[NodeList | Quorate]):
    """A connection to the quorum service."""

    LIBRARY = "quorum"
    PREFIX = "quorum"
    OPEN: ClassVar[dict[int, Any]] = {}

    def __init__(self, number: int, *, provided: bool) -> None:
        super().__init__(number)
        self.provided = provided

    @classmethod
    def open(cls) -> Self:
        """Connect. `provided` says whether a quorum provider is configured. Raises CorosyncError."""
        number, kind = FFI.new("quorum_handle_t *"), FFI.new("uint32_t *")
        model = FFI.new("quorum_model_v1_data_t *", (MODEL_V1, _quorum, _nodelist))
        insist(libraries().quorum, "quorum_model_initialize", number, MODEL_V1, model, kind, FFI.NULL)
        return cls(number[0], provided=kind[0] != QUORUM_FREE)

    def track(self) -> None:
        """Ask to be told: the present ring at once, then each change."""
        insist(self._library, "quorum_trackstart", self._number, TRACK_CURRENT | TRACK_CHANGES)


class Cmap(Handle[KeyChanged]):
    """A connection to corosync's keys and values."""

    LIBRARY = "cmap"
    PREFIX = "cmap"
    OPEN: ClassVar[dict[int, Any]] = {}

    @classmethod
    def open(cls) -> Self:
        """Connect. Raises CorosyncError."""
        number = FFI.new("cmap_handle_t *")
        insist(libraries().cmap, "cmap_initialize", number)
        return cls(number[0])

    def track(self, prefix: str) -> None:
        """Ask to be told of each change of a key that begins so."""
        track = FFI.new("cmap_track_handle_t *")
        arguments = (prefix.encode(), CMAP_TRACK_ALL, _key_changed, FFI.NULL, track)
        insist(self._library, "cmap_track_add", self._number, *arguments)

    def read(self, prefix: str) -> dict[str, Value]:
        """All keys that begin so, with their values; not at one instant.

        Raises:
            CorosyncError: the connection is lost: half a list is none.
        """
        library, number = self._library, self._number
        iterator, key = FFI.new("cmap_iter_handle_t *"), FFI.new("char[]", KEY_BYTES)
        size, kind = FFI.new("size_t *"), FFI.new("int *")
        found: dict[str, Value] = {}
        insist(library, "cmap_iter_init", number, prefix.encode(), iterator)
        try:
            while (error := outcome(library, "cmap_iter_next", number, iterator[0], key, size, kind)) == OK:
                buffer = FFI.new("char[]", size[0])
                error = outcome(library, "cmap_get", number, key, buffer, size, kind)
                if error == OK:
                    found[_text(FFI.string(key))] = _value(kind[0], bytes(FFI.buffer(buffer, size[0])))
                elif error not in (NOT_EXIST, NO_SPACE):
                    raise CorosyncError("cmap_get", error)
                # A key that has gone meanwhile, or has grown, is left out: a notice of it is on its way.
            if error != NO_SECTIONS:
                raise CorosyncError("cmap_iter_next", error)
        finally:
            library.cmap_iter_finalize(number, iterator[0])
        return found


class Cfg(Handle[Shutdown]):
    """A connection to the service that stops corosync, here or on another node."""

    LIBRARY = "cfg"
    PREFIX = "corosync_cfg"
    OPEN: ClassVar[dict[int, Any]] = {}

    @classmethod
    def open(cls) -> Self:
        """Connect. Raises CorosyncError."""
        number, callbacks = FFI.new("corosync_cfg_handle_t *"), FFI.new("corosync_cfg_callbacks_t *", (_shutdown,))
        insist(libraries().cfg, "corosync_cfg_initialize", number, callbacks)
        return cls(number[0])

    def local(self) -> int:
        """This node's number."""
        node = FFI.new("unsigned int *")
        insist(self._library, "corosync_cfg_local_get", self._number, node)
        return int(node[0])

    def track(self) -> None:
        """Ask to be asked before corosync shuts down."""
        insist(self._library, "corosync_cfg_trackstart", self._number, 0)

    def reply(self, *, allow: bool) -> None:
        """Answer the question that is open; without one, or too late, it does nothing."""
        insist(self._library, "corosync_cfg_replyto_shutdown", self._number, int(allow))

    def kill_node(self, node: int, reason: str) -> None:
        """Ask the corosync of a node to end; returns before it does.

        Args:
            node: its number.
            reason: for corosync's log there; what is beyond REASON_BYTES is cut off.

        Raises:
            CorosyncError: CS_ERR_NOT_EXIST: the node is not in this ring.
        """
        insist(self._library, "corosync_cfg_kill_node", self._number, node, _bytes(reason)[:REASON_BYTES])


def _group(name: bytes) -> Any:
    return FFI.new("struct cpg_name *", (len(name), name))


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape").replace(b"\0", b"?")


def _value(kind: int, raw: bytes) -> Value:
    if kind == CMAP_STRING:
        return _text(raw.split(b"\0", 1)[0])
    form = _FORMATS.get(kind)
    if form is None or struct.calcsize(form) != len(raw):
        return raw
    number: int | float = struct.unpack(form, raw)[0]
    return number


def _numbers(array: Any, size: int) -> tuple[int, ...]:
    return tuple(FFI.unpack(array, size)) if size else ()


def _members(array: Any, size: int) -> tuple[ChannelMember, ...]:
    return tuple(ChannelMember(a.nodeid, a.pid) for a in (array[i] for i in range(size)))


def _changes(array: Any, size: int) -> tuple[tuple[ChannelMember, int], ...]:
    return tuple((ChannelMember(a.nodeid, a.pid), a.reason) for a in (array[i] for i in range(size)))


def _callback(kind: str, opened: dict[int, Any]) -> Callable[[Callable[..., object]], Any]:
    """Makes a C callback of what turns its arguments, after the handle, into an event. No exception is lost in C."""

    def make(read: Callable[..., object]) -> Any:
        def called(number: int, *arguments: Any) -> None:
            handle = opened[number]
            try:
                handle.say(read(*arguments))
            except BaseException as error:  # noqa: BLE001 (take() raises it)
                handle.fail(error)

        return FFI.callback(kind, called)

    return make


@_callback("cpg_deliver_fn_t", Cpg.OPEN)
def _deliver(_group: Any, node: int, pid: int, data: Any, size: int) -> Message:
    return Message(ChannelMember(node, pid), bytes(FFI.buffer(data, size)) if size else b"")


@_callback("cpg_confchg_fn_t", Cpg.OPEN)
def _confchg(_group: Any, *lists: Any) -> Confchg:
    members, m, left, gone, joined, new = lists
    return Confchg(_members(members, m), _changes(left, gone), _changes(joined, new))


@_callback("cpg_totem_confchg_fn_t", Cpg.OPEN)
def _totem(ring: Any, size: int, nodes: Any) -> TotemConfchg:
    return TotemConfchg(Ring(ring.seq, ring.nodeid), _numbers(nodes, size))


@_callback("quorum_quorum_fn_t", Quorum.OPEN)
def _quorum(quorate: int, ring: Any, _size: int, _nodes: Any) -> Quorate:
    return Quorate(Ring(ring.seq, ring.nodeid), bool(quorate))


@_callback("quorum_nodelist_fn_t", Quorum.OPEN)
def _nodelist(ring: Any, *lists: Any) -> NodeList:
    m, members, new, joined, gone, left = lists
    return NodeList(Ring(ring.seq, ring.nodeid), _numbers(members, m), _numbers(joined, new), _numbers(left, gone))


@_callback("cmap_notify_fn_t", Cmap.OPEN)
def _key_changed(_track: int, _event: int, key: Any, *_: Any) -> KeyChanged:
    return KeyChanged(_text(FFI.string(key)))


@_callback("corosync_cfg_shutdown_fn_t", Cfg.OPEN)
def _shutdown(flags: int) -> Shutdown:
    return Shutdown(flags)
