"""What ocfs2_controld makes of the engine's membership, where its two services disagree."""

from libo2cb.engine.port import Configured, ConfiguredNode, EngineDown, EngineUp, Members
from ocfs2_controld import mind
from ocfs2_controld.events import KernelFound, MountTable
from ocfs2_controld.mind import has_left
from ocfs2_controld.state import Settings, State
from protocol.frozen import FrozenMap
from protocol.identity import Life, NodeIdentity, Ring

FS = "F" * 32
NODES = tuple(ConfiguredNode(n, f"n{n}", f"10.0.0.{10 + n}") for n in (1, 2, 3, 4))


def told(*members: Members, spoke: Ring) -> State:
    """n4's mind after these words of the membership; n1 last spoke on the channel in that ring."""
    state = mind.begin(Settings("boot", "run", 100))
    state, _ = mind.step(state, 0.0, (EngineUp("demo", 4, NODES), *members))
    return state.__class__(**{**{f: getattr(state, f) for f in state.__slots__}, "spoke": FrozenMap({1: spoke})})


def test_who_was_cut_off_alone_does_not_take_the_others_for_gone() -> None:
    # n4 is cut off, sees the others "leave", and is back; n1's daemon had died meanwhile, and n1 was never away.
    alone = Members(Ring(12, 4), False, (4,), (), (1, 2, 3))
    back = Members(Ring(16, 1), True, (1, 2, 3, 4), (1, 2, 3), ())
    assert not has_left(told(alone, back, spoke=Ring(8, 1)), Life(1, "b1"))


def test_who_left_a_quorate_part_and_came_back_is_a_new_life() -> None:
    fast = Members(Ring(12, 1), True, (1, 2, 3, 4), (1,), (1,))
    assert has_left(told(fast, spoke=Ring(8, 1)), Life(1, "b1"))


def test_a_departure_before_the_last_word_is_over() -> None:
    fast = Members(Ring(12, 1), True, (1, 2, 3, 4), (1,), (1,))
    assert not has_left(told(fast, spoke=Ring(12, 1)), Life(1, "b1"))


def test_who_is_not_a_member_any_more_has_left() -> None:
    without = Members(Ring(12, 2), False, (2, 4), (), (1, 3))
    assert has_left(told(without, spoke=Ring(8, 1)), Life(1, "b1"))


def test_a_fence_goes_by_what_a_node_was_called_while_it_was_configured() -> None:
    # n3 dies, and is taken out of the configuration before it is fenced, as for another address.
    state = mind.begin(Settings("boot", "run", 100))
    state, _ = mind.step(state, 0.0, (EngineUp("demo", 4, NODES), Configured(NODES[:2] + NODES[3:])))
    assert state.engine.node(3) is None
    assert (state.engine.name(3), state.engine.known(3)) == ("n3", NODES[2])
    state, _ = mind.step(state, 1.0, (EngineDown("gone"), EngineUp("demo", 4, NODES[3:])))
    assert [state.engine.name(n) for n in (1, 2, 3, 4, 5)] == ["n1", "n2", "n3", "n4", "node 5"]
    moved = ConfiguredNode(3, "new", "10.0.0.99")
    state, _ = mind.step(state, 2.0, (Configured((*NODES[3:], moved)),))
    assert state.engine.known(3) == moved
    assert [*state.engine.former] == [1, 2]


def test_an_address_that_the_kernel_pins_is_kept_until_nothing_pins_it() -> None:
    old, new = NodeIdentity(4, "10.0.0.14", 7777, "n4"), NodeIdentity(4, "10.0.0.99", 7777, "n4")
    moved = (*NODES[:3], ConfiguredNode(4, "n4", new.address))
    state = mind.begin(Settings("boot", "run", 100))
    found = (MountTable(FrozenMap({FS: ("/mnt",)})), KernelFound(FrozenMap({FS: (4,)}), old))
    state, _ = mind.step(state, 0.0, (*found, EngineUp("demo", 4, moved)))
    assert state.identity == old, "B must not link this node at an address that its own kernel does not have"
    without, _ = mind.step(mind.begin(Settings("boot", "run", 100)), 0.0, (EngineUp("demo", 4, moved),))
    assert without.identity == new
