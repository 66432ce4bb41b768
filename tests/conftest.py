"""Proofs beside the tests (beside.py): begun with the session, awaited by its last tests, shown at its end."""

from typing import Final

import pytest

from tests.beside import PROOFS, Job

_JOBS: Final = pytest.StashKey[dict[str, Job]]()


def _proof(item: pytest.Item) -> str | None:
    mark = item.get_closest_marker("beside")
    return str(mark.args[0]) if mark is not None else None


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Have those that wait go last."""
    items.sort(key=lambda item: _proof(item) is not None)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Start what the selected tests wait for."""
    jobs = session.config.stash.setdefault(_JOBS, {})
    if not session.config.option.collectonly:
        for name in dict.fromkeys(filter(None, map(_proof, session.items))):
            jobs[name] = Job.start(name, PROOFS[name])


@pytest.fixture
def beside(request: pytest.FixtureRequest) -> Job:
    """The proof that this test awaits."""
    name = _proof(request.node)
    assert name is not None, "say which proof: @pytest.mark.beside(NAME)"
    return request.config.stash[_JOBS][name]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show what they said: the numbers of states and of rests are results, also where nothing failed."""
    for job in terminalreporter.config.stash.get(_JOBS, {}).values():
        terminalreporter.section(job.name)
        terminalreporter.write_line(job.told())


def pytest_unconfigure(config: pytest.Config) -> None:
    """Leave nothing behind."""
    for job in config.stash.get(_JOBS, {}).values():
        job.end()
