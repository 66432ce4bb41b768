"""The server and the client of records, on real sockets."""

import asyncio
import contextlib
import itertools
import os
import resource
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from libo2cb.locks import Descriptor
from libo2cb.service.client import RecordClient
from libo2cb.service.server import Connection, ListenError, NameTaken, RecordServer
from libo2cb.service.stream import Cause, Limits, Violation
from protocol.framing import RECORD, encode
from tests.unit.clock import SimulatedLoop

DEADLINE = 60


class Echo:
    """A handler that answers each record with itself, and remembers everything."""

    def __init__(self) -> None:
        self.records: list[tuple[int, bytes]] = []
        self.opened_ids: list[int] = []
        self.closed_connections: list[Connection] = []
        self.descriptors: list[Descriptor] = []
        self.answer: Callable[[Connection, bytes], None] = self.echo

    def echo(self, connection: Connection, text: bytes) -> None:
        connection.send(encode(text))

    def opened(self, connection: Connection) -> None:
        self.opened_ids.append(connection.id)

    def record(self, connection: Connection, text: bytes, descriptor: Descriptor | None) -> None:
        self.records.append((connection.id, text))
        if descriptor is not None:
            self.descriptors.append(descriptor)
        self.answer(connection, text)

    def closed(self, connection: Connection) -> None:
        self.closed_connections.append(connection)


class Asking:
    """A client's handler that remembers everything."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.records: list[tuple[bytes, Descriptor | None]] = []

    def connected(self) -> None:
        self.events.append("connected")

    def record(self, text: bytes, descriptor: Descriptor | None) -> None:
        self.records.append((text, descriptor))

    def disconnected(self, cause: Cause) -> None:
        self.events.append(cause.name)

    def unreachable(self, reason: str) -> None:
        self.events.append(reason)


def descriptors() -> set[int]:
    """The open descriptors of this process."""
    return {int(path.name) for path in Path("/proc/self/fd").iterdir()}


async def until(condition: Callable[[], object], what: str = "it") -> None:
    async with asyncio.timeout(DEADLINE):
        while not condition():  # noqa: ASYNC110 (any condition, of code that knows no test)
            await asyncio.sleep(0.001)
    assert condition(), what


def run(
    tmp_path: Path,
    scene: Callable[[RecordServer, Echo, str], Awaitable[None]],
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None,
    **options: Any,
) -> RecordServer:
    """Play a scene against a server that echoes."""

    async def play() -> RecordServer:
        handler = Echo()
        name = str(tmp_path / "s")
        server = RecordServer(handler, name, **options)
        server.listen()
        try:
            await scene(server, handler, name)
        finally:
            server.close()
            await until(lambda: not server.connections)
        assert Counter(c.id for c in handler.closed_connections) == Counter(handler.opened_ids), "each closed once"
        return server

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        return runner.run(play())


@contextmanager
def client(name: str) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.setblocking(False)
        sock.connect("\0" + name[1:] if name.startswith("@") else name)
        yield sock


async def read(sock: socket.socket, size: int = RECORD) -> bytes:
    """So many bytes, or fewer up to the end."""
    data = b""
    async with asyncio.timeout(DEADLINE):
        while len(data) < size:
            part = await asyncio.get_running_loop().sock_recv(sock, size - len(data))
            if not part:
                break
            data += part
    return data


async def ask(sock: socket.socket, text: bytes) -> bytes:
    await asyncio.get_running_loop().sock_sendall(sock, encode(text))
    return (await read(sock)).partition(b"\0")[0]


def test_a_record_is_answered_and_the_peer_is_known(tmp_path: Path) -> None:
    async def scene(server: RecordServer, handler: Echo, name: str) -> None:
        with client(name) as sock:
            assert await ask(sock, b"MOUNT a b") == b"MOUNT a b"
            seen = list(server.connections.values())
            assert (seen[0].pid, seen[0].uid, seen[0].gid) == (os.getpid(), os.getuid(), os.getgid())
            assert seen[0].program != "unknown"
        await until(lambda: handler.closed_connections)
        assert seen[0].cause is Cause.ENDED

    run(tmp_path, scene)


def test_ids_are_never_used_again(tmp_path: Path) -> None:
    async def scene(_server: RecordServer, handler: Echo, name: str) -> None:
        for count in range(1, 6):
            with client(name) as sock:
                await ask(sock, b"x")
            await until(lambda: len(handler.closed_connections) == count)  # noqa: B023 (awaited in this round)
        assert handler.opened_ids == [1, 2, 3, 4, 5]

    run(tmp_path, scene)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=1500), cuts=st.lists(st.integers(0, 1500), max_size=6))
def test_any_bytes_in_any_pieces_become_the_same_records(tmp_path: Path, data: bytes, cuts: list[int]) -> None:
    async def scene(server: RecordServer, handler: Echo, name: str) -> None:
        handler.answer = lambda _connection, _text: None
        with client(name) as sock:
            bounds = [0, *sorted(cuts), len(data)]
            for begin, end in itertools.pairwise(bounds):
                sock.sendall(data[begin:end])
                await asyncio.sleep(0)
        await until(lambda: handler.closed_connections)
        whole = len(data) // RECORD
        assert [text for _, text in handler.records] == [
            data[i * RECORD : i * RECORD + 255].partition(b"\0")[0] for i in range(whole)
        ]
        assert server.violations[Violation.HALF_RECORD] == bool(len(data) % RECORD)

    (tmp_path / "s").unlink(missing_ok=True)
    run(tmp_path, scene)


def test_half_a_record_is_closed_in_time_and_hurts_nobody(tmp_path: Path) -> None:
    async def scene(server: RecordServer, handler: Echo, name: str) -> None:
        with client(name) as half, client(name) as other:
            half.sendall(b"MOUNT")
            while not handler.closed_connections:
                assert await ask(other, b"x") == b"x"
            assert await read(half) == b""
        assert handler.closed_connections[0].cause is Cause.HALF_RECORD
        assert server.violations == {Violation.HALF_RECORD: 1}

    run(tmp_path, scene, limits=Limits(half_record=0.05))


def test_a_byte_now_and_then_buys_no_time(tmp_path: Path) -> None:
    async def scene(_server: RecordServer, handler: Echo, name: str) -> None:
        with client(name) as half, contextlib.suppress(BrokenPipeError):
            for _ in range(RECORD - 1):
                half.sendall(b"x")
                await asyncio.sleep(0.005)
        await until(lambda: handler.closed_connections)
        assert handler.closed_connections[0].cause is Cause.HALF_RECORD

    run(tmp_path, scene, limits=Limits(half_record=0.2))


@pytest.mark.parametrize("dribble", [1.0, 29.0])
def test_hundreds_who_send_a_byte_now_and_then_have_thirty_seconds_and_delay_nobody(
    tmp_path: Path, dribble: float
) -> None:
    """With a clock that passes only while nothing happens: what takes time here, takes it from somebody."""

    async def scene(server: RecordServer, handler: Echo, name: str) -> None:
        loop = asyncio.get_running_loop()
        with ExitStack() as stack:
            slow = [stack.enter_context(client(name)) for _ in range(300)]
            good = stack.enter_context(client(name))
            assert await ask(good, b"x") == b"x"
            begin = loop.time()
            for sock in slow:
                sock.send(b"M")
            while len(handler.closed_connections) < len(slow):
                before = loop.time()
                assert await ask(good, b"y") == b"y"
                assert loop.time() == before, "an answer waits for no clock"
                assert loop.time() - begin <= 30.0 + 2 * dribble
                for sock in slow:
                    with contextlib.suppress(BrokenPipeError):
                        sock.send(b"M")
                await asyncio.sleep(dribble)
            assert loop.time() - begin >= 30.0
        assert {c.cause for c in handler.closed_connections} == {Cause.HALF_RECORD}
        assert server.violations == {Violation.HALF_RECORD: len(slow)}

    run(tmp_path, scene, loop_factory=SimulatedLoop)


def test_a_steady_sender_that_is_always_in_the_middle_of_a_record_lives(tmp_path: Path) -> None:
    limit = 0.5

    async def scene(server: RecordServer, handler: Echo, name: str) -> None:
        handler.answer = lambda _connection, _text: None
        loop = asyncio.get_running_loop()
        begin = loop.time()
        with client(name) as sock:
            sock.sendall(b"x" * 100)
            while loop.time() - begin < 3 * limit:
                before = len(handler.records)
                sock.sendall(b"x" * RECORD)
                await until(lambda: len(handler.records) > before or handler.closed_connections)  # noqa: B023 (the same)
                assert not handler.closed_connections
        assert server.violations[Violation.HALF_RECORD] == 0

    run(tmp_path, scene, limits=Limits(half_record=limit))


def test_one_uid_has_so_many_connections_and_the_next_is_told(tmp_path: Path) -> None:
    async def scene(server: RecordServer, handler: Echo, name: str) -> None:
        with ExitStack() as stack:
            socks = [stack.enter_context(client(name)) for _ in range(4)]
            for sock in socks[:3]:
                assert await ask(sock, b"x") == b"x"
            text = (await read(socks[3])).partition(b"\0")[0]
            assert text.startswith(b"STATUS 24 uid %d has 3 connections already" % os.getuid())
            assert await read(socks[3]) == b""
            assert server.violations == {Violation.TOO_MANY_CONNECTIONS: 1}
            socks[0].close()
            await until(lambda: handler.closed_connections)
            with client(name) as again:
                assert await ask(again, b"y") == b"y"

    run(tmp_path, scene, max_per_uid=3)


def test_who_is_refused_reads_why_even_if_it_wrote_first(tmp_path: Path) -> None:
    async def scene(_server: RecordServer, _handler: Echo, name: str) -> None:
        with client(name) as first, client(name) as second:
            second.sendall(encode(b"MOUNT"))
            assert await ask(first, b"x") == b"x"
            assert (await read(second)).startswith(b"STATUS 24 ")
            assert await read(second) == b""

    run(tmp_path, scene, max_per_uid=1)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to connect as somebody else")
def test_strangers_can_neither_fill_the_place_of_root_nor_connect_to_a_private_path(tmp_path: Path) -> None:
    source = (
        "import os, socket, sys\n"
        "os.setgid(65534); os.setuid(65534)\n"
        "kept = []\n"
        "for i in range(3):\n"
        "    s = socket.socket(socket.AF_UNIX); s.connect(chr(0) + sys.argv[1][1:]); kept.append(s)\n"
        "print(kept[-1].recv(256).partition(bytes(1))[0].decode(), flush=True)\n"
        "try:\n"
        "    socket.socket(socket.AF_UNIX).connect(sys.argv[2])\n"
        "except PermissionError: print('denied', flush=True)\n"
        "sys.stdin.read()\n"
    )

    async def scene(_server: RecordServer, _handler: Echo, private: str) -> None:
        name = f"@test strangers {os.getpid()}"
        server = RecordServer(Echo(), name, max_per_uid=2)
        server.listen()
        stranger = await asyncio.create_subprocess_exec(
            sys.executable, "-c", source, name, private, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert stranger.stdout is not None
        assert (await stranger.stdout.readline()).startswith(b"STATUS 24 uid 65534 has 2 connections")
        assert await stranger.stdout.readline() == b"denied\n"
        with client(name) as one, client(name) as two:
            assert await ask(one, b"x") == b"x"
            assert await ask(two, b"x") == b"x"
        await stranger.communicate(b"")
        server.close()
        await until(lambda: not server.connections)

    tmp_path.chmod(0o755)
    for parent in list(tmp_path.parents)[:-2]:
        parent.chmod(parent.stat().st_mode | 0o111)
    run(tmp_path, scene)


def test_without_descriptors_left_a_client_is_told_and_the_loop_does_not_spin(tmp_path: Path) -> None:
    async def scene(server: RecordServer, handler: Echo, name: str) -> None:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        with client(name) as early, client(name) as late:
            assert await ask(early, b"x") == b"x"
            await until(lambda: len(handler.opened_ids) == 2)
            with client(name) as refused:
                used = max(descriptors())
                fillers = []
                resource.setrlimit(resource.RLIMIT_NOFILE, (used + 1, hard))
                try:
                    while True:
                        try:
                            fillers.append(os.open("/dev/null", os.O_RDONLY))
                        except OSError:
                            break
                    assert (await read(refused)).startswith(b"STATUS 24 the daemon has no descriptor left")
                    assert await ask(early, b"y") == b"y"
                    assert await ask(late, b"z") == b"z"
                finally:
                    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
                    for fd in fillers:
                        os.close(fd)
            assert server.violations[Violation.OUT_OF_DESCRIPTORS] == 1
            with client(name) as afterwards:
                assert await ask(afterwards, b"w") == b"w"

    run(tmp_path, scene)


def test_who_does_not_read_is_closed_and_the_handler_knows_what_was_lost(tmp_path: Path) -> None:
    async def scene(server: RecordServer, handler: Echo, name: str) -> None:
        sent: list[bool] = []

        def flood(connection: Connection, _text: bytes) -> None:
            while connection.open:
                sent.append(connection.send(encode(b"ITEM")))

        handler.answer = flood
        with client(name) as sock:
            sock.sendall(encode(b"DUMP"))
            await until(lambda: handler.closed_connections)
            lost = handler.closed_connections[0].undelivered
            got = len(await read(sock, 1 << 24)) // RECORD
        assert handler.closed_connections[0].cause is Cause.OVERFLOW
        assert server.violations == {Violation.OVERFLOW: 1}
        assert sent[-1] is False
        assert got + lost == len(sent)
        assert lost == 65

    run(tmp_path, scene, limits=Limits(out_bytes=64 * RECORD))


def test_who_asks_without_reading_stops_itself_and_then_gets_everything(tmp_path: Path) -> None:
    async def scene(server: RecordServer, handler: Echo, name: str) -> None:
        asked = 3000
        most = 0

        def measured(connection: Connection, text: bytes) -> None:
            nonlocal most
            handler.echo(connection, text)
            most = max(most, connection.waiting)

        handler.answer = measured
        with client(name) as sock, client(name) as other:
            writing = asyncio.create_task(
                asyncio.get_running_loop().sock_sendall(sock, b"".join(encode(b"%d" % i) for i in range(asked)))
            )
            await until(lambda: most > 64 << 10)
            assert await ask(other, b"x") == b"x"
            answers = await read(sock, asked * RECORD)
            await writing
        assert [int(answers[i : i + 255].partition(b"\0")[0]) for i in range(0, len(answers), RECORD)] == list(
            range(asked)
        )
        assert most <= (64 << 10) + RECORD
        assert not server.violations

    run(tmp_path, scene)


def test_one_fast_client_cannot_starve_another(tmp_path: Path) -> None:
    async def scene(_server: RecordServer, handler: Echo, name: str) -> None:
        handler.answer = lambda connection, text: handler.echo(connection, text) if text != b"flood" else None
        with client(name) as fast, client(name) as slow:
            assert await ask(fast, b"x") == b"x"
            assert await ask(slow, b"x") == b"x"
            fast.sendall(encode(b"flood") * 100)
            slow.sendall(encode(b"y"))
            handler.records.clear()
            assert await read(slow) == encode(b"y")
            await until(lambda: len(handler.records) == 101)
        before = [text for _, text in handler.records].index(b"y")
        assert before <= 32, "the other waits for one or two wake-ups of the fast one"

    run(tmp_path, scene)


def test_the_last_answer_is_flushed_and_then_it_ends(tmp_path: Path) -> None:
    async def scene(_server: RecordServer, handler: Echo, name: str) -> None:
        def last(connection: Connection, text: bytes) -> None:
            for _ in range(2000):
                connection.send(encode(text))
            connection.close_after_flush()
            assert not connection.send(encode(b"too late"))

        handler.answer = last
        with client(name) as sock:
            sock.sendall(encode(b"x"))
            assert await read(sock, 1 << 24) == encode(b"x") * 2000
        await until(lambda: handler.closed_connections)
        assert handler.closed_connections[0].cause is Cause.CLOSED

    run(tmp_path, scene)


def test_a_last_answer_that_is_never_read_ends_as_well(tmp_path: Path) -> None:
    async def scene(server: RecordServer, handler: Echo, name: str) -> None:
        def last(connection: Connection, text: bytes) -> None:
            for _ in range(2000):
                connection.send(encode(text))
            connection.close_after_flush()

        handler.answer = last
        with client(name) as sock:
            sock.sendall(encode(b"x"))
            await until(lambda: handler.closed_connections)
        assert handler.closed_connections[0].cause is Cause.NOT_FLUSHED
        assert handler.closed_connections[0].undelivered > 0
        assert server.violations == {Violation.NOT_FLUSHED: 1}

    run(tmp_path, scene, limits=Limits(flush=0.05))


def test_a_mistake_of_ours_costs_one_connection_only(tmp_path: Path) -> None:
    async def scene(_server: RecordServer, handler: Echo, name: str) -> None:
        told: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: told.append(context))

        def broken(connection: Connection, text: bytes) -> None:
            if text == b"bad":
                raise RuntimeError("a mistake")
            handler.echo(connection, text)

        handler.answer = broken
        with client(name) as bad, client(name) as good:
            bad.sendall(encode(b"bad"))
            assert await read(bad) == b""
            assert await ask(good, b"x") == b"x"
        assert handler.closed_connections[0].cause is Cause.HANDLER_FAILED
        assert str(told[0]["exception"]) == "a mistake"

    run(tmp_path, scene)


@pytest.mark.parametrize("kind", ["abstract", "path"])
def test_a_taken_name_is_refused_with_its_holder(tmp_path: Path, kind: str) -> None:
    async def scene(_server: RecordServer, _handler: Echo, path: str) -> None:
        name = path if kind == "path" else f"@test taken {os.getpid()}"
        with ExitStack() as stack:
            if kind == "abstract":
                holder = stack.enter_context(socket.socket(socket.AF_UNIX))
                holder.bind("\0" + name[1:])
            with pytest.raises(NameTaken, match=rf"{name} is taken by pid {os.getpid()} \(") as caught:
                RecordServer(Echo(), name).listen()
            assert caught.value.holder is not None
        if kind == "path":
            with client(path) as sock:
                assert await ask(sock, b"still there") == b"still there"

    run(tmp_path, scene)


def test_a_path_left_over_is_taken_over_and_what_is_no_socket_is_not(tmp_path: Path) -> None:
    async def scene(_server: RecordServer, _handler: Echo, name: str) -> None:
        with client(name) as sock:
            assert await ask(sock, b"x") == b"x"
        precious = tmp_path / "precious"
        precious.write_text("data")
        with pytest.raises(ListenError, match="is no socket; it is not removed"):
            RecordServer(Echo(), str(precious)).listen()
        assert precious.read_text() == "data"
        with pytest.raises(ListenError, match="No such file or directory"):
            RecordServer(Echo(), str(tmp_path / "no" / "s")).listen()

    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "s"))
        dead.listen()
    run(tmp_path, scene)
    assert not (tmp_path / "s").exists()


def test_a_successors_path_is_not_removed(tmp_path: Path) -> None:
    async def scene(server: RecordServer, _handler: Echo, name: str) -> None:
        os.rename(name, tmp_path / "ours")  # noqa: PTH104 (quick, on a loop that serves nobody else)
        successor = RecordServer(Echo(), name)
        successor.listen()
        server.close()
        with client(name) as sock:
            assert await ask(sock, b"x") == b"x"
        successor.close()
        await until(lambda: not successor.connections)

    run(tmp_path, scene)


@pytest.mark.parametrize("mode", [0o600, 0o666])
def test_a_path_has_its_mode(tmp_path: Path, mode: int) -> None:
    async def scene(_server: RecordServer, _handler: Echo, name: str) -> None:
        assert os.stat(name).st_mode & 0o777 == mode  # noqa: PTH116 (quick, on a loop that serves nobody else)

    run(tmp_path, scene, mode=mode)


def test_each_descriptor_comes_with_its_own_record_however_many_wait(tmp_path: Path) -> None:
    count = 300  # more than a socket holds unread

    async def scene(_server: RecordServer, handler: Echo, name: str) -> None:
        files = [tmp_path / f"lock {i}" for i in range(count)]

        def grant(connection: Connection, _text: bytes) -> None:
            for i, file in enumerate(files):
                opened = Descriptor(os.open(file, os.O_RDWR | os.O_CREAT)) if i % 3 else None
                assert connection.send(encode(b"LOCKED %d" % i), opened)

        handler.answer = grant
        asking = Asking()
        ordering = RecordClient(asking, name)
        ordering.start()
        await until(lambda: ordering.is_connected)
        assert ordering.server_pid == os.getpid()
        assert ordering.send(encode(b"LOCK"))
        await until(lambda: len(asking.records) == count)
        for i, (text, descriptor) in enumerate(asking.records):
            assert text == b"LOCKED %d" % i
            assert (descriptor is not None) == bool(i % 3)
            if descriptor is not None:
                assert os.path.samestat(os.fstat(descriptor.fileno()), files[i].stat())
                assert not os.get_inheritable(descriptor.fileno())
                descriptor.close()
        ordering.close()

    run(tmp_path, scene, descriptors=True)


def test_descriptors_that_nobody_wants_are_not_taken(tmp_path: Path) -> None:
    async def scene(_server: RecordServer, handler: Echo, name: str) -> None:
        with client(name) as sock:
            assert await ask(sock, b"x") == b"x"
            before = descriptors()
            socket.send_fds(sock, [encode(b"x")], [0, 1, 2])
            assert await read(sock) == encode(b"x")
            assert descriptors() == before
        assert handler.descriptors == []

    run(tmp_path, scene)


def test_a_record_with_many_descriptors_brings_one_and_leaks_none(tmp_path: Path) -> None:
    async def scene(server: RecordServer, handler: Echo, name: str) -> None:
        with client(name) as sock:
            assert await ask(sock, b"x") == b"x"
            before = len(descriptors())
            whole = encode(b"x")
            socket.send_fds(sock, [whole[:100]], [0] * 100)
            socket.send_fds(sock, [whole[100:]], [0] * 3)
            assert await read(sock) == whole
            assert len(handler.descriptors) == 1
            handler.descriptors.pop().close()
            socket.send_fds(sock, [whole[:100]], [0])  # its record is never completed
        await until(lambda: handler.closed_connections)
        assert server.violations[Violation.DESCRIPTORS_LOST] > 0
        assert len(descriptors()) <= before

    run(tmp_path, scene, descriptors=True)


def test_the_client_connects_again_whenever_the_server_comes(tmp_path: Path) -> None:
    async def play() -> None:
        name = str(tmp_path / "s")
        asking = Asking()
        ordering = RecordClient(asking, name)
        ordering.start()
        await until(lambda: asking.events)
        assert "No such file or directory" in asking.events.pop()
        assert not ordering.send(encode(b"lost"))
        for _ in range(2):
            server = RecordServer(Echo(), name)
            server.listen()
            await until(lambda: ordering.is_connected)
            assert ordering.send(encode(b"x"))
            await until(lambda: asking.records)
            assert asking.records.pop() == (b"x", None)
            server.close()
            await until(lambda: len(asking.events) >= 3)
            assert asking.events[:2] == ["connected", "ENDED"]
            assert len([event for event in asking.events if "No such file" in event]) == 1, "one reason, said once"
            asking.events.clear()
        ordering.close()

    asyncio.run(play())


def test_the_client_believes_no_stranger(tmp_path: Path) -> None:
    async def scene(_server: RecordServer, handler: Echo, name: str) -> None:
        asking = Asking()
        ordering = RecordClient(asking, name, trusted=frozenset({os.geteuid() + 1}))
        ordering.start()
        await until(lambda: asking.events)
        assert f"(pid {os.getpid()}) of uid {os.geteuid()}, which is not to be believed" in asking.events[0]
        await until(lambda: ordering.violations[Violation.UNTRUSTED_SERVER] > 1)
        assert len(asking.events) == 1
        assert not ordering.is_connected
        assert handler.records == []
        ordering.close()

    run(tmp_path, scene)


def test_two_that_both_send_much_do_not_wait_for_each_other(tmp_path: Path) -> None:
    async def scene(_server: RecordServer, handler: Echo, name: str) -> None:
        asking = Asking()
        ordering = RecordClient(asking, name)
        ordering.start()
        await until(lambda: ordering.is_connected)
        for i in range(4000):
            assert ordering.send(encode(b"%d" % i))
        await until(lambda: len(asking.records) == 4000)
        assert [int(text) for text, _ in asking.records] == list(range(4000))
        ordering.close()
        await until(lambda: handler.closed_connections)

    run(tmp_path, scene)


def test_an_answer_of_many_records_is_sent_whole_and_refused_whole(tmp_path: Path) -> None:
    most = Limits(out_bytes=400 * RECORD)

    async def scene(_server: RecordServer, handler: Echo, name: str) -> None:
        def many(connection: Connection, text: bytes) -> None:
            sent = connection.send(b"".join(encode(b"%d" % i) for i in range(int(text))))
            assert sent == (int(text) <= 400)

        handler.answer = many
        with client(name) as sock:
            sock.sendall(encode(b"400") * 3)
            answers = await read(sock, 1200 * RECORD)
            assert [int(answers[i : i + 255].partition(b"\0")[0]) for i in range(0, len(answers), RECORD)] == [
                *range(400)
            ] * 3
            sock.sendall(encode(b"401"))
            assert await read(sock) == b""
        await until(lambda: handler.closed_connections)
        assert handler.closed_connections[0].cause is Cause.OVERFLOW
        assert handler.closed_connections[0].undelivered == 401

    run(tmp_path, scene, limits=most)


def test_answers_that_wait_go_on_at_the_byte_that_is_due(tmp_path: Path) -> None:
    sizes = (30, 1, 13, 2, 40, 1, 1, 25)

    async def scene(_server: RecordServer, handler: Echo, name: str) -> None:
        whole = [b"".join(encode(b"%d %d" % (n, i)) for i in range(size)) for n, size in enumerate(sizes)]

        def many(connection: Connection, _text: bytes) -> None:
            connection._stream._sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4608)
            assert all(connection.send(records) for records in whole)
            assert connection.waiting > sum(map(len, whole)) // 2

        handler.answer = many
        with client(name) as sock:
            sock.sendall(encode(b"x"))
            answers = b""
            while len(answers) < sum(map(len, whole)):
                answers += await read(sock, min(1000, sum(map(len, whole)) - len(answers)))
            assert answers == b"".join(whole)

    run(tmp_path, scene)


def test_of_an_answer_that_was_half_sent_only_the_rest_counts_as_lost(tmp_path: Path) -> None:
    async def scene(_server: RecordServer, handler: Echo, name: str) -> None:
        def much(connection: Connection, text: bytes) -> None:
            connection._stream._sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4608)
            assert connection.send(encode(text) * 60)
            assert 0 < connection.waiting < 60 * RECORD
            assert not connection.send(encode(text) * 60)

        handler.answer = much
        with client(name) as sock:
            sock.sendall(encode(b"x"))
            await until(lambda: handler.closed_connections)
            got = len(await read(sock, 1 << 20)) // RECORD
        assert got > 0
        assert got + handler.closed_connections[0].undelivered == 120

    run(tmp_path, scene, limits=Limits(out_bytes=60 * RECORD))


def test_a_record_has_its_length(tmp_path: Path) -> None:
    async def scene(_server: RecordServer, handler: Echo, name: str) -> None:
        def wrong(connection: Connection, text: bytes) -> None:
            for wrong_size in (b"", text, bytes(RECORD + 1)):
                with pytest.raises(ValueError, match=f"256 bytes, not {len(wrong_size)}"):
                    connection.send(wrong_size)
            handler.echo(connection, text)

        handler.answer = wrong
        with client(name) as sock:
            assert await ask(sock, b"x") == b"x"

    run(tmp_path, scene)
