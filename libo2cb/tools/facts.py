"""What the tool found out: the daemons' reports, or why there is none, and what stands without their word.

Pure: how it is found out, common.py knows; what is the matter, verdict.py says; how it looks, screens.py.
"""

from dataclasses import dataclass, field

from libo2cb.service.report import Group, O2cbReport, Ocfs2Report, PeerDaemon, TreeNode


@dataclass(frozen=True, slots=True)
class Silent:
    """A daemon that gave no report.

    Attributes:
        daemon: its name.
        why: what happened when it was asked.
        do: what to do about it.
    """

    daemon: str
    why: str
    do: str


@dataclass(frozen=True, slots=True)
class KernelNode:
    """A node directory, as far as it can be read without the daemons."""

    name: str
    number: int
    address: str
    port: int
    local: bool


@dataclass(frozen=True, slots=True)
class KernelView:
    """What the kernel tree and the mount table say by themselves.

    Attributes:
        clusters: names of the clusters in the tree.
        nodes: directories of the nodes.
        regions: UUID and linked names of each region.
        mounts: device and mount point of each OCFS2 mount.
        trouble: what could not be read, and why.
    """

    clusters: tuple[str, ...] = ()
    nodes: tuple[KernelNode, ...] = ()
    regions: tuple[tuple[str, tuple[str, ...]], ...] = ()
    mounts: tuple[tuple[str, str], ...] = ()
    trouble: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Facts:
    """All that the tool found out.

    Attributes:
        o2cb: o2cb_controld's report.
        ocfs2: ocfs2_controld's report.
        silent: the daemons that gave none.
        kernel: read only when a daemon is silent.
    """

    o2cb: O2cbReport | None = None
    ocfs2: Ocfs2Report | None = None
    silent: tuple[Silent, ...] = ()
    kernel: KernelView | None = field(default=None)

    @property
    def groups(self) -> tuple[Group, ...]:
        """The groups, none while ocfs2_controld is silent."""
        return self.ocfs2.groups if self.ocfs2 else ()

    @property
    def nodes(self) -> tuple[TreeNode, ...]:
        """The nodes, none while o2cb_controld is silent."""
        return self.o2cb.nodes if self.o2cb else ()

    def group(self, fs: str) -> Group | None:
        """The group of a filesystem, by UUID."""
        return next((group for group in self.groups if group.fs.upper() == fs.upper()), None)

    def peer(self, number: int) -> PeerDaemon | None:
        """ocfs2_controld on a node."""
        return next((peer for peer in (self.ocfs2.nodes if self.ocfs2 else ()) if peer.number == number), None)

    def fs_name(self, fs: str) -> str:
        """Label of a filesystem, or the start of its UUID; both where two labels are the same."""
        group = self.group(fs)
        if group is None or not group.label:
            return fs[:8]
        alone = sum(other.label == group.label for other in self.groups) == 1
        return group.label if alone else f"{group.label}/{fs[:8]}"
