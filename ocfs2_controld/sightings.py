"""Since when things are seen, for status: facts that the mind decides nothing by. Pure."""

from typing import TYPE_CHECKING

from ocfs2_controld.state import Present, State
from protocol.frozen import EMPTY, FrozenMap

if TYPE_CHECKING:
    from protocol.group import GroupTable
    from protocol.identity import Life


class Sightings:
    """Remembers when something was first seen, on the mind's clock.

    Attributes:
        daemons: node to when the present run of its daemon was first seen in a change.
        joiners: filesystem and life to when its wish to join was first seen.
    """

    def __init__(self) -> None:
        self.daemons: dict[int, float] = {}
        self.joiners: dict[tuple[str, Life], float] = {}
        self._present: FrozenMap[int, Present] = EMPTY
        self._table: GroupTable | None = None

    def look(self, state: State, now: float) -> None:
        """Take in a state. Costs nothing while neither table nor members change."""
        if state.present is not self._present:
            old, self._present = self._present, state.present
            runs = {n: p.incarnation for n, p in old.items()}
            self.daemons = {
                n: self.daemons.get(n, now) if runs.get(n) == p.incarnation else now for n, p in state.present.items()
            }
        if state.table is not self._table:
            self._table = state.table
            groups = state.table.groups if state.table is not None else EMPTY
            joining = [(fs, g) for fs, g in groups.items() if g.queue or g.joiner]
            asked = [(fs, x) for fs, g in joining for x in (*g.queue, g.joiner) if x is not None]
            self.joiners = {key: self.joiners.get(key, now) for key in asked}
