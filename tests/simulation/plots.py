"""Episodes of a run: what a nemesis aims at.

Each plot is after one kind of trouble, at places where the protocol is known to be delicate: a change of members in one
of its phases, last words that only their speaker has heard, a daemon that is back before it was missed, two majorities
one after the other. Who is hit, when, and which streams lag behind meanwhile, is drawn.
"""

import random
from abc import ABC, abstractmethod
from collections.abc import Callable
from errno import EBUSY, EIO, ENOMEM

from libo2cb.engine.model import State
from protocol.group import Phase
from tests.simulation.judged import O2CB, OCFS2, Judged
from tests.simulation.world import Choice, SimNode, uuid

PATIENCE = 150
"""Steps for which a change is followed until it comes to the phase that is wanted."""
MOUNTED = 4
"""Nodes on which a filesystem is mounted at first, at most."""
STALLED = 30
"""Times that time passes while a daemon stands still, at most."""
BURST = (1, 2, 2, 3, 3, 5)
WALKS = (0, 0, 0, 1, 2, 4, 8, 16, 32)
CLIENTS = ("mount", "umount", "client dies", "fence", "time")
"""What every run knows."""
SIGNALS = ("SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT")
CALLS = ("mkdir", "rmdir", "LINK", "UNLINK", "MAKE_REGION", "REMOVE_REGION")
ERRNOS = {"rmdir": (EBUSY, EBUSY, EIO), "mkdir": (ENOMEM, EIO)}


class Plotter(ABC):
    """Draws what befalls a world."""

    world: Judged
    size: int

    def __init__(self, r: random.Random) -> None:
        self.random = r
        self.lagging: set[Choice] = set()
        self.filesystems = r.choice(("F", "F", "F", "FG"))
        self.off_addresses = 30
        # Swarm: each run knows only some faults and plots, so that rare ones meet each other often in some runs.
        self.kinds = [k for k in BLOWS if k in CLIENTS or r.random() < 0.5]
        self.plots = [p for p in PLOTS if r.random() < 0.6] or [Plotter.change]
        self.aim: int | None = None

    @abstractmethod
    def do(self, choice: Choice) -> None:
        """Let one thing happen that can happen."""

    @abstractmethod
    def fault(self, name: str, *args: object) -> bool:
        """Let a fault happen; whether it could."""

    @abstractmethod
    def pass_time(self, most: float = 1000.0) -> None:
        """Let time pass until somebody wants to look, but not longer than this."""

    def chance(self, odds: float) -> bool:
        return self.random.random() < odds

    def somebody(self) -> int:
        """A node: the one aimed at, as often as not."""
        if self.aim is not None and self.chance(0.5):
            return self.aim
        return self.random.randint(1, self.size)

    def some(self, odds: float = 0.4) -> tuple[int, ...]:
        return tuple(n for n in range(1, self.size + 1) if self.chance(odds))

    def last_words(self, *mostly: int) -> tuple[int, ...]:
        """Nodes whose last message nobody else receives."""
        return tuple(n for n in range(1, self.size + 1) if self.chance(0.6 if n in mostly else 0.1))

    def address(self) -> str:
        self.off_addresses += 1
        return f"10.0.0.{self.off_addresses}"

    def here(self, fs: str, *, mounted: bool) -> list[SimNode]:
        """Nodes whose daemon runs and that have a filesystem mounted, or have not."""
        return [n for n in self.world.nodes.values() if n.ocfs2 is not None and bool(n.mounts.get(fs)) == mounted]

    # walking

    def walk(self, steps: int) -> None:
        """Let some of what can happen happen, in any order; what lags comes last."""
        for _ in range(steps):
            if not self.step():
                return

    def step(self) -> bool:
        choices = self.world.choices()
        if not choices:
            return False
        if self.lagging:
            choices = [c for c in choices if c not in self.lagging] or choices
        self.do(self.random.choice(choices))
        return True

    def lag(self) -> None:
        """Choose what lags behind in this episode: a stream, a node's streams, a service everywhere, a daemon."""
        r, nodes = self.random, [str(n) for n in range(1, self.size + 1)]
        n = str(self.somebody())
        match r.randrange(7):
            case 0:
                self.lagging = set()
            case 1:
                self.lagging = {("deliver", n, OCFS2, r.choice(("channel", "membership")))}
            case 2:
                self.lagging = {("deliver", n, OCFS2, "channel"), ("deliver", n, OCFS2, "membership")}
            case 3:
                self.lagging = {("deliver", m, OCFS2, "membership") for m in nodes}
            case 4:
                self.lagging = {("deliver", m, OCFS2, "channel") for m in nodes if m != n}
            case 5:
                self.lagging = {(what, n) for what in ("o2cb acts", "o2cb reads", "connect")}
                self.lagging.add(("deliver", n, O2CB, "membership"))
            case _:
                self.lagging = {("ocfs2 acts", n), ("ocfs2 reads", n)}

    def until(self, seen: Callable[[], bool], steps: int = PATIENCE) -> bool:
        """Walk until something is so."""
        for _ in range(steps):
            if seen():
                return True
            if not self.step() and not self._on():
                return seen()
        return seen()

    def _on(self) -> bool:
        """Nothing can happen: a fence, or time."""
        if self.world.fences and self.chance(0.7):
            return self.fault("fence", self.random.randrange(8))
        if self.chance(0.5):
            self.pass_time(6.0)
            return True
        return False

    def phase(self, fs: str) -> set[Phase]:
        """The phases that a group has in the tables of the cluster."""
        states = [n.ocfs2 for n in self.world.nodes.values() if n.ocfs2 is not None]
        groups = [s.table.groups.get(uuid(fs)) for s in states if s.table is not None]
        return {g.phase for g in groups if g is not None}

    # the parts of a run

    def prologue(self) -> None:
        """A run mostly begins with a filesystem mounted on some nodes."""
        for fs in self.filesystems:
            some = self.random.sample(range(1, self.size + 1), self.random.randint(0, min(self.size, MOUNTED)))
            for n in some:
                self.fault("mount", n, fs, False)
                if self.chance(0.5):
                    self.until(lambda: not self.world.choices())
            self.until(lambda: not self.world.choices())

    def episode(self) -> None:
        """One plot, and its end: got over, or not quite."""
        self.aim = None
        self.random.choice(self.plots)(self)
        self.lagging = set()
        if self.chance(0.8):
            self.recover(self.random.choice((10, 40, 80, 120)))

    def recover(self, steps: int) -> None:
        """Get over it: what is down comes back, what is fenced is fenced, time passes."""
        for _ in range(steps):
            if self.step():
                continue
            if self.world.fences and self.chance(0.8):
                self.fault("fence", self.random.randrange(8))
            elif self.chance(0.6):
                if not self.mend():
                    return
            else:
                self.pass_time()

    def mend(self) -> bool:
        """Bring back one thing that is down; whether there is any."""
        w, found = self.world, list[tuple[object, ...]]()
        for n, node in w.nodes.items():
            state = w.engine.engines[n].state
            if not node.power:
                found.append(("power on", n, self.address() if self.chance(0.3) else "", self.chance(0.5)))
                continue
            if state is State.DOWN:
                found.append(("engine start", n, self.chance(0.5)))
            elif state is State.HUNG:
                found.append(("resume", n, self.chance(0.5)))
            found.extend(("start", n, d) for d, x in ((O2CB, node.o2cb), (OCFS2, node.ocfs2)) if x is None)
            found.extend(("go on", n, d) for d in sorted(node.paused))
            if node.refusals:
                found.append(("obey", n))
            if node.busy:
                found.append(("free", n))
        if any(e.side for e in w.engine.engines.values()):
            found.append(("heal",))
        if not found:
            return False
        name, *args = self.random.choice(found)
        return self.fault(str(name), *args)

    def blow(self) -> None:
        """Let one fault happen, of those that this run knows."""
        name = self.random.choice(self.kinds)
        BLOWS[name](self)

    def burst(self) -> None:
        """Faults close together."""
        for _ in range(self.random.choice(BURST)):
            self.blow()
            self.walk(self.random.choice(WALKS))

    def begin_change(self, fs: str) -> None:
        """Set a join or a leave going, and aim at its node."""
        out, inside = self.here(fs, mounted=False), self.here(fs, mounted=True)
        if out and (not inside or self.chance(0.6)):
            self.aim = self.random.choice(out).number
            self.fault("mount", self.aim, fs, self.chance(0.15))
        elif inside:
            self.aim = self.random.choice(inside).number
            self.fault("umount", self.aim, fs, self.chance(0.2))

    # plots

    def storm(self) -> None:
        """Anything."""
        for _ in range(self.random.randint(1, 4)):
            if self.chance(0.3):
                self.lag()
            self.burst()

    def change(self) -> None:
        """A join or a leave is followed into one of its phases, and hit there."""
        fs = self.random.choice(self.filesystems)
        self.begin_change(fs)
        if self.chance(0.6):
            self.lag()
        wanted = self.random.choice((Phase.LOCK, Phase.STOP, Phase.START, Phase.START, Phase.RECOVER))
        self.until(lambda: wanted in self.phase(fs), 60)
        self.walk(self.random.choice(WALKS))
        if self.chance(0.5):
            self.lag()
        self.burst()
        if self.chance(0.3):
            self.begin_change(fs)

    def recovery(self) -> None:
        """Somebody is lost; while the others recover, more happens."""
        fs = self.random.choice(self.filesystems)
        inside = self.here(fs, mounted=True)
        if inside:
            self.aim = self.random.choice(inside).number
            BLOWS[self.random.choice(("power off", "cut", "hang", "fast restart", "engine crash", "kill"))](self)
        self.until(lambda: Phase.RECOVER in self.phase(fs), 60)
        if self.chance(0.5):
            self.begin_change(fs)
        self.lag()
        self.walk(self.random.choice(WALKS))
        if self.world.fences and self.chance(0.5):
            self.fault("fence", self.random.randrange(8))
            self.walk(self.random.choice(WALKS))
        self.burst()

    def last_word(self) -> None:
        """A node hears itself before anybody else does, acts on it, and is gone with the message."""
        fs = self.random.choice(self.filesystems)
        self.begin_change(fs)
        n = self.aim or self.somebody()
        wanted = self.random.choice((Phase.LOCK, Phase.STOP, Phase.START, Phase.START, Phase.START))
        self.until(lambda: wanted in self.phase(fs), 60)
        # The others answer first, then hear no more; it goes on alone with what it hears of itself.
        self.lagging = {("deliver", str(n), OCFS2, "channel")} if self.chance(0.7) else set()
        self.walk(self.random.choice((2, 4, 8, 16, 32)))
        others = [str(m) for m in range(1, self.size + 1) if m != n]
        self.lagging = {("deliver", m, OCFS2, "channel") for m in others}
        was = bool(self.world.nodes[n].mounts.get(fs))
        changed = self.until(lambda: bool(self.world.nodes[n].mounts.get(fs)) != was, 25)
        self.walk(0 if changed else self.random.choice(WALKS))
        lost = self.last_words(n)
        match self.random.randrange(5):
            case 0:
                self.fault("power off", n, lost)
            case 1 | 2:
                self.fault("cut", (n,), lost)
            case 3:
                self.fault("hang", n, lost)
            case _:
                self.fault("fast restart", n, self.chance(0.5), lost)
        if self.chance(0.4):
            self.walk(self.random.choice(WALKS))
            self.fault("heal")
        self.until(lambda: False, self.random.choice((10, 40)))

    def respawn(self) -> None:
        """Daemons die and are back before they were missed."""
        fs = self.random.choice(self.filesystems)
        if self.chance(0.5):
            self.begin_change(fs)
            self.walk(self.random.choice((0, 4, 8, 16, 32)))
        self.lag()
        for _ in range(self.random.randint(1, 3)):
            n = self.somebody()
            for daemon in self.random.choice(((O2CB,), (OCFS2,), (OCFS2,), (O2CB, OCFS2))):
                self.fault("kill", n, daemon)
                if self.chance(0.3):
                    self.fault("signal", n, O2CB if daemon == OCFS2 else OCFS2, self.random.choice(SIGNALS))
                self.walk(self.random.choice(WALKS))
                self.fault("start", n, daemon)
            self.walk(self.random.choice(WALKS))

    def reboot(self) -> None:
        """Nodes are off and on again before they were missed, at another address or at the same."""
        fs = self.random.choice(self.filesystems)
        if self.chance(0.4):
            self.begin_change(fs)
            self.walk(self.random.choice(WALKS))
        self.lag()
        for _ in range(self.random.randint(1, 2)):
            n = self.somebody()
            self.fault("power off", n, self.last_words(n))
            self.walk(self.random.choice(WALKS))
            self.fault("power on", n, self.address() if self.chance(0.6) else "", self.chance(0.5))
            self.walk(self.random.choice(WALKS))
            if self.chance(0.5):
                self.fault("mount", n, fs, False)
                self.walk(self.random.choice(WALKS))

    def majorities(self) -> None:
        """One majority after the other: who was in neither knows of nothing, and who was in the first is away."""
        fs, r = self.random.choice(self.filesystems), self.random
        if self.chance(0.5):
            for node in self.here(fs, mounted=True):
                self.fault("umount", node.number, fs, False)
            self.until(lambda: not self.world.choices(), 100)
        for _ in range(r.randint(1, 3)):
            minority = r.sample(range(1, self.size + 1), r.randint(1, max(1, (self.size - 1) // 2)))
            self.fault("cut", tuple(sorted(minority)), self.last_words())
            self.until(lambda: not self.world.choices(), r.choice((10, 60, 60)))
            majority = [n for n in range(1, self.size + 1) if n not in minority]
            if self.chance(0.7):
                self.fault("mount", r.choice(majority), fs, False)
                self.until(lambda: not self.world.choices(), r.choice((10, 60, 60)))
            if self.chance(0.7):
                n = r.choice(majority)
                self.fault("power off", n, ())
                self.walk(r.choice(WALKS))
                if self.chance(0.8):
                    self.fault("power on", n, "", False)

    def halves(self) -> None:
        """Quorum goes and comes for some, and nobody is lost; or the ring changes again before it is known."""
        self.lag()
        for _ in range(self.random.randint(1, 3)):
            self.fault("cut", self.some(0.5), self.last_words())
            self.walk(self.random.choice(WALKS))
            if self.chance(0.8):
                self.fault("heal")
                self.walk(self.random.choice(WALKS))

    def stall(self) -> None:
        """A daemon stands still, and owes what the others wait for, until they go on without it."""
        n, other = self.somebody(), self.somebody()
        self.fault("pause", n, OCFS2)
        if self.chance(0.5):
            self.begin_change(self.random.choice(self.filesystems))
        elif other != n:
            self.fault("kill", other, OCFS2)
            self.walk(self.random.choice(WALKS))
            self.fault("start", other, OCFS2)
        end = self.world.now + self.world.grace + self.random.choice((1.0, 4.0, 40.0))
        for _ in range(STALLED):
            if self.world.now >= end:
                break
            self.until(lambda: not self.world.choices())
            self.pass_time(min(5.0, end - self.world.now))
        if self.chance(0.7):
            self.fault("go on", n, OCFS2)

    def squeeze(self) -> None:
        """The kernel refuses while members change."""
        fs = self.random.choice(self.filesystems)
        for _ in range(self.random.randint(1, 2)):
            _refuse(self)
        self.begin_change(fs)
        self.walk(self.random.choice((8, 16, 32)))
        self.burst()
        if self.chance(0.6):
            for n in range(1, self.size + 1):
                self.fault("obey", n)


PLOTS: tuple[Callable[[Plotter], None], ...] = (
    Plotter.storm,
    Plotter.storm,
    Plotter.change,
    Plotter.change,
    Plotter.recovery,
    Plotter.last_word,
    Plotter.respawn,
    Plotter.reboot,
    Plotter.majorities,
    Plotter.halves,
    Plotter.stall,
    Plotter.squeeze,
)


def _refuse(p: Plotter) -> None:
    call = p.random.choice(CALLS)
    name = f"n{p.random.randint(1, p.size)}" if "REGION" not in call else ""
    p.fault("refuse", p.somebody(), call, name, p.random.choice(ERRNOS.get(call, (ENOMEM, EIO))))


def _power_off(p: Plotter) -> None:
    n = p.somebody()
    p.fault("power off", n, p.last_words(n))


def _mend(p: Plotter) -> None:
    p.mend()


def _engine_crash(p: Plotter) -> None:
    n = p.somebody()
    p.fault("engine crash", n, p.last_words(n))


def _hang(p: Plotter) -> None:
    n = p.somebody()
    p.fault("hang", n, p.last_words(n))


def _fast_restart(p: Plotter) -> None:
    n = p.somebody()
    p.fault("fast restart", n, p.chance(0.5), p.last_words(n))


def _client_dies(p: Plotter) -> None:
    nodes = [n.number for n in p.world.nodes.values() if n.clients]
    p.fault("client dies", p.random.choice(nodes) if nodes else p.somebody(), p.random.randrange(4), p.chance(0.5))


BLOWS: dict[str, Callable[[Plotter], object]] = {
    "mount": lambda p: p.fault("mount", p.somebody(), p.random.choice(p.filesystems), p.chance(0.2)),
    "umount": lambda p: p.fault("umount", p.somebody(), p.random.choice(p.filesystems), p.chance(0.3)),
    "client dies": _client_dies,
    "stranger": lambda p: p.fault("stranger", p.somebody(), p.random.choice(p.filesystems), p.random.randrange(8)),
    "garbage": lambda p: p.fault("garbage", p.somebody()),
    "fence": lambda p: p.fault("fence", p.random.randrange(8)),
    "fence fails": lambda p: p.fault("fence fails", p.random.randrange(8)),
    "fence never": lambda p: p.fault("fence never", p.somebody()),
    "lie": lambda p: p.fault("lie", p.random.randrange(8)) if p.chance(0.3) else None,
    "acknowledge": lambda p: p.fault("acknowledge", p.somebody(), p.somebody(), p.chance(0.85)),
    "time": lambda p: p.pass_time(p.random.choice((1.0, 10.0, 1000.0))),
    "mend": _mend,
    "power off": _power_off,
    "kill": lambda p: p.fault("kill", p.somebody(), p.random.choice((O2CB, OCFS2))),
    "pause": lambda p: p.fault("pause", p.somebody(), p.random.choice((O2CB, OCFS2))),
    "signal": lambda p: p.fault("signal", p.somebody(), p.random.choice((O2CB, OCFS2)), p.random.choice(SIGNALS)),
    "cut": lambda p: p.fault("cut", p.some(), p.last_words()),
    "heal": lambda p: p.fault("heal"),
    "engine crash": _engine_crash,
    "engine stop": lambda p: p.fault("engine stop", p.somebody()),
    "engine asks": lambda p: p.fault("engine asks", p.somebody()),
    "fast restart": _fast_restart,
    "hang": _hang,
    "refuse": _refuse,
    "obey": lambda p: p.fault("obey", p.somebody()),
    "busy": lambda p: p.fault("busy", p.somebody(), p.random.choice(p.filesystems)),
    "readdress": lambda p: p.fault("readdress", p.somebody(), p.address()) if p.chance(0.5) else None,
}
"""The faults that a burst is made of."""
