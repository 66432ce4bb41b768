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
from libo2cb.errors import O2cbError
from libo2cb.join import begin_group_join, complete_group_join, group_leave
from libo2cb.kernel.choose import choose_refs
from libo2cb.manager import node_down, node_up
from libo2cb.report_client import Unanswered, ask, server_uids
from libo2cb.service.report import Ocfs2Report, dump
from libo2cb.superblock import SuperblockError, read_superblock
from libo2cb.tools import common, fenced, helper, screens, watch
from libo2cb.tools.common import O2CB, OCFS2, Failure, UsageError
from libo2cb.tools.facts import Facts, Silent
from libo2cb.tools.human import clean
from libo2cb.tools.verdict import EXITS, SEVERITY, Verdict, exit_code, findings
from libo2cb.tools.waiting import Waiting
from protocol import client

COMMAND: Final = "ocfs2_hb_ctl"
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
    parser = common.Arguments(COMMAND)
    action = parser.add_mutually_exclusive_group()
    action.add_argument("-S", dest="action", action="store_const", const="start")
    action.add_argument("-K", dest="action", action="store_const", const="kill")
    action.add_argument("-I", dest="action", action="store_const", const="info")
    action.add_argument("-P", dest="action", action="store_const", const="priority")
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


def _parsed(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line, or UsageError."""
    options = _parser().parse_args(arguments)
    action = options.action
    for words in ("fenced", "replace", "node_up", "node_down"):
        if getattr(options, words) is not None:
            action = options.action = words
    if action is None:
        raise UsageError("nothing to do")
    for text, what in (
        (options.device, "DEVICE"),
        (options.uuid, "UUID"),
        (options.service, "SERVICE"),
        (options.fenced, "NODE"),
        (options.node_up, "NODE"),
        (options.node_down, "NODE"),
    ):
        if text is not None:
            common.given(text, what)
    _check_names(options)
    _check_forms(options)
    return options


def _check_names(options: argparse.Namespace) -> None:
    """What the action is done to."""
    action, named = options.action, (options.device is not None) + (options.uuid is not None)
    if action in _OF_A_REGION and named != 1:
        raise UsageError("one of -d DEVICE and -u UUID is needed")
    if action == "info" and named == 2:  # noqa: PLR2004 (both of them)
        raise UsageError("-d and -u name the same thing: one of them")
    if action in {"fenced", "replace"} and named:
        raise UsageError(f"--{action} is of no one filesystem: without -d and -u")
    if action in {"start", "kill"}:
        if options.service is None and not (action == "kill" and options.uuid):
            raise UsageError("a SERVICE is needed")
    elif options.service is not None:
        raise UsageError(f'"{options.service}" is one word too many')


def _check_forms(options: argparse.Namespace) -> None:
    """How status is to be shown, and what belongs to one action alone."""
    alone = options.action == "info" and options.device is None and options.uuid is None
    if (options.json or options.count) and (not alone or (options.json and options.count)):
        raise UsageError("--json and --count belong to -I alone, one of them")
    if options.watch is not None and (options.action != "info" or options.json or options.count):
        raise UsageError("--watch belongs to -I, without --json and --count")
    if options.sure and options.action != "fenced":
        raise UsageError("--yes-i-am-sure belongs to --fenced")
    if options.priority is not None and options.action != "priority":
        raise UsageError("-n belongs to -P")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; its exit code."""
    return helper.main(COMMAND, USAGE, _parsed, _run, argv, failed=1, interrupted=("interrupted", 1))


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
            return fenced.acknowledge(COMMAND, config, options.fenced, sure=options.sure)
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
        facts = common.facts(config, common.REPORT_TIMEOUT)
        common.answer(document(facts))
        return exit_code(findings(facts))
    named = options.device is not None or options.uuid is not None
    fs = _filesystem(options) if named else None
    if options.watch is not None:
        return watch.watch(COMMAND, lambda: _picture(config, fs), options.watch)
    lines, code = _picture(config, fs)
    _print(lines)
    return code


def _picture(config: Config, fs: str | None) -> watch.Picture:
    """The screen of one filesystem, or of everything, and its exit code."""
    facts = common.facts(config, common.REPORT_TIMEOUT)
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
    common.answer("\n".join(lines))


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
    report = common.ask_for(Ocfs2Report, config, common.REPORT_TIMEOUT)
    if isinstance(report, Silent):
        view = common.kernel_view(config)
        if view.trouble:
            raise Failure(
                "; ".join((f"{report.daemon} does not answer: {report.why}", *view.trouble)), EXITS[Verdict.SILENT]
            )
        common.say(COMMAND, f"{report.daemon} does not answer: {report.why}; counted in the kernel's tree")
        common.answer(str(len(view.regions)))
        return EXITS[Verdict.SILENT]
    common.answer(str(report.live_regions))
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
    fs = _filesystem(options)
    service = options.service or MOUNT_SERVICE
    group_leave(fs, service, socket_name=config.sockets.clients, trusted_uids=server_uids(config))
    return 0


def _manage(config: Config, options: argparse.Namespace) -> int:
    """What an external manager wants of a node; see libo2cb.manager."""
    fs = _filesystem(options)
    if options.action == "node_up":
        told = node_up(config, fs, options.node_up, lambda: options.device or _device_of(config, fs))
    else:
        told = node_down(config, fs, options.node_down)
    common.answer(clean(told))
    return 0


def _filesystem(options: argparse.Namespace) -> str:
    """The UUID that -u names, or of the volume that -d does."""
    return common.uuid(options.uuid) if options.uuid is not None else read_superblock(options.device).uuid


def _device_of(config: Config, fs: str) -> str:
    """The device with this UUID: one that ocfs2_controld knows, else a block device of this machine."""
    report = common.ask_for(Ocfs2Report, config, common.REPORT_TIMEOUT)
    known = [g.device for g in report.groups if g.fs == fs and g.device] if isinstance(report, Ocfs2Report) else []
    with contextlib.suppress(OSError):
        lines = Path("/proc/partitions").read_text("ascii", "replace").splitlines()[2:]
        known += [f"/dev/{line.split()[-1]}" for line in lines if line.split()]
    for device in known:
        with contextlib.suppress(SuperblockError):
            if read_superblock(device).uuid == fs:
                return device
    raise Failure(f"no device here holds a volume with UUID {fs}: name the device with -d")


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
            common.answer(f"{daemon} makes room; all it made stays. Start its successor now.")
    if failed:
        raise Failure("; ".join(failed))
    return 0


if __name__ == "__main__":
    sys.exit(main())
