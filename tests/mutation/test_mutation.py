"""The short form: a few edits that the stories notice; the whole catalog is `python -m tests.mutation`."""

from dataclasses import replace

import pytest

from tests.mutation.bench import ROOT, CatalogError, Trial, applied, tree, tried
from tests.mutation.catalog import MUTATIONS, QUICK

LAWS = {*range(1, 19), 21}
"""What applies now and a mind can break."""


def test_each_edit_fits_the_tree() -> None:
    for m in MUTATIONS:
        text = applied(m, (ROOT / m.file).read_text())
        compile(text, m.file, "exec")


def test_names_are_unique_and_each_law_is_attacked() -> None:
    names = [m.name for m in MUTATIONS]
    assert len(set(names)) == len(names)
    assert {int(m.against.split()[1].strip(",")) for m in MUTATIONS if m.against.startswith("law")} >= LAWS


def test_an_edit_that_does_not_fit_is_named() -> None:
    with pytest.raises(CatalogError, match="stands 0 times"):
        applied(replace(MUTATIONS[0], old="no such text"), "some text")


@pytest.mark.slow
def test_the_stories_notice_these() -> None:
    trial = Trial(seeds=(0, 0))
    by_name = {m.name: m for m in MUTATIONS}
    with tree() as copy:
        assert not tried(copy, None, trial), "the unedited tree is not clean"
        missed = [name for name in QUICK if "transcript" not in tried(copy, by_name[name], trial)]
    assert not missed
