"""kill -9 of a real daemon before each of its system calls that touch kernel tree, locks or sockets.

    python -m tests.process.killpoints --list                 the sites of all scenes
    python -m tests.process.killpoints --scene death          one kill for each site of a scene
    python -m tests.process.killpoints --site "flock run/"    only sites whose line in the list has this text
    python -m tests.process.killpoints --all                  also for each path and each count behind a site

A scene is recorded first, twice; a site is a call that both recordings have. Then for each site: the scene again with
the kill, the daemon's restart, rest, and the judges. docs/killpoints.md tells more.
"""

import argparse
import hashlib
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.process.killscenes import SCENES, Scene, Stage
from tests.process.killsites import Places, Shot, Site, Strace, calls, killed_at, shots
from tests.process.lab import CLUSTER, DAEMONS, O2CB, Daemon, Lab, Node, until
from tests.process.node import DEADLINE

if TYPE_CHECKING:
    from libo2cb.service.report import Ocfs2Report
    from libo2cb.service.report_groups import Lost

PATIENT: Final = 4 * DEADLINE
"""Seconds for a scene under strace: a program that starts under it, such as a fence command, takes far longer."""
TRIES: Final = 3
"""A site that is chosen by count may be missed, where calls came in another order: then it is tried again."""


class MissedError(AssertionError):
    """The daemon was not killed at its site."""


@dataclass(frozen=True, slots=True)
class Kill:
    """A kill that was made.

    Attributes:
        site: where the daemon died.
        tries: how many it took.
        seconds: of the last, all told.
    """

    site: Site
    tries: int
    seconds: float


class Range:
    """A lab of two nodes in which one scene is run again and again.

    Args:
        lab: it.
        scene: what goes on.
    """

    def __init__(self, lab: Lab, scene: Scene) -> None:
        self.lab = lab
        self.scene = scene
        self.n1: Final[Node] = lab["n1"]
        self._runs = count(1)

    @classmethod
    @contextmanager
    def open(cls, scene: Scene) -> Iterator["Range"]:
        """With a lab of its own; at the end its daemons are all alive, and the laws kept."""
        with Lab.up(2, scene.settings) as lab:
            it = cls(lab, scene)
            yield it
            broken = lab.judged()
            assert not broken, broken

    def record(self, *, each: bool = False) -> list[Shot]:
        """How to hit each site: those that come in both of two recordings, in the order of the first."""
        first, second = (self._recording(each=each) for _ in range(2))
        return [shot for shot in first if shot in set(second)]

    def _recording(self, *, each: bool) -> list[Shot]:
        stage = self._stage()
        traces: list[tuple[Daemon, Places, Strace]] = []
        with ExitStack() as attached:
            for daemon in DAEMONS:
                places = Places.of(self.n1, daemon, stage.volume)
                output = self.lab.sandbox.root / f"{stage.volume.label}.{daemon}.strace"
                trace = attached.enter_context(Strace.recorder(self.n1.process(daemon).pid, output))
                traces.append((daemon, places, trace))
            self.scene.begin(stage)
            until(f"{self.scene.name} is over", lambda: self.scene.over(stage), PATIENT)
            for *_, trace in traces:
                trace.stop()
        self._rests(stage)
        self._reset(stage)
        return [
            shot
            for daemon, places, trace in traces
            for shot in shots(calls(trace.lines(), places), self.scene.name, daemon, each=each)
        ]

    def kill(self, shot: Shot, tries: int = TRIES) -> Kill:
        """Kill at a site, restart, judge.

        Raises:
            MissedError: the daemon was never killed there.
            AssertionError: what came after was wrong; the text names the site.
        """
        for tried in range(1, tries + 1):
            start = time.monotonic()
            try:
                died = self._once(shot)
            except AssertionError as error:
                raise AssertionError(
                    f"after a kill before {shot.site} (call {shot.when} of a thread): {error}"
                ) from error
            if any(site == shot.site for site in died):
                return Kill(shot.site, tried, time.monotonic() - start)
        raise MissedError(f"not killed before {shot.site}, but before {', '.join(map(str, died)) or 'nothing'}")

    def _once(self, shot: Shot) -> list[Site]:
        """Run the scene with a kill; the sites where the daemon died (threads die together), none if it lives."""
        stage, daemon = self._stage(), shot.site.daemon
        victim = self.n1.process(daemon)
        places = Places.of(self.n1, daemon, stage.volume)
        output = self.lab.sandbox.root / f"{stage.volume.label}.strace"
        died: list[Site] = []
        with Strace.killer(victim.pid, output, shot, places) as strace:
            self.scene.begin(stage)
            what = f"{self.scene.name} is over, or {daemon} is killed"
            until(what, lambda: not victim.alive() or self.scene.over(stage), PATIENT)
            if self._goes_on(daemon):
                strace.stop()
            else:
                strace.ended()
        # Killed at the last moment, while strace let go: then where is not told, and this was no kill at the site.
        if not self._goes_on(daemon):
            died = [Site(self.scene.name, daemon, c.name, c.about) for c in killed_at(strace.lines(), places)]
            self.n1.start(daemon)
        self._rests(stage)
        self._new_client(stage)
        self._reset(stage)
        return died

    def _goes_on(self, daemon: Daemon) -> bool:
        """Whether a daemon lives, and has done all that it was about to do: it answers what it is asked after that."""
        victim, ask = self.n1.process(daemon), self.n1.o2cb if daemon == O2CB else self.n1.ocfs2

        def is_known() -> bool:
            return not victim.alive() or ask() is not None

        until(f"{daemon} answers, or is killed", is_known)
        return victim.alive()

    def _stage(self) -> Stage:
        """Everything is up and rests; the scene's stage is set."""
        number = next(self._runs)
        stage = Stage(self.lab, self.lab.volume(f"v{number}"), f"10.0.{1 + number // 250}.{1 + number % 250}")
        self.scene.before(stage)
        self.n1.mark()
        return stage

    def _rests(self, stage: Stage) -> None:
        """The cluster comes to rest, in a state that agrees with itself; no law was broken on the way."""
        for tool in stage.tools:
            tool.wait()
        for node in self._on():
            node.ready()
        self._fence()
        self.lab.rest()
        addresses = {node["name"]: node["address"] for node in self.lab.hub("status")["nodes"]}
        on = {node.name: addresses[node.name] for node in self._on()}
        for node in self._on():
            _is_consistent(node, on)
        broken = self.lab.breaches(at_rest=True)
        assert not broken, broken

    def _fence(self) -> None:
        """Where an operator fences: say of each node that is off, and is waited for, that it is."""
        if self.scene.settings.fencing != "manual":
            self.n1.until_ocfs2("nobody is unfenced", lambda r: not r.unfenced)
            return
        for name in sorted({lost.name for lost in _waits(self.n1)} - {n.name for n in self._on()}):
            self.n1.fenced(name)

    def _new_client(self, stage: Stage) -> None:
        """A client that comes now can mount, and unmount."""
        fresh = self.lab.volume(f"{stage.volume.label}b")
        self.n1.mount(fresh, "/fresh")
        self.n1.group(fresh, members=["n1"], links=[1], mount_points=["/fresh"])
        self.n1.umount("/fresh")

    def _reset(self, stage: Stage) -> None:
        """Everything on, nothing mounted."""
        if not self.lab.is_on("n2"):
            self.lab.power_on("n2")
            self.lab["n2"].ready()
        for node in self._on():
            for mount in node.mounts.mounts():
                node.umount(mount.mount_point)
            node.until_ocfs2("every group is left", lambda r: not any(g.here for g in r.groups) and not r.live_regions)
        self.lab.rest()
        stage.volume.path.unlink()

    def _on(self) -> list[Node]:
        return [node for node in self.lab.nodes.values() if self.lab.is_on(node.name)]


def _waits(node: Node) -> list["Lost"]:
    report = node.until_ocfs2("it is ready", lambda r: r.ready)
    return [lost for lost in (*report.unfenced, *(lost for g in report.groups for lost in g.lost)) if not lost.fenced]


def _is_consistent(node: Node, on: dict[str, str]) -> None:
    """The kernel's view beside the daemon's: mounts, regions, links, nodes. `on`: addresses of those who are on."""
    node.until_ocfs2("its running groups are what it mounts, and its regions", lambda r: _agrees(node, r))
    until(f"{node.name}'s tree is {on}", lambda: node.addresses() == on)
    for region in _regions(node):
        dead = {e.name for e in region.iterdir() if e.is_symlink()} - set(on)
        assert not dead, f"{node.name} links {dead}, who are off"


def _regions(node: Node) -> list[Path]:
    heartbeat = node.home.root / "kernel" / "tree" / CLUSTER / "heartbeat"
    return [entry for entry in heartbeat.iterdir() if entry.is_dir()]


def _agrees(node: Node, report: "Ocfs2Report") -> bool:
    """Whether mount table, running groups and regions are of the same filesystems."""
    mounted = {mount.uuid for mount in node.mounts.entries()}
    running = {group.fs for group in report.groups if group.here and group.state == "running"}
    here = {group.fs for group in report.groups if group.here}
    return mounted == running == here == {region.name for region in _regions(node)}


def share(all_shots: Iterable[Shot], size: int) -> list[Shot]:
    """So many of them, by a hash of the site: the same ones on each machine and in each run."""
    by_hash = sorted(all_shots, key=lambda shot: hashlib.sha256(str(shot.site).encode()).digest())
    return sorted(by_hash[:size], key=lambda shot: shot.site)


def run(scene: Scene, size: int | None, *, each: bool = False) -> tuple[list[Kill], int]:
    """Kill at a share of a scene's sites (None: at all). The kills, and how many there were to make.

    Raises:
        AssertionError: one of them was not survived as it should be, or missed.
    """
    with Range.open(scene) as it:
        found = it.record(each=each)
        chosen = found if size is None else share(found, size)
        return [it.kill(shot) for shot in chosen], len(found)


def _list(scenes: Iterable[Scene], *, each: bool) -> None:
    total = 0
    for scene in scenes:
        with Range.open(scene) as it:
            found = it.record(each=each)
        for shot in found:
            by = shot.path or "by count"
            print(f"{shot.site}   [{by}, {shot.when}]")
        print(f"{scene.name}: {len(found)} sites", flush=True)
        total += len(found)
    print(f"{total} sites in all")


def _kill(scenes: Iterable[Scene], *, each: bool, size: int | None, only: str) -> int:
    """Kill at all of them; how many failed. After a failure the scene goes on in a new lab."""
    failed = made = 0
    for scene in scenes:
        left: list[Shot] | None = None
        while left is None or left:
            try:
                with Range.open(scene) as it:
                    if left is None:
                        found = it.record(each=each)
                        wanted = [shot for shot in found if only in str(shot.site)]
                        left = wanted if size is None else share(wanted, size)
                        print(f"{scene.name}: {len(left)} of {len(found)} sites", flush=True)
                    while left:
                        kill = it.kill(left.pop(0))
                        made += 1
                        tries = f", at the {kill.tries}. try" if kill.tries > 1 else ""
                        print(f"  {kill.seconds:4.1f} s  {kill.site}{tries}", flush=True)
            except AssertionError as error:
                failed += 1
                print(f"  FAILED {error}", flush=True)
                if left is None:
                    break
    print(f"{made} kills survived, {failed} failed")
    return failed


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.process.killpoints", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--scene", action="append", choices=[s.name for s in SCENES], help="only this one")
    parser.add_argument("--all", action="store_true", help="each path and count behind a site, not only the first")
    parser.add_argument("--list", action="store_true", help="list the sites, kill nobody")
    parser.add_argument("--share", type=int, metavar="N", help="only N sites of each scene, by a hash of the site")
    parser.add_argument("--site", default="", metavar="TEXT", help="only sites whose line in --list has this text")
    options = parser.parse_args()
    scenes = [s for s in SCENES if options.scene is None or s.name in options.scene]
    if options.list:
        _list(scenes, each=options.all)
        return 0
    return 1 if _kill(scenes, each=options.all, size=options.share, only=options.site) else 0


if __name__ == "__main__":
    sys.exit(main())
