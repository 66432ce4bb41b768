"""A process for `tests.bench`: both daemons over an engine and a kernel in the same process, and a bare echo server.

`python -m tests.bench.serving DIR` serves until its standard input ends, and says "ready" once the daemons are. Each
part is what the daemons run, but for what is behind the ports; the log goes to a file, as JSON.
"""

import asyncio
import os
import sys
from pathlib import Path

from libo2cb.config import parse
from libo2cb.engine.model import Cluster
from libo2cb.engine.port import ConfiguredNode
from libo2cb.locks import LockDirectory
from libo2cb.sandbox.mounts import SandboxMounts
from libo2cb.service.logs import Logger, Origin
from o2cb_controld import daemon as o2cb
from o2cb_controld.hands import Hands as O2cbHands
from ocfs2_controld import daemon as ocfs2
from ocfs2_controld.devices import SandboxVolumes
from ocfs2_controld.hands import Hands
from tests.bench.inside import CLUSTER, Channel, Engine, Kernel, Membership

O2CB, OCFS2 = "o2cb_controld", "ocfs2_controld"
CONFIG = """
[engine]
kind = "sandbox"
hub = "{home}/hub"
node = "n1"
[kernel]
driver = "sandbox"
root = "{home}/kernel"
[sockets]
ordering = "{home}/o.sock"
clients = "{home}/c.sock"
run = "{home}/run"
[fencing]
command = ["/bin/true"]
[log]
format = "json"
"""


class Echo(asyncio.Protocol):
    """The floor: sends back what comes, and decides nothing."""

    transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Somebody connected."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """Back."""
        self.transport.write(data)


async def serve(home: Path) -> None:
    """Until standard input ends."""
    loop = asyncio.get_running_loop()
    (home / "run").mkdir()
    (home / "mounts").mkdir()
    config = parse(CONFIG.format(home=home))
    cluster = Cluster([ConfiguredNode(1, "n1", "10.0.0.1")], name=CLUSTER)
    cluster.start_engine(1)
    engine, kernel, mounts = Engine(loop, cluster, 1), Kernel(), SandboxMounts(home / "mounts")
    log = os.open(home / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    loggers = [Logger(Origin(name, "1", "b1", "n1"), form="json", descriptor=log) for name in (O2CB, OCFS2)]
    locks, trusted = LockDirectory(home / "run"), frozenset({0, os.geteuid()})
    nodes = o2cb.Daemon(
        config, o2cb.Ports(Membership(engine, O2CB), O2cbHands(kernel, mounts, locks), trusted), loggers[0]
    )
    groups = ocfs2.Daemon(
        config,
        ocfs2.Ports(
            membership=Membership(engine, OCFS2),
            channel=Channel(engine, OCFS2, os.getpid()),
            hands=Hands(kernel),
            volumes=SandboxVolumes(mounts),
            locks=locks,
            trusted=trusted,
        ),
        loggers[1],
    )
    echo = await loop.create_unix_server(Echo, str(home / "e.sock"))
    ended = asyncio.Event()
    loop.add_reader(0, ended.set)
    running = [loop.create_task(each.run()) for each in (nodes, groups)]
    waiting = loop.create_task(ended.wait())
    done, _ = await asyncio.wait([waiting, *running], return_when=asyncio.FIRST_COMPLETED)
    if waiting not in done:
        sys.exit("a daemon ended; see its log")
    echo.close()
    os._exit(0)  # what was measured needs no good end


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1])))
