"""ocfs2_controld as another version would be: the same program, with other versions in what it says of itself.

python -m tests.real.corosync.build KIND [options of ocfs2_controld]

minor    the next minor version of both protocols: runs with today's
major    the next major version of what the daemons say to each other: does not
words    the next major version of the words on the channel: nobody of today's even understands it
block    one more block of a mode that must match: refuses, and is refused by, whoever has it not
"""

import sys
from collections.abc import Callable
from typing import Any, Final

from protocol import group, handshake
from protocol.handshake import Handshake, Mode, Subsystem, Version

_CONSTANTS: Final = vars(handshake)
"""What a version is made of; nothing of it is meant to be changed, but by another version."""


def _minor() -> None:
    now = handshake.PROTOCOL_VERSION
    _CONSTANTS["PROTOCOL_VERSION"] = Version(now.major, now.minor + 1)
    _CONSTANTS["GROUP_VERSION"] = Version(group.MAJOR, group.MINOR + 1)
    vars(group)["MINOR"] = group.MINOR + 1


def _major() -> None:
    _CONSTANTS["PROTOCOL_VERSION"] = Version(handshake.PROTOCOL_VERSION.major + 1, 0)


def _words() -> None:
    _major()
    vars(group)["MAJOR"] = group.MAJOR + 1


def _block() -> None:
    ours = handshake.standard

    def with_one_more(*said: Any) -> Handshake:
        unknown = handshake.magic_of(Mode.MUST_MATCH, 4711)
        one_more = Subsystem(unknown, "what is not invented yet", Mode.MUST_MATCH, generate=lambda: b"yes")
        return Handshake([*ours(*said)._subsystems.values(), one_more])

    _CONSTANTS["standard"] = with_one_more


KINDS: Final[dict[str, Callable[[], None]]] = {"minor": _minor, "major": _major, "words": _words, "block": _block}


def main(arguments: list[str]) -> int:
    """Run the daemon as that version."""
    KINDS[arguments[0]]()
    from ocfs2_controld.__main__ import main as daemon  # noqa: PLC0415 (after the versions have changed)

    return daemon(arguments[1:])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
