"""What an operator is told of real daemons: REPORT as the schema says, and the exit codes of ocfs2_hb_ctl -I."""

import json
import signal

import pytest

from libo2cb.sandbox.homes import Settings
from libo2cb.service.report import O2cbReport, Ocfs2Report, dump, parse
from tests.process.conftest import Up
from tests.process.lab import DAEMONS, O2CB, OCFS2, Node, until

pytestmark = pytest.mark.process


def status(node: Node) -> tuple[int, str]:
    """Exit code and text of ocfs2_hb_ctl -I."""
    tool = node.tool("hb_ctl", "-I")
    return tool.wait(), tool.said()


def test_healthy_then_stopped_then_silent(up: Up) -> None:
    lab = up(2, Settings(fencing="manual"))
    n1, n2, vm = lab["n1"], lab["n2"], lab.volume("vm")
    for node in (n1, n2):
        node.mount(vm, "/vm")
    n1.group(vm, members=["n1", "n2"], links=[1, 2])
    lab.rest()

    for kind, report in ((O2cbReport, n1.o2cb()), (Ocfs2Report, n1.ocfs2())):
        assert report is not None
        assert (report.cluster, report.local, report.local_name, report.ready) == ("demo", 1, "n1", True)
        assert report.engine.up
        assert report.engine.votes == "2/2"
        assert parse(dump(report), kind) == report
    code, text = status(n1)
    assert code == 0, text
    assert text.startswith("OK")
    as_json = n1.tool("hb_ctl", "-I", "--json")
    assert as_json.wait() == 0
    document = json.loads(as_json.said())
    assert (document["exit"], document["findings"], document["silent"]) == (0, [], [])
    assert document["ocfs2"]["groups"][0]["fs"] == vm.uuid

    lab.power_off("n2")
    n1.group(vm, "stopped", lost=["n2"])
    code, text = status(n1)
    assert code == 2, text
    assert text.startswith("STOPPED")
    assert "--fenced n2" in text
    n1.fenced("n2")
    n1.event(O2CB, "node_removed", number=2)
    n1.group(vm, members=["n1"], links=[1])
    lab.rest()
    assert n1.status() == 0

    for daemon in DAEMONS:
        n1.kill(daemon)
        code, text = status(n1)
        assert code == 3, text
        assert daemon in text
        assert "/vm" in text
        n1.start(daemon)
        n1.ready()
    n1.until_ocfs2("it knows nothing of n2", lambda r: bool(r.unfenced))
    n1.fenced("n2")
    lab.rest()


def test_changing(up: Up) -> None:
    """A live member's new address waits for its unmount: nothing is wrong, and nothing is at rest."""
    lab = up(2)
    n1, n2, vm = lab["n1"], lab["n2"], lab.volume("vm")
    for node in (n1, n2):
        node.mount(vm, "/vm")
    n1.group(vm, members=["n1", "n2"], links=[1, 2])
    lab.hub("readdress", node="n2", address="10.0.0.99")
    n1.queued("n2")
    code, text = status(n1)
    assert code == 1, text
    assert text.startswith("CHANGING")
    assert "removal of n2 is queued: 1 of 1 links still holds it" in text
    n2.umount("/vm")
    until("n2 has its new address", lambda: n1.addresses().get("n2") == "10.0.0.99")
    lab.rest()
    assert n1.status() == 0


def test_a_daemon_that_hangs_is_silent(up: Up) -> None:
    lab = up(1)
    n1 = lab["n1"]
    n1.freeze(OCFS2)
    code, text = status(n1)
    assert code == 3, text
    assert "silent" in text
    n1.thaw(OCFS2)
    n1.ready()
    n1.signal(OCFS2, signal.SIGTERM)
    n1.signal(O2CB, signal.SIGTERM)
    assert [n1.exit_code(daemon) for daemon in DAEMONS] == [0, 0]
