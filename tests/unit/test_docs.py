"""README and docs say what the code does: keys, events, codes, screens, laws are compared; the walk-through is run."""

import argparse
import ast
import errno
import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import tomllib
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from libo2cb.config import Config, ConfigError, parse
from libo2cb.events import Event
from libo2cb.sandbox.cli import _parser as sandbox_parser
from libo2cb.tools.verdict import EXITS
from tests.keeper import kept
from tests.laws import NOT_YET, NUMBER_OF_LAWS, RULES, WITHOUT_JUDGE

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.glob("*.md"))]
PACKAGES = ("protocol", "libo2cb", "o2cb_controld", "ocfs2_controld")
PATIENCE = 600.0

_FENCE = re.compile(r"^```(?P<info>[^\n`]*)\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page: Path) -> list[tuple[str, str]]:
    """The fenced blocks of a page: what stands behind the fence, and the text."""
    return [(m["info"].strip(), m["body"]) for m in _FENCE.finditer(page.read_text())]


def rows(text: str) -> Iterator[list[str]]:
    """The rows of all tables, without their heads."""
    for line in text.splitlines():
        if line.startswith("|"):
            cells = [cell.strip().replace(r"\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
            if not set("".join(cells)) <= set("-:"):
                yield cells


def section(text: str, heading: str) -> str:
    """What stands under a heading, up to the next heading of any kind."""
    begin = text.index(f"\n{heading}\n") + len(heading) + 2
    return re.split(r"^#", text[begin:], maxsplit=1, flags=re.MULTILINE)[0]


# The configuration.


def tables() -> dict[str, type[BaseModel]]:
    found = {name: field.annotation for name, field in Config.model_fields.items()}
    return {name: it for name, it in found.items() if isinstance(it, type) and issubclass(it, BaseModel)}


def documented(table: str) -> dict[str, list[str]]:
    text = section((DOCS / "configuration.md").read_text(), f"### [{table}]")
    return {cells[0].strip("`"): cells for cells in rows(text) if cells[0].startswith("`")}


def shown_default(field: FieldInfo) -> str:
    value: Any = field.default
    if field.is_required():
        return "needed"
    if value is None:
        return "none"
    if isinstance(value, tuple):
        return f"`{list(value)}`"
    return f'`"{value}"`' if isinstance(value, str | Path) else f"`{value}`"


def test_every_table_of_the_configuration_is_documented_and_no_other() -> None:
    headings = re.findall(r"^### \[(\w+)\]$", (DOCS / "configuration.md").read_text(), re.MULTILINE)
    assert headings == ["cluster", "engine", "kernel", "sockets", "fencing", "log", "timeouts", "status"]
    assert set(headings) == set(tables())


@pytest.mark.parametrize("table", sorted(tables()))
def test_every_key_is_documented_with_its_default_and_its_limits_and_no_other(table: str) -> None:
    found, fields = documented(table), tables()[table].model_fields
    assert list(found) == list(fields)
    for name, (_, unit, default, limits, meaning) in found.items():
        assert unit, name
        assert meaning.endswith("."), name
        assert default == shown_default(fields[name]), name
        for metadata in fields[name].metadata:
            for bound in ("ge", "gt", "le", "lt"):
                value = getattr(metadata, bound, None)
                assert value is None or str(value) in re.findall(r"\d+", limits), (name, bound)


def test_each_choice_is_documented() -> None:
    for table, model in tables().items():
        for name, field in model.model_fields.items():
            for choice in re.findall(r"'(\w+)'", str(field.annotation)) if "Literal" in str(field.annotation) else ():
                assert f"`{choice}`" in documented(table)[name][3], (table, name, choice)


def test_the_examples_of_the_configuration_load() -> None:
    examples = [parse(body) for info, body in blocks(DOCS / "configuration.md") if info == "toml"]
    assert {(e.engine.kind, e.kernel.driver) for e in examples} == {("sandbox", "sandbox"), ("corosync", "links")}


def test_the_error_is_the_one_that_is_shown() -> None:
    by_info = dict(blocks(DOCS / "configuration.md"))
    with pytest.raises(ConfigError) as caught:
        parse(by_info["toml error"])
    assert str(caught.value) == by_info["text error"].rstrip("\n")


# The messages.


def logged() -> dict[str, set[str]]:
    """By member of Event: the fields of each log(Event.X, ...) in the code."""
    found: dict[str, set[str]] = defaultdict(set)
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                match node:
                    case ast.Call(ast.Name("log"), [ast.Attribute(ast.Name("Event" | "Logged"), name), *_], keywords):
                        found[name] |= {k.arg for k in keywords if k.arg and k.arg != "level"}
    return found


def test_every_event_is_documented_once_and_no_other() -> None:
    text = (DOCS / "messages.md").read_text()
    events = text[text.index("## Events of either daemon") : text.index("## STATUS codes")]
    found = [cells[0].strip("`") for cells in rows(events) if cells[0].startswith("`")]
    assert found == [event.value for event in Event]


def test_the_fields_of_an_event_are_those_that_the_code_logs() -> None:
    fields, checked = logged(), 0
    text = (DOCS / "messages.md").read_text()
    for word, said, meaning, do in (
        cells for cells in rows(text) if len(cells) == 4 and cells[0].strip("`") in {*Event}
    ):
        name = Event(word.strip("`")).name
        assert fields.get(name, set()) <= set(re.split(r",\s*", said)), word
        assert meaning.endswith("."), word
        assert do, word
        checked += bool(fields.get(name))
    assert checked > 60, "the events are found in the code"


def test_every_status_code_of_the_code_is_documented() -> None:
    used: set[str] = set()
    answering = [path for path in (ROOT / "ocfs2_controld").glob("*.py") if path.name != "hands.py"]
    for path in (*answering, ROOT / "o2cb_controld" / "ledger.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.ImportFrom("errno", names):
                    used |= {name.name for name in names if name.name.isupper()}
                case ast.Attribute(ast.Name("errno"), name) if name.isupper():
                    used.add(name)
    text = (DOCS / "messages.md").read_text()
    table = {cells[1]: cells[0] for cells in rows(text[text.index("## STATUS codes") :]) if len(cells) == 4}
    assert used
    assert used - set(table) == set()
    assert all(str(getattr(errno, name)) == code for name, code in table.items() if name.startswith("E"))


# Status.


def test_the_screens_are_the_expected_ones() -> None:
    shown = {info.removeprefix("text "): body for info, body in blocks(DOCS / "status.md") if info.startswith("text ")}
    assert len(shown) > 4
    expected = ROOT / "tests" / "unit" / "expected"
    assert shown == {name: (expected / name).read_text() for name in shown}


def test_the_exit_codes_are_those_of_the_code() -> None:
    text = section((DOCS / "status.md").read_text(), "## Exit codes of `ocfs2_hb_ctl -I`")
    found = {word: int(cells[0]) for cells in rows(text) for word in re.findall(r"`(\w+)`", " ".join(cells[1:]))}
    assert found == {verdict.value: code for verdict, code in EXITS.items()}


# The design.


def test_every_law_is_listed_with_the_file_of_its_judge() -> None:
    text = section((DOCS / "design.md").read_text(), "## Laws")
    table = {int(cells[0]): cells for cells in rows(text) if cells[0].isdigit()}
    assert set(table) == set(range(1, NUMBER_OF_LAWS + 1))
    for rule in RULES:
        name = rule.__module__.rpartition(".")[2]
        assert f"tests/laws/judges/{name}.py" in table[rule.law][2], rule.law
    for law in WITHOUT_JUDGE:
        assert "tests/laws" not in table[law][2], law
    assert all("not yet" in table[it.law][2] for it in NOT_YET)


def test_every_story_of_lock_and_queue_is_linked() -> None:
    text = (DOCS / "design.md").read_text()
    stories = sorted((ROOT / "tests" / "transcripts" / "pair").glob("*.txt"))
    assert len(stories) >= 16
    assert [s.name for s in stories if f"../tests/transcripts/pair/{s.name}" not in text] == []


# All pages.


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text())
    assert [t for t in targets if "://" not in t and not (page.parent / t).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_module_and_target_that_is_named_is_there(page: Path) -> None:
    text = page.read_text()
    modules = set(re.findall(r"python -m ([\w.]+)", text)) - {"venv", "pip"}
    assert [m for m in modules if importlib.util.find_spec(m) is None] == []
    made = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"(?:`|^)make ([a-z]+)", text, re.MULTILINE)) <= made


def test_the_readme_shows_what_the_demo_plays() -> None:
    shown = next(body for info, body in blocks(ROOT / "README.md") if info == "text demo")
    scenes = (ROOT / "tests" / "demo" / "scenes.py").read_text()
    titles = re.findall(r"^== \d+\. (.*?) =+$", shown, re.MULTILINE)
    assert titles
    assert [title for title in titles if f'"{title}"' not in scenes] == []
    assert shown.splitlines()[-1] == "demo: 0 laws broken"


def test_every_command_of_the_sandbox_is_documented_with_its_options_and_no_other() -> None:
    text = section((DOCS / "sandbox.md").read_text(), "## Commands")
    found: dict[str, set[str]] = {}
    for cells in rows(text):
        for form in re.findall(r"`([^`]+)`", cells[0]):
            found.setdefault(form.split()[0], set()).update(re.findall(r"--[a-z-]+", form))
    parser = sandbox_parser()
    words = next(a for a in parser._actions if isinstance(a, argparse._SubParsersAction)).choices
    known = {
        name: {o for a in word._actions if a.help is not argparse.SUPPRESS for o in a.option_strings if len(o) > 2}
        for name, word in words.items()
    }
    assert found == {name: options - {"--help"} for name, options in known.items()}


# The walk-through.


@pytest.fixture
def home() -> Iterator[Path]:
    """A home directory with our commands in it; whatever a sandbox in it has started is ended."""
    made = Path(tempfile.mkdtemp(prefix="walk"))  # pytest's directories are too long for a Unix socket's name
    commands = made / "bin"
    commands.mkdir()
    with (ROOT / "pyproject.toml").open("rb") as file:
        scripts = tomllib.load(file)["project"]["scripts"]
    for name, target in scripts.items():
        module, function = target.split(":")
        code = f"#!{sys.executable}\nimport sys\nfrom {module} import {function}\nsys.exit({function}())\n"
        (commands / name).write_text(code)
        (commands / name).chmod(0o755)
    (commands / "python").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    (commands / "python").chmod(0o755)
    try:
        with kept(made / "box", made):
            yield made
    finally:
        for box in made.glob("*/hub.json"):
            command = (sys.executable, "-m", "libo2cb.sandbox.cli", "--home", str(box.parent), "down")
            subprocess.run(command, check=True, cwd=ROOT, timeout=60, capture_output=True)
        shutil.rmtree(made)


def walk() -> list[tuple[str, list[str]]]:
    """The snippets to run, each with the lines that are shown for it."""
    found: list[tuple[str, list[str]]] = []
    for info, body in blocks(DOCS / "sandbox.md"):
        if info == "sh run":
            found.append((body, []))
        elif info == "text":
            found[-1][1].extend(body.splitlines())
    return found


def plain(line: str) -> str:
    """A line without what differs from run to run: times, pids, the width of columns."""
    line = re.sub(r"\b\d+(\.\d+)? s\b", "# s", line)
    line = re.sub(r"\bup \d+\w+", "up #", line)
    line = re.sub(r"\bpid \d+", "pid #", line)
    return " ".join(line.split())


def follows(shown: list[str], said: list[str]) -> str:
    """The first shown line that does not come in what was said, in this order; empty when all do."""
    lines = iter([plain(line) for line in said])
    for line in shown:
        begin, dots, _ = line.partition("...")
        if line != "..." and not any(said.startswith(plain(begin)) if dots else said == plain(begin) for said in lines):
            return line
    return ""


@pytest.mark.process
def test_the_walk_through_goes_as_it_stands_there(home: Path) -> None:
    steps = walk()
    assert len(steps) > 10
    script = "set -eu\n" + "".join(f"echo '@@ {i}'\n{body}" for i, (body, _) in enumerate(steps)) + "echo '@@ end'\n"
    environ = {
        **{k: v for k, v in os.environ.items() if not k.startswith(("O2CB_", "OCFS2_"))},
        "HOME": str(home),
        "PATH": f"{home / 'bin'}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
    }
    with subprocess.Popen(
        ("bash", "-c", script),
        cwd=ROOT,
        env=environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as shell:
        try:
            output, _ = shell.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            os.killpg(shell.pid, signal.SIGKILL)
            pytest.fail(f"it hangs after:\n{shell.communicate()[0]}")
    said = re.split(r"^@@ .*\n", output, flags=re.MULTILINE)[1:]
    assert shell.returncode == 0, output
    assert len(said) == len(steps) + 1
    for (body, shown), text in zip(steps, said, strict=False):
        assert follows(shown, text.splitlines()) == "", f"shown for\n{body}\nand not said in\n{text}"
    assert not (home / "box" / "hub.json").exists(), "all has ended"
