"""The race on a real kernel: the stories of lock and queue, with the kernel's own EBUSY as the pin."""

import pytest

from tests.real.vm import stories
from tests.real.vm.lab import Regions, VmLab

IN_CI = {
    *(("0", kill) for kill in stories.KILLS),
    # A link that stood before ocfs2_controld was killed has no lock behind it: o2cb_controld's own look alone holds it.
    *((name, "ocfs2") for name in ("1", "3", "4", "8", "9b", "11", "12", "13")),
    # The queue is stored nowhere: the next o2cb_controld finds it in what stands and what is wanted.
    *((name, "o2cb") for name in ("2", "5", "6", "7", "9a", "10")),
    # What these show is in the memory of a daemon that is not killed.
    *((name, "none") for name in ("14", "15")),
}
"""Each story at least once, some 15 s each; all of them, struck in every way, are told by `make long`."""
SECONDS = 900.0

TOLD = [
    pytest.param(name, kill, marks=() if (name, kill) in IN_CI else pytest.mark.long, id=f"{name}-{kill}")
    for name in stories.STORIES
    for kill in stories.KILLS
]


@pytest.mark.parametrize(("name", "kill"), TOLD)
def test_story(vms: VmLab, name: str, kill: str) -> None:
    guest = vms.guest()
    with guest.scene(f"story {name}, killed: {kill}"):
        vms.load(guest, Regions.LINKING, "ocfs2", "loop")
        said = guest.call(stories.__name__, "play", name, kill, seconds=SECONDS).worked()
        assert "strace: " in said
