"""The homes of a sandbox: where everything lies, and the power of each node.

    DIR/hub.sock hub.jsonl hub.log hub.lock hub.json nodes.json
    DIR/n1/config/controld.toml     the node's configuration
    DIR/n1/kernel/ mounts/          its kernel's tree, its mount table
    DIR/n1/run/                     sockets and locks of its daemons; on (the boot id of a node that is on)
    DIR/n1/run/processes/           one record for each process that a power-off must end
    DIR/n1/log/                     what its daemons write; the journals of kernel and mount table
    DIR/n1/power.lock               exclusive: the power changes; shared: a process registers

What happens in them is in power.py.
"""

import contextlib
import fcntl
import json
import os
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from libo2cb.processes import Process

SUN_PATH: Final = 108
PATIENCE: Final = 10.0
"""Seconds for killed processes to be gone, for a lock to come free, for the hub to answer."""
STEP: Final = 0.005


class SandboxError(Exception):
    """Something in a sandbox cannot be done. Its text says what, why, and what to do."""


@dataclass(frozen=True, slots=True)
class NodeHome:
    """The home of one node.

    Attributes:
        root: DIR/NAME.
    """

    root: Path

    @property
    def name(self) -> str:
        """The node's name."""
        return self.root.name

    @property
    def config(self) -> Path:
        """Its configuration file."""
        return self.root / "config" / "controld.toml"

    @property
    def run(self) -> Path:
        """Its run directory."""
        return self.root / "run"

    @property
    def clients(self) -> Path:
        """The socket of ocfs2_controld."""
        return self.run / "clients.sock"

    @property
    def ordering(self) -> Path:
        """The socket of o2cb_controld."""
        return self.run / "ordering.sock"

    @property
    def mark(self) -> Path:
        """Exists while the node is on; holds its boot id."""
        return self.run / "on"

    @property
    def processes(self) -> Path:
        """The records of its processes."""
        return self.run / "processes"

    @property
    def mounts(self) -> Path:
        """The directory of its mount table."""
        return self.root / "mounts"

    @property
    def log(self) -> Path:
        """The directory of its logs."""
        return self.root / "log"

    def make(self) -> None:
        """Make the directories."""
        for d in (self.config.parent, self.root / "kernel", self.mounts, self.processes, self.log):
            d.mkdir(parents=True, exist_ok=True)


@dataclass(frozen=True, slots=True)
class Sandbox:
    """The directory of a sandbox.

    Attributes:
        root: DIR, absolute.
    """

    root: Path

    @property
    def hub(self) -> Path:
        """The hub's socket."""
        return self.root / "hub.sock"

    @property
    def history(self) -> Path:
        """The hub's history."""
        return self.root / "hub.jsonl"

    @property
    def plan(self) -> Path:
        """What the cluster is made of."""
        return self.root / "nodes.json"

    @property
    def hub_record(self) -> Path:
        """The hub's process."""
        return self.root / "hub.json"

    def node(self, name: str) -> NodeHome:
        """The home of a node, which need not exist."""
        return NodeHome(self.root / name)

    def existing(self, name: str) -> NodeHome:
        """The home of a node.

        Raises:
            SandboxError: there is none.
        """
        names = [p.parent.parent.name for p in sorted(self.root.glob("*/config/controld.toml"))]
        if name not in names:
            have = f"its nodes are {', '.join(names)}" if names else "it has no nodes; make them with: o2cb_sandbox up"
            raise SandboxError(f'the sandbox {self.root} has no node "{name}": {have}')
        return self.node(name)

    def check_room(self, names: Iterable[str]) -> None:
        """Refuse a directory whose sockets would have names that the kernel cannot hold.

        Raises:
            SandboxError: it is too long.
        """
        sockets = [self.hub, *(s for n in names for s in (self.node(n).clients, self.node(n).ordering))]
        longest = max(sockets, key=lambda p: len(os.fsencode(p)))
        excess = len(os.fsencode(longest)) + 1 - SUN_PATH
        if excess > 0:
            raise SandboxError(
                f"the directory {self.root} is {excess} bytes too long: its socket {longest} would not fit into the "
                f"{SUN_PATH} bytes of a Unix socket's name. Use a shorter one: o2cb_sandbox --home /tmp/sandbox up"
            )


@dataclass(frozen=True, slots=True)
class Settings:
    """What `up` writes into each node's configuration.

    Attributes:
        fencing: command (a power-off of the node's home), manual, or none, which is unsafe.
        port: TCP port of the cluster.
        mount: seconds that a MOUNT may wait.
        grace: seconds that a daemon may be away.
        join_delay: seconds that a cluster that starts waits for nodes that it has not seen.
    """

    fencing: str = "command"
    port: int = 7777
    mount: float = 300.0
    grace: float = 30.0
    join_delay: float = 30.0


def write_config(sandbox: Sandbox, name: str, settings: Settings) -> None:
    """Make a node's home and its configuration."""
    node = sandbox.node(name)
    node.make()
    command = [sys.executable, "-m", "libo2cb.sandbox.cli", "--home", str(sandbox.root), "kill"]
    tables: dict[str, dict[str, object]] = {
        "cluster": {"port": settings.port},
        "engine": {"kind": "sandbox", "hub": str(sandbox.hub), "node": name},
        "kernel": {"driver": "sandbox", "root": str(node.root / "kernel")},
        "sockets": {"clients": str(node.clients), "ordering": str(node.ordering), "run": str(node.run)},
        "fencing": {"kind": settings.fencing},
        "log": {"format": "json"},
        "timeouts": {"mount": settings.mount, "grace": settings.grace, "join_delay": settings.join_delay},
    }
    if settings.fencing == "command":
        tables["fencing"] |= {"command": command, "timeout": 20.0}
    lines = ["# Written by o2cb_sandbox up."]
    for table, keys in tables.items():
        # JSON's strings, numbers and lists of strings are TOML's as well.
        lines += ["", f"[{table}]", *(f"{k} = {json.dumps(v, ensure_ascii=False)}" for k, v in keys.items())]
    node.config.write_text("\n".join(lines) + "\n")


def register_process(home: Path, program: str = "client", process: Process | None = None) -> None:
    """Enter a process (default: this one) among those that a power-off of the node ends.

    Every process that acts on behalf of a node and is not one of its daemons does this first. Waits while the node's
    power changes. Records of clients that have ended are removed.

    Args:
        home: the node's home, DIR/NAME.
        program: what it is, for people.
        process: which one.

    Raises:
        SandboxError: the node is off; the caller must not go on.
    """
    node = NodeHome(home)
    with power_lock(node, fcntl.LOCK_SH):
        if not node.mark.exists():
            raise SandboxError(f"node {node.name} is off; switch it on with: o2cb_sandbox start {node.name}")
        who = process or Process.current()
        for path in node.processes.glob("*.json"):
            known = read_record(path)
            if known is not None and not known.alive() and not _leads_session(path):
                path.unlink(missing_ok=True)
        write_record(node.processes / f"{program}-{who.pid}.json", who, program, session=False)


def read_record(path: Path) -> Process | None:
    """The process in a record; None without one."""
    try:
        raw = json.loads(path.read_bytes())
        return Process(int(raw["pid"]), int(raw["started"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _leads_session(path: Path) -> bool:
    """Whether the record is of a daemon: its children may live on in its session, so it is kept until a power-off."""
    try:
        return bool(json.loads(path.read_bytes())["session"])
    except (OSError, ValueError, KeyError, TypeError):
        return False


def write_record(path: Path, process: Process, program: str, *, session: bool) -> None:
    """Record a process. session: it leads a session of its own, whose members go with it."""
    plain = {"pid": process.pid, "started": process.started, "program": program, "session": session}
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    aside.write_text(json.dumps(plain) + "\n")
    aside.replace(path)


@contextlib.contextmanager
def power_lock(node: NodeHome, how: int) -> Iterator[None]:
    """Hold the lock of a node's power.

    Args:
        node: whose.
        how: LOCK_EX to change it, LOCK_SH to rely on it.

    Raises:
        SandboxError: it does not come free.
    """
    deadline = time.monotonic() + 2 * PATIENCE
    with (node.root / "power.lock").open("a") as lock:
        while True:
            try:
                fcntl.flock(lock, how | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise SandboxError(
                        f"the power of node {node.name} has been changing for {2 * PATIENCE:.0f} s; see who does that "
                        f"with: fuser {node.root / 'power.lock'}"
                    ) from None
                time.sleep(STEP)
        yield
