"""Clients that end where they should not: between MOUNT and MRESULT, and while they wait."""

import os
import signal
from typing import Final

import pytest

from libo2cb.join import GroupJoin
from libo2cb.sandbox.homes import Settings
from libo2cb.tools.mount import EXIT_INTERRUPTED, PAUSE
from tests.process.conftest import Up
from tests.process.lab import OCFS2, TRUSTED, Lab, Node, Tool, Volume

pytestmark = pytest.mark.process

PAUSED: Final = {PAUSE: "after-status"}


def left(node: Node, volume: Volume) -> None:
    """Wait until a group is left, with nothing behind."""
    node.until_ocfs2("the group is left", lambda r: not r.groups and r.live_regions == 0)
    assert node.links(volume) == []
    assert not node.mounts.mounts()


def paused_mount(lab: Lab) -> tuple[Node, Volume, Tool]:
    """A mount that has its answer and has not called mount(2)."""
    node, volume = lab["n1"], lab.volume("vm")
    mount = node.begin_mount(volume, "/vm", PAUSED)
    mount.stopped()
    node.event(OCFS2, "mount_answered", fs=volume.uuid, code=0)
    return node, volume, mount


def test_a_client_dies_before_its_mount(up: Up) -> None:
    lab = up(1)
    n1, vm, mount = paused_mount(lab)
    assert n1.links(vm) == ["n1"]
    os.killpg(mount.process.pid, signal.SIGKILL)
    n1.event(OCFS2, "client_lost", fs=vm.uuid)
    left(n1, vm)


def test_a_client_dies_after_its_mount_and_before_its_result(up: Up) -> None:
    lab = up(1)
    n1, vm, mount = paused_mount(lab)
    # What it would do next, done in its place: there is no moment at which mount(2) has worked and MRESULT is not sent
    # that a test could catch from outside.
    n1.mounts.enter(str(vm.path), "/vm", vm.uuid)
    os.killpg(mount.process.pid, signal.SIGKILL)
    n1.event(OCFS2, "client_lost", fs=vm.uuid)
    group = n1.group(vm, mount_points=["/vm"], links=[1])
    assert [h.service for h in group.holders] in ([], ["ocfs2"])
    n1.umount("/vm")
    left(n1, vm)


def test_an_interrupt_after_the_answer_is_told(up: Up) -> None:
    lab = up(1)
    n1, vm, mount = paused_mount(lab)
    os.killpg(mount.process.pid, signal.SIGINT)
    os.killpg(mount.process.pid, signal.SIGCONT)
    assert mount.wait() == EXIT_INTERRUPTED
    n1.event(OCFS2, "mount_result", fs=vm.uuid)
    assert not n1.lines(OCFS2, "client_lost")
    left(n1, vm)


def test_an_interrupt_of_a_waiting_mount_leaves_nothing(up: Up) -> None:
    """n2 is dead and nobody says so: a mount on n1 of what n2 had mounted waits, and is given up."""
    lab = up(2, Settings(fencing="manual"))
    n1, n2, vm = lab["n1"], lab["n2"], lab.volume("vm")
    n2.mount(vm, "/vm")
    lab.power_off("n2")
    mount = n1.begin_mount(vm, "/vm")
    n1.until_ocfs2("it waits", lambda r: any(j.number == 1 for g in r.groups for j in g.queue))
    assert not mount.ended()
    os.killpg(mount.process.pid, signal.SIGINT)
    assert mount.wait() == EXIT_INTERRUPTED
    assert "nothing is left behind" in mount.said()
    n1.until_ocfs2("nobody waits", lambda r: not any(g.here or g.queue for g in r.groups))
    assert n1.links(vm) == []
    assert not n1.lines(OCFS2, "mount_answered", code=0)

    n1.fenced("n2")
    n1.mount(vm, "/vm")
    n1.group(vm, members=["n1"], links=[1])


def test_clients_that_talk_to_the_socket_themselves(up: Up) -> None:
    """Two joins at once, each on its own connection: one is told to mount, the other that it goes on already."""
    lab = up(1)
    n1, vm = lab["n1"], lab.volume("vm")

    def join(service: str) -> GroupJoin:
        return GroupJoin(vm.uuid, "demo", str(vm.path), service, socket_name=str(n1.home.clients), trusted_uids=TRUSTED)

    with join("ocfs2") as first:
        first.wait(timeout=60.0)
        assert not first.already
        first.complete(5)  # mount(2) has failed
    left(n1, vm)
    with join("ocfs2") as first:
        first.wait(timeout=60.0)
        n1.mounts.enter(str(vm.path), "/vm", vm.uuid)
        first.complete(0)
    with join("fsck.ocfs2") as second:
        second.wait(timeout=60.0)
        second.complete(0)
    n1.group(vm, mount_points=["/vm"], links=[1])
