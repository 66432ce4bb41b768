"""The two systemd units, and `python -m libo2cb.service.units DIRECTORY`, which writes them there."""

from importlib import resources
from pathlib import Path
from typing import Final

UNITS: Final = ("o2cb_controld.service", "ocfs2_controld.service")
PACKAGED: Final = "/usr/sbin/"
"""Where the units look for the daemons unless told otherwise."""


def text(unit: str, programs: Path) -> str:
    """A unit's text.

    Args:
        unit: its name.
        programs: the directory that has the daemons.
    """
    packaged = (resources.files(__name__) / unit).read_text("utf-8")
    return packaged.replace(f"ExecStart={PACKAGED}", f"ExecStart={programs}/")


def install(directory: Path, programs: Path) -> list[Path]:
    """Write both units into a directory, and return where they are. What stands there is replaced.

    Raises:
        FileNotFoundError: a daemon is not among the programs: such a unit could not be started.
        OSError: a unit cannot be written.
    """
    for unit in UNITS:
        (programs / unit.removesuffix(".service")).stat()
    written = [directory / unit for unit in UNITS]
    for file in written:
        file.write_text(text(file.name, programs), "utf-8")
    return written
