"""The events that the daemons log: an interface, since status, tests and the checks of the laws read them.

Each log line carries time, boot, node, daemon, incarnation and event; the fields named here come with it. A group is
named by `fs` (its UUID), a node life as "NUMBER/BOOTID", a START as "RING#COUNT", a change by its hash.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

Field: TypeAlias = str | int | float | bool | list[str] | list[int] | None


class Event(StrEnum):
    """What happened. The comment names the fields."""

    # either daemon
    STARTING = "starting"  # version, pid, driver
    READY = "ready"  # cause
    NOT_READY = "not_ready"  # cause
    EXITING = "exiting"  # cause
    SIGNAL_REFUSED = "signal_refused"  # signal, cause
    REPLACED = "replaced"  # a successor was announced; everything stays
    NAME_TAKEN = "name_taken"  # socket, pid, program
    ENGINE_UP = "engine_up"  # cluster, local
    ENGINE_DOWN = "engine_down"  # cause
    MEMBERS = "members"  # ring, quorate, members, joined, left
    CONFIGURED = "configured"  # nodes
    NOTE = "note"  # cause: what an operator should know of the cluster as it is configured
    SHUTDOWN_ASKED = "shutdown_asked"  # question
    SHUTDOWN_ANSWERED = "shutdown_answered"  # question, allow, cause
    WAITING = "waiting"  # what, seconds, cause: anything stuck for longer than five seconds
    VIOLATION = "violation"  # peer, cause: a client, peer or message broke the rules
    LOGS_DROPPED = "logs_dropped"  # count, cause
    SURPRISE = "surprise"  # state, cause: a (state, event) pair that should not come

    # o2cb_controld
    CLUSTER_MADE = "cluster_made"  # cluster
    CLUSTER_ADOPTED = "cluster_adopted"  # cluster, nodes
    CLUSTER_REMOVED = "cluster_removed"  # cluster
    NODE_WANTED = "node_wanted"  # number, name, address, port
    NODE_UNWANTED = "node_unwanted"  # number
    NODE_UNFIT = "node_unfit"  # number, name, cause: o2cb cannot hold it
    CHANGE_QUEUED = "change_queued"  # number, name, links (regions), cause
    CHANGE_CANCELLED = "change_cancelled"  # number
    NODE_MADE = "node_made"  # number, name, address, port
    NODE_REMOVED = "node_removed"  # number, name, address, port
    NODE_REFUSED = "node_refused"  # number, name, errno, cause: the kernel said no; tried again later
    LOCK_ASKED = "lock_asked"  # number, address, port, request
    LOCK_GRANTED = "lock_granted"  # number, address, port, request
    LOCK_QUEUED = "lock_queued"  # number, request, cause
    LOCK_REFUSED = "lock_refused"  # number, request, errno, cause
    LOCK_CANCELLED = "lock_cancelled"  # number, request

    # ocfs2_controld, the channel and its groups
    VIEW = "view"  # ring, members
    STATED = "stated"  # ring, life
    CHANGE_COMPLETE = "change_complete"  # change, ring, members (lives)
    MESSAGE_DROPPED = "message_dropped"  # change, peer, cause
    GROUP_STOPPED = "group_stopped"  # fs, cause
    GROUP_STARTED = "group_started"  # fs, start, ring (of the change), members (lives), lost (lives)
    GROUP_FINISHED = "group_finished"  # fs, start, members (lives)
    JOIN_ASKED = "join_asked"  # fs
    JOIN_BEGUN = "join_begun"  # fs, life
    JOIN_UNDONE = "join_undone"  # fs, life, cause
    LEFT = "left"  # fs, life: at delivery of its own leave
    AWAY = "away"  # life: its daemon left the channel, the node has not left the engine
    LIFE_LOST = "life_lost"  # fs, life, cause
    LIFE_FENCED = "life_fenced"  # life, cause
    FENCE_BEGUN = "fence_begun"  # life, attempt
    FENCE_FAILED = "fence_failed"  # life, attempt, cause, retry (seconds)
    FENCE_ANSWERED = "fence_answered"  # life, code, output, seconds, cause: what came of a fence command
    EXPELLED = "expelled"  # peer, cause
    PUT_OUT = "put_out"  # cause: this node's life was recovered by others, it resets
    NODE_PUT_OUT = "node_put_out"  # peer, cause: asked of the engine; counts as no fence
    REFUSED_PEER = "refused_peer"  # peer, cause: a handshake block does not fit
    LOCK_HELD = "lock_held"  # number, address, port
    LOCK_CLOSED = "lock_closed"  # number, address, port
    REGION_MADE = "region_made"  # fs
    REGION_REMOVED = "region_removed"  # fs
    LINKED = "linked"  # fs, number, name, address, life
    UNLINKED = "unlinked"  # fs, number, name
    KERNEL_REFUSED = "kernel_refused"  # fs, call, errno, cause
    LINKS_REFUSED = "links_refused"  # errno, cause: at start; each MOUNT is refused with it
    ADOPTED = "adopted"  # fs, links (node numbers): found in the kernel at start

    # its clients
    MOUNT_ASKED = "mount_asked"  # fs, pid, uid, program, device, service
    MOUNT_ANSWERED = "mount_answered"  # fs, code, cause, service
    MOUNT_RESULT = "mount_result"  # fs, code, service
    UNMOUNT_ASKED = "unmount_asked"  # fs, pid, uid, program, service
    UNMOUNT_ANSWERED = "unmount_answered"  # fs, code, cause, service
    CLIENT_LOST = "client_lost"  # fs, cause: ended between MOUNT and MRESULT, or its STATUS could not be sent
    MOUNT_SEEN = "mount_seen"  # fs, mount_point
    MOUNT_GONE = "mount_gone"  # fs
    DEADLINE = "deadline"  # fs, cause: a MOUNT waited too long
    ACKNOWLEDGED = "acknowledged"  # life, uid: an operator says it is off


@dataclass(frozen=True, slots=True)
class Log:
    """A line for the log, as a pure mind says it.

    Attributes:
        event: what happened.
        fields: name and value of what comes with it.
        level: debug, info, warning or error.
    """

    event: Event
    fields: tuple[tuple[str, Field], ...] = ()
    level: str = "info"


def log(event: Event, level: str = "info", **fields: Field) -> Log:
    """A Log with these fields; None values are left out."""
    return Log(event, tuple((k, v) for k, v in fields.items() if v is not None), level)
