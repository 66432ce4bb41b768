"""In a guest: Debian's own mount.ocfs2 against our daemons, up to the kernel's mount(2) and back.

The volume is labelled cman. Nobody has configured a DLM, so mount(2) of it ends in an error, and the way back begins.
"""

import subprocess
from contextlib import ExitStack
from errno import EPERM
from pathlib import Path
from typing import Final

from tests.process.lab import CLUSTER, OCFS2
from tests.real.vm.cluster import REAL, RealLab
from tests.real.vm.stories import SETTINGS

MOUNT: Final = "/sbin/mount.ocfs2"
POINT: Final = "/run/cman"
STACK: Final = Path("/sys/fs/ocfs2")
CALLBACKS: Final = "dlm_recover_callback_support"
FILES: Final = ("active_cluster_plugin", "cluster_stack", "loaded_cluster_plugins", "max_locking_protocol")
CLIENT_SECONDS: Final = 300


def _prepare(home: Path) -> tuple[str, str]:
    """A volume on a loop device, and the user stack; the device and the UUID."""
    image = home / "cman.real"
    with image.open("wb") as file:
        file.truncate(64 << 20)
    options = ("-b", "4096", "-C", "4096", "-N", "2", "-J", "size=4M")
    label = ("--cluster-stack=cman", f"--cluster-name={CLUSTER}")
    device = _do("losetup", "-f", "--show", str(image)).strip()
    _do("mkfs.ocfs2", "-F", "-q", *options, *label, device)
    _do("modprobe", "ocfs2_stack_user")
    (STACK / "cluster_stack").write_text("cman")
    # udev would have made these names.
    misc = Path("/dev/misc")
    misc.mkdir(exist_ok=True)
    for name in ("dlm-control", "dlm-monitor", "dlm_plock", "ocfs2_control"):
        if not (misc / name).is_symlink():
            (misc / name).symlink_to(f"../{name}")
    Path(POINT).mkdir(exist_ok=True)
    uuid = _do("mounted.ocfs2", "-d", device).splitlines()[1].split()[3]
    return device, uuid.upper()


def _hide() -> None:
    """Take the file away by which a client sees that the kernel's DLM calls the filesystem itself."""
    real = Path("/run/stack")
    real.mkdir()
    _do("mount", "--bind", str(STACK), str(real))
    _do("mount", "-t", "tmpfs", "none", str(STACK))
    for name in FILES:
        (STACK / name).touch()
        _do("mount", "--bind", str(real / name), str(STACK / name))


def _clean(device: str) -> None:
    """Leave nothing behind that keeps the next scene from unloading modules."""
    if Path("/run/stack").is_dir():
        _do("umount", "-R", str(STACK))
        _do("umount", "/run/stack")
        Path("/run/stack").rmdir()
    _do("losetup", "-d", device)


def _do(*command: str) -> str:
    done = subprocess.run(command, check=False, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, (command, done)
    return done.stdout


def debian_mounts(regions: str, callbacks: str) -> None:
    """Run it, and see what the daemon heard, did and answered.

    Args:
        regions: linking or stock.
        callbacks: shown or hidden: whether the client sees dlm_recover_callback_support.
    """
    with ExitStack() as stack, RealLab.up(2, SETTINGS) as lab:
        n1 = lab[REAL]
        device, uuid = _prepare(lab.sandbox.root)
        stack.callback(_clean, device)
        assert (STACK / CALLBACKS).read_text().strip() == "1"
        if callbacks == "hidden":
            _hide()
        n1.mark()
        done = subprocess.run(
            (MOUNT, device, POINT), check=False, capture_output=True, text=True, timeout=CLIENT_SECONDS
        )
        print(f"mount.ocfs2: exit code {done.returncode}: {(done.stdout + done.stderr).strip()}")
        assert done.returncode != 0
        answer = n1.event(OCFS2, "mount_answered", fs=uuid)
        print(f"MOUNT: {answer['code']} {answer['cause']}")
        if regions == "stock":
            assert answer["code"] == EPERM
            assert "refuses heartbeat links" in answer["cause"]
            assert not n1.lines(OCFS2, "linked")
            assert not [call for call in lab.traced() if uuid in call.path], "nothing was tried in the kernel"
        else:
            _went_and_came_back(lab, uuid, callbacks)
        broken = lab.judged()
        assert not broken, broken


def _went_and_came_back(lab: RealLab, uuid: str, callbacks: str) -> None:
    n1 = lab[REAL]
    (answer,) = n1.lines(OCFS2, "mount_answered", fs=uuid)
    assert answer["code"] == 0
    n1.event(OCFS2, "left", fs=uuid)
    n1.until_ocfs2("no group is left", lambda r: not r.groups)
    region = f"{CLUSTER}/heartbeat/{uuid}"
    done = [f"{call.name} {call.path}" for call in lab.traced() if call.worked and call.path.startswith(region)]
    assert done == [f"mkdir {region}", f"symlink {region}/n1", f"unlink {region}/n1", f"rmdir {region}"]
    results = n1.lines(OCFS2, "mount_result", fs=uuid)
    if callbacks == "hidden":
        (result,) = results
        print(f"MRESULT: {result['code']}")
        assert result["code"] != 0
    else:
        # It says nothing and hangs up; what the mount table says is the outcome.
        assert not results
        assert n1.lines(OCFS2, "client_lost", fs=uuid)
