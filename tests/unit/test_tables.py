"""The tables of both minds are complete, drawn as they are, and true: each rule leads where its cell says."""

import importlib
import pkgutil
import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from enum import Enum
from errno import EBUSY
from typing import Any

import pytest

import o2cb_controld
import ocfs2_controld
from libo2cb.engine.port import ConfiguredNode
from libo2cb.kernel.port import StandingNode
from libo2cb.machine import Move, Table
from o2cb_controld import changes, ending, ledger
from o2cb_controld import state as o2
from o2cb_controld.topology import Nothing
from ocfs2_controld import change, fencing, sessions, usage
from ocfs2_controld import events as told
from ocfs2_controld import table as phases
from ocfs2_controld.services import kind_of
from ocfs2_controld.sessions import SESSIONS
from ocfs2_controld.state import (
    Channel,
    Engine,
    Fence,
    FencePhase,
    FencingKind,
    Local,
    Role,
    Service,
    Session,
    Settings,
    State,
    Turn,
    Usage,
)
from protocol.client import (
    ClientMessage,
    Dump,
    Fenced,
    ListClusters,
    ListFs,
    ListMounts,
    Mount,
    MountResult,
    Replace,
    Report,
    Status,
    Unmount,
)
from protocol.frozen import FrozenMap
from protocol.group import (
    Claim,
    Group,
    GroupTable,
    HaveLock,
    Inside,
    Join,
    Leave,
    Lost,
    Phase,
    Refuse,
    Started,
    StartName,
    Statement,
    Stopped,
    View,
    ViewMember,
    Withdraw,
)
from protocol.group import Fenced as FencedWord
from protocol.identity import Life, NodeIdentity, Ring
from tests import tables
from tests.simulation.desk import Desk
from tests.simulation.kernel_model import Refusal
from tests.simulation.nemesis import Broken, Run
from tests.simulation.world import CLUSTER, uuid
from tests.transcripts.ordering_world import ScriptedOcfs2, StoryError, World
from tests.transcripts.test_ordering_walks import LINES, possible

F = uuid("F")
ROUNDS = 150
"""Random situations for each pair. Seeds are fixed: a failure can be repeated."""
SEEDS = range(16)

After = Callable[[Any, Any], Enum | None]
"""The state that a rule has led to, from its argument and its result; None for none any more."""


def node_after(turn: changes.Turn, outcome: changes.Outcome) -> o2.Node:
    if outcome[0] is not None:
        return outcome[0].phase
    stands = turn.state.difference().holder(turn.slot.number) is not None
    return o2.Node.RIGHT if stands else o2.Node.ABSENT


def session_after(ask: sessions.Ask, _: None) -> Role | None:
    session = ask.turn.state.sessions.get(ask.connection)
    return None if session is None else session.role


def fence_after(act: fencing.Act, _: None) -> FencePhase | None:
    fence = act.turn.state.fences.get(act.life)
    return None if fence is None else fence.phase


WHERE: dict[str, tuple[object, Table[Any, Any, Any], After]] = {
    "PHASES": (phases, phases.PHASES, lambda _, group: group.phase),
    "USAGE": (usage, usage.USAGE, lambda call, _: call.local.usage),
    "SESSIONS": (sessions, sessions.SESSIONS, session_after),
    "FENCING": (fencing, fencing.FENCING, fence_after),
    "NODE": (changes, changes.NODE, node_after),
    "REQUEST": (ledger, ledger.REQUEST, lambda _, outcome: outcome[0].phase if outcome[0] else o2.Lock.GONE),
    "ENDING": (ending, ending.ENDING, lambda _, outcome: outcome[0].ending),
}
"""Each table by the name of its global."""
ENDS = {("SESSIONS", "CLOSED"), ("FENCING", "NEEDLESS"), ("FENCING", "TAKEN")}
"""Events after which there may be no state any more."""


class Spy:
    """Stands in for a table, and judges where each rule leads."""

    def __init__(self, name: str) -> None:
        self.name = name
        _, self.table, self.after = WHERE[name]
        self.seen: set[tuple[Enum, Enum, Enum | None]] = set()

    def __getitem__(self, pair: tuple[Any, Any]) -> Move[Any, Any]:
        move = self.table[pair]

        def rule(argument: Any, *more: Any) -> Any:
            outcome = move.rule(argument, *more)
            self.judge(pair, move, self.after(argument, outcome))
            return outcome

        return Move(rule, move.to)

    def judge(self, pair: tuple[Enum, Enum], move: Move[Any, Any], end: Enum | None) -> None:
        state, event = pair
        self.seen.add((state, event, end))
        if end is None:
            assert (self.name, event.name) in ENDS, f"{self.name}: {state.name} has no state after {event.name}"
        else:
            ends = [x.name for x in move.to]
            assert end in (state, *move.to), f"{self.name}: {state.name} {event.name} leads to {end.name}, not {ends}"

    @property
    def unseen(self) -> list[str]:
        """Arrows that no situation has led along."""
        drawn = {(s, e, end) for s, e, move in self.table for end in move.to}
        return sorted(f"{s.name} {e.name} -> {end.name}" for s, e, end in drawn - self.seen)


@pytest.fixture
def spies(monkeypatch: pytest.MonkeyPatch) -> dict[str, Spy]:
    """All tables watched."""
    found = {name: Spy(name) for name in WHERE}
    for name, spy in found.items():
        monkeypatch.setattr(WHERE[name][0], name, spy)
    return found


FURTHER = {
    name: {(a.start, a.end) for a in arrows if a.end is not None}
    for name, arrows in (
        ("advance", tables.ADVANCE),
        ("change", tables.RECONCILE),
        ("answer", next(c.further for c in tables.CHAPTERS if c.table is SESSIONS)),
    )
}
"""Arrows that no cell makes: those of `advance`, of `reconcile`, and of the answers to a MOUNT that waits."""


@pytest.fixture
def moved(monkeypatch: pytest.MonkeyPatch) -> dict[str, set[tuple[Enum, Enum]]]:
    """Transitions of these three kinds that are seen while the test runs."""
    found: dict[str, set[tuple[Enum, Enum]]] = {name: set() for name in FURTHER}
    step, reconcile, put = phases._step, change._reconcile_group, Turn.put_session

    def note(name: str, before: Enum, after: Enum) -> None:
        if before is not after:
            found[name].add((before, after))

    def spied_step(g: Group, fenced: tuple[Life, ...], name: StartName) -> Group:
        after = step(g, fenced, name)
        note("advance", g.phase, after.phase)
        return after

    def spied_reconcile(g: Group, *rest: Any) -> tuple[Group, tuple[Life, ...]]:
        after, out = reconcile(g, *rest)
        note("change", g.phase, after.phase)
        return after, out

    def spied_put(turn: Turn, connection: int, **fields: object) -> None:
        before = turn.state.sessions.get(connection)
        put(turn, connection, **fields)
        after = turn.state.sessions.get(connection)
        if before is not None and after is not None and before.role is Role.WAITING:
            note("answer", before.role, after.role)

    monkeypatch.setattr(phases, "_step", spied_step)
    monkeypatch.setattr(change, "_reconcile_group", spied_reconcile)
    monkeypatch.setattr(Turn, "put_session", spied_put)
    return found


# the drawing


def test_the_drawing_is_up_to_date() -> None:
    assert tables.FILE.read_text() == tables.document(), "run: python -m tests.tables --write"


def test_the_drawing_says_that_it_is_generated_and_how() -> None:
    first = tables.FILE.read_text().splitlines()[0]
    assert "enerated" in first
    assert "python -m tests.tables --write" in first


def test_every_table_of_both_daemons_is_drawn() -> None:
    found: dict[int, str] = {}
    for package in (ocfs2_controld, o2cb_controld):
        for info in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
            if not info.name.endswith("__main__"):
                values = vars(importlib.import_module(info.name)).items()
                found |= {id(value): f"{info.name}.{name}" for name, value in values if isinstance(value, Table)}
    assert set(found) == {id(c.table) for c in tables.CHAPTERS}, sorted(found.values())
    assert {id(table) for _, table, _ in WHERE.values()} == set(found)


@pytest.mark.parametrize("chapter", tables.CHAPTERS, ids=lambda c: c.module)
def test_every_pair_is_decided_and_every_arrow_drawn(chapter: tables.Chapter) -> None:
    decided = {(state, event) for state, event, _ in chapter.table}
    assert decided == {(s, e) for s in chapter.table.states for e in chapter.table.events}
    text = tables.diagram(chapter)
    for state, event, move in chapter.table:
        for end in move.to:
            label = f"{state.name} --> {end.name}: {event.name} ("
            assert (label in text) == (end is not state)
    assert text.startswith("```mermaid\nstateDiagram-v2\n")


def test_a_missing_pair_is_no_table() -> None:
    moves = {(s, e): m for s, e, m in usage.USAGE}
    del moves[Usage.IDLE, usage.Happening.MOUNT]
    with pytest.raises(ValueError, match=r"undecided pairs: \(IDLE, MOUNT\)"):
        Table("broken", Usage, usage.Happening, moves)


# truth, in random single situations

NODES = tuple(ConfiguredNode(i, f"n{i}", f"10.0.0.{i}") for i in (1, 2, 3))
RING = Ring(4, 1)
ME = Life(1, "b1")
LIVES = (ME, Life(2, "b2"), Life(3, "b3"))
START = StartName(RING, 1)


def some(r: random.Random, items: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(x for x in items if r.random() < 0.5)


def a_group(r: random.Random, phase: Phase) -> Group:
    members = some(r, LIVES)
    joiner = r.choice((None, *LIVES))
    if phase is Phase.LOCK and joiner is None:
        joiner = ME
    away = some(r, members) if phase is Phase.RECOVER else ()
    lost = (Life(4, "b4"),) if phase is Phase.RECOVER and r.random() < 0.5 else ()
    queue = tuple(x for x in some(r, LIVES) if x not in members and x != joiner)
    return Group(members, lost, away, phase, joiner, some(r, members), queue, r.random() < 0.2, START)


def test_every_word_leads_a_group_where_the_table_says(
    spies: dict[str, Spy], moved: dict[str, set[tuple[Enum, Enum]]]
) -> None:
    r = random.Random(1)  # noqa: S311 (a seed is a situation)
    for phase in Phase:
        for _ in range(ROUNDS * 4):
            g, sender, life = a_group(r, phase), r.choice(LIVES), r.choice(LIVES)
            start = r.choice((START, StartName(RING, 0)))
            word = r.choice(
                (
                    Join(F),
                    Withdraw(F),
                    Leave(F),
                    HaveLock(F, life),
                    Refuse(F, life, 1, "no"),
                    Stopped(F, start),
                    Started(F, start),
                    Lost(life, "gone"),
                    FencedWord(Life(4, "b4"), "off"),
                )
            )
            phases.apply(GroupTable(FrozenMap({F: g}), named=START), RING, sender, word)
    assert not spies["PHASES"].unseen
    assert moved["advance"] == FURTHER["advance"]


def test_every_change_leads_a_group_along_an_arrow(moved: dict[str, set[tuple[Enum, Enum]]]) -> None:
    r = random.Random(8)  # noqa: S311 (a seed is a situation)
    for phase in Phase:
        for _ in range(ROUNDS * 4):
            here = tuple(x for x in LIVES if r.random() < 0.85) or LIVES
            view = View(RING, tuple(ViewMember(x.node, x.node) for x in here))
            group = a_group(r, phase)
            shared = GroupTable(FrozenMap({F: group}), named=START)
            statements = [
                Statement(
                    view=view,
                    life=x,
                    incarnation="i",
                    nonce=str(x),
                    identity=NodeIdentity(x.node, f"10.0.0.{x.node}", 7777, f"n{x.node}"),
                    blocks=b"",
                    configured=(1, 2, 3),
                    table=shared if r.random() < 0.95 else None,
                    claims=FrozenMap({F: Claim(Inside.MEMBER, r.random() < 0.7, START)} if x in group.members else {}),
                    away=(),
                    doubt=False,
                )
                for x in here
            ]
            change.reconcile(view, statements)
    assert moved["change"] == FURTHER["change"]


def a_local(r: random.Random, state: Usage) -> Local:
    """A filesystem of this usage. Client 1 is being served, or waits; 2 is another."""
    serving = state in (Usage.JOINING, Usage.TOLD, Usage.TOLD_AGAIN) or (
        state is Usage.WITHDRAWING and r.random() < 0.5
    )
    waiting = state in (Usage.RELEASING, Usage.LEAVING) and r.random() < 0.7
    services = {
        name: Service(kind_of(name), 7, 7.0, "x")
        for name in some(r, ("ocfs2", "/mnt/a", "fsck.ocfs2", "mine"))
        if state is Usage.USED or (state is Usage.TOLD_AGAIN and r.random() < 0.5)
    }
    return Local(
        state,
        region=state is not Usage.IDLE,
        connection=1 if serving else None,
        waiting=1 if waiting else None,
        service=r.choice(("ocfs2", "/mnt/a", "fsck.ocfs2")),
        services=FrozenMap(services),
        mount_points=some(r, ("/mnt/a", "/mnt/b")),
        gone=r.random() < 0.5,
        device=r.choice(("", "dev", "other")),
        path="/dev/x",
        deadline=r.choice((None, 5.0)),
    )


def a_role(local: Local) -> Role:
    """The role of client 1, as its filesystem has it."""
    if local.usage in (Usage.TOLD, Usage.TOLD_AGAIN):
        return Role.TOLD
    return Role.WAITING if 1 in (local.connection, local.waiting) else Role.FREE


def a_state(r: random.Random, local: Local, fencing_kind: FencingKind = FencingKind.MANUAL) -> State:
    peers = {n: told.Peer(n, 0, float(n), "x", trusted=True) for n in (1, 2)}
    sent = Session(peers[1], a_role(local), F, local.service)
    member = ViewMember(1, 1)
    up = r.random() < 0.8
    return State(
        Settings("b1", "i", 1, fencing=fencing_kind),
        engine=Engine(up=up, cluster=CLUSTER if up else "", local=1, nodes=NODES, ring=RING, quorate=r.random() < 0.7),
        channel=Channel(ring=RING, members=(member,), change=r.choice((None, "c"))),
        table=GroupTable(FrozenMap({F: a_group(r, r.choice(tuple(Phase)))})) if r.random() < 0.7 else None,
        said=frozenset({Join(F)} if r.random() < 0.2 else ()),
        locals=FrozenMap({F: local} if local.region else {}),
        mounts=FrozenMap({F: local.mount_points}),
        sessions=FrozenMap({1: sent, 2: Session(peers[2])}),
        service=r.choice((True, False, None)),
        found=True,
    )


def test_everything_that_happens_leads_a_filesystem_where_the_table_says(spies: dict[str, Spy]) -> None:
    r = random.Random(2)  # noqa: S311 (a seed is a situation)
    others = {usage.Happening.MOUNT, usage.Happening.UNMOUNT}
    for state in Usage:
        for happening in usage.Happening:
            for _ in range(ROUNDS):
                local = a_local(r, state)
                if happening is usage.Happening.ADOPTED:
                    local = replace(local, region=True, connection=None, waiting=None, services=FrozenMap())
                call = usage.Call(
                    Turn(a_state(r, local), 10.0),
                    F,
                    connection=2 if happening in others else 1,
                    service=r.choice(("ocfs2", "/mnt/a", "fsck.ocfs2", "mine")),
                    code=r.choice((0, 5)),
                    text="a reason",
                    device=r.choice(("", "dev", "other")),
                    path="/dev/y",
                )
                usage.happen(happening, call)
    assert not spies["USAGE"].unseen


def test_every_request_leads_a_connection_where_the_table_says(spies: dict[str, Spy]) -> None:
    r = random.Random(3)  # noqa: S311 (a seed is a situation)
    for _ in range(ROUNDS * 60):
        local = a_local(r, r.choice(tuple(Usage)))
        turn, fs = Turn(a_state(r, local), 10.0), r.choice((F, F, F, uuid("G"), "rubbish"))
        service = r.choice((local.service, "ocfs2", "mine"))
        message: ClientMessage = r.choice(
            (
                Mount("ocfs2", fs, CLUSTER, "/dev/x", service),
                MountResult(r.choice(("ocfs2", "ext4")), fs, r.choice((0, 5)), service),
                Unmount("ocfs2", fs, service),
                ListFs("ocfs2", CLUSTER),
                ListMounts("ocfs2", fs),
                ListClusters(),
                Dump(),
                Report(),
                Fenced("n2", "*"),
                Replace(),
                Status(0, "OK"),
            )
        )
        connection = r.choice((1, 2))
        match r.randrange(10):
            case 0:
                sessions.closed(turn, connection)
            case 1:
                sessions.said(turn, told.ClientGarbled(connection, 22, "no word"))
            case _:
                sessions.said(turn, told.ClientSaid(connection, message, r.choice(("dev", "other"))))
    assert not spies["SESSIONS"].unseen
    assert {(s, e) for s, e, _ in spies["SESSIONS"].seen} == {(s, e) for s, e, _ in spies["SESSIONS"].table}


def test_everything_that_moves_a_fencing_leads_where_the_table_says(spies: dict[str, Spy]) -> None:
    r = random.Random(4)  # noqa: S311 (a seed is a situation)
    life = Life(2, "b2")
    for phase in FencePhase:
        for prod in fencing.Prod:
            for kind in FencingKind:
                commands = (FencePhase.ANNOUNCED, FencePhase.RUNNING, FencePhase.FAILED)
                if phase in commands and kind is not FencingKind.COMMAND:
                    continue  # only a command runs, and the kind never changes
                state = replace(
                    a_state(r, Local(), kind),
                    fences=FrozenMap({life: Fence(phase, attempts=int(phase is not FencePhase.WAITING))}),
                )
                fencing._prod(Turn(state, 10.0), life, prod, "it says so")
    assert not spies["FENCING"].unseen


def a_tree(r: random.Random) -> o2.State:
    identities = tuple(NodeIdentity(n.number, n.address, 7777, n.name) for n in NODES)
    stands = [StandingNode(i.name, i.number, i.address, 7777, i.number == 1) for i in identities]
    moved = StandingNode("n2", 2, "10.0.0.22", 7777, local=False)
    bare = StandingNode("n2", 0, "0.0.0.0", 0, local=False)  # noqa: S104 (not set)
    thief = StandingNode("n3", 3, "10.0.0.2", 7777, local=False)
    second = r.choice(([], [stands[1]], [moved], [bare], [thief]))
    up = r.random() < 0.8
    return o2.State(
        "links",
        7777,
        engine=o2.Engine(up=up, cluster=CLUSTER, local=1, configured=NODES, members=(1, 2) if up else None),
        tree=o2.Tree.STANDS,
        standing=tuple(sorted((stands[0], *second))),
        wanted=(identities[0], *((identities[1],) if r.random() < 0.6 else ())),
        ending=r.choice((o2.Ending.RUNNING, o2.Ending.EMPTYING)),
        peers=frozenset({1}),
    )


def test_every_answer_leads_a_numbers_change_where_the_table_says(spies: dict[str, Spy]) -> None:
    r = random.Random(5)  # noqa: S311 (a seed is a situation)
    rest = (o2.Node.ABSENT, o2.Node.RIGHT)
    for phase in o2.Node:
        for cue in changes.Cue:
            for _ in range(ROUNDS):
                state = a_tree(r)
                agrees = isinstance(state.difference().need(2), Nothing)
                stands = state.difference().holder(2) is not None
                if agrees != (cue is changes.Cue.AGREES) and cue in changes._WISHES and cue is not changes.Cue.LOOK:
                    continue  # the wish is taken from the difference
                if phase in rest and stands != (phase is o2.Node.RIGHT):
                    continue  # and so is which of the two rests it is
                if phase not in rest:
                    target = r.choice(("n2", "n3"))
                    cause = r.choice((None, o2.Cause(o2.Pin.LOCK)))
                    state = state.with_slot(o2.Slot(2, phase, target, cause))
                changes.tell(state, 10.0, 2, cue, regions=("F",), errno=r.choice((EBUSY, 5)))
    assert not spies["NODE"].unseen


def test_everything_leads_a_lock_request_where_the_table_says(spies: dict[str, Spy]) -> None:
    for phase in o2.Lock:
        for cue in ledger.Cue:
            for reason in ("", "as before"):
                request = o2.Request(1, 1, NodeIdentity(2, "10.0.0.2", 7777, "n2"), phase, "as before")
                ledger.REQUEST[phase, cue].rule(ledger.Turn(10.0, request, cue, reason, 5))
    # A request that is over is in no list; that it stays over needs no situation.
    assert not [x for x in spies["REQUEST"].unseen if not x.startswith("GONE ")]


def test_everything_leads_the_end_of_o2cb_controld_where_the_table_says(spies: dict[str, Spy]) -> None:
    r = random.Random(6)  # noqa: S311 (a seed is a situation)
    wishes = (o2.Wish(signal="SIGTERM"), o2.Wish(question=1))
    for state in o2.Ending:
        for cue in ending.Cue:
            for _ in range(20):
                before = replace(
                    a_tree(r), ending=state, wishes=some(r, wishes), tree=r.choice((o2.Tree.STANDS, o2.Tree.UNREAD))
                )
                ending.tell(before, 10.0, cue, "a reason", 5)
    assert not spies["ENDING"].unseen


# truth, in whole lives of clusters


def live(spies: dict[str, Spy]) -> None:
    """A plain life, lives with all kinds of trouble, and walks of o2cb_controld."""
    desk = Desk(3)
    desk.used("ocfs2")
    desk.client(2, "F")
    desk.settle()
    desk.umount(2, "F")
    desk.settle()
    for seed in SEEDS:
        # Whether the laws hold in it is judged elsewhere; a cell that lies is an AssertionError of another kind.
        with suppress(Broken):
            Run(seed, steps=250).go()
    r = random.Random(7)  # noqa: S311 (a seed is a walk)
    for _ in range(40):
        world = World(ScriptedOcfs2)
        world.command("running n1 n2")
        for _ in range(40):
            line = r.choice(LINES)
            if possible(world, line):
                with suppress(Refusal, StoryError):
                    world.command(line)
    assert all(spy.seen for spy in spies.values())


def test_whole_lives_of_clusters_follow_the_tables_and_the_further_arrows(
    spies: dict[str, Spy], moved: dict[str, set[tuple[Enum, Enum]]]
) -> None:
    live(spies)
    for name, arrows in FURTHER.items():
        assert moved[name] <= arrows, f"{name}: not drawn: {moved[name] - arrows}"
        assert moved[name], f"{name}: the lives were too short"


def test_a_cell_that_lies_is_found() -> None:
    spy = Spy("USAGE")
    pair = Usage.IDLE, usage.Happening.MOUNT
    with pytest.raises(AssertionError, match="IDLE MOUNT leads to TOLD"):
        spy.judge(pair, usage.USAGE[pair], Usage.TOLD)
    with pytest.raises(AssertionError, match="no state after MOUNT"):
        spy.judge(pair, usage.USAGE[pair], None)
