"""o2cb_controld: keeps the kernel's node tree as the cluster engine says, and never under a link."""

import asyncio
import os
import sys
import uuid
from collections.abc import Sequence
from typing import Final

from libo2cb.config import Config, ConfigError
from libo2cb.engine import choose
from libo2cb.errors import O2cbError
from libo2cb.kernel.choose import choose_heartbeat, choose_kernel, choose_mounts
from libo2cb.locks import LockDirectory
from libo2cb.processes import set_program_name
from libo2cb.service import cli, memory
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
    except O2cbError as error:
        cli.fail(NAME, error.sentence())
    except (ConfigError, PidFileError) as error:
        cli.fail(NAME, error)


def _serve(config: Config) -> int:
    memory.tune()
    kernel = choose_kernel(config)
    origin = Origin(NAME, uuid.uuid4().hex[:8], kernel.boot_id(), config.engine.node or "")
    ring = LineRing(config.status.ring)
    logger = Logger(origin, form=config.log.format, level=config.log.level, ring=ring)
    locks = LockDirectory(config.sockets.run)
    hands = Hands(kernel, choose_mounts(config), locks, choose_heartbeat(config))
    membership = choose.membership(config, NAME)
    try:
        daemon = Daemon(config, Ports(membership, hands, frozenset({0, os.geteuid()})), logger)
        return asyncio.run(memory.level(daemon.run()))
    finally:
        logger.close()


if __name__ == "__main__":
    sys.exit(main())
