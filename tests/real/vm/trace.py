"""What daemons really did in the kernel's tree, by the word of strace alone, and the audit of it.

No log of ours counts. A trace is read as calls with the moments of entry and return. The audit takes the worse moment
of each: a link stands
from the entry of its symlink(2) to the return of its unlink(2), and a node must not be removed at any moment of that.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

TREE: Final = "/sys/kernel/config/cluster/"
CALLS: Final = ("mkdir", "mkdirat", "rmdir", "unlink", "unlinkat", "symlink", "symlinkat", "rename", "renameat")
OPTIONS: Final = (
    *("-f", "-q", "-q", "-y", "-T", "-s", "512", "--absolute-timestamps=format:unix,precision:ns"),
    *("-e", f"trace={','.join(CALLS)},renameat2,write", "-e", "signal=none"),
)
"""Options of strace with which `read` can read what it writes."""

_LINE: Final = re.compile(r"(?P<pid>\d+) +(?P<time>\d+\.\d+) (?P<rest>.*)")
_RESUMED: Final = re.compile(r"<\.\.\. (?P<call>\w+) resumed>(?P<rest>.*)")
_WHOLE: Final = re.compile(
    r"(?P<call>\w+)\((?P<arguments>.*)\) += (?P<value>-?\d+|\?)(?: (?P<errno>E[A-Z0-9]+)[^<]*)?"
    r"(?: \(INJECTED\))?(?: <(?P<took>\d+\.\d+)>)?$"
)
_UNFINISHED: Final = " <unfinished ...>"
_TEXT: Final = re.compile(r'"((?:[^"\\]|\\.)*)"(\.\.\.)?|(?:\d+|AT_FDCWD)<([^>]*)>|([^,\s]+)')
_ESCAPE: Final = re.compile(r"\\(?:([0-7]{1,3})|x([0-9a-f]{2})|(.))")
_SIMPLE: Final = {"n": "\n", "t": "\t", "r": "\r", "v": "\v", "f": "\f", "0": "\0"}
_AT: Final = re.compile(r"^(mkdir|unlink|symlink|rename)at2?$")


@dataclass(frozen=True, slots=True)
class Call:
    """One system call in the tree.

    Attributes:
        pid: of the thread.
        name: mkdir, rmdir, symlink, unlink, write or rename, whichever variant was called.
        path: below the tree; of symlink the link, of write the file.
        what: of symlink the target, below the tree; of write the text; of rename the other path.
        error: name of the errno, "" when it worked; "KILLED" when it never returned.
        entry: when it began, in seconds since the epoch.
        back: when it returned.
    """

    pid: int
    name: str
    path: str
    what: str
    error: str
    entry: float
    back: float

    @property
    def worked(self) -> bool:
        """Whether it changed something."""
        return not self.error

    def __str__(self) -> str:
        return f"{self.name} {self.path}{f' -> {self.what}' if self.what else ''} {self.error or 'ok'}".strip()


def read(text: str) -> list[Call]:
    """The calls of a trace that concern the tree, by entry. Lines that are no calls are left out."""
    return sorted((call for line in _lines(text) if (call := _call(*line))), key=lambda call: call.entry)


def _lines(text: str) -> Iterator[tuple[int, float, float | None, str]]:
    """Pid, entry, return (None: as the line says how long it took) and text, interrupted lines put together."""
    begun: dict[int, tuple[float, str]] = {}
    for line in text.splitlines():
        if (found := _LINE.fullmatch(line)) is None:
            continue
        pid, time, rest = int(found["pid"]), float(found["time"]), found["rest"]
        if rest.endswith(_UNFINISHED):
            begun[pid] = (time, rest.removesuffix(_UNFINISHED))
        elif resumed := _RESUMED.fullmatch(rest):
            if pid in begun:
                entry, first = begun.pop(pid)
                yield pid, entry, time, first + resumed["rest"]
        else:
            yield pid, time, None, rest
    for pid, (entry, first) in begun.items():
        yield pid, entry, entry, f"{first}) = ?"


def _call(pid: int, entry: float, back: float | None, text: str) -> Call | None:
    found = _WHOLE.fullmatch(text)
    if found is None:
        return None
    name, arguments = found["call"], [_plain(each) for each in _TEXT.finditer(found["arguments"])]
    at = _AT.match(name)
    if at:
        name = "rmdir" if "AT_REMOVEDIR" in arguments else at[1]
        arguments = _joined(at[1], arguments)
    if name == "write":
        path, what = arguments[0], arguments[1]
    elif name == "symlink":
        path, what = arguments[1], arguments[0]
    else:
        path, what = arguments[0], arguments[1] if name == "rename" else ""
    if not path.startswith(TREE):
        return None
    error = "KILLED" if found["value"] == "?" else found["errno"] or ""
    ended = entry + float(found["took"] or 0) if back is None else back
    return Call(pid, name, path.removeprefix(TREE), what.removeprefix(TREE), error, entry, max(ended, entry))


def _plain(found: re.Match[str]) -> str:
    if found[1] is None:
        return found[3] if found[3] is not None else found[4]

    def said(escape: re.Match[str]) -> str:
        if escape[1] or escape[2]:
            return chr(int(escape[1], 8) if escape[1] else int(escape[2], 16))
        return _SIMPLE.get(escape[3], escape[3])

    raw = _ESCAPE.sub(said, found[1])
    return raw.encode("latin-1", "replace").decode("utf-8", "surrogateescape")


def _joined(name: str, arguments: list[str]) -> list[str]:
    """The arguments of an ...at call as those of the plain one: directory and path become one."""

    def path(directory: str, name: str) -> str:
        return name if name.startswith("/") else f"{directory}/{name}"

    match name:
        case "symlink":
            return [arguments[0], path(arguments[1], arguments[2])]
        case "rename":
            return [path(arguments[0], arguments[1]), path(arguments[2], arguments[3])]
        case _:
            return [path(arguments[0], arguments[1])]


@dataclass(frozen=True, slots=True)
class Audit:
    """What the audit found.

    Attributes:
        breaches: sentences; none when all is well.
        removals: rmdir calls of nodes that were seen.
        links: symlinks to nodes that were made.
        refused: rmdir calls that the kernel answered with EBUSY.
    """

    breaches: tuple[str, ...]
    removals: int
    links: int
    refused: int


def audit(calls: Iterable[Call]) -> Audit:
    """See that no node was touched by rmdir, and no attribute of it written, while a link to it stood.

    A call that never returned counts as one that worked for a link that is made, and as one that did not for a link
    that is removed.
    """
    calls = list(calls)
    links = sorted(_links(calls), key=lambda link: link[1])
    breaches, removals, refused = [], 0, 0
    for call in calls:
        match call.name, call.path.split("/"):
            case "rmdir", [cluster, "node", node]:
                removals += 1
                refused += call.error == "EBUSY"
                pins = [link for link in links if link[0] == f"{cluster}/node/{node}"]
            case "write", [cluster, "node", node, _]:
                pins = [link for link in links if link[0] == f"{cluster}/node/{node}"]
            case "rename", [_, "node" | "heartbeat", *_]:
                breaches.append(f"{call}: nothing in the tree is ever renamed")
                continue
            case _:
                continue
        for _, made, gone, path in pins:
            if made < call.back and call.entry < gone:
                breaches.append(f"{call}: {path} stood from {made:.6f} to {gone:.6f}, and this was at {call.entry:.6f}")
    return Audit(tuple(breaches), removals, len(links), refused)


def _links(calls: Iterable[Call]) -> Iterator[tuple[str, float, float, str]]:
    """Each link's target, the first moment at which it can have stood, the last, and its path."""
    standing: dict[str, tuple[str, float]] = {}
    for call in calls:
        if call.name == "symlink" and call.error in ("", "KILLED"):
            standing.setdefault(call.path, (call.what, call.entry))
        elif call.name == "unlink" and call.worked and call.path in standing:
            target, made = standing.pop(call.path)
            yield target, made, call.back, call.path
    for path, (target, made) in standing.items():
        yield target, made, float("inf"), path
