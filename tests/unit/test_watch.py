"""`ocfs2_hb_ctl -I --watch`, on a terminal, on a pipe, and without rich."""

import argparse
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from libo2cb.tools import hb_ctl, watch
from tests.unit import samples
from tests.unit.tool_daemons import DEADLINE, Node, node

__all__ = ["node"]

SEQUENCE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
HOME, ALTERNATE, ORDINARY = "\x1b[H", "\x1b[?1049h", "\x1b[?1049l"
WITHOUT_RICH = "import sys; sys.modules['rich'] = None; import importlib.util as u; find = u.find_spec\n"
WITHOUT_RICH += "u.find_spec = lambda name, *more: None if name == 'rich' else find(name, *more)\n"


class Terminal:
    """A terminal of its own, with a command on it."""

    def __init__(self, node: Node, before: str = "", **environ: str) -> None:
        self.master, slave = pty.openpty()
        self.resize(24, 100)
        code = f"{before}import sys; from libo2cb.tools import hb_ctl; sys.exit(hb_ctl.main(sys.argv[1:]))"
        command = [sys.executable, "-c", code, "-I", "--watch", "0.1", "--config", str(node.config)]
        variables = {**os.environ, "TERM": "xterm", **environ}
        self.process = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, env=variables)
        os.close(slave)
        self.text = ""

    def resize(self, lines: int, columns: int) -> None:
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def until(self, holds: Callable[[str], object]) -> None:
        """Read what it shows until that is so."""
        end = time.monotonic() + DEADLINE
        while not holds(self.text):
            assert time.monotonic() < end, self.text
            if select.select([self.master], [], [], 0.1)[0]:
                self.text += os.read(self.master, 1 << 16).decode()

    def ended(self) -> int:
        """Its exit code, once it has ended."""
        while self.process.poll() is None:
            self._drain()
        self._drain()
        return self.process.returncode

    def _drain(self) -> None:
        if select.select([self.master], [], [], 0.05)[0]:
            try:
                self.text += os.read(self.master, 1 << 16).decode()
            except OSError:  # the other side is closed
                return


@contextmanager
def terminal(node: Node, before: str = "", **environ: str) -> Iterator[Terminal]:
    found = Terminal(node, before, **environ)
    try:
        yield found
    finally:
        if found.process.poll() is None:
            found.process.kill()
        found.process.wait(DEADLINE)
        os.close(found.master)


def test_on_a_terminal_each_picture_takes_the_place_of_the_last(node: Node) -> None:
    node.tells(samples.healthy()).start()
    with terminal(node) as screen:
        screen.until(lambda text: text.count("3/3 nodes") >= 3)
        assert ALTERNATE in screen.text
        assert screen.text.count(HOME) >= 3
        assert "\x1b[2J" not in screen.text, "nothing is erased: it would flicker"
        node.tells(samples.dead())
        screen.until(lambda text: "STOPPED" in text)
        screen.process.send_signal(signal.SIGINT)
        assert screen.ended() == 2, "the exit code is that of the last picture"
        assert screen.text.count(ORDINARY) == 1
        left = SEQUENCE.sub("", screen.text.partition(ORDINARY)[2])
        assert "n3 is lost and not yet fenced" in left, "the last picture stays"
        assert "Traceback" not in left


def test_it_follows_the_size_of_the_terminal(node: Node) -> None:
    node.tells(samples.healthy()).start()
    with terminal(node) as screen:
        screen.until(lambda text: "MOUNTED HERE" in text)
        screen.resize(10, 40)
        begin = len(screen.text)
        screen.until(lambda text: text[begin:].count(HOME) >= 4)
        last = screen.text[begin:].split(HOME)[-2]
        lines = SEQUENCE.sub("", last).replace("\r", "").split("\n")
        assert len(lines) <= 10
        assert max(map(len, lines)) <= 40
        screen.process.send_signal(signal.SIGINT)
        assert screen.ended() == 0


def test_without_rich_a_word_says_so_and_pictures_follow_each_other(node: Node) -> None:
    node.tells(samples.healthy()).start()
    with terminal(node, WITHOUT_RICH, NO_COLOR="1") as screen:
        screen.until(lambda text: text.count("OK  cluster prod") >= 2)
        assert screen.text.count("pip install 'ocfs2-controld[watch]'") == 1
        assert ALTERNATE not in screen.text
        assert len(re.findall(r"^-- 20\d\d-\d\d-\d\d \d\d:\d\d:\d\d UTC\r?$", screen.text, re.MULTILINE)) >= 2
        screen.process.send_signal(signal.SIGINT)
        assert screen.ended() == 0
        assert "Traceback" not in screen.text


def test_a_pipe_gets_plain_pictures_and_its_end_ends_it(node: Node) -> None:
    node.tells(samples.dead()).start()
    command = [sys.executable, "-m", "libo2cb.tools.hb_ctl", "-I", "--watch", "0.1", "--config", str(node.config)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        heads = 0
        while heads < 2:
            line = process.stdout.readline()
            assert "\x1b" not in line
            heads += line.startswith("STOPPED")
        process.stdout.close()
        assert process.wait(DEADLINE) == 1
        assert process.stderr.read() == ""


@pytest.mark.parametrize(
    "arguments", [("--watch",), ("-I", "--watch", "x"), ("-I", "--watch", "0"), ("-I", "--watch", "--json")]
)
def test_what_cannot_be_watched_is_wrong_usage(arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert hb_ctl.main(arguments) == 1
    assert "usage: ocfs2_hb_ctl" in capsys.readouterr().err


def test_seconds_have_their_range() -> None:
    assert watch.seconds("0.5") == 0.5
    for text in ("0.01", "nan", "-1", "1e9"):
        with pytest.raises(argparse.ArgumentTypeError, match=re.escape(text)):
            watch.seconds(text)
