"""What can happen in the world that is searched, what it does, and what rest is.

A timer fires by a choice that moves this one timer to now: *deadline* of a waiting MOUNT, *grace* of a daemon that is
away or owes an answer, *late* for a node that has to go. A *quick* node reads and does at once whatever it can: its
daemons are the real minds, but no interleaving of theirs is searched.
"""

from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations

from libo2cb.engine.model import Key, Queued, Stream
from libo2cb.engine.model import State as Power
from libo2cb.engine.port import Delivered, Members
from o2cb_controld import events as o2ev
from o2cb_controld.state import Node as Standing
from ocfs2_controld import events as ocev
from ocfs2_controld.state import FencePhase, Local, Usage
from ocfs2_controld.state import State as OcState
from protocol.frozen import FrozenMap
from protocol.group import Phase
from protocol.identity import Life, Ring
from tests.search.judge import FS
from tests.search.machines import Killed, Machines
from tests.search.scene import Budget, Option, Scene
from tests.simulation.world import OCFS2, Choice, SimNode, uuid


class SearchWorld(Machines):
    """The world of a scene, from its first state on.

    Attributes:
        budget: what is left of it.
    """

    def __init__(self, scene: Scene) -> None:
        super().__init__(scene)
        self.budget = Budget()
        b = scene.budget
        # How many nodes a ring may have.
        self._least = 1 if b.cut or b.grace or b.late else scene.size - b.off
        self._moves = self._least < scene.size
        self.begun = False
        for n in self.nodes:
            self.power_on(n)
        self.run_down()
        for n in scene.mounted:
            self.client(n, FS)
            self.run_down()
        for options in [o for o in self.options() if o.progress]:
            raise AssertionError(f"the first state is not at rest: {options}")
        self.begun, self.held = True, set(scene.held)
        for choice in scene.prelude:
            self.take(Option(choice))
            self.run_down()
        self.held.clear()
        self.budget = scene.budget

    def run_down(self) -> None:
        """Whatever can happen without a fault, first things first; what is held may be looked for again for ever."""
        for _ in range(5000):
            skipped = ("look o", "look c") if self.held else ()
            found = next((o for o in self.options() if o.progress and o.choice[0] not in skipped), None)
            if found is None:
                return
            self.take(found)
            self.judge()
        raise AssertionError("the first state is not at rest")

    # what can happen

    def options(self) -> Iterator[Option]:
        """All of it; while a quick node has something to do, that alone."""
        mine = [Option(c) for c in self.choices()] + [Option(c) for c in self._looks()]
        quick = next((o for o in mine if int(o.choice[1]) in self.scene.quick), None)
        if quick is not None:
            yield quick
            return
        yield from mine
        for i, (actor, _) in enumerate(self.fences):
            yield Option(("fence", str(actor), str(i)))
            if self.budget.fail:
                yield Option(("fail", str(actor), str(i)), False, "fail")
            if self.budget.lie and self.nodes[self.fences[i][1]].power:
                yield Option(("lie", str(actor), str(i)), False, "lie")
        for n, node in self.nodes.items():
            if node.power and node.ocfs2 is None:
                yield Option(("start c", str(n)))
            if node.power and node.o2cb is None and n in self.scene.full:
                yield Option(("start o", str(n)))
            if node.power and self.engine.engines[n].state is Power.DOWN:
                yield Option(("engine", str(n)))
            if node.power and any(e.side for e in self.engine.engines.values()):
                yield Option(("heal", str(n)))
                break
        if not mine and not self.fences:
            yield from (Option(("due", str(n))) for n, node in self.nodes.items() if self._due(node))
        if self.begun:
            yield from self._faults()

    def _due(self, node: SimNode) -> bool:
        """Whether a fence waits for nothing but time; time passes when nothing else happens."""
        fences = node.ocfs2.fences.values() if node.ocfs2 is not None else ()
        return any(f.phase in (FencePhase.WAITING, FencePhase.FAILED) and f.due > 0 for f in fences)

    def choices(self) -> list[Choice]:
        full = self.scene.full
        found = [c for c in super().choices() if int(c[1]) in full or c[0] not in {"connect", "disconnect"}]
        for n, node in self.nodes.items():
            heard = node.ocfs2 is not None and not node.ocfs2_todo and not node.to_ocfs2
            if node.connection < 0 and node.o2cb is not None and heard:
                found.append(("disconnect", str(n)))
        return found

    def _looks(self) -> Iterator[Choice]:
        """Pauses that may end now."""
        for n, node in self.nodes.items():
            if node.o2cb is not None and not node.o2cb_todo:
                held = any(s.phase in (Standing.PINNED, Standing.REFUSED) for s in node.o2cb.slots)
                if held or node.o2cb.errno or any(r.errno for r in node.o2cb.requests):
                    yield ("look o", str(n))
            if node.ocfs2 is not None and not node.ocfs2_todo:
                paused = any(x.retry_at is not None for x in node.ocfs2.locals.values())
                if paused or (node.ocfs2.service is False and node.ocfs2.locals):
                    yield ("look c", str(n))

    def _faults(self) -> Iterator[Option]:
        b = self.budget
        for n in self.scene.victims or self.nodes:
            node, me = self.nodes[n], str(n)
            if not node.power:
                if b.back:
                    yield Option(("back", me, ""), False, "back")
                    if b.move:
                        yield Option(("back", me, "moved"), False, "back")
                continue
            if b.off:
                yield Option(("off", me, ""), False, "off")
                if b.unreceived:
                    yield Option(("off", me, "unreceived"), False, "off")
            if b.late and node.ocfs2 is not None and not node.ocfs2_todo and node.ocfs2.outs:
                yield Option(("late", me), False, "late")
            if b.cut and not any(e.side for e in self.engine.engines.values()):
                yield Option(("cut", me, ""), False, "cut")
                if b.unreceived:
                    yield Option(("cut", me, "unreceived"), False, "cut")
            yield from self._clients(node)
        for n in self.scene.killed or self.nodes:
            if self.nodes[n].o2cb is not None and b.kill_o:
                yield Option(("kill o", str(n)), False, "kill_o")
            if self.nodes[n].ocfs2 is not None and b.kill_c:
                yield Option(("kill c", str(n)), False, "kill_c")

    def _clients(self, node: SimNode) -> Iterator[Option]:
        b, me, state = self.budget, str(node.number), node.ocfs2
        if state is None or node.ocfs2_todo:
            return
        waiting = [x for x in state.locals.values() if x.usage is Usage.JOINING]
        quorate = self.engine.engines[node.number].quorate
        if b.mount and not node.mounts.get(FS) and not node.clients:
            yield Option(("mount", me), False, "mount")
        if b.umount and node.mounts.get(FS):
            yield Option(("umount", me), False, "umount")
        if waiting and (b.deadline or not quorate):
            yield Option(("deadline", me), not quorate, "deadline" if quorate else "")
        if waiting and b.client:
            yield Option(("client dies", me), False, "client")
        if b.grace and (state.away or state.channel.change is None or any(x.owed for x in state.locals.values())):
            yield Option(("grace", me), False, "grace")

    def fusable(self, choice: Choice) -> bool:
        """Whether this moves a daemon that can be killed in the midst of it."""
        n = int(choice[1])
        if not self.budget.kill_c or n in self.scene.careful or (self.scene.killed and n not in self.scene.killed):
            return False
        if choice[0] == "deliver":
            return choice[2] == OCFS2
        return choice[0] in {"ocfs2 reads", "mount", "umount", "start c", "look c"}

    def shown(self, number: int) -> list[tuple[str, bool, object]]:
        """What the laws look at from other nodes, of the mind of this one."""
        state = self.nodes[number].ocfs2
        return [(fs, x.running, x.started) for fs, x in state.locals.items()] if state is not None else []

    def waits(self, number: int) -> bool:
        """Whether a MOUNT waits on a node, where quorum may be lost."""
        state = self.nodes[number].ocfs2
        waits = state is not None and any(x.usage is Usage.JOINING for x in state.locals.values())
        return waits and not self._is_quorum(self._least)

    def _is_quorum(self, size: int) -> bool:
        return 2 * size > len(self.nodes) or self.engine.two_node

    def is_behind(self, number: int) -> bool:
        """Whether a node has not read yet of the last view of its channel."""
        port = self.engine.ports.get(Key(number, OCFS2, Stream.CHANNEL))
        return port is not None and any(not isinstance(q.event, Delivered) for q in port.queue)

    def may_be_told(self, number: int) -> Iterator[Members]:
        """Memberships that a node may be told of next, whatever happens."""
        engine, last = self.engine.engines[number], self.nodes[number].ocfs2
        if last is None or engine.ring is None or not self._moves:
            return
        others, before = [n for n in self.nodes if n != number], set(engine.members)
        for size in range(self._least, len(self.nodes) + 1):
            for some in combinations(others, size - 1):
                members = tuple(sorted((number, *some)))
                quorate = self._is_quorum(size)
                joined, left = tuple(sorted({*members} - before)), tuple(sorted(before - {*members}))
                ring = Ring(engine.sequence + 4, members[0])
                yield Members(ring, quorate, members, joined, left)

    def whisper(self, number: int, event: Members) -> None:
        """Let a node be told of a membership."""
        key = Key(number, OCFS2, Stream.MEMBERSHIP)
        port = self.engine.ports[key]
        self.engine.ports[key] = replace(port, queue=(*port.queue, Queued(event)))

    def take(self, option: Option) -> bool:
        """Let it happen.

        Returns:
            Whether it could: a fuse may be longer than the step that it was set for.

        Raises:
            Broken: a law does not hold at one of its deeds. What must hold in a state is `judge`'s.
        """
        choice = option.choice
        if option.spends:
            self.budget = self.budget.spend(option.spends)
        self.loud, self.audible, self.uttered = False, False, ()
        if choice[0] == "killed":
            self.fuse, self.doomed = int(choice[1]), int(choice[3])
            try:
                self._take(choice[2:])
            except Killed:
                self.budget = self.budget.spend("kill_c")
                self.fuse = None
                self.kill_ocfs2(self.doomed)
            else:
                return False
            finally:
                self.fuse = None
        else:
            self._take(choice)
        self.tidy()
        return True

    def _take(self, choice: Choice) -> None:
        match choice:
            case ("back", me, moved):
                n = int(me)
                if moved:
                    self.budget = self.budget.spend("move")
                    self.engine.readdress(n, f"10.0.1.{10 + n}")
                self.power_on(n)
            case ("off", me, unreceived):
                self.power_off(int(me), unreceived=(int(me),) if unreceived else ())
            case ("cut", me, unreceived):
                n = int(me)
                part = self.scene.parted or (n,)
                self.engine.cut([part], unreceived=self.nodes if unreceived else ())
            case ("heal", _):
                self.engine.heal()
            case ("kill o", me):
                self.kill_o2cb(int(me))
            case ("kill c", me):
                self.kill_ocfs2(int(me))
            case ("start o", me):
                self.start_o2cb(int(me))
            case ("start c", me):
                self.start_ocfs2(int(me))
            case ("fence", _, i):
                self.fence_done(int(i), ok=True)
            case ("fail", _, i):
                self.fence_done(int(i), ok=False)
            case ("late", me):
                self._late(int(me))
            case ("engine", me):
                self.engine.start_engine(int(me))
            case ("lie", _, i):
                self._lie(int(i))
            case ("mount", me):
                self.client(int(me), FS)
            case ("umount", me):
                self.umount(int(me), FS)
                self._hang_up(int(me), mounts=False)
            case ("client dies", me):
                self._hang_up(int(me), mounts=True)
            case ("deadline", me):
                self._expire(int(me), "deadline")
            case ("grace", me):
                self._grace(int(me))
            case ("look o", me):
                self.o2cb(int(me), o2ev.Tick())
            case ("due", me):
                state = self.nodes[int(me)].ocfs2
                assert state is not None
                long_ago = dict.fromkeys(state.engine.appeared, -state.settings.grace_seconds)
                again = {x: replace(f, due=0.0) if f.phase is FencePhase.FAILED else f for x, f in state.fences.items()}
                engine = replace(state.engine, appeared=FrozenMap(long_ago))
                self.nodes[int(me)].ocfs2 = replace(state, engine=engine, fences=FrozenMap(again))
                self.ocfs2(int(me), ocev.Tick())
            case ("look c", me):
                state = self.nodes[int(me)].ocfs2
                assert state is not None
                self.nodes[int(me)].ocfs2 = replace(state, service_at=0.0)
                self._expire(int(me), "retry_at")
            case ("ocfs2 acts", me):
                self._ocfs2_act(self.nodes[int(me)])
                self.ocfs2(int(me))
            case ("o2cb acts", me):
                node = self.nodes[int(me)]
                self._o2cb_act(node)
                self._hush(node)
            case _:
                self.do(choice)
        for n, node in self.nodes.items():
            while n not in self.scene.full and node.to_ocfs2 and node.ocfs2 is not None:
                self._ocfs2_reads(node)

    def _lie(self, index: int) -> None:
        """Somebody says that a node is off, who has not looked."""
        actor, target = self.fences.pop(index)
        self.lied.add(self.life(target))
        self.ocfs2(actor, ocev.FenceDone(target, True, "an operator says so"))

    def _late(self, number: int) -> None:
        """Who has to go has had its time."""
        state = self.nodes[number].ocfs2
        assert state is not None
        outs = {n: replace(out, due=0.0) for n, out in state.outs.items()}
        self.nodes[number].ocfs2 = replace(state, outs=FrozenMap(outs))
        self.ocfs2(number, ocev.Tick())

    def _hang_up(self, number: int, *, mounts: bool) -> None:
        for connection, client in list(self.nodes[number].clients.items()):
            if client.mounts == mounts:
                self.client_dies(number, connection)

    def _expire(self, number: int, timer: str) -> None:
        """Move one timer of each filesystem that has it set to now."""
        state = self.nodes[number].ocfs2
        assert state is not None
        changed: dict[str, Local] = {
            fs: x if getattr(x, timer) is None else replace(x, **{timer: 0.0})  # type: ignore[arg-type]  # a time
            for fs, x in state.locals.items()
        }
        self.nodes[number].ocfs2 = replace(state, locals=FrozenMap(changed))
        self.ocfs2(number, ocev.Tick())

    def _grace(self, number: int) -> None:
        state = self.nodes[number].ocfs2
        assert state is not None
        past = -state.settings.grace_seconds
        away = FrozenMap(dict.fromkeys(state.away, past))
        owed = {fs: x if x.owed_since is None else replace(x, owed_since=past) for fs, x in state.locals.items()}
        since = past if state.channel.change is None else 0.0
        channel = replace(state.channel, since=since)
        self.nodes[number].ocfs2 = replace(state, away=away, locals=FrozenMap(owed), channel=channel)
        self.ocfs2(number, ocev.Tick())
        after = self.nodes[number].ocfs2
        if after is not None:
            self.nodes[number].ocfs2 = replace(after, channel=replace(after.channel, since=0.0))

    def tidy(self) -> None:
        """Put away what has no future."""
        if self.scene.reduced:
            self.bury()
        for node in self.nodes.values():
            if node.ocfs2 is not None:
                here = {x for x in node.kernel.links if x in self.adopted.get(node.number, frozenset())}
                self.adopted[node.number] = frozenset(here)
        self.recovered = {x for x in self.recovered if self.nodes[x[0]].power and self.nodes[x[0]].boot == x[1]}
        self.made = {x: s for x, s in self.made.items() if self.nodes[x.node].power and self._may_be_asked(x)}
        self.lied = {x for x in self.lied if self.nodes[x.node].power and self.life(x.node) == x}

    def _may_be_asked(self, life: Life) -> bool:
        """Whether some FINISH may still ask for this life's START."""
        node = self.nodes[life.node]
        if self.life(life.node) != life:
            return False
        if node.ocfs2 is None or node.ocfs2.locals:
            return True
        tables = [n.ocfs2.table for n in self.nodes.values() if n.ocfs2 is not None]
        return any(life in g.members for t in tables if t is not None for g in t.groups.values())

    # rest

    def at_rest(self) -> bool:
        """Nothing goes on, and in each quorate part tree, links, mounts, locks and tables agree."""
        if self.fences or self.engine.pending():
            return False
        for n, node in self.nodes.items():
            if not node.power:
                continue
            state = node.ocfs2
            if (
                state is None
                or self.engine.engines[n].state is Power.DOWN
                or (n in self.scene.full and node.o2cb is None)
                or node.connection <= 0
            ):
                return False
            if node.o2cb_todo or node.ocfs2_todo or node.ocfs2_inbox or node.to_o2cb or node.to_ocfs2 or state.said:
                return False
            if self.engine.engines[n].quorate and not self._agrees(node, state):
                return False
        return True

    def _agrees(self, node: SimNode, state: OcState) -> bool:
        if not state.complete or state.table is None or node.number not in state.present or node.clients:
            return False
        g = state.group(uuid(FS))
        if g.phase is not Phase.RUN or g.queue or g.gone or g.lost or g.away or g.joiner:
            return False
        members = {x.number for x in self.writers()}
        local = state.locals.get(uuid(FS))
        if node.number not in members:
            return local is None and uuid(FS) not in node.kernel.regions
        if {x.node for x in g.members} != members or self.linked(node) != members:
            return False
        if local is None or local.usage is not Usage.USED or not local.running:
            return False
        return node.number not in self.scene.full or self._stands(node)

    def _stands(self, node: SimNode) -> bool:
        up = set(self.engine.engines[node.number].members)
        standing = {x.number: x.address for x in node.kernel.nodes if x.complete}
        exclusive = any(f.exclusive for f in node.kernel.flocks)
        return not exclusive and standing == {x.number: x.address for x in self.engine.nodes if x.number in up}


__all__ = ["SearchWorld"]
