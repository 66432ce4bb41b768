"""An immutable mapping: states and messages hold one, compare by value and can be hashed."""

from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class FrozenMap(Mapping[K, V]):
    """A mapping that never changes. `put`, `without` and `merge` give a new one.

    Args:
        items: copied.
    """

    __slots__ = ("_hash", "_items")

    def __init__(self, items: Mapping[K, V] | None = None) -> None:
        self._items: dict[K, V] = dict(items or {})
        self._hash: int | None = None

    def __getitem__(self, key: K) -> V:
        return self._items[key]

    def __iter__(self) -> Iterator[K]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FrozenMap) and self._items == other._items

    def __hash__(self) -> int:
        if self._hash is None:
            self._hash = hash(frozenset(self._items.items()))
        return self._hash

    def __repr__(self) -> str:
        return f"FrozenMap({self._items!r})"

    def put(self, key: K, value: V) -> "FrozenMap[K, V]":
        """This map, with this value under this key."""
        return self.merge({key: value})

    def merge(self, items: Mapping[K, V]) -> "FrozenMap[K, V]":
        """This map, with these items in place of its own."""
        return FrozenMap({**self._items, **items})

    def without(self, key: K) -> "FrozenMap[K, V]":
        """This map without this key, which it need not have."""
        if key not in self._items:
            return self
        return FrozenMap({k: v for k, v in self._items.items() if k != key})


EMPTY: FrozenMap[Any, Any] = FrozenMap()
