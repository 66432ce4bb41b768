"""The power of a sandbox's nodes: on, off, paused.

A power-off is what fencing in the sandbox relies on: it returns only when every recorded process, named by pid and
start time, with its children, is gone. It may be repeated, also after it was itself killed half-way, and it works
without the hub.
"""

import contextlib
import fcntl
import json
import os
import signal
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

import psutil

from libo2cb.engine.wire import Json
from libo2cb.kernel import sandbox as kernel
from libo2cb.processes import Process
from libo2cb.sandbox.ask import HubAway, HubError, ask
from libo2cb.sandbox.homes import PATIENCE, STEP, NodeHome, Sandbox, SandboxError, power_lock, read_record, write_record
from libo2cb.sandbox.mounts import SandboxMounts
from libo2cb.sandbox.refs import SandboxRefs

_SOURCE: Final = Path(__file__).resolve().parents[2]
# The shell waits until its record is written, or ends with whoever started it; exec keeps pid and start time.
_WHEN_RECORDED: Final = 'read -r go && cd / && exec "$@" </dev/null'


def start(sandbox: Sandbox, name: str, daemons: Sequence[tuple[str, Sequence[str]]], address: str | None = None) -> str:
    """Switch a node on: a new life, its engine, its daemons.

    Args:
        sandbox: where.
        name: the node.
        daemons: name and command line of each, started in this order; their output is appended to log/NAME.jsonl.
        address: the node's address from now on.

    Returns:
        The boot id.

    Raises:
        SandboxError: it is on already, or cannot be started.
        HubError: the hub refuses or is away.
    """
    node = sandbox.existing(name)
    with power_lock(node, fcntl.LOCK_EX):
        if node.mark.exists():
            raise SandboxError(f"node {name} is on already; switch it off first with: o2cb_sandbox kill {name}")
        _end(sandbox, node)  # what a power-off that was itself killed may have left
        if address is not None:
            ask(sandbox.hub, "readdress", node=name, address=address)
        boot = kernel.boot(node.root)
        ask(sandbox.hub, "boot", node=name, boot=boot)
        node.mark.write_text(boot + "\n")
        try:
            ask(sandbox.hub, "engine", node=name, do="start")
            for daemon, command in daemons:
                spawn(command, node.log / f"{daemon}.jsonl", node.processes / f"{daemon}.json", config=node.config)
        except (HubError, SandboxError):
            _end(sandbox, node)
            raise
    return boot


def start_again(sandbox: Sandbox, name: str, daemons: Sequence[tuple[str, Sequence[str]]]) -> list[str]:
    """Start those daemons of a node that have ended, in the same life. Returns their names; none when the node is off.

    Raises:
        SandboxError: one cannot be started.
    """
    node = sandbox.existing(name)
    with power_lock(node, fcntl.LOCK_EX):
        if not node.mark.exists():
            return []
        running = {program for program, _ in living(node)}
        ended = [(daemon, command) for daemon, command in daemons if daemon not in running]
        for daemon, command in ended:
            spawn(command, node.log / f"{daemon}.jsonl", node.processes / f"{daemon}.json", config=node.config)
    return [daemon for daemon, _ in ended]


def power_off(sandbox: Sandbox, name: str, unreceived: Iterable[str] = ()) -> tuple[bool, str]:
    """Switch a node off, and verify it. A node that is off already is verified to be so.

    Args:
        sandbox: where.
        name: the node.
        unreceived: nodes whose last messages the survivors never got.

    Returns:
        Whether it was on, and a remark ("" or what could not be told to the hub).

    Raises:
        SandboxError: some process is still there: the node must be taken for alive.
    """
    node = sandbox.existing(name)
    with power_lock(node, fcntl.LOCK_EX):
        was_on = node.mark.exists() or bool(_records(node))
        remark = _end(sandbox, node, unreceived)
    if Process.current() in (p for _, p in _records(node)):
        os.kill(os.getpid(), signal.SIGKILL)
    return was_on, remark


def pause(sandbox: Sandbox, name: str) -> None:
    """Stop a node for a while: SIGSTOP for all of its processes, and a hung engine."""
    node = sandbox.existing(name)
    with power_lock(node, fcntl.LOCK_EX):
        if not node.mark.exists():
            raise SandboxError(f"node {name} is off; switch it on with: o2cb_sandbox start {name}")
        ask(sandbox.hub, "engine", node=name, do="hang")
        _freeze(node)


def resume(sandbox: Sandbox, name: str) -> None:
    """Let a paused node go on."""
    node = sandbox.existing(name)
    with power_lock(node, fcntl.LOCK_EX):
        ask(sandbox.hub, "engine", node=name, do="resume")
        for process in _family(node):
            process.kill(signal.SIGCONT)


def living(node: NodeHome) -> list[tuple[str, Process]]:
    """The recorded processes of a node that live: (program, process)."""
    return [(r["program"], p) for r, p in _records(node) if p.alive()]


def spawn(command: Sequence[str], log: Path, record: Path, *, config: Path | None = None) -> Process:
    """Start a process in a session of its own, and record it before it does anything.

    Args:
        command: its command line; the program is looked up in PATH.
        log: where its output is appended.
        record: where it is recorded.
        config: for the environment, so that the tools it starts find the same configuration.

    Raises:
        SandboxError: it could not be started.
    """
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (str(_SOURCE), os.environ.get("PYTHONPATH"))))}
    if config is not None:
        environ["OCFS2_CONTROLD_CONFIG"] = str(config)
    log.parent.mkdir(parents=True, exist_ok=True)
    read, write = os.pipe()
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        actions = (
            (os.POSIX_SPAWN_DUP2, read, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(log), flags, 0o600),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        )
        shell = ("/bin/sh", "-c", _WHEN_RECORDED, "sh", *command)
        ignored = (signal.SIGPIPE, signal.SIGXFSZ)  # Python ignores them, and exec would hand that on
        pid = os.posix_spawn("/bin/sh", shell, environ, file_actions=actions, setsid=True, setsigdef=ignored)
        process = Process.of(pid)
        if process is None:
            raise SandboxError(f"{command[0]} ended before it could be recorded; see {log}")
        write_record(record, process, record.stem, session=True)
        os.write(write, b"go\n")
    except OSError as error:
        raise SandboxError(f"cannot start {' '.join(command)}: {error.strerror}") from error
    finally:
        os.close(read)
        os.close(write)
    return process


def end(processes: Iterable[Process]) -> None:
    """Kill processes and wait until they are gone.

    Raises:
        SandboxError: one does not go.
    """
    left = list(processes)
    for process in left:
        process.kill()
    deadline = time.monotonic() + PATIENCE
    while left := [p for p in left if p.alive()]:
        if time.monotonic() > deadline:
            raise SandboxError(
                f"{', '.join(str(p) for p in left)} did not die within {PATIENCE:.0f} s of SIGKILL: the node must be "
                "taken for alive. Look why (ps -o pid,stat,wchan), and try again"
            )
        time.sleep(STEP)


def _end(sandbox: Sandbox, node: NodeHome, unreceived: Iterable[str] = ()) -> str:
    """The power-off itself, under the lock."""
    family = _freeze(node)  # nothing of the node acts from here on
    lived = node.mark.exists() or bool(family)
    remark = _tell(sandbox, "power_off", node=node.name, unreceived=list(unreceived)) if lived else ""
    while family:
        end(family)
        family = _family(node)  # forked while it was being stopped
    if (node.root / "kernel" / "boot_id").exists():
        kernel.clear(node.root)
    SandboxMounts(node.mounts).clear()
    SandboxRefs(node.root).clear()
    if lived:
        remark = _tell(sandbox, "dead", node=node.name) or remark
    node.mark.unlink(missing_ok=True)
    for path in node.processes.glob("*.json"):
        if read_record(path) != Process.current():
            path.unlink()
    return remark


def _tell(sandbox: Sandbox, op: str, **fields: object) -> str:
    try:
        ask(sandbox.hub, op, patience=2.0, **fields)
    except HubAway as error:
        return f"but {error}"
    except HubError as error:
        return f"but the hub refused to take it in: {error}"
    return ""


def _freeze(node: NodeHome) -> set[Process]:
    """Stop all processes of a node, also those that are being forked meanwhile."""
    frozen: set[Process] = set()
    while new := _family(node) - frozen:
        for process in new:
            process.kill(signal.SIGSTOP)
        frozen |= new
    return frozen


def _family(node: NodeHome) -> set[Process]:
    """The living processes of a node: the recorded ones, their children, and the sessions of its daemons; never we."""
    found: set[Process] = set()
    sessions: set[int] = set()
    for record, root in _records(node):
        if root.alive():
            found.add(root)
            with contextlib.suppress(psutil.Error):
                found |= {p for c in psutil.Process(root.pid).children(recursive=True) if (p := Process.of(c.pid))}
        # A session's number is not given to a new process while one of its members lives.
        if record["session"] and Process.of(root.pid) in (None, root):
            sessions.add(root.pid)
    for pid in psutil.pids():
        with contextlib.suppress(OSError):
            if os.getsid(pid) in sessions and (process := Process.of(pid)):
                found.add(process)
    return found - {Process.current()}


def _records(node: NodeHome) -> list[tuple[Json, Process]]:
    result = []
    for path in sorted(node.processes.glob("*.json")):
        process = read_record(path)
        if process is None:
            raise SandboxError(
                f"{path} does not say which process it is of, so node {node.name} cannot be verified to be off; "
                "find that process, end it, and remove the file"
            )
        result.append((json.loads(path.read_bytes()), process))
    return result
