"""The superblock reader: against mkfs.ocfs2 and debugfs.ocfs2 where they are installed, and against hostile images."""

import errno
import io
import os
import re
import shlex
import shutil
import stat
import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from libo2cb.superblock import (
    BLOCK_SIZES,
    READ_BYTES,
    Corrupt,
    HeartbeatDevice,
    NotOcfs2,
    OldOcfs,
    Superblock,
    SuperblockError,
    Truncated,
    Unreadable,
    parse_superblock,
    read_superblock,
    relabel_command,
    relabel_offline_command,
)
from libo2cb.verbose import ocfs2_set_verbose

DATA = Path(__file__).parents[1] / "data" / "ocfs2-cman.img"
IMAGE = DATA.read_bytes()
AT = 2 * 4096
EXPECTED = Superblock(
    uuid="88F01F12DEBF421BAD7206A702A50BB2",
    label="demo",
    block_size=4096,
    cluster_size=4096,
    slots=4,
    stack="cman",
    cluster="demo",
    global_heartbeat=False,
)

needs_mkfs = pytest.mark.skipif(
    not (shutil.which("mkfs.ocfs2") and shutil.which("debugfs.ocfs2")), reason="ocfs2-tools are not installed"
)


def patched(offset: int, piece: bytes) -> bytes:
    """The image with a piece of its superblock replaced."""
    at = AT + offset
    return IMAGE[:at] + piece + IMAGE[at + len(piece) :]


def test_the_checked_in_image_is_read_as_mkfs_made_it() -> None:
    assert read_superblock(DATA) == EXPECTED
    assert len(IMAGE) == READ_BYTES


def test_the_sandbox_has_the_same_image() -> None:
    assert (Path(__file__).parents[2] / "libo2cb" / "sandbox" / "volume.img").read_bytes() == IMAGE


def make(path: Path, *options: str, journal: int = 4) -> Path:
    with path.open("wb") as image:
        image.truncate(256 << 20)
    subprocess.run(
        ["mkfs.ocfs2", "--force", "-x", "-q", "-J", f"size={journal}M", *options, str(path)],
        check=True,
        stdin=subprocess.DEVNULL,
        capture_output=True,
    )
    return path


def stats(path: Path) -> dict[str, str]:
    """What debugfs.ocfs2 says of the image. It cannot open a path with a blank."""
    said = subprocess.run(["debugfs.ocfs2", "-R", "stats", str(path)], check=True, capture_output=True).stdout
    text = os.fsdecode(said)

    def find(pattern: str) -> str:
        found = re.search(pattern, text, re.MULTILINE)
        return found.group(1) if found else ""

    return {
        "uuid": find(r"^\tUUID: (\S+)"),
        "label": find(r"^\tLabel: (.*)$"),
        "block_bits": find(r"Block Size Bits: (\d+)"),
        "cluster_bits": find(r"Cluster Size Bits: (\d+)"),
        "slots": find(r"Max Node Slots: (\d+)"),
        "stack": find(r"^\tCluster stack: (.*)$"),
        "cluster": find(r"^\tCluster name: (.*)$"),
        "flags": find(r"^\tCluster flags: (\d+)"),
    }


@needs_mkfs
@pytest.mark.parametrize(
    ("sizes", "slots", "label", "stack"),
    [
        ((512, 4096), 1, "", ["--cluster-stack=cman", "--cluster-name=demo"]),
        ((1024, 8192), 2, "two words", ["--cluster-stack=pcmk", "--cluster-name=sixteen-bytes-16"]),
        ((2048, 65536), 3, "  größer ☃", ["--cluster-stack=o2cb", "--cluster-name=abc"]),
        ((4096, 1048576), 2, "x" * 63, ["--cluster-stack=o2cb", "--cluster-name=abc", "--global-heartbeat"]),
        ((4096, 4096), 1, "classic", []),
    ],
)
def test_what_mkfs_made_is_read_as_debugfs_reads_it(
    tmp_path: Path, sizes: tuple[int, int], slots: int, label: str, stack: list[str]
) -> None:
    block, cluster = sizes
    image = make(
        tmp_path / "plain.img",
        "-b",
        str(block),
        "-C",
        str(cluster),
        "-N",
        str(slots),
        "-L",
        label,
        *stack,
        journal=4 if cluster < 1 << 20 else 16,
    )
    read = read_superblock(image)
    theirs = stats(image)
    assert read.uuid == theirs["uuid"]
    assert read.label == theirs["label"] == label
    assert read.block_size == 1 << int(theirs["block_bits"]) == block
    assert read.cluster_size == 1 << int(theirs["cluster_bits"]) == cluster
    assert read.slots == int(theirs["slots"]) == slots
    assert read.stack == theirs["stack"].removeprefix("classic ")
    assert read.cluster == theirs["cluster"]
    assert read.global_heartbeat == bool(int(theirs["flags"]) & 1)
    assert not read.local
    with image.open("rb") as whole:
        assert parse_superblock(whole.read(READ_BYTES)) == read


@needs_mkfs
def test_a_local_volume_names_no_stack(tmp_path: Path) -> None:
    read = read_superblock(make(tmp_path / "local.img", "-M", "local", "-b", "4096", "-C", "4096", "-N", "1"))
    assert (read.stack, read.cluster, read.local) == ("", "", True)


@needs_mkfs
@pytest.mark.skipif(not shutil.which("o2cluster"), reason="ocfs2-tools are not installed")
def test_the_offline_line_relabels_a_volume(tmp_path: Path) -> None:
    image = make(tmp_path / "a b.img", "-b", "4096")
    line = relabel_offline_command(str(image), "cman", "demo")
    program, *arguments = shlex.split(line)
    subprocess.run([program, "-y", *arguments], check=True, capture_output=True)
    assert (read_superblock(image).stack, read_superblock(image).cluster) == ("cman", "demo")


def test_the_line_that_relabels_quotes_its_device() -> None:
    assert relabel_command("/dev/a b") == "tunefs.ocfs2 --update-cluster-stack '/dev/a b'"


@pytest.mark.parametrize(
    ("image", "kind", "words"),
    [
        (b"", Truncated, "it has 0 bytes"),
        (b"\0" * 1535, Truncated, "it has 1535 bytes"),
        (b"\0" * 1536, NotOcfs2, "is no OCFS2 volume"),
        (b"\x53\xef" * 8192, NotOcfs2, "is no OCFS2 volume"),
        (IMAGE[:-1], Truncated, "1 bytes early"),
        (IMAGE[: AT + 8], Truncated, "4088 bytes early"),
        (patched(0, b"OCFSV1"), NotOcfs2, "is no OCFS2 volume"),
        (b"\0" * 8 + b"OracleCFS" + b"\0" * 9000, OldOcfs, "OCFS release 1"),
        (patched(0xE0, b"\x02\0\0\0"), HeartbeatDevice, "global heartbeats"),
        (patched(0x50, b"\x03"), Corrupt, "it calls itself block 3"),
        (patched(0xC2, b"\x5b"), Corrupt, "revision is 0.91"),
        (patched(0xF8, b"\x0b"), Corrupt, "2^11"),
        (patched(0xF8, b"\xff\xff\xff\xff"), Corrupt, "2^4294967295"),
        (patched(0xFC, b"\x0b"), Corrupt, "cluster size is 2^11"),
        (patched(0xFC, b"\x15"), Corrupt, "cluster size is 2^21"),
        (patched(0x100, b"\0\0"), Corrupt, "0 node slots"),
        (patched(0x100, b"\0\1"), Corrupt, "256 node slots"),
        (patched(0xE8, b"\0" * 8), Corrupt, "no root or no system directory"),
        (patched(0x160, b"c\0an"), Corrupt, "not four letters or digits"),
        (patched(0x160, "ümn".encode()), Corrupt, "not four letters or digits"),
    ],
)
def test_anything_else_is_refused_with_its_reason(image: bytes, kind: type[SuperblockError], words: str) -> None:
    with pytest.raises(kind) as raised:
        parse_superblock(image, "img")
    assert words in str(raised.value)
    assert str(raised.value).startswith("img ")
    assert raised.value.path == "img"


def test_an_old_superblock_of_another_block_size_does_not_hide_the_true_one() -> None:
    stale = IMAGE[AT : AT + 512]
    assert parse_superblock(IMAGE[:1024] + stale + IMAGE[1536:]) == EXPECTED
    # Where nothing better follows, it is the answer.
    with pytest.raises(Corrupt):
        parse_superblock(IMAGE[:1024] + stale + b"\0" * READ_BYTES)


def test_names_end_at_their_nul_whatever_lies_behind() -> None:
    assert parse_superblock(patched(0x168, b"abc\0\5rubbish")).cluster == "abc"
    assert parse_superblock(patched(0x110, b"\xff\xfe\0x")).label == os.fsdecode(b"\xff\xfe")


@pytest.mark.parametrize("kind", ["missing", "directory", "fifo", "null", "char", "loop"])
def test_what_is_no_volume_is_refused_and_never_waited_for(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x"
    if kind == "directory":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "loop":
        path.symlink_to(path)
    named = {"char": "/dev/null", "null": "a\0b"}.get(kind, str(path))
    with pytest.raises(Unreadable) as raised:
        read_superblock(named)
    assert str(raised.value).isprintable()
    if kind == "missing":
        assert isinstance(raised.value.__cause__, OSError)
        assert "ENOENT" in str(raised.value)


@pytest.mark.skipif(os.geteuid() != 0, reason="makes a device node")
def test_a_device_without_a_driver_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "none"
    try:
        os.mknod(path, stat.S_IFBLK | 0o600, os.makedev(60, 7))  # 60 to 63: for local use, no driver
    except PermissionError:
        pytest.skip("this root may not make device nodes")
    with pytest.raises(Unreadable) as raised:
        read_superblock(path)
    assert isinstance(raised.value.__cause__, OSError)
    assert raised.value.__cause__.errno in {errno.ENXIO, errno.EPERM, errno.EACCES}


def test_reading_is_told() -> None:
    stream = io.StringIO()
    ocfs2_set_verbose(stream)
    try:
        read_superblock(DATA)
    finally:
        ocfs2_set_verbose(None)
    assert [line.split("(")[0] for line in stream.getvalue().splitlines()] == ["ocfs2: open", "ocfs2: pread"]
    assert stream.getvalue().endswith("= 12288\n")


@settings(max_examples=300)
@given(st.lists(st.tuples(st.integers(0, 0x1C0), st.binary(min_size=1, max_size=16)), max_size=6), st.integers(0, 2))
@example([(0xF8, b"\xff" * 16)], 0)
def test_a_mutated_superblock_is_read_or_refused(changes: list[tuple[int, bytes]], cut: int) -> None:
    image = bytearray(IMAGE)
    for offset, piece in changes:
        image[AT + offset : AT + offset + len(piece)] = piece
    data = bytes(image[: len(image) - cut])
    try:
        read = parse_superblock(data)
    except SuperblockError:
        return
    assert read.block_size in BLOCK_SIZES
    assert 4096 <= read.cluster_size <= 1 << 20
    assert 1 <= read.slots <= 255
    assert len(read.stack) in {0, 4}
    assert len(os.fsencode(read.cluster)) <= 16
    assert len(os.fsencode(read.label)) <= 64
    assert struct.unpack_from("<I", data, AT + 0xF8) == (12,)


@given(st.binary(max_size=4096), st.sampled_from(BLOCK_SIZES))
def test_rubbish_behind_a_signature_is_refused(rubbish: bytes, size: int) -> None:
    with pytest.raises(SuperblockError):
        parse_superblock(b"\0" * 2 * size + b"OCFSV2\0\0" + rubbish)
