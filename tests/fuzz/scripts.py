"""A script: what some clients do, byte by byte, one step after the other; and how a new one is made of old ones.

A script is kept as a file of lines, `STEP CLIENT [HEX]`:

    open 0            a connection
    send 0 4d4f55     bytes, of any length
    pad 0 4d4f55      one record: these bytes (255 at most), then NULs
    read 0            wait for one record, a moment
    half 0            send no more, and go on reading
    close 0           the end
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from errno import EALREADY, EBUSY, EINVAL
from typing import Final

from protocol.framing import MAX_TEXT, RECORD

STEPS: Final = ("open", "send", "pad", "read", "half", "close")
CLIENTS: Final = 4
MOST_STEPS: Final = 40
UUID: Final = b"0123456789ABCDEF0123456789ABCDEF"
DEVICE: Final = b"/DEVICE"
"""Stands for the path of a real volume, and `UUID` for its UUID, wherever a script is run."""
WORDS: Final = (
    b"MOUNT ocfs2 %b demo %b ocfs2" % (UUID, DEVICE),
    b"MOUNT ocfs2 %b demo %b fsck.ocfs2" % (UUID, DEVICE),
    b"MRESULT ocfs2 %b 0 ocfs2" % UUID,
    b"MRESULT ocfs2 %b 19 ocfs2" % UUID,
    b"MRESULT ocfs2 %b -1485330940 fsck.ocfs2" % UUID,
    b"UNMOUNT ocfs2 %b ocfs2" % UUID,
    b"UNMOUNT ocfs2 %b fsck.ocfs2" % UUID,
    b"STATUS 0 OK",
    b"LISTFS ocfs2 demo",
    b"LISTMOUNTS ocfs2 %b" % UUID,
    b"LISTCLUSTERS",
    b"ITEMCOUNT 1",
    b"ITEM x",
    b"DUMP",
    b"REPORT",
    b"FENCED n1 x",
)
INTERESTING: Final = (
    b" ",
    b"\0",
    b"\n",
    b"\xff",
    b"\xc3\xa9",
    b"ocfs2",
    UUID,
    b"-1",
    b"4294967296",
    str(EBUSY).encode(),
    str(EALREADY).encode(),
    str(EINVAL).encode(),
    b"%s%n",
    b"A" * MAX_TEXT,
)


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that one client does."""

    what: str
    client: int
    data: bytes = b""


Script = tuple[Step, ...]


def written(script: Script) -> str:
    """A script as a file has it."""
    return "".join(f"{s.what} {s.client}{' ' + s.data.hex() if s.data else ''}\n" for s in script)


def parsed(text: str) -> Script:
    """The script of a file; lines that begin with # are for people.

    Raises:
        ValueError: it is none.
    """
    steps = []
    for line in text.splitlines():
        if not line or line.startswith("#"):
            continue
        what, client, *data = line.split(" ")
        if what not in STEPS or not 0 <= int(client) < CLIENTS or len(data) > 1:
            raise ValueError(f"{line!r} is no step")
        steps.append(Step(what, int(client), bytes.fromhex(data[0]) if data else b""))
    return tuple(steps)


def obeyed(script: Script) -> bool:
    """Whether a script may say REPLACE, at which the daemon ends, as it should: no script for the corpus."""
    said: dict[int, bytes] = {}
    for step in script:
        said[step.client] = said.get(step.client, b"") + step.data
    return any(b"REPLACE" in data for data in said.values())


def record(text: bytes) -> bytes:
    """The record that a step "pad" sends."""
    return text[:MAX_TEXT].ljust(RECORD, b"\0")


def _new_step(chance: random.Random) -> Step:
    what, client = (
        chance.choice(("open", "pad", "pad", "pad", "send", "read", "read", "half", "close")),
        chance.randrange(CLIENTS),
    )
    if what == "pad":
        return Step(
            what, client, _bent(chance, chance.choice(WORDS)) if chance.random() < 0.5 else chance.choice(WORDS)
        )
    if what == "send":
        whole = record(chance.choice(WORDS)) * chance.randrange(1, 4)
        begin = chance.randrange(len(whole))
        return Step(what, client, whole[begin : begin + chance.randrange(1, 600)])
    return Step(what, client)


def _bent(chance: random.Random, data: bytes) -> bytes:
    """The same bytes with a few changes."""
    for _ in range(chance.randrange(1, 4)):
        at = chance.randrange(len(data) + 1)
        match chance.randrange(5):
            case 0:
                data = data[:at] + bytes([chance.randrange(256)]) + data[at + 1 :]
            case 1:
                data = data[:at] + chance.choice(INTERESTING) + data[at:]
            case 2:
                data = data[:at] + data[at + chance.randrange(1, 9) :]
            case 3:
                words = data.split(b" ")
                words.insert(chance.randrange(len(words) + 1), chance.choice(words))
                data = b" ".join(words)
            case _:
                data = data[:at]
    return data


def mutated(chance: random.Random, corpus: Sequence[Script]) -> Script:
    """A new script, from those that are known."""
    script = list(chance.choice(corpus))
    for _ in range(chance.randrange(1, 6)):
        at = chance.randrange(len(script) + 1)
        match chance.randrange(5):
            case 0:
                script.insert(at, _new_step(chance))
            case 1 if script:
                script.pop(at % len(script))
            case 2 if script:
                step = script[at % len(script)]
                if step.data:
                    script[at % len(script)] = replace(step, data=_bent(chance, step.data))
            case 3 if script:
                other = chance.randrange(len(script))
                at %= len(script)
                script[at], script[other] = script[other], script[at]
            case _:
                script[at:at] = chance.choice(corpus)
    return tuple(script[:MOST_STEPS])
