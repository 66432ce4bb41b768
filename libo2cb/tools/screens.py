"""The status as an operator reads it: pure functions from facts to text.

A screen begins with what is the matter (verdict.py), worst first, then the nodes and the filesystems. A screen is a
list of lines without line ends; `paint` adds colour for a terminal that wants it.
"""

import textwrap
from collections.abc import Iterator, Mapping, Sequence

from libo2cb.service.report import Group, Ocfs2Report, TreeNode
from libo2cb.tools.facts import Facts, KernelView
from libo2cb.tools.human import clean, columns, counted, names, short, since, took, until
from libo2cb.tools.verdict import Finding, Verdict, findings
from protocol.client import MOUNT_SERVICE

_COLOURS = {
    Verdict.OK: "32",
    Verdict.CHANGING: "33",
    Verdict.SILENT: "35",
    Verdict.ACTION: "31",
    Verdict.STOPPED: "1;31",
    Verdict.FROZEN: "1;31",
}
_BOLD = ("NODE ", "FILESYSTEM ", "REGION ", "DEVICE ")


def status(facts: Facts) -> list[str]:
    """The whole screen of `ocfs2_hb_ctl -I`."""
    found = findings(facts)
    lines = [line for finding in found for line in _finding(finding)] if found else [_healthy(facts)]
    lines += [_change(facts, group) for group in facts.groups if group.change and group.state != "running"]
    if any(finding.verdict in {Verdict.STOPPED, Verdict.FROZEN} for finding in found):
        lines += _unhurt(facts)
    if found and facts.ocfs2:
        lines.append(_summary(facts))
    lines += _nodes(facts)
    lines += _filesystems(facts)
    lines += _foot(facts)
    if facts.kernel is not None:
        lines += _kernel(facts.kernel)
    return lines


def headline(facts: Facts) -> str:
    """Line one of the status without its time, for whoever shows it without asking again: `systemctl status`."""
    worst = next(iter(findings(facts)), None)
    if worst is None:
        return _healthy(facts)
    why = next((text for key, text in worst.lines if key == "why"), "")
    return clean(f"{worst.verdict}  {worst.head}" + (f": {why}" if why else ""))


def filesystem(facts: Facts, fs: str, refs: int | str) -> list[str]:
    """The screen of `ocfs2_hb_ctl -I -d|-u`: the line that scripts know, then what it does not say.

    Args:
        facts: both reports, or what is left of them.
        fs: UUID.
        refs: the references of its region; or why they cannot be read.
    """
    group = facts.group(fs)
    lines = [f"{fs}: {refs} refs"] if isinstance(refs, int) else [f"{fs}: ? refs", f"  {clean(refs)}"]
    found = findings(facts)
    lines += [f"  {silent.daemon} does not answer: {clean(silent.why)}" for silent in facts.silent]
    if group is None:
        lines += ["  no node here holds it"] if facts.ocfs2 else []
        if facts.kernel:
            linked = dict(facts.kernel.regions).get(fs)
            lines += _unreadable(facts.kernel)
            if linked is not None:
                lines.append(f"  region in the kernel, links: {names(linked)}")
            elif not facts.kernel.trouble:
                lines.append("  no region")
        return lines
    lines += [line for finding in found if finding.group == group.fs for line in _finding(finding)]
    rows = [
        ["  label", group.label or "-"],
        ["  state", group.state if group.here else "not on this node"],
        ["  members", names(_members(group))],
        ["  mounted here", names(group.mount_points)],
        ["  holders", ", ".join(_holder(h.service, h.pid, h.program) for h in group.holders) or "-"],
        ["  waiting", ", ".join(f"{j.name} {since(j.seconds)}" for j in group.queue) or "-"],
    ]
    return lines + columns(rows)


def paint(lines: Sequence[str]) -> list[str]:
    """The lines with colours: the first words by severity, the heads of tables bold."""
    painted = []
    for line in lines:
        word = line.split(" ", 1)[0]
        if word in list(Verdict):
            painted.append(f"\x1b[{_COLOURS[Verdict(word)]}m{word}\x1b[0m{line[len(word) :]}")
        elif line.startswith(_BOLD):
            painted.append(f"\x1b[1m{line}\x1b[0m")
        else:
            painted.append(line)
    return painted


def wants_colour(environment: Mapping[str, str], *, terminal: bool) -> bool:
    """Colour only on a terminal, never with NO_COLOR (any value but the empty one) or a dumb terminal."""
    return moves_cursor(environment, terminal=terminal) and not environment.get("NO_COLOR")


def moves_cursor(environment: Mapping[str, str], *, terminal: bool) -> bool:
    """Whether escape sequences mean something where the text goes."""
    return terminal and environment.get("TERM", "dumb") != "dumb"


def joining(facts: Facts, fs: str, elapsed: float) -> list[str]:
    """What a mount that waits shows beneath its first line: what for, how long yet, and the way out.

    Args:
        facts: both reports, or what is left of them.
        fs: UUID of the volume.
        elapsed: seconds since MOUNT was sent.
    """
    why, gives_up = _joiner(facts, fs)
    lines = [f"  waiting {since(elapsed)} for {why}"]
    end = "" if gives_up is None else f"gives up in {until(gives_up)}; "
    return [*lines, f"  {end}Ctrl-C leaves nothing behind"]


def wrapped(lines: Sequence[str], columns_: int) -> list[str]:
    """The lines cut at blanks to the width of a terminal, continued with four blanks."""
    return [
        part
        for line in lines
        for part in textwrap.wrap(
            clean(line), max(20, columns_ - 1), subsequent_indent="    ", initial_indent="", drop_whitespace=True
        )
    ]


def _joiner(facts: Facts, fs: str) -> tuple[str, float | None]:
    report, group = facts.ocfs2, facts.group(fs)
    if report is None:
        why = next((silent.why for silent in facts.silent if silent.daemon == "ocfs2_controld"), "no reason known")
        return f"ocfs2_controld, which gives no report: {clean(why)}", None
    if group:
        mine = next((joiner for joiner in group.queue if joiner.number == report.local), None)
        if mine:
            return clean(mine.why), mine.gives_up
        if group.waits_for:
            return clean(group.waits_for), None
    wait = next((wait for wait in report.waits if wait.fs == fs), None)
    if wait:
        return clean(wait.why), None
    if not report.ready:
        return f"ocfs2_controld to become ready: {clean(report.reason or 'no reason known')}", None
    return "the members of its group to stop, start and finish", None


def _holder(service: str, pid: int | None, program: str | None) -> str:
    process = "" if pid is None else f" (pid {pid}{' ' + program if program else ''})"
    return f"{service}{process}"


def _finding(finding: Finding) -> Iterator[str]:
    time = "" if finding.seconds is None else f" {since(finding.seconds)}"
    yield f"{finding.verdict}{time}  {clean(finding.head)}"
    table = [(key, text) for key, text in finding.lines if text.startswith(("unlinked ", "link stays: "))]
    yield from (f"  {line}" for line in columns(table))
    yield from (
        f"  {key}  {' ' * (3 - len(key))}{clean(text)}" for key, text in finding.lines if (key, text) not in table
    )


def _healthy(facts: Facts) -> str:
    return f"OK  {_summary(facts)}"


def _summary(facts: Facts) -> str:
    """Cluster, nodes, quorum, filesystems, fencing."""
    report = facts.ocfs2 or facts.o2cb
    parts = []
    if report:
        parts.append(f"cluster {clean(report.cluster)}" if report.cluster else "no cluster")
    if report and report.engine.votes:
        parts.append(f"{clean(report.engine.votes)} nodes")
    if report:
        parts.append("quorate" if report.engine.quorate else "no quorum")
    if facts.ocfs2:
        parts.append(counted(len(facts.groups), "filesystem"))
        parts.append(f"fencing: {_fencing(facts.ocfs2)}")
    elif facts.o2cb and facts.o2cb.driver == "classic":
        parts.append("classic driver: nodes by configuration, who is alive by heartbeat on disk")
    return ", ".join(parts)


def _fencing(report: Ocfs2Report) -> str:
    if report.fencing.kind == "none":
        return "none (UNSAFE: a lost node may still write)"
    return report.fencing.kind if report.fencing.alone else f"{report.fencing.kind} (a lost node waits for an operator)"


def _change(facts: Facts, group: Group) -> str:
    """One line: how far a change has come."""
    change = group.change
    if change is None:
        return ""
    failing = {condition.name: condition for condition in group.conditions if not condition.ok}
    report = facts.ocfs2
    votes = report.engine.votes if report else None
    lost = [life.name for life in group.lost]
    unfenced = [life.name for life in group.lost if not life.fenced]
    fencing = f"fencing {names(unfenced)} WAIT" if unfenced else f"fencing {names(lost)} OK" if lost else "fencing -"
    stopped = f"stopped {names(change.stopped)} OK" if change.stopped else "stopped"
    parts = [
        f"{stopped} {names(change.owing)} WAIT" if change.owing else stopped,
        f"ring {'WAIT' if 'ring' in failing else 'OK'}",
        f"quorum {clean(votes) + ' ' if votes else ''}{'WAIT' if 'quorum' in failing else 'OK'}",
        fencing,
        *(["locks WAIT"] if "locks" in failing else []),
        "start " + _answers(change.start, change.start_owing),
        "finish " + ("OK" if change.finished else "-"),
    ]
    return f"CHANGE {clean(change.id[:4])} {clean(facts.fs_name(group.fs))}  {' | '.join(parts)}"


def _answers(done: Sequence[str], owing: Sequence[str]) -> str:
    parts = ([f"{names(done)} OK"] if done else []) + ([f"{names(owing)} WAIT"] if owing else [])
    return " ".join(parts) or "-"


def _unhurt(facts: Facts) -> list[str]:
    """The filesystems that run on while another is stopped, and why."""
    lost = {life.number: life.name for group in facts.groups for life in group.lost}
    lines = []
    for group in facts.groups:
        if group.state != "running" or not group.here:
            continue
        outside = [name for number, name in lost.items() if all(member.number != number for member in group.members)]
        note = group.note or (
            f"{' '.join(outside)} {'is' if len(outside) == 1 else 'are'} not in it" if outside else ""
        )
        lines.append(clean(f"{facts.fs_name(group.fs)} runs on" + (f": {note}" if note else "")))
    return lines


def _nodes(facts: Facts) -> list[str]:
    if not facts.nodes:
        return []
    head = ["NODE", "ID", "ADDRESS", "TREE", "DAEMON", "LINKS", "QUEUE"]
    return columns([head, *(_node(facts, node) for node in facts.nodes)])


def _node(facts: Facts, node: TreeNode) -> list[str]:
    return [
        f"{node.name}*" if node.local else node.name,
        str(node.number or "-"),
        f"{node.address}:{node.port}",
        node.tree,
        _daemon(facts, node.number),
        str(len(node.links)),
        _queue(facts, node),
    ]


def _daemon(facts: Facts, number: int) -> str:
    peer = facts.peer(number)
    if peer is None:
        return "-" if facts.ocfs2 else "?"
    if peer.up is not None:
        return f"{peer.version or '?'} up {short(peer.up)}"
    if peer.away is not None:
        return f"away {short(peer.away)}"
    # Without the cluster engine nothing is heard of a daemon that was here a moment ago.
    return "never seen" if peer.life is None else "unknown"


def _queue(facts: Facts, node: TreeNode) -> str:
    """What a change of the node waits for: its links by name where it has any, else in the daemon's words."""
    if node.queue is None:
        return "-"
    linking = [facts.fs_name(fs) for fs in node.links] if node.tree != "unfit" else []
    why = f"{' '.join(linking)} still {'links' if len(linking) == 1 else 'link'} it" if linking else node.queue
    held = f", lock held by {', '.join(node.holders)}" if node.holders else ""
    return f"{'' if node.queue_seconds is None else since(node.queue_seconds) + ': '}{why}{held}"


def _members(group: Group) -> list[str]:
    """The members, and with an exclamation mark those that are lost, by number."""
    lost = {life.number: f"{life.name}!" for life in group.lost}
    return [name for _, name in sorted(({member.number: member.name for member in group.members} | lost).items())]


def _filesystems(facts: Facts) -> list[str]:
    if not facts.groups:
        return []
    rows = [["FILESYSTEM", "UUID", "STATE", "MEMBERS", "MOUNTED HERE"]]
    for group in facts.groups:
        shown = [h for h in group.holders if h.service != MOUNT_SERVICE or not group.mount_points]
        here = [*group.mount_points, *(_holder(h.service, h.pid, h.program) for h in shown)]
        rows.append(
            [
                group.label or "-",
                group.fs[:8],
                group.state,
                names(_members(group)),
                names(here),
            ]
        )
    return columns(rows)


def _foot(facts: Facts) -> list[str]:
    lines = []
    if facts.ocfs2:
        line = f"live regions: {facts.ocfs2.live_regions}"
        if death := facts.ocfs2.last_death:
            line += f"     last death: {clean(death.node)}, {since(death.ago)} ago,"
            line += f" group stopped for {took(death.stopped_for)}"
        lines.append(line)
    for report in (facts.o2cb, facts.ocfs2):
        lines += [f"note: {clean(note)}" for note in (report.notes if report else ())]
    for report in (facts.o2cb, facts.ocfs2):
        if report and report.signals_refused:
            told = ", ".join(f"{clean(name)} {count}" for name, count in sorted(report.signals_refused.items()))
            lines.append(f"signals refused by {report.daemon}: {told}")
        if report and report.violations:
            told = ", ".join(f"{clean(name)} {count}" for name, count in sorted(report.violations.items()))
            lines.append(f"rules broken towards {report.daemon}: {told}")
    return lines


def _unreadable(view: KernelView) -> list[str]:
    return [f"  not readable: {clean(trouble)}" for trouble in view.trouble]


def _kernel(view: KernelView) -> list[str]:
    """What stands without the daemons' word."""
    lines = [f"kernel tree: {f'cluster {names(view.clusters)}' if view.clusters else 'no cluster'}"]
    lines += _unreadable(view)
    if view.nodes:
        rows = [["NODE", "ID", "ADDRESS"]]
        rows += [
            [f"{n.name}*" if n.local else n.name, str(n.number or "-"), f"{n.address}:{n.port}"] for n in view.nodes
        ]
        lines += columns(rows)
    if view.regions:
        lines += columns([["REGION", "LINKS"], *([fs, names(linked)] for fs, linked in view.regions)])
    if view.mounts:
        lines += columns([["DEVICE", "MOUNTED ON"], *(list(mount) for mount in view.mounts)])
    else:
        lines.append("mount table: no OCFS2 mount")
    return lines
