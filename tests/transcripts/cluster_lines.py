"""How the log of both daemons reads in a story: one short line a step, or none.

What every node of a change sees alike (a loss, a FINISH) is told once, by whoever sees it first, as "F: ..." or
"cluster: ...". What a node does by itself begins with its name.
"""

import re
from collections.abc import Mapping

from libo2cb.events import Event, Field, Log
from tests.simulation.world import O2CB, uuid

SHORT = {uuid(fs): fs for fs in "FGHIJ"}
_FIRST_BOOT = re.compile(r"\b(\d+)/boot1\b")
_LATER_BOOT = re.compile(r"\b(\d+)/boot(\d+)\b")
_UNKNOWN = re.compile(r"\b(\d+)/unknown\b")
_SHARED = {
    Event.AWAY: "{fs}: the daemon of {life} is away",
    Event.CHANGE_COMPLETE: "cluster: change in ring {ring}: {members}",
    Event.EXPELLED: "cluster: {peer} is put out of the view: {cause}",
    Event.GROUP_FINISHED: "{fs}: finish {start}",
    Event.JOIN_BEGUN: "{fs}: {life} joins",
    Event.LIFE_FENCED: "cluster: {life} is fenced: {cause}",
    Event.LIFE_LOST: "{fs}: {life} is lost",
}
_OWN = {
    Event.ACKNOWLEDGED: "an operator says that {life} is off",
    Event.ADOPTED: "finds {fs} in the kernel",
    Event.CHANGE_CANCELLED: "change of {number} is not wanted any more",
    Event.CHANGE_QUEUED: "{cause}",
    Event.CLIENT_LOST: "the client of {fs} is gone {cause}",
    Event.CLUSTER_ADOPTED: "finds {nodes} in the kernel",
    Event.DEADLINE: "the mount of {fs} has waited too long: {cause}",
    Event.FENCE_FAILED: "fence of {life} failed: {cause}; again in {retry} s",
    Event.GROUP_STOPPED: "stop {fs} ({cause})",
    Event.JOIN_ASKED: "asks to join {fs}",
    Event.JOIN_UNDONE: "join of {fs} undone: {cause}",
    Event.LEFT: "left {fs}",
    Event.LOCK_QUEUED: "lock of {number} is not to be had yet: {cause}",
    Event.LOCK_REFUSED: "lock of {number} is refused: {cause}",
    Event.MOUNT_GONE: "sees that {fs} is mounted no more",
    Event.NODE_UNFIT: "{cause}",
    Event.REFUSED_PEER: "{peer} does not fit: {cause}",
    Event.SIGNAL_REFUSED: "{signal} refused: {cause}",
    Event.SURPRISE: "SURPRISE {state} {cause}",
    Event.VIOLATION: "VIOLATION by {peer}: {cause}",
    Event.WAITING: "{what} has waited {seconds} s: {cause}",
}
_LOCKS = {
    Event.LOCK_HELD: "holds the lock of {number}",
    Event.LOCK_CLOSED: "closes the lock of {number}",
}


def plain(text: str) -> str:
    """A text with filesystems and lives as stories name them: F for its UUID, n2(2) for the second life of n2."""
    for long, short in SHORT.items():
        text = text.replace(long, short).replace(long[:8], short)
    text = _LATER_BOOT.sub(r"n\1(\2)", _FIRST_BOOT.sub(r"n\1", text))
    return _UNKNOWN.sub(r"n\1(unseen)", text)


def _words(fields: Mapping[str, Field]) -> dict[str, str]:
    words: dict[str, str] = {"cause": ""}
    for name, value in fields.items():
        text = " ".join(map(str, value)) if isinstance(value, list) else str(value)
        if name == "number":
            text = f"n{value}"
        elif isinstance(value, float):
            text = f"{value:.3g}"
        words[name] = plain(text)
    return words


def shared_line(entry: Log) -> str | None:
    """The line of what all nodes of a change see alike; None when it is nothing of the kind."""
    form = _SHARED.get(entry.event)
    return None if form is None else form.format_map(_words(dict(entry.fields)))


def own_line(node: int, daemon: str, entry: Log, *, locks: bool) -> str | None:
    """The line of what one daemon says of itself; None when stories leave it out."""
    fields = dict(entry.fields)
    who = f"n{node} {'o2cb' if daemon == O2CB else 'ocfs2'}"
    if entry.event is Event.GROUP_STARTED:
        words = _words(fields)
        without = f", without {words['lost']}" if words["lost"] else ""
        return f"{who}: start {words['fs']} {words['start']} with {words['members']}{without}"
    form = _OWN.get(entry.event) or (_LOCKS.get(entry.event) if locks else None)
    return None if form is None else f"{who}: {form.format_map(_words(fields))}".rstrip()
