"""First real runs: nodes of a sandbox with both daemons, as processes on real sockets."""

import contextlib
import fcntl
import json
import os
import shutil
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from libo2cb.join import GroupJoin, begin_group_join, complete_group_join, group_leave
from libo2cb.kernel.sandbox import SandboxFs
from libo2cb.kernel.tree import TreeKernel
from libo2cb.processes import Process
from libo2cb.report_client import Unanswered, ask_report
from libo2cb.report_client import ask as say
from libo2cb.sandbox import power
from libo2cb.sandbox.ask import HubAway, ask
from libo2cb.sandbox.homes import Sandbox, Settings, read_record, write_config
from libo2cb.sandbox.mounts import SandboxMounts
from libo2cb.sandbox.plan import Plan
from libo2cb.service.report import Ocfs2Report
from libo2cb.superblock import read_superblock
from protocol import client
from tests.process.node import exit_code

pytestmark = pytest.mark.process

DEADLINE = 60.0
STEP = 0.02
VOLUME = Path(power.__file__).with_name("volume.img")
TRUSTED = frozenset({0, os.geteuid()})


def wait_until(what: str, holds: Callable[[], bool]) -> None:
    """Look until it holds. The pause between two looks decides nothing."""
    deadline = time.monotonic() + DEADLINE
    while not holds():
        assert time.monotonic() < deadline, f"not within {DEADLINE:.0f} s: {what}"
        time.sleep(STEP)


class Node:
    """A node of the sandbox."""

    def __init__(self, sandbox: Sandbox, name: str, volume: Path) -> None:
        self.sandbox = sandbox
        self.home = sandbox.node(name)
        self.volume = volume
        self.superblock = read_superblock(volume)
        self.kernel = TreeKernel(SandboxFs(self.home.root))
        self.mounts = SandboxMounts(self.home.mounts)

    def command(self, daemon: str) -> tuple[str, ...]:
        return (sys.executable, "-m", daemon, "--config", str(self.home.config))

    def spawn(self, daemon: str) -> Process:
        log, record = self.home.log / f"{daemon}.jsonl", self.home.processes / f"{daemon}.json"
        return power.spawn(self.command(daemon), log, record, config=self.home.config)

    def start(self) -> None:
        for daemon in ("o2cb_controld", "ocfs2_controld"):
            self.spawn(daemon)

    def process(self, daemon: str) -> Process:
        process = read_record(self.home.processes / f"{daemon}.json")
        assert process is not None
        return process

    def report(self) -> Ocfs2Report | None:
        try:
            return ask_report(Ocfs2Report, str(self.home.clients), TRUSTED)
        except Unanswered:
            return None

    def wait_for(self, what: str, holds: Callable[[Ocfs2Report], bool]) -> Ocfs2Report:
        found: list[Ocfs2Report] = []

        def looked() -> bool:
            report = self.report()
            if report is None or not holds(report):
                return False
            found.append(report)
            return True

        wait_until(what, looked)
        return found[0]

    def logged(self, daemon: str) -> list[dict[str, object]]:
        lines = (self.home.log / f"{daemon}.jsonl").read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def journal(self) -> list[dict[str, object]]:
        """What its kernel was told to do."""
        return [json.loads(line) for line in (self.home.log / "kernel.jsonl").read_text().splitlines()]

    def mount(self, point: str) -> None:
        """What mount.ocfs2 does: ask, mount, tell."""
        uuid, cluster = self.superblock.uuid, self.superblock.cluster
        socket_name = str(self.home.clients)
        join = begin_group_join(
            uuid, cluster, str(self.volume), socket_name=socket_name, trusted_uids=TRUSTED, timeout=DEADLINE
        )
        self.mounts.enter(str(self.volume), point, uuid)
        complete_group_join(join, 0)

    def links(self) -> dict[str, list[str]]:
        return {r: self.kernel.links(c, r) for c in self.kernel.clusters() for r in self.kernel.regions(c)}


@contextlib.contextmanager
def sandbox_of(size: int, home: Path, settings: Settings) -> Iterator[list[Node]]:
    """Nodes that are on, without daemons."""
    sandbox = Sandbox(home)
    volume = home / "volume.img"
    shutil.copy(VOLUME, volume)
    plan = Plan(Plan.of(size).nodes, cluster=read_superblock(volume).cluster)
    plan.write(sandbox.plan)
    hub_command = (sys.executable, "-m", "libo2cb.sandbox.hub", "--home", str(home))
    hub = power.spawn(hub_command, home / "hub.log", sandbox.hub_record)

    def answers() -> bool:
        try:
            return bool(ask(sandbox.hub, "status"))
        except HubAway:
            return False

    nodes = [Node(sandbox, n.name, volume) for n in plan.nodes]
    try:
        wait_until("the hub answers", answers)
        for node in nodes:
            write_config(sandbox, node.home.name, settings)
            power.start(sandbox, node.home.name, [])
        yield nodes
    finally:
        for node in nodes:
            if node.home.config.exists():
                power.power_off(sandbox, node.home.name)
        power.end([hub])
        os.waitpid(hub.pid, 0)


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    with sandbox_of(1, tmp_path, Settings(join_delay=0.5)) as (node,):
        yield node


@pytest.fixture
def running(node: Node) -> Node:
    """Both daemons run and are ready."""
    node.start()
    node.wait_for("ocfs2_controld is ready", lambda r: r.ready)
    return node


def test_a_mount_from_its_join_to_its_leave(running: Node) -> None:
    node = running
    daemon = node.process("ocfs2_controld")
    node.mount("/mnt/a")
    report = node.wait_for("the group runs", lambda r: any(g.state == "running" and g.mount_points for g in r.groups))
    (group,) = report.groups
    assert group.fs == node.superblock.uuid
    assert [(m.name, m.phase) for m in group.members] == [("n1", "running")]
    assert group.mount_points == ("/mnt/a",)
    assert group.links == (1,)
    assert group.device == str(node.volume)
    assert report.live_regions == 1
    assert report.o2cb
    assert node.links() == {node.superblock.uuid: ["n1"]}

    # Law 15: while it is mounted, no signal ends the daemon, and none is remembered.
    daemon.kill(signal.SIGTERM)
    node.wait_for("the signal was refused", lambda r: r.signals_refused == {"SIGTERM": 1})
    assert daemon.alive()

    node.mounts.leave("/mnt/a")
    group_leave(node.superblock.uuid, socket_name=str(node.home.clients), trusted_uids=TRUSTED)
    node.wait_for("the group is left", lambda r: not r.groups and r.live_regions == 0)
    assert node.links() == {}
    daemon.kill(signal.SIGTERM)
    assert exit_code(daemon) == 0
    assert node.logged("ocfs2_controld")[-1]["event"] == "exiting"


def test_a_group_outlives_its_daemon(running: Node) -> None:
    node = running
    node.mount("/mnt/a")
    node.wait_for("the group runs", lambda r: any(g.state == "running" and g.mount_points for g in r.groups))
    before = node.process("ocfs2_controld")
    before.kill(signal.SIGKILL)
    assert exit_code(before) == -signal.SIGKILL
    assert node.links() == {node.superblock.uuid: ["n1"]}
    node.spawn("ocfs2_controld")
    report = node.wait_for("the group runs again", lambda r: any(g.state == "running" for g in r.groups))
    assert report.groups[0].mount_points == ("/mnt/a",)
    assert [c["call"] for c in node.journal() if c["call"] in {"symlink", "unlink"}] == ["symlink"]

    # Unmounted and said by nobody: the kernel's word is enough (law 12).
    node.mounts.leave("/mnt/a")
    node.wait_for("the group is left", lambda r: not r.groups)
    assert node.links() == {}


def test_a_client_that_ends_without_a_word_has_mounted_if_the_kernel_says_so(running: Node) -> None:
    node = running
    for mounts in (False, True):
        uuid, cluster = node.superblock.uuid, node.superblock.cluster
        socket_name = str(node.home.clients)
        with GroupJoin(uuid, cluster, str(node.volume), socket_name=socket_name, trusted_uids=TRUSTED) as join:
            join.wait(timeout=DEADLINE)
            if mounts:
                node.mounts.enter(str(node.volume), "/mnt/a", uuid)
        if mounts:
            report = node.wait_for("it is used", lambda r: bool(r.groups and r.groups[0].holders))
            assert runs_on(report, "n1")
            assert [h.service for h in report.groups[0].holders] == ["ocfs2"]
        else:
            node.wait_for("the group is left", lambda r: not r.groups)


def test_a_daemon_is_replaced_under_a_live_mount(running: Node) -> None:
    node = running
    node.mount("/mnt/a")
    node.wait_for("the group runs", lambda r: any(g.state == "running" and g.mount_points for g in r.groups))
    before = node.process("ocfs2_controld")
    said = say("ocfs2_controld", str(node.home.clients), TRUSTED, client.Replace())
    assert said.code == 0
    assert exit_code(before) == 0
    assert node.links() == {node.superblock.uuid: ["n1"]}
    node.spawn("ocfs2_controld")
    node.wait_for("the group runs again", lambda r: runs_on(r, "n1") and r.groups[0].mount_points == ("/mnt/a",))


def test_a_held_device_keeps_the_group_until_it_is_free(running: Node) -> None:
    node = running
    node.mount("/mnt/a")
    node.mounts.hold(str(node.volume))
    node.mounts.leave("/mnt/a")
    group_leave(node.superblock.uuid, socket_name=str(node.home.clients), trusted_uids=TRUSTED)
    report = node.wait_for("somebody looked", lambda r: any("is held" in (g.waits_for or "") for g in r.groups))
    assert report.groups[0].state == "leaving"
    assert node.links() == {node.superblock.uuid: ["n1"]}
    node.mounts.release(str(node.volume))
    node.wait_for("the group is left", lambda r: not r.groups)


def test_a_taken_name_ends_the_daemon_and_names_the_taker(node: Node) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as thief:
        thief.bind(str(node.home.clients))
        thief.listen()
        assert exit_code(node.spawn("ocfs2_controld")) == 1
    (taken,) = [line for line in node.logged("ocfs2_controld") if line["event"] == "name_taken"]
    assert taken["pid"] == os.getpid()
    # Nobody on the channel has heard of the second daemon.
    assert all(json.loads(line)["op"] != "attach" for line in node.sandbox.history.read_text().splitlines())


def test_a_report_is_given_while_the_kernel_gives_no_answer(running: Node) -> None:
    """Who holds the sandbox kernel's lock holds up every call: the daemon's thread waits, its loop does not."""
    node = running
    join = GroupJoin(
        node.superblock.uuid,
        node.superblock.cluster,
        str(node.volume),
        socket_name=str(node.home.clients),
        trusted_uids=TRUSTED,
    )
    with join:
        join.wait(timeout=DEADLINE)
        node.mounts.enter(str(node.volume), "/mnt/a", node.superblock.uuid)
        join.complete(0)
    with (node.home.root / "kernel" / "lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        node.mounts.leave("/mnt/a")
        daemon = node.process("ocfs2_controld")
        blocked = f" {daemon.pid} "
        locks = Path("/proc/locks")
        wait_until(
            "its call waits for the lock",
            lambda: any("->" in line and blocked in line for line in locks.read_text().splitlines()),
        )
        daemon.kill(signal.SIGTERM)
        report = node.report()
        assert report is not None
        assert (report.groups[0].state, report.groups[0].links) == ("leaving", (1,))
        assert node.links() == {node.superblock.uuid: ["n1"]}
    node.wait_for("the group is left", lambda r: not r.groups)


def runs_on(report: Ocfs2Report, *names: str) -> bool:
    """Whether the group runs with these members."""
    return any(g.state == "running" and tuple(m.name for m in g.members) == names for g in report.groups)


def test_a_node_that_is_cut_off_is_fenced_by_the_command(tmp_path: Path) -> None:
    with sandbox_of(3, tmp_path, Settings(join_delay=60.0)) as nodes:
        n1, n2, n3 = nodes
        for node in nodes:
            node.start()
        for node in nodes:
            node.wait_for("it is ready", lambda r: r.ready)
        for node in nodes:
            node.mount("/mnt/a")
        n1.wait_for("all are members", lambda r: runs_on(r, "n1", "n2", "n3"))
        ask(n1.sandbox.hub, "cut", groups=[["n1", "n2"], ["n3"]])
        n1.wait_for("n3 was recovered", lambda r: runs_on(r, "n1", "n2") and r.last_death is not None)
        assert not n3.home.mark.exists()
        assert not power.living(n3.home)
        assert n1.links() == n2.links() == {n1.superblock.uuid: ["n1", "n2"]}

        def answers() -> list[dict[str, object]]:
            lines = [line for node in (n1, n2) for line in node.logged("ocfs2_controld")]
            return [line for line in lines if line["event"] == "fence_answered"]

        wait_until("the fence is answered", lambda: bool(answers()))
        (answered,) = answers()
        assert answered["code"] == 0
        assert "n3 is off" in str(answered["output"])


def test_a_life_that_others_have_recovered_resets_itself(tmp_path: Path) -> None:
    """With fencing "none" n3 is only assumed to be off. It comes back over the healed network, and goes (law 9)."""
    with sandbox_of(3, tmp_path, Settings(fencing="none", join_delay=60.0)) as nodes:
        n1, _, n3 = nodes
        for node in nodes:
            node.start()
        for node in nodes:
            node.wait_for("it is ready", lambda r: r.ready)
        n1.mount("/mnt/a")
        n3.mount("/mnt/a")
        n1.wait_for("both are members", lambda r: runs_on(r, "n1", "n3"))
        ask(n1.sandbox.hub, "cut", groups=[["n1", "n2"], ["n3"]])
        n1.wait_for("n3 was recovered", lambda r: runs_on(r, "n1"))
        assert n3.process("ocfs2_controld").alive()
        ask(n1.sandbox.hub, "heal")
        wait_until("n3 is off", lambda: not n3.home.mark.exists())
        assert not power.living(n3.home)
        assert "put_out" in [line["event"] for line in n3.logged("ocfs2_controld")]
        assert "power_off" in [call["call"] for call in n3.journal()]


def test_at_rest_nothing_wakes_the_daemon(running: Node) -> None:
    node = running
    node.mount("/mnt/a")
    node.wait_for("the group runs", lambda r: any(g.state == "running" and g.mount_points for g in r.groups))
    pid = node.process("ocfs2_controld").pid

    def switches() -> int:
        status = Path(f"/proc/{pid}/status").read_text()
        return sum(int(line.split()[1]) for line in status.splitlines() if "ctxt_switches" in line)

    # Two seconds of quiet: no timer of ours is longer than that in this state, and none may be armed at all.
    for _ in range(30):
        before = switches()
        time.sleep(2.0)
        if switches() == before:
            return
    raise AssertionError("the daemon never rests")
