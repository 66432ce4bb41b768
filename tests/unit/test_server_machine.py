"""The server of records under any order of what clients can do, against a model of what each of them must see."""

import asyncio
import socket
from collections import Counter
from contextlib import suppress

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from libo2cb.locks import Descriptor
from libo2cb.service.server import Connection, RecordServer
from libo2cb.service.stream import Cause, Limits, Violation
from protocol.framing import MAX_TEXT, RECORD, encode

LIMITS = Limits(out_bytes=80 * RECORD, pause_bytes=6 * RECORD)
SMALL_BUFFER = 4608  # bytes that a socket takes unread: about as many as the limits are about
MUCH, TOO_MUCH = 30, 100
ANSWERS = (0, 1, 3, 12, MUCH, TOO_MUCH)
"""Records that answer a request, by its text."""


class Client:
    """One client, what it has sent, and what it must be answered.

    Attributes:
        sent: its bytes.
        got: the bytes that it has read.
        answers: the answers that were made for it, one after the other.
        over: the server has closed it.
    """

    def __init__(self) -> None:
        self.socket, self.served = socket.socketpair()
        self.socket.setblocking(False)
        self.served.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SMALL_BUFFER)
        self.sent, self.got, self.answers = b"", b"", b""
        self.over: Connection | None = None

    def texts(self) -> list[bytes]:
        """Of the whole records that were sent."""
        whole = len(self.sent) // RECORD
        return [self.sent[i * RECORD : i * RECORD + MAX_TEXT].partition(b"\0")[0] for i in range(whole)]

    def send(self, data: bytes) -> None:
        """As much as goes without waiting."""
        with suppress(BlockingIOError, BrokenPipeError, ConnectionResetError):
            self.sent += data[: self.socket.send(data)]

    def read(self, size: int) -> bool:
        """Up to so many bytes; whether any came."""
        try:
            data = self.socket.recv(size)
        except (BlockingIOError, ConnectionResetError):
            return False
        self.got += data
        return bool(data)


class ServerMachine(RuleBasedStateMachine):
    """A real RecordServer on real sockets; each answer is a number of records that its request asks for."""

    clients = Bundle("clients")

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.server = RecordServer(self, "@never bound", limits=LIMITS)
        self.by_id: dict[int, Client] = {}
        self.taken: dict[int, list[bytes]] = {}
        self.ends: Counter[int] = Counter()
        self.passes = 0

    # The handler.

    def opened(self, connection: Connection) -> None:
        self.taken[connection.id] = []

    def record(self, connection: Connection, text: bytes, _descriptor: Descriptor | None) -> None:
        self.taken[connection.id].append(text)
        count = ANSWERS[sum(text) % len(ANSWERS)]
        if text.startswith(b"END"):
            connection.close_after_flush()
        elif count:
            begin = len(self.by_id[connection.id].answers)
            answer = b"".join(encode(b"%d %d" % (begin, i)) for i in range(count))
            self.by_id[connection.id].answers += answer
            connection.send(answer)

    def closed(self, connection: Connection) -> None:
        self.ends[connection.id] += 1
        self.by_id[connection.id].over = connection

    # Time passes only here.

    def settle(self) -> None:
        """Let the loop go round until nothing more comes of it."""

        async def turns() -> None:
            quiet = 0
            while quiet < 3:
                before = self._state()
                await asyncio.sleep(0)
                quiet = quiet + 1 if self._state() == before else 0

        self.loop.run_until_complete(turns())

    def _state(self) -> list[tuple[int, int]]:
        waiting = [(c.id, c.waiting) for c in self.server.connections.values()]
        return [*waiting, *((key, len(texts)) for key, texts in self.taken.items()), (0, self.ends.total())]

    @rule(target=clients)
    def connect(self) -> Client:
        client = Client()

        async def admit() -> None:
            self.server._admit(client.served)

        self.by_id[self.server._next_id] = client
        self.loop.run_until_complete(admit())
        return client

    @rule(client=clients, text=st.binary(max_size=MAX_TEXT), tail=st.binary(max_size=8))
    def say(self, client: Client, text: bytes, tail: bytes) -> None:
        """A record, in step or not, with whatever stands behind its NUL."""
        record = (text.partition(b"\0")[0] + b"\0" + tail)[:RECORD].ljust(RECORD, b"\0")
        client.send(record)
        self.settle()

    @rule(client=clients, data=st.binary(min_size=1, max_size=700))
    def dribble(self, client: Client, data: bytes) -> None:
        client.send(data)
        self.settle()

    @rule(client=clients)
    def say_the_last(self, client: Client) -> None:
        client.send(encode(b"END"))
        self.settle()

    @rule(client=clients, many=st.integers(2, 30))
    def flood(self, client: Client, many: int) -> None:
        for i in range(many):
            client.send(encode(b"%d" % i))
        self.settle()

    @rule(client=clients, size=st.integers(1, 5000))
    def read(self, client: Client, size: int) -> None:
        client.read(size)
        self.settle()

    @rule(client=clients)
    def read_all(self, client: Client) -> None:
        while client.read(1 << 16):
            self.settle()

    @rule(client=clients)
    def send_no_more(self, client: Client) -> None:
        try:
            client.socket.shutdown(socket.SHUT_WR)
        except OSError:
            return
        self.settle()

    @rule(client=consumes(clients))
    def close(self, client: Client) -> None:
        client.socket.close()
        self.settle()
        assert client.over is not None
        assert client.over.cause is not Cause.HANDLER_FAILED

    # What must hold.

    @invariant()
    def records_come_as_they_were_sent(self) -> None:
        for key, client in self.by_id.items():
            texts, connection = client.texts(), self.server.connections.get(key)
            assert self.taken[key] == texts[: len(self.taken[key])]
            if connection is not None and connection.waiting <= LIMITS.pause_bytes and b"END" not in self.taken[key]:
                assert self.taken[key] == texts, "nothing waits for the client, and so nothing of it waits"

    @invariant()
    def answers_go_out_whole_and_in_order(self) -> None:
        for client in self.by_id.values():
            assert client.answers.startswith(client.got)
            if client.over is not None and client.socket.fileno() >= 0:
                while client.read(1 << 16):
                    pass
                assert client.answers.startswith(client.got)
                lost = client.over.undelivered
                assert len(client.got) // RECORD + lost == len(client.answers) // RECORD

    @invariant()
    def memory_is_bounded(self) -> None:
        used = sum(c.waiting for c in self.server.connections.values())
        most = LIMITS.pause_bytes + MUCH * RECORD
        assert all(c.waiting <= most for c in self.server.connections.values()), "who has much waiting is read no more"
        assert used <= sum(budget.used for budget in self.server._budgets.values())
        assert sum(self.server._per_uid.values()) == len(self.server.connections)

    @invariant()
    def each_broken_rule_is_counted(self) -> None:
        causes = Counter(c.over.cause for c in self.by_id.values() if c.over is not None)
        assert self.server.violations[Violation.OVERFLOW] == causes[Cause.OVERFLOW]
        assert all(count == 1 for count in self.ends.values())

    def teardown(self) -> None:
        for client in self.by_id.values():
            client.socket.close()
        self.settle()
        self.server.close()
        self.settle()
        assert not self.server.connections
        assert not self.server._per_uid
        assert not self.server._budgets
        assert set(self.ends) == set(self.by_id)
        self.loop.close()


TestServerMachine = ServerMachine.TestCase
TestServerMachine.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
