"""What a sandbox cluster is made of: DIR/nodes.json, written by `up`, and by the hub when the configuration changes."""

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from libo2cb.engine.port import ConfiguredNode


@dataclass(frozen=True, slots=True)
class Plan:
    """A sandbox cluster.

    Attributes:
        nodes: the configured nodes, by number.
        cluster: its name.
        two_node: with two nodes, one is a quorum once it has seen both.
        seed: of the skew between streams.
    """

    nodes: tuple[ConfiguredNode, ...]
    cluster: str = "demo"
    two_node: bool = False
    seed: int = 0

    @classmethod
    def of(cls, count: int, *, cluster: str = "demo", seed: int = 0, two_node: bool = False) -> Self:
        """Nodes n1, n2, ... with the addresses 10.0.0.11, 10.0.0.12, ..."""
        nodes = tuple(ConfiguredNode(i, f"n{i}", f"10.0.0.{10 + i}") for i in range(1, count + 1))
        return cls(nodes, cluster, two_node, seed)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read the file.

        Raises:
            OSError: it cannot be read.
            ValueError: it is not what write() makes.
        """
        try:
            raw = json.loads(path.read_bytes())
            nodes = tuple(sorted(ConfiguredNode(int(i), str(name), str(address)) for i, name, address in raw["nodes"]))
            return cls(nodes, str(raw["cluster"]), bool(raw["two_node"]), int(raw["seed"]))
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path} is not what `o2cb_sandbox up` writes: {error}") from error

    def write(self, path: Path) -> None:
        """Replace the file by one rename."""
        nodes = [(n.number, n.name, n.address) for n in self.nodes]
        plain = {"cluster": self.cluster, "two_node": self.two_node, "seed": self.seed, "nodes": nodes}
        aside = path.with_name(f"{path.name}.{os.getpid()}")
        aside.write_text(json.dumps(plain, indent=1) + "\n")
        aside.replace(path)

    def with_nodes(self, nodes: Iterable[ConfiguredNode]) -> Self:
        """The same cluster with other nodes."""
        return replace(self, nodes=tuple(nodes))
