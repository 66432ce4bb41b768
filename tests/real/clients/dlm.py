"""What libdlm looks at to learn the version of the kernel's DLM: /proc/misc, and a read of /dev/misc/dlm-control."""

import struct
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

import pytest

if TYPE_CHECKING:
    from tests.real.clients.lab import ClientNode

_ON: Final = """
mount -t overlay -o lowerdir=/dev,upperdir="$1/.dlm/upper",workdir="$1/.dlm/work" overlay "$1/dev" &&
mount --bind "$1/.dlm/misc" "$1/proc/misc"
"""
_OFF: Final = """
umount "$1/proc/misc"; umount "$1/dev"; rm -rf "$1/.dlm"
"""
_MAKE: Final = """
mkdir -p "$1/.dlm/upper/misc" "$1/.dlm/work" && cp "$2" "$1/.dlm/upper/misc/dlm-control" && cp "$3" "$1/.dlm/misc"
"""


class DlmDevice:
    """Within, the clients of a node find a DLM of this version: two plain files in the place of a device and its entry.

    libdlm compares the device's minor number with the entry, and a plain file's is 0.

    Args:
        node: whose clients.
        major: of the version.
    """

    def __init__(self, node: "ClientNode", major: int) -> None:
        self._node = node
        self._version = struct.pack("=3I", major, 0, 2)

    def __enter__(self) -> Self:
        home = self._node.home.root
        version, misc = home / "dlm-control", home / "misc"
        version.write_bytes(self._version)
        misc.write_text(f"{Path('/proc/misc').read_text()}  0 dlm-control\n")
        self._run(_MAKE, str(version), str(misc)).check_returncode()
        if self._run(_ON).returncode != 0:
            pytest.skip("needs overlayfs, for a /dev/misc of its own")
        return self

    def __exit__(self, *_: object) -> None:
        self._run(_OFF).check_returncode()

    def _run(self, script: str, *arguments: str) -> subprocess.CompletedProcess[bytes]:
        spaces = self._node.spaces
        return subprocess.run(spaces.outside("sh", "-c", script, "dlm", str(spaces.root), *arguments), check=False)
