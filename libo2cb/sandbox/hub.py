"""The hub: the engines of a whole sandbox cluster in one process, behind one Unix socket.

The model (libo2cb.engine.model) decides what happens; the hub gives it processes (a connection's peer is a process,
and the end of the connection its death: exchange.py), time (skew.py), words that change it (control.py), and a memory
(history.py, where the fields of DIR/hub.jsonl are described). What is said on the socket: libo2cb.engine.wire.
"""

import argparse
import asyncio
import fcntl
import sys
from pathlib import Path

from libo2cb.sandbox.connection import Connection
from libo2cb.sandbox.control import Control
from libo2cb.sandbox.exchange import Exchange
from libo2cb.sandbox.history import History
from libo2cb.sandbox.plan import Plan


async def run(home: Path) -> None:
    """Run the hub of a home until it is told to end.

    Raises:
        BlockingIOError: the home has a running hub.
        OSError, ValueError: the home, its plan or its socket cannot be used.
    """
    path, plan_file = home / "hub.sock", home / "nodes.json"
    with (home / "hub.lock").open("w") as lock, History(home / "hub.jsonl") as history:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink(missing_ok=True)
        hub = Exchange(Plan.read(plan_file), history, lambda plan: plan.write(plan_file))
        control = Control(hub)
        loop = asyncio.get_running_loop()

        def connected() -> Connection:
            return Connection(lambda who, message: hub.hear(who, message, control.answer), hub.lost)

        server = await loop.create_unix_server(connected, path)
        path.chmod(0o600)
        await hub.stopped.wait()
        server.close()
        path.unlink(missing_ok=True)
        hub.finish()


def main() -> int:
    """Run `python -m libo2cb.sandbox.hub --home DIR`."""
    parser = argparse.ArgumentParser(prog="o2cb_sandbox_hub", description="The engines of a sandbox cluster.")
    parser.add_argument("--home", type=Path, required=True, help="the sandbox's directory, with nodes.json")
    home = parser.parse_args().home
    try:
        asyncio.run(run(home))
    except BlockingIOError:
        print(f"hub: {home} has a hub already; end it with: o2cb_sandbox --home {home} down", file=sys.stderr)  # noqa: T201 (for people)
        return 1
    except (OSError, ValueError) as error:
        print(f"hub: cannot serve {home}: {error}", file=sys.stderr)  # noqa: T201 (for people)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
