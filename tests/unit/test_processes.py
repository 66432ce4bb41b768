"""Processes by pid and start time, and who holds a socket's name."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from libo2cb.processes import (
    UNKNOWN_PROGRAM,
    Process,
    holder_of,
    peer_credentials,
    program_name,
    set_program_name,
    socket_address,
)


@pytest.fixture
def child() -> Iterator["subprocess.Popen[bytes]"]:
    with subprocess.Popen(["sleep", "600"]) as process:
        yield process
        process.kill()


def found(pid: int) -> Process:
    process = Process.of(pid)
    assert process is not None
    return process


def test_a_process_is_found_killed_and_then_dead(child: "subprocess.Popen[bytes]") -> None:
    process = found(child.pid)
    assert process.alive()
    assert process.kill(signal.SIGTERM)
    assert child.wait(60) == -signal.SIGTERM
    assert not process.alive()
    assert not process.kill()


def test_a_zombie_is_dead(child: "subprocess.Popen[bytes]") -> None:
    process = found(child.pid)
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # it has ended, and nobody has waited for it yet
    assert Path(f"/proc/{child.pid}/stat").exists()
    assert not process.alive()
    assert Process.of(child.pid) is None


def test_a_first_thread_that_ended_is_no_zombie() -> None:
    source = (
        "import ctypes, threading, time\n"
        "threading.Thread(target=time.sleep, args=(600,)).start()\n"
        "print('up', flush=True)\n"
        "ctypes.CDLL(None).syscall(60 if __import__('platform').machine() == 'x86_64' else 93, 0)\n"
    )
    with subprocess.Popen([sys.executable, "-c", source], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        try:
            assert child.stdout.readline() == b"up\n"
            process = found(child.pid)
            deadline = time.monotonic() + 60
            while ") Z " not in Path(f"/proc/{child.pid}/stat").read_text():
                assert time.monotonic() < deadline, "the first thread did not end"
            assert process.alive()
            assert process.kill()
            child.wait(60)
            assert not process.alive()
        finally:
            child.kill()


def test_a_successor_with_the_same_pid_is_never_killed(child: "subprocess.Popen[bytes]") -> None:
    earlier = Process(child.pid, found(child.pid).started - 1)
    assert not earlier.alive()
    assert not earlier.kill()
    assert child.poll() is None
    assert earlier.program == UNKNOWN_PROGRAM


@pytest.mark.parametrize("pid", [0, -1, 2**30])
def test_a_pid_that_nobody_has_is_nobody(pid: int) -> None:
    assert Process.of(pid) is None
    assert not Process(pid, 1).alive()
    assert not Process(pid, 1).kill()
    assert program_name(pid) == UNKNOWN_PROGRAM


def test_a_name_with_parentheses_and_blanks_does_not_confuse_the_start_time() -> None:
    before = Process.current()
    name = program_name(os.getpid())
    set_program_name(") Z 1 (\udcff of more than fifteen bytes")
    try:
        assert program_name(os.getpid()) == ") Z 1 (\udcff of mor"
        assert Process.current() == before
        assert before.alive()
    finally:
        set_program_name(name)


@pytest.mark.parametrize("program", ["sleep", "a) R 1 (b", "back\\slash", "\udcff"])
def test_one_look_tells_process_and_program(program: str) -> None:
    before = program_name(os.getpid())
    set_program_name(program)
    try:
        assert Process.named(os.getpid()) == (Process.current(), program)
    finally:
        set_program_name(before)


def test_a_zombie_has_a_name_and_is_no_process(child: "subprocess.Popen[bytes]") -> None:
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert Process.named(child.pid) == (None, "sleep")
    child.wait()
    assert Process.named(child.pid) == (None, UNKNOWN_PROGRAM)


@pytest.mark.parametrize("kind", ["abstract", "path"])
def test_the_holder_of_a_name_is_found(tmp_path: Path, kind: str) -> None:
    name = f"@test holder {os.getpid()}" if kind == "abstract" else str(tmp_path / "s")
    assert holder_of(name) is None
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
        server.bind(socket_address(name))
        server.listen(1)
        assert holder_of(name) == Process.current()
    assert holder_of(name) is None


def test_a_holder_that_does_not_listen_is_found_by_its_open_files(tmp_path: Path) -> None:
    name = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
        server.bind(name)
        assert holder_of(name) == Process.current()


def test_a_listener_that_passed_its_socket_on_is_not_named_for_the_heir(tmp_path: Path) -> None:
    name = str(tmp_path / "s")
    source = (
        "import os, socket, sys\n"
        "s = socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); s.listen(1); s.set_inheritable(True)\n"
        "if os.fork(): os._exit(0)\n"
        "print(os.getpid(), flush=True); sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", source, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as listener:
        assert listener.stdout is not None
        heir = int(listener.stdout.readline())
        listener.wait(60)
        holder = holder_of(name)
        assert holder is not None
        assert holder.pid == heir


def test_the_other_end_of_a_socket_has_credentials() -> None:
    left, right = socket.socketpair()
    with left, right:
        assert peer_credentials(left) == (os.getpid(), os.getuid(), os.getgid())


def test_a_thread_is_no_process() -> None:
    done = threading.Event()
    ids: list[int] = []
    started = threading.Event()

    def work() -> None:
        ids.append(threading.get_native_id())
        started.set()
        done.wait(60)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        assert started.wait(60)
        assert not Process(ids[0], 1).kill()
    finally:
        done.set()
        thread.join()
