"""Proofs beside the tests: each is awaited, none is lost, and nothing is left behind."""

import os
import select
import signal
import subprocess
import sys
from pathlib import Path

from libo2cb.processes import Process
from tests.beside import PROOFS, Job

DEADLINE_MS = 60_000


def test_what_it_said_and_how_it_ended() -> None:
    job = Job.start("it", (sys.executable, "-c", "import sys; print('some output', flush=True); sys.exit('a failure')"))
    assert job.wait() == 1
    assert job.told().startswith("it: exit code 1, ")
    assert "some output\na failure" in job.told()
    job.end()


def test_one_that_nobody_has_awaited_is_ended() -> None:
    job = Job.start("it", ("sleep", "600"))
    assert job.told().startswith("it: was not awaited")
    job.end()
    assert job.process.returncode == -signal.SIGKILL


def test_the_commands_are_those_of_the_readme() -> None:
    assert {name: " ".join(command[1:]) for name, command in PROOFS.items()} == {
        "soak": "-m tests.soak --minutes 5",
        "search": "-m tests.search --all --seconds 240",
    }


_SESSION = """
import time
from tests.beside import Job
print(Job.start("it", ("sleep", "600")).process.pid, flush=True)
time.sleep(600)
"""


def test_nothing_outlives_a_session_that_is_killed() -> None:
    root = Path(__file__).parents[2]
    with subprocess.Popen((sys.executable, "-c", _SESSION), stdout=subprocess.PIPE, cwd=root) as session:
        assert session.stdout is not None
        left = Process.of(int(session.stdout.readline()))
        assert left is not None
        descriptor = os.pidfd_open(left.pid)
        session.kill()
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    ended = poll.poll(DEADLINE_MS)
    os.close(descriptor)
    assert ended
