"""The hub's history: DIR/hub.jsonl, one JSON object a line, in the order in which things happened in the hub.

Every line has `time` (time.monotonic_ns of the machine, comparable with the daemons' on the same machine) and `op`.
`node` and `nodes` are node numbers, `ring` is "REPRESENTATIVE.SEQUENCE", `boot` a boot id. The operations:

    hub_up          pid, cluster, seed, nodes ([number, name, address] each)
    hub_down
    configured      nodes, as above
    boot            node, boot: a new life begins
    power_off       node, boot: the node's engine and its processes are off for the others; whether every process is
                    really gone is said by
    dead            node, boot: verified; no process of the home lives, its kernel tree and mount table are cleared
    engine          node, state (up, down, hung, stopping), cause (start, stop, kill, restart, hang, resume, power_off,
                    put_out)
    ring            node, ring, members, quorate: the node's engine entered a ring, or its quorum changed
    cut             groups (of node numbers); all others are one more side
    heal
    attach          node, listener, stream (membership, channel), pid
    detach          node, listener, stream, pid, cause (left, died, dropped, power_off)
    send            node, listener, size, digest (BLAKE2b-64 of the payload)
    deliver         node, listener, stream, kind (class of the event); with ring, members, quorate, joined, left, sender
                    ([number, pid]), size, digest where the event has them
    asked           node, question
    answered        node, listener, question, allow, reason
    put_out         node, listener, target (the number of the node that the engine is to put out), reason
    verdict         node, question, verdict (allowed, vetoed), vetoes ([listener, reason])
    order           node, listeners (the first hears everything first; empty: no order)
    hold, release   node, what
"""

import hashlib
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from libo2cb.engine.model import Event
from libo2cb.engine.port import ChannelRing, Delivered, Members
from libo2cb.engine.wire import Json, encode, event_to_json


def digest(payload: bytes) -> str:
    """Names a payload in the history."""
    return hashlib.blake2b(payload, digest_size=8).hexdigest()


class History:
    """Appends to the history. Each line is written at once, in one write, so that a killed hub loses none.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("ab", buffering=0)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def write(self, op: str, **fields: Any) -> None:
        """Add a line."""
        self._file.write(encode({"time": time.monotonic_ns(), "op": op, **fields}))


def delivery(event: Event) -> Json:
    """The fields that a delivery of this event has in the history."""
    fields = event_to_json(event)
    fields["kind"] = fields.pop("event")
    if isinstance(event, Delivered):
        del fields["payload"]
        fields.update(size=len(event.payload), digest=digest(event.payload))
    if isinstance(event, Members | ChannelRing):
        fields["ring"] = str(event.ring)
    return fields
