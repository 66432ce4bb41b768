"""Minds that are broken on purpose, by the edits of tests/mutation, for as long as a test lasts."""

import ast
import importlib
import inspect
import sys
from collections.abc import Sequence

import pytest

from tests.mutation.catalog import MUTATIONS


def break_minds(monkeypatch: pytest.MonkeyPatch, names: Sequence[str]) -> None:
    """Make these edits, each of which has to be inside of a function.

    Raises:
        LookupError: there is no such edit, or its text is not in one function.
    """
    edits: dict[str, list[tuple[str, str]]] = {}
    for name in names:
        edit = next((m for m in MUTATIONS if m.name == name), None)
        if edit is None:
            raise LookupError(f"no edit is called {name}")
        edits.setdefault(edit.file.removesuffix(".py").replace("/", "."), []).append((edit.old, edit.new))
    for module, texts in edits.items():
        _edit(monkeypatch, module, texts)


def _edit(monkeypatch: pytest.MonkeyPatch, name: str, texts: Sequence[tuple[str, str]]) -> None:
    module = importlib.import_module(name)
    before = inspect.getsource(module)
    after = before
    for old, new in texts:
        if after.count(old) != 1:
            raise LookupError(f"{name} does not have this once: {old}")
        after = after.replace(old, new)
    was, now = _functions(before), _functions(after)
    changed = {f: node for f, node in now.items() if ast.dump(node) != ast.dump(was[f])}
    if not changed:
        raise LookupError(f"the edits of {name} are in no function")
    for function, node in changed.items():
        made: dict[str, object] = {}
        code = compile(ast.Module([node], []), str(module.__file__), "exec")
        exec(code, module.__dict__, made)  # noqa: S102 (our own text, and an edit of the catalog)
        original = getattr(module, function)
        for user in [m for n, m in sys.modules.items() if n.partition(".")[0].endswith("_controld")]:
            if getattr(user, function, None) is original:
                monkeypatch.setattr(user, function, made[function])


def _functions(source: str) -> dict[str, ast.FunctionDef]:
    return {node.name: node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)}


__all__ = ["break_minds"]
