"""What was wrong with the daemons of 2007, line by line: each input with its right behaviour.

The numbers are those of the list that was made by running them. Each is tried where it can occur: in a mind, in the
records, or on real sockets.
"""

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable
from errno import EBUSY, EINVAL, EIO, ENAMETOOLONG, ENOENT, ETIMEDOUT
from pathlib import Path

import pytest

from libo2cb.connection import Connection as ClientConnection
from libo2cb.engine.port import Configured, ConfiguredNode, EngineUp, Members
from libo2cb.errors import ServiceUnavailable
from libo2cb.events import Event, Log
from libo2cb.service.server import ListenError, RecordServer
from o2cb_controld import actions as o2do
from o2cb_controld import events as o2told
from o2cb_controld import mind as o2cb
from o2cb_controld.state import State as O2State
from ocfs2_controld import actions as do
from ocfs2_controld import events as told
from ocfs2_controld.clients import ClientEvent, Clients
from ocfs2_controld.sessions import listing
from ocfs2_controld.state import Usage
from protocol.client import ListClusters, Mount, Status, encode, parse, status
from protocol.framing import RECORD, BadMessage
from protocol.identity import NodeIdentity, Ring
from protocol.ordering import Queued
from tests.simulation.desk import Desk, F
from tests.simulation.world import CLUSTER, SimNode, uuid
from tests.transcripts.ordering_world import ScriptedOcfs2, World
from tests.unit.test_server import Echo, ask, client, read, run, until

NOT_APPLICABLE = {
    23: "arrays of clients and of poll descriptors that are grown without being initialised: the connections here are"
    " a dict of objects, and the loop keeps the descriptors; nothing is grown by hand",
}
"""Lines that cannot occur here, with the reason."""
BUSY = (EBUSY, "Another mount is in progress")


class Shop(Desk):
    """The mind of a node of one behind the real socket of its clients."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.connections = 100_000
        self.heard: list[ClientEvent] = []
        self.clients = Clients(
            name,
            trusted=frozenset({os.geteuid()}),
            max_per_uid=1000,
            tell=self.take,
            document=lambda _: "{}",
            listing=lambda connection, asked: listing(self.state, connection, asked),
            note=lambda _: None,
        )

    def take(self, event: ClientEvent) -> None:
        self.heard.append(event)
        self.ocfs2(1, event)
        self.clients.taken([event])

    def _ocfs2_act(self, node: SimNode) -> None:
        action = node.ocfs2_todo[0]
        super()._ocfs2_act(node)
        match action:
            case do.Answer(connection, code, text):
                self.clients.status(connection, code, text)
            case do.AnswerList(connection, items):
                self.clients.items(connection, items)
            case _:
                pass


def serve(tmp_path: Path, scene: Callable[[Shop, str], Awaitable[None]]) -> None:
    async def play() -> None:
        name = str(tmp_path / "clients")
        shop = Shop(name)
        shop.clients.server.listen()
        try:
            await scene(shop, name)
        finally:
            await shop.clients.finish()

    asyncio.run(play())


async def listed(sock: socket.socket) -> list[bytes]:
    """The answer to LISTCLUSTERS."""
    await asyncio.get_running_loop().sock_sendall(sock, encode(ListClusters()))
    return [(await read(sock)).partition(b"\0")[0] for _ in range(3)]


CLUSTERS = [b"ITEMCOUNT 1", b"ITEM demo", b"STATUS 0 OK"]


def joined(desk: Desk, fs: str = "F") -> Desk:
    """The same cluster, with a first mount of F finished."""
    caller = desk.call()
    caller.mount(fs=fs)
    desk.settle()
    desk.here.mounts[fs] = [f"/mnt/{fs}"]
    desk.ocfs2(1, desk.table())
    assert caller.result(fs=fs) == [(0, "OK")]
    return desk


def story(*lines: str) -> World:
    """A life of o2cb_controld on n1, which is up with n2; what was done before is forgotten."""
    world = World(ScriptedOcfs2)
    world.command("running n1 n2")
    for line in lines:
        world.command(line)
    return world


def addresses(world: World) -> dict[str, str]:
    return {n.name: n.address for n in world.kernel.nodes}


# ocfs2_controld


def test_01_a_second_mount_that_was_told_114_ends_with_its_mresult() -> None:
    desk = joined(Desk())
    second = desk.call()
    assert [code for code, _ in second.mount()] == [114]
    assert second.result() == [(0, "OK")]
    assert desk.usage() is Usage.USED


def test_02_after_an_unmount_everybody_is_served_as_before() -> None:
    desk = joined(Desk())
    desk.mounted()
    caller = desk.call()
    assert caller.unmount() == [(0, "OK")]
    desk.settle()
    caller.send(ListClusters())
    assert caller.lists == [(CLUSTER,)]
    assert joined(desk).usage() is Usage.USED


def test_03_a_segmentation_fault_kills_and_does_not_spin() -> None:
    code = (
        "import asyncio, os, signal\n"
        "from libo2cb.service import signals\n"
        "async def main():\n"
        "    signals.watch(print)\n"
        "    os.kill(os.getpid(), signal.SIGSEGV)\n"
        "    await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], timeout=60, check=False)
    assert done.returncode == -signal.SIGSEGV


def test_04_mresult_without_mount_is_answered_22() -> None:
    assert Desk().call().result()[0][0] == EINVAL


def test_05_a_refused_second_mount_leaves_no_error_for_the_owner_of_the_first() -> None:
    desk = Desk()
    owner, other = desk.call(), desk.call()
    owner.mount()
    assert other.mount() == [BUSY]
    desk.settle()
    assert other.mount() == [BUSY]
    assert owner.codes == [0]
    assert owner.result() == [(0, "OK")]


def test_06_every_refusal_has_a_text_of_its_own() -> None:
    desk = Desk()
    desk.used("/mnt/a")
    caller = desk.call()
    same = caller.mount("/mnt/a")[0]
    assert same[0] == EBUSY
    assert "already mounted on /mnt/a" in same[1]
    device = caller.mount("/mnt/b", device="G")[0]
    assert device[0] == EINVAL
    assert "/dev/G" in device[1]
    assert "already mounted" not in device[1]
    assert desk.call().mount("/mnt/b") == [(114, "Already mounted, go ahead")]


def test_07_a_wrong_mresult_is_answered_and_the_right_one_may_follow() -> None:
    desk = Desk()
    caller = desk.call()
    caller.mount("/mnt/a")
    desk.settle()
    assert caller.result(0, "/mnt/b")[0][0] == ENOENT
    with pytest.raises(BadMessage, match="Invalid error code string: zz") as refusal:
        parse(f"MRESULT ocfs2 {F} zz /mnt/a".encode())
    assert caller.garble(refusal.value.code, str(refusal.value)) == [(EINVAL, "Invalid error code string: zz")]
    assert caller.result(0, "/mnt/a") == [(0, "OK")]
    assert desk.usage() is Usage.USED


def test_08_a_third_mount_is_told_114_too() -> None:
    desk = joined(Desk())
    for _ in range(3):
        caller = desk.call()
        assert [code for code, _ in caller.mount()] == [114]
        assert caller.result() == [(0, "OK")]


def test_09_busy_is_16_and_no_negative_code_can_be_sent() -> None:
    desk = Desk()
    desk.call().mount()
    assert desk.call().mount() == [(16, "Another mount is in progress")]
    with pytest.raises(BadMessage):
        status(-16, "Another mount is in process")
    with pytest.raises(BadMessage):
        encode(Status(-16, "Another mount is in process"))


@pytest.mark.parametrize("mounted", [True, False])
def test_10_a_client_that_dies_before_its_mresult_keeps_nobody_out(mounted: bool) -> None:
    desk = Desk()
    caller = desk.call()
    caller.mount()
    desk.settle()
    if mounted:
        desk.here.mounts["F"] = ["/mnt"]
    caller.close()
    following = desk.call()
    following.mount()
    desk.settle()
    assert following.codes == [114 if mounted else 0]


def test_11_a_connection_is_never_taken_for_one_that_had_its_place(tmp_path: Path) -> None:
    desk = Desk()
    dead = desk.call()
    dead.mount()
    desk.settle()
    dead.close()
    heir = desk.call()
    assert heir.result()[0][0] == EINVAL, "another's MRESULT"
    desk.settle()
    assert dead.codes == [0], "nothing is written to who has gone"

    async def scene(server: RecordServer, handler: Echo, name: str) -> None:
        places = []
        for count in (1, 2, 3):
            with client(name) as sock:
                await ask(sock, b"x")
                places.append(next(iter(server.connections.values()))._stream._sock.fileno())
            await until(lambda: len(handler.closed_connections) == count)  # noqa: B023 (awaited in this round)
        assert len(set(places)) < 3, "the kernel gave a descriptor again, or this proves nothing"
        assert handler.opened_ids == [1, 2, 3]

    run(tmp_path, scene)


def test_12_an_unmount_does_not_take_the_place_of_the_mounter() -> None:
    desk = Desk()
    mounter = desk.call()
    mounter.mount()
    desk.settle()
    assert desk.call().unmount() == [BUSY]
    assert mounter.result() == [(0, "OK")]


def test_13_a_region_that_cannot_be_made_fails_its_mount_and_leaves_nothing() -> None:
    desk = Desk()
    desk.here.refusals["MAKE_REGION", "", ""] = EIO
    caller = desk.call()
    caller.mount()
    desk.wait(303)
    assert caller.codes == [ETIMEDOUT]
    assert "make region" in caller.statuses[0][1]
    assert desk.call().unmount()[0][0] == ENOENT
    desk.here.refusals.clear()
    desk.wait(60)
    assert desk.left
    assert joined(desk).usage() is Usage.USED


def test_14_making_a_region_succeeds_when_it_succeeds() -> None:
    desk = Desk()
    for _ in range(10):
        joined(desk)
        desk.mounted()
        desk.settle()
        assert desk.left


def test_15_a_failed_mount_is_answered_also_when_its_leave_fails() -> None:
    desk = Desk()
    caller = desk.call()
    caller.mount()
    desk.settle()
    desk.here.refusals["UNLINK", "n1", ""] = EIO
    assert caller.result(19) == [(0, "OK")]
    desk.wait(20)
    assert F in desk.state.locals
    desk.here.refusals.clear()
    desk.wait(60)
    assert desk.left


def test_16_an_unmount_whose_leave_fails_is_finished_later_and_may_be_said_again() -> None:
    desk = joined(Desk())
    desk.here.refusals["UNLINK", "n1", ""] = EIO
    desk.mounted()
    for _ in range(3):
        assert desk.call().unmount() == [(0, "OK")]
        desk.wait(1)
    assert F in desk.state.locals, "kept until it is left"
    desk.here.refusals.clear()
    desk.wait(60)
    assert desk.left


def test_17_a_long_uuid_is_refused_at_once() -> None:
    desk = Desk()
    for length in (33, 64, 200):
        answer = desk.call().send(Mount("ocfs2", "A" * length, CLUSTER, "/dev/F", "ocfs2"))
        assert [code for code, _ in answer] == [ENAMETOOLONG]
    assert not desk.state.locals


@pytest.mark.parametrize(
    "text", [b"", b"nonsense", b"mount ocfs2", b"STATUS 0 OK", b"DUMP ", b"MOUNT a b", b"\xff\xfe"]
)
def test_18_a_bad_record_is_answered_and_the_connection_goes_on(tmp_path: Path, text: bytes) -> None:
    async def scene(_shop: Shop, name: str) -> None:
        with client(name) as sock:
            answer = await ask(sock, text)
            assert answer.startswith(b"STATUS 22 ")
            assert len(answer) > len(b"STATUS 22 ")
            assert await listed(sock) == CLUSTERS

    serve(tmp_path, scene)


def test_19_half_a_record_blocks_nobody(tmp_path: Path) -> None:
    async def scene(shop: Shop, name: str) -> None:
        with client(name) as half, client(name) as other:
            record = encode(ListClusters())
            half.sendall(record[:100])
            assert await listed(other) == CLUSTERS
            shop.engine.crash(1)
            shop.settle()
            assert not shop.state.engine.up, "the membership goes on too"
            half.sendall(record[100:])
            assert [(await read(half)).partition(b"\0")[0] for _ in range(3)] == CLUSTERS

    serve(tmp_path, scene)


def test_20_a_full_socket_cuts_no_record(tmp_path: Path) -> None:
    asked = 400

    async def scene(shop: Shop, name: str) -> None:
        with client(name) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2304)
            feed = asyncio.create_task(asyncio.get_running_loop().sock_sendall(sock, encode(ListClusters()) * asked))
            await until(lambda: any(c.waiting for c in shop.clients.server.connections.values()), "it is full")
            data = await read(sock, asked * 3 * RECORD)
            await feed
        records = [data[i : i + RECORD].partition(b"\0")[0] for i in range(0, len(data), RECORD)]
        assert records == CLUSTERS * asked

    serve(tmp_path, scene)


def test_21_two_answers_at_once_are_two_and_a_link_that_fails_makes_no_member() -> None:
    desk = Desk()
    f, g = desk.call(), desk.call()
    said = [
        told.ClientSaid(c.connection, Mount("ocfs2", uuid(fs), CLUSTER, f"/dev/{fs}", "ocfs2"), fs)
        for c, fs in ((f, "F"), (g, "G"))
    ]
    desk.ocfs2(1, *said)
    desk.settle()
    assert (f.codes, g.codes) == ([0], [0])

    desk = joined(Desk(2))
    desk.here.refusals["LINK", "n2", ""] = EIO
    second = desk.client(2, "F")
    desk.wait(10)
    assert desk.nodes[2].clients[second].answered == [], "n1 has not linked it"
    desk.here.refusals.clear()
    desk.wait(60)
    assert second not in desk.nodes[2].clients
    assert desk.nodes[2].mounts["F"]

    long = [ConfiguredNode(i, f"node-with-a-rather-long-name-{i:035}", f"10.0.{i}.1") for i in range(1, 255)]
    desk.ocfs2(1, Configured(tuple(long)))
    assert desk.state.engine.name(254).endswith("254"), "more than 1024 bytes of names"


def test_22_the_end_of_a_connection_is_told_once(tmp_path: Path) -> None:
    async def scene(shop: Shop, name: str) -> None:
        with client(name) as first, client(name) as second:
            await listed(first)
            await listed(second)
            first.shutdown(socket.SHUT_RDWR)
        with client(name) as third:
            assert await listed(third) == CLUSTERS
        await until(lambda: not shop.clients.server.connections)
        ends = [e.connection for e in shop.heard if isinstance(e, told.ClientClosed)]
        assert sorted(ends) == [1, 2, 3]

    serve(tmp_path, scene)


def test_24_nothing_is_logged_in_a_signal_handler_and_errors_have_their_own_errno(tmp_path: Path) -> None:
    code = (
        "import asyncio, os, signal, sys\n"
        "from libo2cb.service import signals\n"
        "async def main():\n"
        "    came = asyncio.Event()\n"
        "    def callback(name):\n"
        "        asyncio.current_task()\n"
        "        frame, names = sys._getframe(), []\n"
        "        while frame: names.append(frame.f_code.co_name); frame = frame.f_back\n"
        "        print(name, 'busy' in names, '_run_once' in names)\n"
        "        came.set()\n"
        "    def busy():\n"
        "        os.kill(os.getpid(), signal.SIGTERM)\n"
        "        sum(range(100000))\n"
        "    signals.watch(callback)\n"
        "    busy()\n"
        "    await came.wait()\n"
        "asyncio.run(main())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], timeout=60, check=True, capture_output=True, text=True)
    assert done.stdout.split() == ["SIGTERM", "False", "True"], "told from the loop, not from within busy()"

    async def listen(name: Path) -> None:
        RecordServer(Echo(), str(name)).listen()

    with pytest.raises(ListenError, match="No such file or directory"):
        asyncio.run(listen(tmp_path / "nowhere" / "s"))
    (tmp_path / "file").write_text("x")
    with pytest.raises(ListenError, match="is no socket"):
        asyncio.run(listen(tmp_path / "file"))
    with pytest.raises(ServiceUnavailable) as refusal:
        ClientConnection(str(tmp_path / "nobody"), frozenset({os.geteuid()}))
    assert isinstance(refusal.value.__cause__, FileNotFoundError)


def test_25_a_clean_end_by_sigterm_is_exit_0() -> None:
    desk = Desk()
    desk.ocfs2(1, told.SignalCame("SIGTERM"))
    assert [a.code for a in desk.done if isinstance(a, do.Exit)] == [0]
    world = story("signal SIGTERM", "wait 1")
    assert "o2cb: exit 0" in world.lines


def test_26_readiness_is_told_when_it_is_true_and_what_is_late_is_waited_for() -> None:
    desk = Desk(1, up=())
    desk.here.power = True

    def readiness() -> bool:
        return next((a.ready for a in reversed(desk.done) if isinstance(a, do.Ready)), False)

    desk.start_ocfs2(1)
    desk.wait(20)
    assert not readiness(), "neither engine nor o2cb_controld"
    desk.engine.start_engine(1)
    desk.wait(20)
    assert not readiness(), "no o2cb_controld"
    desk.start_o2cb(1)
    desk.wait(20)
    assert readiness()
    assert not [a for a in desk.done if isinstance(a, do.Exit)]
    assert joined(desk).usage() is Usage.USED


def test_27_the_loss_of_the_cluster_tears_nothing_down_under_a_live_mount() -> None:
    desk = joined(Desk())
    desk.done.clear()
    before = desk.here.kernel
    desk.engine.crash(1)
    desk.wait(100)
    assert not desk.state.engine.up
    assert not desk.local.running
    assert (desk.here.kernel.regions, desk.here.kernel.links) == (before.regions, before.links)
    assert not [a for a in desk.done if isinstance(a, do.CallKernel | do.Exit | do.PowerOff)]


# o2cb_controld


def test_28_bytes_from_a_client_are_read_and_do_not_spin(tmp_path: Path) -> None:
    async def scene(_server: RecordServer, handler: Echo, name: str) -> None:
        handler.answer = lambda _connection, _text: None
        with client(name) as sock:
            sock.sendall(b"x" * (3 * RECORD + 1))
            await until(lambda: len(handler.records) == 3)
            loop = asyncio.get_running_loop()
            selector = loop._selector  # type: ignore[attr-defined]
            select, wakes = selector.select, 0

            def counted(timeout: float | None = None) -> object:
                nonlocal wakes
                wakes += 1
                return select(timeout)

            selector.select = counted
            try:
                await asyncio.sleep(0.2)
            finally:
                selector.select = select
            assert wakes < 20, "one byte of a record lies there, and a loop that did not read it would never rest"

    run(tmp_path, scene, descriptors=True)


def test_29_a_new_address_of_a_current_member_is_taken_over() -> None:
    world = story("reload n2=10.0.0.24", "wait 2")
    assert addresses(world) == {"n1": "10.0.0.1", "n2": "10.0.0.24"}
    world = story("restarts n2 10.0.0.25", "wait 2")
    assert addresses(world)["n2"] == "10.0.0.25"


@pytest.mark.parametrize(
    "node",
    [
        ConfiguredNode(2, "n2", "fe80::2"),
        ConfiguredNode(300, "n300", "10.0.0.3"),
        ConfiguredNode(255, "n255", "10.0.0.3"),
        ConfiguredNode(0, "n0", "10.0.0.3"),
    ],
)
def test_30_a_node_that_the_kernel_cannot_hold_is_named_and_left_out(node: ConfiguredNode) -> None:
    nodes = (ConfiguredNode(1, "n1", "10.0.0.1"), node)
    state, actions = o2cb.step(O2State("links", 7777), 0.0, EngineUp("prod", 1, nodes))
    state, more = o2cb.step(state, 0.0, o2told.KernelRead(("prod",), ()))
    state, most = o2cb.step(state, 0.0, Members(Ring(4, 1), True, (1, node.number), (1, node.number), ()))
    assert [w.number for w in state.wanted] == [1]
    unfit = [dict(a.fields) for a in actions if isinstance(a, Log) and a.event is Event.NODE_UNFIT]
    assert [u["number"] for u in unfit] == [node.number]
    assert str(unfit[0]["cause"])
    locked = [a.number for a in (*actions, *more, *most) if isinstance(a, o2do.TryLock)]
    assert locked == [1], "nothing is tried for it"


def test_31_a_start_removes_no_cluster_of_others_and_nothing_of_its_own_before_it_knows() -> None:
    nodes = (ConfiguredNode(1, "n1", "10.0.0.1"),)
    state, _ = o2cb.step(O2State("links", 7777), 0.0, EngineUp("prod", 1, nodes))
    _, actions = o2cb.step(state, 0.0, o2told.KernelRead(("another",), ()))
    assert [a.code for a in actions if isinstance(a, o2do.Exit)] == [1]
    assert not [a for a in actions if isinstance(a, o2do.RemoveCluster | o2do.RemoveNode | o2do.MakeCluster)]
    assert any("another" in str(dict(a.fields).get("cause")) for a in actions if isinstance(a, Log))

    world = story("o2cb killed")
    kernel = world.kernel
    world.engine_up = False
    world.command("o2cb starts")
    world.command("wait 60")
    assert world.kernel.nodes == kernel.nodes
    assert world.kernel.cluster == kernel.cluster


@pytest.mark.parametrize("ask_it", ["signal SIGTERM", "shutdown asked"])
@pytest.mark.parametrize("use", ["a region", "a mount", "the service lock"])
def test_32_nobody_ends_o2cb_controld_under_a_region(ask_it: str, use: str) -> None:
    world = story()
    match use:
        case "a region":
            world.kernel = world.kernel.create_region("F")
        case "a mount":
            world.command("mount F")
        case _:
            world.command("ocfs2 service")
    before = world.kernel.nodes
    world.command(ask_it)
    world.command("wait 30")
    assert world.state is not None, "it stays"
    assert world.kernel.nodes == before
    assert not [line for line in world.lines if line.startswith(("o2cb: rmdir", "o2cb: exit"))]
    said = "o2cb log: signal_refused: " if ask_it.startswith("signal") else "o2cb -> engine: no, "
    reasons = {"a region": "region F stands", "a mount": "F is mounted", "the service lock": "unmount it first"}
    assert any(line.startswith(said) and line.endswith(reasons[use]) for line in world.lines)
    assert not world.state.wishes, "none is remembered"


@pytest.mark.parametrize("hint", ["ocfs2 closes lock n2", "ocfs2 closes lock n2 silently"])
def test_33_a_removal_that_a_link_holds_back_is_made_when_the_link_is_gone(hint: str) -> None:
    world = story("ocfs2 asks lock n2", "ocfs2 reads", "ocfs2 links F/n2", "fail n2", "wait 30")
    assert "n2" in addresses(world)
    assert world.state is not None
    assert world.state.ready, "queued and named"
    assert any(line.startswith("o2cb log: change_queued: removal of n2 waits: ") for line in world.lines)
    for line in ("ocfs2 unlinks F/n2", hint, "wait 3"):
        world.command(line)
    assert "n2" not in addresses(world)


def test_33_a_removal_that_the_kernel_refuses_is_tried_again() -> None:
    world = story("pin n2", "fail n2", "wait 30")
    assert len([line for line in world.lines if line == "o2cb: rmdir n2: EBUSY"]) > 3
    world.command("unpin n2")
    world.command("wait 6")
    assert "n2" not in addresses(world)


def test_34_nothing_is_ready_or_granted_before_the_membership_is_known() -> None:
    nodes = (ConfiguredNode(1, "n1", "10.0.0.1"), ConfiguredNode(2, "n2", "10.0.0.2"))
    state, done = O2State("links", 7777), list[o2do.Action]()
    asked = o2told.Asked(1, 1, NodeIdentity(1, "10.0.0.1", 7777, "n1"))
    for event in (EngineUp("prod", 1, nodes), o2told.KernelRead(("prod",), ()), asked, o2told.Tick()):
        state, actions = o2cb.step(state, 0.0, event)
        done += actions
    assert not state.ready
    assert not [a for a in done if isinstance(a, o2do.Ready | o2do.Grant | o2do.MakeNode)]
    answers = [a.message for a in done if isinstance(a, o2do.Say)]
    assert [type(m) for m in answers] == [Queued]


def test_35_an_engine_that_cannot_answer_empties_nothing_and_makes_nothing_new() -> None:
    world = story("engine down it cannot be asked", "wait 60")
    before = world.kernel.nodes
    assert {n.name for n in before} == {"n1", "n2"}
    world.command("engine up")
    world.command("wait 5")
    assert world.kernel.nodes == before
    assert not [line for line in world.lines if line.startswith(("o2cb: mkdir", "o2cb: rmdir"))]


def test_every_line_of_the_list_is_here_exactly_once() -> None:
    tried = {int(match[1]) for name in globals() if (match := re.match(r"test_(\d\d)_", name))}
    assert not tried & set(NOT_APPLICABLE)
    assert tried | set(NOT_APPLICABLE) == set(range(1, 36))
    assert all(NOT_APPLICABLE.values())
