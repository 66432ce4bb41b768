"""o2cb_controld: keeps the kernel's node tree as the cluster engine says, and never under a link."""

import asyncio
import os
import sys
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from libo2cb.config import Config, ConfigError
from libo2cb.engine.sandbox import SandboxMembership
from libo2cb.kernel.sandbox import SandboxFs
from libo2cb.kernel.tree import TreeKernel
from libo2cb.locks import LockDirectory
from libo2cb.processes import set_program_name
from libo2cb.sandbox.mounts import SandboxMounts
from libo2cb.service import cli
from libo2cb.service.logs import Logger, Origin
from libo2cb.service.pidfile import PidFile, PidFileError
from libo2cb.service.ring import LineRing
from o2cb_controld.daemon import Daemon, Ports
from o2cb_controld.hands import Hands

NAME: Final = "o2cb_controld"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the daemon; the exit code."""
    options = cli.parse(NAME, "Keeps the node tree in the kernel as the cluster engine says.", arguments)
    try:
        config = cli.configure(options)
        set_program_name(NAME)
        with PidFile.take(config.sockets.run / f"{NAME}.pid"):
            return _serve(config)
    except (ConfigError, PidFileError) as error:
        cli.fail(NAME, error)


def _serve(config: Config) -> int:
    home = sandbox_home(config)
    kernel = TreeKernel(SandboxFs(home))
    origin = Origin(NAME, uuid.uuid4().hex[:8], kernel.boot_id(), config.engine.node or "")
    ring = LineRing(config.status.ring)
    logger = Logger(origin, form=config.log.format, level=config.log.level, ring=ring)
    hands = Hands(kernel, SandboxMounts(home / "mounts"), LockDirectory(config.sockets.run))
    membership = SandboxMembership(config.engine.hub or "", config.engine.node or "", NAME)
    try:
        return asyncio.run(Daemon(config, Ports(membership, hands, frozenset({0, os.geteuid()})), logger).run())
    finally:
        logger.close()


def sandbox_home(config: Config) -> Path:
    """The node's home in the sandbox: kernel.root is the directory "kernel" in it."""
    return config.kernel.tree.parent


if __name__ == "__main__":
    sys.exit(main())
