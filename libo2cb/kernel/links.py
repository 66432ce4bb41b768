"""Whether the regions of this kernel take links, found out without making one.

Stock kernels refuse heartbeat links with EPERM: a region item allows none. configfs asks that first, and only then
looks for the link's target. So a link to nothing, in a region of our own, is refused with EPERM where no link can ever
be made, and with ENOENT where one can: neither changes anything, and no heartbeat callback runs.
"""

import contextlib
import errno
import threading
from typing import Final

from libo2cb.errors import AlreadyThere, KernelRefusal
from libo2cb.kernel.port import KernelPort

PROBE: Final = "controld_links_probe"
"""The region that stands for the time of three calls. No UUID is called that."""
NOBODY: Final = "n" * 65
"""No node can have this name: 64 bytes is the kernel's limit."""

WHY_NOT: Final = (
    "this kernel refuses heartbeat links (EPERM), and kernel.driver is links: use a kernel whose regions take them, or"
    ' say kernel.driver = "classic" and relabel the volume for disk heartbeat (docs/real-cluster.md)'
)
"""For an operator: what a kernel without links means."""


def takes_links(kernel: KernelPort, cluster: str) -> bool:
    """Whether a node can be linked into a region here. One at a time, and while no probe of another process runs.

    Raises:
        KernelRefusal: it cannot be found out: the cluster does not stand, or the kernel has no room.
    """
    # It stands already when a probe was killed before it had removed it.
    with contextlib.suppress(AlreadyThere):
        kernel.create_region(cluster, PROBE)
    try:
        kernel.link(cluster, PROBE, NOBODY)
    except KernelRefusal as refusal:
        if refusal.errno not in {errno.EPERM, errno.ENOENT}:
            raise
        return refusal.errno == errno.ENOENT
    else:
        kernel.unlink(cluster, PROBE, NOBODY)  # a tree that is no configfs
        return True
    finally:
        kernel.remove_region(cluster, PROBE)


class LinksProbe:
    """Asks, and asks again: without a mount the module can be replaced by one that takes links. From any thread.

    Args:
        kernel: the kernel.
    """

    def __init__(self, kernel: KernelPort) -> None:
        self._kernel = kernel
        self._one = threading.Lock()  # all share one region

    def refusal(self) -> tuple[int, str] | None:
        """Why no filesystem can be mounted by this kernel, as errno and sentence; None where that cannot be said."""
        try:
            with self._one:
                refused = any(not takes_links(self._kernel, cluster) for cluster in self._kernel.clusters())
        except KernelRefusal:
            return None
        return (errno.EPERM, WHY_NOT) if refused else None
