"""What this node owes each group, and does for it: joins, STOPs, STARTs, leaves, and the links in the kernel. Pure.

All of it is looked at anew after each step from what the table and the kernel show, so nothing is forgotten after an
interruption, and nothing has to be undone: a START that is overtaken is continued as another START.
"""

from errno import EPERM, ESHUTDOWN

from libo2cb.events import Event, log
from libo2cb.wording import shown
from ocfs2_controld import locks
from ocfs2_controld.actions import CallKernel, CheckDevice, HoldService, ReleaseService
from ocfs2_controld.channel import expel, halt
from ocfs2_controld.events import Call as KernelCall
from ocfs2_controld.events import KernelDone
from ocfs2_controld.explain import named, title
from ocfs2_controld.state import Local, State, Turn, Usage
from ocfs2_controld.usage import Call, Happening, happen
from protocol.frozen import FrozenMap, replace
from protocol.group import (
    NO_START,
    Group,
    HaveLock,
    Join,
    Leave,
    Phase,
    Refuse,
    Started,
    Stopped,
    Withdraw,
)
from protocol.identity import Life, NodeIdentity

RETRY_FIRST, RETRY_MOST = 0.5, 5.0
"""Seconds after which a call that the kernel refused is tried again; growing with the time it has been refused."""
LARGEST_ERRNO = 4095
"""The kernel's."""
_NAME = 40
"""Characters of a node's name in a refusal: a STATUS takes some 240 bytes, and the reason comes after the names."""
_MEMBERLESS = (Usage.IDLE, Usage.JOINING, Usage.WITHDRAWING, Usage.LEAVING)
"""Usages in which no client or mount depends on the region: it can be dropped when the table has us out."""


def kernel_done(t: Turn, event: KernelDone) -> None:
    """A call to the kernel's tree has returned."""
    local = t.state.local(event.fs)
    calls = local.calls - {(event.call.name, event.number)}
    if event.errno:
        verb = event.call.name.lower().replace("_", " ")
        what = f"{verb} {t.state.engine.name(event.number)}" if event.number else verb
        t.do(log(Event.KERNEL_REFUSED, "error", fs=event.fs, call=what, errno=event.errno, cause=event.why))
        t.count("kernel_refusals")
        since = t.now if local.refused_since is None else local.refused_since
        pause = min(RETRY_MOST, max(RETRY_FIRST, t.now - since))
        refusal = (what, event.errno, event.why)
        t.put_local(event.fs, calls=calls, refusal=refusal, refused_since=since, retry_at=t.now + pause)
        return
    changes: dict[str, object] = {"calls": calls, "refusal": None, "refused_since": None, "retry_at": None}
    name = t.state.engine.name(event.number)
    match event.call:
        case KernelCall.MAKE_REGION:
            changes["region"] = True
            t.do(log(Event.REGION_MADE, fs=event.fs))
        case KernelCall.REMOVE_REGION:
            changes |= {"region": False, "running": False, "started": NO_START, "stopped_at": None}
            t.do(log(Event.REGION_REMOVED, fs=event.fs))
        case KernelCall.LINK:
            life = _life_of(t.state, event.fs, event.number)
            changes["links"] = local.links.put(event.number, life)
            here = t.state.present.get(event.number)
            address = here.identity.address if here is not None else None
            t.do(
                log(
                    Event.LINKED,
                    fs=event.fs,
                    number=event.number,
                    name=name,
                    address=address,
                    life=None if life is None else str(life),
                )
            )
        case KernelCall.UNLINK:
            changes["links"] = local.links.without(event.number)
            t.do(log(Event.UNLINKED, fs=event.fs, number=event.number, name=name))
    t.put_local(event.fs, **changes)
    if event.call is KernelCall.UNLINK:
        locks.hint(t, event.number)
        t.needs_changed = True


def _life_of(state: State, fs: str, number: int) -> Life | None:
    return next((x for x in state.group(fs).members if x.node == number), None)


def _ask_kernel(t: Turn, fs: str, call: KernelCall, *numbers: int) -> None:
    """Have the call made for each of these nodes, or for the region itself (number 0), unless it is under way."""
    local = t.state.local(fs)
    asked = [n for n in numbers or (0,) if (call.name, n) not in local.calls]
    if not asked or (local.retry_at is not None and local.retry_at > t.now):
        return
    t.put_local(fs, calls=local.calls.union((call.name, n) for n in asked))
    t.do(*(CallKernel(call, fs, n) for n in asked))


def settle(t: Turn, fs: str) -> None:
    """Do what is owed to one group now."""
    state = t.state
    if state.out is not None or state.ending is not None or not state.found:
        return
    if not state.complete:
        _settle_alone(t, fs)
        return
    local, g = state.local(fs), state.group(fs)
    for rule in (_finish, _drop, _wish, _answer, _watch, _need):
        if t.state is not state:
            state = t.state
            local, g = state.local(fs), state.group(fs)
        rule(t, fs, local, g)


def _settle_alone(t: Turn, fs: str) -> None:
    """Between changes nothing is said; what concerns this node alone goes on."""
    local = t.state.local(fs)
    if local.usage is Usage.IDLE and not local.region and not local.calls and fs in t.state.locals:
        _forget(t, fs)


def _forget(t: Turn, fs: str) -> None:
    t.put(locals=t.state.locals.without(fs))
    t.dirty.discard(fs)
    t.needs_changed = True


def _finish(t: Turn, fs: str, local: Local, g: Group) -> None:
    """FINISH for a waiting mount, and the end of a withdrawal."""
    if local.usage not in (Usage.JOINING, Usage.WITHDRAWING):
        return
    state, me = t.state, t.state.me
    inside = me in g.members and g.joiner != me
    # Rule `own`: A's START of C's join was overtaken by one that C has not made; C must not hear 0 for its elder.
    if inside and g.phase not in (Phase.START, Phase.RECOVER) and local.running and local.started == g.start:
        happen(Happening.JOINED, Call(t, fs))
    elif (
        local.usage is Usage.WITHDRAWING
        and me not in g.members
        and me not in g.queue
        and g.joiner != me
        and not {Join(fs), Withdraw(fs)} & state.said
    ):
        happen(Happening.WITHDRAWN, Call(t, fs))


def _drop(t: Turn, fs: str, local: Local, g: Group) -> None:
    """The table has us out, and nobody here depends on the region: links and region go; so a leave ends."""
    state = t.state
    if local.usage not in _MEMBERLESS or state.me in g.members:
        return
    if local.links or local.region:
        halt(t, fs, "this node is not a member")
        if local.links:
            _ask_kernel(t, fs, KernelCall.UNLINK, *sorted(local.links))
        else:
            _ask_kernel(t, fs, KernelCall.REMOVE_REGION)
        return
    if local.usage is Usage.LEAVING and not local.calls:
        t.do(log(Event.LEFT, fs=fs, life=str(state.me)))
        happen(Happening.LEFT, Call(t, fs))
    if t.state.local(fs).usage is Usage.IDLE and not local.calls and fs in t.state.locals:
        _forget(t, fs)


def _wish(t: Turn, fs: str, local: Local, g: Group) -> None:
    """Say what the clients of this node want of the group."""
    if local.usage not in _MEMBERLESS:
        return
    state, me = t.state, t.state.me
    known = me in g.members or me in g.queue or g.joiner == me
    # C withdraws, and a START that waits for a fence has it as a member: too late, FINISH decides. Said all the same,
    # the word would come to nothing, be said again at each delivery, and flood the channel until then.
    waits = me in g.queue or (g.joiner == me and g.phase is not Phase.RECOVER)
    match local.usage:
        case Usage.JOINING if not known and not local.region and state.service is True:
            if Withdraw(fs) not in state.said and t.say(Join(fs)):
                t.do(log(Event.JOIN_ASKED, fs=fs))
        case Usage.WITHDRAWING if waits or Join(fs) in state.said:
            t.say(Withdraw(fs))
        case Usage.LEAVING if me in g.members:
            t.say(Leave(fs))
        case Usage.IDLE if waits:
            t.say(Withdraw(fs))
        case Usage.IDLE if me in g.members:
            t.say(Leave(fs))
        case _:
            pass


def _answer(t: Turn, fs: str, local: Local, g: Group) -> None:
    """Give the answer that this phase asks of us."""
    state, me = t.state, t.state.me
    if me in g.answers or me not in (*g.members, g.joiner):
        return
    match g.phase:
        case Phase.LOCK:
            _lock_answer(t, fs, g)
        case Phase.STOP if me in g.members:
            halt(t, fs, f"{named(state, g.joiner)} joins" if g.joiner is not None else "the members change")
            t.say(Stopped(fs, g.start))
        case Phase.START | Phase.RECOVER if me in g.members:
            if local.started != g.start:
                halt(t, fs, "the members change")
            if _may_start(state, g):
                _start(t, fs, g)
        case Phase.RUN if local.region and not local.running and me in g.members and state.good:
            t.say(Stopped(fs, g.start))
        case _:
            pass


def _may_start(state: State, g: Group) -> bool:
    """The conditions of a START: ring, quorum, fencing, and that all survivors have stopped (law 6).

    Survivors have stopped since each has made its statement after its STOP; only daemons that are away have not.
    """
    if not state.good or state.table is None:
        return False
    return g.phase is Phase.START or (not g.away and set(g.lost) <= set(state.table.fenced))


def _identities(state: State, lives: tuple[Life, ...]) -> frozenset[NodeIdentity]:
    present = (state.present.get(x.node) for x in lives)
    return frozenset(p.identity for p, x in zip(present, lives, strict=True) if p is not None and p.life == x)


def _lock_needs(state: State, g: Group) -> frozenset[NodeIdentity]:
    """Identities whose lock a join needs here: each member's the joiner's, the joiner's own and those of all."""
    if g.joiner is None:
        return frozenset()
    if g.joiner == state.me:
        return _identities(state, (*g.members, g.joiner))
    return _identities(state, (g.joiner,)) if state.me in g.members else frozenset()


def _lock_answer(t: Turn, fs: str, g: Group) -> None:
    state = t.state
    needs = _lock_needs(state, g)
    if g.joiner is None:
        return
    for identity in sorted(needs):
        if identity.key in state.locks.refused:
            errno, reason = state.locks.refused[identity.key]
            by, whom = shown(state.engine.name(state.engine.local), _NAME), shown(identity.name, _NAME)
            t.say(Refuse(fs, g.joiner, errno, f"{by} cannot link {whom}: {reason}"))
            return
    expected = len(g.members) + 1 if g.joiner == state.me else 1
    if len(needs) >= expected and all(x.key in state.locks.held for x in needs):
        t.say(HaveLock(fs, g.joiner))


def _may_link(state: State, life: Life) -> bool:
    here = state.present.get(life.node)
    return here is not None and here.life == life and here.identity.key in state.locks.held


def _start(t: Turn, fs: str, g: Group) -> None:
    """START: links of lost lives go first, by life and not by name; then the region; then links of new members.

    B dies and comes back at the same address and joins before A has started without its old life: the old link goes
    all the same, and a new one is made for the new life.
    """
    state = t.state
    local = state.local(fs)
    wanted = {x.node: x for x in g.members}
    stale = [n for n, life in local.links.items() if n not in wanted or (life is not None and life != wanted[n])]
    if stale:
        _ask_kernel(t, fs, KernelCall.UNLINK, *sorted(stale))
        return
    if not local.region:
        _ask_kernel(t, fs, KernelCall.MAKE_REGION)
        return
    missing = [n for n in wanted if n not in local.links]
    if missing:
        ready = [n for n in missing if _may_link(state, wanted[n])]
        if ready:
            # The kernel wants to see itself alive before the others.
            _ask_kernel(t, fs, KernelCall.LINK, *sorted(ready, key=lambda n: (n != state.engine.local, n)))
        return
    if local.running:  # this START: an elder one has been stopped for it
        t.say(Started(fs, g.start))
        return
    links = {n: wanted[n] for n in local.links}
    stopped = None if local.stopped_at is None else t.now - local.stopped_at
    t.put_local(fs, running=True, started=g.start, links=FrozenMap(links), stopped_at=None, stop_cause="")
    if g.lost and state.last_death is not None and state.last_death[0] in g.lost:
        t.put(last_death=(state.last_death[0], state.last_death[1], stopped))
    t.do(
        log(
            Event.GROUP_STARTED,
            fs=fs,
            start=str(g.start),
            ring=str(state.channel.ring),
            members=[str(x) for x in g.members],
            lost=[str(x) for x in g.lost],
        )
    )
    t.say(Started(fs, g.start))


def _watch(t: Turn, fs: str, local: Local, g: Group) -> None:
    """Time those who could answer and do not: after the grace time they are treated as lost."""
    state, me = t.state, t.state.me
    if me not in g.members or fs not in state.locals:
        return
    starting = g.phase in (Phase.START, Phase.RECOVER) and _may_start(state, g)
    owed = (g.phase, g.start, g.answers) if starting or g.phase is Phase.STOP else None
    if owed != local.owed:
        t.put_local(fs, owed=owed, owed_since=None if owed is None else t.now)
        return
    if owed is None or local.owed_since is None or t.now < local.owed_since + state.settings.grace_seconds:
        return
    if min(x.node for x in g.members) != state.engine.local and me.node != min((x.node for x in g.answers), default=0):
        return
    for life in g.members:
        here = state.present.get(life.node)
        if life not in g.answers and life != me and here is not None and here.life == life:
            silent = t.now - local.owed_since
            expel(t, here.member, f"it owes its answer to the {g.phase} of {title(state, fs)} for {silent:.0f} s")


def _need(t: Turn, fs: str, local: Local, g: Group) -> None:
    """Which locks this filesystem needs now."""
    state = t.state
    needs = frozenset[NodeIdentity]()
    if g.phase in (Phase.LOCK, Phase.STOP, Phase.START):
        needs = _lock_needs(state, g)
    if g.phase in (Phase.START, Phase.RECOVER, Phase.STOP) and state.me in g.members:
        missing = tuple(x for x in g.members if x.node not in local.links)
        if missing:
            needs |= _identities(state, missing)
    if needs != local.needs and fs in state.locals:
        t.put(locals=state.locals.put(fs, replace(local, needs=needs)))
        t.needs_changed = True


def refused(t: Turn, word: Refuse) -> None:
    """A member cannot link this node: its own mount, if it is the joiner, is answered with the reason."""
    if word.joiner == t.state.me:
        # A peer's word, which may be anything: what no STATUS can carry is not handed on to our client (law 13).
        code = word.errno if 0 < word.errno <= LARGEST_ERRNO else EPERM
        reason = word.reason or f"a member of {title(t.state, word.fs)} cannot link this node, and does not say why"
        t.do(log(Event.JOIN_UNDONE, "warning", fs=word.fs, life=str(word.joiner), cause=reason))
        happen(Happening.REFUSED, Call(t, word.fs, code=code, text=reason))


def settle_service(t: Turn) -> None:
    """Hold the service lock exactly while some filesystem needs o2cb_controld."""
    state = t.state
    if not state.locals and state.service is True:
        t.put(service=False)
        t.do(ReleaseService())
    elif state.locals and state.service is False and state.service_at <= t.now:
        t.put(service=None)
        t.do(HoldService())


def service_answered(t: Turn, held: bool) -> None:
    """o2cb_controld is ending when its lock cannot be shared: a MOUNT is refused with that reason."""
    t.put(service=held, service_at=t.now + RETRY_FIRST)
    for fs, local in t.state.locals.items():
        t.dirty.add(fs)
        if not held and local.usage is Usage.JOINING:
            text = "o2cb_controld is ending on this node: mount again when it is back"
            happen(Happening.REFUSED, Call(t, fs, code=ESHUTDOWN, text=text))


def timers(t: Turn) -> None:
    """What the passing of time brings to the filesystems of this node."""
    for fs, local in t.state.locals.items():
        if local.deadline is not None and local.deadline <= t.now:
            happen(Happening.DEADLINE, Call(t, fs))
        if local.usage is Usage.RELEASING and local.check_at is not None and local.check_at <= t.now:
            t.put_local(fs, check_at=None)
            t.do(CheckDevice(fs, local.path))
        if local.retry_at is not None and local.retry_at <= t.now:
            t.put_local(fs, retry_at=None)
        if local.owed_since is not None and local.owed_since + t.state.settings.grace_seconds <= t.now:
            t.dirty.add(fs)
