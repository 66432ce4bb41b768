"""Ends a sandbox whose test is killed."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

_SOURCE: Final = Path(__file__).resolve().parents[1]
_KEEPER: Final = 'read -r done || { "$@"; rm -rf "$HOME_TO_KEEP"; }'


@contextmanager
def kept(sandbox: Path, home: Path | None = None) -> Iterator[None]:
    """A process waits beside the test; it sees the end of its input when this one is killed, and ends the sandbox.

    Args:
        sandbox: its home; it need not be there yet.
        home: the directory that goes with it, where that is more than its home.
    """
    down = (sys.executable, "-m", "libo2cb.sandbox.cli", "--home", str(sandbox), "down")
    environ = {**os.environ, "PYTHONPATH": str(_SOURCE), "HOME_TO_KEEP": str(home or sandbox)}
    command = ("/bin/sh", "-c", _KEEPER, "keeper", *down)
    with subprocess.Popen(command, stdin=subprocess.PIPE, env=environ, start_new_session=True) as keeper:
        try:
            yield
        finally:
            keeper.communicate(b"done\n")
