"""The world with its judges: at each step what the simulated machines show is held against the laws.

Truth is taken from the machines (power, mounts, links, addresses, rings, what was delivered to whom), not from what the
daemons believe. Besides, a run may be recorded for the judges of tests/laws, which read kernel calls, engine and logs.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from libo2cb.engine.port import ChannelMembers, EngineDown, Members, Reason
from libo2cb.events import Event, Log
from o2cb_controld import actions as o2do
from o2cb_controld.mind import SETTLED
from o2cb_controld.state import Ending
from ocfs2_controld import actions as ocdo
from ocfs2_controld import events as told
from ocfs2_controld.explain import waits
from protocol.identity import Life
from tests.laws import RULES, HistoryBuilder, Judge
from tests.laws.history import Client, Engine, Fact, Kernel, Process
from tests.simulation.world import O2CB, OCFS2, Choice, SimNode, World, uuid

if TYPE_CHECKING:
    from protocol.group import GroupTable

FILESYSTEMS = "FG"
KEPT_TABLES = 4000
"""Points of changes of which the table is remembered."""
SECOND = 1_000_000_000


class Broken(AssertionError):
    """A law does not hold."""


@dataclass
class Tally:
    """What a run has been through."""

    steps: int = 0
    faults: dict[str, int] = field(default_factory=dict)
    met: set[tuple[str, str]] = field(default_factory=set)
    starts: int = 0
    mounts: int = 0
    fenced: int = 0
    seconds: float = 0.0
    facts: int = 0


class Judged(World):
    """The world, with the laws judged at each step."""

    def __init__(self, size: int, *, recorded: bool = False, **options: Any) -> None:
        super().__init__(size, **options)
        self.addresses: dict[Life, str] = {}
        self.moved: set[Life] = set()
        self.recovered: set[tuple[int, str, str, Life]] = set()
        self.lied: set[Life] = set()
        self.made: set[tuple[Life, str, str]] = set()
        self.link_of: dict[tuple[Life, str, int], str] = {}
        self.acting: dict[Life, set[tuple[int, int]]] = {}
        self.given_up: set[str] = set()
        self.fallen: dict[Life, tuple[float, object]] = {}
        self.quorate: dict[int, bool] = {}
        self.tally = Tally()
        self._untaken: dict[int, list[told.Event]] = {}
        self._said: dict[int, tuple[str, int]] = {}
        self._tables: dict[tuple[str, int], GroupTable] = {}
        self._builder = HistoryBuilder() if recorded else None
        self._bench = Judge(RULES) if recorded else None

    # what happens

    def lie(self, index: int) -> None:
        """An operator says that a node is off, and it is not."""
        actor, target = self.fences.pop(index)
        self.lied.add(self.life(target))
        self.ocfs2(actor, told.FenceDone(target, True, "an operator says so"))

    def power_on(self, number: int, *, singleton: bool = False) -> None:
        life = Life(number, f"boot{self.nodes[number].boots + 1}")
        self.addresses[life] = self.engine.configured(number).address
        super().power_on(number, singleton=singleton)

    def readdress(self, number: int, address: str) -> None:
        """The configuration gives a node another address, on all nodes at once; it may be running."""
        self.engine.readdress(number, address)
        self.fact(number, Engine.READDRESSED, number=number, address=address)
        if self.nodes[number].power:
            self.moved.add(self.life(number))

    def start_ocfs2(self, number: int) -> None:
        self.quorate.pop(number, None)
        self._said.pop(number, None)
        self._untaken.pop(number, None)
        super().start_ocfs2(number)

    def kill_ocfs2(self, number: int) -> None:
        if str(self.life(number)) not in self.given_up:
            self.fallen[self.life(number)] = (self.now, self.engine.engines[number].ring)
        self._untaken.pop(number, None)
        super().kill_ocfs2(number)

    def pause(self, number: int, daemon: str) -> None:
        self.fact(number, Engine.PAUSED)
        super().pause(number, daemon)

    def go_on(self, number: int, daemon: str) -> None:
        if self.nodes[number].paused == {daemon}:
            self.fact(number, Engine.RESUMED)
        super().go_on(number, daemon)

    def life(self, number: int) -> Life:
        """The present life of a node, or its last."""
        return Life(number, self.nodes[number].boot)

    def writers(self, fs: str) -> list[SimNode]:
        """Nodes that can write to a filesystem."""
        return [n for n in self.nodes.values() if n.power and n.mounts.get(fs)]

    def linked(self, node: SimNode, fs: str) -> set[int]:
        """Numbers that the node links in a filesystem."""
        names = {n for r, n in node.kernel.links if r == uuid(fs)}
        return {n.number for n in node.kernel.nodes if n.name in names}

    # the record

    @property
    def recorded(self) -> bool:
        """Whether the judges of tests/laws hear this run too."""
        return self._builder is not None

    def fact(self, node: int, kind: Kernel | Engine | Process | Client, /, **fields: object) -> None:
        if self._builder is None:
            return
        b, name = self._builder, f"n{node}"
        b.mono = int(self.now * SECOND)
        match kind:
            case Kernel():
                self._hear(b.kernel(name, kind, **fields))
            case Engine():
                self._hear(b.engine(name, kind, **fields))
            case Process():
                daemon = str(fields.pop("daemon"))
                self._hear(b.process(name, daemon, kind, **fields))
                if kind is Process.STARTED:
                    self._hear(b.say(name, daemon, Event.STARTING, **fields))
            case Client():
                self._hear(b.client(name, kind, str(fields["fs"]), str(fields["mount_point"])))

    def _hear(self, fact: Fact) -> None:
        if self._bench is not None:
            self.tally.facts += 1
            # What an operator lied about, or a reload moved under a living node, the judges of a record cannot know.
            if found := self._bench.feed(fact):
                self._judged(found[0].law, found[0].sentence)

    def _judged(self, law: int, sentence: str) -> None:
        if not self.lied and not self.moved:
            raise Broken(f"law {law}: {sentence}")

    def finish(self) -> None:
        """The end of the record: what is due sometime is due now."""
        self.tally.seconds = self.now
        if self._bench is not None and (found := self._bench.finish(at_rest=True)):
            self._judged(found[0].law, found[0].sentence)

    def _note(self, node: SimNode, daemon: str, entry: Log) -> None:
        super()._note(node, daemon, entry)
        # What o2cb_controld was asked, its own line tells: action by action, the asker's may come after the answer.
        asks = daemon == OCFS2 and entry.event is Event.LOCK_ASKED
        if self._builder is not None and not asks:
            self._builder.mono = int(self.now * SECOND)
            self._hear(self._builder.log(f"n{node.number}", daemon, entry, boot=node.boot))
        match entry.event:
            case Event.SURPRISE:
                raise Broken(f"n{node.number}: a surprise: {dict(entry.fields)}")
            case Event.GROUP_STARTED:
                self._judge_start(node, dict(entry.fields))
            case Event.GROUP_FINISHED:
                self._judge_finish(node, dict(entry.fields))
            case Event.LINKED:
                fields = dict(entry.fields)
                self._judge_link(node, str(fields["fs"]), int(str(fields["number"])), str(fields.get("life")))
            case Event.LIFE_LOST:
                self._judge_loss(node, str(dict(entry.fields)["life"]))
            case _:
                pass

    # the laws

    def _judge_start(self, node: SimNode, fields: dict[str, object]) -> None:
        self.tally.starts += 1
        fs, members, lost = str(fields["fs"]), fields["members"], fields["lost"]
        assert isinstance(members, list)
        assert isinstance(lost, list)
        self.made.add((self.life(node.number), fs, str(fields["start"])))
        self.given_up.difference_update(map(str, members))
        for name in members:
            old = self.link_of.get((self.life(node.number), fs, int(str(name).partition("/")[0])), name)
            if old != name:
                raise Broken(f"law 4: n{node.number} starts {fs} with {name}, and its link was made for {old}")
        engine, ring = self.engine.engines[node.number], node.ocfs2.channel.ring if node.ocfs2 else None
        if engine.ring == ring and not engine.quorate:
            raise Broken(f"law 6: n{node.number} starts {fs} without quorum")
        for other in self.nodes.values():
            writes = other.power and any(uuid(f) == fs and p for f, p in other.mounts.items())
            life = self.life(other.number)
            if other is not node and writes and str(life) not in members and life not in self.lied:
                raise Broken(f"law 11: n{node.number} starts {fs} without n{other.number}, which can write")
        for name in members:
            for by, boot, group, gone in self.recovered:
                if group == fs and str(gone) == name and self.nodes[by].power and self.nodes[by].boot == boot:
                    raise Broken(f"law 9: n{node.number} starts {fs} with {name}, which n{by} has recovered")
        for name in lost:
            number, _, boot = str(name).partition("/")
            if boot != "unknown" and self._uses(Life(int(number), boot), fs):
                self.recovered.add((node.number, node.boot, fs, Life(int(number), boot)))

    def _uses(self, life: Life, fs: str) -> bool:
        """Whether a life has a filesystem mounted, or has told a client to go on and mount it."""
        node = self.nodes[life.node]
        if not node.power or self.life(life.node) != life:
            return False
        told = any(uuid(c.fs) == fs and {0, 114} & set(c.answered) for c in node.clients.values())
        return told or any(uuid(f) == fs and points for f, points in node.mounts.items())

    def _judge_finish(self, node: SimNode, fields: dict[str, object]) -> None:
        """Law 7: a START is finished when each member has made it: this one, and not an older one."""
        members, start = fields["members"], str(fields["start"])
        assert isinstance(members, list)
        for other in self.nodes.values():
            life = self.life(other.number)
            if other.power and str(life) in members and (life, str(fields["fs"]), start) not in self.made:
                raise Broken(f"law 7: n{node.number} finishes START {start}, which n{other.number} has not made")

    def _judge_loss(self, node: SimNode, name: str) -> None:
        """Law 8: A's daemon dies, A does not: for the grace time nobody may take A for lost.

        Unless it was lost before: A was cut off, and its fence is under way. A's next daemon hears of that as news.
        """
        self.given_up.add(name)
        for life, (since, ring) in self.fallen.items():
            if str(life) != name or not self.nodes[life.node].power or self.life(life.node) != life:
                continue
            # What the speaker has read counts, not where its engine is by now: it may still be told of an older ring.
            # And who has come into this ring without a word is not known to be the life that it was: its engine was
            # restarted, so NODEDOWN was said of it, and its daemon died before its statement.
            told = node.ocfs2.channel.ring if node.ocfs2 is not None else None
            spoke = node.ocfs2.spoke.get(life.node) if node.ocfs2 is not None else None
            stayed = self.engine.engines[life.node].ring == ring == told == spoke
            if stayed and self.now < since + self.grace:
                raise Broken(f"law 8: n{node.number} takes {life} for lost, of which only the daemon has died")

    def _judge_link(self, node: SimNode, fs: str, number: int, name: str) -> None:
        self.link_of[self.life(node.number), fs, number] = name
        standing = next((n for n in node.kernel.nodes if n.number == number), None)
        if standing is None or not standing.complete:
            raise Broken(f"law 2: n{node.number} links n{number}, which does not stand complete")
        life = next((x for x in self.addresses if str(x) == name), None)
        if life in self.moved and fs not in self.nodes[number].kernel.regions:
            # A leaves and takes its new address at once; B, which has not heard that yet, links it where it was.
            # Should it be joining instead, `judge` sees to it as soon as both can write.
            return
        if life is not None and standing.address != self.address_of(life):
            raise Broken(f"law 4: n{node.number} links n{number} at {standing.address}, not its life's address")

    def address_of(self, life: Life) -> str:
        """Where a life is: as its own kernel has it, which a reload may have moved; else where it booted."""
        node = self.nodes[life.node]
        own = [x.address for x in node.kernel.nodes if x.local and x.complete] if self.life(life.node) == life else []
        return own[0] if own else self.addresses[life]

    def _answered(self, node: SimNode, connection: int, code: int, text: str) -> None:
        client = node.clients.get(connection)
        if client is not None and client.service == "ocfs2" and client.mounts and code == 0 and not client.answered:
            self.tally.mounts += 1
            self._judge_first(node, uuid(client.fs), mounted=bool(node.mounts.get(client.fs)))
            for other in self.writers(client.fs):
                honest = self.life(other.number) not in self.lied
                if honest and other is not node and node.number not in self.linked(other, client.fs):
                    raise Broken(f"law 10: n{node.number} hears 0 and n{other.number} does not link it")
        super()._answered(node, connection, code, text)

    def _judge_first(self, node: SimNode, fs: str, *, mounted: bool) -> None:
        """Law 10: C hears 0 for the START that the group has now, made by its own kernel; not for an elder one."""
        if mounted or node.ocfs2 is None:
            return
        started, wanted = node.ocfs2.local(fs).started, node.ocfs2.group(fs).start
        if started != wanted or (self.life(node.number), fs, str(started)) not in self.made:
            raise Broken(f"law 10: n{node.number} hears 0 and has made START {started}; the group has {wanted}")

    def ocfs2(self, number: int, *events: told.Event) -> None:
        if self.nodes[number].ocfs2 is not None:
            self._untaken.setdefault(number, []).extend(events)
        super().ocfs2(number, *events)
        node = self.nodes[number]
        if node.ocfs2 is None or OCFS2 in node.paused or node.ocfs2_inbox:
            return
        taken = self._untaken.pop(number, [])
        for event in taken:
            match event:
                case Members(quorate=quorate):
                    self.quorate[number] = quorate
                case EngineDown():
                    self.quorate[number] = False
                case ChannelMembers(left=left):
                    self._judge_stop(node, {m.node for m, why in left if why is Reason.NODEDOWN})
        self._judge_table(number, [e for e in taken if isinstance(e, told.Heard)])
        for fs, local in node.ocfs2.locals.items():
            if local.running and not self.quorate.get(number):
                raise Broken(f"law 6: {fs} runs on n{number}, which was told that it has no quorum")

    def _judge_stop(self, node: SimNode, gone: set[int]) -> None:
        """Law 6: a group stops at once when a member is lost."""
        assert node.ocfs2 is not None
        for fs, local in node.ocfs2.locals.items():
            lost = gone & {x.node for x in node.ocfs2.group(fs).members}
            if local.running and lost and node.ocfs2.channel.change is None:
                raise Broken(f"law 6: {fs} runs on n{node.number}, which was told that n{min(lost)} is gone")

    def _judge_table(self, number: int, words: list[told.Heard]) -> None:
        """Who has heard the same words in the same change has the same table, whoever it is."""
        state = self.nodes[number].ocfs2
        assert state is not None
        change = state.channel.change
        if not words or change is None or state.table is None:
            return
        before, digest = self._said.get(number, ("", 0))
        if before != change:
            digest = 0
        for word in words:
            if word.envelope.change == change:
                digest = hash((digest, word.sender, word.envelope))
        self._said[number] = change, digest
        if len(self._tables) > KEPT_TABLES:
            self._tables.clear()
        known = self._tables.setdefault((change, digest), state.table)
        if known is not state.table and known != state.table:
            raise Broken(f"n{number} has heard what others have heard in change {change}, and has another table")

    def do(self, choice: Choice) -> None:
        super().do(choice)
        self.tally.steps += 1
        self.judge()

    def _o2cb_act(self, node: SimNode) -> None:
        action = node.o2cb_todo[0]
        match action:
            case o2do.RemoveNode(_, name) if node.kernel.linked(name):
                raise Broken(f"law 1: n{node.number} asks to remove {action} while it is linked")
            case o2do.AnswerShutdown(allow=True) if node.kernel.regions:
                raise Broken(f"law 15: o2cb_controld of n{node.number} lets the engine go under a live mount")
            case o2do.Exit() if node.kernel.regions:
                raise Broken(f"law 15: o2cb_controld of n{node.number} ends under a live mount")
        super()._o2cb_act(node)

    def _ocfs2_act(self, node: SimNode) -> None:
        action = node.ocfs2_todo[0]
        mounted = any(node.mounts.values())
        match action:
            case ocdo.AnswerShutdown(allow=True) if mounted:
                raise Broken(f"law 15: ocfs2_controld of n{node.number} lets the engine go under a live mount")
            case ocdo.CallKernel(call=told.Call.LINK, number=number):
                standing = next((n for n in node.kernel.nodes if n.number == number), None)
                if standing is None or not standing.complete:
                    raise Broken(f"law 2: n{node.number} would link n{number}, which does not stand complete")
                if not node.kernel.holds(str(number), False, "ocfs2"):
                    raise Broken(f"law 2: n{node.number} would link n{number} without its lock")
            case ocdo.CloseLock(key) if any(key[0] in self.linked(node, fs) for fs in FILESYSTEMS):
                raise Broken(f"law 1: n{node.number} closes the lock of n{key[0]} before its last link is gone")
            case ocdo.RunFence(life):
                self._judge_fence(node, life)
            case ocdo.PutOut(target):
                self._judge_put_out(node, target)
            case ocdo.Exit(0, why) if mounted:
                raise Broken(f"law 15: ocfs2_controld of n{node.number} ends under a live mount: {why}")
        super()._ocfs2_act(node)

    def _judge_put_out(self, node: SimNode, target: int) -> None:
        """Law 6: who has a node put out was told that it has quorum, and still has it if no other ring has come since.

        A has B and C put out at once. Without B it has no quorum; but that is another ring, of which A cannot know yet.
        """
        told = self.quorate.get(node.number, False)
        for event in self._untaken.get(node.number, ()):
            if isinstance(event, Members | EngineDown):
                told = isinstance(event, Members) and event.quorate
        engine, ring = self.engine.engines[node.number], node.ocfs2.channel.ring if node.ocfs2 else None
        if not told or (engine.ring == ring and not engine.quorate):
            raise Broken(f"law 6: n{node.number} has n{target} put out without quorum")

    def _judge_fence(self, node: SimNode, life: Life) -> None:
        """Law 11: a device acts on a node, so it is to be begun once for a life, and never for a new life's node."""
        assert node.ocfs2 is not None
        change, present = node.ocfs2.channel.change, node.ocfs2.present.get(life.node)
        if present is not None and present.life != life and self.nodes[life.node].power:
            raise Broken(f"law 11: n{node.number} has n{life.node} switched off, whose new life it has heard")
        for number, pid in self.acting.get(life, ()):
            other = self.nodes[number]
            same = other.ocfs2 is not None and other.ocfs2_pid == pid and other.ocfs2.channel.change == change
            if same and number != node.number and other.ocfs2 is not None and other.ocfs2.out is None:
                raise Broken(f"law 11: n{node.number} begins a fence of {life}, and n{number} is at it already")
        self.acting.setdefault(life, set()).add((node.number, node.ocfs2_pid))

    def fence_done(self, index: int, *, ok: bool, text: str = "") -> None:
        """A fencing device answers."""
        actor, target = self.fences[index]
        for life, begun in self.acting.items():
            if life.node == target:
                begun.difference_update([x for x in begun if x[0] == actor])
        super().fence_done(index, ok=ok, text=text)

    def judge(self) -> None:
        """Two nodes that can write to a filesystem link each other, each where the other is."""
        for fs in FILESYSTEMS:
            writers = self.writers(fs)
            for a in writers:
                linked = self.linked(a, fs)
                at = {n.number: n.address for n in a.kernel.nodes}
                for b in writers:
                    if {self.life(a.number), self.life(b.number)} & self.lied:
                        continue
                    if b.number not in linked:
                        raise Broken(
                            f"laws 4, 10: n{a.number} and n{b.number} write to {fs}, and the former has no link"
                        )
                    if at[b.number] != self.address_of(self.life(b.number)):
                        raise Broken(
                            f"law 4: n{a.number} and n{b.number} write to {fs}; its link is to another address"
                        )

    def judge_waits(self) -> None:
        """Law 17: what has waited for longer than five seconds was named when the last second struck."""
        for node in self.nodes.values():
            if node.o2cb is not None and O2CB not in node.paused and not node.o2cb_todo:
                ends = node.o2cb.ending in {Ending.EMPTYING, Ending.CLOSING}
                if ends and self.now > node.o2cb.give_up_at + 1:
                    raise Broken(f"law 18: o2cb_controld of n{node.number} neither ends nor says that it cannot")
                for thing in node.o2cb.waits:
                    due = max(thing.since + node.o2cb.patience, thing.changed + SETTLED)
                    if self.now > due and thing.named != thing.reason:
                        raise Broken(f"law 17: on n{node.number} {thing.what} waits unnamed: {thing.reason}")
            state = node.ocfs2
            if state is None or OCFS2 in node.paused or node.ocfs2_todo or node.ocfs2_inbox:
                continue
            for wait in waits(state, self.now):
                named, _reason = state.named.get(wait.what, (None, ""))
                if self.now - wait.since > state.settings.naming_seconds and named != wait.since:
                    raise Broken(f"law 17: on n{node.number} {wait.what} waits unnamed: {wait.why}")


__all__ = ["FILESYSTEMS", "O2CB", "OCFS2", "Broken", "Judged", "Tally"]
