"""docs/real-cluster.md against the code and the programs: what it tells operators to write and to type is accepted."""

import importlib.util
import re
import shlex
import shutil
import subprocess
from errno import ENOENT
from pathlib import Path

import pytest

from libo2cb.config import parse
from libo2cb.engine.port import ConfiguredNode, EngineUp
from libo2cb.kernel.links import WHY_NOT
from libo2cb.service.units import UNITS, text
from o2cb_controld import events as told
from o2cb_controld.mind import step
from o2cb_controld.reasons import of_cause
from o2cb_controld.state import Cause, Pin, State
from o2cb_controld.topology import unfit
from tests.unit.test_docs import DOCS, blocks, rows, section

PAGE = DOCS / "real-cluster.md"
COROSYNC = shutil.which("corosync")
PROGRAMS = {
    "apt-get": "apt",
    "systemctl": "systemd",
    "corosync": "corosync",
    "corosync-quorumtool": "corosync",
    "corosync-cfgtool": "corosync",
    "mkfs.ocfs2": "ocfs2-tools",
    "mount": "mount",
    "cat": "coreutils",
    "find": "findutils",
    "python3": "python3",
}
"""What the page has an operator type, and which package has it."""


def snippets(info: str) -> list[str]:
    found = [body for i, body in blocks(PAGE) if i == info]
    assert found, info
    return found


@pytest.mark.parametrize(("number", "driver"), [(0, "classic"), (1, "links")])
def test_each_configuration_is_accepted(number: int, driver: str) -> None:
    config = parse(snippets("toml controld.toml")[number])
    assert (config.engine.kind, config.kernel.driver, config.cluster.name) == ("corosync", driver, "prod")
    assert len(snippets("toml controld.toml")) == 2


@pytest.mark.skipif(COROSYNC is None, reason="corosync is not here (Debian: corosync)")
def test_corosync_accepts_its_configuration(tmp_path: Path) -> None:
    [conf] = snippets("text corosync.conf")
    conf = conf.replace("10.0.0.", "127.0.0.")  # it looks for itself among the nodes
    file = tmp_path / "corosync.conf"
    file.write_text(conf)
    command = [str(COROSYNC), "-t", "-c", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    file.write_text(conf.replace("knet", "knots"))
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode != 0, "corosync -t sees nothing"


def test_the_nodes_of_the_example_can_be_held_and_have_the_name_of_the_volume() -> None:
    [conf] = snippets("text corosync.conf")
    nodes = [
        ConfiguredNode(int(number), name, address)
        for number, name, address in re.findall(r"nodeid: (\d+)\s+name: (\S+)\s+ring0_addr: (\S+)", conf)
    ]
    assert len(nodes) == 2
    assert not unfit(nodes, 7777)
    cluster = re.findall(r"cluster_name: (\S+)", conf)
    assert cluster == re.findall(r'name = "(\S+)"', snippets("toml controld.toml")[0])
    assert set(re.findall(r"--cluster-name=([a-z]+)", PAGE.read_text())) == set(cluster)


def test_the_mount_waits_for_the_unit_and_the_modules_are_those_that_the_unit_and_the_words_name() -> None:
    [line] = snippets("text fstab")
    options = line.split()[3].split(",")
    assert f"x-systemd.requires={UNITS[0]}" in options
    modules = [m for m in snippets("text modules-load.d")[0].splitlines() if not m.startswith("#")]
    assert modules[0] == "ocfs2_nodemanager"
    assert f"modprobe@{modules[0]}.service" in text(UNITS[0], Path("/"))


def test_each_line_to_type_names_programs_units_and_modules_that_exist() -> None:
    known = {*UNITS, "corosync.service", "systemd-modules-load.service", "o2cb.service", "ocfs2.service"}
    for body in snippets("sh"):
        for line in body.splitlines():
            program, *words = shlex.split(line)
            if program.startswith("/opt/ocfs2-controld/bin/"):
                for module in [words[i + 1] for i, w in enumerate(words) if w == "-m"]:
                    assert importlib.util.find_spec(module), line
                continue
            assert program in PROGRAMS, line
            if program == "systemctl":
                verbs = {"disable", "enable", "restart", "status", "daemon-reload", "--now"}
                assert {f"{w}.service" for w in words if w not in verbs} <= known, line


def sentences() -> list[str]:
    """What the daemons say in the cases of the page's last table, each made by the code that says it."""
    up = EngineUp("prod", 1, (ConfiguredNode(1, "n1", "10.0.0.1"),))
    state, _ = step(State("classic", 7777), 0.0, up)
    absent, _ = step(state, 0.0, told.KernelUnread(ENOENT))
    _, another = step(state, 0.0, told.KernelRead(("other",), ()))
    _, differs = step(State("classic", 7777, expected="test"), 0.0, up)
    return [
        absent.unready,
        *(str(dict(getattr(a, "fields", ()))) for a in (*another, *differs)),
        unfit([ConfiguredNode(0, "n0", "10.0.0.9")], 7777)[0].why,
        of_cause(Cause(Pin.BLIND, ("F",))),
        WHY_NOT,
    ]


def test_each_trouble_is_named_in_the_words_that_are_said() -> None:
    said = sentences()
    table = [
        cells[0].strip("`") for cells in rows(section(PAGE.read_text(), "## What goes wrong")) if cells[0] != "Said"
    ]
    assert len(table) == 6
    for words in table:
        pattern = ".*".join(re.escape(part.strip()) for part in words.split("..."))
        assert any(re.search(pattern, sentence) for sentence in said), words
