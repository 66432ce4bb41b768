"""Many clients at once, and clients that break every rule, against the real daemon: nobody else waits for them."""

import errno
import resource
import socket
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final

import pytest

from protocol import client
from protocol.framing import RECORD
from tests.process.conftest import Up
from tests.process.lab import CLUSTER, OCFS2, Lab, Node, Volume, until
from tests.process.node import DEADLINE

pytestmark = pytest.mark.process

CROWD: Final = 500
MOST: Final = 1000
"""Connections of one uid, unless configured."""
MEGABYTES: Final = 48
"""How much the daemon may grow under all of this: far below what a leak for each record would come to."""


class Peer:
    """A client that speaks in bytes."""

    def __init__(self, node: Node) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(DEADLINE)
        self.socket.connect(str(node.home.clients))

    def say(self, *words: client.ClientMessage) -> None:
        """Send messages."""
        self.socket.sendall(b"".join(map(client.encode, words)))

    def hear(self) -> client.ClientMessage | None:
        """The next message; None at the end."""
        data = b""
        while len(data) < RECORD:
            part = self.socket.recv(RECORD - len(data))
            if not part:
                assert not data, "half a record"
                return None
            data += part
        return client.parse(data.partition(b"\0")[0])

    def code(self) -> int:
        """The code of the STATUS that comes next."""
        answer = self.hear()
        assert isinstance(answer, client.Status), answer
        assert answer.text
        return answer.code

    def items(self, asked: client.ClientMessage) -> tuple[str, ...]:
        """The items of a list, read as upstream's library reads it."""
        self.say(asked)
        reader = client.ListReader()
        while True:
            answer = self.hear()
            assert answer is not None
            if (found := reader.feed(answer)) is not None:
                return found

    def served(self) -> None:
        """Ask for something, and be answered."""
        assert self.items(client.ListClusters()) == (CLUSTER,)


@contextmanager
def crowd(node: Node, size: int) -> Iterator[list[Peer]]:
    """So many clients at once."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, size + 512)), hard))
    with ExitStack() as stack:
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        peers = []
        for _ in range(size):
            peers.append(Peer(node))
            stack.callback(peers[-1].socket.close)
        yield peers


def mount(volume: Volume, service: str = "ocfs2") -> client.Mount:
    return client.Mount("ocfs2", volume.uuid, CLUSTER, str(volume.path), service)


def result(volume: Volume, code: int, service: str = "ocfs2") -> client.MountResult:
    return client.MountResult("ocfs2", volume.uuid, code, service)


def empty(node: Node) -> None:
    """Wait until no group is left."""
    node.until_ocfs2("all is left", lambda r: not r.groups and r.live_regions == 0)


def resident(node: Node) -> int:
    """Bytes that the daemon has in memory."""
    pages = Path(f"/proc/{node.process(OCFS2).pid}/statm").read_text().split()[1]
    return int(pages) * resource.getpagesize()


def test_five_hundred_clients_at_once_on_one_filesystem_and_on_a_hundred(up: Up) -> None:
    lab: Lab = up(1)
    n1, one, many = lab["n1"], lab.volume("one"), [lab.volume(f"v{i}") for i in range(100)]
    before = resident(n1)
    bystander = Peer(n1)
    with crowd(n1, CROWD) as peers:
        for volumes in ([one], many):
            asked = [volumes[i % len(volumes)] for i in range(CROWD)]
            for peer, volume in zip(peers, asked, strict=True):
                peer.say(mount(volume))
            bystander.served()
            codes = [peer.code() for peer in peers]
            assert Counter(codes) == {0: len(volumes), errno.EBUSY: CROWD - len(volumes)}
            winners = [(p, v) for p, v, code in zip(peers, asked, codes, strict=True) if code == 0]
            assert {v.uuid for _, v in winners} == {v.uuid for v in volumes}, "one for each filesystem"
            for peer, volume in winners:
                peer.say(result(volume, errno.ENODEV))
            bystander.served()
            assert {peer.code() for peer, _ in winners} == {0}
            empty(n1)
    bystander.served()
    bystander.socket.close()
    assert resident(n1) - before < MEGABYTES << 20


GARBAGE: Final[Sequence[bytes]] = (
    b"",
    b" MOUNT",
    b"mount ocfs2",
    b"STATUS 0 OK",
    b"MOUNT ocfs2",
    b"MOUNT ocfs2 " + b"F" * 200,
    b"MRESULT ocfs2 x 99999999999999999999 ocfs2",
    b"LISTCLUSTERS ",
    b"UNMOUNT ocfs2 x y",
    bytes(range(1, 256)),
)


def test_whoever_breaks_the_rules_is_answered_counted_and_in_nobodys_way(up: Up) -> None:
    lab: Lab = up(1)
    n1, volume = lab["n1"], lab.volume("vm")
    before = resident(n1)
    bystander = Peer(n1)
    with crowd(n1, MOST) as peers:  # with the bystander, one too many
        assert peers[-1].code() == errno.EMFILE
        assert peers[-1].hear() is None
        halves, wordy, floods = peers[:300], peers[300:310], peers[310:320]
        for i, peer in enumerate(halves):
            peer.socket.sendall(b"M" * (1 + i % (RECORD - 1)))
        for flood in floods:
            # It asks and does not read: the daemon stops to read it before its own memory fills.
            flood.socket.setblocking(False)
            with suppress(BlockingIOError):
                while True:
                    flood.socket.sendall(client.encode(client.Report()) * 64)
        for peer in wordy:
            for text in GARBAGE:
                peer.socket.sendall(text.ljust(RECORD, b"\0"))
                assert peer.code() > 0
            peer.served()
        bystander.served()
        bystander.say(mount(volume, "hand"))
        assert bystander.code() == 0
        bystander.say(result(volume, 0, "hand"))
        assert bystander.code() == 0
        assert bystander.items(client.ListFs("ocfs2", CLUSTER)) == (volume.uuid,)
        assert bystander.items(client.ListMounts("ocfs2", volume.uuid)) == ("hand",)
    bystander.say(client.Unmount("ocfs2", volume.uuid, "hand"))
    assert bystander.code() == 0
    dump = "".join(bystander.items(client.Dump()))
    assert dump.endswith("\n")
    assert all(line.startswith("20") for line in dump.splitlines()), "whole lines, each with its time"
    bystander.socket.close()
    empty(n1)
    report = n1.until_ocfs2("halves are counted", lambda r: r.violations.get("half_record", 0) >= len(halves))
    assert report.violations["too_many_connections"] >= 1
    assert report.violations["protocol"] >= len(wordy) * (len(GARBAGE) - 1)
    screen = n1.tool("hb_ctl", "-I")
    assert screen.wait() == 0
    told = next(line for line in screen.said().splitlines() if line.startswith("rules broken towards ocfs2_controld: "))
    for kind in ("half_record", "too_many_connections", "protocol"):
        assert f"{kind} {report.violations[kind]}" in told
    assert resident(n1) - before < MEGABYTES << 20


def test_closing_at_every_possible_place_leaves_nothing(up: Up) -> None:
    lab: Lab = up(1)
    n1, volume = lab["n1"], lab.volume("vm")
    bystander = Peer(n1)

    def mounting(peer: Peer) -> None:
        """Its MOUNT is answered as soon as the group of the client before it is left."""

        def told() -> bool:
            peer.say(mount(volume))
            code = peer.code()
            assert code in {0, errno.EBUSY}
            return code == 0

        until("the mount is served", told)

    def ends(place: int, peer: Peer) -> None:
        record = client.encode(mount(volume))
        match place:
            case 0:
                pass
            case 1 | 2 | 3:
                peer.socket.sendall(record[: (1, 128, RECORD - 1)[place - 1]])
            case 4:
                peer.say(mount(volume))
            case 5:
                mounting(peer)
            case 6:
                mounting(peer)
                peer.socket.sendall(client.encode(result(volume, 0))[:100])
            case 7:
                mounting(peer)
                peer.say(result(volume, errno.ENODEV))
            case 8:
                mounting(peer)
                peer.say(result(volume, errno.ENODEV))
                assert peer.code() == 0
            case 9:
                peer.say(client.Unmount("ocfs2", volume.uuid, "ocfs2"))
            case 10:
                peer.say(client.Report())
            case 11:
                peer.say(client.Dump())
                peer.socket.recv(100)
            case 12:
                peer.say(mount(volume), result(volume, 0), client.Unmount("ocfs2", volume.uuid, "ocfs2"))
            case 13:
                peer.socket.shutdown(socket.SHUT_WR)
                assert peer.hear() is None
            case _:
                mounting(peer)
                peer.socket.shutdown(socket.SHUT_RD)
                peer.say(result(volume, errno.ENODEV))

    for place in range(15):
        peer = Peer(n1)
        ends(place, peer)
        peer.socket.close()
        bystander.served()
    empty(n1)
    bystander.socket.close()
    n1.mount(volume, "/vm")
    n1.umount("/vm")
    empty(n1)
