"""Two daemons for the tests of the tools: the real server of records on real sockets, answering by a script."""

import asyncio
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Self

import pytest

from libo2cb import sandbox
from libo2cb.kernel.home import boot
from libo2cb.kernel.sandbox import SandboxFs
from libo2cb.kernel.tree import TreeKernel
from libo2cb.locks import Descriptor
from libo2cb.mounts import SandboxMounts
from libo2cb.sandbox.homes import NodeHome
from libo2cb.service.report import O2cbReport, Ocfs2Report, dump
from libo2cb.service.server import Connection, RecordServer
from libo2cb.tools.facts import Facts
from protocol import client

if TYPE_CHECKING:
    import subprocess

DEADLINE = 60.0
IMAGE = Path(sandbox.__file__).with_name("volume.img")
UUID = "88F01F12DEBF421BAD7206A702A50BB2"
"""Of the volume in that image."""
Answer = tuple[int, str]


@dataclass
class Script:
    """What the daemons answer, and what they saw.

    Attributes:
        o2cb, ocfs2: their reports; text is sent as it is.
        mount: answer to MOUNT; None holds it until `release`.
        others: answers to other words, by word; (0, "OK") unless said.
        on: called on the daemon's thread before a word is answered.
        region: whether a region stands for a filesystem since its MOUNT.
    """

    o2cb: O2cbReport | str | None = None
    ocfs2: Ocfs2Report | str | None = None
    mount: Answer | None = (0, "OK")
    others: dict[str, Answer] = field(default_factory=dict)
    on: dict[str, Callable[[], None]] = field(default_factory=dict)
    region: bool = True


class Node:
    """A sandbox node's home with its two daemons' sockets."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.script = Script()
        self.seen: list[client.ClientMessage] = []
        self.closed = 0
        self.changed = threading.Condition()
        self.kernel = TreeKernel(SandboxFs(home))
        self.mounts = SandboxMounts(home / "mounts")
        self.config = home / "config" / "controld.toml"
        self._held: list[Connection] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._thread: threading.Thread | None = None
        boot(home)
        power = NodeHome(home)
        power.make()
        power.mark.touch()
        self.config.write_text(
            f"""
[engine]
kind = "sandbox"
hub = "{home}/hub.sock"
node = "n1"
[kernel]
driver = "sandbox"
root = "{home}/kernel"
[sockets]
clients = "{home}/c"
ordering = "{home}/o"
[fencing]
command = ["/bin/true"]
""",
            "utf-8",
        )

    def tells(self, facts: Facts) -> Self:
        """Let the daemons report these facts."""
        self.script.o2cb, self.script.ocfs2 = facts.o2cb, facts.ocfs2
        return self

    def start(self) -> Self:
        """Start both daemons."""
        ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve(ready)))
        self._thread.start()
        assert ready.wait(DEADLINE)
        return self

    def stop(self) -> None:
        """Stop both; no thread, socket or loop is left."""
        if self._thread is not None and self._loop is not None and self._stop is not None:
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join(DEADLINE)
            self._thread = None

    def release(self, code: int, text: str) -> None:
        """Answer the MOUNTs that were held."""
        assert self._loop is not None
        self._loop.call_soon_threadsafe(lambda: [c.send(client.status(code, text)) for c in self._held])

    def hang_up(self) -> None:
        """Close the connections whose MOUNT was held."""
        assert self._loop is not None
        self._loop.call_soon_threadsafe(lambda: list(map(Connection.close, self._held)))

    def expect(self, condition: Callable[[], bool]) -> None:
        """Wait until it holds."""
        with self.changed:
            assert self.changed.wait_for(condition, DEADLINE), f"seen only: {self.seen}"

    def words(self) -> list[str]:
        """The words that came, REPORTs left out."""
        return [message.word for message in self.seen if message.word != "REPORT"]

    def make_region(self, fs: str) -> None:
        """What stands in the kernel when a MOUNT is answered 0."""
        if "demo" not in self.kernel.clusters():
            self.kernel.create_cluster("demo")
        if fs not in self.kernel.regions("demo"):
            self.kernel.create_region("demo", fs)

    async def _serve(self, ready: threading.Event) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        servers = [
            RecordServer(_Handler(self, ocfs2=ocfs2), str(self.home / name))
            for name, ocfs2 in (("c", True), ("o", False))
        ]
        for server in servers:
            server.listen()
        ready.set()
        await self._stop.wait()
        for server in servers:
            server.close()
        await asyncio.sleep(0)


class _Handler:
    def __init__(self, node: Node, *, ocfs2: bool) -> None:
        self.node = node
        self.ocfs2 = ocfs2

    def opened(self, connection: Connection) -> None:
        """Nothing to do."""

    def closed(self, connection: Connection) -> None:  # noqa: ARG002 (the handler's signature)
        """Somebody went."""
        with self.node.changed:
            self.node.closed += 1
            self.node.changed.notify_all()

    def record(self, connection: Connection, text: bytes, descriptor: Descriptor | None) -> None:
        """Answer by the script."""
        assert descriptor is None
        message = client.parse(text)
        script = self.node.script
        with self.node.changed:
            self.node.seen.append(message)
            self.node.changed.notify_all()
        if act := script.on.get(message.word):
            act()
        if isinstance(message, client.Mount) and script.region:
            self.node.make_region(message.uuid)
        match message:
            case client.Report():
                report = script.ocfs2 if self.ocfs2 else script.o2cb
                if report is not None:
                    for record in client.document(report if isinstance(report, str) else dump(report)):
                        connection.send(record)
            case client.Mount() if script.mount is None:
                self.node._held.append(connection)
            case client.Mount() if script.mount is not None:
                connection.send(client.status(*script.mount))
            case _:
                connection.send(client.status(*script.others.get(message.word, (0, "OK"))))


@pytest.fixture
def node() -> Iterator[Node]:
    """A node whose home has a volume, demo.img."""
    with tempfile.TemporaryDirectory(prefix="o2-") as home:  # short: a socket's path has 107 bytes
        node = Node(Path(home))
        (node.home / "demo.img").write_bytes(IMAGE.read_bytes())
        yield node
        node.stop()


def image(node: Node) -> str:
    return str(node.home / "demo.img")


def ended(process: "subprocess.Popen[str]") -> tuple[int, str]:
    with process:
        _, said = process.communicate(timeout=DEADLINE)
    return process.returncode, said
