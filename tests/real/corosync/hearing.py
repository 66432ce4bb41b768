"""Bare listeners on the machines of a cluster (ear.py), as their test sees them."""

import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, Self

from tests.real.corosync.cluster import DEADLINE, Cluster, NotWithinError
from tests.real.corosync.namespaces import environment

Said = dict[str, Any]
NODEDOWN: Final = 3


class Hearing:
    """One ear, and what it has said so far.

    Attributes:
        said: its lines, in order.
    """

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self.said: list[Said] = []
        self._process = process
        self._rest = b""

    @classmethod
    @contextmanager
    def on(cls, cluster: Cluster, number: int, group: str, *options: str) -> Iterator[Self]:
        """An ear on a machine that has joined a group; ended when the context is left."""
        command = (*cluster.prefix(number), sys.executable, "-m", "tests.real.corosync.ear", group, *options)
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, env=environment()) as process:
            try:
                ear = cls(process)
                ear.until(f"the ear on {number} joins", lambda said: "joined" in said)
                yield ear
            finally:
                process.kill()

    def until(self, what: str, holds: Callable[[Said], bool], since: int = 0) -> Said:
        """Wait until it says, or has said since that line, something that is so.

        Raises:
            NotWithinError: it does not within the deadline.
        """
        end, looked = time.monotonic() + DEADLINE, since
        while True:
            for line in self.said[looked:]:
                if holds(line):
                    return line
            looked = len(self.said)
            self._read(what, end)

    def members(self, *numbers: int, since: int = 0) -> Said:
        """Wait until the group has exactly these members; what was said then."""
        wanted = sorted(numbers)
        return self.until(f"the members are {wanted}", lambda s: sorted(s.get("members", ())) == wanted, since)

    def lost(self, number: int, since: int) -> Said:
        """Wait until it says that a node is lost."""
        return self.until(f"{number} is lost", lambda s: any(n == number for n, _ in s.get("left", ())), since)

    def _read(self, what: str, end: float) -> None:
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], max(0.0, end - time.monotonic()))
        if not ready:
            last = {key: value for line in self.said[-1:] for key, value in line.items() if key != "own"}
            raise NotWithinError(f"not within {DEADLINE:.0f} s: {what}; it said last {last}")
        data = os.read(self._process.stdout.fileno(), 1 << 20)
        if not data:
            raise NotWithinError(f"the ear has ended before {what}: exit code {self._process.wait()}")
        *lines, self._rest = (self._rest + data).split(b"\n")
        self.said += [json.loads(line) for line in lines]
