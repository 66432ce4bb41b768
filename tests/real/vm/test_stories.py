"""The race on a real kernel: the stories of lock and queue, with the kernel's own EBUSY as the pin."""

import pytest

from tests.real.vm import stories
from tests.real.vm.lab import Regions, VmLab

IN_CI = {("0", "none"), ("0", "o2cb"), ("0", "ocfs2")} | {(n, "none") for n in ("4", "7", "9a", "10", "12")}
"""What is told in each run, some 20 s each; all stories, struck in every way, are told by `make long`."""
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
