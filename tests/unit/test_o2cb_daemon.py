"""The shell of o2cb_controld on a real sandbox tree, real locks and a real socket; only the engine is scripted."""

import asyncio
import contextlib
import fcntl
import os
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from libo2cb.config import parse
from libo2cb.engine.port import ConfiguredNode, EngineUp, Members, MembershipEvent, ShutdownAsked
from libo2cb.kernel.sandbox import SandboxFs, boot
from libo2cb.kernel.tree import TreeKernel
from libo2cb.locks import Descriptor, LockDirectory, Received, RecordReceiver
from libo2cb.sandbox.mounts import SandboxMounts
from libo2cb.service.logs import Logger, Origin
from libo2cb.service.report import O2cbReport
from libo2cb.service.report import parse as parse_report
from o2cb_controld.daemon import Daemon, Ports
from o2cb_controld.hands import Hands
from protocol import client, ordering
from protocol.framing import encode
from protocol.identity import NodeIdentity, Ring

PATIENCE = 20.0
NODES = (ConfiguredNode(1, "n1", "10.0.0.1"), ConfiguredNode(2, "n2", "10.0.0.2"))
N1 = NodeIdentity(1, "10.0.0.1", 7777, "n1")
N2 = NodeIdentity(2, "10.0.0.2", 7777, "n2")
FS = "F" * 32


class Engine:
    """A membership port that says what the test says."""

    def __init__(self) -> None:
        self.sink: Callable[[MembershipEvent], None] = lambda _: None
        self.answers: list[tuple[int, bool]] = []

    async def start(self, sink: Callable[[MembershipEvent], None]) -> None:
        self.sink = sink
        sink(EngineUp("prod", 1, NODES))
        sink(Members(Ring(4, 1), True, (1, 2), (1, 2), ()))

    def answer_shutdown(self, question: int, allow: bool, reason: str) -> None:
        assert reason
        self.answers.append((question, allow))

    def put_out(self, node: int, reason: str) -> None:
        raise AssertionError(f"o2cb_controld puts nobody out, and now node {node}: {reason}")

    async def close(self) -> None:
        """Nothing is open."""


class Peer:
    """A client of the ordering socket that keeps descriptors."""

    def __init__(self, path: str) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(path)
        self.sock.setblocking(False)
        self.receiver = RecordReceiver(self.sock)

    async def say(self, message: ordering.OrderingMessage) -> None:
        await asyncio.get_running_loop().sock_sendall(self.sock, ordering.encode(message))

    async def hear(self) -> tuple[ordering.OrderingMessage, Received]:
        async with asyncio.timeout(PATIENCE):
            while (got := self.receiver.next()) is None:
                assert not self.receiver.ended, "the connection was closed"
                await asyncio.sleep(0.005)
        return ordering.parse(got.record.split(b"\0", 1)[0]), got

    async def locked(self, request: int) -> Received:
        """Ask for n2's lock, and wait for it; n2 may still be made meanwhile."""
        await self.say(ordering.Lock(request, N2))
        while True:
            message, got = await self.hear()
            if message == ordering.Locked(request):
                return got
            assert isinstance(message, ordering.Queued)
            assert "descriptor" not in message.reason, "the lock was tried for before it was free"

    def drop(self, got: Received) -> None:
        """Close a lock."""
        assert got.descriptor is not None
        got.descriptor.close()

    async def report(self) -> O2cbReport:
        await self.say(client.Report())
        text = ""
        while True:
            match (await self.hear())[0]:
                case client.Item(part):
                    text += part
                case client.Status():
                    return parse_report(text, O2cbReport)

    def close(self) -> None:
        self.receiver.close()
        self.sock.close()


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not true():  # noqa: ASYNC110 (what is waited for is a tree on disk)
            await asyncio.sleep(0.005)


class Lab:
    """A daemon in this process, with its home."""

    def __init__(self, home: Path, trusted: frozenset[int]) -> None:
        boot(home)
        self.home = home
        self.path = str(home / "o2cb.sock")
        self.kernel = TreeKernel(SandboxFs(home))
        self.locks = LockDirectory(home / "run")
        self.engine = Engine()
        config = parse(
            f'[engine]\nkind="sandbox"\nhub="{home}/hub"\nnode="n1"\n[kernel]\ndriver="sandbox"\nroot="{home}/kernel"\n'
            f'[sockets]\nordering="{self.path}"\nclients="{home}/c"\nrun="{home}/run"\n[fencing]\ncommand=["/bin/true"]\n'
        )
        self.null = os.open(os.devnull, os.O_WRONLY)
        self.logger = Logger(Origin("o2cb_controld", "1"), descriptor=self.null)
        hands = Hands(self.kernel, SandboxMounts(home / "mounts"), self.locks)
        self.daemon = Daemon(config, Ports(self.engine, hands, trusted), self.logger)

    def names(self) -> list[str]:
        return [n.name for n in self.kernel.nodes("prod")] if self.kernel.clusters() else []


def play(home: Path, scene: Callable[[Lab, Peer], Awaitable[None]], *, trusted: bool = True) -> int:
    """Run the daemon beside a scene; its exit code."""
    lab = Lab(home, frozenset({os.geteuid()} if trusted else ()))

    async def both() -> int:
        running = asyncio.create_task(lab.daemon.run())
        # Its directories stand before the last node is complete: a scene begins when the daemon has seen that it is.
        await until(lambda: lab.names() == ["n1", "n2"] and lab.daemon._state.ready)
        peer = Peer(lab.path)
        try:
            await scene(lab, peer)
            await peer.say(client.Replace()) if trusted else running.cancel()
            return await asyncio.wait_for(running, PATIENCE)
        except asyncio.CancelledError:
            return -1
        finally:
            peer.close()

    try:
        return asyncio.run(both())
    finally:
        lab.logger.close()
        os.close(lab.null)


def test_a_lock_pins_the_node_for_as_long_as_its_descriptor_lives(tmp_path: Path) -> None:
    async def scene(lab: Lab, peer: Peer) -> None:
        got = await peer.locked(1)
        assert got.descriptor is not None
        assert lab.locks.exclusive(2) is None
        lab.engine.sink(Members(Ring(8, 1), True, (1,), (), (2,)))
        message, _ = await peer.hear()
        assert isinstance(message, ordering.Waiting)
        report = await peer.report()
        assert [(n.name, n.tree) for n in report.nodes] == [("n1", "ok"), ("n2", "unwanted")]
        assert str(os.getpid()) in report.nodes[1].holders[0]
        assert report.ready
        got.descriptor.close()
        await peer.say(ordering.Unlocked(2))
        await until(lambda: lab.names() == ["n1"])

    assert play(tmp_path, scene) == 0


def test_a_link_without_a_lock_pins_as_well_and_the_daemon_looks_by_itself(tmp_path: Path) -> None:
    async def scene(lab: Lab, peer: Peer) -> None:
        lab.kernel.create_region("prod", FS)
        lab.kernel.link("prod", FS, "n2")
        lab.engine.sink(Members(Ring(8, 1), True, (1,), (), (2,)))
        lab.engine.sink(ShutdownAsked(5))
        await until(lambda: lab.engine.answers == [(5, False)])
        report = await peer.report()
        assert report.nodes[1].links == (FS,)
        assert report.nodes[1].queue is not None
        assert FS in (report.staying or "")
        lab.kernel.unlink("prod", FS, "n2")
        lab.kernel.remove_region("prod", FS)
        await until(lambda: lab.names() == ["n1"])

    assert play(tmp_path, scene) == 0


@contextlib.contextmanager
def hung(lab: Lab) -> Iterator[None]:
    """A kernel that does not come back from any change."""
    fd = os.open(lab.home / "kernel" / "lock", os.O_RDWR)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def test_a_kernel_that_does_not_answer_keeps_nobody_waiting_but_its_own_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("o2cb_controld.daemon.SILENT_SECONDS", 0.0)

    async def scene(lab: Lab, peer: Peer) -> None:
        peer.drop(await peer.locked(1))
        with hung(lab):
            lab.engine.sink(Members(Ring(8, 1), True, (1,), (), (2,)))
            while not (waits := [w for w in (await peer.report()).waits if w.what == "rmdir of node n2"]):  # noqa: ASYNC110 (what is waited for is what status says)
                await asyncio.sleep(0.005)
            assert "has not returned" in waits[0].why
            # Wanted again, while its rmdir does not return: granted to nobody yet.
            lab.engine.sink(Members(Ring(12, 1), True, (1, 2), (2,), ()))
            await peer.say(ordering.Lock(2, N2))
            message, _ = await peer.hear()
            assert isinstance(message, ordering.Queued)
            assert [n.tree for n in (await peer.report()).nodes] == ["ok", "ok"]
        while not isinstance((heard := await peer.hear())[0], ordering.Locked):
            assert isinstance(heard[0], ordering.Queued)
        assert heard[1].descriptor is not None
        assert [n.identity for n in lab.kernel.nodes("prod")][1] == N2
        heard[1].descriptor.close()

    assert play(tmp_path, scene) == 0


def test_a_lock_is_taken_at_once_and_never_before_what_waits_in_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scene(lab: Lab, peer: Peer) -> None:
        takers: list[threading.Thread] = []
        take = lab.locks.exclusive

        def taken(number: int) -> Descriptor | None:
            takers.append(threading.current_thread())
            return take(number)

        await until(lambda: lab.daemon._worker.idle)
        with hung(lab):
            monkeypatch.setattr(lab.locks, "exclusive", taken)
            lab.engine.sink(Members(Ring(8, 1), True, (1,), (), (2,)))
            monkeypatch.undo()
            assert takers == [threading.main_thread()], "without a turn of the loop"
            await until(lambda: (lab.daemon._worker.under_way or ("", 0.0))[0] == "rmdir of node n2")
            await peer.say(ordering.Lock(1, N1))
            await peer.report()
            free = lab.locks.exclusive(1)
            assert free is not None, "its grant waits behind the rmdir"
            free.close()
        while not isinstance((heard := await peer.hear())[0], ordering.Locked):
            pass
        peer.drop(heard[1])

    assert play(tmp_path, scene) == 0


def test_a_daemon_that_is_replaced_does_not_wait_for_the_kernel_and_keeps_the_lock_of_what_it_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("o2cb_controld.daemon.LAST_CALL_SECONDS", 0.05)
    lab = Lab(tmp_path, frozenset({os.geteuid()}))

    async def scene() -> None:
        running = asyncio.create_task(lab.daemon.run())
        await until(lambda: lab.names() == ["n1", "n2"])
        peer = Peer(lab.path)
        peer.drop(await peer.locked(1))
        with hung(lab):
            lab.engine.sink(Members(Ring(8, 1), True, (1,), (), (2,)))
            await until(lambda: lab.daemon._worker.under_way is not None)
            await peer.say(client.Replace())
            assert await asyncio.wait_for(running, PATIENCE) == 0
            assert lab.locks.exclusive(2) is None
        await until(lambda: lab.names() == ["n1"])
        lab.daemon._ports.hands.close()
        peer.close()

    asyncio.run(scene())
    lab.logger.close()
    os.close(lab.null)


@pytest.mark.parametrize("record", [b"LOCK", b"LOCK 1 2 x", b"HELLO", b"\xff" * 30, b"", b"LOCKED 1", b"STATUS 0 OK"])
def test_what_is_no_word_for_us_is_answered_with_an_error(tmp_path: Path, record: bytes) -> None:
    async def scene(_: Lab, peer: Peer) -> None:
        await asyncio.get_running_loop().sock_sendall(peer.sock, encode(record))
        message, _got = await peer.hear()
        assert isinstance(message, client.Status)
        assert message.code == 22

    assert play(tmp_path, scene) == 0


def test_only_the_trusted_are_believed_and_anyone_may_look(tmp_path: Path) -> None:
    async def scene(_: Lab, peer: Peer) -> None:
        for word in (ordering.Lock(1, N2), ordering.Unlocked(2), ordering.Cancel(1), client.Replace()):
            await peer.say(word)
            message, got = await peer.hear()
            assert isinstance(message, client.Status)
            assert message.code == 1
            assert got.descriptor is None
        assert (await peer.report()).cluster == "prod"
        await peer.say(client.Dump())
        assert isinstance((await peer.hear())[0], client.ItemCount)

    assert play(tmp_path, scene, trusted=False) == -1


def test_replace_leaves_everything_standing(tmp_path: Path) -> None:
    async def scene(lab: Lab, _: Peer) -> None:
        lab.kernel.create_region("prod", FS)
        lab.kernel.link("prod", FS, "n2")

    assert play(tmp_path, scene) == 0
    kernel = TreeKernel(SandboxFs(tmp_path))
    assert [n.name for n in kernel.nodes("prod")] == ["n1", "n2"]
    assert kernel.linked("prod", "n2") == [FS]
