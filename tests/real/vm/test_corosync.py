"""Real corosync in guests, and both daemons on a kernel whose regions take links: formation, death, return."""

import shutil
import subprocess
from datetime import datetime
from pathlib import Path
from uuid import uuid4

import pytest

from tests.real.vm import station
from tests.real.vm.corosync import DEADLINE, LINKS, O2CB, OCFS2, Cluster
from tests.real.vm.lab import VmLab
from tests.real.vm.machine import accelerator
from tests.real.vm.trace import audit

POINT = "/run/vm"
NEW_ADDRESS = "10.9.0.202"


def _volume(directory: Path) -> tuple[str, str]:
    """A local volume: its UUID and its file."""
    uuid, image = uuid4().hex.upper(), directory / "vm.real"
    with image.open("wb") as file:
        file.truncate(32 << 20)
    make = ("mkfs.ocfs2", "-F", "-q", "-M", "local", "-b", "4096", "-C", "4096", "-N", "1", "-U", uuid, str(image))
    subprocess.run(make, check=True, stdin=subprocess.DEVNULL, capture_output=True)
    return uuid, str(image)


@pytest.mark.parametrize(
    ("count", "dies"),
    [
        (2, "qemu"),
        pytest.param(3, "qemu", marks=pytest.mark.long),
        pytest.param(3, "corosync", marks=pytest.mark.long),
    ],
)
def test_a_guest_dies_and_is_back_with_another_address(vms: VmLab, tmp_path: Path, count: int, dies: str) -> None:
    """Its QEMU is killed; or its corosync alone, and then it is the fence device that kills QEMU."""
    for program in ("corosync", "mkfs.ocfs2", "strace"):
        if shutil.which(program) is None:
            pytest.skip(f"there is no {program}")
    uuid, image = _volume(tmp_path)
    numbers = range(1, count + 1)
    names, last = [f"n{number}" for number in numbers], count
    stay = [number for number in numbers if number != last]
    link, node = f"heartbeat/{uuid}/n{last}", f"node/n{last}"

    def mounts(number: int) -> None:
        cluster.guests[number].call(station.__name__, "join", uuid, image, POINT, DEADLINE, seconds=DEADLINE).worked()

    def linked(*by: int) -> bool:
        return all(cluster.links(number, uuid) == names for number in by)

    with Cluster.up(vms, numbers, LINKS, f"corosync, {count} nodes: death of {dies}, another address") as cluster:
        tree = {f"n{number}": VmLab.address(number) for number in numbers}
        cluster.until("the tree is the membership", lambda: all(cluster.tree(number) == tree for number in numbers))
        cluster.each(mounts, numbers)
        cluster.until("all are linked on all", lambda: linked(*numbers))

        if dies == "qemu":
            cluster.power_off(last)
        else:
            cluster.run(last, "pkill -KILL corosync").worked()
        for number in stay:
            cluster.event(number, O2CB, "node_removed", number=last)
        cluster.until(f"all go on without n{last}", lambda: all(_started(cluster, it, uuid, stay) for it in stay))
        assert cluster.fenced[0][0] == last
        assert f"was {'dead already' if dies == 'qemu' else 'killed'}, and is gone" in cluster.fenced[0][1]
        del tree[f"n{last}"]
        for number in stay:
            assert cluster.ring(number) == stay
            assert cluster.tree(number) == tree
            assert cluster.done(number, link, node) == _life(link, node)
            (unlink,) = [call for call in cluster.traced(number) if call.name == "unlink" and call.path.endswith(link)]
            heard = min(line["time"] for line in cluster.lines(number, OCFS2, "life_fenced"))
            assert datetime.fromisoformat(heard).timestamp() < unlink.entry, "no link goes before its node is off"

        cluster.forget(last)
        cluster.readdress(last, NEW_ADDRESS)
        cluster.power_on(last)
        tree[f"n{last}"] = NEW_ADDRESS
        cluster.until("the new node stands on all", lambda: all(cluster.tree(number) == tree for number in numbers))
        mounts(last)
        cluster.until("all are linked on all", lambda: linked(*numbers))
        for number in stay:
            assert cluster.done(number, link, node) == [*_life(link, node), f"mkdir {node}", f"symlink {link}"]
        for number in numbers:
            found = audit(cluster.traced(number))
            assert not found.breaches, found.breaches
            assert found.links >= count
            cluster.guests[number].call(station.__name__, "leave", uuid, POINT, seconds=DEADLINE).worked()


def test_a_guests_clock_is_none_whose_speed_was_measured_at_boot(vms: VmLab) -> None:
    """Else tokens and heartbeats of a guest that was booted on a busy host are a third of what they should be."""
    if accelerator() != "tcg":
        pytest.skip("with KVM the host tells the guest how fast its clock is")
    source = "/sys/devices/system/clocksource/clocksource0/current_clocksource"
    assert vms.guest().run(f"cat {source}").worked().strip() == "hpet"


def _started(cluster: Cluster, number: int, uuid: str, members: list[int]) -> bool:
    """Whether the last START that a node made of a group has these members."""
    (*_, start) = cluster.lines(number, OCFS2, "group_started", fs=uuid)
    return [int(life.partition("/")[0]) for life in start["members"]] == members


def _life(link: str, node: str) -> list[str]:
    return [f"mkdir {node}", f"symlink {link}", f"unlink {link}", f"rmdir {node}"]
