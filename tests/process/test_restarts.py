"""Daemons that are killed at chosen moments and started anew, and daemons that are started twice."""

import os
import signal
import socket

import pytest

from libo2cb.sandbox.homes import Settings
from libo2cb.tools.mount import PAUSE
from tests.process.conftest import Up
from tests.process.lab import DAEMONS, O2CB, OCFS2, Daemon, exit_code, until

pytestmark = pytest.mark.process


def test_a_joiner_is_killed_before_its_start(up: Up) -> None:
    """n1 hears nothing after n2's join, so no START can come; n2's daemon dies and forgets that it wanted to join."""
    lab = up(2)
    n1, n2, vm = lab["n1"], lab["n2"], lab.volume("vm")
    n1.mount(vm, "/vm")
    n2.mark()
    n1.mark()
    lab.hold("n1", f"{OCFS2}.channel")
    mount = n2.begin_mount(vm, "/vm")
    n2.event(OCFS2, "join_begun", fs=vm.uuid)
    n2.kill(OCFS2)
    assert mount.wait() == 32
    n2.start(OCFS2)
    lab.release("n1", f"{OCFS2}.channel")
    n2.ready()
    lab.rest()
    n1.group(vm, members=["n1"], links=[1])
    assert n2.links(vm) == []
    assert not n2.mounts.mounts()
    assert not n2.lines(OCFS2, "group_started")
    n2.mount(vm, "/vm")
    n1.group(vm, members=["n1", "n2"], links=[1, 2])


def test_a_member_is_killed_before_a_joiners_start(up: Up) -> None:
    """n2 hears nothing after its own join was sent, so no START can come; n1's daemon dies under its mount."""
    lab = up(2)
    n1, n2, vm = lab["n1"], lab["n2"], lab.volume("vm")
    n1.mount(vm, "/vm")
    n1.group(vm, members=["n1"])
    n1.mark()
    lab.hold("n2", f"{OCFS2}.channel")
    mount = n2.begin_mount(vm, "/vm")
    n1.event(OCFS2, "join_begun", fs=vm.uuid)
    n1.kill(OCFS2)
    assert n1.links(vm) == ["n1"]
    assert not n1.lines(OCFS2, "group_started")
    n1.start(OCFS2)
    n1.event(OCFS2, "adopted", fs=vm.uuid)
    assert not mount.ended()
    lab.release("n2", f"{OCFS2}.channel")
    mount.worked()
    n1.group(vm, members=["n1", "n2"], links=[1, 2], mount_points=["/vm"])
    assert n1.calls("unlink", "rmdir") == []


def test_a_joiner_is_killed_with_its_region_half_made(up: Up) -> None:
    """The region stands and bears no link, and nothing is mounted: the successor takes it away."""
    lab = up(2)
    n1, n2, vm = lab["n1"], lab["n2"], lab.volume("vm")
    n1.mount(vm, "/vm")
    with n2.stop_at("mkdir", f"heartbeat/{vm.uuid}"):
        mount = n2.begin_mount(vm, "/vm")
        n2.frozen(OCFS2)
        n2.kill(OCFS2)
    assert mount.wait() == 32
    n2.mark()
    n2.start(OCFS2)
    n2.ready()
    lab.rest()
    n1.group(vm, members=["n1"], links=[1])
    assert f"rmdir demo/heartbeat/{vm.uuid}" in n2.calls("rmdir")
    n2.mount(vm, "/vm")
    n1.group(vm, members=["n1", "n2"], links=[1, 2])


def test_a_joiner_is_killed_with_its_links_made(up: Up) -> None:
    """It has linked, and its MOUNT was never answered: with nothing mounted, the group is dropped again."""
    lab = up(2)
    n1, n2, vm = lab["n1"], lab["n2"], lab.volume("vm")
    n1.mount(vm, "/vm")
    with n2.stop_at("symlink", f"heartbeat/{vm.uuid}/n1"):
        mount = n2.begin_mount(vm, "/vm")
        n2.frozen(OCFS2)
        n2.kill(OCFS2)
    assert mount.wait() == 32
    assert n2.links(vm)
    n2.start(OCFS2)
    n2.ready()
    n2.until_ocfs2("the group is dropped", lambda r: r.live_regions == 0)
    lab.rest()
    n1.group(vm, members=["n1"], links=[1])


def test_a_mount_goes_on_while_its_daemon_is_dead(up: Up) -> None:
    """Its MOUNT is answered 0, and nobody is there to take its MRESULT: the successor believes the mount table."""
    lab = up(2)
    n1, n2, vm = lab["n1"], lab["n2"], lab.volume("vm")
    n2.mount(vm, "/vm")
    mount = n1.begin_mount(vm, "/vm", {PAUSE: "after-status"})
    mount.stopped()
    n1.kill(OCFS2)
    os.killpg(mount.process.pid, signal.SIGCONT)
    mount.worked()
    n1.start(OCFS2)
    n1.ready()
    lab.rest()
    n1.group(vm, members=["n1", "n2"], links=[1, 2], mount_points=["/vm"])
    n1.umount("/vm")
    n2.group(vm, members=["n2"], links=[2])


def test_a_mount_comes_too_late_for_the_daemon_that_answered_it(up: Up) -> None:
    """The successor finds a region whose device nobody uses, and leaves. Then mount(2) comes, and no region stands."""
    lab = up(1)
    n1, vm = lab["n1"], lab.volume("vm")
    mount = n1.begin_mount(vm, "/vm", {PAUSE: "after-status"})
    mount.stopped()
    n1.kill(OCFS2)
    n1.mark()
    n1.start(OCFS2)
    n1.event(OCFS2, "left", fs=vm.uuid)
    n1.until_ocfs2("no region stands", lambda r: r.live_regions == 0)
    os.killpg(mount.process.pid, signal.SIGCONT)
    assert mount.wait() == 32
    assert "EINVAL" in mount.said()
    assert n1.mounts.entries() == []
    n1.mount(vm, "/vm")
    n1.group(vm, members=["n1"], links=[1], mount_points=["/vm"])


@pytest.mark.parametrize("first", DAEMONS)
def test_both_are_killed_under_a_mount(up: Up, first: Daemon) -> None:
    lab = up(1)
    n1, vm = lab["n1"], lab.volume("vm")
    n1.mount(vm, "/vm")
    n1.group(vm, mount_points=["/vm"])
    before = n1.calls()
    second: Daemon = OCFS2 if first == O2CB else O2CB
    for daemon in (first, second):
        n1.kill(daemon)
    n1.mark()
    n1.start(first)
    n1.event(first, "engine_up")
    n1.start(second)
    n1.ready()
    found = n1.group(vm, mount_points=["/vm"], links=[1])
    assert (found.label, found.device) == (vm.label, str(vm.path)), "what the clients of the first run had said"
    assert n1.calls() == before
    n1.umount("/vm")
    n1.until_ocfs2("the group is left", lambda r: not r.groups and r.live_regions == 0)


def test_a_restart_with_a_change_queued(up: Up) -> None:
    """A live member is given another address: its change waits for its unmount, also over a restart of both."""
    lab = up(2, Settings(fencing="manual"))
    n1, n2, vm = lab["n1"], lab["n2"], lab.volume("vm")
    n1.mount(vm, "/vm")
    n2.mount(vm, "/vm")
    n1.group(vm, members=["n1", "n2"], links=[1, 2])
    lab.hub("readdress", node="n2", address="10.0.0.99")
    queued = n1.queued("n2")
    assert queued.links == (vm.uuid,)
    for daemon in DAEMONS:
        n1.kill(daemon)
    for daemon in DAEMONS:
        n1.start(daemon)
    n1.ready()
    assert n1.queued("n2").links == (vm.uuid,)
    n1.group(vm, members=["n1", "n2"], links=[1, 2])
    assert n1.addresses()["n2"] == "10.0.0.12"
    for node in (n2, n1):
        node.umount("/vm")
    until("n2 has its new address", lambda: n1.addresses().get("n2") == "10.0.0.99")


@pytest.mark.parametrize("daemon", DAEMONS)
def test_a_second_start_names_the_first(up: Up, daemon: Daemon) -> None:
    lab = up(1)
    n1 = lab["n1"]
    first = n1.process(daemon)
    again = n1.start_again(daemon)
    assert again.wait() == 1
    assert str(first.pid) in again.said()
    assert daemon in again.said()
    assert first.alive()
    assert len({line["incarnation"] for line in n1.lines(daemon)}) == 1


@pytest.mark.parametrize("daemon", DAEMONS)
def test_a_taken_socket_is_named(up: Up, daemon: Daemon) -> None:
    lab = up(1, daemons=False)
    n1 = lab["n1"]
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as thief:
        thief.bind(str(n1.home.ordering if daemon == O2CB else n1.home.clients))
        thief.listen()
        assert exit_code(n1.start(daemon)) == 1
    (taken,) = n1.lines(daemon, "name_taken")
    assert taken["pid"] == os.getpid()
    assert n1.lines(daemon)[-1]["event"] == "exiting"
    assert not n1.lines(daemon, "ready")
