"""What the lab needs of Debian, fetched once and unpacked into a cache outside the checkout. Nothing is installed.

    $XDG_CACHE_HOME/ocfs2-controld/            ~/.cache where that is not set
        linux-image-6.1.0-56-amd64_6.1.192-2/  an unpacked package, by name and version
        initrd-4f1c.../                        things made from them, by the digest of all that went in
        .locks/, .making/                      of those who make entries

An entry is made aside and comes into its place by one rename(2), under a lock that the kernel frees with a killed
maker: it is whole or not there, whoever asks at the same time.
"""

import fcntl
import functools
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

APT: Final = ("-qq", "-o", "APT::Sandbox::User=root", "-o", "Acquire::Retries=3")
APT_SECONDS: Final = 600
"""After so long a download counts as failed."""


class Unavailable(Exception):
    """The lab cannot be had on this machine; the text says why. Tests are skipped with it."""


def root() -> Path:
    """The cache's directory."""
    named = os.environ.get("XDG_CACHE_HOME")
    return (Path(named) if named else Path.home() / ".cache") / "ocfs2-controld"


def entry(name: str, make: Callable[[Path], None]) -> Path:
    """The cache's entry of this name, made if it is not there.

    Args:
        name: of the entry; a new content has a new name.
        make: fills the empty directory that it is given.

    Raises:
        Unavailable: it could not be made.
        OSError: the cache cannot be written.
    """
    place, making = root() / name, root() / ".making" / name
    if place.is_dir():
        return place
    for directory in (root() / ".locks", making):
        directory.mkdir(parents=True, exist_ok=True)
    with (root() / ".locks" / name).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if place.is_dir():
            return place
        # Whoever held the lock before has left this behind.
        for left in making.iterdir():
            shutil.rmtree(left)
        new = Path(tempfile.mkdtemp(dir=making))
        try:
            make(new)
            new.chmod(0o755)
            new.rename(place)
        finally:
            shutil.rmtree(making, ignore_errors=True)
            making.mkdir(exist_ok=True)
    return place


def digest(parts: Iterable[str | bytes]) -> str:
    """A name for something made from these."""
    found = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        found.update(b"%d:" % len(data) + data)
    return found.hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Package:
    """A Debian package.

    Attributes:
        name: of the binary package.
        version: as Debian writes it.
        depends: names that it depends on, first alternatives only.
    """

    name: str
    version: str
    depends: tuple[str, ...] = ()

    @property
    def entry(self) -> str:
        """Its name in the cache."""
        return f"{self.name}_{self.version.replace('/', '_')}"


@functools.cache
def candidate(name: str) -> Package:
    """What apt would install under this name.

    Raises:
        Unavailable: apt is missing, or knows no such package also after an update of its lists.
    """
    said = _show(name)
    if said is None:
        _apt("apt-get", *APT, "update")
        said = _show(name)
    if said is None:
        raise Unavailable(f"apt knows no package {name}")
    return said


def _show(name: str) -> Package | None:
    text = _apt("apt-cache", "show", "--no-all-versions", name, check=False)
    fields = dict(re.findall(r"^(Package|Version|Depends): (.*)$", text, re.MULTILINE))
    if fields.get("Package") != name:
        return None
    depends = tuple(part.split()[0] for part in fields.get("Depends", "").split(", ") if part)
    return Package(name, fields["Version"], depends)


def unpack(package: Package, into: Path) -> None:
    """Download a package and unpack it; apt has compared the file with the digest that the archive has signed.

    Raises:
        Unavailable: it cannot be downloaded.
    """
    fetch = ("apt-get", *APT, "download", f"{package.name}={package.version}")
    with tempfile.TemporaryDirectory(dir=into.parent) as name:
        aside = Path(name)
        try:
            _apt(*fetch, cwd=aside)
        except Unavailable:
            # The lists may be older than what the mirror still has.
            _apt("apt-get", *APT, "update")
            _apt(*fetch, cwd=aside)
        files = list(aside.glob("*.deb"))
        if len(files) != 1:
            raise Unavailable(f"apt-get download {package.name} left {len(files)} package files")
        run("dpkg", "-x", str(files[0]), str(into))


def _apt(*command: str, cwd: Path | None = None, check: bool = True) -> str:
    if shutil.which(command[0]) is None:
        raise Unavailable(f"there is no {command[0]}: the lab takes its kernel from Debian's mirrors")
    return run(*command, cwd=cwd, check=check)


def run(*command: str, cwd: Path | None = None, check: bool = True) -> str:
    """What a command writes to stdout.

    Raises:
        Unavailable: it failed.
    """
    try:
        done = subprocess.run(
            command, cwd=cwd, check=False, capture_output=True, text=True, timeout=APT_SECONDS, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(f"{' '.join(command)}: {error}") from error
    if check and done.returncode != 0:
        raise Unavailable(f"{' '.join(command)}: exit code {done.returncode}: {done.stderr.strip()[-500:]}")
    return done.stdout
