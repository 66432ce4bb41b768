"""Who has to go and does not is put out by corosync, at the word of one node; but not at the price of the quorum."""

import pytest

from tests.process.lab import OCFS2
from tests.real.corosync.lab import RealLab, Settings

pytestmark = pytest.mark.process

PUT_OUT = 255
"""The exit code of a corosync that another one has put out."""


def test_a_node_whose_daemon_hangs_is_put_out_once_its_vote_is_not_needed() -> None:
    """n4 is off. n3 has nothing mounted, its daemon hangs, and it owes a statement when n2's comes anew."""
    with RealLab.of(4, Settings(fencing="manual", grace=10.0)) as lab:
        n1, n2, n3 = lab["n1"], lab["n2"], lab["n3"]
        vm = lab.volume("vm")
        n1.mount(vm, "/vm")
        lab.power_off("n4")
        for name in ("n1", "n2", "n3"):
            lab[name].until_ocfs2("n4 is gone", lambda r: r.engine.members == (1, 2, 3) and r.ready)
        lab.rest()

        n3.freeze(OCFS2)
        n2.kill(OCFS2)
        n2.start(OCFS2)
        # It is expelled, and the others go on. Without its vote they would have no quorum: it stays.
        assert n1.event(OCFS2, "expelled")["peer"] == "n3"
        n2.mount(vm, "/vm")
        n1.until_ocfs2("it is said why n3 stays", lambda r: any("putting out of n3" in w.what for w in r.waits))
        corosync = lab.cluster.seats[3].corosync
        assert corosync is not None
        assert corosync.poll() is None
        assert not n1.lines(OCFS2, "node_put_out")

        lab.power_on("n4")
        assert n1.event(OCFS2, "node_put_out")["peer"] == "n3"
        assert corosync.wait(60) == PUT_OUT
        for node in (n1, n2):
            node.until_ocfs2("n3 is gone", lambda r: r.engine.members == (1, 2, 4))
            node.group(vm, members=["n1", "n2"], links=[1, 2], lost=[])
        # That was no fence, and nobody needed one.
        assert not n1.lines(OCFS2, "life_fenced")
        assert not n2.lines(OCFS2, "node_put_out")
        n3.thaw(OCFS2)
        assert not lab.breaches(), lab.judged()
