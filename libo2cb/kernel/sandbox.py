"""The sandbox's kernel: a directory tree that obeys configfs's rules, with configfs's errnos (rules.py).

A node's home holds

    kernel/tree/      the cluster root: what /sys/kernel/config/cluster is on a real kernel; find and cat read it
    kernel/boot_id    the name of this life
    kernel/addresses  the addresses that this host has, one a line; without the file, any
    kernel/faults.json  calls that are to be refused, for tests and scenes
    kernel/stops.json   calls after which their caller is stopped, for tests
    kernel/lock       who holds its flock may change the tree
    kernel/aside/     where the holder of the lock prepares things and throws them away
    log/kernel.jsonl  the journal (journal.py)

**Each call is atomic to any observer and to any kill.** Whatever a call makes is prepared in aside/ and moved into the
tree by one rename(2); whatever it removes is moved out to aside/ by one rename(2) and taken apart there. A call decides
and acts under one flock, which the kernel frees with a killed holder. What a killed caller left in aside/ is removed by
the next one, and its journal line is marked as undone if the rename had not come. Observers take no lock.

An attribute that was never written has the modification time 0: "num 0" cannot be told from "not set" by what it
reads, here as on a real kernel, but the rules differ.

Not as on a real kernel: no o2net, no disk heartbeat; local may be set again after it was cleared. A lock holder that
is stopped (SIGSTOP) inside a call holds up the other callers, but no observer.
"""

import contextlib
import errno
import fnmatch
import os
import signal
import stat
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from libo2cb.kernel import rules
from libo2cb.kernel.home import (
    SandboxHome,
    boot,
    clear,
    clear_fault,
    clear_stop,
    read_faults,
    read_if_written,
    read_stops,
    set_fault,
    set_stop,
)
from libo2cb.kernel.journal import Entry
from libo2cb.kernel.rules import Host, NodeState, Place, place, refuse
from libo2cb.kernel.tree import Listed, What

__all__ = ["SandboxFs", "boot", "clear", "clear_fault", "clear_stop", "set_fault", "set_stop"]

_LOGGED_VALUE = 200


def _names(path: str) -> tuple[str, ...]:
    """The names of a path below the cluster root. It cannot leave the root."""
    names = tuple(name for name in path.split("/") if name)
    if "\0" in path or path.startswith("/") or {".", ".."} & set(names):
        raise refuse(errno.EINVAL)
    return names


class SandboxFs:
    """The tree of one home, as the primitive calls of a TreeKernel. The home must have been booted.

    Args:
        home: the node's home.
        power_off: ends every process of the home, this one too; without it, power_off is refused.
    """

    def __init__(self, home: Path, power_off: Callable[[str], None] | None = None) -> None:
        self._home = SandboxHome(home)
        self._power_off = power_off
        self._faults = os.fspath(self._home.faults)
        self._stops = os.fspath(self._home.stops)

    def _full(self, path: tuple[str, ...]) -> str:
        return "/".join((self._home.root, *path))

    def _fault(self, call: str, path: tuple[str, ...]) -> None:
        for of_call, pattern, code in read_faults(self._faults):
            if of_call == call and fnmatch.fnmatchcase("/".join(path), pattern):
                raise refuse(code)

    # Observers.

    def boot_id(self) -> str:
        """The name of this life."""
        return self._home.boot_id.read_text().strip()

    def read(self, path: str) -> bytes:
        """The content of an attribute."""
        names = _names(path)
        self._fault("read", names)
        return _content(self._full(names))

    def listdir(self, path: str) -> list[Listed]:
        """What stands in a directory, by name."""
        names = _names(path)
        self._fault("listdir", names)
        with os.scandir(self._full(names)) as found:
            return [
                Listed(e.name, What.LINK if e.is_symlink() else What.DIRECTORY if e.is_dir() else What.ATTRIBUTE)
                for e in found
            ]

    def readlink(self, path: str) -> str:
        """What a link points to, below the cluster root."""
        names = _names(path)
        self._fault("readlink", names)
        return self._target(names)

    # Changes.

    @contextlib.contextmanager
    def _call(self, call: str, path: tuple[str, ...], **more: str) -> Iterator[Callable[..., None]]:
        """Decide and act under the lock; a refusal is journalled here, an effect by the function that this yields."""
        entry: Entry = {"call": call, "path": "/".join(path), "errno": 0, **more}
        with self._home.locked() as journal:
            entry |= self._node_facts(path)

            def about_to_happen(**known: str) -> None:
                journal.append(entry | known)

            try:
                yield about_to_happen
            except OSError as refusal:
                self._home.settle(journal)
                journal.append(entry | {"errno": refusal.errno or errno.EIO})
                raise
        if any(c == call and fnmatch.fnmatchcase("/".join(path), p) for c, p in read_stops(self._stops)):
            os.kill(os.getpid(), signal.SIGSTOP)

    def mkdir(self, path: str) -> None:
        """Make a cluster, a node or a region, with its default files."""
        names = _names(path)
        full = self._full(names)
        with self._call("mkdir", names) as happens:
            self._must_be_free(full)
            self._fault("mkdir", names)
            rules.may_mkdir(names, len(self._directories(())))
            match place(names):
                case Place.CLUSTER:
                    new = self._home.prepare_directory(
                        {**rules.CLUSTER_DEFAULTS, "node": {}, "heartbeat": rules.HEARTBEAT_DEFAULTS}
                    )
                case Place.NODE:
                    new = self._home.prepare_directory({**rules.NODE_DEFAULTS})
                case _:
                    new = self._home.prepare_directory({**rules.REGION_DEFAULTS})
            happens()
            os.rename(new, full)  # noqa: PTH104 (a Path costs more than the call; so below)

    def rmdir(self, path: str) -> None:
        """Remove a cluster, a node or a region."""
        names = _names(path)
        full = self._full(names)
        with self._call("rmdir", names) as happens:
            if os.path.islink(full) or not _is_directory(full):  # noqa: PTH114
                raise refuse(errno.ENOTDIR)
            self._fault("rmdir", names)
            match place(names):
                case Place.CLUSTER:
                    if self._directories((*names, "node")) or self._directories((*names, "heartbeat")):
                        raise refuse(errno.ENOTEMPTY)
                case Place.NODE:
                    if self._is_linked(names):
                        raise refuse(errno.EBUSY)
                case Place.REGION:
                    if self._links(names):
                        raise refuse(errno.ENOTEMPTY)
                case _:
                    raise refuse(errno.EPERM)
            happens()
            self._home.move_out(full)

    def symlink(self, target: str, path: str) -> None:
        """Link a node into a region."""
        names = _names(path)
        full = self._full(names)
        with self._call("symlink", names, target=target) as happens:
            self._must_be_free(full)
            self._fault("symlink", names)
            if place(names) is not Place.IN_REGION:
                raise refuse(errno.EPERM)
            if target.startswith("/"):
                raise refuse(errno.EPERM if _is_directory(target) else errno.ENOTDIR)
            node = _names(target)
            if not _is_directory(self._full(node)):
                raise refuse(errno.ENOTDIR)
            if place(node) is not Place.NODE:
                raise refuse(errno.EINVAL)
            new = self._home.prepare_link(os.path.relpath(self._full(node), self._full(names[:-1])))
            happens()
            os.rename(new, full)  # noqa: PTH104

    def unlink(self, path: str) -> None:
        """Remove a link."""
        names = _names(path)
        full = self._full(names)
        with self._call("unlink", names) as happens:
            mode = os.lstat(full).st_mode
            self._fault("unlink", names)
            if not stat.S_ISLNK(mode):
                raise refuse(errno.EISDIR if stat.S_ISDIR(mode) else errno.EPERM)
            happens()
            self._home.move_out(full)

    def write(self, path: str, value: bytes) -> None:
        """Write an attribute, whole."""
        names = self._without_link(_names(path))
        full = self._full(names)
        shown = value[:_LOGGED_VALUE].decode("utf-8", "surrogateescape")
        with self._call("write", names, value=shown) as happens:
            if _is_directory(full):
                raise refuse(errno.EISDIR)
            self._fault("write", names)
            content = self._new_content(names, full, value[: rules.VALUE_BYTES])
            new = self._home.prepare_file(content)
            happens(content=content.decode())
            os.rename(new, full)  # noqa: PTH104

    def power_off(self, why: str) -> None:
        """Record why, and end every process of this home."""
        if self._power_off is None:
            raise refuse(errno.EPERM)
        with self._home.locked() as journal:
            journal.append({"call": "power_off", "path": "", "errno": 0, "why": why})
        self._power_off(why)

    # What the rules ask of the tree, under the lock.

    def _without_link(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """A path through a link (c/heartbeat/R/n1/num), as the path that it leads to."""
        *parent, name = names or ("",)
        of = tuple(parent)
        return (*_names(self._target(of)), name) if os.path.islink(self._full(of)) else names  # noqa: PTH114

    def _must_be_free(self, full: str) -> None:
        if os.path.lexists(full):
            raise refuse(errno.EEXIST)
        if full != self._home.root and not _is_directory(full.rpartition("/")[0]):
            raise refuse(errno.ENOTDIR)
        with contextlib.suppress(FileNotFoundError):
            os.lstat(full)

    def _directories(self, path: tuple[str, ...]) -> list[str]:
        with os.scandir(self._full(path)) as found:
            return [e.name for e in found if e.is_dir(follow_symlinks=False)]

    def _links(self, path: tuple[str, ...]) -> list[str]:
        with os.scandir(self._full(path)) as found:
            return [e.name for e in found if e.is_symlink()]

    def _is_linked(self, node: tuple[str, ...]) -> bool:
        heartbeat, target = (node[0], "heartbeat"), "/".join(node)
        regions = ((*heartbeat, region) for region in self._directories(heartbeat))
        return any(self._target((*region, link)) == target for region in regions for link in self._links(region))

    def _target(self, link: tuple[str, ...]) -> str:
        text = os.readlink(self._full(link))  # noqa: PTH115
        names = list(link[:-1])
        for name in text.split("/"):
            if name == "..":
                del names[-1:]
            else:
                names.append(name)
        return "/".join(names)

    def _new_content(self, names: tuple[str, ...], full: str, value: bytes) -> bytes:
        attribute = names[-1]
        if place(names) is Place.IN_REGION and attribute == "pid":
            raise refuse(errno.EACCES)
        if not value:
            raise refuse(errno.EFAULT)
        match place(names):
            case Place.NODE_ATTRIBUTE:
                others = (
                    self._node((*names[:2], n), (attribute,)) for n in self._directories(names[:2]) if n != names[2]
                )
                host = Host(() if attribute == "ipv4_port" else tuple(others), self._addresses())
                return rules.write_node(attribute, value, self._node(names[:3]), host)
            case Place.IN_REGION:
                return rules.write_region(attribute, value)
            case _ if names[1] == "heartbeat":
                return rules.write_heartbeat(attribute, value, _content(full))
            case _:
                beside = {a: _content(self._full((*names[:-1], a))) for a in rules.CLUSTER_DEFAULTS}
                return rules.write_cluster(attribute, value, beside)

    def _addresses(self) -> frozenset[str] | None:
        try:
            return frozenset(self._home.addresses.read_text().split())
        except FileNotFoundError:
            return None

    def _node(self, path: tuple[str, ...], attributes: Iterable[str] = rules.NODE_DEFAULTS) -> NodeState:
        full = self._full(path)
        read = {a: read_if_written(f"{full}/{a}") for a in attributes}
        text = {a: content.decode().strip() for a, content in read.items() if content is not None}
        return NodeState(
            number=int(text["num"]) if "num" in text else None,
            address=text.get("ipv4_address"),
            port=int(text["ipv4_port"]) if "ipv4_port" in text else None,
            local=text.get("local") == "1",
        )

    def _node_facts(self, path: tuple[str, ...]) -> Entry:
        """For the journal: the node as it stands, where the path is about one; of a link, the node that it names."""
        match place(path):
            case Place.NODE | Place.NODE_ATTRIBUTE:
                node = path[:3]
            case Place.IN_REGION:
                node = (path[0], "node", path[3])
            case _:
                return {}
        try:
            state = self._node(node)
        except OSError:
            return {}
        return {
            "number": state.number or 0,
            "address": state.address or "0.0.0.0",  # noqa: S104 (the kernel's "not set")
            "port": state.port or 0,
            "local": state.local,
        }


def _is_directory(path: str) -> bool:
    """Whether it is one, links followed; the lookup's own errors (ENOENT, ENOTDIR, ENAMETOOLONG) are raised."""
    return stat.S_ISDIR(os.stat(path).st_mode)  # noqa: PTH116


def _content(path: str) -> bytes:
    with open(path, "rb", buffering=0) as file:  # noqa: PTH123
        return file.read()
