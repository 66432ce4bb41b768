"""The engines that the suite runs on. An engine joins by a class like Sandbox and a line in ENGINES."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Protocol

from libo2cb.engine.port import (
    ChannelEvent,
    ChannelMembers,
    ChannelPort,
    ChannelRing,
    EngineUp,
    Members,
    MembershipEvent,
    MembershipPort,
)
from libo2cb.engine.sandbox import SandboxChannel, SandboxMembership
from tests.engine.ears import Ear
from tests.engine.hubs import RunningHub, running_hub


class Engine(Protocol):
    """A running cluster of three nodes, 1 to 3, and what can be done to it."""

    def membership(self, node: int, listener: str) -> MembershipPort:
        """A port, not started."""

    def channel(self, node: int, listener: str) -> ChannelPort:
        """A port, not started."""

    def program(self, node: int) -> list[str]:
        """Arguments by which tests.engine.member reaches this node's engine."""

    async def do(self, node: int, what: str) -> None:
        """To an engine: start, stop (as SIGTERM), kill, restart (before the others miss it), hang, resume."""

    async def cut(self, *groups: list[int]) -> None:
        """Part the network."""

    async def heal(self) -> None:
        """Join it again."""

    async def readdress(self, node: int, address: str) -> None:
        """Change and reload the configuration."""

    async def ask_shutdown(self, node: int, patience: float) -> bool:
        """Put the question; whether the engine stopped."""


class Sandbox:
    """The sandbox, with a real hub process."""

    def __init__(self, hub: RunningHub) -> None:
        self.hub = hub

    def membership(self, node: int, listener: str) -> MembershipPort:
        return SandboxMembership(self.hub.path, f"n{node}", listener)

    def channel(self, node: int, listener: str) -> ChannelPort:
        return SandboxChannel(self.hub.path, f"n{node}", listener)

    def program(self, node: int) -> list[str]:
        return [self.hub.path, f"n{node}"]

    async def do(self, node: int, what: str) -> None:
        await self.hub.ask("engine", node=f"n{node}", do=what)

    async def cut(self, *groups: list[int]) -> None:
        await self.hub.ask("cut", groups=groups)

    async def heal(self) -> None:
        await self.hub.ask("heal")

    async def readdress(self, node: int, address: str) -> None:
        await self.hub.ask("readdress", node=f"n{node}", address=address)

    async def ask_shutdown(self, node: int, patience: float) -> bool:
        answer = await self.hub.ask("ask_shutdown", node=f"n{node}", timeout=patience)
        return bool(answer["allowed"])


@asynccontextmanager
async def sandbox() -> AsyncIterator[Engine]:
    async with running_hub(3) as hub:
        yield Sandbox(hub)


ENGINES: list[Callable[[], AbstractAsyncContextManager[Engine]]] = [sandbox]


class Listeners:
    """Opens ports on an engine, with an ear each; closes them at the end."""

    def __init__(self, engine: Engine, stack: AsyncExitStack) -> None:
        self.engine = engine
        self._stack = stack

    async def membership(self, node: int, listener: str = "o2cb") -> tuple[MembershipPort, Ear[MembershipEvent]]:
        """A listener that has had its first events."""
        port, ear = self.engine.membership(node, listener), Ear[MembershipEvent]()
        await port.start(ear)
        self._stack.push_async_callback(port.close)
        heard = await ear.until(lambda events: any(isinstance(e, Members) for e in events))
        assert [type(e) for e in heard][:2] == [EngineUp, Members]
        return port, ear

    async def channel(self, node: int, listener: str = "ocfs2") -> tuple[ChannelPort, Ear[ChannelEvent]]:
        """A member of the channel that has had its first events."""
        port, ear = self.engine.channel(node, listener), Ear[ChannelEvent]()
        await port.start(ear)
        self._stack.push_async_callback(port.close)
        await ear.until(lambda events: {ChannelMembers, ChannelRing} <= {type(e) for e in events})
        return port, ear


@asynccontextmanager
async def listeners(make: Callable[[], AbstractAsyncContextManager[Engine]]) -> AsyncIterator[Listeners]:
    """A fresh engine, and who listens to it."""
    async with make() as engine, AsyncExitStack() as stack:
        yield Listeners(engine, stack)
