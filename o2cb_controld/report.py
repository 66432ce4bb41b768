"""What o2cb_controld answers to REPORT: a function of the mind's state and a few facts of the shell."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from libo2cb.kernel.port import StandingNode
from libo2cb.service.report import EngineState, Identity, LockRequest, O2cbReport, TreeNode, Wait, utc_text
from o2cb_controld.mind import waiting
from o2cb_controld.reasons import what, why
from o2cb_controld.state import State
from o2cb_controld.topology import ORPHANS, Difference, Held, Nothing, unfit
from protocol.identity import NodeIdentity

Tree = Literal["ok", "missing", "incomplete", "differs", "unwanted", "unfit"]


@dataclass(frozen=True, slots=True)
class Facts:
    """What the mind does not know.

    Attributes:
        version: of the program.
        pid: of this process.
        incarnation: names this run.
        boot: boot id.
        started: when it started, seconds since the epoch.
        made: when the report is made, likewise.
        links: regions by node name, as the kernel shows them now.
        uses: what would keep the daemon from ending now.
        peers: connections by id, as a person knows them: "ocfs2_controld pid 4711".
        violations: of connections, by kind.
        silent: a call from which the kernel has not returned for long, and since how many seconds; None for none.
    """

    version: str
    pid: int
    incarnation: str
    boot: str
    started: float
    made: float
    links: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    uses: tuple[str, ...] = ()
    peers: Mapping[int, str] = field(default_factory=dict)
    violations: Mapping[str, int] = field(default_factory=dict)
    silent: tuple[str, float] | None = None


def build(state: State, now: float, facts: Facts) -> O2cbReport:
    """The report.

    Args:
        state: the mind's state.
        now: on the mind's clock.
        facts: from the shell.
    """
    engine = state.engine
    members = engine.members or ()
    numbers = {c.number for c in engine.configured}
    difference = state.difference()
    local_name = state.name_of(engine.local) if engine.local else None
    own = {"ordering": state.totals.violations, "surprise": state.totals.surprises}
    violations = {**facts.violations, **{kind: count for kind, count in own.items() if count}}
    return O2cbReport(
        version=facts.version,
        pid=facts.pid,
        incarnation=facts.incarnation,
        boot=facts.boot,
        started=utc_text(facts.started),
        uptime=max(facts.made - facts.started, 0.0),
        made=utc_text(facts.made),
        ready=state.ready,
        reason=None if state.ready else state.unready or "it has just started",
        cluster=engine.cluster or None,
        local=engine.local or None,
        local_name=local_name,
        engine=EngineState(
            up=engine.up,
            ring=str(engine.ring) if engine.ring else None,
            quorate=engine.quorate,
            votes=f"{len(numbers.intersection(members))}/{len(numbers)}" if numbers else None,
            members=members,
            reason=engine.reason or None,
        ),
        waits=_waits(state, now, facts, difference),
        signals_refused=dict(state.totals.refused_signals),
        violations=violations,
        driver=state.driver,
        nodes=_nodes(state, now, facts, difference),
        requests=tuple(
            LockRequest(
                request=r.request,
                node=_identity(r.identity),
                seconds=_seconds(state, now, f"request {r.request} of connection {r.connection}"),
                why=r.reason or "it was asked this moment",
            )
            for r in state.requests
        ),
        staying="; ".join(facts.uses) or None,
        notes=engine.notes,
    )


def _waits(state: State, now: float, facts: Facts, difference: Difference) -> tuple[Wait, ...]:
    reasons = waiting(state)
    node_of = {what(state, n, difference.need(n)): n for n in difference.numbers()}
    waits = [
        Wait(what=w.what, seconds=now - w.since, why=reasons[w.what], node=node_of.get(w.what))
        for w in state.waits
        if w.what in reasons and now - w.since >= state.patience
    ]
    if facts.silent is not None:
        call, seconds = facts.silent
        why_silent = "the kernel has not returned from this call; all other changes wait behind it"
        waits.append(Wait(what=call, seconds=seconds, why=why_silent, do="look into the kernel's log (dmesg)"))
    return tuple(sorted(waits, key=lambda w: -w.seconds))


def _nodes(state: State, now: float, facts: Facts, difference: Difference) -> tuple[TreeNode, ...]:
    members = state.engine.members or ()
    nodes: list[TreeNode] = []
    for number in difference.numbers():
        if number == ORPHANS:
            continue
        standing = difference.holder(number)
        wanted = difference.wanted.get(number)
        need = difference.need(number)
        slot = state.slot(number)
        queued = not isinstance(need, Nothing) and (isinstance(need, Held) or (slot is not None and bool(slot.cause)))
        shown = standing.identity if standing else wanted
        if shown is None:
            continue
        differs = standing is not None and wanted is not None and not difference.right(wanted)
        nodes.append(
            TreeNode(
                name=shown.name,
                number=number,
                address=shown.address,
                port=shown.port,
                local=number == state.engine.local,
                member=number in members,
                tree=_tree(standing, wanted, difference),
                holders=tuple(sorted(facts.peers.get(c, f"connection {c}") for c, n in state.granted if n == number)),
                links=facts.links.get(shown.name, ()),
                queue=f"{what(state, number, need)}: {why(state, number, need)}" if queued else None,
                queue_seconds=_seconds(state, now, what(state, number, need)) if queued else None,
                wanted=_identity(wanted) if differs and wanted else None,
            )
        )
    nodes += [_bare(s) for s in state.standing if s.number == ORPHANS]
    for u in unfit(state.engine.configured, state.port):
        address = next(c.address for c in state.engine.configured if c.number == u.number)
        nodes.append(
            TreeNode(
                name=u.name,
                number=u.number,
                address=address,
                port=state.port,
                local=u.number == state.engine.local,
                member=u.number in members,
                tree="unfit",
                queue=u.why,
            )
        )
    return tuple(sorted(nodes, key=lambda n: (n.number, n.name)))


def _bare(s: StandingNode) -> TreeNode:
    return TreeNode(name=s.name, number=0, address=s.address, port=s.port, member=False, tree="incomplete")


def _tree(standing: StandingNode | None, wanted: NodeIdentity | None, difference: Difference) -> Tree:
    if standing is None:
        return "missing"
    if wanted is None:
        return "unwanted"
    if difference.right(wanted):
        return "ok"
    return "differs" if standing.complete and standing.identity != wanted else "incomplete"


def _identity(i: NodeIdentity) -> Identity:
    return Identity(name=i.name, number=i.number, address=i.address, port=i.port)


def _seconds(state: State, now: float, ending: str) -> float:
    return next((now - w.since for w in state.waits if w.what.endswith(ending)), 0.0)
