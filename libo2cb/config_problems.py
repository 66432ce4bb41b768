"""What is wrong with a configuration file: where it stands, and in words for whoever edits the file."""

import difflib
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with a configuration.

    Attributes:
        key: dotted name of the key, or "" for the file as a whole.
        text: what is wrong, and what to do.
        line: line of the file, counted from 1; None when the key is not in it.
    """

    key: str
    text: str
    line: int | None = None


class ConfigError(Exception):
    """A configuration cannot be used. Its text has one line for each problem: file, line, key, what to do."""

    def __init__(self, path: Path, problems: tuple[Problem, ...]) -> None:
        self.path = path
        self.problems = problems
        super().__init__("\n".join(self._sentences()))

    def _sentences(self) -> Iterator[str]:
        for problem in self.problems:
            where = str(self.path) if problem.line is None else f"{self.path} line {problem.line}"
            yield f"{where}: {problem.key}: {problem.text}" if problem.key else f"{where}: {problem.text}"


def line_of(text: str, key: tuple[str | int, ...]) -> int | None:
    """The line, from 1, on which a key's value begins; None when the key is not in the text.

    The TOML parser itself is asked, about ever longer beginnings of the file: where the key appears first is where it
    stands, however it is spelled (dotted, quoted, in an inline table, behind a string of several lines).
    """
    lines = text.split("\n")
    begin = 1
    for end in range(1, len(lines) + 1):
        try:
            data = tomllib.loads("\n".join(lines[:end]))
        except tomllib.TOMLDecodeError:
            continue  # in the middle of a value of several lines
        if _holds(data, key):
            return begin
        begin = end + 1
    return None


def _holds(data: Any, key: tuple[str | int, ...]) -> bool:
    for part in key:
        in_table = isinstance(data, dict) and part in data
        in_list = isinstance(data, list) and isinstance(part, int) and part < len(data)
        if not (in_table or in_list):
            return False
        data = data[part]
    return True


def problems_of(text: str, error: ValidationError, root: type[BaseModel]) -> tuple[Problem, ...]:
    """Everything that the model of the whole file finds wrong with the text."""
    return tuple(_problem(text, detail, root) for detail in error.errors(include_url=False))


def _problem(text: str, detail: Any, root: type[BaseModel]) -> Problem:
    key: tuple[str | int, ...] = detail["loc"]
    shown = ".".join(str(part) for part in key)
    sentence = _sentence(key, detail, root)
    line = None
    while key and line is None:
        line = line_of(text, key)
        key = key[:-1]
    return Problem(shown, sentence, line)


def _sentence(key: tuple[str | int, ...], detail: Any, root: type[BaseModel]) -> str:
    """What pydantic found, in the words of someone who edits the file."""
    match detail["type"]:
        case "extra_forbidden":
            known = sorted(_known_keys(key, root))
            near = difflib.get_close_matches(str(key[-1]), known, n=1)
            meant = f' (did you mean "{near[0]}"?)' if near else ""
            return f"unknown key{meant}; known here: {', '.join(known)}"
        case "missing":
            choices = _choices(key, root)
            what = f"table [{key[0]}]" if len(key) == 1 else "key"
            return f"this {what} is needed{choices}; nothing is guessed here"
        case "value_error":
            return str(detail["ctx"]["error"])
        case "model_type":
            return f"is a table: write [{key[0]}]"
        case _:
            found = detail["input"]
            return f"{detail['msg'][:1].lower()}{detail['msg'][1:]}, not {found!r}"


def _known_keys(key: tuple[str | int, ...], root: type[BaseModel]) -> set[str]:
    fields = root.model_fields
    if len(key) == 1:
        return set(fields)
    table = fields[str(key[0])].annotation
    return set(table.model_fields) if isinstance(table, type) and issubclass(table, BaseModel) else set()


def _choices(key: tuple[str | int, ...], root: type[BaseModel]) -> str:
    """The values that a key which is a choice may have, in parentheses."""
    table = root.model_fields[str(key[0])].annotation
    if len(key) != 2 or not (isinstance(table, type) and issubclass(table, BaseModel)):  # noqa: PLR2004 (table.key)
        return ""
    values = get_args(table.model_fields[str(key[1])].annotation)
    return f" ({' or '.join(repr(value) for value in values)})"


def syntax_problem(message: str, text: str) -> Problem:
    """What the TOML parser found: it says "what (at line 3, column 5)" or "what (at end of document)"."""
    found = re.fullmatch(r"(?P<what>.*) \(at (?:line (?P<line>\d+), column (?P<column>\d+)|end of document)\)", message)
    if found is None:
        return Problem("", f"is no TOML: {message}")
    if found["line"] is None:
        return Problem("", f"is no TOML: {found['what']}, at the end of the file", len(text.split("\n")))
    return Problem("", f"is no TOML: {found['what']}, at column {found['column']}", int(found["line"]))
