"""The import rule: daemons -> libo2cb -> protocol, no daemon imports the other, and what decides is pure."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RANK = {"protocol": 0, "libo2cb": 1, "o2cb_controld": 2, "ocfs2_controld": 2}

SHELLS = {
    "o2cb_controld.__main__",
    "o2cb_controld.daemon",
    "o2cb_controld.documents",
    "o2cb_controld.hands",
    "o2cb_controld.report",
    "ocfs2_controld.__main__",
    "ocfs2_controld.clients",
    "ocfs2_controld.daemon",
    "ocfs2_controld.devices",
    "ocfs2_controld.errands",
    "ocfs2_controld.fence_command",
    "ocfs2_controld.holders",
    "ocfs2_controld.neighbour",
    "ocfs2_controld.report",
}
"""The modules of the daemons that may touch the world. Everything else in them is a mind."""

PURE_LIBRARY = {
    "libo2cb.engine.corosync.assembler",
    "libo2cb.engine.corosync.nodelist",
    "libo2cb.engine.corosync.said",
    "libo2cb.engine.advice",
    "libo2cb.engine.model",
    "libo2cb.engine.port",
    "libo2cb.events",
    "libo2cb.kernel.port",
    "libo2cb.machine",
}

IMPURE = frozenset(
    """
    _thread asyncio concurrent contextvars ctypes datetime fcntl glob grp http importlib io locale logging mmap
    multiprocessing os pathlib platform psutil pty pwd pydantic queue random resource sched secrets select selectors
    shutil signal socket socketserver ssl structlog subprocess sys syslog tempfile termios threading time tty uuid
    """.split()  # noqa: SIM905 (a list of fifty words, one a line, is nobody's reading)
)
"""Input and output, clocks, chance, threads, and what would read them."""

HARMLESS = frozenset({"os.fsdecode", "os.fsencode", "os.fspath", "os.strerror"})
"""Functions of a module above that only turn one value into another."""


@cache
def modules() -> dict[str, Path]:
    found = {}
    for package in RANK:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imported(source: str, module: str, *, is_package: bool = False) -> Iterator[str]:
    """The full names that a module's source imports, wherever in it; "from a import b" gives a and a.b."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from uses(tree) if (alias.name, alias.asname) == ("os", None) else [alias.name]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = module.split(".")
                up = parts[: len(parts) - node.level + is_package]
                base = ".".join([*up, base] if base else up)
            if base != "os":
                yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in {"__import__", "open"}:
            yield {"__import__": "importlib", "open": "io"}[node.func.id]


def uses(tree: ast.AST) -> Iterator[str]:
    """What a module that imports os uses of it; os as a whole where it is more than the owner of an attribute."""
    owners = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
    attributes = [node for node in owners if isinstance(node.value, ast.Name) and node.value.id == "os"]
    yield from (f"os.{node.attr}" for node in attributes)
    if sum(isinstance(node, ast.Name) and node.id == "os" for node in ast.walk(tree)) > len(attributes):
        yield "os"


@cache
def imports_of(module: str) -> frozenset[str]:
    path = modules()[module]
    return frozenset(imported(path.read_text(), module, is_package=path.name == "__init__.py"))


def ours(names: frozenset[str]) -> set[str]:
    """The modules of the project among these names, with the packages that are imported on the way to them."""
    found = set()
    for name in names:
        parts = name.split(".")
        found |= {prefix for i in range(1, len(parts) + 1) if (prefix := ".".join(parts[:i])) in modules()}
    return found


def top(name: str) -> str:
    return name.partition(".")[0]


def upward(module: str, names: frozenset[str]) -> list[str]:
    """What a module of this name may not import of ours."""
    mine = top(module)
    return sorted(
        name for name in names if (rank := RANK.get(top(name))) is not None and top(name) != mine and rank >= RANK[mine]
    )


def impurities(module: str) -> list[str]:
    """Ways from a module to something impure, through modules of ours."""
    paths: dict[str, str] = {module: module}
    todo = [module]
    found = []
    while todo:
        current = todo.pop()
        names = imports_of(current)
        found += [
            f"{paths[current]} -> {name}" for name in sorted(names) if top(name) in IMPURE and name not in HARMLESS
        ]
        for following in sorted(ours(names) - paths.keys()):
            paths[following] = f"{paths[current]} -> {following}"
            todo.append(following)
    return found


def pure() -> list[str]:
    minds = {name for name in modules() if RANK[top(name)] == RANK["o2cb_controld"]} - SHELLS
    return sorted(minds | PURE_LIBRARY & modules().keys() | {name for name in modules() if top(name) == "protocol"})


@pytest.mark.parametrize("module", sorted(modules()))
def test_imports_run_downwards_only_and_no_daemon_imports_the_other(module: str) -> None:
    assert upward(module, imports_of(module)) == []


@pytest.mark.parametrize("module", pure())
def test_what_decides_imports_no_io_no_clock_and_no_chance(module: str) -> None:
    assert impurities(module) == []


def test_the_project_has_its_four_packages() -> None:
    assert {top(module) for module in modules()} == set(RANK)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("protocol.x", "import libo2cb.events"),
        ("libo2cb.x", "from o2cb_controld import daemon"),
        ("o2cb_controld.x", "def f():\n    from ocfs2_controld.state import State"),
        ("ocfs2_controld.x", "import o2cb_controld.state as s"),
    ],
)
def test_the_rule_sees_an_import_upwards(module: str, source: str) -> None:
    assert upward(module, frozenset(imported(source, module)))


@pytest.mark.parametrize(
    "source",
    [
        "import os\nos.stat",
        "import os\nf(os)",
        "import os as o",
        "from os import read",
        "from time import monotonic",
        "def f():\n    import random",
        "open('x')",
        "__import__('os')",
    ],
)
def test_the_rule_sees_what_is_impure(source: str) -> None:
    assert {top(name) for name in set(imported(source, "protocol.x")) - HARMLESS} & IMPURE


@pytest.mark.parametrize("source", ["import os\nos.strerror(2)", "from os import fsencode", "import errno"])
def test_the_rule_lets_pass_what_only_turns_one_value_into_another(source: str) -> None:
    assert not {top(name) for name in set(imported(source, "protocol.x")) - HARMLESS} & IMPURE


def test_the_rule_follows_imports_through_our_own_modules() -> None:
    ways = impurities("libo2cb.service.client")
    assert any(way.startswith("libo2cb.service.client -> libo2cb.service.stream -> ") for way in ways)


def test_relative_imports_are_followed() -> None:
    assert set(imported("from . import a\nfrom ..b import c", "p.q.r")) == {"p.q", "p.q.a", "p.b", "p.b.c"}
    assert set(imported("from . import a", "p.q", is_package=True)) == {"p.q", "p.q.a"}
