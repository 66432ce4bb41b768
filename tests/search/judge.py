"""The laws as they are judged in a search: by what the machines show in one state, and at the deed itself.

A search goes back and forth between states, so nothing here may remember a history, but for whom a node has recovered:
that is part of the state.
"""

from typing import Any

from libo2cb.engine.model import Key, Stream
from libo2cb.events import Event, Log
from o2cb_controld import actions as o2do
from ocfs2_controld import actions as ocdo
from ocfs2_controld.state import Local
from protocol.group import NO_START, StartName
from protocol.identity import Life, Ring
from tests.simulation.world import O2CB, OCFS2, SimNode, World, uuid

FS = "F"


def _named(name: str) -> StartName:
    """The START of this name, as logged."""
    ring, count = name.split("#")
    representative, sequence = ring.split(".")
    return StartName(Ring(int(sequence), int(representative)), int(count))


class Broken(AssertionError):
    """A law does not hold."""


class JudgedWorld(World):
    """The world, with the laws judged at each deed and, by `judge`, in each state.

    Attributes:
        addresses: of each node's present life.
        recovered: (node, its boot, filesystem, life): whom a living node has started without.
        adopted: links that a daemon found at its start, by node: they need no lock.
        lied: lives of whom somebody has said that they are off, and who are not. What they write is lost, and no
            protocol can help it (law 11); but they must not go on among the others (law 9).
        made: the newest START that a present life has made.
    """

    def __init__(self, size: int, *, two_node: bool) -> None:
        super().__init__(size, two_node=two_node)
        self.addresses: dict[Life, str] = {}
        self.recovered: set[tuple[int, str, str, Life]] = set()
        self.adopted: dict[int, frozenset[tuple[str, str]]] = {}
        self.lied: set[Life] = set()
        self.made: dict[Life, StartName] = {}

    def power_on(self, number: int, *, singleton: bool = False) -> None:
        life = Life(number, f"boot{self.nodes[number].boots + 1}")
        self.addresses = {x: a for x, a in self.addresses.items() if x.node != number}
        self.addresses[life] = self.engine.configured(number).address
        super().power_on(number, singleton=singleton)

    def life(self, number: int) -> Life:
        """The present life of a node, or its last."""
        return Life(number, self.nodes[number].boot)

    def writers(self) -> list[SimNode]:
        """Nodes that can write to the filesystem, and may."""
        return [n for n in self.nodes.values() if n.power and n.mounts.get(FS) and self.life(n.number) not in self.lied]

    def linked(self, node: SimNode) -> set[int]:
        """Numbers that the node links in it."""
        names = {n for r, n in node.kernel.links if r == uuid(FS)}
        return {n.number for n in node.kernel.nodes if n.name in names}

    # deeds

    def _note(self, node: SimNode, daemon: str, entry: Log) -> None:
        match entry.event:
            case Event.SURPRISE | Event.VIOLATION:
                raise Broken(f"{daemon} of n{node.number}: {entry.event}: {dict(entry.fields)}")
            case Event.GROUP_STARTED:
                self._judge_start(node, dict(entry.fields))
            case Event.GROUP_FINISHED:
                self._judge_finish(node, dict(entry.fields))
            case _:
                pass

    def _judge_start(self, node: SimNode, fields: dict[str, Any]) -> None:
        members, lost, start = fields["members"], fields["lost"], _named(fields["start"])
        self.made[self.life(node.number)] = start
        engine, ring = self.engine.engines[node.number], node.ocfs2.channel.ring if node.ocfs2 else None
        if engine.ring == ring and not engine.quorate:
            raise Broken(f"law 6: n{node.number} starts without quorum")
        for other in self.writers():
            if other is not node and str(self.life(other.number)) not in members:
                raise Broken(f"law 11: n{node.number} starts without n{other.number}, which can write")
            local = other.ocfs2.local(uuid(FS)) if other.ocfs2 is not None else Local()
            both = other is not node and node.mounts.get(FS)
            if both and local.running and local.started < start:
                raise Broken(f"law 6: n{node.number} starts, and n{other.number} has not stopped")
        for name in members:
            for by, boot, _, gone in self.recovered:
                if str(gone) == name and self.nodes[by].power and self.nodes[by].boot == boot:
                    raise Broken(f"law 9: n{node.number} starts with {name}, which n{by} has recovered")
        for name in lost:
            number, _, boot = str(name).partition("/")
            if boot != "unknown":
                self.recovered.add((node.number, node.boot, FS, Life(int(number), boot)))

    def _judge_finish(self, node: SimNode, fields: dict[str, Any]) -> None:
        for other in self.nodes.values():
            life = self.life(other.number)
            if not other.power or str(life) not in fields["members"]:
                continue
            if self.made.get(life, NO_START) < _named(fields["start"]):
                raise Broken(f"law 7: n{node.number} finishes {fields['start']}, which n{other.number} has not made")

    def _answered(self, node: SimNode, connection: int, code: int, text: str) -> None:
        client = node.clients.get(connection)
        if client is not None and client.mounts and code == 0 and not client.answered:
            if node.ocfs2 is not None and not node.mounts.get(FS):
                made, wanted = node.ocfs2.local(uuid(FS)).started, node.ocfs2.group(uuid(FS)).start
                if made != wanted or self.made.get(self.life(node.number)) != made:
                    raise Broken(f"law 10: n{node.number} hears 0 for START {made}, and the group has {wanted}")
            for other in self.writers():
                if other is not node and node.number not in self.linked(other):
                    raise Broken(f"law 10: n{node.number} hears 0 and n{other.number} does not link it")
        super()._answered(node, connection, code, text)

    def _o2cb_act(self, node: SimNode) -> None:
        action = node.o2cb_todo[0]
        if isinstance(action, o2do.RemoveNode) and node.kernel.linked(action.name):
            raise Broken(f"law 1: n{node.number} asks to remove {action.name} while it is linked")
        if isinstance(action, o2do.Exit) and node.kernel.regions:
            raise Broken(f"law 15: o2cb_controld of n{node.number} ends under a live mount")
        super()._o2cb_act(node)

    def _ocfs2_act(self, node: SimNode) -> None:
        action = node.ocfs2_todo[0]
        if isinstance(action, ocdo.Exit) and any(node.mounts.values()):
            raise Broken(f"law 15: ocfs2_controld of n{node.number} ends under a live mount")
        if isinstance(action, ocdo.RunFence) and node.ocfs2 is not None:
            engine = self.engine.engines[node.number]
            if engine.ring == node.ocfs2.channel.ring and not engine.quorate:
                raise Broken(f"law 6: n{node.number} fences without quorum")
            life, present = action.life, node.ocfs2.present.get(action.life.node)
            if present is not None and present.life != life and self.nodes[life.node].power:
                raise Broken(f"law 11: n{node.number} has n{life.node} switched off, whose new life it has heard")
        if isinstance(action, ocdo.PutOut) and node.ocfs2 is not None:
            engine = self.engine.engines[node.number]
            if not node.ocfs2.good or (engine.ring == node.ocfs2.channel.ring and not engine.quorate):
                raise Broken(f"law 6: n{node.number} has n{action.node} put out without quorum")
        super()._ocfs2_act(node)

    # states

    def judge(self) -> None:
        """What must hold in a state."""
        writers = self.writers()
        for a in writers:
            linked = self.linked(a)
            for b in writers:
                if b.number not in linked:
                    raise Broken(
                        f"laws 4, 10: n{a.number} and n{b.number} write, and the former does not link the latter"
                    )
        self._judge_tables()
        for node in self.nodes.values():
            self._judge_running(node)
            for region, name in node.kernel.links:
                self._judge_link(node, region, name)

    def _judge_running(self, node: SimNode) -> None:
        """Law 6: a daemon that was told of a loss, or of lost quorum, has stopped what it concerns."""
        state = node.ocfs2
        if state is None or node.ocfs2_todo or node.ocfs2_inbox:
            return
        local = state.local(uuid(FS))
        if local.running and not (state.engine.up and state.engine.quorate):
            raise Broken(f"law 6: the group runs on n{node.number}, which was told that it has no quorum")

    def _judge_link(self, node: SimNode, region: str, name: str) -> None:
        standing, state = node.kernel.node(name), node.ocfs2
        if standing is None or not standing.complete:
            raise Broken(f"law 2: n{node.number} links {name}, which does not stand complete")
        if state is None:
            return
        life = state.local(region).links.get(standing.number)
        if life is not None and self.addresses.get(life, standing.address) != standing.address:
            raise Broken(f"law 4: n{node.number} links {life} at {standing.address}, not at {self.addresses[life]}")
        number = str(standing.number)
        held = any(f.file == number and not f.exclusive and f.holder == "ocfs2" for f in node.kernel.flocks)
        if not held and (region, name) not in self.adopted.get(node.number, frozenset()):
            raise Broken(f"law 2: n{node.number} has linked {name} without its lock")

    def _judge_tables(self) -> None:
        """Equal tables after equal changes and equal words."""
        seen: dict[tuple[object, ...], tuple[int, Any]] = {}
        for n, node in self.nodes.items():
            state, port = node.ocfs2, self.engine.ports.get(Key(n, OCFS2, Stream.CHANNEL))
            if state is None or port is None or state.channel.change is None:
                continue
            if self.engine.engines[n].ring != state.channel.ring:
                continue
            key = state.channel.change, len(port.queue)
            other = seen.setdefault(key, (n, state.table))
            if other[1] != state.table:
                raise Broken(f"law 10: the tables of n{other[0]} and n{n} differ after the same words")


__all__ = ["FS", "O2CB", "OCFS2", "Broken", "JudgedWorld"]
