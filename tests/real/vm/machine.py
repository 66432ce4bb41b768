"""One QEMU process: started, seen, and always ended."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

from tests.real.vm import kernel
from tests.real.vm.agent import PORT
from tests.real.vm.cache import Unavailable

QEMU: Final = "qemu-system-x86_64"
SOURCE: Final = Path(__file__).resolve().parents[3]
AGENT: Final = Path(__file__).with_name("agent.py")
COMMAND_LINE: Final = (
    "console=ttyS0 quiet panic=-1 oops=panic mitigations=off nokaslr random.trust_cpu=on audit=0 "
    # On a busy host a guest may get no time for half a minute: that is no fault of its kernel, nor of its timer.
    "rcupdate.rcu_cpu_stall_suppress=1 nowatchdog no_timer_check "
    "tsc=reliable"
)
"""An oops becomes a panic, a panic a reset, and a reset the end of QEMU: a guest never hangs in one."""
CLOCK: Final = {"kvm": "", "tcg": " clocksource=hpet nolapic_timer"}
"""On a busy host an emulated TSC is measured wrongly at boot: guests' clocks ran 3 and 16 times too fast. So may be the
local APIC's timer. The HPET says its own frequency."""
ACCELERATION: Final = {"kvm": "kvm", "tcg": "tcg,tb-size=256"}
"""Unless told otherwise TCG keeps up to a gigabyte of translated code."""
PROCESSOR: Final = Path("/proc/cpuinfo")
MODULES: Final = ("virtio_console", "configfs", "virtio_blk", "virtio_net", "virtio_rng")


def refuse() -> None:
    """See whether guests can be had on this machine.

    Raises:
        Unavailable: and why.
    """
    if os.uname().machine != "x86_64":
        raise Unavailable(f"the lab boots an x86_64 kernel, and this is {os.uname().machine}")
    if os.geteuid() != 0:
        raise Unavailable("guests share the whole root file system of this machine, which takes root")
    for program, package in ((QEMU, "qemu-system-x86"), ("busybox", "busybox-static"), ("depmod", "kmod")):
        if shutil.which(program) is None:
            raise Unavailable(f"there is no {program} (Debian: {package})")


def accelerator(processor: Path = PROCESSOR) -> str:
    """KVM only where the processor has it: elsewhere /dev/kvm may open, and then nothing runs."""
    flags = re.search(r"^flags\s*:(.*)$", processor.read_text(), re.MULTILINE)
    has = flags is not None and {"vmx", "svm"} & set(flags[1].split())
    return "kvm" if has and os.access("/dev/kvm", os.R_OK | os.W_OK) else "tcg"


@dataclass(frozen=True, slots=True)
class Network:
    """A switch between guests that does not leave the loopback device.

    Attributes:
        group: multicast address and port.
    """

    group: str


@dataclass(frozen=True, slots=True)
class Hardware:
    """What a guest is made of.

    Attributes:
        name: its host name.
        number: 1 to 254: the last part of its MAC address.
        memory: megabytes.
        disks: images, shared with other guests: /dev/vda and so on.
        network: None for no network card.
    """

    name: str
    number: int = 1
    memory: int = 512
    disks: Sequence[Path] = ()
    network: Network | None = None


class Machine:
    """A QEMU process. It dies with the thread that made this object, also when that is killed.

    Args:
        hardware: what it is made of.
        home: an empty directory. The guest sees it as /out, and can write there.
    """

    def __init__(self, hardware: Hardware, home: Path) -> None:
        self.hardware = hardware
        self.home = home
        self.serial = home / "serial"
        self.agent = home / "agent.sock"
        linux = kernel.fetch()
        (home / "begin.sh").write_text(_begin(hardware, linux))
        command = [
            *(QEMU, "-accel", ACCELERATION[accelerator()], "-machine", "q35", "-m", str(hardware.memory), "-smp", "1"),
            *("-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"),
            *("-serial", f"file:{self.serial}"),
            *("-kernel", str(linux.image), "-initrd", str(kernel.initrd(linux))),
            *("-append", COMMAND_LINE + CLOCK[accelerator()]),
            *("-virtfs", "local,path=/,mount_tag=host,security_model=none,readonly=on,multidevs=remap"),
            *("-virtfs", f"local,path={home},mount_tag=out,security_model=none"),
            *("-object", "rng-random,id=random,filename=/dev/urandom", "-device", "virtio-rng-pci,rng=random"),
            *("-device", "virtio-serial-pci", "-chardev", f"socket,id=agent,path={self.agent},server=on,wait=off"),
            *("-device", f"virtserialport,chardev=agent,name={PORT}"),
            *("-chardev", f"socket,id=monitor,path={home / 'monitor.sock'},server=on,wait=off"),
            *("-mon", "chardev=monitor,mode=control"),
        ]
        for number, disk in enumerate(hardware.disks):
            drive = f"file={disk},format=raw,if=none,id=disk{number},cache=none,file.locking=off"
            command += ["-drive", drive, "-device", f"virtio-blk-pci,drive=disk{number},share-rw=on"]
        if hardware.network is not None:
            mac = f"52:54:00:09:00:{hardware.number:02x}"
            command += ["-netdev", f"socket,id=net,mcast={hardware.network.group},localaddr=127.0.0.1"]
            command += ["-device", f"virtio-net-pci,netdev=net,mac={mac}"]
        with (home / "qemu").open("wb") as said:
            self.process = subprocess.Popen(
                ("setpriv", "--pdeathsig", "KILL", "--", *command),
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                start_new_session=True,  # an interrupt of the terminal is the tests' to deal with
            )
        self._seen = psutil.Process(self.process.pid)

    def lives(self) -> bool:
        """Whether it runs."""
        return self.process.poll() is None

    def kill(self) -> None:
        """Cut its power."""
        self.process.kill()
        self.process.wait()

    def usage(self) -> tuple[float, float]:
        """Seconds of processor time that it has used, and megabytes of memory that it has now."""
        times, memory = self._seen.cpu_times(), self._seen.memory_info()
        return times.user + times.system, memory.rss / (1 << 20)

    def last_words(self) -> str:
        """The end of what its console and QEMU itself have said."""
        said = [path.read_text(errors="replace")[-4000:] for path in (self.home / "qemu", self.serial) if path.exists()]
        return "\n".join(text for text in said if text)


def _begin(hardware: Hardware, linux: kernel.Kernel) -> str:
    """The guest's second program, once it is on the host's root file system."""
    modules = f"/lib/modules/{linux.release}"
    return "\n".join(
        (
            "export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TMPDIR=/run/tmp",
            "mkdir -p /run/tmp /run/lock",
            # Bound, not linked: should the host have this very kernel, then there is a directory already.
            f"mkdir -p {modules}",
            f"mount --bind {shlex.quote(str(linux.modules))} {modules}",
            "hostname " + shlex.quote(hardware.name),
            "ip link set lo up",
            *(f"modprobe {module}" for module in MODULES),
            "mount -t configfs none /sys/kernel/config",
            "mount -t debugfs none /sys/kernel/debug",
            f"{shlex.quote(sys.executable)} -I {shlex.quote(str(AGENT))}",
            "echo o >/proc/sysrq-trigger",
            "sleep 60",
            "",
        )
    )
