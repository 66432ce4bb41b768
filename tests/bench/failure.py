"""A node dies in a large cluster: how long the change takes, from statements as they come off the channel."""

import statistics
import time
from typing import Any

from ocfs2_controld.change import reconcile
from protocol.frozen import FrozenMap
from protocol.group import (
    NO_START,
    Assembler,
    Claim,
    Envelope,
    Group,
    GroupTable,
    Inside,
    StartName,
    Statement,
    View,
    ViewMember,
    encode,
)
from protocol.handshake import standard
from protocol.identity import Life, NodeIdentity, Ring

ROUNDS = 5


def statements(groups: int, nodes: int, members: int) -> tuple[View, list[Statement]]:
    """What the survivors say after the death of the last node, each as its own objects, as the channel gives them.

    Args:
        groups: of the cluster.
        nodes: of the cluster; all but the last are here.
        members: of each group, spread evenly over the nodes.
    """
    lives = [Life(n, f"boot{n}") for n in range(1, nodes + 1)]
    after, start = Ring(12, 1), StartName(Ring(8, 1), 1)
    inside = {f"{g:032X}": {(g * members + m) % nodes for m in range(members)} for g in range(groups)}
    table = GroupTable(
        FrozenMap(
            {fs: Group(tuple(lives[i] for i in sorted(at)), start=start, made=start) for fs, at in inside.items()}
        ),
        newest=start,
        named=start,
    )
    here = lives[:-1]
    view = View(after, tuple(ViewMember(x.node, 100) for x in here))
    blocks, configured = standard(7777).blocks(), tuple(x.node for x in lives)
    said = []
    for x in here:
        claims = {fs: Claim(Inside.MEMBER, False, start) for fs, at in inside.items() if x.node - 1 in at}
        statement = Statement(
            view=view,
            life=x,
            incarnation="i",
            nonce=f"i.{x.node}",
            identity=NodeIdentity(x.node, f"10.0.0.{x.node}", 7777, f"n{x.node}"),
            blocks=blocks,
            configured=configured,
            table=table,
            claims=FrozenMap(claims),
            away=(),
            doubt=False,
        )
        said.append(_through_the_channel(statement))
    return view, said


def _through_the_channel(statement: Statement) -> Statement:
    assembler = Assembler()
    envelopes = [e for piece in encode(Envelope(None, (statement,)), 1) if (e := assembler.feed(piece)) is not None]
    (word,) = envelopes[0].words
    assert isinstance(word, Statement)
    return word


def change(groups: int, nodes: int, members: int) -> dict[str, Any]:
    """Reconciling the statements of a failure, in processor time: nothing of it waits."""
    view, said = statements(groups, nodes, members)
    outcome = reconcile(view, said)
    gone = Life(nodes, f"boot{nodes}")
    lost = [g for g in outcome.table.groups.values() if g.lost]
    assert all(g.lost == (gone,) for g in lost)
    table = said[0].table
    assert table is not None
    assert len(lost) == sum(gone in g.members for g in table.groups.values())
    assert outcome.table.named > NO_START
    found = []
    for _ in range(ROUNDS):
        began = time.process_time()
        reconcile(view, said)
        found.append(time.process_time() - began)
    return {
        "groups": groups,
        "nodes": nodes,
        "members_of_a_group": members,
        "median_processor_ms": round(statistics.median(found) * 1e3, 2),
    }
