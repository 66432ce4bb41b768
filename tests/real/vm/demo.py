"""Story 0 on a real kernel, in one screen: the naive way, and the two daemons. `show` is what a guest calls."""

import errno
import os
import sys
from pathlib import Path
from typing import Final

from tests.demo.paper import Paper
from tests.demo.telling import Names
from tests.demo.timeline import Timeline
from tests.process.lab import CLUSTER, OCFS2, until
from tests.real.vm.cluster import RealLab
from tests.real.vm.stories import SETTINGS, alone, fenced, mounted
from tests.real.vm.trace import TREE

LAST_LINE: Final = "demo-kernel: 0 laws broken, and no rmdir under a link by strace's word"
VERBS: Final = ("HEARS", "STOP", "QUEUED", "FENCED", "UNLINK", "START", "STARTED", "UNLOCK", "RMDIR", "FINISH")
REGION: Final = "94A94C12FF614DD894BF9D0CF62F3987"


def show(colour: str) -> int:
    """Play it; 0 when all went as it must."""
    paper = Paper(sys.stdout, colour=colour == "colour")
    paper.text(
        f"Linux {os.uname().release} in QEMU: real kernel, real configfs, and Debian's own ocfs2_nodemanager, rebuilt "
        "with the lines that let a region take links. n1 is this guest; n2 and the engine are of the sandbox."
    )
    paper.scene("The naive way", "n2 has died, and whoever hears of it first removes it, at once.")
    _naive(paper)
    return _ours(paper)


def _naive(paper: Paper) -> None:
    """Rmdir under a link, by hand, as a daemon without queue would call it."""
    cluster = Path(TREE) / "naive"
    node, region = cluster / "node" / "n2", cluster / "heartbeat" / REGION
    cluster.mkdir()
    for path in (node, region):
        path.mkdir()
    (region / "n2").symlink_to(node)
    said = _rmdir(node)
    paper.line(f"  rmdir node/n2            {said}: {os.strerror(errno.EBUSY)}")
    paper.line("  ... and forgotten: the link goes later, and n2 stays in the kernel with its old address.")
    (region / "n2").unlink()
    for path in (node, region, cluster):
        path.rmdir()


def _rmdir(node: Path) -> str:
    """What the kernel says to an rmdir under a link.

    Raises:
        AssertionError: something else than EBUSY.
    """
    try:
        node.rmdir()
    except OSError as refusal:
        if refusal.errno == errno.EBUSY:
            return "EBUSY"
        raise AssertionError(f"rmdir under a link: {refusal}") from refusal
    raise AssertionError("the kernel has removed a node under a link")


def _ours(paper: Paper) -> int:
    with RealLab.up(2, SETTINGS) as lab:
        n1, vm = lab["n1"], mounted(lab, "vm", "n1", "n2")
        paper.scene(
            "Story 0: lock and queue",
            "ocfs2_controld hears of n2's death and stops; o2cb_controld is told to remove n2, but the link pins it.",
        )
        timeline = Timeline(lab.sandbox.root, Names({vm.uuid: "vm"}, {1: "n1", 2: "n2"}))
        lab.write_journal()
        timeline.begin()
        lab.hold("n1", "o2cb_controld")
        lab.power_off("n2")
        n1.event(OCFS2, "group_stopped", fs=vm.uuid)
        lab.release("n1", "o2cb_controld")
        n1.queued("n2")
        pinned = Path(TREE) / CLUSTER / "node" / "n2"
        said = _rmdir(pinned)
        fenced(lab)
        alone(lab, vm)
        until("n2 is gone", lambda: not pinned.exists())
        lab.write_journal()
        paper.steps(timeline.more({"n1": VERBS}), timeline.zero)
        paper.line(f"  While it was queued, an rmdir by hand said {said}: the kernel's own pin.")
        broken, found = lab.judged(), lab.audit()
        paper.line(f"  strace: {found.links} links, {found.removals} rmdir of nodes, {found.refused} of them EBUSY.")
        n1.umount("/mnt/vm")
        paper.line(broken or LAST_LINE)
        return 1 if broken else 0
