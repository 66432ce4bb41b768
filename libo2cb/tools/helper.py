"""The outside of a helper of mount(8): its command line, its exit codes, and errors as sentences on stderr."""

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import Final

from libo2cb.config_problems import ConfigError
from libo2cb.errors import O2cbError
from libo2cb.tools import common

EXIT_USAGE: Final = 1
EXIT_FAILED: Final = 32


class Interrupted(Exception):
    """A signal asked to end."""


def main(
    command: str,
    usage: str,
    parser: common.Arguments,
    run: Callable[[argparse.Namespace], None],
    argv: Sequence[str] | None,
    *,
    interrupted: tuple[str, int],
) -> int:
    """Run a helper.

    Args:
        command: its name, before each sentence.
        usage: what -h shows, with its line end.
        parser: of its command line.
        run: does what the options say; returns when it is done.
        argv: its arguments; those of the process unless given.
        interrupted: the sentence and the exit code when a signal ends it.

    Returns:
        The exit code.
    """
    arguments = sys.argv[1:] if argv is None else list(argv)
    if arguments in (["-h"], ["--help"]):
        sys.stdout.write(usage)
        return 0
    try:
        options = parser.parse_args(arguments)
    except common.UsageError as error:
        sys.stderr.write(f"{command}: {error}\n{usage}")
        return EXIT_USAGE
    sentence, code = interrupted
    try:
        run(options)
    except (Interrupted, KeyboardInterrupt):
        common.say(command, sentence)
        return code
    except (common.Failure, ConfigError, O2cbError) as error:
        common.complain(command, error)
        return EXIT_FAILED
    return 0
