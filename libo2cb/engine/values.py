"""The values of the engine's model: what an engine is, and what waits for whom."""

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from libo2cb.engine.port import ChannelEvent, ChannelMember, ConfiguredNode, MembershipEvent
from protocol.identity import Ring

Event = MembershipEvent | ChannelEvent


class ModelError(ValueError):
    """An operation that makes no sense in this state; nothing was changed."""


class Stream(StrEnum):
    """The two streams of a listener."""

    MEMBERSHIP = "membership"
    CHANNEL = "channel"


class State(StrEnum):
    """What an engine does: STOPPING has told the channel that its processes are gone, and is still a member."""

    DOWN = "down"
    UP = "up"
    HUNG = "hung"
    STOPPING = "stopping"


class Verdict(StrEnum):
    """What became of a shutdown question."""

    OPEN = "open"
    ALLOWED = "allowed"
    VETOED = "vetoed"


class Key(NamedTuple):
    """Names a queue."""

    node: int
    listener: str
    stream: Stream


@dataclass(frozen=True, slots=True)
class Question:
    """A shutdown question.

    Attributes:
        number: names it in the answers.
        silent: the listeners who have not answered.
        vetoes: (listener, reason) of those who said no.
    """

    number: int
    silent: frozenset[str]
    vetoes: tuple[tuple[str, str], ...] = ()

    @property
    def verdict(self) -> Verdict:
        """One no is enough; a yes needs everybody."""
        if self.vetoes:
            return Verdict.VETOED
        return Verdict.OPEN if self.silent else Verdict.ALLOWED


@dataclass(frozen=True, slots=True)
class Engine:
    """The engine of one node.

    Attributes:
        state: what it does.
        side: its side of the network; equal numbers reach each other.
        ring: the ring it is in, or was in when it hung; None before the first.
        members: that ring's members, ascending.
        quorate: whether that ring has quorum.
        sequence: the greatest ring sequence that it has known; survives a restart.
        whole: it has seen all configured nodes at once since it started (two_node).
        spoken: how many messages this ring has had.
        heard: place of the last of them that a process here was given.
        configuration: what it was last told.
        question: the open shutdown question.
        asked: the number of the last one.
    """

    state: State = State.DOWN
    side: int = 0
    ring: Ring | None = None
    members: tuple[int, ...] = ()
    quorate: bool = False
    sequence: int = 0
    whole: bool = False
    spoken: int = 0
    heard: int = 0
    configuration: tuple[ConfiguredNode, ...] = ()
    question: Question | None = None
    asked: int = 0

    def off(self) -> "Engine":
        """This engine after its end: what a restart keeps."""
        return Engine(side=self.side, sequence=self.sequence, asked=self.asked)


@dataclass(frozen=True, slots=True)
class Queued:
    """An event on its way. For a message: the ring it was sent in, and its place in that ring's order, from 1."""

    event: Event
    ring: Ring | None = None
    place: int = 0


@dataclass(frozen=True, slots=True)
class Port:
    """One stream of one listener.

    Attributes:
        pid: the process.
        attached: the engine knows of it; else it waits for an engine that is down or hung.
        queue: what is not delivered yet.
        view: the channel's members as last queued for it.
        outbox: what it sent while the engine hung.
        ring_first: it hears of the ring before its own join.
    """

    pid: int
    attached: bool = False
    queue: tuple[Queued, ...] = ()
    view: tuple[ChannelMember, ...] = ()
    outbox: tuple[bytes, ...] = ()
    ring_first: bool = False
