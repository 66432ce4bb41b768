"""`ocfs2_hb_ctl`: regions by hand, the kernel's call at umount, and the status of both daemons.

Option letters and usage are those of the original, so that the kernel and old scripts find what they know:

    ocfs2_hb_ctl -S -d DEVICE SERVICE | -S -u UUID SERVICE     hold a region under a name of one's own
    ocfs2_hb_ctl -K -d DEVICE SERVICE | -K -u UUID [SERVICE]   let it go; the kernel's call inside umount(2)
    ocfs2_hb_ctl -I -d DEVICE | -I -u UUID                     one filesystem
    ocfs2_hb_ctl -P -d DEVICE [-n N]                           refused: with links no thread heartbeats

and these are new:

    ocfs2_hb_ctl -I [--json | --count]    is anything stopped, why, what to do; exit 0, 1, 2 or 3 as verdict.EXITS says
    ocfs2_hb_ctl -I --watch [SECONDS]     the same drawn again and again until Ctrl-C, also with -d or -u
    ocfs2_hb_ctl --fenced NODE            an operator's word that a lost node is off; asked twice
    ocfs2_hb_ctl --replace [DAEMON]       a daemon leaves everything standing for its successor
    ocfs2_hb_ctl --node-up NODE (-d DEVICE | -u UUID), --node-down ...    for external managers (libo2cb.manager)

Everything else ends with 0, or with 1 and a sentence on stderr.
"""

import argparse
import contextlib
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Final

from libo2cb.config import Config
from libo2cb.config_problems import ConfigError
from libo2cb.errors import O2cbError
from libo2cb.join import begin_group_join, complete_group_join, group_leave
from libo2cb.kernel.choose import choose_refs
from libo2cb.manager import node_down, node_up
from libo2cb.report_client import Unanswered, ask, server_uids
from libo2cb.service.report import Lost, Ocfs2Report, dump
from libo2cb.superblock import SuperblockError, read_superblock
from libo2cb.tools import common, screens, watch
from libo2cb.tools.common import O2CB, OCFS2, Failure, UsageError
from libo2cb.tools.human import names
from libo2cb.tools.verdict import EXITS, SEVERITY, Facts, Silent, Verdict, exit_code, findings
from libo2cb.tools.waiting import Waiting
from protocol import client
from protocol.framing import BadMessage

COMMAND: Final = "ocfs2_hb_ctl"
REPORT_TIMEOUT: Final = 5.0
MOUNT_SERVICE: Final = client.MOUNT_SERVICE
_OF_A_REGION: Final = frozenset({"start", "kill", "node_up", "node_down"})
USAGE: Final = """\
usage: ocfs2_hb_ctl -S (-d DEVICE | -u UUID) SERVICE     start to hold a region
       ocfs2_hb_ctl -K (-d DEVICE | -u UUID) SERVICE     stop to hold it (with -u: SERVICE or "ocfs2")
       ocfs2_hb_ctl -I [-d DEVICE | -u UUID]             status: of one filesystem, or of everything
       ocfs2_hb_ctl -I [-d DEVICE | -u UUID] --watch [SECONDS]   drawn again and again until Ctrl-C
       ocfs2_hb_ctl -I --json | -I --count               the same facts for programs; number of live regions
       ocfs2_hb_ctl --fenced NODE [--yes-i-am-sure]      say that a lost node has been switched off
       ocfs2_hb_ctl --replace [ocfs2_controld | o2cb_controld]
       ocfs2_hb_ctl --node-up NODE (-d DEVICE | -u UUID)     for external managers: a node shall be alive there,
       ocfs2_hb_ctl --node-down NODE (-d DEVICE | -u UUID)   or no longer; refused where it would not be so
       common: --config FILE (else $OCFS2_CONTROLD_CONFIG, else /etc/ocfs2/controld.toml)
"""


def _parser() -> common.Arguments:
    parser = common.Arguments(COMMAND, add_help=False)
    action = parser.add_mutually_exclusive_group()
    action.add_argument("-S", dest="action", action="store_const", const="start")
    action.add_argument("-K", dest="action", action="store_const", const="kill")
    action.add_argument("-I", dest="action", action="store_const", const="info")
    action.add_argument("-P", dest="action", action="store_const", const="priority")
    action.add_argument("-h", "--help", dest="action", action="store_const", const="help")
    action.add_argument("--fenced", metavar="NODE")
    action.add_argument("--replace", nargs="?", const="both", choices=("both", O2CB, OCFS2))
    action.add_argument("--node-up", metavar="NODE")
    action.add_argument("--node-down", metavar="NODE")
    parser.add_argument("-d", dest="device")
    parser.add_argument("-u", dest="uuid")
    parser.add_argument("-n", dest="priority", type=int)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--count", action="store_true")
    parser.add_argument("--watch", metavar="SECONDS", nargs="?", const=watch.SECONDS, type=watch.seconds)
    parser.add_argument("--yes-i-am-sure", dest="sure", action="store_true")
    parser.add_argument("--config")
    parser.add_argument("service", nargs="?")
    return parser


def _checked(argv: Sequence[str]) -> argparse.Namespace:
    """The command line, or UsageError."""
    options = _parser().parse_args(argv)
    action = options.action
    for given in ("fenced", "replace", "node_up", "node_down"):
        if getattr(options, given) is not None:
            action = options.action = given
    named = (options.device is not None) + (options.uuid is not None)
    if action is None:
        raise UsageError("nothing to do")
    if action in _OF_A_REGION and named != 1:
        raise UsageError("one of -d DEVICE and -u UUID is needed")
    if action in {"start", "kill"}:
        if options.service is None and not (action == "kill" and options.uuid):
            raise UsageError("a SERVICE is needed")
    elif options.service is not None:
        raise UsageError(f'"{options.service}" is one word too many')
    if action == "info" and named == 2:  # noqa: PLR2004 (both of them)
        raise UsageError("-d and -u name the same thing: one of them")
    _check_forms(options, named)
    return options


def _check_forms(options: argparse.Namespace, named: int) -> None:
    """How status is to be shown."""
    alone = options.action == "info" and not named
    if (options.json or options.count) and (not alone or (options.json and options.count)):
        raise UsageError("--json and --count belong to -I alone, one of them")
    if options.watch is not None and (options.action != "info" or options.json or options.count):
        raise UsageError("--watch belongs to -I, without --json and --count")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; its exit code."""
    try:
        options = _checked(sys.argv[1:] if argv is None else argv)
    except UsageError as error:
        sys.stderr.write(f"{COMMAND}: {error}\n{USAGE}")
        return 1
    if options.action == "help":
        sys.stdout.write(USAGE)
        return 0
    try:
        return _run(options)
    except Failure as error:
        common.say(COMMAND, str(error))
        return 1 if error.code is None else error.code
    except (ConfigError, O2cbError, Unanswered, BadMessage) as error:
        common.complain(COMMAND, error)
        return 1
    except BrokenPipeError:  # `ocfs2_hb_ctl -I | head`: the reader has seen enough
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        common.say(COMMAND, "interrupted")
        return 1


def _run(options: argparse.Namespace) -> int:
    if options.action == "priority":
        raise Failure(
            "no heartbeat thread has a priority here: nodes are alive by links, which the daemons make;"
            " -P is of use with the disk heartbeat of the classic stack only"
        )
    config = common.configuration(options.config)
    if options.action in _OF_A_REGION:
        common.enter_home(config, COMMAND)
    match options.action:
        case "start":
            return _start(config, options)
        case "kill":
            return _kill(config, options)
        case "fenced":
            return _fenced(config, options.fenced, sure=options.sure)
        case "replace":
            return _replace(config, (OCFS2, O2CB) if options.replace == "both" else (options.replace,))
        case "node_up" | "node_down":
            return _manage(config, options)
    return _info(config, options)


def _info(config: Config, options: argparse.Namespace) -> int:
    """Status, in the form that was asked for."""
    if options.count:
        return _count(config)
    if options.json:
        facts = common.facts(config, REPORT_TIMEOUT)
        print(document(facts))  # noqa: T201 (the command's answer)
        return exit_code(findings(facts))
    fs = common.uuid(options.uuid) if options.uuid else options.device and read_superblock(options.device).uuid
    if options.watch is not None:
        return watch.watch(COMMAND, lambda: _picture(config, fs), options.watch)
    lines, code = _picture(config, fs)
    _print(lines)
    return code


def _picture(config: Config, fs: str | None) -> watch.Picture:
    """The screen of one filesystem, or of everything, and its exit code."""
    facts = common.facts(config, REPORT_TIMEOUT)
    found = findings(facts)
    if fs is None:
        return screens.status(facts), exit_code(found)
    ours = tuple(f for f in found if f.group == fs or f.verdict is Verdict.SILENT)
    return screens.filesystem(facts, fs, _references(config, fs)), exit_code(ours)


def _references(config: Config, fs: str) -> int | str:
    """The references of a region as the classic tools count them; or why they cannot be read."""
    try:
        return choose_refs(config).count(fs)
    except O2cbError as error:
        return error.sentence()


def _print(lines: list[str]) -> None:
    if screens.wants_colour(os.environ, terminal=sys.stdout.isatty()):
        lines = screens.paint(lines)
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()


def document(facts: Facts) -> str:
    """The facts of `-I` for programs: one JSON object.

    Its keys: schema (as the reports'), verdict, exit, findings, silent, and as "o2cb", "ocfs2" and "kernel" the
    reports and what stands by itself, each null when there is none.
    """
    found = findings(facts)
    verdict = min((f.verdict for f in found), key=SEVERITY.index, default=Verdict.OK)
    code = exit_code(found)
    return json.dumps(
        {
            "schema": 1,
            "verdict": verdict,
            "exit": code,
            "findings": [asdict(finding) for finding in found],
            "silent": [asdict(silent) for silent in facts.silent],
            "o2cb": json.loads(dump(facts.o2cb)) if facts.o2cb else None,
            "ocfs2": json.loads(dump(facts.ocfs2)) if facts.ocfs2 else None,
            "kernel": asdict(facts.kernel) if facts.kernel else None,
        }
    )


def _count(config: Config) -> int:
    """The number of live regions: the daemon's word, or the kernel's tree when it is silent."""
    report = common.ask_for(Ocfs2Report, config, REPORT_TIMEOUT)
    if isinstance(report, Silent):
        common.say(COMMAND, f"{report.daemon} does not answer: {report.why}; counted in the kernel's tree")
        view = common.kernel_view(config)
        if view.trouble:
            raise Failure("; ".join(view.trouble), EXITS[Verdict.SILENT])
        print(len(view.regions))  # noqa: T201 (the command's answer)
        return EXITS[Verdict.SILENT]
    print(report.live_regions)  # noqa: T201 (the command's answer)
    return 0


def _start(config: Config, options: argparse.Namespace) -> int:
    """Join a group under a service of one's own and say that it is in use: a region started by hand is a holder."""
    device = options.device or _device_of(config, common.uuid(options.uuid))
    volume = read_superblock(device)
    common.check_stack(volume, device)
    path = os.path.abspath(device)  # noqa: PTH100 (the name that the user knows, without resolving links)
    clients, uids = config.sockets.clients, server_uids(config)
    # No deadline here: the daemon has one, and a Ctrl-C closes the connection, which withdraws the join.
    title = f"{volume.label or volume.uuid[:8]} in cluster {volume.cluster}"
    waiting = Waiting(COMMAND, title, volume.uuid, partial(common.group_facts, config))
    try:
        join = begin_group_join(
            volume.uuid,
            volume.cluster,
            path,
            options.service,
            socket_name=clients,
            trusted_uids=uids,
            waiting=waiting.tick,
        )
    finally:
        waiting.done()
    complete_group_join(join, 0)
    return 0


def _kill(config: Config, options: argparse.Namespace) -> int:
    """End a service. Nothing of the device is read with -u: the kernel waits for this call inside umount(2)."""
    fs = common.uuid(options.uuid) if options.uuid else read_superblock(options.device).uuid
    service = options.service or MOUNT_SERVICE
    group_leave(fs, service, socket_name=config.sockets.clients, trusted_uids=server_uids(config))
    return 0


def _manage(config: Config, options: argparse.Namespace) -> int:
    """What an external manager wants of a node; see libo2cb.manager."""
    fs = common.uuid(options.uuid) if options.uuid else read_superblock(options.device).uuid
    if options.action == "node_up":
        told = node_up(config, fs, options.node_up, lambda: options.device or _device_of(config, fs))
    else:
        told = node_down(config, fs, options.node_down)
    print(told)  # noqa: T201 (the command's answer)
    return 0


def _device_of(config: Config, fs: str) -> str:
    """The device with this UUID: one that ocfs2_controld knows, else a block device of this machine."""
    report = common.ask_for(Ocfs2Report, config, REPORT_TIMEOUT)
    known = [g.device for g in report.groups if g.fs == fs and g.device] if isinstance(report, Ocfs2Report) else []
    with contextlib.suppress(OSError):
        lines = Path("/proc/partitions").read_text("ascii", "replace").splitlines()[2:]
        known += [f"/dev/{line.split()[-1]}" for line in lines if line.split()]
    for device in known:
        with contextlib.suppress(SuperblockError):
            if read_superblock(device).uuid == fs:
                return device
    raise Failure(f"no device here holds a volume with UUID {fs}: name the device with -d")


def _fenced(config: Config, node: str, *, sure: bool) -> int:
    """Pass on an operator's word that every lost life of a node is over."""
    report = common.ask_for(Ocfs2Report, config, REPORT_TIMEOUT)
    if isinstance(report, Silent):
        raise Failure(f"{report.daemon} does not answer: {report.why}; {report.do}")
    lives = _lost_lives(report, node)
    if not lives:
        waiting = names(sorted({lost.name for lost in _all_lost(report)}))
        raise Failure(f"{node} is not lost, so there is nothing to acknowledge; lost and not fenced: {waiting}")
    groups = " ".join(g.label or g.fs[:8] for g in report.groups if any(lost.name == node for lost in g.lost))
    if not sure:
        _ask_twice(node, groups)
    for life in lives:
        message = client.Fenced(node, life)
        answer = ask(OCFS2, config.sockets.clients, server_uids(config), message)
        if answer.code and _is_lost(config, node, life):
            raise Failure(f"ocfs2_controld does not take the word for {node}: {answer.text}")
    print(f"{node} counts as fenced; {groups or 'mounts'} may go on. See: {COMMAND} -I")  # noqa: T201 (the answer)
    return 0


def _is_lost(config: Config, node: str, life: str) -> bool:
    """Whether a life is still to be fenced, as far as can be known.

    A life of n2 is lost, and one that nobody has seen. The word for the latter was taken for both, and when that for
    the former comes nothing waits for it any more: its refusal is no failure.
    """
    report = common.ask_for(Ocfs2Report, config, REPORT_TIMEOUT)
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
        f"Is {node} switched off, and will it stay off until it boots anew?\n"
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


def _replace(config: Config, daemons: Sequence[str]) -> int:
    """Have daemons exit and leave everything standing; ocfs2_controld first, since it needs the other."""
    sockets = {O2CB: config.sockets.ordering, OCFS2: config.sockets.clients}
    failed = []
    for daemon in daemons:
        try:
            answer = ask(daemon, sockets[daemon], server_uids(config), client.Replace())
        except Unanswered as silence:
            failed.append(str(silence))
            continue
        if answer.code:
            failed.append(f"{daemon} will not be replaced: {answer.text}")
        else:
            print(f"{daemon} makes room; all it made stays. Start its successor now.")  # noqa: T201 (the answer)
    if failed:
        raise Failure("; ".join(failed))
    return 0


if __name__ == "__main__":
    sys.exit(main())
