"""One lab for all tests on a real kernel; what their scenes cost is printed at the end."""

from collections.abc import Iterator

import pytest

from tests.real.vm.cache import Unavailable
from tests.real.vm.guest import Cost
from tests.real.vm.lab import VmLab

_COSTS: list[Cost] = []


@pytest.fixture(scope="session")
def vms() -> Iterator[VmLab]:
    """The lab. Skips where there can be none."""
    try:
        with VmLab.up() as lab:
            yield lab
            _COSTS.extend(lab.costs())
    except Unavailable as why:
        pytest.skip(str(why))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Time and memory of each scene."""
    if _COSTS:
        terminalreporter.section("scenes on a real kernel")
        for cost in _COSTS:
            terminalreporter.write_line(str(cost))
