"""The fence command: its arguments, its answer, its end."""

import os
import signal
import sys
import time
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from libo2cb.processes import Process
from ocfs2_controld.actions import RunFence
from ocfs2_controld.fence_command import KEPT_BYTES, TEXT_CHARACTERS, Outcome, run
from protocol.identity import UNKNOWN_BOOT, Life

DB3 = RunFence(Life(3, "0b0a0d0c-1111-4222-8333-444455556666"), "db 3", "10.0.0.13")
LONG = 60.0


def script(text: str) -> tuple[str, ...]:
    return (sys.executable, "-c", text)


def test_the_command_is_told_whom_to_fence() -> None:
    names = "('NODE', 'NUMBER', 'ADDRESS', 'LIFE')"
    say = f"import os, sys; print(sys.argv[1:], [os.environ['OCFS2_FENCE_' + n] for n in {names}])"
    outcome = run((*script(say), "--off"), DB3, LONG)
    assert outcome.ok
    assert outcome.text == f"['--off', 'db 3'] ['db 3', '3', '10.0.0.13', '{DB3.life.boot}']"


def test_an_unknown_life_is_empty_in_the_environment() -> None:
    fence = RunFence(Life(3, UNKNOWN_BOOT), "db3", "10.0.0.13")
    assert run(("/bin/sh", "-c", 'echo "<$OCFS2_FENCE_LIFE>"'), fence, LONG).text == "<>"


def test_nothing_in_a_name_is_run_by_a_shell(tmp_path: Path) -> None:
    made = tmp_path / "made"
    fence = RunFence(DB3.life, f"$(touch {made}); touch {made} `touch {made}`", "10.0.0.13")
    outcome = run(("printf", "%s"), fence, LONG)
    assert outcome.output == fence.name
    assert not made.exists()


def test_any_other_exit_code_is_no_fence_and_says_what_the_command_said() -> None:
    outcome = run(("/bin/sh", "-c", "echo first; echo 'connection  timed out' >&2; exit 3"), DB3, LONG)
    assert not outcome.ok
    assert outcome.code == 3
    assert outcome.output == "first\nconnection  timed out\n"
    assert outcome.text == "connection timed out (exit code 3)"


def test_a_command_that_is_killed_has_fenced_nobody() -> None:
    outcome = run(("/bin/sh", "-c", "kill -9 $$"), DB3, LONG)
    assert not outcome.ok
    assert outcome.text == "the fence command failed: ended by signal 9"


def test_a_command_that_is_not_there_is_named() -> None:
    outcome = run(("/nonexistent/fence",), DB3, LONG)
    assert not outcome.ok
    assert "/nonexistent/fence" in outcome.text


def test_a_node_name_that_no_command_can_be_told_is_a_failure() -> None:
    outcome = run(("true",), RunFence(DB3.life, "a\0b", ""), LONG)
    assert not outcome.ok
    assert "cannot be run" in outcome.text


def test_at_the_timeout_the_command_and_its_children_are_killed(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    outcome = run(("/bin/sh", "-c", f"sleep 1000 & echo $! $$ > {pids}; echo working; wait"), DB3, 1.0)
    assert not outcome.ok
    assert outcome.code is None
    assert outcome.text == "the fence command did not end within 1 s: working"
    assert outcome.seconds < LONG
    deadline = time.monotonic() + LONG
    for pid in map(int, pids.read_text().split()):
        while (process := Process.of(pid)) is not None and process.alive():
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_a_child_that_is_left_behind_with_the_output_is_not_waited_for(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    outcome = run(("/bin/sh", "-c", f"sleep 1000 & echo $! > {pid}; echo off"), DB3, LONG)
    os.kill(int(pid.read_text()), signal.SIGKILL)
    assert outcome.ok
    assert outcome.text == "off"
    assert outcome.seconds < LONG / 2


def test_of_much_output_the_end_is_kept() -> None:
    outcome = run(script("print('x' * 10_000_000); print('the end')"), DB3, LONG)
    assert outcome.ok
    assert len(outcome.output) == KEPT_BYTES
    assert outcome.text == "the end"


def test_without_a_word_success_still_says_something() -> None:
    assert run(("true",), DB3, LONG).text == "the fence command says that it is off"


@given(st.integers(-64, 255), st.text(), st.sampled_from(["", "it was given up"]))
def test_the_text_is_one_line_and_never_empty(code: int, output: str, problem: str) -> None:
    text = Outcome(None if problem else code, output, 1.0, problem).text
    assert text
    assert len(text.splitlines()) == 1
    assert len(text) <= TEXT_CHARACTERS + 40
