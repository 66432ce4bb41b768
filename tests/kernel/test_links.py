"""Whether a kernel takes links, asked without harm, and what that means for a MOUNT."""

import errno
from pathlib import Path

import pytest

from libo2cb.errors import KernelRefusal, ModuleNotLoaded
from libo2cb.kernel.configfs import RealFs
from libo2cb.kernel.links import PROBE, WHY_NOT, LinksProbe, takes_links
from libo2cb.kernel.sandbox import SandboxFs, boot, clear_fault, set_fault
from libo2cb.kernel.tree import TreeKernel
from ocfs2_controld.hands import Hands
from protocol.frozen import FrozenMap
from tests.kernel.conftest import CLUSTER, Lab

NO_LINKS = "*/heartbeat/*/*"


def test_the_question_is_answered_and_leaves_nothing(cluster: Lab) -> None:
    assert takes_links(cluster.kernel, CLUSTER) is cluster.links
    assert cluster.kernel.regions(CLUSTER) == []


def test_what_a_killed_probe_left_is_removed_by_the_next(cluster: Lab) -> None:
    cluster.kernel.create_region(CLUSTER, PROBE)
    assert takes_links(cluster.kernel, CLUSTER) is cluster.links
    assert cluster.kernel.regions(CLUSTER) == []


@pytest.fixture
def stock(tmp_path: Path) -> TreeKernel:
    """A kernel whose regions take no links."""
    boot(tmp_path)
    set_fault(tmp_path, "symlink", NO_LINKS, errno.EPERM)
    kernel = TreeKernel(SandboxFs(tmp_path))
    kernel.create_cluster("prod")
    return kernel


def test_a_stock_kernel_refuses_and_is_left_as_it_was(stock: TreeKernel) -> None:
    assert takes_links(stock, "prod") is False
    assert stock.regions("prod") == []


def test_with_links_each_mount_is_refused_by_name_until_the_kernel_takes_them(
    stock: TreeKernel, tmp_path: Path
) -> None:
    probe = LinksProbe(stock)
    assert probe.refusal() == (errno.EPERM, WHY_NOT)
    assert Hands(stock).found().regions == FrozenMap({})
    clear_fault(tmp_path, "symlink", NO_LINKS)
    assert probe.refusal() is None


def test_nothing_is_said_where_no_cluster_stands_or_there_is_no_tree(stock: TreeKernel, tmp_path: Path) -> None:
    stock.remove_cluster("prod")
    assert LinksProbe(stock).refusal() is None
    assert LinksProbe(TreeKernel(RealFs(str(tmp_path / "no")))).refusal() is None


def test_any_other_refusal_says_nothing_of_links(stock: TreeKernel, tmp_path: Path) -> None:
    clear_fault(tmp_path, "symlink", NO_LINKS)
    set_fault(tmp_path, "symlink", NO_LINKS, errno.ENOMEM)
    with pytest.raises(KernelRefusal):
        takes_links(stock, "prod")
    assert stock.regions("prod") == []
    assert LinksProbe(stock).refusal() is None


def test_without_the_module_the_words_say_what_to_load(tmp_path: Path) -> None:
    with pytest.raises(ModuleNotLoaded) as caught:
        Hands(TreeKernel(RealFs(str(tmp_path / "no")))).found()
    assert "modprobe ocfs2_nodemanager" in caught.value.sentence()
