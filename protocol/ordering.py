"""What the two daemons say to each other, so that no node changes under a link to it.

ocfs2_controld asks with LOCK and CANCEL; o2cb_controld answers with the others. The lock itself is a descriptor that
travels beside LOCKED (SCM_RIGHTS): a LOCKED that came without one is no grant. UNLOCKED (to o2cb_controld) and WAITING
(to ocfs2_controld) are hints; to lose one costs time, never order.

    LOCK request number address port name      LOCKED request             QUEUED request reason
    REFUSED request errno reason               CANCEL request             UNLOCKED number          WAITING number reason

Same record and splitter as the client socket. Names come last because the kernel allows blanks in them. The socket
also understands REPORT, DUMP and REPLACE, and their answers STATUS, ITEMCOUNT and ITEM.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Final, TypeAlias

from protocol import client, framing
from protocol.client import Dump, Item, ItemCount, Replace, Report, Status
from protocol.framing import BadMessage, command, number, shown, spell, to_bytes, to_text, words
from protocol.identity import NodeIdentity

MAX_NAME: Final = 64
"""Bytes of the longest node name."""

MAX_REQUEST: Final = 2**63 - 1
"""The greatest request id; ids are never used again on a connection, so that an old answer fits no new request."""

_INT_MAX: Final = 2**31 - 1
_PORT_MAX: Final = 2**16 - 1


@dataclass(frozen=True, slots=True)
class Lock:
    """Grant the lock of this node, once it stands with exactly this number, address and port.

    Attributes:
        request: the asker's id for this request, 0 to MAX_REQUEST; every answer names it.
        identity: may be one that can never be granted, such as number 0: that is answered REFUSED.
    """

    word: ClassVar[str] = "LOCK"
    request: int
    identity: NodeIdentity


@dataclass(frozen=True, slots=True)
class Locked:
    """Granted; a descriptor came along."""

    word: ClassVar[str] = "LOCKED"
    request: int


@dataclass(frozen=True, slots=True)
class Queued:
    """Not yet; said again when the reason changes. The reason is cut where it does not fit."""

    word: ClassVar[str] = "QUEUED"
    request: int
    reason: str


@dataclass(frozen=True, slots=True)
class Refused:
    """Never; the request is over.

    Attributes:
        errno: positive, for the MOUNT that wanted the lock.
        reason: cut where it does not fit.
    """

    word: ClassVar[str] = "REFUSED"
    request: int
    errno: int
    reason: str


@dataclass(frozen=True, slots=True)
class Cancel:
    """The request is taken back. An answer to it may still be on its way, with a descriptor that must be closed."""

    word: ClassVar[str] = "CANCEL"
    request: int


@dataclass(frozen=True, slots=True)
class Unlocked:
    """Hint: the lock of this node number was given up; look again now."""

    word: ClassVar[str] = "UNLOCKED"
    number: int


@dataclass(frozen=True, slots=True)
class Waiting:
    """Hint: a change of this node number waits for your links. The reason is cut where it does not fit."""

    word: ClassVar[str] = "WAITING"
    number: int
    reason: str


OrderingMessage: TypeAlias = (
    Lock | Locked | Queued | Refused | Cancel | Unlocked | Waiting | Report | Dump | Replace | Status | ItemCount | Item
)


def check_name(name: str) -> str:
    """The name, if the node tree can have a directory of that name.

    Raises:
        BadMessage: it is empty, longer than 64 bytes, "." or "..", or holds a slash, a NUL or a newline.
    """
    raw = to_bytes(name)
    if not name:
        raise BadMessage("a node needs a name")
    if len(raw) > MAX_NAME:
        raise BadMessage(f"the node name {shown(raw)} has {len(raw)} bytes; {MAX_NAME} is the most")
    if name in (".", ".."):
        raise BadMessage(f'a node cannot be named "{name}": each directory has that entry already')
    for letter, called in (("/", "a slash"), ("\0", "a NUL"), ("\n", "a newline")):
        if letter in name:
            raise BadMessage(f"the node name {shown(raw)} holds {called}, which no directory of the node tree can have")
    return name


def parse(text: bytes) -> OrderingMessage:
    """The message that a record's text is.

    Numbers that fit an int are let through, also those that no node can have, so that they can be answered REFUSED
    with a reason.

    Raises:
        BadMessage: it is none, or it names a node as no node can be named.
    """
    word = command(text)
    if word in _FORMS:
        arity, build = _FORMS[word]
        return build(*map(to_text, words(text, arity)[1]))
    message = client.parse(text)
    if isinstance(message, _SHARED):
        return message
    raise BadMessage(f"Unknown message {shown(word)} on the ordering socket")


def encode(message: OrderingMessage) -> bytes:
    """The record of a message, which `parse` reads back as the same message, but for a reason that was cut.

    Raises:
        BadMessage: a number is out of its range, the address holds a blank, or see `check_name`.
        TextTooLong: the address is too long, or see `client.encode`.
    """
    match message:
        case Lock(request, node):
            return framing.encode(
                spell(
                    message.word,
                    _request(request),
                    _number(node.number),
                    node.address,
                    _checked(node.port, "a port", _PORT_MAX),
                    check_name(node.name),
                )
            )
        case Locked(request) | Cancel(request):
            return framing.encode(spell(message.word, _request(request)))
        case Queued(request, reason):
            return framing.encode_sentence(f"{message.word} {_request(request)}", reason)
        case Refused(request, errno, reason):
            code = str(_errno(str(errno)))
            return framing.encode_sentence(f"{message.word} {_request(request)} {code}", reason)
        case Unlocked(node_number):
            return framing.encode(spell(message.word, _number(node_number)))
        case Waiting(node_number, reason):
            return framing.encode_sentence(f"{message.word} {_number(node_number)}", reason)
        case _:
            return client.encode(message)


def _checked(value: int, what: str, top: int) -> str:
    return str(number(str(value), what, top))


def _request(value: int) -> str:
    return _checked(value, "a request id", MAX_REQUEST)


def _number(value: int) -> str:
    return _checked(value, "a node number", _INT_MAX)


def _errno(digits: str) -> int:
    value = number(digits, "an errno", _INT_MAX)
    if value == 0:
        raise BadMessage("REFUSED needs a positive errno: 0 would say that it worked")
    return value


def _read_request(digits: str) -> int:
    return number(digits, "a request id", MAX_REQUEST)


def _read_number(digits: str) -> int:
    return number(digits, "a node number", _INT_MAX)


def _lock(request: str, node: str, address: str, port: str, name: str) -> Lock:
    identity = NodeIdentity(_read_number(node), address, number(port, "a port", _PORT_MAX), check_name(name))
    return Lock(_read_request(request), identity)


_FORMS: Final[Mapping[bytes, tuple[int, Callable[..., OrderingMessage]]]] = {
    b"LOCK": (5, _lock),
    b"LOCKED": (1, lambda request: Locked(_read_request(request))),
    b"QUEUED": (2, lambda request, reason: Queued(_read_request(request), reason)),
    b"REFUSED": (3, lambda request, errno, reason: Refused(_read_request(request), _errno(errno), reason)),
    b"CANCEL": (1, lambda request: Cancel(_read_request(request))),
    b"UNLOCKED": (1, lambda node: Unlocked(_read_number(node))),
    b"WAITING": (2, lambda node, reason: Waiting(_read_number(node), reason)),
}
_SHARED: Final = (Report, Dump, Replace, Status, ItemCount, Item)
