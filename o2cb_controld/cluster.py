"""Our cluster directory: found and adopted, or made; never another's.

At a start the kernel is the record: what stands in our own cluster is taken over as it is, and nothing is removed
before the engine has told its first membership, or a daemon that starts faster than its engine would empty a live tree.
"""

from errno import EEXIST, ENOSPC

from libo2cb.errors import O2cbError
from libo2cb.events import Event, log
from libo2cb.limits import check_cluster_name
from libo2cb.wording import errno_words, shown
from o2cb_controld.actions import Action, Exit, MakeCluster, ReadKernel
from o2cb_controld.events import ClusterMade, ClusterRefused, KernelRead, KernelUnread
from o2cb_controld.state import Ending, State, Step, Tree
from protocol.frozen import replace

TRY_AGAIN = 1.0
"""Seconds until the tree is tried again."""


def why_not(state: State, cluster: str) -> str:
    """Why this daemon cannot serve a cluster of this name; "" if it can."""
    try:
        check_cluster_name(cluster)
    except O2cbError as e:
        return e.sentence()
    if state.expected and cluster != state.expected:
        return (
            f"the engine serves cluster {shown(cluster)}, and cluster.name in the configuration is"
            f" {shown(state.expected)}: correct one of them"
        )
    return ""


def refuse_to_start(state: State, cause: str) -> Step:
    """End with an error; the tree is left as it is."""
    return replace(state, ending=Ending.ENDED), (log(Event.EXITING, "error", cause=cause), Exit(1))


def read(state: State, event: KernelRead) -> Step:
    """The tree as it stands, at start or after a surprise."""
    cluster = state.engine.cluster
    if state.tree not in {Tree.READING, Tree.STANDS}:
        return state, ()
    if cluster in event.clusters:
        standing = tuple(sorted(event.nodes))
        adopted = log(Event.CLUSTER_ADOPTED, cluster=cluster, nodes=[n.name for n in standing])
        said: tuple[Action, ...] = (adopted,) if state.tree is Tree.READING else ()
        return replace(state, tree=Tree.STANDS, standing=standing, errno=0), said
    if event.clusters:
        return refuse_to_start(state, _another(cluster, event.clusters))
    return replace(state, tree=Tree.MAKING, standing=(), errno=0), (MakeCluster(cluster),)


def unread(state: State, now: float, event: KernelUnread) -> Step:
    """The tree cannot be read: at start try again; later what is known stays true."""
    if state.tree is not Tree.READING:
        return state, (log(Event.SURPRISE, "error", state=state.tree.name, cause=f"read: {errno_words(event.errno)}"),)
    return replace(state, errno=event.errno, retry_at=now + TRY_AGAIN), ()


def made(state: State, _: ClusterMade) -> Step:
    """It stands, empty."""
    if state.tree is not Tree.MAKING:
        return state, (log(Event.SURPRISE, "error", state=state.tree.name, cause="a cluster was made"),)
    return replace(state, tree=Tree.STANDS, errno=0), (log(Event.CLUSTER_MADE, cluster=state.engine.cluster),)


def refused(state: State, now: float, event: ClusterRefused) -> Step:
    """It cannot be made."""
    cluster = state.engine.cluster
    if event.errno == EEXIST:
        return replace(state, tree=Tree.READING), (ReadKernel(cluster),)
    if event.errno == ENOSPC:
        return refuse_to_start(state, _another(cluster, ()))
    return replace(state, errno=event.errno, retry_at=now + TRY_AGAIN), ()


def due(state: State, now: float) -> Step:
    """Try again what could not be read or made."""
    if not _failing(state) or state.retry_at > now:
        return state, ()
    cluster = state.engine.cluster
    again: Action = ReadKernel(cluster) if state.tree is Tree.READING else MakeCluster(cluster)
    return replace(state, errno=0), (again,)


def alarms(state: State) -> list[float]:
    """When `due` has something to do."""
    return [state.retry_at] if _failing(state) else []


def _failing(state: State) -> bool:
    return state.errno != 0 and state.tree in {Tree.READING, Tree.MAKING}


def _another(cluster: str, others: tuple[str, ...]) -> str:
    names = ", ".join(shown(o) for o in others)
    return (
        f"another cluster is in the kernel{f' ({names})' if names else ''}, and there is room for one: cluster"
        f" {shown(cluster)} cannot be served. Unmount the other's filesystems and take it offline, then start again"
    )
