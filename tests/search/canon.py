"""Values in canonical form: equal where the future is equal, and each kept once.

A *part* is one immutable value of a world: a field of a mind's state, an event in a queue, a kernel. Its *template* is
the value with holes where names stood that mean nothing but "the same as there" or "asked before that": nonces and
the names of changes, ids of connections and of lock requests. The key of a world is its templates and, for the holes,
the names by their order: of first appearance, or of size where the mind compares ids.

Left out of the key, and why that is sound:

- moments, pauses, texts for people and counters: the search keeps time at 0, each timer fires as a choice of its own,
  and no mind decides by a text;
- counters that only make fresh names (`count`, `following`): a name that is fresh is fresh under any other name;
- the engine's count of messages (`heard`, `place`): where the world loses no last message all of it, else but for the
  order; the next count (`spoken`) always, for it is above all others.

What is left out stays in the world itself: a state is continued with the very values of the history that found it.
"""

from collections.abc import Callable, Hashable, Iterable
from dataclasses import fields, is_dataclass
from enum import Enum
from operator import itemgetter
from typing import Any

from protocol.frozen import FrozenMap

Names = list[tuple[str, Any]]
Encoder = Callable[[Any, Names], Any]

CHANGE, CONNECTION, REQUEST, FRESH, PLACE = "change", "connection", "request", "fresh", "place"
IGNORED = -1
"""The number of a part that does not count."""
_HOLES = {
    "change": CHANGE,
    "nonce": CHANGE,
    "connection": CONNECTION,
    "waiting": CONNECTION,
    "request": REQUEST,
    "count": FRESH,
    "following": FRESH,
    "place": PLACE,
    "heard": PLACE,
}
"""Fields that hold a name. START's `count` is none: START names are compared."""
_KEYED = {("Locks", "asked"): REQUEST, ("State", "sessions"): CONNECTION, ("State", "peers"): CONNECTION}
"""Maps and sets whose keys are names."""
_SKIPPED = {
    "Channel": {"since"},
    "Engine": {"why", "reason", "gone_at", "spoken"},
    "Local": {"since", "stopped_at", "stop_cause", "path", "label", "refused_since", "busy", "check_at"},
    "Session": {"since", "peer"},
    "Locks": {"why", "queued", "waiting"},
    "Fence": {"since", "attempts", "text"},
    "Out": {"why"},
    "State": {"named", "counts", "last_death", "service_at"},
    "Slot": {"told", "pause", "look_at"},
}
_PLACES = {"Engine": {"heard"}, "Queued": {"place"}}


_REMEMBERED = {"Envelope", "Statement", "GroupTable", "Settings"}
_MOST_REMEMBERED = 20_000


class Part:
    """A value, its template's number, and the names in its holes."""

    __slots__ = ("names", "number", "value")

    def __init__(self, value: Any, number: int, names: tuple[tuple[str, Any], ...]) -> None:
        self.value = value
        self.number = number
        self.names = names


class Piece:
    """A large part of a world, which goes as a whole from state to state.

    Args:
        canon: where its parts are kept.
        parts: it, for the key.
        saved: it, to go back to.
    """

    __slots__ = ("asked", "changes", "parts", "saved", "shape")

    def __init__(self, canon: "Canon", parts: list[Part], saved: Any) -> None:
        names = [(kind, name) for part in parts for kind, name in part.names]
        self.shape = canon.number(tuple([part.number for part in parts]))
        self.changes = tuple([name for kind, name in names if kind is CHANGE])
        self.asked = tuple([(kind, name) for kind, name in names if kind is not CHANGE and kind is not FRESH])
        self.parts, self.saved = parts, saved


class Canon:
    """All parts of one search.

    Args:
        places: whether the engine's count of messages matters.
    """

    def __init__(self, *, places: bool) -> None:
        self._places = places
        self._parts: dict[tuple[Any, Any], Part] = {}
        self._known: dict[int, Part] = {}
        self._equal: dict[Any, Part] = {}
        self._templates: dict[Any, int] = {}
        self._inner: dict[int, tuple[Any, int, Names]] = {}
        self._encoders: dict[type, Encoder] = {
            FrozenMap: self._map,
            tuple: self._tuple,
            list: self._tuple,
            frozenset: self._set,
        }
        for plain in (int, str, bool, float, bytes, type(None)):
            self._encoders[plain] = _plain

    def part(self, value: Any, *, lasting: bool = False) -> Part:
        """The part that a value is; equal values have one. Lasting: the caller keeps the value for ever."""
        known = self._known.get(id(value))
        if known is not None:
            return known
        names: Names = []
        template = type(value), self._encode(value, names)  # an empty map, an empty set and 0 are not the same
        key = template, tuple(names)
        part = self._parts.get(key)
        if part is None:
            part = Part(value, self.number(template), key[1])
            self._parts[key] = part
            lasting = True  # the part keeps the value alive, so the id stays its own
        if lasting:
            self._known[id(value)] = part
        return part

    def plain(self, value: Hashable) -> Part:
        """The part that a small value is, or one of a few that come again and again."""
        part = self._equal.get(value)
        if part is None:
            part = self._equal[value] = self.part(value)
        return part

    def whole(
        self,
        value: Any,
        split: Callable[[Any], list[Part]],
        join: Callable[[Any, list[Part]], Any],
        *,
        lasting: bool = False,
    ) -> Part:
        """A value that is made of parts, as one part.

        Args:
            lasting: the caller keeps the value for ever.
            value: the value.
            split: its parts.
            join: the value again, of parts that may be other objects.
        """
        known = self._known.get(id(value))
        if known is not None:
            return known
        inner = split(value)
        key = type(value), tuple([id(x) for x in inner])
        part = self._parts.get(key)
        if part is None:
            names = tuple([name for x in inner for name in x.names])
            numbers = [x.number for x in inner if x.number != IGNORED]
            part = Part(join(value, inner), self.number((type(value), *numbers)), names)
            self._parts[key] = part
            self._known[id(part.value)] = part
        if lasting:
            self._known[id(value)] = part
        return part

    def number(self, template: Any) -> int:
        """A small number for a hashable value."""
        return self._templates.setdefault(template, len(self._templates))

    def key(self, pieces: Iterable["Piece"]) -> tuple[int, ...]:
        """The key of a world: a number for each of its pieces."""
        changes: dict[Any, int] = {}
        asked: dict[str, set[Any]] = {}
        for piece in pieces:
            for name in piece.changes:
                changes.setdefault(name, len(changes))
            for kind, name in piece.asked:
                asked.setdefault(kind, set()).add(name)
        order = {kind: {name: i for i, name in enumerate(sorted(names))} for kind, names in asked.items()}
        return tuple(
            [
                self.number(
                    (x.shape, *[changes[name] for name in x.changes], *[order[kind][name] for kind, name in x.asked])
                )
                if x.changes or x.asked
                else x.shape
                for x in pieces
            ]
        )

    def _encode(self, value: Any, names: Names) -> Any:
        kind = type(value)
        encoder = self._encoders.get(kind)
        if encoder is None:
            encoder = self._encoders[kind] = self._make(kind)
        return encoder(value, names)

    def _make(self, kind: type) -> Encoder:
        if issubclass(kind, Enum):
            return _enum
        if issubclass(kind, tuple):
            return self._tuple
        if not is_dataclass(kind):
            raise TypeError(f"the search does not know how to compare {kind}")
        name = kind.__name__
        skipped = _SKIPPED.get(name, set()) | (set() if self._places else _PLACES.get(name, set()))
        table = [
            (f.name, None if name == "StartName" else _HOLES.get(f.name), _KEYED.get((name, f.name)))
            for f in fields(kind)
            if f.compare and f.name not in skipped
        ]

        def record(value: Any, names: Names) -> Any:
            found: list[Any] = [name]
            for attribute, hole, keyed in table:
                x = getattr(value, attribute)
                if keyed is not None:
                    found.append(self._keyed(x, keyed, names))
                elif hole is not None and x is not None and not isinstance(x, FrozenMap):
                    names.append((hole, x))
                    found.append("?")
                else:
                    found.append(self._encode(x, names))
            return tuple(found)

        return self._remembering(record) if name in _REMEMBERED else record

    def _remembering(self, record: Encoder) -> Encoder:
        """Encode each such object once: many queues hold it."""

        def remembered(value: Any, names: Names) -> Any:
            known = self._inner.get(id(value))
            if known is None:
                inner: Names = []
                known = value, self.number(record(value, inner)), inner
                if len(self._inner) > _MOST_REMEMBERED:
                    self._inner.clear()
                self._inner[id(value)] = known  # which keeps it alive, so the id stays its own
            names.extend(known[2])
            return known[1]

        return remembered

    def _keyed(self, value: Any, kind: str, names: Names) -> Any:
        found: list[Any] = []
        for name in sorted(value):
            names.append((kind, name))
            found.append(self._encode(value[name], names) if isinstance(value, FrozenMap) else "?")
        return tuple(found)

    def _tuple(self, value: Any, names: Names) -> Any:
        return tuple([self._encode(x, names) for x in value])

    def _map(self, value: Any, names: Names) -> Any:
        items = sorted(value.items(), key=itemgetter(0))
        return ("map", *[(self._encode(k, names), self._encode(v, names)) for k, v in items])

    def _set(self, value: Any, names: Names) -> Any:
        found = []
        for x in value:
            inner: Names = []
            found.append((self._encode(x, inner), inner))
        found.sort(key=repr)
        for _, inner in found:
            names.extend(inner)
        return tuple(x for x, _ in found)


def _plain(value: Any, _: Names) -> Any:
    return value


def _enum(value: Any, _: Names) -> Any:
    return value._name_
