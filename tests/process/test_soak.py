"""A minute of the soak: it comes to its end, descriptors are equal at rest, no law is broken. Memory is told only."""

import pytest

from tests.soak import Sample, fifths, leaks, soak

pytestmark = pytest.mark.process


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


@pytest.mark.long
def test_a_minute_of_the_soak() -> None:
    result = soak(1.0, seed=1, nodes=3)
    print(result.text())
    assert result.rounds >= 2
    assert result.deeds["mounts"] >= 1
    assert result.leaks == ()
    assert result.laws == ""
