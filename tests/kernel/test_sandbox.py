"""What the sandbox promises beyond configfs: atomic calls under any kill, a true journal, faults, boots."""

import errno
import fcntl
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from libo2cb.errors import NotAllowed, NotThere, Pinned
from libo2cb.kernel import journal
from libo2cb.kernel.sandbox import SandboxFs, boot, clear, clear_fault, set_fault
from libo2cb.kernel.tree import TreeKernel, What
from tests.kernel.conftest import answer
from tests.kernel.replay import Tree, replay, snapshot

R = "c/heartbeat/F1"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home with cluster c, nodes n1 (complete) and n2 (bare), region F1, and n1 linked in it."""
    boot(tmp_path)
    fs = SandboxFs(tmp_path)
    fs.mkdir("c")
    fs.mkdir("c/node/n1")
    fs.write("c/node/n1/ipv4_port", b"7777")
    fs.write("c/node/n1/ipv4_address", b"10.0.0.1")
    fs.write("c/node/n1/num", b"1")
    fs.mkdir("c/node/n2")
    fs.mkdir(R)
    fs.symlink("c/node/n1", f"{R}/n1")
    return tmp_path


def lines(home: Path) -> list[journal.Entry]:
    return journal.read(home / "log" / "kernel.jsonl")


def test_find_and_cat_read_the_tree(home: Path) -> None:
    tree = home / "kernel" / "tree"
    assert (tree / R / "n1" / "num").read_text() == "1\n"
    assert (
        subprocess.run(["cat", tree / "c/node/n1/ipv4_address"], check=True, capture_output=True).stdout
        == b"10.0.0.1\n"
    )
    assert os.readlink(tree / R / "n1") == "../../node/n1"  # noqa: PTH115 (as find -printf %l shows it)


def test_the_journal_tells_calls_refusals_and_the_node_of_the_time(home: Path) -> None:
    fs = SandboxFs(home)
    assert answer(fs.rmdir, "c/node/n1") == "EBUSY"
    fs.unlink(f"{R}/n1")
    fs.rmdir("c/node/n1")
    told = [{k: v for k, v in e.items() if k not in {"mono", "pid", "seq"}} for e in lines(home)[-4:]]
    n1 = {"number": 1, "address": "10.0.0.1", "port": 7777, "local": False}
    assert told == [
        {"call": "symlink", "path": f"{R}/n1", "errno": 0, "target": "c/node/n1", **n1},
        {"call": "rmdir", "path": "c/node/n1", "errno": errno.EBUSY, **n1},
        {"call": "unlink", "path": f"{R}/n1", "errno": 0, **n1},
        {"call": "rmdir", "path": "c/node/n1", "errno": 0, **n1},
    ]
    assert [e["seq"] for e in lines(home)] == list(range(1, len(lines(home)) + 1))
    assert {e["pid"] for e in lines(home)} == {os.getpid()}
    assert replay(lines(home)) == snapshot(home)


def test_a_fault_is_an_answer_until_it_is_cleared(home: Path) -> None:
    kernel = TreeKernel(SandboxFs(home))
    kernel.make_node("c", "n3")
    set_fault(home, "rmdir", "c/node/n3", errno.EBUSY)
    for _ in range(2):
        with pytest.raises(Pinned):
            kernel.remove_node("c", "n3")
    with pytest.raises(NotThere):
        kernel.remove_node("c", "n4")
    clear_fault(home, "rmdir", "c/node/n3")
    clear_fault(home, "rmdir", "c/node/n3")
    kernel.remove_node("c", "n3")


def test_a_kernel_whose_regions_allow_no_links(home: Path) -> None:
    kernel = TreeKernel(SandboxFs(home))
    set_fault(home, "symlink", "*/heartbeat/*/*", errno.EPERM)
    with pytest.raises(NotAllowed):
        kernel.link("c", "F1", "n2")
    with pytest.raises(NotAllowed):
        kernel.link("c", "F1", "nobody")
    assert kernel.links("c", "F1") == ["n1"]


@pytest.mark.parametrize(("call", "path"), [("read", "c/node/n1/num"), ("listdir", "c/node"), ("readlink", f"{R}/n1")])
def test_reading_can_be_made_to_fail(home: Path, call: str, path: str) -> None:
    set_fault(home, call, path, errno.EIO)
    assert answer(getattr(SandboxFs(home), call), path) == "EIO"


def test_boot_is_a_new_life_with_an_empty_tree(home: Path) -> None:
    kernel = TreeKernel(SandboxFs(home))
    first = kernel.boot_id()
    second = boot(home)
    assert kernel.boot_id() == second != first
    assert kernel.clusters() == []
    assert replay(lines(home)) == snapshot(home) == {}


def test_clear_leaves_nothing_until_the_next_boot(home: Path) -> None:
    fs = SandboxFs(home)
    clear(home)
    clear(home)
    assert answer(fs.listdir, "") == "ENOENT"
    assert answer(fs.mkdir, "c") == "ENOENT"
    assert replay(lines(home)) is None
    boot(home)
    assert answer(fs.mkdir, "c") == "ok"


def test_power_off_is_recorded_before_it_strikes(home: Path) -> None:
    struck: list[tuple[str, str]] = []
    fs = SandboxFs(home, lambda why: struck.append((why, lines(home)[-1]["call"])))
    fs.power_off("others recovered this life")
    assert struck == [("others recovered this life", "power_off")]
    assert lines(home)[-1]["why"] == "others recovered this life"
    assert replay(lines(home)) == snapshot(home)


def test_a_path_cannot_leave_the_tree(home: Path) -> None:
    fs = SandboxFs(home)
    for path in ("../escape", "/escape", "c/../../escape", "c/node/."):
        assert answer(fs.mkdir, path) == "EINVAL"
        assert answer(fs.read, path) == "EINVAL"
    assert not (home / "kernel" / "escape").exists()


CALLS: dict[str, Callable[[Path], object]] = {
    "mkdir cluster": lambda home: SandboxFs(home).mkdir("d"),
    "mkdir node": lambda home: SandboxFs(home).mkdir("c/node/n3"),
    "mkdir region": lambda home: SandboxFs(home).mkdir("c/heartbeat/F2"),
    "rmdir node": lambda home: SandboxFs(home).rmdir("c/node/n2"),
    "rmdir region": lambda home: SandboxFs(home).rmdir("c/heartbeat/F2"),
    "rmdir cluster": lambda home: SandboxFs(home).rmdir("d"),
    "write": lambda home: SandboxFs(home).write("c/node/n2/ipv4_port", b"7777"),
    "symlink": lambda home: SandboxFs(home).symlink("c/node/n2", f"{R}/n2"),
    "unlink": lambda home: SandboxFs(home).unlink(f"{R}/n1"),
    "refused": lambda home: answer(SandboxFs(home).rmdir, "c/node/n1"),
    "clear": clear,
}


def _ready_for(call: str, home: Path) -> None:
    """The home of the fixture, changed where the call needs it."""
    fs = SandboxFs(home)
    if call == "rmdir region":
        fs.mkdir("c/heartbeat/F2")
    if call in {"mkdir cluster", "rmdir cluster"}:
        fs.unlink(f"{R}/n1")
        for path in (R, "c/node/n1", "c/node/n2", "c"):
            fs.rmdir(path)
    if call == "rmdir cluster":
        fs.mkdir("d")


def _killed_at(count: int, run: Callable[[], object]) -> bool:
    """Run in a child that is killed -9 just before its count-th audited call; whether it was killed."""
    child = os.fork()
    if child == 0:
        left = count

        def strike(_event: str, _arguments: object) -> None:
            nonlocal left
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(strike)
        try:
            run()
        finally:
            os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


@pytest.mark.parametrize("call", CALLS)
def test_a_kill_at_any_point_leaves_the_tree_as_before_or_as_after(home: Path, call: str) -> None:
    _ready_for(call, home)
    before = snapshot(home)
    seen: list[Tree | None] = []
    undone = 0
    for count in range(1, 500):
        killed = _killed_at(count, lambda: CALLS[call](home))
        seen.append(snapshot(home))
        # The next caller takes the lock, though its holder was killed, and puts the journal and aside/ right.
        clear_fault(home, "rmdir", "c/node/n1")
        assert list((home / "kernel" / "aside").iterdir()) == []
        assert replay(lines(home)) == snapshot(home) == seen[-1]
        undone += lines(home)[-1]["call"] == "undone"
        if not killed:
            break
        if seen[-1] != before:
            boot(home)
            _restore(home, call)
            assert snapshot(home) == before
    else:
        pytest.fail("the call never came to its end")
    after = seen[-1]
    assert all(tree in (before, after) for tree in seen)
    if call != "refused":
        assert after != before
        assert seen[0] == before
        assert undone, "no kill fell between a line and its effect, so this proves less than it says"


def _restore(home: Path, call: str) -> None:
    fs = SandboxFs(home)
    fs.mkdir("c")
    fs.mkdir("c/node/n1")
    fs.write("c/node/n1/ipv4_port", b"7777")
    fs.write("c/node/n1/ipv4_address", b"10.0.0.1")
    fs.write("c/node/n1/num", b"1")
    fs.mkdir("c/node/n2")
    fs.mkdir(R)
    fs.symlink("c/node/n1", f"{R}/n1")
    _ready_for(call, home)


def test_who_reads_an_attribute_reads_the_old_value_or_the_new_one(home: Path) -> None:
    with (home / "kernel" / "tree" / "c" / "node" / "n2" / "ipv4_port").open() as early:
        SandboxFs(home).write("c/node/n2/ipv4_port", b"7777")
        assert early.read() == "0\n"
    assert SandboxFs(home).read("c/node/n2/ipv4_port") == b"7777\n"


def test_the_last_line_counts_however_long_it_is(home: Path) -> None:
    fs = SandboxFs(home)
    long = "\udcff" * 255  # six characters each
    assert answer(fs.symlink, "c/node/n1", f"{R}/{long}/x") != "0"
    assert len((home / "log" / "kernel.jsonl").read_bytes().splitlines()[-1]) > 1024
    fs.unlink(f"{R}/n1")
    assert [e["seq"] for e in lines(home)] == list(range(1, len(lines(home)) + 1))
    assert [e["call"] for e in lines(home)[-2:]] == ["symlink", "unlink"]


def test_a_line_torn_by_a_kill_is_dropped(home: Path) -> None:
    path = home / "log" / "kernel.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"seq":99,"call":"rmd')
    assert answer(SandboxFs(home).rmdir, "c/node/nobody") == "ENOENT"
    assert path.read_bytes().startswith(whole + b'{"seq":')
    assert [e["seq"] for e in lines(home)] == list(range(1, len(lines(home)) + 1))


def test_a_killed_holder_leaves_no_lock_to_its_child(home: Path) -> None:
    reader, writer = os.pipe()
    holder = os.fork()
    if holder == 0:
        with SandboxFs(home)._home.locked():
            child = subprocess.Popen(["sleep", "600"], close_fds=False)
            os.write(writer, b"%d\n" % child.pid)
            os.kill(os.getpid(), signal.SIGKILL)
    os.close(writer)
    assert os.WIFSIGNALED(os.waitpid(holder, 0)[1])
    with os.fdopen(reader) as told:
        child_pid = int(told.readline())
    try:
        with (home / "kernel" / "lock").open() as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        os.kill(child_pid, signal.SIGKILL)


# Several processes at once, killed again and again.


def _churn(home: Path, seed: int) -> None:
    """Random calls for ever; every refusal is one of configfs's."""
    rng = random.Random(seed)  # noqa: S311 (a seed, so that a failure can be run again)
    fs = SandboxFs(home)
    while True:
        node = f"n{rng.randrange(4)}"
        region = f"F{rng.randrange(2)}"
        value = rng.randrange(1, 5)
        call = rng.choice([fs.mkdir, fs.rmdir, fs.symlink, fs.unlink, fs.write, fs.write, fs.write])
        with suppress(OSError):
            if call == fs.write:
                attribute, text = rng.choice(
                    [
                        ("ipv4_port", b"7777"),
                        ("ipv4_address", b"10.0.0.%d" % value),
                        ("num", b"%d" % value),
                        ("local", b"1"),
                    ]
                )
                fs.write(f"c/node/{node}/{attribute}", text)
            elif call == fs.symlink:
                fs.symlink(f"c/node/{node}", f"c/heartbeat/{region}/{node}")
            elif call == fs.unlink:
                fs.unlink(f"c/heartbeat/{region}/{node}")
            elif call == fs.mkdir:
                fs.mkdir(rng.choice([f"c/node/{node}", f"c/heartbeat/{region}"]))
            else:
                fs.rmdir(rng.choice([f"c/node/{node}", f"c/node/{node}", f"c/heartbeat/{region}"]))


@contextmanager
def _workers(home: Path, count: int) -> Iterator[Callable[[int], None]]:
    """Workers that churn, and a function that kills the n-th and puts another in its place."""
    seeds = iter(range(1, 10_000))
    pids: list[int] = []

    def start() -> int:
        seed = next(seeds)
        pid = os.fork()
        if pid == 0:
            try:
                _churn(home, seed)
            finally:
                os._exit(1)
        return pid

    def replace(index: int) -> None:
        os.kill(pids[index], signal.SIGKILL)
        assert os.WIFSIGNALED(os.waitpid(pids[index], 0)[1]), "a worker ended by itself"
        pids[index] = start()

    try:
        pids.extend(start() for _ in range(count))
        yield replace
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def _observe(home: Path) -> int:
    """What an observer who takes no lock must never see; returns how many looks were sharp.

    A look is sharp when the journal did not grow meanwhile: then at most one effect fell into it, so that what stands
    before and after has stood throughout.
    """
    tree = home / "kernel" / "tree" / "c"
    path = home / "log" / "kernel.jsonl"
    sharp = 0
    for node in (tree / "node").iterdir():
        with suppress(FileNotFoundError):
            size = path.stat().st_size
            node.stat()
            found = {attribute.name for attribute in node.iterdir()}
            node.stat()
            if path.stat().st_size == size:
                assert found == {"num", "ipv4_address", "ipv4_port", "local"}
                sharp += 1
    links: list[Path] = []
    for region in (tree / "heartbeat").iterdir():
        with suppress(FileNotFoundError, NotADirectoryError):
            links += (path for path in region.iterdir() if path.is_symlink())
    for link in links:
        with suppress(FileNotFoundError):
            size = path.stat().st_size
            link.lstat()
            stands = link.exists()
            link.lstat()
            if path.stat().st_size == size:
                assert stands, f"{link} points to {link.readlink()}, which is not there"
                sharp += 1
    return sharp


def test_many_processes_and_kills(home: Path) -> None:
    path = home / "log" / "kernel.jsonl"
    rng = random.Random(2007)  # noqa: S311 (a seed, so that a failure can be run again)
    grown = path.stat().st_size
    sharp = 0
    deadline = time.monotonic() + 120
    with _workers(home, 3) as replace:
        for _ in range(40):
            grown = max(grown, path.stat().st_size) + rng.randrange(200, 3000)
            while path.stat().st_size < grown:
                sharp += _observe(home)
                assert time.monotonic() < deadline, "the workers stand still"
            replace(rng.randrange(3))
    assert sharp
    fs = SandboxFs(home)
    assert answer(fs.rmdir, "c/node/nobody") == "ENOENT"
    assert list((home / "kernel" / "aside").iterdir()) == []
    entries = lines(home)
    assert [e["seq"] for e in entries] == list(range(1, len(entries) + 1))
    assert len({e["pid"] for e in entries}) > 20
    assert replay(entries) == snapshot(home)
    nodes = TreeKernel(fs).nodes("c")
    for node in nodes:
        assert node.number == 0 or node.complete, "a number comes after address and port"
    for known in ([n.number for n in nodes if n.number], [n.address for n in nodes if n.address != "0.0.0.0"]):  # noqa: S104
        assert len(known) == len(set(known))
    for region in TreeKernel(fs).regions("c"):
        for link in fs.listdir(f"c/heartbeat/{region}"):
            if link.what is What.LINK:
                assert fs.readlink(f"c/heartbeat/{region}/{link.name}") in {f"c/node/{n.name}" for n in nodes}
