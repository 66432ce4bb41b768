"""The hands of o2cb_controld: carries out what touches the kernel tree and the lock files, one action at a time.

`carry_out` answers each action by at most one event and raises nothing that the system says: an error is an answer. It
is called from one thread. `uses` and `links` only look, and may be called from any.
"""

import errno
from collections.abc import Callable
from typing import TypeAlias

from libo2cb.errors import KernelRefusal, NotThere, O2cbError
from libo2cb.kernel.alive import DiskHeartbeat
from libo2cb.kernel.port import KernelPort
from libo2cb.locks import Descriptor, LockDirectory
from libo2cb.mounts import MountTable
from libo2cb.nodes import o2cb_add_node, o2cb_create_cluster, o2cb_remove_cluster, o2cb_remove_node
from libo2cb.wording import shown
from o2cb_controld import actions as do
from o2cb_controld import events as told
from o2cb_controld.topology import ORPHANS

KernelAction: TypeAlias = (
    do.ReadKernel
    | do.MakeCluster
    | do.RemoveCluster
    | do.TryLock
    | do.Unlock
    | do.ListLinks
    | do.MakeNode
    | do.RemoveNode
    | do.ClaimService
    | do.ReleaseService
    | do.LookForUse
)
"""The actions that are for the hands."""


class Hands:
    """Kernel tree, mount table and lock files of one node.

    Args:
        kernel: the kernel.
        mounts: the mount table.
        locks: the run directory's lock files.
        heartbeat: who beats on disk, with the classic driver; None where links say who lives.
    """

    def __init__(
        self, kernel: KernelPort, mounts: MountTable, locks: LockDirectory, heartbeat: DiskHeartbeat | None = None
    ) -> None:
        self.kernel = kernel
        self.mounts = mounts
        self.locks = locks
        self._heartbeat = heartbeat
        self._cluster = ""
        self._exclusive: dict[int, Descriptor] = {}
        self._service: Descriptor | None = None

    def carry_out(self, action: KernelAction) -> told.MindEvent | None:  # noqa: C901 (one arm an action)
        """Carry out an action; the event that answers it, None where it has no answer."""
        match action:
            case do.ReadKernel(cluster):
                self._cluster = cluster
                return self._read(cluster)
            case do.MakeCluster(cluster):
                return _cluster_call(o2cb_create_cluster, self.kernel, cluster, told.ClusterMade())
            case do.RemoveCluster(cluster):
                return _cluster_call(o2cb_remove_cluster, self.kernel, cluster, told.ClusterRemoved())
            case do.TryLock(number):
                return self._try_lock(number)
            case do.Unlock(number):
                if held := self._exclusive.pop(number, None):
                    held.close()
                return None
            case do.ClaimService():
                return self._claim_service()
            case do.ReleaseService():
                if self._service is not None:
                    self._service.close()
                    self._service = None
                return None
            case do.LookForUse(cluster):
                return told.UseFound(self.uses(cluster))
            case do.ListLinks() | do.MakeNode() | do.RemoveNode():
                return self._change(action)

    def uses(self, cluster: str | None) -> tuple[str, ...]:
        """Links, regions and mounts of the cluster; of any cluster when None. What cannot be read counts as used."""
        found: list[str] = []
        try:
            for each in [cluster] if cluster is not None else self.kernel.clusters():
                found += self._uses_of(each)
            found += [f"{shown(m.source)} is mounted on {shown(m.mount_point)}" for m in self.mounts.mounts()]
        except O2cbError as error:
            found.append(f"it cannot be seen what is in use: {error.sentence()}")
        except OSError as error:
            found.append(f"it cannot be seen what is in use: {error.strerror}")
        return tuple(found)

    def links(self, cluster: str) -> dict[str, tuple[str, ...]]:
        """For status: which regions link which directory of the cluster; empty when that cannot be read."""
        links: dict[str, tuple[str, ...]] = {}
        try:
            for region in sorted(self.kernel.regions(cluster)) if cluster else ():
                for name in self.kernel.links(cluster, region):
                    links[name] = (*links.get(name, ()), region)
        except KernelRefusal:
            return {}
        return links

    def close(self) -> None:
        """Close what is open; the locks go with it."""
        for held in (*self._exclusive.values(), *((self._service,) if self._service else ())):
            held.close()
        self._exclusive.clear()
        self._service = None

    def _uses_of(self, cluster: str) -> list[str]:
        found: list[str] = []
        try:
            for region in sorted(self.kernel.regions(cluster)):
                links = sorted(self.kernel.links(cluster, region))
                names = ", ".join(shown(n) for n in links)
                found.append(f"filesystem {shown(region)} links {names}" if links else f"region {shown(region)} stands")
        except NotThere:
            return found
        return found

    def _read(self, cluster: str) -> told.MindEvent:
        try:
            clusters = tuple(self.kernel.clusters())
            nodes = tuple(self.kernel.nodes(cluster)) if cluster in clusters else ()
        except KernelRefusal as refusal:
            return told.KernelUnread(refusal.errno)
        return told.KernelRead(clusters, nodes)

    def _try_lock(self, number: int) -> told.MindEvent:
        if number == ORPHANS:
            return told.LockTaken(number)
        try:
            lock = self.locks.exclusive(number)
        except OSError as error:
            return told.Refused(number, error.errno or errno.EIO)
        if lock is None:
            return told.LockBusy(number)
        self._exclusive[number] = lock
        return told.LockTaken(number)

    def _claim_service(self) -> told.MindEvent:
        if self._service is None:
            try:
                self._service = self.locks.claim_service()
            except OSError:
                return told.ServiceLock(ok=False)
        return told.ServiceLock(ok=self._service is not None)

    def _change(self, action: do.ListLinks | do.MakeNode | do.RemoveNode) -> told.MindEvent:
        number = action.identity.number if isinstance(action, do.MakeNode) else action.number
        try:
            match action:
                case do.ListLinks(_, name):
                    return self._pins(number, name)
                case do.MakeNode(identity, local):
                    o2cb_add_node(self.kernel, self._cluster, identity, local)
                    return told.Made(number, identity, local)
                case do.RemoveNode(_, name):
                    # The mind has had its links listed under this lock.
                    unlinked = number in self._exclusive and self._heartbeat is None
                    o2cb_remove_node(self.kernel, self._cluster, name, unlinked=unlinked)
                    return told.Removed(number, name)
        except KernelRefusal as refusal:
            return told.Refused(number, refusal.errno)
        except O2cbError:
            # A node that the tree cannot hold is never wanted; if it is, it is refused like any other.
            return told.Refused(number, errno.EINVAL)

    def _pins(self, number: int, name: str) -> told.LinksListed:
        if self._heartbeat is None or number == ORPHANS:
            return told.LinksListed(number, tuple(self.kernel.linked(self._cluster, name)))
        live = {region: self._heartbeat.live(region) for region in self.kernel.regions(self._cluster)}
        beats = tuple(region for region, numbers in live.items() if numbers is not None and number in numbers)
        unseen = tuple(region for region, numbers in live.items() if numbers is None)
        return told.LinksListed(number, beats or unseen, blind=not beats and bool(unseen))


def _cluster_call(
    call: Callable[[KernelPort, str], None], kernel: KernelPort, cluster: str, done: told.MindEvent
) -> told.MindEvent:
    try:
        call(kernel, cluster)
    except KernelRefusal as refusal:
        return told.ClusterRefused(refusal.errno)
    return done
