"""What only real corosync shows: its end, its silence, its reloads; and that none of it blocks the loop."""

import asyncio
import contextlib
import ctypes
import errno
import os
import platform
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import pytest

from libo2cb.engine.corosync import channel as channel_module
from libo2cb.engine.corosync import membership as membership_module
from libo2cb.engine.corosync import nodelist
from libo2cb.engine.corosync import session as session_module
from libo2cb.engine.corosync.channel import CorosyncChannel
from libo2cb.engine.corosync.membership import CorosyncMembership
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
from tests.engine.adapters import Corosync, running_corosync
from tests.engine.ears import PATIENCE, Ear
from tests.real.corosync.cluster import Member, Settings, configuration

pytestmark = pytest.mark.slow
E = TypeVar("E")
SETRESUID = {"x86_64": 117, "aarch64": 147}
SETRESGID = {"x86_64": 119, "aarch64": 149}


def has(kind: type[Any]) -> Callable[[list[E]], bool]:
    return lambda heard: any(isinstance(e, kind) for e in heard)


@asynccontextmanager
async def membership(engine: Corosync, node: int = 1) -> AsyncIterator[tuple[CorosyncMembership, Ear[MembershipEvent]]]:
    port, ear = engine.membership(node, "o2cb"), Ear[MembershipEvent]()
    await port.start(ear)
    try:
        await ear.until(has(Members))
        yield port, ear
    finally:
        await port.close()


@asynccontextmanager
async def channel(engine: Corosync, node: int = 1) -> AsyncIterator[tuple[CorosyncChannel, Ear[ChannelEvent]]]:
    port, ear = engine.channel(node, "ocfs2"), Ear[ChannelEvent]()
    await port.start(ear)
    try:
        await ear.until(lambda heard: {ChannelMembers, ChannelRing} <= {type(e) for e in heard})
        yield port, ear
    finally:
        await port.close()


@asynccontextmanager
async def hung(engine: Corosync, node: int = 1) -> AsyncIterator[None]:
    """Corosync is stopped within. Should something wait for it, it goes on after a while, and the test has failed."""
    rescued = threading.Event()

    def rescue() -> None:
        rescued.set()
        engine.cluster.resume(node)

    alarm = threading.Timer(PATIENCE, rescue)
    await engine.do(node, "hang")
    alarm.start()
    try:
        yield
    finally:
        alarm.cancel()
        with contextlib.suppress(AssertionError):  # the test has killed it
            await engine.do(node, "resume")
    assert not rescued.is_set(), "something waited for a corosync that hangs"


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def workers() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name.startswith("corosync")]


def switches(thread: threading.Thread) -> int:
    """How often a thread has gone to sleep."""
    status = Path(f"/proc/self/task/{thread.native_id}/status").read_text()
    return int(status.split("voluntary_ctxt_switches:")[1].split()[0])


async def go_away_and_come_back(times: int) -> None:
    async with running_corosync(1) as engine, membership(engine) as (_, ear), channel(engine) as (port, members):
        counts = []
        for _ in range(times):
            await engine.do(1, "kill")
            assert [type(e) for e in await ear.until(has(EngineDown))] == [EngineDown]
            assert [type(e) for e in await members.until(has(ChannelDown))] == [ChannelDown]
            port.send(b"lost")
            # A corosync that is killed leaves its own memory behind.
            engine.cluster.run(1, ("sh", "-c", "rm -rf /dev/shm/qb-*"))
            await engine.do(1, "start")
            heard = await ear.until(has(Members))
            assert isinstance(heard[0], EngineUp), "nothing comes before it, and down was said once"
            await members.until(lambda e: {ChannelMembers, ChannelRing} <= {type(x) for x in e})
            port.send(b"word")
            await members.last(Delivered(ChannelMember(1, os.getpid()), b"word"))
            counts.append((descriptors(), len(workers())))
        assert len(set(counts[1:])) == 1, f"descriptors and threads stay as many: {counts}"


def test_corosync_goes_away_and_comes_back_without_a_leak() -> None:
    asyncio.run(go_away_and_come_back(6))


@pytest.mark.long
def test_corosync_goes_away_and_comes_back_200_times_without_a_leak() -> None:
    asyncio.run(go_away_and_come_back(200))


def test_nothing_wakes_up_at_rest() -> None:
    async def run() -> None:
        async with running_corosync(1) as engine, membership(engine), channel(engine):
            threads = workers()
            assert len(threads) == 2
            for _ in range(10):  # a thread may only now be on its way to sleep
                before = [switches(t) for t in threads]
                await asyncio.sleep(1.5)
                if [switches(t) for t in threads] == before:
                    return
            pytest.fail("the threads wake up again and again")

    asyncio.run(run())


def test_while_corosync_hangs_nothing_waits_for_it_and_close_ends() -> None:
    async def run() -> None:
        async with running_corosync(1) as engine, membership(engine) as (quorum, _), channel(engine) as (port, ear):
            async with hung(engine):
                for i in range(3000):
                    port.send(b"%d" % i)
                for _ in range(10):
                    quorum.put_out(9, "it hangs")
                late, unheard = engine.channel(1, "late"), Ear[ChannelEvent]()
                await late.start(unheard)
                late.send(b"nobody is there yet")
                async with asyncio.timeout(PATIENCE - 5):
                    await asyncio.gather(quorum.close(), port.close(), late.close())
                assert unheard.events == []
                assert len(workers()) == 3, "each waits on its one thread"
            for thread in workers():
                await asyncio.to_thread(thread.join, PATIENCE)
            assert workers() == [], "and ends with corosync's silence"
            assert ear.events == [], "nothing is told after close"

    asyncio.run(run())


def test_what_was_sent_while_corosync_hung_goes_out_in_order() -> None:
    async def run() -> None:
        async with running_corosync(1) as engine, channel(engine) as (port, ear):
            payloads = [b"%d " % i + b"x" * 4096 for i in range(3000)]
            async with hung(engine):
                for payload in payloads:
                    port.send(payload)
                assert port._link is not None
                assert port._link._unsent, "more than corosync's own buffer takes"
                await asyncio.sleep(0)
            heard = await ear.until(lambda e: len([x for x in e if isinstance(x, Delivered)]) == len(payloads))
            assert [e.payload for e in heard if isinstance(e, Delivered)] == payloads

    asyncio.run(run())


def test_a_corosync_that_takes_nothing_loses_the_channel_and_gets_it_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel_module, "MAX_UNSENT", 1 << 20)

    async def run() -> None:
        async with running_corosync(1) as engine, channel(engine) as (port, ear):
            async with hung(engine):
                while port._link is None or port._link._size < 1 << 19:
                    port.send(b"x" * 65536)
                for _ in range(20):
                    port.send(b"x" * 65536)
                down = (await ear.until(has(ChannelDown)))[-1]
                assert isinstance(down, ChannelDown)
                assert "takes no messages" in down.reason
            await ear.until(has(ChannelRing))
            port.send(b"again")
            await ear.last(Delivered(ChannelMember(1, os.getpid()), b"again"))

    asyncio.run(run())


def test_a_corosync_that_admits_nobody_is_said_to_be_silent_and_is_not_waited_for_when_killed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(session_module, "SILENCE", 0.05)

    async def run() -> None:
        async with running_corosync(1) as engine:
            await engine.do(1, "hang")
            port, ear = engine.membership(1, "o2cb"), Ear[MembershipEvent]()
            await port.start(ear)
            (down,) = await ear.until(bool)
            assert isinstance(down, EngineDown)
            assert "it hangs" in down.reason
            await engine.do(1, "kill")
            await engine.do(1, "start")
            heard = [e for e in await ear.until(has(Members)) if not isinstance(e, EngineDown)]
            assert [type(e) for e in heard][:2] == [EngineUp, Members]
            assert len(workers()) == 1
            await port.close()

    asyncio.run(run())


def test_a_leave_comes_after_all_that_was_sent() -> None:
    async def run() -> None:
        async with running_corosync(2) as engine, channel(engine, 2) as (_, ear), channel(engine, 1) as (port, _other):
            await ear.until(has(ChannelMembers))
            payloads = [b"%d " % i + b"x" * 1024 for i in range(5000)]
            for payload in payloads:
                port.send(payload)
            await port.close()
            gone = ChannelMembers((me(2),), (), ((me(1), Reason.LEAVE),))
            assert [e.payload for e in await ear.last(gone) if isinstance(e, Delivered)] == payloads

    asyncio.run(run())


def me(node: int) -> ChannelMember:
    return ChannelMember(node, os.getpid())


def test_a_broken_file_changes_nothing_and_a_good_one_is_read_after_it() -> None:
    async def run() -> None:
        async with running_corosync(1) as engine, membership(engine) as (_, ear):
            cluster = engine.cluster
            file = cluster.seats[1].directory / "etc" / "corosync.conf"
            good = file.read_text()
            file.write_text(good.replace("token: 300", "token: none"))
            assert cluster.reload(1).returncode != 0
            file.write_text(good)
            assert cluster.reload(1).returncode == 0
            file.write_text(configuration((*cluster.members, Member.of(2)), cluster.settings))
            assert cluster.reload(1).returncode == 0
            heard = await ear.until(has(Configured))
            now = [e for e in heard if isinstance(e, Configured)]
            assert len(now) == 1, "reloads that change nothing are no news"
            assert [n.number for n in now[0].nodes] == [1, 2]

    asyncio.run(run())


def test_a_reload_that_cannot_be_read_at_once_is_read_again() -> None:
    """Reload after reload: what is told last is what was read last, whatever came between the keys of one reading."""

    async def run() -> None:
        async with running_corosync(1) as engine, membership(engine) as (_, ear):
            cluster = engine.cluster
            for count in (40, 2, 30, 3, 20):
                members = (*cluster.members, *(Member.of(n) for n in range(2, count + 1)))
                cluster.configure(members)
                assert cluster.reload(1).returncode == 0
            last = await ear.until(lambda e: any(isinstance(x, Configured) and len(x.nodes) == 20 for x in e))
            sizes = [len(e.nodes) for e in last if isinstance(e, Configured)]
            assert set(sizes) <= {40, 2, 30, 3, 20}, "never half of two"

    asyncio.run(run())


def test_a_host_name_that_nobody_knew_is_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(membership_module, "ASK_AGAIN", 0.05)

    async def run() -> None:
        async with running_corosync(1) as engine:
            cluster = engine.cluster
            hosts = cluster.directory / "hosts"
            known = "127.0.0.1 localhost\n10.99.0.2 db2.example\n"
            hosts.write_text(known)
            assert cluster.run(1, ("mount", "--bind", str(hosts), "/etc/hosts")).returncode == 0
            cluster.configure((*cluster.members, Member(2, "n2", ("db2.example",))))
            await engine.do(1, "stop")
            hosts.write_text(known)
            await engine.do(1, "start")
            cluster.until({1: [1]})
            hosts.write_text("127.0.0.1 localhost\n")
            port, ear = engine.membership(1, "o2cb"), Ear[MembershipEvent]()
            await port.start(ear)
            up = next(e for e in await ear.until(has(EngineUp)) if isinstance(e, EngineUp))
            assert up.nodes[1].address == "db2.example"
            assert any("no IPv4 address was found for db2.example" in note for note in up.notes)
            hosts.write_text(known)
            now = next(e for e in await ear.until(has(Configured)) if isinstance(e, Configured))
            assert (now.nodes[1].address, now.notes) == ("10.99.0.2", ())
            await port.close()

    asyncio.run(run())


def test_two_nodes_with_quorum_each() -> None:
    async def run() -> None:
        async with running_corosync(2, Settings(two_node=True)) as engine:
            port, ear = engine.membership(1, "o2cb"), Ear[MembershipEvent]()
            await port.start(ear)
            up = (await ear.until(has(Members)))[0]
            assert isinstance(up, EngineUp)
            assert (up.cluster, up.two_node, up.notes) == ("demo", True, ())
            await engine.do(2, "kill")
            last = (await ear.until(has(Members)))[-1]
            assert isinstance(last, Members)
            assert (last.members, last.quorate) == ((1,), True)
            # With a third node it is no longer so.
            cluster = engine.cluster
            cluster.settings = replace(cluster.settings, two_node=False)
            cluster.configure((*cluster.members, Member.of(3)))
            assert cluster.reload(1).returncode == 0
            await ear.until(
                lambda e: any(isinstance(x, Configured) and len(x.nodes) == 3 and not x.two_node for x in e)
            )
            await port.close()

    asyncio.run(run())


def test_without_a_quorum_provider_there_is_no_engine_and_what_to_write_is_said() -> None:
    async def run() -> None:
        async with running_corosync(1) as engine:
            file = engine.cluster.seats[1].directory / "etc" / "corosync.conf"
            file.write_text(file.read_text().replace("provider: corosync_votequorum", ""))
            await engine.do(1, "stop")
            await engine.do(1, "start")
            port, ear = engine.membership(1, "o2cb"), Ear[MembershipEvent]()
            await port.start(ear)
            # Before it has started, "it does not run" is said, too.
            heard = await ear.until(lambda e: any(isinstance(x, EngineDown) and "CS_ERR" not in x.reason for x in e))
            down = heard[-1]
            assert isinstance(down, EngineDown)
            assert "corosync has no quorum provider" in down.reason
            assert "provider: corosync_votequorum" in down.reason
            await port.close()

    asyncio.run(run())


@pytest.mark.skipif(platform.machine() not in SETRESUID, reason="the number of setresuid(2) is not known here")
def test_who_is_not_admitted_is_told_where_to_write_his_name() -> None:
    def nobody(enter: Callable[[], None]) -> Callable[[], None]:
        def entered() -> None:
            enter()
            # The system calls themselves: this thread alone becomes nobody.
            for call in (SETRESGID, SETRESUID):
                assert ctypes.CDLL(None).syscall(call[platform.machine()], 65534, 65534, 65534) == 0

        return entered

    async def run() -> None:
        async with running_corosync(1) as engine:
            port, ear = CorosyncMembership("o2cb", nobody(engine.enter(1))), Ear[MembershipEvent]()
            await port.start(ear)
            (down,) = await ear.until(bool)
            assert isinstance(down, EngineDown)
            assert "CS_ERR_ACCESS (11)" in down.reason
            assert "uidgid.d" in down.reason
            await port.close()

    asyncio.run(run())


def test_a_node_that_is_one_too_many_does_not_join_until_there_is_a_seat(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        async with running_corosync(1) as engine:
            with monkeypatch.context() as few:
                few.setattr(nodelist, "SEATS", 0)
                port, ear = engine.channel(1, "ocfs2"), Ear[ChannelEvent]()
                await port.start(ear)
                (down,) = await ear.until(bool)
                assert isinstance(down, ChannelDown)
                assert "node 1 does not join the channel" in down.reason
                port.send(b"lost")
            heard = await ear.until(has(ChannelMembers))
            assert Delivered not in {type(e) for e in heard}
            await port.close()

    asyncio.run(run())


def test_over_sockets_it_is_the_same() -> None:
    """Corosync may be told to use sockets in place of shared memory (system.qb_ipc_type)."""

    async def run() -> None:
        settings = Settings(system=("qb_ipc_type: socket",))
        async with (
            running_corosync(1, settings) as engine,
            channel(engine) as (port, ear),
            membership(engine) as (_, quorum),
        ):
            payloads = [b"%d " % i + b"x" * (i % 7 * 900) for i in range(2000)]
            async with hung(engine):
                for payload in payloads:
                    port.send(payload)
                await asyncio.sleep(0)
            heard = await ear.until(lambda e: len([x for x in e if isinstance(x, Delivered)]) == len(payloads))
            assert [e.payload for e in heard if isinstance(e, Delivered)] == payloads
            before = descriptors()
            for _ in range(3):
                await engine.do(1, "kill")
                await ear.until(has(ChannelDown))
                await quorum.until(has(EngineDown))
                await engine.do(1, "start")
                await ear.until(has(ChannelRing))
                await quorum.until(has(Members))
            assert descriptors() == before

    asyncio.run(run())


def test_a_stop_in_any_case_asks_nobody_and_is_the_reason() -> None:
    async def run() -> None:
        async with running_corosync(1) as engine, membership(engine) as (_, ear):
            # Whoever says nothing would be waited for longer than this test waits.
            await engine.patience(1, 120)
            done = await asyncio.to_thread(engine.cluster.run, 1, ("corosync-cfgtool", "-H", "--force"))
            assert done.returncode == 0
            heard = await ear.until(has(EngineDown))
            assert ShutdownAsked not in {type(e) for e in heard}
            assert isinstance(heard[-1], EngineDown)
            assert "told to stop in any case" in heard[-1].reason

    asyncio.run(run())


def test_a_sink_that_raises_is_reported_and_its_port_is_silent() -> None:
    async def run() -> None:
        reports: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        asyncio.get_running_loop().set_exception_handler(lambda _, context: reports.put_nowait(context))
        async with running_corosync(1) as engine:
            heard: list[MembershipEvent] = []

            def sink(event: MembershipEvent) -> None:
                heard.append(event)
                if isinstance(event, Members):
                    raise ZeroDivisionError

            port = engine.membership(1, "o2cb")
            await port.start(sink)
            report = await asyncio.wait_for(reports.get(), PATIENCE)
            assert isinstance(report["exception"], ZeroDivisionError)
            await engine.do(1, "kill")
            await port.close()
            assert ([type(e) for e in heard], reports.qsize()) == ([EngineUp, Members], 0)

    asyncio.run(run())


def test_what_cannot_be_dealt_with_is_reported_and_the_port_connects_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A port that fell silent would leave its daemon with the membership of that moment for ever."""

    async def run() -> None:
        reports: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        asyncio.get_running_loop().set_exception_handler(lambda _, context: reports.put_nowait(context))
        async with running_corosync(2) as engine, membership(engine) as (_, ear):
            with monkeypatch.context() as patch:
                patch.setattr("libo2cb.engine.corosync.membership.Assembler.hear", _fails)
                await engine.do(2, "kill")
                report = await asyncio.wait_for(reports.get(), PATIENCE)
                assert isinstance(report["exception"], ZeroDivisionError)
                (*_, down) = await ear.until(has(EngineDown))
                assert isinstance(down, EngineDown)
                assert "a bug of this daemon: ZeroDivisionError" in down.reason
            heard = await ear.until(has(Members))
            assert {EngineUp, Members} <= {type(e) for e in heard}
            assert isinstance(heard[-1], Members)
            assert heard[-1].members == (1,)
            # The same for what fails beside the hearing: the reading of the configuration.
            with monkeypatch.context() as patch:
                patch.setattr(nodelist, "read", _fails)
                await engine.add(3, "10.99.0.3")
                assert isinstance((await asyncio.wait_for(reports.get(), PATIENCE))["exception"], ZeroDivisionError)
                await ear.until(has(EngineDown))
            heard = await ear.until(has(Members))
            up = next(e for e in heard if isinstance(e, EngineUp))
            assert [n.number for n in up.nodes] == [1, 2, 3]

    asyncio.run(run())


def _fails(*_: object) -> None:
    raise ZeroDivisionError


def test_a_process_without_descriptors_says_so_and_connects_when_it_has_some(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        async with running_corosync(1) as engine:
            port, ear = engine.membership(1, "o2cb"), Ear[MembershipEvent]()
            before = descriptors()
            with monkeypatch.context() as patch:
                patch.setattr(os, "dup", _no_descriptor)
                await port.start(ear)
                (down,) = await ear.until(has(EngineDown))
                assert isinstance(down, EngineDown)
                assert down.reason == "this process cannot connect to corosync: Too many open files"
            await ear.until(has(Members))
            await port.close()
            assert descriptors() <= before + 1  # the loop's own

    asyncio.run(run())


def _no_descriptor(_fd: int) -> int:
    raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))


def test_where_only_one_of_three_services_connects_nothing_is_left_open_and_all_is_tried_again() -> None:
    """Each connection takes 3 MB of /dev/shm, and there is room for one."""

    async def run() -> None:
        async with running_corosync(1) as engine:
            await room(engine, "$(( $(df -B1 --output=used /dev/shm | tail -1) + 5000000 ))")
            port, ear = engine.membership(1, "o2cb"), Ear[MembershipEvent]()
            before = descriptors()
            await port.start(ear)
            (down,) = await ear.until(has(EngineDown))
            assert isinstance(down, EngineDown)
            assert "CS_ERR_NO_SPACE" in down.reason
            assert "make /dev/shm larger" in down.reason
            await room(engine, "1g")
            await ear.until(has(Members))
            await port.close()
            assert descriptors() <= before + 1  # the loop's own

    async def room(engine: Corosync, size: str) -> None:
        remount = f"mount -o remount,size={size} /dev/shm"
        done = await asyncio.to_thread(engine.cluster.run, 1, ("sh", "-c", remount))
        assert done.returncode == 0, done.stderr

    asyncio.run(run())


def test_a_node_is_put_out_for_a_reason_of_any_length() -> None:
    """Corosync takes 255 bytes; what a daemon has to say of a garbled message may be longer."""

    async def run() -> None:
        async with running_corosync(2) as engine, membership(engine) as (port, ear):
            port.put_out(2, "ü" * 200)
            await ear.until(lambda heard: any(isinstance(e, Members) and e.members == (1,) for e in heard))
            process = engine.cluster.seats[2].corosync
            assert process is not None
            assert await asyncio.to_thread(process.wait, PATIENCE) == 255

    asyncio.run(run())


def test_a_port_starts_once_and_may_close_without() -> None:
    async def run() -> None:
        async with running_corosync(1) as engine, membership(engine) as (port, _):
            with pytest.raises(RuntimeError, match="started before"):
                await port.start(lambda _: None)
            await engine.channel(1, "never").close()

    asyncio.run(run())
