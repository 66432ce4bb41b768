"""The pid file: one daemon at a time, and the second knows the first."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from libo2cb.processes import Process
from libo2cb.service.pidfile import AlreadyRunning, PidFile, PidFileError, read

HOLD = (
    "import sys\n"
    "from pathlib import Path\n"
    "from libo2cb.service.pidfile import PidFile\n"
    "with PidFile.take(Path(sys.argv[1])):\n"
    "    print('held', flush=True)\n"
    "    sys.stdin.read()\n"
)


def holder(path: Path) -> "subprocess.Popen[bytes]":
    child = subprocess.Popen(
        [sys.executable, "-c", HOLD, path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    assert child.stdout is not None
    assert child.stdout.readline() == b"held\n"
    return child


def test_the_file_says_who_holds_it_and_is_empty_afterwards(tmp_path: Path) -> None:
    path = tmp_path / "run" / "d.pid"
    me = Process.current()
    with PidFile.take(path):
        assert path.read_text() == f"{me.pid} {me.started}\n"
        assert read(path) == me
    assert path.read_text() == ""
    assert read(path) is None


def test_the_second_daemon_names_the_first_and_leaves_its_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "d.pid"
    with holder(path) as first:
        content, inode = path.read_text(), path.stat().st_ino
        with pytest.raises(AlreadyRunning, match=rf"already running: pid {first.pid} \(") as caught:
            PidFile.take(path)
        assert caught.value.holder == Process.of(first.pid)
        assert (path.read_text(), path.stat().st_ino) == (content, inode)
        first.communicate(b"")


def test_a_killed_daemon_leaves_no_lock_and_its_name_is_not_believed(tmp_path: Path) -> None:
    path = tmp_path / "d.pid"
    with holder(path) as first:
        inode = path.stat().st_ino
        first.send_signal(signal.SIGKILL)
        first.wait(60)
        assert path.read_text().startswith(f"{first.pid} ")
        assert read(path) is None
        with PidFile.take(path):
            assert read(path) == Process.current()
        assert path.stat().st_ino == inode, "a new inode would be a second lock"


def test_a_child_that_is_started_does_not_keep_the_lock(tmp_path: Path) -> None:
    path = tmp_path / "d.pid"
    with PidFile.take(path), subprocess.Popen(["sleep", "600"], close_fds=False) as child:
        pass_on = PidFile.take
        with pytest.raises(AlreadyRunning):
            pass_on(path)
        child.kill()
    with subprocess.Popen(["sleep", "600"], close_fds=False) as other, PidFile.take(path):
        other.kill()


@pytest.mark.parametrize("content", [b"", b"x\n", b"1\n", b"-1 5\n", b"1 2 3\n", b"\xff\xff 1", b"9" * 1000])
def test_what_a_pid_file_may_not_say_names_nobody(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "d.pid"
    path.write_bytes(content)
    assert read(path) is None


def test_a_link_or_a_directory_is_no_pid_file(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("data")
    (tmp_path / "d.pid").symlink_to(precious)
    with pytest.raises(PidFileError, match=r"d\.pid cannot be made"):
        PidFile.take(tmp_path / "d.pid")
    assert precious.read_text() == "data"
    with pytest.raises(PidFileError, match="Is a directory"):
        PidFile.take(tmp_path)
    assert os.listdir(tmp_path)  # noqa: PTH208 (whether it is still there)
