"""What the kernel does by itself when heartbeat links come and go: docs/kernel.md tells it, and this measures it.

The test module can do two things with a link: pin the node and nothing more, or also tell the listeners of heartbeat
(o2net, o2quo) that a node is up or down, as a disk heartbeat does (its parameter links_tell).
"""

import re
import time
from typing import Final

import pytest

from tests.real.vm.guest import Guest, GuestDied
from tests.real.vm.lab import Regions, VmLab

TREE: Final = "/sys/kernel/config/cluster/c"
REGION: Final = f"{TREE}/heartbeat/94A94C12FF614DD894BF9D0CF62F3987"
IDLE_MS: Final = 3000
"""idle_timeout_ms of the cluster: after so long without a connection o2net tells o2quo."""
FENCING: Final = "o2quo.*(fencing|sorry)|very sorry to be fencing|fencing this"


def cluster(local: int, *numbers: int) -> str:
    """A script that makes a cluster of these nodes, with short timeouts and a region; addresses are the guests'."""
    lines = [
        "set -e",
        f"mkdir {TREE}",
        f"echo 1000 >{TREE}/keepalive_delay_ms",
        f"echo {IDLE_MS} >{TREE}/idle_timeout_ms",
        f"mkdir {REGION}",
    ]
    for number in numbers:
        node = f"{TREE}/node/n{number}"
        lines += [
            f"mkdir {node}",
            f"echo 7777 >{node}/ipv4_port",
            f"echo {VmLab.address(number)} >{node}/ipv4_address",
            f"echo {number} >{node}/num",
        ]
    return "\n".join([*lines, f"echo 1 >{TREE}/node/n{local}/local"])


def link(*numbers: int) -> str:
    """A script that links nodes."""
    return " && ".join(f"ln -s {TREE}/node/n{number} {REGION}/n{number}" for number in numbers)


def connections(guest: Guest) -> list[str]:
    """TCP sockets of the kernel's port, listening ones included."""
    return [line for line in guest.run("ss -Htan").worked().splitlines() if ":7777" in line]


def test_a_link_pins_and_does_nothing_else(vms: VmLab) -> None:
    guest = vms.guest()
    with guest.scene("links without listeners"):
        vms.load(guest, Regions.LINKING)
        guest.run(cluster(1, 1, 2)).worked()
        # o2net listens as soon as a node is local; links change nothing of that.
        assert [line.split()[0] for line in connections(guest)] == ["LISTEN"]
        guest.run(link(1, 2)).worked()
        assert guest.run(f"rmdir {TREE}/node/n2").out.strip().endswith("Device or resource busy")
        # Twice the time after which o2net would have given a connection up.
        guest.run(f"sleep {2 * IDLE_MS / 1000}").worked()
        assert [line.split()[0] for line in connections(guest)] == ["LISTEN"]
        guest.run(f"rm {REGION}/n2 && rmdir {TREE}/node/n2").worked()
        guest.run(f"rm {REGION}/n1").worked()
        assert not guest.messages(FENCING)
        # The local node may be removed while nothing links it; with it goes the listener.
        guest.run(f"rmdir {TREE}/node/n1").worked()
        assert not connections(guest)


def test_node_0_is_linked_like_any_other(vms: VmLab) -> None:
    guest = vms.guest()
    with guest.scene("links, node 0"):
        vms.load(guest, Regions.LINKING)
        guest.run(cluster(1, 1)).worked()
        zero = f"{TREE}/node/n0"
        script = f"mkdir {zero} && echo 7777 >{zero}/ipv4_port && echo 10.9.0.200 >{zero}/ipv4_address"
        guest.run(f"{script} && echo 0 >{zero}/num && ln -s {zero} {REGION}/n0").worked()
        assert guest.run(f"cat {zero}/num").worked() == "0\n", "as it reads before it is set"
        assert guest.run(f"rmdir {zero}").code != 0
        guest.run(f"rm {REGION}/n0 && rmdir {zero}").worked()


def linked(vms: VmLab) -> tuple[Guest, Guest]:
    """Guests 1 and 2, each with both nodes, whose links tell the listeners; their o2net is connected."""
    first, second = vms.guests(1, 2)
    for number, guest in ((1, first), (2, second)):
        vms.load(guest, Regions.LINKING)
        guest.run("echo Y >/sys/module/ocfs2_nodemanager/parameters/links_tell").worked()
        guest.run(cluster(number, 1, 2)).worked()
    for number, guest in ((1, first), (2, second)):
        guest.run(link(number, 3 - number)).worked()
    connected(first)
    return first, second


def connected(guest: Guest) -> None:
    """Wait until o2net has a connection."""
    guest.run("for i in $(seq 300); do ss -Htn | grep ESTAB | grep :7777 && exit 0; sleep 0.2; done; exit 1").worked()


@pytest.mark.long
def test_told_listeners_connect_and_let_go_with_the_link(vms: VmLab) -> None:
    first, second = vms.guests(1, 2)
    with first.scene("links with listeners, n1"), second.scene("links with listeners, n2"):
        linked(vms)
        first.run(f"rm {REGION}/n2").worked()
        first.run("for i in $(seq 100); do ss -Htn | grep :7777 || exit 0; sleep 0.2; done; exit 1").worked()
        first.run(f"rmdir {TREE}/node/n2").worked()
        # n2 still says that n1 is up, and tries to connect; n1 does not know it any more.
        second.run(f"rm {REGION}/n1 {REGION}/n2").worked()
        print(*first.messages("o2"), "---", *second.messages("o2"), sep="\n")


@pytest.mark.long
def test_a_guest_whose_peer_died_under_its_link_resets_itself(vms: VmLab) -> None:
    """n1 dies, and its link stands on n2: after its timeouts o2quo takes n2, the higher of two, for the lonely half."""
    first, second = linked(vms)
    begin = time.monotonic()
    first.power_off()
    with pytest.raises(GuestDied) as died:
        second.run("while sleep 1; do :; done", seconds=600)
    said = str(died.value)
    print(
        f"n2 reset itself {time.monotonic() - begin:.0f} s after n1's death (idle_timeout_ms {IDLE_MS})", said, sep="\n"
    )
    assert re.search(FENCING, said)
    vms.end(2)
