"""The lab itself: it ends, also when it is killed, and hears a kernel that complains."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.process.node import until
from tests.real.vm.cache import Unavailable
from tests.real.vm.guest import GuestDied, KernelComplained
from tests.real.vm.lab import VmLab
from tests.real.vm.machine import QEMU, SOURCE, accelerator, refuse

PATIENCE = 120.0
NOBODY = 65534


def test_without_qemu_the_tests_are_skipped_and_say_what_is_missing(tmp_path: Path) -> None:
    for program in ("busybox", "depmod"):
        (tmp_path / program).symlink_to(shutil.which(program) or "/bin/true")
    # Also where the tests are not run by root: then it is that which they say.
    missing = f"there is no {QEMU} (Debian: qemu-system-x86)" if os.geteuid() == 0 else "which takes root"
    this = f"{Path(__file__)}::{test_commands_come_back_with_code_and_output_and_end_in_time.__name__}"
    said = subprocess.run(
        (sys.executable, "-m", "pytest", "-p", "no:cacheprovider", this),
        cwd=SOURCE,
        env={**os.environ, "PATH": str(tmp_path)},
        check=False,
        capture_output=True,
        text=True,
    )
    assert said.returncode == 0, said
    assert "1 skipped" in said.stdout
    assert missing in said.stdout


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be somebody else")
def test_without_root_there_are_no_guests() -> None:
    os.seteuid(NOBODY)
    try:
        with pytest.raises(Unavailable, match="which takes root"):
            refuse()
    finally:
        os.seteuid(0)


@pytest.mark.parametrize("flag", ["vmx", "svm"])
def test_kvm_is_used_only_where_the_processor_has_it(tmp_path: Path, flag: str) -> None:
    processor = tmp_path / "cpuinfo"
    processor.write_text("flags\t\t: fpu vme hypervisor\n")
    assert accelerator(processor) == "tcg"
    processor.write_text(f"flags\t\t: fpu {flag} vme\n")
    assert accelerator(processor) == ("kvm" if os.access("/dev/kvm", os.R_OK | os.W_OK) else "tcg")


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
