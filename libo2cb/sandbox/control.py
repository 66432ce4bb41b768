"""The control words of the hub (libo2cb.sandbox.ask says them).

    {"op": "status"}                                            everything, as a JSON object
    {"op": "boot", "node", "boot"}                              a new life of the node begins
    {"op": "power_off", "node"}                                 the engine and all processes are off, for the others
    {"op": "dead", "node"}                                      the power-off is verified
    {"op": "engine", "node", "do"}                              start, stop, kill, restart (fast), hang, resume
    {"op": "cut", "groups"}   {"op": "heal"}                    groups of names; unnamed nodes are one more side
    {"op": "readdress", "node", "address"}
    {"op": "add", "number", "name", "address"}   {"op": "remove", "node"}
    {"op": "ask_shutdown", "node", "timeout"}                   puts the question; stops the engine when allowed
    {"op": "order", "node", "listeners"}   {"op": "hold" | "release", "node", "what"}
    {"op": "quit"}

kill, restart, hang, power_off and cut take `unreceived`: names of nodes whose last messages the others never got.
Each answer has either "error", a sentence, or what the word asks for.
"""

import asyncio
from typing import Final

from libo2cb.engine.model import ModelError, State, Verdict
from libo2cb.engine.port import ConfiguredNode
from libo2cb.engine.wire import Json
from libo2cb.sandbox.exchange import Exchange, Word

SHUTDOWN_TIMEOUT: Final = 5.0
"""Seconds until silence is a veto, as in corosync."""


class Control:
    """Does what the control words say.

    Args:
        hub: whose words they are.
    """

    def __init__(self, hub: Exchange) -> None:
        self._hub = hub
        self._words: dict[str, Word] = {
            "status": self._status,
            "boot": self._boot,
            "power_off": self._power_off,
            "dead": self._dead,
            "engine": self._engine,
            "cut": self._cut,
            "heal": self._heal,
            "readdress": self._readdress,
            "add": self._add,
            "remove": self._remove,
            "ask_shutdown": self._ask_shutdown,
            "order": self._order,
            "hold": self._hold,
            "release": self._hold,
            "quit": self._quit,
        }

    async def answer(self, message: Json) -> Json:
        """Do one word and answer it."""
        word = self._words.get(str(message.get("op")))
        if word is None:
            return {"error": f"the hub knows no {message.get('op')!r}; it knows {', '.join(self._words)}"}
        try:
            return await word(message)
        except ModelError as error:
            return {"error": str(error)}

    def _node(self, message: Json) -> int:
        return self._hub.node(message["node"])

    def _unreceived(self, message: Json) -> set[int]:
        return {self._hub.node(n) for n in message.get("unreceived", ())}

    async def _status(self, _: Json) -> Json:
        hub = self._hub
        nodes = []
        for n in hub.model.nodes:
            engine = hub.model.engines[n.number]
            nodes.append(
                {
                    "number": n.number,
                    "name": n.name,
                    "address": n.address,
                    "boot": hub.boots.get(n.number),
                    "engine": engine.state.value,
                    "side": engine.side,
                    "ring": str(engine.ring) if engine.ring else None,
                    "members": engine.members,
                    "quorate": engine.quorate,
                    "listeners": sorted(
                        (k.listener, k.stream.value, x.pid) for k, x in hub.listeners.items() if k.node == n.number
                    ),
                    "pending": sum(len(p.queue) for k, p in hub.model.ports.items() if k.node == n.number),
                    "order": hub.skew.orders.get(n.number, ()),
                    "holds": sorted(f"{w}.{s}" if s else w for m, w, s in hub.skew.holds if m == n.number),
                }
            )
        return {"cluster": hub.model.name, "nodes": nodes}

    async def _boot(self, message: Json) -> Json:
        node, boot = self._node(message), str(message["boot"])
        self._hub.boots[node] = boot
        self._hub.history.write("boot", node=node, boot=boot)
        return {}

    async def _power_off(self, message: Json) -> Json:
        hub, node, unreceived = self._hub, self._node(message), self._unreceived(message)
        hub.history.write("power_off", node=node, boot=hub.boots.get(node))
        # The engine first: its processes' ends are no deaths that it could still tell anybody of.
        hub.model.power_off(node, unreceived=unreceived)
        hub.drop_node(node)
        hub.settle("power_off")
        return {}

    async def _dead(self, message: Json) -> Json:
        node = self._node(message)
        self._hub.history.write("dead", node=node, boot=self._hub.boots.pop(node, None))
        return {}

    async def _engine(self, message: Json) -> Json:
        hub, node, do, unreceived = self._hub, self._node(message), message["do"], self._unreceived(message)
        match do:
            case "start":
                hub.model.start_engine(node, merge=False)
                hub.settle(do)
                await asyncio.sleep(hub.skew.singleton_time())
                hub.model.merge()
            case "stop":
                await self._stop(node)
            case "kill":
                hub.model.crash(node, unreceived=unreceived)
            case "restart":
                hub.model.fast_restart(node, unreceived=unreceived)
            case "hang":
                hub.model.hang(node, unreceived=unreceived)
            case "resume":
                hub.model.resume(node)
            case _:
                raise ModelError(f'an engine can start, stop, kill, restart, hang and resume, not "{do}"')
        hub.settle(do)
        return {}

    async def _stop(self, node: int) -> None:
        hub = self._hub
        hub.model.begin_stop(node)
        if (pause := hub.skew.stop_time()) > 0:
            hub.settle("stop")
            await asyncio.sleep(pause)
        if hub.model.engines[node].state is State.STOPPING:
            hub.model.finish_stop(node)

    async def _cut(self, message: Json) -> Json:
        groups = [[self._hub.node(n) for n in g] for g in message["groups"]]
        self._hub.model.cut(groups, unreceived=self._unreceived(message))
        self._hub.history.write("cut", groups=groups)
        self._hub.settle("cut")
        return {}

    async def _heal(self, _: Json) -> Json:
        self._hub.model.heal()
        self._hub.history.write("heal")
        self._hub.settle("heal")
        return {}

    async def _readdress(self, message: Json) -> Json:
        self._hub.model.readdress(self._node(message), str(message["address"]))
        self._hub.settle("configured")
        return {}

    async def _add(self, message: Json) -> Json:
        self._hub.model.add_node(ConfiguredNode(int(message["number"]), str(message["name"]), str(message["address"])))
        self._hub.model.merge()
        self._hub.settle("configured")
        return {}

    async def _remove(self, message: Json) -> Json:
        self._hub.model.remove_node(self._node(message))
        self._hub.settle("configured")
        return {}

    async def _ask_shutdown(self, message: Json) -> Json:
        hub, node = self._hub, self._node(message)
        number = hub.model.ask_shutdown(node)
        hub.history.write("asked", node=node, question=number)
        hub.settle()
        try:
            async with asyncio.timeout(float(message.get("timeout", SHUTDOWN_TIMEOUT))):
                # One no is enough; but each that is heard out tells the operator its own reason.
                while (asked := hub.model.question(node)) and asked.silent:
                    hub.answered.clear()
                    await hub.answered.wait()
        except TimeoutError:
            pass
        asked = hub.model.question(node)
        if asked is None or asked.number != number:
            raise ModelError("the engine went away while its listeners were asked")
        closed = hub.model.close_question(node)
        hub.history.write("verdict", node=node, question=number, verdict=closed.verdict, vetoes=closed.vetoes)
        if closed.verdict is Verdict.ALLOWED:
            await self._stop(node)
            hub.settle("stop")
        return {"allowed": closed.verdict is Verdict.ALLOWED, "vetoes": closed.vetoes}

    async def _order(self, message: Json) -> Json:
        node, listeners = self._node(message), tuple(str(x) for x in message["listeners"])
        self._hub.skew.order(node, listeners)
        self._hub.history.write("order", node=node, listeners=listeners)
        self._hub.pump()
        return {}

    async def _hold(self, message: Json) -> Json:
        node, what = self._node(message), str(message["what"])
        (self._hub.skew.hold if message["op"] == "hold" else self._hub.skew.release)(node, what)
        self._hub.history.write(message["op"], node=node, what=what)
        self._hub.pump()
        return {}

    async def _quit(self, _: Json) -> Json:
        self._hub.stopped.set()
        return {}
