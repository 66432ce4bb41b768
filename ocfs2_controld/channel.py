"""The channel: views, collections, changes, and the words said in them. Pure.

Each ring change and each membership event of the channel begins a collection. When every member of the view has made
its statement the change is complete, and words can be said in it. A word said in another change is dropped by
everybody, its sender too, which says it again if it still wants it (rule `tag`).
"""

from libo2cb.engine.port import ChannelMember, ChannelMembers, ChannelRing, Reason
from libo2cb.events import Event, log
from libo2cb.limits import LAST_NODE
from ocfs2_controld import outs
from ocfs2_controld.actions import Exit, LeaveChannel, PowerOff, PutOut
from ocfs2_controld.change import in_doubt, reconcile
from ocfs2_controld.events import Garbled, Heard
from ocfs2_controld.explain import named
from ocfs2_controld.state import Out, Present, State, Turn, Usage
from ocfs2_controld.table import TaggedWord, apply, bound, needs_fence, proven_dead
from protocol.frozen import EMPTY, FrozenMap, replace
from protocol.group import (
    Claim,
    Expel,
    Fenced,
    Goodbye,
    Group,
    GroupTable,
    Identify,
    Inside,
    Phase,
    Refuse,
    Statement,
    ViewMember,
    Withdraw,
    Word,
)
from protocol.handshake import program_of, standard

DEVICE_SECONDS = 2.0
"""How long the first statement waits for the word on devices."""
OUT_SECONDS = 2.0
"""How long who has to go may take to go by itself, before the engine is asked to put its node out."""


def _put(t: Turn, **changes: object) -> None:
    t.put(channel=replace(t.state.channel, **changes))  # type: ignore[arg-type]  # fields of Channel


def halt(t: Turn, fs: str, cause: str) -> None:
    """STOP: at once, and whatever else goes on (law 6). With links nothing in the kernel is frozen by it."""
    local = t.state.local(fs)
    if local.running:
        t.put_local(fs, running=False, stopped_at=t.now, stop_cause=cause)
        t.do(log(Event.GROUP_STOPPED, fs=fs, cause=cause))


def halt_all(t: Turn, cause: str) -> None:
    """STOP of every group: quorum or the engine is lost."""
    for fs in t.state.locals:
        halt(t, fs, cause)


def _collect(t: Turn) -> None:
    """A new view: whatever was said in the old one is void."""
    _put(t, statements=EMPTY, early=EMPTY, told=False, change=None, refused=EMPTY, since=t.now)
    t.put(said=frozenset())
    view = t.state.view
    if view is not None:
        t.do(log(Event.VIEW, "debug", ring=str(view.ring), members=[f"{m.node}/{m.pid}" for m in view.members]))


def _member(m: ChannelMember) -> ViewMember:
    return ViewMember(m.node, m.pid)


def members_changed(t: Turn, event: ChannelMembers) -> None:
    """Daemons came or went.

    A daemon's death is not a node's: PROCDOWN leaves the life a member whose daemon is away (law 8). NODEDOWN is the
    loss of the life, and makes the ring unknown until the next totem callback: in between both old ring numbers agree,
    and a START would go by a stale quorum (rule `ring`).
    """
    channel, away = t.state.channel, t.state.away
    for m, why in event.left:
        cause = f"{t.state.engine.name(m.node)}: {'its daemon is away' if why is Reason.PROCDOWN else 'it is gone'}"
        _halt_groups_of(t, m.node, cause)
        if why is Reason.NODEDOWN:
            away = away.without(m.node)
        elif m.node != t.state.engine.local:
            away = away.put(m.node, t.now)
        out = t.state.outs.get(m.node)
        if out is not None and (out.daemon or why is Reason.NODEDOWN):
            t.put(outs=t.state.outs.without(m.node))
    for m, _ in event.joined:
        away = away.without(m.node)
    down = any(why is Reason.NODEDOWN for _, why in event.left)
    members = tuple(sorted(_member(m) for m in event.members))
    _put(
        t,
        members=members,
        expelled=frozenset(),
        ring=None if down else channel.ring,
    )
    t.put(away=away)
    _collect(t)


def _halt_groups_of(t: Turn, node: int, cause: str) -> None:
    if t.state.table is None:
        halt_all(t, cause)
        return
    for fs, g in t.state.table.groups.items():
        if fs in t.state.locals and any(x.node == node for x in g.members):
            halt(t, fs, cause)


def ring_changed(t: Turn, event: ChannelRing) -> None:
    """The ring under the channel: the totem callback."""
    # Who has said goodbye is in no group, and cannot come to one without being seen here again.
    engine = t.state.engine
    configured = [n.number for n in engine.nodes if n.number not in t.state.clean]
    channel = t.state.channel
    doubt = channel.doubt or in_doubt(event.nodes, configured, two_node=engine.two_node)
    early = channel.early if channel.ring is None else EMPTY
    _put(t, ring=event.ring, expelled=frozenset(), doubt=doubt)
    _collect(t)
    for sender, statement in sorted(early.items()):
        _statement(t, sender, statement)


def lost(t: Turn, why: str) -> None:
    """The engine is gone. Links and mounts stay; the groups stop."""
    halt_all(t, why)
    _put(t, ring=None, members=(), expelled=frozenset(), doubt=True)
    t.put(away=EMPTY)
    _collect(t)


def _claims(state: State) -> FrozenMap[str, Claim]:
    claims: dict[str, Claim] = {}
    for fs, local in state.locals.items():
        g = state.group(fs)
        joining = local.usage in (Usage.JOINING, Usage.WITHDRAWING)
        if joining and g.joiner == state.me and state.me in g.members:
            claims[fs] = Claim(Inside.JOINING, local.running, local.started)
        elif local.usage is Usage.LEAVING:
            # Nobody uses the device any more, as the kernel says, so there is nothing to recover and nothing to flush.
            # A leaves and is killed before it has taken its links down; its successor finds them, and must not be taken
            # for a member that others have recovered, and reset for it.
            continue
        elif local.region and not joining and local.usage is not Usage.IDLE:
            claims[fs] = Claim(Inside.MEMBER, local.running, local.started)
        elif joining and local.region and state.me in g.members:
            # Its join has finished, and its client is about to be told.
            claims[fs] = Claim(Inside.MEMBER, local.running, local.started)
    return FrozenMap(claims)


def asks_devices(state: State, now: float) -> bool:
    """Whether a daemon that has just started still asks whether what it found in the kernel is used by anybody.

    Its first statement depends on that. A device that does not answer is taken for used: others wait for the statement.
    """
    if state.table is not None:
        return False
    return any(
        local.usage is Usage.RELEASING and not local.busy and now < local.since + DEVICE_SECONDS
        for local in state.locals.values()
    )


def tell(t: Turn) -> None:
    """Make our statement, once for each view, when all STOPs that it is about have returned (rule `stopped`)."""
    state, channel = t.state, t.state.channel
    if channel.told or not state.engine.up or not state.found or state.ending is not None or state.out is not None:
        return
    view = state.view
    if view is None or state.member not in view.members:
        return
    identity = state.identity
    if identity is None or asks_devices(state, t.now):
        return
    t.put(standing=identity)
    if state.table is None:
        halt_all(t, "the daemon has been restarted")
    if channel.doubt:
        halt_all(t, "the other nodes could have had a quorum without this one")
    state = t.state
    statement = Statement(
        view=view,
        life=state.me,
        incarnation=state.settings.incarnation,
        nonce=f"{state.settings.incarnation}.{channel.count}",
        identity=identity,
        blocks=state.settings.blocks,
        # Number 300 can be no node of OCFS2. It has never written, and is never fenced before a first mount.
        configured=tuple(n.number for n in state.engine.nodes if 0 < n.number <= LAST_NODE),
        table=state.table,
        claims=_claims(state),
        away=tuple(sorted(state.away)),
        doubt=channel.doubt,
    )
    _put(t, told=True, count=channel.count + 1)
    t.words.append(statement)
    t.do(log(Event.STATED, "debug", ring=str(view.ring), life=str(state.me)))


def heard(t: Turn, event: Heard) -> None:
    """An envelope in the channel's order."""
    if event.sender == t.state.member and _speaker(t.state, event.sender, event.envelope.change) is not None:
        t.put(said=t.state.said.difference(event.envelope.words), said_at=t.now)
    for word in event.envelope.words:
        match word:
            case Statement():
                _statement(t, event.sender, word)
            case Expel():
                _expel(t, event.sender, word)
            case _:
                _tagged(t, event.sender, event.envelope.change, word)


def _statement(t: Turn, sender: ViewMember, s: Statement) -> None:
    channel, view = t.state.channel, t.state.view
    if channel.ring is None and sender in channel.members:
        _put(t, early=channel.early.put(sender, s))
    # Rule `view`: a statement that answers another ring, or other members, speaks of another world.
    if view is None or s.view != view or sender not in view.members or channel.change is not None:
        return
    if s.life.node != sender.node or sender in channel.statements:
        return
    _put(t, statements=channel.statements.put(sender, s))
    if len(t.state.channel.statements) == len(view.members):
        _complete(t)


def _refused(t: Turn, statements: dict[ViewMember, Statement]) -> FrozenMap[int, str]:
    """Whose handshake blocks do not fit those of the running cluster: of its lowest member that has a table."""
    order = sorted(statements.values(), key=lambda s: (s.table is None, s.life.node))
    reference, judge = order[0], standard(t.state.settings.port)
    found: dict[int, str] = {}
    for s in order[1:]:
        refusal = judge.judge(reference.blocks, s.blocks, reference.identity.name, s.identity.name)
        if refusal is not None:
            found[s.life.node] = str(refusal)
    return FrozenMap(found)


def _complete(t: Turn) -> None:
    channel, view = t.state.channel, t.state.view
    if view is None:
        return
    statements = dict(channel.statements)
    refused = _refused(t, statements)
    if refused:
        _put(t, refused=refused)
        for node, why in sorted(refused.items()):
            t.do(log(Event.REFUSED_PEER, "error", peer=t.state.engine.name(node), cause=why))
        if t.state.engine.local in refused:
            why = f"this daemon cannot talk to the running cluster: {refused[t.state.engine.local]}"
            t.put(ending=why)
            t.do(LeaveChannel(), Exit(1, why))
        return
    outcome = reconcile(view, list(statements.values()))
    old = t.state.table
    present = {
        m.node: Present(m, s.life, s.identity, s.incarnation, program_of(s.blocks))
        for m, s in sorted(statements.items())
    }
    still = {x.node for g in outcome.table.groups.values() for x in g.away}
    away = {n: t.state.away.get(n, t.now) for n in sorted(still)}
    _put(t, change=outcome.change, doubt=False)
    must_go = {
        life.node: Out(t.now + OUT_SECONDS, "others have recovered its life, or have it switched off", daemon=False)
        for life in outcome.put_out
    }
    t.put(
        outs=FrozenMap({**{n: out for n, out in t.state.outs.items() if n not in present}, **must_go}),
        table=outcome.table,
        present=FrozenMap(present),
        spoke=t.state.spoke.merge(dict.fromkeys(present, view.ring)),
        clean=t.state.clean - set(present),
        away=FrozenMap(away),
    )
    lives = [str(p.life) for p in present.values()]
    t.do(log(Event.CHANGE_COMPLETE, change=outcome.change, ring=str(view.ring), members=lives))
    _note(t, old or GroupTable(), outcome.table)
    t.dirty.update(outcome.table.groups, t.state.locals)
    t.needs_changed = True
    if t.state.me in outcome.put_out:
        put_out(t, "others have recovered this life, or are having it switched off: it can only come back as a new one")


def put_out(t: Turn, cause: str) -> None:
    """No way back in without a reset (law 9): a node whose filesystem others have recovered would flush stale data."""
    if t.state.out is not None:
        return
    t.put(out=cause)
    t.do(log(Event.PUT_OUT, "error", cause=cause))
    if any(local.region for local in t.state.locals.values()):
        t.do(PowerOff(cause))
    else:
        t.do(LeaveChannel(), Exit(1, cause))


def _expel(t: Turn, sender: ViewMember, word: Expel) -> None:
    """An expulsion acts at once, like a membership event: it is for the member whose statement is missing."""
    channel, view = t.state.channel, t.state.view
    if view is None or word.view != view or word.member not in view.members or sender not in view.members:
        return
    if _settled(t.state, word.member) and not _settled(t.state, sender):
        # B is of a broken build, and understands neither A nor C. Were a newcomer's word to count against those who
        # have a table, B could have the whole cluster reset.
        t.do(log(Event.MESSAGE_DROPPED, "warning", peer=t.state.engine.name(sender.node), change="expel"))
        return
    t.do(log(Event.EXPELLED, "error", peer=t.state.engine.name(word.member.node), cause=word.cause))
    if word.member == t.state.member:
        put_out(t, f"expelled by {t.state.engine.name(sender.node)}: {word.cause}")
        return
    _halt_groups_of(t, word.member.node, f"{t.state.engine.name(word.member.node)} was expelled: {word.cause}")
    t.put(outs=t.state.outs.put(word.member.node, Out(t.now + OUT_SECONDS, word.cause, daemon=True)))
    _put(t, expelled=channel.expelled | {word.member})
    _collect(t)


def _settled(state: State, member: ViewMember) -> bool:
    """Whether a member was in the last complete change, or has stated a table in this view."""
    present, said = state.present.get(member.node), state.channel.statements.get(member)
    return (present is not None and present.member == member) or (said is not None and said.table is not None)


def settle_outs(t: Turn) -> None:
    """Have the engine put out who should have gone by itself. One node asks, with quorum; it counts as no fence.

    A's daemon hangs. It was expelled, and B and C go on; but each new member of the channel would have to wait for A's
    statement again. And A, should it be recovered by others and go on, is to hear nothing more of the cluster. Whose
    vote is needed stays all the same (outs.py).
    """
    state = t.state
    if not state.outs or not state.acts:
        return
    go, _ = outs.due(state, t.now)
    for node in go:
        out = state.outs[node]
        t.put(outs=t.state.outs.put(node, replace(out, due=t.now + state.settings.grace_seconds)))
        t.do(log(Event.NODE_PUT_OUT, "warning", peer=state.engine.name(node), cause=out.why), PutOut(node, out.why))


def garbled(t: Turn, event: Garbled) -> None:
    """What cannot be understood expels its sender: passed over, it would make the tables differ.

    Whoever has no table yet is itself the one that does not fit. B is of the next major version, and comes to a cluster
    of the old one: neither understands the other. If B put all others out of its view, it would be alone with the
    engine's quorum, and have them switched off before its first mount.
    """
    peer = t.state.engine.name(event.sender.node)
    t.count("violations")
    t.do(log(Event.VIOLATION, "error", peer=peer, cause=event.why))
    view = t.state.view
    if event.sender == t.state.member or event.sender not in t.state.channel.members:
        return
    if t.state.table is None:
        why = f"this daemon cannot talk to the running cluster: what {peer} says cannot be understood: {event.why}"
        t.put(ending=why)
        t.do(LeaveChannel(), Exit(1, why))
    elif view is not None and event.sender in view.members:
        expel(t, event.sender, f"it says what cannot be understood: {event.why}")


def expel(t: Turn, member: ViewMember, cause: str) -> None:
    """Multicast that a member is put out of this view."""
    view = t.state.view
    if view is not None:
        t.say(Expel(view, member, cause))


def _speaker(state: State, sender: ViewMember, change: str | None) -> Present | None:
    """Who says this, if a word of this change counts now."""
    if change is None or change != state.channel.change or state.table is None:
        return None
    present = state.present.get(sender.node)
    return present if present is not None and present.member == sender else None


def _tagged(t: Turn, sender: ViewMember, change: str | None, word: TaggedWord) -> None:
    channel, table = t.state.channel, t.state.table
    present = _speaker(t.state, sender, change)
    if present is None or table is None:
        t.do(log(Event.MESSAGE_DROPPED, "debug", change=str(change), peer=t.state.engine.name(sender.node)))
        return
    if isinstance(word, Identify) and word.identity.number == sender.node and not bound(table, present.life):
        t.put(present=t.state.present.put(sender.node, replace(present, identity=word.identity)))
        t.dirty.update(t.state.locals)
        if sender == t.state.member:
            t.put(standing=word.identity)
    if isinstance(word, Goodbye):
        t.put(clean=t.state.clean | {sender.node})
    if channel.ring is None:
        return
    after = apply(table, channel.ring, present.life, word)
    if after is table:
        fs = getattr(word, "fs", None)
        t.dirty.update(() if fs is None else (fs,))
        return
    t.put(table=after)
    if isinstance(word, Refuse):
        t.refusals.append(word)
    _note(t, table, after, word)
    t.dirty.update(_concerned(word, table) | _concerned(word, after))


def _concerned(word: Word, table: GroupTable) -> set[str]:
    fs = getattr(word, "fs", None)
    return {fs} if fs is not None else set(table.groups)


def _note(t: Turn, old: GroupTable, new: GroupTable, word: TaggedWord | None = None) -> None:
    """Log what a change or a word has made of the groups."""
    names = {*old.groups, *new.groups} if word is None else _concerned(word, new)
    fenced = set(new.fenced) - set(old.fenced)
    if isinstance(word, Fenced):
        # Where the last group that asked goes on at once, the table has forgotten it again.
        fenced |= {*proven_dead(word.life)} & {*needs_fence(old)}
    for life in sorted(fenced):
        how = getattr(word, "how", "a newer life of the node, or another member's table")
        t.do(log(Event.LIFE_FENCED, "warning", life=str(life), cause=how))
    for fs in sorted(names):
        was, now = old.groups.get(fs, Group()), new.groups.get(fs, Group())
        if was is not now:
            _note_group(t, fs, was, now, word)


def _note_group(t: Turn, fs: str, was: Group, now: Group, word: TaggedWord | None) -> None:
    for life in now.lost:
        if life not in was.lost:
            t.do(log(Event.LIFE_LOST, "warning", fs=fs, life=str(life), cause=named(t.state, life)))
            if fs in t.state.locals:
                t.put(last_death=(life, t.now, None))
    for life in now.away:
        if life not in was.away:
            t.do(log(Event.AWAY, "warning", fs=fs, life=str(life)))
    # A joiner that withdraws takes its START back: nobody finishes that one.
    finished = was.phase in (Phase.START, Phase.RECOVER) and now.phase not in (Phase.START, Phase.RECOVER)
    withdrawn = isinstance(word, Withdraw)
    # Quorum is lost between A's START and the word that ends it for all: A has stopped, and nothing runs there.
    local = t.state.local(fs)
    runs = t.state.me in now.members and local.running and local.started == now.start
    if finished and not withdrawn and runs and now.start == was.start:
        members = [str(x) for x in now.members]
        t.do(log(Event.GROUP_FINISHED, fs=fs, start=str(now.start), members=members))
    if now.joiner is not None and now.joiner != was.joiner:
        t.do(log(Event.JOIN_BEGUN, fs=fs, life=str(now.joiner)))
