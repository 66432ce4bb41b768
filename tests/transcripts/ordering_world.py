"""A world of one node for stories about lock and queue: o2cb_controld's real mind on a pure kernel.

A story is a text file of blocks: lines that say what happens, a line "----", and what is then done, in order, to the
byte. Run `python -m tests.transcripts.ordering_world --rewrite [FILE...]` to write down what the mind does now, and
read the difference: it is the review.

    running n1 n2 n3 ...                a cluster of these, all members, the first is this node, and all is ready

    cluster NAME n1=10.0.0.1 ...        the engine's configuration; the first is this node
    engine up | engine down REASON      the engine answers; goes away
    members n1 n2                       the membership is exactly this
    fail n2 | back n2 [ADDRESS]         n2 leaves the membership; it is back, perhaps with a new address
    restarts n2 [ADDRESS]               n2 was reset faster than the engine notices: left and joined in one event
    reload n2=ADDRESS ...               the configuration is read anew
    signal SIGTERM | shutdown asked     the daemon, or the engine through it, is asked to end
    o2cb starts | o2cb killed | o2cb replaced
    o2cb killed in mkdir                the next mkdir of a node is the last thing it does
    thread slow | thread fast           what touches the kernel waits in line until "thread works"; no longer
    thread works                        the next call in line is made, and its answer told
    wait SECONDS                        time passes; wake-ups come when they were asked for
    pin n2 | unpin n2                   something besides links holds n2 in the kernel
    mount F | umount F                  the mount table
    kernel                              shows what stands
    ocfs2 ...                           see Ocfs2Side

What is said to ocfs2_controld waits in the socket until it reads.
"""

import argparse
import sys
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from libo2cb.engine.port import (
    Configured,
    ConfiguredNode,
    EngineDown,
    EngineUp,
    Members,
    MembershipEvent,
    ShutdownAsked,
)
from libo2cb.events import Event, Log
from o2cb_controld import actions as do
from o2cb_controld import events as told
from o2cb_controld.mind import step
from o2cb_controld.state import State
from protocol.identity import NodeIdentity, Ring
from protocol.ordering import Locked, OrderingMessage
from tests.simulation.kernel_model import KernelModel, Refusal

STORIES = Path(__file__).parent / "ordering"
PORT = 7777
MOST_STEPS = 1000
"""Steps of the daemon that may follow from one event, or come at one moment."""
SHOWN = {
    Event.CHANGE_QUEUED: "cause",
    Event.CHANGE_CANCELLED: "number",
    Event.CLUSTER_ADOPTED: "nodes",
    Event.EXITING: "cause",
    Event.NODE_UNFIT: "cause",
    Event.NOT_READY: "cause",
    Event.READY: "",
    Event.SIGNAL_REFUSED: "cause",
    Event.SURPRISE: "cause",
    Event.VIOLATION: "cause",
    Event.WAITING: "",
}
"""The log lines that a story shows, and the field that it shows of each."""


_CALLS = (
    *(do.ReadKernel, do.MakeCluster, do.RemoveCluster, do.TryLock, do.Unlock, do.ListLinks, do.MakeNode, do.RemoveNode),
    *(do.Grant, do.ClaimService, do.ReleaseService, do.LookForUse),
)
"""What the shell has its one thread do, in this order."""


class StoryError(Exception):
    """A line of a story cannot be told."""


class Ocfs2Side(Protocol):
    """Whoever plays ocfs2_controld: a script, or its real mind."""

    def command(self, words: list[str]) -> None:
        """A line of the story that begins with "ocfs2", without that word."""

    def engine(self, event: MembershipEvent) -> None:
        """What the engine tells o2cb_controld, it tells ocfs2_controld as well."""

    def readable(self) -> None:
        """Something was put into its socket."""

    def disconnected(self) -> None:
        """o2cb_controld is gone; what it had sent can still be read."""


class World:
    """One node: engine, kernel, o2cb_controld, the socket, ocfs2_controld.

    Args:
        side: makes the player of ocfs2_controld.
    """

    driver = "sandbox"

    def __init__(self, side: "Callable[[World], Ocfs2Side]") -> None:
        self.now = 0.0
        self.kernel = KernelModel()
        self.state: State | None = None
        self.cluster = ""
        self.local = 0
        self.configured: tuple[ConfiguredNode, ...] = ()
        self.members: tuple[int, ...] = ()
        self.engine_up = False
        self.mounts: set[str] = set()
        self.connection = 0
        self.socket: deque[tuple[OrderingMessage, int | None]] = deque()
        self.lines: list[str] = []
        self._alarm: float | None = None
        self._over = False
        self._dies_in_mkdir = False
        self._ring = 0
        self._inbox: deque[told.MindEvent] = deque()
        self._slow = False
        self._line: deque[do.Action] = deque()
        self.ocfs2 = side(self)

    # for the story and for the players

    def say(self, line: str) -> None:
        """Add to what has happened."""
        self.lines.append(line)

    def name(self, number: int) -> str:
        """The name of a configured number."""
        return next((n.name for n in self.configured if n.number == number), f"#{number}")

    def number(self, name: str) -> int:
        """The number of a configured name."""
        found = next((n.number for n in self.configured if n.name == name), None)
        if found is None:
            raise StoryError(f"no node {name}")
        return found

    def identity(self, text: str) -> NodeIdentity:
        """n2, or n2@ADDRESS for another address than the configured one."""
        name, _, address = text.partition("@")
        node = next((n for n in self.configured if n.name == name), None)
        if node is None:
            raise StoryError(f"no node {name}")
        return NodeIdentity(node.number, address or node.address, PORT, name)

    def tell(self, event: told.MindEvent) -> None:
        """Give o2cb_controld an event, and let it do all that follows."""
        self._inbox.append(event)
        self._over = self.state is None
        self._take()

    def _take(self) -> None:
        steps = 0
        while self._inbox and self.state is not None:
            event = self._inbox.popleft()
            if (steps := steps + 1) > MOST_STEPS:
                raise AssertionError(f"o2cb_controld comes to no rest at {event}")
            self.state, actions = step(self.state, self.now, event)
            hash(self.state)  # an exhaustive search takes it as a key
            for action in actions:
                if self._slow and isinstance(action, _CALLS):
                    self._line.append(action)
                else:
                    self._perform(action)
                if self._over:
                    break
        self._inbox.clear()

    def command(self, line: str) -> None:
        """Tell one line of a story."""
        words = line.split()
        method = getattr(self, f"_do_{words[0]}", None)
        if method is None:
            raise StoryError(f"unknown: {line}")
        method(words[1:])

    # commands

    def _do_cluster(self, words: list[str]) -> None:
        self.cluster = words[0]
        self.configured = tuple(
            ConfiguredNode(i, name, address)
            for i, (name, _, address) in enumerate((w.partition("=") for w in words[1:]), start=1)
        )
        self.local = 1

    def _do_running(self, words: list[str]) -> None:
        self._do_cluster(["prod", *(f"{n}=10.0.0.{i}" for i, n in enumerate(words, start=1))])
        self._do_o2cb(["starts"])
        self._do_engine(["up"])
        self._do_members(words)
        self.ocfs2.command(["connects"])
        if self.state is None or not self.state.ready:
            raise AssertionError("not ready")
        self.lines.clear()

    def _do_engine(self, words: list[str]) -> None:
        if words[0] == "up":
            self.engine_up = True
            self._engine(EngineUp(self.cluster, self.local, self.configured))
            if self.members:
                self._membership(self.members)
        else:
            self.engine_up = False
            self._engine(EngineDown(" ".join(words[1:])))

    def _do_members(self, words: list[str]) -> None:
        self._membership(tuple(sorted(map(self.number, words))))

    def _do_fail(self, words: list[str]) -> None:
        gone = {*map(self.number, words)}
        self._membership(tuple(m for m in self.members if m not in gone))

    def _do_back(self, words: list[str]) -> None:
        self._readdress(words)
        self._membership(tuple(sorted({*self.members, self.number(words[0])})))

    def _do_restarts(self, words: list[str]) -> None:
        self._readdress(words)
        number = self.number(words[0])
        self._membership(self.members, (number,), (number,))

    def _do_reload(self, words: list[str]) -> None:
        for word in words:
            self._readdress(word.split("="))

    def _do_signal(self, words: list[str]) -> None:
        self.tell(told.Signal(words[0]))

    def _do_shutdown(self, _: list[str]) -> None:
        self.tell(ShutdownAsked(1))

    def _do_o2cb(self, words: list[str]) -> None:
        match words:
            case ["starts"]:
                self.state = State(self.driver, PORT)
                if self.engine_up:
                    self._do_engine(["up"])
            case ["killed"]:
                self._end("o2cb: killed")
            case ["killed", "in", "mkdir"]:
                self._dies_in_mkdir = True
            case ["replaced"]:
                self.tell(told.Replace())
            case _:
                raise StoryError(f"o2cb {words}")

    def _do_thread(self, words: list[str]) -> None:
        match words:
            case ["slow"]:
                self._slow = True
            case ["fast"]:
                while self._line:
                    self._work()
                self._slow = False
            case ["works"] if self._line:
                self._work()
            case _:
                raise StoryError(f"thread {words}")

    def _work(self) -> None:
        self._over = False
        self._perform(self._line.popleft())
        self._take()

    def _do_wait(self, words: list[str]) -> None:
        until, wakes = self.now + float(words[0]), 0
        while self._alarm is not None and self._alarm <= until:
            wakes = wakes + 1 if self._alarm <= self.now else 0
            if wakes > MOST_STEPS:
                raise AssertionError(f"o2cb_controld wants to be woken at {self._alarm:g} s for ever")
            self.now, self._alarm = self._alarm, None
            self.tell(told.Tick())
        self.now = until

    def _do_pin(self, words: list[str]) -> None:
        self.kernel = replace(self.kernel, pinned=self.kernel.pinned | {*words})

    def _do_unpin(self, words: list[str]) -> None:
        self.kernel = replace(self.kernel, pinned=self.kernel.pinned - {*words})

    def _do_mount(self, words: list[str]) -> None:
        self.mounts |= {*words}

    def _do_umount(self, words: list[str]) -> None:
        self.mounts -= {*words}

    def _do_kernel(self, _: list[str]) -> None:
        k = self.kernel
        for n in k.nodes:
            what = f"{n.address}:{n.port}{' local' if n.local else ''}" if n.complete else "incomplete"
            links = f", linked by {' '.join(k.linked(n.name))}" if k.linked(n.name) else ""
            self.say(f"kernel: {n.name} {what}{links}")
        for f in k.flocks:
            what = "service" if f.file == "service" else self.name(int(f.file))
            self.say(f"kernel: {'exclusive' if f.exclusive else 'shared'} lock of {what} held by {f.holder}")
        if not k.nodes:
            self.say(f"kernel: {f'cluster {k.cluster}' if k.cluster else 'no cluster'}, no nodes")

    def _do_ocfs2(self, words: list[str]) -> None:
        self.ocfs2.command(words)

    def _readdress(self, words: list[str]) -> None:
        if len(words) == 1:
            return
        name, address = words
        self.configured = tuple(replace(n, address=address) if n.name == name else n for n in self.configured)
        self._engine(Configured(self.configured))

    def _membership(
        self, members: tuple[int, ...], joined: Iterable[int] | None = None, left: Iterable[int] | None = None
    ) -> None:
        self._ring += 4
        old, self.members = self.members, members
        come = tuple(sorted({*members} - {*old} if joined is None else joined))
        gone = tuple(sorted({*old} - {*members} if left is None else left))
        self._engine(Members(Ring(self._ring, 1), True, members, come, gone))

    def _engine(self, event: MembershipEvent) -> None:
        self.ocfs2.engine(event)
        self.tell(event)

    def _end(self, line: str) -> None:
        self.say(line)
        self.state, self._alarm, self._over = None, None, True
        self._dies_in_mkdir = False
        self._inbox.clear()
        self._line.clear()
        self.kernel = self.kernel.close_all("o2cb")
        if self.connection:
            self.ocfs2.disconnected()

    # what the shell of o2cb_controld does

    def _perform(self, action: do.Action) -> None:  # one arm an action
        match action:
            case do.ReadKernel(cluster):
                nodes = self.kernel.nodes if self.kernel.cluster == cluster else ()
                self._inbox.append(told.KernelRead((self.kernel.cluster,) if self.kernel.cluster else (), nodes))
            case do.MakeCluster(cluster):
                self._try(f"mkdir cluster {cluster}", lambda k: k.create_cluster(cluster), told.ClusterMade())
            case do.RemoveCluster(cluster):
                self._try(f"rmdir cluster {cluster}", lambda k: k.remove_cluster(cluster), told.ClusterRemoved())
            case do.TryLock(number):
                locked = self.kernel.flock(str(number), True, "o2cb") if number else self.kernel
                self.say(f"o2cb: {'locks' if locked else 'cannot lock'} {self.name(number)}")
                self._inbox.append(told.LockTaken(number) if locked else told.LockBusy(number))
                self.kernel = locked or self.kernel
            case do.Unlock(number):
                self.say(f"o2cb: unlocks {self.name(number)}")
                self.kernel = self.kernel.close(str(number), True, "o2cb") if number else self.kernel
            case do.ListLinks(number, name):
                regions = self.kernel.linked(name)
                self.say(f"o2cb: links to {name}: {' '.join(regions) or 'none'}")
                self._inbox.append(told.LinksListed(number, regions))
            case do.MakeNode(identity, local):
                self._make(identity, local)
            case do.RemoveNode(number, name):
                self._audit(number, name)
                self._try(f"rmdir {name}", lambda k: k.remove_node(name), told.Removed(number, name), number)
            case do.Grant(connection, request, number):
                self._grant(connection, request, number)
            case do.Say(connection, message):
                self._send(connection, message, None)
            case do.Drop(connection, why):
                self.say(f"o2cb: closes the connection ({why})")
                self._inbox.append(told.Closed(connection))
                self.ocfs2.disconnected()
            case do.ClaimService():
                claimed = self.kernel.flock("service", True, "o2cb")
                self.say(f"o2cb: {'takes' if claimed else 'cannot take'} the service lock")
                self._inbox.append(told.ServiceLock(claimed is not None))
                self.kernel = claimed or self.kernel
            case do.ReleaseService():
                self.say("o2cb: gives the service lock back")
                self.kernel = self.kernel.close("service", True, "o2cb")
            case do.LookForUse():
                uses = (
                    *(f"{r} links {n}" for r, n in sorted(self.kernel.links)),
                    *(f"region {r} stands" for r in sorted(self.kernel.regions)),
                    *(f"{m} is mounted" for m in sorted(self.mounts)),
                )
                self.say(f"o2cb: looks for use: {'; '.join(uses) or 'none'}")
                self._inbox.append(told.UseFound(uses))
            case do.AnswerShutdown(_, allow, reason):
                self.say(f"o2cb -> engine: {'yes' if allow else 'no'}, {reason}")
            case do.WakeAt(at):
                self._alarm = at
            case do.Exit(code):
                self._end(f"o2cb: exit {code}")
            case Log(event, fields, level) if level != "debug":
                self._log(event, dict(fields))
            case _:
                pass

    def _log(self, event: Event, fields: dict[str, object]) -> None:
        if event is Event.WAITING:
            self.say(f"o2cb log: waiting {fields['seconds']} s: {fields['what']}: {fields['cause']}")
        elif event in SHOWN:
            value = fields.get(SHOWN[event], "")
            shown = self.name(int(str(value))) if SHOWN[event] == "number" else value
            self.say(f"o2cb log: {event.value}{f': {shown}' if value != '' else ''}")

    def _try(
        self, what: str, call: Callable[[KernelModel], KernelModel], answer: told.MindEvent, number: int | None = None
    ) -> None:
        try:
            self.kernel = call(self.kernel)
        except Refusal as r:
            self.say(f"o2cb: {what}: {r}")
            self._inbox.append(told.ClusterRefused(r.errno) if number is None else told.Refused(number, r.errno))
        else:
            self.say(f"o2cb: {what}")
            self._inbox.append(answer)

    def _make(self, identity: NodeIdentity, local: bool) -> None:
        self._audit(identity.number, identity.name)
        what = f"mkdir {identity.name} {identity.address}:{identity.port}{' local' if local else ''}"
        if self._dies_in_mkdir:
            self._dies_in_mkdir = False
            self.kernel = self.kernel.make_bare_node(identity.name)
            self._end(f"o2cb: {what}, killed before the first attribute")
            return
        made = told.Made(identity.number, identity, local)
        self._try(what, lambda k: k.make_node(identity, local), made, identity.number)

    def _audit(self, number: int, name: str) -> None:
        """Law 1, also where the kernel would allow it."""
        if self.kernel.linked(name):
            raise AssertionError(f"law 1: a change of {name} while {self.kernel.linked(name)} links it")
        if number and not self.kernel.holds(str(number), True, "o2cb"):
            raise AssertionError(f"a change of {name} without its lock")

    def _grant(self, connection: int, request: int, number: int) -> None:
        granted = self.kernel.flock(str(number), False, "the socket")
        if granted is None:
            raise AssertionError(f"a grant of {self.name(number)} while its lock is held exclusively")
        self.kernel = granted
        self._inbox.append(told.GrantSent(connection, request))
        self._send(connection, Locked(request), number)

    def _send(self, connection: int, message: OrderingMessage, number: int | None) -> None:
        if connection != self.connection:
            raise AssertionError(f"said to connection {connection}, which is gone: {message}")
        values = [str(getattr(message, name)) for name in message.__dataclass_fields__ if name != "word"]
        with_lock = f" with the lock of {self.name(number)}" if number is not None else ""
        self.say(f"o2cb -> ocfs2: {message.word} {' '.join(values)}{with_lock}")
        self.socket.append((message, number))
        self.ocfs2.readable()


class ScriptedOcfs2:
    """ocfs2_controld as a story tells it, kept to its part of the protocol.

    ocfs2 connects
    ocfs2 asks lock n2[@ADDRESS]     the requests are numbered 1, 2, ... on each connection
    ocfs2 cancels REQUEST
    ocfs2 reads                      all that is in the socket; a lock that answers a request not wanted is closed
    ocfs2 links F/n2 | unlinks F/n2  makes the region with its first link, removes it with its last
    ocfs2 closes lock n2 [silently]  with the hint, or without
    ocfs2 service | ocfs2 no service holds the service lock, or not
    ocfs2 killed
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self.wanted: dict[int, NodeIdentity] = {}
        self.held: dict[NodeIdentity, int] = {}
        self.connected = False
        self.request = 0

    def engine(self, event: MembershipEvent) -> None:
        """A script knows what it does."""

    def readable(self) -> None:
        """A script reads when it is told to."""

    def disconnected(self) -> None:
        self.connected = False

    def command(self, words: list[str]) -> None:
        match words:
            case ["connects"]:
                self.world.connection += 1
                self.connected, self.request, self.wanted = True, 0, {}
            case ["asks", "lock", node]:
                self._ask(self.world.identity(node))
            case ["cancels", request]:
                self.wanted.pop(int(request))
                self.world.tell(told.Cancelled(self.world.connection, int(request)))
            case ["reads"]:
                self._read()
            case ["links", link]:
                self._link(*link.split("/"))
            case ["unlinks", link]:
                self._unlink(*link.split("/"))
            case ["closes", "lock", node, *rest]:
                self._close(node, hint=not rest)
            case ["service"]:
                self._hold_service()
            case ["no", "service"]:
                self.world.kernel = self.world.kernel.close("service", False, "ocfs2")
            case ["killed"]:
                self._die()
            case _:
                raise StoryError(f"ocfs2 {words}")

    def _ask(self, identity: NodeIdentity) -> None:
        if not self.connected:
            raise StoryError("ocfs2 is not connected")
        self.request += 1
        self.wanted[self.request] = identity
        self.world.tell(told.Asked(self.world.connection, self.request, identity))

    def _read(self) -> None:
        w = self.world
        while w.socket:
            message, number = w.socket.popleft()
            if number is None or not isinstance(message, Locked):
                continue
            identity = self.wanted.pop(message.request, None)
            if identity is None:
                w.kernel = w.kernel.close(str(number), False, "the socket")
                w.say(f"ocfs2: lock {message.request} of {w.name(number)} is wanted no more, closes it")
                continue
            w.kernel = w.kernel.hand_over(str(number), "the socket", "ocfs2")
            self.held[identity] = self.held.get(identity, 0) + 1
            w.say(f"ocfs2: holds the lock of {identity.name}")

    def _link(self, fs: str, name: str) -> None:
        w = self.world
        node = w.kernel.node(name)
        if node is None or not node.complete:
            raise AssertionError(f"law 2: {name} is not complete")
        if node.identity not in self.held:
            raise AssertionError(f"law 4: no lock is held for {node.identity}")
        if fs not in w.kernel.regions:
            w.kernel = w.kernel.create_region(fs)
        w.kernel = w.kernel.link(fs, name)

    def _unlink(self, fs: str, name: str) -> None:
        w = self.world
        w.kernel = w.kernel.unlink(fs, name)
        if not any(region == fs for region, _ in w.kernel.links):
            w.kernel = w.kernel.remove_region(fs)

    def _close(self, name: str, *, hint: bool) -> None:
        w = self.world
        if w.kernel.linked(name):
            raise StoryError(f"{name} is still linked")
        number = w.number(name)
        for identity in [i for i in self.held if i.number == number]:
            for _ in range(self.held.pop(identity)):
                w.kernel = w.kernel.close(str(number), False, "ocfs2")
        if hint and self.connected:
            w.tell(told.HintUnlocked(w.connection, number))

    def _hold_service(self) -> None:
        held = self.world.kernel.flock("service", False, "ocfs2")
        self.world.say(f"ocfs2: {'holds' if held else 'cannot hold'} the service lock")
        self.world.kernel = held or self.world.kernel

    def _die(self) -> None:
        w = self.world
        w.kernel = w.kernel.close_all("ocfs2").close_all("the socket")
        self.held, self.wanted = {}, {}
        w.socket.clear()
        if self.connected:
            self.connected = False
            w.tell(told.Closed(w.connection))


def retell(
    story: str,
    side: Callable[[World], Ocfs2Side] = ScriptedOcfs2,
    make: "Callable[[Callable[[World], Ocfs2Side]], World]" = World,
) -> str:
    """The story with what happens written anew below each "----"."""
    world = make(side)
    out: list[str] = []
    telling = True
    for line in story.splitlines():
        if line == "----":
            out += [line, *world.lines]
            world.lines.clear()
            telling = False
        elif not line.strip():
            out.append("")
            telling = True
        elif telling:
            out.append(line)
            if not line.startswith("#"):
                world.command(line)
    if world.lines:
        raise StoryError("the story ends before its last ----")
    return "\n".join(out).rstrip("\n") + "\n"


def main() -> int:
    """Compare or rewrite stories."""
    parser = argparse.ArgumentParser(description="Stories about lock and queue")
    parser.add_argument(
        "--rewrite", action="store_true", help="write down what happens now; read it before you keep it"
    )
    parser.add_argument("files", nargs="*", type=Path, default=sorted(STORIES.glob("*.txt")))
    options = parser.parse_args()
    differ = 0
    for path in options.files:
        before = path.read_text()
        after = retell(before)
        if after != before:
            differ += 1
            print(f"{path.name}: {'rewritten' if options.rewrite else 'differs'}")
            if options.rewrite:
                path.write_text(after)
    return 1 if differ and not options.rewrite else 0


if __name__ == "__main__":
    sys.exit(main())
