"""Reads the history of a sandbox home: DIR/hub.jsonl and DIR/NODE/log/*.jsonl, merged by CLOCK_MONOTONIC.

    hub.jsonl                       the hub's history (libo2cb/sandbox/history.py)
    NODE/log/kernel.jsonl           the kernel's journal (libo2cb/kernel/journal.py)
    NODE/log/o2cb_controld.jsonl    the daemons' logs (libo2cb/service/logs.py), all incarnations one after the other
    NODE/log/ocfs2_controld.jsonl
    NODE/log/mounts.jsonl           changes of the mount table: mono, call (mount, umount, clear), uuid, mount_point

Where there is no mounts.jsonl, MOUNT_SEEN and MOUNT_GONE of the log stand in for it: what the daemon saw, a moment
later. A whole file that is missing, and lines that are no JSON, are told as problems and never pass silently.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from libo2cb.events import Event
from libo2cb.kernel import journal
from tests.laws.history import O2CB, OCFS2, Client, Engine, Fact, History, Kernel, Process, Source, Value, ordered

Row = tuple[int, str | None, Source, str, Mapping[str, Value]]
Line = dict[str, Value]

HUB = "hub.jsonl"
_EVENTS = frozenset(str(event) for event in Event)


@dataclass(slots=True)
class _Home:
    """What is found in one home while it is read."""

    rows: list[Row] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    numbers: dict[str, int] = field(default_factory=dict)
    addresses: dict[str, set[str]] = field(default_factory=dict)

    def lines(self, path: Path, clock: str = "mono") -> Iterator[Line]:
        """The JSON lines of a file; what is none is a problem, but for a last line cut short by a kill."""
        try:
            text = path.read_bytes()
        except FileNotFoundError:
            self.problems.append(f"{path.name} of {path.parent} is missing")
            return
        whole = text[: text.rfind(b"\n") + 1]
        for count, raw in enumerate(whole.splitlines(), 1):
            try:
                line = json.loads(raw)
            except ValueError as wrong:
                self.problems.append(f"{path}, line {count}: {wrong}")
                continue
            if isinstance(line, dict) and isinstance(line.get(clock), int):
                yield line
            else:
                self.problems.append(f"{path}, line {count}: an object with {clock} is expected")


def load(directory: Path, *, at_rest: bool = False) -> History:
    """The history of a sandbox home.

    Args:
        directory: the home, as `o2cb_sandbox up` made it.
        at_rest: whether it had come to rest when it was recorded.

    Raises:
        FileNotFoundError: there is no node's log below the directory.
    """
    nodes = sorted(log.parent for log in directory.glob("*/log") if log.is_dir())
    if not nodes:
        raise FileNotFoundError(f"{directory} has no NODE/log: a sandbox home is expected")
    home = _Home()
    for node in nodes:
        for daemon in (O2CB, OCFS2):
            _log(home, node.name, node / "log" / f"{daemon}.jsonl")
    for node in nodes:
        _kernel(home, node.name, node / "log" / "kernel.jsonl")
        _mounts(home, node.name, node / "log" / "mounts.jsonl")
    _hub(home, directory / HUB)
    return History(_born(home), at_rest, directory.stat().st_uid, tuple(home.problems))


def _log(home: _Home, node: str, path: Path) -> None:
    for line in home.lines(path):
        event = str(line.get("event"))
        fields = {
            k.removesuffix("_"): v for k, v in line.items() if k not in ("time", "mono", "node", "event", "level")
        }
        if event not in _EVENTS:
            home.problems.append(f"{path}: {event!r} is no event of libo2cb.events")
            continue
        if event == Event.ENGINE_UP and isinstance(fields.get("local"), int):
            home.numbers[node] = cast("int", fields["local"])
        if event == Event.NODE_WANTED:
            home.addresses.setdefault(str(fields.get("name")), set()).add(str(fields.get("address")))
        home.rows.append((cast("int", line["mono"]), node, Source.DAEMON, event, fields))


def _kernel(home: _Home, node: str, path: Path) -> None:
    entries = list(home.lines(path))
    undone = {entry["undoes"] for entry in entries if entry.get("call") == "undone"}
    for entry in entries:
        if entry.get("seq") in undone:
            continue
        found = kernel_fact(entry)
        if found is not None:
            source = Source.ENGINE if isinstance(found[0], Engine) else Source.KERNEL
            home.rows.append((cast("int", entry["mono"]), node, source, *found))


def kernel_fact(entry: journal.Entry) -> tuple[Kernel | Engine, dict[str, Value]] | None:
    """What a line of the kernel's journal is to the judges; None for what concerns none of them."""
    names = [name for name in str(entry.get("path", "")).split("/") if name]
    errno = entry.get("errno", 0)
    match str(entry.get("call")), names:
        case "boot", _:
            return Engine.BOOTED, {"boot": entry["boot"]}
        case "clear", _:
            return Engine.DIED, {"cause": "its tree was cleared"}
        case "power_off", _:
            return Kernel.POWER_OFF, {"why": entry.get("why", ""), "errno": errno}
        case "mkdir", [_, "node", name]:
            return Kernel.MAKE_NODE, {"name": name, "errno": errno}
        case "rmdir", [_, "node", name]:
            return Kernel.REMOVE_NODE, {"name": name, "errno": errno}
        case "write", [_, "node", name, attribute]:
            value = str(entry.get("content", entry.get("value", ""))).strip()
            return Kernel.SET_NODE, {"name": name, "attribute": attribute, "value": value, "errno": errno}
        case "mkdir", [_, "heartbeat", fs]:
            return Kernel.MAKE_REGION, {"fs": fs, "errno": errno}
        case "rmdir", [_, "heartbeat", fs]:
            return Kernel.REMOVE_REGION, {"fs": fs, "errno": errno}
        case "symlink", [_, "heartbeat", fs, name]:
            target = str(entry.get("target", "")).rpartition("/")[2]
            return Kernel.LINK, {"fs": fs, "name": target or name, "errno": errno}
        case "unlink", [_, "heartbeat", fs, name]:
            return Kernel.UNLINK, {"fs": fs, "name": name, "errno": errno}
    return None


def _mounts(home: _Home, node: str, path: Path) -> None:
    if path.exists():
        points: dict[str, str] = {}
        for line in home.lines(path):
            mono, point, fs = cast("int", line["mono"]), str(line.get("mount_point")), str(line.get("uuid"))
            if line.get("call") == "mount":
                points[point] = fs
                home.rows.append((mono, node, Source.CLIENT, Client.MOUNTED, {"fs": fs, "mount_point": point}))
            elif line.get("call") == "umount":
                gone = {"fs": points.pop(point, fs), "mount_point": point}
                home.rows.append((mono, node, Source.CLIENT, Client.UNMOUNTED, gone))
        return
    seen: dict[str, set[str]] = {}
    for mono, _, _, event, fields in [row for row in home.rows if row[1] == node and row[2] is Source.DAEMON]:
        fs = str(fields.get("fs"))
        if event == Event.MOUNT_SEEN:
            seen.setdefault(fs, set()).add(str(fields.get("mount_point")))
            home.rows.append((mono, node, Source.CLIENT, Client.MOUNTED, fields))
        gone_now = {fs: seen.pop(fs, set())} if event == Event.MOUNT_GONE else {}
        if event == Event.STARTING and fields.get("daemon") == OCFS2:
            gone_now, seen = seen, {}  # its successor sees anew what is still mounted
        for uuid, where in gone_now.items():
            for point in sorted(where):
                home.rows.append((mono, node, Source.CLIENT, Client.UNMOUNTED, {"fs": uuid, "mount_point": point}))


def _hub(home: _Home, path: Path) -> None:
    names: dict[int, str] = {}
    addresses: dict[int, str] = {}
    for line in home.lines(path, "time"):
        mono, op = cast("int", line["time"]), str(line.get("op"))
        number = line.get("node")
        node = names.get(number, str(number)) if isinstance(number, int) else None
        fields = {k: v for k, v in line.items() if k not in ("time", "op", "node")}
        if op in ("hub_up", "configured"):
            for no, name, address in cast("list[tuple[int, str, str]]", line.get("nodes", [])):
                moved = addresses.get(no, address) != address
                names[no], addresses[no], home.numbers[name] = name, address, no
                if moved:
                    said = {"number": no, "address": address}
                    home.rows.append((mono, name, Source.ENGINE, Engine.READDRESSED, said))
        elif isinstance(number, int) and op == "boot":
            said = {"number": number, "boot": line.get("boot"), "address": addresses.get(number, "")}
            home.rows.append((mono, node, Source.ENGINE, Engine.BOOTED, said))
        else:
            source, kind = _hub_kind(op, fields)
            if source is Source.DAEMON:
                fields = {"daemon": str(fields.get("listener")), "cause": "its connection ended"}
            home.rows.append((mono, node, source, kind, fields))


def _hub_kind(op: str, fields: Line) -> tuple[Source, str]:
    """What an operation of the hub is to the judges; others pass as they are, and no judge hears them.

    `power_off` is not yet the end of a life: its processes may write for a moment longer. `dead` is.
    """
    match op:
        case "dead":
            return Source.ENGINE, Engine.DIED
        case "cut":
            return Source.ENGINE, Engine.CUT
        case "heal":
            return Source.ENGINE, Engine.HEALED
        case "deliver" if str(fields.get("kind")).lower() == "members" and fields.get("listener") == O2CB:
            return Source.ENGINE, Engine.MEMBERS
        case "detach" if (fields.get("cause"), fields.get("stream")) == ("died", "membership"):
            if fields.get("listener") in (O2CB, OCFS2):
                return Source.DAEMON, Process.KILLED
    return Source.ENGINE, f"hub_{op}"


def _born(home: _Home) -> tuple[Fact, ...]:
    """The facts in order; a boot that the kernel's journal tells gets the number and the address that others tell."""
    rows: list[Row] = []
    for mono, node, source, kind, said in home.rows:
        fields = said
        if kind == Engine.BOOTED and node is not None and "number" not in fields:
            fields = {**fields, "number": home.numbers.get(node, 0)}
            addresses = home.addresses.get(node, set())
            if len(addresses) == 1:  # of several, nobody here knows which life had which
                fields = {"address": next(iter(addresses)), **fields}
        rows.append((mono, node, source, kind, fields))
    return ordered(rows)
