"""The sandbox's mount table, with several real processes, killed at any point."""

import asyncio
import errno
import fcntl
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from libo2cb.errors import ConfigurationError, KernelRefusal, O2cbError, Pinned
from libo2cb.mounts import (
    Busy,
    Mount,
    NoDevice,
    SandboxMounts,
    identify,
)

ROOT = Path(__file__).parents[2]
DEADLINE = 120.0
UUID = "94A94C12FF614DD894BF9D0CF62F3987"


@pytest.fixture
def image(tmp_path: Path) -> str:
    path = tmp_path / "disk one.img"
    path.write_bytes(b"")
    return str(path)


@pytest.fixture
def table(tmp_path: Path) -> SandboxMounts:
    return SandboxMounts(tmp_path / "mounts")


def test_a_mount_is_shown_with_its_device_until_it_leaves(table: SandboxMounts, image: str) -> None:
    table.enter(image, "/srv/a", UUID)
    table.enter(image, "/srv/b", UUID)
    other = SandboxMounts(table.directory)
    assert other.mounts() == [Mount(identify(image), p, "ocfs2", image) for p in ("/srv/a", "/srv/b")]
    assert [(e.uuid, e.pid) for e in other.entries()] == [(UUID, os.getpid())] * 2
    assert other.leave("/srv/a").device == image
    assert [m.mount_point for m in table.mounts()] == ["/srv/b"]
    assert table.busy(image) is Busy.BUSY
    table.leave("/srv/b")
    assert table.busy(image) is Busy.FREE


def test_a_taken_mount_point_and_a_free_one_are_refused(table: SandboxMounts, image: str) -> None:
    table.enter(image, "/srv/a", UUID)
    with pytest.raises(Pinned, match="mount /srv/a: EBUSY"):
        table.enter(image, "/srv/a", UUID)
    with pytest.raises(KernelRefusal) as raised:
        table.leave("/srv/b")
    assert raised.value.errno == errno.EINVAL
    with pytest.raises(NoDevice):
        table.enter("/nowhere/x", "/srv/b", UUID)
    assert len(table.mounts()) == 1


def test_a_held_device_is_busy_although_no_table_shows_it(table: SandboxMounts, image: str, tmp_path: Path) -> None:
    table.hold(image)
    table.hold(image)
    assert len(table.holds()) == 1
    assert (table.mounts(), table.busy(image)) == ([], Busy.BUSY)
    link = tmp_path / "link"
    link.symlink_to(image)
    assert table.busy(str(link)) is Busy.BUSY
    table.release(str(link))
    assert table.busy(image) is Busy.FREE
    table.release(image)


def test_an_image_that_went_can_be_released(table: SandboxMounts, image: str) -> None:
    table.hold(image)
    Path(image).unlink()
    assert table.busy(image) is Busy.UNKNOWN
    table.release(image)
    assert table.holds() == []


def test_a_path_that_means_another_device_by_now_is_unknown(table: SandboxMounts, image: str, tmp_path: Path) -> None:
    before = identify(image)
    assert table.busy(image, before) is Busy.FREE
    new = tmp_path / "new"
    new.write_bytes(b"")
    new.replace(image)
    assert table.busy(image, before) is Busy.UNKNOWN


UMOUNT = """
import signal, sys
from libo2cb.mounts import SandboxMounts
SandboxMounts(sys.argv[1]).leave(sys.argv[2], hold=True)
print("left", flush=True)
signal.pause()
"""


def test_an_unmount_holds_the_device_until_it_ends(table: SandboxMounts, image: str) -> None:
    table.enter(image, "/srv/a", UUID)
    command = [sys.executable, "-c", UMOUNT, str(table.directory), "/srv/a"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as umount:
        assert umount.stdout is not None
        assert umount.stdout.readline() == b"left\n"
        assert (table.mounts(), table.busy(image)) == ([], Busy.BUSY)
        umount.kill()
    assert table.busy(image) is Busy.FREE
    assert table.holds() == []


def test_power_off_forgets_everything(table: SandboxMounts, image: str) -> None:
    table.enter(image, "/srv/a", UUID)
    table.hold(image)
    table.clear()
    assert (table.mounts(), table.holds(), table.busy(image)) == ([], [], Busy.FREE)


def test_names_may_hold_any_bytes(table: SandboxMounts, tmp_path: Path) -> None:
    odd = str(tmp_path / os.fsdecode(b'\xff \n"'))
    Path(odd).write_bytes(b"")
    table.enter(odd, os.fsdecode(b"/srv/\xfe\n"), UUID)
    assert [(m.source, m.mount_point) for m in table.mounts()] == [(odd, os.fsdecode(b"/srv/\xfe\n"))]


async def turns() -> None:
    for _ in range(50):
        await asyncio.sleep(0)


def test_watchers_are_told_of_every_change_and_of_nothing_else(table: SandboxMounts, image: str) -> None:
    async def story() -> None:
        woken = asyncio.Event()
        calls = 0

        def callback() -> None:
            nonlocal calls
            calls += 1
            woken.set()

        table.watch(asyncio.get_running_loop(), callback)
        with pytest.raises(RuntimeError, match="watched already"):
            table.watch(asyncio.get_running_loop(), callback)
        other = SandboxMounts(table.directory)
        for change in (
            lambda: other.enter(image, "/srv/a", UUID),
            lambda: other.hold(image),
            lambda: other.leave("/srv/a"),
            lambda: other.release(image),
        ):
            woken.clear()
            change()
            await asyncio.wait_for(woken.wait(), DEADLINE)
        await turns()
        assert calls == 4
        other.release(image)  # changes nothing
        (table.directory / "elsewhere").write_bytes(b"")
        (table.directory / "elsewhere").rename(table.directory / "else")
        await turns()
        assert calls == 4
        table.close()
        other.enter(image, "/srv/a", UUID)
        await turns()
        assert calls == 4
        table.close()

    asyncio.run(story())


def test_a_change_shows_before_the_watcher_is_told(table: SandboxMounts, image: str) -> None:
    async def story() -> None:
        assert table.has_changed(), "nobody watches it: it may have"
        table.watch(asyncio.get_running_loop(), lambda: None)
        other = SandboxMounts(table.directory)
        assert not table.has_changed()
        other.enter(image, "/srv/a", UUID)
        assert table.has_changed()
        assert not table.has_changed()
        (table.directory / "elsewhere").write_bytes(b"")
        (table.directory / "elsewhere").rename(table.directory / "else")
        assert not table.has_changed()
        other.leave("/srv/a")
        assert table.has_changed()
        table.close()

    asyncio.run(story())


def test_the_end_of_the_directory_wakes_once_and_does_not_spin(table: SandboxMounts) -> None:
    async def story() -> None:
        woken = asyncio.Event()
        calls = 0

        def callback() -> None:
            nonlocal calls
            calls += 1
            woken.set()

        table.watch(asyncio.get_running_loop(), callback)
        shutil.rmtree(table.directory)
        await asyncio.wait_for(woken.wait(), DEADLINE)
        await turns()
        assert calls == 1
        table.close()

    asyncio.run(story())


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"mounts": [], "held": 1}',
        b'{"mounts": [["a"]], "held": []}',
        b"\xff",
        b"[" * 100_000,
        b'{"mounts": [["u", "d", "m", 1, ["tape", 1, 2]]], "held": []}',
    ],
)
def test_a_damaged_table_is_named_and_kept(table: SandboxMounts, text: bytes) -> None:
    table.directory.mkdir()
    path = table.directory / "mounts"
    path.write_bytes(text)
    for call in (table.mounts, lambda: table.leave("/srv/a"), lambda: table.hold(__file__)):
        with pytest.raises(ConfigurationError) as raised:
            call()
        assert str(path) in str(raised.value)
    assert path.read_bytes() == text


CHURN = """
import sys
from libo2cb.mounts import SandboxMounts
table, image, me = SandboxMounts(sys.argv[1]), sys.argv[2], sys.argv[3]
print("on", flush=True)
turn = 0
while turn != int(sys.argv[4]):
    table.enter(image, f"/srv/{me}/{turn}", "U")
    if turn:
        table.leave(f"/srv/{me}/{turn - 1}")
    turn += 1
"""


def churn(table: SandboxMounts, image: str, name: str, turns: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", CHURN, str(table.directory), image, name, str(turns)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE)


def test_several_processes_lose_nothing_of_each_other(table: SandboxMounts, image: str) -> None:
    running = [churn(table, image, str(n), 60) for n in range(3)]
    for process in running:
        process.communicate(timeout=DEADLINE)
        assert process.returncode == 0
    assert sorted(m.mount_point for m in table.mounts()) == [f"/srv/{n}/59" for n in range(3)]


def test_a_kill_at_any_point_leaves_a_whole_table(table: SandboxMounts, image: str) -> None:
    for n in range(8):
        with churn(table, image, str(n), -1) as process:
            assert process.stdout is not None
            process.stdout.readline()
            # A few changes more each round: the kill falls anywhere in a change.
            try:
                while max((int(Path(m.mount_point).name) for m in table.mounts()), default=-1) <= n:
                    assert process.poll() is None
            finally:
                process.kill()
        left = [m.mount_point for m in table.mounts() if m.mount_point.startswith(f"/srv/{n}/")]
        assert 1 <= len(left) <= 2
        for point in left:
            table.leave(point)  # the lock is free again, and the table can be changed
    assert table.mounts() == []


ENTER = """
import sys
from libo2cb.mounts import SandboxMounts
SandboxMounts(sys.argv[1]).enter(sys.argv[2], "/srv/1", "U")
"""


@pytest.mark.skipif(not shutil.which("strace"), reason="needs strace")
@pytest.mark.parametrize("call", ["openat", "write", "rename", "flock", "close"])
def test_a_kill_at_each_system_call_of_a_change_leaves_old_or_new(table: SandboxMounts, image: str, call: str) -> None:
    table.enter(image, "/srv/0", UUID)
    old = table.mounts()
    new = [*old, Mount(identify(image), "/srv/1", "ocfs2", image)]
    paths = [f"-P{table.directory / n}" for n in ("mounts", "mounts.lock", "mounts.new")]
    trace = ["strace", "-f", "-qq", "-o", "/dev/null", *paths, f"-einject={call}:signal=KILL"]
    done = subprocess.run(
        [*trace, sys.executable, "-c", ENTER, str(table.directory), image], cwd=ROOT, check=False, capture_output=True
    )
    assert done.returncode in {-signal.SIGKILL, 128 + signal.SIGKILL}, done.stderr
    assert table.mounts() in (old, new)
    table.enter(image, "/srv/2", UUID)


def waits_for_a_lock(pid: int) -> bool:
    """Whether the kernel's list of locks shows this process behind another one."""
    lines = [line.split() for line in Path("/proc/locks").read_text(encoding="ascii").splitlines()]
    return any(fields[1] == "->" and fields[5] == str(pid) for fields in lines)


def test_a_change_waits_for_the_lock(table: SandboxMounts, image: str) -> None:
    table.hold(image)
    with (table.directory / "mounts.lock").open("r+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with churn(table, image, "x", 1) as process:
            assert process.stdout is not None
            process.stdout.readline()
            while not waits_for_a_lock(process.pid):
                assert process.poll() is None
            assert table.mounts() == []  # readers wait for nobody
            fcntl.flock(lock, fcntl.LOCK_UN)
            assert process.wait(DEADLINE) == 0
    assert len(table.mounts()) == 1


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    table = SandboxMounts(tmp_path / "file" / "mounts")
    for call in (lambda: table.hold(__file__), table.mounts):
        with pytest.raises(O2cbError) as raised:
            call()
        assert "mounts" in str(raised.value)
