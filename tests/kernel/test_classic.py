"""The classic driver's hands: who beats on disk, as o2hb tells, and what that pins."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from libo2cb.kernel.alive import DiskHeartbeat
from libo2cb.kernel.sandbox import SandboxFs, boot
from libo2cb.kernel.tree import TreeKernel
from libo2cb.locks import LockDirectory
from libo2cb.nodes import o2cb_add_node, o2cb_create_cluster
from libo2cb.sandbox.mounts import SandboxMounts
from o2cb_controld import actions as do
from o2cb_controld import events as told
from o2cb_controld.hands import Hands
from protocol.identity import NodeIdentity

F, G = "F" * 32, "A" * 32
CLASSIC = '[engine]\nkind = "corosync"\n[kernel]\ndriver = "classic"\n[sockets]\nrun = "{run}"\n'


class Lab:
    """A tree with three nodes, and an o2hb whose lists the test writes."""

    def __init__(self, home: Path) -> None:
        boot(home)
        self.kernel = TreeKernel(SandboxFs(home))
        self.debugfs = home / "debug"
        self.hands = Hands(
            self.kernel, SandboxMounts(home / "mounts"), LockDirectory(home / "run"), DiskHeartbeat(self.debugfs)
        )
        o2cb_create_cluster(self.kernel, "prod")
        for number in (1, 2, 12):
            identity = NodeIdentity(number, f"10.0.0.{number}", 7777, f"n{number}")
            o2cb_add_node(self.kernel, "prod", identity, number == 1)
        assert isinstance(self.hands.carry_out(do.ReadKernel("prod")), told.KernelRead)

    def live(self, region: str, text: str | None) -> None:
        file = self.debugfs / "o2hb" / region / "livenodes"
        file.parent.mkdir(parents=True, exist_ok=True)
        if text is None:
            file.unlink()
        else:
            file.write_text(text)

    def pins(self, number: int) -> told.MindEvent | None:
        return self.hands.carry_out(do.ListLinks(number, f"n{number}"))


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)


def test_without_a_region_nothing_beats_and_nothing_has_to_be_seen(lab: Lab) -> None:
    assert lab.pins(2) == told.LinksListed(2, ())


def test_a_node_is_pinned_by_the_regions_in_which_it_beats(lab: Lab) -> None:
    for region, text in ((F, "1 2 \n"), (G, "1 12 \n")):
        lab.kernel.create_region("prod", region)
        lab.live(region, text)
    assert lab.pins(1) == told.LinksListed(1, (G, F))
    assert lab.pins(2) == told.LinksListed(2, (F,))
    assert lab.pins(12) == told.LinksListed(12, (G,))
    lab.live(F, "1 \n")
    assert lab.pins(2) == told.LinksListed(2, ())


@pytest.mark.parametrize("text", [None, "garbage\n", "1 \xff\n"])
def test_what_cannot_be_seen_pins_as_long_as_the_region_stands(lab: Lab, text: str | None) -> None:
    lab.kernel.create_region("prod", F)
    lab.live(F, "1 \n")
    lab.live(F, text)
    assert lab.pins(2) == told.LinksListed(2, (F,), blind=True)
    lab.kernel.create_region("prod", G)
    lab.live(G, "1 2 \n")
    assert lab.pins(2) == told.LinksListed(2, (G,))
    lab.kernel.remove_region("prod", F)
    lab.kernel.remove_region("prod", G)
    assert lab.pins(2) == told.LinksListed(2, ())


def test_ocfs2_controld_says_that_it_is_not_needed_and_ends_with_its_own_code(tmp_path: Path) -> None:
    config = tmp_path / "c.toml"
    config.write_text(CLASSIC.format(run=tmp_path / "run"))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(60)
        command = [sys.executable, "-m", "ocfs2_controld", "--config", str(config)]
        environment = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "PATH": "/usr/bin:/bin"}
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=60)
        assert done.returncode == 3
        assert "not needed: kernel.driver is classic" in done.stderr
        assert manager.recv(4096).startswith(b"READY=1\nSTATUS=not needed")
    assert not (tmp_path / "run").exists(), "it touches nothing"
