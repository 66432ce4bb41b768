"""Locks that travel as descriptors; each trap that ORDERING names has its test here."""

import errno
import fcntl
import gc
import os
import random
import resource
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from libo2cb.locks import (
    RECORD,
    Descriptor,
    LockDirectory,
    Received,
    RecordReceiver,
    StrayDescriptorError,
    receive,
    send_with_descriptor,
)

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def locks(tmp_path: Path) -> LockDirectory:
    return LockDirectory(tmp_path / "run")


@pytest.fixture
def pair() -> Iterator[Pair]:
    left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    left.setblocking(False)
    right.setblocking(False)
    with left, right:
        yield left, right


def record(text: str) -> bytes:
    return text.encode().ljust(RECORD, b"\0")


def is_free(locks: LockDirectory, number: int) -> bool:
    lock = locks.exclusive(number)
    if lock is None:
        return False
    lock.close()
    return True


def grant(locks: LockDirectory, number: int) -> Descriptor:
    lock = locks.shared(number)
    assert lock is not None
    return lock


def process(run: Callable[[], None]) -> int:
    """A child that runs this and then waits to be killed; returns once it has run."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            run()
            os.write(writer, b"!")
            signal.pause()
        finally:
            os._exit(1)
    os.close(writer)
    with os.fdopen(reader, "rb") as told:
        assert told.read(1) == b"!", "the child failed"
    return child


def kill(child: int) -> None:
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def test_a_grant_keeps_the_changer_out_and_the_changer_the_grants(locks: LockDirectory) -> None:
    with grant(locks, 1), grant(locks, 1):
        assert locks.exclusive(1) is None
        assert is_free(locks, 2), "each number has its own lock"
    changing = locks.exclusive(1)
    assert changing is not None
    with changing:
        assert locks.shared(1) is None
        assert locks.exclusive(1) is None
    assert is_free(locks, 1)


def test_the_files_are_made_once_for_root_alone_and_never_replaced(tmp_path: Path) -> None:
    run = tmp_path / "run"
    locks = LockDirectory(run)
    with grant(locks, 7) as lock:
        assert os.get_inheritable(lock.fileno()) is False
    first = (run / "node-7.lock").stat()
    assert first.st_mode & 0o777 == 0o600
    assert is_free(LockDirectory(run), 7)
    assert (run / "node-7.lock").stat().st_ino == first.st_ino
    assert os.listdir(run) == ["node-7.lock"]  # noqa: PTH208 (names are what is asked)


def test_trap_a_new_inode_would_split_the_lock(locks: LockDirectory, tmp_path: Path) -> None:
    with grant(locks, 1):
        (tmp_path / "run" / "node-1.lock").unlink()
        assert is_free(locks, 1), "this is why nobody may ever unlink these files"


@pytest.mark.parametrize("number", [0, -1, 255])
def test_numbers_that_no_node_has(locks: LockDirectory, number: int) -> None:
    with pytest.raises(ValueError, match="outside 1 to 254"):
        locks.shared(number)
    with pytest.raises(ValueError, match="outside 1 to 254"):
        locks.exclusive(number)


def test_a_link_in_place_of_a_lock_file_is_refused(locks: LockDirectory, tmp_path: Path) -> None:
    (tmp_path / "run" / "node-1.lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match=r"node-1\.lock"):
        locks.shared(1)
    assert not (tmp_path / "elsewhere").exists()


def test_service_lock(locks: LockDirectory) -> None:
    held = locks.hold_service()
    again = locks.hold_service()
    assert held is not None
    assert again is not None
    held.close()
    assert locks.claim_service() is None
    again.close()
    claimed = locks.claim_service()
    assert claimed is not None
    assert locks.hold_service() is None
    claimed.close()


def test_closing_again_does_nothing_to_the_next_owner_of_the_number(locks: LockDirectory) -> None:
    lock = grant(locks, 1)
    number = lock.fileno()
    lock.close()
    other = grant(locks, 2)
    assert other.fileno() == number
    lock.close()
    assert locks.exclusive(2) is None
    other.close()
    assert lock.closed
    with pytest.raises(ValueError, match="is closed"):
        lock.fileno()


def test_a_lost_descriptor_is_complained_of_and_closed(locks: LockDirectory) -> None:
    def lose() -> None:
        grant(locks, 1)
        gc.collect()

    with pytest.warns(ResourceWarning, match="never closed"):
        lose()
    assert is_free(locks, 1)


def test_a_child_program_does_not_keep_the_lock(locks: LockDirectory) -> None:
    lock = grant(locks, 1)
    with subprocess.Popen(["sleep", "600"], close_fds=False) as child:
        lock.close()
        try:
            assert is_free(locks, 1)
        finally:
            child.kill()


def test_trap_unlock_on_any_copy_frees_the_lock_for_all(locks: LockDirectory) -> None:
    with grant(locks, 1) as lock, Descriptor(os.dup(lock.fileno())) as copy:
        copy.close()
        assert not is_free(locks, 1), "closing a copy frees nothing"
        with Descriptor(os.dup(lock.fileno())) as other:
            fcntl.flock(other.fileno(), fcntl.LOCK_UN)
        assert is_free(locks, 1), "this is why nobody calls LOCK_UN"


def test_locks_never_calls_unlock() -> None:
    import libo2cb.locks as module  # noqa: PLC0415 (its text is what is asked)

    source = Path(module.__file__).read_text(encoding="utf-8")
    assert "fcntl.LOCK_UN" not in source
    assert "unlink" not in source.split('"""', 2)[2], "outside of its docstring"


def test_a_grant_arrives_and_holds_after_the_granter_closed_its_copy(locks: LockDirectory, pair: Pair) -> None:
    left, right = pair
    with grant(locks, 3) as lock:
        assert send_with_descriptor(left, record("LOCKED 1"), lock.fileno()) == RECORD
    assert not is_free(locks, 3), "it is on its way"
    got = RecordReceiver(right).next()
    assert got is not None
    assert got.record == record("LOCKED 1")
    assert got.descriptor is not None
    assert os.get_inheritable(got.descriptor.fileno()) is False
    assert not is_free(locks, 3)
    got.descriptor.close()
    assert is_free(locks, 3)


def test_trap_a_plain_recv_drops_the_descriptor(locks: LockDirectory, pair: Pair) -> None:
    left, right = pair
    with grant(locks, 3) as lock:
        send_with_descriptor(left, record("LOCKED 1"), lock.fileno())
    assert not is_free(locks, 3)
    assert right.recv(RECORD) == record("LOCKED 1")
    assert is_free(locks, 3), "the record came, the lock is gone"


def test_trap_locked_without_descriptor_is_no_grant(pair: Pair) -> None:
    left, right = pair
    left.send(record("LOCKED 1"))
    assert RecordReceiver(right).next() == Received(record("LOCKED 1"), None)


def test_trap_descriptors_are_lost_when_there_are_no_numbers(locks: LockDirectory, pair: Pair) -> None:
    left, right = pair
    with grant(locks, 3) as lock:
        send_with_descriptor(left, record("LOCKED 1"), lock.fileno())
    left.send(record("WAITING 2"))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    receiver = RecordReceiver(right)
    lowest_free = os.dup(right.fileno())
    os.close(lowest_free)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, hard))
        got = receiver.next()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert got == Received(record("LOCKED 1"), None, lost=True)
    assert is_free(locks, 3)
    assert receiver.next() == Received(record("WAITING 2"))


def test_trap_unread_grants_fill_the_socket_and_are_sent_later(locks: LockDirectory, pair: Pair) -> None:
    left, right = pair
    sent = 0
    with ExitStack() as mine:
        lock = mine.enter_context(grant(locks, 1))
        while send_with_descriptor(left, record(f"LOCKED {sent}"), lock.fileno()):
            sent += 1
            assert sent < 100_000, "a socket without an end"
        assert sent > 20, "room for a burst of grants"
        kept = record(f"LOCKED {sent}")
        receiver = RecordReceiver(right)
        number = 0
        while (got := receiver.next()) is not None:
            assert got.record == record(f"LOCKED {number}")
            assert got.descriptor is not None
            got.descriptor.close()
            number += 1
        assert number == sent, "the one that did not go left nothing of itself"
        assert send_with_descriptor(left, kept, lock.fileno()) == RECORD
        last = receiver.next()
    assert last is not None
    assert last.record == kept
    assert last.descriptor is not None
    assert not is_free(locks, 1)
    last.descriptor.close()
    assert is_free(locks, 1)


def test_too_many_descriptors_on_their_way_is_for_later_too(locks: LockDirectory, pair: Pair) -> None:
    left, _ = pair
    with grant(locks, 1) as lock:
        child = os.fork()
        if child == 0:
            code = 255
            try:
                if os.geteuid() == 0:
                    os.setuid(65534)  # the limit is not for root
                resource.setrlimit(resource.RLIMIT_NOFILE, (20, 20))
                sent = 0
                while sent < 100 and send_with_descriptor(left, record("LOCKED 1"), lock.fileno()):
                    sent += 1
                code = sent
            finally:
                os._exit(code)
        sent = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert 15 < sent < 25, "the limit of descriptors, not that of the socket"


def test_each_grant_in_a_burst_comes_with_its_own_descriptor(locks: LockDirectory, pair: Pair) -> None:
    left, right = pair
    rng = random.Random(15)  # noqa: S311 (a seed, so that a failure can be run again)
    receiver = RecordReceiver(right)
    expected: list[tuple[bytes, int | None]] = []
    got: list[tuple[bytes, int | None]] = []

    def take() -> None:
        while (received := receiver.next()) is not None:
            inode = None
            if received.descriptor:
                with received.descriptor as descriptor:
                    inode = os.fstat(descriptor.fileno()).st_ino
            got.append((received.record, inode))

    for turn in range(400):
        text = record(f"{turn} " + "x" * rng.randrange(200))
        if rng.random() < 0.5:
            with grant(locks, rng.randrange(1, 255)) as lock:
                inode = os.fstat(lock.fileno()).st_ino
                while not send_with_descriptor(left, text, lock.fileno()):
                    take()
            expected.append((text, inode))
        else:
            # In pieces, as a full socket may cut it.
            cut = rng.choice([0, 1, 100, 255])
            for piece in (text[:cut], text[cut:]):
                while piece:
                    try:
                        piece = piece[left.send(piece) :]  # noqa: PLW2901 (what is left of it)
                    except BlockingIOError:
                        take()
            expected.append((text, None))
        if rng.random() < 0.05:
            take()
    take()
    assert got == expected


def test_a_grant_cut_by_a_short_write_is_one_record(locks: LockDirectory, pair: Pair) -> None:
    left, right = pair
    receiver = RecordReceiver(right)
    left.send(record("UNLOCKED 9"))
    text = record("LOCKED 1")
    with grant(locks, 3) as lock:
        assert send_with_descriptor(left, text[:1], lock.fileno()) == 1
    assert receiver.next() == Received(record("UNLOCKED 9"))
    assert receiver.next() is None, "a descriptor, and one byte of its record"
    assert not is_free(locks, 3)
    left.send(text[1:] + record("WAITING 2"))
    got = receiver.next()
    assert got is not None
    assert got.record == text
    assert got.descriptor is not None
    got.descriptor.close()
    assert receiver.next() == Received(record("WAITING 2"))


def test_the_bytes_of_one_receive_end_with_the_descriptors_message(locks: LockDirectory, pair: Pair) -> None:
    left, right = pair
    left.send(record("A"))
    with grant(locks, 3) as lock:
        send_with_descriptor(left, record("B"), lock.fileno())
        send_with_descriptor(left, record("C"), lock.fileno())
    left.send(record("D"))
    told = []
    for _ in range(3):
        data, descriptors, flags = receive(right, 100 * RECORD)
        told.append((data, len(descriptors), flags & socket.MSG_CTRUNC))
        for descriptor in descriptors:
            descriptor.close()
    assert told == [(record("A") + record("B"), 1, 0), (record("C"), 1, 0), (record("D"), 0, 0)]


@pytest.mark.parametrize("together", [True, False])
def test_two_descriptors_for_one_record_are_a_violation(locks: LockDirectory, pair: Pair, together: bool) -> None:
    left, right = pair
    with grant(locks, 3) as lock:
        if together:
            socket.send_fds(left, [record("LOCKED 1")], [lock.fileno()] * 2)
        else:
            send_with_descriptor(left, record("LOCKED 1")[:1], lock.fileno())
            send_with_descriptor(left, record("LOCKED 1")[1:], lock.fileno())
    with pytest.raises(StrayDescriptorError, match="2 descriptors"):
        RecordReceiver(right).next()
    assert is_free(locks, 3), "all of them are closed"


def test_the_end_of_the_connection_and_half_a_record(locks: LockDirectory, pair: Pair) -> None:
    left, right = pair
    receiver = RecordReceiver(right)
    assert (receiver.next(), receiver.ended) == (None, False)
    with grant(locks, 3) as lock:
        send_with_descriptor(left, b"half", lock.fileno())
    left.close()
    assert (receiver.next(), receiver.ended) == (None, True)
    assert not is_free(locks, 3)
    receiver.close()
    receiver.close()
    assert is_free(locks, 3)


def test_a_broken_connection_is_an_error_and_takes_no_descriptor(locks: LockDirectory, pair: Pair) -> None:
    left, right = pair
    right.close()
    with grant(locks, 3) as lock, pytest.raises(OSError) as broken:  # noqa: PT011 (its errno is asked below)
        send_with_descriptor(left, record("LOCKED 1"), lock.fileno())
    assert broken.value.errno == errno.EPIPE
    assert is_free(locks, 3)


def test_a_lock_outlives_its_granter(locks: LockDirectory, pair: Pair) -> None:
    left, right = pair

    def granter() -> None:
        lock = grant(locks, 3)
        send_with_descriptor(left, record("LOCKED 1"), lock.fileno())

    child = process(granter)
    kill(child)
    left.close()
    got = RecordReceiver(right).next()
    assert got is not None
    assert got.descriptor is not None, "granted before the granter's death, read after it"
    assert not is_free(locks, 3)
    got.descriptor.close()
    assert is_free(locks, 3)


def test_a_lock_goes_with_its_holder(locks: LockDirectory, pair: Pair) -> None:
    left, right = pair
    with grant(locks, 3) as lock:
        send_with_descriptor(left, record("LOCKED 1"), lock.fileno())

    def holder() -> None:
        got = RecordReceiver(right).next()
        assert got is not None
        assert got.descriptor is not None

    child = process(holder)
    right.close()
    assert not is_free(locks, 3)
    kill(child)
    assert is_free(locks, 3)


def test_a_lock_in_flight_goes_with_the_reader_that_never_read_it(locks: LockDirectory, pair: Pair) -> None:
    left, right = pair
    child = process(lambda: None)
    right.close()
    with grant(locks, 3) as lock:
        send_with_descriptor(left, record("LOCKED 1"), lock.fileno())
    assert not is_free(locks, 3)
    kill(child)
    assert is_free(locks, 3)


def test_trap_proc_locks_names_the_granter(locks: LockDirectory, pair: Pair, tmp_path: Path) -> None:
    left, right = pair

    def granter() -> None:
        with grant(locks, 3) as lock:
            send_with_descriptor(left, record("LOCKED 1"), lock.fileno())

    child = process(granter)
    got = RecordReceiver(right).next()
    assert got is not None
    assert got.descriptor is not None
    inode = (tmp_path / "run" / "node-3.lock").stat().st_ino
    named = [
        int(line.split()[4])
        for line in Path("/proc/locks").read_text(encoding="ascii").splitlines()
        if f":{inode} " in line and "FLOCK" in line
    ]
    kill(child)
    assert named == [child], "the holder is this process, and is not named"
    got.descriptor.close()
