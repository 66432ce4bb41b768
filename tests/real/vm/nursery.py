"""A process in a guest that has imported what scenes need, and forks for each: an import of a daemon takes 10 s there.

It reads one JSON line for each call (module, function, arguments, out: a file for stdout and stderr), forks, and writes
{"pid": N}, then, once that process has ended, {"code": N}. The forked process leads a session of its own, and is no
other than one that was started afresh: same code, same arguments, nothing open but 0, 1 and 2.
"""

import importlib
import json
import os
import signal
import sys
import traceback
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Final, NoReturn

PRELOADED: Final = (
    "o2cb_controld.__main__",
    "ocfs2_controld.__main__",
    "libo2cb.sandbox.hub",
    "libo2cb.sandbox.cli",
    "libo2cb.tools.hb_ctl",
    "libo2cb.tools.mount",
    "libo2cb.tools.umount",
    "tests.real.vm.clients",
    "tests.real.vm.demo",
    "tests.real.vm.station",
    "tests.real.vm.stories",
)


def main() -> None:
    """Serve calls until the input ends."""
    for name in PRELOADED:
        importlib.import_module(name)
    _say({"ready": True})
    for line in sys.stdin:
        request = json.loads(line)
        pid = forked(partial(_call, request), Path(request["out"]))
        _say({"pid": pid})
        _, status = os.waitpid(pid, 0)
        _say({"code": os.waitstatus_to_exitcode(status)})


def _say(what: Mapping[str, object]) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


def _call(request: Mapping[str, object]) -> object:
    module = importlib.import_module(str(request["module"]))
    arguments = request["arguments"]
    assert isinstance(arguments, list)
    return getattr(module, str(request["function"]))(*arguments)


def forked(
    run: Callable[[], object],
    output: Path,
    environ: Mapping[str, str] | None = None,
    before: Callable[[], None] = lambda: None,
) -> int:
    """Fork a process that runs a function and ends: with its exit code, if it gives a number; 1 for an error.

    Args:
        run: what it does.
        output: where its output is appended.
        environ: its environment; None for ours.
        before: what it does first.

    Returns:
        Its pid.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    if pid := os.fork():
        return pid
    try:
        _become(output, environ)
        before()
        _end(run)
    finally:
        os._exit(70)  # a child never goes on in its parent's code


def _become(output: Path, environ: Mapping[str, str] | None) -> None:
    os.setsid()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    if environ is not None:
        os.environ.clear()
        os.environ.update(environ)
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    nothing = os.open(os.devnull, os.O_RDONLY)
    log = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for descriptor, standard in ((nothing, 0), (log, 1), (log, 2)):
        os.dup2(descriptor, standard)
    os.closerange(3, 64)
    for name, standard in (("stdin", 0), ("stdout", 1), ("stderr", 2)):
        mode = "w" if standard else "r"
        setattr(sys, name, os.fdopen(standard, mode, encoding="utf-8", errors="surrogateescape", closefd=False))


def _end(run: Callable[[], object]) -> NoReturn:
    try:
        said = run()
        code = said if isinstance(said, int) else 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            sys.stderr.write(end.code + "\n")
    except BaseException:  # noqa: BLE001 (whatever it is, it is told, and is this process's end)
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
