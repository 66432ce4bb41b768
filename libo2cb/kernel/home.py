"""A sandbox home: its places, the lock of its tree, and the renames that change it. sandbox.py tells the whole idea."""

import contextlib
import fcntl
import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

from libo2cb.kernel.journal import Entry, Journal

_NO_INSTANT = (0, 0)


class SandboxHome:
    """The places of a home, its lock, and the three renames that change the tree.

    Args:
        home: the node's home.
    """

    def __init__(self, home: Path) -> None:
        kernel = home / "kernel"
        self.kernel = kernel
        self.tree = kernel / "tree"
        self.boot_id = kernel / "boot_id"
        self.addresses = kernel / "addresses"
        self.faults = kernel / "faults.json"
        self.stops = kernel / "stops.json"
        self.journal = home / "log" / "kernel.jsonl"
        self._aside = kernel / "aside"
        self._lock = kernel / "lock"

    def make(self) -> None:
        """Make the directories of a home that is new."""
        self._aside.mkdir(parents=True, exist_ok=True)
        self.journal.parent.mkdir(parents=True, exist_ok=True)

    @contextlib.contextmanager
    def locked(self) -> Iterator[Journal]:
        """Hold the lock, with the journal open and what a killed caller left put right."""
        fd = os.open(self._lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            for left in self._aside.iterdir():
                _remove(left)
            with Journal(self.journal) as journal:
                self.settle(journal)
                yield journal
        finally:
            # Unlocked and not only closed: a child that this process forks just now has a copy of fd until it execs.
            fcntl.flock(fd, fcntl.LOCK_UN)
            os.close(fd)

    def settle(self, journal: Journal) -> None:
        """Mark the journal's last line as undone if its effect is missing."""
        last = journal.last
        if last and last["errno"] == 0 and not self._stands(last):
            journal.append({"call": "undone", "path": last["path"], "errno": 0, "undoes": last["seq"]})

    def _stands(self, entry: Entry) -> bool:
        """Whether the effect of the last line of the journal is there."""
        path = self.tree / entry["path"]
        match entry["call"]:
            case "mkdir" | "symlink":
                return os.path.lexists(path)
            case "rmdir" | "unlink":
                return not os.path.lexists(path)
            case "write":
                return os.path.lexists(path) and path.read_bytes() == entry["content"].encode() and written(path)
            case "boot":
                return self.tree.is_dir() and self.boot_id.read_text().strip() == entry["boot"]
            case "clear":
                return not self.tree.exists()
            case _:
                return True

    def prepare_directory(self, content: dict[str, dict[str, bytes] | bytes]) -> Path:
        """A directory in aside/ with these attributes and directories of attributes, none ever written."""
        root = self._aside / "new"
        root.mkdir()
        for name, what in content.items():
            if isinstance(what, bytes):
                _default(root / name, what)
                continue
            (root / name).mkdir()
            for attribute, text in what.items():
                _default(root / name / attribute, text)
        return root

    def prepare_file(self, content: bytes) -> Path:
        """A file in aside/."""
        path = self._aside / "new"
        path.write_bytes(content)
        return path

    def prepare_link(self, text: str) -> Path:
        """A symbolic link in aside/."""
        path = self._aside / "new"
        path.symlink_to(text)
        return path

    def move_out(self, path: Path) -> None:
        """Make the path vanish at once, and take apart what it was."""
        gone = self._aside / "gone"
        path.rename(gone)
        with contextlib.suppress(OSError):  # it is gone from the tree; the next caller tries again
            _remove(gone)


def _default(path: Path, text: bytes) -> None:
    path.write_bytes(text)
    os.utime(path, _NO_INSTANT)


def written(path: Path) -> bool:
    """Whether an attribute was ever written."""
    return path.stat().st_mtime_ns != 0


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def boot(home: Path, addresses: frozenset[str] | None = None) -> str:
    """Begin a new life of the node: a new boot id and an empty tree. Makes the home's directories where needed.

    Args:
        home: the node's home.
        addresses: the addresses of this host, which alone a local node may have; None: any.

    Returns:
        The boot id.
    """
    at = SandboxHome(home)
    at.make()
    boot_id = str(uuid.uuid4())
    with at.locked() as journal:
        if at.tree.exists():
            journal.append({"call": "clear", "path": "", "errno": 0})
            at.move_out(at.tree)
        if addresses is None:
            at.addresses.unlink(missing_ok=True)
        else:
            at.prepare_file("".join(f"{a}\n" for a in sorted(addresses)).encode()).replace(at.addresses)
        journal.append({"call": "boot", "path": "", "errno": 0, "boot": boot_id})
        at.prepare_file(boot_id.encode() + b"\n").replace(at.boot_id)
        at.prepare_directory({}).replace(at.tree)
    return boot_id


def clear(home: Path) -> None:
    """What a power-off leaves of the tree: nothing, at once. Every call is ENOENT until the next boot."""
    at = SandboxHome(home)
    with at.locked() as journal:
        if at.tree.exists():
            journal.append({"call": "clear", "path": "", "errno": 0})
            at.move_out(at.tree)


def _change_faults(home: Path, call: str, path: str, code: int | None) -> None:
    at = SandboxHome(home)
    with at.locked():
        faults = {(c, p): e for c, p, e in read_faults(at.faults)}
        faults.pop((call, path), None)
        if code is not None:
            faults[call, path] = code
        at.prepare_file(json.dumps([[c, p, e] for (c, p), e in faults.items()]).encode()).replace(at.faults)


def set_fault(home: Path, call: str, path: str, code: int) -> None:
    """Let a call answer this errno until clear_fault: rmdir of "c/node/n3" EBUSY stands for "something else pins it".

    It is answered where configfs would answer it: after the path itself was looked up (ENOENT, EEXIST), before all
    other rules. Faults outlive a boot.

    Args:
        home: the node's home.
        call: mkdir, rmdir, symlink, unlink, write, read, listdir or readlink.
        path: below the cluster root; a shell pattern ("*/heartbeat/*/*": a kernel whose regions allow no links).
        code: the errno.
    """
    _change_faults(home, call, path, code)


def clear_fault(home: Path, call: str, path: str) -> None:
    """Take a fault back; nothing when there is none."""
    _change_faults(home, call, path, None)


def read_faults(path: Path) -> list[tuple[str, str, int]]:
    """The faults that are set, as (call, pattern, errno)."""
    try:
        return [(c, p, e) for c, p, e in json.loads(path.read_bytes())]
    except FileNotFoundError:
        return []


def set_stop(home: Path, call: str, path: str) -> None:
    """Let whoever makes this call be stopped (SIGSTOP) right after its effect, and before it learns of it.

    So a test has all the time that it wants between two system calls of a daemon. The lock is free by then. Until
    clear_stop; a refused call stops nobody.

    Args:
        home: the node's home.
        call: mkdir, rmdir, symlink, unlink or write.
        path: below the cluster root; a shell pattern.
    """
    _change_stops(home, lambda stops: [*stops, (call, path)])


def clear_stop(home: Path, call: str, path: str) -> None:
    """Take a stop back; nothing when there is none. Whoever is stopped needs a SIGCONT all the same."""
    _change_stops(home, lambda stops: [stop for stop in stops if stop != (call, path)])


def _change_stops(home: Path, change: Callable[[list[tuple[str, str]]], list[tuple[str, str]]]) -> None:
    at = SandboxHome(home)
    with at.locked():
        at.prepare_file(json.dumps(change(read_stops(at.stops))).encode()).replace(at.stops)


def read_stops(path: Path) -> list[tuple[str, str]]:
    """The stops that are set, as (call, pattern)."""
    try:
        return [(c, p) for c, p in json.loads(path.read_bytes())]
    except FileNotFoundError:
        return []
