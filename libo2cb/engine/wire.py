"""What the sandbox's hub and its clients say to each other: one JSON object a line, UTF-8.

A client's first line decides what its connection is:

    {"op": "listen", "node": "n1", "listener": "o2cb_controld"}    a membership listener; the process is the peer's pid
    {"op": "join", "node": "n1", "listener": "ocfs2_controld"}     a member of the channel of that name
    {"op": ANYTHING ELSE, ...}                                     control: each line is answered by one line

A listener then says `{"op": "ack", "count": N}` (N events have been given to the sink, all told), `answer` (question,
allow, reason), and `put_out` (node, a number; reason); a member of the channel `ack`, `send` (payload, base64) and
`leave`. The hub sends events: their class as "event", their fields by name, a payload as base64; or once
{"error": "..."}, and closes.
"""

import base64
import json
from typing import Any, Final

from libo2cb.engine.port import (
    ChannelDown,
    ChannelEvent,
    ChannelMember,
    ChannelMembers,
    ChannelRing,
    Configured,
    ConfiguredNode,
    Delivered,
    EngineDown,
    EngineUp,
    Members,
    MembershipEvent,
    Reason,
    ShutdownAsked,
)
from protocol.identity import Ring

MAX_PAYLOAD: Final = 64 * 1024
MAX_LINE: Final = 4 * MAX_PAYLOAD
"""No line is longer: a whole payload in base64, or a few thousand members."""

Json = dict[str, Any]


def encode(message: Json) -> bytes:
    """A message as a line."""
    return json.dumps(message, separators=(",", ":")).encode() + b"\n"


def decode(line: bytes) -> Json:
    """A line as a message.

    Raises:
        ValueError: it is no JSON object.
    """
    message = json.loads(line)
    if not isinstance(message, dict):
        raise ValueError("a message is a JSON object")  # noqa: TRY004 (whoever sent it hears one kind of error)
    return message


def event_to_json(event: MembershipEvent | ChannelEvent) -> Json:
    """An event as a JSON object."""
    return {"event": type(event).__name__, **_fields(event)}


def _fields(event: MembershipEvent | ChannelEvent) -> Json:
    match event:
        case EngineUp():
            return {"cluster": event.cluster, "local": event.local, **_configuration(event)}
        case EngineDown() | ChannelDown():
            return {"reason": event.reason}
        case Configured():
            return _configuration(event)
        case Members():
            lists = {"members": event.members, "joined": event.joined, "left": event.left}
            return {"ring": _ring(event.ring), "quorate": event.quorate, **lists}
        case ShutdownAsked():
            return {"question": event.question}
        case ChannelMembers():
            members = [(m.node, m.pid) for m in event.members]
            return {"members": members, "joined": _changes(event.joined), "left": _changes(event.left)}
        case ChannelRing():
            return {"ring": _ring(event.ring), "nodes": event.nodes}
        case Delivered():
            sender = (event.sender.node, event.sender.pid)
            return {"sender": sender, "payload": base64.b64encode(event.payload).decode("ascii")}


def membership_event(message: Json) -> MembershipEvent:
    """The membership event in a message.

    Raises:
        ValueError, KeyError, TypeError: it is none.
    """
    match message.get("event"):
        case "EngineUp":
            return EngineUp(message["cluster"], message["local"], *_read_configuration(message))
        case "EngineDown":
            return EngineDown(message["reason"])
        case "Configured":
            return Configured(*_read_configuration(message))
        case "Members":
            lists = (tuple(message[k]) for k in ("members", "joined", "left"))
            return Members(Ring(*message["ring"]), message["quorate"], *lists)
        case "ShutdownAsked":
            return ShutdownAsked(message["question"])
        case other:
            raise ValueError(f"the hub sent {other!r} where a membership event belongs")


def channel_event(message: Json) -> ChannelEvent:
    """The channel event in a message.

    Raises:
        ValueError, KeyError, TypeError: it is none.
    """
    match message.get("event"):
        case "ChannelMembers":
            members = tuple(ChannelMember(*m) for m in message["members"])
            return ChannelMembers(members, _read_changes(message["joined"]), _read_changes(message["left"]))
        case "ChannelRing":
            return ChannelRing(Ring(*message["ring"]), tuple(message["nodes"]))
        case "Delivered":
            return Delivered(ChannelMember(*message["sender"]), base64.b64decode(message["payload"], validate=True))
        case "ChannelDown":
            return ChannelDown(message["reason"])
        case other:
            raise ValueError(f"the hub sent {other!r} where a channel event belongs")


def _ring(ring: Ring) -> tuple[int, int]:
    return (ring.sequence, ring.representative)


def _configuration(event: EngineUp | Configured) -> Json:
    nodes = [(n.number, n.name, n.address) for n in event.nodes]
    return {"nodes": nodes, "two_node": event.two_node, "notes": event.notes}


def _read_configuration(message: Json) -> tuple[tuple[ConfiguredNode, ...], bool, tuple[str, ...]]:
    nodes = tuple(ConfiguredNode(*n) for n in message["nodes"])
    return nodes, bool(message["two_node"]), tuple(message["notes"])


def _changes(changes: tuple[tuple[ChannelMember, Reason], ...]) -> list[tuple[int, int, str]]:
    return [(m.node, m.pid, reason.value) for m, reason in changes]


def _read_changes(changes: list[tuple[int, int, str]]) -> tuple[tuple[ChannelMember, Reason], ...]:
    return tuple((ChannelMember(node, pid), Reason(reason)) for node, pid, reason in changes)
