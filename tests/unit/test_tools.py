"""ocfs2_hb_ctl, mount.ocfs2 and umount.ocfs2 against real records on real sockets, in a sandbox home."""

import errno
import io
import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from libo2cb.errors import KernelRefusal
from libo2cb.mounts import Busy
from libo2cb.report_client import Unanswered, ask_report, server_uids
from libo2cb.sandbox.homes import NodeHome
from libo2cb.sandbox.refs import SandboxRefs
from libo2cb.service.report import Lost, O2cbReport, Ocfs2Report
from libo2cb.superblock import read_superblock
from libo2cb.tools import common, hb_ctl, mount_options, screens, umount
from libo2cb.tools.mount import kernel_mount, with_stack
from libo2cb.tools.mount_options import MountOptions
from libo2cb.tools.verdict import Facts
from libo2cb.tools.waiting import Waiting
from protocol import client
from tests.unit import samples
from tests.unit.tool_daemons import DEADLINE, Node

IMAGE = Path(__file__).parents[2] / "libo2cb" / "sandbox" / "volume.img"
UUID = "88F01F12DEBF421BAD7206A702A50BB2"


@pytest.fixture
def node() -> Iterator[Node]:
    with tempfile.TemporaryDirectory(prefix="o2-") as home:  # short: a socket's path has 107 bytes
        node = Node(Path(home))
        (node.home / "demo.img").write_bytes(IMAGE.read_bytes())
        yield node
        node.stop()


def run(node: Node, *arguments: str) -> int:
    return hb_ctl.main([*arguments, "--config", str(node.config)])


def image(node: Node) -> str:
    return str(node.home / "demo.img")


def mounting(node: Node, *arguments: str, **environment: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "libo2cb.tools.mount", *arguments],
        env={**os.environ, "OCFS2_CONTROLD_CONFIG": str(node.config), **environment},
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
        cwd=Path(__file__).parents[2],
    )


def ended(process: "subprocess.Popen[str]") -> tuple[int, str]:
    with process:
        _, said = process.communicate(timeout=DEADLINE)
    return process.returncode, said


# ocfs2_hb_ctl


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


# mount.ocfs2


def test_a_mount_stands_in_the_table_and_the_daemon_knows(node: Node) -> None:
    node.start()
    assert ended(mounting(node, image(node), "/srv/demo", "-o", "rw,_netdev")) == (0, "")
    assert [(m.source, m.mount_point) for m in node.mounts.mounts()] == [(image(node), "/srv/demo")]
    assert node.seen == [
        client.Mount("ocfs2", UUID, "demo", image(node), "ocfs2"),
        client.MountResult("ocfs2", UUID, 0, "ocfs2"),
    ]
    assert node.mounts.entries()[0].uuid == UUID


def test_a_group_that_is_there_already_is_no_error(node: Node) -> None:
    node.script.mount = (errno.EALREADY, "Already mounted, go ahead")
    node.start()
    assert ended(mounting(node, image(node), "/srv/demo")) == (0, "")


def test_the_daemons_refusal_reaches_the_user(node: Node) -> None:
    node.script.mount = (errno.EINVAL, "Invalid cluster name: this is prod")
    node.start()
    code, said = ended(mounting(node, image(node), "/srv/demo"))
    assert code == 32
    assert said == (
        "mount.ocfs2: demo was not mounted on /srv/demo: Invalid cluster name: this is prod"
        " (EINVAL (Invalid argument))\n"
    )
    assert node.mounts.mounts() == []
    assert node.words() == ["MOUNT"]


def test_what_the_kernel_refuses_is_told_to_the_daemon(node: Node) -> None:
    other = node.home / "other.img"
    other.write_bytes(IMAGE.read_bytes())
    node.mounts.enter(str(other), "/srv/demo", UUID)
    node.start()
    code, said = ended(mounting(node, image(node), "/srv/demo"))
    assert code == 32
    assert "EBUSY" in said
    assert node.seen[-1] == client.MountResult("ocfs2", UUID, errno.EBUSY, "ocfs2")


def test_the_same_mount_twice_asks_nobody(node: Node) -> None:
    node.start()
    node.mounts.enter(image(node), "/srv/demo", UUID)
    code, said = ended(mounting(node, image(node), "/srv/demo"))
    assert code == 32
    assert "is mounted on /srv/demo already" in said
    assert node.seen == []


def test_a_mount_is_a_process_of_its_node_and_impossible_while_that_is_off(node: Node) -> None:
    process = paused(node)
    records = [json.loads(path.read_bytes()) for path in NodeHome(node.home).processes.iterdir()]
    assert [record["pid"] for record in records] == [process.pid]
    process.kill()
    ended(process)
    NodeHome(node.home).mark.unlink()
    code, said = ended(mounting(node, image(node), "/srv/demo"))
    assert code == 32
    assert "is off; switch it on" in said
    assert unmount(node, "/srv/demo") == 32


def test_a_remount_asks_nobody(node: Node) -> None:
    node.start()
    assert ended(mounting(node, image(node), "/srv/demo", "-o", "remount,ro")) == (0, "")
    assert node.seen == []


def test_a_volume_of_another_stack_names_the_line_that_relabels_it(node: Node) -> None:
    Path(image(node)).write_bytes(IMAGE.read_bytes().replace(b"cman", b"pcmk"))
    code, said = ended(mounting(node, image(node), "/srv/demo"))
    assert code == 32
    assert f"tunefs.ocfs2 --update-cluster-stack {image(node)}" in said
    assert '"pcmk"' in said


@pytest.mark.parametrize("arguments", [[], ["/dev/x"], ["/dev/x", "/srv", "more"], ["-Q", "/dev/x", "/srv"]])
def test_wrong_usage_of_mount(node: Node, arguments: list[str]) -> None:
    code, said = ended(mounting(node, *arguments))
    assert code == 1
    assert "usage: mount.ocfs2 DEVICE DIRECTORY" in said


def test_a_daemon_that_ends_under_a_mount_is_named(node: Node) -> None:
    node.script.mount = None
    node.start()
    process = mounting(node, image(node), "/srv/demo")
    node.expect(lambda: node.words() == ["MOUNT"])
    node.hang_up()
    code, said = ended(process)
    assert code == 32
    assert "demo was not mounted" in said
    assert "ended without an answer" in said


def test_without_a_daemon_a_mount_says_what_to_start(node: Node) -> None:
    code, said = ended(mounting(node, image(node), "/srv/demo"))
    assert code == 32
    assert "start ocfs2_controld" in said


def test_a_waiting_mount_tells_what_for_and_then_how_it_ended(node: Node) -> None:
    group = samples.joining().groups[0].model_copy(update={"fs": UUID, "label": "demo"})
    node.tells(Facts(samples.o2cb(), samples.ocfs2(groups=(group,))))
    node.script.mount = None
    node.start()
    process = mounting(node, image(node), "/srv/demo")
    node.expect(lambda: any(message.word == "REPORT" for message in node.seen))
    node.release(errno.ETIMEDOUT, "n2 still links n4's old address")
    code, said = ended(process)
    assert code == 32
    lines = said.splitlines()
    assert lines[0] == "mount.ocfs2: joining demo in cluster demo"
    assert "for n2: there n4's old address" in lines[1]
    assert "gives up in 293 s; Ctrl-C leaves nothing behind" in lines[1]
    assert lines[-1].endswith("n2 still links n4's old address (ETIMEDOUT (Connection timed out))")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_while_it_waits_leaves_nothing_behind(node: Node, number: signal.Signals) -> None:
    node.script.mount = None
    node.start()
    process = mounting(node, image(node), "/srv/demo")
    node.expect(lambda: node.words() == ["MOUNT"])
    process.send_signal(number)
    code, said = ended(process)
    assert (code, said) == (8, "mount.ocfs2: interrupted; nothing is mounted and nothing is left behind\n")
    node.expect(lambda: node.closed == 1)
    assert node.words() == ["MOUNT"]
    assert node.mounts.mounts() == []


def paused(node: Node) -> "subprocess.Popen[str]":
    node.start()
    process = mounting(node, image(node), "/srv/demo", OCFS2_MOUNT_PAUSE="after-status")
    stopped, status = os.waitpid(process.pid, os.WUNTRACED)
    assert stopped == process.pid
    assert os.WIFSTOPPED(status)
    return process


def test_a_scene_can_kill_it_between_the_answer_and_the_mount(node: Node) -> None:
    process = paused(node)
    process.kill()
    assert ended(process)[0] == -signal.SIGKILL
    node.expect(lambda: node.closed == 1)
    assert node.words() == ["MOUNT"]
    assert node.mounts.mounts() == []


def test_a_signal_between_the_answer_and_the_mount_is_told_to_the_daemon(node: Node) -> None:
    process = paused(node)
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGCONT)
    assert ended(process)[0] == 8
    assert node.seen[-1] == client.MountResult("ocfs2", UUID, errno.EINTR, "ocfs2")
    assert node.mounts.mounts() == []


def test_a_signal_after_the_mount_comes_too_late_and_the_user_is_told(node: Node) -> None:
    process: list[subprocess.Popen[str]] = []
    node.script.on["MRESULT"] = lambda: process[0].send_signal(signal.SIGTERM)
    node.script.mount = None
    node.start()
    process.append(mounting(node, image(node), "/srv/demo"))
    node.expect(lambda: node.words() == ["MOUNT"])
    node.release(0, "OK")
    code, said = ended(process[0])
    assert (code, said) == (
        0,
        "mount.ocfs2: SIGTERM came too late: demo is mounted on /srv/demo; umount undoes it\n",
    )
    assert node.seen[-1] == client.MountResult("ocfs2", UUID, 0, "ocfs2")
    assert len(node.mounts.mounts()) == 1


def test_the_pause_is_for_the_sandbox_alone(node: Node) -> None:
    text = node.config.read_text("utf-8").replace('driver = "sandbox"', 'driver = "links"')
    node.config.write_text(text, "utf-8")
    node.start()
    process = mounting(node, image(node), str(node.home), OCFS2_MOUNT_PAUSE="after-status")
    code, said = ended(process)  # mount(2) is refused: an image file is no device, or there is no ocfs2, or no right
    assert (code, said[:18]) == (32, "mount.ocfs2: mount")
    assert [message.word for message in node.seen] == ["MOUNT", "MRESULT"]


def test_a_daemon_that_does_not_take_the_result_changes_nothing_about_the_mount(node: Node) -> None:
    node.script.others["MRESULT"] = (errno.EINVAL, "Client is not attached")
    node.start()
    code, said = ended(mounting(node, image(node), "/srv/demo"))
    assert code == 0
    assert "demo is mounted on /srv/demo, and the daemon will find that by itself" in said
    assert len(node.mounts.mounts()) == 1


def test_a_region_that_went_after_the_answer_fails_the_mount_as_on_a_real_kernel(node: Node) -> None:
    """The daemon answers 0 and dies; its successor finds a region that nobody uses, and leaves; then mount(2) comes."""
    node.script.region = False
    node.start()
    code, said = ended(mounting(node, image(node), "/srv/demo"))
    assert code == 32
    assert f"EINVAL (Invalid argument): no heartbeat region {UUID} stands in this node's tree" in said
    assert node.seen[-1] == client.MountResult("ocfs2", UUID, errno.EINVAL, "ocfs2")
    assert node.mounts.mounts() == []


@pytest.mark.skipif(not shutil.which("strace"), reason="needs strace")
@pytest.mark.parametrize(("data", "argument"), [((), "NULL"), (("acl", "data=ordered"), '"acl,data=ordered"')])
def test_mount2_without_options_gets_none_and_not_an_empty_text(data: tuple[str, ...], argument: str) -> None:
    """On a real kernel an empty text is EINVAL: it is options that name no heartbeat mode."""
    script = (
        "from libo2cb.errors import KernelRefusal\n"
        "from libo2cb.tools.mount import MountOptions, kernel_mount\n"
        f"try: kernel_mount('/nowhere', '/nowhere either', MountOptions(0, {data!r}))\n"
        "except KernelRefusal: pass\n"
    )
    trace = ["strace", "-f", "-qq", "-e", "trace=mount"]
    done = subprocess.run(
        [*trace, sys.executable, "-c", script], check=True, capture_output=True, text=True, cwd=IMAGE.parents[2]
    )
    assert f'mount("/nowhere", "/nowhere either", "ocfs2", 0, {argument})' in done.stderr


def test_the_kernel_is_told_the_stack_and_of_a_local_volume_that_nothing_beats(node: Node) -> None:
    clustered = read_superblock(image(node))
    local = replace(clustered, stack="", cluster="")
    how = MountOptions(1, ("acl",))
    assert with_stack(how, clustered) == MountOptions(1, ("acl", "cluster_stack=cman"))
    assert with_stack(how, local) == MountOptions(1, ("acl", "heartbeat=none"))


def test_mount2_reports_the_kernels_errno() -> None:
    with pytest.raises(KernelRefusal, match=r"^mount /nowhere on /nowhere either: E[A-Z]+ "):
        kernel_mount("/nowhere", "/nowhere either", MountOptions())


@pytest.mark.parametrize(
    ("texts", "flags", "data"),
    [
        (["defaults,_netdev,noauto,x-systemd.automount,nofail"], 0, ()),
        (["ro,noatime", "data=ordered"], 1 | 1024, ("data=ordered",)),
        (["ro,rw"], 0, ()),
        (["user,exec"], 2 | 4, ()),
        (["owner"], 2 | 4, ()),
        (["cluster_stack=o2cb,heartbeat=local,localalloc=8"], 0, ("localalloc=8",)),
        (['context="system_u:object_r:x:s0:c1,c2",acl'], 0, ('context="system_u:object_r:x:s0:c1,c2"', "acl")),
        (["bogus"], 0, ("bogus",)),
    ],
)
def test_options(texts: list[str], flags: int, data: tuple[str, ...]) -> None:
    assert mount_options.parse(texts) == MountOptions(flags, data)


def test_r_and_w_win_over_options() -> None:
    assert mount_options.parse(["rw"], read_only=True).read_only
    assert not mount_options.parse(["ro"], read_write=True).read_only
    assert mount_options.parse(["remount"]).remount


# the display of a wait


def waiting(stream: io.StringIO, *, redraw: bool) -> Waiting:
    return Waiting(
        "mount.ocfs2",
        "demo in cluster demo",
        samples.VM,
        samples.joining,
        stream=stream,
        redraw=redraw,
        width=lambda: 60,
    )


def test_without_a_terminal_there_is_a_line_each_ten_seconds() -> None:
    stream = io.StringIO()
    display = waiting(stream, redraw=False)
    for second in range(1, 26):
        display.tick(float(second))
    display.done()
    lines = stream.getvalue().splitlines()
    assert lines[0] == "mount.ocfs2: joining demo in cluster demo"
    assert [line.split(" for ")[0] for line in lines[1:]] == ["waiting 1 s", "waiting 11 s", "waiting 21 s"]
    assert "\x1b" not in stream.getvalue()


def test_on_a_terminal_the_block_is_redrawn_in_its_place_and_gone_at_the_end() -> None:
    stream = io.StringIO()
    display = waiting(stream, redraw=True)
    display.tick(1.0)
    drawn = stream.getvalue().count("\n") - 1  # without the first line, which stays
    display.tick(2.0)
    assert stream.getvalue().count(f"\x1b[{drawn}F\x1b[J") == 1
    assert all(len(line) < 60 for line in stream.getvalue().replace(f"\x1b[{drawn}F\x1b[J", "").splitlines())
    display.done()
    assert stream.getvalue().endswith(f"\x1b[{drawn}F\x1b[J")


# umount.ocfs2


def unmount(node: Node, place: str) -> int:
    return umount.main([place, "--config", str(node.config)])


def test_an_unmount_holds_the_device_while_the_daemon_is_told(node: Node) -> None:
    node.mounts.enter(image(node), "/srv/demo", UUID)
    found: list[tuple[int, Busy]] = []
    node.script.on["UNMOUNT"] = lambda: found.append((len(node.mounts.mounts()), node.mounts.busy(image(node))))
    node.start()
    assert unmount(node, "/srv/demo") == 0
    assert node.seen == [client.Unmount("ocfs2", UUID, "ocfs2")]
    assert found == [(0, Busy.BUSY)]
    assert node.mounts.busy(image(node)) is Busy.FREE


def test_a_hold_of_somebody_else_stays(node: Node) -> None:
    node.mounts.enter(image(node), "/srv/demo", UUID)
    node.mounts.hold(image(node))
    node.start()
    assert unmount(node, "/srv/demo") == 0
    assert node.mounts.busy(image(node)) is Busy.BUSY


def test_while_another_mount_is_left_the_daemon_is_not_told(node: Node, capsys: pytest.CaptureFixture[str]) -> None:
    node.mounts.enter(image(node), "/srv/a", UUID)
    node.mounts.enter(image(node), "/srv/b", UUID)
    node.start()
    assert unmount(node, image(node)) == 32
    assert "name one of /srv/a, /srv/b" in capsys.readouterr().err
    assert unmount(node, "/srv/a") == 0
    assert node.seen == []
    assert unmount(node, image(node)) == 0
    assert node.words() == ["UNMOUNT"]


def test_an_unmount_works_without_the_daemon(node: Node, capsys: pytest.CaptureFixture[str]) -> None:
    node.mounts.enter(image(node), "/srv/demo", UUID)
    assert unmount(node, "/srv/demo") == 0
    assert "ocfs2_controld will find that by itself" in capsys.readouterr().err
    assert node.mounts.mounts() == []


def test_what_the_daemon_has_heard_from_the_kernel_is_no_error(node: Node, capsys: pytest.CaptureFixture[str]) -> None:
    node.mounts.enter(image(node), "/srv/demo", UUID)
    node.script.others["UNMOUNT"] = (errno.ENOENT, "not mounted")
    node.start()
    assert unmount(node, "/srv/demo") == 0
    assert capsys.readouterr().err == ""


def test_what_is_not_mounted_is_said_so(node: Node, capsys: pytest.CaptureFixture[str]) -> None:
    assert unmount(node, "/srv/demo") == 32
    assert "/srv/demo is no OCFS2 mount of this node" in capsys.readouterr().err
    assert umount.main([]) == 1
