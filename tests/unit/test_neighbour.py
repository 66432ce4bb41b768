"""Which descriptor is whose, while grants come in and the mind's actions are being carried out."""

from pathlib import Path

from libo2cb.locks import Descriptor, LockDirectory
from ocfs2_controld.events import OrderingDown, OrderingSaid, OrderingUp
from ocfs2_controld.neighbour import Neighbour
from protocol import framing, ordering

ONE, TWO, THREE = (1, "10.0.0.11", 7777), (2, "10.0.0.12", 7777), (3, "10.0.0.13", 7777)


def come(neighbour: Neighbour, locks: LockDirectory, number: int) -> None:
    """A grant of this number's lock comes in."""
    descriptor = locks.shared(number)
    assert descriptor is not None
    (text,) = framing.Decoder().feed(ordering.encode(ordering.Locked(number)))
    neighbour.record(text, descriptor)


def free(locks: LockDirectory, number: int) -> bool:
    """Whether nobody holds this number's lock."""
    taken: Descriptor | None = locks.exclusive(number)
    if taken is None:
        return False
    taken.close()
    return True


def test_a_grant_that_comes_while_another_is_being_kept_is_not_taken_for_it(tmp_path: Path) -> None:
    told: list[OrderingUp | OrderingDown | OrderingSaid] = []
    locks = LockDirectory(tmp_path)
    neighbour = Neighbour(str(tmp_path / "ordering.sock"), frozenset({0}), told.append, lambda _: None)

    come(neighbour, locks, 1)
    neighbour.taken()
    neighbour.keep(ONE)
    # The actions of that step are still being carried out: in a thread, say, with the loop at work.
    come(neighbour, locks, 2)
    come(neighbour, locks, 3)
    neighbour.drop()
    for key in (TWO, THREE):
        neighbour.taken()
        neighbour.keep(key)
        neighbour.drop()

    assert not any(free(locks, number) for number in (1, 2, 3))
    neighbour.close_lock(THREE)
    assert [free(locks, number) for number in (1, 2, 3)] == [False, False, True]
    neighbour.close_lock(TWO)
    assert [free(locks, number) for number in (1, 2, 3)] == [False, True, True]
    neighbour.close()
    assert [free(locks, number) for number in (1, 2, 3)] == [True, True, True]


def test_what_the_mind_does_not_keep_is_closed(tmp_path: Path) -> None:
    told: list[OrderingUp | OrderingDown | OrderingSaid] = []
    locks = LockDirectory(tmp_path)
    neighbour = Neighbour(str(tmp_path / "ordering.sock"), frozenset({0}), told.append, lambda _: None)
    come(neighbour, locks, 1)
    come(neighbour, locks, 2)
    neighbour.taken()
    neighbour.drop()
    assert [free(locks, number) for number in (1, 2)] == [True, False]
    neighbour.taken()
    neighbour.taken()  # nothing more has come: what was judged, and not kept, goes
    assert free(locks, 2)
    assert all(isinstance(event, OrderingSaid) and event.descriptor for event in told)
    neighbour.close()
