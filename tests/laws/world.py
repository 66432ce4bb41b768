"""The state of the cluster at one place in a history, replayed from its facts.

What is taken from whom:
    trees, links, mounts and lives  from the kernel's journal, the mount table and the engine: these are complete
    groups, quorum as told          from the daemons' logs; a killed daemon may owe its last line, so all that is known
                                    from the log of an incarnation is void as soon as that incarnation is over
    a node whose life is over       says nothing more: facts of it that arrive late change nothing and are not judged
"""

from collections.abc import Callable

from libo2cb.events import Event
from protocol.identity import UNKNOWN_BOOT, Life
from tests.laws.history import OCFS2, Client, Engine, Fact, Kernel, Process, Source
from tests.laws.state import Daemon, Directory, Group, Link, Node, Told

_SHORT = 8
"""Characters of a boot id that str(Life) shows."""


Step = Callable[[Node, Fact], None]


class World:
    """All nodes, and what is known of lives."""

    def __init__(self, owner: int = 0) -> None:
        self.owner = owner
        self.nodes: dict[str, Node] = {}
        self.by_number: dict[int, Node] = {}
        self.addresses: dict[Life, str] = {}
        self.died: dict[Life, int] = {}
        self.fenced: dict[Life, int] = {}
        self.acknowledged: dict[Life, int] = {}
        self.signals_recorded = False
        self.holds_recorded = False
        self._known: dict[Life, Life] = {}
        self._steps: dict[tuple[Source, str], Step] = {
            (Source.KERNEL, Kernel.MAKE_NODE): self._make_node,
            (Source.KERNEL, Kernel.SET_NODE): self._set_node,
            (Source.KERNEL, Kernel.REMOVE_NODE): self._remove_node,
            (Source.KERNEL, Kernel.MAKE_REGION): self._make_region,
            (Source.KERNEL, Kernel.REMOVE_REGION): self._remove_region,
            (Source.KERNEL, Kernel.LINK): self._link,
            (Source.KERNEL, Kernel.UNLINK): self._unlink,
            (Source.KERNEL, Kernel.HELD): self._held,
            (Source.KERNEL, Kernel.RELEASED): self._held,
            (Source.KERNEL, Kernel.BEATS): self._beats,
            (Source.KERNEL, Kernel.SILENT): self._beats,
            (Source.ENGINE, Engine.CONFIGURED): self._configured,
            (Source.ENGINE, Engine.BOOTED): self._booted,
            (Source.ENGINE, Engine.DIED): self._died,
            (Source.ENGINE, Engine.READDRESSED): self._readdressed,
            (Source.ENGINE, Engine.MEMBERS): self._engine_members,
            (Source.ENGINE, Engine.PAUSED): self._paused,
            (Source.ENGINE, Engine.RESUMED): self._paused,
            (Source.CLIENT, Client.MOUNTED): self._mounted,
            (Source.CLIENT, Client.UNMOUNTED): self._unmounted,
            (Source.DAEMON, Process.STARTED): self._process_started,
            (Source.DAEMON, Process.KILLED): self._process_over,
            (Source.DAEMON, Process.ENDED): self._process_over,
            (Source.DAEMON, Process.SIGNALLED): self._signalled,
            (Source.DAEMON, Event.STARTING): self._starting,
            (Source.DAEMON, Event.READY): self._ready,
            (Source.DAEMON, Event.NOT_READY): self._not_ready,
            (Source.DAEMON, Event.ENGINE_UP): self._engine_up,
            (Source.DAEMON, Event.ENGINE_DOWN): self._engine_down,
            (Source.DAEMON, Event.MEMBERS): self._members,
            (Source.DAEMON, Event.NODE_WANTED): self._wanted,
            (Source.DAEMON, Event.NODE_UNWANTED): self._unwanted,
            (Source.DAEMON, Event.NODE_UNFIT): self._unfit,
            (Source.DAEMON, Event.CHANGE_QUEUED): self._queued,
            (Source.DAEMON, Event.NODE_REFUSED): self._queued,
            (Source.DAEMON, Event.CHANGE_CANCELLED): self._unqueued,
            (Source.DAEMON, Event.NODE_MADE): self._unqueued,
            (Source.DAEMON, Event.NODE_REMOVED): self._unqueued,
            (Source.DAEMON, Event.LINKED): self._linked,
            (Source.DAEMON, Event.GROUP_STARTED): self._group_started,
            (Source.DAEMON, Event.GROUP_STOPPED): self._group_stopped,
            (Source.DAEMON, Event.GROUP_FINISHED): self._group_finished,
            (Source.DAEMON, Event.LEFT): self._group_left,
            (Source.DAEMON, Event.JOIN_UNDONE): self._group_left,
            (Source.DAEMON, Event.LIFE_FENCED): self._life_fenced,
            (Source.DAEMON, Event.ACKNOWLEDGED): self._life_acknowledged,
        }

    def node(self, name: str) -> Node:
        """The node of this name."""
        found = self.nodes.get(name)
        if found is None:
            found = self.nodes[name] = Node(name)
        return found

    def life(self, text: str) -> Life:
        """The life that "NUMBER/BOOTID" names; the boot id may be cut as str(Life) cuts it.

        Raises:
            ValueError: the text names no life.
        """
        number, slash, boot = text.partition("/")
        if not slash or not number.isdigit():
            raise ValueError(f"{text!r} names no node life: NUMBER/BOOTID is expected")
        said = Life(int(number), UNKNOWN_BOOT if boot == "unknown" else boot)
        return self._known.get(said, said)

    def lives(self, fact: Fact, name: str) -> frozenset[Life]:
        """A field that lists lives."""
        return frozenset(self.life(text) for text in fact.texts(name))

    def alive(self, life: Life) -> Node | None:
        """The node that lives this life now."""
        node = self.by_number.get(life.node)
        return node if node is not None and node.life == life else None

    def over(self, life: Life) -> bool:
        """Whether the engine's history shows that this life is over; true of an unknown life when its node is off."""
        if life in self.died:
            return True
        return life.unknown and ((node := self.by_number.get(life.node)) is None or node.life is None)

    def silenced(self, fact: Fact) -> bool:
        """Whether the fact is a late one, of a node whose life is over."""
        if fact.node is None or fact.source is Source.ENGINE:
            return False
        node = self.nodes.get(fact.node)
        if node is None or not node.lives:
            return False
        boot = fact.text("boot")
        if not boot:
            return node.life is None
        return self._known.get(Life(node.number, boot)) in self.died

    def apply(self, fact: Fact) -> None:
        """Go on by one fact."""
        if fact.node is None or self.silenced(fact):
            return
        node = self.node(fact.node)
        if fact.source is Source.DAEMON:
            self._incarnation(node, fact)
        step = self._steps.get((fact.source, fact.kind))
        if step is not None:
            step(node, fact)

    # the kernel

    def _make_node(self, node: Node, fact: Fact) -> None:
        if fact.done:
            node.tree[fact.text("name")] = Directory()
            node.departed.discard(fact.text("name"))

    def _set_node(self, node: Node, fact: Fact) -> None:
        it = node.tree.get(fact.text("name"))
        if it is None or not fact.done:
            return
        value = fact.text("value").strip()
        match fact.text("attribute"):
            case "num":
                it.number = int(value)
            case "ipv4_address":
                it.address = value
            case "ipv4_port":
                it.port = int(value)
            case "local":
                it.local = value not in ("", "0")
        # A reload may overtake the mkdir that it makes needless: what stands then is to go, as if it had left just now.
        if it.complete and node.configured and not node.is_configured(fact.text("name")):
            node.departed.add(fact.text("name"))

    def _remove_node(self, node: Node, fact: Fact) -> None:
        name = fact.text("name")
        if fact.done:
            node.tree.pop(name, None)
            node.busy.pop(name, None)
        else:
            node.busy[name] = fact.order

    def _make_region(self, node: Node, fact: Fact) -> None:
        if fact.done:
            node.regions.setdefault(fact.fs, {})

    def _remove_region(self, node: Node, fact: Fact) -> None:
        if fact.done:
            node.regions.pop(fact.fs, None)

    def _link(self, node: Node, fact: Fact) -> None:
        if fact.done:
            name = fact.text("name")
            number = node.tree.get(name, Directory()).number
            peer = self.by_number.get(number)
            node.regions.setdefault(fact.fs, {})[name] = Link(fact.order, number, peer.life if peer else None)
            node.pins.setdefault(name, set()).add(fact.fs)

    def _unlink(self, node: Node, fact: Fact) -> None:
        if fact.done:
            name = fact.text("name")
            node.regions.get(fact.fs, {}).pop(name, None)
            node.pins.get(name, set()).discard(fact.fs)

    def _held(self, node: Node, fact: Fact) -> None:
        self.holds_recorded = True
        if fact.kind == Kernel.HELD:
            node.held.add(fact.text("name"))
        else:
            node.held.discard(fact.text("name"))

    def _beats(self, node: Node, fact: Fact) -> None:
        live = node.beats.setdefault(fact.fs, set())
        if fact.kind == Kernel.BEATS:
            live.add(fact.number("number"))
        else:
            live.discard(fact.number("number"))

    # the engine

    def _configured(self, node: Node, fact: Fact) -> None:
        pairs = (text.split("=", 1) for text in fact.texts("nodes"))
        node.configured = {int(number): address for number, address in pairs}
        # An rmdir may be under way while the node comes back into the configuration: nobody can stop that.
        node.departed |= {name for name in node.tree if not node.is_configured(name)}

    def _booted(self, node: Node, fact: Fact) -> None:
        self._number(node, fact.number("number", node.number))
        boot = fact.text("boot")
        if boot and (node.life is None or node.life.boot != boot):
            self._end(node, fact.order)
            self._begin(node, boot, fact.order)
        if address := fact.text("address"):
            node.address = address
        if node.life and node.address:
            self.addresses[node.life] = node.address

    def _number(self, node: Node, number: int) -> None:
        if number:
            node.number = number
            self.by_number[number] = node

    def _begin(self, node: Node, boot: str, order: int) -> None:
        life = node.life = Life(node.number, boot)
        node.lives.append(life)
        node.booted = order
        self._known[life] = life
        self._known[Life(life.node, boot[:_SHORT])] = life

    def _end(self, node: Node, order: int) -> None:
        if node.life is not None:
            self.died[node.life] = order
        node.life, node.told, node.paused = None, None, False
        for part in (
            node.tree,
            node.regions,
            node.pins,
            node.held,
            node.busy,
            node.mounts,
            node.beats,
            node.departed,
            node.daemons,
            node.groups,
        ):
            part.clear()

    def _died(self, node: Node, fact: Fact) -> None:
        boot = fact.text("boot")
        if boot and node.life is not None and node.life.boot != boot:
            self.died.setdefault(self.life(f"{node.number}/{boot}"), fact.order)
        else:
            self._end(node, fact.order)

    def _readdressed(self, node: Node, fact: Fact) -> None:
        self._number(node, fact.number("number", node.number))
        node.address = fact.text("address")

    def _engine_members(self, node: Node, fact: Fact) -> None:
        node.told = _told(fact)

    def _paused(self, node: Node, fact: Fact) -> None:
        node.paused = fact.kind == Engine.PAUSED

    # the mount table

    def _mounted(self, node: Node, fact: Fact) -> None:
        node.mounts.setdefault(fact.fs, {})[fact.text("mount_point")] = fact.order

    def _unmounted(self, node: Node, fact: Fact) -> None:
        points = node.mounts.get(fact.fs, {})
        points.pop(fact.text("mount_point"), None)
        if not points:
            node.mounts.pop(fact.fs, None)

    # the daemons

    def _incarnation(self, node: Node, fact: Fact) -> None:
        boot = fact.text("boot")
        if boot and node.number and (node.life is None or node.life.boot != boot):
            self._end(node, fact.order)
            self._begin(node, boot, fact.order)
        now = node.daemons.get(fact.daemon)
        said = fact.text("incarnation")
        if now is None or (said and now.incarnation and said != now.incarnation):
            self._new(node, fact)
        elif said:
            now.incarnation = said
            now.up = True  # a connection that ended was taken for the end of the process

    def _new(self, node: Node, fact: Fact) -> Daemon:
        it = node.daemons[fact.daemon] = Daemon(fact.order, fact.text("incarnation"))
        if fact.daemon == OCFS2:
            node.groups.clear()
        return it

    def _process_started(self, node: Node, fact: Fact) -> None:
        if node.daemons[fact.daemon].order != fact.order:
            self._new(node, fact)

    def _starting(self, node: Node, fact: Fact) -> None:
        now = node.daemons[fact.daemon]
        if now.ready or now.told is not None or not now.up:
            now = self._new(node, fact)
        now.classic = fact.text("driver") == "classic"

    def _process_over(self, node: Node, fact: Fact) -> None:
        node.daemons[fact.daemon].up = False
        if fact.daemon == OCFS2:
            node.groups.clear()

    def _signalled(self, _node: Node, _fact: Fact) -> None:
        self.signals_recorded = True

    def _ready(self, node: Node, fact: Fact) -> None:
        node.daemons[fact.daemon].ready = True
        node.departed -= {name for name in node.departed if node.is_configured(name)}

    def _not_ready(self, node: Node, fact: Fact) -> None:
        node.daemons[fact.daemon].ending = fact.text("cause") == "this daemon is ending"

    def _engine_up(self, node: Node, fact: Fact) -> None:
        node.daemons[fact.daemon].engine_down = False
        if not node.number:
            self._number(node, fact.number("local"))
        if node.life is None and (boot := fact.text("boot")):
            self._begin(node, boot, fact.order)

    def _engine_down(self, node: Node, fact: Fact) -> None:
        it = node.daemons[fact.daemon]
        it.engine_down, it.told = True, None

    def _members(self, node: Node, fact: Fact) -> None:
        node.daemons[fact.daemon].told = _told(fact)

    def _wanted(self, node: Node, fact: Fact) -> None:
        node.daemons[fact.daemon].wanted[fact.number("number")] = fact.text("address")

    def _unwanted(self, node: Node, fact: Fact) -> None:
        node.daemons[fact.daemon].wanted.pop(fact.number("number"), None)

    def _unfit(self, node: Node, fact: Fact) -> None:
        node.daemons[fact.daemon].unfit.add(fact.number("number"))

    def _queued(self, node: Node, fact: Fact) -> None:
        node.daemons[fact.daemon].queued.add(fact.number("number"))

    def _unqueued(self, node: Node, fact: Fact) -> None:
        daemon, number = node.daemons[fact.daemon], fact.number("number")
        daemon.queued.discard(number)
        name = node.named(number)
        # Made or kept, and wanted by then: no rmdir of it was handed out. Made unwanted: its rmdir comes next.
        if name is not None and node.is_configured(name) and daemon.wanted.get(number) == node.tree[name].address:
            node.departed.discard(name)

    def _linked(self, node: Node, fact: Fact) -> None:
        links = node.regions.get(fact.fs, {})
        name = fact.text("name")
        if name in links and fact.text("life"):
            links[name] = Link(links[name].order, links[name].number, self.life(fact.text("life")))

    def _group_started(self, node: Node, fact: Fact) -> None:
        it = node.groups.setdefault(fact.fs, Group())
        it.running, it.finished, it.started = True, False, fact.order
        it.start, it.members = fact.text("start"), self.lives(fact, "members")

    def _group_stopped(self, node: Node, fact: Fact) -> None:
        it = node.groups.setdefault(fact.fs, Group())
        it.running, it.finished, it.stopped = False, False, fact.order

    def _group_finished(self, node: Node, fact: Fact) -> None:
        if it := node.groups.get(fact.fs):
            it.finished = True

    def _group_left(self, node: Node, fact: Fact) -> None:
        if node.life is None or self.life(fact.text("life")) == node.life:
            node.groups.pop(fact.fs, None)

    def _life_fenced(self, _node: Node, fact: Fact) -> None:
        self.fenced.setdefault(self.life(fact.text("life")), fact.order)

    def _life_acknowledged(self, _node: Node, fact: Fact) -> None:
        self.acknowledged.setdefault(self.life(fact.text("life")), fact.order)


def _told(fact: Fact) -> Told:
    return Told(fact.order, fact.text("ring"), fact.flag("quorate"), frozenset(fact.numbers("members")))
