"""Laws 6 to 9: stop, start, and who may go on."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from libo2cb.events import Event
from protocol.identity import Life
from tests.laws.history import OCFS2, Fact, Kernel, Process, Source
from tests.laws.judges.ordering import daemon_down, needed_link
from tests.laws.state import Node
from tests.laws.verdict import Breach, Doubt, Hearing, Key, Rule

_D = Source.DAEMON
At = tuple[str, str]
"""A group on a node: name of the node, UUID."""
Away = dict[tuple[str, Life], int]
"""By node and life that is away for it: where it was said."""
Recovered = dict[Life, dict[Life, int]]
"""By life, who has recovered it, and where."""


@dataclass(frozen=True, slots=True)
class Owed:
    """A STOP that a running group owes, and why."""

    order: int
    why: str
    at_once: bool


class StopAndStart(Rule):
    """Law 6, from the log of each node's present ocfs2_controld, with lives from the engine.

    STOP: after a loss that this daemon has heard (LIFE_LOST, a member among those who left in MEMBERS, quorum or engine
    gone) the next START or FINISH of the group needs a STOP before it. What a killed daemon had heard is void: its
    successor begins stopped. A membership event that the channel has not yet confirmed forbids only a START.

    START: quorum as told last, for the ring in the START's name (a name without a ring is not compared); each life in
    `lost` fenced in somebody's log or over in the engine's history; each surviving member stopped, or in this same
    START. A survivor whose daemon is down is not asked; what hangs on a line that it owes is a Doubt first.
    """

    law = 6
    title = "STOP needs nothing, START needs everything"

    def hears(self) -> Mapping[Key, Hearing]:
        self._owed: dict[At, Owed] = {}
        return {
            (_D, Event.LIFE_LOST): self.lost,
            (_D, Event.MEMBERS): self.members,
            (_D, Event.ENGINE_DOWN): self.engine_down,
            (_D, Event.GROUP_STARTED): self.started,
            (_D, Event.GROUP_FINISHED): self.finished,
        }

    def lost(self, fact: Fact) -> Iterator[Breach]:
        group = self.world.node(fact.node or "").groups.get(fact.fs)
        life = self.world.life(fact.text("life"))
        if group and group.running and life in group.members:
            self._owe(fact, fact.fs, f"life {life} is lost", at_once=True)
        return iter(())

    def members(self, fact: Fact) -> Iterator[Breach]:
        if fact.daemon != OCFS2:
            return iter(())
        gone = set(fact.numbers("left"))
        for fs, group in self.world.node(fact.node or "").groups.items():
            if not group.running:
                continue
            if not fact.flag("quorate"):
                self._owe(fact, fs, f"ring {fact.text('ring')} has no quorum", at_once=True)
            elif hit := sorted(str(life) for life in group.members if life.node in gone):
                self._owe(fact, fs, f"the engine lost {', '.join(hit)}", at_once=False)
        return iter(())

    def engine_down(self, fact: Fact) -> Iterator[Breach]:
        if fact.daemon == OCFS2:
            for fs, group in self.world.node(fact.node or "").groups.items():
                if group.running:
                    self._owe(fact, fs, "the engine is gone", at_once=True)
        return iter(())

    def _owe(self, fact: Fact, fs: str, why: str, *, at_once: bool) -> None:
        at = (fact.node or "", fs)
        owed = self._standing(at)
        if owed is None or (at_once and not owed.at_once):
            self._owed[at] = Owed(fact.order, why, at_once)

    def _standing(self, at: At) -> Owed | None:
        """What is owed, unless the group has stopped, or the incarnation that owed it is over."""
        owed = self._owed.get(at)
        group = self.world.node(at[0]).groups.get(at[1])
        return owed if owed and group and group.running and group.started < owed.order else None

    def finished(self, fact: Fact) -> Iterator[Breach]:
        owed = self._standing((fact.node or "", fact.fs))
        if owed and owed.at_once:
            yield self.breach(
                f"{fact.node} finishes {fact.fs} without a STOP although {owed.why}", owed.order, fact.order
            )

    def started(self, fact: Fact) -> Iterator[Breach | Doubt]:
        at = (fact.node or "", fact.fs)
        node = self.world.node(at[0])
        start = f"{node.name} starts {fact.fs} ({fact.text('start')})"
        if owed := self._standing(at):
            yield self.breach(f"{start} without a STOP although {owed.why}", owed.order, fact.order)
        self._owed.pop(at, None)
        yield from self._quorum(node, fact, start)
        for life in sorted(self.world.lives(fact, "lost")):
            if life not in self.world.fenced and life not in self.world.acknowledged and not self.world.over(life):
                yield self.breach(f"{start} while lost life {life} is not fenced", fact.order)
        yield from self._all_stopped(node, fact, start)

    def _quorum(self, node: Node, fact: Fact, start: str) -> Iterator[Breach]:
        daemon = node.daemons.get(OCFS2)
        told = daemon.told if daemon else None
        # A START may be made in a later ring than it was named in: what counts is the ring at the time.
        ring = fact.text("ring") or fact.text("start").rpartition("#")[0]
        if told is None:
            yield self.breach(f"{start} without having been told of any quorum since the engine came up", fact.order)
        elif not told.quorate:
            yield self.breach(f"{start} in ring {told.ring}, told to have no quorum", told.order, fact.order)
        elif ring and ring != told.ring:
            yield self.breach(f"{start}, but quorum was told of ring {told.ring}", told.order, fact.order)

    def _all_stopped(self, node: Node, fact: Fact, start: str) -> Iterator[Doubt]:
        for life in sorted(self.world.lives(fact, "members")):
            peer = self.world.alive(life)
            daemon = peer.daemon_up(OCFS2) if peer else None
            if peer is None or peer is node or daemon is None:
                continue
            group = peer.groups.get(fact.fs)
            if group and group.running and group.start != fact.text("start"):
                # C joins and withdraws; A has stopped for that and started without C. C, which reads all this later,
                # makes the START with itself: nobody waits for it, and it takes it down again.
                behind = start_key(fact.text("start")) < start_key(group.start) and node.life not in group.members
                if behind:
                    continue
                told = f"{start} while member {peer.name} still runs {group.start}, not stopped"
                yield self.doubt(peer.name, OCFS2, told, group.started, fact.order)

    def at_rest(self) -> Iterator[Breach]:
        for at in list(self._owed):
            owed, node = self._standing(at), self.world.node(at[0])
            if owed and not node.paused and node.daemon_up(OCFS2):
                yield self.breach(f"at rest {at[0]} has never stopped {at[1]} although {owed.why}", owed.order)


class Overtaken(Rule):
    """Law 7, from the log of each node's present ocfs2_controld.

    A FINISH belongs to the START that this daemon made last, with no STOP and no loss of a member since, and to one
    that all living members have made: one whose daemon is down or was started since, or who has left since, is not
    asked, and what hangs on a line that it owes is a Doubt first. Names of a START that read RING#COUNT ascend while
    the daemon stays in the group; one that a STOP has overtaken before its answer counted is made again under its name.
    Judged elsewhere: that each message of an older change is dropped (tests of
    ocfs2_controld's mind; MESSAGE_DROPPED counts them).
    """

    law = 7
    title = "a START can be overtaken; answers to an older change are ignored"

    def hears(self) -> Mapping[Key, Hearing]:
        self._lost: dict[At, int] = {}
        self._left: dict[At, int] = {}
        self._made: set[tuple[str, str, str]] = set()
        return {
            (_D, Event.LIFE_LOST): self.lost,
            (_D, Event.LEFT): self.left,
            (_D, Event.GROUP_STARTED): self.started,
            (_D, Event.GROUP_FINISHED): self.finished,
        }

    def lost(self, fact: Fact) -> Iterator[Breach]:
        group = self.world.node(fact.node or "").groups.get(fact.fs)
        if group and self.world.life(fact.text("life")) in group.members:
            self._lost[fact.node or "", fact.fs] = fact.order
        return iter(())

    def left(self, fact: Fact) -> Iterator[Breach]:
        if self.world.life(fact.text("life")) == self.world.node(fact.node or "").life:
            self._left[fact.node or "", fact.fs] = fact.order
        return iter(())

    def started(self, fact: Fact) -> Iterator[Breach]:
        group = self.world.node(fact.node or "").groups.get(fact.fs)
        name = fact.text("start")
        self._made.add((fact.node or "", fact.fs, name))
        if group and group.started >= 0:
            before, now = start_key(group.start), start_key(name)
            # A makes START 3 and says so; C is lost, and that word with the change. C is back: START 3 is still due.
            if now and before and (now < before or (now == before and group.running)):
                yield self.breach(
                    f"{fact.node} makes START {name} of {fact.fs} after START {group.start}", group.started, fact.order
                )

    def finished(self, fact: Fact) -> Iterator[Breach | Doubt]:
        node, name = self.world.node(fact.node or ""), fact.text("start")
        group = node.groups.get(fact.fs)
        finish = f"{node.name} finishes START {name} of {fact.fs}"
        if group is None or group.started < 0:
            yield self.breach(f"{finish}, which it has not made", fact.order)
            return
        if group.start != name:
            yield self.breach(f"{finish}, but the last it made is {group.start}", group.started, fact.order)
        if not group.running:
            yield self.breach(f"{finish}, which a STOP has overtaken", group.started, group.stopped, fact.order)
        lost = self._lost.get((node.name, fact.fs), -1)
        if lost > group.started:
            yield self.breach(f"{finish} although a further member was lost since", group.started, lost, fact.order)
        # Who has left in the midst of it is not in the FINISH any more, and owes it nothing.
        for life in sorted(set(group.members) & set(self.world.lives(fact, "members"))):
            peer = self.world.alive(life)
            daemon = peer.daemon_up(OCFS2) if peer else None
            if peer is None or peer is node or daemon is None or daemon.order > group.started:
                continue
            gone = self._left.get((peer.name, fact.fs), -1) > group.started
            if not gone and (peer.name, fact.fs, name) not in self._made:
                told = f"{finish} before member {peer.name} has made it"
                yield self.doubt(peer.name, OCFS2, told, group.started, fact.order)


class DeadDaemon(Rule):
    """Law 8: from the kernel's links, the mount tables, lives, and what is known of daemons' processes.

    A link to a node whose daemon alone died stays, until that life is over or fenced. After AWAY its groups are not
    started with that life before its daemon is up again. Judged elsewhere: that the fence comes after the grace time
    (tests of the mind); that an expulsion is no fence is law 11.
    """

    law = 8
    title = "a dead daemon is not a dead node"

    def hears(self) -> Mapping[Key, Hearing]:
        self._away: Away = {}
        return {
            (Source.KERNEL, Kernel.UNLINK): self.unlink,
            (_D, Event.AWAY): self.away,
            (_D, Event.STARTING): self.back,
            (_D, Process.STARTED): self.back,
            (_D, Event.GROUP_STARTED): self.started,
        }

    def unlink(self, fact: Fact) -> Iterator[Breach]:
        node = self.world.node(fact.node or "")
        peer = needed_link(self, fact)
        if peer is not None and daemon_down(peer):
            yield self.breach(
                f"{node.name} unlinks {peer.name} in {fact.fs}: only its daemon is dead; "
                f"life {peer.life} is not fenced",
                peer.daemons[OCFS2].order,
                fact.order,
            )

    def away(self, fact: Fact) -> Iterator[Breach]:
        if fact.daemon == OCFS2:
            self._away[fact.node or "", self.world.life(fact.text("life"))] = fact.order
        return iter(())

    def back(self, fact: Fact) -> Iterator[Breach]:
        if fact.daemon == OCFS2:
            node = self.world.node(fact.node or "")
            self._away = {key: o for key, o in self._away.items() if key[0] != node.name and key[1] != node.life}
        return iter(())

    def started(self, fact: Fact) -> Iterator[Breach]:
        for life in sorted(self.world.lives(fact, "members")):
            order = self._away.get((fact.node or "", life))
            peer = self.world.alive(life)
            if order is not None and peer is not None and daemon_down(peer):
                yield self.breach(
                    f"{fact.node} starts {fact.fs} with life {life}, whose daemon is away and not back",
                    order,
                    fact.order,
                )


class NoWayBack(Rule):
    """Law 9: from GROUP_STARTED and PUT_OUT lines, with lives from the engine.

    A recovery counts while a life that made it goes on; when all who made it are dead, nobody knows of it. Nor does it
    count of a life that goes on with nothing mounted: a join was taken back. A missing line hides a recovery, and never
    makes one up. Whoever was PUT_OUT with a region in its kernel does nothing more
    with groups or links in that life, a leave included: it would flush stale data.
    """

    law = 9
    title = "no way back in without a reset"

    def hears(self) -> Mapping[Key, Hearing]:
        self._recovered: Recovered = {}
        self._out: dict[str, tuple[Life, int]] = {}
        after = (Event.GROUP_FINISHED, Event.LEFT, Event.MOUNT_ANSWERED)
        return {
            (_D, Event.GROUP_STARTED): self.started,
            (_D, Event.PUT_OUT): self.put_out,
            (Source.KERNEL, Kernel.LINK): self.goes_on,
            (Source.KERNEL, Kernel.UNLINK): self.goes_on,
            **{(_D, event): self.goes_on for event in after},
        }

    def started(self, fact: Fact) -> Iterator[Breach]:
        for life in sorted(self.world.lives(fact, "members")):
            for by, order in self._recovered.get(life, {}).items():
                if self.world.alive(by):
                    yield self.breach(
                        f"{fact.node} starts {fact.fs} with life {life}, which {by} has recovered", order, fact.order
                    )
                    break
        own = self.world.node(fact.node or "").life
        if own is not None:
            for life in self.world.lives(fact, "lost"):
                peer = self.world.alive(life)
                if peer is not None and fact.fs not in peer.mounts:
                    continue
                self._recovered.setdefault(life, {}).setdefault(own, fact.order)
        yield from self.goes_on(fact)

    def put_out(self, fact: Fact) -> Iterator[Breach]:
        node = self.world.node(fact.node or "")
        # Without a region there is nothing stale to flush: its daemon ends, and the next one begins anew.
        if node.life is not None and node.regions:
            self._out[node.name] = (node.life, fact.order)
        return iter(())

    def goes_on(self, fact: Fact) -> Iterator[Breach]:
        out = self._out.get(fact.node or "")
        if out is None or out[0] != self.world.node(fact.node or "").life:
            return
        if fact.kind == Event.MOUNT_ANSWERED and fact.number("code"):
            return
        yield self.breach(
            f"{fact.node} was put out and goes on in the same life: {fact.kind} {fact.fs}", out[1], fact.order
        )


def start_key(name: str) -> tuple[int, ...]:
    """What orders names of STARTs, "REPRESENTATIVE.SEQUENCE#COUNT": sequence, count; empty for another form."""
    ring, _, count = name.rpartition("#")
    _, _, sequence = ring.rpartition(".")
    return (int(sequence), int(count)) if sequence.isdigit() and count.isdigit() else ()


RULES: tuple[type[Rule], ...] = (StopAndStart, Overtaken, DeadDaemon, NoWayBack)
