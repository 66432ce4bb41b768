"""The trees that the suite runs on: the sandbox always, configfs where there is one."""

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from libo2cb.kernel.configfs import CLUSTER_ROOT, RealFs
from libo2cb.kernel.sandbox import SandboxFs, boot
from libo2cb.kernel.tree import TreeFs, TreeKernel, What

CLUSTER = "o2cbsuite"
REGION = "94A94C12FF614DD894BF9D0CF62F3987"
LOOPBACK = frozenset({"127.0.0.1", "127.0.0.2"})


@dataclass(frozen=True, slots=True)
class Lab:
    """A tree without a cluster, and whether its regions allow links."""

    fs: TreeFs
    kernel: TreeKernel
    links: bool


def answer(call: Callable[..., object], *arguments: object) -> str:
    """What a primitive call answers: "ok", or the errno's name."""
    try:
        call(*arguments)
    except OSError as refusal:
        return errno.errorcode[refusal.errno or errno.EIO]
    return "ok"


def sweep(fs: TreeFs) -> None:
    """Remove the suite's own cluster, whatever a failed test left in it."""
    for group, holds in (("heartbeat", What.LINK), ("node", None)):
        with suppress(FileNotFoundError):
            for entry in fs.listdir(f"{CLUSTER}/{group}"):
                if entry.what is not What.DIRECTORY:
                    continue
                path = f"{CLUSTER}/{group}/{entry.name}"
                for inner in fs.listdir(path):
                    if inner.what is holds:
                        fs.unlink(f"{path}/{inner.name}")
                fs.rmdir(path)
    with suppress(FileNotFoundError):
        fs.rmdir(CLUSTER)


def _allows_links(fs: TreeFs) -> bool:
    fs.mkdir(CLUSTER)
    fs.mkdir(f"{CLUSTER}/heartbeat/{REGION}")
    said = answer(fs.symlink, f"{CLUSTER}/node/nobody", f"{CLUSTER}/heartbeat/{REGION}/nobody")
    sweep(fs)
    return said != "EPERM"


@pytest.fixture(params=["sandbox", "configfs"])
def lab(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Lab]:
    """A tree without a cluster."""
    fs: TreeFs
    if request.param == "sandbox":
        boot(tmp_path, LOOPBACK)
        fs = SandboxFs(tmp_path)
    else:
        if not Path(CLUSTER_ROOT).is_dir():
            pytest.skip(f"there is no {CLUSTER_ROOT}: configfs is not mounted, or ocfs2_nodemanager is not loaded")
        if os.geteuid() != 0:
            pytest.skip("configfs is root's")
        fs = RealFs()
        if others := [entry.name for entry in fs.listdir("") if entry.name != CLUSTER]:
            pytest.skip(f"cluster {others[0]} stands in this kernel, and it has room for one")
        sweep(fs)
    yield Lab(fs, TreeKernel(fs), _allows_links(fs))
    sweep(fs)
    assert fs.listdir("") == []


@pytest.fixture
def cluster(lab: Lab) -> Lab:
    """A tree with the suite's cluster."""
    lab.fs.mkdir(CLUSTER)
    return lab


@pytest.fixture
def linking(cluster: Lab) -> Lab:
    """A tree with the suite's cluster, nodes n1 and n2, and a region, where regions allow links."""
    if not cluster.links:
        pytest.skip("the regions of this kernel allow no links: it lacks the user heartbeat")
    make_node(cluster.fs, "n1", 1, "127.0.0.1")
    make_node(cluster.fs, "n2", 2, "127.0.0.2")
    cluster.fs.mkdir(f"{CLUSTER}/heartbeat/{REGION}")
    return cluster


def make_node(fs: TreeFs, name: str, number: int, address: str) -> None:
    """A complete node."""
    path = f"{CLUSTER}/node/{name}"
    fs.mkdir(path)
    fs.write(f"{path}/ipv4_port", b"7777")
    fs.write(f"{path}/ipv4_address", address.encode())
    fs.write(f"{path}/num", b"%d" % number)
