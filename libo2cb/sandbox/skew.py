"""Which stream may deliver now: the seeded skew between the streams of a node, and what `order` and `hold` force.

As long as nothing is forced, each stream that has something new waits for a moment of its own, up to LONGEST_SKEW, and
then gives all it has; so each order between two streams is seen, as on corosync. With `order n1 A,B` no stream of B on
n1 delivers while one of A there has anything undelivered, or delivered and not yet acknowledged. A held stream
delivers nothing until it is released; whoever is ordered behind it waits too.
"""

from collections.abc import Collection
from random import Random
from typing import Final

from libo2cb.engine.model import Key, ModelError, Stream

LONGEST_SKEW: Final = 0.0023  # seconds, as measured on a failure
SHORTEST_STOP: Final = 0.003
LONGEST_STOP: Final = 0.055  # between PROCDOWN and the change of membership, on a clean stop


class Skew:
    """Decides about deliveries.

    Args:
        seed: of the delays.

    Attributes:
        orders: node to (first, second).
        holds: (node, listener, stream); None stands for both streams.
    """

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)  # noqa: S311 (skew, no secret)
        self.orders: dict[int, tuple[str, ...]] = {}
        self.holds: set[tuple[int, str, Stream | None]] = set()

    def delay(self) -> float:
        """Seconds that a stream waits before it gives what it has."""
        return self._random.uniform(0, LONGEST_SKEW)

    def stop_time(self) -> float:
        """Seconds between the halves of a clean stop; none where an order is forced, so that both wait together."""
        return 0.0 if self.orders else self._random.uniform(SHORTEST_STOP, LONGEST_STOP)

    def singleton_time(self) -> float:
        """Seconds that a fresh engine is alone."""
        return self._random.uniform(0.001, 0.010)

    def ring_first(self) -> bool:
        """Whether a joiner hears of the ring before its own join."""
        return self._random.random() < 0.5  # noqa: PLR2004 (a coin)

    def may(self, key: Key, busy: Collection[Key]) -> bool:
        """Whether a stream may deliver; busy: the streams with anything undelivered or unacknowledged."""
        if (key.node, key.listener, None) in self.holds or (key.node, key.listener, key.stream) in self.holds:
            return False
        order = self.orders.get(key.node, ())
        before = order[: order.index(key.listener)] if key.listener in order else ()
        return not any(b.node == key.node and b.listener in before for b in busy)

    def order(self, node: int, listeners: tuple[str, ...]) -> None:
        """Force an order between listeners; none: back to the seeded skew."""
        if len(set(listeners)) != len(listeners) or not all(listeners):
            raise ModelError("an order names each listener once: FIRST,SECOND")
        if listeners:
            self.orders[node] = listeners
        else:
            self.orders.pop(node, None)

    def hold(self, node: int, what: str) -> None:
        """Hold "LISTENER", "LISTENER.membership" or "LISTENER.channel"."""
        self.holds.add((node, *_held(what)))

    def release(self, node: int, what: str) -> None:
        """Release what was held; a whole listener releases its streams as well."""
        listener, stream = _held(what)
        known = {h for h in self.holds if h[:2] == (node, listener) and stream in (None, h[2])}
        if not known:
            held = ", ".join(sorted(f"{w}.{s}" if s else w for n, w, s in self.holds if n == node)) or "nothing"
            raise ModelError(f"{what} is not held on this node; held there: {held}")
        self.holds -= known


def _held(what: str) -> tuple[str, Stream | None]:
    listener, dot, stream = what.partition(".")
    if not listener or (dot and stream not in list(Stream)):
        raise ModelError(f'"{what}" is neither LISTENER nor LISTENER.membership nor LISTENER.channel')
    return listener, Stream(stream) if dot else None
