"""Runs a script against a clients' socket, and judges what came back.

Judged is what holds for any bytes: each answer is a message that a daemon says, with a text; the answers to one
connection are no more than were asked for; the connection ends when its client has ended; and a client that keeps to
the rules is served at once, meanwhile and afterwards.
"""

import re
import socket
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from errno import ENOENT
from typing import Final

from protocol import client
from protocol.framing import RECORD, BadMessage, Decoder
from tests.fuzz.scripts import DEVICE, UUID, Script, Step, record

PATIENCE: Final = 60.0
A_MOMENT: Final = 0.2
"""Seconds that a step "read" waits: what is answered later is read at the end."""

_VARYING: Final = re.compile(r'[0-9A-Fa-f]{4,}|[0-9]+|".*"')


class Broken(Exception):
    """Something that may not be. Its text says what."""


@dataclass(slots=True)
class _Client:
    socket: socket.socket
    decoder: Decoder = field(default_factory=Decoder)
    answers: list[bytes] = field(default_factory=list)
    ended: bool = False


class Runner:
    """Runs scripts.

    Args:
        connect: makes a connection to the daemon.
        uuid: the UUID of a real volume.
        device: its path.
    """

    def __init__(self, connect: Callable[[], socket.socket], uuid: bytes, device: bytes) -> None:
        self._connect = connect
        self._names = {UUID: uuid, DEVICE: device}

    def run(self, script: Script) -> frozenset[str]:
        """Run one.

        Returns:
            What kinds of answers came, to tell what is new.

        Raises:
            Broken: the daemon did what it may not.
        """
        clients: dict[int, _Client] = {}
        seen: set[str] = set()
        with ExitStack() as stack:
            bystander = stack.enter_context(self._connect())
            for step in script:
                self._step(step, clients, stack)
                seen |= self._taken(clients.values(), wait=False)
            self._served(bystander)
            for each in clients.values():
                with suppress(OSError):
                    each.socket.shutdown(socket.SHUT_WR)
            seen |= self._taken(clients.values(), wait=True)
            self._served(bystander)
        return frozenset(seen)

    def _step(self, step: Step, clients: dict[int, _Client], stack: ExitStack) -> None:
        if step.what == "open":
            if step.client not in clients:
                clients[step.client] = _Client(stack.enter_context(self._connect()))
            return
        if (each := clients.get(step.client)) is None:
            return
        with suppress(BlockingIOError, BrokenPipeError, ConnectionResetError, OSError):
            match step.what:
                case "send":
                    each.socket.send(self._named(step.data))
                case "pad":
                    each.socket.send(record(self._named(step.data)))
                case "read":
                    each.socket.settimeout(A_MOMENT)
                    self._read(each)
                case "half":
                    each.socket.shutdown(socket.SHUT_WR)
                case _:
                    each.socket.close()
                    del clients[step.client]

    def _named(self, data: bytes) -> bytes:
        for name, value in self._names.items():
            data = data.replace(name, value)
        return data

    def _read(self, each: _Client) -> bool:
        """Read what is there; whether anything came."""
        try:
            data = each.socket.recv(1 << 16)
        except TimeoutError:
            return False
        except ConnectionResetError:
            data = b""
        if not data:
            each.ended = True
            if each.decoder.pending:
                raise Broken(f"an answer ended after {each.decoder.pending} of {RECORD} bytes")
            return False
        each.answers += each.decoder.feed(data)
        return True

    def _taken(self, clients: Iterable[_Client], *, wait: bool) -> set[str]:
        """What has come so far, or all up to the end of the connection."""
        kinds: set[str] = set()
        for each in clients:
            end = time.monotonic() + PATIENCE
            while wait and not each.ended:
                each.socket.settimeout(max(0.01, end - time.monotonic()))
                if not self._read(each) and not each.ended:
                    raise Broken(f"a client that sends no more was not closed in {PATIENCE:.0f} s")
            kinds |= {kind(text) for text in each.answers}
            each.answers.clear()
        return kinds

    def cleaned(self) -> None:
        """End whatever scripts have left in use, until no filesystem is.

        Raises:
            Broken: that does not help, or the daemon does not answer.
        """
        end = time.monotonic() + PATIENCE
        with self._connect() as sock:
            while found := _listed(sock, client.ListFs("ocfs2", "demo")):
                for fs in found:
                    for name in _listed(sock, client.ListMounts("ocfs2", fs)):
                        _asked(sock, client.Unmount("ocfs2", fs, name))
                if time.monotonic() > end:
                    raise Broken(f"{' '.join(found)} cannot be left")
                time.sleep(0.01)

    def _served(self, bystander: socket.socket) -> None:
        if _listed(bystander, client.ListClusters()) != ("demo",):
            raise Broken("another client was told of another cluster")


def _listed(sock: socket.socket, asked: client.ClientMessage) -> tuple[str, ...]:
    """The items of a list; none for what nobody knows."""
    reader = client.ListReader()
    try:
        for message in _asked(sock, asked):
            if (items := reader.feed(message)) is not None:
                return items
    except client.ListError as error:
        if error.code == ENOENT:
            return ()
        raise Broken(f"{asked} was answered wrongly: {error}") from error
    raise AssertionError(asked)  # either of the two comes of the last message


def _asked(sock: socket.socket, message: client.ClientMessage) -> list[client.ClientMessage]:
    """What answers one request, up to its STATUS."""
    sock.settimeout(PATIENCE)
    answers: list[client.ClientMessage] = []
    try:
        sock.sendall(client.encode(message))
        while not answers or not isinstance(answers[-1], client.Status):
            data = b""
            while len(data) < RECORD:
                part = sock.recv(RECORD - len(data))
                if not part:
                    raise Broken(f"a client that keeps to the rules was closed: {message}")
                data += part
            answers.append(client.parse(data.partition(b"\0")[0]))
    except TimeoutError:
        raise Broken(f"a client that keeps to the rules was not answered in {PATIENCE:.0f} s: {message}") from None
    except OSError as error:
        raise Broken(f"a client that keeps to the rules was hurt: {message}: {error}") from error
    return answers


def kind(text: bytes) -> str:
    """An answer without what tells one instance from the next.

    Raises:
        Broken: a daemon does not say that.
    """
    try:
        message = client.parse(text)
    except BadMessage as error:
        raise Broken(f"{text!r} was answered, which is no message: {error}") from error
    match message:
        case client.Status(code, said):
            if code < 0 or not said:
                raise Broken(f"{text!r} was answered: upstream's clients cannot take it")
            return f"STATUS {code} {ascii(_VARYING.sub('#', said)[:60])[1:-1]}"
        case client.ItemCount(count):
            return f"ITEMCOUNT {min(count, 3)}"
        case client.Item():
            return "ITEM"
        case _:
            raise Broken(f"{text!r} was answered, which only a client says")


def shortest(script: Script, fails: Callable[[Script], bool]) -> Script:
    """The script with all steps and bytes left out without which it still fails.

    Args:
        script: one that fails.
        fails: whether another one does.
    """
    size = max(1, len(script) // 2)
    while size:
        at = 0
        while at < len(script):
            shorter = script[:at] + script[at + size :]
            if fails(shorter):
                script = shorter
            else:
                at += size
        size //= 2
    for at, step in enumerate(script):
        data = step.data
        while data and fails((*script[:at], Step(step.what, step.client, data[: len(data) // 2]), *script[at + 1 :])):
            data = data[: len(data) // 2]
        script = (*script[:at], Step(step.what, step.client, data), *script[at + 1 :])
    return script
