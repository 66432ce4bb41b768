"""Which kernel and which mount table the configuration names: nothing is guessed."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeAlias

from libo2cb.config import Config
from libo2cb.kernel.alive import DiskHeartbeat
from libo2cb.kernel.configfs import RealFs
from libo2cb.kernel.sandbox import SandboxFs
from libo2cb.kernel.tree import TreeKernel
from libo2cb.mounts import KernelMounts
from libo2cb.sandbox.mounts import SandboxMounts
from libo2cb.sandbox.refs import SandboxRefs
from libo2cb.semaphores import RegionRefs, RegionSemaphores

Mounts: TypeAlias = KernelMounts | SandboxMounts

_CLUSTERS: Final = "cluster"
"""The directory that ocfs2_nodemanager registers in configfs."""


def choose_kernel(config: Config, *, may_reset: bool = False) -> TreeKernel:
    """The kernel's cluster tree: a real one with the drivers links and classic, the home's with sandbox.

    Args:
        config: the configuration.
        may_reset: whether power_off shall work. A machine is reset only when a real engine has said who is alive: a
            real driver under the sandbox's engine refuses it with EPERM. In the sandbox the node's home is powered off.
    """
    if config.kernel.driver == "sandbox":
        home = sandbox_home(config)
        return TreeKernel(SandboxFs(home, _power_switch(home) if may_reset else None))
    real = may_reset and config.engine.kind == "corosync"
    return TreeKernel(RealFs(str(config.kernel.tree / _CLUSTERS), real=real))


def choose_mounts(config: Config) -> Mounts:
    """The mount table that belongs to that kernel."""
    return SandboxMounts(sandbox_home(config) / "mounts") if config.kernel.driver == "sandbox" else KernelMounts()


def choose_refs(config: Config) -> RegionRefs:
    """The reference counts of that kernel's regions: semaphores, or in the sandbox the home's."""
    return SandboxRefs(sandbox_home(config)) if config.kernel.driver == "sandbox" else RegionSemaphores()


def choose_heartbeat(config: Config) -> DiskHeartbeat | None:
    """Who tells which nodes beat on disk, with the classic driver; None where links say who lives."""
    return DiskHeartbeat() if config.kernel.driver == "classic" else None


def sandbox_home(config: Config) -> Path:
    """The node's home with the driver sandbox: kernel.root is the directory "kernel" in it."""
    return config.kernel.tree.parent


def _power_switch(home: Path) -> Callable[[str], None]:
    """What powers the node of this home off: a command in a session of its own, since this process ends by it."""
    command = (sys.executable, "-m", "libo2cb.sandbox.cli", "--home", str(home.parent), "kill", home.name)

    def switch(_why: str) -> None:
        # Its words are for people; this process's output is a log, of which other programs read each line.
        silent = subprocess.DEVNULL
        subprocess.Popen(command, stdin=silent, stdout=silent, start_new_session=True)  # noqa: S603 (our own command)

    return switch
