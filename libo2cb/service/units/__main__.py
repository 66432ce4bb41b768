"""Writes the systemd units into a directory: `python -m libo2cb.service.units /etc/systemd/system`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from libo2cb.service.units import install


def main(arguments: Sequence[str] | None = None) -> int:
    """Write them; the exit code."""
    parser = argparse.ArgumentParser(
        prog="libo2cb.service.units",
        description="Writes the systemd units of o2cb_controld and ocfs2_controld into a directory.",
        epilog="Then say: systemctl daemon-reload, and systemctl enable --now o2cb_controld ocfs2_controld",
    )
    parser.add_argument("directory", type=Path, help="such as /etc/systemd/system")
    parser.add_argument(
        "--programs",
        type=Path,
        default=Path(sys.executable).parent,
        metavar="DIR",
        help="directory that has the two daemons; unless given that of this Python, %(default)s",
    )
    options = parser.parse_args(arguments)
    try:
        for file in install(options.directory, options.programs.absolute()):
            sys.stdout.write(f"{file}\n")
    except OSError as error:
        sys.stderr.write(f"libo2cb.service.units: {error.filename}: {error.strerror}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
