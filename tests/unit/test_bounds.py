"""Every queue, buffer and table has a limit and says when it is reached; docs/bounds.md lists them, and is right."""

import ast
import asyncio
import base64
import contextlib
import errno
import importlib
import os
import re
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from libo2cb.engine.port import ChannelDown, ChannelEvent, ChannelMember, ChannelMembers, ChannelRing, Delivered, Reason
from libo2cb.engine.sandbox import SandboxChannel
from libo2cb.engine.wire import MAX_LINE, MAX_PAYLOAD
from libo2cb.engine.wire import encode as line
from libo2cb.events import Event, Log
from libo2cb.locks import LockDirectory
from libo2cb.processes import Process
from libo2cb.sandbox import hub as sandbox_hub
from libo2cb.sandbox.plan import Plan
from o2cb_controld import events as o2told
from o2cb_controld.mind import step as o2step
from o2cb_controld.state import Ending
from ocfs2_controld import events as told
from ocfs2_controld.holders import ProcessWatch
from ocfs2_controld.neighbour import Neighbour
from ocfs2_controld.sightings import Sightings
from ocfs2_controld.table import MOST_GROUPS
from ocfs2_controld.voice import ChannelSaid, Voice
from protocol import client, ordering
from protocol import group as words
from protocol.frozen import FrozenMap
from protocol.group import Assembler, BadEnvelope, Claim, Envelope, Goodbye, Inside, Statement, View, ViewMember
from protocol.identity import Life, NodeIdentity, Ring
from tests.engine.ears import PATIENCE, Ear
from tests.engine.hubs import running_hub
from tests.simulation.desk import Desk, F
from tests.simulation.world import uuid
from tests.unit.test_ledger import settled
from tests.unit.test_o2cb_daemon import Lab, Peer, play
from tests.unit.test_ocfs2_shell import DEADLINE, US, Granter

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "bounds.md"
B = "ocfs2_controld"


# The page.


def _rows() -> list[list[str]]:
    lines = [line for line in PAGE.read_text().splitlines() if line.startswith("| ")]
    rows = [[c.strip() for c in line.split("|")[1:-1]] for line in lines]
    return [row for row in rows if row[0] != "What"]


def test_the_page_gives_each_limit_as_the_code_has_it() -> None:
    named = [
        (m[1], m[2], m[3].replace(" ", ""))
        for row in _rows()
        for m in re.finditer(r"`([\w.]+)\.([A-Z_]+)` = ([\d ]+\d|\d)", row[1])
    ]
    assert len(named) > 20
    wrong = {f"{m}.{n}": v for m, n, v in named if str(getattr(importlib.import_module(m), n)).partition(".")[0] != v}
    assert wrong == {}


def test_the_page_names_no_test_that_is_not_there() -> None:
    rows = _rows()
    assert all(len(row) == 4 for row in rows), [row for row in rows if len(row) != 4]
    found = "\n".join(p.read_text() for p in (ROOT / "tests").rglob("*.py"))
    tests = {t for row in rows for t in re.findall(r"`(test_\w+)`", row[3])}
    assert [t for t in sorted(tests) if f"def {t}(" not in found] == []


# ocfs2_controld: clients and filesystems.


def test_one_filesystem_too_many_is_refused_with_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ocfs2_controld.sessions.MOST_FILESYSTEMS", 2)
    desk = Desk()
    desk.used("ocfs2")
    assert desk.call().mount(fs="G") == []
    assert desk.call().mount(fs="H") == [
        (errno.ENOSPC, "This node uses 2 filesystems, 2 at most: unmount one first"),
    ]
    assert desk.call().mount(fs="F") == [(114, "Already mounted, go ahead")]
    desk.settle()
    assert uuid("H") not in desk.state.locals


def test_a_cluster_with_too_many_groups_takes_no_new_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ocfs2_controld.sessions.MOST_GROUPS", 2)
    desk = Desk(2)
    for fs in "FG":
        desk.client(2, fs)
        desk.settle()
    refused = desk.call().mount(fs="H")
    assert refused == [(errno.ENOSPC, "The cluster uses 2 filesystems, 2 at most: unmount one everywhere first")]
    here = desk.call()
    assert here.mount(fs="G") == []
    desk.settle()
    assert here.codes == [0], "a group that is there already may have one more member"


def test_one_service_too_many_of_a_filesystem_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ocfs2_controld.sessions.MOST_SERVICES", 2)
    desk = Desk()
    desk.used("ocfs2", "by hand")
    (code, text) = desk.call().mount("by another hand")[0]
    assert code == errno.ENOSPC
    assert text == f"Filesystem {F} has 2 services on this node, the most it can have: end one first"
    assert desk.call().mount("ocfs2") == [(114, "Already mounted, go ahead")]


def test_counts_have_fixed_names() -> None:
    """A counter whose name came from outside would grow with what strangers send."""
    names: set[str] = set()
    for path in (ROOT / "ocfs2_controld").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in {"t.count", "c.turn.count", "self.turn.count"}:
                (argument,) = node.args
                assert isinstance(argument, ast.Constant), f"{path.name}:{node.lineno}"
                names.add(str(argument.value))
    assert names == {"kernel_refusals", "signals_refused", "surprises", "violations"}


def test_what_was_sighted_is_forgotten_with_its_cause() -> None:
    desk, sightings = Desk(3, up=(1, 2)), Sightings()
    sightings.look(desk.state, 1.0)
    assert set(sightings.daemons) == {1, 2}
    desk.held.add("n2 ocfs2_controld")
    desk.call().mount()
    while desk.state.group(F).idle:
        desk.do(desk.choices()[0])
    sightings.look(desk.state, 2.0)
    assert {(fs, life.node) for fs, life in sightings.joiners} == {(F, 1)}
    desk.held.clear()
    desk.settle()
    desk.power_off(2)
    desk.settle()
    sightings.look(desk.state, 3.0)
    assert sightings.joiners == {}


def test_a_long_life_leaves_nothing_in_either_mind() -> None:
    """Mounts, unmounts, deaths and returns: all states are then as large as they were, but for longer numbers."""
    desk = Desk(3)

    def live(rounds: int) -> None:
        for _ in range(rounds):
            for number in (1, 2, 3):
                desk.client(number, "F")
                desk.settle()
            desk.power_off(3)
            desk.wait(5)
            desk.power_on(3)
            desk.wait(40)
            for number in (1, 2):
                desk.umount(number, "F")
                desk.wait(5)
                for connection in list(desk.nodes[number].clients):
                    desk.client_dies(number, connection)
            desk.settle()

    def sizes() -> list[int]:
        return [len(repr(mind)) for node in desk.nodes.values() for mind in (node.ocfs2, node.o2cb)]

    live(3)
    before = sizes()
    live(6)
    assert all(after < size + 100 for size, after in zip(before, sizes(), strict=True)), (before, sizes())


# ocfs2_controld: o2cb_controld's words.


@pytest.mark.parametrize("number", [0, 255, 2**31 - 1])
def test_a_hint_about_a_number_that_no_node_has_is_counted_and_not_kept(number: int) -> None:
    desk = Desk()
    desk.ocfs2(1, told.OrderingSaid(ordering.Waiting(number, "why"), descriptor=False))
    assert dict(desk.state.locks.waiting) == {}
    assert desk.state.counts["violations"] == 1
    desk.ocfs2(1, told.OrderingSaid(ordering.Waiting(254, "why"), descriptor=False))
    assert dict(desk.state.locks.waiting) == {254: "why"}


def test_grants_that_nobody_takes_are_given_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ocfs2_controld.neighbour.MOST_CAME", 2)

    async def scene() -> None:
        heard: asyncio.Queue[told.Event] = asyncio.Queue()
        notes: list[Log] = []
        granter = Granter(tmp_path)
        granter.server.listen()
        neighbour = Neighbour(granter.server.name, US, heard.put_nowait, notes.append)
        neighbour.start()
        to = await asyncio.wait_for(granter.connected.get(), DEADLINE)
        assert await asyncio.wait_for(heard.get(), DEADLINE) == told.OrderingUp()
        for request in (1, 2, 3):
            granter.send(to, ordering.Locked(request), request)
        came = [await asyncio.wait_for(heard.get(), DEADLINE) for _ in range(3)]
        assert [e.descriptor for e in came if isinstance(e, told.OrderingSaid)] == [True, True, False]
        assert [granter.is_free(n) for n in (1, 2, 3)] == [False, False, True]
        assert [n.event for n in notes] == [Event.VIOLATION]
        neighbour.close()
        granter.server.close()
        await asyncio.sleep(0)

    asyncio.run(scene())


def test_more_processes_than_descriptors_are_watched_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ocfs2_controld.holders.MOST_DESCRIPTORS", 1)
    monkeypatch.setattr("ocfs2_controld.holders.POLL_SECONDS", 0.01)

    async def scene() -> None:
        ended: asyncio.Queue[told.ProcessEnded] = asyncio.Queue()
        watch = ProcessWatch(ended.put_nowait)
        before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 (counted, not walked)
        children = _sleepers(3)
        pipes = len(children)
        found = [Process.of(c.pid) for c in children]
        for process in found:
            assert process is not None
            watch.watch(process.pid, float(process.started))
        assert len(os.listdir("/proc/self/fd")) - before == pipes + 1  # noqa: PTH208 (counted, not walked)
        for child in children:
            child.kill()
            child.communicate()
        gone = {(await asyncio.wait_for(ended.get(), DEADLINE)).pid for _ in children}
        assert gone == {c.pid for c in children}
        watch.close()

    asyncio.run(scene())


def _sleepers(count: int) -> list[subprocess.Popen[bytes]]:
    return [subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) for _ in range(count)]


# ocfs2_controld: the channel.


def _statement(claims: int) -> Statement:
    view = View(Ring(1, 1), (ViewMember(1, 1),))
    made = {f"{i:032X}": Claim(Inside.MEMBER, running=True, started=words.NO_START) for i in range(claims)}
    identity = NodeIdentity(1, "10.0.0.1", 7777, "n1")
    table = words.GroupTable(FrozenMap({fs: words.Group() for fs in made}))
    return Statement(view, Life(1, "b"), "i", "n", identity, b"", (1,), table, FrozenMap(made), (), doubt=False)


def _reread(statement: Statement) -> Envelope | None:
    assembler, got = Assembler(), None
    for piece in words.encode(Envelope(None, (statement,)), 1):
        got = assembler.feed(piece)
    return got


def test_a_statement_with_too_many_groups_claims_or_lives_expels_its_sender(monkeypatch: pytest.MonkeyPatch) -> None:
    most = _statement(3)
    monkeypatch.setattr(words, "MOST_GROUPS", 3)
    assert _reread(most) == Envelope(None, (most,))
    with pytest.raises(BadEnvelope, match="4 groups are more than 3"):
        _reread(_statement(4))
    bare = _statement(4)
    with pytest.raises(BadEnvelope, match="4 claims are more than 3"):
        _reread(Statement(**{**{f: getattr(bare, f) for f in bare.__slots__}, "table": None}))
    monkeypatch.setattr(words, "MOST_LIVES", 2)
    with pytest.raises(BadEnvelope, match="3 nodes are more than 2"):
        _reread(Statement(**{**{f: getattr(most, f) for f in most.__slots__}, "configured": (1, 2, 3)}))


def test_the_largest_table_that_mounts_can_make_fits_a_statement() -> None:
    """Every group with every node in it, in the midst of an answer; ids as long as real ones."""
    lives = tuple(Life(n, "01234567-89ab-cdef-0123-456789abcdef") for n in range(1, 255))
    group = words.Group(members=lives, answers=lives)
    one = len(next(words.encode(Envelope(None, (_with(group, 1),)), 1)))
    two = len(b"".join(words.encode(Envelope(None, (_with(group, 2),)), 1)))
    assert two - one > len(lives) * 40
    assert MOST_GROUPS * (two - one) < words.MOST
    assert MOST_GROUPS < words.MOST_GROUPS


def _with(group: words.Group, count: int) -> Statement:
    s = _statement(0)
    table = words.GroupTable(FrozenMap({f"{i:032X}": group for i in range(count)}))
    return Statement(**{**{f: getattr(s, f) for f in s.__slots__}, "table": table})


class Fed:
    """A channel port that says what a test makes it say."""

    def __init__(self) -> None:
        self.sink: Callable[[ChannelEvent], None] = lambda _: None

    async def start(self, sink: Callable[[ChannelEvent], None]) -> None:
        self.sink = sink

    def send(self, payload: bytes) -> None:
        """Nothing."""

    async def close(self) -> None:
        """Nothing."""


def test_half_an_envelope_goes_with_its_sender() -> None:
    async def scene() -> None:
        port, heard = Fed(), list[ChannelSaid]()
        voice = Voice(port, heard.append, lambda: len(heard), lambda: None)
        await voice.start()
        a, b = ChannelMember(1, 11), ChannelMember(2, 22)
        port.sink(ChannelMembers((a, b), ((a, Reason.JOIN), (b, Reason.JOIN)), ()))
        first, second = list(words.encode(Envelope(None, (_big(),)), 7))[:2]
        port.sink(Delivered(b, first))
        port.sink(Delivered(a, first))
        port.sink(ChannelMembers((a,), (), ((b, Reason.PROCDOWN),)))
        port.sink(ChannelMembers((a, b), ((b, Reason.JOIN),), ()))
        heard.clear()
        port.sink(Delivered(b, second))
        assert heard == [], "the rest of an envelope whose beginning is forgotten is skipped"
        port.sink(Delivered(a, second))
        assert [type(e) for e in heard] == [told.Heard], "another's is untouched"

    asyncio.run(scene())


def test_a_daemon_that_cannot_follow_leaves_the_channel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ocfs2_controld.voice.MOST_EVENTS", 3)

    async def scene() -> None:
        port, inbox = Fed(), list[ChannelSaid]()
        gone: list[str] = []
        voice = Voice(port, inbox.append, lambda: len(inbox), lambda: gone.append("left"))
        await voice.start()
        member = ChannelMember(1, 11)
        for i in range(10):
            port.sink(ChannelRing(Ring(i, 1), (1,)))
        assert [type(e) for e in inbox] == [ChannelRing, ChannelRing, ChannelRing, ChannelDown]
        assert isinstance(inbox[-1], ChannelDown)
        assert "3 events wait here" in inbox[-1].reason
        inbox.clear()
        port.sink(ChannelMembers((member,), ((member, Reason.JOIN),), ()))
        assert (inbox, gone) == ([], ["left"]), "it does not come back by itself"

    asyncio.run(scene())


def _big() -> words.Expel:
    view = View(Ring(1, 1), (ViewMember(1, 1),))
    return words.Expel(view, ViewMember(1, 1), "x" * words.PIECE)


def test_statements_are_kept_of_members_only() -> None:
    desk = Desk(2)
    before = desk.state.channel
    stranger = ViewMember(9, 999)
    desk.ocfs2(1, told.Heard(stranger, Envelope(None, (_statement(0),))))
    desk.ocfs2(1, told.Heard(stranger, Envelope("no change", (Goodbye(),))))
    assert desk.state.channel.statements == before.statements
    assert desk.state.channel.early == before.early
    desk.ocfs2(1, ChannelRing(Ring(99, 1), (1, 2)))
    desk.ocfs2(1, told.Heard(stranger, Envelope(None, (_statement(0),))))
    assert stranger not in {**desk.state.channel.statements, **desk.state.channel.early}


# o2cb_controld.


def test_a_signal_said_many_times_is_one_wish() -> None:
    """While the daemon empties the tree, whoever is impatient must not make it remember each press of a key."""
    state = settled()
    for event in (o2told.Signal("SIGTERM"), o2told.ServiceLock(ok=True), o2told.UseFound(())):
        state, _ = o2step(state, 0.0, event)
    assert state.ending is Ending.EMPTYING
    for _ in range(50):
        state, _ = o2step(state, 0.0, o2told.Signal("SIGINT"))
        state, _ = o2step(state, 0.0, o2told.Signal("SIGTERM"))
    assert len(state.wishes) <= 2


def test_who_says_more_than_the_mind_can_take_is_told_and_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scene(lab: Lab, peer: Peer) -> None:
        other = Peer(lab.path)
        with monkeypatch.context() as patch:
            patch.setattr("o2cb_controld.daemon.MOST_EVENTS", 0)
            await other.say(ordering.Unlocked(2))
            message, _ = await other.hear()
            assert message == client.Status(errno.EBUSY, "0 events wait here already; ask again later")
            with pytest.raises(AssertionError, match="the connection was closed"):
                await other.hear()
        other.close()
        assert (await peer.report()).ready, "others are served"

    assert play(tmp_path, scene) == 0


# The sandbox's hub.


def test_a_listener_that_is_held_back_for_too_long_is_dropped(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("libo2cb.sandbox.exchange.MAX_WAITING", 20)

    async def scene(home: Path) -> None:
        Plan.of(2).write(home / "nodes.json")
        running = asyncio.create_task(sandbox_hub.run(home))
        path = home / "hub.sock"
        async with asyncio.timeout(PATIENCE):
            while not path.exists():  # noqa: ASYNC110 (a path is waited for)
                await asyncio.sleep(0.005)
        reader, writer = await asyncio.open_unix_connection(str(path))

        async def say(**message: object) -> None:
            writer.write(line(message))
            assert b"error" not in await asyncio.wait_for(reader.readline(), PATIENCE)

        for node in ("n1", "n2"):
            await say(op="engine", node=node, do="start")
        a, b = SandboxChannel(str(path), "n1", B), SandboxChannel(str(path), "n2", B)
        ear, other = Ear[ChannelEvent](), Ear[ChannelEvent]()
        await a.start(ear)
        await b.start(other)
        await ear.until(lambda heard: any(isinstance(e, ChannelMembers) and len(e.members) == 2 for e in heard))
        await say(op="hold", node="n2", what=f"{B}.channel")
        left = False
        for i in range(30):
            a.send(b"%d" % i)  # one at a time, or its own words would wait for their sender as well
            heard = await ear.until(_has_heard(b"%d" % i))
            left = left or any(isinstance(e, ChannelMembers) and e.left for e in heard)
        assert left, "for the others it is a dead process"
        await a.close()
        await b.close()
        writer.write(line({"op": "quit"}))
        await asyncio.wait_for(running, PATIENCE)
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    with tempfile.TemporaryDirectory(prefix="hub") as home:
        asyncio.run(scene(Path(home)))
    assert "more than 20 events wait for it" in capsys.readouterr().err


def _has_heard(payload: bytes) -> Callable[[list[ChannelEvent]], bool]:
    return lambda heard: any(isinstance(e, Delivered) and e.payload == payload for e in heard)


def test_who_asks_the_hub_without_end_is_told_and_closed() -> None:
    async def scene() -> None:
        async with running_hub(1) as hub:
            listener = SandboxChannel(hub.path, "n1", B)
            ear = Ear[ChannelEvent]()
            await listener.start(ear)
            await ear.until(bool)
            with socket.socket(socket.AF_UNIX) as greedy:
                greedy.connect(hub.path)
                greedy.settimeout(PATIENCE)
                asked = {"op": "ask_shutdown", "node": "n1", "timeout": 60}
                with socket.socket(socket.AF_UNIX) as silent:
                    silent.connect(hub.path)
                    silent.sendall(line({"op": "listen", "node": "n1", "listener": "silent"}))
                    silent.recv(1)  # it listens by now, and will not answer
                    greedy.sendall(line(asked) + line({"op": "status"}) * 1200)
                    answer = await asyncio.to_thread(_all_of, greedy)
                assert b"more words, or answers that were not read" in answer
            assert (await hub.ask("status"))["nodes"], "others are served"
            await listener.close()

    asyncio.run(scene())


def _all_of(sock: socket.socket) -> bytes:
    got = b""
    with contextlib.suppress(ConnectionError):
        while piece := sock.recv(65536):
            got += piece
    return got


def test_a_payload_has_its_size(tmp_path: Path) -> None:
    channel = SandboxChannel(str(tmp_path / "hub"), "n1", B)
    with pytest.raises(ValueError, match="65536 bytes at most, this one has 65537"):
        channel.send(b"x" * (MAX_PAYLOAD + 1))

    async def scene() -> None:
        async with running_hub(1) as hub:
            reader, writer = await asyncio.open_unix_connection(hub.path, limit=MAX_LINE)
            payload = base64.b64encode(b"x" * (MAX_PAYLOAD + 1)).decode()
            writer.write(line({"op": "join", "node": "n1", "listener": B}) + line({"op": "send", "payload": payload}))
            answer = await asyncio.wait_for(reader.read(), PATIENCE)
            assert b"a message has 65536 bytes at most" in answer
            writer.close()
            await writer.wait_closed()

    asyncio.run(scene())


def test_a_hub_that_does_not_read_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("libo2cb.engine.sandbox.MAX_UNSENT", 1 << 20)

    async def scene() -> None:
        with socket.socket(socket.AF_UNIX) as deaf:
            deaf.bind(str(tmp_path / "hub"))
            deaf.listen()
            channel, ear = SandboxChannel(str(tmp_path / "hub"), "n1", B), Ear[ChannelEvent]()
            await channel.start(ear)
            accepted, _ = await asyncio.to_thread(deaf.accept)
            with accepted:
                for _ in range(64):
                    await asyncio.sleep(0)
                    channel.send(b"x" * MAX_PAYLOAD)
                await ear.until(lambda heard: any(isinstance(e, ChannelDown) for e in heard))
            await channel.close()

    asyncio.run(scene())


def test_lock_files_are_one_a_number(tmp_path: Path) -> None:
    locks = LockDirectory(tmp_path)
    held = [locks.shared(n) for n in (1, 1, 2)]
    assert all(held)
    assert len([p for p in tmp_path.iterdir() if p.is_file()]) == 2
    for lock in held:
        assert lock is not None
        lock.close()
