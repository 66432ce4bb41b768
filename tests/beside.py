"""Proofs that run beside the tests: in the background from the start of a session, awaited by its last tests.

The soak waits most of its minutes, and the search needs one core and nothing else; neither depends on how fast it
goes. Where the machine is busy, the search sees fewer states of its large worlds and says so, and the soak has fewer
rounds. conftest.py starts what a selected test awaits (`@pytest.mark.beside`), and has those tests go last.
"""

import ctypes
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Final

PROOFS: Final[Mapping[str, Sequence[str]]] = {
    "soak": (sys.executable, "-m", "tests.soak", "--minutes", "5"),
    "search": (sys.executable, "-m", "tests.search", "--all", "--seconds", "240"),
}
_PR_SET_PDEATHSIG: Final = 1


@dataclass(frozen=True, slots=True)
class Job:
    """A command in the background.

    Attributes:
        name: what it is.
        process: it, leading a session of its own.
        output: where its output goes.
        began: when it was started, monotonic seconds.
    """

    name: str
    process: subprocess.Popen[bytes]
    output: IO[bytes]
    began: float

    @classmethod
    def start(cls, name: str, command: Sequence[str]) -> "Job":
        """Start it."""
        output = tempfile.TemporaryFile()  # noqa: SIM115 (it is closed by `end`)
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # an interrupt from the terminal comes to us, and we end it
            preexec_fn=_die_with_parent,  # noqa: PLW1509 (no threads yet; and nothing may outlive us, however we end)
        )
        return cls(name, process, output, time.monotonic())

    def wait(self) -> int:
        """Wait for its end; its exit code."""
        return self.process.wait()

    def said(self) -> str:
        """Its output so far."""
        self.output.seek(0)
        return self.output.read().decode(errors="replace")

    def told(self) -> str:
        """Its end and its output, for people."""
        code = self.process.poll()
        how = "was not awaited" if code is None else f"exit code {code}"
        return f"{self.name}: {how}, begun {time.monotonic() - self.began:.0f} s ago\n{self.said()}"

    def end(self) -> None:
        """End it if it still runs, with what else is in its session; a lab of it is ended by its keeper."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        self.output.close()


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
