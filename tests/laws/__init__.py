"""The checks of the laws, written once: pure judges of a recorded history.

    verdicts = judge(history)                    a whole history: recorded, built, or of a simulation
    judge = Judge(RULES); judge.feed(fact) ...   the same, fact by fact; judge.finish(at_rest=True) at the end
    python -m tests.laws DIR                     a recorded sandbox home

Law N is LAWS[N], a function from a history to its breaches; the docstring of its class says what it judges, from which
records, and what is judged elsewhere.
"""

from collections.abc import Callable, Iterator, Mapping
from functools import partial

from tests.laws.applicability import NOT_YET, NUMBER_OF_LAWS, WITHOUT_JUDGE, NotYet
from tests.laws.history import O2CB, OCFS2, Client, Engine, Fact, History, HistoryBuilder, Kernel, Process, Source
from tests.laws.judges import clients, life, ordering, recovery, safety
from tests.laws.verdict import Breach, Doubt, Judge, Rule, Verdict, judged

RULES: tuple[type[Rule], ...] = (*ordering.RULES, *recovery.RULES, *safety.RULES, *clients.RULES, *life.RULES)
"""The judges, by number of their law."""

LAWS: Mapping[int, Callable[[History], Iterator[Breach]]] = {rule.law: partial(judged, rule) for rule in RULES}
"""For each law that is judged: from a history to its breaches."""


def judge(history: History) -> list[Verdict]:
    """The verdict of each law that applies, by number; one pass over the history."""
    bench = Judge(RULES, history.owner)
    found: dict[int, list[Breach]] = {rule.law: [] for rule in RULES}
    for fact in history:
        for breach in bench.feed(fact):
            found[breach.law].append(breach)
    for breach in bench.finish(history.at_rest):
        found[breach.law].append(breach)
    return [Verdict(rule.law, rule.title, tuple(found[rule.law])) for rule in RULES]


def report(history: History, verdicts: list[Verdict]) -> str:
    """The verdicts for people: "0 laws broken", or the laws with the facts that broke them."""
    broken = [verdict for verdict in verdicts if not verdict.kept]
    facts = {fact.order: fact for fact in history}
    laws = "law" if len(broken) == 1 else "laws"
    lines = [f"{len(broken)} {laws} broken ({len(facts)} facts, {len(verdicts)} laws judged)"]
    for verdict in broken:
        lines.append(f"\nlaw {verdict.law}, {verdict.title}")
        for breach in verdict.breaches:
            lines.append(f"  {breach.sentence}")
            lines.extend(f"    {facts[order]}" for order in breach.story if order in facts)
    if not history.at_rest:
        lines.append("not recorded as at rest: what is due sometime was not judged")
    lines.extend(f"not applicable yet: law {it.law}, {it.what} (needs {it.needs})" for it in NOT_YET)
    lines.extend(f"not read: {problem}" for problem in history.problems)
    return "\n".join(lines)


__all__ = [
    "LAWS",
    "NOT_YET",
    "NUMBER_OF_LAWS",
    "O2CB",
    "OCFS2",
    "RULES",
    "WITHOUT_JUDGE",
    "Breach",
    "Client",
    "Doubt",
    "Engine",
    "Fact",
    "History",
    "HistoryBuilder",
    "Judge",
    "Kernel",
    "NotYet",
    "Process",
    "Rule",
    "Source",
    "Verdict",
    "judge",
    "judged",
    "report",
]
