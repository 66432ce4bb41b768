"""Loads corosync's client libraries, and calls them."""

import time
from functools import cache
from typing import Any, Final, NamedTuple

from libo2cb.engine.corosync._declared import ffi as _ffi
from libo2cb.engine.corosync.errors import OK, TRY_AGAIN, CorosyncError, LibraryMissing, LibraryTooOld

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
_PREFIXES: Final = {"cpg": "cpg_", "quorum": "quorum_", "cmap": "cmap_", "cfg": "corosync_cfg_"}
"""What the names of a library's functions begin with: all that is declared is declared of each."""


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
        LibraryTooOld: one does not have all functions that are declared of it.
    """
    return Libraries(**{name: _load(name, *file) for name, file in _FILES.items()})


def _load(name: str, library: str, package: str) -> Any:
    """One library with all its functions: they are looked up now, since a call is too late to find out."""
    try:
        found = FFI.dlopen(library)
    except OSError as error:
        raise LibraryMissing(library, package, str(error)) from None
    for function in dir(found):
        if function.startswith(_PREFIXES[name]):
            try:
                getattr(found, function)
            except FFI.error:
                raise LibraryTooOld(library, function) from None
    return found


def call(library: Any, function: str, *arguments: Any) -> None:
    """Call a function once.

    Raises:
        CorosyncError: it did not return CS_OK.
    """
    if (error := getattr(library, function)(*arguments)) != OK:
        raise CorosyncError(function, error)


def insist(library: Any, function: str, *arguments: Any) -> None:
    """Call a function, and again while it says CS_ERR_TRY_AGAIN. Blocks: not for the loop.

    Raises:
        CorosyncError: it returned another error, or CS_ERR_TRY_AGAIN for RETRY_TIME.
    """
    if (error := outcome(library, function, *arguments)) != OK:
        raise CorosyncError(function, error)


def outcome(library: Any, function: str, *arguments: Any) -> int:
    """What a function returns: it is called again, with growing pauses, while that is CS_ERR_TRY_AGAIN. Blocks.

    CS_ERR_TRY_AGAIN itself is returned when it was said for RETRY_TIME.
    """
    until, pause = time.monotonic() + RETRY_TIME, FIRST_PAUSE
    while True:
        error = int(getattr(library, function)(*arguments))
        if error != TRY_AGAIN or time.monotonic() > until:
            return error
        time.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE)
