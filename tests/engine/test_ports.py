"""One suite for every engine behind the two ports: what libo2cb.engine.port promises."""

import asyncio
import os
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


def joined(node: int) -> Callable[[list[ChannelEvent]], bool]:
    return lambda heard: any(isinstance(e, ChannelMembers) and me(node) in e.members for e in heard)


def before_leave(node: int, heard: list[ChannelEvent]) -> list[Delivered]:
    end = next(
        i for i, e in enumerate(heard) if isinstance(e, ChannelMembers) and e.left == ((me(node), Reason.LEAVE),)
    )
    return [e for e in heard[:end] if isinstance(e, Delivered)]


def members(*nodes: int) -> Callable[[list[MembershipEvent]], bool]:
    return lambda heard: any(isinstance(e, Members) and e.members == nodes for e in heard)


def configured(*nodes: int) -> Callable[[list[MembershipEvent]], bool]:
    """A configuration came in which these nodes are."""
    return lambda heard: any(isinstance(e, Configured) and set(nodes) <= {n.number for n in e.nodes} for e in heard)


def at(node: int, address: str) -> Callable[[list[MembershipEvent]], bool]:
    """A configuration came in which this node has this address."""
    return lambda heard: any(
        isinstance(e, Configured) and (node, address) in {(n.number, n.address) for n in e.nodes} for e in heard
    )


def ring_of(*nodes: int) -> Callable[[list[ChannelEvent]], bool]:
    return lambda heard: any(isinstance(e, ChannelRing) and e.nodes == nodes for e in heard)


def changes(heard: list[MembershipEvent]) -> tuple[set[int], set[int]]:
    """Who came and who went, all told: corosync may get to a ring by way of a smaller one."""
    events = [e for e in heard if isinstance(e, Members)]
    return {n for e in events for n in e.joined}, {n for e in events for n in e.left}


def one_change_and_then_the_ring(heard: list[ChannelEvent]) -> bool:
    """Who is gone or has come is told once, and then the ring; on the way to it there may be smaller ones."""
    return [type(e) for e in heard] == [ChannelMembers, *[ChannelRing] * (len(heard) - 1)]


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
            await world.engine.add(4, "10.99.0.4")
            event = next(e for e in await ear.until(configured(4)) if isinstance(e, Configured))
            assert [(n.number, n.name, n.address) for n in event.nodes][3:] == [(4, "n4", "10.99.0.4")]
            assert event.nodes[:3] == up.nodes
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
            command = [*world.engine.member(3), "ocfs2", "word"]
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
            assert one_change_and_then_the_ring(heard)
            assert left(Reason.NODEDOWN, 3)(heard)
            told = await quorum.until(members(1, 2))
            assert 3 in changes(told)[1]
            now = last_members(told)
            assert now.quorate
            assert now.ring == last_ring(heard).ring, "both streams name the same ring"
            assert isinstance((await dead.until(bool))[-1], ChannelDown)
            assert isinstance((await lost.until(bool))[-1], EngineDown)
            await world.engine.do(3, "start")
            back = await lost.until(members(*ALL))
            assert isinstance(back[0], EngineUp), "nothing before it"
            # A fresh engine is alone first, without quorum. Whoever connects too late for that does not see it.
            alone = [e for e in back if isinstance(e, Members) and e.members == (3,)]
            assert not any(e.quorate for e in alone)
            assert isinstance(back[1], Members)
            assert (back[1].joined, back[1].left) == (back[1].members, ())
            # It has joined by itself, before or after it met the others.
            again = await ear.until(lambda e: ring_of(*ALL)(e) and joined(3)(e))
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
            assert one_change_and_then_the_ring(heard)
            assert left(Reason.PROCDOWN, 3)(heard)
            assert 3 in changes(await quorum.until(members(1, 2)))[1]

    asyncio.run(run())


def test_a_node_comes_back_with_another_address(make: Make) -> None:
    async def run() -> None:
        async with listeners(make) as world:
            _, ear = await world.membership(1)
            await world.engine.do(3, "stop")
            await ear.until(members(1, 2))
            await world.engine.readdress(3, "10.99.0.99")
            now = [e for e in await ear.until(at(3, "10.99.0.99")) if isinstance(e, Configured)][-1]
            assert [n.number for n in now.nodes] == list(ALL)
            await world.engine.do(3, "start")
            assert 3 in changes(await ear.until(members(*ALL)))[0]
            _, there = await world.membership(3, "other")
            assert there.events == []

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
            assert one_change_and_then_the_ring(heard), "what the other side said is unheard"
            assert heard[0] == up, "the same pid"
            assert changes(await lonely.until(members(*ALL)))[0] >= {1, 2}

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
            port.send(b"nobody else hears it")
            await world.engine.do(3, "resume")
            heard = await lonely.until(members(*ALL))
            assert changes(heard) == ({1, 2}, {1, 2})
            port.send(b"all hear it")
            told = await paused.last(Delivered(me(3), b"all hear it"))
            assert told[0] == Delivered(me(3), b"nobody else hears it"), "in the ring that the others have left"
            assert left(Reason.NODEDOWN, 1)(told)
            back = await ear.last(Delivered(me(3), b"all hear it"))
            assert any(isinstance(e, ChannelMembers) and e.joined == ((me(3), Reason.NODEUP),) for e in back)
            assert [e.payload for e in back if isinstance(e, Delivered)] == [b"all hear it"]

    asyncio.run(run())


def test_a_node_that_is_put_out_is_gone_and_its_listeners_have_no_engine(make: Make) -> None:
    async def run() -> None:
        async with listeners(make) as world:
            (port, quorum), (_, lost) = await world.membership(1), await world.membership(3)
            _, dead = await world.channel(3)
            port.put_out(99, "nobody is there")
            port.put_out(3, "its daemon is away for too long")
            told = await quorum.until(members(1, 2))
            assert last_members(told).quorate
            assert 3 in changes(told)[1]
            assert isinstance((await lost.until(bool))[-1], EngineDown)
            assert isinstance((await dead.until(bool))[-1], ChannelDown)
            await world.engine.do(3, "start")
            assert 3 in changes(await quorum.until(members(*ALL)))[0]

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
                await world.engine.add(4, "10.99.0.4")
                assert EngineDown not in {type(e) for e in await ports[0][1].until(configured(4))}, "the engine stays"

    asyncio.run(run())
