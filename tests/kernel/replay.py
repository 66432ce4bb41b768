"""What a journal says the tree must look like, and what it does look like."""

import os
from pathlib import Path

from libo2cb.kernel import rules
from libo2cb.kernel.journal import Entry, effects

Tree = dict[str, bytes | str | None]
"""Path to content: None for a directory, bytes for an attribute, "-> path" for a link."""


def replay(entries: list[Entry]) -> Tree | None:
    """The tree after these journal lines; None when there is none. Fails on a line that cannot follow the others."""
    tree: Tree | None = None
    for entry in effects(entries):
        path: str = entry["path"]
        match entry["call"]:
            case "boot":
                tree = {}
                continue
            case "clear":
                tree = None
                continue
        assert tree is not None, entry
        parent = path.rpartition("/")[0]
        match entry["call"]:
            case "mkdir":
                assert path not in tree, entry
                assert not parent or tree[parent] is None, entry
                tree |= _made(path)
            case "symlink":
                assert path not in tree, entry
                assert tree[entry["target"]] is None, entry
                tree[path] = f"-> {entry['target']}"
            case "write":
                assert isinstance(tree[path], bytes), entry
                tree[path] = entry["content"].encode()
            case "unlink":
                assert isinstance(tree.pop(path), str), entry
            case "rmdir":
                assert f"-> {path}" not in tree.values(), entry
                inside = [p for p in tree if p == path or p.startswith(f"{path}/")]
                assert path in inside, entry
                for p in inside:
                    del tree[p]
    return tree


def _made(path: str) -> Tree:
    made: Tree = {path: None}
    match path.split("/"):
        case [_]:
            made |= {f"{path}/{a}": text for a, text in rules.CLUSTER_DEFAULTS.items()}
            made |= {f"{path}/node": None, f"{path}/heartbeat": None}
            made |= {f"{path}/heartbeat/{a}": text for a, text in rules.HEARTBEAT_DEFAULTS.items()}
        case [_, "node", _]:
            made |= {f"{path}/{a}": text for a, text in rules.NODE_DEFAULTS.items()}
        case _:
            made |= {f"{path}/{a}": text for a, text in rules.REGION_DEFAULTS.items()}
    return made


def snapshot(home: Path) -> Tree | None:
    """The tree of a home as it stands, while nobody changes it."""
    root = home / "kernel" / "tree"
    if not root.is_dir():
        return None
    tree: Tree = {}
    for directory, directories, files in os.walk(root):
        for name in directories + files:
            full = Path(directory) / name
            path = str(full.relative_to(root))
            if full.is_symlink():
                target = os.path.normpath(full.parent / full.readlink())
                tree[path] = f"-> {os.path.relpath(target, root)}"
            else:
                tree[path] = full.read_bytes() if full.is_file() else None
    return tree
