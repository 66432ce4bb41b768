"""Faults drawn from a seed, on real corosync: `python -m tests.real.corosync.nemesis [--seed N] [--minutes M]`.

A round begins with clients that mount, on most nodes. Then comes a handful of deeds with pauses between them: corosync
is killed, stopped, hung, restarted, asked to shut down; daemons are killed and stopped; the network is parted and
joined; nodes lose power and come back, sometimes at another address; clients mount and unmount all the while. Then
everything is put back, has to come to rest, and the laws are judged over all that was recorded.

The same seed means the same deeds in the same order, whatever comes of them: they are drawn from the seed and the
number of the round alone. A deed that breaks something is for one node. A deed that mends something is for the first
node, in an order that is drawn too, where something is to be mended. A deed without an object (who kills a daemon that
is dead) does nothing. What is judged are laws and rest, never when something happened.

The first fault of a round is not drawn but dealt from FAULTS, which are shuffled each time that all were dealt. It
comes when nothing is broken yet and while a client mounts or unmounts, and after it there is time for the others to see
it. So as many rounds as there are FAULTS have each of them at least once, on a fast machine and on a slow one.
"""

import argparse
import math
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from libo2cb.sandbox.ask import HubError
from libo2cb.sandbox.homes import SandboxError
from tests.process.lab import DAEMONS, Tool, Volume, until
from tests.real.corosync.cluster import NETWORK
from tests.real.corosync.cluster import Settings as Corosync
from tests.real.corosync.lab import PATIENCE, RealLab, Settings
from tests.real.corosync.rings import lives

VOLUMES: Final = 2
MENDS: Final = frozenset(
    {"unmount", "resume engine", "start engine", "start daemons", "power on", "power on elsewhere"}
)
ABOUT_A_DAEMON: Final = frozenset({"kill daemon", "stop daemon"})
MOUNTED: Final = 0.7
"""How likely a node mounts a volume before the deeds."""
LONGEST: Final = 1.5
"""Seconds of the longest pause between two deeds, with UDPU's token, and in proportion with another one: more than a
death takes to be seen, which is twice the token."""
UDPU: Final = Corosync()
KNET: Final = Corosync(transport="knet", token=1000)
"""Of knet a link is lost after half a token without a pong. With a short token rings break on a busy machine for no
other reason, and it never comes to rest."""
ROUNDS_A_LAB: Final = 25
"""After so many rounds a new lab is made: a history is judged as a whole, after each round."""
WEIGHTS: Final = {
    "mount": 8,
    "unmount": 4,
    "kill engine": 2,
    "stop engine": 1,
    "restart engine": 2,
    "hang engine": 2,
    "resume engine": 2,
    "start engine": 2,
    "ask for a shutdown": 1,
    "kill daemon": 3,
    "stop daemon": 1,
    "start daemons": 3,
    "cut in two": 2,
    "cut in three": 1,
    "heal": 3,
    "power off": 2,
    "power on": 2,
    "power on elsewhere": 1,
    "move": 1,
    "reload": 1,
}
FAULTS: Final = (
    ("kill engine", 0),
    ("stop engine", 0),
    ("restart engine", 0),
    ("hang engine", 0),
    ("ask for a shutdown", 0),
    ("kill daemon", 0),
    ("kill daemon", 1),
    ("stop daemon", 0),
    ("stop daemon", 1),
    ("cut in two", 0),
    ("cut in three", 0),
    ("power off", 0),
    ("move", 0),
    ("reload", 0),
)
"""What is dealt, each with the index of the daemon."""


@dataclass(frozen=True, slots=True)
class Deed:
    """One thing to do.

    Attributes:
        what: a key of WEIGHTS.
        daemon: index of the daemon, where it is about one.
        volume: index of the volume, where it is about one.
        order: all nodes. The first is broken; the first that is broken is mended; a cut deals them out.
        pause: seconds to wait afterwards, with UDPU's token.
    """

    what: str
    daemon: int
    volume: int
    order: tuple[str, ...]
    pause: float

    @property
    def name(self) -> str:
        """What it is counted as."""
        return named(self.what, self.daemon)

    def __str__(self) -> str:
        return f"{self.name} {' '.join(self.order)}"


def named(what: str, daemon: int) -> str:
    """What a deed is counted as: "kill o2cb_controld"."""
    return what.replace("daemon", DAEMONS[daemon]) if what in ABOUT_A_DAEMON else what


def deeds(seed: int, number: int, nodes: Sequence[str]) -> Iterator[Deed]:
    """The deeds of a round."""
    drawn = random.Random(f"{seed}/{number}")  # noqa: S311 (a story, no secret)

    def deed(what: str, pause: float, daemon: int | None = None, volume: int | None = None, *first: str) -> Deed:
        return Deed(
            what,
            drawn.randrange(len(DAEMONS)) if daemon is None else daemon,
            drawn.randrange(VOLUMES) if volume is None else volume,
            (*first, *drawn.sample([name for name in nodes if name not in first], len(nodes) - len(first))),
            pause,
        )

    mounted = begun(seed, number, nodes)
    name, volume = drawn.choice([(name, volume) for name in nodes for volume in range(VOLUMES)])
    client = "unmount" if (name, volume) in mounted else "mount"
    yield deed(client, drawn.choice((0.0, drawn.uniform(0, 0.5))), None, volume, name)
    what, daemon = dealt(seed, number)
    yield deed(what, LONGEST, daemon)
    for _ in range(drawn.randint(3, 7)):
        (what,) = drawn.choices(tuple(WEIGHTS), tuple(WEIGHTS.values()))
        yield deed(what, drawn.choice((0.0, drawn.uniform(0, 0.2), drawn.uniform(0, LONGEST))))


def dealt(seed: int, number: int) -> tuple[str, int]:
    """The first fault of a round: FAULTS are shuffled, dealt, and shuffled anew."""
    turn, place = divmod(number, len(FAULTS))
    drawn = random.Random(f"{seed}/{turn}/faults")  # noqa: S311 (the same)
    return drawn.sample(FAULTS, len(FAULTS))[place]


def begun(seed: int, number: int, nodes: Sequence[str]) -> list[tuple[str, int]]:
    """Who mounts which volume before the deeds of a round."""
    drawn = random.Random(f"{seed}/{number}/mounts")  # noqa: S311 (the same)
    return [(name, volume) for name in nodes for volume in range(VOLUMES) if drawn.random() < MOUNTED]


@dataclass(slots=True)
class Nemesis:
    """Does deeds to a lab.

    Attributes:
        lab: the lab.
        volumes: what is mounted.
        done: how often each deed had an object.
        moves: how often a node has come up elsewhere.
    """

    lab: RealLab
    volumes: list[Volume]
    done: Counter[str] = field(default_factory=Counter)
    moves: int = 0
    _tools: list[Tool] = field(default_factory=list)

    def round(self, seed: int, number: int) -> None:
        """A round, to its rest.

        Raises:
            NotWithinError: it does not come to rest.
            AssertionError: a law was broken, or a client was not answered.
        """
        nodes = tuple(sorted(self.lab.nodes))
        before = lives(self.lab)
        for tool in [self._mount(name, volume) for name, volume in begun(seed, number, nodes)]:
            # A busy machine can lose a ring without a deed.
            assert tool.wait() == 0 or lives(self.lab) != before, tool.said()
        for deed in deeds(seed, number, nodes):
            if any(self._do(deed, name) for name in (deed.order if deed.what in MENDS else deed.order[:1])):
                self.done[deed.name] += 1
            time.sleep(deed.pause * self.lab.cluster.settings.token / UDPU.token)
        self.lab.mend()
        until("all clients have their answers", lambda: all(tool.ended() for tool in self._tools), PATIENCE)
        self._tools.clear()
        self.lab.restore()
        broken = self.lab.breaches(at_rest=True)
        assert not broken, broken

    def _mount(self, name: str, volume: int) -> Tool:
        it = self.volumes[volume]
        return self.lab[name].begin_mount(it, f"/{it.label}")

    def _do(self, deed: Deed, name: str) -> bool:
        """Whether the deed has an object on this node."""
        lab, node = self.lab, self.lab[name]
        seat = lab.cluster.seats[lab.number(name)]
        volume, daemon = self.volumes[deed.volume], DAEMONS[deed.daemon]
        match deed.what:
            case "mount" if lab.is_on(name):
                self._tools.append(self._mount(name, deed.volume))
            case "unmount" if any(it.mount_point == f"/{volume.label}" for it in node.mounts.mounts()):
                self._tools.append(node.tool("umount", f"/{volume.label}"))
            case "kill engine" if seat.lives():
                lab.kill_engine(name)
            case "stop engine" if seat.lives() and not lab.engine_hangs(name):
                lab.stop_engine(name)
            case "restart engine" if seat.lives():
                lab.restart_engine(name)
            case "hang engine" if seat.lives():
                lab.hang_engine(name)
            case "resume engine" if lab.engine_hangs(name):
                lab.resume_engine(name)
            case "start engine" if lab.is_on(name) and not seat.lives():
                lab.start_engine(name)
            case "ask for a shutdown" if seat.lives() and not lab.engine_hangs(name):
                self._tools.append(lab.run(node, ["corosync-cfgtool", "-H"], {}))
            case "kill daemon":
                return lab.kill(name, daemon)
            case "stop daemon":
                return (process := lab.running(name, daemon)) is not None and process.kill(signal.SIGSTOP)
            case "start daemons" if lab.is_on(name):
                return sum(lab.start_daemon(name, each) for each in DAEMONS) > 0
            case "cut in two":
                lab.cut(deed.order[: len(deed.order) // 2])
            case "cut in three":
                lab.cut(deed.order[:1], deed.order[1 : (len(deed.order) + 1) // 2])
            case "heal":
                lab.heal()
            case "power off" if lab.is_on(name):
                lab.power_off(name)
            case "power on":
                return self._power_on(name)
            case "power on elsewhere" if not any(lab.engine_hangs(each) for each in lab.nodes):
                return self._power_on(name, self._elsewhere(name))
            case "move" if lab.is_on(name) and not any(lab.engine_hangs(each) for each in lab.nodes):
                lab.power_off(name)
                address = self._elsewhere(name)
                until(f"{name} is on, elsewhere", lambda: self._power_on(name, address), PATIENCE)
            case "reload" if seat.lives() and not any(lab.engine_hangs(each) for each in lab.nodes):
                self._tools.append(lab.run(node, ["corosync-cfgtool", "-R"], {}))
            case _:
                return False
        return True

    def _elsewhere(self, name: str) -> str:
        """An address that nobody has, and that the node did not have last."""
        self.moves += 1
        return f"{NETWORK}.{self.lab.number(name) + 20 * (1 + self.moves % 10)}"

    def _power_on(self, name: str, address: str | None = None) -> bool:
        if self.lab.is_on(name):
            return False
        with suppress(SandboxError, HubError):  # a fence is under way, or no corosync is there to reload
            self.lab.power_on(name, address)
            return True
        return False


def settings_of(transport: str) -> Settings:
    """Of the lab: as impatient as the laws allow."""
    corosync = KNET if transport == "knet" else UDPU
    return Settings(mount=60.0, grace=15.0, join_delay=5.0, corosync=corosync)


def run(seed: int, rounds: int | None, minutes: float | None, nodes: int, settings: Settings) -> Counter[str]:
    """So many rounds, or as many as fit into so many minutes; how often each deed had an object.

    Raises:
        AssertionError: a law was broken, or it did not come to rest; the text says in which round.
    """
    end, number, done = time.monotonic() + (math.inf if minutes is None else 60 * minutes), 0, Counter[str]()
    while time.monotonic() < end and number != rounds:
        with RealLab.of(nodes, settings) as lab:
            nemesis = Nemesis(lab, [lab.volume(f"v{i}") for i in range(VOLUMES)])
            for _ in range(ROUNDS_A_LAB):
                if time.monotonic() >= end or number == rounds:
                    break
                try:
                    nemesis.round(seed, number)
                except Exception as wrong:
                    told = ", ".join(map(str, deeds(seed, number, tuple(sorted(lab.nodes)))))
                    raise AssertionError(
                        f"seed {seed}, round {number} ({told}) in {lab.sandbox.root}: {wrong}"
                    ) from wrong
                number += 1
        done += nemesis.done
    done["rounds"] = number
    return done


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m tests.real.corosync.nemesis")
    parser.add_argument("--seed", type=int, default=1, help="of all that is done (1)")
    parser.add_argument("--minutes", type=float, default=5.0, help="how long (5)")
    parser.add_argument("--rounds", type=int, help="no more than so many")
    parser.add_argument("--nodes", type=int, default=3)
    parser.add_argument("--transport", choices=("udpu", "knet"), default="udpu")
    options = parser.parse_args()
    if options.nodes < 3:
        parser.error("it takes three nodes at least")
    settings = settings_of(options.transport)
    try:
        done = run(options.seed, options.rounds, options.minutes, options.nodes, settings)
    except AssertionError as wrong:
        last: BaseException | None = wrong
        while last is not None:
            print(last)
            last = last.__context__
        return 1
    print(", ".join(f"{count} {what}" for what, count in done.most_common()))
    print("0 laws broken")
    return 0


if __name__ == "__main__":
    sys.exit(main())
