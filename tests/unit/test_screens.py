"""The screens against checked-in texts, and the judgement beneath them.

To change a screen deliberately: UPDATE_EXPECTED=1 pytest tests/unit/test_screens.py, then read the diff.
"""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libo2cb.service.report import Condition, EngineState, Fencing, Lost, Wait
from libo2cb.tools import human, screens
from libo2cb.tools.facts import Facts, KernelNode, KernelView, Silent
from libo2cb.tools.verdict import Finding, Verdict, exit_code, findings
from tests.unit import samples

EXPECTED = Path(__file__).parent / "expected"


def check(name: str, lines: list[str]) -> None:
    file = EXPECTED / f"{name}.txt"
    text = "\n".join(lines) + "\n"
    if os.environ.get("UPDATE_EXPECTED"):
        file.write_text(text, "utf-8")
    assert text == file.read_text("utf-8")


def silent() -> Facts:
    view = KernelView(
        clusters=("prod",),
        nodes=(KernelNode("n1", 1, "10.0.0.11", 7777, local=True), KernelNode("n2", 2, "10.0.0.12", 7777, local=False)),
        regions=((samples.VM, ("n1", "n2")),),
        mounts=(("/dev/vg/vm", "/srv/vm"),),
    )
    gone = Silent("ocfs2_controld", "nobody listens on @ocfs2_controld_sock", "start it")
    return Facts(samples.o2cb(), None, (gone,), view)


@pytest.mark.parametrize(
    ("name", "facts", "code"),
    [
        ("healthy", samples.healthy, 0),
        ("dead", samples.dead, 2),
        ("queued", samples.queued, 1),
        ("silent", silent, 3),
    ],
)
def test_a_screen_is_the_expected_text_and_its_exit_code(name: str, facts: Callable[[], Facts], code: int) -> None:
    check(name, screens.status(facts()))
    assert exit_code(findings(facts())) == code


def test_a_waiting_mount_says_for_what_how_long_yet_and_the_way_out() -> None:
    check("joining", screens.joining(samples.joining(), samples.VM, 7.4))


def test_a_queued_node_names_what_links_it_and_else_says_what_the_daemon_does() -> None:
    facts = samples.queued()
    assert facts.o2cb is not None
    waiting = facts.o2cb.nodes[2].model_copy(
        update={"queue": "removal of n3: ocfs2_controld holds its lock for a filesystem"}
    )

    def shown(**changes: object) -> str:
        assert facts.o2cb is not None
        nodes = (*facts.o2cb.nodes[:2], waiting.model_copy(update=changes))
        lines = screens.status(replace(facts, o2cb=facts.o2cb.model_copy(update={"nodes": nodes})))
        return next(line for line in lines if line.startswith("n3 ")).partition("6 s: ")[2]

    held = ", lock held by ocfs2_controld pid 4711"
    said = "removal of n3: ocfs2_controld holds its lock for a filesystem"
    assert shown() == f"backup still links it{held}"
    assert shown(links=(samples.VM, samples.BK)) == f"vm-images backup still link it{held}"
    assert shown(links=()) == shown(tree="unfit") == said + held


def test_broken_rules_and_refused_signals_are_shown_by_daemon() -> None:
    facts = samples.healthy()
    assert facts.o2cb is not None
    assert facts.ocfs2 is not None
    o2cb = facts.o2cb.model_copy(update={"violations": {"ordering": 1}})
    ocfs2 = facts.ocfs2.model_copy(
        update={"violations": {"protocol": 4, "half_record": 2}, "signals_refused": {"SIGTERM": 3}}
    )
    assert screens.status(replace(facts, o2cb=o2cb, ocfs2=ocfs2))[-3:] == [
        "rules broken towards o2cb_controld: ordering 1",
        "signals refused by ocfs2_controld: SIGTERM 3",
        "rules broken towards ocfs2_controld: half_record 2, protocol 4",
    ]


def test_one_filesystem_keeps_the_line_that_scripts_know() -> None:
    lines = screens.filesystem(samples.dead(), samples.VM, 1)
    assert lines[0] == f"{samples.VM}: 1 refs"
    check("filesystem", lines)
    unread = screens.filesystem(samples.dead(), samples.VM, "the semaphores cannot be read")
    assert unread[:2] == [f"{samples.VM}: ? refs", "  the semaphores cannot be read"]
    assert unread[2:] == lines[1:]


def test_line_one_says_frozen_only_where_the_driver_freezes() -> None:
    facts = samples.dead()
    assert facts.ocfs2 is not None
    frozen = Facts(facts.o2cb, facts.ocfs2.model_copy(update={"freezes": True}))
    assert screens.status(facts)[0].startswith("STOPPED 42 s  vm-images")
    assert "nothing is frozen" in "\n".join(screens.status(facts))
    assert screens.status(frozen)[0].startswith("FROZEN 42 s  vm-images")
    assert "nothing is frozen" not in "\n".join(screens.status(frozen))


def test_manual_fencing_asks_for_the_operator_at_once() -> None:
    facts = samples.dead()
    assert facts.ocfs2 is not None
    manual = Fencing(kind="manual", alone=False, sentence="an operator acknowledges")
    group = facts.ocfs2.groups[0]
    lost = Lost(name="n3", number=3, life="3/x")
    ocfs2 = facts.ocfs2.model_copy(
        update={"fencing": manual, "groups": (group.model_copy(update={"lost": (lost,)}), facts.ocfs2.groups[1])}
    )
    text = "\n".join(screens.status(Facts(facts.o2cb, ocfs2)))
    assert "why  fencing is manual: an operator must say that n3 is off" in text
    assert "ocfs2_hb_ctl --fenced n3" in text
    assert "fencing: manual (a lost node waits for an operator)" in text


def test_loss_of_quorum_stops_every_group_and_says_so_first() -> None:
    lost = Condition(name="quorum", ok=False, why="1 of 3 votes")
    group = samples.vm(state="stopped", stopped_for=3.0, conditions=(lost,))
    facts = Facts(
        samples.o2cb(engine=samples.engine(1, 3)), samples.ocfs2(engine=samples.engine(1, 3), groups=(group,))
    )
    lines = screens.status(facts)
    assert lines[0] == "STOPPED 3 s  vm-images on n1 n2 n3: waits for 1 of 3 votes"
    assert "  do   bring the missing nodes up; umount works without quorum" in lines
    assert exit_code(findings(facts)) == 2


def test_without_quorum_nobody_is_to_be_switched_off() -> None:
    """n1 is cut off: n2 and n3 are well, recover it, and would be destroyed by whoever believes n1."""
    facts = samples.dead()
    assert facts.ocfs2 is not None
    conditions = (
        Condition(name="quorum", ok=False, why="1 of 3 nodes are here"),
        Condition(name="fencing", ok=False, why="n2 n3 are lost and not yet fenced"),
    )
    lost = tuple(Lost(name=f"n{n}", number=n, life=f"{n}/x") for n in (2, 3))
    group = samples.vm(state="stopped", stopped_for=3.0, members=(samples.member(1),), lost=lost, conditions=conditions)
    engine = samples.engine(1, 3)
    for fencing in (Fencing(kind="manual", alone=False, sentence="by hand"), samples.COMMAND):
        ocfs2 = facts.ocfs2.model_copy(
            update={"engine": engine, "groups": (group,), "waits": (), "fencing": fencing, "unfenced": lost}
        )
        lines = screens.status(Facts(samples.o2cb(engine=engine), ocfs2))
        assert lines[:4] == [
            "STOPPED 3 s  vm-images on n1: n2 n3 are lost and not yet fenced",
            "  why  1 of 3 nodes are here",
            "  why  n2 n3 are lost and not yet fenced",
            "  do   bring the missing nodes up; umount works without quorum",
        ]
        assert "CHANGING  n2 counts as unfenced: not seen since the cluster came up, and the first mounts wait" in lines
        assert "--fenced" not in "\n".join(lines)


def test_a_dead_engine_needs_somebody_also_without_groups() -> None:
    down = EngineState(up=False, reason="connection refused")
    facts = Facts(samples.o2cb(engine=down), samples.ocfs2(engine=down, groups=()))
    found = findings(facts)
    assert [finding.head for finding in found] == ["the cluster engine cannot be used"]
    assert exit_code(found) == 2


def test_a_wait_that_nothing_else_explains_is_told_and_its_do_makes_it_an_action() -> None:
    wait = Wait(what="MOUNT of scratch", seconds=8.0, why="the device cannot be read", do="look at the cable")
    facts = Facts(samples.o2cb(), samples.ocfs2(waits=(wait,)))
    found = findings(facts)
    assert found[0].verdict is Verdict.ACTION
    assert screens.status(facts)[:3] == [
        "ACTION 8 s  MOUNT of scratch waits",
        "  why  the device cannot be read",
        "  do   look at the cable",
    ]
    quiet = Facts(samples.o2cb(), samples.ocfs2(waits=(wait.model_copy(update={"do": None}),)))
    assert exit_code(findings(quiet)) == 1


def test_a_wait_of_a_group_that_is_told_already_adds_its_do_there() -> None:
    wait = Wait(what="MOUNT of vm-images", seconds=9.0, why="n2 refuses", do="upgrade n2", fs=samples.VM)
    group = samples.vm(state="joining", mount_points=(), waits_for="n2, which refuses")
    found = findings(Facts(samples.o2cb(), samples.ocfs2(groups=(group,), waits=(wait,))))
    assert [finding.group for finding in found] == [samples.VM]
    assert ("do", "upgrade n2") in found[0].lines
    assert exit_code(found) == 2


def test_an_unfit_node_names_its_reason() -> None:
    unfit = samples.node(9, address="fe80::9", tree="unfit", queue="its address is IPv6", links=())
    found = findings(Facts(samples.o2cb(nodes=(samples.node(1), unfit)), samples.ocfs2()))
    assert found[0].verdict is Verdict.ACTION
    assert ("why", "its address is IPv6") in found[0].lines


def test_lives_never_seen_block_the_first_mount_and_are_told() -> None:
    lost = Lost(name="n3", number=3, life="3/unknown")
    manual = Fencing(kind="manual", alone=False, sentence="an operator acknowledges")
    found = findings(Facts(samples.o2cb(), samples.ocfs2(groups=(), unfenced=(lost,), fencing=manual)))
    assert found[0].verdict is Verdict.ACTION
    assert "first mounts wait" in found[0].head


def test_what_is_stopped_comes_before_a_silent_daemon_but_the_exit_code_says_incomplete() -> None:
    facts = samples.dead()
    both = Facts(None, facts.ocfs2, (Silent("o2cb_controld", "nobody listens", "start it"),), KernelView())
    found = findings(both)
    assert [finding.verdict for finding in found[:2]] == [Verdict.STOPPED, Verdict.SILENT]
    assert exit_code(found) == 3


def test_a_name_cannot_forge_a_line_or_move_the_cursor() -> None:
    evil = "n3\nOK  all is well\x1b[2J"
    facts = Facts(samples.o2cb(nodes=(samples.node(1), samples.node(3, name=evil, tree="missing"))), samples.ocfs2())
    text = "\n".join(screens.status(facts))
    assert "\x1b" not in text
    assert "\nOK  all is well" not in text
    assert "n3\\nOK  all is well" in text


def test_colour_is_only_for_a_terminal_that_wants_it() -> None:
    xterm = {"TERM": "xterm"}
    assert screens.wants_colour(xterm, terminal=True)
    assert not screens.wants_colour(xterm, terminal=False)
    assert not screens.wants_colour({**xterm, "NO_COLOR": "1"}, terminal=True)
    assert screens.wants_colour({**xterm, "NO_COLOR": ""}, terminal=True)
    assert not screens.wants_colour({"TERM": "dumb"}, terminal=True)


def test_colour_adds_nothing_but_escapes() -> None:
    lines = screens.status(samples.dead())
    painted = screens.paint(lines)
    assert painted[0].startswith("\x1b[1;31mSTOPPED\x1b[0m 42 s")
    bare = [line.replace("\x1b[0m", "") for line in painted]
    for code in ("\x1b[1m", "\x1b[1;31m", "\x1b[33m", "\x1b[31m"):
        bare = [line.replace(code, "") for line in bare]
    assert bare == lines


@pytest.mark.parametrize(
    ("seconds", "since", "until", "short"),
    [
        (-1, "0 s", "0 s", "0s"),
        (0.9, "0 s", "1 s", "0s"),
        (7.6, "7 s", "8 s", "7s"),
        (119.9, "119 s", "120 s", "1m"),
        (292.8, "4 min", "293 s", "4m"),
        (3 * 3600, "3 h", "3 h", "3h"),
        (9 * 86400, "9 days", "9 days", "9d"),
    ],
)
def test_times(seconds: float, since: str, until: str, short: str) -> None:
    assert (human.since(seconds), human.until(seconds), human.short(seconds)) == (since, until, short)


def test_a_time_that_is_none_is_shown_as_it_came() -> None:
    assert human.moment("soon") == "soon"
    assert human.moment_before("soon", 5) == "5 s before this report"


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.text(max_size=12), min_size=3, max_size=3), min_size=1, max_size=6))
def test_columns_begin_at_the_same_place_in_every_row(rows: list[list[str]]) -> None:
    marked = [[f"<{cell}" for cell in row] for row in rows]
    starts = set()
    for row, line in zip(marked, human.columns(marked), strict=True):
        first = human.clean(row[0])
        assert line.startswith(first)
        rest = line[len(first) :]
        starts.add(human.width(first) + len(rest) - len(rest.lstrip(" ")))
    assert len(starts) == 1


@settings(max_examples=40, deadline=None)
@given(st.text(max_size=300), st.integers(20, 120))
def test_wrapped_lines_fit_the_terminal(text: str, columns: int) -> None:
    ascii_text = text.encode("ascii", "replace").decode()
    assert all(len(line) < max(columns, 21) for line in screens.wrapped([ascii_text], columns))


def test_exit_code_is_the_worst_of_all() -> None:
    assert exit_code(()) == 0
    assert exit_code((Finding(Verdict.CHANGING, ""), Finding(Verdict.ACTION, ""))) == 2
