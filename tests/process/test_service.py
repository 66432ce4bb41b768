"""What the service manager hears of two real daemons: READY once and truly, and a status line that is kept."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from libo2cb.sandbox.homes import Settings
from libo2cb.tools.facts import Facts
from libo2cb.tools.screens import headline
from tests.process.lab import DAEMONS, O2CB, OCFS2, Daemon, Lab, Node, until

pytestmark = pytest.mark.process


class Manager:
    """A service manager's socket.

    Attributes:
        ready: how often READY came.
        lines: the status lines, in order.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self.ready = 0
        self.lines: list[str] = []

    def hear(self) -> None:
        while True:
            try:
                text = self._sock.recv(65536).decode()
            except BlockingIOError:
                return
            for assignment in text.split("\n"):
                key, _, value = assignment.partition("=")
                if key == "READY":
                    self.ready += 1
                else:
                    assert key == "STATUS"
                    self.lines.append(value)

    @property
    def line(self) -> str:
        """The last status line."""
        self.hear()
        return self.lines[-1] if self.lines else ""

    def until_ready(self) -> None:
        def found() -> bool:
            self.hear()
            return self.ready > 0

        until("READY", found)

    def until_line(self, *words: str) -> str:
        until(f"a status line with {words}", lambda: all(word in self.line for word in words))
        return self.line


@contextmanager
def managed(node: Node, daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> Iterator[Manager]:
    """Start a daemon under a manager of its own."""
    with TemporaryDirectory() as directory, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(Path(directory) / "notify"))
        sock.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", str(Path(directory) / "notify"))
        node.start(daemon)
        monkeypatch.delenv("NOTIFY_SOCKET")
        yield Manager(sock)


def shown(node: Node) -> tuple[str, str]:
    """Line one of the status by each daemon's own report."""
    o2cb, ocfs2 = node.o2cb(), node.ocfs2()
    assert o2cb is not None
    assert ocfs2 is not None
    return headline(Facts(o2cb=o2cb)), headline(Facts(ocfs2=ocfs2))


def test_ready_comes_once_and_again_after_a_crash_with_a_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    """n2 dies, and nobody says that it is off: its removal stays queued behind the link, whoever restarts."""
    with Lab.up(2, Settings(fencing="manual"), daemons=False) as lab:
        n1, n2, vm = lab["n1"], lab["n2"], lab.volume("vm")
        for daemon in DAEMONS:
            n2.start(daemon)
        with managed(n1, O2CB, monkeypatch) as o2cb, managed(n1, OCFS2, monkeypatch) as ocfs2:
            o2cb.until_ready()
            ocfs2.until_ready()
            n2.ready()
            n1.mount(vm, "/vm")
            n2.mount(vm, "/vm")
            lab.rest()
            o2cb.until_line("OK", "2/2 nodes")
            ocfs2.until_line("OK", "1 filesystem", "fencing: manual")
            until("both lines are those of the reports", lambda: (o2cb.line, ocfs2.line) == shown(n1))

            lab.power_off("n2")
            ocfs2.until_line("STOPPED", "vm", "n2 is lost and not yet fenced", "an operator must say")
            o2cb.until_line("removal of n2 is queued")
            n1.kill(O2CB)
            n1.kill(OCFS2)
            with managed(n1, OCFS2, monkeypatch) as ocfs2_again, managed(n1, O2CB, monkeypatch) as o2cb_again:
                o2cb_again.until_ready()
                o2cb_again.until_line("removal of n2 is queued", "still links it")
                assert n1.queued("n2").links == (vm.uuid,)
                ocfs2_again.until_ready()
                n1.fenced("n2")
                until("n2 gone", lambda: n1.tree("n2") is None)
                o2cb_again.until_line("OK", "1/2 nodes")
                ocfs2_again.until_line("OK", "1 filesystem")
                lab.rest()
                assert (o2cb_again.ready, ocfs2_again.ready) == (1, 1)
            o2cb.hear()
            ocfs2.hear()
            assert (o2cb.ready, ocfs2.ready) == (1, 1)
        assert lab.judged() == ""


def test_without_an_engine_nothing_is_ready_and_the_status_line_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    with Lab.up(1, daemons=False) as lab:
        n1 = lab["n1"]
        lab.hub("engine", node="n1", do="kill")
        with managed(n1, O2CB, monkeypatch) as o2cb, managed(n1, OCFS2, monkeypatch) as ocfs2:
            for manager in (o2cb, ocfs2):
                manager.until_line("ACTION", "the cluster engine cannot be used")
                assert manager.ready == 0
            lab.hub("engine", node="n1", do="start")
            for manager in (o2cb, ocfs2):
                manager.until_ready()
                manager.until_line("OK")
