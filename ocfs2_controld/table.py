"""The replicated table: what each word on the channel does to a mount group. Pure, and the same on every node.

A group is always in one phase. Deaths go first: they put it into RECOVER from anywhere. Joins and leaves wait for RUN
and then go one at a time:

    RUN -> LOCK -> STOP -> START -> RUN       a join: locks everywhere, then stop, then start with one more member
    RUN ->         STOP -> START -> RUN       a leave: links to the leaver are removed by a STOP and START of their own
    any -> RECOVER -> RUN                     deaths, and daemons that were away: everybody is stopped already

A phase is left when everybody who owes an answer in it has given one; `advance` looks at that after each word.
"""

from collections.abc import Callable, Iterable
from enum import Enum, auto
from itertools import chain
from operator import attrgetter
from typing import TypeAlias

from libo2cb.machine import Move, Table
from protocol.frozen import FrozenMap, replace
from protocol.group import (
    NOBODY,
    FenceBegun,
    Fenced,
    FenceFailed,
    Goodbye,
    Group,
    GroupTable,
    GroupWord,
    HaveLock,
    Identify,
    Join,
    Leave,
    Lost,
    Phase,
    Refuse,
    Started,
    StartName,
    Stopped,
    Withdraw,
)
from protocol.identity import UNKNOWN_BOOT, Life, Ring

TaggedWord: TypeAlias = GroupWord | Fenced | FenceBegun | FenceFailed | Lost | Identify | Goodbye
"""A word that is said in a change."""
Rule: TypeAlias = Callable[[Group, Life, TaggedWord], Group]
_LOST = attrgetter("lost")
MOST_GROUPS = 2048
"""Groups of a cluster; a MOUNT that would make one more is refused. With 254 members each they fit a statement."""


class Heard(Enum):
    """What was said of a group."""

    JOIN = auto()
    WITHDRAW = auto()
    LEAVE = auto()
    HAVE_LOCK = auto()
    REFUSE = auto()
    STOPPED = auto()
    STARTED = auto()
    LOST = auto()
    FENCED = auto()


_HEARD: dict[type[TaggedWord], Heard] = {
    Join: Heard.JOIN,
    Withdraw: Heard.WITHDRAW,
    Leave: Heard.LEAVE,
    HaveLock: Heard.HAVE_LOCK,
    Refuse: Heard.REFUSE,
    Stopped: Heard.STOPPED,
    Started: Heard.STARTED,
    Lost: Heard.LOST,
    Fenced: Heard.FENCED,
}


def with_life(lives: Iterable[Life], life: Life) -> tuple[Life, ...]:
    """These lives and this one, sorted."""
    return tuple(sorted({*lives, life}))


def without_life(lives: Iterable[Life], life: Life) -> tuple[Life, ...]:
    """These lives but this one, in their order."""
    return tuple(x for x in lives if x != life)


def _restart(g: Group, **changes: object) -> Group:
    """The group in a STOP of its own, which ends in a START with a new name."""
    return replace(g, **{"phase": Phase.STOP, "answers": (), **changes})  # type: ignore[arg-type]  # fields of Group


def _stale(g: Group, _sender: Life, _word: TaggedWord) -> Group:
    """An answer to something older, or to nobody: heard by all alike, and nothing comes of it (law 7)."""
    return g


def _enqueue(g: Group, sender: Life, _word: TaggedWord) -> Group:
    if sender in g.members or sender in g.queue or sender == g.joiner:
        return g
    return replace(g, queue=(*g.queue, sender))


def _withdraw_from_queue(g: Group, sender: Life, _word: TaggedWord) -> Group:
    return replace(g, queue=without_life(g.queue, sender))


def _withdraw_from_lock(g: Group, sender: Life, word: TaggedWord) -> Group:
    if sender == g.joiner:
        return replace(g, joiner=None, phase=Phase.RUN, answers=())
    return _withdraw_from_queue(g, sender, word)


def _withdraw_from_stop(g: Group, sender: Life, word: TaggedWord) -> Group:
    """The members stop and start for nobody: some have stopped already."""
    if sender == g.joiner:
        return replace(g, joiner=None)
    return _withdraw_from_queue(g, sender, word)


def _withdraw_from_start(g: Group, sender: Life, word: TaggedWord) -> Group:
    """Some may have linked the joiner already: a START without it removes those links."""
    if sender == g.joiner:
        return _restart(g, joiner=None, members=without_life(g.members, sender))
    return _withdraw_from_queue(g, sender, word)


def _leave(g: Group, sender: Life, _word: TaggedWord) -> Group:
    """A leave counts at its delivery and waits for no one, in the midst of a join or a recovery too (rule `gone`)."""
    if sender not in g.members:
        return g
    return replace(
        g,
        members=without_life(g.members, sender),
        away=without_life(g.away, sender),
        answers=without_life(g.answers, sender),
        joiner=None if sender == g.joiner else g.joiner,
        gone=True,
    )


def _have_lock(g: Group, sender: Life, word: TaggedWord) -> Group:
    if not isinstance(word, HaveLock) or word.joiner != g.joiner or sender not in (*g.members, g.joiner):
        return g
    return replace(g, answers=with_life(g.answers, sender))


def _refuse(g: Group, sender: Life, word: TaggedWord) -> Group:
    """One member that cannot link the joiner keeps it out: the join is undone, everybody else goes on."""
    if not isinstance(word, Refuse) or word.joiner != g.joiner or sender not in (*g.members, g.joiner):
        return g
    return replace(g, joiner=None, phase=Phase.RUN, answers=())


def _stopped(g: Group, sender: Life, word: TaggedWord) -> Group:
    if not isinstance(word, Stopped) or word.start != g.start or sender not in g.members:
        return g
    return replace(g, answers=with_life(g.answers, sender))


def _stopped_alone(g: Group, sender: Life, word: TaggedWord) -> Group:
    """A member is stopped while the others run (quorum went and came for it alone): all start again together.

    A joiner that is being let in asks again afterwards.
    """
    if not isinstance(word, Stopped) or word.start != g.start or sender not in g.members:
        return g
    return _restart(g, joiner=None, answers=(sender,))


def _started(g: Group, sender: Life, word: TaggedWord) -> Group:
    """Answers carry the name of their START: one to an older START is not taken for this one (law 7)."""
    if not isinstance(word, Started) or word.start != g.start or sender not in g.members:
        return g
    return replace(g, answers=with_life(g.answers, sender), made=max(g.made, g.start))


def _lost(g: Group, _sender: Life, word: TaggedWord) -> Group:
    """A member whose daemon was away is lost for good. The group is in RECOVER since it went away."""
    if not isinstance(word, Lost) or word.life not in g.away:
        return g
    return replace(
        g,
        members=without_life(g.members, word.life),
        away=without_life(g.away, word.life),
        lost=with_life(g.lost, word.life),
        joiner=None if g.joiner == word.life else g.joiner,
    )


def _fenced(g: Group, _sender: Life, _word: TaggedWord) -> Group:
    """That a life is fenced stands in the table; a group in RECOVER may go on now."""
    return g


_ALL = tuple(Phase)
_ROWS: dict[Heard, dict[Phase, tuple[Rule, tuple[Phase, ...]]]] = {
    Heard.JOIN: dict.fromkeys(_ALL, (_enqueue, ())),
    Heard.WITHDRAW: {
        Phase.RUN: (_withdraw_from_queue, ()),
        Phase.LOCK: (_withdraw_from_lock, (Phase.RUN,)),
        Phase.STOP: (_withdraw_from_stop, ()),
        Phase.START: (_withdraw_from_start, (Phase.STOP,)),
        Phase.RECOVER: (_withdraw_from_queue, ()),
    },
    Heard.LEAVE: dict.fromkeys(_ALL, (_leave, ())),
    Heard.HAVE_LOCK: {**dict.fromkeys(_ALL, (_stale, ())), Phase.LOCK: (_have_lock, ())},
    Heard.REFUSE: {**dict.fromkeys(_ALL, (_stale, ())), Phase.LOCK: (_refuse, (Phase.RUN,))},
    Heard.STOPPED: {
        Phase.RUN: (_stopped_alone, (Phase.STOP,)),
        Phase.LOCK: (_stopped_alone, (Phase.STOP,)),
        Phase.STOP: (_stopped, ()),
        Phase.START: (_stale, ()),
        Phase.RECOVER: (_stale, ()),
    },
    Heard.STARTED: {**dict.fromkeys(_ALL, (_stale, ())), Phase.START: (_started, ()), Phase.RECOVER: (_started, ())},
    Heard.LOST: {**dict.fromkeys(_ALL, (_stale, ())), Phase.RECOVER: (_lost, ())},
    Heard.FENCED: dict.fromkeys(_ALL, (_fenced, ())),
}
PHASES: Table[Phase, Heard, Rule] = Table(
    "Phases of a mount group",
    Phase,
    Heard,
    {(p, h): Move(*_ROWS[h][p]) for p in Phase for h in Heard},
)


def _step(g: Group, fenced: tuple[Life, ...], name: StartName) -> Group:
    answered = set(g.members) <= set(g.answers)
    recovered = set(g.lost) <= set(fenced)
    match g.phase:
        case Phase.RECOVER if not g.members and recovered:
            # Rule `first`: with nobody left, the next first mounter waits until every former member is fenced.
            return replace(g, phase=Phase.RUN, lost=(), away=(), gone=False, joiner=None, answers=())
        case Phase.RECOVER if g.members and not g.away and recovered and answered:
            return replace(g, phase=Phase.RUN, lost=(), joiner=None, answers=())
        case Phase.START if answered:
            return replace(g, phase=Phase.RUN, joiner=None, answers=())
        case Phase.STOP if answered:
            members = g.members if g.joiner is None else with_life(g.members, g.joiner)
            # Rule `joinfence`: A, B let C in. C reads its own last STARTED, answers its client 0 and dies with the
            # message: A and B never hear it. C wrote, so it must be fenced: it is a member from here on.
            if not members:
                return replace(g, phase=Phase.RUN, joiner=None, answers=())
            return replace(g, phase=Phase.START, members=members, answers=(), start=name)
        case Phase.LOCK if g.joiner is not None and {*g.members, g.joiner} <= set(g.answers):
            return replace(g, phase=Phase.STOP, answers=())
        case Phase.RUN if g.gone:
            # The first to go on without the leaver removes the links to it.
            return replace(_restart(g), gone=False, joiner=None) if g.members else replace(g, gone=False)
        case Phase.RUN if g.queue:
            return replace(g, phase=Phase.LOCK, joiner=g.queue[0], queue=g.queue[1:], answers=())
        case _:
            return g


def advance(g: Group, fenced: tuple[Life, ...], name: StartName) -> Group:
    """Leave each phase in which nobody owes an answer any more.

    Args:
        g: the group.
        fenced: lives known to be dead.
        name: for the START that this may come to; there can be no more than one.
    """
    while (after := _step(g, fenced, name)) is not g:
        g = after
    return g


def bound(table: GroupTable, life: Life) -> bool:
    """Whether some group's members link this life, or are about to: from the STOP of its join on, until it has left.

    Its identity cannot change meanwhile. A has stopped for C's join and links C with the lock that it has; C, whose
    address a reload has changed, says so, and A hears it a moment later. Were that word to count, C would give up the
    lock of its old address, and A's link would stand on one that C no longer has (law 4).
    """
    groups = table.groups.values()
    return any(life in g.members or (life == g.joiner and g.phase is not Phase.LOCK) for g in groups)


def lost_lives(table: GroupTable) -> set[Life]:
    """Lives that some group has lost, fenced or not. Asked in each step of all groups, of which hardly any has."""
    return set(chain.from_iterable(map(_LOST, table.groups.values())))


def needs_fence(table: GroupTable) -> tuple[Life, ...]:
    """Lives that some group's START waits for, and that nobody has fenced yet; sorted."""
    lost = lost_lives(table)
    return tuple(sorted(lost - set(table.fenced))) if lost else ()


def proven_dead(life: Life) -> tuple[Life, ...]:
    """What a fence of this life proves.

    A device acts on a node. When it has been seen off, every life it had up to then is over: also the unknown one that
    a group may be asking for.
    """
    return (life,) if life.unknown else (life, Life(life.node, UNKNOWN_BOOT))


def settled(table: GroupTable) -> GroupTable:
    """The table with groups that can be forgotten left out, and only such fences kept as somebody still asks for."""
    groups = table.groups
    if any(g.idle for g in groups.values()):
        groups = FrozenMap({fs: g for fs, g in groups.items() if not g.idle})
    return _asked_for(replace(table, groups=groups))


def _asked_for(table: GroupTable) -> GroupTable:
    """The table with such fences only as somebody still asks for."""
    if not table.fenced and not table.begun:
        return table
    lost = lost_lives(table)
    fenced = tuple(x for x in table.fenced if x in lost or x in table.unseen)
    begun = FrozenMap({x: by for x, by in table.begun.items() if x in lost and x not in fenced})
    return replace(table, fenced=fenced, begun=begun)


def _still_asked_for(before: GroupTable, after: GroupTable, fs: str) -> bool:
    """Whether each life that this group has just ceased to ask for is one that another still asks for.

    Of a thousand groups that a node was in each ends its recovery by a word of its own. To look through all of them for
    each would take a million looks; they end in order, so the last ones still ask when the first have done.
    """
    was, now = before.groups.get(fs), after.groups.get(fs)
    lost = now.lost if now is not None else ()
    if was is None or was.lost == lost:
        return True
    others = after.groups
    return all(any(x in g.lost for g in others.values_reversed()) for x in was.lost if x not in lost)


def _told(table: GroupTable, ring: Ring, fs: str, sender: Life, word: TaggedWord) -> GroupTable:
    heard = _HEARD[type(word)]
    old = table.groups.get(fs)
    if old is None:
        if heard is not Heard.JOIN:
            return table
        # A group that nobody has: its first mounter waits for each node that may have had it unseen (law 11).
        old = Group(lost=table.unseen, phase=Phase.RECOVER)
    new = PHASES[old.phase, heard].rule(old, sender, word)
    new = advance(new, table.fenced, table.named.following(ring))
    if (new is old or new == old) and fs in table.groups:
        return table
    return replace(
        table,
        groups=table.groups.without(fs) if new.idle else table.groups.put(fs, new),
        newest=max(table.newest, new.made),
        named=max(table.named, new.start),
    )


def _fence_under_way(table: GroupTable, sender: Life, word: FenceBegun | FenceFailed) -> GroupTable:
    """Whose device acts on which life: of two who begin it is the one who is heard first."""
    by = table.begun.get(word.life, NOBODY)
    if isinstance(word, FenceBegun):
        free = word.life in needs_fence(table) and by == NOBODY
        return replace(table, begun=table.begun.put(word.life, word.by)) if free else table
    return replace(table, begun=table.begun.without(word.life)) if by.node == sender.node else table


def apply(table: GroupTable, ring: Ring, sender: Life, word: TaggedWord) -> GroupTable:
    """The table after a word that was said in the present change.

    Args:
        table: the table before it.
        ring: the ring of the change.
        sender: the life that said it.
        word: what it said.

    Returns:
        The same table, object for object, when nothing comes of it.
    """
    before = table
    match word:
        case Goodbye() | Identify():
            return table
        case Fenced():
            dead = [x for x in proven_dead(word.life) if x not in table.fenced]
            asked = lost_lives(table) | set(table.unseen)
            known = tuple(sorted({*table.fenced, *(x for x in dead if x in asked)}))
            if known == table.fenced:
                return table
            unseen = tuple(x for x in table.unseen if x not in known)
            table = replace(table, fenced=known, unseen=unseen)
            for fs, g in before.groups.items():
                if any(x in known for x in g.lost):
                    table = _told(table, ring, fs, sender, word)
        case FenceBegun() | FenceFailed():
            return _fence_under_way(table, sender, word)
        case Lost():
            for fs, g in before.groups.items():
                if word.life in g.away:
                    table = _told(table, ring, fs, sender, word)
        case _:
            table = _told(table, ring, word.fs, sender, word)
            return table if _still_asked_for(before, table, word.fs) else _asked_for(table)
    return table if table is before else _asked_for(table)
