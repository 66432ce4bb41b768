"""Sentences for people: what a group, a mount or a lock waits for, and what to do. Pure functions of the state.

Law 17: whatever waits longer than five seconds names what it waits for, in status and log.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from libo2cb.wording import shown, switch_off
from ocfs2_controld import outs
from ocfs2_controld.state import FencePhase, FencingKind, Local, State, Usage
from ocfs2_controld.table import lost_lives, needs_fence
from protocol.group import NOBODY, Group, Phase
from protocol.identity import Life

UNHEARD: Final = "pcmk"
"""The cluster stack with which Debian's programs do not say MOUNT, where libdlm has version 6 (docs/clients.md)."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Something that waits.

    Attributes:
        what: what waits; the same text as long as it is the same wait.
        since: when it began.
        why: what it waits for.
        do: what an operator can do; empty when it goes on by itself.
        fs: the filesystem, or empty.
        node: the node waited for, or 0.
    """

    what: str
    since: float
    why: str
    do: str = ""
    fs: str = ""
    node: int = 0


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition of a START.

    Attributes:
        name: ring, quorum, fencing, stopped, locks or kernel.
        ok: whether it holds.
        why: why not.
    """

    name: str
    ok: bool
    why: str = ""


def title(state: State, fs: str) -> str:
    """A filesystem's name for people: its label, or the beginning of its UUID."""
    return state.local(fs).label or fs[:8]


def named(state: State, life: Life) -> str:
    """A node's name for people, by one of its lives."""
    here = state.present.get(life.node)
    return here.identity.name if here is not None else state.engine.name(life.node)


def names(state: State, lives: tuple[Life, ...]) -> str:
    """Names of several nodes, each once."""
    return ", ".join(dict.fromkeys(named(state, x) for x in lives))


def collection_wait(state: State) -> str:
    """Why no change is complete; empty when one is."""
    channel = state.channel
    if not state.engine.up:
        return f"the cluster engine: {state.engine.why}"
    if state.member not in channel.members:
        return "the channel of the cluster engine: not joined yet"
    if channel.ring is None:
        return "the cluster engine: its ring is not known yet"
    if channel.refused:
        return "; ".join(why for _, why in sorted(channel.refused.items()))
    if channel.change is None:
        view = state.view
        owing = [m.node for m in view.members if m not in channel.statements] if view else []
        if channel.told and state.member.node in owing:
            return "the cluster engine: it has not delivered this node's own statement"
        if owing:
            return f"a statement of {', '.join(state.engine.name(n) for n in owing)}"
    return ""


def unheard(state: State, now: float) -> float | None:
    """For how many seconds the engine has owed this node its own words, once that is too long to be on the way.

    An engine that hangs says nothing at all. A asks to mount, and nothing is the matter with the group as A knows it:
    what A said has not come back is all that A can see of the hang, and that B and C have lost A long ago.
    """
    silent = now - state.said_at
    return silent if state.said and silent >= state.settings.naming_seconds else None


def one_a_node(lives: Iterable[Life]) -> tuple[Life, ...]:
    """One life of each node: of several the last one. A life that was seen speaks before one that was not.

    B dies beside A, in a cluster where either has quorum alone. A asks for B's known life, and for whatever else B may
    have been meanwhile. For an operator that is one node to switch off.
    """
    return tuple(x for _, x in sorted({x.node: x for x in lives}.items()))


def unfenced(state: State, lost: Iterable[Life]) -> tuple[Life, ...]:
    """Which of these lives' fences are still owed, one a node."""
    return one_a_node(x for x in lost if state.table is None or x not in state.table.fenced)


def who_fences(state: State, life: Life) -> int:
    """Whose device acts on this life, or will; 0 for nobody's."""
    by = state.table.begun.get(life, NOBODY) if state.table is not None else NOBODY
    return state.actor if by == NOBODY else by.node


def fence_wait(state: State, life: Life, now: float) -> tuple[str, str]:
    """Why a lost life is not fenced yet, and what to do."""
    name = named(state, life)
    unseen = f"{name} has not been seen since this cluster came up" if life.unknown else f"{name} is lost"
    do = switch_off(name, unseen=life.unknown)
    if not state.good:
        return f"{unseen}; fencing waits for quorum", "bring nodes up until the cluster has quorum"
    actor = who_fences(state, life)
    if actor != state.engine.local:
        return f"{unseen} and not yet fenced; {state.engine.name(actor)} fences", do
    fence = state.fences.get(life)
    if state.settings.fencing is FencingKind.MANUAL:
        return f"{unseen} and fencing is manual: an operator must say that it is off", do
    if fence is None:
        return f"{unseen} and not yet fenced", do
    match fence.phase:
        case FencePhase.ANNOUNCED:
            return f"{unseen}; its fence begins as soon as the others have heard of that", do
        case FencePhase.RUNNING:
            return f"fence command for {name}: try {fence.attempts} is running", do
        case FencePhase.FAILED:
            left = max(0.0, fence.due - now)
            return (
                f'fence command for {name}: try {fence.attempts} failed, "{fence.text}"; next try in {left:.0f} s',
                do,
            )
        case FencePhase.WAITING:
            left = max(0.0, fence.due - now)
            return f"{unseen}; it is fenced in {left:.0f} s unless it comes back first", do
        case FencePhase.DONE:
            return f"{name} is off; the others are being told", ""


def away_wait(state: State, life: Life, now: float) -> str:
    """Why a member whose daemon is away is waited for."""
    since = state.away.get(life.node, now)
    left = max(0.0, since + state.settings.grace_seconds - now)
    return f"ocfs2_controld on {named(state, life)} silent for {now - since:.0f} s; the node is fenced in {left:.0f} s"


def conditions(state: State, fs: str, now: float) -> tuple[Condition, ...]:
    """The conditions of this group's START, in their order."""
    g = state.group(fs)
    engine, channel = state.engine, state.channel
    silent = collection_wait(state)
    ring_ok = not silent and engine.ring == channel.ring
    ring = Condition("ring", ring_ok, silent or ("" if ring_ok else "quorum is not known yet for the channel's ring"))
    votes = f"{len(engine.members)}/{len(engine.nodes)}"
    quorate = engine.up and engine.quorate
    lacking = f"no quorum ({votes} nodes)" if engine.up else "without the cluster engine there is no quorum"
    quorum = Condition("quorum", quorate, "" if quorate else lacking)
    owed = unfenced(state, g.lost)
    fencing = Condition("fencing", not owed, fence_wait(state, owed[0], now)[0] if owed else "")
    why = "; ".join(away_wait(state, x, now) for x in g.away)
    if not why and g.phase is Phase.STOP:
        owing = tuple(x for x in g.members if x not in g.answers)
        why = f"STOP of {names(state, owing)}" if owing else ""
    return (ring, quorum, fencing, Condition("stopped", not why, why), *_local_conditions(state, fs))


def _local_conditions(state: State, fs: str) -> Iterator[Condition]:
    local = state.local(fs)
    missing = [x for x in sorted(local.needs) if x.key not in state.locks.held]
    if missing:
        yield Condition("locks", False, "; ".join(lock_wait(state, x.key, x.name) for x in missing[:3]))
    if local.refusal is not None:
        call, _errno, why = local.refusal
        yield Condition("kernel", False, f"{call}: {why}")


def lock_wait(state: State, key: tuple[int, str, int], name: str) -> str:
    """Why a node's lock is not held yet."""
    locks = state.locks
    if not locks.connected:
        return f"the lock of {name}: {locks.why}"
    if key in locks.queued:
        return f"the lock of {name}: {locks.queued[key]}"
    return f"the lock of {name}: o2cb_controld has not answered"


def group_wait(state: State, fs: str, now: float) -> str:
    """What a group's change waits for; empty when it waits for nothing."""
    g = state.group(fs)
    if silent := collection_wait(state):
        return silent
    if g.phase is Phase.RUN:
        return ""
    for condition in conditions(state, fs, now):
        if not condition.ok:
            return condition.why
    return _answers_wait(state, fs, g)


def _answers_wait(state: State, fs: str, g: Group) -> str:
    owing = tuple(x for x in g.members if x not in g.answers)
    if g.phase is Phase.LOCK and g.joiner is not None:
        holders = tuple(x for x in (*g.members, g.joiner) if x not in g.answers)
        return f"{names(state, holders)}: the locks for the join of {named(state, g.joiner)}"
    return f"{names(state, owing)}: START of {title(state, fs)}" if owing else ""


def why_mount_waits(state: State, fs: str, now: float) -> str:
    """What a MOUNT of this filesystem waits for."""
    local, g = state.local(fs), state.group(fs)
    if local.usage is Usage.RELEASING:
        return f"the device is still in use after its unmount: {local.busy or 'not known yet by whom'}"
    if local.usage is Usage.LEAVING:
        return f"this node's own leave of {title(state, fs)}: {group_wait(state, fs, now) or 'on its way'}"
    if state.service is not True:
        return "o2cb_controld: its service lock"
    if silent := collection_wait(state):
        return silent
    if (owed := unheard(state, now)) is not None:
        return f"the cluster engine: for {owed:.0f} s it has not delivered what this node said; it may hang"
    if not state.good:
        votes = f"{len(state.engine.members)}/{len(state.engine.nodes)}"
        return f"quorum ({votes} nodes are here)"
    if g.joiner is not None and g.joiner != state.me:
        return f"{named(state, g.joiner)}, which joins first: {group_wait(state, fs, now) or 'on its way'}"
    return group_wait(state, fs, now) or "its turn to join"


def _usage_waits(state: State, fs: str, local: Local, now: float) -> Iterator[Wait]:
    name = title(state, fs)
    if local.usage in (Usage.JOINING, Usage.WITHDRAWING):
        yield Wait(f"MOUNT of {name}", local.since, why_mount_waits(state, fs, now), _do(state, fs, now), fs)
    elif local.usage is Usage.RELEASING:
        why = f"the device is still in use after its unmount: {local.busy or 'the kernel has not said by whom'}"
        yield Wait(
            f"leave of {name}", local.since, why, "end what still uses the device (umount -l, other namespaces)", fs
        )
    elif local.usage is Usage.LEAVING:
        why = collection_wait(state) or (local.refusal[2] if local.refusal else "its own leave is on its way")
        yield Wait(f"leave of {name}", local.since, why, "", fs)
    elif local.usage in (Usage.TOLD, Usage.TOLD_AGAIN):
        yield Wait(
            f"mount of {name}", local.since, "the client was told to go on, and has not said how its mount went", "", fs
        )
    elif local.stopped_at is not None and local.region:
        why = group_wait(state, fs, now) or local.stop_cause
        yield Wait(f"START of {name}", local.stopped_at, why, _do(state, fs, now), fs)


def _do(state: State, fs: str, now: float) -> str:
    g = state.group(fs)
    if owed := unfenced(state, g.lost):
        return fence_wait(state, owed[0], now)[1]
    if not state.locks.connected and state.local(fs).needs:
        return "start o2cb_controld"
    return ""


def waiting_since(state: State) -> Iterator[float]:
    """When each thing that waits now began to: what `waits` tells, without the sentences, which take time to make."""
    if state.channel.change is None or not state.engine.up:
        yield state.channel.since
    if state.said:
        yield state.said_at
    yield from (fence.since for fence in state.fences.values())
    if state.table is not None and lost_lives(state.table):
        yield state.channel.since
    if state.outs and state.acts:
        yield from (out.due for out in state.outs.values())
    for local in state.locals.values():
        if local.usage is not Usage.USED:
            yield local.since
        elif local.stopped_at is not None:
            yield local.stopped_at
    yield from state.strays.values()


def waits(state: State, now: float) -> tuple[Wait, ...]:
    """Everything that waits now, whatever for."""
    found: list[Wait] = []
    if silent := collection_wait(state):
        found.append(Wait("the change of the channel", state.channel.since, silent))
    if (owed := unheard(state, now)) is not None:
        why = f"the cluster engine has not delivered it for {owed:.0f} s"
        do = (
            "see whether the cluster engine on this node hangs (corosync-quorumtool -s gives no answer then); if so, "
            "end it and start it again: mounts stay"
        )
        found.append(Wait("what this node said to the others", state.said_at, why, do))
    if state.table is not None:
        for life in one_a_node(needs_fence(state.table)):
            why, do = fence_wait(state, life, now)
            fence = state.fences.get(life)
            since = fence.since if fence is not None else state.channel.since
            found.append(Wait(f"fencing of {named(state, life)}", since, why, do, "", life.node))
    for node in outs.due(state, now)[1] if state.outs and state.acts else ():
        name, out = state.engine.name(node), state.outs[node]
        why = f"it has to go ({out.why}), and without its vote the cluster would have no quorum"
        do = f"bring up nodes that are missing, or restart {name}"
        found.append(Wait(f"the putting out of {name} by the cluster engine", out.due, why, do, "", node))
    for fs, local in sorted(state.locals.items()):
        found.extend(_usage_waits(state, fs, local, now))
    for fs, since in sorted(state.strays.items()):
        # Without `fs`: status would pass over it for what else is the matter with the group that others have of it.
        points = ", ".join(shown(point) for point in state.mounts.get(fs, ()))
        why = f"{fs} is mounted, and no client has asked for it: other nodes do not hear when this node dies"
        do = f"umount it, and mount it by a client that asks; with the stack {UNHEARD} mount.ocfs2 may ask nobody"
        found.append(Wait(f"the group of the mount on {points}", since, why, do))
    return tuple(found)
