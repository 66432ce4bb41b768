"""The journal of the sandbox's mount table, and what a kill at any point leaves in it."""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from libo2cb.errors import KernelRefusal
from libo2cb.sandbox.mounts import SandboxMounts

UUID = "94A94C12FF614DD894BF9D0CF62F3987"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "log").mkdir()
    (tmp_path / "disk").write_bytes(b"")
    return tmp_path


def table(home: Path) -> SandboxMounts:
    return SandboxMounts(home / "mounts")


def lines(home: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (home / "log" / "mounts.jsonl").read_text().splitlines()]


def calls(home: Path) -> list[tuple[str, str | None]]:
    return [(line["call"], line["mount_point"]) for line in lines(home)]


def test_each_change_is_a_line_and_a_refused_one_is_none(home: Path) -> None:
    disk = str(home / "disk")
    table(home).clear()
    table(home).enter(disk, "/srv/a", UUID)
    with pytest.raises(KernelRefusal):
        table(home).enter(disk, "/srv/a", UUID)
    table(home).enter(disk, "/srv/b", UUID)
    table(home).leave("/srv/a")
    with pytest.raises(KernelRefusal):
        table(home).leave("/srv/a")
    table(home).clear()
    table(home).clear()
    assert calls(home) == [("mount", "/srv/a"), ("mount", "/srv/b"), ("umount", "/srv/a"), ("clear", None)]
    assert [line["uuid"] for line in lines(home)] == [UUID, UUID, UUID, None]
    times = [line["mono"] for line in lines(home)]
    assert times == sorted(times)


def test_a_table_outside_a_home_has_no_journal(tmp_path: Path) -> None:
    (tmp_path / "disk").write_bytes(b"")
    table(tmp_path).enter(str(tmp_path / "disk"), "/srv/a", UUID)
    assert {p.name for p in tmp_path.iterdir()} == {"disk", "mounts"}


def killed_before_the_rename(do: Callable[[], object]) -> None:
    """Do it in a child that is killed between the journal's line and the table's rename."""
    child = os.fork()
    if child == 0:
        Path.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)  # type: ignore[method-assign,assignment]
        do()
        os._exit(0)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL


def test_a_line_whose_effect_never_came_is_taken_back(home: Path) -> None:
    disk = str(home / "disk")
    killed_before_the_rename(lambda: table(home).enter(disk, "/srv/a", UUID))
    assert calls(home) == [("mount", "/srv/a")]
    table(home).enter(disk, "/srv/b", UUID)
    assert calls(home) == [("mount", "/srv/b")]
    killed_before_the_rename(lambda: table(home).leave("/srv/b"))
    assert calls(home)[1:] == [("umount", "/srv/b")]
    killed_before_the_rename(lambda: table(home).clear())
    assert calls(home)[1:] == [("clear", None)]
    table(home).leave("/srv/b")
    assert calls(home) == [("mount", "/srv/b"), ("umount", "/srv/b")]


def test_a_torn_line_is_taken_back_and_the_ones_before_it_stay(home: Path) -> None:
    disk, journal = str(home / "disk"), home / "log" / "mounts.jsonl"
    table(home).enter(disk, "/srv/a", UUID)
    whole = journal.read_bytes()
    journal.write_bytes(whole + whole[:20])
    table(home).hold(disk)
    assert journal.read_bytes() == whole
