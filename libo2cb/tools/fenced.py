"""`ocfs2_hb_ctl --fenced`: an operator's word that a lost node is off."""

import sys

from libo2cb.config import Config
from libo2cb.report_client import ask, server_uids
from libo2cb.service.report import Lost, Ocfs2Report
from libo2cb.tools import common
from libo2cb.tools.common import OCFS2, Failure
from libo2cb.tools.facts import Silent
from libo2cb.tools.human import clean, names
from protocol import client


def acknowledge(command: str, config: Config, node: str, *, sure: bool) -> int:
    """Pass on an operator's word that every lost life of a node is over.

    Args:
        command: the program's name, for the line that says what to look at.
        config: of the daemons.
        node: its name.
        sure: whether that was said already; else it is asked for, twice.

    Returns:
        The exit code, 0.

    Raises:
        Failure: the node is not lost, the word was not given, or it is not taken.
        Unanswered: the daemon is silent.
    """
    report = common.ask_for(Ocfs2Report, config, common.REPORT_TIMEOUT)
    if isinstance(report, Silent):
        raise Failure(f"{report.daemon} does not answer: {report.why}; {report.do}")
    lives = _lost_lives(report, node)
    if not lives:
        waiting = names(sorted({lost.name for lost in _all_lost(report)}))
        raise Failure(f"{node} is not lost, so there is nothing to acknowledge; lost and not fenced: {waiting}")
    groups = names([g.label or g.fs[:8] for g in report.groups if any(lost.name == node for lost in g.lost)], "")
    if not sure:
        _ask_twice(node, groups)
    for life in lives:
        message = client.Fenced(node, life)
        answer = ask(OCFS2, config.sockets.clients, server_uids(config), message)
        if answer.code and _is_lost(config, node, life):
            raise Failure(f"ocfs2_controld does not take the word for {node}: {answer.text}")
    common.answer(f"{clean(node)} counts as fenced; {groups or 'mounts'} may go on. See: {command} -I")
    return 0


def _is_lost(config: Config, node: str, life: str) -> bool:
    """Whether a life is still to be fenced, as far as can be known.

    A life of n2 is lost, and one that nobody has seen. The word for the latter was taken for both, and when that for
    the former comes nothing waits for it any more: its refusal is no failure.
    """
    report = common.ask_for(Ocfs2Report, config, common.REPORT_TIMEOUT)
    return isinstance(report, Silent) or life in _lost_lives(report, node)


def _all_lost(report: Ocfs2Report) -> list[Lost]:
    everyone = [*report.unfenced, *(lost for group in report.groups for lost in group.lost)]
    return [lost for lost in everyone if not lost.fenced]


def _lost_lives(report: Ocfs2Report, node: str) -> list[str]:
    """Boot ids of the lost lives of a node; "" for the life that nobody has seen."""
    boots = (lost.life.partition("/")[2] for lost in _all_lost(report) if lost.name == node)
    return list(dict.fromkeys("" if boot == "unknown" else boot for boot in boots))


def _ask_twice(node: str, groups: str) -> None:
    """Have a person say it twice, in two different words, so that neither is typed from habit.

    Raises:
        Failure: nobody is there to ask, or the answer is another.
    """
    if not sys.stdin.isatty():
        raise Failure("not a terminal, so nobody can be asked twice: a program that is sure says --yes-i-am-sure")
    sys.stderr.write(
        f"Is {clean(node)} switched off, and will it stay off until it boots anew?\n"
        f"A node that still runs goes on writing, and the others will then destroy {groups or 'what it had mounted'}.\n"
    )
    if _answer("Type the node's name if it is off: ") != node:
        raise Failure(f"that is not {node}: nothing was acknowledged")
    if _answer('You have seen that it is off, not only that it does not answer? Type "off": ') != "off":
        raise Failure("nothing was acknowledged")


def _answer(question: str) -> str:
    sys.stderr.write(question)
    sys.stderr.flush()
    return sys.stdin.readline().rstrip("\n")
