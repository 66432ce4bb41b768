"""What `-o` says, split into what mount(2) takes as flags, as data, and what is for other programs only."""

from dataclasses import dataclass
from typing import Final

MS_RDONLY: Final = 1
MS_REMOUNT: Final = 32

_SET: Final = {
    "ro": MS_RDONLY,
    "nosuid": 2,
    "nodev": 4,
    "noexec": 8,
    "sync": 16,
    "remount": MS_REMOUNT,
    "mand": 64,
    "dirsync": 128,
    "nosymfollow": 256,
    "noatime": 1024,
    "nodiratime": 2048,
    "silent": 1 << 15,
    "relatime": 1 << 21,
    "strictatime": 1 << 24,
    "lazytime": 1 << 25,
}
_CLEAR: Final = {
    "rw": MS_RDONLY,
    "suid": 2,
    "dev": 4,
    "exec": 8,
    "async": 16,
    "nomand": 64,
    "symfollow": 256,
    "atime": 1024,
    "diratime": 2048,
    "loud": 1 << 15,
    "norelatime": 1 << 21,
    "nostrictatime": 1 << 24,
    "nolazytime": 1 << 25,
}
_OWNERS: Final = 2 | 4  # owner and group imply nosuid and nodev; see mount(8)
_USERS: Final = _OWNERS | 8  # user and users imply noexec too
_NOBODYS: Final = frozenset({"", "defaults", "auto", "noauto", "_netdev", "nofail", "nouser", "nousers"})
_PREFIXES: Final = ("x-", "X-", "comment=", "uhelper=", "helper=", "loop=", "offset=", "sizelimit=")
_OURS: Final = ("cluster_stack=", "heartbeat=")


@dataclass(frozen=True, slots=True)
class MountOptions:
    """The meaning of `-o`.

    Attributes:
        flags: for mount(2), MS_*.
        data: for the filesystem, in their order.
    """

    flags: int = 0
    data: tuple[str, ...] = ()

    @property
    def remount(self) -> bool:
        """Whether an existing mount is to be changed."""
        return bool(self.flags & MS_REMOUNT)

    @property
    def read_only(self) -> bool:
        """Whether nothing may be written."""
        return bool(self.flags & MS_RDONLY)


def parse(texts: list[str], *, read_only: bool = False, read_write: bool = False) -> MountOptions:
    """Read the arguments of all `-o`, with -r and -w, which come last.

    What only other programs read (fstab's words) is left out; so are cluster_stack= and heartbeat=, which this helper
    sets itself. A later word wins over an earlier one. What is unknown goes to the filesystem, which refuses it.
    """
    flags = 0
    data: list[str] = []
    words = [word for text in texts for word in _split(text)]
    for word in [*words, *(["ro"] if read_only else []), *(["rw"] if read_write else [])]:
        if word in _SET:
            flags |= _SET[word]
        elif word in _CLEAR:
            flags &= ~_CLEAR[word]
        elif word in {"user", "users", "owner", "group"} or word.startswith("user="):
            flags |= _USERS if word not in {"owner", "group"} else _OWNERS
        elif word not in _NOBODYS and not word.startswith((*_PREFIXES, *_OURS)) and word != "loop":
            data.append(word)
    return MountOptions(flags, tuple(data))


def _split(text: str) -> list[str]:
    """Split at commas, except inside double quotes (SELinux contexts)."""
    words, word, quoted = [], "", False
    for char in text:
        quoted ^= char == '"'
        if char == "," and not quoted:
            words.append(word)
            word = ""
        else:
            word += char
    return [*words, word]
