"""Labs for the tests, judged after each: no law may have been broken, whatever the test looked at."""

from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from typing import Final

import pytest

from libo2cb.sandbox.homes import Settings
from tests.process.lab import Lab

Up = Callable[..., Lab]
_FAILED: Final = pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Remember whether the test itself has failed: then its lab is not waited for to come to rest."""
    report = yield
    if call.when == "call":
        item.stash[_FAILED] = report.failed
    return report


@pytest.fixture
def up(request: pytest.FixtureRequest) -> Iterator[Up]:
    """Makes a lab: `up(nodes, settings, daemons=...)`. Judged at the end of the test, then closed."""
    labs: list[Lab] = []
    with ExitStack() as stack:

        def make(count: int, settings: Settings | None = None, *, daemons: bool = True) -> Lab:
            labs.append(stack.enter_context(Lab.up(count, settings, daemons=daemons)))
            return labs[-1]

        yield make
        failed = request.node.stash.get(_FAILED, True)
        for lab in labs:
            broken = lab.breaches() if failed else lab.judged()
            assert not broken, broken
