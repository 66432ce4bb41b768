"""Words for a person: names that may hold any bytes, and errnos with their meaning."""

import errno as errnos
import os
import shlex


def one_line(text: str) -> str:
    """The text on one line: newlines, tabs and their like become one blank, other control characters are escaped."""
    return "".join(c if c.isprintable() or c == " " else shown(c) for c in " ".join(text.split()))


def shown(name: str, limit: int = 80) -> str:
    r"""A name as it may stand in a sentence: unprintable characters and stray bytes as \xNN, cut beyond limit."""
    escaped = "".join(
        c
        if c.isprintable()
        else f"\\x{ord(c) - 0xDC00:02x}"  # a byte that is no UTF-8, kept by surrogateescape
        if "\udc80" <= c <= "\udcff"
        else c.encode("unicode_escape").decode("ascii")
        for c in name[: limit + 1]
    )
    return escaped if len(name) <= limit else escaped[: limit - 3] + "..."


def errno_name(errno: int) -> str:
    """The errno's name: "EBUSY" for 16; "errno 4711" for a number that has no name."""
    return errnos.errorcode.get(errno, f"errno {errno}")


def errno_words(errno: int) -> str:
    """Name and meaning: "EBUSY (Device or resource busy)" for 16."""
    return f"{errno_name(errno)} ({os.strerror(errno)})"


def switch_off(name: str, *, unseen: bool) -> str:
    """What an operator does about a node that has to be off, with the command to type.

    Args:
        name: the node's.
        unseen: nobody has seen it, so it may be well, and without the daemon.
    """
    off = f"switch {name} off, be sure that it is off, then:  ocfs2_hb_ctl --fenced {shlex.quote(name)}"
    return f"start ocfs2_controld on {name}; or {off}" if unseen else off
