"""kill -9 of a real daemon before each of its system calls that touch kernel tree, locks or sockets.

    python -m tests.process.killpoints --list                 the sites of all scenes
    python -m tests.process.killpoints --scene death          one kill for each site of a scene
    python -m tests.process.killpoints --all                  also for each path and each count behind a site

A scene is recorded first, twice; a site is a call that both recordings have. Then for each site: the scene again with
the kill, the daemon's restart, rest, and the judges. docs/killpoints.md tells more.
"""

import argparse
import hashlib
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.process.killscenes import POINT, SCENES, Scene, Stage
from tests.process.killsites import Places, Shot, Site, Strace, calls, killed_at, shots
from tests.process.lab import DAEMONS, OCFS2, Daemon, Lab, Node, until

if TYPE_CHECKING:
    from libo2cb.service.report import Ocfs2Report

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
        for daemon in DAEMONS:
            places = Places.of(self.n1, daemon, stage.volume)
            output = self.lab.sandbox.root / f"{stage.volume.label}.{daemon}.strace"
            traces.append((daemon, places, Strace.recorder(self.n1.process(daemon).pid, output)))
        self.scene.begin(stage)
        until(f"{self.scene.name} is over", lambda: self.scene.over(stage))
        for *_, trace in traces:
            trace.stop()
        self._rests(stage)
        self._reset(stage)
        return [
            shot
            for daemon, places, trace in traces
            for shot in shots(calls(trace.lines(), places), self.scene.name, daemon, each=each)
        ]

    def kill(self, shot: Shot) -> Kill:
        """Kill at a site, restart, judge.

        Raises:
            MissedError: the daemon was never killed there.
            AssertionError: what came after was wrong; the text names the site.
        """
        for tried in range(1, TRIES + 1):
            start = time.monotonic()
            try:
                died = self._once(shot)
            except AssertionError as error:
                raise AssertionError(f"after a kill before {shot.site} (call {shot.when} of a thread): {error}") from error
            if any(site == shot.site for site in died):
                return Kill(shot.site, tried, time.monotonic() - start)
        raise MissedError(f"not killed before {shot.site}, but before {', '.join(map(str, died)) or 'nothing'}")

    def _once(self, shot: Shot) -> list[Site]:
        """Run the scene with a kill; the sites where the daemon died (threads die together), none if it lives."""
        stage, daemon = self._stage(), shot.site.daemon
        victim = self.n1.process(daemon)
        places = Places.of(self.n1, daemon, stage.volume)
        output = self.lab.sandbox.root / f"{stage.volume.label}.strace"
        strace = Strace.killer(victim.pid, output, shot, places)
        self.scene.begin(stage)
        until(
            f"{self.scene.name} is over, or {daemon} is killed", lambda: not victim.alive() or self.scene.over(stage)
        )
        died: list[Site] = []
        if victim.alive():
            strace.stop()
        else:
            strace.ended()
            died = [Site(self.scene.name, daemon, c.name, c.about) for c in killed_at(strace.lines(), places)]
            self.n1.start(daemon)
        self._rests(stage)
        self._new_client(stage)
        self._reset(stage)
        return died

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
        # The kernel's view, not the daemons': what is mounted, what stands in the trees.
        for node in self._on():
            node.until_ocfs2("its running groups are what it mounts, and its regions", lambda r, n=node: _agrees(n, r))
        on = {node.name for node in self._on()}
        for node in self._on():
            until(f"{node.name}'s tree has the nodes that are on", lambda n=node: set(n.addresses()) == on)
            addresses = {n["name"]: n["address"] for n in self.lab.hub("status")["nodes"] if n["name"] in on}
            until(f"{node.name}'s tree has their addresses", lambda n=node, a=addresses: n.addresses() == a)
            for fs in _regions(node):
                dead = {e.name for e in fs.iterdir() if e.is_symlink()} - on
                assert not dead, f"{node.name} links {dead}, who are off"
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
