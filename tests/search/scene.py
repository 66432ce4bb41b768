"""What a small world is: who is in it, what may happen to it, and how often."""

from dataclasses import dataclass
from typing import NamedTuple

from tests.simulation.world import Choice


class Budget(NamedTuple):
    """How often each may happen.

    Attributes:
        off: a node loses power.
        back: it boots again.
        move: it has another address then.
        kill_o: o2cb_controld is killed.
        kill_c: ocfs2_controld is killed.
        mount: a client sends MOUNT.
        umount: it unmounts.
        cut: a node is cut off; the network heals whenever it likes.
        deadline: a waiting MOUNT is given up.
        client: a client whose MOUNT waits dies.
        grace: a daemon is away, or owes an answer, for longer than the grace time.
        unreceived: a node that goes takes the last messages that only it has read with it.
        lie: an operator acknowledges a fence, and the node is on all the same.
        fail: a fencing device fails; it is tried again after its pause.
        late: who has to go has not gone within its seconds, and is put out by the engine; that starts again later.
    """

    off: int = 0
    back: int = 0
    move: int = 0
    kill_o: int = 0
    kill_c: int = 0
    mount: int = 0
    umount: int = 0
    cut: int = 0
    deadline: int = 0
    client: int = 0
    grace: int = 0
    unreceived: int = 0
    lie: int = 0
    fail: int = 0
    late: int = 0

    def spend(self, name: str) -> "Budget":
        """One less of it."""
        return self._replace(**{name: getattr(self, name) - 1})


@dataclass(frozen=True)
class Scene:
    """A small world.

    Attributes:
        name: what the command line calls it.
        about: one line.
        size: number of nodes, all up.
        budget: what may happen.
        mounted: who has the filesystem at first.
        full: nodes with a real o2cb_controld.
        careful: nodes whose daemons act call by call.
        quick: nodes that do at once whatever they can.
        victims: nodes to which faults and clients come; all unless said.
        killed: nodes whose daemons are killed; the victims unless said.
        parted: who is cut off together; each victim by itself unless said.
        prelude: what happens before the search begins, with all that follows from it at once,
        held: but for this; as tests/simulation names it.
        two_node: with two nodes, one is a quorum once it has seen both.
        reduced: partial-order reduction (explore.py).
    """

    name: str
    about: str
    size: int
    budget: Budget
    mounted: tuple[int, ...] = ()
    full: frozenset[int] = frozenset()
    careful: frozenset[int] = frozenset()
    quick: frozenset[int] = frozenset()
    victims: tuple[int, ...] | None = None
    killed: tuple[int, ...] | None = None
    parted: tuple[int, ...] = ()
    prelude: tuple[Choice, ...] = ()
    held: frozenset[str] = frozenset()
    two_node: bool = False
    reduced: bool = True


class Option(NamedTuple):
    """Something that can happen next.

    Attributes:
        choice: what.
        progress: it happens sooner or later, without a fault.
        spends: which budget.
    """

    choice: Choice
    progress: bool = True
    spends: str = ""
