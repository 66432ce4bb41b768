"""Each judge is seen to pass a history that keeps its law, and to fail one that breaks it."""

import json
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from libo2cb.events import Event, log
from libo2cb.kernel.sandbox import SandboxFs, boot
from libo2cb.service.logs import Logger, Origin
from tests.laws import (
    LAWS,
    NOT_YET,
    NUMBER_OF_LAWS,
    O2CB,
    OCFS2,
    RULES,
    WITHOUT_JUDGE,
    Breach,
    Client,
    Engine,
    Fact,
    Judge,
    Kernel,
    Process,
    Rule,
    Source,
    judge,
    judged,
    report,
)
from tests.laws.__main__ import main
from tests.laws.judges.recovery import start_key
from tests.laws.loading import kernel_fact, load
from tests.laws.stories import BREAKS, KEEPS, Story, Telling
from tests.laws.stories.clients import stranger_mounts
from tests.laws.stories.cluster import F, G, mounted_pair, mounted_three
from tests.laws.stories.kept import return_and_leave
from tests.laws.stories.life import ready_with_queue
from tests.laws.stories.ordering import forgotten_removal, rmdir_under_link
from tests.laws.stories.recovery import start_before_all_stopped
from tests.laws.verdict import Hearing, Key
from tests.laws.world import World

NOT_AT_REST = frozenset({ready_with_queue})
"""Kept stories that end with something queued, which would be due at rest."""

BROKEN = [(law, story) for law, stories in BREAKS.items() for story in stories]


def told(breaches: list[Breach]) -> str:
    return "\n".join(f"law {b.law}: {b.sentence} {b.story}" for b in breaches)


@pytest.mark.parametrize("story", KEEPS, ids=lambda story: story.__name__)
def test_a_story_that_keeps_every_law(story: Telling) -> None:
    history = story().history(at_rest=story not in NOT_AT_REST)
    assert told([b for verdict in judge(history) for b in verdict.breaches]) == ""


@pytest.mark.parametrize(("law", "story"), BROKEN, ids=lambda it: getattr(it, "__name__", str(it)))
def test_a_story_that_breaks_the_law(law: int, story: Telling) -> None:
    s = story()
    history = s.history(at_rest=True)
    breaches = list(LAWS[law](history))
    assert breaches
    for breach in breaches:
        assert breach.law == law
        assert breach.sentence
        assert all(0 <= order < len(history) for order in breach.story)
        assert list(breach.story) == sorted(breach.story)
    assert [v.breaches for v in judge(history) if v.law == law] == [tuple(breaches)]


@pytest.mark.parametrize(("law", "story"), BROKEN, ids=lambda it: getattr(it, "__name__", str(it)))
def test_what_leads_to_the_breach_is_lawful(law: int, story: Telling) -> None:
    """A judge that fails for something else than the end of the story would not be seen otherwise."""
    facts = story().facts
    bench = Judge([rule for rule in RULES if rule.law == law])
    at = [fact.order for fact in facts if bench.feed(fact)]
    assert not at or at[0] >= len(facts) - 10


FORGETTING = frozenset({Event.STARTING, *Process, Engine.PAUSED, Engine.RESUMED, Engine.DIED, Client.MOUNTED})
"""Facts that end what a judge remembers of an incarnation or a life: any of them does, so each alone can be missed."""


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: f"{rule.law} {rule.__name__}")
def test_each_hearing_of_a_judge_is_needed_by_a_story(rule: type[Rule]) -> None:
    """A judge that is deaf to one kind of fact comes to another verdict on some story: else nothing shows its use."""
    stories = [story().history(at_rest=True) for story in BREAKS[rule.law]]
    stories += [story().history(at_rest=story not in NOT_AT_REST) for story in KEEPS]
    verdicts = [tuple(judged(rule, history)) for history in stories]
    for key in rule(World()).hears():
        if key[1] in FORGETTING:
            continue

        class Deaf(rule):  # type: ignore[valid-type, misc]  # a base known only at run time
            def hears(self, deaf: Key = key) -> Mapping[Key, Hearing]:
                return {k: hearing for k, hearing in super().hears().items() if k != deaf}

        assert [tuple(judged(Deaf, history)) for history in stories] != verdicts, f"nothing needs {key}"


def test_every_law_has_a_judge_or_is_listed() -> None:
    laws = set(range(1, NUMBER_OF_LAWS + 1))
    assert set(LAWS) | WITHOUT_JUDGE == laws
    assert not set(LAWS) & WITHOUT_JUDGE
    assert {19, 20} == WITHOUT_JUDGE
    assert {it.law for it in NOT_YET} == {5, 19, 20, 21}
    assert set(BREAKS) == set(LAWS)
    assert [rule.law for rule in RULES] == sorted(LAWS)


def test_fact_by_fact_is_the_same_as_at_once() -> None:
    s = start_before_all_stopped()
    bench = Judge(RULES)
    found = [breach for fact in s.facts for breach in bench.feed(fact)]
    found += bench.finish(at_rest=True)
    assert sorted(found, key=str) == sorted([b for v in judge(s.history(at_rest=True)) for b in v.breaches], key=str)


def test_a_doubt_that_the_daemon_survives_is_a_breach() -> None:
    s = mounted_three()
    s.lose(3, 1)
    s.fenced(3, 1)
    bench = Judge([rule for rule in RULES if rule.law == 6])
    for fact in s.facts:
        assert not bench.feed(fact)
    s.start(1, s.lives(1, 2), s.lives(3))
    assert not bench.feed(s.facts[-1]), "n2's line may be missing"
    (breach,) = bench.feed(s.say("n2", OCFS2, Event.STATED, ring="1.8", life=s.life(2)))
    assert "n2 still runs" in breach.sentence


def test_what_is_due_sometime_is_judged_only_at_rest() -> None:
    assert not list(LAWS[3](forgotten_removal().history()))
    assert list(LAWS[3](forgotten_removal().history(at_rest=True)))


def test_the_owner_of_a_sandbox_counts_as_root() -> None:
    assert not list(LAWS[14](stranger_mounts().history(owner=1000)))


def test_lines_of_a_mind_can_be_added() -> None:
    s = Story()
    fact = s.log("n1", OCFS2, log(Event.GROUP_STOPPED, fs="ab", cause="x"), incarnation="i1")
    assert (fact.kind, fact.fs, fact.daemon, fact.source) == ("group_stopped", "AB", OCFS2, Source.DAEMON)


def test_a_field_that_is_no_life_is_an_error() -> None:
    bench = Judge(RULES)
    s = mounted_pair()
    for fact in s.facts:
        bench.feed(fact)
    with pytest.raises(ValueError, match="names no node life"):
        bench.feed(s.say("n1", OCFS2, Event.LIFE_FENCED, life="n2", cause=""))


@pytest.mark.parametrize(
    ("name", "key"), [("1.8#2", (8, 2)), ("1.8#x", ()), ("abc", ()), ("", ()), ("3.12#0", (12, 0))]
)
def test_names_of_starts(name: str, key: tuple[int, ...]) -> None:
    assert start_key(name) == key


def test_a_long_history_takes_seconds() -> None:
    s = mounted_three()
    count = 1
    while len(s.facts) < 100_000:
        count += 1
        for n in (1, 2, 3):
            s.stop(n)
        for n in (1, 2, 3):
            s.start(n, s.lives(1, 2, 3), count=count)
        for n in (1, 2, 3):
            s.finish(n, s.lives(1, 2, 3), count=count)
            s.say(f"n{n}", OCFS2, Event.VIOLATION, peer="x", cause="y")
            s.ask(n, Event.MOUNT_ASKED, G, uid=1000)
            s.ask(n, Event.MOUNT_ANSWERED, G, code=13)
    began = time.process_time()
    assert all(verdict.kept for verdict in judge(s.history(at_rest=True)))
    assert time.process_time() - began < 60, "linear passes take a few seconds"


def hub_line(fact: Fact) -> dict[str, object] | None:
    """What the hub would have recorded of an engine's or a process's fact, if anything."""
    node = int((fact.node or "n0")[1:])
    match fact.kind:
        case Engine.BOOTED:
            return {"op": "boot", "node": node, "boot": fact.text("boot")}
        case Engine.READDRESSED:
            return {"op": "configured", "nodes": [[node, fact.node, fact.text("address")]]}
        case Engine.DIED:
            return {"op": "dead", "node": node, "boot": ""}
        case Engine.MEMBERS:
            told = {"op": "deliver", "node": node, "listener": O2CB, "stream": "membership", "kind": "Members"}
            return {**told, **fact.fields}
        case Process.KILLED:
            return {"op": "detach", "node": node, "listener": fact.daemon, "stream": "membership", "cause": "died"}
    return None


def write_home(home: Path, s: Story) -> None:
    """A sandbox home with what this story would have recorded."""
    nodes = [[n, f"n{n}", f"10.0.0.{n}"] for n in (1, 2, 3)]
    journal = {"hub.jsonl": [json.dumps({"time": 1, "op": "hub_up", "nodes": nodes})]}
    paths = {
        Kernel.MAKE_NODE: ("mkdir", "c/node/{name}"),
        Kernel.REMOVE_NODE: ("rmdir", "c/node/{name}"),
        Kernel.SET_NODE: ("write", "c/node/{name}/{attribute}"),
        Kernel.MAKE_REGION: ("mkdir", "c/heartbeat/{fs}"),
        Kernel.REMOVE_REGION: ("rmdir", "c/heartbeat/{fs}"),
        Kernel.LINK: ("symlink", "c/heartbeat/{fs}/{name}"),
        Kernel.UNLINK: ("unlink", "c/heartbeat/{fs}/{name}"),
    }
    for fact in s.facts:
        mono = 1_000 + fact.order
        fields = dict(fact.fields)
        lines: list[tuple[str, dict[str, object]]] = []
        if fact.source is Source.KERNEL:
            call, path = paths[Kernel(fact.kind)]
            entry = {"seq": mono, "mono": mono, "pid": 1, "call": call, "path": path.format(**fields)}
            lines.append(
                (f"{fact.node}/log/kernel.jsonl", {**entry, "errno": fields["errno"], "value": fields.get("value")})
            )
        elif fact.source is Source.CLIENT:
            call = "mount" if fact.kind == Client.MOUNTED else "umount"
            entry = {"mono": mono, "call": call, "uuid": fields["fs"], "mount_point": fields["mount_point"]}
            lines.append((f"{fact.node}/log/mounts.jsonl", entry))
        elif fact.source is Source.ENGINE or fact.kind in list(Process):
            if hub := hub_line(fact):
                lines.append(("hub.jsonl", {"time": mono, **hub}))
        else:
            stamp = {"time": "2026-01-01T00:00:00Z", "mono": mono, "boot": "", "node": fact.node, "level": "info"}
            lines.append((f"{fact.node}/log/{fact.daemon}.jsonl", {**stamp, "event": fact.kind, **fields}))
        for name, line in lines:
            journal.setdefault(name, []).append(json.dumps(line))
    for name, texts in journal.items():
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text("\n".join(texts) + "\n")


def test_a_recorded_home_is_judged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    s = return_and_leave()
    write_home(tmp_path, s)
    history = load(tmp_path)
    unsaid = [fact for fact in s.facts if fact.kind == Process.STARTED]
    assert len(history) == len(s.facts) - len(unsaid)
    assert not history.problems
    assert main([str(tmp_path), "--at-rest"]) == 0
    assert capsys.readouterr().out.startswith("0 laws broken")


def test_a_recorded_breach_is_told_with_its_story(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_home(tmp_path, rmdir_under_link())
    assert main([str(tmp_path)]) == 1
    out = capsys.readouterr().out
    assert out.startswith("1 law broken")
    assert "law 1, no change of a node while a link to it stands" in out
    assert "remove_node name=n2 errno=16" in out
    assert "not applicable yet: law 19" in out


def test_a_home_with_gaps_says_so(tmp_path: Path) -> None:
    write_home(tmp_path, mounted_pair())
    (tmp_path / "hub.jsonl").unlink()
    (tmp_path / "n1/log/mounts.jsonl").unlink()
    with (tmp_path / "n1/log/kernel.jsonl").open("a") as journal:
        journal.write('nonsense\n{"mono": "x"}\n{"cut short by a ki')
    history = load(tmp_path)
    bad_json, bad_object, no_hub = history.problems
    assert "kernel.jsonl, line" in bad_json
    assert "an object with mono is expected" in bad_object
    assert no_hub.startswith("hub.jsonl of ")
    assert "not read" in report(history, judge(history))


def test_nothing_to_judge(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path)]) == 2
    assert "a sandbox home is expected" in capsys.readouterr().err
    (tmp_path / "n1/log").mkdir(parents=True)
    assert main([str(tmp_path)]) == 2
    assert "nothing is recorded" in capsys.readouterr().err


def test_without_a_mount_table_the_log_stands_in(tmp_path: Path) -> None:
    logs = tmp_path / "n1/log"
    logs.mkdir(parents=True)
    stamp = {"boot": "", "node": "n1", "daemon": OCFS2, "incarnation": "i1", "level": "info"}
    seen = {**stamp, "mono": 5, "event": "mount_seen", "fs": F, "mount_point": "/a"}
    gone = {**stamp, "mono": 9, "event": "mount_gone", "fs": F}
    (logs / "ocfs2_controld.jsonl").write_text(f"{json.dumps(seen)}\n{json.dumps(gone)}\n")
    kinds = [(fact.source, fact.kind, fact.mono) for fact in load(tmp_path)]
    assert (Source.CLIENT, "mounted", 5) in kinds
    assert (Source.CLIENT, "unmounted", 9) in kinds


def test_the_real_journal_and_the_real_log_are_read(tmp_path: Path) -> None:
    """What the sandbox's kernel and the daemons' log really write is what the loader takes."""
    home = tmp_path / "n1"
    boot_id = boot(home)
    tree = SandboxFs(home)
    tree.mkdir("c")
    for name, number in (("n1", 1), ("n2", 2)):
        tree.mkdir(f"c/node/{name}")
        tree.write(f"c/node/{name}/ipv4_port", b"7777")
        tree.write(f"c/node/{name}/ipv4_address", f"10.0.0.{number}".encode())
        tree.write(f"c/node/{name}/num", str(number).encode())
    tree.write("c/node/n1/local", b"1")
    tree.mkdir(f"c/heartbeat/{F}")
    tree.symlink("c/node/n2", f"c/heartbeat/{F}/n2")
    with pytest.raises(OSError, match="busy"):
        tree.rmdir("c/node/n2")
    path = home / "log" / f"{O2CB}.jsonl"
    with path.open("wb") as out:
        logger = Logger(Origin(O2CB, "i1", boot_id, "n1"), form="json", descriptor=out.fileno())
        logger.write(log(Event.ENGINE_UP, cluster="c", local=1))
        logger.write(log(Event.WAITING, what="removal of n2", seconds=5, cause="the loop was blocked"))
        assert logger.close()
    history = load(tmp_path)
    assert [b.sentence for b in LAWS[1](history)] == [
        f"rmdir of node n2 on n1, refused with errno 16, while {F} links it"
    ]
    assert not list(LAWS[2](history))
    assert len(list(LAWS[22](history))) == 1
    bench = Judge(RULES)
    for fact in history:
        bench.feed(fact)
    assert str(bench.world.node("n1").life) == f"1/{boot_id[:8]}"


def test_lines_of_the_kernels_journal() -> None:
    assert kernel_fact({"call": "boot", "path": "", "errno": 0, "boot": "b1"}) == (Engine.BOOTED, {"boot": "b1"})
    assert kernel_fact({"call": "clear", "path": "", "errno": 0}) == (Engine.DIED, {"cause": "its tree was cleared"})
    assert kernel_fact({"call": "power_off", "path": "", "errno": 0, "why": "w"}) == (
        Kernel.POWER_OFF,
        {"why": "w", "errno": 0},
    )
    link = {"call": "symlink", "path": "c/heartbeat/F/n2", "target": "c/node/n2", "errno": 0}
    assert kernel_fact(link) == (Kernel.LINK, {"fs": "F", "name": "n2", "errno": 0})
    write = {"call": "write", "path": "c/node/n2/num", "value": "2", "content": "2\n", "errno": 0}
    assert kernel_fact(write) == (Kernel.SET_NODE, {"name": "n2", "attribute": "num", "value": "2", "errno": 0})
    assert kernel_fact({"call": "mkdir", "path": "c", "errno": 0}) is None
