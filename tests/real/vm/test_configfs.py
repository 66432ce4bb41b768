"""configfs as it is: the suite of the kernel port, in a guest, on the real tree.

What the sandbox's tree answers is checked by the same tests, so that the two answer alike, errno for errno.
"""

import re
import sys

import pytest

from tests.real.vm.lab import Regions, VmLab

SUITE = "tests/kernel"


@pytest.mark.parametrize("regions", Regions)
def test_the_suite_holds_on_real_configfs(vms: VmLab, regions: Regions) -> None:
    guest = vms.guest()
    with guest.scene(f"configfs, {regions.name.lower()} regions"):
        vms.load(guest, regions)
        here = (sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--basetemp=/run/pytest")
        said = guest.run([*here, "-k", "configfs and not test_configfs", SUITE], seconds=1200).worked()
        counted = {word: int(number) for number, word in re.findall(r"(\d+) (passed|skipped|failed|error)", said)}
        skipped = re.findall(r"^SKIPPED .*", said, re.MULTILINE)
        assert counted["passed"] > 50, said
        if regions is Regions.LINKING:
            assert all("allow links" in line for line in skipped), said
            assert counted.get("skipped", 0) == 1, said
        else:
            assert skipped, said
            assert all("the regions of this kernel allow no links" in line for line in skipped), said
