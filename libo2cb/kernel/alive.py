r"""Who beats on disk: whom this node's kernel holds for alive, as o2hb tells in debugfs.

With disk heartbeat there are no links. A region of this node's kernel reads every node's slot on the volume, and what
it found stands in debugfs, one file a region:

    /sys/kernel/debug/o2hb/REGION/livenodes    "1 2 \n": the numbers of the nodes that beat

A node that has unmounted or died is out of it once it has been silent for the dead threshold.
"""

from pathlib import Path
from typing import Final

DEBUGFS: Final = Path("/sys/kernel/debug")
_LIVE: Final = "livenodes"


class DiskHeartbeat:
    """What o2hb shows.

    Args:
        debugfs: where debugfs is mounted.
    """

    def __init__(self, debugfs: Path = DEBUGFS) -> None:
        self._root = debugfs / "o2hb"

    def live(self, region: str) -> frozenset[int] | None:
        """The numbers that beat in a region that stands; None where that cannot be seen.

        It cannot be seen without debugfs, without the right to read it, and of what is none of o2hb's lists.
        """
        try:
            return frozenset(int(number) for number in (self._root / region / _LIVE).read_text("ascii").split())
        except (OSError, ValueError):
            return None
