"""`o2cb_sandbox` with a real hub, and with small stand-ins in place of the daemons."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from libo2cb import config
from libo2cb.processes import Process
from libo2cb.sandbox import power
from libo2cb.sandbox.homes import Sandbox, SandboxError, Settings, register_process, write_config
from libo2cb.sandbox.mounts import SandboxMounts
from libo2cb.sandbox.refs import SandboxRefs
from tests.keeper import kept

PATIENCE = 30.0
# A "daemon" that writes two lines, has a child with a session of its own, and has left a grandchild to init.
DAEMON = "o2cb_controld=sh -c 'echo {config}; (sleep 600 & echo $!); setsid sleep 600 & exec sleep 600'"


class Box:
    """A sandbox in a temporary directory, and its command."""

    def __init__(self, root: Path) -> None:
        self.sandbox = Sandbox(root)

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "libo2cb.sandbox.cli", "--home", str(self.sandbox.root), *words]
        return subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)

    def ok(self, *words: str) -> str:
        done = self.run(*words)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def refused(self, *words: str) -> str:
        done = self.run(*words)
        assert done.returncode == 1, done.stdout
        return done.stderr

    def status(self) -> dict[str, dict[str, Any]]:
        return {n["name"]: n for n in json.loads(self.ok("status", "--json"))["nodes"]}

    def history(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.sandbox.history.read_bytes().splitlines()]

    def living(self, name: str) -> list[Process]:
        """The processes of a node, with their children."""
        roots = [p for _, p in power.living(self.sandbox.node(name))]
        children = [c.pid for p in roots for c in psutil.Process(p.pid).children(recursive=True)]
        return roots + [p for pid in children if (p := Process.of(pid))]


def wait(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def box() -> Iterator[Box]:
    root = Path(tempfile.mkdtemp(prefix="box"))  # pytest's directories are too long for a Unix socket's name
    made = Box(root)
    try:
        with kept(root):
            yield made
            made.ok("down")
    finally:
        shutil.rmtree(root)


def test_a_daemon_that_has_ended_is_started_again_in_the_same_life(box: Box) -> None:
    box.ok("up", "--nodes", "1", "--daemon", DAEMON)
    wait(lambda: len(box.living("n1")) == 2)
    boot = box.status()["n1"]["boot"]
    for process in box.living("n1"):
        process.kill(signal.SIGKILL)
    wait(lambda: not box.living("n1"))
    assert "n1 was on; started again: o2cb_controld" in box.ok("start", "n1", "--daemon", DAEMON)
    assert box.status()["n1"]["boot"] == boot
    assert "n1 is on already" in box.refused("start", "n1", "--daemon", DAEMON)


def test_the_life_of_a_sandbox(box: Box) -> None:
    assert "up: n1, n2" in box.ok("up", "--nodes", "2", "--daemon", DAEMON)
    home = box.sandbox.node("n2")
    wait(lambda: len(box.living("n1")) == len(box.living("n2")) == 2)
    written, orphan = (home.log / "o2cb_controld.jsonl").read_text().splitlines()
    assert written == str(home.config)
    status = box.status()
    assert status["n2"]["members"] == [1, 2]
    assert (status["n2"]["power"], status["n2"]["engine"], status["n2"]["quorate"]) == ("on", "up", True)
    assert "n2" in box.ok("status")
    assert "is up already" in box.refused("up")
    assert "n2 is on already" in box.refused("start", "n2", "--daemon", DAEMON)

    (home.root / "kernel" / "tree" / "sandbox").mkdir()
    (image := home.root / "image").write_bytes(b"\0" * 4096)
    SandboxMounts(home.mounts).enter(str(image), "/mnt", "00" * 16)
    left_to_init = Process.of(int(orphan))
    assert left_to_init is not None
    victims, first_life = [*box.living("n2"), left_to_init], status["n2"]["boot"]
    SandboxRefs(box.sandbox.node("n2").root).keep("F", 2)
    assert box.ok("kill", "n2") == "n2 is off: verified, no process of it lives\n"
    assert SandboxRefs(box.sandbox.node("n2").root).count("F") == 0, "what the kernel counted is gone with it"
    assert not any(p.alive() for p in victims)
    assert len(box.living("n1")) == 2, "only that node"
    assert not (home.root / "kernel" / "tree").exists()
    assert SandboxMounts(home.mounts).entries() == []
    assert box.ok("kill", "n2") == "n2 is off already: verified, no process of it lives\n"
    assert "n2 is off" in box.refused("engine", "n2", "start")
    assert box.status()["n1"]["members"] == [1]

    box.ok("start", "n2", "--address", "10.0.0.99", "--daemon", DAEMON)
    status = box.status()
    assert status["n2"]["boot"] not in (None, first_life)
    assert status["n2"]["address"] == "10.0.0.99"
    assert status["n1"]["members"] == [1, 2]
    everything = box.living("n1") + box.living("n2")
    box.ok("down")
    assert not any(p.alive() for p in everything)
    assert "does not answer" in box.refused("status")
    told = [(x["op"], x.get("boot")) for x in box.history() if x.get("node") == 2 and "boot" in x]
    second_life = status["n2"]["boot"]
    assert told == [(op, life) for life in (first_life, second_life) for op in ("boot", "power_off", "dead")]


def test_a_power_off_is_a_crash_for_the_engine_and_verified_without_a_hub(box: Box) -> None:
    box.ok("up", "--nodes", "1", "--daemon", DAEMON)
    hub = json.loads(box.sandbox.hub_record.read_bytes())["pid"]
    os.kill(hub, signal.SIGKILL)
    victims = box.living("n1")
    assert "but the hub" in box.ok("kill", "n1")
    assert victims
    assert not any(p.alive() for p in victims)


def test_a_registered_process_dies_with_its_node_and_none_registers_on_a_dead_one(box: Box) -> None:
    box.ok("up", "--nodes", "1", "--daemon", DAEMON)
    home = box.sandbox.node("n1")
    code = (
        "import sys, time, pathlib; from libo2cb.sandbox.homes import register_process;"
        f"register_process(pathlib.Path({str(home.root)!r}), 'mount'); print('in', flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as client:
        assert client.stdout is not None
        assert client.stdout.readline() == "in\n"
        box.ok("kill", "n1")
        assert client.wait(PATIENCE) == -signal.SIGKILL
    with pytest.raises(SandboxError, match="n1 is off; switch it on"):
        register_process(home.root)


def test_records_of_clients_that_have_ended_do_not_pile_up(box: Box) -> None:
    box.ok("up", "--nodes", "1", "--daemon", DAEMON)
    home = box.sandbox.node("n1")
    with subprocess.Popen(["sleep", "600"]) as client:
        living = Process.of(client.pid)
        assert living is not None
        for started in range(3):
            register_process(home.root, f"ended{started}", Process(client.pid, started))
        register_process(home.root, "mount", living)
        assert sorted(p.stem for p in home.processes.glob("*.json")) == [f"mount-{client.pid}", "o2cb_controld"]
        client.kill()


def test_a_pid_that_is_somebody_elses_by_now_is_left_alone(box: Box) -> None:
    box.ok("up", "--nodes", "1", "--daemon", DAEMON)
    with subprocess.Popen(["sleep", "600"]) as innocent:
        now = Process.of(innocent.pid)
        assert now is not None
        old = Process(now.pid, now.started - 1)
        register_process(box.sandbox.node("n1").root, "mount", old)
        box.ok("kill", "n1")
        assert now.alive()
        innocent.kill()


def test_a_record_that_nobody_understands_is_no_proof_of_death(box: Box) -> None:
    box.ok("up", "--nodes", "1", "--daemon", DAEMON)
    record = box.sandbox.node("n1").processes / "mount-1.json"
    record.write_text("{")
    assert "cannot be verified to be off" in box.refused("kill", "n1")
    record.unlink()
    assert "n1 is off: verified" in box.ok("kill", "n1")


def test_a_node_may_switch_itself_off(box: Box) -> None:
    own = f"{sys.executable} -m libo2cb.sandbox.cli --home {box.sandbox.root} kill n1"
    box.ok("up", "--nodes", "2", "--daemon", DAEMON)
    box.ok("kill", "n1")
    box.run("start", "n1", "--daemon", DAEMON, "--daemon", f"suicide=sh -c '{own}; sleep 600'")
    wait(lambda: [x["op"] for x in box.history() if x.get("node") == 1].count("dead") == 2)
    assert box.living("n1") == []
    assert box.living("n2")


def test_a_paused_node_is_stopped_and_lost_and_comes_back(box: Box) -> None:
    box.ok("up", "--nodes", "3", "--daemon", DAEMON)
    wait(lambda: len(box.living("n3")) == 2)
    box.ok("pause", "n3")

    def states() -> set[str]:
        return {psutil.Process(p.pid).status() for p in box.living("n3")}

    wait(lambda: states() == {psutil.STATUS_STOPPED})
    status = box.status()
    assert (status["n3"]["engine"], status["n1"]["members"]) == ("hung", [1, 2])
    box.ok("resume", "n3")
    wait(lambda: psutil.STATUS_STOPPED not in states())
    assert box.status()["n1"]["members"] == [1, 2, 3]
    assert "not hung" in box.refused("resume", "n3")
    box.ok("pause", "n3")
    assert "n3 is off: verified" in box.ok("kill", "n3"), "a paused node can be switched off"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("hold", "n1", "ocfs2_controled"), "invalid choice: 'ocfs2_controled'"),
        (("release", "n1", "ocfs2_controld.chanel"), "invalid choice: 'ocfs2_controld.chanel'"),
        (("order", "n1", "o2cb_controld,ocfs2"), '"ocfs2" is no daemon'),
    ],
)
def test_a_stream_that_is_none_is_wrong_usage(box: Box, words: tuple[str, ...], says: str) -> None:
    """It would be held, and whoever waits for what follows would wait for ever."""
    done = box.run(*words)
    assert done.returncode == 2
    assert says in done.stderr


def test_words_for_the_engine(box: Box) -> None:
    box.ok("up", "--nodes", "3", "--daemon", DAEMON)
    box.ok("cut", "n1,n2|n3")
    status = box.status()
    assert [status[n]["members"] for n in ("n1", "n3")] == [[1, 2], [3]]
    box.ok("heal")
    box.ok("readdress", "n2", "10.0.0.22")
    box.ok("order", "n1", "o2cb_controld,ocfs2_controld")
    box.ok("hold", "n1", "ocfs2_controld.channel")
    assert "order o2cb_controld,ocfs2_controld; hold ocfs2_controld.channel" in box.ok("status")
    box.ok("release", "n1", "ocfs2_controld")
    box.ok("order", "n1", "-")
    status = box.status()
    assert (status["n1"]["order"], status["n1"]["holds"]) == ([], [])
    assert (status["n2"]["address"], status["n1"]["members"]) == ("10.0.0.22", [1, 2, 3])
    for do, state in (
        ("stop", "down"),
        ("start", "up"),
        ("restart", "up"),
        ("hang", "hung"),
        ("resume", "up"),
        ("kill", "down"),
    ):
        box.ok("engine", "n3", do)
        assert box.status()["n3"]["engine"] == state
    assert "allowed" in box.ok("ask-shutdown", "n2"), "nobody was there to say no"
    assert "is down" in box.refused("ask-shutdown", "n2")
    assert "empty side" in box.refused("cut", "n1|")
    assert "the nodes are n1, n2, n3" in box.refused("cut", "n7")
    assert "its nodes are n1, n2, n3" in box.refused("kill", "n7")


def test_the_configuration_is_what_the_daemons_read(box: Box) -> None:
    write_config(box.sandbox, "n1", Settings(mount=7.0, grace=5.0, join_delay=0.0, port=7001))
    home = box.sandbox.node("n1")
    read = config.load(home.config)
    assert (read.engine.kind, read.engine.hub, read.engine.node) == ("sandbox", str(box.sandbox.hub), "n1")
    assert (read.kernel.driver, read.kernel.root) == ("sandbox", home.root / "kernel")
    assert (read.sockets.clients, read.sockets.ordering) == (str(home.clients), str(home.ordering))
    assert read.sockets.run == home.run
    assert (read.cluster.port, read.timeouts.mount, read.timeouts.grace, read.timeouts.join_delay) == (7001, 7, 5, 0)
    assert (read.fencing.kind, read.fencing.command[1:]) == (
        "command",
        ("-m", "libo2cb.sandbox.cli", "--home", str(box.sandbox.root), "kill"),
    )
    assert read.log.format == "json"
    write_config(box.sandbox, "n1", Settings(fencing="none"))
    assert config.load(home.config).fencing.kind == "none"


def test_fencing_is_a_kill_with_the_nodes_name_behind_it(box: Box) -> None:
    box.ok("up", "--nodes", "2", "--daemon", DAEMON)
    command = config.load(box.sandbox.node("n1").config).fencing.command
    victims = box.living("n2")
    done = subprocess.run([*command, "n2"], check=True, capture_output=True, text=True, timeout=60)
    assert done.stdout.startswith("n2 is off: verified")
    assert not any(p.alive() for p in victims)


def test_a_directory_that_is_too_long_is_refused() -> None:
    with pytest.raises(SandboxError, match=r"bytes too long.*108"):
        Sandbox(Path("/home") / ("x" * 90)).check_room(["n1"])
    Sandbox(Path("/home/short")).check_room(["n1", "n100"])


def test_a_hub_that_cannot_start_is_an_error_with_its_reason(box: Box) -> None:
    (box.sandbox.root / "hub.jsonl").mkdir()
    assert "the hub did not start" in box.refused("up", "--nodes", "1", "--daemon", DAEMON)


def test_a_daemon_that_cannot_be_started_leaves_the_node_off(box: Box) -> None:
    box.ok("up", "--nodes", "1", "--daemon", DAEMON)
    box.ok("kill", "n1")
    home = box.sandbox.node("n1")
    (home.log / "second.jsonl").mkdir()
    assert "cannot start sleep 600" in box.refused("start", "n1", "--daemon", DAEMON, "--daemon", "second=sleep 600")
    assert not home.mark.exists()
    assert box.living("n1") == []
    assert box.status()["n1"]["engine"] == "down"


def test_up_takes_over_what_an_earlier_sandbox_left(box: Box) -> None:
    box.ok("up", "--nodes", "1", "--daemon", DAEMON)
    left = box.living("n1")
    os.kill(json.loads(box.sandbox.hub_record.read_bytes())["pid"], signal.SIGKILL)
    assert "up: n1" in box.ok("up", "--nodes", "1", "--daemon", DAEMON)
    assert left
    assert not any(p.alive() for p in left)
