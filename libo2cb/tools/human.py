"""Times, counts and columns as people read them."""

import math
import unicodedata
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from libo2cb.wording import shown

MINUTE, HOUR, DAY = 60, 3600, 86400
LINE = 4000  # far above any sentence of ours; a hostile name is cut there


def clean(text: str) -> str:
    """Text that cannot move the cursor or begin a line: control characters and stray bytes escaped."""
    return shown(text, LINE)


def since(seconds: float) -> str:
    """How long something has lasted: "42 s", "12 min", "5 h", "9 days"; rounded down."""
    whole = max(0, int(seconds))
    if whole < 2 * MINUTE:
        return f"{whole} s"
    if whole < 2 * HOUR:
        return f"{whole // MINUTE} min"
    if whole < 2 * DAY:
        return f"{whole // HOUR} h"
    return f"{whole // DAY} days"


def until(seconds: float) -> str:
    """How long something will take: seconds as long as they count, rounded up."""
    whole = max(0, math.ceil(seconds))
    return f"{whole} s" if whole < 10 * MINUTE else since(whole)


def short(seconds: float) -> str:
    """An uptime for a column: "42s", "12m", "5h", "12d"."""
    whole = max(0, int(seconds))
    for unit, letter in ((DAY, "d"), (HOUR, "h"), (MINUTE, "m")):
        if whole >= unit:
            return f"{whole // unit}{letter}"
    return f"{whole}s"


def took(seconds: float) -> str:
    """How long something took: "3.1 s", or as `since` when the tenth is noise."""
    return f"{seconds:.1f} s" if seconds < 2 * MINUTE else since(seconds)


def moment(utc_text: str, *, whole_seconds: bool = False) -> str:
    """The day and time of a report's UTC text, as a person compares it with a log.

    Returns the text itself when it is no time: status shows what a daemon said.
    """
    try:
        at = datetime.fromisoformat(utc_text).astimezone(UTC)
    except ValueError:
        return clean(utc_text)
    return at.strftime("%Y-%m-%d %H:%M:%S UTC") if whole_seconds else at.strftime("%H:%M:%S.%f")[:-3] + " UTC"


def moment_before(utc_text: str, seconds: float) -> str:
    """The UTC day and time so many seconds before a report was made; "42 s before" it where the text is no time."""
    try:
        at = datetime.fromisoformat(utc_text) - timedelta(seconds=seconds)
    except (ValueError, OverflowError):
        return f"{since(seconds)} before this report"
    return moment(at.isoformat(), whole_seconds=True)


def counted(number: int, one: str, many: str | None = None) -> str:
    """A number with its noun: "1 filesystem", "2 filesystems"."""
    return f"{number} {one if number == 1 else many or one + 's'}"


def names(words: Sequence[str], none: str = "-") -> str:
    """Names in a row; "-" for none, unless said otherwise."""
    return " ".join(clean(word) for word in words) or none


def width(text: str) -> int:
    """Columns that a text takes on a terminal: two for wide characters, none for combining ones."""
    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text
    )


def columns(rows: Sequence[Sequence[str]], gap: int = 2) -> list[str]:
    """Rows as aligned lines without trailing blanks. All rows have as many cells."""
    cells = [[clean(cell) for cell in row] for row in rows]
    widths = [max(width(row[i]) for row in cells) for i in range(len(cells[0]))] if cells else []
    lines = []
    for row in cells:
        line = "".join(cell + " " * (widths[i] - width(cell) + gap) for i, cell in enumerate(row))
        lines.append(line.rstrip())
    return lines
