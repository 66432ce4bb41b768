"""The scenes in which a daemon of n1 is killed: what comes before, what begins, and how one sees that it is over.

Whether a scene is over is read from logs, mount table and commands, never from a report of n1: to be asked for a report
is a call on a socket as well, and would be counted among those of the scene.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from libo2cb.sandbox.homes import Settings
from tests.process.lab import O2CB, OCFS2, Lab, Tool, Volume

MANUAL: Final = Settings(fencing="manual")
COMMAND: Final = Settings(join_delay=0.5)
"""A restarted daemon knows nothing of a fence; a short delay has it fence a node that is off without a long wait. All
engines are up before the first daemon is, so a node that starts is never taken for one that is away."""

POINT: Final = "/vm"


@dataclass(slots=True)
class Stage:
    """One run of a scene.

    Attributes:
        lab: where.
        volume: of this run only.
        address: a new one, for a node that comes back.
        tools: commands that were begun.
    """

    lab: Lab
    volume: Volume
    address: str
    tools: list[Tool] = field(default_factory=list)

    def mount(self, *names: str) -> None:
        """Mount, and wait until the group rests."""
        for name in names:
            self.lab[name].mount(self.volume, POINT)
        self.lab[names[0]].group(self.volume, members=sorted(names), links=[int(n[1:]) for n in sorted(names)])
        self.lab.rest()

    def ended(self) -> bool:
        """Whether all commands have ended."""
        return all(tool.ended() for tool in self.tools)

    def logged(self, event: str, **fields: object) -> bool:
        """Whether n1's ocfs2_controld has logged this in this scene."""
        return bool(self.lab["n1"].lines(OCFS2, event, fs=self.volume.uuid, **fields))

    def closed(self, number: int) -> bool:
        """Whether n1 has given back its lock of a node."""
        return bool(self.lab["n1"].lines(OCFS2, "lock_closed", number=number))

    def finished(self, members: int) -> bool:
        """Whether n1 has finished a START with so many members."""
        return any(len(line["members"]) == members for line in self.lab["n1"].lines(OCFS2, "group_finished"))


@dataclass(frozen=True, slots=True)
class Scene:
    """What goes on while a daemon of n1 is killed.

    Attributes:
        name: for people, and part of each site.
        settings: of the lab that it needs.
        before: what happens before strace is attached.
        begin: what the scene is; returns without waiting for n1.
        over: whether all has happened, where nobody was killed.
    """

    name: str
    settings: Settings
    before: Callable[[Stage], None]
    begin: Callable[[Stage], None]
    over: Callable[[Stage], bool]


def _nothing(_stage: Stage) -> None:
    pass


def _mount(name: str) -> Callable[[Stage], None]:
    return lambda stage: stage.tools.append(stage.lab[name].begin_mount(stage.volume, POINT))


def _umount(name: str) -> Callable[[Stage], None]:
    return lambda stage: stage.tools.append(stage.lab[name].tool("umount", POINT))


def _off(stage: Stage) -> None:
    stage.lab.power_off("n2")


def _dies_and_waits(stage: Stage) -> None:
    """n2 dies under its mount, and nobody says yet that it is off: its change is queued, its link stands."""
    n1 = stage.lab["n1"]
    stage.mount("n1", "n2")
    n1.mark()
    stage.lab.power_off("n2")
    n1.event(OCFS2, "group_stopped", fs=stage.volume.uuid)
    n1.event(O2CB, "change_queued", number=2)


def _returns(stage: Stage) -> None:
    stage.lab.power_on("n2", stage.address)


def _recovered(stage: Stage) -> bool:
    return bool(stage.finished(1) and stage.lab["n1"].lines(O2CB, "node_removed", number=2))


def _is_new(stage: Stage) -> bool:
    made = stage.lab["n1"].lines(O2CB, "node_made", number=2, address=stage.address)
    return bool(stage.finished(1) and made)


SCENES: Final = (
    Scene(
        "mount",
        COMMAND,
        _nothing,
        _mount("n1"),
        lambda s: s.ended() and s.finished(1) and s.logged("mount_result", code=0),
    ),
    Scene(
        "join",
        COMMAND,
        lambda s: s.mount("n2"),
        _mount("n1"),
        lambda s: s.ended() and s.finished(2) and s.logged("mount_result", code=0),
    ),
    Scene(
        "welcome",
        COMMAND,
        lambda s: s.mount("n1"),
        _mount("n2"),
        lambda s: s.ended() and s.finished(2),
    ),
    Scene(
        "unmount",
        COMMAND,
        lambda s: s.mount("n1", "n2"),
        _umount("n1"),
        lambda s: s.ended() and s.logged("region_removed"),
    ),
    Scene(
        "farewell",
        COMMAND,
        lambda s: s.mount("n1", "n2"),
        _umount("n2"),
        lambda s: s.ended() and s.finished(1) and s.closed(2),
    ),
    Scene("death", COMMAND, lambda s: s.mount("n1", "n2"), _off, _recovered),
    Scene("return", MANUAL, _dies_and_waits, _returns, _is_new),
)
"""By story: the first mount, a mount where another has it, another's mount, unmount beside another, another's unmount,
another's death under its mount, and its return with a new address while its link still stands."""
