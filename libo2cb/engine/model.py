"""Virtual synchrony as one pure value: the engine of a whole cluster, for the sandbox, the simulation and the search.

The theory in a page. Each node runs an *engine*. The engines that can reach each other form a *ring*; a ring's
sequence is greater than that of each ring its members were in before, also across restarts, and its representative,
the lowest member, tells apart the rings of two sides. Whoever came into a new ring from the same old one stays
*together*; all others are, to each other, gone or new, or both in one event.

A *listener* is a process on a node. It may hear two *streams*: membership, and the channel of its own name. What the
engine hands out waits in a queue, one for each (node, listener, stream), until the caller delivers it; so the caller
owns each skew between streams, and nothing here knows a clock. Within a queue the order is the engine's, and messages
have one order for all who are in one ring.

Delivery is *agreed*, as corosync's: a sender may read its own message before any other node holds it. So when a ring is
lost, those who stay together may never get what a departed node had sent last, if none of them has read it or
anything after it (`unreceived`); the sender keeps its own copy. In that case whatever other departed nodes sent
later is lost as well, since no survivor can fill the gap before it.

All operations change the object in place and raise ModelError, changing nothing, where they make no sense.
"""

from collections.abc import Collection, Iterable
from dataclasses import replace

from libo2cb.engine.port import (
    ChannelDown,
    ConfiguredNode,
    EngineDown,
    Members,
    Reason,
    ShutdownAsked,
)
from libo2cb.engine.switchboard import Switchboard
from libo2cb.engine.values import Engine, Event, Key, ModelError, Port, Question, Queued, State, Stream, Verdict
from protocol.identity import Ring

__all__ = [
    "Cluster",
    "Engine",
    "Event",
    "Key",
    "ModelError",
    "Port",
    "Question",
    "Queued",
    "State",
    "Stream",
    "Verdict",
]

SEQUENCE_STEP = 4  # as corosync counts; any positive step would do


class Cluster(Switchboard):
    """The engines of a cluster.

    Args:
        nodes: the configured nodes; numbers and names are unique.
        name: the cluster's name.
        two_node: with exactly two nodes configured, one of them is a quorum once it has seen both.

    Attributes:
        nodes: the configured nodes, by number.
        engines: by number; also of a node that runs although it was taken out of the configuration.
        ports: the queues.
    """

    def __init__(self, nodes: Iterable[ConfiguredNode], *, name: str = "sandbox", two_node: bool = False) -> None:
        self.name = name
        self.two_node = two_node
        self.nodes = _checked(nodes)
        self.engines = {n.number: Engine() for n in self.nodes}
        self.ports: dict[Key, Port] = {}

    def copy(self) -> "Cluster":
        """An independent copy; cheap, since all values are immutable."""
        other = Cluster((), name=self.name, two_node=self.two_node)
        other.nodes, other.engines, other.ports = self.nodes, dict(self.engines), dict(self.ports)
        return other

    def key(self) -> tuple[object, ...]:
        """A hashable value, equal for equal states."""
        return (self.name, self.two_node, self.nodes, *sorted(self.engines.items()), *sorted(self.ports.items()))

    def pending(self) -> list[Key]:
        """The queues that have something to deliver, sorted."""
        return sorted(k for k, p in self.ports.items() if p.queue)

    def deliver(self, node: int, listener: str, stream: Stream) -> Event:
        """Take the next event from a queue: the caller has given it to the listener."""
        key = Key(node, listener, stream)
        port = self._port(key)
        if not port.queue:
            raise ModelError(f"nothing waits for {listener}.{stream} on node {node}")
        first, engine = port.queue[0], self._engine(node)
        self.ports[key] = replace(port, queue=port.queue[1:])
        if first.ring and first.ring == engine.ring:
            self.engines[node] = replace(engine, heard=max(engine.heard, first.place))
        return first.event

    # the configuration

    def configure(self, nodes: Iterable[ConfiguredNode]) -> None:
        """Read a new configuration, on all nodes at once.

        A node that is taken out while its engine runs is lost to the others, and is itself told nothing more than the
        configuration: it goes on with its last ring and quorum (measured on corosync). Put in again, it finds itself
        alone, and meets the others at the next merge().
        """
        self.nodes = _checked(nodes)
        here = {n.number for n in self.nodes}
        for number in here - self.engines.keys():
            self.engines[number] = Engine()
        for number, engine in list(self.engines.items()):
            if engine.state is State.UP:
                self._reread(number)
        for ring in self._rings():
            self._split(ring)
        self._recount()

    def add_node(self, node: ConfiguredNode) -> None:
        """Add a node to the configuration."""
        self.configure((*self.nodes, node))

    def remove_node(self, node: int) -> None:
        """Take a node out of the configuration."""
        self.configured(node)
        self.configure(n for n in self.nodes if n.number != node)

    def readdress(self, node: int, address: str) -> None:
        """Give a configured node another address."""
        changed = replace(self.configured(node), address=address)
        self.configure(changed if n.number == node else n for n in self.nodes)

    def configured(self, node: int) -> ConfiguredNode:
        """The configured node of this number."""
        for n in self.nodes:
            if n.number == node:
                return n
        raise ModelError(f"no node {node} is configured")

    # engines

    def start_engine(self, node: int, *, singleton: bool = True, merge: bool = True) -> None:
        """Start an engine; waiting listeners of the node attach at once.

        Args:
            node: its node.
            singleton: it is alone in its first ring, as corosync's is; listeners attach there.
            merge: it then meets the others of its side; else it waits for merge().
        """
        self.configured(node)
        self._need(node, State.DOWN)
        self._boot(node, singleton=singleton, merge=merge)

    def fast_restart(self, node: int, *, singleton: bool = True, unreceived: Collection[int] = ()) -> None:
        """End an engine and start it again before the others miss it: ONE membership event, same members."""
        self._need(node, State.UP)
        self._lose_ports(node, "the engine died")
        self.engines[node] = self.engines[node].off()
        self._boot(node, singleton=singleton, merge=True, unreceived=unreceived)

    def crash(self, node: int, *, unreceived: Collection[int] = ()) -> None:
        """Kill an engine. Its node's processes live on and lose it."""
        engine = self._need(node, State.UP, State.HUNG, State.STOPPING)
        if engine.state is not State.STOPPING:
            self._lose_ports(node, "the engine died")
        self._end(node, unreceived)

    def power_off(self, node: int, *, unreceived: Collection[int] = ()) -> None:
        """Take a node's power: engine and listeners, all at once. A node that is off already stays so."""
        state = self._engine(node).state
        self.ports = {k: p for k, p in self.ports.items() if k.node != node}
        if state is not State.DOWN:
            self._end(node, unreceived)

    def begin_stop(self, node: int) -> None:
        """First half of a clean stop: the channel hears PROCDOWN, the node is still a member."""
        self._need(node, State.UP)
        waiting = {k: p for k, p in self.ports.items() if k.node == node}
        for key in self._ports(node, Stream.CHANNEL):
            self._gone(key, Reason.PROCDOWN)
        self.ports.update(waiting)
        self._lose_ports(node, "the engine was stopped")
        self.engines[node] = replace(self.engines[node], state=State.STOPPING, question=None)

    def finish_stop(self, node: int) -> None:
        """Second half: the membership changes, and the channel hears of the ring alone."""
        self._need(node, State.STOPPING)
        self._end(node, ())

    def stop_engine(self, node: int) -> None:
        """A clean stop, both halves."""
        self.begin_stop(node)
        self.finish_stop(node)

    def hang(self, node: int, *, unreceived: Collection[int] = ()) -> None:
        """Pause an engine for so long that the others lose it. It hands out nothing more, and knows of nothing."""
        engine = self._need(node, State.UP)
        self.engines[node] = replace(engine, state=State.HUNG)
        self._split(engine.ring, unreceived)

    def resume(
        self, node: int, *, singleton: bool = True, merge: bool = True, unreceived: Collection[int] = ()
    ) -> None:
        """Let a hung engine go on: it sees all others leave, in a ring of its own or not, and come back.

        First it says what its processes sent meanwhile, in the ring that it still believes in: so they read their own
        words, as from one who is with them, and nobody else ever does (measured on corosync).
        """
        engine = self._need(node, State.HUNG)
        self.engines[node] = replace(engine, state=State.UP)
        self._say_held(node)
        if engine.configuration != self.nodes:
            self._reread(node)
        if singleton and engine.members != (node,):
            self._form((node,), unreceived)
        if merge:
            self.merge(unreceived=unreceived)
        self._attach(node)

    def cut(self, groups: Iterable[Iterable[int]], *, unreceived: Collection[int] = ()) -> None:
        """Part the network into these groups; nodes that none names are one more side, together."""
        parts = [tuple(g) for g in groups]
        named = [n for g in parts for n in g]
        for n in named:
            self._engine(n)
        if len(set(named)) != len(named):
            raise ModelError("a node is on one side of a cut only")
        sides = {n: i for i, g in enumerate(parts, 1) for n in g}
        for n, engine in self.engines.items():
            self.engines[n] = replace(engine, side=sides.get(n, 0))
        for ring in self._rings():
            self._split(ring, unreceived)
        self.merge()

    def heal(self) -> None:
        """Join all sides of the network."""
        self.cut(())

    def merge(self, *, unreceived: Collection[int] = ()) -> None:
        """Let those who reach each other form one ring, where they have not yet."""
        for side in sorted({e.side for e in self.engines.values()}):
            self._meet(tuple(n for n in self._running() if self.engines[n].side == side), unreceived)

    def put_out(self, node: int, target: int) -> None:
        """One of a node's processes asks its engine to put a node out: that engine exits, where the word reaches it.

        The target may be the node itself. A word to one that nobody knows, or that is not in the same ring, goes
        nowhere.
        """
        by, engine = self._engine(node), self.engines.get(target, Engine())
        if by.state is engine.state is State.UP and by.ring == engine.ring:
            self.crash(target)

    # listeners

    def listen(self, node: int, listener: str, pid: int = 0) -> None:
        """A process begins to listen to the membership."""
        self._open(Key(node, listener, Stream.MEMBERSHIP), Port(pid), EngineDown("the engine does not run"))

    def join(self, node: int, listener: str, pid: int, *, ring_first: bool = False) -> None:
        """A process joins the channel of its name. It hears the ring before or after its own join."""
        port = Port(pid, ring_first=ring_first)
        self._open(Key(node, listener, Stream.CHANNEL), port, ChannelDown("the engine does not run"))

    def leave(self, node: int, listener: str) -> None:
        """A process leaves the channel in good order."""
        key = Key(node, listener, Stream.CHANNEL)
        self._port(key)
        self._gone(key, Reason.LEAVE)

    def disconnect(self, node: int, listener: str, stream: Stream) -> None:
        """A process ends, as far as this stream can tell."""
        key = Key(node, listener, stream)
        self._port(key)
        if stream is Stream.CHANNEL:
            self._gone(key, Reason.PROCDOWN)
            return
        del self.ports[key]
        engine = self._engine(node)
        if engine.question:
            heard = replace(engine.question, silent=engine.question.silent - {listener})
            self.engines[node] = replace(engine, question=heard)

    def process_died(self, node: int, listener: str) -> None:
        """A process ends: both its streams."""
        keys = [k for k in self.ports if k.node == node and k.listener == listener]
        if not keys:
            raise ModelError(f"no {listener} listens on node {node}")
        for key in sorted(keys):
            self.disconnect(*key)

    def send(self, node: int, listener: str, payload: bytes) -> None:
        """Multicast to the channel of that name; lost while the engine is down, held while it hangs (see resume)."""
        key = Key(node, listener, Stream.CHANNEL)
        port, engine = self._port(key), self._engine(node)
        if engine.state is State.HUNG and port.attached:
            self.ports[key] = replace(port, outbox=(*port.outbox, payload))
        elif engine.state is State.UP:
            self._say(key, payload)

    # the shutdown question

    def ask_shutdown(self, node: int) -> int:
        """Ask all membership listeners of a node whether it may shut down. Returns the question's number."""
        engine = self._need(node, State.UP)
        if engine.question:
            raise ModelError(f"node {node} has an open shutdown question")
        keys = self._ports(node, Stream.MEMBERSHIP)
        number = engine.asked + 1
        question = Question(number, frozenset(k.listener for k in keys))
        self.engines[node] = replace(engine, question=question, asked=number)
        for key in keys:
            self._queue(key, Queued(ShutdownAsked(number)))
        return number

    def answer_shutdown(self, node: int, listener: str, question: int, *, allow: bool, reason: str = "") -> None:
        """Take an answer; one that comes late, twice or unasked does nothing."""
        engine = self._engine(node)
        asked = engine.question
        if not asked or asked.number != question or listener not in asked.silent:
            return
        vetoes = asked.vetoes if allow else (*asked.vetoes, (listener, reason))
        heard = Question(question, asked.silent - {listener}, vetoes)
        self.engines[node] = replace(engine, question=heard)

    def question(self, node: int) -> Question | None:
        """The open question, with the answers so far."""
        return self._engine(node).question

    def close_question(self, node: int) -> Question:
        """Take the question back and return it; whoever is silent still has vetoed. Stops nothing."""
        engine = self._engine(node)
        if not engine.question:
            raise ModelError(f"node {node} has no open shutdown question")
        self.engines[node] = replace(engine, question=None)
        asked = engine.question
        silence = tuple((who, "no answer") for who in sorted(asked.silent))
        return replace(asked, vetoes=asked.vetoes + silence)

    # rings

    def _boot(self, node: int, *, singleton: bool, merge: bool, unreceived: Collection[int] = ()) -> None:
        self.engines[node] = replace(self.engines[node], state=State.UP, configuration=self.nodes)
        if singleton or not merge:
            self._form((node,))
            self._attach(node)
        if merge:
            self.merge(unreceived=unreceived)
        self._attach(node)

    def _end(self, node: int, unreceived: Collection[int]) -> None:
        ring = self.engines[node].ring
        self.engines[node] = self.engines[node].off()
        self._split(ring, unreceived)

    def _running(self) -> list[int]:
        """The configured nodes whose engines take part in rings."""
        here = (n.number for n in self.nodes)
        return [n for n in here if self.engines[n].state in (State.UP, State.STOPPING)]

    def _rings(self) -> list[Ring]:
        return sorted({e.ring for e in self.engines.values() if e.ring})

    def _split(self, ring: Ring | None, unreceived: Collection[int] = ()) -> None:
        """Each side of a ring that has lost a member forms a ring anew."""
        here = [n for n in self._running() if self.engines[n].ring == ring]
        for side in sorted({self.engines[n].side for n in here}):
            self._meet(tuple(n for n in here if self.engines[n].side == side), unreceived)

    def _meet(self, here: tuple[int, ...], unreceived: Collection[int] = ()) -> None:
        if any(self.engines[n].members != here or self.engines[n].ring != self.engines[here[0]].ring for n in here):
            self._form(here, unreceived)

    def _form(self, here: tuple[int, ...], unreceived: Collection[int] = ()) -> None:
        before = {n: self.engines[n] for n in here}
        ring = Ring(max(e.sequence for e in before.values()) + SEQUENCE_STEP, min(here))
        for old in {e.ring for e in before.values() if e.ring}:
            self._forget(old, [n for n in here if before[n].ring == old], unreceived)
        whole = {n.number for n in self.nodes} <= set(here)
        for n, was in before.items():
            seen_all = was.whole or whole
            self.engines[n] = replace(
                was, ring=ring, members=here, sequence=ring.sequence, whole=seen_all, spoken=0, heard=0
            )
        quorate = self._quorate(here)
        for n, was in before.items():
            self.engines[n] = replace(self.engines[n], quorate=quorate)
            together = {m for m in here if was.ring and before[m].ring == was.ring}
            joined = tuple(m for m in here if m not in together)
            left = tuple(m for m in was.members if m not in together)
            for key in self._ports(n, Stream.MEMBERSHIP):
                self._queue(key, Queued(Members(ring, quorate, here, joined, left)))
            for key in self._ports(n, Stream.CHANNEL):
                self._reseat(key, ring, joined, left)

    def _quorate(self, here: Collection[int]) -> bool:
        if self._either_of_two:
            return any(self.engines[n].whole for n in here)
        return 2 * len(set(here) & {n.number for n in self.nodes}) > len(self.nodes)

    def _recount(self) -> None:
        """A configuration that changes the quorum is told on the same ring."""
        for n in self._running():
            engine = self.engines[n]
            quorate = self._quorate(engine.members)
            if engine.ring and quorate != engine.quorate:
                self.engines[n] = replace(engine, quorate=quorate)
                for key in self._ports(n, Stream.MEMBERSHIP):
                    self._queue(key, Queued(Members(engine.ring, quorate, engine.members, (), ())))


def _checked(nodes: Iterable[ConfiguredNode]) -> tuple[ConfiguredNode, ...]:
    result = tuple(sorted(nodes))
    for what, values in (("number", [n.number for n in result]), ("name", [n.name for n in result])):
        if len(set(values)) != len(values):
            raise ModelError(f"two configured nodes have the same {what}")
    return result
