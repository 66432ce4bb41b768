"""Which kernel a configuration leads to, and who may reset the machine by it."""

import errno
from pathlib import Path

import pytest

from libo2cb.config import Config, parse
from libo2cb.errors import KernelRefusal
from libo2cb.kernel import configfs
from libo2cb.kernel.choose import choose_kernel, choose_mounts
from libo2cb.kernel.sandbox import boot
from libo2cb.mounts import KernelMounts
from libo2cb.sandbox.mounts import SandboxMounts
from ocfs2_controld.devices import KernelVolumes, SandboxVolumes, volumes_of

ENGINES = {
    "corosync": '[engine]\nkind = "corosync"\n',
    "sandbox": '[engine]\nkind = "sandbox"\nhub = "/srv/hub"\nnode = "n1"\n[fencing]\ncommand = ["/bin/true"]\n',
}


def config(engine: str, driver: str, root: Path) -> Config:
    return parse(f'{ENGINES[engine]}[kernel]\ndriver = "{driver}"\nroot = "{root}"\n')


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("driver", ["links", "classic"])
def test_a_real_driver_reads_configfs_and_the_kernels_mount_table(engine: str, driver: str, tmp_path: Path) -> None:
    (tmp_path / "cluster" / "prod").mkdir(parents=True)
    chosen = config(engine, driver, tmp_path)
    assert choose_kernel(chosen).clusters() == ["prod"]
    assert choose_kernel(chosen).boot_id() == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    table = choose_mounts(chosen)
    assert isinstance(table, KernelMounts)
    assert isinstance(volumes_of(table), KernelVolumes)


@pytest.mark.parametrize("engine", ENGINES)
def test_the_sandbox_reads_its_home_under_either_engine(engine: str, tmp_path: Path) -> None:
    boot(tmp_path / "n1")
    chosen = config(engine, "sandbox", tmp_path / "n1" / "kernel")
    choose_kernel(chosen).create_cluster("prod")
    assert (tmp_path / "n1" / "kernel" / "tree" / "prod").is_dir()
    table = choose_mounts(chosen)
    assert isinstance(table, SandboxMounts)
    assert table.directory == tmp_path / "n1" / "mounts"
    assert isinstance(volumes_of(table), SandboxVolumes)


@pytest.mark.parametrize(
    ("engine", "may_reset", "resets"),
    [("corosync", True, True), ("corosync", False, False), ("sandbox", True, False), ("sandbox", False, False)],
)
def test_only_a_real_engine_and_who_may_resets_the_machine(
    engine: str, may_reset: bool, resets: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trigger = tmp_path / "sysrq-trigger"
    monkeypatch.setattr(configfs, "SYSRQ_TRIGGER", str(trigger))
    kernel = choose_kernel(config(engine, "links", tmp_path), may_reset=may_reset)
    if resets:
        kernel.power_off("others have recovered this node's life")
        assert trigger.read_bytes() == b"b"
        return
    with pytest.raises(KernelRefusal) as caught:
        kernel.power_off("others have recovered this node's life")
    assert caught.value.errno == errno.EPERM
    assert not trigger.exists()


def test_in_the_sandbox_o2cb_controld_cannot_power_off_its_home(tmp_path: Path) -> None:
    boot(tmp_path / "n1")
    with pytest.raises(KernelRefusal) as caught:
        choose_kernel(config("sandbox", "sandbox", tmp_path / "n1" / "kernel")).power_off("no reason")
    assert caught.value.errno == errno.EPERM
