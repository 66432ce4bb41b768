"""Classic volumes: the shared disk, formatted for o2cb, and mounted by several guests with Debian's own mount.ocfs2.

Heartbeat is on that disk, by the kernels; the nodes are what o2cb_controld has put in from corosync's nodelist. The
kernels' timeouts are shortened before the first mount, on all nodes alike. When all goes on too slowly a kernel resets
its machine, so they are no shorter than a busy host needs.
"""

import os
import subprocess
from dataclasses import dataclass
from typing import Final

from tests.real.vm.corosync import NAME, TREE, Cluster
from tests.real.vm.guest import Done
from tests.real.vm.lab import DISK_BYTES

DEVICE: Final = "/dev/vda"
POINT: Final = "/run/o2"
DEAD_THRESHOLD: Final = 11
"""Beats, of 2 s each: a kernel that writes none for 20 s resets itself, and is dead for the others after 22 s."""
IDLE_MS: Final = 15000
"""After so long without a word a connection of o2net is given up."""


@dataclass(frozen=True, slots=True)
class Classic:
    """The volume on the disk of a cluster's guests.

    Attributes:
        cluster: the guests.
    """

    cluster: Cluster

    def make(self) -> None:
        """Empty the disk and format it. It must be mounted nowhere."""
        disk = self.cluster.lab.disk
        for size in (0, DISK_BYTES):  # mkfs asks before it overwrites a volume, also with -F
            os.truncate(disk, size)
        label = ("--cluster-stack=o2cb", f"--cluster-name={NAME}")
        make = ("mkfs.ocfs2", "-F", "-q", "-b", "4096", "-C", "4096", "-N", "4", "-J", "size=4M", *label)
        done = subprocess.run((*make, str(disk)), check=False, capture_output=True, text=True, stdin=subprocess.DEVNULL)
        assert done.returncode == 0, done

    def shorten(self, number: int) -> None:
        """Set a kernel's timeouts. o2cb_controld has made the cluster, and nothing is mounted."""
        at = f"{TREE}/{NAME}"
        self.cluster.run(number, f"echo {DEAD_THRESHOLD} >{at}/heartbeat/dead_threshold").worked()
        self.cluster.run(number, f"echo {IDLE_MS} >{at}/idle_timeout_ms").worked()

    def mount(self, number: int) -> Done:
        """Mount it, by Debian's mount.ocfs2, which first has the kernel beat on the disk."""
        done = self.cluster.run(number, f"mkdir -p {POINT} && /sbin/mount.ocfs2 {DEVICE} {POINT}")
        done.worked()
        print(f"n{number}: mount.ocfs2 took {done.seconds:.1f} s")
        return done

    def umount(self, number: int) -> Done:
        """Undo the mount. The call waits for the kernel's own ocfs2_hb_ctl, which ends the heartbeat."""
        done = self.cluster.run(number, f"umount -i {POINT}")
        done.worked()
        print(f"n{number}: umount took {done.seconds:.1f} s")
        assert not self.regions(number), "the heartbeat has ended with umount(2)"
        return done

    def regions(self, number: int) -> list[str]:
        """The heartbeat regions of a node's kernel."""
        return self.cluster.run(number, f"ls -d {TREE}/{NAME}/heartbeat/*/ 2>/dev/null || true").worked().split()

    def trees(self, *numbers: int) -> list[dict[str, str]]:
        """The nodes in these nodes' kernels."""
        return self.cluster.each(self.cluster.tree, numbers)

    def beats(self, number: int) -> list[int]:
        """Whose heartbeat a kernel sees on the disk."""
        said = self.cluster.run(number, "cat /sys/kernel/debug/o2hb/livenodes").worked()
        return [int(node) for node in said.split()]

    def write(self, number: int, name: str, text: str) -> None:
        """Write a file to the disk."""
        self.cluster.run(number, f"printf %s {text} >{POINT}/{name} && sync {POINT}/{name}").worked()

    def read(self, number: int, name: str) -> str:
        """Read a file; this waits while the lock of a dead node is not recovered."""
        return self.cluster.run(number, f"cat {POINT}/{name}").worked()

    def cut(self, *numbers: int) -> None:
        """Lose all that these nodes send to each other; their beats on the disk go on."""
        for number in numbers:
            self.cluster.run(number, "modprobe sch_netem && tc qdisc add dev eth0 root netem loss 100%").worked()

    def check(self) -> None:
        """See that the volume, which is mounted nowhere, is without fault."""
        check = ("fsck.ocfs2", "-n", "-f", str(self.cluster.lab.disk))
        done = subprocess.run(check, check=False, capture_output=True, text=True, stdin=subprocess.DEVNULL)
        assert done.returncode == 0, done
        assert "All passes succeeded" in done.stdout, done.stdout
