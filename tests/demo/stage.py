"""The cluster of the demo: a lab of three nodes, a volume, and a fence command that can be made to wait."""

import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from libo2cb.sandbox.homes import Settings
from libo2cb.superblock import read_superblock
from tests.process.lab import DAEMONS, Lab, Node, Volume, until

NODES: Final = ("n1", "n2", "n3")
SETTINGS: Final = Settings(mount=60.0, grace=30.0, join_delay=20.0)
LABEL: Final = "demo"
MKFS: Final = ("-F", "-q", "-x", "-b", "4096", "-C", "4096", "-N", "4", "-J", "size=4M", "-L", LABEL)
VOLUME_BYTES: Final = 32 << 20

_FENCE: Final = """\
#!/bin/sh
# The power switch of the demo: while there is a gate, it waits for a word through it; then it switches the node off.
[ -p {gate} ] && read -r go < {gate}
exec {python} -m libo2cb.sandbox.cli --home {root} kill "$1"
"""


class Stage:
    """What the scenes play on.

    Args:
        lab: its cluster.
        volume: what is mounted.
        origin: where the volume comes from, for people.
    """

    def __init__(self, lab: Lab, volume: Volume, origin: str) -> None:
        self.lab = lab
        self.volume = volume
        self.origin = origin
        self.root = lab.sandbox.root
        self._gate = self.root / "gate"

    @classmethod
    @contextmanager
    def up(cls) -> Iterator["Stage"]:
        """A cluster whose daemons are ready; ended at the end."""
        with Lab.up(len(NODES), SETTINGS, daemons=False) as lab:
            stage = cls(lab, *_volume(lab))
            stage._make_fence_command()
            for node in lab.nodes.values():
                for daemon in DAEMONS:
                    node.start(daemon)
            for node in lab.nodes.values():
                node.ready()
            lab.rest()
            yield stage

    def __getitem__(self, name: str) -> Node:
        return self.lab[name]

    def _make_fence_command(self) -> None:
        """Put it into each configuration, in place of the sandbox's own, which it ends with."""
        script = self.root / "fence"
        script.write_text(_FENCE.format(gate=self._gate, python=sys.executable, root=self.root))
        script.chmod(0o700)
        for node in self.lab.nodes.values():
            lines = node.home.config.read_text().splitlines()
            line = f"command = {json.dumps([str(script)])}"
            node.home.config.write_text("\n".join(line if x.startswith("command = ") else x for x in lines) + "\n")

    @contextmanager
    def slow_fence(self) -> Iterator[None]:
        """Within, a fence command that is started ends only after the end of this block."""
        os.mkfifo(self._gate, 0o600)
        yield
        self._open_gate()

    def _open_gate(self) -> None:
        def entered() -> int | None:
            try:
                return os.open(self._gate, os.O_WRONLY | os.O_NONBLOCK)
            except OSError as error:
                if error.errno != errno.ENXIO:
                    raise
                return None  # nobody waits at it yet

        through = until("the fence command waits", entered)
        try:
            self._gate.unlink()
            os.write(through, b"go\n")
        finally:
            os.close(through)

    def mount_everywhere(self) -> None:
        """Mount on all nodes at once."""
        mounts = [node.begin_mount(self.volume, f"/{LABEL}") for node in self.lab.nodes.values()]
        for mount in mounts:
            mount.worked()
        for node in self.lab.nodes.values():
            node.group(self.volume, members=list(NODES))
        self.lab.rest()

    def status(self, name: str) -> tuple[list[str], int]:
        """What `ocfs2_hb_ctl -I` prints on a node, and its exit code."""
        tool = self[name].tool("hb_ctl", "-I")
        code = tool.wait()
        return tool.said().splitlines(), code


def _volume(lab: Lab) -> tuple[Volume, str]:
    """A volume of the lab's cluster, and where it comes from: mkfs.ocfs2, where there is one that works here."""
    mkfs = shutil.which("mkfs.ocfs2", path=os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/sbin")))
    image = "the superblock image that is checked in, made by mkfs.ocfs2"
    if mkfs is None:
        return lab.volume(LABEL), f"{image} (not installed here)"
    path = lab.sandbox.root / f"{LABEL}.img"
    with path.open("wb") as file:
        file.truncate(VOLUME_BYTES)
    command = (mkfs, *MKFS, "--cluster-stack=cman", f"--cluster-name={_cluster(lab)}", str(path))
    try:
        subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        return lab.volume(LABEL), f"{image} (which fails here: {error})"
    found = read_superblock(path)
    return Volume(path, found.uuid, found.label), f"made by {Path(mkfs).name}"


def _cluster(lab: Lab) -> str:
    return str(lab.hub("status")["cluster"])
