"""The lab itself: it ends, also when it is killed, and hears a kernel that complains."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.process.node import until
from tests.real.vm.guest import GuestDied, KernelComplained
from tests.real.vm.lab import VmLab
from tests.real.vm.machine import QEMU, SOURCE

PATIENCE = 120.0


def test_a_killed_lab_leaves_no_guest_and_no_file(vms: VmLab, tmp_path: Path) -> None:
    del vms  # it skips where there can be no lab
    lab = subprocess.Popen(
        (sys.executable, "-m", "tests.real.vm", "run", "sleep 600"),
        cwd=SOURCE,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        stdout=subprocess.DEVNULL,
    )

    def qemu() -> psutil.Process | None:
        children = psutil.Process(lab.pid).children()
        return next((child for child in children if child.name().startswith(QEMU[:15])), None)

    guest = until("a guest runs", qemu, PATIENCE)
    assert any(tmp_path.iterdir())
    lab.send_signal(signal.SIGKILL)
    lab.wait()
    until("the guest is gone", lambda: not guest.is_running() or guest.status() == psutil.STATUS_ZOMBIE, PATIENCE)
    until("its files are gone", lambda: not any(tmp_path.iterdir()), PATIENCE)


def test_commands_come_back_with_code_and_output_and_end_in_time(vms: VmLab) -> None:
    guest = vms.guest()
    with guest.scene("commands"):
        done = guest.run("echo out; echo err >&2; exit 3")
        assert (done.code, done.out) == (3, "out\nerr\n")
        assert guest.run("sleep 1000", seconds=0.5).code is None
        assert guest.run("kill -9 $$").code == -signal.SIGKILL
        assert guest.run(["no-such-program"]).code == 126
        guest.run("setsid sleep 1000 >/dev/null 2>&1 &").worked()
        guest.sweep()
        assert guest.run("pgrep sleep").code == 1


def test_a_kernel_that_complains_fails_the_scene(vms: VmLab) -> None:
    guest = vms.guest()
    with pytest.raises(KernelComplained, match="WARNING: something"), guest.scene("a warning"):
        guest.run("echo '<4>WARNING: something is wrong' >/dev/kmsg").worked()
    with guest.scene("no warning"):
        assert guest.run("true").code == 0


def test_a_crash_ends_the_guest_and_the_next_one_boots(vms: VmLab) -> None:
    guest = vms.guest(4)
    with pytest.raises(GuestDied, match=r"sysrq: Trigger a crash|Kernel panic"), guest.scene("a crash"):
        guest.run("echo c >/proc/sysrq-trigger")
    vms.end(4)
