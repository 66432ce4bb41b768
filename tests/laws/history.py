"""What is recorded of a run: facts in one order, from the kernel, the engine, the daemons' logs and the mount table.

The kernel's journal, the engine's history and the mount table are authoritative. A daemon's log is what the daemon
said, and its last lines may be missing: `kill -9` falls between the action and the line. No judge takes a missing line
of a killed daemon for a breach (see world.py).
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import TypeAlias

from libo2cb.events import Event, Log

Value: TypeAlias = object


class Source(StrEnum):
    """Who says so."""

    KERNEL = "kernel"
    ENGINE = "engine"
    DAEMON = "daemon"
    CLIENT = "client"


class Kernel(StrEnum):
    """A call on a node's tree, answered or refused; each with `errno` (0: done). The comment names the fields."""

    MAKE_CLUSTER = "make_cluster"
    REMOVE_CLUSTER = "remove_cluster"
    MAKE_NODE = "make_node"  # name
    SET_NODE = "set_node"  # name, attribute (num, ipv4_address, ipv4_port, local), value
    REMOVE_NODE = "remove_node"  # name
    MAKE_REGION = "make_region"  # fs
    REMOVE_REGION = "remove_region"  # fs
    LINK = "link"  # fs, name
    UNLINK = "unlink"  # fs, name
    POWER_OFF = "power_off"  # target (the node whose home goes; absent: its own), why
    HELD = "held"  # name: something that is no link pins the node directory
    RELEASED = "released"  # name
    BEATS = "beats"  # fs, number: by heartbeat on disk this node's kernel holds that node for alive there
    SILENT = "silent"  # fs, number: it does no longer


class Engine(StrEnum):
    """What happened to nodes, and what the engine told whom."""

    BOOTED = "booted"  # number, boot, address: a new life of the node
    DIED = "died"  # cause: the node's power is off, its life is over
    READDRESSED = "readdressed"  # number, address: the configuration has another address now
    CONFIGURED = "configured"  # told to the node: nodes (NUMBER=ADDRESS)
    MEMBERS = "members"  # told to the node: ring, quorate, members, joined, left
    CUT = "cut"
    HEALED = "healed"
    PAUSED = "paused"  # the node's processes stand still
    RESUMED = "resumed"


class Process(StrEnum):
    """Life of a daemon's process, as others saw it (source DAEMON)."""

    STARTED = "process_started"  # daemon, pid, incarnation
    KILLED = "process_killed"  # daemon: by force, from outside
    ENDED = "process_ended"  # daemon, code: by itself
    SIGNALLED = "process_signalled"  # daemon, signal: SIGTERM and its like, asking politely


class Client(StrEnum):
    """The mount table."""

    MOUNTED = "mounted"  # fs, mount_point
    UNMOUNTED = "unmounted"  # fs, mount_point


O2CB = "o2cb_controld"
OCFS2 = "ocfs2_controld"


@dataclass(frozen=True, slots=True)
class Fact:
    """One recorded fact.

    Attributes:
        order: its place in the history; stories of a breach name it.
        node: name of the node it happened on, or None when it concerns all.
        source: who says so.
        kind: a value of Kernel, Engine, Process, Client or libo2cb.events.Event.
        fields: what comes with it. Daemon lines have daemon, and where known incarnation and boot.
        mono: CLOCK_MONOTONIC in ns, or virtual time in ns; None where time is not recorded.
    """

    order: int
    node: str | None
    source: Source
    kind: str
    fields: Mapping[str, Value]
    mono: int | None = None

    def text(self, name: str) -> str:
        """A field as text, empty when absent."""
        value = self.fields.get(name)
        return "" if value is None else str(value)

    def number(self, name: str, default: int = 0) -> int:
        """A field as a number.

        Raises:
            ValueError: the field is there and is no number.
        """
        value = self.fields.get(name)
        if value is None or value == "":
            return default
        return value if isinstance(value, int) else int(str(value))

    def flag(self, name: str) -> bool:
        """A field as a truth value."""
        return self.fields.get(name) in (True, 1, "1", "true", "True", "yes")

    def texts(self, name: str) -> tuple[str, ...]:
        """A field that is a list, as texts."""
        value = self.fields.get(name)
        return tuple(str(v) for v in value) if isinstance(value, list | tuple | set | frozenset) else ()

    def numbers(self, name: str) -> tuple[int, ...]:
        """A field that is a list, as numbers."""
        return tuple(int(v) for v in self.texts(name))

    @property
    def done(self) -> bool:
        """Whether a kernel call was carried out."""
        return not self.fields.get("errno")

    @property
    def fs(self) -> str:
        """The group's UUID, in capitals."""
        return self.text("fs").upper()

    @property
    def daemon(self) -> str:
        """Which of the two daemons a line is of."""
        return self.text("daemon")

    def __str__(self) -> str:
        said = " ".join(f"{k}={v}" for k, v in self.fields.items() if k not in ("daemon", "boot", "incarnation"))
        who = self.daemon or str(self.source)
        return f"#{self.order} {self.node or '-'} {who}: {self.kind}{' ' if said else ''}{said}"


@dataclass(frozen=True, slots=True)
class History:
    """Facts in their order.

    Attributes:
        facts: the facts; `order` ascends.
        at_rest: whether the run was let come to rest at the end, so that "sometime" is due.
        owner: the uid that counts as root: 0, or in a sandbox the uid of its owner.
        problems: what the loader could not read, in sentences.
    """

    facts: tuple[Fact, ...]
    at_rest: bool = False
    owner: int = 0
    problems: tuple[str, ...] = ()

    def __iter__(self) -> Iterator[Fact]:
        return iter(self.facts)

    def __len__(self) -> int:
        return len(self.facts)


@dataclass(slots=True)
class HistoryBuilder:
    """Builds a history fact by fact; each `add` gives the fact, so that it can be fed to a Judge at once.

    Attributes:
        facts: what was added so far.
        mono: the time, in ns, given to what is added next; None leaves time out.
    """

    facts: list[Fact] = field(default_factory=list)
    mono: int | None = None

    def add(self, node: str | None, source: Source, kind: str, **fields: Value) -> Fact:
        """Add a fact of any source."""
        fact = Fact(len(self.facts), node, source, str(kind), MappingProxyType(fields), self.mono)
        self.facts.append(fact)
        return fact

    def kernel(self, node: str, kind: Kernel, **fields: Value) -> Fact:
        """A call on the node's tree."""
        return self.add(node, Source.KERNEL, kind, **fields)

    def engine(self, node: str | None, kind: Engine, **fields: Value) -> Fact:
        """What happened to a node or was told to it."""
        return self.add(node, Source.ENGINE, kind, **fields)

    def process(self, node: str, daemon: str, kind: Process, **fields: Value) -> Fact:
        """A daemon's process started or ended."""
        return self.add(node, Source.DAEMON, kind, daemon=daemon, **fields)

    def say(self, node: str, daemon: str, event: Event, **fields: Value) -> Fact:
        """A line of a daemon's log."""
        return self.add(node, Source.DAEMON, event, daemon=daemon, **fields)

    def log(self, node: str, daemon: str, line: Log, **stamp: Value) -> Fact:
        """A line as a pure mind says it; stamp is what the shell adds (boot, incarnation)."""
        return self.add(node, Source.DAEMON, line.event, **{"daemon": daemon, **stamp, **dict(line.fields)})

    def client(self, node: str, kind: Client, fs: str, mount_point: str = "/mnt") -> Fact:
        """A change of the node's mount table."""
        return self.add(node, Source.CLIENT, kind, fs=fs, mount_point=mount_point)

    def history(self, *, at_rest: bool = False, owner: int = 0) -> History:
        """What was added, as a history."""
        return History(tuple(self.facts), at_rest, owner)


def ordered(loose: Iterable[tuple[int, str | None, Source, str, Mapping[str, Value]]]) -> tuple[Fact, ...]:
    """Facts from (mono, node, source, kind, fields), numbered by mono; equal times keep their given order."""
    rows = sorted(loose, key=lambda row: row[0])
    return tuple(Fact(i, node, source, kind, fields, mono) for i, (mono, node, source, kind, fields) in enumerate(rows))
