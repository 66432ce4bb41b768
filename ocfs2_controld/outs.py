"""Nodes that have to go and are still here: which of them the engine is asked to put out now. Pure."""

from ocfs2_controld.state import State


def due(state: State, now: float) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Who is to be put out now, and who would be if the cluster could do without its vote; by number.

    To put out is a convenience, and no fence: others need not wait any more for what such a node does not say. It must
    not cost the quorum:

        A, B and C; C is off. B has nothing mounted, its daemon hangs, and it is expelled. A goes on, with B's vote.
        Were B put out, all filesystems would stop for it.

        Of eight nodes five are left: A, and four that others have recovered. Put out together they would leave A alone.

    So as many go as leave more than half of the configured nodes; with two_node one is enough. Who has been asked for,
    or has not had the time to go by itself, counts as gone. That a node has one vote, and that nothing else has any, is
    the engine's default; where it is otherwise somebody may stay who need not, or one may go too many.
    """
    engine = state.engine
    waiting = [n for n in sorted(state.outs) if n in engine.members and n != engine.local and state.outs[n].due <= now]
    configured = {n.number for n in engine.nodes} | engine.members
    needed = 1 if engine.two_node else len(configured) // 2 + 1
    stay = len(engine.members) - sum(n in engine.members for n in state.outs)
    spare = max(0, stay + len(waiting) - needed)
    return tuple(waiting[:spare]), tuple(waiting[spare:])
