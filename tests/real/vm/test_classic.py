"""Classic volumes on the stock kernel: disk heartbeat, and the nodes that o2cb_controld makes from corosync's nodelist.

No guest has a cluster.conf. With this driver a node is in the kernel because it is configured, whether it is up or not.
"""

import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.real.vm.classic import Classic
from tests.real.vm.corosync import CLASSIC, O2CB, Cluster
from tests.real.vm.guest import GuestDied
from tests.real.vm.lab import VmLab

FENCING = r"fencing this node because it is connected to a half-quorum"


@contextmanager
def classic(vms: VmLab, title: str) -> Iterator[Classic]:
    """Guests 1 and 2, which have both mounted the volume."""
    for program in ("corosync", "mkfs.ocfs2", "strace"):
        if shutil.which(program) is None:
            pytest.skip(f"there is no {program}")
    with Cluster.up(vms, (1, 2), CLASSIC, f"classic: {title}") as cluster:
        it = Classic(cluster)
        it.make()
        cluster.until("both trees are the nodelist", lambda: it.trees(1, 2) == [_nodes(1, 2)] * 2)
        for number in (1, 2):
            assert cluster.run(number, "ls /etc/ocfs2/cluster.conf").code != 0
            it.shorten(number)
        for number in (1, 2):
            it.mount(number)
        yield it


def _nodes(*numbers: int) -> dict[str, str]:
    return {f"n{number}": VmLab.address(number) for number in numbers}


def test_two_guests_mount_and_a_third_node_comes_and_goes(vms: VmLab) -> None:
    with classic(vms, "two guests, and a third node in the configuration") as it:
        cluster = it.cluster
        it.write(1, "of1", "one")
        it.write(2, "of2", "two")
        assert (it.read(2, "of1"), it.read(1, "of2")) == ("one", "two")
        cluster.until("each sees the other beat", lambda: it.beats(1) == it.beats(2) == [1, 2])

        cluster.add(3)
        cluster.until("n3 stands on both", lambda: it.trees(1, 2) == [_nodes(1, 2, 3)] * 2)
        cluster.drop(3)
        cluster.until("n3 is gone from both", lambda: it.trees(1, 2) == [_nodes(1, 2)] * 2)
        assert cluster.done(1, "node/n3") == cluster.done(2, "node/n3") == ["mkdir node/n3", "rmdir node/n3"]

        for number in (2, 1):
            it.umount(number)
        it.check()


@pytest.mark.long
def test_a_third_guest_is_added_live_mounts_and_is_taken_out_while_it_beats(vms: VmLab) -> None:
    with classic(vms, "a third guest comes, mounts, and is taken out") as it:
        cluster = it.cluster
        cluster.add(3)
        cluster.until("n3 stands on both", lambda: it.trees(1, 2) == [_nodes(1, 2, 3)] * 2)
        cluster.power_on(3)
        cluster.until("all stand on n3", lambda: cluster.tree(3) == _nodes(1, 2, 3))
        it.shorten(3)
        it.mount(3)
        it.write(3, "of3", "three")
        assert [it.read(number, "of3") for number in (1, 2)] == ["three"] * 2

        # It is taken out of the configuration, and has it mounted: it stays.
        cluster.drop(3)
        for number in (1, 2):
            queued = cluster.event(number, O2CB, "change_queued", number=3)
            assert re.search("still sees it beat on the disk of", queued["cause"])
        assert it.trees(1, 2) == [_nodes(1, 2, 3)] * 2
        assert cluster.run(1, "rmdir /sys/kernel/config/cluster/demo/node/n3").code != 0
        it.write(3, "of3b", "more")
        assert it.read(1, "of3b") == "more"

        it.umount(3)
        cluster.until("n3 is gone from both", lambda: it.trees(1, 2) == [_nodes(1, 2)] * 2)
        assert cluster.done(1, "node/n3") == ["mkdir node/n3", "rmdir node/n3"]
        for number in (2, 1):
            it.umount(number)
        it.check()


@pytest.mark.long
def test_a_guest_dies_and_the_others_recover_it_by_themselves(vms: VmLab) -> None:
    with classic(vms, "a guest dies") as it:
        cluster = it.cluster
        it.write(2, "of2", "fsynced")
        begin = time.monotonic()
        cluster.power_off(2)
        assert it.read(1, "of2") == "fsynced"
        print(f"what n2 had locked was read {time.monotonic() - begin:.1f} s after its death")
        cluster.until("corosync has lost it", lambda: cluster.ring(1) == [1])
        print(f"corosync had lost it {time.monotonic() - begin:.1f} s after")
        cluster.until("no beat is seen", lambda: it.beats(1) == [1])
        cluster.until("it is recovered", lambda: cluster.guests[1].messages("Recovery|recover|Begin replay"))
        print(*cluster.guests[1].messages("o2|ocfs2"), sep="\n")
        assert cluster.tree(1) == _nodes(1, 2), "a node that is configured stays"
        assert cluster.done(1, "node/n2") == ["mkdir node/n2"]

        cluster.forget(2)
        cluster.power_on(2)
        cluster.until("both trees are the nodelist", lambda: it.trees(1, 2) == [_nodes(1, 2)] * 2)
        it.shorten(2)
        it.mount(2)
        assert it.read(2, "of2") == "fsynced"
        for number in (2, 1):
            it.umount(number)
        it.check()


@pytest.mark.long
def test_the_network_is_cut_and_the_disk_heartbeat_goes_on(vms: VmLab) -> None:
    with classic(vms, "the network is cut, the disk is not") as it:
        cluster = it.cluster
        it.write(2, "of2", "fsynced")
        begin = time.monotonic()
        it.cut(1, 2)
        cluster.until("corosync is parted", lambda: cluster.ring(1) == [1] and cluster.ring(2) == [2])
        print(f"corosync was parted {time.monotonic() - begin:.1f} s after the cut; n1 sees beat: {it.beats(1)}")
        assert it.trees(1, 2) == [_nodes(1, 2)] * 2, "we remove nothing"
        # The higher of two nodes is not with the lowest one, and its kernel resets it.
        with pytest.raises(GuestDied) as died:
            cluster.run(2, "while sleep 1; do :; done", seconds=600)
        print(f"n2 reset itself {time.monotonic() - begin:.1f} s after the cut", died.value, sep="\n")
        assert re.search(FENCING, str(died.value))
        assert it.read(1, "of2") == "fsynced"
        print(f"what n2 had locked was read {time.monotonic() - begin:.1f} s after the cut")
        print(*cluster.guests[1].messages("o2|ocfs2"), sep="\n")
        assert cluster.tree(1) == _nodes(1, 2)
        assert cluster.done(1, "node/n2") == ["mkdir node/n2"]
        it.umount(1)
        it.check()
