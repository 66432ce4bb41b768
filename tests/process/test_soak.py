"""The soak: how it judges, a few rounds of it, and five minutes of it in the background while other tests run."""

import pytest

from tests.beside import Job
from tests.soak import Sample, fifths, leaks, soak


def _sample(number: int, fds: int, pid: int = 7) -> Sample:
    return Sample(number, "n1", "o2cb_controld", pid, 1, fds)


def test_a_leak_of_descriptors_is_named() -> None:
    grows = [_sample(0, 9), _sample(1, 12), _sample(2, 12), _sample(3, 13)]
    assert leaks(grows) == ("n1 o2cb_controld (pid 7) has 13 at rest 3, and had 12 at rest 2",)
    assert leaks([_sample(0, 9), _sample(1, 12), _sample(2, 9, pid=8), _sample(3, 12, pid=8)]) == ()


def test_memory_is_compared_by_the_medians_of_its_fifths() -> None:
    assert fifths([1] * 9) is None
    flat = fifths([500, *[100] * 17, 700, 101])
    assert flat is not None
    assert (flat.second, flat.last) == (100, 100.5)
    assert flat.kept
    grown = fifths([*[100] * 16, *[102] * 4])
    assert grown is not None
    assert not grown.kept


@pytest.mark.process
@pytest.mark.short
def test_a_few_rounds_of_the_soak() -> None:
    """Of its memory nothing can be said so soon."""
    result = soak(0.3, seed=1, nodes=3)
    print(result.text())
    assert result.rounds >= 1
    assert result.leaks == ()
    assert result.laws == ""


@pytest.mark.process
@pytest.mark.slow
@pytest.mark.beside("soak")
def test_five_minutes_of_the_soak(beside: Job) -> None:
    """Memory does not grow, descriptors are equal at rest, no law is broken."""
    assert beside.wait() == 0, beside.said()
    assert "0 laws broken" in beside.said()
