"""The lab with Debian's clients: nothing of it is left, whatever happens, and it tells when something is wrong."""

import signal
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from libo2cb.processes import Process
from libo2cb.sandbox.homes import read_record
from tests.process.lab import OCFS2, until
from tests.real.clients import scene as scenes
from tests.real.clients.kernel import Deed
from tests.real.clients.lab import ClientLab, ClientNode
from tests.real.clients.scene import Scene, _deeds

ROOT: Final = Path(__file__).parents[3]
HAS_A_MOUNT: Final = """
import sys
from pathlib import Path
from tests.real.clients.lab import ClientLab
ClientLab.shim = Path(sys.argv[1])
with ClientLab.up(1) as lab:
    node, vm = lab["n1"], lab.volume("vm")
    with node.shim.stop("mount") as stop:
        client = node.begin("mount.ocfs2", node.device(vm), node.point("a"))
        stop.wait()
        print(lab.sandbox.root, node.device(vm), client.pid, flush=True)
        input()
"""


@pytest.mark.process
def test_nothing_is_left_of_a_lab_whose_process_is_killed(shim: Path) -> None:
    """Killed while a client stands in mount(2): hub, daemons, client, home, loop device and namespaces all go."""
    command = (sys.executable, "-c", HAS_A_MOUNT, str(shim))
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        words = run.stdout.readline().split()
        home, device, client = Path(words[0]), words[1], Process.of(int(words[2]))
        daemon = read_record(home / "n1" / "run" / "processes" / f"{OCFS2}.json")
        assert client is not None
        assert daemon is not None
        backing = Path(f"/sys/block/{Path(device).name}/loop/backing_file")
        assert backing.read_text().strip() == str(home / "vm.img")
        run.send_signal(signal.SIGKILL)
    until("the client has ended", lambda: not client.alive())
    until("the daemon has ended", lambda: not daemon.alive())
    until("the home is gone", lambda: not home.exists())
    until("the loop device is free", lambda: not _is_on(backing, home))


def _is_on(backing: Path, home: Path) -> bool:
    try:
        return str(home) in backing.read_text()
    except OSError:
        return False


@pytest.mark.process
def test_a_scene_that_differs_fails(
    lab: ClientLab, node: ClientNode, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(scenes, "EXPECTED", tmp_path)
    monkeypatch.delenv("UPDATE_EXPECTED", raising=False)
    (tmp_path / "it.txt").write_text("$ o2cluster -o DIR/vm.img\n  | cman,demo,none\n  exit 1\n")
    vm = lab.volume("vm")
    scene = Scene(node, "it", vm)
    scene.run("o2cluster", "-o", vm.path)
    with pytest.raises(AssertionError, match=r"(?m)^-  exit 1\n\+  exit 0$"):
        scene.check()
    (tmp_path / "it.txt").write_text("$ o2cluster -o DIR/vm.img\n  | cman,demo,none\n  exit 0\n")
    scene.check()


def test_bytes_that_are_no_record_are_shown_as_such() -> None:
    whole = b"DUMP".ljust(256, b"\0")

    def written(*data: bytes) -> list[str]:
        return list(_deeds(Deed("write", each) for each in data))

    assert written(whole[:100], whole[100:], whole) == ["  > DUMP", "  > DUMP"]
    assert written(whole[:-1]) == ["  > DUMP   [no record: 255 bytes, 250 behind the first NUL]"]
    assert written(whole[:-1] + b"x") == ["  > DUMP   [no record: 256 bytes, 251 behind the first NUL]"]
    assert written(b"x" * 256) == [f"  > {'x' * 256}   [no record: 256 bytes, 0 behind the first NUL]"]
