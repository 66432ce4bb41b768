"""Volumes made by the real mkfs.ocfs2, in image files and on loop devices."""

import errno
import fcntl
import os
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from libo2cb.superblock import read_superblock
from tests.process.lab import CLUSTER, Volume

_SIZE: Final = 32 << 20
_SMALL: Final = ("-x", "-q", "-b", "4096", "-C", "4096", "-N", "2", "-J", "size=4M")
_GET_FREE: Final = 0x4C82
_CONFIGURE: Final = 0x4C0A
_AUTOCLEAR: Final = 4
_CONFIG: Final = struct.Struct("=I56xI176x64x")
"""struct loop_config: the backing file, and of its struct loop_info64 the flags."""


def make(path: Path, label: str, *, stack: str = "cman", cluster: str = CLUSTER) -> Volume:
    """A new volume in an image file."""
    with path.open("wb") as file:
        file.truncate(_SIZE)
    which = ("--cluster-stack", stack, "--cluster-name", cluster) if stack else ()
    subprocess.run(("mkfs.ocfs2", "--force", *which, *_SMALL, "-L", label, path), check=True, capture_output=True)
    return Volume(path, read_superblock(str(path)).uuid, label)


def formatting(volume: Volume) -> tuple[str, ...]:
    """The options with which mkfs.ocfs2 makes a volume anew as it is."""
    which = ("--cluster-stack=cman", f"--cluster-name={CLUSTER}")
    return (*which, *_SMALL, "-U", volume.uuid, "-L", volume.label)


@contextmanager
def loop(image: Path) -> Iterator[str]:
    """A loop device on an image: its path. It goes with its last descriptor, so with this process at the latest.

    Raises:
        OSError: there are no loop devices here.
    """
    with image.open("r+b") as backing:
        device, descriptor = _attach(backing.fileno())
    try:
        yield device
    finally:
        os.close(descriptor)


def _attach(backing: int) -> tuple[str, int]:
    control = os.open("/dev/loop-control", os.O_RDWR | os.O_CLOEXEC)
    try:
        while True:
            device = f"/dev/loop{fcntl.ioctl(control, _GET_FREE)}"
            descriptor = os.open(device, os.O_RDWR | os.O_CLOEXEC)
            try:
                # In one call with its flags: killed between two, this process would leave the device behind.
                fcntl.ioctl(descriptor, _CONFIGURE, _CONFIG.pack(backing, _AUTOCLEAR))
            except OSError as error:
                os.close(descriptor)
                if error.errno != errno.EBUSY:  # else somebody else was faster
                    raise
                continue
            return device, descriptor
    finally:
        os.close(control)


def loops_work() -> bool:
    """Whether loop devices can be had here."""
    try:
        control = os.open("/dev/loop-control", os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return fcntl.ioctl(control, _GET_FREE) >= 0
    except OSError:
        return False
    finally:
        os.close(control)
