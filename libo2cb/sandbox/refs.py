"""The reference counts of a sandbox node's regions: what semaphores are on a real kernel (libo2cb.semaphores).

All sandbox nodes share one machine, and so its semaphores: two nodes would count together. So each home has a file of
its own, replaced by one rename under a lock. It ends with the life of the node: counts of another boot id are none.
"""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from libo2cb.errors import BadSem

FILE = "refs.json"
LOCK = "refs.lock"


class SandboxRefs:
    """The counts of a node.

    Args:
        home: the node's home.
    """

    def __init__(self, home: Path) -> None:
        self._kernel = home / "kernel"

    def count(self, region: str) -> int:
        """References of a region.

        Raises:
            BadSem: the file cannot be read.
        """
        return self._read().get(region.upper(), 0)

    def keep(self, region: str, count: int) -> None:
        """Let so many references stand.

        Raises:
            BadSem: the file cannot be changed.
        """
        with self._changing():
            counts = self._read()
            counts.pop(region.upper(), None)
            if count:
                counts[region.upper()] = count
            aside = self._kernel / f"{FILE}.new"  # only the holder of the lock writes it
            aside.write_text(json.dumps({"boot": self._boot(), "counts": counts}))
            aside.replace(self._kernel / FILE)

    def clear(self) -> None:
        """The node loses its power, and with it what its kernel counted."""
        (self._kernel / FILE).unlink(missing_ok=True)

    @contextmanager
    def _changing(self) -> Iterator[None]:
        try:
            lock = os.open(self._kernel / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX)
                yield
            finally:
                os.close(lock)
        except OSError as error:
            raise BadSem(f"the counts in {self._kernel / FILE}", says="cannot be changed") from error

    def _read(self) -> dict[str, int]:
        path = self._kernel / FILE
        try:
            plain = json.loads(path.read_bytes())
            counts = {str(region): int(count) for region, count in plain["counts"].items()}
            return counts if plain["boot"] == self._boot() else {}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            do = "power the node off and remove the file"
            raise BadSem(f"the counts in {path}", says="cannot be read", do=do) from error

    def _boot(self) -> str:
        return (self._kernel / "boot_id").read_text().strip()
