"""A real hub process on a temporary home, for any test that needs an engine."""

import asyncio
import json
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from libo2cb.engine.wire import Json
from libo2cb.sandbox.ask import HubAway, ask
from libo2cb.sandbox.plan import Plan

PATIENCE = 30.0


@dataclass(frozen=True, slots=True)
class RunningHub:
    """A hub that runs.

    Attributes:
        home: its directory.
        process: itself.
    """

    home: Path
    process: asyncio.subprocess.Process

    @property
    def path(self) -> str:
        """The hub's socket."""
        return str(self.home / "hub.sock")

    async def ask(self, op: str, **fields: object) -> Json:
        """Say a control word without blocking the loop."""
        return await asyncio.to_thread(ask, self.home / "hub.sock", op, patience=PATIENCE, **fields)

    def history(self) -> list[Json]:
        """What the hub wrote down so far."""
        return [json.loads(line) for line in (self.home / "hub.jsonl").read_bytes().splitlines()]


async def start_hub(home: Path) -> RunningHub:
    """Start a hub on a home that has its plan, and wait until it answers."""
    command = (sys.executable, "-m", "libo2cb.sandbox.hub", "--home", str(home))
    hub = RunningHub(home, await asyncio.create_subprocess_exec(*command))
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                await hub.ask("status")
            except HubAway:
                assert hub.process.returncode is None, "the hub ended"
                await asyncio.sleep(0.01)
            else:
                return hub


@asynccontextmanager
async def running_hub(
    nodes: int = 3, *, seed: int = 0, two_node: bool = False, engines: bool = True
) -> AsyncIterator[RunningHub]:
    """A hub with n1, n2, ..., whose engines run, or do not yet; gone with its home at the end."""
    # pytest's own directories are too long for a Unix socket's name.
    home = Path(tempfile.mkdtemp(prefix="hub"))
    try:
        Plan.of(nodes, seed=seed, two_node=two_node).write(home / "nodes.json")
        hub = await start_hub(home)
        try:
            if engines:
                for i in range(1, nodes + 1):
                    await hub.ask("engine", node=f"n{i}", do="start")
            yield hub
        finally:
            if hub.process.returncode is None:
                hub.process.kill()
            await hub.process.wait()
    finally:
        shutil.rmtree(home)
