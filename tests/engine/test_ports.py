"""One suite for every engine behind the two ports: what libo2cb.engine.port promises."""

import asyncio
import os
import sys
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import pytest

from libo2cb.engine.port import (
    ChannelDown,
    ChannelEvent,
    ChannelMember,
    ChannelMembers,
    ChannelRing,
    Configured,
    Delivered,
    EngineDown,
    EngineUp,
    Members,
    MembershipEvent,
    Reason,
    ShutdownAsked,
)
from tests.engine.adapters import ENGINES, Engine, listeners

Make = Callable[[], AbstractAsyncContextManager[Engine]]

pytestmark = pytest.mark.parametrize("make", ENGINES)
ALL = (1, 2, 3)


def me(node: int) -> ChannelMember:
    return ChannelMember(node, os.getpid())


def left(reason: Reason, node: int) -> Callable[[list[ChannelEvent]], bool]:
    return lambda heard: any(
        isinstance(e, ChannelMembers) and (me(node), reason) in e.left and me(node) not in e.members for e in heard
    )


def before_leave(node: int, heard: list[ChannelEvent]) -> list[Delivered]:
    end = next(
        i for i, e in enumerate(heard) if isinstance(e, ChannelMembers) and e.left == ((me(node), Reason.LEAVE),)
    )
    return [e for e in heard[:end] if isinstance(e, Delivered)]


def members(*nodes: int) -> Callable[[list[MembershipEvent]], bool]:
    return lambda heard: any(isinstance(e, Members) and e.members == nodes for e in heard)


def ring_of(*nodes: int) -> Callable[[list[ChannelEvent]], bool]:
    return lambda heard: any(isinstance(e, ChannelRing) and e.nodes == nodes for e in heard)


def last_members(heard: list[MembershipEvent]) -> Members:
    return [e for e in heard if isinstance(e, Members)][-1]


def last_ring(heard: list[ChannelEvent]) -> ChannelRing:
    return [e for e in heard if isinstance(e, ChannelRing)][-1]


def test_first_events_and_configuration(make: Make) -> None:
    async def run() -> None:
        async with listeners(make) as world:
            port = world.engine.membership(2, "first")
            heard: list[MembershipEvent] = []
            came = asyncio.Event()

            def sink(event: MembershipEvent) -> None:
                heard.append(event)
                if len(heard) == 2:
                    came.set()

            await port.start(sink)
            await asyncio.wait_for(came.wait(), 30)
            up, now = heard
            assert isinstance(up, EngineUp)
            assert (up.local, [n.number for n in up.nodes]) == (2, list(ALL))
            assert isinstance(now, Members)
            assert (now.quorate, now.members, now.joined, now.left) == (True, ALL, ALL, ())
            await port.close()
            _, ear = await world.membership(1)
            await world.engine.readdress(3, "10.0.0.99")
            (event,) = await ear.until(lambda events: any(isinstance(e, Configured) for e in events))
            assert isinstance(event, Configured)
            assert [n.address for n in event.nodes if n.number == 3] == ["10.0.0.99"]
            assert len(heard) == 2, "nothing is delivered after close"

    asyncio.run(run())


def test_messages_have_one_order_for_all_and_a_leave_comes_after_them(make: Make) -> None:
    async def run() -> None:
        async with listeners(make) as world:
            ports = [await world.channel(n) for n in ALL]
            for i in range(40):
                for n, (port, _) in zip(ALL, ports, strict=True):
                    port.send(b"%d from %d" % (i, n))
                    await asyncio.sleep(0)
            port, _ = ports[2]
            port.send(b"x" * 65536)
            await port.close()
            said = [before_leave(3, await ear.until(left(Reason.LEAVE, 3))) for _, ear in ports[:2]]
            assert said[0] == said[1]
            assert [e.payload for e in said[0] if e.sender == me(3)] == [
                *(b"%d from 3" % i for i in range(40)),
                b"x" * 65536,
            ]
            first, ear = ports[0]
            first.send(b"own")
            await ear.last(Delivered(me(1), b"own"))

    asyncio.run(run())


def test_a_payload_beyond_64_kib_is_refused(make: Make) -> None:
    async def run() -> None:
        async with listeners(make) as world:
            port, ear = await world.channel(1)
            with pytest.raises(ValueError, match="65536"):
                port.send(b"x" * 65537)
            port.send(b"small")
            await ear.last(Delivered(me(1), b"small"))

    asyncio.run(run())


def test_a_killed_process_is_process_down_and_its_last_word_is_read(make: Make) -> None:
    async def run() -> None:
        async with listeners(make) as world:
            _, ear = await world.channel(1)
            _, quorum = await world.membership(1)
            command = [sys.executable, "-m", "tests.engine.member", *world.engine.program(3), "ocfs2", "word"]
            child = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
            assert child.stdout is not None
            assert await child.stdout.readline() == b"joined\n"
            child.kill()
            await child.wait()
            victim = ChannelMember(3, child.pid)
            gone = ChannelMembers((me(1),), (), ((victim, Reason.PROCDOWN),))
            heard = await ear.last(gone)
            assert heard[0] == ChannelMembers((me(1), victim), ((victim, Reason.JOIN),), ())
            assert heard[-2:] == [Delivered(victim, b"word"), gone]
            assert quorum.events == [], "a process's death is no node's"

    asyncio.run(run())


def test_a_crash_is_node_down_and_then_the_ring(make: Make) -> None:
    async def run() -> None:
        async with listeners(make) as world:
            (_, ear), (_, dead) = await world.channel(1), await world.channel(3)
            (_, quorum), (_, lost) = await world.membership(1), await world.membership(3)
            await ear.until(bool)
            await world.engine.do(3, "kill")
            heard = await ear.until(ring_of(1, 2))
            assert [type(e) for e in heard] == [ChannelMembers, ChannelRing]
            assert left(Reason.NODEDOWN, 3)(heard)
            now = last_members(await quorum.until(members(1, 2)))
            assert (now.quorate, now.joined, now.left) == (True, (), (3,))
            assert now.ring == last_ring(heard).ring, "both streams name the same ring"
            assert isinstance((await dead.until(bool))[-1], ChannelDown)
            assert isinstance((await lost.until(bool))[-1], EngineDown)
            await world.engine.do(3, "start")
            back = await lost.until(members(*ALL))
            assert isinstance(back[0], EngineUp), "nothing before it"
            first = back[1]
            assert isinstance(first, Members)
            assert not first.quorate, "a fresh engine is alone first"
            again = await ear.until(ring_of(*ALL))
            assert any(isinstance(e, ChannelMembers) and me(3) in e.members for e in again), "it has joined by itself"
            assert last_ring(await dead.until(ring_of(*ALL))).ring == last_ring(again).ring

    asyncio.run(run())


def test_a_clean_stop_is_process_down_and_later_the_ring_alone(make: Make) -> None:
    async def run() -> None:
        async with listeners(make) as world:
            (_, ear), (_, _gone) = await world.channel(1), await world.channel(3)
            _, quorum = await world.membership(1)
            await ear.until(bool)
            await world.engine.do(3, "stop")
            heard = await ear.until(ring_of(1, 2))
            assert [type(e) for e in heard] == [ChannelMembers, ChannelRing]
            assert left(Reason.PROCDOWN, 3)(heard)
            assert last_members(await quorum.until(members(1, 2))).left == (3,)

    asyncio.run(run())


def test_a_fast_restart_is_one_event_with_the_node_in_both_lists(make: Make) -> None:
    async def run() -> None:
        async with listeners(make) as world:
            (_, ear), (_, _other) = await world.channel(1), await world.channel(3)
            _, quorum = await world.membership(1)
            await ear.until(bool)
            await world.engine.do(3, "restart")
            (event,) = await quorum.until(bool)
            assert isinstance(event, Members)
            assert (event.members, event.joined, event.left) == (ALL, (3,), (3,))
            assert left(Reason.NODEDOWN, 3)(await ear.until(ring_of(*ALL)))
            assert quorum.events == []

    asyncio.run(run())


def test_a_cut_and_its_healing(make: Make) -> None:
    async def run() -> None:
        async with listeners(make) as world:
            (_, ear), (port, alone) = await world.channel(1), await world.channel(3)
            (_, quorum), (_, lonely) = await world.membership(1), await world.membership(3)
            await ear.until(bool)
            await world.engine.cut([1, 2], [3])
            assert left(Reason.NODEDOWN, 3)(await ear.until(ring_of(1, 2)))
            assert left(Reason.NODEDOWN, 1)(await alone.until(ring_of(3)))
            assert last_members(await quorum.until(members(1, 2))).quorate
            assert not last_members(await lonely.until(members(3))).quorate
            port.send(b"not gated by quorum")
            await alone.last(Delivered(me(3), b"not gated by quorum"))
            await world.engine.heal()
            heard = await ear.until(ring_of(*ALL))
            up = ChannelMembers((me(1), me(3)), ((me(3), Reason.NODEUP),), ())
            assert heard[-2:] == [up, last_ring(heard)], "the same pid, and what the other side said is unheard"
            assert last_members(await lonely.until(members(*ALL))).joined == (1, 2)

    asyncio.run(run())


def test_a_pause_shows_all_others_leave_and_come_back(make: Make) -> None:
    async def run() -> None:
        async with listeners(make) as world:
            (_, ear), (port, paused) = await world.channel(1), await world.channel(3)
            _, lonely = await world.membership(3)
            await ear.until(bool)
            await world.engine.do(3, "hang")
            assert left(Reason.NODEDOWN, 3)(await ear.until(ring_of(1, 2)))
            assert (paused.events, lonely.events) == ([], [])
            port.send(b"kept")
            await world.engine.do(3, "resume")
            heard = await lonely.until(members(*ALL))
            gone = {n for e in heard if isinstance(e, Members) for n in e.left}
            assert (gone, set(last_members(heard).joined)) == ({1, 2}, {1, 2})
            back = await ear.last(Delivered(me(3), b"kept"))
            assert any(isinstance(e, ChannelMembers) and e.joined == ((me(3), Reason.NODEUP),) for e in back)

    asyncio.run(run())


@pytest.mark.parametrize(
    ("first", "second", "stopped"), [(True, True, True), (True, False, False), (True, None, False)]
)
def test_a_shutdown_needs_every_yes(make: Make, first: bool, second: bool | None, stopped: bool) -> None:
    async def run() -> None:
        async with listeners(make) as world:
            ports = [await world.membership(3, name) for name in ("o2cb", "ocfs2")]
            asked = asyncio.create_task(world.engine.ask_shutdown(3, 0.5 if second is None else 30))
            for (port, ear), allow in zip(ports, (first, second), strict=True):
                (event,) = await ear.until(bool)
                assert isinstance(event, ShutdownAsked)
                if allow is not None:
                    port.answer_shutdown(event.question, allow, "because")
            assert await asked is stopped
            if stopped:
                assert isinstance((await ports[0][1].until(bool))[-1], EngineDown)
            else:
                ports[1][0].answer_shutdown(1, True, "too late")
                await world.engine.readdress(1, "10.0.0.77")
                assert isinstance((await ports[0][1].until(bool))[-1], Configured), "the engine stays"

    asyncio.run(run())
