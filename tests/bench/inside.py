"""An engine and a kernel for daemons in one process with them: the pure models, behind the daemons' own ports."""

from asyncio import AbstractEventLoop
from collections.abc import Callable
from errno import ENOENT
from typing import Any

from libo2cb.engine.model import Cluster, Stream
from libo2cb.engine.port import ChannelEvent, MembershipEvent
from libo2cb.errors import KernelRefusal, NotThere
from libo2cb.kernel.port import StandingNode
from protocol.identity import NodeIdentity
from tests.simulation.kernel_model import KernelModel, Refusal

CLUSTER = "demo"


class Engine:
    """The engine model of one node; what it hands out is delivered by the loop, one event a turn.

    Args:
        loop: the loop of the daemons.
        cluster: the model.
        node: whose engine this is.
    """

    def __init__(self, loop: AbstractEventLoop, cluster: Cluster, node: int) -> None:
        self.cluster, self.node = cluster, node
        self._loop = loop
        self._sinks: dict[tuple[str, Stream], Callable[[Any], None]] = {}
        self._turn = False

    def hears(self, listener: str, stream: Stream, sink: Callable[[Any], None]) -> None:
        """Deliver this stream to sink."""
        self._sinks[listener, stream] = sink
        self.stirred()

    def stirred(self) -> None:
        """Something may wait."""
        if not self._turn:
            self._turn = True
            self._loop.call_soon(self._deliver)

    def _deliver(self) -> None:
        self._turn = False
        for node, listener, stream in self.cluster.pending():
            if node == self.node and (sink := self._sinks.get((listener, stream))):
                sink(self.cluster.deliver(node, listener, stream))
                self.stirred()


class Membership:
    """The membership port."""

    def __init__(self, engine: Engine, listener: str) -> None:
        self._engine, self._listener = engine, listener

    async def start(self, sink: Callable[[MembershipEvent], None]) -> None:
        """Begin to deliver."""
        self._engine.cluster.listen(self._engine.node, self._listener)
        self._engine.hears(self._listener, Stream.MEMBERSHIP, sink)

    def answer_shutdown(self, question: int, allow: bool, reason: str) -> None:
        """Answer a question."""
        self._engine.cluster.answer_shutdown(self._engine.node, self._listener, question, allow=allow, reason=reason)

    def put_out(self, node: int, reason: str) -> None:  # noqa: ARG002 (the port's)
        """Put a node out."""
        self._engine.cluster.put_out(self._engine.node, node)

    async def close(self) -> None:
        """Stop."""
        self._engine.cluster.disconnect(self._engine.node, self._listener, Stream.MEMBERSHIP)


class Channel:
    """The channel port."""

    def __init__(self, engine: Engine, listener: str, pid: int) -> None:
        self._engine, self._listener, self._pid = engine, listener, pid
        self._joined = False

    async def start(self, sink: Callable[[ChannelEvent], None]) -> None:
        """Join, and begin to deliver."""
        self._engine.cluster.join(self._engine.node, self._listener, self._pid)
        self._joined = True
        self._engine.hears(self._listener, Stream.CHANNEL, sink)

    def send(self, payload: bytes) -> None:
        """Multicast."""
        self._engine.cluster.send(self._engine.node, self._listener, payload)
        self._engine.stirred()

    async def leave(self) -> None:
        """Leave."""
        if self._joined:
            self._joined = False
            self._engine.cluster.leave(self._engine.node, self._listener)

    async def close(self) -> None:
        """Stop."""
        await self.leave()


class Kernel:
    """The kernel port over the kernel model of the simulation."""

    def __init__(self) -> None:
        self._model = KernelModel()
        self._half: dict[str, dict[str, str]] = {}

    def _do(self, call: str, change: Callable[[KernelModel], KernelModel]) -> None:
        try:
            self._model = change(self._model)
        except Refusal as refusal:
            raise KernelRefusal(call, CLUSTER, refusal.errno) from refusal

    def boot_id(self) -> str:
        """This life."""
        return "b1"

    def clusters(self) -> list[str]:
        """The cluster."""
        return [self._model.cluster] if self._model.cluster else []

    def create_cluster(self, cluster: str) -> None:
        """Make it."""
        self._do("mkdir", lambda k: k.create_cluster(cluster))

    def remove_cluster(self, cluster: str) -> None:
        """Remove it."""
        self._do("rmdir", lambda k: k.remove_cluster(cluster))

    def nodes(self, cluster: str) -> list[StandingNode]:  # noqa: ARG002 (the port's, as below)
        """All nodes."""
        return list(self._model.nodes)

    def number(self, cluster: str, name: str) -> int:  # noqa: ARG002
        """A node's number."""
        found = next((n for n in self._model.nodes if n.name == name), None)
        if found is None:
            raise NotThere("read", name, ENOENT)
        return found.number

    def make_node(self, cluster: str, name: str) -> None:  # noqa: ARG002
        """The bare node."""
        self._do("mkdir", lambda k: k.make_bare_node(name))

    def set_node(self, cluster: str, name: str, attribute: str, value: str) -> None:  # noqa: ARG002
        """One attribute. The model takes all at once: with the last one, "local" or what stands for it."""
        half = self._half.setdefault(name, {})
        half[attribute] = value
        if {"num", "ipv4_address", "ipv4_port", "local"} <= half.keys():
            del self._half[name]
            identity = NodeIdentity(int(half["num"]), half["ipv4_address"], int(half["ipv4_port"]), name)
            self._do("write", lambda k: k.complete_node(identity, half["local"].strip() == "1"))

    def remove_node(self, cluster: str, name: str) -> None:  # noqa: ARG002
        """Remove it."""
        self._do("rmdir", lambda k: k.remove_node(name))

    def regions(self, cluster: str) -> list[str]:  # noqa: ARG002
        """All regions."""
        return sorted(self._model.regions)

    def create_region(self, cluster: str, region: str) -> None:  # noqa: ARG002
        """Make one."""
        self._do("mkdir", lambda k: k.create_region(region))

    def remove_region(self, cluster: str, region: str) -> None:  # noqa: ARG002
        """Remove one."""
        self._do("rmdir", lambda k: k.remove_region(region))

    def links(self, cluster: str, region: str) -> list[str]:  # noqa: ARG002
        """Nodes that it links."""
        return sorted(name for r, name in self._model.links if r == region)

    def link(self, cluster: str, region: str, name: str) -> None:  # noqa: ARG002
        """Link one."""
        self._do("symlink", lambda k: k.link(region, name))

    def unlink(self, cluster: str, region: str, name: str) -> None:  # noqa: ARG002
        """Unlink one."""
        self._do("unlink", lambda k: k.unlink(region, name))

    def linked(self, cluster: str, name: str) -> list[str]:  # noqa: ARG002
        """What pins a node."""
        return list(self._model.linked(name))

    def power_off(self, why: str) -> None:
        """Nothing here may come to that.

        Raises:
            AssertionError: always.
        """
        raise AssertionError(why)
