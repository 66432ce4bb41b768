"""Debian's own mount.ocfs2 on a real kernel, against our daemon with the links driver."""

import shutil

import pytest

from tests.real.vm import clients
from tests.real.vm.lab import Regions, VmLab


@pytest.mark.parametrize(
    ("regions", "callbacks"),
    [
        (Regions.LINKING, "shown"),
        (Regions.LINKING, "hidden"),
        (Regions.STOCK, "shown"),
    ],
)
def test_debians_mount_goes_up_to_mount_and_comes_back(vms: VmLab, regions: Regions, callbacks: str) -> None:
    if shutil.which("mkfs.ocfs2") is None:
        pytest.skip("there is no mkfs.ocfs2 (Debian: ocfs2-tools)")
    guest = vms.guest()
    with guest.scene(f"mount.ocfs2, {regions.name.lower()} regions, callbacks {callbacks}"):
        vms.load(guest, regions, "ocfs2", "loop")
        said = guest.call(clients.__name__, "debian_mounts", regions.name.lower(), callbacks, seconds=900)
        print(said.out)
        said.worked()
    # Also that nothing is left which keeps the modules: no lockspace, no mount.
    vms.load(guest, Regions.STOCK)
