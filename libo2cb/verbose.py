r"""What the library does, told line by line to who asks.

The library prints nothing by itself. With a stream set for a scope, each message and each system call of that scope
becomes one line:

    o2cb: -> @ocfs2_controld_sock 256 bytes: MOUNT ocfs2 94A9... demo /dev/vdb ocfs2
    o2cb: <- @ocfs2_controld_sock 256 bytes: STATUS 0 OK
    o2cb: rmdir("cluster/c/node/n3") = -1 EBUSY (Device or resource busy)
    ocfs2: pread(3, 512, 8192) = 512

`verbosef` is the one way in; `sent`, `received` and `call` say in their names what the line will be.

A line costs nothing while its scope is off: one test, and no formatting. Give values, not formatted strings. What a
stream refuses (it is closed, full, or broken) is dropped: telling must never hurt what is told of.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import Enum
from typing import TextIO

from libo2cb.wording import errno_words, one_line, shown

ARGUMENT_LIMIT = 256
"""Characters of a string argument or message that are told."""

Result = int | str | BaseException | None
"""What a system call gave: a number, a text, the error that it raised, or None for plain success."""


class Scope(Enum):
    """Which part of the library speaks."""

    O2CB = "o2cb"
    OCFS2 = "ocfs2"
    O2DLM = "o2dlm"


_streams: dict[Scope, TextIO] = {}


def o2cb_set_verbose(stream: TextIO | None) -> None:
    """Tell what is done to the node tree, and all that passes on the sockets, to this stream; None turns it off."""
    _set(Scope.O2CB, stream)


def ocfs2_set_verbose(stream: TextIO | None) -> None:
    """Tell what is done to volumes and the mount table to this stream; None turns it off."""
    _set(Scope.OCFS2, stream)


def o2dlm_set_verbose(stream: TextIO | None) -> None:
    """Tell what is done to the lock manager to this stream; None turns it off."""
    _set(Scope.O2DLM, stream)


def _set(scope: Scope, stream: TextIO | None) -> None:
    if stream is None:
        _streams.pop(scope, None)
    else:
        _streams[scope] = stream


def verbose(scope: Scope) -> bool:
    """Whether anybody listens: for callers whose arguments are costly to make."""
    return scope in _streams


def verbosef(scope: Scope, call: str, *arguments: object, result: Result = None) -> None:
    """Tell of one system call, or of anything else that reads as one.

    Args:
        scope: who speaks.
        call: name of the call: "mkdir".
        arguments: what it was given. Strings are quoted; bytes are told by their length.
        result: what it gave. An OSError becomes "-1 EBUSY (Device or resource busy)"; an object with a positive `errno`
            (a KernelRefusal) likewise; another exception its own words; None becomes 0.
    """
    if scope not in _streams:
        return
    _tell(scope, f"{call}({', '.join(map(_argument, arguments))}) = {_result(result)}")


def sent(scope: Scope, peer: str, size: int, text: str) -> None:
    """Tell of a message that went out.

    Args:
        scope: who speaks.
        peer: the other side: the socket's name.
        size: bytes on the wire.
        text: the words in them.
    """
    if scope in _streams:
        _tell(scope, _message("->", peer, size, text))


def received(scope: Scope, peer: str, size: int, text: str) -> None:
    """Tell of a message that came in; arguments as for sent."""
    if scope in _streams:
        _tell(scope, _message("<-", peer, size, text))


@contextmanager
def told(scope: Scope, call: str, *arguments: object) -> Iterator[None]:
    """Tell of the one call in the block, with the error that it raises, if it does."""
    try:
        yield
    except BaseException as error:
        verbosef(scope, call, *arguments, result=error)
        raise
    verbosef(scope, call, *arguments)


def _message(arrow: str, peer: str, size: int, text: str) -> str:
    return f"{arrow} {peer} {size} byte{'' if size == 1 else 's'}: {shown(text, ARGUMENT_LIMIT)}"


def _argument(value: object) -> str:
    if isinstance(value, str):
        return f'"{shown(value, ARGUMENT_LIMIT)}"'
    if isinstance(value, (bytes, bytearray, memoryview)):
        return f"<{len(value)} bytes>"
    return str(value)


def _result(result: Result) -> str:
    if result is None:
        return "0"
    if isinstance(result, str):
        return f'"{shown(result, ARGUMENT_LIMIT)}"'
    if isinstance(result, BaseException):
        errno = getattr(result, "errno", None)
        if isinstance(errno, int):
            return f"-1 {errno_words(errno)}"
        return f"{type(result).__name__}: {result}" if str(result) else type(result).__name__
    return str(result)


def _tell(scope: Scope, line: str) -> None:
    # One write for each line, so that the lines of two threads do not mix. A stream in a strict encoding may refuse a
    # name, and ValueError is what a closed one raises.
    with suppress(OSError, ValueError):
        stream = _streams[scope]
        stream.write(f"{scope.value}: {one_line(line)}\n")
        stream.flush()
