"""What is the matter, why, and what to do: the two daemons' reports judged together.

Pure: facts in, findings out. The first finding is line one of the status: it always answers whether anything is stopped
or frozen. Severity decides the order; `exit_code` is what `ocfs2_hb_ctl -I` ends with.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from libo2cb.service.report import Group, Lost, O2cbReport, Ocfs2Report, TreeNode, Wait
from libo2cb.tools.facts import Facts
from libo2cb.tools.human import moment, moment_before, since, until
from libo2cb.wording import switch_off


class Verdict(StrEnum):
    """The first word of the status, most severe first."""

    FROZEN = "FROZEN"
    STOPPED = "STOPPED"
    ACTION = "ACTION"
    SILENT = "SILENT"
    CHANGING = "CHANGING"
    OK = "OK"


START_ENGINE = "start the cluster engine on this node, or mend what the reason names"
SEVERITY = list(Verdict)
EXITS = {
    Verdict.OK: 0,
    Verdict.CHANGING: 1,
    Verdict.ACTION: 2,
    Verdict.STOPPED: 2,
    Verdict.FROZEN: 2,
    Verdict.SILENT: 3,
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is the matter.

    Attributes:
        verdict: how bad.
        head: the sentence of line one, after the time.
        seconds: for how long; None when nobody knows.
        lines: key and text of what follows: why, do, at (the exact time), but, then, or a filesystem's name.
        group: UUID, when it is one group's.
        node: number, when it is one node's.
    """

    verdict: Verdict
    head: str
    seconds: float | None = None
    lines: tuple[tuple[str, str], ...] = ()
    group: str | None = None
    node: int | None = None


def findings(facts: Facts) -> tuple[Finding, ...]:
    """All that is the matter, worst first; empty when all is well."""
    queued = list(_nodes(facts))
    found = [*_silent(facts), *_engine(facts), *queued]
    explained = {fs for node in facts.nodes if node.queue for fs in node.links}
    for group in facts.groups:
        finding = _group(facts, group)
        if finding and not (finding.verdict is Verdict.CHANGING and group.fs in explained):
            found.append(finding)
    found += _start(facts)
    groups = {finding.group for finding in found if finding.group} | explained
    nodes = {finding.node for finding in found if finding.node}
    for report in (facts.o2cb, facts.ocfs2):
        away = None if report is None or report.engine.up else report.engine.reason
        for wait in report.waits if report else ():
            if wait.fs not in groups and wait.node not in nodes and not (away and away in wait.why):
                found.append(_wait(wait))
    return tuple(sorted(found, key=lambda f: (SEVERITY.index(f.verdict), -(f.seconds or 0.0))))


def exit_code(found: tuple[Finding, ...]) -> int:
    """0 healthy, 1 changing, 2 stopped, frozen or action needed, 3 a daemon is silent and the answer incomplete."""
    return max((EXITS[finding.verdict] for finding in found), default=0)


def _silent(facts: Facts) -> Iterator[Finding]:
    for silent in facts.silent:
        yield Finding(
            Verdict.SILENT, f"{silent.daemon} does not answer", lines=(("why", silent.why), ("do", silent.do))
        )


def _engine(facts: Facts) -> Iterator[Finding]:
    """The engine and readiness, once for both daemons when they say the same."""
    said: set[str] = set()
    reports: tuple[O2cbReport | Ocfs2Report | None, ...] = (facts.o2cb, facts.ocfs2)
    for report in reports:
        if report is None:
            continue
        engine = report.engine
        if not engine.up:
            sentence = "the cluster engine cannot be used"
            lines: tuple[tuple[str, str], ...] = (
                ("why", engine.reason or "no reason known"),
                ("do", START_ENGINE),
            )
            verdict = Verdict.ACTION
        elif not engine.quorate and not any(group.state == "stopped" for group in facts.groups):
            sentence = f"no quorum ({engine.votes or 'votes unknown'}): nothing can be mounted"
            lines = (("do", "bring the missing nodes up; umount works without quorum"),)
            verdict = Verdict.ACTION
        elif not report.ready:
            sentence = f"{report.daemon} is not ready"
            lines = (("why", report.reason or "no reason known"),)
            verdict = Verdict.CHANGING
        else:
            continue
        if sentence not in said:
            said.add(sentence)
            yield Finding(verdict, sentence, lines=lines)
    if facts.o2cb and facts.ocfs2 and not facts.ocfs2.o2cb:
        yield Finding(
            Verdict.CHANGING,
            "ocfs2_controld has no connection to o2cb_controld",
            lines=(("why", "both answer here: they are about to connect, or use different sockets.ordering"),),
        )


def _nodes(facts: Facts) -> Iterator[Finding]:
    for node in facts.nodes:
        if node.tree == "unfit":
            yield Finding(
                Verdict.ACTION,
                f"{node.name} cannot be a node of the tree",
                node.queue_seconds,
                (
                    ("why", node.queue or "o2cb cannot hold it"),
                    ("do", f"change {node.name} in the engine's configuration"),
                ),
                node=node.number,
            )
        elif node.queue is not None:
            yield _queued(facts, node)
        elif node.tree != "ok":
            yield Finding(Verdict.CHANGING, f"{node.name} is {node.tree} in the node tree", node=node.number)


def _queued(facts: Facts, node: TreeNode) -> Finding:
    """A change that waits, link by link."""
    what = {"missing": "adding", "incomplete": "renewal"}.get(node.tree, "removal")
    total = len(node.links) + len(node.gone)
    if node.links:
        holds = "holds" if len(node.links) == 1 else "hold"
        head = f"{what} of {node.name} is queued: {len(node.links)} of {total} links still {holds} it"
    else:
        head = f"{what} of {node.name} is queued: {node.queue}"
    stopped = [facts.fs_name(fs) for fs in node.links if (group := facts.group(fs)) and group.state == "stopped"]
    if stopped:
        head += f"; {' '.join(stopped)} {'is' if len(stopped) == 1 else 'are'} stopped"
    rows = [(facts.fs_name(gone.fs), f"unlinked {moment(gone.at)}") for gone in node.gone]
    rows += [(facts.fs_name(fs), f"link stays: {_why_linked(facts, fs, node)}") for fs in node.links]
    rows.append(("then", _then(facts, node)))
    asked = [wait for wait in (facts.o2cb.waits if facts.o2cb else ()) if wait.node == node.number and wait.do]
    rows += [("do", wait.do) for wait in asked if wait.do]
    return Finding(
        Verdict.ACTION if asked else Verdict.CHANGING, head, node.queue_seconds, tuple(rows), node=node.number
    )


def _why_linked(facts: Facts, fs: str, node: TreeNode) -> str:
    group = facts.group(fs)
    if group is None:
        return "ocfs2_controld does not answer" if facts.ocfs2 is None else "ocfs2_controld knows no such filesystem"
    if waiting := _blocked(facts, group):
        return f"its START waits for {waiting}"
    if any(member.number == node.number for member in group.members):
        return f"{node.name} is a live member there; its change waits until it has unmounted"
    return f"{fs[:8]} is {group.state}"


def _then(facts: Facts, node: TreeNode) -> str:
    wanted = node.wanted
    if wanted is None:
        return f"rmdir {node.name}" if node.tree != "missing" else f"add {node.name} as {node.address}:{node.port}"
    steps = f"add {wanted.name} as {wanted.address}:{wanted.port}"
    if node.tree != "missing":
        steps = f"rmdir {node.name}, {steps}"
    reasons = []
    if node.tree == "differs" and node.member:
        changed = "address" if wanted.address != node.address else "name" if wanted.name != node.name else "port"
        back = any(lost.number == node.number for group in facts.groups for lost in group.lost)
        reasons.append(f"it is back with a new {changed}" if back else f"it has a new {changed} in the configuration")
    if any(joiner.number == wanted.number for group in facts.groups for joiner in group.queue):
        reasons.append("its mount waits")
    return f"{steps} ({'; '.join(reasons)})" if reasons else steps


def _blocked(facts: Facts, group: Group) -> str | None:
    """What a group's START waits for, as it follows "waits for"."""
    if group.state == "running":
        return None
    if away := [member for member in group.members if member.phase == "away"]:
        return ", ".join(_away(facts, member.number, member.name) for member in away)
    if unfenced := [lost.name for lost in group.lost if not lost.fenced]:
        return f"fencing of {' '.join(unfenced)}"
    failing = [condition for condition in group.conditions if not condition.ok]
    if failing:
        return failing[0].why or failing[0].name
    return group.waits_for


def _away(facts: Facts, number: int, name: str) -> str:
    peer = facts.peer(number)
    if peer is None or peer.away is None:
        return f"{name} (ocfs2_controld there is silent)"
    fence = "" if peer.fenced_in is None else f"; fenced in {until(peer.fenced_in)}"
    return f"{name} (ocfs2_controld there silent for {since(peer.away)}{fence})"


def _group(facts: Facts, group: Group) -> Finding | None:
    """What is the matter with one group."""
    name = facts.fs_name(group.fs)
    failing = {condition.name: condition for condition in group.conditions if not condition.ok}
    unfenced = [lost for lost in group.lost if not lost.fenced]
    asked = next((w for w in (facts.ocfs2.waits if facts.ocfs2 else ()) if w.fs == group.fs and w.do), None)
    lines: list[tuple[str, str]] = []
    if group.state == "stopped" and (unfenced or failing.keys() & {"ring", "quorum"} or asked):
        lost = {lost.number for lost in group.lost}
        here = " ".join(member.name for member in group.members if member.number not in lost)
        head = f"{name} on {here or 'no node any more'}: {_stop_cause(facts, group)}"
        if unfenced and "quorum" not in failing:
            for life in unfenced:
                lines += _lost_lines(facts, life)
        else:
            lines += [("why", condition.why or condition.name) for condition in failing.values()]
        if facts.ocfs2 and not facts.ocfs2.engine.up:
            lines.append(("do", START_ENGINE))
        elif "quorum" in failing:
            lines.append(("do", "bring the missing nodes up; umount works without quorum"))
        if asked and asked.do and ("do", asked.do) not in lines and not unfenced:
            lines.append(("do", asked.do))
        return Finding(_stopped(facts), head, group.stopped_for, (*lines, *_since(facts, group)), group=group.fs)
    verdict = Verdict.ACTION if asked else Verdict.CHANGING
    waiting = _blocked(facts, group)
    if asked:
        lines = [("why", asked.why), ("do", asked.do or "")]
    seconds = group.stopped_for if group.stopped_for is not None else asked.seconds if asked else None
    if group.state != "running":
        what = {"joining": "this node joins", "leaving": "this node leaves", "starting": "is starting"}
        head = f"{name}: {what.get(group.state, 'is stopped')}" + (f", waits for {waiting}" if waiting else "")
        return Finding(verdict, head, seconds, tuple(lines), group=group.fs)
    if group.queue:
        joiner = group.queue[0]
        head = f"{name}: {joiner.name} waits to join, for {joiner.why}"
        return Finding(verdict, head, joiner.seconds, tuple(lines), group=group.fs)
    return Finding(verdict, f"{name}: {asked.what}", seconds, tuple(lines), group=group.fs) if asked else None


def _stopped(facts: Facts) -> Verdict:
    return Verdict.FROZEN if facts.ocfs2 and facts.ocfs2.freezes else Verdict.STOPPED


def _stop_cause(facts: Facts, group: Group) -> str:
    unfenced = [lost.name for lost in group.lost if not lost.fenced]
    if unfenced:
        verb = "is" if len(unfenced) == 1 else "are"
        return f"{' '.join(unfenced)} {verb} lost and not yet fenced"
    return f"waits for {_blocked(facts, group) or 'its START'}"


def _since(facts: Facts, group: Group) -> Iterator[tuple[str, str]]:
    """The exact time of the STOP, and what a STOP is not."""
    report = facts.ocfs2
    if report is None:
        return
    if group.stopped_for is not None:
        yield ("at", moment_before(report.made, group.stopped_for))
    if not report.freezes:
        yield ("but", "nothing is frozen: its members go on writing; only a fence makes a lost writer safe")


def _lost_lines(facts: Facts, lost: Lost, *, unseen: bool = False) -> list[tuple[str, str]]:
    """Why a lost life is not fenced yet, and what to do. A node that was not seen may be well, without the daemon."""
    if facts.ocfs2 and not facts.ocfs2.engine.quorate:
        # A is cut off from B and C, which are well and go on. To A both are lost: who did there what a lost node needs
        # would switch off the healthy side. Without quorum nothing starts, and so nobody needs a fence yet.
        return [("why", "fencing waits for quorum")]
    kind = facts.ocfs2.fencing.kind if facts.ocfs2 else "manual"
    off = switch_off(lost.name, unseen=unseen)
    if kind == "manual":
        return [("why", f"fencing is manual: an operator must say that {lost.name} is off"), ("do", off)]
    on = f" on {lost.by}" if lost.by else ""
    if lost.last_error is None:
        state = f"try {lost.attempts} is under way" if lost.attempts else "its first try is due"
        return [("why", f"fence {kind} for {lost.name}{on}: {state}"), ("do", "nothing yet: fencing is under way")]
    coming = "" if lost.next_try is None else f"; next try in {until(lost.next_try)}"
    why = f'fence {kind} for {lost.name}{on}: try {lost.attempts} failed, "{lost.last_error}"{coming}'
    return [("why", why), ("do", off)]


def _start(facts: Facts) -> Iterator[Finding]:
    """Lives that nobody has seen since the cluster came up."""
    for lost in facts.ocfs2.unfenced if facts.ocfs2 else ():
        if not lost.fenced:
            lines = _lost_lines(facts, lost, unseen=True)
            by_hand = any("--fenced" in text for _, text in lines)
            verdict = Verdict.ACTION if by_hand else Verdict.CHANGING
            head = f"{lost.name} counts as unfenced: not seen since the cluster came up, and the first mounts wait"
            yield Finding(verdict, head, lines=tuple(lines), node=lost.number)


def _wait(wait: Wait) -> Finding:
    lines = [("why", wait.why)] + ([("do", wait.do)] if wait.do else [])
    verdict = Verdict.ACTION if wait.do else Verdict.CHANGING
    return Finding(verdict, f"{wait.what} waits", wait.seconds, tuple(lines), wait.fs, wait.node)
