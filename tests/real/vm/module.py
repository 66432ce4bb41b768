"""The test-only kernel module: Debian's ocfs2_nodemanager, whose regions take heartbeat links (links.c).

It is built from the distribution's source package for the kernel of the guests, with headers that are unpacked into
the cache. Installed, they would make a /lib/modules of that kernel on this machine.
"""

import functools
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Final

from tests.real.vm import cache
from tests.real.vm.cache import Unavailable
from tests.real.vm.kernel import Kernel

NAME: Final = "ocfs2_nodemanager"
LINKS: Final = Path(__file__).with_name("links.c")
PARTS: Final = ("heartbeat", "masklog", "sys", "nodemanager", "quorum", "tcp", "netdebug")
HEADERS: Final = (
    *("heartbeat", "masklog", "sys", "nodemanager", "quorum", "tcp", "tcp_internal"),
    *("ocfs2_heartbeat", "ocfs2_nodemanager"),
)
OPERATIONS: Final = "static struct configfs_item_operations o2hb_region_item_ops = {\n"
RECIPE: Final = f"obj-m := {NAME}.o\n{NAME}-objs := {' '.join(f'{part}.o' for part in PARTS)}\n"


@functools.cache
def build(kernel: Kernel) -> Path:
    """The built module.

    Raises:
        Unavailable: a package or the compiler is missing, or the source is not what we know.
    """
    for program, package in (("gcc-12", "gcc-12"), ("make", "make"), ("xz", "xz-utils")):
        if shutil.which(program) is None:
            raise Unavailable(f"there is no {program} to build the test module with (Debian: {package})")
    headers, original = _headers(kernel), _source(kernel)

    def make(new: Path) -> None:
        work = new / "work"
        shutil.copytree(original, work)
        heartbeat = (work / "heartbeat.c").read_text()
        if heartbeat.count(OPERATIONS) != 1:
            raise Unavailable(f"heartbeat.c of {kernel.release} is not what the test module can be made of")
        patched = f'#include "{LINKS.name}"\n\n{OPERATIONS}\t.allow_link = links_allow,\n\t.drop_link = links_drop,\n'
        (work / "heartbeat.c").write_text(heartbeat.replace(OPERATIONS, patched))
        shutil.copy(LINKS, work)
        (work / "Makefile").write_text(RECIPE)
        said = subprocess.run(
            ("make", "-C", str(headers), f"M={work}", "modules"),
            check=False,
            capture_output=True,
            text=True,
            env={"PATH": os.environ["PATH"], "LC_ALL": "C"},
        )
        if said.returncode != 0:
            raise Unavailable(f"the test module cannot be built: {(said.stdout + said.stderr)[-2000:]}")
        (work / f"{NAME}.ko").rename(new / f"{NAME}.ko")
        shutil.rmtree(work)

    name = cache.digest([kernel.package.entry, LINKS.read_bytes(), RECIPE])
    return cache.entry(f"module-{name}", make) / f"{NAME}.ko"


def _headers(kernel: Kernel) -> Path:
    """The headers of this kernel, for `make -C`."""
    own = cache.candidate(f"linux-headers-{kernel.release}")
    names = [name for name in own.depends if re.fullmatch(r"linux-(headers-.*-common|kbuild-.*)", name)]
    packages = [own, *(cache.candidate(name) for name in names)]

    def make(new: Path) -> None:
        for package in packages:
            cache.unpack(package, new)
        # The package's Makefile names the others where they would be installed.
        for makefile in (new / "usr" / "src").glob("*/Makefile"):
            text = makefile.read_text()
            makefile.write_text(re.sub(r"(?<!\S)/usr/", f"{cache.root() / own.entry}/usr/", text))

    return cache.entry(own.entry, make) / "usr" / "src" / own.name


def _source(kernel: Kernel) -> Path:
    """fs/ocfs2/cluster of the distribution's source, of exactly this version."""
    found = re.match(r"[0-9]+\.[0-9]+", kernel.release)
    if found is None:
        raise Unavailable(f"which source package is that of kernel {kernel.release}?")
    name = f"linux-source-{found[0]}"
    package = cache.Package(name, kernel.package.version)
    files = [f"{part}.c" for part in PARTS] + [f"{header}.h" for header in HEADERS]
    inside = f"{name}/fs/ocfs2/cluster"

    def make(new: Path) -> None:
        whole = new / "whole"
        whole.mkdir()
        cache.unpack(package, whole)
        # With --occurrence=1 tar stops once it has all that it was asked for, half-way through a large archive.
        archive = whole / "usr" / "src" / f"{name}.tar.xz"
        wanted = [f"{inside}/{file}" for file in files]
        cache.run("tar", "-xJf", str(archive), "-C", str(whole), "--occurrence=1", *wanted)
        for file in files:
            (whole / inside / file).rename(new / file)
        shutil.rmtree(whole)

    return cache.entry(f"{package.entry}-cluster-{cache.digest(files)}", make)
