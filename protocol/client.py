"""What clients and ocfs2_controld say to each other: mount.ocfs2, ocfs2_hb_ctl, fsck, debugfs and our own tools.

Grammar and oddities as measured on ocfs2-tools 1.8.7 and on both upstream daemons. REPORT, FENCED and REPLACE are
ours. A message is its word and its fields, in their order:

    MOUNT fstype uuid cluster device service      MRESULT fstype uuid code service      UNMOUNT fstype uuid service
    STATUS code text                              ITEMCOUNT count                       ITEM text
    LISTFS fstype cluster                         LISTMOUNTS fstype uuid                LISTCLUSTERS
    DUMP        REPORT        REPLACE             FENCED node life

A request that needs a list is answered ITEMCOUNT n, n times ITEM, STATUS 0; every other, and any error at any time, by
STATUS. Codes are positive errnos; 114 (EALREADY) tells a mounter to go on and mount. The client closes.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import astuple, dataclass
from errno import EBADMSG
from typing import ClassVar, Final, Protocol, TypeAlias, assert_never

from protocol import framing
from protocol.framing import MAX_TEXT, BadMessage, command, shown, spell, to_bytes, to_text, words

MAX_ITEM: Final = MAX_TEXT - len("ITEM ")
"""Bytes of the longest ITEM."""

MOUNT_SERVICE: Final = "ocfs2"
"""The service by which mount.ocfs2 and the kernel's call of ocfs2_hb_ctl mean a mount."""

_INT_MIN: Final = -(2**31)
_INT_MAX: Final = 2**31 - 1
_UINT_MAX: Final = 2**32 - 1
_STRTOL: Final = re.compile(r"[\t\n\v\f\r]*[+-]?[0-9]+")


@dataclass(frozen=True, slots=True)
class Mount:
    """A client wants to mount, or to use the filesystem under another service.

    Attributes:
        fstype: "ocfs2".
        uuid: 32 hex digits, as the client wrote them.
        cluster: name of the cluster, from the superblock.
        device: as typed; not canonical. May hold blanks if the service is "ocfs2".
        service: "ocfs2", a tool's name, or a text of somebody's own, which may hold blanks but not end in " ocfs2".
    """

    word: ClassVar[str] = "MOUNT"
    fstype: str
    uuid: str
    cluster: str
    device: str
    service: str


@dataclass(frozen=True, slots=True)
class MountResult:
    """How the mount went.

    Attributes:
        code: 0 if it worked; else any int: an errno, or a com_err code such as -1485330940.
    """

    word: ClassVar[str] = "MRESULT"
    fstype: str
    uuid: str
    code: int
    service: str


@dataclass(frozen=True, slots=True)
class Unmount:
    """A service ends."""

    word: ClassVar[str] = "UNMOUNT"
    fstype: str
    uuid: str
    service: str


@dataclass(frozen=True, slots=True)
class Status:
    """An answer.

    Attributes:
        code: 0 or a positive errno. From other daemons also a negative number, which clients take for an error.
        text: for people. Never empty from us: without a text the record is no message to upstream's clients.
    """

    word: ClassVar[str] = "STATUS"
    code: int
    text: str


@dataclass(frozen=True, slots=True)
class ListFs:
    """Which filesystems are mounted in the cluster?"""

    word: ClassVar[str] = "LISTFS"
    fstype: str
    cluster: str


@dataclass(frozen=True, slots=True)
class ListMounts:
    """Which services use the filesystem here?"""

    word: ClassVar[str] = "LISTMOUNTS"
    fstype: str
    uuid: str


@dataclass(frozen=True, slots=True)
class ListClusters:
    """Which cluster runs here?"""

    word: ClassVar[str] = "LISTCLUSTERS"


@dataclass(frozen=True, slots=True)
class ItemCount:
    """A list begins; 0 to 2**32 - 1 items follow."""

    word: ClassVar[str] = "ITEMCOUNT"
    count: int


@dataclass(frozen=True, slots=True)
class Item:
    """One item, 1 to 250 bytes; blanks and newlines are kept. An empty one parses, but every reader refuses it."""

    word: ClassVar[str] = "ITEM"
    text: str


@dataclass(frozen=True, slots=True)
class Dump:
    """The debug log, as items to be joined with nothing in between."""

    word: ClassVar[str] = "DUMP"


@dataclass(frozen=True, slots=True)
class Report:
    """Everything the daemon knows of itself: items whose joined text is one JSON document."""

    word: ClassVar[str] = "REPORT"


@dataclass(frozen=True, slots=True)
class Fenced:
    """An operator's word that a node was fenced.

    Attributes:
        node: its name, which may hold blanks.
        life: the boot id of the life that was fenced, without blanks; empty for a life that nobody has seen.
    """

    word: ClassVar[str] = "FENCED"
    node: str
    life: str


@dataclass(frozen=True, slots=True)
class Replace:
    """Exit at once and leave everything standing, for a successor."""

    word: ClassVar[str] = "REPLACE"


ClientMessage: TypeAlias = (
    Mount
    | MountResult
    | Unmount
    | Status
    | ListFs
    | ListMounts
    | ListClusters
    | ItemCount
    | Item
    | Dump
    | Report
    | Fenced
    | Replace
)


def parse(text: bytes) -> ClientMessage:
    """The message that a record's text is. The word counts by case, whole, and from the first byte on.

    Raises:
        BadMessage: it is none. Upstream's daemons never answer such a text; ours answers STATUS with its code.
    """
    word = command(text)
    if word not in _FORMS:
        raise BadMessage(f"Unknown message {shown(word)}")
    arity, build = _FORMS[word]
    return build(*map(to_text, words(text, arity)[1]))


def encode(message: ClientMessage) -> bytes:
    """The record of a message, which `parse` reads back as the same message (for strings, see `framing.to_bytes`).

    Raises:
        BadMessage: a field would be read back as something else, or nobody would accept it.
        TextTooLong: it does not fit. See `status` and `document` for what may be cut.
    """
    return framing.encode(_text(message))


def status(code: int, text: str) -> bytes:
    """The record of a STATUS that cannot fail for its text: cut at the end if too long, never empty.

    Args:
        code: 0 or a positive errno.
        text: for people.

    Raises:
        BadMessage: the code is negative or no int of 32 bits.
    """
    _check_code(code, Status.word, low=0)
    return framing.encode_sentence(f"{Status.word} {code}", text or ("OK" if code == 0 else f"Error {code}"))


def items(texts: Iterable[str]) -> list[bytes]:
    """The whole answer to a list request: the records ITEMCOUNT, one ITEM for each text, STATUS 0 OK.

    Raises:
        BadMessage: a text is empty, which readers refuse.
        TextTooLong: a text is longer than 250 bytes or holds a NUL.
    """
    records = [_item(text) for text in texts]
    return [framing.encode(b"ITEMCOUNT %d" % len(records)), *records, _LIST_ENDS]


def document(text: str) -> list[bytes]:
    """The whole answer to DUMP or REPORT: as `items`, of pieces whose join is the text.

    It cuts between UTF-8 characters and makes no empty piece. It never fails: what no record carries, and JSON escapes
    anyway, is written as in `framing.sendable`.
    """
    raw = framing.sendable(text)
    pieces = []
    at = 0
    while at < len(raw):
        # The byte behind the limit shows whether a character reaches across it.
        piece = framing.cut(raw[at : at + MAX_ITEM + 1], MAX_ITEM)
        pieces.append(to_text(piece))
        at += len(piece)
    return items(pieces)


class ListError(Exception):
    """A list that did not come whole.

    Attributes:
        code: what the daemon said; EBADMSG if it broke the order of messages.
    """

    def __init__(self, sentence: str, code: int = EBADMSG) -> None:
        super().__init__(sentence)
        self.code = code


class Worded(Protocol):
    """Any message, of this vocabulary or of another one."""

    word: ClassVar[str]


class ListReader:
    """Reads the answer to a list request, as strictly as upstream's library and in its words."""

    def __init__(self) -> None:
        self._expected: int | None = None
        self._items: list[str] = []
        self._done = False

    def feed(self, message: Worded) -> tuple[str, ...] | None:
        """Take in the next message; all items, once the list is complete, else None.

        Raises:
            ListError: the daemon refused, or the message is not its turn. No more can be read then.
        """
        match message:
            case Status(code=code, text=text) if code:
                raise ListError(f"Error {code} from daemon: {text}", code)
            case Status():
                if self._done or self._expected != len(self._items):
                    raise ListError("Unexpected STATUS 0 from daemon")
                self._done = True
                return tuple(self._items)
            case ItemCount(count=count):
                if self._expected is not None:
                    raise ListError("Unexpected itemcount")
                self._expected = count
            case Item(text=text):
                if len(self._items) >= (self._expected or 0):
                    raise ListError("Too many items!")
                if not text:
                    raise ListError("Empty item message")
                self._items.append(text)
            case _:
                raise ListError(f"Unexpected message {message.word} from daemon")
        return None


def _text(message: ClientMessage) -> bytes:
    match message:
        case Mount():
            return _mount_text(message)
        case MountResult(fstype, uuid, code, service):
            _check_code(code, message.word, low=_INT_MIN)
            return spell(message.word, fstype, uuid, str(code), service)
        case Status(code, text):
            _check_code(code, message.word, low=0)
            _check_some(text, "STATUS needs a text: clients take one without for an I/O error")
            return spell(message.word, str(code), text)
        case ItemCount(count):
            return spell(message.word, str(framing.number(str(count), "the count of items", _UINT_MAX)))
        case Item(text):
            return _item_text(text)
        case Fenced(node, life):
            _check_some(node, "FENCED needs the name of a node")
            if " " in life:
                raise BadMessage(f"FENCED cannot carry the life {shown(to_bytes(life))}: a boot id holds no blank")
            return spell(message.word, f"{node} {life}")
        case Unmount() | ListFs() | ListMounts() | ListClusters() | Dump() | Report() | Replace():
            return spell(message.word, *astuple(message))
        case _:
            assert_never(message)


def _mount_text(mount: Mount) -> bytes:
    if mount.service == MOUNT_SERVICE:
        return spell(mount.word, mount.fstype, mount.uuid, mount.cluster, f"{mount.device} {mount.service}")
    if mount.service.endswith(f" {MOUNT_SERVICE}"):
        raise BadMessage(
            f"MOUNT cannot carry the service {shown(to_bytes(mount.service))}:"
            " all before its last word would be taken for the device"
        )
    return spell(mount.word, mount.fstype, mount.uuid, mount.cluster, mount.device, mount.service)


def _mount(fstype: str, uuid: str, cluster: str, device: str, service: str) -> Mount:
    """A MOUNT whose last word is "ocfs2" has that service, and all between cluster and it is the device.

    A types `mount "img/my disk.img"`. The grammar alone makes that device "img/my" and service "disk.img ocfs2", but
    A's MRESULT and the kernel's UNMOUNT will say "ocfs2": the mount would belong to nobody. The price is that a service
    of several words cannot end in "ocfs2".
    """
    rest = f"{device} {service}"
    if rest.endswith(f" {MOUNT_SERVICE}"):
        device, service = rest.removesuffix(f" {MOUNT_SERVICE}"), MOUNT_SERVICE
    return Mount(fstype, uuid, cluster, device, service)


def _mresult(fstype: str, uuid: str, code: str, service: str) -> MountResult:
    """Unlike in a STATUS an empty code is refused here: silence is no proof that a mount worked."""
    value = _strtol(code) if code else None
    if value is None:
        raise BadMessage(f"Invalid error code string: {code}")
    return MountResult(fstype, uuid, value, service)


def _status(code: str, text: str) -> Status:
    value = _strtol(code)
    if value is None:
        raise BadMessage(f"STATUS needs a number of 32 bits for its code, not {shown(to_bytes(code))}")
    return Status(value, text)


def _fenced(rest: str) -> Fenced:
    """The life is the last word, so that the node's name may hold blanks."""
    node, blank, life = rest.rpartition(" ")
    if not blank:
        raise BadMessage("FENCED takes 2 arguments, but 1 came: the life of the node is missing")
    _check_some(node, "FENCED needs the name of a node")
    return Fenced(node, life)


def _strtol(digits: str) -> int | None:
    """What C's strtol makes of it in base 10, if it reads all and it fits an int; nothing at all counts as 0."""
    if not digits:
        return 0
    if not _STRTOL.fullmatch(digits):
        return None
    value = int(digits)
    return value if _INT_MIN <= value <= _INT_MAX else None


def _item_text(text: str) -> bytes:
    _check_some(text, "ITEM needs a text: readers of a list refuse an empty one")
    return spell(Item.word, text)


def _item(text: str) -> bytes:
    return framing.encode(_item_text(text))


def _check_code(code: int, word: str, low: int) -> None:
    if not low <= code <= _INT_MAX:
        raise BadMessage(f"{word} cannot carry the code {code}: it must be from {low} to {_INT_MAX}")


def _check_some(text: str, sentence: str) -> None:
    if not text:
        raise BadMessage(sentence)


_FORMS: Final[Mapping[bytes, tuple[int, Callable[..., ClientMessage]]]] = {
    b"MOUNT": (5, _mount),
    b"MRESULT": (4, _mresult),
    b"UNMOUNT": (3, Unmount),
    b"STATUS": (2, _status),
    b"LISTFS": (2, ListFs),
    b"LISTMOUNTS": (2, ListMounts),
    b"LISTCLUSTERS": (0, ListClusters),
    b"ITEMCOUNT": (1, lambda count: ItemCount(framing.number(count, "the count of items", _UINT_MAX))),
    b"ITEM": (1, Item),
    b"DUMP": (0, Dump),
    b"REPORT": (0, Report),
    b"FENCED": (1, _fenced),
    b"REPLACE": (0, Replace),
}

_LIST_ENDS: Final = status(0, "OK")
