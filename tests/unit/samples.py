"""Reports of a small cluster, as the two daemons would give them: the ground of the tests of screens and tools."""

from libo2cb.service.report import (
    Change,
    Condition,
    EngineState,
    Fencing,
    Group,
    Holder,
    Identity,
    Joiner,
    LastDeath,
    LinkGone,
    Lost,
    Member,
    O2cbReport,
    Ocfs2Report,
    PeerDaemon,
    TreeNode,
    Wait,
)
from libo2cb.tools.facts import Facts

VM = "7B61593D5E2F4C0B9A3D1F00AA55EE01"
BK = "94A94C12FF614DD894BF9D0CF62F3987"
BOOT = "0b0a0d0c-1111-4222-8333-444455556666"
MADE = "2026-11-20T14:02:31.000Z"
DAY = 86400.0
COMMAND = Fencing(kind="command", alone=True, sentence="a lost node is switched off by a command")


def engine(here: int, of: int) -> EngineState:
    return EngineState(
        up=True, ring="1.5", quorate=here * 2 > of, votes=f"{here}/{of}", members=tuple(range(1, here + 1))
    )


def node(number: int, **fields: object) -> TreeNode:
    values: dict[str, object] = {
        "name": f"n{number}",
        "number": number,
        "address": f"10.0.0.1{number}",
        "port": 7777,
        "local": number == 1,
        "links": (VM, BK) if number < 3 else (VM,),
        **fields,
    }
    return TreeNode.model_validate(values)


def member(number: int, phase: str = "running") -> Member:
    return Member.model_validate({"name": f"n{number}", "number": number, "life": f"{number}/{BOOT}", "phase": phase})


def peer(number: int, **fields: object) -> PeerDaemon:
    values: dict[str, object] = {
        "name": f"n{number}",
        "number": number,
        "version": "0.1.0",
        "up": 12 * DAY + 5,
        **fields,
    }
    return PeerDaemon.model_validate(values)


def o2cb(**fields: object) -> O2cbReport:
    values: dict[str, object] = {
        "version": "0.1.0",
        "pid": 4710,
        "incarnation": "o2-1",
        "boot": BOOT,
        "started": "2026-11-08T14:02:26.000Z",
        "uptime": 12 * DAY + 5,
        "made": MADE,
        "ready": True,
        "cluster": "prod",
        "local": 1,
        "local_name": "n1",
        "engine": engine(3, 3),
        "driver": "links",
        "nodes": (node(1), node(2), node(3)),
        **fields,
    }
    return O2cbReport.model_validate(values)


def ocfs2(**fields: object) -> Ocfs2Report:
    values: dict[str, object] = {
        "version": "0.1.0",
        "pid": 4711,
        "incarnation": "oc-1",
        "boot": BOOT,
        "started": "2026-11-08T14:02:26.000Z",
        "uptime": 12 * DAY + 5,
        "made": MADE,
        "ready": True,
        "cluster": "prod",
        "local": 1,
        "local_name": "n1",
        "engine": engine(3, 3),
        "driver": "links",
        "fencing": COMMAND,
        "o2cb": True,
        "groups": (vm(), backup()),
        "nodes": (peer(1), peer(2), peer(3)),
        "live_regions": 2,
        **fields,
    }
    return Ocfs2Report.model_validate(values)


def vm(**fields: object) -> Group:
    values: dict[str, object] = {
        "fs": VM,
        "label": "vm-images",
        "device": "/dev/vg/vm",
        "state": "running",
        "members": (member(1), member(2), member(3)),
        "mount_points": ("/srv/vm", "/var/lib/libvirt/images"),
        "holders": (Holder(service="ocfs2", pid=4800, program="mount.ocfs2"),),
        "links": (1, 2, 3),
        **fields,
    }
    return Group.model_validate(values)


def backup(**fields: object) -> Group:
    values: dict[str, object] = {
        "fs": BK,
        "label": "backup",
        "device": "/dev/vg/bk",
        "state": "running",
        "members": (member(1), member(2)),
        "mount_points": ("/srv/bk",),
        "links": (1, 2),
        **fields,
    }
    return Group.model_validate(values)


def healthy() -> Facts:
    """All is well; n3 died nine days ago."""
    death = LastDeath(node="n3", ago=9 * DAY + 60, at="2026-11-11T14:01:31.000Z", stopped_for=3.14)
    return Facts(o2cb(), ocfs2(last_death=death))


def dead() -> Facts:
    """n3 is dead, and its fencing fails."""
    lost = Lost(
        name="n3",
        number=3,
        life=f"3/{BOOT}",
        by="n1",
        attempts=3,
        last_error="connection timed out",
        next_try=7.6,
    )
    stopped = vm(
        state="stopped",
        members=(member(1, "stopped"), member(2, "stopped")),
        lost=(lost,),
        change=Change(id="5f3a0c11", stopped=("n1", "n2")),
        conditions=(
            Condition(name="ring", ok=True),
            Condition(name="quorum", ok=True),
            Condition(name="fencing", ok=False, why="n3 is lost and not yet fenced"),
            Condition(name="stopped", ok=True),
        ),
        stopped_for=42.3,
        waits_for="fencing of n3",
    )
    queued = node(3, member=False, tree="unwanted", queue="vm-images still links it", queue_seconds=42.3)
    wait = Wait(what="START of vm-images", seconds=42.3, why="n3 is lost and not yet fenced", fs=VM)
    return Facts(
        o2cb(engine=engine(2, 3), nodes=(node(1), node(2), queued)),
        ocfs2(
            engine=engine(2, 3),
            groups=(stopped, backup(note="n3 never had it mounted")),
            nodes=(peer(1), peer(2), peer(3, up=None, away=42.3)),
            waits=(wait,),
        ),
    )


def queued() -> Facts:
    """n3 is back with a new address; one of its two old links still holds its node."""
    waiting = backup(
        state="stopped",
        members=(member(1, "stopped"), member(2, "away")),
        lost=(Lost(name="n3", number=3, life=f"3/{BOOT}", fenced=True),),
        change=Change(id="77aa0000", stopped=("n1",), owing=("n2",)),
        conditions=(Condition(name="stopped", ok=False, why="n2's STOP"),),
        stopped_for=6.2,
        links=(1, 2, 3),
    )
    joiner = Joiner(name="n3", number=3, life="3/new", seconds=4.0, why="its lock on n1")
    old = node(
        3,
        tree="differs",
        links=(BK,),
        queue="backup still links it",
        queue_seconds=6.1,
        holders=("ocfs2_controld pid 4711",),
        gone=(LinkGone(fs=VM, at="2026-11-20T14:02:25.118Z"),),
        wanted=Identity(name="n3", number=3, address="10.0.0.23", port=7777),
    )
    return Facts(
        o2cb(nodes=(node(1), node(2), old)),
        ocfs2(
            groups=(vm(members=(member(1), member(2)), queue=(joiner,)), waiting),
            nodes=(peer(1), peer(2, up=None, away=6.4, fenced_in=23.6), peer(3, up=9.0)),
        ),
    )


def joining() -> Facts:
    """This node's mount of vm-images waits for another node."""
    why = "n2: there n4's old address is still linked in backup, whose START waits for fencing of n4's last life"
    joiner = Joiner(name="n1", number=1, life=f"1/{BOOT}", seconds=7.2, why=why, gives_up=292.8)
    return Facts(o2cb(), ocfs2(groups=(vm(state="joining", mount_points=(), queue=(joiner,)),)))
