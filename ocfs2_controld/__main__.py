"""ocfs2_controld: keeps the mount groups of this node, and which nodes are alive in each."""

import asyncio
import os
import subprocess
import sys
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from libo2cb.config import Config, ConfigError
from libo2cb.engine.sandbox import SandboxChannel, SandboxMembership
from libo2cb.errors import O2cbError
from libo2cb.kernel.sandbox import SandboxFs
from libo2cb.kernel.tree import TreeKernel
from libo2cb.locks import LockDirectory
from libo2cb.processes import set_program_name
from libo2cb.sandbox.mounts import SandboxMounts
from libo2cb.service import cli
from libo2cb.service.logs import Logger, Origin
from libo2cb.service.pidfile import PidFile, PidFileError
from libo2cb.service.ring import LineRing
from ocfs2_controld.daemon import Daemon, Ports
from ocfs2_controld.devices import SandboxVolumes
from ocfs2_controld.hands import Hands

NAME: Final = "ocfs2_controld"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the daemon; the exit code."""
    purpose = "Joins and leaves the groups of mounted filesystems, and tells the kernel who is alive in each."
    options = cli.parse(NAME, purpose, arguments)
    try:
        config = cli.configure(options)
        set_program_name(NAME)
        with PidFile.take(config.sockets.run / f"{NAME}.pid"):
            return _serve(config)
    except O2cbError as error:
        cli.fail(NAME, error.sentence())
    except (ConfigError, PidFileError, OSError) as error:
        cli.fail(NAME, error)


def _serve(config: Config) -> int:
    home = config.kernel.tree.parent  # kernel.root is the directory "kernel" of the node's home
    kernel = TreeKernel(SandboxFs(home, _power_switch(home)))
    origin = Origin(NAME, uuid.uuid4().hex[:8], kernel.boot_id(), config.engine.node or "")
    ring = LineRing(config.status.ring)
    hub, node = config.engine.hub or "", config.engine.node or ""
    ports = Ports(
        membership=SandboxMembership(hub, node, NAME),
        channel=SandboxChannel(hub, node, NAME),
        hands=Hands(kernel),
        volumes=SandboxVolumes(SandboxMounts(home / "mounts")),
        locks=LockDirectory(config.sockets.run),
        trusted=frozenset({0, os.geteuid()}),
    )
    logger = Logger(origin, form=config.log.format, level=config.log.level, ring=ring)
    try:
        return asyncio.run(Daemon(config, ports, logger).run())
    finally:
        logger.close()


def _power_switch(home: Path) -> Callable[[str], None]:
    """What powers the node of this home off: a command in a session of its own, since this process ends by it."""
    command = (sys.executable, "-m", "libo2cb.sandbox.cli", "--home", str(home.parent), "kill", home.name)

    def switch(_why: str) -> None:
        subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)  # noqa: S603 (our own command)

    return switch


if __name__ == "__main__":
    sys.exit(main())
