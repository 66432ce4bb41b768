"""The verbose channel: silent unless asked, one line for each call and message, and never in the way."""

import errno
import io
from collections.abc import Callable, Iterator
from typing import TextIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libo2cb import verbose
from libo2cb.errors import KernelRefusal, Kind
from libo2cb.verbose import (
    Scope,
    o2cb_set_verbose,
    o2dlm_set_verbose,
    ocfs2_set_verbose,
    received,
    sent,
    told,
    verbosef,
)

SETTERS: dict[Scope, Callable[[TextIO | None], None]] = {
    Scope.O2CB: o2cb_set_verbose,
    Scope.OCFS2: ocfs2_set_verbose,
    Scope.O2DLM: o2dlm_set_verbose,
}


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    yield
    for setter in SETTERS.values():
        setter(None)


class Tripwire:
    """An argument that must not be looked at."""

    def __str__(self) -> str:
        raise AssertionError("formatted although nobody listens")


def test_says_nothing_and_formats_nothing_while_off(capfd: pytest.CaptureFixture[str]) -> None:
    verbosef(Scope.O2CB, "mkdir", Tripwire())
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("scope", Scope)
def test_each_scope_has_its_own_stream(scope: Scope) -> None:
    streams = {s: io.StringIO() for s in Scope}
    for each, setter in SETTERS.items():
        setter(streams[each])
    verbosef(scope, "open", "x")
    assert [s for s in Scope if streams[s].getvalue()] == [scope]
    SETTERS[scope](None)
    verbosef(scope, "open", "y")
    assert streams[scope].getvalue() == f'{scope.value}: open("x") = 0\n'


@pytest.mark.parametrize(
    ("result", "words"),
    [
        (None, "0"),
        (512, "512"),
        ("n3", '"n3"'),
        (OSError(errno.EBUSY, "busy", "x"), "-1 EBUSY (Device or resource busy)"),
        (KernelRefusal("rmdir", "n3", errno.ENOTEMPTY, kind=Kind.REGION), "-1 ENOTEMPTY (Directory not empty)"),
        (ValueError("no"), "ValueError: no"),
        (KeyboardInterrupt(), "KeyboardInterrupt"),
    ],
)
def test_a_call_is_told_with_its_result(result: verbose.Result, words: str) -> None:
    stream = io.StringIO()
    o2cb_set_verbose(stream)
    verbosef(Scope.O2CB, "rmdir", "cluster/c/node/n3", 7, b"abc", result=result)
    assert stream.getvalue() == f'o2cb: rmdir("cluster/c/node/n3", 7, <3 bytes>) = {words}\n'


def test_messages_are_told_with_direction_size_and_words() -> None:
    stream = io.StringIO()
    o2cb_set_verbose(stream)
    sent(Scope.O2CB, "socket", 256, "MOUNT ocfs2 U c /dev/x ocfs2")
    received(Scope.O2CB, "socket", 1, "S")
    assert stream.getvalue().splitlines() == [
        "o2cb: -> socket 256 bytes: MOUNT ocfs2 U c /dev/x ocfs2",
        "o2cb: <- socket 1 byte: S",
    ]


def test_told_tells_of_success_and_of_failure_and_lets_the_error_go_on() -> None:
    stream = io.StringIO()
    ocfs2_set_verbose(stream)
    with told(Scope.OCFS2, "mkdir", "a"):
        pass
    with pytest.raises(OSError, match="there"), told(Scope.OCFS2, "mkdir", "b"):
        raise OSError(errno.EEXIST, "there")
    assert stream.getvalue().splitlines() == [
        'ocfs2: mkdir("a") = 0',
        'ocfs2: mkdir("b") = -1 EEXIST (File exists)',
    ]


def test_a_broken_stream_hurts_nobody() -> None:
    stream = io.StringIO()
    o2cb_set_verbose(stream)
    stream.close()
    verbosef(Scope.O2CB, "mkdir", "a")
    with io.TextIOWrapper(io.BytesIO(), encoding="ascii") as narrow:
        o2cb_set_verbose(narrow)
        verbosef(Scope.O2CB, "mkdir", "größer")


@given(st.text(), st.text())
def test_whatever_the_names_hold_it_is_one_line(name: str, text: str) -> None:
    stream = io.StringIO()
    o2cb_set_verbose(stream)
    verbosef(Scope.O2CB, "mkdir", name, result=text)
    sent(Scope.O2CB, name, 256, text)
    o2cb_set_verbose(None)
    assert stream.getvalue().count("\n") == 2
    assert len(stream.getvalue().splitlines()) == 2
