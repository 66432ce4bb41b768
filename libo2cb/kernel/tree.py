"""The kernel port over a tree of directories, attributes and links: what configfs and the sandbox have in common."""

import errno
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv4Address
from typing import Protocol, TypeVar

from libo2cb.errors import KernelRefusal, Kind
from libo2cb.kernel.port import StandingNode
from libo2cb.verbose import Scope, verbosef

R = TypeVar("R")


class What(Enum):
    """What a name in a directory stands for."""

    DIRECTORY = "directory"
    ATTRIBUTE = "attribute"
    LINK = "link"


@dataclass(frozen=True, slots=True)
class Listed:
    """A name in a directory of the tree, and what it stands for."""

    name: str
    what: What


class TreeFs(Protocol):
    """The primitive calls, each one system call of a kind. Paths are below the cluster root; all raise OSError."""

    def mkdir(self, path: str) -> None:
        """Make a directory, with the default files of its place."""

    def rmdir(self, path: str) -> None:
        """Remove a directory, with its default files."""

    def symlink(self, target: str, path: str) -> None:
        """Make a link at path to the directory target, a path below the cluster root as well."""

    def unlink(self, path: str) -> None:
        """Remove a link."""

    def read(self, path: str) -> bytes:
        """Content of an attribute, with its newline."""

    def write(self, path: str, value: bytes) -> None:
        """Write an attribute in one write."""

    def listdir(self, path: str) -> list[Listed]:
        """What stands in a directory, in no order."""

    def readlink(self, path: str) -> str:
        """Where a link points, as a path below the cluster root."""

    def boot_id(self) -> str:
        """The id of this boot."""

    def power_off(self, why: str) -> None:
        """Reset this node at once."""


class TreeKernel:
    """A KernelPort over a TreeFs.

    Each refusal is a KernelRefusal with the call, the path below the cluster root, and the errno. A name that is no
    name of a directory (empty, ".", "..", with a slash or NUL) is refused with EINVAL before anything is called.

    Args:
        fs: the primitive calls.
    """

    def __init__(self, fs: TreeFs) -> None:
        self._fs = fs

    def boot_id(self) -> str:
        """The id of this boot: the name of this node's life."""
        return self._run("boot_id", Kind.OTHER, "boot_id", self._fs.boot_id)

    def clusters(self) -> list[str]:
        """Names of the clusters in the kernel (at most one on a real kernel)."""
        return self._list(What.DIRECTORY)

    def create_cluster(self, cluster: str) -> None:
        """Make the cluster. EEXIST when it stands; ENOSPC when another does."""
        self._mkdir(Kind.CLUSTER, cluster)

    def remove_cluster(self, cluster: str) -> None:
        """Remove the cluster. ENOTEMPTY while it has nodes or regions."""
        self._rmdir(Kind.CLUSTER, cluster)

    def nodes(self, cluster: str) -> list[StandingNode]:
        """All node directories of the cluster, complete or not, by name. One that goes meanwhile is left out.

        Raises:
            KernelRefusal: ENOENT without the cluster; EIO for an attribute that cannot be understood, since to take it
                for "not set" would get the node removed.
        """
        found = []
        for name in self._list(What.DIRECTORY, cluster, "node"):
            try:
                found.append(self._node(cluster, name))
            except KernelRefusal as refusal:
                if refusal.errno != errno.ENOENT or name in self._list(What.DIRECTORY, cluster, "node"):
                    raise
        return found

    def number(self, cluster: str, name: str) -> int:
        """The number of a node directory; 0 while it has none. The kernel takes it only after address and port.

        Raises:
            KernelRefusal: ENOENT without the node; EIO for an attribute that cannot be understood.
        """
        return self._attribute(cluster, name, "num", int)

    def make_node(self, cluster: str, name: str) -> None:
        """Make the bare node directory. EEXIST, ENAMETOOLONG beyond 64 bytes."""
        self._mkdir(Kind.NODE, cluster, "node", name)

    def set_node(self, cluster: str, name: str, attribute: str, value: str) -> None:
        """Write one attribute; each can be set once (EBUSY after that)."""
        path = _path("write", cluster, "node", name, attribute)
        data = value.encode("utf-8", "surrogateescape")
        self._run("write", Kind.ATTRIBUTE, path, lambda: self._fs.write(path, data), value)

    def remove_node(self, cluster: str, name: str) -> None:
        """Remove a node directory. EBUSY while a link, or something else, pins it; ENOENT when it is not there."""
        self._rmdir(Kind.NODE, cluster, "node", name)

    def regions(self, cluster: str) -> list[str]:
        """Names (UUIDs) of the heartbeat regions."""
        return self._list(What.DIRECTORY, cluster, "heartbeat")

    def create_region(self, cluster: str, region: str) -> None:
        """Make the region. EEXIST; ENAMETOOLONG beyond 32 bytes."""
        self._mkdir(Kind.REGION, cluster, "heartbeat", region)

    def remove_region(self, cluster: str, region: str) -> None:
        """Remove the region. ENOTEMPTY while it holds links."""
        self._rmdir(Kind.REGION, cluster, "heartbeat", region)

    def links(self, cluster: str, region: str) -> list[str]:
        """Names of the region's links; each is the name of the node that it links."""
        return self._list(What.LINK, cluster, "heartbeat", region)

    def link(self, cluster: str, region: str, name: str) -> None:
        """Link the node into the region: "this node is alive here".

        EEXIST; ENOENT without the node; EPERM on a kernel whose regions allow no links.
        """
        path = _path("symlink", cluster, "heartbeat", region, name)
        target = _path("symlink", cluster, "node", name)
        self._run("symlink", Kind.LINK, path, lambda: self._fs.symlink(target, path))

    def unlink(self, cluster: str, region: str, name: str) -> None:
        """Remove the link: "this node is dead here, or left". ENOENT."""
        path = _path("unlink", cluster, "heartbeat", region, name)
        self._run("unlink", Kind.LINK, path, lambda: self._fs.unlink(path))

    def linked(self, cluster: str, name: str) -> list[str]:
        """Regions that link the node: what pins it. A link counts by its target, whatever its own name is."""
        node = _path("readlink", cluster, "node", name)
        heartbeat = f"{cluster}/heartbeat"
        return [region for region in self.regions(cluster) if self._leads_to(f"{heartbeat}/{region}", node)]

    def power_off(self, why: str) -> None:
        """Reset this node at once (law 9). In the sandbox: a power-off of its own home."""
        self._run("power_off", Kind.OTHER, why, lambda: self._fs.power_off(why))

    def _run(self, call: str, kind: Kind, path: str, run: Callable[[], R], *more: object) -> R:
        try:
            result = run()
        except OSError as error:
            verbosef(Scope.O2CB, call, path, *more, result=error)
            raise KernelRefusal.from_os(call, path, error, kind) from error
        verbosef(Scope.O2CB, call, path, *more, result=len(result) if isinstance(result, (bytes, list)) else None)
        return result

    def _mkdir(self, kind: Kind, *names: str) -> None:
        path = _path("mkdir", *names)
        self._run("mkdir", kind, path, lambda: self._fs.mkdir(path))

    def _rmdir(self, kind: Kind, *names: str) -> None:
        path = _path("rmdir", *names)
        self._run("rmdir", kind, path, lambda: self._fs.rmdir(path))

    def _list(self, what: What, *names: str) -> list[str]:
        path = _path("listdir", *names)
        entries = self._run("listdir", Kind.OTHER, path, lambda: self._fs.listdir(path))
        return sorted(entry.name for entry in entries if entry.what is what)

    def _leads_to(self, region: str, node: str) -> bool:
        """Whether a link in the directory of a region leads to that of a node."""
        try:
            entries = self._run("listdir", Kind.OTHER, region, lambda: self._fs.listdir(region))
        except KernelRefusal as refusal:
            if refusal.errno != errno.ENOENT:
                raise
            return False
        return any(e.what is What.LINK and self._target(f"{region}/{e.name}") == node for e in entries)

    def _target(self, path: str) -> str | None:
        """Where the link points; None when it has gone since it was listed."""
        try:
            return self._run("readlink", Kind.LINK, path, lambda: self._fs.readlink(path))
        except KernelRefusal as refusal:
            if refusal.errno != errno.ENOENT:
                raise
            return None

    def _node(self, cluster: str, name: str) -> StandingNode:
        # The order is the reverse of that of writing: a number that is seen comes with its address and port.
        return StandingNode(
            name=name,
            number=self._attribute(cluster, name, "num", int),
            address=self._attribute(cluster, name, "ipv4_address", lambda text: str(IPv4Address(text))),
            port=self._attribute(cluster, name, "ipv4_port", int),
            local=self._attribute(cluster, name, "local", int) != 0,
        )

    def _attribute(self, cluster: str, name: str, attribute: str, understand: Callable[[str], R]) -> R:
        path = _path("read", cluster, "node", name, attribute)
        text = self._run("read", Kind.ATTRIBUTE, path, lambda: self._fs.read(path))
        try:
            return understand(text.decode("ascii").strip())
        except ValueError as error:
            raise KernelRefusal("read", path, errno.EIO, kind=Kind.ATTRIBUTE, why=f"it reads {text!r}") from error


def _path(call: str, *names: str) -> str:
    path = "/".join(names)
    for name in names:
        if name in {"", ".", ".."} or "/" in name or "\0" in name:
            raise KernelRefusal(call, path, errno.EINVAL, why=f"{name!r} is no name for a directory")
    return path
