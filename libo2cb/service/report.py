"""What a daemon answers to REPORT: one JSON document, an interface under a golden file.

Both daemons answer REPORT to anyone, always, also while the engine hangs. Their documents say what each knows by
itself; `ocfs2_hb_ctl -I` asks both and merges them. Rules of the schema:

- "schema" is raised when a field changes its meaning or goes; a reader refuses what is newer than itself. A field that
  is added does not raise it, and a reader passes over fields that it does not know.
- Times are seconds (float) before the report was made, unless said otherwise; where the very moment matters there is a
  UTC text beside it (`utc_text`).
- Nodes are named by number and, where known, by name; filesystems by UUID; a node life as "NUMBER/BOOTID".
- Bytes of a name that are not UTF-8 are written as backslash escapes: JSON has no word for them.
"""

import json
from datetime import UTC, datetime
from typing import Final, Literal, TypeVar

from pydantic import ConfigDict, Field, ValidationError

from libo2cb.service.report_groups import (
    Change,
    Condition,
    Fencing,
    Group,
    Holder,
    Joiner,
    LastDeath,
    Lost,
    Member,
    PeerDaemon,
)
from libo2cb.service.report_parts import Part, Seconds, Text

__all__ = [
    "SCHEMA",
    "Change",
    "Condition",
    "EngineState",
    "Fencing",
    "Group",
    "Holder",
    "Identity",
    "Joiner",
    "LastDeath",
    "LinkGone",
    "LockRequest",
    "Lost",
    "Member",
    "O2cbReport",
    "Ocfs2Report",
    "PeerDaemon",
    "ReportError",
    "TreeNode",
    "Wait",
    "dump",
    "parse",
    "utc_text",
]

SCHEMA: Final = 1
"""The version of this schema."""


class ReportError(ValueError):
    """A document that is no report which this program can read. Its text is a sentence for an operator."""


def utc_text(moment: float) -> str:
    """A moment as the reports write it: seconds since the epoch to "2026-11-20T14:02:25.118Z"."""
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Wait(Part):
    """Something that waits longer than five seconds (law 17).

    Attributes:
        what: what waits: "removal of n3", "MOUNT of vm-images".
        seconds: for how long.
        why: what it waits for, in one sentence.
        do: what the operator can do; None when it goes on by itself.
        fs: UUID of the filesystem concerned, if it is one's.
        node: number of the node concerned, if it is one's.
    """

    what: Text
    seconds: Seconds
    why: Text
    do: Text | None = None
    fs: Text | None = None
    node: int | None = None


class EngineState(Part):
    """The cluster engine as the daemon sees it.

    Attributes:
        up: it answers.
        ring: the ring of the membership, "REPRESENTATIVE.SEQUENCE".
        quorate: whether that ring has quorum.
        votes: members of configured nodes, "2/3".
        members: numbers of the members.
        reason: why it is not up.
    """

    up: bool
    ring: Text | None = None
    quorate: bool = False
    votes: Text | None = None
    members: tuple[int, ...] = ()
    reason: Text | None = None


class Identity(Part):
    """A node as the kernel's tree has it, or should have it."""

    name: Text
    number: int
    address: Text
    port: int


class LinkGone(Part):
    """A link that held a queued change and is gone now.

    Attributes:
        fs: UUID of the filesystem.
        at: UTC text of when its absence was seen.
    """

    fs: Text
    at: Text


class TreeNode(Part):
    """One node: what is wanted of it, what stands, and what holds it.

    Attributes:
        name: its name; the standing directory's when it stands.
        number: its number; 0 for a directory without one.
        address: what stands or, when nothing stands, what is wanted.
        port: the same.
        local: whether it is this node.
        member: whether the engine counts it as a member now.
        tree: "ok"; "missing" (wanted, stands not); "incomplete" (an attribute is not set); "differs" (another
            identity is wanted); "unwanted" (stands, nobody wants it); "unfit" (o2cb cannot hold it: see queue).
        holders: who holds its lock ("ocfs2_controld pid 4711"), as far as the daemon can tell.
        links: UUIDs of the filesystems that link it.
        queue: why its change is queued; None when nothing is queued.
        queue_seconds: for how long.
        gone: links that held the queued change and went since.
        wanted: the identity that is wanted, when it is another than what stands; None with tree "unwanted".
    """

    name: Text
    number: int
    address: Text
    port: int
    local: bool = False
    member: bool = True
    tree: Literal["ok", "missing", "incomplete", "differs", "unwanted", "unfit"] = "ok"
    holders: tuple[Text, ...] = ()
    links: tuple[Text, ...] = ()
    queue: Text | None = None
    queue_seconds: Seconds | None = None
    gone: tuple[LinkGone, ...] = ()
    wanted: Identity | None = None


class LockRequest(Part):
    """A LOCK that waits for its grant.

    Attributes:
        request: its id on the ordering socket.
        node: the node asked for.
        seconds: since when.
        why: the reason last told to the asker.
    """

    request: int
    node: Identity
    seconds: Seconds
    why: Text


class _Report(Part):
    """What both daemons say of themselves.

    Attributes:
        schema_version: "schema" in the document.
        version: of the program.
        pid: its process.
        incarnation: its run.
        boot: boot id of this node's life.
        started: UTC text.
        uptime: seconds since started.
        made: UTC text of this report; the relative times count back from it.
        ready: law 16.
        reason: why it is not ready; None when it is.
        cluster: the cluster's name, once known.
        local: this node's number, once known.
        local_name: its name.
        engine: the engine.
        waits: all that waits longer than five seconds, longest first.
        signals_refused: how often a signal was refused, by name.
        violations: broken rules of clients, peers and messages, counted by kind.
        notes: what an operator should know of the cluster as it is configured, or of this kernel, a sentence each.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)

    schema_version: Literal[1] = Field(default=SCHEMA, alias="schema")
    version: Text
    pid: int
    incarnation: Text
    boot: Text
    started: Text
    uptime: Seconds
    made: Text
    ready: bool
    reason: Text | None = None
    cluster: Text | None = None
    local: int | None = None
    local_name: Text | None = None
    engine: EngineState
    waits: tuple[Wait, ...] = ()
    signals_refused: dict[str, int] = Field(default_factory=dict)
    violations: dict[str, int] = Field(default_factory=dict)
    notes: tuple[Text, ...] = ()


class O2cbReport(_Report):
    """What o2cb_controld knows: the nodes.

    Attributes:
        daemon: "o2cb_controld".
        driver: the kernel driver: links, classic or sandbox.
        nodes: all that are wanted or stand, by number.
        requests: lock requests that wait, oldest first.
        staying: why it would not end now if asked to (law 15); None when it would.
    """

    daemon: Literal["o2cb_controld"] = "o2cb_controld"
    driver: Text
    nodes: tuple[TreeNode, ...] = ()
    requests: tuple[LockRequest, ...] = ()
    staying: Text | None = None


class Ocfs2Report(_Report):
    """What ocfs2_controld knows: the groups.

    Attributes:
        daemon: "ocfs2_controld".
        driver: the kernel driver.
        freezes: whether a stopped group's writers are frozen (no with links: a stopped group still writes).
        fencing: how lost nodes are made safe.
        o2cb: whether o2cb_controld is connected.
        groups: by label, then UUID.
        nodes: its peers on all nodes, this one included, by number.
        unfenced: lives in no group's list that block the first mount after a cluster start.
        last_death: the last recovered death.
        live_regions: heartbeat regions standing in this node's kernel.
    """

    daemon: Literal["ocfs2_controld"] = "ocfs2_controld"
    driver: Text
    freezes: bool = False
    fencing: Fencing
    o2cb: bool
    groups: tuple[Group, ...] = ()
    nodes: tuple[PeerDaemon, ...] = ()
    unfenced: tuple[Lost, ...] = ()
    last_death: LastDeath | None = None
    live_regions: int = 0


R = TypeVar("R", bound=_Report)


def dump(report: O2cbReport | Ocfs2Report) -> str:
    """The document as it travels: JSON in ASCII (so that cutting it into ITEMs splits no character), one line.

    Blanks stand inside strings only; no ITEM cut from it is empty.
    """
    return json.dumps(report.model_dump(mode="json", by_alias=True), ensure_ascii=True, separators=(",", ":"))


def parse(text: str, kind: type[R]) -> R:
    """Read a document.

    Args:
        text: what `dump` made, by this version or another.
        kind: O2cbReport or Ocfs2Report, by the daemon that was asked.

    Raises:
        ReportError: no JSON, another daemon's report, a newer schema, or a missing or wrong field (named).
    """
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as e:
        raise ReportError(f"the daemon's report is no JSON ({e})") from e
    if not isinstance(document, dict):
        raise ReportError("the daemon's report is no JSON object")
    if document.get("schema") != SCHEMA:
        raise ReportError(
            f"the daemon's report has schema {document.get('schema')!r}, this program reads {SCHEMA}:"
            " use the tools of the daemon's version"
        )
    try:
        return kind.model_validate_json(text)
    except ValidationError as e:
        first = e.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ReportError(f"the daemon's report is wrong at {where}: {first['msg']}") from e
