"""mount.ocfs2 and umount.ocfs2 against real records on real sockets, in a sandbox home."""

import errno
import io
import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from libo2cb.errors import KernelRefusal
from libo2cb.mounts import Busy
from libo2cb.sandbox.homes import NodeHome
from libo2cb.superblock import read_superblock
from libo2cb.tools import mount_options, umount
from libo2cb.tools.facts import Facts
from libo2cb.tools.mount import kernel_mount, with_stack
from libo2cb.tools.mount_options import MountOptions
from libo2cb.tools.waiting import Waiting
from protocol import client
from tests.unit import samples
from tests.unit.tool_daemons import IMAGE, UUID, Node, ended, image, node

__all__ = ["node"]


def mounting(node: Node, *arguments: str, **environment: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "libo2cb.tools.mount", *arguments],
        env={**os.environ, "OCFS2_CONTROLD_CONFIG": str(node.config), **environment},
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
        cwd=Path(__file__).parents[2],
    )


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
