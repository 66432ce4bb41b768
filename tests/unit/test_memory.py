"""What a daemon has freed does not pile up in the interpreter, and its threads share one arena."""

import subprocess
import sys

import pytest

_ARENAS = """
import threading
from libo2cb.service import memory
{call}
gate = threading.Barrier(5)
def hold():
    kept = [bytes(2000) for _ in range(200)]
    gate.wait()
    gate.wait()
threads = [threading.Thread(target=hold) for _ in range(4)]
for t in threads: t.start()
gate.wait()
import ctypes
ctypes.CDLL(None).malloc_stats()
gate.wait()
"""


_WORK = """
import asyncio, gc
from libo2cb.service import memory
import ocfs2_controld.__main__

def full():
    return gc.get_stats()[2]["collections"]

async def work():
    memory.SECONDS = 0.0
    before = full()
    for _ in range(200):
        kept = [[i] for i in range(1500)]
        await asyncio.sleep(0)
    worked, quiet = full() - before, full()
    for _ in range(1000):
        await asyncio.sleep(0)
    print(worked, full() - quiet, len(gc.get_objects()))
    return 7

assert asyncio.run({call}) == 7
assert gc.get_freeze_count() == 0 and not gc.callbacks
"""


@pytest.mark.parametrize(("call", "level"), [("memory.level(work())", True), ("work()", False)])
def test_work_brings_full_collections_of_what_is_new_and_rest_brings_none(call: str, level: bool) -> None:
    program = (sys.executable, "-c", _WORK.format(call=call))
    said = subprocess.run(program, check=True, capture_output=True, text=True).stdout
    worked, at_rest, looked_at = map(int, said.split())
    assert at_rest <= 1
    if level:
        assert worked >= 15
        assert looked_at < 5000
    else:
        assert worked <= 7, "without it there is none to speak of; else this test says nothing"
        assert looked_at > 20_000


_NAMES = """
import sys
from pathlib import Path
from libo2cb.service import memory
import ocfs2_controld.__main__
{call}

def anonymous():
    with open("/proc/self/status") as status:
        return int(status.read().partition("RssAnon:")[2].split()[0])

seen = []
for number in range(100_000):
    Path("/proc", str(number))
    if number % 1000 == 0:
        seen.append(anonymous())
print(max(seen) - seen[0])
"""


@pytest.mark.parametrize(("call", "level"), [("memory.tune()", True), ("", False)])
def test_names_that_come_and_go_take_no_memory(call: str, level: bool) -> None:
    program = (sys.executable, "-c", _NAMES.format(call=call))
    grown = int(subprocess.run(program, check=True, capture_output=True, text=True).stdout)
    if level:
        assert grown < 200, f"{grown} KiB"
    elif grown < 200:
        pytest.skip("this interpreter, or this libc, does not grow by names")


@pytest.mark.parametrize(("call", "arenas"), [("memory.tune()", 1), ("", 5)])
def test_threads_share_one_arena(call: str, arenas: int) -> None:
    program = (sys.executable, "-c", _ARENAS.format(call=call))
    said = subprocess.run(program, check=True, capture_output=True, text=True).stderr
    if "Arena 0:" not in said:
        pytest.skip("libc is not glibc")
    assert said.count("Arena ") <= arenas
    if arenas > 1:
        assert said.count("Arena ") > 1, "without it each has its own; else this test says nothing"
