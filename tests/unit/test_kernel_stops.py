"""A stop set at a call of the sandbox's kernel: its caller stands still after the effect, and holds nobody up."""

import os
import signal
import sys
from pathlib import Path

import pytest

from libo2cb.kernel.journal import read
from libo2cb.kernel.sandbox import SandboxFs, boot, clear_stop, set_fault, set_stop

CALLS = """
import sys
from pathlib import Path
from libo2cb.kernel.sandbox import SandboxFs
fs = SandboxFs(Path(sys.argv[1]))
for path in sys.argv[2:]:
    try:
        fs.mkdir(path)
    except OSError:
        pass
"""


def calls(home: Path, *paths: str) -> int:
    """A process that makes these directories, one after the other; its pid."""
    command = (sys.executable, "-c", CALLS, str(home), *paths)
    return os.posix_spawn(sys.executable, command, {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})


def goes_on(pid: int) -> None:
    os.kill(pid, signal.SIGCONT)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


@pytest.fixture
def home(tmp_path: Path) -> Path:
    boot(tmp_path)
    return tmp_path


def test_a_caller_is_stopped_after_the_effect_and_with_the_lock_free(home: Path) -> None:
    set_stop(home, "mkdir", "c/node/n?")
    pid = calls(home, "c", "c/node/n1", "c/heartbeat/R")
    assert os.WIFSTOPPED(os.waitpid(pid, os.WUNTRACED)[1])
    fs = SandboxFs(home)
    assert [entry.name for entry in fs.listdir("c/node")] == ["n1"]
    fs.mkdir("c/heartbeat/of_another")
    goes_on(pid)
    assert [e["path"] for e in read(home / "log" / "kernel.jsonl") if e["call"] == "mkdir"] == [
        "c",
        "c/node/n1",
        "c/heartbeat/of_another",
        "c/heartbeat/R",
    ]


def test_neither_a_refused_call_nor_a_cleared_stop_stops_anybody(home: Path) -> None:
    set_stop(home, "mkdir", "c")
    set_stop(home, "mkdir", "d")
    set_fault(home, "mkdir", "c", 5)
    clear_stop(home, "mkdir", "d")
    pid = calls(home, "c", "d")
    assert os.waitstatus_to_exitcode(os.waitpid(pid, os.WUNTRACED)[1]) == 0
    assert [entry.name for entry in SandboxFs(home).listdir("")] == ["d"]
