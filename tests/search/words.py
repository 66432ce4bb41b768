"""Words that come to nothing: said in another view than that in which they are read (rules `view` and `tag`).

A leaves. B says that it has started, and does not know yet that A has left; when C reads that, it has read of A's end,
for that stands before it in C's queue. So C passes it over. Such a word makes no difference to anybody's future, so it
does not count in the key of a state, and to say one is to say nothing. That C does pass it over is not believed: when
it comes to be read, C's mind is asked (`Machines.bury`).
"""

from collections.abc import Iterator
from dataclasses import dataclass

from libo2cb.engine.port import ChannelMembers, ChannelRing, Delivered
from libo2cb.engine.values import Queued
from protocol.group import Envelope, View, ViewMember
from protocol.identity import Ring


@dataclass(frozen=True, slots=True)
class Said:
    """An envelope on the channel.

    Attributes:
        envelope: it.
        view: the view that it answers, or that its change was of.
    """

    envelope: Envelope
    view: View | None


def living(queue: tuple[Queued, ...], *, expulsions: bool) -> Iterator[bool]:
    """Whether each event of a queue of the channel can count, by the events of that queue alone.

    Args:
        queue: the queue.
        expulsions: members may be expelled, which changes a view too.
    """
    ring: Ring | None = None
    members: tuple[ViewMember, ...] | None = None
    for queued in queue:
        event = queued.event
        if isinstance(event, ChannelRing):
            ring = event.ring
        elif isinstance(event, ChannelMembers):
            members = tuple(sorted(ViewMember(m.node, m.pid) for m in event.members))
        elif isinstance(event, Delivered):
            yield _counts(event.payload.view, ring, members, expulsions)  # type: ignore[attr-defined]  # what was said
            continue
        yield True


def _counts(view: View | None, ring: Ring | None, members: tuple[ViewMember, ...] | None, expulsions: bool) -> bool:
    if view is None:
        return True
    if ring is not None and view.ring != ring:
        return False
    if members is None or view.members == members:
        return True
    return expulsions and set(view.members) <= set(members)
