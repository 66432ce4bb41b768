"""A seeded scheduler over a whole cluster: what happens next, which faults come when, what must hold all the while.

Every choice comes from one random.Random, so a seed is a history. Truth is taken from the simulated machines, not from
what the daemons believe: power, mounts, links, addresses, rings.
"""

import random
from dataclasses import dataclass, field
from errno import EBUSY, ENOMEM

from libo2cb.engine.model import State
from libo2cb.events import Event, Log
from ocfs2_controld.events import FenceDone
from ocfs2_controld.state import FencingKind, Usage
from protocol.identity import Life
from tests.simulation.world import O2CB, OCFS2, Choice, SimNode, World, uuid

FILESYSTEMS = "FG"
ALWAYS = ("mount", "umount", "time", "fence", "power on", "start o2cb", "start ocfs2", "engine start", "resume", "heal")
"""What brings a cluster on, and so is in every run."""
KINDS = (
    *ALWAYS,
    "silent umount",
    "hold",
    "client dies",
    "fence fails",
    "lie",
    "power off",
    "kill o2cb",
    "kill ocfs2",
    "cut",
    "engine crash",
    "engine stop",
    "fast restart",
    "hang",
    "pin",
    "unpin",
    "refuse",
    "busy",
    "free",
)


class Broken(AssertionError):
    """A law does not hold."""


@dataclass
class Tally:
    """What a run has been through."""

    steps: int = 0
    faults: dict[str, int] = field(default_factory=dict)
    starts: int = 0
    mounts: int = 0
    fenced: int = 0


class Judged(World):
    """The world, with the laws judged at each step."""

    def __init__(self, size: int, **options: object) -> None:
        super().__init__(size, **options)  # type: ignore[arg-type]  # options of World
        self.addresses: dict[Life, str] = {}
        self.recovered: set[tuple[int, str, str, Life]] = set()
        self.lied: set[Life] = set()
        self.tally = Tally()

    def lie(self, index: int) -> None:
        """An operator says that a node is off, and it is not."""
        actor, target = self.fences.pop(index)
        self.lied.add(self.life(target))
        self.ocfs2(actor, FenceDone(target, True, "an operator says so"))

    def power_on(self, number: int, *, singleton: bool = False) -> None:
        life = Life(number, f"boot{self.nodes[number].boots + 1}")
        self.addresses[life] = self.engine.configured(number).address
        super().power_on(number, singleton=singleton)

    def life(self, number: int) -> Life:
        return Life(number, self.nodes[number].boot)

    def writers(self, fs: str) -> list[SimNode]:
        """Nodes that can write to a filesystem."""
        return [n for n in self.nodes.values() if n.power and n.mounts.get(fs)]

    def linked(self, node: SimNode, fs: str) -> set[int]:
        names = {n for r, n in node.kernel.links if r == uuid(fs)}
        return {n.number for n in node.kernel.nodes if n.name in names}

    def _note(self, node: SimNode, daemon: str, entry: Log) -> None:
        super()._note(node, daemon, entry)
        if daemon != OCFS2:
            return
        fields = dict(entry.fields)
        match entry.event:
            case Event.GROUP_STARTED:
                self._judge_start(node, str(fields["fs"]), fields["members"], fields["lost"])
            case Event.LINKED:
                self._judge_link(node, int(str(fields["number"])), str(fields.get("life")))
            case Event.SURPRISE:
                raise Broken(f"n{node.number}: a surprise: {fields}")
            case _:
                pass

    def _judge_start(self, node: SimNode, fs: str, members: object, lost: object) -> None:
        self.tally.starts += 1
        assert isinstance(members, list)
        assert isinstance(lost, list)
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
            if boot != "unknown":
                self.recovered.add((node.number, node.boot, fs, Life(int(number), boot)))

    def _judge_link(self, node: SimNode, number: int, name: str) -> None:
        standing = next((n for n in node.kernel.nodes if n.number == number), None)
        if standing is None or not standing.complete:
            raise Broken(f"law 2: n{node.number} links n{number}, which does not stand complete")
        life = next((x for x in self.addresses if str(x) == name), None)
        if life is not None and standing.address != self.addresses[life]:
            raise Broken(f"law 4: n{node.number} links n{number} at {standing.address}, not its life's address")

    def _answered(self, node: SimNode, connection: int, code: int, text: str) -> None:
        client = node.clients.get(connection)
        if client is not None and client.service == "ocfs2" and code == 0 and not client.answered:
            self.tally.mounts += 1
            for other in self.writers(client.fs):
                honest = self.life(other.number) not in self.lied
                if honest and other is not node and node.number not in self.linked(other, client.fs):
                    raise Broken(f"law 10: n{node.number} hears 0 and n{other.number} does not link it")
        super()._answered(node, connection, code, text)

    def do(self, choice: Choice) -> None:
        super().do(choice)
        self.tally.steps += 1
        self.judge()

    def _o2cb_act(self, node: SimNode) -> None:
        action = node.o2cb_todo[0]
        if type(action).__name__ == "RemoveNode" and node.kernel.linked(action.name):  # type: ignore[union-attr]
            raise Broken(f"law 1: n{node.number} asks to remove {action} while it is linked")
        super()._o2cb_act(node)

    def judge(self) -> None:
        """Two nodes that can write to a filesystem link each other."""
        for fs in FILESYSTEMS:
            writers = self.writers(fs)
            for a in writers:
                linked = self.linked(a, fs)
                for b in writers:
                    honest = not {self.life(a.number), self.life(b.number)} & self.lied
                    if honest and b.number not in linked:
                        raise Broken(
                            f"laws 4, 10: n{a.number} and n{b.number} write to {fs}, and the former has no link"
                        )


class Run:
    """One seeded run."""

    def __init__(self, seed: int, *, size: int | None = None, steps: int = 400) -> None:
        self.random = random.Random(seed)  # noqa: S311 (a seed is a history)
        self.size = size or self.random.choice((2, 3, 3, 3, 4, 5))
        self.steps = steps
        self.story: list[str] = []
        self.world = Judged(
            self.size,
            fencing=FencingKind.COMMAND,
            tell=self.story.append,
            careful=self.random.random() < 0.4,
        )
        self.world.manual_fences = True
        self.off_addresses = 30
        # Swarm: each run knows only some faults, and meets them more or less often, so that rare ones meet each other.
        self.kinds = [k for k in KINDS if k in ALWAYS or self.random.random() < 0.5]
        self.weights = [self.random.choice((1, 1, 3)) * (3 if k in ("mount", "power on") else 1) for k in self.kinds]
        self.lagging: Choice | None = None
        self.filesystems = self.random.choice(("F", "F", "FG"))

    def fault(self, name: str) -> None:
        faults = self.world.tally.faults
        faults[name] = faults.get(name, 0) + 1
        self.story.append(f"-- {name}")

    def go(self) -> Tally:
        """Run, heal everything, and come to rest."""
        w, r = self.world, self.random
        for n in range(1, self.size + 1):
            w.power_on(n)
        w.settle()
        w.manual_fences = True
        for n in range(1, r.randint(0, self.size) + 1):
            w.client(n, "F")
            w.settle()
        while w.tally.steps < self.steps:
            # An episode: a burst of faults close together, then time to get over it, or not quite.
            for _ in range(r.randint(1, 6)):
                self.inject()
                self.walk(r.choice((0, 1, 2, 4, 8, 16, 32)))
            if r.random() < 0.7:
                self.recover(r.randint(10, 120))
        self.heal()
        return w.tally

    def walk(self, steps: int) -> None:
        """Let some of what can happen happen, in any order."""
        w, r = self.world, self.random
        for _ in range(steps):
            choices = w.choices()
            if not choices:
                return
            # Now and then one thing is put off for long: streams of an engine run apart.
            if r.random() < 0.1:
                self.lagging = r.choice(choices)
            choices = [c for c in choices if c != self.lagging] or choices
            w.do(r.choice(choices))

    def recover(self, steps: int) -> None:
        """Get over it: what is down comes back, what is fenced is fenced, time passes."""
        w, r = self.world, self.random
        for _ in range(steps):
            if w.choices():
                self.walk(1)
            elif w.fences and r.random() < 0.8:
                w.fence_done(0, ok=True)
            elif r.random() < 0.3:
                self.inject()
            else:
                self.pass_time()

    def pass_time(self, most: float = 1000.0) -> None:
        w = self.world
        wake = min((x for x in w.wakes() if x > w.now), default=None)
        if wake is not None:
            w.now = min(wake, w.now + most)
            w.tick()
            w.judge()

    def inject(self) -> None:
        """Let one thing happen that the world does not do by itself."""
        w, r = self.world, self.random
        n = r.randint(1, self.size)
        node = w.nodes[n]
        engine = w.engine.engines[n].state
        fs = r.choice(self.filesystems)
        what = r.choices(self.kinds, self.weights)[0]
        match what:
            case "mount" if node.power and node.ocfs2 is not None and not node.mounts.get(fs):
                self.fault(f"mount n{n} {fs}")
                w.client(n, fs)
            case "hold" if node.power and node.ocfs2 is not None:
                self.fault(f"hold n{n} {fs}")
                w.client(n, fs, hold=True)
            case "client dies" if node.clients:
                connection = r.choice(sorted(node.clients))
                client = node.clients[connection]
                if client.mounts and client.hold and client.answered in ([0], [114]) and r.random() < 0.5:
                    self.fault(f"client of n{n} mounts {client.fs} and dies")
                    w.mount_succeeds(n, connection, tell_daemon=False)
                    w.ocfs2(n)
                else:
                    self.fault(f"client of n{n} dies")
                w.client_dies(n, connection)
            case "umount" if node.mounts.get(fs):
                self.fault(f"umount n{n} {fs}")
                w.umount(n, fs)
            case "silent umount" if node.mounts.get(fs):
                self.fault(f"silent umount n{n} {fs}")
                w.umount(n, fs, silent=True)
            case "time":
                self.fault("time")
                self.pass_time()
            case "fence" if w.fences:
                self.fault("fence done")
                w.fence_done(r.randrange(len(w.fences)), ok=True)
            case "fence fails" if w.fences:
                self.fault("fence fails")
                w.fence_done(r.randrange(len(w.fences)), ok=False)
            case "lie" if w.fences:
                self.fault("an operator lies")
                w.lie(r.randrange(len(w.fences)))
            case "power off" if node.power:
                lost = tuple(r.sample(range(1, self.size + 1), r.randint(0, 1)))
                self.fault(f"power off n{n}, unreceived {lost}")
                w.power_off(n, unreceived=lost)
            case "power on" if not node.power:
                if r.random() < 0.5:
                    self.off_addresses += 1
                    w.engine.readdress(n, f"10.0.0.{self.off_addresses}")
                self.fault(f"power on n{n} at {w.engine.configured(n).address}")
                w.power_on(n, singleton=r.random() < 0.5)
            case "kill o2cb" if node.o2cb is not None:
                self.fault(f"kill o2cb n{n}")
                w.kill_o2cb(n)
            case "kill ocfs2" if node.ocfs2 is not None:
                self.fault(f"kill ocfs2 n{n}")
                w.kill_ocfs2(n)
            case "start o2cb" if node.power and node.o2cb is None:
                self.fault(f"start o2cb n{n}")
                w.start_o2cb(n)
            case "start ocfs2" if node.power and node.ocfs2 is None:
                self.fault(f"start ocfs2 n{n}")
                w.start_ocfs2(n)
            case "cut":
                side = [x for x in range(1, self.size + 1) if r.random() < 0.4]
                if 0 < len(side) < self.size:
                    self.fault(f"cut {side}")
                    w.engine.cut([side])
            case "heal":
                self.fault("heal")
                w.engine.heal()
            case "engine crash" if engine is State.UP and node.power:
                self.fault(f"engine crash n{n}")
                w.engine.crash(n)
            case "engine stop" if engine is State.UP and node.power:
                self.fault(f"engine stop n{n}")
                w.engine.stop_engine(n)
            case "engine start" if engine is State.DOWN and node.power:
                self.fault(f"engine start n{n}")
                w.engine.start_engine(n, singleton=r.random() < 0.5)
            case "fast restart" if engine is State.UP and node.power:
                self.fault(f"engine fast restart n{n}")
                w.engine.fast_restart(n, singleton=r.random() < 0.5)
            case "hang" if engine is State.UP and node.power:
                self.fault(f"hang n{n}")
                w.engine.hang(n)
            case "resume" if engine is State.HUNG:
                self.fault(f"resume n{n}")
                w.engine.resume(n)
            case "pin" if node.power:
                name = f"n{r.randint(1, self.size)}"
                self.fault(f"pin {name} on n{n}")
                node.refusals["rmdir", name, ""] = EBUSY
            case "refuse" if node.power:
                name = f"n{r.randint(1, self.size)}"
                call = r.choice(("mkdir", "LINK", "UNLINK"))
                self.fault(f"refuse {call} {name} on n{n}")
                node.refusals[call, name, ""] = ENOMEM
            case "unpin" if node.refusals:
                self.fault(f"unpin n{n}")
                node.refusals.clear()
            case "busy" if node.mounts.get(fs):
                self.fault(f"busy n{n} {fs}")
                node.busy.add(fs)
            case "free" if node.busy:
                self.fault(f"free n{n}")
                node.busy.clear()
            case _:
                pass

    def heal(self) -> None:
        """End all trouble; then everything must come to rest, with trees, links, mounts and tables in agreement."""
        w = self.world
        self.story.append("-- all trouble ends")
        for node in w.nodes.values():
            node.refusals.clear()
            node.busy.clear()
            if w.engine.engines[node.number].state is State.HUNG:
                w.engine.resume(node.number)
        w.engine.heal()
        w.manual_fences = False
        for round_ in range(6):
            for n, node in w.nodes.items():
                if not node.power:
                    w.power_on(n)
                    continue
                if w.engine.engines[n].state is State.DOWN:
                    w.engine.start_engine(n)
                if node.o2cb is None:
                    w.start_o2cb(n)
                if node.ocfs2 is None:
                    w.start_ocfs2(n)
                for connection, client in list(node.clients.items()):
                    if client.hold or client.answered:
                        w.client_dies(n, connection)
            self.settle(40.0 if round_ < 5 else 400.0)
        self.rest()

    def settle(self, seconds: float) -> None:
        w, r = self.world, self.random
        end = w.now + seconds
        for _ in range(200_000):
            choices = w.choices()
            if choices:
                w.do(r.choice(choices))
                continue
            wake = min((x for x in w.wakes() if x > w.now), default=end)
            if wake >= end:
                break
            w.now = wake
            w.tick()
            w.judge()
        else:
            raise Broken("law 3: no rest: " + repr(w.choices()[:3]))
        w.now = end
        w.tick()

    def rest(self) -> None:
        """What must be so when nothing is wrong any more."""
        w = self.world
        everyone = {n.number for n in w.nodes.values()}
        for n, node in w.nodes.items():
            if not node.power or node.ocfs2 is None or node.o2cb is None:
                raise Broken(f"law 18: n{n} is not up at rest")
            standing = {x.number: x.address for x in node.kernel.nodes if x.complete}
            wanted = {x.number: x.address for x in w.engine.nodes if x.number in everyone}
            if standing != wanted:
                raise Broken(f"law 3: the tree of n{n} is {standing}, not {wanted}")
            for fs in FILESYSTEMS:
                members = {x.number for x in w.writers(fs)}
                linked, region = self.world.linked(node, fs), uuid(fs) in node.kernel.regions
                if n in members and linked != members:
                    raise Broken(f"law 3: n{n} links {linked} in {fs}, not {members}")
                if n not in members and (region or linked):
                    raise Broken(f"law 12: n{n} has {fs} in its kernel, and nobody uses it")
                local = node.ocfs2.locals.get(uuid(fs))
                if n in members and (local is None or local.usage is not Usage.USED or not local.running):
                    raise Broken(f"law 7: {fs} does not run on n{n}: {local}")
                if n not in members and local is not None:
                    raise Broken(f"law 18: n{n} still has {fs}: {local}")
            shared = {f.file for f in node.kernel.flocks if not f.exclusive and f.holder == "ocfs2"}
            links = {str(x) for fs in FILESYSTEMS for x in w.linked(node, fs)}
            if not shared - {"service"} <= links:
                raise Broken(f"law 3: n{n} holds locks {shared} for links {links}")
            for fs, local in node.ocfs2.locals.items():
                if local.calls:
                    raise Broken(f"law 3: calls under way at rest in {fs}: {local.calls}")


__all__ = ["O2CB", "Broken", "Judged", "Run", "Tally"]
