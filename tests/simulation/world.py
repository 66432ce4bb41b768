"""A whole cluster in one process: the daemons' real minds, the pure engine model, a pure kernel for each node.

Nothing happens by itself: `choices` lists what can happen next and `do` lets one of it happen, so that a transcript, a
seeded scheduler and a search can all drive the same world.
"""

from libo2cb.engine.model import Key, State, Stream
from libo2cb.engine.port import ChannelDown, ChannelMembers, ChannelRing, Delivered, Members
from o2cb_controld import events as o2ev
from ocfs2_controld import events as ocev
from ocfs2_controld import mind as ocmind
from protocol import ordering
from protocol.group import Assembler, BadEnvelope, Envelope, ViewMember
from tests.laws.history import Engine
from tests.simulation.machines import CLUSTER, KEPT, O2CB, OCFS2, PORT, Choice, Client, SimNode, uuid
from tests.simulation.shells import Shells

__all__ = ["CLUSTER", "O2CB", "OCFS2", "PORT", "Choice", "Client", "SimNode", "World", "uuid"]


class World(Shells):
    """The cluster, and what can happen to it next."""

    def choices(self) -> list[Choice]:
        """Everything that can happen now without anybody's doing."""
        found: list[Choice] = []
        for node in self.nodes.values():
            if not node.power:
                continue
            n = str(node.number)
            o2cb = node.o2cb if O2CB not in node.paused else None
            ocfs2 = node.ocfs2 if OCFS2 not in node.paused else None
            if o2cb is not None:
                if node.o2cb_todo:
                    found.append(("o2cb acts", n))
                if node.to_o2cb and not node.o2cb_todo:
                    found.append(("o2cb reads", n))
                if o2cb.alarm is not None and o2cb.alarm <= self.now:
                    found.append(("o2cb tick", n))
            if ocfs2 is not None:
                if node.ocfs2_todo or (self.careful and node.ocfs2_inbox):
                    found.append(("ocfs2 acts", n))
                if node.to_ocfs2:
                    if not node.ocfs2_todo:
                        found.append(("ocfs2 reads", n))
                elif node.o2cb is None:
                    if node.connection and not node.ocfs2_todo:
                        found.append(("disconnect", n))
                elif not node.connection:
                    found.append(("connect", n))
        for key in self.engine.pending():
            node = self.nodes[key.node]
            if not node.power or self.engine.engines[key.node].state is State.HUNG:
                continue
            todo = node.o2cb_todo if key.listener == O2CB else node.ocfs2_todo
            if not todo and key.listener not in node.paused:
                found.append(("deliver", str(key.node), key.listener, key.stream.value))
        if not self.manual_fences:
            found.extend(("fence", str(i)) for i in range(len(self.fences)))
        return [c for c in found if not self._is_held(c)] if self.held else found

    def _is_held(self, choice: Choice) -> bool:
        node = f"n{choice[1]}"
        if choice[0] == "deliver":
            name = f"{node} {choice[2]}"
            return bool({name, f"{name}.{choice[3]}"} & self.held)
        return f"{node} {choice[0]}" in self.held

    def do(self, choice: Choice) -> None:
        """Let one thing happen."""
        match choice:
            case ("o2cb acts", n):
                self._o2cb_act(self.nodes[int(n)])
            case ("ocfs2 acts", n):
                node = self.nodes[int(n)]
                if node.ocfs2_todo:
                    self._ocfs2_act(node)
                if not node.ocfs2_todo:
                    self.ocfs2(int(n))
            case ("connect", n):
                self.connections += 1
                self.nodes[int(n)].connection = self.connections
                self.ocfs2(int(n), ocev.OrderingUp())
            case ("disconnect", n):
                self.nodes[int(n)].connection = 0
                self.ocfs2(int(n), ocev.OrderingDown("o2cb_controld does not run"))
            case ("o2cb reads", n):
                self._o2cb_reads(self.nodes[int(n)])
            case ("ocfs2 reads", n):
                self._ocfs2_reads(self.nodes[int(n)])
            case ("o2cb tick", n):
                self.o2cb(int(n), o2ev.Tick())
            case ("deliver", n, listener, stream):
                self._deliver(int(n), listener, Stream(stream))
            case ("fence", i):
                self.fence_done(int(i), ok=True)
            case _:
                raise AssertionError(choice)

    def fence_done(self, index: int, *, ok: bool, text: str = "") -> None:
        """A fencing device answers."""
        actor, target = self.fences.pop(index)
        if ok:
            if self.nodes[target].power:
                self.tell(f"n{target} is switched off")
                self.power_off(target)
            text = text or "verified off"
        self.ocfs2(actor, ocev.FenceDone(target, ok, text or "connection timed out"))

    def _o2cb_reads(self, node: SimNode) -> None:
        message = node.to_o2cb.popleft()
        match message:
            case ordering.Lock(request, identity):
                self.o2cb(node.number, o2ev.Asked(node.connection, request, identity))
            case ordering.Cancel(request):
                self.o2cb(node.number, o2ev.Cancelled(node.connection, request))
            case ordering.Unlocked(number):
                self.o2cb(node.number, o2ev.HintUnlocked(node.connection, number))
            case _:
                raise AssertionError(message)

    def _ocfs2_reads(self, node: SimNode) -> None:
        message, fd = node.to_ocfs2.popleft()
        if fd is not None:
            node.kernel = node.kernel.hand_over(str(fd), "socket", "reading")
            node.reading = fd
        self.ocfs2(node.number, ocev.OrderingSaid(message, fd is not None))

    def _deliver(self, number: int, listener: str, stream: Stream) -> None:
        node = self.nodes[number]
        event = self.engine.deliver(*Key(number, listener, stream))
        if listener == O2CB:
            assert not isinstance(event, ChannelMembers | ChannelRing | Delivered | ChannelDown)
            if isinstance(event, Members):
                said = {"quorate": event.quorate, "members": event.members, "joined": event.joined, "left": event.left}
                self.fact(number, Engine.MEMBERS, ring=str(event.ring), **said)
            self.o2cb(number, event)
            return
        if isinstance(event, Delivered):
            sender = ViewMember(event.sender.node, event.sender.pid)
            try:
                envelope = self._read(node, sender, event.payload)
            except BadEnvelope as e:
                self.ocfs2(number, ocev.Garbled(sender, str(e)))
                return
            if envelope is not None:
                self.ocfs2(number, ocev.Heard(sender, envelope))
            return
        self.ocfs2(number, event)

    def _read(self, node: SimNode, sender: ViewMember, payload: bytes) -> Envelope | None:
        """What this piece completes. A whole envelope is the same to each who reads it, and decoded once."""
        if payload in self._decoded:
            node.assemblers.pop(sender, None)
            return self._decoded[payload]
        assembler = node.assemblers.setdefault(sender, Assembler())
        envelope = assembler.feed(payload)
        if envelope is not None and payload in self._whole:
            if len(self._decoded) > KEPT:
                self._decoded.clear()
                self._whole.clear()
            self._decoded[payload] = envelope
        return envelope

    # time

    def settle(self, limit: int = 20_000) -> None:
        """Let happen whatever can, the first choice first, without time passing."""
        for _ in range(limit):
            found = self.choices()
            if not found:
                return
            self.do(found[0])
        raise AssertionError("the world does not come to rest: " + repr(self.choices()[:5]))

    def wakes(self) -> list[float]:
        """The moments at which some daemon wants to look again."""
        found: list[float] = []
        for node in self.nodes.values():
            if node.o2cb is not None and O2CB not in node.paused and node.o2cb.alarm is not None:
                found.append(node.o2cb.alarm)
            if node.ocfs2 is not None and OCFS2 not in node.paused:
                wake = ocmind.next_wake(node.ocfs2, self.now)
                if wake is not None:
                    found.append(wake)
        return found

    def wait(self, seconds: float) -> None:
        """Let time pass, with everything that it brings."""
        end = self.now + seconds
        self.settle()
        while True:
            wake = min((w for w in self.wakes() if w > self.now), default=end)
            if wake >= end:
                break
            self.now = wake
            self.tick()
            self.settle()
        self.now = end
        self.tick()
        self.settle()

    def tick(self) -> None:
        """Tell every daemon that time has passed."""
        for number, node in self.nodes.items():
            if node.o2cb is not None and O2CB not in node.paused:
                self.o2cb(number, o2ev.Tick())
            if node.ocfs2 is not None and OCFS2 not in node.paused:
                self.ocfs2(number, ocev.Tick())
