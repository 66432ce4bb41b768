"""`make bench`: prints the figures as one JSON document.

Each figure stands beside a floor that was measured in the same run on the same machine, and as a ratio to it: absolute
times of a busy machine say little. Medians of several rounds.
"""

import asyncio
import contextlib
import json
import platform
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from libo2cb.locks import Descriptor
from libo2cb.service.server import Connection, RecordServer
from ocfs2_controld import mind
from ocfs2_controld.actions import AnswerList
from ocfs2_controld.change import reconcile
from ocfs2_controld.events import ClientClosed, ClientOpened, ClientSaid, Peer
from ocfs2_controld.state import Settings
from protocol import client
from protocol.framing import RECORD
from protocol.frozen import FrozenMap
from protocol.group import (
    NO_START,
    Claim,
    Envelope,
    Group,
    GroupTable,
    Inside,
    StartName,
    Statement,
    View,
    ViewMember,
    encode,
)
from protocol.handshake import standard
from protocol.identity import Life, NodeIdentity, Ring
from tests.simulation.world import World

ROUNDS = 5
QUERIES = 3000
CYCLES = 200


def median_seconds(work: Callable[[], object], rounds: int = ROUNDS) -> float:
    """The median wall time of some rounds, after one that does not count."""
    work()
    found = []
    for _ in range(rounds):
        began = time.perf_counter()
        work()
        found.append(time.perf_counter() - began)
    return statistics.median(found)


class Queries:
    """The client server with the mind behind it, as the daemon has it, but without engine, kernel and logs."""

    def __init__(self, path: str) -> None:
        self.state = mind.begin(Settings("boot", "bench", 1))
        self.server = RecordServer(self, path)
        self.connections: dict[int, Connection] = {}

    def opened(self, connection: Connection) -> None:
        """A client connected."""
        self.connections[connection.id] = connection
        peer = Peer(connection.pid, connection.uid, 0.0, "bench", True)
        self.state, _ = mind.step(self.state, 0.0, (ClientOpened(connection.id, peer),))

    def record(self, connection: Connection, text: bytes, _descriptor: Descriptor | None) -> None:
        """A request."""
        event = ClientSaid(connection.id, client.parse(text))
        self.state, actions = mind.step(self.state, 0.0, (event,))
        for action in actions:
            if isinstance(action, AnswerList):
                for record in client.items(action.items):
                    connection.send(record)

    def closed(self, connection: Connection) -> None:
        """It ended."""
        self.connections.pop(connection.id)
        self.state, _ = mind.step(self.state, 0.0, (ClientClosed(connection.id),))


class Echo:
    """The floor: sends each record back, through the same kind of socket."""

    def __init__(self, sock: socket.socket, loop: asyncio.AbstractEventLoop) -> None:
        self.sock, self.loop = sock, loop
        sock.setblocking(False)
        loop.add_reader(sock.fileno(), self._accept)

    def _accept(self) -> None:
        peer, _ = self.sock.accept()
        peer.setblocking(False)
        self.loop.add_reader(peer.fileno(), self._read, peer)

    def _read(self, peer: socket.socket) -> None:
        data = peer.recv(RECORD)
        if data:
            peer.send(data)
        else:
            self.loop.remove_reader(peer.fileno())
            peer.close()


def ask_many(path: str, record: bytes, answers: int, rounds: int) -> list[float]:
    """Seconds of each of so many rounds of one request, by a blocking client."""
    found = []
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(path)
        for _ in range(rounds):
            began = time.perf_counter()
            sock.sendall(record)
            left = answers * RECORD
            while left:
                left -= len(sock.recv(left))
            found.append(time.perf_counter() - began)
    return found


async def _serve_queries(directory: Path, result: dict[str, Any]) -> None:
    loop = asyncio.get_running_loop()
    queries = Queries(str(directory / "q.sock"))
    queries.server.listen()
    record = client.encode(client.ListClusters())
    with socket.socket(socket.AF_UNIX) as floor:
        floor.bind(str(directory / "e.sock"))
        floor.listen()
        Echo(floor, loop)
        done: dict[str, list[float]] = {}

        def measure() -> None:
            for name, path, answers in (("floor", "e.sock", 1), ("daemon", "q.sock", 2), ("floor again", "e.sock", 1)):
                done[name] = ask_many(str(directory / path), record, answers, QUERIES)

        await asyncio.to_thread(measure)
        loop.remove_reader(floor.fileno())
    queries.server.close()
    await asyncio.sleep(0.05)
    daemon = statistics.median(done["daemon"])
    bare = statistics.median(done["floor"] + done["floor again"])
    result["list_clusters"] = {
        "rounds_per_second": round(1 / daemon),
        "median_us": round(daemon * 1e6, 1),
        "floor_bare_echo_rounds_per_second": round(1 / bare),
        "ratio_to_floor": round(bare / daemon, 3),
    }


def change(groups: int, nodes: int) -> dict[str, Any]:
    """Reconciling the statements of a failure: beside the encoding of the same statements as JSON."""
    lives = [Life(n, f"boot{n}") for n in range(1, nodes + 1)]
    ring, after = Ring(8, 1), Ring(12, 1)
    start = StartName(ring, 1)
    members = tuple(lives)
    table = GroupTable(
        FrozenMap({f"{g:032X}": Group(members=members, start=start, made=start) for g in range(groups)}),
        newest=start,
        named=start,
    )
    claims = FrozenMap({fs: Claim(Inside.MEMBER, False, start) for fs in table.groups})
    here = lives[:-1]
    view = View(after, tuple(ViewMember(x.node, 100) for x in here))
    blocks = standard(7777).blocks()
    statements = [
        Statement(
            view=view,
            life=x,
            incarnation="i",
            nonce=f"i.{x.node}",
            identity=NodeIdentity(x.node, f"10.0.0.{x.node}", 7777, f"n{x.node}"),
            blocks=blocks,
            configured=tuple(range(1, nodes + 1)),
            table=table,
            claims=claims,
            away=(),
            doubt=False,
        )
        for x in here
    ]
    outcome = reconcile(view, statements)
    assert all(g.lost == (lives[-1],) for g in outcome.table.groups.values())
    assert outcome.table.named > NO_START
    ours = median_seconds(lambda: reconcile(view, statements))
    floor = median_seconds(lambda: list(encode(Envelope(None, (statements[0],)), 1)))
    return {
        "groups": groups,
        "nodes": nodes,
        "median_ms": round(ours * 1e3, 2),
        "floor_encoding_one_statement_ms": round(floor * 1e3, 2),
        "ratio_to_floor": round(ours / floor, 2),
    }


def cycles() -> dict[str, Any]:
    """MOUNT, MRESULT, UNMOUNT of one node through both real minds, an engine and a kernel in this process."""
    world = World(1)
    world.power_on(1)
    world.settle()

    def work() -> None:
        for _ in range(CYCLES):
            world.client(1, "F")
            world.settle()
            world.umount(1, "F")
            world.settle()
            world.nodes[1].clients.clear()
            world.logs.clear()

    ours = median_seconds(work, 3) / CYCLES
    left, right = socket.socketpair()
    with left, right:

        def bare() -> None:
            for _ in range(CYCLES * 3):
                left.send(bytes(RECORD))
                right.recv(RECORD)
                right.send(bytes(RECORD))
                left.recv(RECORD)

        floor = median_seconds(bare, 3) / CYCLES
    return {
        "median_ms": round(ours * 1e3, 3),
        "floor_three_bare_exchanges_ms": round(floor * 1e3, 4),
        "ratio_to_floor": round(ours / floor, 1),
    }


def starting() -> dict[str, Any]:
    """From exec to a daemon that knows its options: beside an empty Python."""

    def run(*arguments: str) -> Callable[[], object]:
        return lambda: subprocess.run([sys.executable, *arguments], check=True, capture_output=True)

    floor = median_seconds(run("-c", "pass"))
    result: dict[str, Any] = {"floor_empty_python_s": round(floor, 3)}
    for daemon in ("o2cb_controld", "ocfs2_controld"):
        seconds = median_seconds(run("-m", daemon, "-V"))
        result[daemon] = {"median_s": round(seconds, 3), "ratio_to_floor": round(seconds / floor, 1)}
    return result


def main() -> int:
    """Measure, and print."""
    result: dict[str, Any] = {"python": platform.python_version(), "machine": platform.machine()}
    with tempfile.TemporaryDirectory(prefix="ocfs2b") as name, contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve_queries(Path(name), result))
        result["failure_change"] = [change(1, 3), change(100, 3), change(1000, 3), change(10, 254)]
        result["mount_cycle_in_process"] = cycles()
        result["start"] = starting()
    print(json.dumps(result, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
