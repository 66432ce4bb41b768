"""Crowds on the nodes of a lab (crowd.py), as their test sees them."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, Self

from tests.real.corosync.lab import RealLab
from tests.real.corosync.namespaces import environment

AT_ONCE: Final = 50


class Crowd:
    """One process on a node that holds many groups.

    Attributes:
        took: for each group, nanoseconds from MOUNT to STATUS.
    """

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process
        self.took: list[int] = []

    @classmethod
    @contextmanager
    def on(cls, lab: RealLab, name: str, count: int, first: int = 1, at_once: int = AT_ONCE) -> Iterator[Self]:
        """A crowd that has joined so many groups; it leaves them when the context is left."""
        device = lab.sandbox.root / "crowd.img"
        device.touch()
        clients = str(lab[name].home.clients)
        where = (clients, str(device), str(first), str(count), "--at-once", str(at_once))
        with subprocess.Popen(
            (*lab.prefix(name), sys.executable, "-m", "tests.real.corosync.crowd", *where),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment(),
        ) as process:
            try:
                crowd = cls(process)
                assert process.stdout is not None
                crowd.took = json.loads(process.stdout.readline())["joined"]
                yield crowd
            finally:
                process.kill()
