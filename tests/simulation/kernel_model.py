"""The kernel of one node as a value: its node tree, its links, and the flocks on the lock files.

Pure and hashable, so that transcripts, a simulation and an exhaustive search can share it. Every call gives the next
kernel, or raises Refusal with the errno that configfs was measured to give. A flock belongs to an open file
description: here a triple of file, mode and holder; a holder is whoever has the descriptor: a daemon, or a socket.
"""

from dataclasses import dataclass, replace
from errno import EBUSY, EEXIST, EINVAL, ENOENT, ENOSPC, ENOTEMPTY
from errno import errorcode as names

from libo2cb.kernel.port import StandingNode
from protocol.identity import NodeIdentity

UNSET = "0.0.0.0"  # noqa: S104 (the kernel's "not set")


class Refusal(Exception):
    """The kernel says no."""

    def __init__(self, errno: int) -> None:
        super().__init__(names[errno])
        self.errno = errno


@dataclass(frozen=True, slots=True, order=True)
class Flock:
    """One open file description with a lock.

    Attributes:
        file: "service", or the number of a node as text.
        exclusive: LOCK_EX, else LOCK_SH.
        holder: who has the descriptor.
    """

    file: str
    exclusive: bool
    holder: str


@dataclass(frozen=True, slots=True)
class KernelModel:
    """What stands.

    Attributes:
        cluster: the one cluster, "" for none.
        nodes: its node directories, by name.
        regions: its heartbeat regions.
        links: (region, node name).
        pinned: names that something besides links holds.
        flocks: all locks, sorted; one holder may have several of a kind.
    """

    cluster: str = ""
    nodes: tuple[StandingNode, ...] = ()
    regions: frozenset[str] = frozenset()
    links: frozenset[tuple[str, str]] = frozenset()
    pinned: frozenset[str] = frozenset()
    flocks: tuple[Flock, ...] = ()

    def create_cluster(self, cluster: str) -> "KernelModel":
        """EEXIST; ENOSPC when another stands."""
        if self.cluster:
            raise Refusal(EEXIST if self.cluster == cluster else ENOSPC)
        return replace(self, cluster=cluster)

    def remove_cluster(self, cluster: str) -> "KernelModel":
        """ENOENT; ENOTEMPTY."""
        if self.cluster != cluster:
            raise Refusal(ENOENT)
        if self.nodes or self.regions:
            raise Refusal(ENOTEMPTY)
        return replace(self, cluster="")

    def node(self, name: str) -> StandingNode | None:
        """The directory of this name."""
        return next((n for n in self.nodes if n.name == name), None)

    def linked(self, name: str) -> tuple[str, ...]:
        """Regions that link this directory."""
        return tuple(sorted(region for region, n in self.links if n == name))

    def make_bare_node(self, name: str) -> "KernelModel":
        """Mkdir alone: what a daemon leaves that is killed right after it."""
        if self.node(name):
            raise Refusal(EEXIST)
        return replace(self, nodes=tuple(sorted((*self.nodes, StandingNode(name, 0, UNSET, 0, False)))))

    def complete_node(self, identity: NodeIdentity, local: bool) -> "KernelModel":
        """All attributes of a bare node. EEXIST: number or ip:port is another's. EBUSY: another node is local."""
        node = self.node(identity.name)
        if node is None:
            raise Refusal(ENOENT)
        if node.number:
            raise Refusal(EBUSY)
        others = [n for n in self.nodes if n is not node]
        if any(n.number == identity.number or (n.address, n.port) == (identity.address, identity.port) for n in others):
            raise Refusal(EEXIST)
        if local and any(n.local for n in others):
            raise Refusal(EBUSY)
        full = StandingNode(identity.name, identity.number, identity.address, identity.port, local)
        return replace(self, nodes=tuple(sorted((*others, full))))

    def make_node(self, identity: NodeIdentity, local: bool) -> "KernelModel":
        """Mkdir and attributes, or neither."""
        return self.make_bare_node(identity.name).complete_node(identity, local)

    def remove_node(self, name: str) -> "KernelModel":
        """ENOENT; EBUSY while a link or something else pins it, and for the local node while a region stands."""
        node = self.node(name)
        if node is None:
            raise Refusal(ENOENT)
        if self.linked(name) or name in self.pinned or (node.local and self.regions):
            raise Refusal(EBUSY)
        return replace(self, nodes=tuple(n for n in self.nodes if n is not node))

    def create_region(self, region: str) -> "KernelModel":
        """EEXIST."""
        if region in self.regions:
            raise Refusal(EEXIST)
        return replace(self, regions=self.regions | {region})

    def remove_region(self, region: str) -> "KernelModel":
        """ENOENT; ENOTEMPTY while it links a node."""
        if region not in self.regions:
            raise Refusal(ENOENT)
        if any(r == region for r, _ in self.links):
            raise Refusal(ENOTEMPTY)
        return replace(self, regions=self.regions - {region})

    def link(self, region: str, name: str) -> "KernelModel":
        """ENOENT without region or node; EEXIST."""
        if region not in self.regions or self.node(name) is None:
            raise Refusal(ENOENT)
        if (region, name) in self.links:
            raise Refusal(EEXIST)
        return replace(self, links=self.links | {(region, name)})

    def unlink(self, region: str, name: str) -> "KernelModel":
        """ENOENT."""
        if (region, name) not in self.links:
            raise Refusal(ENOENT)
        return replace(self, links=self.links - {(region, name)})

    def flock(self, file: str, exclusive: bool, holder: str) -> "KernelModel | None":
        """Open the file and lock it, never waiting; None where the system call says EAGAIN."""
        if any(f.file == file and (exclusive or f.exclusive) for f in self.flocks):
            return None
        return replace(self, flocks=tuple(sorted((*self.flocks, Flock(file, exclusive, holder)))))

    def holds(self, file: str, exclusive: bool, holder: str) -> bool:
        """Whether this holder has such a descriptor."""
        return Flock(file, exclusive, holder) in self.flocks

    def close(self, file: str, exclusive: bool, holder: str) -> "KernelModel":
        """Close one descriptor. EINVAL: the holder has none."""
        gone = Flock(file, exclusive, holder)
        if gone not in self.flocks:
            raise Refusal(EINVAL)
        at = self.flocks.index(gone)
        return replace(self, flocks=self.flocks[:at] + self.flocks[at + 1 :])

    def hand_over(self, file: str, holder: str, to: str) -> "KernelModel":
        """A shared descriptor goes to another holder: into a socket, or out of it."""
        without = self.close(file, False, holder)
        return replace(without, flocks=tuple(sorted((*without.flocks, Flock(file, False, to)))))

    def close_all(self, holder: str) -> "KernelModel":
        """The holder is gone, and its descriptors with it."""
        return replace(self, flocks=tuple(f for f in self.flocks if f.holder != holder))
