"""Who is connected to the hub, and what passes between them and the model.

The hub never waits for a client. What one does not read is buffered, up to MAX_UNREAD bytes; what is held back from it,
or from its engine while that hangs, waits up to MAX_WAITING events. Then it is dropped, with a line in the history and
on stderr, and is for the others a dead process.
"""

import asyncio
import base64
import os
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

from libo2cb.engine.model import Cluster, Key, ModelError, Stream
from libo2cb.engine.wire import MAX_PAYLOAD, Json, event_to_json
from libo2cb.sandbox.connection import Connection
from libo2cb.sandbox.history import History, delivery, digest
from libo2cb.sandbox.plan import Plan
from libo2cb.sandbox.skew import Skew

MAX_UNREAD: Final = 8 * 1024 * 1024
MAX_WAITING: Final = 20_000
"""Events that may wait for one listener, or words of one for an engine that hangs."""
MAX_WORDS: Final = 1000
"""Control words of one connection that may wait for their answer."""
MAX_NAME: Final = 128

Word: TypeAlias = Callable[[Json], Awaitable[Json]]
"""Answers a control message."""


@dataclass(slots=True, eq=False)
class Listener:
    """A connected stream of a process.

    Attributes:
        key: its queue in the model.
        pid: the process.
        connection: the way to it.
        sent: how many events it was sent.
        acked: how many of them it has given to its sink.
    """

    key: Key
    pid: int
    connection: Connection
    sent: int = 0
    acked: int = 0


class Exchange:
    """The engines of a cluster and those who listen to them.

    Args:
        plan: the cluster, as written in the home.
        history: where to write what happens.
        changed: called with the new plan when the configuration was changed.

    Attributes:
        model: the engines; settle() follows each operation on it.
        history: what happened.
        skew: who delivers when.
        listeners: who is connected.
        boots: the life of each node that is on, by number.
        stopped: set when the hub is to end.
        answered: set whenever a shutdown question may have been answered.
    """

    def __init__(self, plan: Plan, history: History, changed: Callable[[Plan], None]) -> None:
        self.model = Cluster(plan.nodes, name=plan.cluster, two_node=plan.two_node)
        self.history = history
        self.skew = Skew(plan.seed)
        self.listeners: dict[Key, Listener] = {}
        self.boots: dict[int, str] = {}
        self.stopped = asyncio.Event()
        self.answered = asyncio.Event()
        self._connected: dict[Connection, Listener] = {}
        self._words: dict[Connection, asyncio.Task[None]] = {}
        self._waiting: Counter[Connection] = Counter()
        self._plan = plan
        self._changed = changed
        self._timers: dict[Key, asyncio.TimerHandle] = {}
        self._rings: dict[int, Json] = {}
        self._states: dict[int, str] = {}
        nodes = [(n.number, n.name, n.address) for n in plan.nodes]
        history.write("hub_up", pid=os.getpid(), cluster=plan.cluster, seed=plan.seed, nodes=nodes)

    def node(self, name: object) -> int:
        """The number of the node of this name.

        Raises:
            ModelError: there is none.
        """
        for n in self.model.nodes:
            if name in (n.name, n.number):
                return n.number
        raise ModelError(f"there is no node {name}; the nodes are {', '.join(n.name for n in self.model.nodes)}")

    def settle(self, cause: str = "") -> None:
        """After each operation of the model: write down what it changed, and let the streams deliver.

        Args:
            cause: why engines changed their state.
        """
        for n, engine in self.model.engines.items():
            if self._states.get(n, "down") != engine.state.value:
                self._states[n] = engine.state.value
                self.history.write("engine", node=n, state=engine.state.value, cause=cause)
            ring = {"ring": str(engine.ring), "members": engine.members, "quorate": engine.quorate}
            if engine.ring and self._rings.get(n) != ring:
                self.history.write("ring", node=n, **ring)
            self._rings[n] = ring
        if self.model.nodes != self._plan.nodes:
            self._plan = self._plan.with_nodes(self.model.nodes)
            self.history.write("configured", nodes=[(n.number, n.name, n.address) for n in self.model.nodes])
            self._changed(self._plan)
        self.answered.set()
        self.pump()

    def pump(self) -> None:
        """Give each stream that may deliver its moment."""
        for listener in [x for k, x in self.listeners.items() if self._is_behind(k)]:
            self._drop(listener, f"more than {MAX_WAITING} events wait for it")
        busy = self._busy()
        for key in self.model.pending():
            if key in self.listeners and key not in self._timers and self.skew.may(key, busy):
                loop = asyncio.get_running_loop()
                self._timers[key] = loop.call_later(self.skew.delay(), self._deliver, key)

    def drop_node(self, node: int) -> None:
        """A power-off: the node's processes are heard and told nothing more."""
        for listener in [x for k, x in self.listeners.items() if k.node == node]:
            self._detach(listener, "power_off")
            listener.connection.close()

    def hear(self, connection: Connection, message: Json, control: Word) -> None:
        """Take one message; control answers what no listener says.

        Raises:
            ValueError, KeyError, TypeError: it makes no sense.
        """
        listener = self._connected.get(connection)
        if listener is not None:
            self._hear(listener, message)
        elif connection.uid not in (0, os.geteuid()):
            connection.say({"error": f"this sandbox belongs to uid {os.geteuid()}, and you are uid {connection.uid}"})
            connection.close()
        elif message.get("op") in ("listen", "join"):
            self._listen(connection, message)
        else:
            # One connection's control words are done one after the other.
            if self._waiting[connection] >= MAX_WORDS or connection.unsent > MAX_UNREAD:
                raise ValueError("more words, or answers that were not read, than one connection may have waiting")
            self._waiting[connection] += 1
            before = self._words.get(connection)
            self._words[connection] = asyncio.create_task(self._answer(connection, message, control, before))

    def lost(self, connection: Connection) -> None:
        """A connection has ended: whoever was behind it is dead."""
        self._words.pop(connection, None)
        self._waiting.pop(connection, None)
        listener = self._connected.get(connection)
        if listener is not None:
            self._detach(listener, "died")

    def finish(self) -> None:
        """Let go of everything: each client sees its connection end."""
        for timer in self._timers.values():
            timer.cancel()
        connections = list(self._connected)
        self._connected.clear()
        self.listeners.clear()
        for connection in connections:
            connection.close()
        self.history.write("hub_down")

    async def _answer(
        self, connection: Connection, message: Json, control: Word, before: asyncio.Task[None] | None
    ) -> None:
        if before is not None:
            await before
        try:
            connection.say(await control(message))
        except (ValueError, KeyError, TypeError) as error:
            what = f"it has no {error}" if isinstance(error, KeyError) else str(error)
            connection.say({"error": f"the hub does not understand this: {what}"})
        finally:
            if connection in self._waiting:
                self._waiting[connection] -= 1

    def _listen(self, connection: Connection, hello: Json) -> None:
        name = hello["listener"]
        if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME:
            raise ValueError(f"a listener's name has 1 to {MAX_NAME} characters")
        try:
            key = self._attach(hello["op"], self.node(hello["node"]), name, connection.pid)
        except ModelError as error:
            connection.say({"error": str(error)})
            connection.close()
            return
        listener = Listener(key, connection.pid, connection)
        self.listeners[key] = self._connected[connection] = listener
        self.history.write("attach", node=key.node, listener=name, stream=key.stream, pid=listener.pid)
        self.settle()

    def _attach(self, op: str, node: int, name: str, pid: int) -> Key:
        if op == "listen":
            self.model.listen(node, name, pid)
            return Key(node, name, Stream.MEMBERSHIP)
        self.model.join(node, name, pid, ring_first=self.skew.ring_first())
        return Key(node, name, Stream.CHANNEL)

    def _hear(self, listener: Listener, message: Json) -> None:
        key = listener.key
        match message["op"], key.stream:
            case "leave", Stream.CHANNEL:
                self._detach(listener, "left")
                listener.connection.close()
            case "ack", _:
                listener.acked = int(message["count"])
                if self.skew.orders:
                    self.pump()
            case "send", Stream.CHANNEL:
                payload = base64.b64decode(message["payload"], validate=True)
                if len(payload) > MAX_PAYLOAD:
                    raise ValueError(f"a message has {MAX_PAYLOAD} bytes at most")
                # Written first: nobody may be shown reading what nobody has sent.
                self.history.write(
                    "send", node=key.node, listener=key.listener, size=len(payload), digest=digest(payload)
                )
                self.model.send(key.node, key.listener, payload)
                self.pump()
            case "answer", Stream.MEMBERSHIP:
                question, allow, reason = int(message["question"]), bool(message["allow"]), str(message["reason"])
                self.history.write(
                    "answered", node=key.node, listener=key.listener, question=question, allow=allow, reason=reason
                )
                self.model.answer_shutdown(key.node, key.listener, question, allow=allow, reason=reason)
                self.settle()
            case "put_out", Stream.MEMBERSHIP:
                target, reason = int(message["node"]), str(message["reason"])
                self.history.write("put_out", node=key.node, listener=key.listener, target=target, reason=reason)
                self.model.put_out(key.node, target)
                self.settle("put_out")
            case op, stream:
                raise ValueError(f"{op!r} is no word of a listener's {stream}")

    def _detach(self, listener: Listener, cause: str) -> None:
        key = listener.key
        if self.listeners.get(key) is not listener:
            return
        del self.listeners[key], self._connected[listener.connection]
        if timer := self._timers.pop(key, None):
            timer.cancel()
        self.history.write(
            "detach", node=key.node, listener=key.listener, stream=key.stream, pid=listener.pid, cause=cause
        )
        if key in self.model.ports:
            if cause == "left":
                self.model.leave(key.node, key.listener)
            else:
                self.model.disconnect(*key)
        self.settle()

    def _busy(self) -> set[Key]:
        unacked = {k for k, x in self.listeners.items() if x.acked < x.sent}
        return unacked | {k for k in self.model.pending() if k in self.listeners}

    def _deliver(self, key: Key) -> None:
        self._timers.pop(key, None)
        listener = self.listeners[key]
        while key in self.model.ports and self.model.ports[key].queue and self.skew.may(key, self._busy()):
            event = self.model.deliver(*key)
            self.history.write("deliver", node=key.node, listener=key.listener, stream=key.stream, **delivery(event))
            listener.sent += 1
            listener.connection.say(event_to_json(event))
            if listener.connection.unsent > MAX_UNREAD:
                self._drop(listener, f"it has not read {MAX_UNREAD} bytes of what it was sent")
                return

    def _is_behind(self, key: Key) -> bool:
        port = self.model.ports.get(key)
        return port is not None and max(len(port.queue), len(port.outbox)) > MAX_WAITING

    def _drop(self, listener: Listener, why: str) -> None:
        key = listener.key
        print(  # noqa: T201 (stderr is the hub's log)
            f"hub: dropped {key.listener}.{key.stream} of node {key.node} (pid {listener.pid}): {why}",
            file=sys.stderr,
            flush=True,
        )
        self._detach(listener, "dropped")
        listener.connection.close()
