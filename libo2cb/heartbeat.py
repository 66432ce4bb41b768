"""Heartbeat regions and links: which nodes are alive in which filesystem, as the kernel is told.

A region stands for a filesystem and is named by its UUID, 32 characters. A link in it stands for a node that is alive
there, and pins the node. Making a link needs the node's lock (libo2cb.locks), which is granted only for a complete
node; removing one needs nothing.
"""

from libo2cb.kernel.port import KernelPort


def create_region(kernel: KernelPort, cluster: str, region: str) -> None:
    """Make a region.

    Raises:
        AlreadyThere: it stands.
        NameTooLong: its name has more than 32 bytes.
        NotThere: the cluster does not stand.
        KernelRefusal: anything else that the kernel says.
    """
    kernel.create_region(cluster, region)


def remove_region(kernel: KernelPort, cluster: str, region: str) -> None:
    """Remove a region.

    Raises:
        NotThere: it does not stand. Unlike that of a node this is no success: somebody else has taken it down.
        NotEmpty: it holds links.
        Pinned: a mounted filesystem depends on it.
        KernelRefusal: anything else that the kernel says.
    """
    kernel.remove_region(cluster, region)


def node_up(kernel: KernelPort, cluster: str, region: str, name: str) -> None:
    """Tell the kernel that the node is alive in the region. When this returns, the kernel's listeners have heard it.

    Raises:
        AlreadyThere: it is linked already.
        NotThere: the node or the region does not stand.
        NotAllowed: the regions of this kernel allow no links; it needs the user heartbeat.
        KernelRefusal: anything else that the kernel says.
    """
    kernel.link(cluster, region, name)


def node_down(kernel: KernelPort, cluster: str, region: str, name: str) -> None:
    """Tell the kernel that the node is dead in the region, or left. When this returns, its listeners have heard it.

    Raises:
        NotThere: it is not linked.
        KernelRefusal: anything else that the kernel says.
    """
    kernel.unlink(cluster, region, name)
