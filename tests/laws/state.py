"""The parts of a World: what is known of a node, its tree, its daemons and its groups at one place in a history."""

from dataclasses import dataclass, field

from protocol.identity import Life

UNSET_ADDRESS = "0.0.0.0"  # noqa: S104 (the kernel's "not set")


@dataclass(slots=True)
class Directory:
    """A node directory."""

    number: int = 0
    address: str = UNSET_ADDRESS
    port: int = 0
    local: bool = False

    @property
    def complete(self) -> bool:
        """Whether every attribute that makes an identity is set."""
        return self.number != 0 and self.port != 0 and self.address != UNSET_ADDRESS


@dataclass(frozen=True, slots=True)
class Link:
    """A link that stands: where it was made, and for which life if one knows."""

    order: int
    number: int
    life: Life | None


@dataclass(frozen=True, slots=True)
class Told:
    """A membership as a daemon has read it."""

    order: int
    ring: str
    quorate: bool
    members: frozenset[int]


@dataclass(slots=True)
class Daemon:
    """One incarnation of a daemon, from its own log and what others saw of its process."""

    order: int
    incarnation: str = ""
    up: bool = True
    ready: bool = False
    told: Told | None = None
    engine_down: bool = False
    wanted: dict[int, str] = field(default_factory=dict)
    queued: set[int] = field(default_factory=set)
    unfit: set[int] = field(default_factory=set)
    classic: bool = False
    ending: bool = False


@dataclass(slots=True)
class Group:
    """A group as the present ocfs2_controld of a node has logged it."""

    running: bool = False
    start: str = ""
    members: frozenset[Life] = frozenset()
    started: int = -1
    stopped: int = -1
    finished: bool = False


@dataclass(slots=True)
class Node:
    """A node."""

    name: str
    number: int = 0
    address: str = ""
    life: Life | None = None
    lives: list[Life] = field(default_factory=list)
    booted: int = -1
    paused: bool = False
    tree: dict[str, Directory] = field(default_factory=dict)
    regions: dict[str, dict[str, Link]] = field(default_factory=dict)
    pins: dict[str, set[str]] = field(default_factory=dict)
    held: set[str] = field(default_factory=set)
    beats: dict[str, set[int]] = field(default_factory=dict)
    configured: dict[int, str] = field(default_factory=dict)
    departed: set[str] = field(default_factory=set)
    busy: dict[str, int] = field(default_factory=dict)
    mounts: dict[str, dict[str, int]] = field(default_factory=dict)
    daemons: dict[str, Daemon] = field(default_factory=dict)
    groups: dict[str, Group] = field(default_factory=dict)
    told: Told | None = None

    def is_configured(self, name: str) -> bool:
        """Whether what stands under this name is in the engine's configuration, by number and address."""
        it = self.tree.get(name)
        return it is not None and bool(it.number) and self.configured.get(it.number) == it.address

    @property
    def dead(self) -> bool:
        """Whether its last known life is over."""
        return self.life is None and bool(self.lives)

    @property
    def in_use(self) -> bool:
        """Whether a filesystem is mounted here, or a region stands."""
        return bool(self.regions) or bool(self.mounts)

    def named(self, number: int) -> str | None:
        """The directory that has this number."""
        return next((name for name, d in self.tree.items() if d.number == number), None)

    def daemon_up(self, daemon: str) -> Daemon | None:
        """The daemon's present incarnation, if its process lives."""
        it = self.daemons.get(daemon)
        return it if it is not None and it.up else None
