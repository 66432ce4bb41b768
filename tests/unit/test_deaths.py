"""docs/deaths.md names no test that is not there, and decides each death of a client that the table of usages knows."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "deaths.md").read_text()


def test_the_page_names_no_test_that_is_not_there() -> None:
    named = set(re.findall(r"`(test_\w+)`", PAGE))
    code = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    assert len(named) > 20
    assert [name for name in sorted(named) if f"def {name}(" not in code] == []


def test_each_row_says_what_follows_and_where_that_is_tested() -> None:
    rows = [line.split("|")[1:-1] for line in PAGE.splitlines() if line.startswith("|") and not line.startswith("|--")]
    assert len(rows) > 20
    for row in rows:
        assert len(row) == 4
        when, _kernel, follows, tested = (cell.strip() for cell in row)
        assert when
        assert follows
        assert tested
