"""In a guest that is a node of a real cluster: start a daemon under strace, mount a volume as a member of its group.

Each function is called by itself, in a process of its own (nursery.py). The configuration is where real ones lie, and
so are sockets and run directory.
"""

import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Final

from libo2cb.config import DEFAULT_PATH, load
from libo2cb.join import begin_group_join, group_leave
from libo2cb.tools.mount import kernel_mount
from libo2cb.tools.mount_options import MountOptions
from protocol.client import MOUNT_SERVICE
from tests.real.vm import trace
from tests.real.vm.agent import SHARE
from tests.real.vm.nursery import forked

_STEP: Final = 0.01
_UNTRACED: Final = "TracerPid:\t0\n"


def begin(daemon: str) -> None:
    """Start a daemon; strace has it from its first call on. Log and trace are in the shared directory.

    Args:
        daemon: o2cb_controld or ocfs2_controld.
    """
    main = import_module(f"{daemon}.__main__").main

    def run() -> object:
        sys.argv = [daemon]
        return main()

    pid = forked(run, Path(SHARE, f"{daemon}.jsonl"), before=lambda: _until_traced("self"))
    number = len(list(Path(SHARE).glob("strace.*")))
    with Path(SHARE, "tracers.said").open("ab") as said:
        subprocess.Popen(
            ("strace", *trace.OPTIONS, "-o", f"{SHARE}/strace.{number}.{pid}", "-p", str(pid)),
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            start_new_session=True,
        )
    _until_traced(str(pid))


def _until_traced(pid: str) -> None:
    status = Path(f"/proc/{pid}/status")
    while _UNTRACED in status.read_text():
        time.sleep(_STEP)


def join(uuid: str, image: str, point: str, seconds: float) -> None:
    """Join a filesystem's group as its member: first MOUNT, then mount(2) of a copy of the volume, then MRESULT.

    The copy is this guest's own, and local: a cluster's volume needs a DLM, which nobody has configured.

    Args:
        uuid: of the volume.
        image: its file, as the host has it.
        point: where it is mounted.
        seconds: how long the answer may take.
    """
    copy = f"/run/{uuid}"
    _do("cp", "--sparse=always", image, copy)
    device = _do("losetup", "-f", "--show", copy).strip()
    Path(point).mkdir(parents=True, exist_ok=True)
    config = load(DEFAULT_PATH)
    name = config.cluster.name
    assert name is not None
    socket = config.sockets.clients
    with begin_group_join(uuid, name, device, MOUNT_SERVICE, socket_name=socket, timeout=seconds) as join:
        kernel_mount(device, point, MountOptions(0, ("heartbeat=none",)))
        join.complete(0)


def leave(uuid: str, point: str) -> None:
    """Unmount it, by the kernel; then UNMOUNT."""
    device = _do("findmnt", "-n", "-o", "SOURCE", point).strip()
    _do("umount", "-i", point)
    _do("losetup", "-d", device)
    group_leave(uuid, MOUNT_SERVICE, socket_name=load(DEFAULT_PATH).sockets.clients)


def _do(*command: str) -> str:
    done = subprocess.run(command, check=False, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, (command, done)
    return done.stdout
