"""Debian's clients on two nodes: the mounter hears last, and a death is recovered under a live mount."""

from typing import Final

import pytest

from tests.process.lab import OCFS2
from tests.real.clients.lab import ClientLab, ClientNode
from tests.real.clients.scene import Scene

pytestmark = pytest.mark.process

NODES: Final = 2


def test_a_second_node_mounts_dies_and_mounts_again(lab: ClientLab, node: ClientNode) -> None:
    n2, vm = lab["n2"], lab.volume("vm")
    scene, device, a = Scene(node, "two_nodes", vm), node.device(vm), node.point("a")
    scene.run("mount.ocfs2", device, a)
    scene.in_use(vm, [a], ["ocfs2"])
    assert n2.run("mount.ocfs2", n2.device(vm), n2.point("a")).code == 0
    scene.note("the same on n2: when its MOUNT is answered it is linked here already")
    assert node.links(vm) == n2.links(vm) == ["n1", "n2"]

    lab.hold("n1", f"{OCFS2}.membership")
    lab.hold("n1", f"{OCFS2}.channel")
    lab.power_off("n2")
    scene.note("n2 has lost its power, and nobody here has heard of it: a further mount asks nobody")
    scene.run("mount.ocfs2", device, node.point("b"))
    scene.unmount(node.point("b"))
    lab.release("n1", f"{OCFS2}.membership")
    lab.release("n1", f"{OCFS2}.channel")
    node.group(vm, members=["n1"], links=[1])
    scene.note("n2 is fenced and unlinked")
    scene.in_use(vm, [a], ["ocfs2"])

    lab.power_on("n2")
    n2.ready()
    assert n2.run("mount.ocfs2", n2.device(vm), n2.point("a")).code == 0
    assert node.links(vm) == ["n1", "n2"]
    scene.note("n2 is back, and has mounted again")
    scene.unmount(a)
    scene.note("an unmount waits for nobody, and n2 stays")
    n2.group(vm, members=["n2"], links=[2])
    assert n2.unmount(n2.point("a")) is not None
    n2.unused()
    scene.unused()
    scene.check()
