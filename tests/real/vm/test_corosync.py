"""Real corosync in guests, and both daemons on a kernel whose regions take links: formation, death, return."""

import shutil
import subprocess
from pathlib import Path
from uuid import uuid4

import pytest

from tests.real.vm import station
from tests.real.vm.corosync import DEADLINE, LINKS, O2CB, OCFS2, Cluster
from tests.real.vm.lab import VmLab
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


@pytest.mark.parametrize("count", [2, pytest.param(3, marks=pytest.mark.long)])
def test_a_guest_dies_and_is_back_with_another_address(vms: VmLab, tmp_path: Path, count: int) -> None:
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

    with Cluster.up(vms, numbers, LINKS, f"corosync, {count} nodes: death, another address") as cluster:
        tree = {f"n{number}": VmLab.address(number) for number in numbers}
        cluster.until("the tree is the membership", lambda: all(cluster.tree(number) == tree for number in numbers))
        cluster.each(mounts, numbers)
        cluster.until("all are linked on all", lambda: linked(*numbers))

        cluster.power_off(last)
        for number in stay:
            cluster.event(number, OCFS2, "group_started", fs=uuid, members=[f"n{it}" for it in stay])
            cluster.event(number, O2CB, "node_removed", number=last)
        assert cluster.fenced[0][0] == last
        assert "was dead already, and is gone" in cluster.fenced[0][1]
        del tree[f"n{last}"]
        for number in stay:
            assert cluster.ring(number) == stay
            assert cluster.tree(number) == tree
            assert cluster.done(number, link, node) == _life(link, node)

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


def _life(link: str, node: str) -> list[str]:
    return [f"mkdir {node}", f"symlink {link}", f"unlink {link}", f"rmdir {node}"]
