"""The client of the hub's control words (libo2cb.sandbox.control)."""

import socket
from pathlib import Path

from libo2cb.engine.wire import Json, decode, encode


class HubError(Exception):
    """The hub refused, or does not answer. Its text is a sentence."""


class HubAway(HubError):
    """No hub answers."""


def ask(hub: Path, op: str, *, patience: float = 30.0, **fields: object) -> Json:
    """Say one control word and return the answer. Blocks: for commands and tests, never on a loop.

    Args:
        hub: the hub's socket.
        op: the word.
        patience: seconds to wait for the answer.
        fields: what comes with it.

    Raises:
        HubAway: no hub answers.
        HubError: it refused; the text says why.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(patience)
        try:
            sock.connect(str(hub))
            sock.sendall(encode({"op": op, **fields}))
            with sock.makefile("rb") as lines:
                line = lines.readline()
        except OSError as error:
            why = "nothing comes back" if isinstance(error, TimeoutError) else error.strerror or str(error)
            raise HubAway(f"the hub at {hub} does not answer ({why}); is the sandbox up? o2cb_sandbox up") from error
    if not line:
        raise HubAway(f"the hub at {hub} ended before it answered; see hub.log beside it")
    answer = decode(line)
    if "error" in answer:
        raise HubError(str(answer["error"]))
    return answer
