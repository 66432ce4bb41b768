"""The nodes of the world that is searched: tests/simulation's, with what a search does otherwise.

- Time stands at 0, and a pause before something is looked at again may end at any moment.
- Envelopes travel as values; their bytes are tests/unit's business.
- On a node that is not *full*, o2cb_controld is left out: the nodes stand by themselves, and each lock is granted at
  once. QUEUED and WAITING, which only inform, are left out everywhere.
- On a *careful* node the kernel and the channel see one call after the other, mkdir and attributes apart, with the
  other daemon's calls between any two of them. Elsewhere a step is done in one go, and a daemon that is killed is
  killed after any number of the calls of that step (`fuse`), which for everybody else is the same.
"""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from typing import Any

from libo2cb.engine.model import Key, ModelError, Stream
from libo2cb.engine.port import ChannelMembers, ChannelRing, Delivered
from libo2cb.events import Log
from o2cb_controld import actions as o2do
from o2cb_controld import events as o2ev
from o2cb_controld import mind as o2mind
from o2cb_controld.state import State as O2State
from ocfs2_controld import actions as ocdo
from ocfs2_controld import events as ocev
from ocfs2_controld import mind as ocmind
from ocfs2_controld.state import Settings
from ocfs2_controld.state import State as OcState
from protocol import ordering
from protocol.client import Mount
from protocol.frozen import FrozenMap
from protocol.group import Envelope, Expel, Statement, View, ViewMember
from protocol.identity import NodeIdentity
from tests.search.judge import Broken, JudgedWorld
from tests.search.scene import Scene
from tests.search.words import Said, living
from tests.simulation.world import CLUSTER, O2CB, OCFS2, PORT, Client, SimNode, uuid


class Killed(Exception):
    """The fuse has burnt down: the daemon is dead."""


@dataclass(frozen=True, slots=True)
class Complete:
    """Second half of MakeNode: the attributes."""

    identity: NodeIdentity
    local: bool


_QUIET = (Log, ocdo.Ready, ocdo.WatchProcess, ocdo.KeepRefs, ocdo.SayOrdering, ocdo.KeepLock, ocdo.DropLock)
_QUIET_O2 = (Log, o2do.Ready, o2do.NotReady, o2do.WakeAt, o2do.Say)
"""Actions that nobody else can see, or that go into a queue that dies with their daemon."""


class Machines(JudgedWorld):
    """The nodes of a scene.

    Attributes:
        begun: the first state is reached: careful nodes are careful from here on.
        fuse: after how many calls the daemon of node `doomed` is killed.
        audible: in the last step ocfs2_controlds have said something that can count with somebody.
        loud: they have done something else that can be seen from outside.
        runs: how many ocfs2_controlds each node has had.
        lasting: states of minds that are kept for ever, by their ids.
        said: what was said, kept for ever: by envelope and view.
        uttered: what ocfs2_controlds have said in the last step.
    """

    def __init__(self, scene: Scene) -> None:
        super().__init__(scene.size, two_node=scene.two_node)
        self.scene = scene
        self.manual_fences = True
        self.runs: dict[int, int] = {}
        self.fuse: int | None = None
        self.doomed = 0
        self.loud = self.audible = False
        self.begun = False
        self._steps: dict[tuple[object, ...], tuple[object, ...]] = {}
        self.lasting: dict[int, object] = {}
        self.said: dict[tuple[int, View | None], Said] = {}
        self.uttered: tuple[Said, ...] = ()
        self._passed_over: set[tuple[int, ViewMember, int]] = set()

    def _pid(self) -> int:
        return 0

    def start_o2cb(self, number: int) -> None:
        if number in self.scene.full:
            super().start_o2cb(number)
            return
        node = self.nodes[number]
        for n in self.configuration:
            if node.kernel.node(n.name) is None:
                identity = NodeIdentity(n.number, n.address, PORT, n.name)
                node.kernel = node.kernel.make_node(identity, n.number == number)
        node.connection = self.connections = self.connections + 1

    def start_ocfs2(self, number: int) -> None:
        node = self.nodes[number]
        self.adopted[number] = node.kernel.links
        self.runs[number] = self.runs.get(number, 0) + 1
        pid = number * 10 + self.runs[number]
        settings = Settings(
            boot=node.boot, incarnation=f"i{pid}", pid=pid, fencing=self.fencing, join_delay_seconds=0.0
        )
        node.ocfs2_pid, node.ocfs2 = pid, ocmind.begin(settings)
        names = {n.name: n.number for n in node.kernel.nodes}
        regions = {r: tuple(sorted(names[x] for f, x in node.kernel.links if f == r)) for r in node.kernel.regions}
        events: list[ocev.Event] = [self._mount_table(node), ocev.KernelFound(FrozenMap(regions))]
        if number not in self.scene.full:
            node.connection = self.connections = self.connections + 1
            events.append(ocev.OrderingUp())
        self.ocfs2(number, *events)
        self.engine.listen(number, OCFS2, pid)
        self.engine.join(number, OCFS2, pid)

    def power_off(self, number: int, *, unreceived: Any = ()) -> None:
        super().power_off(number, unreceived=unreceived)
        self.adopted.pop(number, None)
        self.fences = [f for f in self.fences if f[0] != number]

    def kill_o2cb(self, number: int) -> None:
        # The end of a connection waits to be read, also when a new o2cb_controld is up before.
        self.nodes[number].connection = -abs(self.nodes[number].connection)
        super().kill_o2cb(number)

    def kill_ocfs2(self, number: int) -> None:
        self.nodes[number].connection = max(0, self.nodes[number].connection)
        self.fences = [f for f in self.fences if f[0] != number]
        super().kill_ocfs2(number)

    def client(self, number: int, fs: str, *, service: str = "ocfs2", hold: bool = False) -> int:
        node = self.nodes[number]
        self.connections += 1
        node.clients[self.connections] = Client(number, fs, service, hold=hold)
        peer = ocev.Peer(1000 + number, 0, 0.0, "mount.ocfs2", True)
        said = ocev.ClientSaid(self.connections, Mount("ocfs2", uuid(fs), CLUSTER, f"/dev/{fs}", service), "dev", None)
        self.ocfs2(number, ocev.ClientOpened(self.connections, peer), said)
        return self.connections

    def o2cb(self, number: int, event: o2ev.MindEvent) -> None:
        node = self.nodes[number]
        if node.o2cb is None:
            return
        node.o2cb, todo = self._o2cb_step(node.o2cb, event)
        node.o2cb_todo.extend(todo)
        self._hush(node)

    # A mind is a pure function, and a search asks it the same again and again: each answer is kept, with the question,
    # whose objects so keep their ids.

    def _o2cb_step(self, state: O2State, event: o2ev.MindEvent) -> tuple[O2State, Sequence[o2do.Action]]:
        key = id(state), event
        known: Any = self._steps.get(key)
        if known is None:
            known = o2mind.step(state, inf if isinstance(event, o2ev.Tick) else 0.0, event)
            self._steps[key] = (*known, state)
            self.lasting[id(known[0])] = known[0]
        return known[0], known[1]

    def _ocfs2_step(self, state: OcState, taken: list[ocev.Event]) -> tuple[OcState, Sequence[ocdo.Action]]:
        key = id(state), *[(e.sender, id(e.envelope)) if isinstance(e, ocev.Heard) else e for e in taken]
        known: Any = self._steps.get(key)
        if known is None:
            known = ocmind.step(state, self.now, taken)
            self._steps[key] = (*known, state, taken)
            self.lasting[id(known[0])] = known[0]
        return known[0], known[1]

    def _hush(self, node: SimNode) -> None:
        """Let o2cb_controld do what nobody else can see; all of it where it acts in one go."""
        careful = self.begun and node.number in self.scene.careful
        while node.o2cb_todo and (not careful or isinstance(node.o2cb_todo[0], _QUIET_O2)):
            self._o2cb_act(node)

    def ocfs2(self, number: int, *events: ocev.Event) -> None:
        node = self.nodes[number]
        if node.ocfs2 is not None:
            node.ocfs2_inbox.extend(events)
        careful = self.begun and number in self.scene.careful
        # A node that has been switched off in the midst of it is another one by now.
        while self.nodes[number] is node and (state := node.ocfs2) and (node.ocfs2_inbox or node.ocfs2_todo):
            if not node.ocfs2_todo:
                taken, node.ocfs2_inbox = node.ocfs2_inbox, []
                # A step of the mind is told at most one grant: as in the daemon, the descriptor is kept by the event.
                node.ocfs2, todo = self._ocfs2_step(state, taken)
                node.ocfs2_todo.extend(todo)
            while node.ocfs2_todo and self.nodes[number] is node:
                if careful and not isinstance(node.ocfs2_todo[0], _QUIET):
                    return
                self._ocfs2_act(node)

    def _burn(self, node: SimNode) -> None:
        if self.fuse is None or node.number != self.doomed:
            return
        if self.fuse == 0:
            raise Killed
        self.fuse -= 1

    def _ocfs2_act(self, node: SimNode) -> None:
        action = node.ocfs2_todo[0]
        if not isinstance(action, _QUIET):
            self._burn(node)
            self.loud |= not isinstance(action, ocdo.Multicast)
        match action:
            case ocdo.Multicast(envelope):
                node.ocfs2_todo.popleft()
                with contextlib.suppress(ModelError):  # its engine's channel is gone, and the word with it
                    said = self._say(node, envelope)
                    self.engine.send(node.number, OCFS2, said)  # type: ignore[arg-type]  # no bytes
                    self.uttered += (said,)
                self.audible |= self._is_heard(node)
            case ocdo.SayOrdering() if node.connection < 0:
                node.ocfs2_todo.popleft()
            case ocdo.SayOrdering(message) if node.number not in self.scene.full:
                node.ocfs2_todo.popleft()
                if isinstance(message, ordering.Lock):
                    self._grant(node, message)
            case _:
                super()._ocfs2_act(node)

    def _say(self, node: SimNode, envelope: Envelope) -> Said:
        first = envelope.words[0]
        if isinstance(first, Statement | Expel):
            view: View | None = first.view
        else:
            view = node.ocfs2.view if node.ocfs2 is not None else None
        return self.said.setdefault((id(envelope), view), Said(envelope, view))

    def _is_heard(self, node: SimNode) -> bool:
        """Whether what this node has just said can count with anybody."""
        ring = self.engine.engines[node.number].ring
        for key, port in self.engine.ports.items():
            if key.stream is not Stream.CHANNEL or self.engine.engines[key.node].ring != ring:
                continue
            *_, last = living(port.queue, expulsions=self.scene.budget.grace > 0)
            event, state = port.queue[-1].event, self.nodes[key.node].ocfs2
            told = any(isinstance(x.event, ChannelMembers | ChannelRing) for x in port.queue)
            if last and (told or state is None or not isinstance(event, Delivered) or not self._is_dead(state, event)):
                return True
        return False

    def bury(self) -> None:
        """Have each node pass over what was said in another view than it is in: nothing may come of that (law 7)."""
        for key in [k for k, p in self.engine.ports.items() if k.stream is Stream.CHANNEL and p.queue]:
            node = self.nodes[key.node]
            while (state := node.ocfs2) is not None and not node.ocfs2_todo and not node.ocfs2_inbox:
                queue = self.engine.ports[key].queue
                event = queue[0].event if queue else None
                if not isinstance(event, Delivered) or not self._is_dead(state, event):
                    break
                self.engine.deliver(*key)
                self._pass_over(key.node, state, event)

    def _is_dead(self, state: OcState, event: Delivered) -> bool:
        said: Any = event.payload
        return state.channel.ring is not None and said.view is not None and said.view != state.view

    def _pass_over(self, number: int, state: OcState, event: Delivered) -> None:
        said: Any = event.payload
        sender = ViewMember(event.sender.node, event.sender.pid)
        known = id(state), sender, id(said)
        if known in self._passed_over:
            return
        after, todo = self._ocfs2_step(state, [ocev.Heard(sender, said.envelope)])
        if after != state or any(not isinstance(x, Log) for x in todo):
            words = ", ".join(type(w).__name__ for w in said.envelope.words)
            raise Broken(f"law 7: n{number} heeds what n{sender.node} said in another view: {words}")
        self._passed_over.add(known)

    def _grant(self, node: SimNode, message: ordering.Lock) -> None:
        """A lock, at once, without an o2cb_controld: a node that has moved is made anew when nothing links it."""
        identity, standing = message.identity, node.kernel.node(message.identity.name)
        if standing is not None and standing.address != identity.address and not node.kernel.linked(identity.name):
            node.kernel = node.kernel.remove_node(identity.name).make_node(identity, identity.number == node.number)
        granted = node.kernel.flock(str(identity.number), False, "socket")
        if granted is None:
            raise AssertionError(f"nobody but ocfs2_controld locks here: {identity}")
        node.kernel = granted
        node.to_ocfs2.append((ordering.Locked(message.request), identity.number))

    def _o2cb_act(self, node: SimNode) -> None:
        action: Any = node.o2cb_todo[0]
        match action:
            case o2do.Say(_, ordering.Queued() | ordering.Waiting()):
                node.o2cb_todo.popleft()
            case o2do.MakeNode(identity, local) if self.begun and node.number in self.scene.careful:
                node.o2cb_todo[0] = Complete(identity, local)  # type: ignore[assignment]  # our own second half
                node.kernel = node.kernel.make_bare_node(identity.name)
            case Complete(identity, local):
                node.o2cb_todo.popleft()
                node.kernel = node.kernel.complete_node(identity, local)
                self.o2cb(node.number, o2ev.Made(identity.number, identity, local))
            case _:
                super()._o2cb_act(node)

    def _deliver(self, number: int, listener: str, stream: Stream) -> None:
        event = self.engine.deliver(*Key(number, listener, stream))
        if listener == O2CB:
            self.o2cb(number, event)  # type: ignore[arg-type]  # the membership's
        elif isinstance(event, Delivered):
            sender = ViewMember(event.sender.node, event.sender.pid)
            self.ocfs2(number, ocev.Heard(sender, event.payload.envelope))  # type: ignore[attr-defined]  # what was said
        else:
            self.ocfs2(number, event)


__all__ = ["Killed", "Machines"]
