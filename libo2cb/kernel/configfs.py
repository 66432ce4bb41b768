"""The real kernel's cluster tree, in configfs."""

import errno
import os
from pathlib import Path

from libo2cb.kernel.tree import Listed, What

CLUSTER_ROOT = "/sys/kernel/config/cluster"
BOOT_ID = "/proc/sys/kernel/random/boot_id"
SYSRQ_TRIGGER = "/proc/sysrq-trigger"


class RealFs:
    """configfs, as the primitive calls of a TreeKernel.

    Whether the kernel's regions allow links shows only when one is made: EPERM where they do not.

    Args:
        root: the cluster root. ocfs2_nodemanager makes it when it is loaded; until then each call is ENOENT.
        real: whether this process may reset the machine. Only a daemon configured with a real driver and a real
            engine says so; without it power_off is refused with EPERM.
    """

    def __init__(self, root: str = CLUSTER_ROOT, *, real: bool = False) -> None:
        self._root = os.path.normpath(root)
        self._real = real

    def _full(self, path: str) -> str:
        # Text: a thousand regions are listed before a node goes, and a Path would cost more than the calls.
        # An absolute path stays one: as the target of a link it is the kernel's to refuse.
        return os.path.join(self._root, path)  # noqa: PTH118

    def mkdir(self, path: str) -> None:
        """Make a directory; the kernel makes its default files."""
        os.mkdir(self._full(path), mode=0o755)  # noqa: PTH102 (see _full; so below)

    def rmdir(self, path: str) -> None:
        """Remove a directory; the kernel removes its default files."""
        os.rmdir(self._full(path))  # noqa: PTH106

    def symlink(self, target: str, path: str) -> None:
        """Make a link. configfs resolves a relative target from the caller's directory, so it is given absolute."""
        os.symlink(self._full(target), self._full(path))  # noqa: PTH211

    def unlink(self, path: str) -> None:
        """Remove a link. When this returns, the kernel has heard that the node is down here."""
        os.unlink(self._full(path))  # noqa: PTH108

    def read(self, path: str) -> bytes:
        """Content of an attribute."""
        with open(self._full(path), "rb", buffering=0) as file:  # noqa: PTH123
            return file.read()

    def write(self, path: str, value: bytes) -> None:
        """Write an attribute: configfs wants the whole value in one write, also an empty one."""
        fd = os.open(self._full(path), os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, value)
        finally:
            os.close(fd)

    def listdir(self, path: str) -> list[Listed]:
        """What stands in a directory."""
        with os.scandir(self._full(path)) as found:
            return [
                Listed(e.name, What.LINK if e.is_symlink() else What.DIRECTORY if e.is_dir() else What.ATTRIBUTE)
                for e in found
            ]

    def readlink(self, path: str) -> str:
        """Where a link points, as a path below the cluster root; the kernel gives it relative to the link."""
        full = self._full(path)
        target = os.path.normpath(os.path.join(full.rpartition("/")[0], os.readlink(full)))  # noqa: PTH115, PTH118
        inside = f"{self._root}/"
        return target[len(inside) :] if target.startswith(inside) else os.path.relpath(target, self._root)

    def boot_id(self) -> str:
        """The id of this boot."""
        return Path(BOOT_ID).read_text(encoding="ascii").strip()

    def power_off(self, why: str) -> None:
        """Reset the machine at once: no sync, no unmount. Returns only when refused.

        Raises:
            OSError: EPERM unless constructed with real=True; or the kernel's.
        """
        if not self._real:
            raise OSError(errno.EPERM, f"this process may not reset the machine, which was asked for because {why}")
        Path(SYSRQ_TRIGGER).write_bytes(b"b")
