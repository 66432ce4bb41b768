"""The last lines of the log, kept in memory for DUMP."""

from collections import deque
from typing import Final

RING_BYTES: Final = 1 << 20
_CUT: Final = b" [cut]\n"


class LineRing:
    """Keeps the newest whole lines that fit into so many bytes.

    Args:
        limit: bytes. A longer line is cut to a quarter of that, and says so.
    """

    def __init__(self, limit: int = RING_BYTES) -> None:
        self.limit = limit
        self._lines: deque[bytes] = deque()
        self._size = 0

    def append(self, line: bytes) -> None:
        """Keep a line (a newline at its end is added where it is missing); forget the oldest that no longer fit."""
        line = line if line.endswith(b"\n") else line + b"\n"
        longest = self.limit // 4
        if len(line) > longest:
            line = line[: max(longest - len(_CUT), 0)] + _CUT
        self._lines.append(line)
        self._size += len(line)
        while self._size > self.limit:
            self._size -= len(self._lines.popleft())

    def text(self) -> bytes:
        """All lines, the oldest first."""
        return b"".join(self._lines)

    @property
    def size(self) -> int:
        """Bytes of all lines."""
        return self._size
