"""The port to the kernel's cluster tree: clusters, nodes, heartbeat regions, links.

The same shape as configfs under /sys/kernel/config/cluster:

    CLUSTER/node/NAME/{num,ipv4_address,ipv4_port,local}
    CLUSTER/heartbeat/REGION/NAME -> CLUSTER/node/NAME

All calls are synchronous and short; each raises KernelRefusal (libo2cb.errors) with the kernel's errno.
"""

from dataclasses import dataclass
from typing import Protocol

from protocol.identity import NodeIdentity


@dataclass(frozen=True, slots=True, order=True)
class StandingNode:
    """A node directory as the kernel shows it.

    Attributes:
        name: directory name.
        number: attribute num; 0 while not set.
        address: attribute ipv4_address; 0.0.0.0 while not set.
        port: attribute ipv4_port; 0 while not set.
        local: attribute local.
    """

    name: str
    number: int
    address: str
    port: int
    local: bool

    @property
    def complete(self) -> bool:
        """Whether every attribute that makes an identity is set."""
        return self.number != 0 and self.port != 0 and self.address != "0.0.0.0"  # noqa: S104 (the kernel's "not set")

    @property
    def identity(self) -> NodeIdentity:
        """The identity that stands here; meaningful only when complete."""
        return NodeIdentity(self.number, self.address, self.port, self.name)


class KernelPort(Protocol):
    """What the daemons may ask of the kernel's cluster tree."""

    def boot_id(self) -> str:
        """The id of this boot: the name of this node's life."""

    def clusters(self) -> list[str]:
        """Names of the clusters in the kernel (at most one on a real kernel)."""

    def create_cluster(self, cluster: str) -> None:
        """Make the cluster. EEXIST when it stands; ENOSPC when another does."""

    def remove_cluster(self, cluster: str) -> None:
        """Remove the cluster. ENOTEMPTY while it has nodes or regions."""

    def nodes(self, cluster: str) -> list[StandingNode]:
        """All node directories of the cluster, complete or not, by name."""

    def number(self, cluster: str, name: str) -> int:
        """The number of a node directory; 0 while it has none. One that has a number is complete."""

    def make_node(self, cluster: str, name: str) -> None:
        """Make the bare node directory. EEXIST, ENAMETOOLONG beyond 64 bytes."""

    def set_node(self, cluster: str, name: str, attribute: str, value: str) -> None:
        """Write one attribute; each can be set once (EBUSY after that)."""

    def remove_node(self, cluster: str, name: str) -> None:
        """Remove a node directory. EBUSY while a link, or something else, pins it; ENOENT when it is not there."""

    def regions(self, cluster: str) -> list[str]:
        """Names (UUIDs) of the heartbeat regions."""

    def create_region(self, cluster: str, region: str) -> None:
        """Make the region. EEXIST; ENAMETOOLONG beyond 32 bytes."""

    def remove_region(self, cluster: str, region: str) -> None:
        """Remove the region. ENOTEMPTY while it holds links."""

    def links(self, cluster: str, region: str) -> list[str]:
        """Names of the nodes that the region links."""

    def link(self, cluster: str, region: str, name: str) -> None:
        """Link the node into the region: "this node is alive here".

        EEXIST; ENOENT without the node; EPERM on a kernel whose regions allow no links.
        """

    def unlink(self, cluster: str, region: str, name: str) -> None:
        """Remove the link: "this node is dead here, or left". ENOENT."""

    def linked(self, cluster: str, name: str) -> list[str]:
        """Regions that link the node: what pins it."""

    def power_off(self, why: str) -> None:
        """Reset this node at once (law 9). In the sandbox: a power-off of its own home."""
