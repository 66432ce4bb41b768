"""The kernel of the guests, and the small initrd that brings them to the host's root file system."""

import functools
import gzip
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.real.vm import cache
from tests.real.vm.cache import Unavailable

META: Final = "linux-image-amd64"
"""It depends on the kernel that Debian has now."""
FIRST_MODULES: Final = ("virtio_pci", "9pnet_virtio", "9p", "overlay")
"""What it takes to see the host's files; every other module is loaded from there."""
APPLETS: Final = ("sh", "mount", "umount", "insmod", "mkdir", "switch_root", "cat", "echo")
INIT: Final = Path(__file__).with_name("init.sh")


@dataclass(frozen=True, slots=True)
class Kernel:
    """An unpacked kernel package.

    Attributes:
        package: it.
        release: what `uname -r` says in a guest.
        root: where it is unpacked.
    """

    package: cache.Package
    release: str
    root: Path

    @property
    def image(self) -> Path:
        """The file that boots."""
        return self.root / "boot" / f"vmlinuz-{self.release}"

    @property
    def modules(self) -> Path:
        """What /lib/modules/RELEASE is to a guest."""
        return self.root / "lib" / "modules" / self.release


@functools.cache
def fetch() -> Kernel:
    """Debian's present kernel, from the cache or from the mirror.

    Raises:
        Unavailable: it cannot be had.
    """
    meta = cache.candidate(META)
    names = [name for name in meta.depends if re.fullmatch(r"linux-image-[0-9].*", name)]
    if not names:
        raise Unavailable(f"{META} depends on no kernel: {', '.join(meta.depends)}")
    package = cache.candidate(names[0])
    release = package.name.removeprefix("linux-image-")

    def make(new: Path) -> None:
        cache.unpack(package, new)
        cache.run("depmod", "-b", str(new), release)

    return Kernel(package, release, cache.entry(package.entry, make))


@functools.cache
def initrd(kernel: Kernel) -> Path:
    """The initrd of a kernel.

    Raises:
        Unavailable: busybox is missing.
    """
    busybox = shutil.which("busybox")
    if busybox is None:
        raise Unavailable("there is no busybox (Debian: busybox-static)")
    program = Path(busybox).read_bytes()

    def make(new: Path) -> None:
        tree = new / "tree"
        for name in ("bin", "dev", "proc", "sys", "modules", "host", "scratch", "new"):
            (tree / name).mkdir(parents=True)
        _write(tree / "bin" / "busybox", program)
        for applet in APPLETS:
            (tree / "bin" / applet).symlink_to("busybox")
        _write(tree / "init", INIT.read_bytes())
        order = list(closure(kernel, FIRST_MODULES))
        for module in order:
            shutil.copy(module, tree / "modules")
        (tree / "modules" / "order").write_text("".join(f"{module.name}\n" for module in order))
        files = "".join(f"{path.relative_to(tree)}\n" for path in sorted(tree.rglob("*")))
        archive = subprocess.run(
            (busybox, "cpio", "-o", "-H", "newc"), cwd=tree, input=files.encode(), capture_output=True, check=True
        )
        (new / "initrd.gz").write_bytes(gzip.compress(archive.stdout, 1, mtime=0))
        shutil.rmtree(tree)

    name = cache.digest([kernel.package.entry, program, INIT.read_bytes(), *APPLETS, *FIRST_MODULES])
    return cache.entry(f"initrd-{name}", make) / "initrd.gz"


def _write(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    path.chmod(0o755)


def closure(kernel: Kernel, names: tuple[str, ...]) -> Iterator[Path]:
    """Modules with all that they need, in the order in which insmod can take them.

    Raises:
        Unavailable: the kernel has no such module.
    """
    needs: dict[str, list[str]] = {}
    for line in (kernel.modules / "modules.dep").read_text().splitlines():
        path, _, rest = line.partition(":")
        needs[path] = rest.split()
    by_name = {Path(path).name.partition(".")[0].replace("-", "_"): path for path in needs}
    built_in = (kernel.modules / "modules.builtin").read_text().split()
    linked = {Path(path).name.partition(".")[0].replace("-", "_") for path in built_in}
    seen: set[str] = set()
    for name in names:
        if name in linked:
            continue
        if name not in by_name:
            raise Unavailable(f"kernel {kernel.release} has no module {name}")
        path = by_name[name]
        # modules.dep names all that a module needs, what is to come last first.
        for one in (*reversed(needs[path]), path):
            if one not in seen:
                seen.add(one)
                yield kernel.modules / one


def needs(kernel: Kernel, name: str) -> list[Path]:
    """What has to be loaded before a module, in order."""
    return [path for path in closure(kernel, (name,)) if path.name.partition(".")[0] != name]
