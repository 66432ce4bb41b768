"""ocfs2_controld: keeps the mount groups of this node, and which nodes are alive in each."""

import asyncio
import os
import sys
import uuid
from collections.abc import Sequence
from typing import Final

from libo2cb.config import Config, ConfigError
from libo2cb.engine import choose
from libo2cb.errors import O2cbError
from libo2cb.kernel.choose import choose_kernel, choose_mounts, choose_refs
from libo2cb.kernel.links import LinksProbe
from libo2cb.locks import LockDirectory
from libo2cb.processes import set_program_name
from libo2cb.service import cli, memory
from libo2cb.service.logs import Logger, Origin
from libo2cb.service.notify import notify
from libo2cb.service.pidfile import PidFile, PidFileError
from libo2cb.service.ring import LineRing
from ocfs2_controld.daemon import Daemon, Ports
from ocfs2_controld.devices import volumes_of
from ocfs2_controld.hands import Hands

NAME: Final = "ocfs2_controld"
NOT_NEEDED: Final = 3
"""Exit code: this driver has no use for the daemon. The unit takes it for success, and does not start it again."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the daemon; the exit code."""
    purpose = "Joins and leaves the groups of mounted filesystems, and tells the kernel who is alive in each."
    options = cli.parse(NAME, purpose, arguments)
    try:
        config = cli.configure(options)
        set_program_name(NAME)
        if config.kernel.driver == "classic":
            return _not_needed()
        with PidFile.take(config.sockets.run / f"{NAME}.pid"):
            return _serve(config)
    except O2cbError as error:
        cli.fail(NAME, error.sentence())
    except (ConfigError, PidFileError, OSError) as error:
        cli.fail(NAME, error)


def _not_needed() -> int:
    """With disk heartbeat the kernels alone say who is alive, and no mount asks a daemon: there is nothing to do here.

    The service manager hears READY all the same: a unit that ends before is a failed one.
    """
    why = "kernel.driver is classic: mounts ask no daemon, and o2cb_controld alone keeps the nodes"
    notify("READY=1", f"STATUS=not needed: {why}")
    sys.stderr.write(f"{NAME}: not needed: {why}\n")
    return NOT_NEEDED


def _serve(config: Config) -> int:
    memory.tune()
    kernel = choose_kernel(config, may_reset=True)
    origin = Origin(NAME, uuid.uuid4().hex[:8], kernel.boot_id(), config.engine.node or "")
    ring = LineRing(config.status.ring)
    ports = Ports(
        membership=choose.membership(config, NAME),
        channel=choose.channel(config, NAME),
        hands=Hands(kernel),
        volumes=volumes_of(choose_mounts(config)),
        locks=LockDirectory(config.sockets.run),
        refs=choose_refs(config),
        trusted=frozenset({0, os.geteuid()}),
        refusal=LinksProbe(kernel).refusal if config.kernel.driver == "links" else lambda: None,
    )
    logger = Logger(origin, form=config.log.format, level=config.log.level, ring=ring)
    try:
        return asyncio.run(memory.level(Daemon(config, ports, logger).run()))
    finally:
        logger.close()


if __name__ == "__main__":
    sys.exit(main())
