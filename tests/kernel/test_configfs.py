"""What the configfs adapter does by itself, on a plain directory; what configfs answers is test_tree's."""

import errno
import io
from pathlib import Path

import pytest

from libo2cb.errors import NotAllowed, NotThere
from libo2cb.kernel import configfs
from libo2cb.kernel.configfs import RealFs
from libo2cb.kernel.tree import Listed, TreeKernel, What
from libo2cb.verbose import o2cb_set_verbose


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "config" / "cluster"
    (root / "c" / "node" / "n1").mkdir(parents=True)
    (root / "c" / "heartbeat" / "F1").mkdir(parents=True)
    (root / "c" / "heartbeat" / "mode").write_text("local\n")
    return root


def test_a_link_as_the_kernel_shows_it_is_read_as_a_path_below_the_root(root: Path) -> None:
    (root / "c/heartbeat/F1/n1").symlink_to("../../../../cluster/c/node/n1")
    assert RealFs(str(root)).readlink("c/heartbeat/F1/n1") == "c/node/n1"


def test_links_are_made_absolute_wherever_the_caller_stands(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    kernel = TreeKernel(RealFs(str(root)))
    kernel.link("c", "F1", "n1")
    assert (root / "c/heartbeat/F1/n1").readlink() == root / "c/node/n1"
    assert kernel.linked("c", "n1") == ["F1"]
    kernel.unlink("c", "F1", "n1")
    assert kernel.linked("c", "n1") == []


def test_an_absolute_target_is_handed_on_as_it_is(root: Path) -> None:
    RealFs(str(root)).symlink("/etc", "c/heartbeat/F1/etc")
    assert (root / "c/heartbeat/F1/etc").readlink() == Path("/etc")


def test_directories_attributes_and_links_are_told_apart(root: Path) -> None:
    fs = RealFs(str(root))
    fs.symlink("c/node/n1", "c/heartbeat/link")
    assert {(e.name, e.what) for e in fs.listdir("c/heartbeat")} == {
        ("F1", What.DIRECTORY),
        ("mode", What.ATTRIBUTE),
        ("link", What.LINK),
    }
    assert Listed("mode", What.ATTRIBUTE) in fs.listdir("c/heartbeat")


def test_a_kernel_without_the_module_is_not_there(tmp_path: Path) -> None:
    kernel = TreeKernel(RealFs(str(tmp_path / "nothing")))
    with pytest.raises(NotThere):
        kernel.clusters()
    with pytest.raises(NotThere):
        kernel.create_cluster("c")


def test_the_boot_id_is_the_kernels(root: Path) -> None:
    assert TreeKernel(RealFs(str(root))).boot_id() == Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def test_only_who_was_told_so_resets_the_machine(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trigger = tmp_path / "trigger"
    monkeypatch.setattr(configfs, "SYSRQ_TRIGGER", str(trigger))
    with pytest.raises(NotAllowed) as refusal:
        TreeKernel(RealFs(str(root))).power_off("others recovered this life")
    assert refusal.value.errno == errno.EPERM
    assert not trigger.exists()
    TreeKernel(RealFs(str(root), real=True)).power_off("others recovered this life")
    assert trigger.read_bytes() == b"b"


def test_each_call_is_told_with_its_answer(root: Path) -> None:
    told = io.StringIO()
    kernel = TreeKernel(RealFs(str(root)))
    o2cb_set_verbose(told)
    try:
        kernel.link("c", "F1", "n1")
        with pytest.raises(NotThere):
            kernel.unlink("c", "F1", "n2")
    finally:
        o2cb_set_verbose(None)
    assert told.getvalue().splitlines() == [
        'o2cb: symlink("c/heartbeat/F1/n1") = 0',
        'o2cb: unlink("c/heartbeat/F1/n2") = -1 ENOENT (No such file or directory)',
    ]
