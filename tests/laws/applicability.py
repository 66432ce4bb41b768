"""Which laws, or parts of laws, are not applicable yet, and why: they have no judge, for it could not fail."""

from dataclasses import dataclass

NUMBER_OF_LAWS = 22


@dataclass(frozen=True, slots=True)
class NotYet:
    """A law, or a part of it, that nothing here can break yet.

    Attributes:
        law: its number.
        whole: whether no part of the law applies.
        what: the part.
        needs: what must exist before it can be broken.
    """

    law: int
    whole: bool
    what: str
    needs: str


_DLM = "the DLM driver"

NOT_YET: tuple[NotYet, ...] = (
    NotYet(5, False, "the held control device whose last close resets the machine", _DLM),
    NotYet(19, True, "the filesystem is told of a death before its locks run again", _DLM),
    NotYet(20, True, "every uevent and plock request that waits for an answer gets one", _DLM),
    NotYet(
        21, False, "DOWN on a kernel with the bug, DOWN for ourselves, closing the control device under a mount", _DLM
    ),
)

WITHOUT_JUDGE = frozenset(it.law for it in NOT_YET if it.whole)
"""Laws of which no part is judged."""
