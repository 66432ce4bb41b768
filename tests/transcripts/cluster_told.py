"""The world that a cluster's story is told of: it collects the lines, and shows a node's state in words."""

from collections import Counter
from typing import Any, Final

from libo2cb.events import Event, Log
from ocfs2_controld.events import Event as MindEvent
from protocol.group import GroupTable, Phase
from tests.simulation.nemesis import Broken, Judged
from tests.simulation.world import SimNode, uuid
from tests.transcripts.cluster_lines import own_line, plain, shared_line

_KINDS: Final = ("members", "lost", "away", "joiner", "queue")


class Told(Judged):
    """The judged world, as a story tells it."""

    def __init__(self, size: int, **options: Any) -> None:
        self.lines: list[str] = []
        self.tells_locks = False
        self._seen: dict[str, Counter[int]] = {}
        self._changes: set[str] = set()
        self._completing: set[int] = set()
        super().__init__(size, tell=self._line, **options)
        self.manual_fences = True

    def _line(self, text: str) -> None:
        self.lines.append(plain(text.replace(": STATUS ", ": ")))

    def ocfs2(self, number: int, *events: MindEvent) -> None:
        self._completing.discard(number)
        super().ocfs2(number, *events)

    def _answered(self, node: SimNode, connection: int, code: int, text: str) -> None:
        client = node.clients.get(connection)
        says_result = client is not None and client.mounted
        super()._answered(node, connection, code, f"{text}, to its result" if says_result else text)

    def _note(self, node: SimNode, daemon: str, entry: Log) -> None:
        super()._note(node, daemon, entry)
        line = shared_line(entry)
        if line is None:
            own = own_line(node.number, daemon, entry, locks=self.tells_locks)
            if own is not None:
                self.lines.append(own)
            return
        if entry.event is Event.CHANGE_COMPLETE:
            self._completing.discard(node.number)
            change = str(dict(entry.fields)["change"])
            if change in self._changes:
                self._completing.add(node.number)
            self._changes.add(change)
        # The n-th time that this happens is news once. What a change brings is news to the first who completes it.
        seen = self._seen.setdefault(" ".join(line.split()[:4]) if " is fenced" in line else line, Counter())
        seen[node.number] += 1
        news = seen[node.number] > max((n for k, n in seen.items() if k != node.number), default=0)
        if news and (node.number not in self._completing or entry.event is Event.CHANGE_COMPLETE):
            self.lines.append(line)

    def judge_end(self) -> None:
        """What must be so whenever nothing is under way: who is in one change has one table, and links what it says."""
        self.judge()
        tables: dict[str, GroupTable] = {}
        for node in self.nodes.values():
            state = node.ocfs2
            if state is None or state.table is None or state.channel.change is None:
                continue
            if tables.setdefault(state.channel.change, state.table) != state.table:
                raise Broken(f"n{node.number} has another table than others in its change")
            for fs, g in state.table.groups.items():
                local = state.locals.get(fs)
                ours = local is not None and local.running and state.me in g.members and g.phase is Phase.RUN
                if ours and self.linked(node, plain(fs)) != {x.node for x in g.members}:
                    raise Broken(f"n{node.number} runs {plain(fs)} with other links than members")


def tree(node: SimNode) -> str:
    """The node tree in the kernel of one node."""
    shown = []
    for n in sorted(node.kernel.nodes, key=lambda n: (n.number, n.name)):
        links = "".join(plain(r) for r in node.kernel.linked(n.name))
        shown.append(f"{n.name}={n.address}{' local' if n.local else ''}{f' linked by {links}' if links else ''}")
    return ", ".join(shown) or "empty"


def group(node: SimNode, fs: str) -> str:
    """A group as one node has it: its table, its own part, its kernel's links."""
    if node.ocfs2 is None:
        linked = [n for r, n in sorted(node.kernel.links) if r == uuid(fs)]
        return f"ocfs2_controld does not run; links {' '.join(linked) or 'none'}"
    state = node.ocfs2
    parts: list[str] = []
    if state.table is None:
        parts.append("no table")
    elif uuid(fs) in state.table.groups:
        g = state.group(uuid(fs))
        parts.append(f"{g.phase}")
        joiner = () if g.joiner is None else (g.joiner,)
        for kind, lives in zip(_KINDS, (g.members, g.lost, g.away, joiner, g.queue), strict=True):
            if lives:
                parts.append(f"{kind} {' '.join(plain(str(x)) for x in lives)}")
    else:
        parts.append("no group")
    local = state.locals.get(uuid(fs))
    if local is not None:
        parts.append(f"here {local.usage.name.lower()}{'' if local.running or not local.region else ', stopped'}")
    linked = [n for r, n in sorted(node.kernel.links) if r == uuid(fs)]
    if linked:
        parts.append(f"links {' '.join(linked)}")
    return ", ".join(parts)


def locks(node: SimNode) -> str:
    """The flocks in the kernel of one node."""
    held = [f"{'n' if f.file.isdigit() else ''}{f.file} by {f.holder}" for f in node.kernel.flocks]
    return ", ".join(held) or "none"
