"""A world of one node for stories about the classic driver: o2cb_controld's real mind, and a kernel that beats on disk.

As ordering_world, and every fact goes through the judges of the laws. More lines:

    running n1 n2 ...         a cluster of these with disk heartbeat, all is ready
    drop n3 | add n4 [ADDR]   the configuration is read anew, without n3; with n4, by a number that is new
    mounts F | unmounts F     the region of F stands in this node's kernel, and this node beats in it; no longer
    beats F/n3 | silent F/n3  n3 is seen to beat on the disk of F; no longer
    debugfs off | debugfs on  whether it can be seen who beats
    pin n3 | unpin n3         this node's kernel has a connection to n3
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from libo2cb.engine.port import Configured, ConfiguredNode, EngineUp, Members, MembershipEvent
from libo2cb.events import Event, Log
from o2cb_controld import actions as do
from o2cb_controld import events as told
from protocol.identity import NodeIdentity
from tests.laws import O2CB, RULES, Breach, Engine, Fact, Judge, Kernel, Process, Source
from tests.transcripts.ordering_world import PORT, Ocfs2Side, StoryError, World, retell

STORIES = Path(__file__).parent / "classic"
ORDERING_LAWS = (1, 2, 3, 15, 16)


class NoOcfs2:
    """With the classic driver there is no ocfs2_controld."""

    def command(self, words: list[str]) -> None:
        """Nobody is there."""

    def engine(self, event: MembershipEvent) -> None:
        """Nobody hears it."""

    def readable(self) -> None:
        raise AssertionError("something was said to ocfs2_controld, and there is none")

    def disconnected(self) -> None:
        """Nobody is connected."""


class ClassicWorld(World):
    """One node with disk heartbeat.

    Args:
        side: who plays ocfs2_controld: nobody.
    """

    driver = "classic"

    def __init__(self, side: Callable[[World], Ocfs2Side]) -> None:
        self.beats: set[tuple[str, int]] = set()
        self.sees = True
        self._numbers: dict[str, int] = {}
        self._judge = Judge([rule for rule in RULES if rule.law in ORDERING_LAWS])
        self._order = 0
        super().__init__(side)

    def number(self, name: str) -> int:
        """Also of a node that has left the configuration: on the disk it is still a number."""
        self._numbers |= {n.name: n.number for n in self.configured}
        if name not in self._numbers:
            raise StoryError(f"no node {name}")
        return self._numbers[name]

    def name(self, number: int) -> str:
        """Likewise."""
        return next((name for name, known in self._numbers.items() if known == number), super().name(number))

    def at_rest(self) -> None:
        """Judge what is due once nothing moves."""
        self._lawful(self._judge.finish(at_rest=True))

    # commands

    def _do_cluster(self, words: list[str]) -> None:
        super()._do_cluster(words)
        self._fact(Source.ENGINE, Engine.BOOTED, number=self.local, boot="b", address=self.configured[0].address)

    def _do_drop(self, words: list[str]) -> None:
        self.number(words[0])
        self._configure(tuple(n for n in self.configured if n.name != words[0]))

    def _do_add(self, words: list[str]) -> None:
        number = self._numbers.get(words[0]) or 1 + max([*self._numbers.values(), *(n.number for n in self.configured)])
        address = words[1] if words[1:] else f"10.0.0.{number}"
        others = (n for n in self.configured if n.number != number)
        self._configure(tuple(sorted((*others, ConfiguredNode(number, words[0], address)))))

    def _do_mounts(self, words: list[str]) -> None:
        self.kernel = self.kernel.create_region(words[0])
        self.mounts.add(words[0])
        self._fact(Source.KERNEL, Kernel.MAKE_REGION, fs=words[0], errno=0)
        self._do_pin([self.name(self.local)])
        self._beat(words[0], self.local)

    def _do_unmounts(self, words: list[str]) -> None:
        if words[0] not in self.kernel.regions:
            raise StoryError(f"{words[0]} is not mounted")
        for fs, number in sorted(self.beats):
            if fs == words[0]:
                self._silence(fs, number)
        self.kernel = self.kernel.remove_region(words[0])
        self.mounts.discard(words[0])
        self._fact(Source.KERNEL, Kernel.REMOVE_REGION, fs=words[0], errno=0)
        if not self.kernel.regions:
            self._do_unpin([self.name(self.local)])

    def _do_beats(self, words: list[str]) -> None:
        fs, name = words[0].split("/")
        node = self.kernel.node(name)
        if fs not in self.kernel.regions or node is None:
            raise StoryError("a kernel reads the beats of the nodes in its tree, from what it has mounted")
        if any(isinstance(action, do.RemoveNode) and action.name == name for action in self._line):
            raise StoryError("between the look and the rmdir; see the classic driver in docs/design.md")
        self._beat(fs, self.number(name))

    def _do_silent(self, words: list[str]) -> None:
        fs, name = words[0].split("/")
        self._silence(fs, self.number(name))

    def _do_debugfs(self, words: list[str]) -> None:
        self.sees = words == ["on"]

    def _do_o2cb(self, words: list[str]) -> None:
        if words == ["starts"]:
            self._fact(Source.DAEMON, Process.STARTED, daemon=O2CB, pid=1)
            self._fact(Source.DAEMON, Event.STARTING, daemon=O2CB, pid=1, driver=self.driver)
        super()._do_o2cb(words)

    # facts

    def _engine(self, event: MembershipEvent) -> None:
        self._numbers |= {n.name: n.number for n in self.configured}
        if isinstance(event, EngineUp | Configured):
            nodes = [f"{n.number}={n.address}" for n in event.nodes]
            self._fact(Source.ENGINE, Engine.CONFIGURED, nodes=nodes)
        if isinstance(event, Members):
            members = {"ring": str(event.ring), "quorate": event.quorate, "members": list(event.members)}
            self._fact(Source.ENGINE, Engine.MEMBERS, **members, joined=list(event.joined), left=list(event.left))
        super()._engine(event)

    def _end(self, line: str) -> None:
        self._fact(Source.DAEMON, Process.ENDED if "exit" in line else Process.KILLED, daemon=O2CB, code=0)
        super()._end(line)

    def _perform(self, action: do.Action) -> None:
        before = self.kernel
        match action:
            case do.ListLinks(number, name):
                regions = sorted(self.kernel.regions)
                seen = tuple(fs for fs in regions if (fs, number) in self.beats) if self.sees else tuple(regions)
                blind = bool(regions) and not self.sees
                self.say(f"o2cb: beats of {name}: {'cannot be seen' if blind else ' '.join(seen) or 'none'}")
                self._inbox.append(told.LinksListed(number, seen, blind=blind))
                return
            case do.RemoveNode(_, name):
                errno = 16 if name in before.pinned else 0
                self._fact(Source.KERNEL, Kernel.REMOVE_NODE, name=name, errno=errno)
            case Log(event, fields):
                self._fact(Source.DAEMON, event, daemon=O2CB, **dict(fields))
            case _:
                pass
        super()._perform(action)
        if isinstance(action, do.MakeNode) and self.kernel != before:
            self._made(action.identity, action.local)

    def _made(self, identity: NodeIdentity, local: bool) -> None:
        self._fact(Source.KERNEL, Kernel.MAKE_NODE, name=identity.name, errno=0)
        if self.state is None:  # killed in the midst of it
            return
        attributes = [("ipv4_port", PORT), ("ipv4_address", identity.address), ("num", identity.number)]
        for attribute, value in [*attributes, *([("local", 1)] if local else [])]:
            self._fact(
                Source.KERNEL, Kernel.SET_NODE, name=identity.name, attribute=attribute, value=str(value), errno=0
            )

    def _configure(self, nodes: tuple[ConfiguredNode, ...]) -> None:
        self.configured = nodes
        self._engine(Configured(nodes))

    def _beat(self, fs: str, number: int) -> None:
        self.beats.add((fs, number))
        self._fact(Source.KERNEL, Kernel.BEATS, fs=fs, number=number)

    def _silence(self, fs: str, number: int) -> None:
        self.beats.discard((fs, number))
        self._fact(Source.KERNEL, Kernel.SILENT, fs=fs, number=number)

    def _fact(self, source: Source, kind: str, **fields: object) -> None:
        self._order += 1
        self._lawful(self._judge.feed(Fact(self._order, "n1", source, kind, fields)))

    def _lawful(self, breaches: list[Breach]) -> None:
        if breaches:
            raise AssertionError("; ".join(str(b) for b in breaches))


def retold(story: str) -> str:
    """The story with what happens written anew."""
    return retell(story, lambda _: NoOcfs2(), ClassicWorld)


def main(arguments: list[str]) -> int:
    """Write stories anew."""
    parser = argparse.ArgumentParser(description="Retell stories of the classic driver.")
    parser.add_argument("--rewrite", action="store_true", required=True)
    parser.add_argument("files", nargs="*", type=Path)
    options = parser.parse_args(arguments)
    for path in options.files or sorted(STORIES.glob("*.txt")):
        path.write_text(retold(path.read_text()))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
