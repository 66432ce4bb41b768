"""States of the world: saved as immutable values, gone back to, and cut into parts for their key."""

from collections import deque
from dataclasses import dataclass, fields, replace
from typing import Any

from libo2cb.engine.model import Cluster, Port
from ocfs2_controld.state import State as OcState
from tests.search.canon import Canon, Part
from tests.search.world import SearchWorld
from tests.simulation.world import CLUSTER, Client, SimNode

Saved = tuple[Any, ...]


def save(world: SearchWorld) -> Saved:
    """All that may change, as immutable values."""
    return (
        tuple(_save_node(x) for x in world.nodes.values()),
        tuple(world.engine.engines.items()),
        tuple(world.engine.ports.items()),
        world.engine.nodes,
        tuple(world.fences),
        world.budget,
        frozenset(world.recovered),
        tuple(world.addresses.items()),
        tuple(world.runs.items()),
        tuple(world.adopted.items()),
        world.connections,
    )


def load(world: SearchWorld, saved: Saved) -> None:
    """Go back to a saved state."""
    (
        nodes,
        engines,
        ports,
        configured,
        fences,
        world.budget,
        recovered,
        addresses,
        runs,
        adopted,
        world.connections,
    ) = saved
    for node, x in zip(world.nodes.values(), nodes, strict=True):
        _load_node(node, x)
    world.engine = Cluster((), name=CLUSTER, two_node=world.scene.two_node)
    world.engine.nodes, world.engine.engines, world.engine.ports = configured, dict(engines), dict(ports)
    world.fences, world.recovered = list(fences), set(recovered)
    world.addresses, world.runs, world.adopted = dict(addresses), dict(runs), dict(adopted)
    world.fuse = None


def parts(world: SearchWorld, canon: Canon) -> list[list[Part]]:
    """The state by its parts, for a key; of equal parts of minds and queues one object is kept."""
    part = canon.part
    found: list[list[Part]] = []

    def split(state: OcState) -> list[Part]:
        return [part(getattr(state, name)) for name in _FIELDS]

    def split_port(port: Port) -> list[Part]:
        return [part((port.pid, port.attached, port.view, port.outbox)), *[part(q) for q in port.queue]]

    for n, node in world.nodes.items():
        kernel = part(node.kernel)
        node.kernel = kernel.value
        mine = [kernel, part((node.power, node.boots, tuple(node.mounts), node.reading))]
        mine.append(part(_Connected(abs(node.connection), node.connection < 0) if n in world.scene.full else None))
        if node.ocfs2 is not None:
            state = canon.whole(node.ocfs2, split, _whole)
            node.ocfs2 = state.value
            mine.append(state)
        o2cb = part(node.o2cb)
        node.o2cb = o2cb.value
        mine.append(o2cb)
        for queue in (node.o2cb_todo, node.ocfs2_todo, node.ocfs2_inbox, node.to_o2cb, node.to_ocfs2):
            if queue:
                mine.append(part(("queue", len(queue))))
                mine += [part(x) for x in queue]
            else:
                mine.append(part(()))
        if node.clients:
            clients = [(c, (x.fs, x.hold, tuple(x.answered), x.mounted)) for c, x in node.clients.items()]
            mine.append(part(tuple(_Connected(c, rest) for c, rest in clients)))
        adopted = world.adopted.get(n)
        if adopted:
            mine.append(part(adopted))
        found.append(mine)
    engine = []
    for n, x in world.engine.engines.items():
        engine.append(part(x))
        world.engine.engines[n] = engine[-1].value
    for key, port in world.engine.ports.items():
        whole = canon.whole(port, split_port, _whole_port)
        world.engine.ports[key] = whole.value
        engine += [part(key), whole]
    found.append(engine)
    found.append(
        [
            part(world.engine.nodes),
            part(tuple(world.fences)),
            part(tuple(world.budget)),
            part(frozenset(world.recovered)),
            part(tuple(sorted(world.addresses.items()))),
            part(tuple(world.runs.items())),
        ]
    )
    return found


@dataclass(frozen=True, slots=True)
class _Connected:
    connection: int
    rest: Any


_NAMES = [f.name for f in fields(OcState)]
_LEFT_OUT = ("named", "counts", "last_death", "service_at")
_FIELDS = [n for n in _NAMES if n not in _LEFT_OUT]


def _whole(state: OcState, inner: list[Part]) -> OcState:
    values = {name: part.value for name, part in zip(_FIELDS, inner, strict=True)}
    fresh = OcState(state.settings)
    return OcState(*[values[n] if n in values else getattr(fresh, n) for n in _NAMES])


def _whole_port(port: Port, inner: list[Part]) -> Port:
    return replace(port, queue=tuple(x.value for x in inner[1:]))


def _save_node(x: SimNode) -> tuple[Any, ...]:
    return (
        x.power,
        x.boots,
        x.kernel,
        tuple((fs, tuple(points)) for fs, points in x.mounts.items()),
        x.o2cb,
        tuple(x.o2cb_todo),
        x.ocfs2,
        tuple(x.ocfs2_todo),
        tuple(x.ocfs2_inbox),
        x.ocfs2_pid,
        x.connection,
        tuple(x.to_o2cb),
        tuple(x.to_ocfs2),
        tuple((c, y.fs, y.service, y.mounts, y.hold, tuple(y.answered), y.mounted) for c, y in x.clients.items()),
        x.reading,
    )


def _load_node(x: SimNode, saved: tuple[Any, ...]) -> None:
    x.power, x.boots, x.kernel, mounts, x.o2cb, o2todo, x.ocfs2, octodo, inbox, x.ocfs2_pid, x.connection = saved[:11]
    to_o2cb, to_ocfs2, clients, x.reading = saved[11:]
    x.mounts = {fs: list(points) for fs, points in mounts}
    x.o2cb_todo, x.ocfs2_todo, x.ocfs2_inbox = deque(o2todo), deque(octodo), list(inbox)
    x.to_o2cb, x.to_ocfs2 = deque(to_o2cb), deque(to_ocfs2)
    x.clients = {
        c: Client(x.number, fs, service, mounts, hold, list(answered), mounted)
        for c, fs, service, mounts, hold, answered, mounted in clients
    }


__all__ = ["load", "parts", "save"]
