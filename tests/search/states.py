"""States of the world: saved as immutable values, gone back to, and cut into parts for their key.

Most steps change one node. So a state is a few shared *pieces*, each an object of its own with its share of the key:
one a node, one for the engine, one for the rest; going back and forth touches only those that differ.
"""

from collections import deque
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, fields, replace
from itertools import repeat
from typing import Any

from libo2cb.engine.model import Port
from libo2cb.engine.port import Delivered
from ocfs2_controld.state import State as OcState
from tests.search.canon import IGNORED, Canon, Part, Piece
from tests.search.words import living
from tests.search.world import SearchWorld
from tests.simulation.world import Client, SimNode

Saved = tuple[Piece, ...]


class States:
    """The states of one search.

    Args:
        world: the world that is in one of them.
        canon: of the search.
    """

    def __init__(self, world: SearchWorld, canon: Canon) -> None:
        self._world = world
        self._canon = canon
        self._pieces: dict[Hashable, Piece] = {}
        self._from: Saved = ()
        self._at: Sequence[Piece | None] = _NOWHERE
        self._told: dict[Hashable, Part] = {}
        self._ignored: dict[int, Part] = {}
        self._fields = [f.name for f in fields(OcState) if f.name not in _LEFT_OUT]

    def load(self, saved: Saved) -> None:
        """Go back to a saved state: to the pieces that the world is not at."""
        world, at = self._world, self._at
        for i, x in enumerate(world.nodes.values()):
            if at[i] is not saved[i]:
                _load_node(x, saved[i].saved)
        world.engine.engines, world.engine.ports = dict(saved[-2].saved[0]), dict(saved[-2].saved[1])
        (
            world.engine.nodes,
            fences,
            world.budget,
            recovered,
            addresses,
            runs,
            adopted,
            lied,
            made,
            world.connections,
        ) = saved[-1].saved
        world.fences, world.recovered = list(fences), set(recovered)
        world.addresses, world.runs, world.adopted = dict(addresses), dict(runs), dict(adopted)
        world.lied, world.made = set(lied), dict(made)
        world.fuse = None
        self._from, self._at = saved, _NOWHERE

    def save(self) -> Saved:
        """All that may change. Of equal values one object is kept."""
        found, at = [], []
        for i, (n, node) in enumerate(self._world.nodes.items()):
            piece: Piece | None = self._from[i] if self._from else None
            unchanged = piece is not None and _is_at(node, piece.saved)
            at.append(piece if unchanged else None)
            found.append(piece if unchanged and piece is not None else self._node(n, node))
        self._at = at
        return (*found, self._engine(), self._rest())

    def node(self, saved: Saved, number: int) -> Piece:
        """The piece of a node."""
        return saved[list(self._world.nodes).index(number)]

    def _piece(self, parts: list[Part], saved: tuple[Any, ...], beside: Hashable = None) -> Piece:
        key = tuple([id(p) for p in parts]), beside
        piece = self._pieces.get(key)
        if piece is None:
            piece = self._pieces[key] = Piece(self._canon, parts, saved)
        return piece

    def _node(self, n: int, node: SimNode) -> Piece:
        part, plain, full = self._canon.part, self._canon.plain, n in self._world.scene.full
        lasting = self._world.lasting
        kernel, o2cb, ocfs2 = plain(node.kernel), part(node.o2cb, lasting=id(node.o2cb) in lasting), None
        mine = [kernel, o2cb, plain((node.power, node.boots, tuple(node.mounts), node.reading))]
        mine.append(plain(_Connected(abs(node.connection), node.connection < 0) if full else None))
        if node.ocfs2 is not None:
            whole = self._canon.whole(node.ocfs2, self._split, self._whole, lasting=id(node.ocfs2) in lasting)
            ocfs2 = whole.value
            mine.append(whole)
        for queue in (node.o2cb_todo, node.ocfs2_todo, node.ocfs2_inbox, node.to_o2cb, node.to_ocfs2):
            mine.append(plain(("queue", len(queue))))
            mine += [part(x) for x in queue]
        clients = tuple(
            (c, y.fs, y.service, y.mounts, y.hold, tuple(y.answered), y.mounted) for c, y in node.clients.items()
        )
        if clients:
            mine.append(part(tuple(_Connected(c, (fs, hold, told, up)) for c, fs, _, _, hold, told, up in clients)))
        mounts = tuple((fs, tuple(points)) for fs, points in node.mounts.items())
        queues = tuple(node.o2cb_todo), tuple(node.ocfs2_todo), tuple(node.ocfs2_inbox)
        more = tuple(node.to_o2cb), tuple(node.to_ocfs2)
        beside = n, mounts, node.ocfs2_pid, node.connection, clients
        saved = (
            *(node.power, node.boots, kernel.value, mounts, o2cb.value, ocfs2, *queues),
            *(node.ocfs2_pid, node.connection, *more, clients, node.reading),
        )
        return self._piece(mine, saved, beside)

    def _engine(self) -> Piece:
        engine, before = self._world.engine, self._from[-2].saved if self._from else ((), ())
        if _same(engine.engines, before[0]) and _same(engine.ports, before[1]):
            return self._from[-2]
        plain, whole = self._canon.plain, self._canon.whole
        engines = [(n, plain(x)) for n, x in engine.engines.items()]
        ports = [(key, whole(x, self._split_port, _whole_port)) for key, x in engine.ports.items()]
        mine = [x for _, x in engines]
        for key, x in ports:
            mine += [plain(key), x]
        saved = tuple([(n, x.value) for n, x in engines]), tuple([(key, x.value) for key, x in ports])
        return self._piece(mine, saved)

    def _rest(self) -> Piece:
        world, plain = self._world, self._canon.plain
        saved = (
            *(world.engine.nodes, tuple(world.fences), world.budget, frozenset(world.recovered)),
            *(tuple(world.addresses.items()), tuple(world.runs.items()), tuple(world.adopted.items())),
            *(frozenset(world.lied), tuple(sorted(world.made.items())), world.connections),
        )
        if self._from and saved == self._from[-1].saved:
            return self._from[-1]
        adopted = tuple(sorted([(n, tuple(sorted(x))) for n, x in world.adopted.items() if x]))
        mine = [plain(x) for x in saved[:4]]
        mine += [
            plain(tuple(sorted(world.addresses.items()))),
            plain(tuple(sorted(world.runs.items()))),
            plain(adopted),
            plain(saved[7]),
            plain(saved[8]),
        ]
        return self._piece(mine, saved, world.connections)

    def _split(self, state: OcState) -> list[Part]:
        return [self._canon.part(getattr(state, name)) for name in self._fields]

    def _whole(self, state: OcState, inner: list[Part]) -> OcState:
        values = {name: part.value for name, part in zip(self._fields, inner, strict=True)}
        return replace(OcState(state.settings), **values)

    def _split_port(self, port: Port) -> list[Part]:
        found = [self._canon.plain((port.pid, port.attached, port.view, port.outbox))]
        scene = self._world.scene
        alive = living(port.queue, expulsions=scene.budget.grace > 0) if scene.reduced else repeat(True)
        for queued, counts in zip(port.queue, alive, strict=False):
            event = queued.event
            if not isinstance(event, Delivered):
                found.append(self._canon.plain(queued))
                continue
            # What was said is kept for ever; to hash it would take long.
            key = event.sender, id(event.payload), queued.ring, queued.place
            part = self._told.get(key)
            if part is None:
                part = self._told[key] = self._canon.part(queued)
            if not counts:
                part = self._ignored.setdefault(id(part), Part(part.value, IGNORED, ()))
            found.append(part)
        return found


@dataclass(frozen=True, slots=True)
class _Connected:
    connection: int
    rest: Any


_NOWHERE: Sequence[Piece | None] = (None,) * 16
_LEFT_OUT = ("named", "counts", "last_death", "service_at")


def _whole_port(port: Port, inner: list[Part]) -> Port:
    return replace(port, queue=tuple(x.value for x in inner[1:]))


def _same(now: dict[Any, Any], saved: tuple[tuple[Any, Any], ...]) -> bool:
    return len(now) == len(saved) and all(now.get(k) is v for k, v in saved)


def _is_at(x: SimNode, saved: tuple[Any, ...]) -> bool:
    """Whether a node is as it was saved: the values are the same objects, and what can be changed in place is equal."""
    power, boots, kernel, mounts, o2cb, ocfs2, o2todo, octodo, inbox, pid, connection, to_o2cb, to_ocfs2 = saved[:13]
    return (
        x.ocfs2 is ocfs2
        and x.o2cb is o2cb
        and x.kernel is kernel
        and (x.power, x.boots, x.ocfs2_pid, x.connection, x.reading) == (power, boots, pid, connection, saved[14])
        and (tuple(x.o2cb_todo) if x.o2cb_todo else ()) == o2todo
        and (tuple(x.ocfs2_todo) if x.ocfs2_todo else ()) == octodo
        and (tuple(x.ocfs2_inbox) if x.ocfs2_inbox else ()) == inbox
        and (tuple(x.to_o2cb) if x.to_o2cb else ()) == to_o2cb
        and (tuple(x.to_ocfs2) if x.to_ocfs2 else ()) == to_ocfs2
        and tuple([(fs, tuple(points)) for fs, points in x.mounts.items()]) == mounts
        and len(x.clients) == len(saved[13])
        and all(
            y == (c, z.fs, z.service, z.mounts, z.hold, tuple(z.answered), z.mounted)
            for y, (c, z) in zip(saved[13], x.clients.items(), strict=True)
        )
    )


def _load_node(x: SimNode, saved: tuple[Any, ...]) -> None:
    x.power, x.boots, x.kernel, mounts, x.o2cb, x.ocfs2, o2todo, octodo, inbox, x.ocfs2_pid, x.connection = saved[:11]
    to_o2cb, to_ocfs2, clients, x.reading = saved[11:]
    x.mounts = {fs: list(points) for fs, points in mounts}
    x.o2cb_todo, x.ocfs2_todo, x.ocfs2_inbox = deque(o2todo), deque(octodo), list(inbox)
    x.to_o2cb, x.to_ocfs2 = deque(to_o2cb), deque(to_ocfs2)
    x.clients = {
        c: Client(x.number, fs, service, mounts, hold, list(answered), mounted)
        for c, fs, service, mounts, hold, answered, mounted in clients
    }


__all__ = ["Saved", "States"]
