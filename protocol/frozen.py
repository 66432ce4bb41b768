"""Values that never change: a mapping, and how a frozen dataclass is made from another one."""

from collections.abc import Callable, ItemsView, Iterator, KeysView, Mapping, ValuesView
from dataclasses import fields
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar, overload

K = TypeVar("K")
V = TypeVar("V")
D = TypeVar("D")

if TYPE_CHECKING:  # with this name the type checker looks at the fields of each call
    from dataclasses import replace as replace  # noqa: PLC0414 (handed on to those who import it from here)
else:
    T = TypeVar("T")

    def replace(old: T, /, **changes: object) -> T:
        """A frozen, slotted dataclass with some fields changed.

        What `dataclasses.replace` gives, at a fifth of its price: a mind makes a dozen new states in each step, of some
        thirty fields each. Fields are copied as they are, so it is for classes without a `__post_init__`.

        Raises:
            TypeError: there is no such field.
        """
        kind = type(old)
        new = kind.__new__(kind)
        slots = _slots(kind)
        for read, write in slots.values():
            write(new, read(old))
        for name, value in changes.items():
            if name not in slots:
                raise TypeError(f"{kind.__name__} has no field {name!r}")
            slots[name][1](new, value)
        return new

    @cache
    def _slots(kind: type) -> dict[str, tuple[Callable[[Any], Any], Callable[[Any, Any], None]]]:
        """How each field of a class is read and written, below the guard of a frozen one."""
        descriptors = {field.name: vars(kind)[field.name] for field in fields(kind)}
        return {name: (it.__get__, it.__set__) for name, it in descriptors.items()}


class FrozenMap(Mapping[K, V]):
    """A mapping that never changes. `put`, `without` and `merge` give a new one.

    A mind looks through all its groups in each step, so looking through one costs what a dict's own views cost, and not
    the several calls an item of those that Mapping would make.

    Args:
        items: copied.
    """

    __slots__ = ("_hash", "_items")

    def __init__(self, items: Mapping[K, V] | None = None) -> None:
        self._items: dict[K, V] = dict(items or {})
        self._hash: int | None = None

    @classmethod
    def _of(cls, items: dict[K, V]) -> "FrozenMap[K, V]":
        """A map that takes this dict for its own: nobody else may have it."""
        made = cls.__new__(cls)
        made._items = items  # noqa: SLF001 (one of this class)
        made._hash = None  # noqa: SLF001 (likewise)
        return made

    def __getitem__(self, key: K) -> V:
        return self._items[key]

    def __iter__(self) -> Iterator[K]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __contains__(self, key: object) -> bool:
        return key in self._items

    @overload
    def get(self, key: K, /) -> V | None: ...
    @overload
    def get(self, key: K, /, default: V | D) -> V | D: ...
    def get(self, key: K, /, default: V | D | None = None) -> V | D | None:
        """The value under a key, or the default."""
        return self._items.get(key, default)

    def keys(self) -> KeysView[K]:
        """The keys."""
        return self._items.keys()

    def values(self) -> ValuesView[V]:
        """The values."""
        return self._items.values()

    def values_reversed(self) -> Iterator[V]:
        """The values, the last first."""
        return reversed(self._items.values())

    def items(self) -> ItemsView[K, V]:
        """Keys with their values."""
        return self._items.items()

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
        items = self._items.copy()
        items[key] = value
        return self._of(items)

    def merge(self, items: Mapping[K, V]) -> "FrozenMap[K, V]":
        """This map, with these items in place of its own."""
        return self._of({**self._items, **items})

    def without(self, key: K) -> "FrozenMap[K, V]":
        """This map without this key, which it need not have."""
        if key not in self._items:
            return self
        items = self._items.copy()
        del items[key]
        return self._of(items)


EMPTY: FrozenMap[Any, Any] = FrozenMap()
