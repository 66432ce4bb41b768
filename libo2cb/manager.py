"""For external cluster managers: putting a node up or down in a filesystem's region.

A manager of 2007 kept the regions itself: on each node it linked every node that it took for alive, and unlinked those
that it took for dead. Here a link means more than that. All members hold the node's lock before it is made, and no link
goes before the life that it means has left or is fenced. So a manager says what it wants, and the daemons decide:

    up, this node       it joins the group and holds the region, under the service MANAGER, until it is put down
    up, another node    confirmed when it is linked here and not lost; else refused: a node joins by its own word, there
    down, this node     its hold ends, and it leaves; refused while it is mounted, or held by others: it would stay up.
                        Holders whose name a restart of the daemon has lost are taken for the manager's, one at a time
    down, another node  confirmed when it is not linked here; else refused, with what it takes (law 11)

Whatever was refused has changed nothing, and may be said again.
"""

import os
from collections.abc import Callable
from typing import Final

from libo2cb.config import Config
from libo2cb.connection import Waiting
from libo2cb.errors import ConfigurationError, InvalidNodeNum, NodeExists, RegionInUse, UnknownRegion
from libo2cb.join import begin_group_join, complete_group_join, group_leave
from libo2cb.report_client import ask_report, server_uids
from libo2cb.service.report import Group, Ocfs2Report
from libo2cb.superblock import read_superblock
from protocol.client import MOUNT_SERVICE

MANAGER: Final = "external manager"
"""The service under which a manager holds a region."""
_COMMAND: Final = "ocfs2_hb_ctl"


def node_up(config: Config, region: str, node: str, device: Callable[[], str], waiting: Waiting | None = None) -> str:
    """Have a node alive in a region.

    Args:
        config: of the daemons.
        region: UUID of the filesystem.
        node: name or number.
        device: finds the volume, where this node has to join.
        waiting: called while the daemon waits, with the seconds so far.

    Returns:
        A sentence: what is so now.

    Raises:
        NodeExists: a manager holds the region on this node already.
        RegionInUse: another node that is not up; the text says what to do.
        O2cbError: the daemon refuses; its own sentence is in it.
        Unanswered: the daemon is silent.
    """
    report = _report(config)
    name, number = _node(report, node)
    group = _group(report, region)
    if number != report.local:
        if group is not None and number in group.links:
            _not_lost(group, name, number, says=f"is not up in {_title(group)}")
            return f"{name} is up in {_title(group)}"
        raise RegionInUse(
            f"node {name}",
            says=f"is not up in {region}, and is not put up from here",
            why="a node joins by its own word: then every member holds its lock, and it theirs",
            do=f"say it on {name}: {_COMMAND} --node-up {name} -u {region}",
        )
    if group is not None and any(holder.service == MANAGER for holder in group.holders):
        raise NodeExists(f"node {name}", says=f"is up in {region} already, by a manager")
    volume = read_superblock(path := device())
    if volume.uuid != region:
        raise UnknownRegion(f"region {region}", says="is not on this device", why=f"{path} holds {volume.uuid}")
    join = begin_group_join(
        volume.uuid,
        volume.cluster,
        os.path.abspath(path),  # noqa: PTH100 (the name that the user knows, without resolving links)
        MANAGER,
        socket_name=config.sockets.clients,
        trusted_uids=server_uids(config),
        waiting=waiting,
    )
    complete_group_join(join, 0)
    return f"{name} is up in {volume.label or region}, and all its members have linked it"


def node_down(config: Config, region: str, node: str) -> str:
    """Have a node no longer alive in a region.

    Args:
        config: of the daemons.
        region: UUID of the filesystem.
        node: name or number.

    Returns:
        A sentence: what is so now.

    Raises:
        RegionInUse: it would not be down: it is alive, or not known to be dead; the text says what to do.
        UnknownRegion: no manager holds it on this node.
        O2cbError: the daemon refuses; its own sentence is in it.
        Unanswered: the daemon is silent.
    """
    report = _report(config)
    name, number = _node(report, node)
    group = _group(report, region)
    if number != report.local:
        return _down_elsewhere(group, region, name, number)
    ours = [h for h in group.holders if h.service == MANAGER] if group is not None else []
    unnamed = [h for h in group.holders if h.program is None] if group is not None else []
    if group is None or not (ours or unnamed):
        raise UnknownRegion(f"region {region}", says=f"is not held by a manager on {name}")
    # Where there are mount points, the service of mounts is they.
    others = [h.service for h in group.holders if h not in ours and h not in unnamed]
    users = [*group.mount_points, *(s for s in others if s != MOUNT_SERVICE or not group.mount_points)]
    if users:
        raise RegionInUse(
            f"node {name}",
            says=f"would stay up in {_title(group)}",
            why=f"it is in use there by {', '.join(users)}",
            do="unmount it and end what holds it, then say it again",
        )
    group_leave(region, MANAGER, socket_name=config.sockets.clients, trusted_uids=server_uids(config))
    if len(ours) + len(unnamed) > 1:
        left = "by somebody since before the restart of ocfs2_controld: if that was you, say it again"
        return f"the hold ends, and {name} stays up in {_title(group)}: it is held {left}"
    return f"{name} leaves {_title(group)}"


def _down_elsewhere(group: Group | None, region: str, name: str, number: int) -> str:
    if group is None:
        return f"{name} is not up in {region}"
    subject, says = f"node {name}", f"cannot be put down in {_title(group)}"
    _not_lost(group, name, number, says=says)
    if number not in group.links:
        return f"{name} is not up in {region}"
    if any(member.number == number for member in group.members):
        do = f"unmount it on {name}; a node that is dead is lost to the cluster engine, and fenced"
        raise RegionInUse(subject, says=says, why="it is a living member", do=do)
    raise RegionInUse(subject, says=says, why="it is on its way in or out", do=f"see {_COMMAND} -I, and say it again")


def _not_lost(group: Group, name: str, number: int, *, says: str) -> None:
    """Refuse for a lost node: its link may stand for long yet, and means neither that it lives nor that it does not."""
    for lost in group.lost:
        if lost.number != number or (lost.fenced and number not in group.links):
            continue
        if lost.fenced:
            why, do = "it is lost and fenced, and its link goes with the next START", f"see {_COMMAND} -I"
        else:
            why = "it is lost and not yet fenced, and may still write"
            do = f"switch {name} off, see that it is off, and say: {_COMMAND} --fenced {name}"
        raise RegionInUse(f"node {name}", says=says, why=why, do=do)


def _report(config: Config) -> Ocfs2Report:
    return ask_report(Ocfs2Report, config.sockets.clients, server_uids(config))


def _node(report: Ocfs2Report, node: str) -> tuple[str, int]:
    """Name and number of a node."""
    known = {peer.name: peer.number for peer in report.nodes}
    if report.local is not None and report.local_name is not None:
        known[report.local_name] = report.local
    if node in known:  # first, for a node's name may be another's number
        return node, known[node]
    for name, number in known.items():
        if node == str(number):
            return name, number
    if not known:
        raise ConfigurationError(f"node {node}", says="is not known", why="the cluster engine has not answered yet")
    raise InvalidNodeNum(f"node {node}", says="is no node of this cluster", why=f"its nodes are {', '.join(known)}")


def _group(report: Ocfs2Report, region: str) -> Group | None:
    return next((group for group in report.groups if group.fs == region), None)


def _title(group: Group) -> str:
    return group.label or group.fs
