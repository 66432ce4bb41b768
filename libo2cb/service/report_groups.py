"""The parts of ocfs2_controld's report: groups, lives, changes. Import from libo2cb.service.report."""

from typing import Literal

from libo2cb.service.report_parts import Part, Seconds, Text


class Fencing(Part):
    """How a lost node is made safe.

    Attributes:
        kind: none, manual or command.
        alone: whether the cluster will recover by itself, without an operator.
        sentence: the same in words, with what is unsafe about it.
    """

    kind: Literal["none", "manual", "command"]
    alone: bool
    sentence: Text


class Member(Part):
    """A member of a group.

    Attributes:
        name: node name.
        number: node number.
        life: "NUMBER/BOOTID".
        phase: what its kernel does in this group: "running", "stopping" (owes its STOP), "stopped", "started"
            (done with START, waits for the FINISH), "away" (its daemon is gone or silent, its node is not).
    """

    name: Text
    number: int
    life: Text
    phase: Literal["running", "stopping", "stopped", "started", "away"] = "running"


class Lost(Part):
    """A life that was lost while in a group, or that nobody has seen since the cluster came up.

    Attributes:
        name: node name.
        number: node number.
        life: "NUMBER/BOOTID".
        fenced: whether a fence, a reset or its own newer life has proved it dead.
        by: name of the node that acts.
        attempts: tries so far.
        last_error: of the last try.
        next_try: seconds until the next try; None when none is due.
    """

    name: Text
    number: int
    life: Text
    fenced: bool = False
    by: Text | None = None
    attempts: int = 0
    last_error: Text | None = None
    next_try: Seconds | None = None


class Holder(Part):
    """What holds a group besides, or beneath, its mount points.

    Attributes:
        service: "ocfs2" for mounts, fsck.ocfs2, tunefs.ocfs2, a hand-started region's name.
        pid: of its process; None when nobody stays behind it (a hand-started region).
        program: name of that process.
    """

    service: Text
    pid: int | None = None
    program: Text | None = None


class Condition(Part):
    """One condition of a START (GROUPS: ring, quorum, fencing, stopped, locks).

    Attributes:
        name: ring, quorum, fencing, stopped or locks.
        ok: whether it holds.
        why: what it waits for, or None.
    """

    name: Literal["ring", "quorum", "fencing", "stopped", "locks"]
    ok: bool
    why: Text | None = None


class Change(Part):
    """The change that a group goes through.

    Attributes:
        id: hash of the change; status shows its first four digits.
        stopped: names of those who have stopped.
        owing: names of those whose STOP is still owed.
        start: names of those who have made the START; empty before it.
        start_owing: names of those who have not, once it was made.
        finished: whether the FINISH was made.
    """

    id: Text
    stopped: tuple[Text, ...] = ()
    owing: tuple[Text, ...] = ()
    start: tuple[Text, ...] = ()
    start_owing: tuple[Text, ...] = ()
    finished: bool = False


class Joiner(Part):
    """A node that waits to join a group.

    Attributes:
        name: node name.
        number: node number.
        life: "NUMBER/BOOTID".
        seconds: since its MOUNT.
        why: what it waits for, as it follows "waits for": "n2: there n4's old address is still linked in backup".
        gives_up: seconds until its MOUNT is answered 110; None for another node's.
    """

    name: Text
    number: int
    life: Text
    seconds: Seconds
    why: Text
    gives_up: Seconds | None = None


class Group(Part):
    """One filesystem's group.

    Attributes:
        fs: UUID.
        label: the volume's label; empty when it has none or nobody here could read it.
        device: the device here, if mounted or joining here.
        here: whether this node is a member, joins, or leaves.
        state: "joining", "running", "stopped" (STOP made, conditions not met), "starting" (START made, not all have
            answered), "leaving" (this node leaves).
        members: by number.
        lost: lost lives which this group must recover from.
        mount_points: here.
        holders: here.
        change: the change in progress, if any.
        conditions: of the next START; empty while running.
        stopped_for: seconds since the STOP; None while running.
        waits_for: what the START or the leave waits for, as it follows "waits for": "n2's STOP"; None for nothing.
        queue: joiners, in their order.
        links: numbers of the nodes that are linked here.
        note: a fact worth a line beside the state ("n3 never had it mounted").
    """

    fs: Text
    label: Text = ""
    device: Text | None = None
    here: bool = True
    state: Literal["joining", "running", "stopped", "starting", "leaving"]
    members: tuple[Member, ...] = ()
    lost: tuple[Lost, ...] = ()
    mount_points: tuple[Text, ...] = ()
    holders: tuple[Holder, ...] = ()
    change: Change | None = None
    conditions: tuple[Condition, ...] = ()
    stopped_for: Seconds | None = None
    waits_for: Text | None = None
    queue: tuple[Joiner, ...] = ()
    links: tuple[int, ...] = ()
    note: Text | None = None


class PeerDaemon(Part):
    """ocfs2_controld on a node.

    Attributes:
        name: node name.
        number: node number.
        life: "NUMBER/BOOTID" of its last statement.
        version: of its program; None when it was never seen.
        up: seconds since it started; None when it is away.
        away: seconds since it left the channel or fell silent; None when it is up.
        fenced_in: seconds until an away daemon's node is fenced; None when that is not due.
    """

    name: Text
    number: int
    life: Text | None = None
    version: Text | None = None
    up: Seconds | None = None
    away: Seconds | None = None
    fenced_in: Seconds | None = None


class LastDeath(Part):
    """The last recovered death.

    Attributes:
        node: name.
        ago: seconds.
        at: UTC text.
        stopped_for: how long the longest-stopped group here was stopped for it.
    """

    node: Text
    ago: Seconds
    at: Text
    stopped_for: Seconds
