"""Who hears what: the queues of the engine's model, and the rules by which each event reaches them."""

from collections.abc import Collection
from dataclasses import replace

from libo2cb.engine.port import (
    ChannelDown,
    ChannelMember,
    ChannelMembers,
    ChannelRing,
    Configured,
    ConfiguredNode,
    Delivered,
    EngineDown,
    EngineUp,
    Members,
    Reason,
)
from libo2cb.engine.values import Engine, Event, Key, ModelError, Port, Queued, State, Stream
from protocol.identity import Ring

TWO = 2


class Switchboard:
    """The queues of all listeners. The part of the model that knows no operation: Cluster has those.

    Attributes:
        name: the cluster's name.
        two_node: with exactly two nodes configured, one of them is a quorum once it has seen both.
        nodes: the configured nodes, by number.
        engines: by number; also of a node that was taken out of the configuration.
        ports: the queues.
    """

    name: str
    two_node: bool
    nodes: tuple[ConfiguredNode, ...]
    engines: dict[int, Engine]
    ports: dict[Key, Port]

    def _ports(self, node: int, stream: Stream) -> list[Key]:
        """The attached ports of a node."""
        return sorted(k for k, p in self.ports.items() if k.node == node and k.stream is stream and p.attached)

    def _channel(self, listener: str, engine: Engine) -> list[Key]:
        """The members of a channel in an engine's ring, but for those whose engine hangs: they hear nothing of it."""
        keys = (Key(n, listener, Stream.CHANNEL) for n in engine.members if self._hears(n, engine.ring))
        return [k for k in keys if k in self.ports and self.ports[k].attached]

    def _hears(self, node: int, ring: Ring | None) -> bool:
        return self.engines[node].ring == ring and self.engines[node].state is not State.HUNG

    def _queue(self, key: Key, queued: Queued) -> None:
        port = self.ports[key]
        self.ports[key] = replace(port, queue=(*port.queue, queued))

    def _open(self, key: Key, port: Port, down: Event) -> None:
        engine = self._engine(key.node)
        if key in self.ports:
            raise ModelError(f"{key.listener} has this stream on node {key.node} already, as pid {self.ports[key].pid}")
        self.ports[key] = port
        if engine.state is State.UP:
            self._attach(key.node)
        elif engine.state is not State.HUNG:
            self._queue(key, Queued(down))

    def _attach(self, node: int) -> None:
        """Attach what waits for this engine."""
        for key in sorted(k for k in self.ports if k.node == node):
            port, engine = self.ports[key], self.engines[node]
            if engine.ring is None:
                return
            if not port.attached:
                self.ports[key] = replace(port, attached=True)
                if key.stream is Stream.CHANNEL:
                    self._seat(key, engine, engine.ring)
                else:
                    local = EngineUp(self.name, node, self.nodes, self._either_of_two)
                    members = Members(engine.ring, engine.quorate, engine.members, engine.members, ())
                    self._queue(key, Queued(local))
                    self._queue(key, Queued(members))

    def _say_held(self, node: int) -> None:
        """Send what a node's processes sent while their engine hung."""
        for key in self._ports(node, Stream.CHANNEL):
            held = self.ports[key].outbox
            self.ports[key] = replace(self.ports[key], outbox=())
            for payload in held:
                self._say(key, payload)

    def _seat(self, key: Key, engine: Engine, ring: Ring) -> None:
        ring_first = self.ports[key].ring_first
        me = ChannelMember(key.node, self.ports[key].pid)
        keys = self._channel(key.listener, engine)
        view = tuple(sorted(ChannelMember(k.node, self.ports[k].pid) for k in keys))
        seated = Queued(ChannelRing(ring, engine.members))
        if ring_first:
            self._queue(key, seated)
        for k in keys:
            self.ports[k] = replace(self.ports[k], view=view)
            self._queue(k, Queued(ChannelMembers(view, ((me, Reason.JOIN),), ())))
        if not ring_first:
            self._queue(key, seated)

    def _say(self, key: Key, payload: bytes) -> None:
        """Put a message into the one order of the sender's ring."""
        engine = self.engines[key.node]
        said = Delivered(ChannelMember(key.node, self.ports[key].pid), payload)
        place = engine.spoken + 1
        for n, other in self.engines.items():
            if other.ring == engine.ring:
                self.engines[n] = replace(other, spoken=place)
        for k in self._channel(key.listener, engine):
            self._queue(k, Queued(said, engine.ring, place))

    def _gone(self, key: Key, reason: Reason) -> None:
        """A process is off the channel, and its port with it; those who are left hear of it."""
        port, engine = self.ports.pop(key), self.engines[key.node]
        if not port.attached or engine.state is not State.UP:
            return
        gone = ChannelMember(key.node, port.pid)
        for k in self._channel(key.listener, engine):
            view = tuple(m for m in self.ports[k].view if m != gone)
            self.ports[k] = replace(self.ports[k], view=view)
            self._queue(k, Queued(ChannelMembers(view, (), ((gone, reason),))))

    def _lose_ports(self, node: int, reason: str) -> None:
        """The engine ends under its listeners: what it had for them is lost, as with corosync's connections."""
        for key in [k for k in self.ports if k.node == node]:
            down: Event = ChannelDown(reason) if key.stream is Stream.CHANNEL else EngineDown(reason)
            old = self.ports[key]
            self.ports[key] = Port(old.pid, queue=(Queued(down),), ring_first=old.ring_first)

    def _reseat(self, key: Key, ring: Ring, joined: tuple[int, ...], left: tuple[int, ...]) -> None:
        """Tell one member of the channel of a new ring: who is down, who is up, the ring."""
        engine, port = self.engines[key.node], self.ports[key]
        gone = tuple((m, Reason.NODEDOWN) for m in port.view if m.node in left)
        stay = tuple(m for m in port.view if m.node not in left)
        new = tuple(
            (ChannelMember(k.node, self.ports[k].pid), Reason.NODEUP)
            for k in self._channel(key.listener, engine)
            if k.node in joined
        )
        view = tuple(sorted((*stay, *(m for m, _ in new))))
        self.ports[key] = replace(port, view=view)
        if gone:
            self._queue(key, Queued(ChannelMembers(stay, (), gone)))
        if new:
            self._queue(key, Queued(ChannelMembers(view, new, ())))
        self._queue(key, Queued(ChannelRing(ring, engine.members)))

    def _forget(self, ring: Ring, together: list[int], unreceived: Collection[int]) -> None:
        """Drop what none of those who stay together will ever get."""
        keys = [k for k in self.ports if k.node in together and k.stream is Stream.CHANNEL]
        known = max(self.engines[n].heard for n in together)

        def from_departed(q: Queued) -> bool:
            event = q.event
            return (
                q.ring == ring
                and q.place > known
                and isinstance(event, Delivered)
                and event.sender.node not in together
            )

        holes = [
            q.place
            for k in keys
            for q in self.ports[k].queue
            if from_departed(q) and isinstance(q.event, Delivered) and q.event.sender.node in unreceived
        ]
        if not holes:
            return
        for k in keys:
            kept = tuple(q for q in self.ports[k].queue if not (from_departed(q) and q.place >= min(holes)))
            self.ports[k] = replace(self.ports[k], queue=kept)

    def _reread(self, node: int) -> None:
        self.engines[node] = replace(self.engines[node], configuration=self.nodes)
        for key in self._ports(node, Stream.MEMBERSHIP):
            self._queue(key, Queued(Configured(self.nodes, self._either_of_two)))

    @property
    def _either_of_two(self) -> bool:
        return self.two_node and len(self.nodes) == TWO

    def _engine(self, node: int) -> Engine:
        if node not in self.engines:
            raise ModelError(f"there is no node {node}")
        return self.engines[node]

    def _need(self, node: int, *states: State) -> Engine:
        engine = self._engine(node)
        if engine.state not in states:
            raise ModelError(f"the engine of node {node} is {engine.state}, not {' or '.join(states)}")
        return engine

    def _port(self, key: Key) -> Port:
        if key not in self.ports:
            raise ModelError(f"no {key.listener} has {key.stream} on node {key.node}")
        return self.ports[key]
