"""The sentences: what is queued, and why (law 17). One wording for status, log, QUEUED and WAITING."""

from errno import EBUSY, ENOENT

from libo2cb.wording import errno_words, shown
from o2cb_controld.state import IN_FLIGHT, Cause, Ending, Node, Pin, State, Tree
from o2cb_controld.topology import Difference, Held, Make, Need, Nothing, Remove

DEBUGFS = "/sys/kernel/debug"
BEING_CHANGED = "it is being changed"


def standing_back(state: State) -> str:
    """Why no node may be changed at present; "" when nodes may."""
    if state.acting:
        return ""
    if not state.engine.up:
        return f"the cluster engine is away ({state.engine.reason}): nothing is changed until it is back"
    if state.tree is not Tree.STANDS:
        if state.errno == ENOENT and state.driver != "sandbox":
            return (
                "the kernel has no cluster tree: say `modprobe ocfs2_nodemanager`, with configfs mounted; it is looked"
                " for each second"
            )
        because = f": {errno_words(state.errno)}" if state.errno else ""
        return f"cluster {shown(state.engine.cluster)} in the kernel is {state.tree.value}{because}"
    return "the cluster engine has not told its members yet"


def of_cause(cause: Cause) -> str:
    """What the last look at a change found."""
    if cause.pin is Pin.LOCK:
        return "ocfs2_controld holds its lock for a filesystem"
    if cause.pin is Pin.LINK:
        names = ", ".join(shown(r) for r in cause.regions)
        return f"filesystem {names} still links it" if len(cause.regions) == 1 else f"filesystems {names} still link it"
    if cause.pin is Pin.BEAT:
        names = ", ".join(shown(r) for r in cause.regions)
        return f"this kernel still sees it beat on the disk of {names}: unmount there on that node"
    if cause.pin is Pin.BLIND:
        names = ", ".join(shown(r) for r in cause.regions)
        return f"whether it beats on the disk of {names} cannot be seen: mount debugfs on {DEBUGFS}, or unmount here"
    if cause.errno == EBUSY:
        return "the kernel says EBUSY though no filesystem links it: perhaps its connection is still open"
    return f"the kernel says {errno_words(cause.errno)}"


def what(state: State, number: int, need: Need) -> str:
    """The change, as a noun."""
    match need:
        case Remove(directory, None):
            return f"removal of {shown(directory)}"
        case Remove(directory, again) if again is not None:
            if directory == again.name:
                return f"change of {shown(directory)} to {again.address}:{again.port}"
            return f"change of {shown(directory)} to {again}"
        case Make(identity) | Held(identity):
            return f"adding of {identity}"
        case _:
            return f"change of {shown(state.name_of(number))}"


def why(state: State, number: int, need: Need) -> str:
    """Why this change is not made yet."""
    if isinstance(need, Nothing):
        return ""
    if back := standing_back(state):
        return back
    if isinstance(need, Held):
        holder = next((s for s in state.standing if s.name == need.by), None)
        if holder is not None and any(holder.complete and w == holder.identity for w in state.wanted):
            return f"node {shown(need.by)} has {shown(need.what)} and stays: give one of them another"
        return f"node {shown(need.by)} still holds {shown(need.what)}, and goes first"
    slot = state.slot(number)
    return BEING_CHANGED if slot is None or slot.cause is None else of_cause(slot.cause)


def unready(state: State, difference: Difference) -> str:
    """Why law 16 does not hold; "" when it does.

    A change that is queued and named does not count, or a restart with a queue would wait for ocfs2_controld, which
    waits for us. For the local node it does.
    """
    if state.ending in {Ending.EMPTYING, Ending.CLOSING, Ending.ENDED}:
        return "this daemon is ending"
    if back := standing_back(state):
        return back
    local = state.engine.local
    mine = difference.wanted.get(local)
    if mine is None:
        return f"this node (number {local}) cannot be held by o2cb, or the engine's configuration does not name it"
    if not difference.right(mine):
        return f"the local node {mine} does not stand yet: {why(state, local, difference.need(local))}"
    for number in sorted({*difference.differing(), *(s.number for s in state.slots)}):
        need = difference.need(number)
        slot = state.slot(number)
        if isinstance(need, Nothing):
            # n3 leaves and is back before the answer to its rmdir: what stands and what is wanted agree, for a moment.
            passes = slot is None or slot.phase not in {Node.REMOVING, Node.MAKING}
        elif isinstance(need, Held):
            # n2 was made while n3, which is to have the same address, was being looked at: n3 is held from here on,
            # and named as such when the look is over.
            passes = slot is None or slot.phase not in IN_FLIGHT
        else:
            passes = slot is not None and slot.cause is not None
        if not passes:
            return f"{what(state, number, need)} is under way"
    return ""
