"""The command line of both daemons.

A daemon always stays in the foreground: the service manager starts it (Type=notify), and a shell has `&`. The option -D
of the daemons of 2007, "do not fork, and talk", remains as what it was used for: everything is logged, for people.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn

from libo2cb.config import DEFAULT_PATH, ENVIRONMENT, Config, find_config, load

VERSION: Final = "0.1.0"
PROTOCOL: Final = "1.0"
_MAX_PORT: Final = 65534
FAILURE: Final = 1


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says.

    Attributes:
        config: --config; None leaves it to the environment and the default.
        port: --port; None leaves it to the configuration.
        debug: -D.
    """

    config: Path | None
    port: int | None
    debug: bool


def parse(daemon: str, purpose: str, arguments: Sequence[str] | None = None) -> Options:
    """Read the command line of a daemon; ends the process for -h, -V and what is wrong (exit code 2).

    Args:
        daemon: the program's name.
        purpose: one sentence for -h.
        arguments: those of the process unless given.
    """
    parser = argparse.ArgumentParser(
        prog=daemon,
        description=purpose,
        epilog="It stays in the foreground and says to the service manager when it is ready. While a filesystem is "
        "mounted, signals do not end it.",
        allow_abbrev=False,
    )
    parser.add_argument("-D", dest="debug", action="store_true", help="log everything, in the human form")
    parser.add_argument("-V", "--version", action="version", version=f"{daemon} {VERSION} (protocol {PROTOCOL})")
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help=f"configuration; unless given ${ENVIRONMENT}, then {DEFAULT_PATH}"
    )
    parser.add_argument("--port", type=_port, metavar="PORT", help="TCP port of the cluster, in place of cluster.port")
    found = parser.parse_args(arguments)
    return Options(found.config, found.port, found.debug)


def configure(options: Options) -> Config:
    """The configuration that the options lead to, with -D and --port applied.

    Raises:
        ConfigError: there is none, or it is wrong.
    """
    config = load(find_config(options.config, os.environ)).with_port(options.port)
    if options.debug:
        log = config.log.model_copy(update={"format": "human", "level": "debug"})
        config = config.model_copy(update={"log": log})
    return config


def fail(daemon: str, error: Exception | str) -> NoReturn:
    """Say on stderr why the daemon cannot start, each line under its name, and exit with code 1."""
    for line in str(error).splitlines() or [repr(error)]:
        sys.stderr.write(f"{daemon}: {line}\n")
    raise SystemExit(FAILURE)


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= _MAX_PORT):
        raise argparse.ArgumentTypeError(f'"{text}" is no port; a port is a number from 1 to {_MAX_PORT}')
    return int(text)
