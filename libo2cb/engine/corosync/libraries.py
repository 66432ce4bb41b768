"""Loads corosync's client libraries, and calls them."""

import time
from functools import cache
from typing import Any, Final, NamedTuple

from libo2cb.engine.corosync._declared import ffi as _ffi
from libo2cb.engine.corosync.errors import OK, TRY_AGAIN, CorosyncError, LibraryMissing

FFI: Final[Any] = _ffi
FIRST_PAUSE: Final = 0.002
LONGEST_PAUSE: Final = 0.1
RETRY_TIME: Final = 5.0
"""Seconds for which a call is made again that says CS_ERR_TRY_AGAIN."""

_FILES: Final = {
    "cpg": ("libcpg.so.4", "libcpg4"),
    "quorum": ("libquorum.so.5", "libquorum5"),
    "cmap": ("libcmap.so.4", "libcmap4"),
    "cfg": ("libcfg.so.7", "libcfg7"),
}


class Libraries(NamedTuple):
    """The loaded libraries. Their functions are called as they are declared in build.py."""

    cpg: Any
    quorum: Any
    cmap: Any
    cfg: Any


@cache
def libraries() -> Libraries:
    """The libraries, loaded at the first call.

    Raises:
        LibraryMissing: one cannot be loaded; the Debian package is named.
    """
    return Libraries(**{name: _load(*file) for name, file in _FILES.items()})


def _load(library: str, package: str) -> Any:
    try:
        return FFI.dlopen(library)
    except OSError as error:
        raise LibraryMissing(library, package, str(error)) from None


def call(library: Any, function: str, *arguments: Any) -> None:
    """Call a function once.

    Raises:
        CorosyncError: it did not return CS_OK.
    """
    if (error := getattr(library, function)(*arguments)) != OK:
        raise CorosyncError(function, error)


def insist(library: Any, function: str, *arguments: Any) -> None:
    """Call a function, and again with growing pauses while it says CS_ERR_TRY_AGAIN. Blocks: not for the loop.

    Raises:
        CorosyncError: it returned another error, or CS_ERR_TRY_AGAIN for RETRY_TIME.
    """
    until, pause = time.monotonic() + RETRY_TIME, FIRST_PAUSE
    while True:
        error = getattr(library, function)(*arguments)
        if error == OK:
            return
        if error != TRY_AGAIN or time.monotonic() > until:
            raise CorosyncError(function, error)
        time.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE)
