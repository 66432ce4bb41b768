"""One Members event from the two callbacks of corosync's quorum service. Pure.

For each new ring the service says first the *nodelist*: the ring, its members, and who is new and gone since the ring
before; then whether that ring has *quorum*. Between the two the quorum of the new ring is not known, so nothing is
told. The second is said again, alone, when the quorum of a standing ring changes; and, as a copy of the last, whenever
votes are counted anew.

A ring may be overtaken: A sees B go (nodelist), and before the quorum of that ring is counted B is back in another one
(nodelist, quorum). A must still hear that B went, or it would take B's new life for the old. So what is new and gone
adds up until it is told.
"""

from dataclasses import dataclass, field

from libo2cb.engine.corosync.said import NodeList, Quorate
from libo2cb.engine.port import Members


@dataclass(slots=True)
class Assembler:
    """What was heard of the quorum service since the connection was made.

    Attributes:
        told: the last event that was handed out.
        ring: the newest nodelist.
        quorum: the newest word on quorum.
        gone: who of the told members has gone, at least once, since.
    """

    told: Members | None = None
    ring: NodeList | None = None
    quorum: Quorate | None = None
    gone: set[int] = field(default_factory=set)

    def hear(self, said: NodeList | Quorate) -> Members | None:
        """Take one callback; the event that is now due, if any."""
        match said:
            case NodeList():
                before = set() if self.told is None else set(self.told.members)
                # A node that is new has gone before if it was here: also where only one of the two lists says so.
                self.gone |= before & ({*said.left, *said.joined} | (before - set(said.members)))
                self.ring = said
            case Quorate():
                self.quorum = said
        return self._due()

    def _due(self) -> Members | None:
        ring, quorum = self.ring, self.quorum
        if ring is None or quorum is None or ring.ring != quorum.ring or not ring.members:
            return None
        before = set() if self.told is None else set(self.told.members)
        members = set(ring.members)
        event = Members(
            ring=ring.ring,
            quorate=quorum.quorate,
            members=tuple(sorted(members)),
            joined=tuple(sorted(members - (before - self.gone))),
            left=tuple(sorted(self.gone)),
        )
        self.gone = set()
        if self.told is not None and event == self._same(self.told):
            return None
        self.told = event
        return event

    @staticmethod
    def _same(told: Members) -> Members:
        """What would be said again, if nothing has happened."""
        return Members(told.ring, told.quorate, told.members, (), ())
