"""The doors to the node tree, on the sandbox's kernel."""

import errno
from pathlib import Path

import pytest

from libo2cb.errors import (
    AlreadyThere,
    BadValue,
    ConfigurationError,
    InvalidClusterName,
    InvalidNodeNum,
    KernelRefusal,
    NoRoom,
    NotEmpty,
    NotThere,
    Pinned,
)
from libo2cb.kernel import journal
from libo2cb.kernel.port import StandingNode
from libo2cb.kernel.sandbox import SandboxFs, boot, clear_fault, set_fault
from libo2cb.kernel.tree import TreeKernel
from libo2cb.nodes import (
    incomplete_nodes,
    is_incomplete,
    o2cb_add_node,
    o2cb_create_cluster,
    o2cb_remove_cluster,
    o2cb_remove_node,
)
from protocol.identity import NodeIdentity

N1 = NodeIdentity(1, "10.0.0.1", 7777, "n1")
N2 = NodeIdentity(2, "10.0.0.2", 7777, "n2")


@pytest.fixture
def kernel(tmp_path: Path) -> TreeKernel:
    boot(tmp_path)
    kernel = TreeKernel(SandboxFs(tmp_path))
    o2cb_create_cluster(kernel, "c")
    return kernel


def calls(home: Path) -> list[tuple[str, str, int]]:
    return [(e["call"], e["path"], e["errno"]) for e in journal.read(home / "log" / "kernel.jsonl")[2:]]


def test_a_node_is_made_in_the_kernels_order(kernel: TreeKernel, tmp_path: Path) -> None:
    o2cb_add_node(kernel, "c", N1, local=True)
    assert calls(tmp_path) == [
        ("mkdir", "c/node/n1", 0),
        ("write", "c/node/n1/ipv4_port", 0),
        ("write", "c/node/n1/ipv4_address", 0),
        ("write", "c/node/n1/num", 0),
        ("write", "c/node/n1/local", 0),
    ]
    assert kernel.nodes("c") == [StandingNode("n1", 1, "10.0.0.1", 7777, local=True)]


@pytest.mark.parametrize(
    ("taken", "refusal"),
    [
        (NodeIdentity(1, "10.0.0.9", 7777, "n9"), AlreadyThere),
        (NodeIdentity(9, "10.0.0.1", 7777, "n9"), AlreadyThere),
        (NodeIdentity(9, "10.0.0.9", 7777, "n1"), AlreadyThere),
    ],
)
def test_number_address_or_name_of_another(kernel: TreeKernel, taken: NodeIdentity, refusal: type[Exception]) -> None:
    o2cb_add_node(kernel, "c", N1)
    with pytest.raises(refusal):
        o2cb_add_node(kernel, "c", taken)
    assert [s.identity for s in kernel.nodes("c")] == [N1], "what was begun is taken back, what stood still stands"


def test_a_second_local_node_is_taken_back(kernel: TreeKernel) -> None:
    o2cb_add_node(kernel, "c", N1, local=True)
    with pytest.raises(Pinned):
        o2cb_add_node(kernel, "c", N2, local=True)
    assert [s.name for s in kernel.nodes("c")] == ["n1"]


@pytest.mark.parametrize("attribute", ["ipv4_port", "ipv4_address", "num", "local"])
def test_a_node_is_complete_or_not_there(kernel: TreeKernel, tmp_path: Path, attribute: str) -> None:
    set_fault(tmp_path, "write", f"c/node/n1/{attribute}", errno.ENOMEM)
    with pytest.raises(KernelRefusal) as refusal:
        o2cb_add_node(kernel, "c", N1)
    assert (refusal.value.call, refusal.value.errno) == ("write", errno.ENOMEM)
    assert kernel.nodes("c") == []


def test_what_cannot_be_taken_back_is_said_and_made_again_later(kernel: TreeKernel, tmp_path: Path) -> None:
    set_fault(tmp_path, "write", "c/node/n1/num", errno.EIO)
    set_fault(tmp_path, "rmdir", "c/node/n1", errno.EBUSY)
    with pytest.raises(KernelRefusal) as refusal:
        o2cb_add_node(kernel, "c", N1)
    assert refusal.value.errno == errno.EIO
    assert "it stands incomplete" in refusal.value.__notes__[0]
    assert [s.name for s in incomplete_nodes(kernel, "c")] == ["n1"]
    with pytest.raises(Pinned):
        o2cb_add_node(kernel, "c", N1)
    clear_fault(tmp_path, "write", "c/node/n1/num")
    clear_fault(tmp_path, "rmdir", "c/node/n1")
    o2cb_add_node(kernel, "c", N1)
    assert incomplete_nodes(kernel, "c") == []
    assert [s.identity for s in kernel.nodes("c")] == [N1]


def test_a_node_that_reads_otherwise_is_taken_back(tmp_path: Path) -> None:
    class Deaf(SandboxFs):
        """A tree in which somebody else sets the port first."""

        def write(self, path: str, value: bytes) -> None:
            super().write(path, b"1" if path.endswith("ipv4_port") else value)

    boot(tmp_path)
    kernel = TreeKernel(Deaf(tmp_path))
    o2cb_create_cluster(kernel, "c")
    with pytest.raises(KernelRefusal, match="n1") as refusal:
        o2cb_add_node(kernel, "c", N1)
    assert refusal.value.errno == errno.EIO
    assert "10.0.0.1:7777" in refusal.value.sentence()
    assert "10.0.0.1:1)" in refusal.value.sentence()
    assert kernel.nodes("c") == []


def test_a_local_node_whose_maker_was_killed_before_local_is_made_again(kernel: TreeKernel) -> None:
    o2cb_add_node(kernel, "c", N1)
    standing = kernel.nodes("c")[0]
    assert is_incomplete(standing, local=True)
    assert not is_incomplete(standing)
    o2cb_add_node(kernel, "c", N1, local=True)
    assert kernel.nodes("c") == [StandingNode("n1", 1, "10.0.0.1", 7777, local=True)]


@pytest.mark.parametrize(
    ("identity", "refusal"),
    [
        (NodeIdentity(0, "10.0.0.1", 7777, "n1"), InvalidNodeNum),
        (NodeIdentity(255, "10.0.0.1", 7777, "n1"), InvalidNodeNum),
        (NodeIdentity(1, "::1", 7777, "n1"), ConfigurationError),
        (NodeIdentity(1, "0.0.0.0", 7777, "n1"), ConfigurationError),  # noqa: S104 (refused)
        (NodeIdentity(1, "10.0.0.1", 0, "n1"), ConfigurationError),
        (NodeIdentity(1, "10.0.0.1", 7777, "a/b"), ConfigurationError),
    ],
)
def test_an_identity_is_checked_before_the_kernel_hears_of_it(
    kernel: TreeKernel, tmp_path: Path, identity: NodeIdentity, refusal: type[Exception]
) -> None:
    with pytest.raises(refusal):
        o2cb_add_node(kernel, "c", identity)
    assert calls(tmp_path) == []


def test_a_linked_node_is_not_even_asked_for(kernel: TreeKernel, tmp_path: Path) -> None:
    o2cb_add_node(kernel, "c", N1)
    kernel.create_region("c", "F1")
    kernel.create_region("c", "F2")
    kernel.link("c", "F1", "n1")
    kernel.link("c", "F2", "n1")
    asked = calls(tmp_path)
    with pytest.raises(Pinned) as pinned:
        o2cb_remove_node(kernel, "c", "n1")
    assert "filesystems F1, F2 still link it" in pinned.value.sentence()
    kernel.unlink("c", "F1", "n1")
    with pytest.raises(Pinned, match="n1") as pinned:
        o2cb_remove_node(kernel, "c", "n1")
    assert "filesystem F2 still links it" in pinned.value.sentence()
    assert calls(tmp_path) == [*asked, ("unlink", "c/heartbeat/F1/n1", 0)], "the kernel heard of no rmdir"
    kernel.unlink("c", "F2", "n1")
    o2cb_remove_node(kernel, "c", "n1")
    assert kernel.nodes("c") == []


def test_who_has_looked_for_links_is_taken_at_his_word_and_the_kernel_is_not(
    kernel: TreeKernel, tmp_path: Path
) -> None:
    o2cb_add_node(kernel, "c", N1)
    kernel.create_region("c", "F1")
    kernel.link("c", "F1", "n1")
    with pytest.raises(Pinned):
        o2cb_remove_node(kernel, "c", "n1", unlinked=True)
    assert calls(tmp_path)[-1] == ("rmdir", "c/node/n1", errno.EBUSY)
    kernel.unlink("c", "F1", "n1")
    o2cb_remove_node(kernel, "c", "n1", unlinked=True)
    o2cb_remove_node(kernel, "c", "n1", unlinked=True)
    assert kernel.nodes("c") == []


def test_something_else_pins_the_node(kernel: TreeKernel, tmp_path: Path) -> None:
    o2cb_add_node(kernel, "c", N1)
    set_fault(tmp_path, "rmdir", "c/node/n1", errno.EBUSY)
    with pytest.raises(Pinned):
        o2cb_remove_node(kernel, "c", "n1")
    clear_fault(tmp_path, "rmdir", "c/node/n1")
    o2cb_remove_node(kernel, "c", "n1")


def test_what_is_not_there_is_removed_already(kernel: TreeKernel) -> None:
    o2cb_remove_node(kernel, "c", "nobody")
    o2cb_remove_cluster(kernel, "c")
    o2cb_remove_cluster(kernel, "c")
    o2cb_remove_node(kernel, "c", "nobody")
    with pytest.raises(NotThere):
        o2cb_add_node(kernel, "c", N1)


def test_clusters(kernel: TreeKernel) -> None:
    with pytest.raises(AlreadyThere):
        o2cb_create_cluster(kernel, "c")
    with pytest.raises(NoRoom):
        o2cb_create_cluster(kernel, "d")
    with pytest.raises(InvalidClusterName):
        o2cb_create_cluster(kernel, "two words")
    o2cb_add_node(kernel, "c", N1)
    with pytest.raises(NotEmpty):
        o2cb_remove_cluster(kernel, "c")


def test_an_attribute_that_cannot_be_understood_is_no_missing_one(kernel: TreeKernel, tmp_path: Path) -> None:
    o2cb_add_node(kernel, "c", N1)
    (tmp_path / "kernel" / "tree" / "c" / "node" / "n1" / "num").write_text("many\n")
    with pytest.raises(KernelRefusal) as refusal:
        kernel.nodes("c")
    assert (refusal.value.call, refusal.value.errno) == ("read", errno.EIO)


def test_a_name_that_leaves_the_tree(kernel: TreeKernel) -> None:
    with pytest.raises(BadValue):
        o2cb_remove_node(kernel, "c", "../heartbeat")
