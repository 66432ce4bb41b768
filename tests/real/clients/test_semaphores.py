"""Reference counts of regions: ours and Debian's programs read and keep the same semaphores."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Thread

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from libo2cb.errors import BadSem, NoSem, RegionInUse
from libo2cb.semaphores import LARGEST, NoRefs, RegionSemaphores, key_of
from tests.process.lab import Volume
from tests.process.node import DEADLINE, until
from tests.real.clients.lab import ClientLab, ClientNode

pytestmark = pytest.mark.process

REGION = "94A94C12FF614DD894BF9D0CF62F3987"


@pytest.fixture
def refs(node: ClientNode) -> Iterator[RegionSemaphores]:
    """The semaphores of a node, from inside of its IPC namespace."""
    with node.spaces.entered():
        yield RegionSemaphores(mutex_seconds=0.2)
        RegionSemaphores().keep(REGION, 0)


def sets() -> list[int]:
    """The keys of all sets that stand."""
    text = subprocess.run(("cat", "/proc/sysvipc/sem"), capture_output=True, text=True, check=True).stdout
    return [int(line.split()[0]) & 0xFFFFFFFF for line in text.splitlines()[1:]]


def shown(node: ClientNode, volume: Volume) -> int:
    """The references that Debian's ocfs2_hb_ctl shows."""
    ran = node.run("ocfs2_hb_ctl", "-I", "-d", volume.path)
    uuid, _, count = ran.said.partition(": ")
    assert (ran.code, uuid) == (0, volume.uuid)
    return int(count.removesuffix(" refs\n"))


def in_a_child(*calls: str) -> None:
    """Make calls of RegionSemaphores in another process, and wait for its end."""
    pid = os.fork()
    if not pid:
        code = 1
        try:
            here = RegionSemaphores()
            for call in calls:
                (here.get if call == "get" else here.put)(REGION, persist=False)
            code = 0
        finally:
            os._exit(code)
    assert os.waitpid(pid, 0)[1] == 0


def test_the_key_is_that_of_the_originals() -> None:
    assert key_of(REGION) == key_of(REGION.lower()) == 0xBC97D13C


def test_a_set_is_made_for_the_first_reference_and_goes_with_the_last(refs: RegionSemaphores) -> None:
    assert refs.count(REGION) == 0
    assert sets() == [], "asking makes none"
    assert [refs.get(REGION), refs.get(REGION), refs.put(REGION)] == [1, 2, 1]
    assert sets() == [0xBC97D13C]
    assert refs.put(REGION) == 0
    assert sets() == []
    assert refs.put(REGION) == 0, "the originals tolerate that as well"
    assert sets() == []


def test_a_reference_that_does_not_persist_ends_with_its_process(refs: RegionSemaphores) -> None:
    refs.get(REGION)
    in_a_child("get", "get")
    assert refs.count(REGION) == 1
    in_a_child("get", "put")
    assert refs.count(REGION) == 1


def test_what_no_semaphore_holds_is_refused(refs: RegionSemaphores) -> None:
    refs.keep(REGION, LARGEST)
    for wrong in (LARGEST + 1, -1):
        with pytest.raises(BadSem, match=f"cannot become {wrong}"):
            refs.keep(REGION, wrong)
    with pytest.raises(BadSem):
        refs.get(REGION)
    assert refs.count(REGION) == LARGEST


def test_a_set_that_somebody_removes_unlocked_is_an_error_and_then_made_anew(
    refs: RegionSemaphores, monkeypatch: pytest.MonkeyPatch
) -> None:
    def removed(region: str, found: int, by: int, *, undo: bool) -> None:
        subprocess.run(("ipcrm", "-s", str(found)), check=True)
        change(region, found, by, undo=undo)

    change = refs._change
    monkeypatch.setattr(refs, "_change", removed)
    with pytest.raises(NoSem, match="did not lock it"):
        refs.get(REGION)
    monkeypatch.undo()
    assert refs.get(REGION) == 1


@contextmanager
def locked_elsewhere(node: ClientNode) -> Iterator[Event]:
    """Another thread holds the mutex, until the event."""
    held, go = Event(), Event()

    def hold() -> None:
        with node.spaces.entered(), RegionSemaphores()._locked(REGION):
            held.set()
            go.wait(DEADLINE)

    thread = Thread(target=hold)
    thread.start()
    assert held.wait(DEADLINE)
    try:
        yield go
    finally:
        go.set()
        thread.join()


def test_a_mutex_that_does_not_come_free_is_named(node: ClientNode, refs: RegionSemaphores) -> None:
    with locked_elsewhere(node):
        with pytest.raises(RegionInUse, match="locked by another program"):
            refs.get(REGION)
        assert refs.count(REGION) == 0, "reading needs no mutex"
    assert refs.get(REGION) == 1


def test_who_waits_while_the_set_is_removed_looks_it_up_again(node: ClientNode, refs: RegionSemaphores) -> None:
    got: list[int] = []
    with locked_elsewhere(node) as go:

        def wait() -> None:
            with node.spaces.entered():
                got.append(RegionSemaphores(DEADLINE).get(REGION))

        waiter = Thread(target=wait)
        waiter.start()
        found = refs._find(REGION, create=False)
        assert found is not None
        _until_waited_for(found)
        subprocess.run(("ipcrm", "-s", str(found)), check=True)
        go.set()
        waiter.join(DEADLINE)
    assert got == [1]


def _until_waited_for(found: int) -> None:
    """Wait until somebody waits for the mutex of a set."""
    until("somebody waits for the mutex", lambda: _zero_waiters(_semaphores(found)) == 1)


def _semaphores(found: int) -> str:
    return subprocess.run(("ipcs", "-s", "-i", str(found)), capture_output=True, text=True, check=True).stdout


def _zero_waiters(text: str) -> int:
    """The column zcount of semaphore 0 in what ipcs says."""
    rows = [line.split() for line in text.splitlines()]
    header = next(n for n, row in enumerate(rows) if row[:1] == ["semnum"])
    return int(rows[header + 1][rows[header].index("zcount")])


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from(["get", "put", "child"]) | st.integers(0, 5), max_size=8))
@example(["get", "get", "put", "put", "put"])
def test_debians_program_shows_what_we_keep(lab: ClientLab, node: ClientNode, steps: list[str | int]) -> None:
    path = lab.sandbox.root / "refs.img"
    vm = Volume(path, _UUIDS[path], "refs") if path in _UUIDS else lab.volume("refs")
    _UUIDS[path] = vm.uuid
    expected = 0
    with node.spaces.entered():
        refs = RegionSemaphores()
        for step in steps:
            match step:
                case "get":
                    expected += 1
                    assert refs.get(vm.uuid) == expected
                case "put":
                    expected = max(0, expected - 1)
                    assert refs.put(vm.uuid) == expected
                case "child":
                    in_a_child("get")
                case count:
                    expected = int(count)
                    refs.keep(vm.uuid, expected)
            assert refs.count(vm.uuid) == expected
        assert shown(node, vm) == expected
        refs.keep(vm.uuid, 0)
        assert shown(node, vm) == 0


_UUIDS: dict[object, str] = {}


def test_debians_program_counts_on_where_we_stopped_and_we_where_it_did(lab: ClientLab, node: ClientNode) -> None:
    """With the classic stack it takes references by itself, and removes the region with the last, whosever that was.

    The region is a plain directory that stands already. A new one would need the kernel's attributes in it, one that
    stands is used as it is, and its removal is one rmdir as everywhere.
    """
    vm = lab.volume("classicrefs", stack="o2cb")
    device, held = node.device(vm), "backup"
    region = node.spaces.sys / "kernel" / "config" / "cluster" / "demo" / "heartbeat" / vm.uuid
    node.stack("o2cb")

    def debians(*arguments: str) -> int:
        """Its exit code."""
        return node.run("ocfs2_hb_ctl", *arguments).code

    with node.spaces.entered():
        refs = RegionSemaphores()
        region.mkdir(parents=True)
        assert debians("-S", "-d", device, held) == 0
        assert refs.count(vm.uuid) == 1
        assert refs.get(vm.uuid) == 2
        assert debians("-S", "-u", vm.uuid, held) == 0
        assert refs.count(vm.uuid) == shown(node, vm) == 3
        assert refs.put(vm.uuid) == 2
        assert debians("-K", "-d", device, held) == 0
        assert (refs.count(vm.uuid), region.exists()) == (1, True)
        assert debians("-K", "-u", vm.uuid) == 0
        assert (refs.count(vm.uuid), region.exists()) == (0, False)
        assert key_of(vm.uuid) not in sets()

        region.mkdir()
        refs.keep(vm.uuid, 2)
        assert debians("-K", "-u", vm.uuid) == 0
        assert refs.put(vm.uuid) == 0, "ours was the last; the region is left to who made it"
        assert region.exists()
        assert key_of(vm.uuid) not in sets()
        region.rmdir()


def test_a_kernel_that_counts_nothing() -> None:
    NoRefs().keep(REGION, 3)
    assert NoRefs().count(REGION) == 0
