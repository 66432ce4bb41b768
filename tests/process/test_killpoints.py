"""A daemon is killed before its system calls, one call site after the other (killpoints.py).

As often as some minutes allow: of each scene's sites a share, by a hash of the site. All of them:
python -m tests.process.killpoints.
"""

import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from tests.process.killpoints import MissedError, Range, run, share
from tests.process.killscenes import SCENES, Scene
from tests.process.killsites import Places, Shot, Site, Strace, calls, killed_at, shots
from tests.process.lab import O2CB
from tests.process.node import DEADLINE

needs_strace = pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")

SHARE: Final = 3
"""Kills of each scene: two to three minutes for all of them on two slow cores."""
_THREADS: Final = """
import threading, time
for _ in range(4):
    threading.Thread(target=lambda: [time.sleep(0.0005) for _ in range(10**6)], daemon=True).start()
print("up", flush=True)
time.sleep(600)
"""


@needs_strace
@pytest.mark.process
@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.name)
def test_a_daemon_is_killed_before_a_call(scene: Scene, record_property: Callable[[str, object], None]) -> None:
    kills, sites = run(scene, SHARE)
    told = f"{scene.name}: killed before {len(kills)} of {sites} call sites"
    record_property("kills", told)
    print(told)
    assert len(kills) == min(SHARE, sites)


@needs_strace
@pytest.mark.process
@pytest.mark.short
def test_a_kill_that_comes_and_one_that_does_not() -> None:
    """Before a call that is made the daemon dies, and all is well again; one that is never made is no kill."""
    mount = SCENES[0]
    never = Shot(Site(mount.name, O2CB, "rmdir", "kernel/tree/never"), "{home}/kernel/tree/never", 1)
    with Range.open(mount) as it:
        with pytest.raises(MissedError, match="rmdir kernel/tree/never, but before nothing"):
            it.kill(never, tries=1)
        (shot,) = share(it.record(), 1)
        assert it.kill(shot).site == shot.site


FS: Final = "0123456789ABCDEF0123456789ABCDEF"
TREE: Final = "/lab/n1/kernel/tree/demo"
PLACES: Final = Places(Path("/lab/n1"), FS, {"socket:[7]": "hub.sock", "socket:[8]": "wake-up"})
LINES: Final = f"""\
10 recvfrom(6<socket:[7]>,  <unfinished ...>
11 openat(AT_FDCWD</>, "{TREE}/node/n2/num", O_RDONLY|O_CLOEXEC) = 9<{TREE}/node/n2/num>
11 read(9<{TREE}/node/n2/num>, "2\\n", 8192) = 2
11 read(9<{TREE}/node/n2/num>, "", 8192) = 0
10 <... recvfrom resumed>"{{}}", 4096, 0, NULL, NULL) = 2
12 close(9</lab/n1/kernel/lock>) = 0
12 execve("/usr/bin/python", ["python"], 0x7ffd /* 9 vars */) = 0
11 symlink("../../node/n2", "/lab/n1/kernel/aside/new") = 0
11 rename("/lab/n1/kernel/aside/new", "{TREE}/heartbeat/{FS}/n2") = 0
10 sendto(5<socket:[8]>, "\\0", 1, 0, NULL, 0) = 1
10 sendto(6<socket:[7]>, "{{\\"op\\":\\"ack\\",\\"count\\":1}}\\n", 23, 0, NULL, 0) = 23
10 sendmsg(9<socket:[99]>, {{msg_iov=[{{iov_base="STATUS 0 OK"..., iov_len=256}}]}}, 0) = 256
11 openat(AT_FDCWD</>, "/etc/passwd", O_RDONLY|O_CLOEXEC) = 9</etc/passwd>
11 rename("/lab/n1/kernel/aside/new", "{TREE}/node/n2/num" <unfinished ...>
10 sendto(6<socket:[7]>, "{{\\"op\\":\\"send\\",\\"data\\":\\"\\"}}\\n", 23, 0, NULL, 0) = ?
10 +++ killed by SIGKILL +++
11 +++ killed by SIGKILL +++
""".splitlines()


def test_the_calls_of_a_recording() -> None:
    """Children that became another program are left out, so is what is none of ours; numbers are folded."""
    seen = [(c.thread, c.name, c.about, c.path, c.nth) for c in calls(LINES[:-5], PLACES)]
    num, new = "{home}/kernel/tree/demo/node/n2/num", "{home}/kernel/aside/new"
    assert seen == [
        (10, "recvfrom", "hub.sock", "hub.sock", 1),
        (11, "openat", "kernel/tree/demo/node/nN/num", num, 1),
        (11, "read", "kernel/tree/demo/node/nN/num", num, 1),
        (11, "read", "kernel/tree/demo/node/nN/num", num, 2),
        (11, "symlink", "kernel/aside/new", new, 1),
        (11, "rename", "kernel/tree/demo/heartbeat/FS/nN", new, 1),
        (10, "sendto", "hub.sock ack", "hub.sock", 2),
        (10, "sendmsg", "connection STATUS", "", 1),
    ]


def test_one_shot_for_each_site_or_for_each_count() -> None:
    recording = list(calls(LINES[:-5], PLACES))
    assert len(shots(recording, "s", O2CB, each=False)) == 7
    assert len(shots(recording, "s", O2CB, each=True)) == 8
    sent = [s for s in shots(recording, "s", O2CB, each=False) if s.site.call == "sendto"]
    # -P narrows the count to the hub's socket.
    assert [(s.path, s.when) for s in sent] == [("hub.sock", 1)]


def test_where_a_daemon_died() -> None:
    assert [(c.name, c.about) for c in killed_at(LINES, PLACES)] == [
        ("sendto", "hub.sock send"),
        ("rename", "kernel/tree/demo/node/nN/num"),
    ]
    assert killed_at(LINES[:-2], PLACES) == []


def test_a_share_is_the_same_whatever_the_order() -> None:
    many = [Shot(Site("s", O2CB, "read", f"kernel/{name}"), "", 1) for name in "abcdefgh"]
    chosen = share(many, 3)
    assert share(reversed(many), 3) == chosen
    assert len(chosen) == 3
    # A site that comes or goes moves at most one other.
    assert len(set(share(many[1:], 3)) & set(chosen)) >= 2


@needs_strace
@pytest.mark.process
def test_a_daemon_that_dies_while_strace_lets_go_holds_up_nobody(tmp_path: Path) -> None:
    """Strace waits for ever for a process of several threads that is killed while it is let go (seen in one of ten)."""
    for number in range(10):
        with subprocess.Popen((sys.executable, "-c", _THREADS), stdout=subprocess.PIPE) as victim:
            assert victim.stdout is not None
            victim.stdout.readline()
            with Strace.recorder(victim.pid, tmp_path / f"{number}.strace") as trace:
                victim.kill()
                trace.stop()
            assert victim.wait(DEADLINE) == -signal.SIGKILL
