"""A sandbox cluster whose clients are Debian's own.

    with ClientLab.up(1) as lab:
        node, vm = lab["n1"], lab.volume("vm")
        ran = node.run("mount.ocfs2", vm.path, node.point("a"))

Each node has private network, IPC and mount namespaces. In the network's stands its real ocfs2_controld, on the name
that the clients know, @ocfs2_controld_sock. The clients run in all three, with the shim (shim.c) that stands for the
kernel which this machine lacks. Engine and kernel tree are the sandbox's.
"""

import os
import re
import shutil
from collections.abc import Iterable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from libo2cb.processes import Process
from libo2cb.report_client import Unanswered, ask_report
from libo2cb.sandbox.homes import NodeHome, Settings
from libo2cb.service.report import Ocfs2Report
from tests.process.lab import TRUSTED, Daemon, Lab, Node, Volume
from tests.real.clients import volumes
from tests.real.clients.kernel import Deed, Kernel
from tests.real.clients.namespaces import Namespaces

if TYPE_CHECKING:
    from tests.process.node import Tool

SOCKET: Final = "@ocfs2_controld_sock"
NEEDED: Final = ("gcc", "mkfs.ocfs2", "mount.ocfs2", "unshare", "nsenter", "setpriv")
CALLBACKS: Final = "dlm_recover_callback_support"


def missing() -> str:
    """Why these tests cannot run here; "" when they can."""
    if os.geteuid() != 0:
        return "needs root, for private namespaces"
    if lacking := [tool for tool in NEEDED if shutil.which(tool) is None]:
        return f"needs {', '.join(lacking)} (packages gcc, libc6-dev, ocfs2-tools, util-linux)"
    return "" if volumes.loops_work() else "needs loop devices"


@dataclass(frozen=True, slots=True)
class Ran:
    """A client that has run.

    Attributes:
        code: its exit code; below zero for a signal.
        said: what it wrote, both streams.
        deeds: what it did with the daemon and with mount(2).
        pid: its process.
    """

    code: int
    said: str
    deeds: tuple[Deed, ...]
    pid: int


class Client:
    """A client that runs."""

    def __init__(self, node: "ClientNode", tool: "Tool", command: list[str]) -> None:
        self.node = node
        self.tool = tool
        self.command = command

    @property
    def pid(self) -> int:
        """Its process: setpriv, nsenter and chroot each become the next."""
        return self.tool.process.pid

    def kill(self) -> Ran:
        """Kill -9."""
        process = Process.of(self.pid)
        assert process is not None
        assert process.kill()
        return self.wait()

    def wait(self) -> Ran:
        """Wait for its end."""
        code = self.tool.wait()
        return Ran(code, self.tool.said(), tuple(self.node.shim.deeds(self.pid)), self.pid)


class ClientNode(Node):
    """A node with namespaces of its own. Made by ClientLab."""

    shim: Kernel
    spaces: Namespaces
    devices: dict[str, str]

    def start(self, daemon: Daemon) -> Process:
        """Start one daemon, in the node's namespaces."""
        with self.spaces.entered():
            return super().start(daemon)

    def start_again(self, daemon: Daemon) -> "Tool":
        """Start a second one beside the first."""
        with self.spaces.entered():
            return super().start_again(daemon)

    def ocfs2(self) -> Ocfs2Report | None:
        """ocfs2_controld's report; None while it gives none."""
        with self.spaces.entered(), suppress(Unanswered):
            return ask_report(Ocfs2Report, SOCKET, TRUSTED)
        return None

    # What the clients look for.

    def stack(self, name: str) -> None:
        """The running cluster stack, as the kernel shows it."""
        (self.spaces.sys / "fs" / "ocfs2" / "cluster_stack").write_text(f"{name}\n")

    def callbacks(self, text: str | None) -> None:
        """The kernel's dlm_recover_callback_support; None for a kernel without that file."""
        path = self.spaces.sys / "fs" / "ocfs2" / CALLBACKS
        path.unlink(missing_ok=True)
        if text is not None:
            path.write_text(text)

    def point(self, name: str) -> str:
        """A directory to mount on."""
        path = self.home.root / "mnt" / name
        path.mkdir(parents=True, exist_ok=True)
        return str(path)

    def device(self, volume: Volume) -> str:
        """A loop device of this node on a volume."""
        if volume.uuid not in self.devices:
            assert isinstance(self.lab, ClientLab)
            self.devices[volume.uuid] = self.lab.stack.enter_context(volumes.loop(volume.path))
        return self.devices[volume.uuid]

    # Clients.

    def begin(self, program: str, *arguments: str | Path) -> Client:
        """Begin one of Debian's clients."""
        assert isinstance(self.lab, ClientLab)
        command = [program, *map(str, arguments)]
        environ = {"LD_PRELOAD": str(self.lab.shim), "OCFS2_LAB_KERNEL": str(self.shim.path), "LC_ALL": "C.UTF-8"}
        variables = [f"{name}={value}" for name, value in environ.items()]
        tool = self.lab.run(self, self.spaces.command("env", *variables, *command), {"LC_ALL": "C.UTF-8"})
        return Client(self, tool, command)

    def run(self, program: str, *arguments: str | Path) -> Ran:
        """Run one of Debian's clients to its end."""
        return self.begin(program, *arguments).wait()

    def unmount(self, point: str) -> Ran | None:
        """umount(2), as the kernel does it: with the last mount of a volume it runs ocfs2_hb_ctl, and waits for it.

        Until that has ended the device is held, although the table does not show the mount any more.
        """
        gone = self.mounts.leave(point, hold=True)
        try:
            if any(e.uuid == gone.uuid for e in self.mounts.entries()):
                return None
            return self.run("ocfs2_hb_ctl", "-K", "-u", gone.uuid)
        finally:
            self.mounts.release(gone.device)

    def vanish(self, point: str) -> None:
        """umount(2) of a kernel that runs no helper."""
        self.mounts.leave(point)

    def in_use(self, volume: Volume, points: Iterable[str] = (), holders: Iterable[str] = ()) -> None:
        """Wait until a group runs here, mounted and held exactly so."""
        wanted = sorted(holders)

        def is_so(report: Ocfs2Report) -> bool:
            return any(
                g.fs == volume.uuid
                and g.state == "running"
                and g.here
                and sorted(g.mount_points) == sorted(points)
                and sorted(h.service for h in g.holders) == wanted
                for g in report.groups
            )

        self.until_ocfs2(f"{volume.label} is mounted on {points}, held by {wanted}", is_so)

    def unused(self) -> None:
        """Wait until every group is left, with nothing behind."""
        self.until_ocfs2("every group is left", lambda r: not r.groups and r.live_regions == 0)


class ClientLab(Lab):
    """A lab whose nodes are ClientNodes. `stack` closes with it."""

    shim: Path
    stack: ExitStack

    def _build(self, count: int, settings: Settings, seed: int) -> None:
        self.stack = ExitStack()
        super()._build(count, settings, seed)
        for name, plain in list(self.nodes.items()):
            self.nodes[name] = self._furnish(ClientNode(self, plain.home))

    def _furnish(self, node: ClientNode) -> ClientNode:
        _rename_socket(node.home)
        node.spaces = Namespaces(node.home.root)
        self.stack.callback(node.spaces.close)
        node.shim = Kernel(node.home.run / "shim.sock", node.mounts)
        self.stack.callback(node.shim.close)
        node.devices = {}
        node.stack("cman")
        (node.spaces.sys / "fs" / "o2cb" / "interface_revision").write_text("5\n")
        (node.spaces.sys / "module" / "ocfs2_dlmfs" / "parameters" / "capabilities").write_text("bast stackglue\n")
        return node

    def __getitem__(self, name: str) -> ClientNode:
        node = self.nodes[name]
        assert isinstance(node, ClientNode)
        return node

    def volume(self, label: str, *, stack: str = "cman", cluster: str = "demo") -> Volume:
        """A new volume, by the real mkfs.ocfs2."""
        return volumes.make(self.sandbox.root / f"{label}.img", label, stack=stack, cluster=cluster)

    def close(self) -> None:
        """Switch everything off."""
        try:
            super().close()
        finally:
            self.stack.close()


def _rename_socket(home: NodeHome) -> None:
    text = home.config.read_text()
    text, count = re.subn(r"^clients = .*$", f'clients = "{SOCKET}"', text, flags=re.MULTILINE)
    assert count == 1
    home.config.write_text(text)
