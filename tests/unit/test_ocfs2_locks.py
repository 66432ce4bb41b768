"""What ocfs2_controld does about a node that no LOCK can name."""

from errno import EINVAL

import pytest

from ocfs2_controld import actions as do
from ocfs2_controld import locks
from ocfs2_controld.state import Local, Locks, Settings, State, Turn
from protocol import ordering
from protocol.frozen import FrozenMap
from protocol.identity import NodeIdentity

FS = "F" * 32
GOOD = NodeIdentity(2, "10.0.0.2", 7777, "n2")


def asked_for(identity: NodeIdentity) -> Turn:
    """The step in which the locks of this node and of a plain one are needed."""
    local = Local(needs=frozenset({GOOD, identity}))
    state = State(Settings("boot1", "run1", 101), locks=Locks(connected=True), locals=FrozenMap({FS: local}))
    turn = Turn(state, 0.0)
    locks.settle(turn)
    return turn


@pytest.mark.parametrize(
    ("identity", "why"),
    [
        (NodeIdentity(3, "10.0.0.3", 7777, "x" * 65), "its name has 65 bytes"),
        (NodeIdentity(3, "10.0.0.3", 7777, "a/b"), "a slash"),
        (NodeIdentity(3, "10.0.0.3", 7777, ""), "its name is empty"),
        (NodeIdentity(2**31, "10.0.0.3", 7777, "n3"), "2147483648 is outside 1 to 254"),
        (NodeIdentity(3, "a host", 7777, "n3"), "no dotted IPv4 address"),
    ],
)
def test_what_no_lock_can_name_is_refused_here_and_everything_that_is_said_can_be_said(
    identity: NodeIdentity, why: str
) -> None:
    turn = asked_for(identity)
    said = [a.message for a in turn.actions if isinstance(a, do.SayOrdering)]
    assert [ordering.parse(ordering.encode(m).rstrip(b"\0")) for m in said] == said == [ordering.Lock(1, GOOD)]
    ((key, (errno, text)),) = turn.state.locks.refused.items()
    assert (key, errno) == (identity.key, EINVAL)
    assert why in text


def test_a_refusal_is_forgotten_when_the_node_is_needed_no_more() -> None:
    turn = asked_for(NodeIdentity(3, "10.0.0.3", 7777, "a/b"))
    turn.put_local(FS, needs=frozenset({GOOD}))
    locks.settle(turn)
    assert not turn.state.locks.refused


def test_the_reason_fits_a_status_however_long_the_name_is() -> None:
    turn = asked_for(NodeIdentity(3, "10.0.0.3", 7777, "x" * 255))
    ((_, (_, text)),) = turn.state.locks.refused.items()
    assert text == "its name has 255 bytes, and 64 is the limit; give it a name of 1 to 64 bytes without a slash"
