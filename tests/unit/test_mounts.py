"""The mount table: the kernel's with real mounts in a namespace of their own."""

import asyncio
import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libo2cb.mounts import (
    Busy,
    DeviceId,
    DeviceKind,
    KernelMounts,
    Mount,
    MountTable,
    NoDevice,
    SandboxMounts,
    identify,
    parse_mountinfo,
)

ROOT = Path(__file__).parents[2]

LINE = rb"36 35 253:16 / /srv/vm\040images\011x\134\012 rw,noatime shared:1 master:2 - ocfs2 /dev/my\040disk rw,_netdev"


def test_a_line_is_read_with_its_escapes_and_optional_fields() -> None:
    mount = Mount(DeviceId(DeviceKind.BLOCK, os.makedev(253, 16)), "/srv/vm images\tx\\\n", "ocfs2", "/dev/my disk")
    assert parse_mountinfo(LINE + b"\n") == [mount]
    assert parse_mountinfo(LINE.replace(b" shared:1 master:2", b"")) == [mount]


def test_only_the_wanted_file_systems_are_read() -> None:
    other = b"22 1 0:20 / /proc/ocfs2 rw shared:5 - proc ocfs2 rw"
    assert parse_mountinfo(b"\n".join([other, LINE, other]))[0].fstype == "ocfs2"
    assert len(parse_mountinfo(b"\n".join([other, LINE, other]))) == 1
    assert [m.fstype for m in parse_mountinfo(b"\n".join([other, LINE]), ["proc"])] == ["proc"]


def test_a_name_may_hold_any_bytes() -> None:
    (mount,) = parse_mountinfo(LINE.replace(b"images", b"\xff\xc3"))
    assert os.fsencode(mount.mount_point) == b"/srv/vm \xff\xc3\tx\\\n"


@given(st.binary(max_size=300) | st.lists(st.sampled_from([*LINE.split(b" "), b"", b"-", b"1:99999999999999999999"])))
def test_any_table_is_read(data: bytes | list[bytes]) -> None:
    text = data if isinstance(data, bytes) else b" ".join(data)
    for mount in parse_mountinfo(text):
        assert mount.fstype == "ocfs2"


def test_the_real_table_is_read() -> None:
    with Path("/proc/self/mountinfo").open("rb") as table:
        fstypes = {line.split(b" - ")[1].split()[0].decode() for line in table}
    found = KernelMounts(fstypes).mounts()
    assert any(m.mount_point == "/proc" for m in found)
    assert {m.fstype for m in found} == fstypes


def test_a_file_and_its_links_are_one_device(tmp_path: Path) -> None:
    image, link, hard, other = (tmp_path / n for n in ("image", "link", "hard", "other"))
    image.write_bytes(b"")
    other.write_bytes(b"")
    link.symlink_to(image)
    hard.hardlink_to(image)
    assert identify(str(image)) == identify(str(link)) == identify(str(hard)) != identify(str(other))
    assert identify(str(image)).kind is DeviceKind.FILE


@pytest.mark.parametrize(
    ("path", "number"),
    [
        ("", errno.ENOENT),
        ("/nowhere/x", errno.ENOENT),
        ("/dev/null", errno.ENOTBLK),
        ("/", errno.ENOTBLK),
        ("a\0", errno.EINVAL),
    ],
)
def test_what_is_no_device_is_refused(path: str, number: int) -> None:
    with pytest.raises(NoDevice) as raised:
        identify(path)
    assert raised.value.errno == number
    assert "cannot be used: " in str(raised.value)
    assert KernelMounts().busy(path) is Busy.UNKNOWN


def test_a_plain_file_cannot_tell(tmp_path: Path) -> None:
    image = tmp_path / "image"
    image.write_bytes(b"")
    assert KernelMounts().busy(str(image)) is Busy.UNKNOWN


# Runs in a mount namespace of its own; says on its standard output what went wrong, or nothing.
WATCH = """
import asyncio, os, subprocess, sys
from libo2cb.mounts import MOUNTINFO, KernelMounts, _changed

async def main(point):
    table = KernelMounts(["tmpfs"])
    calls, woken = 0, asyncio.Event()
    def callback():
        nonlocal calls
        calls += 1
        woken.set()
    def seen():
        return [m.source for m in table.mounts() if m.mount_point == point]
    async def change(*command):
        woken.clear()
        process = await asyncio.create_subprocess_exec(*command)
        assert await process.wait() == 0, command
        await asyncio.wait_for(woken.wait(), 30)
    table.watch(asyncio.get_running_loop(), callback)
    try:
        table.watch(asyncio.get_running_loop(), callback)
    except RuntimeError:
        pass
    else:
        raise AssertionError("watched twice")
    assert seen() == []
    assert not table.has_changed()
    fd = os.open(MOUNTINFO, os.O_RDONLY)
    assert not _changed(fd)
    await change("mount", "-t", "tmpfs", "my source", point)
    assert _changed(fd) and not _changed(fd)
    os.close(fd)
    assert seen() == ["my source"], table.mounts()
    assert table.has_changed() and not table.has_changed()
    subprocess.run(["umount", point], check=True)
    assert table.has_changed() and not table.has_changed(), "the loop had no turn to hear of it"
    assert seen() == []
    woken.clear()
    await asyncio.wait_for(woken.wait(), 30)
    quiet = calls
    for _ in range(200):
        await asyncio.sleep(0)
    assert calls - quiet <= 2, f"spins: {calls - quiet} calls in 200 turns"
    table.close()
    table.close()

asyncio.run(main(sys.argv[1]))
"""

# A real file system on a loop device: in use, then hidden by umount -l, then free.
LAZY = """
import os, subprocess, sys, time
from libo2cb.mounts import Busy, KernelMounts, identify
loop, image, point = sys.argv[1:]
table = KernelMounts(["ext4", "ext3", "ext2"])
def answers():
    return [table.busy(loop), table.busy(image), table.busy(loop, identify(loop)), table.busy(loop, identify(image))]
def mounted():
    return [m for m in table.mounts() if m.device == identify(loop)]
assert answers() == [Busy.FREE] * 3 + [Busy.UNKNOWN], answers()
subprocess.run(["mount", loop, point], check=True)
assert [m.mount_point for m in mounted()] == [point]
assert answers() == [Busy.BUSY] * 3 + [Busy.UNKNOWN], answers()
holder = os.open(point + "/lost+found", os.O_RDONLY)
subprocess.run(["umount", "-l", point], check=True)
assert mounted() == []
assert answers() == [Busy.BUSY] * 3 + [Busy.UNKNOWN], answers()
os.close(holder)
deadline = time.monotonic() + 30
while table.busy(loop) is Busy.BUSY and time.monotonic() < deadline:
    time.sleep(0.01)
assert answers() == [Busy.FREE] * 3 + [Busy.UNKNOWN], answers()
"""


def may_unshare() -> bool:
    tool = shutil.which("unshare")
    return tool is not None and subprocess.run([tool, "-m", "true"], check=False, capture_output=True).returncode == 0


needs_namespace = pytest.mark.skipif(not may_unshare(), reason="needs root and a mount namespace")


def apart(script: str, *arguments: str) -> None:
    done = subprocess.run(
        ["unshare", "-m", "--propagation", "private", sys.executable, "-c", script, *arguments],
        check=False,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr


@needs_namespace
def test_a_change_of_the_real_table_wakes_and_does_not_spin(tmp_path: Path) -> None:
    point = tmp_path / "a b\nc"
    point.mkdir()
    apart(WATCH, str(point))


@pytest.fixture
def loop_device(tmp_path: Path) -> Iterator[tuple[str, str]]:
    image = tmp_path / "a b.img"
    with image.open("wb") as file:
        file.truncate(4 << 20)
    made = subprocess.run(["mkfs.ext4", "-q", "-F", str(image)], check=False, capture_output=True)
    loop = subprocess.run(["losetup", "-f", "--show", str(image)], check=False, capture_output=True, text=True)
    if made.returncode or loop.returncode:
        pytest.skip(f"no loop device here: {loop.stderr}")
    yield loop.stdout.strip(), str(image)
    subprocess.run(["losetup", "-d", loop.stdout.strip()], check=True)


@needs_namespace
@pytest.mark.skipif(not (shutil.which("losetup") and shutil.which("mkfs.ext4")), reason="needs losetup and mkfs.ext4")
def test_a_device_that_no_table_shows_may_still_be_in_use(loop_device: tuple[str, str], tmp_path: Path) -> None:
    point = tmp_path / "point"
    point.mkdir()
    apart(LAZY, *loop_device, str(point))


def test_a_table_may_be_closed_after_its_loop(tmp_path: Path) -> None:
    async def story(port: MountTable) -> None:
        port.watch(asyncio.get_running_loop(), lambda: None)

    ports: list[MountTable] = [SandboxMounts(tmp_path / "mounts"), KernelMounts()]
    for port in ports:
        asyncio.run(story(port))
        port.close()
