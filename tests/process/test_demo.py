"""The demo as a user starts it, and what it says of a record in which a law is broken."""

import errno
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import pytest

from tests.demo.__main__ import KEPT, judged
from tests.demo.paper import WIDTH, Paper

pytestmark = pytest.mark.process

ROOT = Path(__file__).parents[2]
DEADLINE = 300.0
COMMAND = (sys.executable, "-u", "-m", "tests.demo")
SCENES = (
    "A healthy cluster",
    "Story 0: the race as it was written down",
    "Story 1: o2cb_controld hears first",
    "Story 2: ocfs2_controld hears first",
    "n3 comes back with another address",
    "Asked to end under a live mount",
    "A client dies between MOUNT and MRESULT",
    "kill -9 of each daemon of n1 while it is mounted",
    "Unmount, and stop",
)
STEP = re.compile(r" +\+[0-9.]+ s  (?P<who>.{17})  (?P<verb>[A-Z]+) ")


@pytest.fixture(scope="module")
def played() -> Iterator[tuple[list[str], Path]]:
    """The lines of one run, and its home."""
    run = subprocess.run((*COMMAND, "--keep"), cwd=ROOT, capture_output=True, text=True, timeout=DEADLINE, check=False)
    home = re.search(r"Home: (\S+)", re.sub(r"\s+", " ", run.stdout))
    try:
        assert run.returncode == 0, run.stdout + run.stderr
        assert home is not None
        yield run.stdout.splitlines(), Path(home[1])
    finally:
        if home is not None:
            shutil.rmtree(home[1], ignore_errors=True)


def verbs(lines: list[str], title: str, who: str) -> list[str]:
    """What a daemon, "n1 o2cb_controld", does in a scene."""
    begin = next(i for i, line in enumerate(lines) if title in line and line.startswith("== "))
    end = next((i for i, line in enumerate(lines) if i > begin and line.startswith("== ")), len(lines))
    steps = (STEP.match(line) for line in lines[begin:end])
    found = [step["verb"] for step in steps if step and step["who"].strip() == who]
    return [verb for verb, _ in groupby(found)]  # a change may be queued for one reason first, then for another


def in_order(found: list[str], wanted: list[str]) -> bool:
    rest = iter(found)
    return all(word in rest for word in wanted)


def test_all_scenes_are_played_in_order_and_no_law_is_broken(played: tuple[list[str], Path]) -> None:
    lines, _ = played
    titles = [m[1] for line in lines if (m := re.fullmatch(r"== \d+\. (.*?) =+", line))]
    assert titles == list(SCENES)
    assert lines[-1] == "demo: 0 laws broken"
    assert max(map(len, lines)) <= WIDTH
    assert len(lines) <= 230
    assert "\x1b" not in "".join(lines)


def test_the_race_is_shown_from_both_sides(played: tuple[list[str], Path]) -> None:
    lines, _ = played
    ocfs2, o2cb = "n1 ocfs2_controld", "n1 o2cb_controld"
    recovery = ["STOP", "FENCE", "FENCED", "START", "UNLINK", "STARTED", "UNLOCK", "FINISH"]
    for story in SCENES[1:4]:
        assert in_order(verbs(lines, story, ocfs2), recovery), story
    assert verbs(lines, SCENES[1], o2cb) == ["HEARS", "QUEUED", "RMDIR"]
    assert verbs(lines, SCENES[2], o2cb) == ["HEARS", "QUEUED", "RMDIR"]
    assert verbs(lines, SCENES[3], o2cb) == ["HEARS", "RMDIR"]

    def place(story: str, who: str, verb: str) -> int:
        begin = next(i for i, line in enumerate(lines) if story in line)
        return next(i for i, line in enumerate(lines) if i > begin and who in line and f" {verb} " in line)

    assert place(SCENES[1], ocfs2, "STOP") < place(SCENES[1], o2cb, "QUEUED") < place(SCENES[1], ocfs2, "UNLINK")
    assert place(SCENES[1], ocfs2, "UNLINK") < place(SCENES[1], o2cb, "RMDIR")
    assert place(SCENES[2], o2cb, "QUEUED") < place(SCENES[2], ocfs2, "STOP")
    assert place(SCENES[3], ocfs2, "FINISH") < place(SCENES[3], o2cb, "HEARS")


def test_a_broken_law_is_named(played: tuple[list[str], Path], tmp_path: Path) -> None:
    _, home = played
    copy = tmp_path / "home"
    for record in home.rglob("*.jsonl"):
        (copy / record.relative_to(home)).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(record, copy / record.relative_to(home))
    assert judged(copy, Paper(io.StringIO(), colour=False)) == KEPT
    journal = copy / "n1" / "log" / "kernel.jsonl"
    entries = [json.loads(line) for line in journal.read_text().splitlines()]
    link = next(e for e in entries if e["call"] == "symlink" and e["path"].endswith("/n3"))
    removal = {"seq": 0, "mono": link["mono"] + 1, "pid": 1, "call": "rmdir", "path": "demo/node/n3"}
    with journal.open("a") as file:
        file.write(json.dumps({**removal, "errno": errno.EBUSY}) + "\n")
    shown = io.StringIO()
    assert judged(copy, Paper(shown, colour=False)).startswith("demo: 1 law broken: 1, ")
    assert "n3" in shown.getvalue()


def test_an_interrupted_demo_leaves_nothing_behind() -> None:
    # Who starts the tests in the background may have them ignore SIGINT, and that is inherited.
    listen = ("env", "--default-signal=INT")
    process = subprocess.Popen([*listen, *COMMAND], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    with process, process.stdout as out:
        text = ""
        for line in out:
            text += line
            if "Story 0" in line:
                process.send_signal(signal.SIGINT)
                break
        text += out.read()
        assert process.wait(DEADLINE) == 130
    home = re.search(r"Home: (\S+)", re.sub(r"\s+", " ", text))
    assert home is not None
    assert text.splitlines()[-1].startswith("demo: interrupted")
    assert not Path(home[1]).exists()
    named = os.fsencode(home[1])
    for command in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            assert named not in command.read_bytes()
        except OSError:
            continue
