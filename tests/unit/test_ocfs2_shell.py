"""The parts of the shell of ocfs2_controld, each with the real thing behind it."""

import asyncio
import errno
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from libo2cb.errors import KernelRefusal
from libo2cb.kernel.home import boot, set_fault
from libo2cb.kernel.sandbox import SandboxFs
from libo2cb.kernel.tree import TreeKernel
from libo2cb.locks import LockDirectory
from libo2cb.mounts import Busy, DeviceId, Mount, SandboxMounts, identify
from libo2cb.nodes import o2cb_add_node, o2cb_create_cluster
from libo2cb.processes import Process
from libo2cb.sandbox import power
from libo2cb.service.server import Connection, RecordServer
from libo2cb.service.stream import Violation
from libo2cb.service.threads import MOST_IDLE, in_thread
from libo2cb.superblock import (
    INCOMPAT_CLUSTER_INFO,
    INCOMPAT_LOCAL_MOUNT,
    INCOMPAT_USERSPACE_STACK,
    SIGNATURE,
    read_superblock,
)
from ocfs2_controld import clients as clients_module
from ocfs2_controld import devices
from ocfs2_controld import events as told
from ocfs2_controld.actions import AnswerList, CallKernel
from ocfs2_controld.clients import MOST_WAITING, Clients
from ocfs2_controld.devices import KernelVolumes, Looked, SandboxVolumes, look
from ocfs2_controld.events import Call, KernelDone, ProcessEnded
from ocfs2_controld.hands import Hands
from ocfs2_controld.holders import ProcessWatch
from ocfs2_controld.neighbour import Neighbour
from protocol import client, ordering
from protocol.framing import RECORD, Decoder
from protocol.frozen import FrozenMap
from protocol.identity import NodeIdentity

F, G = "F" * 32, "A" * 32
DEADLINE = 60.0
VOLUME = Path(power.__file__).with_name("volume.img")
US = frozenset({os.geteuid()})


@pytest.fixture
def hands(tmp_path: Path) -> Hands:
    """A kernel with two complete nodes and one that has no attributes."""
    boot(tmp_path)
    kernel = TreeKernel(SandboxFs(tmp_path))
    o2cb_create_cluster(kernel, "demo")
    for number in (1, 2):
        identity = NodeIdentity(number, f"10.0.0.1{number}", 7777, f"node {number}")
        o2cb_add_node(kernel, "demo", identity, number == 1)
    kernel.make_node("demo", "bare")
    return Hands(kernel)


def codes(done: list[KernelDone]) -> list[int]:
    return [d.errno for d in done]


LINKED = (CallKernel(Call.MAKE_REGION, F), CallKernel(Call.LINK, F, 1), CallKernel(Call.LINK, F, 2))
UNLINKED = (CallKernel(Call.UNLINK, F, 1), CallKernel(Call.UNLINK, F, 2), CallKernel(Call.REMOVE_REGION, F))


def test_calls_are_made_in_order_and_found_again(hands: Hands) -> None:
    assert codes(hands.carry_out("demo", LINKED)) == [0, 0, 0]
    assert hands.kernel.links("demo", F) == ["node 1", "node 2"]
    hands.carry_out("demo", [CallKernel(Call.MAKE_REGION, G)])
    assert hands.found().regions == FrozenMap({F: (1, 2), G: ()})
    assert codes(hands.carry_out("demo", UNLINKED)) == [0, 0, 0]
    assert hands.kernel.regions("demo") == [G]


def test_what_stands_already_is_done(hands: Hands) -> None:
    hands.carry_out("demo", LINKED)
    assert codes(hands.carry_out("demo", LINKED)) == [0, 0, 0]
    hands.carry_out("demo", UNLINKED)
    assert codes(hands.carry_out("demo", UNLINKED)) == [0, 0, 0]


def test_a_number_without_a_complete_node_is_refused(hands: Hands) -> None:
    hands.carry_out("demo", LINKED)
    (done,) = hands.carry_out("demo", [CallKernel(Call.LINK, F, 3)])
    assert done.errno == errno.ENOENT
    assert "no complete node" in done.why
    assert (done.call, done.fs, done.number) == (Call.LINK, F, 3)


def test_a_number_that_has_moved_is_looked_for_again(hands: Hands) -> None:
    assert codes(hands.carry_out("demo", LINKED)) == [0, 0, 0]
    hands.carry_out("demo", UNLINKED)
    for name in ("node 1", "node 2"):
        hands.kernel.remove_node("demo", name)
    # Number 2 is the directory that number 1 was, and number 1 is a new one.
    o2cb_add_node(hands.kernel, "demo", NodeIdentity(2, "10.0.0.12", 7777, "node 1"))
    o2cb_add_node(hands.kernel, "demo", NodeIdentity(1, "10.0.0.11", 7777, "another"))
    assert codes(hands.carry_out("demo", LINKED[:2])) == [0, 0]
    assert hands.kernel.links("demo", F) == ["another"]
    assert codes(hands.carry_out("demo", LINKED[2:])) == [0]
    assert hands.kernel.links("demo", F) == ["another", "node 1"]


def test_a_refusal_is_an_answer_and_the_next_call_is_made(hands: Hands, tmp_path: Path) -> None:
    set_fault(tmp_path, "symlink", "*/node 1", errno.EPERM)
    done = hands.carry_out("demo", LINKED)
    assert codes(done) == [0, errno.EPERM, 0]
    assert "EPERM" in done[1].why
    (full,) = hands.carry_out("demo", [CallKernel(Call.REMOVE_REGION, F)])
    assert full.errno == errno.ENOTEMPTY


def test_a_link_of_another_name_is_not_called_gone(hands: Hands, tmp_path: Path) -> None:
    hands.carry_out("demo", LINKED[:1])
    SandboxFs(tmp_path).symlink("demo/node/node 1", f"demo/heartbeat/{F}/alias")
    assert hands.found().regions[F] == (1,)
    (done,) = hands.carry_out("demo", [CallKernel(Call.UNLINK, F, 1)])
    assert done.errno == errno.ENOENT
    assert "by hand" in done.why


def test_a_tree_that_cannot_be_read_is_not_empty(hands: Hands, tmp_path: Path) -> None:
    hands.carry_out("demo", LINKED)
    set_fault(tmp_path, "listdir", "demo/heartbeat*", errno.EIO)
    with pytest.raises(KernelRefusal):
        hands.found()


# Devices.


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    return Path(shutil.copy(VOLUME, tmp_path / "my disk.img"))


def test_a_path_is_looked_at(volume: Path, tmp_path: Path) -> None:
    found = look(str(volume))
    assert found == Looked(str(identify(str(volume))), None, "demo")
    missing = look(str(tmp_path / "none"))
    assert missing.device is None
    assert missing.problem is not None
    assert missing.problem[0] == errno.ENOENT
    assert missing.problem[1] == f'Failed to stat device "{tmp_path}/none": No such file or directory'
    no_device = look(str(tmp_path)).problem
    assert no_device is not None
    assert "neither a block device nor an image file" in no_device[1]


def test_a_volume_without_a_readable_superblock_is_no_error(tmp_path: Path) -> None:
    image = tmp_path / "empty.img"
    image.write_bytes(bytes(100))
    assert look(str(image)) == Looked(str(identify(str(image))))


def test_the_sandbox_table_answers_by_uuid_also_without_a_path(tmp_path: Path, volume: Path) -> None:
    table = SandboxMounts(tmp_path / "mounts")
    volumes = SandboxVolumes(table)
    uuid = read_superblock(volume).uuid
    table.enter(str(volume), "/mnt/a", uuid.lower())
    table.enter(str(volume), "/mnt/b", uuid)
    assert volumes.mounts() == FrozenMap({uuid: ("/mnt/a", "/mnt/b")})
    busy = volumes.busy(uuid, "", "")
    assert not busy.free
    assert "/mnt/a" in busy.why
    table.leave("/mnt/a")
    table.leave("/mnt/b", hold=True)
    held = volumes.busy(uuid, "", "")
    assert not held.free
    assert f"pid {os.getpid()}" in held.why
    assert volumes.busy(F, "", "").free
    table.release(str(volume))
    assert volumes.busy(uuid, "", "").free


class Table:
    """A mount table of the kernel's kind, with the mounts that the test says."""

    def __init__(self, *mounts: Mount, busy: Busy = Busy.FREE) -> None:
        self.found = list(mounts)
        self.answer = busy
        self.answers: dict[str, Busy] = {}

    def mounts(self) -> list[Mount]:
        return self.found

    def watch(self, loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> None:
        """Nothing changes by itself."""

    def has_changed(self) -> bool:
        return False

    def close(self) -> None:
        """Nothing is open."""

    def busy(self, path: str, device: DeviceId | None = None) -> Busy:
        assert device == identify(path)
        return self.answers.get(path, self.answer)


def test_a_table_of_devices_is_told_by_the_superblocks(volume: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty.img"
    empty.write_bytes(bytes(100))
    device = identify(str(volume))
    mounts = [Mount(device, point, "ocfs2", str(volume)) for point in ("/a", "/b")]
    table = Table(*mounts, Mount(identify(str(empty)), "/c", "ocfs2", str(empty)))
    volumes = KernelVolumes(table)
    uuid = read_superblock(volume).uuid
    assert volumes.mounts() == FrozenMap({uuid: ("/a", "/b")})
    # Read once: what is mounted keeps its name while it is.
    volume.write_bytes(bytes(100))
    assert volumes.mounts() == FrozenMap({uuid: ("/a", "/b")})
    table.found.clear()
    volumes.mounts()
    table.found.extend(mounts)
    assert volumes.mounts() == FrozenMap()


def test_a_local_volume_needs_no_group_and_is_not_told(volume: Path, tmp_path: Path) -> None:
    local = tmp_path / "local.img"
    local.write_bytes(made_local(volume.read_bytes()))
    assert read_superblock(local).local
    found = [Mount(identify(str(path)), f"/{path.stem}", "ocfs2", str(path)) for path in (volume, local)]
    uuid = read_superblock(volume).uuid
    mine = FrozenMap({uuid: (f"/{volume.stem}",)})
    assert KernelVolumes(Table(*found)).mounts() == mine
    table = SandboxMounts(tmp_path / "mounts")
    for mount in found:
        table.enter(mount.source, mount.mount_point, read_superblock(mount.source).uuid)
    volumes = SandboxVolumes(table)
    assert volumes.mounts() == mine
    table.leave("/local")
    local.write_bytes(volume.read_bytes())
    assert volumes.mounts() == mine
    table.enter(str(local), "/local", uuid)
    assert volumes.mounts() == FrozenMap({uuid: (f"/{volume.stem}", "/local")}), "it is another volume by now"


def made_local(image: bytes) -> bytes:
    """The image as tunefs.ocfs2 -M local leaves it: its incompatible features say so."""
    at = image.index(SIGNATURE) + 0xE0
    features = int.from_bytes(image[at : at + 4], "little")
    features = features & ~(INCOMPAT_USERSPACE_STACK | INCOMPAT_CLUSTER_INFO) | INCOMPAT_LOCAL_MOUNT
    return image[:at] + features.to_bytes(4, "little") + image[at + 4 :]


def test_a_device_that_does_not_answer_holds_up_no_other(
    volume: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "LOOKUP_SECONDS", 0.05)
    fifo = tmp_path / "dead.img"
    fifo.write_bytes(VOLUME.read_bytes())
    go = threading.Event()

    def slow(path: str) -> object:
        if path == str(fifo):
            go.wait(DEADLINE)
        return read_superblock(path)

    monkeypatch.setattr(devices, "read_superblock", slow)
    other = Mount(identify(str(volume)), "/a", "ocfs2", str(volume))
    volumes = KernelVolumes(Table(Mount(identify(str(fifo)), "/dead", "ocfs2", str(fifo)), other))
    uuid = read_superblock(volume).uuid

    async def scene() -> None:
        changed = asyncio.Event()
        volumes.watch(asyncio.get_running_loop(), changed.set)
        assert await in_thread(volumes.mounts) == FrozenMap({uuid: ("/a",)})
        assert not changed.is_set()
        go.set()
        await asyncio.wait_for(changed.wait(), DEADLINE)
        assert await in_thread(volumes.mounts) == FrozenMap({uuid: ("/dead", "/a")})
        volumes.close()

    asyncio.run(scene())


@pytest.mark.parametrize("answer", list(Busy))
def test_only_a_device_that_is_known_to_be_free_is_free(volume: Path, answer: Busy) -> None:
    volumes = KernelVolumes(Table(busy=answer))
    found = volumes.busy(F, str(volume), str(identify(str(volume))))
    assert found.free is (answer is Busy.FREE)
    assert bool(found.why) is not found.free
    assert not volumes.busy(F, "", "").free
    assert not volumes.busy(F, str(volume), "block device 8:16").free
    assert not volumes.busy(F, f"{volume}.gone", "").free


def test_a_device_whose_path_nobody_knows_any_more_is_found_by_its_superblock(volume: Path, tmp_path: Path) -> None:
    fs = read_superblock(volume).uuid.upper()
    other = tmp_path / "other.img"
    other.write_bytes(bytes(100))
    here = [str(other), str(volume), str(tmp_path / "gone.img")]
    table = Table()
    volumes = KernelVolumes(table, lambda: here)
    assert volumes.busy(fs, "", "").free
    assert "none here bears its UUID" in volumes.busy(F, "", "").why
    table.answer = Busy.BUSY
    assert "in use" in volumes.busy(fs, "", "").why
    table.answer = Busy.UNKNOWN
    assert not volumes.busy(fs, "", "").free
    table.answer = Busy.FREE
    twin = tmp_path / "twin.img"
    twin.write_bytes(volume.read_bytes())
    here.append(str(twin))
    table.answers[str(twin)] = Busy.BUSY
    assert not volumes.busy(fs, "", "").free, "either may be the one that was mounted"


def test_devices_are_those_of_the_kernel_without_what_lies_below_others(tmp_path: Path) -> None:
    partitions = tmp_path / "partitions"
    partitions.write_text("major minor  #blocks  name\n\n 254 0 10 vda\n   8 0 10 sda\n 253 0 10 dm-0\n")
    for name, holder in (("vda", None), ("sda", "dm-0"), ("dm-0", None)):
        (tmp_path / name / "holders").mkdir(parents=True)
        if holder:
            (tmp_path / name / "holders" / holder).mkdir()
    assert devices.block_devices(partitions, tmp_path) == ["/dev/vda", "/dev/dm-0"]
    assert all(path.startswith("/dev/") for path in devices.block_devices())


# Processes.


def test_the_end_of_a_process_is_told_once_also_when_it_came_before() -> None:
    async def scene() -> None:
        ended: asyncio.Queue[ProcessEnded] = asyncio.Queue()
        watch = ProcessWatch(ended.put_nowait)
        child = await asyncio.create_subprocess_exec("sleep", "1000")
        process = Process.of(child.pid)
        assert process is not None
        watch.watch(process.pid, float(process.started))
        watch.watch(process.pid, float(process.started))
        watch.watch(os.getpid(), float(Process.current().started))
        child.kill()
        gone = ProcessEnded(process.pid, float(process.started))
        assert await asyncio.wait_for(ended.get(), DEADLINE) == gone
        await child.wait()
        watch.watch(process.pid, float(process.started))
        assert await asyncio.wait_for(ended.get(), DEADLINE) == gone
        # A pid that somebody else has by now names nobody.
        watch.watch(os.getpid(), 1.0)
        assert await asyncio.wait_for(ended.get(), DEADLINE) == ProcessEnded(os.getpid(), 1.0)
        watch.close()
        assert ended.empty()

    asyncio.run(scene())


# Locks.


class Granter:
    """Sends what it is asked to, with a descriptor or without."""

    def __init__(self, directory: Path) -> None:
        self.locks = LockDirectory(directory)
        self.server = RecordServer(self, str(directory / "ordering"))
        self.connected: asyncio.Queue[Connection] = asyncio.Queue()

    def opened(self, connection: Connection) -> None:
        self.connected.put_nowait(connection)

    def closed(self, connection: Connection) -> None:
        """Nothing."""

    def record(self, connection: Connection, text: bytes, descriptor: object) -> None:
        """Nothing."""

    def send(self, to: Connection, message: ordering.OrderingMessage, number: int | None = None) -> None:
        lock = None if number is None else self.locks.shared(number)
        to.send(ordering.encode(message), lock)

    def is_free(self, number: int) -> bool:
        lock = self.locks.exclusive(number)
        if lock is None:
            return False
        lock.close()
        return True


def test_a_lock_is_kept_closed_or_dropped_with_its_descriptor(tmp_path: Path) -> None:
    async def scene() -> None:
        heard: asyncio.Queue[told.Event] = asyncio.Queue()
        notes: list[object] = []
        granter = Granter(tmp_path)
        neighbour = Neighbour(granter.server.name, US, heard.put_nowait, notes.append)

        async def following() -> told.Event:
            return await asyncio.wait_for(heard.get(), DEADLINE)

        neighbour.start()
        down = await following()
        assert isinstance(down, told.OrderingDown)
        granter.server.listen()
        assert await following() == told.OrderingUp()
        to = await asyncio.wait_for(granter.connected.get(), DEADLINE)
        key = (3, "10.0.0.13", 7777)

        granter.send(to, ordering.Locked(1), 3)
        assert await following() == told.OrderingSaid(ordering.Locked(1), descriptor=True)
        neighbour.taken()
        neighbour.keep(key)
        neighbour.drop()  # there is no other
        assert not granter.is_free(3)
        granter.send(to, ordering.Locked(2), 4)
        assert await following() == told.OrderingSaid(ordering.Locked(2), descriptor=True)
        neighbour.taken()
        neighbour.drop()
        assert granter.is_free(4)
        granter.send(to, ordering.Waiting(5, "a change is queued"), 5)
        assert await following() == told.OrderingSaid(ordering.Waiting(5, "a change is queued"), descriptor=False)
        assert granter.is_free(5)
        granter.send(to, ordering.Locked(3))
        assert await following() == told.OrderingSaid(ordering.Locked(3), descriptor=False)
        neighbour.close_lock(key)
        assert granter.is_free(3)
        to.send(b"NONSENSE".ljust(RECORD, b"\0"))
        granter.send(to, ordering.Queued(4, "later"))
        assert await following() == told.OrderingSaid(ordering.Queued(4, "later"), descriptor=False)
        assert len(notes) == 1

        granter.send(to, ordering.Locked(5), 3)
        await following()
        neighbour.taken()
        neighbour.keep(key)
        to.close()
        gone = await following()
        assert isinstance(gone, told.OrderingDown)
        # A lock is a descriptor: it outlives the connection, and ends with us.
        assert not granter.is_free(3)
        neighbour.close()
        assert granter.is_free(3)
        granter.server.close()
        await asyncio.sleep(0)

    asyncio.run(scene())


# Clients.


class Desk:
    """The clients' socket, and what the mind would be told."""

    def __init__(
        self,
        name: Path,
        trusted: frozenset[int] = US,
        refusal: Callable[[], tuple[int, str] | None] = lambda: None,
    ) -> None:
        self.told: asyncio.Queue[told.Event] = asyncio.Queue()
        self.notes: list[object] = []
        self.name = str(name)
        self.clients = Clients(
            self.name,
            trusted=trusted,
            max_per_uid=1000,
            tell=self.told.put_nowait,
            document=lambda asked: f"the answer to {asked.word}",
            listing=lambda connection, asked: AnswerList(connection, (f"the list of {asked.word}",)),
            note=self.notes.append,
            refusal=refusal,
        )

    async def following(self) -> told.Event:
        event = await asyncio.wait_for(self.told.get(), DEADLINE)
        self.clients.taken([event])
        return event

    async def connect(self) -> tuple[socket.socket, int]:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.setblocking(False)
        sock.connect(self.name)
        opened = await self.following()
        assert isinstance(opened, told.ClientOpened)
        return sock, opened.connection


async def send(sock: socket.socket, *messages: client.ClientMessage) -> None:
    for message in messages:
        await asyncio.get_running_loop().sock_sendall(sock, client.encode(message))


async def answers(sock: socket.socket, count: int) -> list[client.ClientMessage]:
    decoder = Decoder()
    found: list[client.ClientMessage] = []
    while len(found) < count:
        data = await asyncio.wait_for(asyncio.get_running_loop().sock_recv(sock, RECORD), DEADLINE)
        assert data
        found += [client.parse(text) for text in decoder.feed(data)]
    return found


def at_desk(path: Path, scene: Callable[[Desk], Awaitable[None]], trusted: frozenset[int] = US) -> None:
    async def whole() -> None:
        desk = Desk(path / "clients", trusted)
        desk.clients.server.listen()
        try:
            await scene(desk)
        finally:
            await desk.clients.finish()

    asyncio.run(whole())


def mount(device: Path) -> client.Mount:
    return client.Mount("ocfs2", F, "demo", str(device), "ocfs2")


def test_a_mount_is_told_with_its_device_and_what_follows_keeps_its_place(tmp_path: Path, volume: Path) -> None:
    async def scene(desk: Desk) -> None:
        sock, number = await desk.connect()
        unmount = client.Unmount("ocfs2", F, "ocfs2")
        await send(sock, mount(volume), unmount, mount(tmp_path / "none"), client.ListClusters())
        device = str(identify(str(volume)))
        assert await desk.following() == told.ClientSaid(number, mount(volume), device, None, "demo")
        assert await desk.following() == told.ClientSaid(number, unmount)
        failed = await desk.following()
        assert isinstance(failed, told.ClientSaid)
        assert failed.problem is not None
        assert failed.device is None
        assert await desk.following() == told.ClientSaid(number, client.ListClusters())
        sock.close()
        assert await desk.following() == told.ClientClosed(number)

    at_desk(tmp_path, scene)


def test_while_the_kernel_can_serve_no_mount_each_is_told_with_the_refusal(tmp_path: Path, volume: Path) -> None:
    refusals: list[tuple[int, str] | None] = [(errno.EPERM, "this kernel takes no links"), None]

    async def scene() -> None:
        desk = Desk(tmp_path / "clients", refusal=lambda: refusals.pop(0))
        desk.clients.server.listen()
        sock, number = await desk.connect()
        try:
            await send(sock, mount(volume), mount(volume))
            refusal = (errno.EPERM, "this kernel takes no links")
            assert await desk.following() == told.ClientSaid(number, mount(volume), None, refusal)
            device = str(identify(str(volume)))
            assert await desk.following() == told.ClientSaid(number, mount(volume), device, None, "demo")
        finally:
            sock.close()
            await desk.clients.finish()

    asyncio.run(scene())


def test_a_device_that_does_not_answer_keeps_its_own_client_waiting_only(
    tmp_path: Path, volume: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go = threading.Event()

    def slow(path: str) -> Looked:
        if path == "/dev/dead":
            go.wait(DEADLINE)
        return look(path)

    monkeypatch.setattr(clients_module, "look", slow)

    async def scene(desk: Desk) -> None:
        slow_sock, slow_number = await desk.connect()
        dead_sock, dead_number = await desk.connect()
        await send(slow_sock, mount(Path("/dev/dead")), client.ListClusters())
        await send(dead_sock, mount(Path("/dev/dead")))
        sock, number = await desk.connect()
        await send(sock, mount(volume))
        said = await desk.following()
        assert isinstance(said, told.ClientSaid)
        assert said.connection == number
        dead_sock.close()
        assert await desk.following() == told.ClientClosed(dead_number)
        go.set()
        words = [await desk.following(), await desk.following()]
        assert [(w.connection, w.message.word) for w in words if isinstance(w, told.ClientSaid)] == [
            (slow_number, "MOUNT"),
            (slow_number, "LISTCLUSTERS"),
        ]
        assert desk.told.empty()  # of the client that went nothing is told any more
        for each in (sock, slow_sock):
            each.close()

    at_desk(tmp_path, scene)


def test_a_stranger_is_not_trusted_and_gets_no_device_looked_at(
    tmp_path: Path, volume: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clients_module, "look", lambda _path: pytest.fail("looked"))

    async def scene(desk: Desk) -> None:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.connect(desk.name)
        opened = await desk.following()
        assert isinstance(opened, told.ClientOpened)
        assert not opened.peer.trusted
        assert (opened.peer.pid, opened.peer.uid) == (os.getpid(), os.geteuid())
        assert opened.peer.started == float(Process.current().started)
        sock.setblocking(False)
        await send(sock, mount(volume))
        assert await desk.following() == told.ClientSaid(opened.connection, mount(volume))
        sock.close()

    at_desk(tmp_path, scene, trusted=frozenset({os.geteuid() + 1}))


def test_reports_are_answered_at_once_and_behind_what_waits_in_their_place(tmp_path: Path) -> None:
    async def scene(desk: Desk) -> None:
        sock, number = await desk.connect()
        await send(sock, client.Report())
        found = await answers(sock, 3)
        assert found[1] == client.Item("the answer to REPORT")
        assert desk.told.empty()
        unmount = client.Unmount("ocfs2", F, "ocfs2")
        await send(sock, unmount, client.Report(), client.ListClusters())
        assert await desk.following() == told.ClientSaid(number, unmount)
        desk.clients.items(number, ("x" * 4000, "two words"))
        assert await desk.following() == told.ClientSaid(number, client.Report())
        desk.clients.document(number, client.Report())
        assert await desk.following() == told.ClientSaid(number, client.ListClusters())
        texts = [m.text for m in await answers(sock, 7) if isinstance(m, client.Item)]
        assert texts == ["x" * 250, "two words", "the answer to REPORT"]
        sock.close()

    at_desk(tmp_path, scene)


def test_lists_are_answered_at_once_also_while_the_mind_waits_for_the_kernel(tmp_path: Path) -> None:
    async def scene(desk: Desk) -> None:
        busy, number = await desk.connect()
        sock, _ = await desk.connect()
        unmount = client.Unmount("ocfs2", F, "ocfs2")
        await send(busy, unmount)  # the mind takes it only below
        asked = (client.ListFs("ocfs2", "demo"), client.ListMounts("ocfs2", F), client.ListClusters())
        await send(sock, *asked)
        texts = [m.text for m in await answers(sock, 9) if isinstance(m, client.Item)]
        assert texts == [f"the list of {each.word}" for each in asked]
        assert await desk.following() == told.ClientSaid(number, unmount)
        assert desk.told.empty()
        for each in (busy, sock):
            each.close()

    at_desk(tmp_path, scene)


def test_who_asks_without_end_while_the_mind_is_busy_is_told_and_closed(tmp_path: Path) -> None:
    async def scene(desk: Desk) -> None:
        sock, number = await desk.connect()
        other, other_number = await desk.connect()
        unmount = client.Unmount("ocfs2", F, "ocfs2")
        await send(sock, *[unmount] * (MOST_WAITING + 1))
        (refused,) = await answers(sock, 1)
        assert isinstance(refused, client.Status)
        assert refused.code == errno.EBUSY
        assert [len(desk.notes), desk.told.qsize()] == [1, MOST_WAITING + 1]  # and the end of the connection
        assert desk.clients.server.violations == {Violation.TOO_MANY_REQUESTS: 1}
        await send(other, unmount)
        seen = [await desk.following() for _ in range(MOST_WAITING + 2)]
        assert told.ClientClosed(number) in seen
        assert seen[-1] == told.ClientSaid(other_number, unmount)
        for each in (sock, other):
            each.close()

    at_desk(tmp_path, scene)


def test_bytes_that_are_no_request_are_told_as_such(tmp_path: Path) -> None:
    async def scene(desk: Desk) -> None:
        sock, number = await desk.connect()
        await asyncio.get_running_loop().sock_sendall(sock, b"\xff\xfe nonsense".ljust(RECORD, b"\0"))
        garbled = await desk.following()
        assert isinstance(garbled, told.ClientGarbled)
        assert (garbled.connection, garbled.code) == (number, errno.EINVAL)
        sock.close()

    at_desk(tmp_path, scene)


def test_last_answers_are_read_before_the_end(tmp_path: Path) -> None:
    async def whole() -> None:
        desk = Desk(tmp_path / "clients")
        desk.clients.server.listen()
        sock, number = await desk.connect()
        for _ in range(4000):
            desk.clients.status(number, 0, "OK")
        ending = asyncio.create_task(desk.clients.finish())
        assert len(await answers(sock, 4000)) == 4000
        await asyncio.wait_for(ending, DEADLINE)
        assert await asyncio.get_running_loop().sock_recv(sock, 1) == b""
        sock.close()

    asyncio.run(whole())


# Threads.


def test_a_thread_gives_its_result_or_its_error() -> None:
    async def scene() -> None:
        assert await in_thread(lambda: 7) == 7
        with pytest.raises(ZeroDivisionError):
            await in_thread(lambda: 1 // 0)

    asyncio.run(scene())


def test_a_thread_that_came_back_serves_the_next_call_and_few_are_kept() -> None:
    async def scene() -> None:
        used = [await in_thread(threading.get_native_id) for _ in range(100)]
        assert len(set(used)) < 50
        go, before = threading.Event(), threading.active_count()
        together = [in_thread(go.wait) for _ in range(20)]
        assert await in_thread(lambda: 7) == 7, "calls that hang hold up no other"
        assert threading.active_count() > before
        go.set()
        assert all(await asyncio.gather(*together))
        async with asyncio.timeout(DEADLINE):
            while threading.active_count() > before + MOST_IDLE:  # noqa: ASYNC110 (a thread's end cannot be awaited)
                await asyncio.sleep(0.01)

    asyncio.run(scene())


def test_a_call_that_never_returns_keeps_nobody_from_ending() -> None:
    program = (
        "import asyncio, threading\n"
        "from libo2cb.service.threads import in_thread\n"
        "async def scene():\n"
        "    in_thread(threading.Event().wait)\n"
        "asyncio.run(scene())\n"
    )
    assert subprocess.run((sys.executable, "-c", program), timeout=DEADLINE, check=False).returncode == 0
