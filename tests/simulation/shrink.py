"""Make a failing run short: leave decisions out as long as it fails in the same way.

Deterministic: the same run shrinks to the same decisions. First whole stretches, then halves of what is left, down to
single decisions (Zeller's ddmin, without its complements); a decision that cannot take place any more is passed over.
"""

from collections.abc import Callable, Sequence

from tests.simulation.faults import Decision
from tests.simulation.judged import Broken
from tests.simulation.nemesis import Replay, Run

TRIES = 2000
"""Replays at most."""


def kind_of(failure: BaseException) -> str:
    """What makes two failures the same: the law and the words, without nodes, numbers and names."""
    text = f"{type(failure).__name__}: {failure}"
    return "".join(c for c in text if not c.isdigit())[:60] if isinstance(failure, Broken) else type(failure).__name__


def failure_of(run: Run | Replay) -> BaseException | None:
    """How a run fails; None when it keeps all laws."""
    try:
        run.go()
    except Exception as e:  # noqa: BLE001 (a mind that raises has failed, too)
        return e
    return None


def smaller(decisions: Sequence[Decision], fails: Callable[[Sequence[Decision]], bool], tries: int) -> list[Decision]:
    """The decisions without those that are not needed for `fails`."""
    now, size = list(decisions), max(1, len(decisions) // 2)
    while True:
        at, dropped = 0, False
        while at < len(now):
            if tries <= 0:
                return now
            tries -= 1
            without = now[:at] + now[at + size :]
            if fails(without):
                now, dropped = without, True
            else:
                at += size
        if size > 1:
            size //= 2
        elif not dropped:
            return now


def shrunk(run: Run, failure: BaseException, tries: int = TRIES) -> Replay:
    """The shortest replay found that fails as this run did; it has been run, and its story can be read.

    Args:
        run: a run that has failed.
        failure: how.
        tries: replays at most.

    Raises:
        AssertionError: the replay of all its decisions does not fail so: the run was not deterministic.
    """
    kind = kind_of(failure)

    def fails(decisions: Sequence[Decision]) -> bool:
        again = failure_of(Replay(run, decisions))
        return again is not None and kind_of(again) == kind

    if not fails(run.decisions):
        raise AssertionError(f"seed {run.seed} does not fail again when its decisions are repeated: {failure}")
    last = Replay(run, smaller(run.decisions, fails, tries))
    failure_of(last)
    return last
