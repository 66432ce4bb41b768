"""Laws 1 to 5: between the tree of nodes and the links that pin them."""

from collections.abc import Iterator, Mapping

from libo2cb.events import Event
from tests.laws.history import O2CB, OCFS2, Fact, Kernel, Source
from tests.laws.state import UNSET_ADDRESS, Directory, Node
from tests.laws.verdict import Breach, Hearing, Key, Rule

_EBUSY = 16
_LARGEST = 254


class Pin(Rule):
    """Law 1, from the kernel's journal alone, so that no missing line matters; a refused attempt counts as well.

    With the classic driver, of which the daemon's first line tells, there are no links: a node goes only when it has
    left the configuration (unless the daemon ends, and takes all away), and is not seen to beat on disk. A removal that
    was begun may be overtaken by the node's return into the configuration: the rmdir of a node that was outside of it
    while it stood is let pass, until the daemon, which wants the node again, says that it was made or its change
    cancelled.
    """

    law = 1
    title = "no change of a node while a link to it stands"

    def hears(self) -> Mapping[Key, Hearing]:
        return {(Source.KERNEL, Kernel.REMOVE_NODE): self.change, (Source.KERNEL, Kernel.SET_NODE): self.change}

    def change(self, fact: Fact) -> Iterator[Breach]:
        node, name = self.world.node(fact.node or ""), fact.text("name")
        for fs in sorted(node.pins.get(name, ())):
            what = "rmdir" if fact.kind == Kernel.REMOVE_NODE else f"a write of {fact.text('attribute')}"
            errno = fact.number("errno")
            answer = f"refused with errno {errno}" if errno else "carried out"
            link = node.regions[fs][name]
            yield self.breach(
                f"{what} of node {name} on {node.name}, {answer}, while {fs} links it", link.order, fact.order
            )
        if fact.kind == Kernel.REMOVE_NODE:
            yield from self._classic(node, name, fact.order)

    def _classic(self, node: Node, name: str, order: int) -> Iterator[Breach]:
        daemon, it = node.daemon_up(O2CB), node.tree.get(name)
        if daemon is None or not daemon.classic or it is None or not it.number:
            return
        for fs in sorted(fs for fs, live in node.beats.items() if it.number in live):
            yield self.breach(f"rmdir of node {name} on {node.name} while its heartbeat is seen in {fs}", order)
        if not daemon.ending and node.is_configured(name) and name not in node.departed:
            yield self.breach(f"rmdir of node {name} on {node.name} while it is configured as {it.address}", order)


class AddBeforeLink(Rule):
    """Law 2, from the kernel's journal alone.

    An attempt that the kernel refuses is a breach too: a link is made under a lock that is granted for a complete node,
    so no race can lead to one. The kernel's order: num after address and port, local after num; the local node is not
    complete before it is marked local.
    """

    law = 2
    title = "no link before its node is complete"

    def hears(self) -> Mapping[Key, Hearing]:
        return {(Source.KERNEL, Kernel.LINK): self.link, (Source.KERNEL, Kernel.SET_NODE): self.write}

    def link(self, fact: Fact) -> Iterator[Breach]:
        node, name = self.world.node(fact.node or ""), fact.text("name")
        it = node.tree.get(name)
        where = f"{fact.fs} on {node.name} links {name}"
        if it is None:
            yield self.breach(f"{where}, which does not stand", fact.order)
        elif not it.complete:
            yield self.breach(f"{where}, which is incomplete: {_shown(it)}", fact.order)
        elif it.number == node.number and not it.local:
            yield self.breach(f"{where}, itself, which is not marked local yet", fact.order)

    def write(self, fact: Fact) -> Iterator[Breach]:
        node, name, attribute = self.world.node(fact.node or ""), fact.text("name"), fact.text("attribute")
        it = node.tree.get(name, Directory())
        if attribute == "num" and (it.port == 0 or it.address == UNSET_ADDRESS):
            yield self.breach(f"{node.name} writes num of {name} before address and port: {_shown(it)}", fact.order)
        if attribute == "local" and it.number == 0:
            yield self.breach(f"{node.name} writes local of {name} before num: {_shown(it)}", fact.order)


class NothingForgotten(Rule):
    """Law 3: the difference between wanted and standing, at rest; EBUSY by its name, at any time.

    Wanted is the membership that the engine told the node last, or what o2cb_controld logged of it where the engine's
    history does not say. At rest a difference stands only behind a pin: a link, something held, or a last EBUSY where
    holds are not recorded.
    """

    law = 3
    title = "what differs between wanted and standing is dealt with; EBUSY is an answer"

    def hears(self) -> Mapping[Key, Hearing]:
        return {(Source.DAEMON, event): self.said for event in (Event.SURPRISE, Event.EXITING, Event.NODE_REFUSED)}

    def said(self, fact: Fact) -> Iterator[Breach]:
        cause = fact.text("cause").lower()
        busy = fact.number("errno") == _EBUSY or "ebusy" in cause or "resource busy" in cause
        if busy and (fact.kind != Event.NODE_REFUSED or "internal" in cause):
            yield self.breach(
                f"{fact.daemon} on {fact.node} takes EBUSY for a failure: {fact.text('cause')}", fact.order
            )

    def at_rest(self) -> Iterator[Breach]:
        for node in self.world.nodes.values():
            daemon = node.daemon_up(O2CB)
            told = node.told or (daemon.told if daemon else None)
            if daemon is None or told is None or not told.quorate or node.dead or node.paused:
                continue
            known = node.configured if daemon.classic else told.members
            wanted = {n for n in known if 1 <= n <= _LARGEST} - daemon.unfit
            for number in sorted(wanted):
                yield from self._missing(node, number, told.order)
            for name, it in sorted(node.tree.items()):
                if it.number not in wanted and not self._pinned(node, name):
                    yield self.breach(
                        f"at rest {node.name} still has node {name} ({_shown(it)}), no member and not pinned",
                        told.order,
                    )

    def _missing(self, node: Node, number: int, since: int) -> Iterator[Breach]:
        peer = self.world.by_number.get(number)
        address = node.configured.get(number) or (peer.address if peer else "")
        name = node.named(number)
        it = node.tree[name] if name is not None else None
        if it is not None and it.complete and address in ("", it.address) and (number != node.number or it.local):
            return
        for other, standing in node.tree.items():
            rival = standing.number == number or standing.address == address or (peer and other == peer.name)
            if rival and self._pinned(node, other):
                return
        stands = f"node {name} ({_shown(it)})" if it is not None else "nothing"
        yield self.breach(
            f"at rest {node.name} has {stands} where member {number} at {address or 'any address'} is wanted", since
        )

    def _pinned(self, node: Node, name: str) -> bool:
        it = node.tree.get(name)
        if it is not None and any(it.number in live for live in node.beats.values()):
            return True
        if node.pins.get(name) or name in node.held:
            return True
        return name in node.busy and not self.world.holds_recorded


class ReturningIsNew(Rule):
    """Law 4: from the kernel's links, the addresses of lives, and the life that LINKED names.

    A link bears no life in the kernel. While the line LINKED is missing, a link may stand for any life that its node
    has had; the line, where it is, says for which. At rest no link stands on another address than the live node has.
    """

    law = 4
    title = "no link on an address that its life does not have"

    def hears(self) -> Mapping[Key, Hearing]:
        return {(Source.KERNEL, Kernel.LINK): self.link, (Source.DAEMON, Event.LINKED): self.linked}

    def link(self, fact: Fact) -> Iterator[Breach]:
        node, name = self.world.node(fact.node or ""), fact.text("name")
        it = node.tree.get(name)
        peer = self.world.by_number.get(it.number) if it else None
        if it is None or peer is None or not fact.done:
            return
        had = {self.world.addresses[life] for life in peer.lives if life in self.world.addresses}
        if had and it.address not in had:
            yield self.breach(
                f"{fact.fs} on {node.name} links {name} at {it.address}, which no life of node {it.number} has had",
                fact.order,
            )

    def linked(self, fact: Fact) -> Iterator[Breach]:
        node, name = self.world.node(fact.node or ""), fact.text("name")
        if not fact.text("life"):
            return
        life = self.world.life(fact.text("life"))
        true = self.world.addresses.get(life)
        links = node.regions.get(fact.fs, {})
        stands = node.tree[name].address if name in links and name in node.tree else ""
        for address in sorted({stands, fact.text("address")} - {"", true}):
            if true is not None:
                order = links[name].order if name in links else -1
                yield self.breach(
                    f"{fact.fs} on {node.name} links {name} at {address} for life {life}, whose address is {true}",
                    order,
                    fact.order,
                )

    def at_rest(self) -> Iterator[Breach]:
        for node in self.world.nodes.values():
            told = node.told or next((d.told for d in node.daemons.values() if d.told), None)
            if node.dead or node.paused or node.daemon_up(OCFS2) is None or told is None or not told.quorate:
                continue
            for fs, links in sorted(node.regions.items()):
                for name, link in sorted(links.items()):
                    yield from self._old(node, fs, name, link.order)

    def _old(self, node: Node, fs: str, name: str, order: int) -> Iterator[Breach]:
        it = node.tree.get(name)
        peer = self.world.by_number.get(it.number) if it else None
        if it is None or peer is None or peer.life is None:
            return
        true = self.world.addresses.get(peer.life)
        if true is not None and it.address != true:
            yield self.breach(
                f"at rest {fs} on {node.name} still links {name} at {it.address}; it lives at {true}",
                order,
                peer.booted,
            )


class KernelIsRecord(Rule):
    """Law 5: nothing that live members or mounts need is torn down, by either daemon, in any incarnation.

    From trees, mount tables and lives alone. A link is needed while both ends have the filesystem in their mount table
    and the linked life goes on and is not said to be fenced (a false word about that is law 11's). A node is needed
    while it is a member of the node's last told membership, at the address that its life has, and something is mounted
    or a region stands. An rmdir that was under way when the membership came is let pass: it began with NODE_UNWANTED,
    and has met no queue since, nor was the node made while it was wanted. Or it had met one, and the last link, or the
    lock for it, went while the node was away: it begins with that, and no line says so. Nor does the local node go
    while a region stands. Judged by law 8: the same, when it is the other end's daemon that is down. Judged elsewhere:
    that no state file is written (process tests).
    """

    law = 5
    title = "nothing live is torn down; the kernel is the record"

    def hears(self) -> Mapping[Key, Hearing]:
        self._under_way: set[tuple[str, int]] = set()
        self._queued: set[tuple[str, int]] = set()
        return {
            (Source.KERNEL, Kernel.UNLINK): self.unlink,
            (Source.KERNEL, Kernel.REMOVE_NODE): self.remove,
            (Source.DAEMON, Event.NODE_UNWANTED): self.unwanted,
            (Source.DAEMON, Event.CHANGE_QUEUED): self.queued,
            (Source.DAEMON, Event.CHANGE_CANCELLED): self.settled,
            (Source.DAEMON, Event.LOCK_CLOSED): self.closed,
            (Source.DAEMON, Event.MEMBERS): self.members,
            (Source.DAEMON, Event.NODE_MADE): self.made,
            (Source.DAEMON, Event.STARTING): self.starting,
        }

    def unwanted(self, fact: Fact) -> Iterator[Breach]:
        self._under_way.add((fact.node or "", fact.number("number")))
        return iter(())

    def settled(self, fact: Fact) -> Iterator[Breach]:
        self._under_way.discard((fact.node or "", fact.number("number")))
        self._queued.discard((fact.node or "", fact.number("number")))
        return iter(())

    def queued(self, fact: Fact) -> Iterator[Breach]:
        key = (fact.node or "", fact.number("number"))
        if key in self._under_way:
            self._under_way.discard(key)
            self._queued.add(key)
        return iter(())

    def closed(self, fact: Fact) -> Iterator[Breach]:
        self._begins(fact.node or "", fact.number("number"))
        return iter(())

    def members(self, fact: Fact) -> Iterator[Breach]:
        """Who is back behind a pin is not removed any more."""
        if fact.daemon == O2CB:
            back = set(fact.numbers("members"))
            self._queued = {key for key in self._queued if key[0] != fact.node or key[1] not in back}
        return iter(())

    def _begins(self, node: str, number: int) -> None:
        if (node, number) in self._queued:
            self._under_way.add((node, number))

    def made(self, fact: Fact) -> Iterator[Breach]:
        daemon = self.world.node(fact.node or "").daemons.get(O2CB)
        wanted = daemon is not None and fact.number("number") in daemon.wanted
        # Unwanted while its mkdir ran: what comes next is its rmdir.
        return self.settled(fact) if wanted else iter(())

    def starting(self, fact: Fact) -> Iterator[Breach]:
        if fact.daemon == O2CB:
            self._under_way = {key for key in self._under_way if key[0] != fact.node}
            self._queued = {key for key in self._queued if key[0] != fact.node}
        return iter(())

    def unlink(self, fact: Fact) -> Iterator[Breach]:
        node, name = self.world.node(fact.node or ""), fact.text("name")
        if name in node.tree and not any(name in links for fs, links in node.regions.items() if fs != fact.fs):
            self._begins(node.name, node.tree[name].number)
        peer = needed_link(self, fact)
        if peer is not None and not daemon_down(peer):
            yield self.breach(
                f"{node.name} unlinks {peer.name} in {fact.fs}, which both have mounted; "
                f"life {peer.life} is not fenced",
                node.regions[fact.fs][fact.text("name")].order,
                fact.order,
            )

    def remove(self, fact: Fact) -> Iterator[Breach]:
        node, name = self.world.node(fact.node or ""), fact.text("name")
        it = node.tree.get(name)
        if it is None or not it.complete or not fact.done:
            return
        if it.number == node.number and node.regions:
            yield self.breach(
                f"{node.name} removes itself while regions stand: {', '.join(sorted(node.regions))}", fact.order
            )
        if (node.name, it.number) in self._under_way:
            self._under_way.discard((node.name, it.number))
            self._queued.discard((node.name, it.number))
            return
        daemon = node.daemons.get(O2CB)
        told = daemon.told if daemon else None
        peer = self.world.by_number.get(it.number)
        if told is None or not node.in_use or peer is None or it.number not in told.members:
            return
        if node.told is not None and it.number not in node.told.members:
            return  # the engine has told more than the lines of a killed daemon show
        if peer.life is not None and it.address == peer.address == self.world.addresses.get(peer.life):
            yield self.breach(
                f"{node.name} removes node {name} ({_shown(it)}), a live member, while it has filesystems in use",
                told.order,
                fact.order,
            )


def daemon_down(node: Node) -> bool:
    """Whether the node's ocfs2_controld is known to have run and to be dead."""
    daemon = node.daemons.get(OCFS2)
    return daemon is not None and not daemon.up


def needed_link(rule: Rule, fact: Fact) -> Node | None:
    """The peer whose link an unlink takes away although it is needed; None when it is not.

    Needed: both ends have the filesystem mounted, and the peer's life, for which the link was made, goes on and is not
    fenced.
    """
    world, name = rule.world, fact.text("name")
    node = world.node(fact.node or "")
    link = node.regions.get(fact.fs, {}).get(name)
    peer = world.by_number.get(link.number) if link else None
    if link is None or peer is None or peer.life is None or not fact.done:
        return None
    life = peer.life
    if link.life not in (None, life) or life in world.fenced or life in world.acknowledged:
        return None
    return peer if fact.fs in node.mounts and fact.fs in peer.mounts else None


def _shown(it: Directory) -> str:
    return f"number {it.number}, {it.address}:{it.port}"


RULES: tuple[type[Rule], ...] = (Pin, AddBeforeLink, NothingForgotten, ReturningIsNew, KernelIsRecord)
