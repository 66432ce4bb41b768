"""A change: from the statements of all members of a view to one table. Pure, and the same on every node.

The table after a change is a function of its statements alone. That is also all there is to merging two sides of a
healed partition: for each group the statement with the newest START wins, and whoever claims to be a member of a group
and is there neither member nor lost-and-unrecovered has been recovered by others: it is put out and resets.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ocfs2_controld.table import advance, settled
from protocol.frozen import EMPTY, FrozenMap, replace
from protocol.group import (
    NO_START,
    NOBODY,
    Claim,
    Group,
    GroupTable,
    Inside,
    Phase,
    StartName,
    Statement,
    View,
    ViewMember,
)
from protocol.identity import UNKNOWN_BOOT, Life


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a complete collection comes to.

    Attributes:
        change: its name, a hash over the nonces.
        table: the table of all from here on.
        put_out: lives whose claim is void: others have recovered them.
    """

    change: str
    table: GroupTable
    put_out: tuple[Life, ...]


def name_of(statements: Iterable[Statement]) -> str:
    """The name of the change that these statements make: 16 hexadecimal digits."""
    text = "\n".join(f"{s.life.node} {s.nonce}" for s in sorted(statements, key=lambda s: s.life))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def in_doubt(here: Iterable[int], configured: Iterable[int], *, two_node: bool = False) -> bool:
    """Whether the configured nodes that are not here could have a quorum among themselves.

    With two_node either of two has one alone. A and B have nothing mounted and are cut apart: both would mount F as its
    first, and neither would know of the other.
    """
    every = set(configured)
    absent = len(every - set(here))
    return absent > 0 if two_node else 2 * absent > len(every)


def _newest(s: Statement) -> StartName:
    """The newest START that a statement knows of, in any group."""
    made = [c.started for c in s.claims.values()]
    return max([s.table.newest, *made]) if s.table else max(made, default=NO_START)


def _rank(s: Statement, table: GroupTable, fs: str) -> StartName:
    """How new a statement's word about one group is.

    A table without the group counts as new as its newest START of any group: it has either forgotten the group after
    its last START, or never heard of one that was made later.
    """
    group = table.groups.get(fs)
    claim = s.claims.get(fs)
    known = table.newest if group is None else group.made
    return known if claim is None else max(known, claim.started)


def _stake(s: Statement, fs: str) -> int:
    """What the node that says this has of the group itself: of equally new tables its own counts first.

    B and C have F mounted, A has not, and is cut off: A holds both for lost. B and C have lost no member and run on.
    When the network is healed, A's table is as new as theirs. If it won, B would start F anew while C still runs it.
    And where C has died meanwhile, so that B is stopped: B knows who was lost. A would have every node fenced that it
    did not see.
    """
    claim = s.claims.get(fs)
    return 0 if claim is None else 2 if claim.running else 1


def _unknown(nodes: Iterable[int]) -> set[Life]:
    return {Life(n, UNKNOWN_BOOT) for n in nodes}


@dataclass(frozen=True, slots=True)
class _Known:
    """What all groups share while they are reconciled."""

    said: Mapping[Life, Statement]
    claims: Mapping[str, Mapping[Life, Claim]]
    at: Mapping[int, Life]
    fenced: set[Life]
    begun: frozenset[Life]
    doubted: set[Life]
    away: frozenset[int]

    def doomed(self, life: Life) -> bool:
        """Whether a fence of this life is under way, which cannot be called back.

        A is cut off; B begins to have it switched off; the network is healed at once. Were A to go on, it would answer
        its clients, and be killed in the midst of it. A begun fence is finished: A resets, and is not waited for.
        """
        return life in self.begun or Life(life.node, UNKNOWN_BOOT) in self.begun


def _claims(statements: Iterable[Statement]) -> dict[str, dict[Life, Claim]]:
    """Who claims which group, in the order of the statements."""
    found: dict[str, dict[Life, Claim]] = {}
    for s in statements:
        for fs, claim in s.claims.items():
            found.setdefault(fs, {})[s.life] = claim
    return found


def _speakers(tables: Sequence[tuple[Statement, GroupTable]]) -> list[tuple[Statement, GroupTable]]:
    """One statement for each table, since after a failure nearly all state the same one: that of the lowest node.

    About a group that it does not claim a statement says what its table says. If the lowest node of a table claims the
    group, its word is at least as new, and it has the greater stake.
    """
    return list({id(t): (s, t) for s, t in reversed(tables)}.values())


def _unseen(
    tables: Sequence[tuple[Statement, GroupTable]], knows: Mapping[Life, StartName], absent: set[int]
) -> set[Life]:
    """Unknown lives of absent nodes that may have been members of a group nobody here knows of.

    A, B, C have nothing mounted. A is cut off; B and C have a quorum and mount; B loses power and comes back, C is cut
    off and writes on. A and B now have a quorum and a table without that group, and no START may be made before C is
    fenced. So A doubts, from the ring on in which the others could do without it, whatever it does not see.
    """
    newest = max(knows.values())
    best = [(s, t) for s, t in tables if knows[s.life] == newest]
    sets = [set(t.unseen) | (_unknown(absent) if s.doubt else set()) for s, t in best]
    return {x for x in set.intersection(*sets) if x.node in absent}


def _begun(view: View, tables: Sequence[GroupTable]) -> FrozenMap[Life, ViewMember]:
    """Fences under way on any side, each with the lowest daemon that began it and is here."""
    by: dict[Life, set[ViewMember]] = {}
    for table in tables:
        for life, member in table.begun.items():
            by.setdefault(life, set()).add(member)
    return FrozenMap({x: min(found & {*view.members}, default=NOBODY) for x, found in by.items()})


def _sort_lives(g: Group, fs: str, known: _Known) -> tuple[list[Life], set[Life], list[Life]]:
    """Members, lost and away, of those that the group had."""
    members: list[Life] = []
    lost: set[Life] = set()
    away: list[Life] = []
    for x in (*g.members, *g.lost):
        statement = known.said.get(x)
        if x == g.joiner and statement is not None and fs not in statement.claims:
            continue
        here = known.at.get(x.node)
        if x.unknown:
            # A node that was never seen and now speaks for itself is no longer unknown: its claim, if any, counts.
            if here is None:
                lost.add(x)
        elif here == x:
            if statement is None or fs not in statement.claims or x in known.fenced:
                continue
            if known.doomed(x):
                lost.add(x)
            else:
                members.append(x)
        elif here is not None:
            # The node has a newer life, by its own statement: the older one is over.
            lost.add(x)
            known.fenced.add(x)
        elif x.node in known.away and x in g.members:
            members.append(x)
            away.append(x)
        else:
            lost.add(x)
    return members, lost, away


def _void(
    g: Group, claims: Mapping[Life, Claim], members: Sequence[Life], known: _Known
) -> tuple[tuple[Life, ...], list[Life]]:
    """Of those who claim to be members and are none: whose claim is void, and who was only not seen yet.

    Who is still joining has answered no client, and nothing is mounted there: it drops its links and asks again. A's
    engine stands still while a client on A asks for F; A hears its own Join, alone, and would be reset for it together
    with all that it has mounted, for the others have never heard of it.
    """
    out: list[Life] = []
    unseen: list[Life] = []
    for x in sorted(claims):
        if x in members:
            continue
        if known.doomed(x):
            out.append(x)
        elif claims[x].inside is Inside.MEMBER:
            (unseen if Life(x.node, UNKNOWN_BOOT) in g.lost else out).append(x)
    return tuple(out), unseen


def _stops_first(g: Group, after: Group, claims: Mapping[Life, Claim], fenced: set[Life]) -> bool:
    """Whether the members have to stop and say so before another START, since one of them runs.

    F runs on A and B. D, which is in no group, leaves the channel, and C's join is undone. Nobody was lost, so A and B
    have not stopped. Or: C was lost and is fenced. A and B have started without it, but not heard so of each other,
    when C is back as a new life. A would start anew while B, which reads all this later, still runs (law 6).
    """
    runs = any(x in claims and claims[x].running for x in after.members)
    return runs and not after.away and set(after.lost) <= fenced & {*g.lost}


def _reconcile_group(g: Group, fs: str, known: _Known, name: StartName) -> tuple[Group, tuple[Life, ...]]:
    claims = known.claims.get(fs, {})
    members, lost, away = _sort_lives(g, fs, known)
    out, unseen = _void(g, claims, members, known)
    members += unseen
    if g.members or g.lost or g.queue or members:
        lost |= {x for x in known.doubted if x.node not in known.at}
    after = replace(
        g,
        members=tuple(sorted(members)),
        lost=tuple(sorted(lost)),
        away=tuple(sorted(away)),
        answers=tuple(x for x in g.answers if x in members or x == g.joiner),
        queue=tuple(x for x in g.queue if x in known.said and known.said[x].table is not None),
    )
    joiner = g.joiner
    if joiner is not None and (joiner not in known.said or known.said[joiner].table is None):
        joiner = None
        after = replace(after, joiner=None, phase=Phase.RUN if g.phase is Phase.LOCK else g.phase)
    # Rule `fresh`: a daemon that was restarted has no table. It has lost its answers and locks, also where nobody
    # noticed that it was away.
    fresh = any(x in known.said and known.said[x].table is None for x in after.members)
    if fresh or (after.members, after.lost, after.away) != (g.members, g.lost, g.away):
        # Rule `requeue`: A lets C in, B dies. Deaths first and alone: C, which was not answered, asks again. It says so
        # itself, since a table in which it was lost in between knows it as a joiner no more.
        unanswered = [x for x in after.members if x in claims and claims[x].inside is Inside.JOINING]
        after = replace(after, members=tuple(x for x in after.members if x not in unanswered))
        joiner = joiner if joiner in after.members else None
        after = replace(after, phase=Phase.RECOVER, joiner=joiner, answers=(), gone=False, start=name)
        if _stops_first(g, after, claims, known.fenced):
            after = replace(after, phase=Phase.STOP, lost=())
        return after, out
    stopped = [
        x
        for x in after.members
        if x in claims
        and not claims[x].running
        and (
            after.phase in (Phase.RUN, Phase.LOCK)
            or (after.phase in (Phase.START, Phase.RECOVER) and x in after.answers)
        )
    ]
    if stopped:
        # Rule `restart`: its quorum went and came, and nobody was lost. What it had answered no longer counts.
        joiner = None if after.phase is Phase.LOCK else after.joiner
        if after.phase is not Phase.RECOVER:
            after = replace(after, phase=Phase.STOP)
        elif _stops_first(g, after, claims, known.fenced):
            after = replace(after, phase=Phase.STOP, lost=())
        after = replace(after, joiner=joiner, answers=(), start=name)
    return after, out


def reconcile(view: View, statements: Sequence[Statement]) -> Outcome:
    """The table after a change.

    Args:
        view: the view that all statements answer.
        statements: one of each member of the view.

    Returns:
        The same on every node, whatever the order of the statements.
    """
    statements = sorted(statements, key=lambda s: s.life)
    said = {s.life: s for s in statements}
    at = {s.life.node: s.life for s in statements}
    configured = {n for s in statements for n in s.configured}
    absent = configured - set(at)
    claims = _claims(statements)
    tables = [(s, s.table) for s in statements if s.table is not None]
    stated = {s.life: (s, t) for s, t in tables}
    speakers = _speakers(tables)
    if tables:
        knows = {s.life: _newest(s) for s, _ in tables}
        unseen = _unseen(tables, knows, absent)
        base = max(tables, key=lambda item: (knows[item[0].life], -item[0].life.node))
        fenced = {x for _, t in speakers for x in t.fenced}
        begun = _begun(view, [t for _, t in tables])
        doubted = unseen - set(base[1].unseen)
        away = frozenset(base[0].away)
        named = max(t.named for _, t in speakers)
    else:
        # A cluster that starts without knowing: each configured node that it has not seen may be writing (law 11).
        unseen = doubted = _unknown(absent)
        fenced, away, named = set(), frozenset(), NO_START
        begun = EMPTY
    known = _Known(said, claims, at, fenced - doubted, frozenset(begun), doubted, away)
    names = sorted({*claims, *(fs for _, t in speakers for fs in t.groups)})
    groups: dict[str, Group] = {}
    put_out: set[Life] = set()
    newest = max([t.newest for _, t in speakers], default=NO_START)
    for fs in names:
        if tables:
            asked = [*speakers, *(stated[x] for x in claims.get(fs, ()) if x in stated)]
            winner = max(asked, key=lambda x: (_rank(x[0], x[1], fs), _stake(x[0], fs), -x[0].life.node))
            old = winner[1].groups.get(fs, Group())
            g, out = _reconcile_group(
                old, fs, replace(known, away=frozenset(winner[0].away)), named.following(view.ring)
            )
        else:
            claim = tuple(sorted(claims.get(fs, ())))
            g, out = Group(claim, tuple(sorted(unseen)), phase=Phase.RECOVER, start=named.following(view.ring)), ()
        named = max(named, g.start)
        groups[fs] = g
        put_out.update(out)
    dead = tuple(sorted(known.fenced))
    for fs, g in groups.items():
        groups[fs] = advance(g, dead, named.following(view.ring))
        named = max(named, groups[fs].start)
        newest = max(newest, groups[fs].made)
    table = GroupTable(FrozenMap(groups), dead, tuple(sorted(unseen)), newest, named, begun)
    return Outcome(name_of(statements), settled(table), tuple(sorted(put_out)))
