"""What should stand, what stands, and the next step from one to the other, number by number.

Pure: no state is kept here. The queue of changes is this difference, taken anew after each event, so it cannot be lost.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from libo2cb.engine.port import ConfiguredNode
from libo2cb.errors import O2cbError
from libo2cb.kernel.port import StandingNode
from libo2cb.limits import check_identity
from protocol.identity import NodeIdentity

ORPHANS = 0
"""The slot of directories that have no number yet and whose name nobody wants. No lock is ever granted for 0."""


@dataclass(frozen=True, slots=True)
class Nothing:
    """What is wanted stands, or nothing is wanted and nothing stands."""


@dataclass(frozen=True, slots=True)
class Remove:
    """This directory is in the way.

    Attributes:
        name: the directory.
        again: the identity that takes its place, None when the node is to go.
    """

    name: str
    again: NodeIdentity | None


@dataclass(frozen=True, slots=True)
class Make:
    """Nothing of this number stands, and nothing is in its way."""

    identity: NodeIdentity


@dataclass(frozen=True, slots=True)
class Held:
    """Another directory holds the name, or the address and port: it has to go first.

    Attributes:
        identity: what waits.
        by: the other directory.
        what: what it holds: "name n3", "10.0.0.3:7777".
    """

    identity: NodeIdentity
    by: str
    what: str


Need: TypeAlias = Nothing | Remove | Make | Held
NOTHING = Nothing()


@dataclass(frozen=True, slots=True)
class Unfit:
    """A configured node that o2cb cannot hold, and why."""

    number: int
    name: str
    why: str


def identity_of(node: ConfiguredNode, port: int) -> NodeIdentity:
    """The identity that a configured node should have in the tree."""
    return NodeIdentity(node.number, node.address, port, node.name)


def why_unfit(identity: NodeIdentity) -> str | None:
    """Why o2cb cannot hold this node, in a sentence; None if it can."""
    try:
        check_identity(identity)
    except O2cbError as e:
        return e.sentence()
    return None


def unfit(nodes: Iterable[ConfiguredNode], port: int) -> tuple[Unfit, ...]:
    """The configured nodes that o2cb cannot hold. One of them never keeps another out."""
    reasons = ((n, why_unfit(identity_of(n, port))) for n in nodes)
    return tuple(Unfit(n.number, n.name, why) for n, why in reasons if why is not None)


def wanted_nodes(
    driver: str, port: int, configured: Iterable[ConfiguredNode], members: Iterable[int], local: int
) -> tuple[NodeIdentity, ...]:
    """The nodes that should stand, by number.

    Args:
        driver: "classic" wants the whole configuration (the disk heartbeat says who lives); others the members in it.
        port: the cluster's port.
        configured: the engine's configuration.
        members: who is in the engine's membership.
        local: this node's number; it is always wanted.
    """
    here = {*members, local}
    identities = (identity_of(n, port) for n in configured if driver == "classic" or n.number in here)
    return tuple(sorted(i for i in identities if why_unfit(i) is None))


class Difference:
    """Wanted against standing.

    Args:
        wanted: identities that should stand, no two with one number.
        standing: the directories of our cluster.
        local: this node's number.
    """

    def __init__(self, wanted: Iterable[NodeIdentity], standing: Iterable[StandingNode], local: int | None) -> None:
        self.wanted: Mapping[int, NodeIdentity] = {w.number: w for w in wanted}
        self.standing = tuple(standing)
        self.local = local
        self._by_number = {s.number: s for s in self.standing if s.number}
        self._by_name = {s.name: s for s in self.standing}
        self._by_endpoint = {(s.address, s.port): s for s in self.standing if s.port}
        names = {w.name for w in self.wanted.values()}
        self._orphans = sorted(s.name for s in self.standing if not s.number and s.name not in names)
        self._needs: dict[int, Need] = {}
        self._differing: tuple[int, ...] | None = None

    def numbers(self) -> list[int]:
        """Every number that has something to say, ascending; ORPHANS first."""
        return sorted({*self.wanted, *self._by_number, *((ORPHANS,) if self._orphans else ())})

    def holder(self, number: int) -> StandingNode | None:
        """The directory that stands with this number."""
        return self._by_number.get(number)

    def right(self, identity: NodeIdentity) -> bool:
        """Whether this identity stands, complete, as itself."""
        s = self._by_number.get(identity.number)
        is_local = identity.number == self.local
        return s is not None and s.complete and s.identity == identity and s.local == is_local

    def differing(self) -> tuple[int, ...]:
        """The numbers that need something, ascending; ORPHANS first."""
        if self._differing is None:
            self._differing = tuple(n for n in self.numbers() if not isinstance(self.need(n), Nothing))
        return self._differing

    def need(self, number: int) -> Need:
        """The next step of this number."""
        need = self._needs.get(number)
        if need is None:
            need = self._needs[number] = self._find(number)
        return need

    def _find(self, number: int) -> Need:
        if number == ORPHANS:
            return Remove(self._orphans[0], None) if self._orphans else NOTHING
        w = self.wanted.get(number)
        if (s := self._by_number.get(number)) is not None:
            return NOTHING if w is not None and self.right(w) else Remove(s.name, w)
        if w is None:
            return NOTHING
        # A was killed between mkdir and the number: its directory has our name and no number, and nobody else's lock
        # could speak for it.
        if (s := self._by_name.get(w.name)) is not None:
            return Held(w, s.name, f"the name {w.name}") if s.number else Remove(s.name, w)
        if (s := self._by_endpoint.get((w.address, w.port))) is not None:
            return Held(w, s.name, f"the address {w.address}:{w.port}")
        return Make(w)


_latest: dict[int | None, tuple[tuple[NodeIdentity, ...], tuple[StandingNode, ...], Difference]] = {}


def difference(wanted: tuple[NodeIdentity, ...], standing: tuple[StandingNode, ...], local: int | None) -> Difference:
    """Wanted against standing. Of the same tuples as before it is the same object.

    A step asks half a dozen times, and a death takes as many steps, in which most of 254 nodes stay what they are.
    """
    known = _latest.get(local)
    if known is None or known[0] is not wanted or known[1] is not standing:
        known = _latest[local] = (wanted, standing, Difference(wanted, standing, local))
    return known[2]
