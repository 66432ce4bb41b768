"""A sentence for each recorded fact that a viewer of the demo should see; None for all others."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from libo2cb.events import Event
from tests.laws.history import Client, Engine, Fact, Kernel, Process, Source


@dataclass(frozen=True, slots=True)
class Step:
    """A line of the timeline.

    Attributes:
        mono: when, CLOCK_MONOTONIC in ns.
        node: on which node; empty for what concerns all.
        who: the process that did it.
        verb: what was done, in one word.
        text: the rest of the sentence.
    """

    mono: int
    node: str
    who: str
    verb: str
    text: str


@dataclass(slots=True)
class Names:
    """What things are called.

    Attributes:
        labels: of filesystems, by UUID.
        nodes: by number.
    """

    labels: dict[str, str] = field(default_factory=dict)
    nodes: dict[int, str] = field(default_factory=dict)

    def fs(self, uuid: str) -> str:
        """A filesystem's label."""
        return self.labels.get(uuid.upper(), uuid[:8])

    def life(self, text: str) -> str:
        """The node of a life."""
        number = text.partition("/")[0]
        return self.nodes.get(int(number), text) if number.isdigit() else text

    def lives(self, fact: Fact, name: str) -> str:
        """The nodes of a field that lists lives or numbers, each once."""
        return " ".join(dict.fromkeys(self.life(str(x)) for x in fact.texts(name))) or "nobody"


Telling = Callable[[Fact, Names], tuple[str, str] | None]


def tell(fact: Fact, who: str, names: Names) -> Step | None:
    """The step that a fact is, if it is one to be shown."""
    telling = _HUB.get(fact.kind)
    by_hub = telling is not None
    telling = telling or _TELLINGS.get(fact.kind)
    said = telling(fact, names) if telling is not None and fact.mono is not None else None
    if said is None or fact.mono is None:
        return None
    verb, text = said
    for uuid, label in names.labels.items():
        text = text.replace(uuid, label)
    if by_hub:
        return Step(fact.mono, "", "power" if fact.kind in _POWER else "hub", verb, text)
    return Step(fact.mono, fact.node or "", who or _SOMEBODY.get(fact.kind, ""), verb, text)


def _node(fact: Fact) -> str:
    return f"{fact.text('name')} ({fact.text('address')}:{fact.text('port')})"


def _died(fact: Fact, _: Names) -> tuple[str, str] | None:
    # The kernel's journal tells the same life's end once more, when its tree is cleared.
    return None if "cause" in fact.fields else ("OFF", f"{fact.node} is off, verified: no process of it lives")


def _listeners(fact: Fact, _: Names) -> tuple[str, str] | None:
    order = fact.texts("listeners")
    return ("ORDER", f"on {fact.node}: {', then '.join(order)}") if order else None


def _hears(fact: Fact, names: Names) -> tuple[str, str] | None:
    if fact.source is not Source.DAEMON:  # the hub's record of the same
        return None
    left, joined = fact.texts("left"), fact.texts("joined")
    what = [f"{names.lives(fact, 'left')} is gone"] if left else []
    what += [f"{names.lives(fact, 'joined')} is here"] if joined else []
    quorum = "quorate" if fact.flag("quorate") else "without quorum"
    return "HEARS", f"{', '.join(what) or 'the members'}; members now: {names.lives(fact, 'members')}, {quorum}"


def _started(fact: Fact, names: Names) -> tuple[str, str]:
    lost = f", without {names.lives(fact, 'lost')}" if fact.texts("lost") else ""
    return "STARTED", f"{names.fs(fact.fs)}: START {fact.text('start')} with {names.lives(fact, 'members')}{lost}"


def _finished(fact: Fact, names: Names) -> tuple[str, str]:
    return "FINISH", f"{names.fs(fact.fs)} runs: {names.lives(fact, 'members')}"


def _answered(fact: Fact, names: Names) -> tuple[str, str]:
    return "ANSWER", f"MOUNT of {names.fs(fact.fs)}: {fact.number('code')} {fact.text('cause')}"


def _fenced(fact: Fact, names: Names) -> tuple[str, str]:
    life = fact.text("life")
    # Of a node that had quorum alone, what else it may have been counts as lost with the life that was seen.
    whom = f"whatever else {names.life(life)} was" if life.endswith("/unknown") else names.life(life)
    return "FENCED", f"{whom}, as is said on the channel, to all"


def _shutdown(fact: Fact, _: Names) -> tuple[str, str]:
    return ("YES" if fact.flag("allow") else "NO"), f"to the engine that wants to stop: {fact.text('cause')}"


def _set(fact: Fact, _: Names) -> tuple[str, str]:
    return "WRITE", f"node/{fact.text('name')}/{fact.text('attribute')} = {fact.text('value')}"


def _refused(text: str, fact: Fact) -> str:
    return text if fact.done else f"{text}: refused, errno {fact.number('errno')}"


_HUB: Final[Mapping[str, Telling]] = {
    "hub_power_off": lambda f, _: ("POWER", f"{f.node} loses its power"),
    Engine.DIED: _died,
    "hub_engine": lambda f, _: (
        ("HANG", f"{f.node} hangs: its engine and its processes stand still") if f.text("state") == "hung" else None
    ),
    "hub_order": _listeners,
    "hub_hold": lambda f, _: ("HOLD", f"on {f.node}: {f.text('what')} hears nothing"),
    "hub_release": lambda f, _: ("RELEASE", f"on {f.node}: {f.text('what')} hears again"),
    "hub_asked": lambda f, _: ("ASK", f"the engine of {f.node} asks its listeners whether it may stop"),
    "hub_verdict": lambda f, _: (
        ("VERDICT", f"{f.text('verdict')}: the engine of {f.node} stays")
        if f.text("verdict") != "allowed"
        else ("VERDICT", "allowed")
    ),
}
_POWER: Final = frozenset({"hub_power_off", "hub_engine", Engine.DIED})

_SOMEBODY: Final[Mapping[str, str]] = {Client.MOUNTED: "mount.ocfs2", Client.UNMOUNTED: "umount.ocfs2"}

_TELLINGS: Final[Mapping[str, Telling]] = {
    Process.KILLED: lambda _, __: ("KILLED", "by kill -9; the hub sees its connection end"),
    Event.STARTING: lambda f, _: ("BEGINS", f"pid {f.text('pid')}"),
    Event.READY: lambda f, _: ("READY", f.text("cause")),
    Event.EXITING: lambda f, _: ("EXITS", f.text("cause")),
    Event.MEMBERS: _hears,
    Event.SIGNAL_REFUSED: lambda f, _: ("STAYS", f"{f.text('signal')} is refused: {f.text('cause')}"),
    Event.SHUTDOWN_ANSWERED: _shutdown,
    # the nodes
    Event.CLUSTER_ADOPTED: lambda f, _: ("ADOPTS", f"the tree as it stands: {' '.join(f.texts('nodes'))}"),
    Event.CLUSTER_REMOVED: lambda f, _: ("RMDIR", f"the cluster {f.text('cluster')}: nothing is left in the tree"),
    Event.CHANGE_QUEUED: lambda f, _: ("QUEUED", f.text("cause")),
    Event.NODE_MADE: lambda f, _: ("MADE", f"{_node(f)} stands, with every attribute"),
    Event.LOCK_QUEUED: lambda f, n: ("WAITS", f"for the lock of {n.life(f.text('number'))}: {f.text('cause')}"),
    Event.LOCK_GRANTED: lambda f, n: ("GRANT", f"the lock of {n.life(f.text('number'))} as {f.text('address')}"),
    Event.LOCK_HELD: lambda f, n: (
        "LOCK",
        f"of {n.life(f.text('number'))} as {f.text('address')} is held, as a descriptor",
    ),
    Event.LOCK_CLOSED: lambda f, n: ("UNLOCK", f"of {n.life(f.text('number'))}: its last link is gone"),
    Kernel.MAKE_NODE: lambda f, _: ("MKDIR", _refused(f"node/{f.text('name')}", f)),
    Kernel.SET_NODE: _set,
    Kernel.REMOVE_NODE: lambda f, _: ("RMDIR", _refused(f"node/{f.text('name')}", f)),
    # the groups
    Kernel.LINK: lambda f, n: ("LINK", _refused(f"{n.fs(f.fs)}/{f.text('name')}", f)),
    Kernel.UNLINK: lambda f, n: ("UNLINK", _refused(f"{n.fs(f.fs)}/{f.text('name')}", f)),
    Event.ADOPTED: lambda f, n: ("ADOPTS", f"{n.fs(f.fs)} as it is linked: {' '.join(f.texts('links'))}"),
    Event.AWAY: lambda f, n: ("AWAY", f"the daemon of {n.life(f.text('life'))}; its node is there, so its links stay"),
    Event.GROUP_STOPPED: lambda f, n: ("STOP", f"{n.fs(f.fs)}: {f.text('cause')}"),
    Event.GROUP_STARTED: _started,
    Event.GROUP_FINISHED: _finished,
    Event.JOIN_BEGUN: lambda f, n: ("JOIN", f"{n.life(f.text('life'))} into {n.fs(f.fs)}: its turn"),
    Event.JOIN_UNDONE: lambda f, n: ("UNDONE", f"the join of {n.life(f.text('life'))}: {f.text('cause')}"),
    Event.LEFT: lambda f, n: ("LEFT", f"{n.fs(f.fs)}: its links and its region are gone here"),
    Event.FENCE_BEGUN: lambda f, n: ("FENCE", f"{n.life(f.text('life'))}: command, try {f.text('attempt')}"),
    Event.FENCE_ANSWERED: lambda f, _: (
        "FENCE",
        f"exit code {f.text('code')} after {float(f.text('seconds') or 0):.1f} s: {f.text('output').strip()}",
    ),
    Event.FENCE_FAILED: lambda f, n: ("FENCE", f"{n.life(f.text('life'))}: failed: {f.text('cause')}"),
    Event.LIFE_FENCED: _fenced,
    # its clients
    Event.MOUNT_ASKED: lambda f, n: ("MOUNT", f"of {n.fs(f.fs)} is asked for by pid {f.text('pid')}"),
    Event.MOUNT_ANSWERED: _answered,
    Event.CLIENT_LOST: lambda f, n: ("LOST", f"the client of {n.fs(f.fs)} ended {f.text('cause')}"),
    Event.UNMOUNT_ASKED: lambda f, n: ("UNMOUNT", f"of {n.fs(f.fs)}, by pid {f.text('pid')}"),
    Client.MOUNTED: lambda f, n: ("MOUNTED", f"{n.fs(f.fs)} on {f.text('mount_point')}"),
    Client.UNMOUNTED: lambda f, n: ("UMOUNTED", f"{n.fs(f.fs)} from {f.text('mount_point')}"),
}
