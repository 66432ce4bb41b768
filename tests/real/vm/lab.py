"""Guests for tests: booted once, used by many scenes, and ended with the tests.

    def test_something(lab: VmLab) -> None:
        guest = lab.guest()                       the first guest; booted by whoever asks first
        with guest.scene("something"):
            lab.load(guest, Regions.LINKING)      ocfs2_nodemanager, ours or the stock one
            guest.run("mkdir /sys/kernel/config/cluster/c").worked()

Guest n has the address 10.9.0.n on a network that the guests share and nothing else sees, the disk /dev/vda that all of
them share, and this machine's files under its own. What a scene leaves in the kernel, the next one finds, but for
processes; `load` begins with an empty tree.
"""

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from secrets import randbelow as _any
from typing import Final, Self

from tests.real.vm import kernel, machine, module
from tests.real.vm.guest import Cost, Guest, GuestDied
from tests.real.vm.machine import Hardware, Network

MEMORY: Final = 768
"""Megabytes of a guest: a cluster of three nodes fits in."""
DISK_BYTES: Final = 256 << 20
"""Size of the shared disk; sparse."""

_UNLOAD: Final = """
set -e
umount -a -t ocfs2
cd /sys/kernel/config
for cluster in cluster/*/; do
  [ -d "$cluster" ] || continue
  find "$cluster" -type l -delete
  find "$cluster"heartbeat "$cluster"node -mindepth 1 -maxdepth 1 -type d -print0 | xargs -0 -r rmdir
  rmdir "$cluster"
done
for module in ocfs2_stack_user ocfs2_stack_o2cb ocfs2_dlmfs ocfs2_dlm ocfs2 ocfs2_stackglue ocfs2_nodemanager; do
  if [ -d /sys/module/$module ]; then rmmod $module; fi
done
"""


class Regions(Enum):
    """Which ocfs2_nodemanager a guest has."""

    STOCK = "Debian's: its regions refuse links"
    LINKING = "ours: its regions take links"


class VmLab:
    """Up to 254 guests on one network. Made by `up`."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._guests: dict[int, Guest] = {}
        self._costs: list[Cost] = []
        self._network = Network(f"230.9.{_any(256)}.{_any(256)}:{20000 + _any(40000)}")
        self.disk = home / "disk"

    @classmethod
    @contextmanager
    def up(cls) -> Iterator[Self]:
        """A lab without guests; all of them are ended at the end.

        Raises:
            Unavailable: this machine cannot have one, and why.
        """
        machine.refuse()
        lab = cls(Path(tempfile.mkdtemp(prefix="vm")))
        # Should this process be killed, its guests die with it, and the end of this one's input tells it to clean up.
        keeper = subprocess.Popen(
            ("/bin/sh", "-c", 'read -r done || sleep 1; rm -rf "$1"', "keeper", str(lab._home)),
            stdin=subprocess.PIPE,
            start_new_session=True,
        )
        try:
            with lab.disk.open("wb") as disk:
                disk.truncate(DISK_BYTES)
            yield lab
        finally:
            for number in list(lab._guests):
                lab.end(number)
            keeper.communicate(b"done\n")

    def guest(self, number: int = 1) -> Guest:
        """A guest that is ready; booted when it does not run."""
        return self.guests(number)[0]

    def guests(self, *numbers: int) -> list[Guest]:
        """Guests that are ready; those that do not run are booted at the same time."""
        for number in numbers:
            guest = self._guests.get(number)
            if guest is not None and not guest.machine.lives():
                self.end(number)
            if number not in self._guests:
                self._boot(number)
        for number in numbers:
            try:
                self._guests[number].ready()
            except GuestDied:
                # Booting is not what is tested; under emulation on a busy host it has failed before.
                self.end(number)
                self._boot(number)
                self._guests[number].ready()
            self._guests[number].run(
                f"ip link set eth0 up; ip addr replace {self.address(number)}/24 dev eth0"
            ).worked()
        return [self._guests[number] for number in numbers]

    def _boot(self, number: int) -> None:
        hardware = Hardware(f"g{number}", number, MEMORY, disks=(self.disk,), network=self._network)
        self._guests[number] = Guest(hardware, self._home)

    def end(self, number: int) -> None:
        """Cut a guest's power; the next who asks for it gets a new one."""
        guest = self._guests.pop(number)
        self._costs += guest.costs
        guest.close()

    @staticmethod
    def address(number: int) -> str:
        """A guest's address on the network."""
        return f"10.9.0.{number}"

    def load(self, guest: Guest, regions: Regions, *modules: str) -> None:
        """An ocfs2_nodemanager with an empty tree, then these modules.

        Raises:
            AssertionError: what an earlier scene has left cannot be removed.
        """
        linux = kernel.fetch()
        guest.run(_UNLOAD).worked()
        if regions is Regions.LINKING:
            needed = " ".join(str(path) for path in kernel.needs(linux, module.NAME))
            guest.run(f"for each in {needed}; do insmod $each; done; insmod {module.build(linux)}").worked()
        for name in (module.NAME, *modules):
            guest.run(["modprobe", name]).worked()

    def costs(self) -> list[Cost]:
        """What all scenes have cost so far."""
        return [*self._costs, *(cost for guest in self._guests.values() for cost in guest.costs)]


__all__ = ["GuestDied", "Regions", "VmLab"]
