"""What ocfs2_controld answers to REPORT: a function of the mind's state and a few facts of the shell."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

from libo2cb.service.report import (
    Change,
    Condition,
    EngineState,
    Fencing,
    Group,
    Holder,
    Joiner,
    LastDeath,
    Lost,
    Member,
    Ocfs2Report,
    PeerDaemon,
    Wait,
    utc_text,
)
from ocfs2_controld import explain
from ocfs2_controld.explain import named, one_a_node, unfenced, who_fences
from ocfs2_controld.state import FencePhase, FencingKind, Local, State, Usage
from protocol.group import Group as TableGroup
from protocol.group import Phase
from protocol.identity import Life

MemberPhase: TypeAlias = Literal["running", "stopping", "stopped", "started", "away"]
GroupState: TypeAlias = Literal["joining", "running", "stopped", "starting", "leaving"]

_FENCING: Final = {
    FencingKind.NONE: Fencing(
        kind="none",
        alone=True,
        sentence="a lost node is taken for off without anybody's looking: UNSAFE, for it may still write",
    ),
    FencingKind.MANUAL: Fencing(
        kind="manual",
        alone=False,
        sentence="an operator switches a lost node off and says so with ocfs2_hb_ctl --fenced NODE",
    ),
    FencingKind.COMMAND: Fencing(kind="command", alone=True, sentence="a lost node is switched off by a command"),
}
_CONDITIONS: Final[dict[str, Literal["ring", "quorum", "fencing", "stopped", "locks"]]] = {
    "ring": "ring",
    "quorum": "quorum",
    "fencing": "fencing",
    "stopped": "stopped",
    "locks": "locks",
}
"""The conditions of the schema. A refusal of the kernel is none of them: it stands in waits_for."""
_COLLECTING: Final = "----"
"""In place of a change's name while there is none."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What the mind does not know.

    Attributes:
        version: of the program.
        pid: of this process.
        incarnation: names this run.
        boot: boot id.
        driver: the kernel driver.
        started: when it started, seconds since the epoch.
        made: when the report is made, likewise.
        reason: why it is not ready, as last told; empty when it is.
        signals: how often each signal was refused.
        violations: broken rules of connections, by kind.
        daemons: node to when the present run of its daemon was first seen, on the mind's clock.
        joiners: filesystem and life to when its wish to join was first seen, likewise.
        notes: what an operator should know of this kernel.
    """

    version: str
    pid: int
    incarnation: str
    boot: str
    driver: str
    started: float
    made: float
    reason: str = ""
    signals: Mapping[str, int] = field(default_factory=dict)
    violations: Mapping[str, int] = field(default_factory=dict)
    daemons: Mapping[int, float] = field(default_factory=dict)
    joiners: Mapping[tuple[str, Life], float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def build(state: State, now: float, facts: Facts) -> Ocfs2Report:
    """The report.

    Args:
        state: the mind's state.
        now: on the mind's clock.
        facts: from the shell.
    """
    engine = state.engine
    return Ocfs2Report(
        version=facts.version,
        pid=facts.pid,
        incarnation=facts.incarnation,
        boot=facts.boot,
        started=utc_text(facts.started),
        uptime=max(0.0, facts.made - facts.started),
        made=utc_text(facts.made),
        ready=state.ready,
        reason=None if state.ready else facts.reason or "it has just started",
        cluster=engine.cluster or None,
        local=engine.local or None,
        local_name=engine.name(engine.local) if engine.local else None,
        engine=_engine(state),
        waits=_waits(state, now),
        signals_refused=dict(facts.signals),
        violations=_violations(state, facts),
        notes=facts.notes,
        driver=facts.driver,
        freezes=False,
        fencing=_FENCING[state.settings.fencing],
        o2cb=state.locks.connected,
        groups=_groups(state, now, facts),
        nodes=_peers(state, now, facts),
        unfenced=tuple(_lost(state, x, now) for x in (state.table.unseen if state.table else ())),
        last_death=_last_death(state, now, facts),
        live_regions=sum(local.region for local in state.locals.values()),
    )


def life_text(life: Life) -> str:
    """A life as reports name it: whole, since an operator's acknowledgement repeats it."""
    return f"{life.node}/{life.boot}"


def _engine(state: State) -> EngineState:
    engine = state.engine
    numbers = {n.number for n in engine.nodes}
    return EngineState(
        up=engine.up,
        ring=str(engine.ring) if engine.ring else None,
        quorate=engine.quorate,
        votes=f"{len(numbers & engine.members)}/{len(numbers)}" if numbers else None,
        members=tuple(sorted(engine.members)),
        reason=None if engine.up else engine.why or None,
    )


def _waits(state: State, now: float) -> tuple[Wait, ...]:
    found = [w for w in explain.waits(state, now) if now - w.since >= state.settings.naming_seconds]
    return tuple(
        Wait(
            what=w.what,
            seconds=now - w.since,
            why=w.why or "no reason known",
            do=w.do or None,
            fs=w.fs or None,
            node=w.node or None,
        )
        for w in sorted(found, key=lambda w: (w.since, w.what))
    )


def _violations(state: State, facts: Facts) -> dict[str, int]:
    own = {
        "protocol": state.counts.get("violations", 0),
        "surprise": state.counts.get("surprises", 0),
        "kernel_refusal": state.counts.get("kernel_refusals", 0),
    }
    return {kind: count for kind, count in {**facts.violations, **own}.items() if count}


def _groups(state: State, now: float, facts: Facts) -> tuple[Group, ...]:
    table = state.table.groups if state.table is not None else {}
    groups = [_group(state, fs, now, facts) for fs in {*table, *state.locals}]
    return tuple(sorted(groups, key=lambda g: (g.label, g.fs)))


def _group(state: State, fs: str, now: float, facts: Facts) -> Group:
    g, local = state.group(fs), state.locals.get(fs)
    how = _state(state, fs, g, local)
    running = how == "running"
    stopped_at = None if local is None or running else local.stopped_at
    return Group(
        fs=fs,
        label=local.label if local else "",
        device=(local.path or None) if local else None,
        here=local is not None,
        state=how,
        members=tuple(_member(state, g, x, local) for x in sorted({*g.members})),
        lost=tuple(_lost(state, x, now) for x in one_a_node((*g.lost, *unfenced(state, g.lost)))),
        mount_points=local.mount_points if local else (),
        holders=_holders(local),
        change=_change(state, g),
        conditions=() if running else _conditions(state, fs, now),
        stopped_for=None if stopped_at is None else max(0.0, now - stopped_at),
        waits_for=None if running else _waits_for(state, fs, now, local) or None,
        queue=_queue(state, fs, now, facts),
        links=tuple(sorted(local.links)) if local else (),
    )


def _state(state: State, fs: str, g: TableGroup, local: Local | None) -> GroupState:
    if local is None:
        match g.phase:
            case Phase.RUN | Phase.LOCK:
                return "running"
            case Phase.START | Phase.RECOVER if g.answers:
                return "starting"
            case _:
                return "stopped"
    if local.usage in (Usage.RELEASING, Usage.LEAVING) or (local.usage is Usage.IDLE and local.region):
        return "leaving"
    if local.usage in (Usage.JOINING, Usage.WITHDRAWING):
        return "joining"
    if not local.running:
        return "stopped"
    starts = g.phase in (Phase.START, Phase.RECOVER) and local.started == g.start
    return "starting" if starts and state.group(fs).members != g.answers else "running"


def _member(state: State, g: TableGroup, life: Life, local: Local | None) -> Member:
    return Member(
        name=named(state, life),
        number=life.node,
        life=life_text(life),
        phase=_member_phase(state, g, life, local),
    )


def _member_phase(state: State, g: TableGroup, life: Life, local: Local | None) -> MemberPhase:
    if life in g.away or life.node in state.away:
        return "away"
    if life == state.me and local is not None and not local.running:
        return "stopped"
    match g.phase:
        case Phase.STOP:
            return "stopped" if life in g.answers else "stopping"
        case Phase.START | Phase.RECOVER if life in g.answers:
            return "started"
        case Phase.START:
            return "stopped"
        case Phase.RECOVER:
            return "stopped" if _has_stated(state, life) else "stopping"
        case _:
            return "running"


def _has_stated(state: State, life: Life) -> bool:
    """Whether it said its statement in the present view, which it does after its STOPs."""
    if state.channel.change is not None:
        return life.node in state.present
    return any(m.node == life.node for m in state.channel.statements)


def _holders(local: Local | None) -> tuple[Holder, ...]:
    services = local.services.items() if local is not None else ()
    return tuple(Holder(service=name, pid=s.pid or None, program=s.program or None) for name, s in sorted(services))


def _named(state: State, lives: Iterable[Life]) -> tuple[str, ...]:
    return tuple(named(state, x) for x in sorted(lives))


def _change(state: State, g: TableGroup) -> Change | None:
    members, answers = set(g.members), set(g.answers)
    if g.phase in (Phase.RUN, Phase.LOCK):
        return None
    stopped, owing, start, start_owing = members, set[Life](), set[Life](), set[Life]()
    if g.phase is Phase.STOP:
        stopped, owing = answers & members, members - answers
    else:
        if g.phase is Phase.RECOVER:
            owing = {x for x in members if x in g.away or not _has_stated(state, x)}
            stopped = members - owing
        if answers:
            start, start_owing = answers, members - answers
    return Change(
        id=state.channel.change or _COLLECTING,
        stopped=_named(state, stopped),
        owing=_named(state, owing),
        start=_named(state, start),
        start_owing=_named(state, start_owing),
        finished=False,
    )


def _conditions(state: State, fs: str, now: float) -> tuple[Condition, ...]:
    return tuple(
        Condition(name=_CONDITIONS[c.name], ok=c.ok, why=c.why or None)
        for c in explain.conditions(state, fs, now)
        if c.name in _CONDITIONS
    )


def _waits_for(state: State, fs: str, now: float, local: Local | None) -> str:
    if local is None:
        return explain.group_wait(state, fs, now)
    if local.usage is Usage.RELEASING:
        return f"the device, which is still in use: {local.busy or 'the kernel has not said by whom'}"
    if local.usage is Usage.LEAVING:
        return explain.collection_wait(state) or (local.refusal[2] if local.refusal else "its own leave")
    if local.usage in (Usage.JOINING, Usage.WITHDRAWING):
        return explain.why_mount_waits(state, fs, now)
    return explain.group_wait(state, fs, now) or local.stop_cause


def _queue(state: State, fs: str, now: float, facts: Facts) -> tuple[Joiner, ...]:
    g, local = state.group(fs), state.local(fs)
    lives = [*((g.joiner,) if g.joiner is not None else ()), *g.queue]
    mine = local.usage in (Usage.JOINING, Usage.WITHDRAWING) or local.waiting is not None
    if mine and state.me not in lives:
        lives.append(state.me)
    found = []
    for life in lives:
        if life == state.me:
            seconds, why = now - local.since, explain.why_mount_waits(state, fs, now)
            gives_up = None if local.deadline is None else max(0.0, local.deadline - now)
        else:
            seconds, gives_up = now - facts.joiners.get((fs, life), now), None
            wait = explain.group_wait(state, fs, now)
            first = g.joiner if g.joiner not in (None, life) else None
            why = f"{named(state, first)}, which joins first" if first else wait or "its turn to join"
        found.append(
            Joiner(
                name=named(state, life),
                number=life.node,
                life=life_text(life),
                seconds=max(0.0, seconds),
                why=why,
                gives_up=gives_up,
            )
        )
    return tuple(found)


def _lost(state: State, life: Life, now: float) -> Lost:
    fence = state.fences.get(life)
    tried = fence is not None and state.settings.fencing is not FencingKind.MANUAL
    actor = who_fences(state, life) if state.settings.fencing is not FencingKind.MANUAL and state.good else 0
    failed = fence is not None and fence.phase is FencePhase.FAILED
    due = fence is not None and fence.phase in (FencePhase.FAILED, FencePhase.WAITING)
    return Lost(
        name=named(state, life),
        number=life.node,
        life=life_text(life),
        fenced=state.table is not None and life in state.table.fenced,
        by=state.engine.name(actor) if actor else None,
        attempts=fence.attempts if fence is not None and tried else 0,
        last_error=fence.text if fence is not None and failed else None,
        next_try=max(0.0, fence.due - now) if fence is not None and tried and due else None,
    )


def _peers(state: State, now: float, facts: Facts) -> tuple[PeerDaemon, ...]:
    numbers = sorted({n.number for n in state.engine.nodes} | set(state.present) | set(state.away))
    return tuple(_peer(state, number, now, facts) for number in numbers)


def _peer(state: State, number: int, now: float, facts: Facts) -> PeerDaemon:
    """A daemon of another node does not tell its age: it is as old as we have known this run of it."""
    mine = number == state.engine.local
    here = state.present.get(number)
    away = state.away.get(number)
    on_channel = any(m.node == number for m in state.channel.members)
    since = away if away is not None else state.engine.gone_at.get(number)
    up: float | None = None
    if mine:
        up = facts.made - facts.started
    elif away is None and here is not None and (on_channel or state.channel.change is not None):
        up = now - facts.daemons.get(number, now)
    in_groups = state.table is not None and any(x.node == number for g in state.table.groups.values() for x in g.away)
    return PeerDaemon(
        name=here.identity.name if here is not None else state.engine.name(number),
        number=number,
        life=life_text(state.me) if mine else life_text(here.life) if here is not None else None,
        version=facts.version if mine else (here.program or None) if here is not None else None,
        up=None if up is None else max(0.0, up),
        away=None if since is None or up is not None else max(0.0, now - since),
        fenced_in=max(0.0, away + state.settings.grace_seconds - now) if away is not None and in_groups else None,
    )


def _last_death(state: State, now: float, facts: Facts) -> LastDeath | None:
    if state.last_death is None:
        return None
    life, at, stopped_for = state.last_death
    if stopped_for is None:
        return None
    ago = max(0.0, now - at)
    return LastDeath(node=named(state, life), ago=ago, at=utc_text(facts.made - ago), stopped_for=stopped_for)
