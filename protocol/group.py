"""What the ocfs2_controlds say to each other across nodes, and the table of mount groups that they replicate.

One ordered channel carries all groups. An envelope on it is

    magic "o2gm" | u8 major | u8 minor | u16 piece | u16 pieces | u32 serial | body

little endian, 64 KiB at most; the bodies of all pieces of one serial, joined, are one JSON document

    {"change": name or null, "words": [{"word": ..., ...}, ...]}

A *statement* and an *expel* name the view that they answer; every other word is said in a change and counts only there.
A statement's table of groups is a JSON document of its own, as a string. An unknown word is never skipped, or the
tables would diverge: it is a BadEnvelope, for which its sender is expelled.
"""

import json
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Any, TypeAlias

from protocol.frozen import EMPTY, FrozenMap
from protocol.identity import Life, NodeIdentity, Ring, life

MAJOR, MINOR = 1, 0
PIECE = 64 * 1024
"""Size of an envelope in bytes, at most."""
MOST = 64 * 1024 * 1024
"""Size of a document in bytes, at most: bounds what a broken sender can make us keep."""
MOST_GROUPS = 4096
"""Groups of a table, or claims of a statement, at most. Nodes refuse mounts long before."""
MOST_LIVES = 1024
"""Lives in one list of a table, nodes of a configuration, members of a view, at most."""
_MAGIC = b"o2gm"
_HEAD = struct.Struct("<4sBBHHI")


class BadEnvelope(ValueError):
    """Bytes on the channel that are no envelope of this protocol. Says what is wrong with them."""


@dataclass(frozen=True, slots=True, order=True)
class StartName:
    """The name of a START: the ring of its change, and a count within the ring. Newer ones compare greater."""

    ring: Ring
    count: int

    def following(self, ring: Ring) -> "StartName":
        """The name of the next START, made in this ring."""
        return StartName(ring, self.count + 1 if self.ring == ring else 1)

    def __str__(self) -> str:
        return f"{self.ring}#{self.count}"


NO_START = StartName(Ring(0, 0), 0)
"""Before the first START."""


class Phase(StrEnum):
    """Where a group stands in its present change."""

    RUN = "run"  # nothing goes on
    LOCK = "lock"  # each member obtains the joiner's lock, the joiner those of all
    STOP = "stop"  # each member stops, for a join or for a leaver's links
    START = "start"  # each member starts with the new set of members
    RECOVER = "recover"  # lives were lost or daemons were away: everybody is stopped, START waits for its conditions


@dataclass(frozen=True, slots=True)
class Group:
    """One mount group, as every daemon has it.

    Attributes:
        members: lives that have the filesystem, sorted.
        lost: lives that were members and are gone without a leave; unknown lives of nodes never seen, too.
        away: members whose daemon is away while their node is not.
        phase: where the present change stands.
        joiner: who is being let in. From the moment all have stopped for it, it is in `members` too.
        answers: who has answered in this phase.
        queue: who waits to join, first come first.
        gone: links to a leaver still stand; a STOP and START of their own remove them.
        start: name of the START that is due or was the last.
        made: the newest START that somebody is known to have made.
    """

    members: tuple[Life, ...] = ()
    lost: tuple[Life, ...] = ()
    away: tuple[Life, ...] = ()
    phase: Phase = Phase.RUN
    joiner: Life | None = None
    answers: tuple[Life, ...] = ()
    queue: tuple[Life, ...] = ()
    gone: bool = False
    start: StartName = NO_START
    made: StartName = NO_START

    @property
    def idle(self) -> bool:
        """Whether the group can be forgotten."""
        return not (self.members or self.lost or self.queue or self.joiner)


@dataclass(frozen=True, slots=True)
class GroupTable:
    """All groups, and what is known of nodes that are not here. A function of the channel's order alone.

    Attributes:
        groups: by UUID; groups that can be forgotten are left out.
        fenced: lives known to be dead, as long as some group, or `unseen`, still asks.
        unseen: unknown lives of configured nodes that may have been members of a group we do not know of.
        newest: the newest START made in any group, also in those forgotten since.
        named: the newest name given to a START; names are never given twice.
        begun: lives whose fence is under way, and the daemon that began it, or NOBODY. Such a life does not go on.
    """

    groups: FrozenMap[str, Group] = EMPTY
    fenced: tuple[Life, ...] = ()
    unseen: tuple[Life, ...] = ()
    newest: StartName = NO_START
    named: StartName = NO_START
    begun: "FrozenMap[Life, ViewMember]" = EMPTY


@dataclass(frozen=True, slots=True, order=True)
class ViewMember:
    """A member of a view: node number and pid, as the engine names it."""

    node: int
    pid: int


NOBODY = ViewMember(0, 0)
"""Who has begun a fence and is gone with it."""


@dataclass(frozen=True, slots=True)
class View:
    """The ring, and the channel's members that owe a statement, sorted."""

    ring: Ring
    members: tuple[ViewMember, ...]


class Inside(StrEnum):
    """What a node's own kernel and clients say of its part in a group."""

    JOINING = "joining"  # the START of its join is under way; its MOUNT is not answered
    MEMBER = "member"


@dataclass(frozen=True, slots=True)
class Claim:
    """What a member's own kernel shows of one group.

    Attributes:
        inside: its part in it.
        running: false while its kernel is stopped.
        started: the newest START that it has made.
    """

    inside: Inside
    running: bool
    started: StartName


@dataclass(frozen=True, slots=True)
class Statement:
    """What each member says in a collection, after its STOPs have returned from the kernel.

    Attributes:
        view: the view that it answers; for any other it does not count.
        life: the sender's life.
        incarnation: the sender's daemon, one run of it.
        nonce: never said before; the change is named by a hash over the nonces.
        identity: the node as its own engine has it. A lock for it is asked with this.
        blocks: encoded handshake blocks.
        configured: numbers of the nodes in its engine's configuration.
        table: the sender's table, or None when its daemon has none yet.
        claims: by UUID, for each group that its kernel shows.
        away: nodes whose daemon it has seen go while the node did not.
        doubt: since its last complete change it was in a ring without which the other nodes could have had a quorum:
            what they did there it does not know.
    """

    view: View
    life: Life
    incarnation: str
    nonce: str
    identity: NodeIdentity
    blocks: bytes
    configured: tuple[int, ...]
    table: GroupTable | None
    claims: FrozenMap[str, Claim]
    away: tuple[int, ...]
    doubt: bool


@dataclass(frozen=True, slots=True)
class Expel:
    """A member of this view is put out: it owes an answer, or says what cannot be understood. Acts at once."""

    view: View
    member: ViewMember
    cause: str


@dataclass(frozen=True, slots=True)
class Join:
    """The sender wants to mount."""

    fs: str


@dataclass(frozen=True, slots=True)
class Withdraw:
    """The sender no longer wants to mount; counts unless the join has finished before it in the order."""

    fs: str


@dataclass(frozen=True, slots=True)
class Leave:
    """The sender leaves; done at its delivery."""

    fs: str


@dataclass(frozen=True, slots=True)
class HaveLock:
    """The sender holds the locks that this join needs of it."""

    fs: str
    joiner: Life


@dataclass(frozen=True, slots=True)
class Refuse:
    """The sender cannot get a lock that this join needs: the join is undone.

    Attributes:
        errno: positive, for the client.
        reason: one sentence that names the node.
    """

    fs: str
    joiner: Life
    errno: int
    reason: str


@dataclass(frozen=True, slots=True)
class Stopped:
    """The sender's kernel is stopped. Said in a running group: "mine is, all must start again"."""

    fs: str
    start: StartName


@dataclass(frozen=True, slots=True)
class Started:
    """The sender has made this START."""

    fs: str
    start: StartName


@dataclass(frozen=True, slots=True)
class Fenced:
    """This life is dead.

    Attributes:
        how: what proves it.
    """

    life: Life
    how: str


@dataclass(frozen=True, slots=True)
class FenceBegun:
    """The sender is about to have this life's node switched off; it does so once it has heard this itself.

    Attributes:
        by: the sender's daemon. When that is no more, another begins anew.
    """

    life: Life
    by: ViewMember


@dataclass(frozen=True, slots=True)
class FenceFailed:
    """The sender's device could not: nothing is under way any more until somebody begins again."""

    life: Life


@dataclass(frozen=True, slots=True)
class Lost:
    """This life, whose daemon was away, has left the engine or stayed silent for the grace time."""

    life: Life
    cause: str


@dataclass(frozen=True, slots=True)
class Identify:
    """The sender's configuration gives it another identity since its statement: locks for it are asked with this."""

    identity: NodeIdentity


@dataclass(frozen=True, slots=True)
class Goodbye:
    """The sender is in no group and is about to go: a clean departure."""


Word: TypeAlias = (
    Statement
    | Expel
    | Join
    | Withdraw
    | Leave
    | HaveLock
    | Refuse
    | Stopped
    | Started
    | Fenced
    | FenceBegun
    | FenceFailed
    | Lost
    | Identify
    | Goodbye
)
GroupWord: TypeAlias = Join | Withdraw | Leave | HaveLock | Refuse | Stopped | Started
"""A word that speaks of one group."""

Json: TypeAlias = Any


@dataclass(frozen=True, slots=True)
class Envelope:
    """Words said together.

    Attributes:
        change: the change in which they were said; None for statements and expulsions, which name a view.
    """

    change: str | None
    words: tuple[Word, ...]


def _life(life: Life) -> Json:
    return [life.node, life.boot]


def _lives(lives: Iterable[Life]) -> Json:
    return [_life(x) for x in lives]


def _start(name: StartName) -> Json:
    return [name.ring.sequence, name.ring.representative, name.count]


def _view(view: View) -> Json:
    return [view.ring.sequence, view.ring.representative, [[m.node, m.pid] for m in view.members]]


def _group(g: Group) -> Json:
    return {
        "members": _lives(g.members),
        "lost": _lives(g.lost),
        "away": _lives(g.away),
        "phase": g.phase.value,
        "joiner": None if g.joiner is None else _life(g.joiner),
        "answers": _lives(g.answers),
        "queue": _lives(g.queue),
        "gone": g.gone,
        "start": _start(g.start),
        "made": _start(g.made),
    }


def _identity(x: NodeIdentity) -> Json:
    return [x.number, x.address, x.port, x.name]


def _table(t: GroupTable) -> Json:
    return {
        "groups": {fs: _group(g) for fs, g in sorted(t.groups.items())},
        "fenced": _lives(t.fenced),
        "unseen": _lives(t.unseen),
        "newest": _start(t.newest),
        "named": _start(t.named),
        "begun": [[_life(x), [by.node, by.pid]] for x, by in sorted(t.begun.items())],
    }


def _packed(t: GroupTable) -> str:
    """A table as one text in its statement: equal tables are equal texts.

    Of 254 nodes one dies. All others have the same table, of perhaps a thousand groups, and each states it: so a text
    that was just read is not read again, and all statements share one table.
    """
    return json.dumps(_table(t), separators=(",", ":"), sort_keys=True)


def _word(w: Word) -> dict[str, Json]:  # noqa: C901 (one case a word, each a line)
    match w:
        case Statement():
            return {
                "view": _view(w.view),
                "life": _life(w.life),
                "incarnation": w.incarnation,
                "nonce": w.nonce,
                "identity": _identity(w.identity),
                "blocks": w.blocks.hex(),
                "configured": list(w.configured),
                "table": None if w.table is None else _packed(w.table),
                "claims": {fs: [c.inside.value, c.running, _start(c.started)] for fs, c in sorted(w.claims.items())},
                "away": list(w.away),
                "doubt": w.doubt,
            }
        case Expel():
            return {"view": _view(w.view), "member": [w.member.node, w.member.pid], "cause": w.cause}
        case Join() | Withdraw() | Leave():
            return {"fs": w.fs}
        case HaveLock():
            return {"fs": w.fs, "joiner": _life(w.joiner)}
        case Refuse():
            return {"fs": w.fs, "joiner": _life(w.joiner), "errno": w.errno, "reason": w.reason}
        case Stopped() | Started():
            return {"fs": w.fs, "start": _start(w.start)}
        case Fenced():
            return {"life": _life(w.life), "how": w.how}
        case FenceBegun():
            return {"life": _life(w.life), "by": [w.by.node, w.by.pid]}
        case FenceFailed():
            return {"life": _life(w.life)}
        case Lost():
            return {"life": _life(w.life), "cause": w.cause}
        case Identify():
            return {"identity": _identity(w.identity)}
        case Goodbye():
            return {}


def _is_int(value: Json) -> int:
    if type(value) is not int:
        raise BadEnvelope(f"a number was expected, not {value!r:.80}")
    return value


def _is_text(value: Json) -> str:
    if type(value) is not str:
        raise BadEnvelope(f"a text was expected, not {value!r:.80}")
    return value


def _is_bool(value: Json) -> bool:
    if type(value) is not bool:
        raise BadEnvelope(f"true or false was expected, not {value!r:.80}")
    return value


def _is_list(value: Json, length: int | None = None) -> list[Json]:
    if type(value) is not list or (length is not None and len(value) != length):
        raise BadEnvelope(f"a list{'' if length is None else f' of {length}'} was expected, not {value!r:.80}")
    return value


def _is_map(value: Json) -> dict[str, Json]:
    if type(value) is not dict:
        raise BadEnvelope(f"an object was expected, not {value!r:.80}")
    return value


def _to_life(value: Json) -> Life:
    node, boot = _is_list(value, 2)
    return life(_is_int(node), _is_text(boot))


def _to_identity(value: Json) -> NodeIdentity:
    number, address, port, name = _is_list(value, 4)
    return NodeIdentity(_is_int(number), _is_text(address), _is_int(port), _is_text(name))


def _few(value: Json, what: str, most: int) -> Json:
    if len(value) > most:
        raise BadEnvelope(f"{len(value)} {what} are more than {most}")
    return value


def _to_lives(value: Json) -> tuple[Life, ...]:
    return tuple(_to_life(x) for x in _few(_is_list(value), "lives", MOST_LIVES))


def _to_start(value: Json) -> StartName:
    sequence, representative, count = _is_list(value, 3)
    return StartName(Ring(_is_int(sequence), _is_int(representative)), _is_int(count))


def _to_member(value: Json) -> ViewMember:
    node, pid = _is_list(value, 2)
    return ViewMember(_is_int(node), _is_int(pid))


def _to_view(value: Json) -> View:
    sequence, representative, members = _is_list(value, 3)
    ring = Ring(_is_int(sequence), _is_int(representative))
    return View(ring, tuple(_to_member(m) for m in _few(_is_list(members), "members", MOST_LIVES)))


def _to_group(value: Json) -> Group:
    v = _is_map(value)
    return Group(
        members=_to_lives(v["members"]),
        lost=_to_lives(v["lost"]),
        away=_to_lives(v["away"]),
        phase=Phase(_is_text(v["phase"])),
        joiner=None if v["joiner"] is None else _to_life(v["joiner"]),
        answers=_to_lives(v["answers"]),
        queue=_to_lives(v["queue"]),
        gone=_is_bool(v["gone"]),
        start=_to_start(v["start"]),
        made=_to_start(v["made"]),
    )


def _to_table(value: Json) -> GroupTable:
    v = _is_map(value)
    groups = {fs: _to_group(g) for fs, g in _few(_is_map(v["groups"]), "groups", MOST_GROUPS).items()}
    return GroupTable(
        groups=FrozenMap(groups),
        fenced=_to_lives(v["fenced"]),
        unseen=_to_lives(v["unseen"]),
        newest=_to_start(v["newest"]),
        named=_to_start(v["named"]),
        begun=FrozenMap(dict(_to_begun(x) for x in _few(_is_list(v["begun"]), "fences", MOST_LIVES))),
    )


@lru_cache(maxsize=4)
def _unpacked(text: str) -> GroupTable:
    return _to_table(json.loads(text))


def _to_begun(value: Json) -> tuple[Life, ViewMember]:
    life, by = _is_list(value, 2)
    return _to_life(life), _to_member(by)


def _to_claim(value: Json) -> Claim:
    inside, running, started = _is_list(value, 3)
    return Claim(Inside(_is_text(inside)), _is_bool(running), _to_start(started))


def _to_statement(v: Mapping[str, Json]) -> Statement:
    return Statement(
        view=_to_view(v["view"]),
        life=_to_life(v["life"]),
        incarnation=_is_text(v["incarnation"]),
        nonce=_is_text(v["nonce"]),
        identity=_to_identity(v["identity"]),
        blocks=bytes.fromhex(_is_text(v["blocks"])),
        configured=tuple(_is_int(n) for n in _few(_is_list(v["configured"]), "nodes", MOST_LIVES)),
        table=None if v["table"] is None else _unpacked(_is_text(v["table"])),
        claims=FrozenMap({fs: _to_claim(c) for fs, c in _few(_is_map(v["claims"]), "claims", MOST_GROUPS).items()}),
        away=tuple(_is_int(n) for n in _few(_is_list(v["away"]), "nodes", MOST_LIVES)),
        doubt=_is_bool(v["doubt"]),
    )


_READERS: dict[str, Callable[[Mapping[str, Json]], Word]] = {
    "statement": _to_statement,
    "expel": lambda v: Expel(_to_view(v["view"]), _to_member(v["member"]), _is_text(v["cause"])),
    "join": lambda v: Join(_is_text(v["fs"])),
    "withdraw": lambda v: Withdraw(_is_text(v["fs"])),
    "leave": lambda v: Leave(_is_text(v["fs"])),
    "havelock": lambda v: HaveLock(_is_text(v["fs"]), _to_life(v["joiner"])),
    "refuse": lambda v: Refuse(_is_text(v["fs"]), _to_life(v["joiner"]), _is_int(v["errno"]), _is_text(v["reason"])),
    "stopped": lambda v: Stopped(_is_text(v["fs"]), _to_start(v["start"])),
    "started": lambda v: Started(_is_text(v["fs"]), _to_start(v["start"])),
    "fenced": lambda v: Fenced(_to_life(v["life"]), _is_text(v["how"])),
    "fencebegun": lambda v: FenceBegun(_to_life(v["life"]), _to_member(v["by"])),
    "fencefailed": lambda v: FenceFailed(_to_life(v["life"])),
    "lost": lambda v: Lost(_to_life(v["life"]), _is_text(v["cause"])),
    "identify": lambda v: Identify(_to_identity(v["identity"])),
    "goodbye": lambda _: Goodbye(),
}


def encode(envelope: Envelope, serial: int) -> Iterator[bytes]:
    """The pieces of an envelope, to be multicast in this order.

    Args:
        envelope: what is said.
        serial: tells the sender's envelopes apart; 32 bits of it count.

    Raises:
        BadEnvelope: the document is larger than MOST.
    """
    words = [{"word": type(w).__name__.lower(), **_word(w)} for w in envelope.words]
    body = json.dumps({"change": envelope.change, "words": words}, separators=(",", ":")).encode()
    if len(body) > MOST:
        raise BadEnvelope(f"{len(body)} bytes are more than a document may have ({MOST})")
    room = PIECE - _HEAD.size
    pieces = max(1, -(-len(body) // room))
    for i in range(pieces):
        head = _HEAD.pack(_MAGIC, MAJOR, MINOR, i, pieces, serial & 0xFFFFFFFF)
        yield head + body[i * room : (i + 1) * room]


def _decode(body: bytes) -> Envelope:
    try:
        document = _is_map(json.loads(body))
        change = document["change"]
        words: list[Word] = []
        for value in _is_list(document["words"]):
            v = _is_map(value)
            reader = _READERS.get(_is_text(v["word"]))
            if reader is None:
                raise BadEnvelope(f"the word {v['word']!r:.40} is not of protocol {MAJOR}.{MINOR}")
            words.append(reader(v))
        return Envelope(None if change is None else _is_text(change), tuple(words))
    except BadEnvelope:
        raise
    except KeyError as e:
        raise BadEnvelope(f"the field {e} is missing") from e
    except (ValueError, RecursionError) as e:
        raise BadEnvelope(f"no document of this protocol: {e}") from e


class Assembler:
    """Puts one sender's pieces together. A lost beginning (we joined in the middle) is skipped, not an error."""

    def __init__(self) -> None:
        self._serial: int | None = None
        self._bodies: list[bytes] = []
        self._size = 0

    def feed(self, payload: bytes) -> Envelope | None:
        """The envelope that this piece completes, if it completes one.

        Raises:
            BadEnvelope: bytes that are not of this protocol, or more than MOST of them.
        """
        if len(payload) < _HEAD.size:
            raise BadEnvelope(f"{len(payload)} bytes are too few for a head")
        magic, major, minor, piece, pieces, serial = _HEAD.unpack_from(payload)
        if magic != _MAGIC:
            raise BadEnvelope(f"magic {magic!r} is not {_MAGIC!r}")
        if major != MAJOR:
            raise BadEnvelope(f"protocol {major}.{minor} is not ours, {MAJOR}.{MINOR}")
        if piece >= pieces:
            raise BadEnvelope(f"piece {piece} of {pieces}")
        if piece == 0:
            self._serial, self._bodies, self._size = serial, [], 0
        elif self._serial != serial or piece != len(self._bodies):
            self._serial = None
            return None
        self._size += len(payload) - _HEAD.size
        if self._size > MOST:
            self._serial, self._bodies = None, []
            raise BadEnvelope(f"a document of more than {MOST} bytes")
        self._bodies.append(payload[_HEAD.size :])
        if len(self._bodies) < pieces:
            return None
        body, self._serial, self._bodies = b"".join(self._bodies), None, []
        return _decode(body)
