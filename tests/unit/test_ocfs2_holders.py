"""Holders: what the kernel counts of them, and what a restarted daemon knows of them."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from errno import EBUSY, ENOENT
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libo2cb.errors import BadSem
from libo2cb.kernel.home import boot, clear
from libo2cb.processes import Process
from libo2cb.sandbox import power
from libo2cb.sandbox.refs import FILE, LOCK, SandboxRefs
from libo2cb.superblock import read_superblock
from ocfs2_controld import actions as do
from ocfs2_controld import events as told
from ocfs2_controld import services
from ocfs2_controld.holders import tools_at_work
from ocfs2_controld.state import ServiceKind, Usage
from protocol.frozen import EMPTY
from tests.process.node import until
from tests.simulation.desk import Desk, F

MINE, YOURS = "a region of my own", "another's backup"
VOLUME = Path(power.__file__).with_name("volume.img")


def hold(desk: Desk, *names: str) -> None:
    """Hold F by these services, from MOUNT to MRESULT."""
    for name in names:
        caller = desk.call("ocfs2_hb_ctl")
        caller.mount(name)
        desk.settle()
        assert caller.result(0, name) == [(0, "OK")]
        caller.close()


def kept(desk: Desk) -> list[int]:
    """The counts that the kernel was told, in order."""
    return [a.count for a in desk.done if isinstance(a, do.KeepRefs)]


def restarted(desk: Desk) -> Desk:
    """The daemon of n1 is killed, and another begins."""
    desk.kill_ocfs2(1)
    desk.settle()
    desk.start_ocfs2(1)
    desk.settle()
    return desk


# the kernel's count


def test_only_holders_by_hand_are_counted_and_before_they_are_answered() -> None:
    desk = Desk()
    desk.used("ocfs2", "fsck.ocfs2")
    assert kept(desk) == []
    hold(desk, MINE, YOURS)
    assert kept(desk) == [1, 2]
    said = [a if isinstance(a, do.KeepRefs) else a.code for a in desk.done if isinstance(a, do.KeepRefs | do.Answer)]
    assert said == [114, do.KeepRefs(F, 1), 0, 114, do.KeepRefs(F, 2), 0]
    caller = desk.call()
    assert caller.unmount(MINE) == [(0, "OK")]
    last = [a for a in desk.done if isinstance(a, do.KeepRefs | do.Answer)][-2:]
    assert last == [do.KeepRefs(F, 1), do.Answer(caller.connection, 0, "OK")]
    assert desk.call().unmount(YOURS) == [(0, "OK")]
    assert kept(desk) == [1, 2, 1, 0]


def test_a_region_held_by_hand_outlives_the_daemon_and_ends_by_any_name() -> None:
    """The kernel counts and knows no names: which of two names is told twice cannot be known, and need not be."""
    desk = Desk()
    desk.used(MINE, YOURS)
    restarted(desk)
    assert desk.usage() is Usage.USED
    assert desk.here.kernel.links == {(F, "n1")}
    names = [f"{services.UNNAMED} #{n}" for n in (1, 2)]
    assert sorted(desk.local.services) == names
    assert desk.call("fsck.ocfs2").unmount("fsck.ocfs2")[0][0] == ENOENT, "a tool is not held by hand"
    assert desk.call().unmount()[0][0] == ENOENT, "nor is a mount"
    assert desk.call().unmount(MINE) == [(0, "OK")]
    assert list(desk.local.services) == names[1:]
    restarted(desk)
    assert sorted(desk.local.services) == names[:1]
    assert desk.call().unmount(YOURS) == [(0, "OK")]
    desk.settle()
    assert desk.left
    assert desk.here.refs == {F: 0}


def test_a_name_that_is_known_ends_itself_and_no_unnamed_one() -> None:
    desk = Desk()
    desk.used(MINE)
    restarted(desk)
    hold(desk, YOURS)
    assert kept(desk) == [2], "the old one counts on"
    assert desk.call().unmount(YOURS) == [(0, "OK")]
    assert [s.named for s in desk.local.services.values()] == [False]
    assert desk.call().unmount(YOURS) == [(0, "OK")], "said again it ends the old one: nobody can tell them apart"
    desk.settle()
    assert desk.left


def test_a_region_that_nobody_is_counted_for_is_left_at_a_restart() -> None:
    desk = Desk()
    desk.used("ocfs2")
    desk.here.mounts.clear()
    restarted(desk)
    assert desk.left
    assert kept(desk) == []


def test_a_power_off_forgets_the_counts() -> None:
    desk = Desk(2)
    desk.used(MINE)
    assert desk.here.refs == {F: 1}
    desk.power_off(1)
    desk.power_on(1)
    desk.settle()
    assert F not in desk.state.locals


# tools at a restart


def test_a_tool_that_is_found_at_work_holds_until_its_process_ends() -> None:
    desk = Desk()
    desk.used("fsck.ocfs2")
    desk.here.tools[F] = (told.Tool("fsck.ocfs2", 4711, 12.0),)
    restarted(desk)
    assert desk.usage() is Usage.USED
    assert desk.local.services["fsck.ocfs2"].kind is ServiceKind.TOOL
    assert do.WatchProcess(4711, 12.0) in desk.done
    code, text = desk.call("fsck.ocfs2").mount("fsck.ocfs2")[0]
    assert (code, "pid 4711" in text) == (EBUSY, True)
    desk.ocfs2(1, told.ProcessEnded(4711, 12.0))
    desk.settle()
    assert desk.left


@contextmanager
def program(name: str, directory: Path, volume: Path) -> Iterator[Process]:
    """A program of this name that has a volume open."""
    copy = directory / name
    shutil.copy("/bin/sleep", copy)
    with volume.open("rb") as opened, subprocess.Popen((copy, "600"), stdin=opened) as child:
        try:
            process = Process.of(child.pid)
            assert process is not None
            until(f"{name} runs", lambda: Path(f"/proc/{child.pid}/comm").read_text().strip() == name)
            yield process
        finally:
            child.kill()


def test_tools_are_found_by_what_they_have_open(tmp_path: Path) -> None:
    uuid = read_superblock(str(VOLUME)).uuid
    with program("fsck.ocfs2", tmp_path, VOLUME) as fsck, program("vi", tmp_path, VOLUME):
        found = {fs: [t for t in tools if t.pid == fsck.pid] for fs, tools in tools_at_work([uuid]).items()}
        assert found == {uuid: [told.Tool("fsck.ocfs2", fsck.pid, float(fsck.started))]}
        assert tools_at_work(["0" * 32]) == EMPTY
    assert not any(t.pid == fsck.pid for t in tools_at_work([uuid]).get(uuid, ()))


# the sandbox's counts


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "log").mkdir()
    boot(tmp_path)
    return tmp_path


def test_counts_are_kept_by_region_in_either_case(home: Path) -> None:
    refs = SandboxRefs(home)
    assert refs.count("ab" * 16) == 0
    refs.keep("ab" * 16, 2)
    refs.keep("CD" * 16, 1)
    refs.keep("cd" * 16, 0)
    assert (SandboxRefs(home).count("AB" * 16), SandboxRefs(home).count("CD" * 16)) == (2, 0)


def test_counts_end_with_the_life_of_the_node(home: Path) -> None:
    SandboxRefs(home).keep("A", 2)
    clear(home)
    boot(home)
    assert SandboxRefs(home).count("A") == 0
    SandboxRefs(home).keep("B", 1)
    assert (SandboxRefs(home).count("A"), SandboxRefs(home).count("B")) == (0, 1)


@given(st.recursive(st.none() | st.integers() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)))
def test_a_damaged_file_is_said_to_be_damaged(tmp_path_factory: pytest.TempPathFactory, what: object) -> None:
    home = tmp_path_factory.mktemp("home")
    (home / "log").mkdir()
    boot(home)
    (home / "kernel" / FILE).write_text(json.dumps(what))
    with pytest.raises(BadSem, match="cannot be read"):
        SandboxRefs(home).count("A")


def test_counts_that_cannot_be_written_are_an_error(home: Path) -> None:
    (home / "kernel" / LOCK).mkdir()
    with pytest.raises(BadSem, match="cannot be changed"):
        SandboxRefs(home).keep("A", 1)
