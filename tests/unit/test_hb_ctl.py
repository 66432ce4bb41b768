"""ocfs2_hb_ctl against real records on real sockets, in a sandbox home, and how a daemon is asked."""

import errno
import io
import json
import os
import pty
import subprocess
import sys

import pytest

from libo2cb.report_client import Unanswered, ask_report, server_uids
from libo2cb.sandbox.refs import SandboxRefs
from libo2cb.service.report import Lost, O2cbReport, Ocfs2Report
from libo2cb.tools import common, hb_ctl, screens
from libo2cb.tools.facts import Facts
from protocol import client
from tests.unit import samples
from tests.unit.tool_daemons import DEADLINE, UUID, Node, image, node

__all__ = ["node"]


def run(node: Node, *arguments: str) -> int:
    return hb_ctl.main([*arguments, "--config", str(node.config)])


def test_status_is_the_merged_screen_with_its_exit_code(node: Node, capsys: pytest.CaptureFixture[str]) -> None:
    node.tells(samples.healthy()).start()
    assert run(node, "-I") == 0
    assert capsys.readouterr().out.splitlines() == screens.status(samples.healthy())
    node.tells(samples.dead())
    assert run(node, "-I") == 2
    assert capsys.readouterr().out.startswith("STOPPED 42 s  vm-images on n1 n2")


def test_json_says_the_same(node: Node, capsys: pytest.CaptureFixture[str]) -> None:
    node.tells(samples.dead()).start()
    assert run(node, "-I", "--json") == 2
    document = json.loads(capsys.readouterr().out)
    assert set(document) == {"schema", "verdict", "exit", "findings", "silent", "o2cb", "ocfs2", "kernel"}
    assert (document["verdict"], document["exit"], document["kernel"]) == ("STOPPED", 2, None)
    assert document["findings"][0]["group"] == samples.VM
    assert document["ocfs2"]["groups"][0]["lost"][0]["attempts"] == 3


def test_count_is_a_number_and_nothing_else(node: Node, capsys: pytest.CaptureFixture[str]) -> None:
    node.tells(samples.healthy()).start()
    assert run(node, "-I", "--count") == 0
    assert capsys.readouterr().out == "2\n"


def stand(node: Node) -> None:
    node.kernel.create_cluster("demo")
    node.kernel.make_node("demo", "n1")
    for attribute, value in (("ipv4_port", "7777"), ("ipv4_address", "10.0.0.1"), ("num", "1"), ("local", "1")):
        node.kernel.set_node("demo", "n1", attribute, value)
    node.kernel.create_region("demo", UUID)
    node.kernel.link("demo", UUID, "n1")
    node.mounts.enter(image(node), "/srv/demo", UUID)


def test_silent_daemons_leave_what_the_kernel_and_the_mount_table_say(
    node: Node, capsys: pytest.CaptureFixture[str]
) -> None:
    stand(node)
    assert run(node, "-I") == 3
    text = capsys.readouterr().out
    assert text.startswith("SILENT  o2cb_controld does not answer\n")
    assert "  do   start it: o2cb_sandbox start n1; meanwhile all stays as it stands" in text
    assert "kernel tree: cluster demo" in text
    assert "n1*   1   10.0.0.1:7777" in text
    assert f"{UUID}  n1" in text
    assert f"{image(node)}  /srv/demo" in text
    assert run(node, "-I", "--count") == 3
    assert capsys.readouterr().out == "1\n"
    assert run(node, "-I", "-u", UUID) == 3
    assert capsys.readouterr().out.startswith(f"{UUID}: 0 refs\n")


def test_one_filesystem_by_device_and_by_uuid(node: Node, capsys: pytest.CaptureFixture[str]) -> None:
    group = samples.vm(fs=UUID, label="demo")
    node.tells(Facts(samples.o2cb(), samples.ocfs2(groups=(group,)))).start()
    refs = SandboxRefs(node.home)
    refs.keep(UUID, 2)
    for arguments in (("-d", image(node)), ("-u", UUID), ("-u", "88f01f12-debf-421b-ad72-06a702a50bb2")):
        assert run(node, "-I", *arguments) == 0
        assert capsys.readouterr().out.startswith(f"{UUID}: 2 refs\n")
    (node.home / "kernel" / "refs.json").write_text("nonsense")
    assert run(node, "-I", "-u", UUID) == 0
    assert capsys.readouterr().out.startswith(f"{UUID}: ? refs\n")


@pytest.mark.parametrize(
    "arguments",
    [
        "",
        "-S",
        "-S -d /dev/x",
        "-S -u U -d /dev/x svc",
        "-K -d /dev/x",
        "-K",
        "-I -d /dev/x -u U",
        "-I one two",
        "-I word",
        "-S -K -d /dev/x svc",
        "-I --json --count",
        "-K -u U --json",
        "-Z",
        "-P -n many",
    ],
)
def test_wrong_usage_ends_with_1_as_the_original(arguments: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert hb_ctl.main(arguments.split()) == 1
    assert "usage: ocfs2_hb_ctl" in capsys.readouterr().err


def test_priority_is_refused_with_its_reason(capsys: pytest.CaptureFixture[str]) -> None:
    assert hb_ctl.main(["-P", "-d", "/dev/x", "-n", "0"]) == 1
    assert "no heartbeat thread" in capsys.readouterr().err


def test_a_region_started_by_hand_is_mounted_and_never_mounts(node: Node) -> None:
    node.start()
    assert run(node, "-S", "-d", image(node), "my own service") == 0
    assert node.seen == [
        client.Mount("ocfs2", UUID, "demo", image(node), "my own service"),
        client.MountResult("ocfs2", UUID, 0, "my own service"),
    ]
    assert node.mounts.mounts() == []


def test_a_refused_region_tells_the_daemons_sentence(node: Node, capsys: pytest.CaptureFixture[str]) -> None:
    node.script.mount = (16, "Another mount is in progress")
    node.start()
    assert run(node, "-S", "-d", image(node), "svc") == 1
    assert "Another mount is in progress" in capsys.readouterr().err
    assert node.words() == ["MOUNT"]


def test_a_uuid_finds_the_device_that_the_daemon_knows(node: Node, capsys: pytest.CaptureFixture[str]) -> None:
    group = samples.vm(fs=UUID, label="demo", device=image(node))
    node.tells(Facts(samples.o2cb(), samples.ocfs2(groups=(group,)))).start()
    assert run(node, "-S", "-u", UUID, "svc") == 0
    assert client.Mount("ocfs2", UUID, "demo", image(node), "svc") in node.seen
    assert run(node, "-S", "-u", samples.BK, "svc") == 1
    assert f"no device here holds a volume with UUID {samples.BK}" in capsys.readouterr().err


def test_the_kernels_call_at_umount_needs_no_service(node: Node, capsys: pytest.CaptureFixture[str]) -> None:
    node.start()
    assert run(node, "-K", "-u", UUID) == 0
    assert run(node, "-K", "-d", image(node), "svc") == 0
    assert node.seen == [client.Unmount("ocfs2", UUID, "ocfs2"), client.Unmount("ocfs2", UUID, "svc")]
    node.script.others["UNMOUNT"] = (2, "Filesystem is unknown or not mounted anywhere")
    assert run(node, "-K", "-u", UUID) == 1
    assert "unknown or not mounted anywhere" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["short", UUID[:-1] + "g", UUID + "0"])
def test_what_is_no_uuid_is_said_so(node: Node, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(node, "-K", "-u", text) == 1
    assert "is no UUID" in capsys.readouterr().err


def test_a_fence_is_acknowledged_by_a_program_only_if_it_is_sure(
    node: Node, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("n3\noff\n"))  # a pipe is no terminal
    node.tells(samples.dead()).start()
    assert run(node, "--fenced", "n3") == 1
    assert "--yes-i-am-sure" in capsys.readouterr().err
    assert node.words() == []
    assert run(node, "--fenced", "n3", "--yes-i-am-sure") == 0
    assert node.seen[-1] == client.Fenced("n3", samples.BOOT)


def test_who_is_not_lost_cannot_be_acknowledged(node: Node, capsys: pytest.CaptureFixture[str]) -> None:
    node.tells(samples.dead()).start()
    assert run(node, "--fenced", "n2", "--yes-i-am-sure") == 1
    assert "n2 is not lost" in capsys.readouterr().err
    assert node.words() == []


def test_a_life_that_nobody_has_seen_is_acknowledged_without_a_boot_id(node: Node) -> None:
    lost = Lost(name="n 3", number=3, life="3/unknown")
    node.tells(Facts(samples.o2cb(), samples.ocfs2(groups=(), unfenced=(lost,)))).start()
    assert run(node, "--fenced", "n 3", "--yes-i-am-sure") == 0
    assert node.seen[-1] == client.Fenced("n 3", "")


@pytest.mark.parametrize("settled", [True, False])
def test_two_lives_of_a_node_are_one_word_of_an_operator(
    node: Node, capsys: pytest.CaptureFixture[str], *, settled: bool
) -> None:
    """The word for the first settles the second too, as the daemon's next report shows; the second word is refused."""
    lives = Lost(name="n3", number=3, life="3/unknown"), Lost(name="n3", number=3, life=f"3/{samples.BOOT}")
    node.tells(Facts(samples.o2cb(), samples.ocfs2(groups=(), unfenced=lives))).start()

    def heard() -> None:
        if len(node.words()) == 1:
            left = tuple(lost.model_copy(update={"fenced": True}) for lost in lives) if settled else lives
            node.tells(Facts(samples.o2cb(), samples.ocfs2(groups=(), unfenced=left)))
        else:
            node.script.others["FENCED"] = (errno.ENOENT, "No group waits for a fence of n3")

    node.script.on["FENCED"] = heard
    assert run(node, "--fenced", "n3", "--yes-i-am-sure") == (0 if settled else 1)
    assert node.words() == ["FENCED", "FENCED"]
    said = capsys.readouterr()
    assert "n3 counts as fenced" in said.out if settled else "No group waits" in said.err


@pytest.mark.parametrize(("typed", "sent"), [("n3\noff\n", True), ("n3\ny\n", False), ("yes\noff\n", False)])
def test_on_a_terminal_a_fence_is_asked_twice(node: Node, typed: str, sent: bool) -> None:
    node.tells(samples.dead()).start()
    ours, theirs = pty.openpty()
    os.write(ours, typed.encode())
    arguments = [sys.executable, "-m", "libo2cb.tools.hb_ctl", "--fenced", "n3", "--config", str(node.config)]
    with os.fdopen(theirs) as terminal, os.fdopen(ours):
        done = subprocess.run(arguments, stdin=terminal, capture_output=True, text=True, timeout=DEADLINE, check=False)
    assert (done.returncode == 0) is sent
    assert "will then destroy vm-images" in done.stderr
    assert node.words() == (["FENCED"] if sent else [])


def test_replace_asks_both_daemons_or_the_one_named(node: Node, capsys: pytest.CaptureFixture[str]) -> None:
    node.start()
    assert run(node, "--replace", "o2cb_controld") == 0
    assert node.words() == ["REPLACE"]
    assert hb_ctl.main(["--config", str(node.config), "--replace"]) == 0
    assert node.words() == ["REPLACE"] * 3
    node.script.others["REPLACE"] = (1, "only root may")
    assert hb_ctl.main(["--config", str(node.config), "--replace"]) == 1
    assert "ocfs2_controld will not be replaced: only root may" in capsys.readouterr().err


def test_no_configuration_names_both_ways_to_go_on(capsys: pytest.CaptureFixture[str]) -> None:
    assert hb_ctl.main(["-I", "--config", "/nowhere/controld.toml"]) == 1
    assert "o2cb_sandbox up" in capsys.readouterr().err


# asking


def test_a_stranger_on_the_socket_is_not_believed(node: Node) -> None:
    node.tells(samples.healthy()).start()
    with pytest.raises(Unanswered, match="not to be trusted"):
        ask_report(Ocfs2Report, str(node.home / "c"), frozenset({os.geteuid() + 1}))
    assert node.seen == []


def test_only_the_sandbox_trusts_our_own_user(node: Node) -> None:
    sandbox = common.configuration(str(node.config))
    assert server_uids(sandbox) == frozenset({0, os.geteuid()})
    links = sandbox.model_copy(update={"kernel": sandbox.kernel.model_copy(update={"driver": "links"})})
    assert server_uids(links) == frozenset({0})


@pytest.mark.parametrize(
    ("report", "says"),
    [("{}", "has schema None"), ("nonsense", "no JSON"), (None, "silent for 0.2 s")],
)
def test_a_report_that_cannot_be_read_counts_as_silence(node: Node, report: str | None, says: str) -> None:
    node.script.o2cb = report
    node.start()
    with pytest.raises(Unanswered, match=says):
        ask_report(O2cbReport, str(node.home / "o"), server_uids(common.configuration(str(node.config))), 0.2)


def test_a_report_without_end_is_left(node: Node) -> None:
    node.script.o2cb = "x" * 100_000
    node.start()
    with pytest.raises(Unanswered, match="no end"):
        ask_report(O2cbReport, str(node.home / "o"), frozenset({os.geteuid()}), DEADLINE, max_bytes=10_000)


def test_the_daemon_that_is_asked_is_the_one_that_is_blamed(node: Node) -> None:
    with pytest.raises(Unanswered) as silence:
        ask_report(O2cbReport, str(node.home / "o"), frozenset({0}))
    assert (silence.value.daemon, silence.value.do) == ("o2cb_controld", "start it")
    assert "ocfs2" not in silence.value.why
