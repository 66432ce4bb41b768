"""Labs for the tests. Without corosync, or where no namespaces can be made, all are skipped, with the reason.

A lab takes seconds to come up, so the tests of one file share those with equal settings. After each test everything is
put back as it was, and the laws are judged over all that was recorded so far. A lab whose test has failed is ended.
"""

from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from typing import Final

import pytest

from tests.real.corosync.cluster import missing
from tests.real.corosync.lab import RealLab, Settings

Shared = Callable[..., RealLab]
_FAILED: Final = pytest.StashKey[bool]()
_Key = tuple[int, Settings]


@pytest.fixture(autouse=True, scope="session")
def _corosync() -> None:
    if why := missing():
        pytest.skip(f"no real corosync here: {why}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Remember whether the test itself has failed: then its lab is not waited for to come to rest."""
    report = yield
    if call.when == "call":
        item.stash[_FAILED] = report.failed
    return report


class Shelf:
    """The labs of one file."""

    def __init__(self) -> None:
        self._labs: dict[_Key, tuple[RealLab, ExitStack]] = {}

    def take(self, count: int, settings: Settings) -> RealLab:
        """A lab with so many nodes and these settings."""
        if (count, settings) not in self._labs:
            stack = ExitStack()
            self._labs[count, settings] = stack.enter_context(RealLab.of(count, settings)), stack
        return self._labs[count, settings][0]

    def drop(self, lab: RealLab) -> None:
        """End a lab."""
        for key, (known, stack) in list(self._labs.items()):
            if known is lab:
                del self._labs[key]
                stack.close()

    def clear(self) -> None:
        """End all."""
        for lab, _ in list(self._labs.values()):
            self.drop(lab)


@pytest.fixture(scope="module")
def shelf() -> Iterator[Shelf]:
    """The labs of this file."""
    it = Shelf()
    try:
        yield it
    finally:
        it.clear()


@pytest.fixture
def shared(shelf: Shelf, request: pytest.FixtureRequest) -> Iterator[Shared]:
    """Gives a lab: `shared(nodes, settings)`. Put back and judged at the end of the test."""
    labs: list[RealLab] = []

    def take(count: int, settings: Settings | None = None) -> RealLab:
        lab = shelf.take(count, settings or Settings())
        for node in lab.nodes.values():
            node.mark()
        labs.append(lab)
        return lab

    yield take
    try:
        for lab in labs:
            if request.node.stash.get(_FAILED, True):
                broken = lab.breaches()
            else:
                lab.restore()
                broken = lab.breaches(at_rest=True)
            assert not broken, broken
    except BaseException:
        for lab in labs:
            shelf.drop(lab)
        raise
    if request.node.stash.get(_FAILED, True):
        for lab in labs:
            shelf.drop(lab)
