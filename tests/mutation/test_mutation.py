"""The edits, who judges them, and the short form: every edit, by whom noticed it last."""

import re
from dataclasses import replace

import pytest

from tests.mutation.__main__ import DOCS, MARK, argued, judged
from tests.mutation.bench import (
    ROOT,
    SHORT_SEEDS,
    CatalogError,
    Finding,
    Trial,
    Verdict,
    applied,
    tree,
    tried,
    tried_all,
)
from tests.mutation.catalog import MUTATIONS, Mutation

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


def test_an_outcome_reads_as_what_it_is() -> None:
    m = MUTATIONS[0]
    excused = {m.name}
    missed, late = Finding(Verdict.MISSED), Finding(Verdict.UNDECIDED, "no end within 240 s of work")
    assert judged(m, Finding(Verdict.CAUGHT, "seed 3: Broken"), set(), whole=True) == ("caught", "seed 3: Broken")
    assert judged(m, missed, set(), whole=True)[0] == "survived"
    assert judged(m, missed, excused, whole=True)[0] == "argued"
    assert judged(m, missed, excused, whole=False)[0] == "not noticed", "seeds alone say nothing of an argument"
    assert judged(m, late, excused, whole=True)[0] == "undecided", "what comes to no end was not caught"


def test_what_comes_to_no_end_and_what_does_not_run_are_undecided() -> None:
    settings = "ocfs2_controld/state.py"
    edit = Mutation("an edit", "nothing", settings, "", "")
    with tree() as copy:
        old = (copy / settings).read_text().splitlines()[0]
        for new, why in (("while True: pass", "no end within 2 s of work"), ("import no_such", "it does not run: ")):
            finding = tried(copy, replace(edit, old=f"{old}\n", new=f"{new}\n"), Trial((0, 0), limit=2))
            assert finding.verdict is Verdict.UNDECIDED
            assert finding.by.startswith(why)


@pytest.mark.slow
def test_somebody_notices_each_edit() -> None:
    """All of them, with who noticed last asked first; the form with many seeds is `python -m tests.mutation`."""
    trial = Trial(SHORT_SEEDS)
    with tree() as copy:
        clean = tried(copy, None, trial)
    assert clean.verdict is Verdict.MISSED, f"the unedited tree is not clean: {clean.by}"
    excused = argued()
    kinds = {m.name: judged(m, f, excused, whole=True) for m, f in tried_all(MUTATIONS, trial, jobs=2)}
    assert {name: text for name, (kind, text) in kinds.items() if kind not in {"caught", "argued"}} == {}


def test_each_argument_is_for_an_edit() -> None:
    section = DOCS.read_text().partition(MARK)[2]
    assert set(re.findall(r"^- `([a-z-]+)`", section, re.MULTILINE)) == argued()
