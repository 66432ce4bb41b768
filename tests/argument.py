"""The race as it was written down (story 0), played with the queue taken out and with it: `python -m tests.argument`.

Node n2 dies while n1 has filesystem F mounted with it; then n2 is back at another address and mounts F again. Both
times ocfs2_controld is the real one. o2cb_controld is, once, a model of the daemon of 2007: it compares each membership
with the one before, tries each change once, logs what the kernel says, and forgets. The other time it is the real one.
What the machines come to is judged by the judges of the simulation; the naive world is not stopped by them, but named.
"""

import argparse
import sys
from dataclasses import dataclass
from errno import errorcode
from pathlib import Path
from typing import Final

from libo2cb.engine.port import Configured, ConfiguredNode, EngineUp, Members
from libo2cb.events import Log
from o2cb_controld import actions as do
from o2cb_controld import events as told
from protocol.identity import NodeIdentity
from tests.simulation.nemesis import Broken
from tests.simulation.world import PORT, SimNode, World
from tests.transcripts.cluster_story import Story
from tests.transcripts.cluster_told import Told, tree

PAGE: Final = Path(__file__).parents[1] / "docs" / "argument.md"
BEGIN, END = "```text played\n", "```\n"
RETURNED: Final = "10.0.0.99"
STORY: Final = f"""\
# n1 and n2 have F mounted; n3 is up. n2 dies. ocfs2_controld hears of it first: STOP.
hold n1 o2cb.membership
hold n3 o2cb.membership
fail n2
# Now o2cb_controld is told to remove n2. On n1 a link still pins it.
release n1 o2cb.membership
release n3 o2cb.membership
# The fence of n2 is verified: START, and the link goes.
fenced n2
show tree
# n2 is back with another address, and mounts F.
back n2 {RETURNED}
mount n2 F
show tree
"""
"""What is done to both worlds. A line with "#" is for the reader."""
MEANING: Final = {
    "law 1": "a removal is tried under a link",
    "law 4": "a link is made to an address that the node's life does not have",
}
"""What this story is expected to break; any other breach ends it."""
NAIVE: Final = "Without the queue: one try, EBUSY, forgotten"
REAL: Final = "With the queue: the o2cb_controld of this project"


@dataclass
class Ancestor:
    """o2cb_controld as it was in 2007, as far as this story goes: a difference of two snapshots, and one try.

    It had no locks: whoever wanted to link a node did so. So a LOCK is granted unseen here.

    Attributes:
        local: this node's number.
        configured: the engine's configuration.
        known: members of the snapshot before.
    """

    local: int = 0
    configured: tuple[ConfiguredNode, ...] = ()
    known: frozenset[int] = frozenset()

    def step(self, event: told.MindEvent) -> list[do.Action]:
        """What to do; an answer of the kernel leads to nothing."""
        match event:
            case EngineUp(cluster, local, nodes):
                self.local, self.configured = local, nodes
                return [do.MakeCluster(cluster)]
            case Configured(nodes):
                self.configured = nodes
            case Members(members=members):
                gone, new = self.known - {*members}, {*members} - self.known
                self.known = frozenset(members)
                nodes = self.configured
                removals = [do.RemoveNode(n.number, n.name) for n in nodes if n.number in gone]
                additions = [do.MakeNode(self._identity(n), n.number == self.local) for n in nodes if n.number in new]
                return [*removals, *additions]
            case told.Asked(connection, request, identity):
                return [do.Grant(connection, request, identity.number)]
            case _:
                pass
        return []

    def _identity(self, n: ConfiguredNode) -> NodeIdentity:
        return NodeIdentity(n.number, n.address, PORT, n.name)


class OldWorld(Told):
    """A cluster with the ancestor on each node. What breaks a law is written down, and the story goes on.

    Attributes:
        ancestors: by node number.
        breaches: laws found broken, in order.
    """

    def __init__(self, size: int, **options: object) -> None:
        self.ancestors: dict[int, Ancestor] = {}
        self.breaches: list[str] = []
        super().__init__(size, **options)

    def start_o2cb(self, number: int) -> None:
        """Start the ancestor; the real mind's state stays as it begins, and is never stepped."""
        self.ancestors[number] = Ancestor()
        super().start_o2cb(number)

    def o2cb(self, number: int, event: told.MindEvent) -> None:
        """One step of the ancestor."""
        node = self.nodes[number]
        if isinstance(event, told.Refused):
            # libo2cb's word for any errno that it does not expect here, and the last that was heard of the change.
            text = f"internal failure ({errorcode[event.errno]}) with n{event.number}; nothing further is done"
            self.lines.append(f"n{number} o2cb: {text}")
        node.o2cb_todo.extend(self.ancestors[number].step(event))
        while node.o2cb_todo:
            self._o2cb_act(node)

    def _o2cb_act(self, node: SimNode) -> None:
        try:
            super()._o2cb_act(node)
        except Broken as broken:
            self._write_down(broken)
            World._o2cb_act(self, node)  # the judge speaks before the deed

    def _note(self, node: SimNode, daemon: str, entry: Log) -> None:
        try:
            super()._note(node, daemon, entry)
        except Broken as broken:
            self._write_down(broken)

    def judge(self) -> None:
        """What must hold in a state: what was broken by a deed stays so, and is written down once."""
        try:
            super().judge()
        except Broken as broken:
            if not any(breach.startswith(f"{str(broken).partition(':')[0]} (") for breach in self.breaches):
                self._write_down(broken)

    def _write_down(self, broken: Broken) -> None:
        law = str(broken).partition(":")[0]
        if law not in MEANING:
            raise broken
        self.breaches.append(f"{law} ({MEANING[law]})")
        self.lines.append(f"BROKEN: {self.breaches[-1]}")


class OldStory(Story):
    """A story of such a cluster."""

    def _do_cluster(self, words: list[str]) -> None:
        self.world_ = OldWorld(int(words[0]), **self.options)
        self._apply_settings()


@dataclass(frozen=True, slots=True)
class Played:
    """What came of the story.

    Attributes:
        lines: the transcript.
        standing: the address at which n1's kernel has n2; None when it has no such node.
        linked: whether n1's kernel links n2 in F.
        breaches: laws that the judges found broken.
    """

    lines: tuple[str, ...]
    standing: str | None
    linked: bool
    breaches: tuple[str, ...]


def play(story: Story) -> Played:
    """Tell the story to a new cluster."""
    story.command("running 3 F n1 n2")
    lines: list[str] = []
    for line in STORY.splitlines():
        if line.startswith("#"):
            lines += ["", line]
            continue
        story.command(line)
        lines += [f"> {line}", *(f"  {each}" for each in story.world.lines)]
        story.world.lines.clear()
    world, here = story.world, story.world.nodes[1]
    node = here.kernel.node("n2")
    breaches = tuple(world.breaches) if isinstance(world, OldWorld) else ()
    if not isinstance(world, OldWorld):
        world.judge_end()
    lines += ["", "In the end n1 has:  " + tree(here)]
    linked = bool(here.kernel.linked("n2"))
    return Played(tuple(lines[1:]), None if node is None else node.address, linked, breaches)


def text() -> str:
    """Both transcripts, one after the other, as docs/argument.md has them."""
    parts: list[str] = []
    for title, story in ((NAIVE, OldStory()), (REAL, Story())):
        played = play(story)
        laws = "; ".join(played.breaches) or "none"
        parts += [f"== {title} ==", "", *played.lines, f"Laws found broken:  {laws}", ""]
    return "\n".join(parts)


def split(page: str) -> tuple[str, str, str]:
    """A page before, in and after its block of both transcripts.

    Raises:
        ValueError: it has none.
    """
    before, mark, rest = page.partition(BEGIN)
    inside, end, after = rest.partition(END)
    if not mark or not end:
        raise ValueError(f"the page has no block that begins with {BEGIN!r}")
    return before + mark, inside, end + after


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m tests.argument", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--write", action="store_true", help=f"also put it into {PAGE.name}")
    options = parser.parse_args()
    played = text()
    sys.stdout.write(played)
    if options.write:
        before, _, after = split(PAGE.read_text())
        PAGE.write_text(before + played + after)
    return 0


if __name__ == "__main__":
    sys.exit(main())
