"""The real daemon of a sandbox as what is fuzzed."""

import os
import socket
from pathlib import Path
from typing import Final

from tests.fuzz.running import Broken, Runner
from tests.fuzz.scripts import Script
from tests.process.lab import DAEMONS, OCFS2, Lab

CORPUS: Final = Path(__file__).with_name("corpus")


class Target:
    """The clients' socket of n1.

    Args:
        lab: a lab with at least that node.
    """

    def __init__(self, lab: Lab) -> None:
        self._node = lab["n1"]
        volume = lab.volume("fuzz")
        self._runner = Runner(self._connect, volume.uuid.encode(), os.fsencode(volume.path))
        self._read = 0

    def run(self, script: Script) -> frozenset[str]:
        """Run a script, and clean up; what kinds of answers came.

        Raises:
            Broken: the daemon did what it may not.
        """
        try:
            seen = self._runner.run(script)
            self._runner.cleaned()
        except OSError as error:
            raise Broken(f"the daemon cannot be reached: {error}") from error
        if not self._node.lives(OCFS2):
            raise Broken("the daemon has ended")
        if told := self._tracebacks():
            raise Broken(f"the daemon wrote, beside its log: {told}")
        return seen

    def fails(self, script: Script) -> bool:
        """Whether a script breaks the daemon, which is started again first if it does not live."""
        for daemon in DAEMONS:
            if not self._node.lives(daemon):
                self._node.start(daemon)
        self._node.ready()
        self._tracebacks()
        try:
            self.run(script)
        except Broken:
            return True
        return False

    def _connect(self) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(str(self._node.home.clients))
        return sock

    def _tracebacks(self) -> str:
        """What was written since the last look that is no line of the log."""
        with self._node.log(OCFS2).open("rb") as file:
            file.seek(self._read)
            text = file.read()
        text = text[: text.rfind(b"\n") + 1]
        self._read += len(text)
        return b"\n".join(line for line in text.splitlines() if not line.startswith(b"{")).decode(errors="replace")
