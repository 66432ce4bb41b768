"""Values that never change: the mapping and `replace`; and the tables of state machines."""

from dataclasses import dataclass
from enum import Enum, auto

import pytest

from libo2cb.machine import Move, Table
from protocol.frozen import EMPTY, FrozenMap, replace


def test_a_map_never_changes() -> None:
    source = {"a": 1}
    one = FrozenMap(source)
    source["a"] = 2
    two = one.put("b", 3)
    assert (dict(one), dict(two), dict(two.without("a"))) == ({"a": 1}, {"a": 1, "b": 3}, {"b": 3})
    assert one.without("z") is one
    assert dict(two.merge({"a": 5, "c": 6})) == {"a": 5, "b": 3, "c": 6}
    assert len(EMPTY) == 0


def test_what_is_looked_up_is_what_stands_there() -> None:
    one = FrozenMap({"a": 1, "b": 2})
    two = one.put("c", 3)
    assert (list(two), list(two.keys()), list(two.values())) == (["a", "b", "c"], ["a", "b", "c"], [1, 2, 3])
    assert list(two.without("a").items()) == [("b", 2), ("c", 3)]
    assert (one.get("a"), one.get("c"), one.get("c", 0)) == (1, None, 0)
    assert "c" in two
    assert "c" not in one
    assert two.keys() - one.keys() == {"c"}


def test_equal_maps_are_equal_and_hash_alike() -> None:
    one, two = FrozenMap({"a": 1, "b": 2}), FrozenMap({"b": 2, "a": 1})
    assert one == two
    assert hash(one) == hash(two)
    assert one != {"a": 1, "b": 2}
    assert len({one, two, EMPTY}) == 2
    assert repr(FrozenMap({"a": 1})) == "FrozenMap({'a': 1})"


class Light(Enum):
    RED = auto()
    GREEN = auto()


class Push(Enum):
    BUTTON = auto()
    NOTHING = auto()


def _switch() -> None:
    """Changes the light."""


def _stay() -> None:
    """Does not."""


def test_a_table_with_a_hole_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"Lights: undecided pairs: \(GREEN, NOTHING\)"):
        Table(
            "Lights",
            Light,
            Push,
            {
                (Light.RED, Push.BUTTON): Move(_switch, (Light.GREEN,)),
                (Light.RED, Push.NOTHING): Move(_stay, ()),
                (Light.GREEN, Push.BUTTON): Move(_switch, (Light.RED,)),
            },
        )


def test_a_table_is_drawn() -> None:
    table = Table(
        "Lights",
        Light,
        Push,
        {
            (Light.RED, Push.BUTTON): Move(_switch, (Light.GREEN,)),
            (Light.RED, Push.NOTHING): Move(_stay, ()),
            (Light.GREEN, Push.BUTTON): Move(_switch, (Light.RED,)),
            (Light.GREEN, Push.NOTHING): Move(_stay, ()),
        },
    )
    assert "| **RED** | switch → GREEN | stay |" in table.drawing()
    assert len(list(table)) == 4


@dataclass(frozen=True, slots=True)
class Pair:
    one: int
    other: tuple[int, ...] = ()


def test_replace_makes_another_value() -> None:
    old = Pair(1, (2,))
    new = replace(old, one=3)
    assert (old, new) == (Pair(1, (2,)), Pair(3, (2,)))
    assert hash(new) == hash(Pair(3, (2,)))
    assert replace(old) == old
    assert replace(old) is not old


def test_replace_knows_the_fields() -> None:
    with pytest.raises(TypeError, match="Pair has no field 'two'"):
        replace(Pair(1), two=2)  # type: ignore[call-arg]


def test_what_replace_makes_is_frozen() -> None:
    with pytest.raises(AttributeError):
        replace(Pair(1), one=2).one = 3  # type: ignore[misc]
