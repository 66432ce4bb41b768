"""`o2cb_sandbox`: a whole cluster on this machine, with the real daemons, without root."""

import argparse
import fcntl
import json
import os
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Final, TextIO

from libo2cb.engine.wire import Json
from libo2cb.errors import O2cbError
from libo2cb.processes import Process
from libo2cb.sandbox import power
from libo2cb.sandbox.ask import HubAway, HubError, ask
from libo2cb.sandbox.homes import (
    PATIENCE,
    STEP,
    Sandbox,
    SandboxError,
    Settings,
    power_lock,
    read_record,
    write_config,
)
from libo2cb.sandbox.plan import Plan

HOME: Final = "O2CB_SANDBOX_HOME"
DAEMONS: Final = ("o2cb_controld", "ocfs2_controld")
STREAMS: Final = tuple(f"{daemon}{stream}" for daemon in DAEMONS for stream in ("", ".membership", ".channel"))
"""What of a node can be kept from delivering."""
MAX_NODES: Final = 244
"""As many addresses as 10.0.0.11 to 10.0.0.254 are."""

_HEAD: tuple[str, ...] = ("NODE", "ADDRESS", "POWER", "ENGINE", "RING", "QUORATE", "MEMBERS", "PROCESSES", "FORCED")

Daemons = Sequence[tuple[str, Sequence[str]]]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command. Exit codes: 0 done, 1 refused or failed (the text says what to do), 2 wrong usage."""
    options = _parser().parse_args(argv)
    home = options.directory if getattr(options, "directory", None) is not None else options.home
    sandbox = Sandbox(Path(os.path.abspath(home)))  # noqa: PTH100 (resolve() would also follow links, and may lengthen)
    try:
        code: int = options.run(sandbox, options)
    except (SandboxError, HubError) as error:
        return _fail(str(error))
    except O2cbError as error:
        return _fail(error.sentence())
    except OSError as error:
        return _fail(f"{error.filename or sandbox.root}: {error.strerror or error}")
    return code


def _fail(text: str) -> int:
    _print(f"o2cb_sandbox: {text}", sys.stderr)
    return 1


def _print(text: str, to: TextIO | None = None) -> None:
    stream = to or sys.stdout
    try:
        print(text, file=stream, flush=True)
    except BrokenPipeError:
        # Whoever would read it was switched off by this very command. The exit must not stumble over it again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _parser() -> argparse.ArgumentParser:
    default = os.environ.get(HOME) or str(Path.home() / ".o2cb_sandbox")
    parser = argparse.ArgumentParser(prog="o2cb_sandbox", description=__doc__)
    parser.add_argument("--home", default=default, help=f"the sandbox's directory (default: ${HOME}, else {default})")
    words = parser.add_subparsers(metavar="COMMAND", required=True)

    def word(name: str, run: Callable[[Sandbox, argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        made = words.add_parser(name, help=text, description=text)
        made.set_defaults(run=run, word=name)
        return made

    up = word("up", _up, "make a cluster, and start it")
    up.add_argument("directory", nargs="?", help="the sandbox's directory, as with --home")
    up.add_argument("--nodes", type=int, default=3, help="how many (default 3)")
    up.add_argument("--fencing", choices=("command", "manual", "none"), default="command")
    up.add_argument("--seed", type=int, default=0, help="of the skew between the engine's streams")
    up.add_argument("--cluster", default="demo", help="the cluster's name, as its volumes carry it; demo by default")
    up.add_argument("--two-node", action="store_true", help="with two nodes: one is a quorum once it has seen both")
    up.add_argument("--port", type=int, default=7777)
    up.add_argument("--mount-timeout", type=float, default=300.0, metavar="SECONDS")
    up.add_argument("--grace", type=float, default=30.0, metavar="SECONDS")
    up.add_argument("--join-delay", type=float, default=30.0, metavar="SECONDS")
    word("down", _down, "switch all nodes off, and end the hub")
    word("status", _status, "show the engines, and what each node says").add_argument("--json", action="store_true")
    for name, run, text in (
        ("kill", _kill, "cut a node's power, and verify that it is off"),
        ("start", _start, "switch a node on, or start again those of its daemons that have ended"),
        ("pause", _pause, "stop a node's processes and its engine, for later"),
        ("resume", _resume, "let a paused node go on"),
    ):
        word(name, run, text).add_argument("node")
    start, kill = words.choices["start"], words.choices["kill"]
    start.add_argument("--address", help="its address from now on")
    for made in (up, start):  # for tests of this command: other programs in place of the daemons
        made.add_argument("--daemon", action="append", metavar="NAME=COMMAND", help=argparse.SUPPRESS)
    cut = word("cut", _cut, "part the network: n1,n2|n3 (nodes that are not named are one more side)")
    cut.add_argument("groups")
    word("heal", _heal, "join the network again")
    readdress = word("readdress", _readdress, "give a node another address in the engine's configuration")
    readdress.add_argument("node")
    readdress.add_argument("address")
    engine = word("engine", _engine, "do something to the engine of a node alone")
    engine.add_argument("node")
    engine.add_argument("do", choices=("stop", "kill", "hang", "resume", "start", "restart"))
    for made in (kill, cut, engine):
        text = "comma-separated nodes whose last messages the others never got"
        made.add_argument("--unreceived", type=_names, default=(), metavar="NODES", help=text)
    shutdown = word("ask-shutdown", _ask_shutdown, "ask a node's daemons whether its engine may stop; stop it if so")
    shutdown.add_argument("node")
    shutdown.add_argument("--timeout", type=float, default=5.0, help="seconds until silence is a veto")
    order = word("order", _order, "on a node, let one listener hear everything before another; - for no order")
    order.add_argument("node")
    order.add_argument("listeners", type=_listeners, metavar="FIRST,SECOND")
    for name, text in (("hold", "keep a stream from delivering"), ("release", "let it deliver again")):
        hold = word(name, _hold, text)
        hold.add_argument("node")
        hold.add_argument("what", choices=STREAMS, metavar="WHAT", help=f"one of {', '.join(STREAMS)}")
    mount = word("mount", _mount, "mount a volume on a node")
    umount = word("umount", _umount, "unmount it")
    for made in (mount, umount):
        made.add_argument("node")
    mount.add_argument("device")
    for made in (mount, umount):
        made.add_argument("mount_point")
    return parser


def _listeners(text: str) -> list[str]:
    """Daemons in the order in which they hear.

    Raises:
        ArgumentTypeError: one is no daemon, and so would be waited for in vain.
    """
    found = [] if text == "-" else text.split(",")
    if unknown := [name for name in found if name not in DAEMONS]:
        raise argparse.ArgumentTypeError(f'"{unknown[0]}" is no daemon: {" and ".join(DAEMONS)} are, and - is no order')
    return found


def _names(text: str) -> tuple[str, ...]:
    return tuple(n for n in text.split(",") if n)


def _daemons(sandbox: Sandbox, name: str, options: argparse.Namespace) -> Daemons:
    config = str(sandbox.node(name).config)
    if options.daemon is None:
        return [(d, (sys.executable, "-m", d, "--config", config)) for d in DAEMONS]
    result = []
    for daemon in options.daemon:
        program, _, command = daemon.partition("=")
        result.append((program, [part.replace("{config}", config) for part in shlex.split(command)]))
    return result


def _up(sandbox: Sandbox, options: argparse.Namespace) -> int:
    if not 1 <= options.nodes <= MAX_NODES:
        raise SandboxError(f"a sandbox has 1 to {MAX_NODES} nodes, not {options.nodes}")
    plan = Plan.of(options.nodes, cluster=options.cluster, seed=options.seed, two_node=options.two_node)
    names = [n.name for n in plan.nodes]
    sandbox.check_room(names)
    try:
        ask(sandbox.hub, "status", patience=2.0)
    except HubAway:
        pass
    else:
        raise SandboxError(f"{sandbox.root} is up already; end it first with: o2cb_sandbox --home {sandbox.root} down")
    sandbox.root.mkdir(mode=0o700, parents=True, exist_ok=True)
    settings = Settings(options.fencing, options.port, options.mount_timeout, options.grace, options.join_delay)
    for name in names:
        write_config(sandbox, name, settings)
        power.power_off(sandbox, name)  # what an earlier sandbox here may have left
    plan.write(sandbox.plan)
    _start_hub(sandbox)
    for name in names:
        power.start(sandbox, name, _daemons(sandbox, name, options))
    _wait_for_daemons(sandbox, names, options)
    _print(f"up: {', '.join(names)} in {sandbox.root}")
    return 0


def _start_hub(sandbox: Sandbox) -> None:
    log = sandbox.root / "hub.log"
    command = (sys.executable, "-m", "libo2cb.sandbox.hub", "--home", str(sandbox.root))
    hub = power.spawn(command, log, sandbox.hub_record)
    deadline = time.monotonic() + 2 * PATIENCE
    while True:
        try:
            ask(sandbox.hub, "status", patience=PATIENCE)
        except HubAway as error:
            if not hub.alive():
                last = log.read_text(errors="replace").strip().rpartition("\n")[2]
                raise SandboxError(f"the hub did not start: {last or f'see {log}'}") from error
            if time.monotonic() > deadline:
                power.end([hub])
                raise SandboxError(f"the hub did not answer within {2 * PATIENCE:.0f} s; see {log}") from error
            time.sleep(STEP)
        else:
            return


def _down(sandbox: Sandbox, _: argparse.Namespace) -> int:
    for config in sorted(sandbox.root.glob("*/config/controld.toml")):
        power.power_off(sandbox, config.parent.parent.name)
    hub = read_record(sandbox.hub_record)
    try:
        ask(sandbox.hub, "quit", patience=PATIENCE)
    except HubAway:
        pass
    else:
        _await_end(hub)
    if hub is not None:
        power.end([hub])
        sandbox.hub_record.unlink(missing_ok=True)
    _print(f"down: {sandbox.root}")
    return 0


def _await_end(hub: Process | None) -> None:
    deadline = time.monotonic() + PATIENCE
    while hub is not None and hub.alive() and time.monotonic() < deadline:
        time.sleep(STEP)


def _status(sandbox: Sandbox, options: argparse.Namespace) -> int:
    answer = ask(sandbox.hub, "status")
    for node in answer["nodes"]:
        home = sandbox.node(node["name"])
        node["power"] = "on" if home.mark.exists() else "off"
        node["processes"] = [(program, p.pid) for program, p in power.living(home)]
    if options.json:
        _print(json.dumps({"home": str(sandbox.root), **answer}, indent=1))
        return 0
    on = [n for n in answer["nodes"] if n["power"] == "on"]
    _print(f"UP  {sandbox.root}, {len(on)} of {len(answer['nodes'])} nodes on")
    rows: list[tuple[str, ...]] = [
        ("NODE", "ADDRESS", "POWER", "ENGINE", "RING", "QUORATE", "MEMBERS", "PROCESSES", "FORCED")
    ]
    rows += [_row(n) for n in answer["nodes"]]
    widths = [max(len(r[i]) for r in rows) for i in range(len(rows[0]))]
    for row in rows:
        _print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    if find_spec("libo2cb.tools.hb_ctl") is not None:
        for node in on:
            _print(f"\n{node['name']}: ocfs2_hb_ctl -I")
            _tool(sandbox, node["name"], "hb_ctl", ["-I"])
    return 0


def _row(node: Json) -> tuple[str, ...]:
    forced = [f"order {','.join(node['order'])}"] if node["order"] else []
    forced += [f"hold {h}" for h in node["holds"]]
    return (
        node["name"],
        node["address"],
        node["power"],
        node["engine"],
        node["ring"] or "-",
        "yes" if node["quorate"] else "no",
        " ".join(str(m) for m in node["members"]) or "-",
        " ".join(f"{program}:{pid}" for program, pid in node["processes"]) or "-",
        "; ".join(forced) or "-",
    )


def _kill(sandbox: Sandbox, options: argparse.Namespace) -> int:
    was_on, remark = power.power_off(sandbox, options.node, options.unreceived)
    said = f"{options.node} is off{'' if was_on else ' already'}: verified, no process of it lives"
    _print(f"{said}; {remark}" if remark else said)
    return 0


def _start(sandbox: Sandbox, options: argparse.Namespace) -> int:
    daemons = _daemons(sandbox, sandbox.existing(options.node).name, options)
    again = [] if options.address else power.start_again(sandbox, options.node, daemons)
    if again:
        _print(f"{options.node} was on; started again: {', '.join(again)}")
    else:
        boot = power.start(sandbox, options.node, daemons, options.address)
        _print(f"{options.node} is on, boot {boot}")
    _wait_for_daemons(sandbox, (options.node,), options)
    return 0


def _wait_for_daemons(sandbox: Sandbox, names: Iterable[str], options: argparse.Namespace) -> None:
    """Wait until the daemons of these nodes take connections: a mount right after `up` must not find nobody."""
    if options.daemon is not None:
        return
    deadline = time.monotonic() + 4 * PATIENCE
    sockets = {"o2cb_controld": "ordering.sock", "ocfs2_controld": "clients.sock"}
    for name in names:
        node = sandbox.node(name)
        for daemon, path in ((d, node.root / "run" / s) for d, s in sockets.items()):
            while not _answers(path):
                if daemon not in {program for program, _ in power.living(node)}:
                    raise SandboxError(f"{daemon} on {name} has ended; see {node.log / daemon}.jsonl")
                if time.monotonic() > deadline:
                    raise SandboxError(f"{daemon} on {name} does not answer yet; see {node.log / daemon}.jsonl")
                time.sleep(STEP)


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(PATIENCE)
        try:
            sock.connect(str(path))
        except OSError:
            return False
    return True


def _pause(sandbox: Sandbox, options: argparse.Namespace) -> int:
    power.pause(sandbox, options.node)
    return 0


def _resume(sandbox: Sandbox, options: argparse.Namespace) -> int:
    power.resume(sandbox, options.node)
    return 0


def _cut(sandbox: Sandbox, options: argparse.Namespace) -> int:
    groups = [_names(g) for g in options.groups.split("|")]
    if not all(groups):
        raise SandboxError(f'"{options.groups}" has an empty side; write for example: o2cb_sandbox cut "n1,n2|n3"')
    ask(sandbox.hub, "cut", groups=groups, unreceived=options.unreceived)
    return 0


def _heal(sandbox: Sandbox, _: argparse.Namespace) -> int:
    ask(sandbox.hub, "heal")
    return 0


def _readdress(sandbox: Sandbox, options: argparse.Namespace) -> int:
    ask(sandbox.hub, "readdress", node=options.node, address=options.address)
    return 0


def _engine(sandbox: Sandbox, options: argparse.Namespace) -> int:
    node = sandbox.existing(options.node)
    with power_lock(node, fcntl.LOCK_SH):
        if not node.mark.exists():
            raise SandboxError(f"node {node.name} is off; switch it on with: o2cb_sandbox start {node.name}")
        ask(sandbox.hub, "engine", node=options.node, do=options.do, unreceived=options.unreceived)
    return 0


def _ask_shutdown(sandbox: Sandbox, options: argparse.Namespace) -> int:
    patience = options.timeout + PATIENCE
    answer = ask(sandbox.hub, "ask_shutdown", patience=patience, node=options.node, timeout=options.timeout)
    if answer["allowed"]:
        _print(f"allowed: the engine of {options.node} has stopped")
        return 0
    why = "; ".join(f"{listener}: {reason}" for listener, reason in answer["vetoes"])
    return _fail(f"the engine of {options.node} stays, since a daemon said no: {why}")


def _order(sandbox: Sandbox, options: argparse.Namespace) -> int:
    ask(sandbox.hub, "order", node=options.node, listeners=options.listeners)
    return 0


def _hold(sandbox: Sandbox, options: argparse.Namespace) -> int:
    ask(sandbox.hub, options.word, node=options.node, what=options.what)
    return 0


def _mount(sandbox: Sandbox, options: argparse.Namespace) -> int:
    return _tool(sandbox, options.node, "mount", [options.device, options.mount_point])


def _umount(sandbox: Sandbox, options: argparse.Namespace) -> int:
    return _tool(sandbox, options.node, "umount", [options.mount_point])


def _tool(sandbox: Sandbox, name: str, tool: str, arguments: Sequence[str]) -> int:
    """Run one of our tools as if on that node. Returns its exit code."""
    config = sandbox.existing(name).config
    command = [sys.executable, "-m", f"libo2cb.tools.{tool}", "--config", str(config), *arguments]
    return subprocess.run(command, check=False).returncode  # noqa: S603 (our own tool)


if __name__ == "__main__":
    sys.exit(main())
