"""Law 15 with real processes: while a group is live neither daemon ends, by a signal or by the engine's question."""

import signal
from typing import Final

import pytest

from tests.process.conftest import Up
from tests.process.lab import DAEMONS, O2CB, OCFS2, Daemon, Lab, Node, Volume, until

pytestmark = pytest.mark.process

SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
NAMES: Final = {number.name: 1 for number in SIGNALS}


def mounted(lab: Lab) -> Volume:
    volume = lab.volume("vm")
    lab["n1"].mount(volume, "/vm")
    lab["n1"].group(volume, mount_points=["/vm"], links=[1])
    return volume


def refuses(node: Node, daemon: Daemon, number: signal.Signals) -> None:
    """A signal is sent, and refused with a reason; the process goes on."""
    before = node.process(daemon)
    node.signal(daemon, number)
    line = node.event(daemon, "signal_refused", signal=number.name)
    assert line["cause"]
    assert before.alive()


def test_signals_are_refused_while_a_group_is_live(up: Up) -> None:
    lab = up(1)
    n1, vm = lab["n1"], mounted(lab)
    for daemon in DAEMONS:
        for number in SIGNALS:
            refuses(n1, daemon, number)
    n1.until_o2cb("all were counted", lambda r: r.signals_refused == NAMES)
    n1.until_ocfs2("all were counted", lambda r: r.signals_refused == NAMES)

    # Nobody holds the service lock any more: o2cb_controld looks for itself, and finds the link and the mount.
    n1.kill(OCFS2)
    n1.mark()
    for number in SIGNALS:
        refuses(n1, O2CB, number)
    assert n1.links(vm) == ["n1"]
    n1.start(OCFS2)
    n1.ready()
    n1.group(vm, mount_points=["/vm"])

    # None of them was remembered: the daemons go on when the mount is gone, and end when they are asked anew.
    n1.umount("/vm")
    n1.until_ocfs2("the group is left", lambda r: not r.groups and r.live_regions == 0)
    lab.rest()
    for daemon in reversed(DAEMONS):
        n1.signal(daemon, signal.SIGTERM)
        assert n1.exit_code(daemon) == 0
    assert n1.is_empty()


@pytest.mark.parametrize("first", DAEMONS)
def test_both_end_with_nothing_mounted(up: Up, first: Daemon) -> None:
    lab = up(1)
    n1 = lab["n1"]
    n1.signal(first, signal.SIGTERM)
    n1.signal(OCFS2 if first == O2CB else O2CB, signal.SIGTERM)
    for daemon in DAEMONS:
        assert n1.exit_code(daemon) == 0
        assert n1.lines(daemon)[-1]["event"] == "exiting"
    assert n1.is_empty()


def test_the_engine_is_told_why_it_may_not_stop(up: Up) -> None:
    lab = up(1)
    n1 = lab["n1"]
    mounted(lab)
    asked = lab.command("ask-shutdown", "n1")
    assert asked.wait() != 0
    for daemon in DAEMONS:
        answered = n1.event(daemon, "shutdown_answered", allow=False)
        assert answered["cause"]
        assert daemon in asked.said()
    assert "vm" in asked.said()

    n1.umount("/vm")
    n1.until_ocfs2("the group is left", lambda r: not r.groups and r.live_regions == 0)

    def allowed() -> bool:
        """The lock that says that a group is here goes a moment after the group."""
        asked = lab.command("ask-shutdown", "n1")
        return asked.wait() == 0 and "allowed" in asked.said()

    until("the engine may stop", allowed)
    for daemon in DAEMONS:
        n1.event(daemon, "shutdown_answered", allow=True)
    n1.until_o2cb("the engine is missed", lambda r: not r.engine.up)
    lab.command("engine", "n1", "start").worked()
    n1.ready()


def test_replaced_under_a_live_mount(up: Up) -> None:
    lab = up(1)
    n1, vm = lab["n1"], mounted(lab)
    before = n1.calls()
    n1.tool("hb_ctl", "--replace").worked()
    for daemon in DAEMONS:
        assert n1.exit_code(daemon) == 0
        assert n1.lines(daemon, "replaced")
    assert n1.links(vm) == ["n1"]
    n1.mark()
    for daemon in DAEMONS:
        n1.start(daemon)
    n1.ready()
    n1.event(O2CB, "cluster_adopted")
    n1.event(OCFS2, "adopted", fs=vm.uuid)
    n1.group(vm, mount_points=["/vm"], links=[1])
    assert n1.calls() == before
