"""The journal of a sandbox node's mount table: HOME/log/mounts.jsonl, one JSON object a line.

    mono         time.monotonic_ns() when it was written
    call         mount, umount, or clear (the power went: every mount is gone)
    uuid         the volume's UUID; null with clear
    mount_point  where; null with clear

A line is written under the table's lock before its effect, so nobody's reaction to a mount is dated before the mount.
A caller that is killed between the two leaves a line without an effect: the next holder of the lock takes it back, and
a power-off is such a holder. So the journal of a node that was switched off is the true history of its mounts.
"""

import json
import os
import time
from collections.abc import Collection
from pathlib import Path

from libo2cb.errors import ServiceUnavailable

JOURNAL = "mounts.jsonl"
MOUNT, UMOUNT, CLEAR = "mount", "umount", "clear"

_TAIL = 1 << 16
"""Longer than any line: a path has at most 4096 bytes, each byte six characters in JSON."""


class MountJournal:
    """The journal. Only the holder of the table's lock may call it.

    Args:
        directory: the home's log directory; where there is none, the table is nobody's home and nothing is written.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._path = directory / JOURNAL

    def append(self, call: str, uuid: str | None = None, mount_point: str | None = None) -> None:
        """Say what is done next.

        Raises:
            ServiceUnavailable: it cannot be written; then nothing is to be done.
        """
        if not self._directory.is_dir():
            return
        entry = {"mono": time.monotonic_ns(), "call": call, "uuid": uuid, "mount_point": mount_point}
        line = json.dumps(entry, separators=(",", ":")).encode() + b"\n"
        try:
            with self._path.open("ab", buffering=0) as file:
                while line:
                    line = line[file.write(line) or 0 :]
        except OSError as error:
            raise ServiceUnavailable(f"the journal {self._path}", says="cannot be written") from error

    def settle(self, mounted: Collection[str]) -> None:
        """Take a last line back that is torn, or whose effect never came.

        Args:
            mounted: the mount points in the table.

        Raises:
            ServiceUnavailable: it cannot be read or written.
        """
        try:
            with self._path.open("r+b", buffering=0) as file:
                start = max(0, file.seek(0, os.SEEK_END) - _TAIL)
                file.seek(start)
                tail = file.read()
                whole = tail[: tail.rfind(b"\n") + 1]
                last = whole[whole[:-1].rfind(b"\n") + 1 :]
                kept = len(whole) - (0 if _has_come(last, mounted) else len(last))
                if kept != len(tail):
                    file.truncate(start + kept)
        except FileNotFoundError:
            return
        except OSError as error:
            raise ServiceUnavailable(f"the journal {self._path}", says="cannot be settled") from error


def _has_come(line: bytes, mounted: Collection[str]) -> bool:
    """Whether the effect of the last line stands in the table; a line that is none of ours is left alone."""
    try:
        entry = json.loads(line)
        call, mount_point = entry["call"], entry["mount_point"]
    except (ValueError, KeyError, TypeError):
        return True
    if call == MOUNT:
        return mount_point in mounted
    return mount_point not in mounted if call == UMOUNT else not mounted
