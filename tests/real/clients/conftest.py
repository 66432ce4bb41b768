"""A lab with Debian's clients for each module, judged at its end; each test leaves it as it found it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from libo2cb.sandbox.homes import Settings
from tests.real.clients.kernel import build
from tests.real.clients.lab import ClientLab, ClientNode, missing


@pytest.fixture(scope="session")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shim, compiled; skips the test where something is missing."""
    if why := missing():
        pytest.skip(why)
    return build(tmp_path_factory.mktemp("shim"))


@pytest.fixture(scope="module")
def lab(request: pytest.FixtureRequest, shim: Path) -> Iterator[ClientLab]:
    """A lab of one node; of two where the module says NODES = 2."""
    ClientLab.shim = shim
    with ClientLab.up(getattr(request.module, "NODES", 1), Settings(join_delay=1.0)) as up:
        failed_before = request.session.testsfailed
        yield up
        broken = up.judged() if request.session.testsfailed == failed_before else up.breaches()
        assert not broken, broken


@pytest.fixture
def node(lab: ClientLab) -> Iterator[ClientNode]:
    """Node n1, as a cman cluster on a kernel without DLM callbacks. Whoever uses it leaves every group at its end."""
    n1 = lab["n1"]
    n1.stack("cman")
    n1.callbacks(None)
    n1.mark()
    yield n1
    n1.unused()
