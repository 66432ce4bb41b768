"""The worlds that are searched.

`ordering-*`: one node under test with its two real daemons, call by call; the others' daemons are real minds that do at
once what they can, and play the part of the channel's other end. They die, come back, join and leave in any order.
`group-*`: each node's ocfs2_controld is under test, o2cb_controld grants at once: its part is in the ordering worlds.
"""

from collections.abc import Mapping
from typing import Any

from libo2cb.engine.model import Stream
from tests.search.scene import Budget, Scene
from tests.simulation.world import OCFS2

_ONE = frozenset((1,))


def _ordering(
    name: str, about: str, budget: Budget, *, nodes: int = 2, mounted: tuple[int, ...] = (1, 2), **more: Any
) -> Scene:
    others = tuple(range(2, nodes + 1))
    # Clients and faults of the world come to the others, deaths of daemons to the node under test.
    return Scene(
        f"ordering-{name}",
        about,
        nodes,
        budget,
        mounted,
        full=_ONE,
        careful=_ONE,
        quick=frozenset(others),
        victims=others,
        killed=(1,),
        two_node=nodes == 2,
        **more,
    )


ORDERING = (
    _ordering("death", "n2 dies", Budget(off=1)),
    _ordering("o-killed", "o2cb_controld is killed, n2 dies", Budget(off=1, kill_o=1)),
    _ordering("c-killed", "ocfs2_controld is killed, n2 dies", Budget(off=1, kill_c=1)),
    _ordering("both-killed", "each daemon is killed once, n2 dies", Budget(off=1, kill_o=1, kill_c=1)),
    _ordering("leave", "n2 unmounts, and dies", Budget(off=1, umount=1)),
    _ordering("mount", "n2 unmounts and mounts again", Budget(umount=1, mount=1)),
    _ordering("join-o-killed", "n2 mounts, o2cb_controld is killed", Budget(mount=1, kill_o=1), mounted=(1,)),
    _ordering("join-c-killed", "n2 mounts, ocfs2_controld is killed", Budget(mount=1, kill_c=1), mounted=(1,)),
    _ordering("return", "n2 dies and comes back, at another address or not", Budget(off=1, back=1, move=1)),
    _ordering(
        "return-mount",
        "n2 dies, comes back at another address or not, and mounts again",
        Budget(off=1, back=1, move=1, mount=1),
    ),
    _ordering(
        "return-join",
        "n2, which mounts nothing, dies, comes back at another address or not, and mounts",
        Budget(off=1, back=1, move=1, mount=1),
        mounted=(1,),
    ),
    _ordering(
        "grant",
        "n2's lock was granted and not read yet when n2 died; it came back at another address, and mounts again",
        Budget(kill_o=1),
        mounted=(1,),
        prelude=(("mount", "2"), ("off", "2", ""), ("back", "2", "moved"), ("mount", "2")),
        held=frozenset(("n1 ocfs2 reads",)),
    ),
    _ordering(
        "return-o-killed", "n2 dies and comes back, o2cb_controld is killed", Budget(off=1, back=1, move=1, kill_o=1)
    ),
    _ordering(
        "return-c-killed", "n2 dies and comes back, ocfs2_controld is killed", Budget(off=1, back=1, move=1, kill_c=1)
    ),
    _ordering("two-deaths", "of three nodes, two die", Budget(off=2), nodes=3, mounted=(1, 2, 3)),
)

GROUPS = (
    Scene("group2-join", "both mount", 2, Budget(mount=2)),
    Scene("group2-join-leave", "n2 mounts, both unmount", 2, Budget(mount=1, umount=2), (1,)),
    Scene("group2-give-up", "n2 mounts; deadline, or its client dies", 2, Budget(mount=1, deadline=1, client=1), (1,)),
    Scene("group2-c-killed", "a daemon is killed", 2, Budget(kill_c=1), (1, 2)),
    Scene("group2-join-c-killed", "n2 mounts, a daemon is killed", 2, Budget(mount=1, kill_c=1), (1,)),
    Scene("group2-leave-c-killed", "one unmounts, a daemon is killed", 2, Budget(umount=1, kill_c=1), (1, 2)),
    Scene("group2-grace", "a daemon is killed and away for too long", 2, Budget(kill_c=1, grace=1), (1, 2)),
    Scene(
        "group2-expelled",
        "n2 mounts nothing; its daemon is killed, and expelled for what it owes",
        2,
        Budget(kill_c=1, grace=1),
        (1,),
        victims=(1,),
        killed=(2,),
    ),
    Scene("group2-death", "n2 mounts, a node dies", 2, Budget(mount=1, off=1), (1,), two_node=True),
    Scene("group2-return", "a node dies and comes back", 2, Budget(off=1, back=1), (1, 2), two_node=True),
    Scene("group2-cut", "the two lose sight of each other", 2, Budget(cut=1), (1, 2), victims=(1,), two_node=True),
    Scene("group3-death", "a node dies", 3, Budget(off=1, unreceived=1), (1, 2, 3)),
    Scene("group3-join", "n3 mounts", 3, Budget(mount=1), (1, 2)),
    Scene("group3-join-death", "n3 mounts, a node dies", 3, Budget(mount=1, off=1), (1, 2)),
    Scene(
        "group3-join-loss",
        "n3 mounts, n2, which does at once what it can, dies",
        3,
        Budget(mount=1, off=1),
        (1, 2),
        quick=frozenset((2,)),
        victims=(2, 3),
    ),
    Scene("group3-cut", "n3 is cut off, and the network heals", 3, Budget(cut=1), (1, 2, 3), victims=(3,)),
    Scene(
        "group3-cut-one-side",
        "the same, and n2 does at once what it can",
        3,
        Budget(cut=1),
        (1, 2, 3),
        quick=frozenset((2,)),
        victims=(3,),
    ),
    Scene("group3-join-cut", "n2 mounts, n3 is cut off", 3, Budget(mount=1, cut=1), (1, 3), victims=(2, 3)),
    Scene(
        "group3-join-loss-c-killed",
        "n3 mounts, n2, which does at once what it can, dies, the daemon of n1 is killed",
        3,
        Budget(mount=1, off=1, kill_c=1),
        (1, 2),
        quick=frozenset((2,)),
        victims=(2, 3),
        killed=(1,),
    ),
    Scene("group3-join-c-killed", "n3 mounts, a daemon is killed", 3, Budget(mount=1, kill_c=1), (1, 2)),
    Scene("group3-return", "a node dies and comes back", 3, Budget(off=1, back=1), (1, 2, 3)),
    Scene(
        "group4-quorum",
        "of four nodes three do at once what they can; two of these die, and one comes back: quorum goes and comes",
        4,
        Budget(off=2, back=1),
        (1,),
        quick=frozenset((2, 3, 4)),
        victims=(3, 4),
    ),
    Scene(
        "group3-cut-lie",
        "n3 is cut off, and said to be off while it writes; n2 does at once what it can",
        3,
        Budget(cut=1, lie=1),
        (1, 2, 3),
        quick=frozenset((2,)),
        victims=(3,),
    ),
    Scene(
        "group3-cut-leave",
        "n3 is cut off and unmounts, before or after; n2 does at once what it can",
        3,
        Budget(cut=1, umount=1),
        (1, 2, 3),
        quick=frozenset((2,)),
        victims=(3,),
    ),
    Scene(
        "group3-cut-c-killed",
        "n3 is cut off, the daemon of n1 is killed; n2 does at once what it can",
        3,
        Budget(cut=1, kill_c=1),
        (1, 2, 3),
        quick=frozenset((2,)),
        victims=(3,),
        killed=(1,),
    ),
    Scene(
        "group3-put-out",
        "n3 is cut off and its fence begun when the network heals; it is put out; n2 does at once what it can",
        3,
        Budget(cut=1, late=1),
        (1, 2, 3),
        quick=frozenset((2,)),
        victims=(1, 3),
        parted=(3,),
    ),
    Scene(
        "group3-fence-fails",
        "n3 dies and comes back, and its fence fails; n2 does at once what it can",
        3,
        Budget(off=1, back=1, fail=1),
        (1, 2, 3),
        quick=frozenset((2,)),
        victims=(3,),
    ),
    Scene(
        "group3-unanswered",
        "n3 has made the START of its join, and not heard that n1 has; it is cut off, with and without that word;"
        " n2 does at once what it can",
        3,
        Budget(cut=1, unreceived=1),
        (1,),
        quick=frozenset((2,)),
        victims=(3,),
        prelude=(("mount", "3"), *[("deliver", "3", OCFS2, Stream.CHANNEL)] * 4),
        held=frozenset((f"n3 {OCFS2}.{Stream.CHANNEL}",)),
    ),
    Scene(
        "group4-halves",
        "four nodes are cut in halves, so that none has quorum; n1 is under test",
        4,
        Budget(cut=1),
        (1, 2),
        quick=frozenset((2, 3, 4)),
        victims=(3,),
        parted=(3, 4),
    ),
    Scene(
        "group3-join-lost-words",
        "n3 mounts and is cut off, with and without what was said last; n2 does at once what it can",
        3,
        Budget(mount=1, cut=1, unreceived=1),
        (1, 2),
        quick=frozenset((2,)),
        victims=(3,),
    ),
)

OPEN = (
    *("ordering-return-join", "ordering-return-o-killed", "ordering-return-c-killed"),
    *("group3-join-loss-c-killed", "group3-cut-c-killed"),
    *("group3-join-cut", "group3-join-lost-words", "group3-join-c-killed"),
)
"""What was never searched to its end: after all others, with the time that these leave."""
_LONGEST = ("group3-cut-leave", "ordering-return-mount", "group3-return", *OPEN)

SCENES: Mapping[str, Scene] = {
    s.name: s for s in sorted((*ORDERING, *GROUPS), key=lambda s: _LONGEST.index(s.name) if s.name in _LONGEST else -1)
}

SHORT = (
    "ordering-death",
    "ordering-o-killed",
    "ordering-c-killed",
    "ordering-leave",
    "ordering-join-o-killed",
    "ordering-join-c-killed",
    "ordering-grant",
    "group2-join-leave",
    "group2-give-up",
    "group2-c-killed",
    "group2-expelled",
    "group2-death",
    "group3-death",
    "group3-join",
    "group3-fence-fails",
    "group4-halves",
)
"""Each is searched to the end in a few seconds."""
