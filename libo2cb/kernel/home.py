"""A sandbox home: its places, the lock of its tree, and the renames that change it. sandbox.py tells the whole idea."""

import contextlib
import fcntl
import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from libo2cb.kernel.journal import Entry, Journal

_NO_INSTANT = (0, 0)
_PAGE = 4096  # no attribute is longer


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
        # As text for what every call needs: a Path costs more than the system call that it is for.
        self.root = os.fspath(self.tree)
        self._beside = os.fspath(self._aside)

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
            for left in os.listdir(self._beside):  # noqa: PTH208 (names are enough)
                _remove(f"{self._beside}/{left}")
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
        path = f"{self.root}/{entry['path']}"
        match entry["call"]:
            case "mkdir" | "symlink":
                return os.path.lexists(path)
            case "rmdir" | "unlink":
                return not os.path.lexists(path)
            case "write":
                return os.path.lexists(path) and read_if_written(path) == entry["content"].encode()
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
            at = f"{self._beside}/new/{name}"
            if isinstance(what, bytes):
                _default(at, what)
                continue
            os.mkdir(at)  # noqa: PTH102 (see __init__)
            for attribute, text in what.items():
                _default(f"{at}/{attribute}", text)
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

    def move_out(self, path: str) -> None:
        """Make the path vanish at once, and take apart what it was."""
        gone = f"{self._beside}/gone"
        os.rename(path, gone)  # noqa: PTH104 (see __init__)
        with contextlib.suppress(OSError):  # it is gone from the tree; the next caller tries again
            _remove(gone)


def _default(path: str, text: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    try:
        os.write(fd, text)
        os.utime(fd, _NO_INSTANT)
    finally:
        os.close(fd)


def read_if_written(path: str) -> bytes | None:
    """The content of an attribute; None when it was never written."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if os.fstat(fd).st_mtime_ns == 0:
            return None
        return os.read(fd, _PAGE)
    finally:
        os.close(fd)


def _remove(path: str) -> None:
    try:
        os.unlink(path)  # noqa: PTH108 (see SandboxHome)
    except IsADirectoryError:
        shutil.rmtree(path)


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
            at.move_out(at.root)
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
            at.move_out(at.root)


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


def read_faults(path: str | os.PathLike[str]) -> list[tuple[str, str, int]]:
    """The faults that are set, as (call, pattern, errno)."""
    return [(c, p, e) for c, p, e in _read_list(path)]


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


def read_stops(path: str | os.PathLike[str]) -> list[tuple[str, str]]:
    """The stops that are set, as (call, pattern)."""
    return [(c, p) for c, p in _read_list(path)]


def _read_list(path: str | os.PathLike[str]) -> list[Any]:
    """A list that is kept as JSON; empty without its file, which is so in all but some tests."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return []
    with open(fd, "rb") as file:  # noqa: PTH123 (the descriptor is open already)
        return list(json.loads(file.read()))
