"""The outside of a command: its streams, its command line, its exit codes, and errors as sentences on stderr."""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

from libo2cb.config_problems import ConfigError
from libo2cb.errors import O2cbError
from libo2cb.report_client import Unanswered
from libo2cb.tools import common
from libo2cb.wording import errno_words
from protocol.framing import BadMessage

EXIT_USAGE: Final = 1
EXIT_FAILED: Final = 32
"""Of mount(8)'s helpers."""


class Interrupted(Exception):
    """A signal asked to end."""


def main(
    command: str,
    usage: str,
    parse: Callable[[Sequence[str]], argparse.Namespace],
    run: Callable[[argparse.Namespace], int],
    argv: Sequence[str] | None,
    *,
    failed: int = EXIT_FAILED,
    interrupted: tuple[str, int],
) -> int:
    """Run a command.

    Args:
        command: its name, before each sentence.
        usage: what -h shows, with its line end.
        parse: makes options of its arguments, or raises UsageError.
        run: does what the options say; returns the exit code.
        argv: its arguments; those of the process unless given.
        failed: the exit code of an error that names no other.
        interrupted: the sentence and the exit code when a signal ends it.

    Returns:
        The exit code.
    """
    _open_streams()
    arguments = sys.argv[1:] if argv is None else list(argv)
    try:
        if arguments in (["-h"], ["--help"]):
            common.answer(usage.rstrip("\n"))
            return 0
        return run(parse(arguments))
    except common.UsageError as error:
        common.say(command, str(error))
        with suppress(OSError, ValueError):
            sys.stderr.write(usage)
        return EXIT_USAGE
    except (Interrupted, KeyboardInterrupt):
        sentence, code = interrupted
        common.say(command, sentence)
        return code
    except BrokenPipeError:  # `ocfs2_hb_ctl -I | head`: the reader has seen enough
        return failed
    except common.Failure as error:
        common.complain(command, error)
        return failed if error.code is None else error.code
    except (ConfigError, O2cbError, Unanswered, BadMessage) as error:
        common.complain(command, error)
        return failed
    except OSError as error:
        what = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, str | bytes) else ""
        common.say(command, what + (errno_words(error.errno) if error.errno else str(error)))
        return failed
    finally:
        _settle()


def _open_streams() -> None:
    """Open what of the standard streams the process was started without; who calls from inside the kernel has none.

    A started with its stderr closed opens a volume, which becomes descriptor 2. What is then written for a person, by
    a library or by the interpreter, is written to the volume.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: PTH123, SIM115 (as long as we live)


def _settle() -> None:
    """Let the interpreter's end not fail once more for an answer that nobody took."""
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC), sys.stdout.fileno())
