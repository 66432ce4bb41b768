"""A seeded scheduler over a whole cluster: what happens next, which faults come when, what must hold all the while.

A seed is a history: every choice comes from random.Random(seed), and each is written down as a decision, so that a run
can be repeated with some of them left out (shrink.py). The scheduler does not wait for rare things to meet by chance. A
run is made of episodes (plots.py), each after one kind of trouble: a join or a leave is set going, followed into a
phase, and hit there, while chosen streams lag behind. Then it is got over, or not quite.
"""

import random
from collections.abc import Iterable

from libo2cb.engine.model import State
from o2cb_controld import mind as o2mind
from ocfs2_controld.state import FencingKind, Usage
from tests.simulation.faults import Decision, Faults
from tests.simulation.judged import FILESYSTEMS, O2CB, OCFS2, Broken, Judged, Tally
from tests.simulation.plots import Plotter
from tests.simulation.world import Choice, uuid

STEPS = 180
"""Steps of a run until all trouble ends, unless said."""
MOST = 200_000
"""Steps within which all must have come to rest."""


class Run(Plotter):
    """One seeded run.

    Args:
        seed: all that happens follows from it.
        size: number of nodes; the seed says unless given.
        steps: after how many steps all trouble ends.
        recorded: whether the judges of tests/laws hear it too.
    """

    def __init__(self, seed: int, *, size: int | None = None, steps: int = STEPS, recorded: bool = True) -> None:
        r = random.Random(seed)  # noqa: S311 (a seed is a history)
        self.seed = seed
        self.steps = steps
        self.decisions: list[Decision] = []
        self.story: list[str] = []
        drawn = r.choices(range(2, 9), (3, 8, 5, 3, 1, 1, 1))[0]
        self.size = size or drawn  # drawn in any case: a replay, which gives it, draws the rest alike
        self.world = Judged(
            self.size,
            recorded=recorded,
            fencing=FencingKind.MANUAL if r.random() < 0.15 else FencingKind.COMMAND,
            tell=self.story.append,
            careful=r.random() < 0.4,
            two_node=self.size == 2 and r.random() < 0.3,
        )
        self.world.manual_fences = True
        self.world.grace = r.choice((30.0, 30.0, 30.0, 8.0))
        self.world.join_delay = r.choice((0.0, 0.0, 20.0))
        self.world.mount_seconds = r.choice((300.0, 300.0, 60.0, 12.0, 4.0))
        self.faults = Faults(self.world, self.story.append)
        super().__init__(r)

    # decisions

    def do(self, choice: Choice) -> None:
        """Let one thing happen that can happen."""
        self.decisions.append(("do", *choice))
        self.world.do(choice)

    def fault(self, name: str, *args: object) -> bool:
        """Let a fault happen; whether it could."""
        self.decisions.append((name, *args))
        return self.faults.apply(name, *args)

    def pass_time(self, most: float = 1000.0) -> None:
        """Let time pass until somebody wants to look, but not longer than this."""
        self.decisions.append(("time", most))
        pass_time(self.world, most)

    # the run

    def go(self) -> Tally:
        """Run, heal everything, and come to rest.

        Raises:
            Broken: a law does not hold.
        """
        begin(self.world)
        self.prologue()
        self.world.tally.steps = 0
        while self.world.tally.steps < self.steps:
            self.episode()
        conclude(self)
        return self.world.tally


class Replay:
    """A run with given decisions: of another run, or some of them.

    Args:
        run: the run; its world's options are taken over.
        decisions: what is to happen; what cannot happen is passed over.
    """

    def __init__(self, run: Run, decisions: Iterable[Decision]) -> None:
        again = Run(run.seed, size=run.size, steps=run.steps, recorded=run.world.recorded)
        self.seed, self.size = run.seed, run.size
        self.world, self.story, self.faults = again.world, again.story, again.faults
        self.given = list(decisions)
        self.decisions: list[Decision] = []

    def go(self) -> Tally:
        """Run what is given, heal everything, and come to rest.

        Raises:
            Broken: a law does not hold.
        """
        begin(self.world)
        for decision in self.given:
            self.decisions.append(decision)  # before: the last one may be what breaks a law
            if not self._takes_place(decision):
                self.decisions.pop()
        conclude(self)
        return self.world.tally

    def _takes_place(self, decision: Decision) -> bool:
        name, *args = decision
        if name == "do":
            choice = tuple(map(str, args))
            if choice not in self.world.choices():
                return False
            self.world.do(choice)
            return True
        if name == "time":
            pass_time(self.world, float(str(args[0])))
            return True
        return self.faults.apply(str(name), *args)


def begin(world: Judged) -> None:
    """Every node is switched on, and the daemons get ready. All meet at once: to come one by one takes far longer."""
    world.engine.cut([[n] for n in world.nodes])
    for n in world.nodes:
        world.power_on(n)
    world.engine.heal()
    world.settle()
    world.tally.steps = 0


def pass_time(world: Judged, most: float) -> None:
    """Let time pass until somebody wants to look, but not longer than this."""
    wake = min((x for x in world.wakes() if x > world.now), default=None)
    if wake is not None:
        world.now = min(wake, world.now + most)
        world.tick()
        world.judge()
        world.judge_waits()


def conclude(run: Run | Replay) -> None:
    """End all trouble; then everything must come to rest, with trees, links, mounts and tables in agreement."""
    w = run.world
    r = random.Random(run.seed)  # noqa: S311 (a seed is a history; also one with decisions left out)
    run.story.append("-- all trouble ends")
    run.faults.never.clear()
    for n, node in w.nodes.items():
        node.refusals.clear()
        node.busy.clear()
        for daemon in sorted(node.paused):
            w.go_on(n, daemon)
        if node.power and w.life(n) in w.moved:
            # Law 1 keeps what is linked as it is: the change would wait until the node has left its filesystems.
            own = [x.address for x in node.kernel.nodes if x.local]
            w.readdress(n, own[0] if own else w.engine.configured(n).address)
        if w.engine.engines[n].state is State.HUNG:
            w.engine.resume(n)
    w.engine.heal()
    w.manual_fences = False
    for round_ in range(6):
        for n in w.nodes:
            _revive(run, n)
        _settle(w, r, 40.0 if round_ < 5 else 400.0)
    at_rest(w)
    w.finish()


def _revive(run: Run | Replay, n: int) -> None:
    w, node = run.world, run.world.nodes[n]
    if not node.power:
        w.power_on(n)
        return
    if w.engine.engines[n].state is State.DOWN:
        w.engine.start_engine(n)
    elif w.engine.question(n) is not None:
        run.faults.apply("engine asks", n)
    if node.o2cb is None:
        w.start_o2cb(n)
    if node.ocfs2 is None:
        w.start_ocfs2(n)
    for connection, client in list(node.clients.items()):
        if client.hold or client.answered:
            w.client_dies(n, connection)


def _settle(w: Judged, r: random.Random, seconds: float) -> None:
    end = w.now + seconds
    for _ in range(MOST):
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
        w.judge_waits()
    else:
        raise Broken("law 3: no rest: " + repr(w.choices()[:3]))
    w.now = end
    w.tick()


def at_rest(w: Judged) -> None:
    """What must be so when nothing is wrong any more."""
    everyone = {n.number for n in w.nodes.values()}
    tables = set()
    for n, node in w.nodes.items():
        if not node.power or node.ocfs2 is None or node.o2cb is None:
            raise Broken(f"law 18: n{n} is not up at rest")
        standing = {x.number: x.address for x in node.kernel.nodes if x.complete}
        wanted = {x.number: x.address for x in w.engine.nodes if x.number in everyone}
        if standing != wanted:
            raise Broken(f"law 3: the tree of n{n} is {standing}, not {wanted}")
        if node.o2cb.slots or node.o2cb.requests or o2mind.waiting(node.o2cb):
            raise Broken(f"law 3: o2cb_controld of n{n} has a queue at rest: {o2mind.waiting(node.o2cb)}")
        if not node.o2cb.ready or not node.ocfs2.ready:
            raise Broken(f"law 16: n{n} is not ready at rest")
        tables.add(node.ocfs2.table)
        for fs in FILESYSTEMS:
            _group_at_rest(w, n, fs)
        shared = {f.file for f in node.kernel.flocks if not f.exclusive and f.holder == "ocfs2"}
        links = {str(x) for fs in FILESYSTEMS for x in w.linked(node, fs)}
        if not shared - {"service"} <= links:
            raise Broken(f"law 3: n{n} holds locks {shared} for links {links}")
        if any(f.exclusive and f.file != "service" for f in node.kernel.flocks):
            raise Broken(f"law 3: n{n} holds an exclusive lock at rest: {node.kernel.flocks}")
    if len(tables) != 1:
        raise Broken(f"law 3: {len(tables)} tables at rest")
    w.judge_waits()


def _group_at_rest(w: Judged, n: int, fs: str) -> None:
    node = w.nodes[n]
    assert node.ocfs2 is not None
    members = {x.number for x in w.writers(fs)}
    linked, region = w.linked(node, fs), uuid(fs) in node.kernel.regions
    if n in members and linked != members:
        raise Broken(f"law 3: n{n} links {linked} in {fs}, not {members}")
    if n not in members and (region or linked):
        raise Broken(f"law 12: n{n} has {fs} in its kernel, and nobody uses it")
    local = node.ocfs2.locals.get(uuid(fs))
    if n in members and (local is None or local.usage is not Usage.USED or not local.running):
        raise Broken(f"law 7: {fs} does not run on n{n}: {local}")
    if n not in members and local is not None:
        raise Broken(f"law 18: n{n} still has {fs}: {local}")
    if local is not None and local.calls:
        raise Broken(f"law 3: calls under way at rest in {fs}: {local.calls}")


__all__ = ["O2CB", "OCFS2", "Broken", "Judged", "Replay", "Run", "Tally"]
