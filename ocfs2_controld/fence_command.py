"""Fencing by a command of the operator's: it switches a node off, and its exit code 0 says that it has seen it off.

The node's name is the command's last argument. In its environment stand, besides the daemon's own,

    OCFS2_FENCE_NODE     name                OCFS2_FENCE_ADDRESS  address, as the engine's configuration has it
    OCFS2_FENCE_NUMBER   number              OCFS2_FENCE_LIFE     boot id of the life to end; empty when not known

It runs in a session of its own, without input, and is killed with that session's process group at its timeout. A
command that runs when the daemon ends goes on: to stop a power switch half-way helps nobody.
"""

import os
import select
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from ocfs2_controld.actions import RunFence

KEPT_BYTES: Final = 4096
"""Of the output, its end."""
TEXT_CHARACTERS: Final = 200
"""Of the output, in status."""
DEATH_SECONDS: Final = 5.0
"""For a killed command to be gone."""

# Until the exec of a new process nothing of the daemon runs, not even its loop: were the command on a file server that
# has just died, all would wait for it. So that exec is the shell's.
_EXEC: Final = ("/bin/sh", "-c", 'exec "$@"', "sh")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a fence command.

    Attributes:
        code: its exit code; negative: minus the signal that ended it; None when it was given up, or never ran.
        output: the end of what it printed.
        seconds: how long it took.
        problem: why it was given up, or never ran; else empty.
    """

    code: int | None
    output: str
    seconds: float
    problem: str = ""

    @property
    def ok(self) -> bool:
        """Whether the node was seen off."""
        return self.code == 0

    @property
    def text(self) -> str:
        """One line for status."""
        lines = [" ".join(line.split()) for line in self.output.splitlines()]
        said = next((line for line in reversed(lines) if line), "")[:TEXT_CHARACTERS]
        if self.problem:
            return f"{self.problem}: {said}" if said else self.problem
        if self.ok:
            return said or "the fence command says that it is off"
        how = f"exit code {self.code}" if self.code is None or self.code > 0 else f"ended by signal {-self.code}"
        return f"{said} ({how})" if said else f"the fence command failed: {how}"


def run(command: Sequence[str], fence: RunFence, timeout: float) -> Outcome:
    """Run the command to its end. Blocks for as long as it takes: for a thread.

    Args:
        command: the operator's program and arguments.
        fence: whom to fence.
        timeout: seconds.
    """
    begun = time.monotonic()
    environment = {
        **os.environ,
        "OCFS2_FENCE_NODE": fence.name,
        "OCFS2_FENCE_NUMBER": str(fence.life.node),
        "OCFS2_FENCE_ADDRESS": fence.address,
        "OCFS2_FENCE_LIFE": fence.life.boot,
    }
    reading, writing = os.pipe()
    try:
        process = subprocess.Popen(  # noqa: S603 (the operator's own command)
            (*_EXEC, *command, fence.name),
            stdin=subprocess.DEVNULL,
            stdout=writing,
            stderr=writing,
            env=environment,
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        os.close(reading)
        os.close(writing)
        return Outcome(None, "", time.monotonic() - begun, f"the fence command cannot be run: {error}")
    os.close(writing)
    try:
        output, ended = _listen(process, reading, begun + timeout)
        problem = "" if ended else _give_up(process, timeout)
        code = process.wait() if ended else None
    finally:
        os.close(reading)
    return Outcome(code, output.decode("utf-8", "backslashreplace"), time.monotonic() - begun, problem)


def _listen(process: subprocess.Popen[bytes], reading: int, deadline: float) -> tuple[bytes, bool]:
    """The end of the output, and whether the command has ended in time.

    The end of the output is not waited for: a child that the command left behind may hold the pipe for ever.
    """
    output = b""
    os.set_blocking(reading, False)
    ending = os.pidfd_open(process.pid)
    try:
        poll = select.poll()
        for each in (reading, ending):
            poll.register(each, select.POLLIN)
        ended = False
        while not ended and (left := deadline - time.monotonic()) > 0:
            ready = {fd for fd, _ in poll.poll(left * 1000)}
            ended = ending in ready
            if reading in ready:
                more = _read(reading)
                output = (output + more)[-KEPT_BYTES:]
                if not more:
                    poll.unregister(reading)
        while ended and (more := _read(reading)):
            output = (output + more)[-KEPT_BYTES:]
            if time.monotonic() > deadline:
                break
        return output, ended
    finally:
        os.close(ending)


def _read(reading: int) -> bytes:
    try:
        return os.read(reading, 65536)
    except BlockingIOError:
        return b""


def _give_up(process: subprocess.Popen[bytes], timeout: float) -> str:
    said = f"the fence command did not end within {timeout:g} s"
    try:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(DEATH_SECONDS)
    except ProcessLookupError:
        process.wait()
    except subprocess.TimeoutExpired:
        return f"{said}, nor was it gone {DEATH_SECONDS:g} s after SIGKILL"
    return said
