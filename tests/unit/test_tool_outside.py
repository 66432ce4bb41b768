"""The outside of the commands: what they are given, where they write, and what is said when that cannot be meant."""

import argparse
import os
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from libo2cb.errors import RegionInUse
from libo2cb.manager import node_down, node_up
from libo2cb.service.report import Holder
from libo2cb.tools import common, hb_ctl, helper, mount, screens, umount
from tests.unit import samples
from tests.unit.tool_daemons import DEADLINE, UUID, Node, image, node

__all__ = ["node"]

MAINS = {"hb_ctl": hb_ctl.main, "mount": mount.main, "umount": umount.main}


def shell(node: Node, redirections: str, tool: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run a command with other streams."""
    return subprocess.run(
        ["sh", "-c", f'exec "$@" {redirections}', "sh", sys.executable, "-m", f"libo2cb.tools.{tool}", *arguments],
        env={**os.environ, "OCFS2_CONTROLD_CONFIG": str(node.config)},
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        timeout=DEADLINE,
        check=False,
    )


@pytest.mark.parametrize(
    ("tool", "arguments", "says"),
    [
        ("hb_ctl", ("-I", "-d", ""), "the DEVICE is empty"),
        ("hb_ctl", ("-I", "-u", ""), "the UUID is empty"),
        ("hb_ctl", ("-S", "-d", "", "backup"), "the DEVICE is empty"),
        ("hb_ctl", ("-S", "-d", "/dev/x", ""), "the SERVICE is empty"),
        ("hb_ctl", ("-K", "-u", "", "backup"), "the UUID is empty"),
        ("hb_ctl", ("--fenced", ""), "the NODE is empty"),
        ("hb_ctl", ("--node-up", "", "-d", "/dev/x"), "the NODE is empty"),
        ("hb_ctl", ("--fenced", "n3", "--yes"), "unrecognized arguments: --yes"),
        ("hb_ctl", ("--fenced", "n3", "-d", "/dev/x"), "of no one filesystem"),
        ("hb_ctl", ("-I", "--yes-i-am-sure"), "--yes-i-am-sure belongs to --fenced"),
        ("hb_ctl", ("-I", "-n", "3"), "-n belongs to -P"),
        ("hb_ctl", ("-I", "--watch", "0"), '"0" is no pause: a number of seconds from 0.1 to 3600'),
        ("mount", ("", "/srv/vm"), "the DEVICE is empty"),
        ("mount", ("/dev/x", ""), "the DIRECTORY is empty"),
        ("mount", ("/dev/x", "/srv/vm", "-t", "xfs"), "argument -t: invalid choice: 'xfs'"),
        ("mount", ("/dev/x", "/srv/vm", "--conf", "/x"), "unrecognized arguments: --conf"),
        ("umount", ("",), "the DIRECTORY|DEVICE is empty"),
        ("umount", ("/srv/vm", "--config", ""), "the FILE of --config is empty"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anybody_is_asked(
    tool: str, arguments: tuple[str, ...], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """An empty name is a variable of a script that was never set; it is neither everything nor the directory here."""
    assert MAINS[tool](arguments) == 1
    said = capsys.readouterr().err
    assert says in said
    assert "usage: " in said


def test_nobody_is_sure_by_half_a_word(node: Node, capsys: pytest.CaptureFixture[str]) -> None:
    node.tells(samples.dead()).start()
    assert hb_ctl.main(["--fenced", "n3", "--yes-i-am", "--config", str(node.config)]) == 1
    assert "--yes-i-am" in capsys.readouterr().err
    assert node.words() == []


@pytest.mark.parametrize("tool", MAINS)
def test_usage_is_an_answer(tool: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert MAINS[tool](["--help"]) == 0
    told = capsys.readouterr()
    assert told.out.startswith("usage: ")
    assert told.err == ""


def test_who_has_no_streams_is_served_all_the_same(node: Node) -> None:
    """As from inside the kernel: what is opened must not become the stderr of whoever says a sentence."""
    node.tells(samples.dead()).start()
    closed = "<&- >&- 2>&-"
    assert shell(node, closed, "hb_ctl", "-I").returncode == 2
    assert shell(node, closed, "mount", image(node), "/srv/demo").returncode == 0
    assert [m.mount_point for m in node.mounts.mounts()] == ["/srv/demo"]
    assert shell(node, closed, "mount", image(node), "/srv/demo").returncode == 32
    assert shell(node, closed, "umount", "/srv/demo").returncode == 0
    assert shell(node, closed, "hb_ctl", "-K", "-u", UUID).returncode == 0


@pytest.mark.parametrize(
    ("tool", "arguments"),
    [("hb_ctl", "-I"), ("hb_ctl", "-I --json"), ("hb_ctl", "-I --count"), ("hb_ctl", "--replace"), ("mount", "-h")],
)
def test_an_answer_that_cannot_be_written_is_said(node: Node, tool: str, arguments: str) -> None:
    node.tells(samples.healthy()).start()
    ran = shell(node, ">/dev/full", tool, *arguments.split())
    assert ran.returncode == (32 if tool == "mount" else 1)
    assert "the answer cannot be written to stdout: ENOSPC (No space left on device)" in ran.stderr
    assert len(ran.stderr.splitlines()) == 1, ran.stderr


@pytest.mark.parametrize(
    ("tool", "arguments", "code"),
    [
        ("hb_ctl", ("-S", "-d", "demo.img", "backup"), 1),
        ("hb_ctl", ("-K", "-u", UUID), 1),
        ("hb_ctl", ("--node-up", "n1", "-u", UUID), 1),
        ("mount", ("demo.img", "/srv/demo"), 32),
        ("umount", ("/srv/demo",), 32),
    ],
)
def test_a_home_that_is_not_ours_is_a_sentence(node: Node, tool: str, arguments: tuple[str, ...], code: int) -> None:
    (node.home / "power.lock").mkdir()  # for root, too, nothing to be written
    ran = shell(node, "", tool, *arguments)
    assert ran.returncode == code
    assert f"the sandbox home {node.home} cannot be entered: EISDIR (Is a directory)" in ran.stderr
    assert len(ran.stderr.splitlines()) == 1


def test_what_nobody_has_thought_of_is_a_sentence_as_well(capsys: pytest.CaptureFixture[str]) -> None:
    def run(_options: argparse.Namespace) -> int:
        os.open("/proc/self/mem/nothing", os.O_RDONLY)
        return 0

    code = helper.main("it", "usage: it\n", lambda _: argparse.Namespace(), run, [], interrupted=("", 1))
    assert code == helper.EXIT_FAILED
    assert capsys.readouterr().err == "it: /proc/self/mem/nothing: ENOTDIR (Not a directory)\n"


def test_of_a_node_that_is_off_no_system_call_is_told(node: Node, capsys: pytest.CaptureFixture[str]) -> None:
    (node.home / "kernel" / "tree").rmdir()
    view = common.kernel_view(common.configuration(str(node.config)))
    assert view.trouble == ("there is no kernel tree: node n1 is off",)
    assert screens.status(common.facts(common.configuration(str(node.config))))[-2:] == [
        "  not readable: there is no kernel tree: node n1 is off",
        "mount table: no OCFS2 mount",
    ]
    config = str(node.config)
    assert hb_ctl.main(["-I", "-u", UUID, "--config", config]) == 3
    told = capsys.readouterr().out
    assert "not readable: there is no kernel tree" in told
    assert "no region" not in told, "nobody can say so"
    assert hb_ctl.main(["-I", "--count", "--config", config]) == 3
    assert capsys.readouterr().out == ""


def test_a_label_cannot_write_on_the_terminal(node: Node, capsys: pytest.CaptureFixture[str]) -> None:
    facts = samples.dead()
    assert facts.ocfs2 is not None
    groups = [g.model_copy(update={"label": "\x1b[2Jvm"}) for g in facts.ocfs2.groups]
    node.tells(replace(facts, ocfs2=facts.ocfs2.model_copy(update={"groups": tuple(groups)}))).start()
    config = str(node.config)
    assert hb_ctl.main(["--fenced", "n3", "--yes-i-am-sure", "--config", config]) == 0
    assert hb_ctl.main(["--node-up", "n2", "-u", samples.VM, "--config", config]) == 0
    told = capsys.readouterr().out
    assert told.count("\\x1b[2Jvm") == 2
    assert "\x1b" not in told


def test_a_lost_node_is_neither_up_nor_down_for_a_manager(node: Node) -> None:
    """Its link stands until the START after its fence, and says nothing of whether it lives."""
    config = common.configuration(str(node.config))
    facts = samples.dead()
    assert facts.ocfs2 is not None
    for fenced, why in ((False, "not yet fenced"), (True, "lost and fenced")):
        groups = tuple(
            g.model_copy(update={"lost": tuple(x.model_copy(update={"fenced": fenced}) for x in g.lost)})
            for g in facts.ocfs2.groups
        )
        node.stop()
        node.tells(replace(facts, ocfs2=facts.ocfs2.model_copy(update={"groups": groups}))).start()
        for call in (
            partial(node_up, config, samples.VM, "n3", str),
            partial(node_down, config, samples.VM, "n3"),
        ):
            with pytest.raises(RegionInUse, match=why):
                call()
    group = facts.ocfs2.groups[0]
    fenced_lost = tuple(x.model_copy(update={"fenced": True}) for x in group.lost)
    gone = group.model_copy(update={"lost": fenced_lost, "links": (1, 2)})
    node.stop()
    node.tells(replace(facts, ocfs2=facts.ocfs2.model_copy(update={"groups": (gone,)}))).start()
    assert node_down(config, samples.VM, "n3") == f"n3 is not up in {samples.VM}"


def test_who_holds_as_a_mount_without_one_is_shown() -> None:
    """Held by hand under the mounts' own name, the filesystem would else be in use by nobody."""
    facts = samples.healthy()
    assert facts.ocfs2 is not None
    by_hand = Holder(service="ocfs2", pid=4801, program="ocfs2_hb_ctl")
    groups = tuple(g.model_copy(update={"mount_points": (), "holders": (by_hand,)}) for g in facts.ocfs2.groups)
    lines = screens.status(replace(facts, ocfs2=facts.ocfs2.model_copy(update={"groups": groups})))
    assert sum(line.endswith("  ocfs2 (pid 4801 ocfs2_hb_ctl)") for line in lines) == len(groups)


def test_a_name_goes_before_a_number(node: Node) -> None:
    """Node 3 is called "2". Who puts "2" down means it, and not node 2."""
    facts = samples.dead()
    assert facts.ocfs2 is not None
    called = {1: "n1", 2: "n2", 3: "2"}
    peers = tuple(peer.model_copy(update={"name": called[peer.number]}) for peer in facts.ocfs2.nodes)
    node.tells(replace(facts, ocfs2=facts.ocfs2.model_copy(update={"nodes": peers}))).start()
    config = common.configuration(str(node.config))
    with pytest.raises(RegionInUse, match="node 2 cannot be put down in vm-images: it is lost"):
        node_down(config, samples.VM, "2")
    with pytest.raises(RegionInUse, match="node n2 cannot be put down in vm-images: it is a living member"):
        node_down(config, samples.VM, "n2")
