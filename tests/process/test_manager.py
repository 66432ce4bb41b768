"""External managers: nodes are put up and down in a region by command, through the locks and laws of everybody."""

from typing import Final

import pytest

from libo2cb.manager import MANAGER
from libo2cb.sandbox.homes import Settings
from tests.process.conftest import Up
from tests.process.lab import OCFS2, Lab, Node, Tool, Volume

pytestmark = pytest.mark.process

UP: Final = "--node-up"
DOWN: Final = "--node-down"


def manage(node: Node, what: str, name: str, volume: Volume, code: int = 0) -> str:
    """Say on a node that another, or itself, is up or down; what the command says."""
    where = ("-d", str(volume.path)) if what == UP else ("-u", volume.uuid)
    tool: Tool = node.tool("hb_ctl", what, name, *where)
    assert tool.wait() == code, tool.said()
    return tool.said()


def holders(node: Node, volume: Volume) -> list[str]:
    """Who holds the region here besides mounts."""
    return [h.service for h in node.group(volume).holders]


def test_nodes_come_up_and_go_down_by_command(up: Up) -> None:
    lab: Lab = up(2)
    n1, n2, vm = lab["n1"], lab["n2"], lab.volume("vm")
    assert "n2 is not up in" in manage(n1, DOWN, "n2", vm)
    assert "n1 is up in vm" in manage(n1, UP, "n1", vm)
    assert n1.links(vm) == ["n1"]
    assert "say it on n2" in manage(n1, UP, "n2", vm, code=1), "a node joins by its own word"
    assert n1.links(vm) == ["n1"]

    assert "n2 is up in vm" in manage(n2, UP, "2", vm)
    assert n1.links(vm) == n2.links(vm) == ["n1", "n2"]
    n1.group(vm, members=["n1", "n2"])  # n2 was told as soon as n2 itself had heard that all is done
    assert "n2 is up in vm" in manage(n1, UP, "n2", vm)
    assert "already, by a manager" in manage(n2, UP, "n2", vm, code=1)
    assert holders(n2, vm) == [MANAGER]

    assert "it is a living member" in manage(n1, DOWN, "n2", vm, code=1)
    assert n1.links(vm) == ["n1", "n2"]
    assert "n2 leaves vm" in manage(n2, DOWN, "n2", vm)
    n1.group(vm, members=["n1"], links=[1])
    n2.until_ocfs2("it has left", lambda r: not any(g.here for g in r.groups))
    assert "n2 is not up in" in manage(n1, DOWN, "n2", vm)
    assert "is not held by a manager on n2" in manage(n2, DOWN, "n2", vm, code=1)
    assert "is no node of this cluster" in manage(n1, UP, "n9", vm, code=1)
    assert "n1 leaves vm" in manage(n1, DOWN, "n1", vm)
    n1.until_ocfs2("it is left", lambda r: not r.groups and r.live_regions == 0)


def test_a_node_that_is_in_use_stays_up(up: Up) -> None:
    lab: Lab = up(1)
    n1, vm = lab["n1"], lab.volume("vm")
    manage(n1, UP, "n1", vm)
    n1.mount(vm, "/vm")
    said = manage(n1, DOWN, "n1", vm, code=1)
    assert "would stay up in vm: it is in use there by /vm" in said
    n1.umount("/vm")
    n1.group(vm, mount_points=[], links=[1])
    manage(n1, DOWN, "n1", vm)
    n1.until_ocfs2("it is left", lambda r: not r.groups and r.live_regions == 0)


def test_a_dead_node_is_down_when_it_is_fenced_and_not_before(up: Up) -> None:
    lab: Lab = up(2, Settings(fencing="manual"))
    n1, n2, vm = lab["n1"], lab["n2"], lab.volume("vm")
    manage(n1, UP, "n1", vm)
    manage(n2, UP, "n2", vm)
    lab.power_off("n2")
    n1.until_ocfs2("n2 is lost", lambda r: any(g.lost for g in r.groups))
    said = manage(n1, DOWN, "n2", vm, code=1)
    assert "it is lost and not yet fenced" in said
    assert "--fenced n2" in said
    assert "n2 is not up in vm: it is lost and not yet fenced" in manage(n1, UP, "n2", vm, code=1), "its link stands"
    assert n1.links(vm) == ["n1", "n2"], "a manager's word is no fence (law 11)"
    n1.fenced("n2")
    n1.group(vm, members=["n1"], links=[1])
    assert "n2 is not up in" in manage(n1, DOWN, "n2", vm)


def test_a_manager_is_known_again_after_a_restart_of_the_daemon(up: Up) -> None:
    lab: Lab = up(1)
    n1, vm = lab["n1"], lab.volume("vm")
    manage(n1, UP, "n1", vm)
    n1.kill(OCFS2)
    n1.start(OCFS2)
    n1.ready()
    assert n1.links(vm) == ["n1"]
    assert "n1 is up in vm" in manage(n1, UP, "n1", vm)
    assert "say it again" in manage(n1, DOWN, "n1", vm)
    assert n1.links(vm) == ["n1"]
    assert "n1 leaves vm" in manage(n1, DOWN, "n1", vm)
    n1.until_ocfs2("it is left", lambda r: not r.groups and r.live_regions == 0)
