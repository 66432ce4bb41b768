"""Laws 10 and 11: who may write, and who is known not to write any more."""

from collections.abc import Iterator, Mapping

from libo2cb.events import Event
from protocol.identity import Life
from tests.laws.history import OCFS2, Client, Fact, Kernel, Source
from tests.laws.state import Node
from tests.laws.verdict import Breach, Hearing, Key, Rule

_D = Source.DAEMON
Lives = set[Life]


class MounterHearsLast(Rule):
    """Law 10: links from the kernels' journals, members from the mounter's own log and from the mount tables.

    When a MOUNT is answered 0, the mounter's own START has been made; it links every living member, itself too; every
    living member links it. A member that has left meanwhile (not mounted there, and it did link this life before) owes
    no link any more. When a filesystem is seen mounted, any two living nodes that have it mounted link each other.
    A life that an operator has acknowledged as off is left out: a false word is the operator's.

    UNMOUNT by order alone: asked while the group is stopped, it is not answered only after that group's FINISH.
    """

    law = 10
    title = "the mounter hears last; an unmounter waits for no one's recovery"

    def hears(self) -> Mapping[Key, Hearing]:
        self._linked: dict[tuple[str, str, int], int] = {}
        self._unmounting: dict[tuple[str, str], tuple[int, int]] = {}
        self._finished: dict[tuple[str, str], tuple[int, Lives]] = {}
        return {
            (Source.KERNEL, Kernel.LINK): self.link,
            (Source.CLIENT, Client.MOUNTED): self.mounted,
            (_D, Event.MOUNT_ANSWERED): self.answered,
            (_D, Event.UNMOUNT_ASKED): self.unmount,
            (_D, Event.GROUP_FINISHED): self.finished,
            (_D, Event.STARTING): self.starting,
            (_D, Event.UNMOUNT_ANSWERED): self.unmount_answered,
        }

    def link(self, fact: Fact) -> Iterator[Breach]:
        node = self.world.node(fact.node or "")
        it = node.tree.get(fact.text("name"))
        if it and fact.done:
            self._linked[node.name, fact.fs, it.number] = fact.order
        return iter(())

    def answered(self, fact: Fact) -> Iterator[Breach]:
        node, fs = self.world.node(fact.node or ""), fact.fs
        if fact.number("code"):
            return
        group = node.groups.get(fs)
        told = f"{node.name} answers MOUNT of {fs} with 0"
        if fs not in node.mounts and (group is None or not group.running):
            yield self.breach(f"{told} without a START of its own", group.stopped if group else -1, fact.order)
        inside = set(group.members) if group else set()
        order, finished = self._finished.get((node.name, fs), (-1, inside))
        if group and order > group.started:
            inside &= finished  # who has left in the midst of the START is not in its FINISH any more
        members = {peer.name: peer for life in inside if (peer := self.world.alive(life))}
        members |= {z.name: z for z in self.world.nodes.values() if fs in z.mounts and self._counts(z)}
        members[node.name] = node
        for _, peer in sorted(members.items()):
            if not _links(node, fs, peer):
                yield self.breach(f"{told} before it links member {peer.name}", fact.order)
            if not _links(peer, fs, node) and peer is not node and not self._gone(peer, fs, node):
                yield self.breach(f"{told} before member {peer.name} links it", fact.order)

    def _gone(self, peer: Node, fs: str, node: Node) -> bool:
        return fs not in peer.mounts and self._linked.get((peer.name, fs, node.number), -1) > node.booted

    def _counts(self, node: Node) -> bool:
        return node.life is not None and node.life not in self.world.acknowledged

    def mounted(self, fact: Fact) -> Iterator[Breach]:
        node, fs = self.world.node(fact.node or ""), fact.fs
        if fs in node.mounts or not self._counts(node):
            return
        for peer in self.world.nodes.values():
            if peer is node or fs not in peer.mounts or not self._counts(peer):
                continue
            for a, b in ((node, peer), (peer, node)):
                if not _links(a, fs, b):
                    order = min(peer.mounts[fs].values())
                    yield self.breach(
                        f"{node.name} and {peer.name} both have {fs} mounted, and {a.name} does not link {b.name}",
                        order,
                        fact.order,
                    )

    def unmount(self, fact: Fact) -> Iterator[Breach]:
        group = self.world.node(fact.node or "").groups.get(fact.fs)
        if group and not group.running:
            self._unmounting[fact.node or "", fact.fs] = (fact.order, -1)
        return iter(())

    def finished(self, fact: Fact) -> Iterator[Breach]:
        at = (fact.node or "", fact.fs)
        self._finished[at] = (fact.order, set(self.world.lives(fact, "members")))
        if at in self._unmounting:
            self._unmounting[at] = (self._unmounting[at][0], fact.order)
        return iter(())

    def starting(self, fact: Fact) -> Iterator[Breach]:
        if fact.daemon == OCFS2:
            self._unmounting = {at: it for at, it in self._unmounting.items() if at[0] != fact.node}
        return iter(())

    def unmount_answered(self, fact: Fact) -> Iterator[Breach]:
        asked, finished = self._unmounting.pop((fact.node or "", fact.fs), (-1, -1))
        if finished >= 0:
            yield self.breach(
                f"UNMOUNT of {fact.fs} on {fact.node} was answered only after its group's recovery",
                asked,
                finished,
                fact.order,
            )


class OnlyAFenceFences(Rule):
    """Law 11, and the safety of data.

    The first LIFE_FENCED of a life needs a proof before it: the life is over in the engine's history (power-off, or a
    newer life of that node), an operator acknowledged it, or the node itself has nothing mounted, linked or held as a
    region ("not live in my kernel"). So fencing of kind "assumed" passes only where the power really went. The life of
    a node that nobody had seen is also proved by what its present life has stated.

    Data safety, from the mount tables and lives: no START leaves out a life that goes on with the filesystem mounted.
    The line of a START may be missing; one that is there tells the truth. A life acknowledged as off by an operator is
    left out: a false word is the operator's.
    """

    law = 11
    title = "nothing but a verified fence or a reset counts as fenced"

    def hears(self) -> Mapping[Key, Hearing]:
        self._stated: Lives = set()
        return {
            (_D, Event.STATED): self.stated,
            (_D, Event.LIFE_FENCED): self.fenced,
            (_D, Event.GROUP_STARTED): self.started,
        }

    def stated(self, fact: Fact) -> Iterator[Breach]:
        if life := self.world.node(fact.node or "").life:
            self._stated.add(life)
        return iter(())

    def fenced(self, fact: Fact) -> Iterator[Breach]:
        life = self.world.life(fact.text("life"))
        if life in self.world.fenced or life in self.world.acknowledged or self.world.over(life):
            return
        peer = self.world.by_number.get(life.node)
        if peer is None or peer.life is None or not peer.in_use:
            return
        if life not in peer.lives and peer.life in self._stated:
            return
        uses = ", ".join(sorted({*peer.mounts, *peer.regions}))
        yield self.breach(
            f"{fact.node} takes life {life} for fenced ({fact.text('cause') or 'no cause'}); "
            f"it goes on and uses {uses}",
            peer.booted,
            fact.order,
        )

    def started(self, fact: Fact) -> Iterator[Breach]:
        members = self.world.lives(fact, "members")
        for peer in self.world.nodes.values():
            points = peer.mounts.get(fact.fs)
            if not points or peer.life is None or peer.name == fact.node:
                continue
            if peer.life not in members and peer.life not in self.world.acknowledged:
                yield self.breach(
                    f"{fact.node} starts {fact.fs} ({fact.text('start')}) without life {peer.life}, "
                    "which goes on and has it mounted",
                    min(points.values()),
                    fact.order,
                )


def _links(node: Node, fs: str, peer: Node) -> bool:
    return any(link.number == peer.number for link in node.regions.get(fs, {}).values())


RULES: tuple[type[Rule], ...] = (MounterHearsLast, OnlyAFenceFences)
