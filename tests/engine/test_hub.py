"""The hub: the skew that it makes, the orders that it keeps, its history, and clients that do not behave."""

import asyncio
import json
import socket
import sys

import pytest

from libo2cb.engine.port import ChannelEvent, ChannelMembers, Delivered, EngineDown, EngineUp, Members, MembershipEvent
from libo2cb.engine.sandbox import SandboxChannel, SandboxMembership
from libo2cb.engine.wire import MAX_LINE, Json, decode, encode
from libo2cb.sandbox.ask import HubError
from libo2cb.sandbox.connection import Connection
from tests.engine.ears import Ear
from tests.engine.hubs import RunningHub, running_hub, start_hub

A, B = "o2cb_controld", "ocfs2_controld"


async def membership(hub: RunningHub, node: str, listener: str) -> tuple[SandboxMembership, Ear[MembershipEvent]]:
    port, ear = SandboxMembership(hub.path, node, listener), Ear[MembershipEvent]()
    await port.start(ear)
    await ear.until(lambda heard: any(isinstance(e, Members) for e in heard))
    return port, ear


async def shake(hub: RunningHub, times: int, *ears: Ear[MembershipEvent]) -> None:
    """Cut n3 off and heal, again and again; each time all hear of it."""
    for _ in range(times):
        await hub.ask("cut", groups=[["n3"]])
        for ear in ears:
            await ear.until(lambda heard: any(isinstance(e, Members) for e in heard))
        await hub.ask("heal")
        for ear in ears:
            await ear.until(lambda heard: any(isinstance(e, Members) for e in heard))


def firsts(hub: RunningHub) -> list[str]:
    """Which listener of n1 heard first of each ring that both heard of, after their beginning."""
    heard: dict[str, list[str]] = {}
    for line in hub.history():
        if line["op"] == "deliver" and line["node"] == 1 and line["kind"] == "Members":
            heard.setdefault(line["ring"], []).append(line["listener"])
    return [who[0] for who in list(heard.values())[1:] if len(who) == 2]


@pytest.mark.parametrize("order", [(A, B), (B, A), ()])
def test_the_skew_is_seeded_or_forced(order: tuple[str, ...]) -> None:
    async def run() -> None:
        async with running_hub(3, seed=7) as hub:
            ports = [await membership(hub, "n1", name) for name in (A, B)]
            await hub.ask("order", node="n1", listeners=order)
            await shake(hub, 10, *(ear for _, ear in ports))
            assert len(firsts(hub)) == 20
            assert set(firsts(hub)) == ({order[0]} if order else {A, B})
            for port, _ in ports:
                await port.close()

    asyncio.run(run())


def test_an_order_waits_until_the_first_has_dealt_with_it() -> None:
    async def run() -> None:
        async with running_hub(3) as hub:
            port, ear = await membership(hub, "n1", B)
            # A raw listener, which reads and does not acknowledge: it is still busy with what it was told.
            reader, writer = await asyncio.open_unix_connection(hub.path)
            writer.write(encode({"op": "listen", "node": "n1", "listener": A}))
            seen: list[Json] = [decode(await reader.readline()) for _ in range(2)]
            writer.write(encode({"op": "ack", "count": 2}))
            await hub.ask("order", node="n1", listeners=[A, B])
            await hub.ask("engine", node="n3", do="kill")
            seen.append(decode(await reader.readline()))
            assert seen[-1]["members"] == [1, 2]
            for _ in range(20):  # each lets the hub look again at who may hear what
                await hub.ask("order", node="n1", listeners=[A, B])
            acked = len(hub.history())
            assert ear.events == []
            writer.write(encode({"op": "ack", "count": 3}))
            await ear.until(bool)
            told = [i for i, x in enumerate(hub.history()) if x["op"] == "deliver" and x["listener"] == B]
            assert told[-1] >= acked
            writer.close()
            await writer.wait_closed()
            await port.close()

    asyncio.run(run())


def test_a_held_stream_delivers_nothing_until_it_is_released() -> None:
    async def run() -> None:
        async with running_hub(3) as hub:
            port, ear = await membership(hub, "n1", B)
            channel, word = SandboxChannel(hub.path, "n1", B), Ear[ChannelEvent]()
            await channel.start(word)
            await word.until(lambda heard: len(heard) == 2)
            await hub.ask("hold", node="n1", what=f"{B}.channel")
            await hub.ask("engine", node="n3", do="kill")
            await ear.until(bool)
            await hub.ask("release", node="n1", what=B)
            await word.until(bool)
            history = [(x["op"], x.get("stream")) for x in hub.history()]
            told = max(i for i, x in enumerate(history) if x == ("deliver", "channel"))
            assert told > history.index(("release", None)) > history.index(("hold", None))
            with pytest.raises(HubError, match="not held"):
                await hub.ask("release", node="n1", what=B)
            with pytest.raises(HubError, match="neither LISTENER"):
                await hub.ask("hold", node="n1", what="x.y")
            await port.close()
            await channel.close()

    asyncio.run(run())


def test_a_client_that_does_not_read_is_dropped_and_hurts_nobody() -> None:
    async def run() -> None:
        async with running_hub(2) as hub:
            port, ear = SandboxChannel(hub.path, "n1", B), Ear[ChannelEvent]()
            await port.start(ear)
            await ear.until(bool)
            with socket.socket(socket.AF_UNIX) as lazy:
                lazy.connect(hub.path)
                lazy.sendall(encode({"op": "join", "node": "n2", "listener": B}))
                for _ in range(200):
                    port.send(b"x" * 65536)
                    await asyncio.sleep(0)
                await ear.until(lambda heard: any(isinstance(e, ChannelMembers) and e.left for e in heard))
            port.send(b"still here")
            await ear.until(lambda heard: any(isinstance(e, Delivered) and e.payload == b"still here" for e in heard))
            causes = [x["cause"] for x in hub.history() if x["op"] == "detach"]
            assert causes == ["dropped"]
            await port.close()

    asyncio.run(run())


@pytest.mark.parametrize(
    ("said", "answer"),
    [
        (b"nonsense\n", "does not understand"),
        (b"[1]\n", "does not understand"),
        (b'{"op": "fly"}\n', "knows no 'fly'"),
        (b'{"op": "boot"}\n', "no 'node'"),
        (b'{"op": "boot", "node": "n9", "boot": "x"}\n', "the nodes are n1, n2"),
        (b'{"op": "listen", "node": "n1", "listener": ""}\n', "1 to 128"),
        (b'{"op": "listen", "node": "n1", "listener": "a"}\n{"op": "send", "payload": ""}\n', "no word"),
        (b'{"op": "join", "node": "n1", "listener": "a"}\n{"op": "send", "payload": "?"}\n', "does not understand"),
        (b"x" * (MAX_LINE + 1), "at most"),
    ],
)
def test_whatever_a_client_says_is_answered(said: bytes, answer: str) -> None:
    async def run() -> None:
        async with running_hub(2, engines=False) as hub:
            reader, writer = await asyncio.open_unix_connection(hub.path)
            writer.write(said)
            lines = [decode(await reader.readline())]
            while "error" not in lines[-1]:
                lines.append(decode(await reader.readline()))
            assert answer in lines[-1]["error"]
            writer.close()
            await writer.wait_closed()
            assert len((await hub.ask("status"))["nodes"]) == 2

    asyncio.run(run())


def test_a_last_word_is_read_although_its_sender_can_be_told_nothing_more() -> None:
    async def run() -> None:
        heard: list[object] = []
        over = asyncio.Event()

        def lost(_: Connection) -> None:
            over.set()

        ours, theirs = socket.socketpair()
        connection = Connection(lambda _, message: heard.append(message), lost)
        await asyncio.get_running_loop().connect_accepted_socket(lambda: connection, ours)
        with theirs:
            theirs.sendall(encode({"op": "last"}))
        connection.say({"event": "refused by the kernel"})  # before the loop has looked for anything to read
        await asyncio.wait_for(over.wait(), 30)
        assert heard == [{"op": "last"}]

    asyncio.run(run())


def test_a_second_process_of_a_name_is_refused_and_comes_in_when_the_first_has_gone() -> None:
    async def run() -> None:
        async with running_hub(2) as hub:
            first, _ = await membership(hub, "n1", A)
            second, ear = SandboxMembership(hub.path, "n1", A), Ear[MembershipEvent]()
            await second.start(ear)
            (event,) = await ear.until(bool)
            assert isinstance(event, EngineDown)
            assert "already" in event.reason
            await first.close()
            assert isinstance((await ear.until(bool))[0], EngineUp), "nothing comes before it"
            await second.close()

    asyncio.run(run())


def test_without_a_hub_a_port_is_down_once_and_comes_up_by_itself() -> None:
    async def run() -> None:
        async with running_hub(2) as hub:
            port, ear = await membership(hub, "n1", A)
            hub.process.kill()
            await hub.process.wait()
            late, other = SandboxMembership(hub.path, "n2", A), Ear[MembershipEvent]()
            await late.start(other)
            for e in (ear, other):
                (event,) = await e.until(bool)
                assert isinstance(event, EngineDown)
            again = await start_hub(hub.home)
            try:
                await again.ask("engine", node="n1", do="start")
                heard = await ear.until(lambda events: any(isinstance(e, Members) for e in events))
                assert isinstance(heard[0], EngineUp)
                assert (await again.ask("status"))["nodes"][1]["engine"] == "down"
                assert other.events == [], "down is said once"
            finally:
                again.process.kill()
                await again.process.wait()
            await port.close()
            await late.close()

    asyncio.run(run())


def test_the_history_tells_what_happened_and_the_plan_keeps_the_configuration() -> None:
    async def run() -> None:
        async with running_hub(2) as hub:
            port, _ = await membership(hub, "n1", A)
            await hub.ask("boot", node="n2", boot="life")
            await hub.ask("readdress", node="n2", address="10.0.0.99")
            await hub.ask("power_off", node="n2")
            await hub.ask("dead", node="n2")
            await port.close()
            history = hub.history()
            assert [x["time"] for x in history] == sorted(x["time"] for x in history)
            ops = [(x["op"], x.get("node"), x.get("boot")) for x in history]
            off = ops.index(("power_off", 2, "life"))
            assert ops.index(("boot", 2, "life")) < off < ops.index(("dead", 2, "life"))
            engine, ring = (next(x for x in history[off:] if x["op"] == op) for op in ("engine", "ring"))
            assert (engine["node"], engine["state"], engine["cause"]) == (2, "down", "power_off")
            assert (ring["node"], ring["members"], ring["quorate"]) == (1, [1], False)
            plan = json.loads((hub.home / "nodes.json").read_bytes())
            assert plan["nodes"][1] == [2, "n2", "10.0.0.99"]

    asyncio.run(run())


def test_one_home_has_one_hub() -> None:
    async def run() -> None:
        async with running_hub(1) as hub:
            command = ("-m", "libo2cb.sandbox.hub", "--home", str(hub.home))
            pipe = asyncio.subprocess.PIPE
            other = await asyncio.create_subprocess_exec(sys.executable, *command, stderr=pipe)
            _, errors = await other.communicate()
            assert other.returncode == 1
            assert b"has a hub already" in errors
            assert (await hub.ask("status"))["nodes"], "the first one still serves"

    asyncio.run(run())
