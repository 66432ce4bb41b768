"""How the demo looks: headings, steps in columns, screens. Never wider than 110 columns; colour where asked for."""

import textwrap
from collections.abc import Iterable, Sequence
from typing import Final, TextIO

from libo2cb.tools import screens
from tests.demo.telling import Step

WIDTH: Final = 110
_COLOURS: Final = {
    "power": "1;31",
    "hub": "2",
    "o2cb_controld": "36",
    "ocfs2_controld": "35",
}
_VERB: Final = "1"


class Paper:
    """Writes the demo.

    Args:
        to: where to.
        colour: whether it is a terminal that shows colours.
    """

    def __init__(self, to: TextIO, *, colour: bool) -> None:
        self._to = to
        self._colour = colour
        self._scenes = 0

    def line(self, text: str = "") -> None:
        """A line as it is."""
        self._to.write(f"{text}\n")
        self._to.flush()

    def text(self, text: str, indent: str = "") -> None:
        """A paragraph."""
        for line in textwrap.wrap(text, WIDTH, initial_indent=indent, subsequent_indent=indent):
            self.line(line)

    def scene(self, title: str, look: str) -> None:
        """The heading of a scene, and what to look at in it."""
        self._scenes += 1
        self.line()
        self.line(self._paint(f"== {self._scenes}. {title} ".ljust(WIDTH, "="), "1"))
        self.text(look)

    def steps(self, steps: Iterable[Step], zero: int) -> None:
        """Steps, a line each.

        Args:
            steps: in order.
            zero: the monotonic time, in ns, that the seconds in front count from.
        """
        for step in steps:
            who = f"{step.node:<2} {step.who:<14}" if step.node else f"{step.who:<17}"
            front = f"{(step.mono - zero) / 1e9:+8.3f} s  {who}  {step.verb:<9} "
            text = textwrap.wrap(step.text, WIDTH - len(front)) or [""]
            who = self._paint(who, _COLOURS.get(step.who, ""))
            verb = self._paint(f"{step.verb:<9}", _VERB)
            self.line(f"{(step.mono - zero) / 1e9:+8.3f} s  {who}  {verb} {text[0]}".rstrip())
            for rest in text[1:]:
                self.line(" " * len(front) + rest)

    def screen(self, command: str, lines: Sequence[str], code: int) -> None:
        """What a command printed, as on the terminal of that node, with its exit code."""
        wrapped = [
            part
            for line in lines
            for part in textwrap.wrap(line, WIDTH - 4, subsequent_indent="       ", drop_whitespace=True) or [""]
        ]
        self.line(f"  | {self._paint(f'{command}   (exit code {code})', _VERB)}")
        for line in screens.paint(wrapped) if self._colour else wrapped:
            self.line(f"  | {line}")

    def _paint(self, text: str, code: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self._colour and code else text
