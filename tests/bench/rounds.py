"""Rounds of a blocking client, beside the same rounds of a bare echo server, in turns."""

import socket
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from protocol import client
from protocol.framing import RECORD

TURNS = 15
"""Each of the two has so many turns, one after the other, so that what slows the machine down slows both."""

Round = Callable[[], object]


@dataclass(frozen=True, slots=True)
class Both:
    """Median seconds of a round, ours and of the floor."""

    ours: float
    floor: float

    def told(self, target: float | None = None) -> dict[str, Any]:
        """For the report: rounds a second, and what part of the floor's they are."""
        found = {
            "median_us": round(self.ours * 1e6, 1),
            "rounds_per_second": round(1 / self.ours),
            "floor_median_us": round(self.floor * 1e6, 1),
            "floor_rounds_per_second": round(1 / self.floor),
            "ratio_to_floor": round(self.floor / self.ours, 3),
        }
        return found if target is None else {**found, "target": target}


def beside(ours: Round, floor: Round, rounds: int, turns: int = TURNS) -> Both:
    """Measure both in turns; the median of all rounds of each, after a turn that does not count."""
    found: dict[Round, list[float]] = {ours: [], floor: []}
    for turn in range(turns + 1):
        for work, seconds in found.items():
            for _ in range(rounds):
                began = time.perf_counter()
                work()
                if turn:
                    seconds.append(time.perf_counter() - began)
    return Both(statistics.median(found[ours]), statistics.median(found[floor]))


def connect(path: Path) -> socket.socket:
    """A connection to one of our servers."""
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(str(path))
    return sock


def exchange(sock: socket.socket, record: bytes, answers: int = 1) -> bytes:
    """Say a record and read so many; all that was answered."""
    sock.sendall(record)
    answer = sock.recv(answers * RECORD)
    while len(answer) < answers * RECORD:
        more = sock.recv(answers * RECORD - len(answer))
        assert more, "the connection ended"
        answer += more
    return answer


def queries(daemon: Path, echo: Path) -> Both:
    """LISTCLUSTERS on one connection: three records answer it. The floor sends one record back."""
    record = client.encode(client.ListClusters())
    with connect(daemon) as ours, connect(echo) as bare:
        return beside(lambda: exchange(ours, record, 3), lambda: exchange(bare, record), 200)


def cycle(daemon: Path, uuid: str, device: str, service: str, codes: tuple[int, ...] = (0,)) -> Round:
    """MOUNT, MRESULT and UNMOUNT: two connections, three exchanges. A MOUNT's answer is one of these codes."""
    words: tuple[client.ClientMessage, ...] = (
        client.Mount("ocfs2", uuid, "demo", device, service),
        client.MountResult("ocfs2", uuid, 0, service),
        client.Unmount("ocfs2", uuid, service),
    )
    mount, result, unmount = map(client.encode, words)

    def said(sock: socket.socket, record: bytes, allowed: tuple[int, ...]) -> None:
        answer = client.parse(exchange(sock, record).rstrip(b"\0"))
        assert isinstance(answer, client.Status), answer
        assert answer.code in allowed, answer

    def work() -> None:
        with connect(daemon) as sock:
            said(sock, mount, codes)
            said(sock, result, (0,))
        with connect(daemon) as sock:
            said(sock, unmount, (0,))

    return work


def bare_cycle(echo: Path) -> Round:
    """The same two connections and three exchanges, with the echo server."""
    record = bytes(RECORD)

    def work() -> None:
        with connect(echo) as sock:
            exchange(sock, record)
            exchange(sock, record)
        with connect(echo) as sock:
            exchange(sock, record)

    return work
