"""What passed between clients, daemon and kernel, written down word for word, and compared with what is expected.

    $ mount.ocfs2 /dev/LOOP MNT/a        a client, as it was called
        connect
      > MOUNT ocfs2 UUID demo ...        a record to the daemon, without its NULs: exactly 256 bytes came
      < STATUS 0 OK                      a record from the daemon
        mount(2) ...                     a system call, and its answer
      | ...                              what the client wrote for people
      exit 0
    = vm: running, ...                   what the daemon's report says when it has come to rest

Words that differ from run to run are folded. To write the expected files anew: UPDATE_EXPECTED=1 pytest
tests/real/clients, then read the difference.
"""

import os
import re
from collections.abc import Iterable, Iterator
from difflib import unified_diff
from errno import errorcode
from itertools import groupby
from pathlib import Path
from typing import Final

from protocol.framing import RECORD
from tests.process.lab import OCFS2, Volume
from tests.real.clients.kernel import Deed
from tests.real.clients.lab import Client, ClientNode, Ran

EXPECTED: Final = Path(__file__).with_name("expected")


class Scene:
    """One node's story.

    Args:
        node: the node.
        name: of the file with what is expected.
        volumes: whose UUIDs are folded; the first to UUID, others to UUID2 and so on.
    """

    def __init__(self, node: ClientNode, name: str, *volumes: Volume) -> None:
        self.node = node
        self._path = EXPECTED / f"{name}.txt"
        self._volumes = volumes
        self._lines: list[str] = []

    def run(self, program: str, *arguments: str | Path) -> Ran:
        """Run a client, and write it down."""
        return self.ended(self.node.begin(program, *arguments))

    def ended(self, client: Client) -> Ran:
        """Wait for the end of a client, and write it down."""
        return self.tell(client.command, client.wait())

    def tell(self, command: Iterable[str], ran: Ran) -> Ran:
        """Write down what a client did."""
        self._lines += ["$ " + " ".join(map(_quoted, command)), *_deeds(ran.deeds)]
        self._lines += [f"  | {line}".rstrip() for line in ran.said.splitlines()]
        self._lines.append(f"  exit {ran.code}" if ran.code >= 0 else f"  killed by signal {-ran.code}")
        return ran

    def unmount(self, point: str) -> None:
        """The kernel's umount(2), with the helper that it runs."""
        ran = self.node.unmount(point)
        self._lines.append(f"# umount(2) {point}" + ("" if ran else ": mounted elsewhere too, no helper is run"))
        if ran is not None:
            self.tell(["ocfs2_hb_ctl", "-K", "-u", "UUID"], ran)

    def note(self, text: str) -> None:
        """A line of the story."""
        self._lines.append(f"# {text}")

    def in_use(self, volume: Volume, points: Iterable[str] = (), holders: Iterable[str] = ()) -> None:
        """Wait until the group runs, mounted and held so, and write that down."""
        points, holders = sorted(points), sorted(holders)
        self.node.in_use(volume, points, holders)
        links = ", ".join(self.node.links(volume))
        on = ", ".join(points) or "nowhere"
        by = f", held by {', '.join(holders)}" if holders else ""
        self._lines.append(f"= {volume.label}: running, mounted on {on}{by}, linked: {links}")

    def unused(self) -> None:
        """Wait until no group is left, and write that down."""
        self.node.unused()
        self._lines.append("= no group, no region")

    def unheard(self, point: str) -> None:
        """Wait until the daemon warns of a mount that nobody has asked it for, and write that down."""
        line = self.node.event(OCFS2, "waiting", what=f"the group of the mount on {point}")
        self._lines.append(f"= {line['level']}: {line['what']}: {line['cause']}")

    def check(self) -> None:
        """Compare with what is expected.

        Raises:
            AssertionError: something else has passed; the text is the difference.
        """
        text = self._folded("\n".join(self._lines) + "\n")
        if os.environ.get("UPDATE_EXPECTED"):
            self._path.parent.mkdir(exist_ok=True)
            self._path.write_text(text)
        expected = self._path.read_text() if self._path.exists() else ""
        names = (f"expected/{self._path.name}", "what has passed")
        difference = "\n".join(unified_diff(expected.splitlines(), text.splitlines(), *names, lineterm=""))
        if difference:
            raise AssertionError(difference)

    def _folded(self, text: str) -> str:
        for number, volume in enumerate(self._volumes, 1):
            word = f"UUID{number if number > 1 else ''}"
            text = text.replace(volume.uuid, word).replace(volume.uuid.lower(), word.lower())
        text = text.replace(f"{self.node.home.root}/mnt", "MNT").replace(str(self.node.lab.sandbox.root), "DIR")
        text = re.sub(r"\bpid \d+", "pid N", re.sub(r"/dev/loop\d+", "/dev/LOOP", text))
        # Columns are as wide as a device's name is long; what clients write for people is not compared to the blank.
        return re.sub(r"^  \|.*$", lambda line: "  " + re.sub(r" +", " ", line[0].strip()), text, flags=re.MULTILINE)


def records_of(deeds: Iterable[Deed], word: str) -> list[str]:
    """The records that a client wrote, or read, as text."""
    data = b"".join(deed.data for deed in deeds if deed.word == word)
    records = [data[at : at + RECORD] for at in range(0, len(data), RECORD)]
    return [os.fsdecode(record.partition(b"\0")[0]) for record in records]


def _quoted(word: str) -> str:
    return f'"{word}"' if " " in word or not word else word


def _deeds(deeds: Iterable[Deed]) -> Iterator[str]:
    """The lines of what a client did. Bytes count, not the calls that they came in."""
    for word, group in groupby(deeds, key=lambda deed: deed.word):
        match word:
            case "write" | "read":
                yield from _records(">" if word == "write" else "<", b"".join(deed.data for deed in group))
            case "mount":
                for deed in group:
                    source, point, kind, flags, data = deed.words
                    answer = errorcode.get(deed.errno, str(deed.errno)) if deed.errno else "0"
                    yield f'    mount(2) {source} {point} {kind} {flags} "{data}": {answer}'
            case _:
                yield from (f"    {word}" for _ in group)


def _records(mark: str, data: bytes) -> Iterator[str]:
    for at in range(0, len(data), RECORD):
        record = data[at : at + RECORD]
        text, _, padding = record.partition(b"\0")
        shown = os.fsdecode(text)
        if len(record) < RECORD or len(text) == RECORD or padding.strip(b"\0"):
            shown += f"   [no record: {len(record)} bytes, {len(padding)} behind the first NUL]"
        yield f"  {mark} {shown}".replace("\n", "\\n")
    if not data:
        yield f"  {mark} (end of the connection)"
