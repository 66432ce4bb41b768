"""A world that is told to do things, line by line. The words are listed in cluster_world."""

from dataclasses import replace
from errno import ENOMEM
from typing import Final

from libo2cb.engine.port import ConfiguredNode
from o2cb_controld.events import Signal
from ocfs2_controld.events import ClientOpened, ClientSaid, Peer, SignalCame
from ocfs2_controld.state import FencingKind
from protocol.client import Fenced
from protocol.handshake import Version
from tests.simulation.world import O2CB, OCFS2, Choice, Client
from tests.transcripts.cluster_told import Told, group, locks, tree

_MOST_STEPS: Final = 500


class StoryError(Exception):
    """A line of a story cannot be told."""


class Story:
    """A world, told to do things line by line."""

    def __init__(self) -> None:
        self.options: dict[str, object] = {}
        self.settings: dict[str, object] = {}
        self.ports: dict[int, int] = {}
        self.versions: dict[int, Version] = {}
        self.world_: Told | None = None

    @property
    def world(self) -> Told:
        """The cluster.

        Raises:
            StoryError: It has not been made.
        """
        if self.world_ is None:
            raise StoryError("there is no cluster yet")
        return self.world_

    def command(self, line: str) -> None:
        """Tell one line, and let happen what follows."""
        words = line.split()
        method = getattr(self, f"_do_{words[0].replace('(2)', '2')}", None)
        if method is None:
            raise StoryError(f"unknown: {line}")
        method(words[1:])
        if self.world_ is not None:
            self.world_.settle()

    # the cluster

    def _do_set(self, words: list[str]) -> None:
        match words:
            case ["fencing", kind]:
                self.options["fencing"] = FencingKind[kind.upper()]
            case ["two", "nodes"]:
                self.options["two_node"] = True
            case ["careful" | "hasty"]:
                self.settings["careful"] = words == ["careful"]
            case ["locks"]:
                self.settings["tells_locks"] = True
            case ["grace", seconds]:
                self.settings["grace"] = float(seconds)
            case ["join", "delay", seconds]:
                self.settings["join_delay"] = float(seconds)
            case ["mount", "seconds", seconds]:
                self.settings["mount_seconds"] = float(seconds)
            case ["port", node, port]:
                self.ports[_number(node)] = int(port)
            case ["version", node, version]:
                major, _, minor = version.partition(".")
                self.versions[_number(node)] = Version(int(major), int(minor))
            case _:
                raise StoryError(f"set {words}")
        if self.world_ is not None:
            self._apply_settings()

    def _apply_settings(self) -> None:
        for name, value in self.settings.items():
            setattr(self.world, name, value)
        self.world.ports.update(self.ports)
        self.world.versions.update(self.versions)

    def _do_cluster(self, words: list[str]) -> None:
        self.world_ = Told(int(words[0]), **self.options)
        self._apply_settings()

    def _do_running(self, words: list[str]) -> None:
        self._do_cluster(words[:1])
        w = self.world
        w.careful = False
        for n in w.nodes:
            w.power_on(n)
        fs = ""
        for word in words[1:]:
            if not word.startswith("n"):
                fs = word
                continue
            w.settle()
            w.client(_number(word), fs)
            w.settle()
            if not w.nodes[_number(word)].mounts.get(fs):
                raise StoryError(f"{fs} is not mounted on {word}: {w.lines[-5:]}")
        w.settle()
        w.lines.clear()
        self._apply_settings()

    # power, processes, engines

    def _do_boot(self, words: list[str]) -> None:
        for word in words:
            self.world.power_on(_number(word))

    def _do_alone(self, words: list[str]) -> None:
        self.world.power_on(_number(words[0]), singleton=True)

    def _do_back(self, words: list[str]) -> None:
        if len(words) > 1:
            self.world.engine.readdress(_number(words[0]), words[1])
        self.world.power_on(_number(words[0]))

    def _do_fail(self, words: list[str]) -> None:
        number = _number(words[0])
        lost = (number,) if words[1:] == ["last", "words", "of", words[0], "lost"] else ()
        if words[1:] and not lost:
            raise StoryError(f"fail {words}")
        self.world.power_off(number, unreceived=lost)

    def _do_kill(self, words: list[str]) -> None:
        kill = self.world.kill_o2cb if words[1] == "o2cb" else self.world.kill_ocfs2
        kill(_number(words[0]))

    def _do_start(self, words: list[str]) -> None:
        start = self.world.start_o2cb if words[1] == "o2cb" else self.world.start_ocfs2
        start(_number(words[0]))

    def _do_signal(self, words: list[str]) -> None:
        number = _number(words[0])
        if words[1] == "o2cb":
            self.world.o2cb(number, Signal(words[2]))
        else:
            self.world.ocfs2(number, SignalCame(words[2]))

    def _do_shutdown(self, words: list[str]) -> None:
        self.world.engine.ask_shutdown(_number(words[0]))

    def _do_engine(self, words: list[str]) -> None:
        e, n = self.world.engine, _number(words[0])
        match " ".join(words[1:]):
            case "crash":
                e.crash(n)
            case "stop":
                e.stop_engine(n)
            case "begin stop":
                e.begin_stop(n)
            case "finish stop":
                e.finish_stop(n)
            case "start":
                e.start_engine(n, singleton=False)
            case "start apart":
                e.start_engine(n, merge=False)
            case "merge":
                e.merge()
            case "fast restart":
                e.fast_restart(n, singleton=False)
            case "hang":
                e.hang(n)
            case "resume":
                e.resume(n)
            case other:
                raise StoryError(f"engine {other}")

    def _do_cut(self, words: list[str]) -> None:
        network, _, lost = " ".join(words).partition(" losing ")
        sides = [[_number(n) for n in side.split()] for side in network.split("|")]
        self.world.engine.cut(sides, unreceived=[_number(n) for n in lost.split()])

    def _do_garble(self, words: list[str]) -> None:
        self.world.engine.send(_number(words[0]), OCFS2, b"what no version of the protocol says")

    def _do_pause(self, words: list[str]) -> None:
        self.world.pause(_number(words[0]), OCFS2 if words[1] == "ocfs2" else O2CB)

    def _do_unpause(self, words: list[str]) -> None:
        self.world.go_on(_number(words[0]), OCFS2 if words[1] == "ocfs2" else O2CB)

    def _do_heal(self, _: list[str]) -> None:
        self.world.engine.heal()

    def _do_readdress(self, words: list[str]) -> None:
        self.world.readdress(_number(words[0]), words[1])

    def _do_enlist(self, words: list[str]) -> None:
        number = int(words[0])
        self.world.engine.add_node(ConfiguredNode(number, f"n{number}", f"10.0.0.{10 + number}"))

    def _do_strike(self, words: list[str]) -> None:
        self.world.engine.remove_node(int(words[0]))

    # clients and kernels

    def _do_mount(self, words: list[str]) -> None:
        slow = words[0] == "slowly"
        node, fs = words[1:] if slow else words
        self.world.client(_number(node), fs, hold=slow)

    def _do_keep(self, words: list[str]) -> None:
        self.world.client(_number(words[0]), words[1], service="by hand")

    def _connection(self, words: list[str]) -> int:
        clients = self.world.nodes[_number(words[0])].clients
        found = [c for c, client in clients.items() if client.fs == words[1]]
        if not found:
            raise StoryError(f"{words[0]} has no client of {words[1]}")
        return found[-1]

    def _do_mount2(self, words: list[str]) -> None:
        self.world.mount_succeeds(_number(words[0]), self._connection(words))
        self.world.ocfs2(_number(words[0]))

    def _do_client(self, words: list[str]) -> None:
        number, connection = _number(words[0]), self._connection(words)
        if words[2:] == ["mounts", "and", "dies"]:
            self.world.mount_succeeds(number, connection, tell_daemon=False)
        self.world.client_dies(number, connection)

    def _do_umount(self, words: list[str]) -> None:
        silent = words[0] == "silently"
        node, fs = words[1:] if silent else words
        self.world.umount(_number(node), fs, silent=silent)

    def _do_busy(self, words: list[str]) -> None:
        self.world.nodes[_number(words[0])].busy.add(words[1])

    def _do_free(self, words: list[str]) -> None:
        self.world.nodes[_number(words[0])].busy.discard(words[1])

    def _do_pin(self, words: list[str]) -> None:
        node = self.world.nodes[_number(words[0])]
        node.kernel = replace(node.kernel, pinned=node.kernel.pinned | {words[1]})

    def _do_unpin(self, words: list[str]) -> None:
        node = self.world.nodes[_number(words[0])]
        node.kernel = replace(node.kernel, pinned=node.kernel.pinned - {words[1]})

    def _do_refuse(self, words: list[str]) -> None:
        self.world.nodes[_number(words[0])].refusals[words[1], words[2], ""] = ENOMEM

    def _do_accept(self, words: list[str]) -> None:
        self.world.nodes[_number(words[0])].refusals.clear()

    # fencing

    def _fence(self, words: list[str], *, ok: bool) -> None:
        w = self.world
        alive = [w.nodes[actor].ocfs2 is not None for actor, _ in w.fences]
        index = next((i for i, (_, n) in enumerate(w.fences) if alive[i] and n == _number(words[0])), None)
        if index is None:
            raise StoryError(f"nobody fences {words[0]}")
        w.fence_done(index, ok=ok)

    def _do_fenced(self, words: list[str]) -> None:
        self._fence(words, ok=True)

    def _do_fence(self, words: list[str]) -> None:
        self._fence(words[1:], ok=False)

    def _do_acknowledge(self, words: list[str]) -> None:
        w, number = self.world, _number(words[0])
        w.connections += 1
        w.nodes[number].clients[w.connections] = Client(number, "the operator", "", mounts=False, hold=True)
        peer = Peer(1000 + w.connections, 0, float(w.connections), "ocfs2_hb_ctl", trusted=True)
        w.ocfs2(number, ClientOpened(w.connections, peer), ClientSaid(w.connections, Fenced(words[1], "-")))

    # order and time

    def _do_hold(self, words: list[str]) -> None:
        self.world.held.add(_thing(words))

    def _do_release(self, words: list[str]) -> None:
        self.world.held.discard(_thing(words))

    def _do_step(self, words: list[str]) -> None:
        w, choice = self.world, _choice(words)
        until = " ".join(words).partition(" until ")[2]
        times = int(words[-1]) if words[-1].isdigit() else 1
        told = len(w.lines)
        for i in range(_MOST_STEPS):
            if any(until in line for line in w.lines[told:]) if until else i == times:
                return
            held, w.held = w.held, set()
            possible = choice in w.choices()
            w.held = held
            if not possible:
                raise StoryError(f"step {words}: there is nothing to do")
            w.do(choice)
            w.settle()
        raise StoryError(f"step {words}: it never comes")

    def _do_wait(self, words: list[str]) -> None:
        self.world.wait(float(words[0]))

    # views

    def _do_show(self, words: list[str]) -> None:
        for node in self.world.nodes.values():
            if not node.power:
                self.world.lines.append(f"n{node.number}: off")
            else:
                views = {"tree": tree, "locks": locks}
                shown = views[words[0]](node) if words[0] in views else group(node, words[0])
                self.world.lines.append(f"n{node.number} {words[0]}: {shown}")


def _number(name: str) -> int:
    if not (name.startswith("n") and name[1:].isdigit()):
        raise StoryError(f"no node: {name}")
    return int(name[1:])


def _choice(words: list[str]) -> Choice:
    daemon, _, stream = words[1].partition(".")
    if stream:
        return ("deliver", words[0][1:], {"o2cb": O2CB, "ocfs2": OCFS2}[daemon], stream)
    return (words[1] if words[1] == "connect" else " ".join(words[1:3]), words[0][1:])


def _thing(words: list[str]) -> str:
    choice = _choice(words)
    return f"{words[0]} {choice[2]}.{choice[3]}" if choice[0] == "deliver" else f"{words[0]} {choice[0]}"
