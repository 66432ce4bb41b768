"""Clusters and nodes in the kernel: the two doors to the node tree, and the way to the tree itself.

Whoever calls o2cb_add_node or o2cb_remove_node for a cluster that daemons serve must hold the node's lock for writing
(libo2cb.locks): the doors look at the links, and only the lock keeps a link from being made between look and change.
"""

import errno

from libo2cb.errors import KernelRefusal, Kind, NotThere, Pinned
from libo2cb.kernel.port import KernelPort, StandingNode
from libo2cb.limits import check_cluster_name, check_identity
from protocol.identity import NodeIdentity


def o2cb_create_cluster(kernel: KernelPort, cluster: str) -> None:
    """Make the cluster in the kernel.

    Raises:
        InvalidClusterName: a volume or a MOUNT could not carry the name.
        AlreadyThere: it stands.
        NoRoom: another cluster stands; the kernel holds one.
        KernelRefusal: anything else that the kernel says.
    """
    check_cluster_name(cluster)
    kernel.create_cluster(cluster)


def o2cb_remove_cluster(kernel: KernelPort, cluster: str) -> None:
    """Remove the cluster from the kernel. One that is not there is removed already.

    Raises:
        NotEmpty: it still has nodes or regions.
        KernelRefusal: anything else that the kernel says.
    """
    try:
        kernel.remove_cluster(cluster)
    except NotThere:
        return


def is_incomplete(standing: StandingNode, *, local: bool = False) -> bool:
    """Whether a node directory is one whose maker was stopped half-way.

    Args:
        standing: the directory.
        local: whether it ought to be this node's own, which is complete only when the kernel listens for it.
    """
    return not standing.complete or (local and not standing.local)


def incomplete_nodes(kernel: KernelPort, cluster: str) -> list[StandingNode]:
    """The node directories that have no identity. No link may be made to them; they are removed and made again."""
    return [standing for standing in kernel.nodes(cluster) if is_incomplete(standing)]


def o2cb_add_node(kernel: KernelPort, cluster: str, identity: NodeIdentity, local: bool = False) -> None:
    """Make a node, complete or not at all.

    mkdir, then ipv4_port, ipv4_address, num and local, in this order; read back and compared; taken back by rmdir when
    anything fails. An incomplete directory of the same name is removed first.

    Raises:
        InvalidNodeNum, ConfigurationError: the node tree cannot hold this node.
        AlreadyThere: a complete node has this name, or another node has its number or its address.
        Pinned: the incomplete directory cannot be removed, or another node is the local one.
        KernelRefusal: anything else that the kernel says; EIO when the node reads otherwise than it was written.
    """
    check_identity(identity)
    if any(s.name == identity.name and is_incomplete(s, local=local) for s in kernel.nodes(cluster)):
        o2cb_remove_node(kernel, cluster, identity.name)
    kernel.make_node(cluster, identity.name)
    try:
        _fill(kernel, cluster, identity, local)
    except KernelRefusal as refusal:
        try:
            kernel.remove_node(cluster, identity.name)
        except KernelRefusal as also:
            refusal.add_note(f"and it could not be taken back, so it stands incomplete: {also.sentence()}")
        raise


def _fill(kernel: KernelPort, cluster: str, identity: NodeIdentity, local: bool) -> None:
    for attribute, value in (
        ("ipv4_port", str(identity.port)),
        ("ipv4_address", identity.address),
        ("num", str(identity.number)),
        ("local", str(int(local))),
    ):
        kernel.set_node(cluster, identity.name, attribute, value)
    wanted = StandingNode(identity.name, identity.number, identity.address, identity.port, local)
    standing = next((s for s in kernel.nodes(cluster) if s.name == identity.name), None)
    if standing != wanted:
        reads = f"{standing.identity}, local {int(standing.local)}" if standing else "nothing"
        raise KernelRefusal(
            "read",
            f"{cluster}/node/{identity.name}",
            errno.EIO,
            kind=Kind.NODE,
            why=f"it was written as {identity}, local {int(local)}, and reads {reads}",
            do="see whether another program changes the node tree",
        )


def o2cb_remove_node(kernel: KernelPort, cluster: str, name: str, *, unlinked: bool = False) -> None:
    """Remove a node. One that is not there is removed already.

    A node that a region links is not touched, also where the kernel would allow it.

    Args:
        kernel: the kernel.
        cluster: the cluster.
        name: the node's directory.
        unlinked: the caller has listed the links and found none, under the node's lock, which it still holds. A
            cluster with a thousand regions has a thousand directories to list.

    Raises:
        Pinned: a region links it, or something else in the kernel holds it.
        KernelRefusal: anything else that the kernel says.
    """
    try:
        if regions := () if unlinked else kernel.linked(cluster, name):
            raise Pinned(
                "rmdir",
                f"{cluster}/node/{name}",
                errno.EBUSY,
                kind=Kind.NODE,
                why=f"filesystem{'s' if len(regions) > 1 else ''} {', '.join(regions)} still "
                f"link{'' if len(regions) > 1 else 's'} it",
            )
        kernel.remove_node(cluster, name)
    except NotThere:
        return
