"""Private namespaces for one node: network, System V IPC, and mounts, with the sysfs that the clients look for.

A namespace lives as long as somebody holds it open, here this process and those that it starts. So nothing of it can be
left behind, not even by kill -9.
"""

import ctypes
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

_NEW_IPC: Final = 0x08000000
_NEW_NET: Final = 0x40000000

_SETUP: Final = r"""
set -e
root=$1 sys=$2
mount -t tmpfs -o mode=0755 tmpfs "$root"
for each in /*; do
  name=$root/${each#/}
  if [ -L "$each" ]; then cp -P "$each" "$name"
  elif [ -d "$each" ]; then
    mkdir "$name"
    case $each in /dev|/proc|/sys) mount --rbind "$each" "$name" ;; *) mount --bind "$each" "$name" ;; esac
  fi
done
mkdir "$root/dlm"
mount -t tmpfs tmpfs "$root/dlm"
for each in fs kernel module; do mount --rbind "$sys/$each" "$root/sys/$each"; done
echo ready
read -r go || :
"""


class Namespaces:
    """The namespaces of one node.

    In its mounts a whole root stands in DIR/root: this machine's, with a /dlm, and with /sys/fs, /sys/kernel and
    /sys/module from DIR/sys, which is plain files and the test's to change.

    Args:
        home: DIR.

    Raises:
        OSError: they are not allowed here.
    """

    def __init__(self, home: Path) -> None:
        self.root = home / "root"
        self.sys = home / "sys"
        for directory in (
            self.root,
            self.sys / "fs" / "ocfs2",
            self.sys / "fs" / "o2cb",
            self.sys / "kernel" / "config" / "cluster",
            self.sys / "module" / "ocfs2_dlmfs" / "parameters",
        ):
            directory.mkdir(parents=True)
        script = ("unshare", "--mount", "--net", "--ipc", "sh", "-c", _SETUP, "setup", str(self.root), str(self.sys))
        with subprocess.Popen(script, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as setup:
            assert setup.stdout is not None
            assert setup.stderr is not None
            if setup.stdout.readline() != b"ready\n":
                raise OSError(f"no private namespaces here: {setup.stderr.read().decode().strip()}")
            places = [Path(f"/proc/{setup.pid}/ns/{kind}") for kind in ("mnt", "net", "ipc")]
            self._mnt, self._net, self._ipc = (os.open(p, os.O_RDONLY | os.O_CLOEXEC) for p in places)
            setup.communicate(b"go\n")

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Within, this thread is in the network and the IPC namespace, and what it starts and opens too."""
        kinds = ("net", "ipc")
        before = [os.open(f"/proc/thread-self/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC) for kind in kinds]
        try:
            _enter(self._net, _NEW_NET)
            _enter(self._ipc, _NEW_IPC)
            yield
        finally:
            _enter(before[0], _NEW_NET)
            _enter(before[1], _NEW_IPC)
            for descriptor in before:
                os.close(descriptor)

    def command(self, *command: str) -> list[str]:
        """The command line that runs a command in all of them, as root of DIR/root; it ends with this process."""
        at = f"/proc/{os.getpid()}/fd"
        spaces = (f"--mount={at}/{self._mnt}", f"--net={at}/{self._net}", f"--ipc={at}/{self._ipc}")
        return ["setpriv", "--pdeathsig", "KILL", "nsenter", *spaces, "chroot", str(self.root), *command]

    def outside(self, *command: str) -> list[str]:
        """The command line that runs a command in the mount namespace alone, with this machine's root."""
        return ["nsenter", f"--mount=/proc/{os.getpid()}/fd/{self._mnt}", *command]

    def close(self) -> None:
        """Let go of them."""
        for descriptor in (self._mnt, self._net, self._ipc):
            with suppress(OSError):
                os.close(descriptor)


def _enter(descriptor: int, kind: int) -> None:
    if ctypes.CDLL(None, use_errno=True).setns(descriptor, kind) != 0:
        raise OSError(ctypes.get_errno(), "cannot enter a namespace")
