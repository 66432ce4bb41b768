"""The record: 256 bytes that carry one text, on the client socket and on the ordering socket alike.

Format as measured on the clients of ocfs2-tools 1.8.7 and on both upstream daemons: every message, either way, is
exactly 256 bytes; its text ends at the first NUL and is at most 255 bytes long; what stands behind the NUL means
nothing. A text is a word and its arguments, with ONE blank (0x20) between them; the last argument is all that is left.

Text is UTF-8; bytes that are no UTF-8 travel as lone surrogates ("surrogateescape"), as in file names.
"""

import errno
import re
from typing import Final

RECORD: Final = 256
"""Bytes of a record."""

MAX_TEXT: Final = RECORD - 1
"""Bytes of the longest text: the last byte of a record is always NUL."""

_ELLIPSIS: Final = b"..."
_NUL_SHOWN: Final = "\N{SYMBOL FOR NULL}".encode()
_EXCERPT: Final = 60
_DIGITS: Final = re.compile(r"[0-9]{1,20}")
_CONTINUATION: Final = 0b10
_LONGEST_SEQUENCE: Final = 4


class TextTooLong(ValueError):
    """A text that no record can carry: longer than 255 bytes, or cut short by a NUL inside."""


class BadMessage(ValueError):
    """A text that is no message, or a message that cannot be written as one.

    Attributes:
        code: positive errno for the STATUS that answers it.
    """

    def __init__(self, sentence: str, code: int = errno.EINVAL) -> None:
        super().__init__(sentence)
        self.code = code


def to_text(raw: bytes) -> str:
    """Any bytes as a string that `to_bytes` turns back into the same bytes."""
    return raw.decode("utf-8", "surrogateescape")


def to_bytes(text: str) -> bytes:
    """The bytes of a string.

    A string that `to_text` or `os.fsdecode` made comes back as it was. One put together of lone surrogates that in a
    row spell UTF-8 keeps its bytes, but comes back as the character that they are.

    Raises:
        BadMessage: it holds a lone surrogate that stands for no byte.
    """
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        raise BadMessage(f"{text[:_EXCERPT]!a} cannot be sent: it holds half a surrogate pair") from error


def shown(raw: bytes) -> str:
    """Bytes of a stranger for an error's sentence: quoted, printable, on one line, the first 60 characters of them."""
    text = raw.decode("utf-8", "backslashreplace")
    tail = _ELLIPSIS.decode() if len(text) > _EXCERPT else ""
    return '"' + "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text[:_EXCERPT]) + tail + '"'


def cut(raw: bytes, limit: int) -> bytes:
    """The longest beginning of at most `limit` bytes (4 or more) that does not split a UTF-8 character.

    Never empty unless `raw` is. Where no character reaches across the limit, as in bytes that are no UTF-8, it is
    `limit` bytes long.
    """
    if len(raw) <= limit:
        return raw
    for end in range(limit, limit - _LONGEST_SEQUENCE, -1):
        if raw[end] >> 6 != _CONTINUATION:
            return raw[:end]
    return raw[:limit]


def sendable(text: str) -> bytes:
    """The bytes of a text for people, of any length; never fails.

    What no record can carry is written so that it can be read: a NUL as its symbol, half a surrogate pair as an escape.
    """
    try:
        raw = to_bytes(text)
    except BadMessage:
        raw = text.encode("utf-8", "backslashreplace")
    return raw.replace(b"\0", _NUL_SHOWN)


def human(text: str, limit: int = MAX_TEXT) -> bytes:
    """A sentence for people, `sendable`, as at most `limit` bytes (7 or more); what is too long ends in "..."."""
    raw = sendable(text)
    return raw if len(raw) <= limit else cut(raw, limit - len(_ELLIPSIS)) + _ELLIPSIS


def encode(text: bytes) -> bytes:
    """The record of a text.

    Raises:
        TextTooLong: it is longer than 255 bytes or holds a NUL. Upstream's clients then send nothing and see an
            I/O error; nothing is ever cut here, for a cut argument is another argument.
    """
    if len(text) > MAX_TEXT:
        raise TextTooLong(f"{shown(text)} cannot be sent: {len(text)} bytes, and a record carries {MAX_TEXT}")
    if b"\0" in text:
        raise TextTooLong(f"{shown(text)} cannot be sent: a NUL inside would end it there")
    return text.ljust(RECORD, b"\0")


def encode_sentence(head: str, sentence: str) -> bytes:
    """The record of a message whose last argument is for people: "head sentence", the sentence cut to fit.

    Raises:
        TextTooLong: there is no room for a sentence behind `head`.
        BadMessage: see `to_bytes`, for `head` alone.
    """
    start = to_bytes(head) + b" "
    room = MAX_TEXT - len(start)
    return encode(start + human(sentence, max(room, len(_ELLIPSIS) + _LONGEST_SEQUENCE)))


class Decoder:
    """Turns a stream of bytes, however it was chopped, into the texts of its records.

    It keeps less than one record between calls, whatever comes.
    """

    def __init__(self) -> None:
        self._half = b""

    @property
    def pending(self) -> int:
        """Bytes of a record that is not complete yet, 0 to 255. At the stream's end only 0 is no broken record."""
        return len(self._half)

    def feed(self, data: bytes) -> list[bytes]:
        """Take in what was received; the texts of the records that it completes, in order."""
        stream = self._half + data
        whole = len(stream) - len(stream) % RECORD
        self._half = stream[whole:]
        return [stream[at : at + MAX_TEXT].partition(b"\0")[0] for at in range(0, whole, RECORD)]


def command(text: bytes) -> bytes:
    """The first word of a text: all before the first blank. Empty if the text begins with one."""
    return text.partition(b" ")[0]


def words(text: bytes, arity: int) -> tuple[bytes, list[bytes]]:
    """Split a text into its word and exactly `arity` arguments.

    Each blank separates, so two in a row make an empty argument and one at the end an empty last argument. The last
    argument keeps everything left, with the blanks inside and behind it. Without arguments no blank may follow.

    Raises:
        BadMessage: too few arguments, or any at all where there must be none.
    """
    word, *arguments = text.split(b" ", arity) if arity else [text]
    if not arity and b" " in text:
        raise BadMessage(f"{shown(command(text))} takes no arguments and no blank behind it, but {shown(text)} came")
    if len(arguments) < arity:
        raise BadMessage(f"{shown(word)} takes {arity} arguments, but {len(arguments)} came: {shown(text)}")
    return word, arguments


def spell(word: str, *arguments: str) -> bytes:
    """The text of a message: the inverse of `words`.

    Raises:
        BadMessage: an argument before the last one holds a blank, which would shift all behind it.
    """
    for argument in arguments[:-1]:
        if " " in argument:
            raise BadMessage(
                f"{word} cannot carry {shown(to_bytes(argument))}: only its last argument may hold a blank"
            )
    return to_bytes(" ".join((word, *arguments)))


def number(digits: str, what: str, top: int) -> int:
    """A decimal number from 0 to `top`; no sign, no blanks.

    Raises:
        BadMessage: it is none, or is greater; the sentence names it by `what`.
    """
    if not _DIGITS.fullmatch(digits) or int(digits) > top:
        raise BadMessage(f"{what} must be a number from 0 to {top}, not {shown(to_bytes(digits))}")
    return int(digits)
