"""The engines that the suite runs on. An engine joins by a class like Sandbox and a line in ENGINES."""

import asyncio
import ctypes
import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final, Protocol

import pytest

from libo2cb.engine.corosync.channel import CorosyncChannel
from libo2cb.engine.corosync.membership import CorosyncMembership
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
from tests.real.corosync import cluster as real
from tests.real.corosync.cluster import Cluster, Member, Settings


class Engine(Protocol):
    """A running cluster of three nodes, 1 to 3, and what can be done to it."""

    def membership(self, node: int, listener: str) -> MembershipPort:
        """A port, not started."""

    def channel(self, node: int, listener: str) -> ChannelPort:
        """A port, not started."""

    def member(self, node: int) -> list[str]:
        """The command that runs tests.engine.member on this node, but for its last arguments."""

    async def do(self, node: int, what: str) -> None:
        """To an engine: start, stop (as SIGTERM), kill, restart (before the others miss it), hang, resume.

        Returns when it is done; what comes of it shows in events.
        """

    async def cut(self, *groups: list[int]) -> None:
        """Part the network."""

    async def heal(self) -> None:
        """Join it again."""

    async def add(self, node: int, address: str) -> None:
        """Take a node with this number into the configuration of all who run; it is called n with its number."""

    async def readdress(self, node: int, address: str) -> None:
        """Give a node another address, in the configuration of all who run. Its own engine does not."""

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

    def member(self, node: int) -> list[str]:
        return [sys.executable, "-m", "tests.engine.member", "sandbox", self.hub.path, f"n{node}"]

    async def do(self, node: int, what: str) -> None:
        await self.hub.ask("engine", node=f"n{node}", do=what)

    async def cut(self, *groups: list[int]) -> None:
        await self.hub.ask("cut", groups=groups)

    async def heal(self) -> None:
        await self.hub.ask("heal")

    async def add(self, node: int, address: str) -> None:
        await self.hub.ask("add", number=node, name=f"n{node}", address=address)

    async def readdress(self, node: int, address: str) -> None:
        await self.hub.ask("readdress", node=f"n{node}", address=address)

    async def ask_shutdown(self, node: int, patience: float) -> bool:
        answer = await self.hub.ask("ask_shutdown", node=f"n{node}", timeout=patience)
        return bool(answer["allowed"])


@asynccontextmanager
async def sandbox() -> AsyncIterator[Engine]:
    async with running_hub(3) as hub:
        yield Sandbox(hub)


CLONE_FS: Final = 0x200


def enter(pid: int) -> Callable[[], None]:
    """What moves the calling thread, and it alone, into the network, mounts and name of a process."""
    libc = ctypes.CDLL(None, use_errno=True)

    def moved() -> None:
        done = [libc.unshare(CLONE_FS)]  # a thread that shares its directory with others may not leave their mounts
        for kind in ("net", "uts", "mnt"):
            fd = os.open(f"/proc/{pid}/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC)
            done.append(libc.setns(fd, 0))
            os.close(fd)
        if any(done):
            raise OSError(ctypes.get_errno(), f"cannot enter the namespaces of pid {pid}")

    return moved


class Corosync:
    """Real corosync on three machines of namespaces. The ports are of this process; their threads go to the machines.

    What a port does without its thread, hearing and sending, needs only what is open already.
    """

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster

    def enter(self, node: int) -> Callable[[], None]:
        return enter(self.cluster.seats[node].machine.holder.pid)

    def membership(self, node: int, listener: str) -> CorosyncMembership:
        return CorosyncMembership(listener, self.enter(node))

    def channel(self, node: int, listener: str) -> CorosyncChannel:
        return CorosyncChannel(listener, self.enter(node))

    def member(self, node: int) -> list[str]:
        path = f"PYTHONPATH={Path.cwd()}"  # entering the mounts leaves this directory
        return [*self.cluster.prefix(node), "env", path, sys.executable, "-m", "tests.engine.member", "corosync"]

    async def do(self, node: int, what: str) -> None:
        word = {"hang": "pause"}.get(what, what)
        if what == "restart":
            # A token so long that nobody misses the node, however slow this machine is.
            self.cluster.settings = replace(self.cluster.settings, token=20_000)
            self.cluster.configure()
            await asyncio.to_thread(self._reload)
        await asyncio.to_thread(getattr(self.cluster, word), node)

    async def cut(self, *groups: list[int]) -> None:
        await asyncio.to_thread(self.cluster.cut, *groups)

    async def heal(self) -> None:
        await asyncio.to_thread(self.cluster.heal)

    async def add(self, node: int, address: str) -> None:
        self.cluster.configure((*self.cluster.members, Member(node, f"n{node}", (address,))))
        await asyncio.to_thread(self._reload)

    def _reload(self) -> None:
        done = self.cluster.reload(1)
        assert done.returncode == 0, done.stderr

    async def readdress(self, node: int, address: str) -> None:
        await asyncio.to_thread(self.cluster.readdress, node, address)

    async def patience(self, node: int, seconds: float) -> None:
        """How long a question for the shutdown waits for answers."""
        # In corosync.conf it would be taken for text, and ignored.
        timeout = ("corosync-cmapctl", "-s", "cfg.shutdown_timeout", "u32", str(round(seconds * 1000)))
        done = await asyncio.to_thread(self.cluster.run, node, timeout)
        assert done.returncode == 0, done.stderr

    async def ask_shutdown(self, node: int, patience: float) -> bool:
        await self.patience(node, patience)
        done = await asyncio.to_thread(self.cluster.run, node, ("corosync-cfgtool", "-H"))
        if "Could not shutdown" in done.stderr + done.stdout:
            return False
        process = self.cluster.seats[node].corosync
        assert process is not None
        await asyncio.to_thread(process.wait, 30)
        return True


@asynccontextmanager
async def corosync() -> AsyncIterator[Engine]:
    async with running_corosync(3) as engine:
        yield engine


@asynccontextmanager
async def running_corosync(nodes: int, settings: Settings | None = None) -> AsyncIterator[Corosync]:
    """Corosync on n1, n2, ..., which see each other; gone at the end."""
    if why := no_corosync():
        pytest.skip(why)
    with Cluster.up(nodes, settings) as cluster:
        yield Corosync(cluster)


def no_corosync() -> str:
    """Why there is no corosync for this suite; empty if there is."""
    if os.geteuid() != 0:
        return "the ports' threads enter the namespaces of a node, which needs root"
    return f"no real corosync here: {why}" if (why := real.missing()) else ""


ENGINES: list[Callable[[], AbstractAsyncContextManager[Engine]]] = [sandbox, corosync]


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
