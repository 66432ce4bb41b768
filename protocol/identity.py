"""Who a node is: its identity in the node tree, and its life."""

from dataclasses import dataclass
from functools import lru_cache

UNKNOWN_BOOT = ""
"""The boot id of a life that nobody has seen: a configured node that may be up and writing all the same."""


@dataclass(frozen=True, slots=True, order=True)
class NodeIdentity:
    """What the kernel's node tree says of a node.

    Locks and identity go by number, address and port; the name is for people and for the directory.

    Attributes:
        number: 1 to 254. 0 is refused: in the kernel it cannot be told from "not set".
        address: dotted IPv4.
        port: TCP port, 1 to 65534.
        name: directory name, 1 to 64 bytes in UTF-8, may hold blanks; never "/", NUL or newline.
    """

    number: int
    address: str
    port: int
    name: str

    @property
    def key(self) -> tuple[int, str, int]:
        """Number, address and port: what a lock is granted for."""
        return (self.number, self.address, self.port)

    def __str__(self) -> str:
        return f"{self.name} (number {self.number}, {self.address}:{self.port})"


@dataclass(frozen=True, slots=True, order=True)
class Life:
    """One boot of one node. A daemon's death is never the end of a life.

    Attributes:
        node: the node's number.
        boot: the kernel's boot id, or UNKNOWN_BOOT for the life of a configured node that was never seen.
    """

    node: int
    boot: str

    @property
    def unknown(self) -> bool:
        """Whether this stands for whatever life a node that was never seen may have."""
        return self.boot == UNKNOWN_BOOT

    def __str__(self) -> str:
        return f"{self.node}/{self.boot[:8] or 'unknown'}"


@lru_cache(maxsize=4096)
def life(node: int, boot: str) -> Life:
    """A life, and for the same one mostly the same object: tuples and sets find one that is in them at once."""
    return Life(node, boot)


@dataclass(frozen=True, slots=True, order=True)
class Ring:
    """The engine's ring id. Later rings compare greater.

    Attributes:
        sequence: the engine's counter, raised with each ring.
        representative: number of the node that formed the ring; tells apart the rings of two sides of a partition.
    """

    sequence: int
    representative: int

    def __str__(self) -> str:
        return f"{self.representative}.{self.sequence}"
