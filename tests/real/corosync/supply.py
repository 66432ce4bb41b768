"""What stands for a hub in a home whose engine is corosync: power for its nodes, and the history of the run.

`libo2cb.sandbox.power` starts and ends nodes, and so do fence commands (`o2cb_sandbox kill`). It asks whoever listens
at the home's hub.sock to begin and to end the node's engine. Here that is a thread of the test's own process, and the
engine is a real corosync:

    engine start    starts it                  power_off   unplugs the machine, so that its end is one instant for all
    readdress       another address, by reload             others, then kills corosync

The history is written as a hub writes it (libo2cb/sandbox/history.py), so that tests/laws reads it as it is.
"""

import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, Self

from libo2cb.engine.wire import Json, decode, encode
from libo2cb.sandbox.history import History
from tests.real.corosync.cluster import Cluster

_WAKE: Final = 0.2
_PATIENCE: Final = 5.0


class Supply:
    """Answers the words of power. Made by `of`.

    Attributes:
        lock: held while the cluster is worked on, here and by whoever else does; not while a power switch is waited
            for, which asks this thread.
    """

    def __init__(self, cluster: Cluster, path: Path, history: History) -> None:
        self.lock = threading.RLock()
        self._cluster = cluster
        self._history = history
        self._boots: dict[int, str] = {}
        self._ends = threading.Event()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.bind(str(path))
        self._socket.listen(64)
        self._socket.settimeout(_WAKE)
        self._thread = threading.Thread(target=self._serve, name="power supply")

    @classmethod
    @contextmanager
    def of(cls, cluster: Cluster, path: Path, history: Path) -> Iterator[Self]:
        """One that listens at a path until the context is left."""
        with History(history) as book:
            supply = cls(cluster, path, book)
            supply.note("hub_up", cluster=cluster.settings.cluster, seed=0, nodes=supply.nodes())
            supply._thread.start()
            try:
                yield supply
            finally:
                supply._ends.set()
                supply._thread.join()
                supply._socket.close()

    def note(self, op: str, **fields: object) -> None:
        """Add a line to the history."""
        with self.lock:
            self._history.write(op, **fields)

    def nodes(self) -> list[tuple[int, str, str]]:
        """Number, name and address of all nodes, as the history tells them."""
        return [(it.number, it.name, next(a for a in it.addresses if ":" not in a)) for it in self._cluster.members]

    def number(self, name: str) -> int:
        """A node's number."""
        return next(it.number for it in self._cluster.members if it.name == name)

    def _serve(self) -> None:
        while not self._ends.is_set():
            with suppress(TimeoutError):
                connection, _ = self._socket.accept()
                connection.settimeout(_PATIENCE)
                with connection, suppress(OSError, ValueError), connection.makefile("rb") as lines:
                    connection.sendall(encode(self._answer(decode(lines.readline()))))

    def _answer(self, message: Json) -> Json:
        with self.lock:
            try:
                self._do(message, self.number(message["node"]))
            except (OSError, RuntimeError, AssertionError, StopIteration, subprocess.SubprocessError) as error:
                return {"error": f"{message}: {error!r}"}
        return {}

    def _do(self, message: Json, node: int) -> None:
        match str(message["op"]):
            case "boot":
                self._boots[node] = str(message["boot"])
                self._history.write("boot", node=node, boot=self._boots[node])
            case "engine" if message["do"] == "start":
                self._cluster.start(node)
                self._history.write("engine", node=node, state="up", cause="start")
            case "readdress":
                self._cluster.readdress(node, str(message["address"]))
                self._history.write("configured", nodes=self.nodes())
            case "power_off":
                self._history.write("power_off", node=node, boot=self._boots.get(node))
                self._cluster.machines.move({node: None})
                if self._cluster.seats[node].lives():
                    self._cluster.kill(node)
            case "dead":
                self._cluster.seats[node].machine.clear()
                self._history.write("dead", node=node, boot=self._boots.pop(node, None))
            case op:
                raise AssertionError(f"the supply knows no {op}")
