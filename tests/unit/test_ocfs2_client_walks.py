"""Random walks of clients and of the kernel on one node: everybody is answered, and nothing is left behind."""

import random

import pytest

from libo2cb.events import Event, Log
from ocfs2_controld import actions as do
from ocfs2_controld import events as told
from ocfs2_controld.services import kind_of
from ocfs2_controld.state import Role, ServiceKind
from tests.simulation.desk import Caller, Desk

SERVICES = ("ocfs2", "/mnt/a", "/mnt/b", "fsck.ocfs2", "by hand")

WHATS = (
    *("connect", "close", "process ends"),
    *("mount", "mount", "mount", "other device", "result", "result", "failed", "wrong result", "unmount"),
    *("kernel mounts", "kernel mounts", "kernel unmounts", "kernel unmounts", "busy", "free", "refuse", "let"),
    *("settle", "settle", "settle", "one thing", "wait", "long wait"),
)
"""What may happen next; what happens more often stands there more often."""
Op = tuple[str, int, str]


class Walk:
    """Clients that do anything at any time, but for this: who says that it has mounted, has mounted."""

    def __init__(self) -> None:
        self.desk = Desk()
        self.callers: list[Caller] = [self.desk.call() for _ in range(3)]
        self.gone: set[int] = set()
        self.asked: dict[int, int] = {}
        self.mounted: set[int] = set()

    def requested(self, caller: Caller) -> None:
        self.asked[caller.connection] = self.asked.get(caller.connection, 0) + 1

    def told(self, caller: Caller) -> str:
        """The service for which it was told to go on; empty if it was not."""
        session = self.desk.state.sessions.get(caller.connection)
        return session.service if session is not None and session.role is Role.TOLD else ""

    def mount(self, caller: Caller) -> None:
        """What a client does that was told to go on; once."""
        service = self.told(caller)
        if kind_of(service) is not ServiceKind.MOUNT or caller.connection in self.mounted:
            return
        self.mounted.add(caller.connection)
        points = self.desk.here.mounts.setdefault("F", [])
        point = service if service.startswith("/") else f"/mnt/{caller.connection}"
        self.desk.mounted(*points, *(() if point in points else (point,)))

    def do(self, op: Op) -> None:
        what, which, service = op
        desk, points = self.desk, self.desk.here.mounts.setdefault("F", [])
        open_ones = [c for c in self.callers if c.connection not in self.gone]
        caller = open_ones[which % len(open_ones)] if open_ones else None
        match what:
            case "connect":
                self.callers.append(desk.call(service))
            case "mount" | "other device" if caller is not None:
                self.requested(caller)
                if not self.told(caller):
                    self.mounted.discard(caller.connection)
                caller.mount(service, device="G" if what == "other device" else None)
            case "result" | "failed" | "wrong result" if caller is not None:
                self.requested(caller)
                said = service if what == "wrong result" else self.told(caller)
                if what != "failed" and said == self.told(caller):
                    self.mount(caller)
                caller.result(5 if what == "failed" else 0, said or service)
            case "unmount" if caller is not None:
                self.requested(caller)
                caller.unmount(service)
            case "kernel mounts" if caller is not None:
                self.mount(caller)
            case "close" if caller is not None:
                self.gone.add(caller.connection)
                caller.close()
            case "kernel unmounts" if points:
                desk.mounted(*points[1:])
            case "busy":
                desk.here.busy.add("F")
            case "free":
                desk.here.busy.clear()
            case "process ends" if caller is not None:
                desk.ocfs2(1, told.ProcessEnded(caller.peer.pid, caller.peer.started))
            case "settle":
                desk.settle()
            case "one thing" if desk.choices():
                desk.do(desk.choices()[0])
            case "wait":
                desk.wait(2)
            case "long wait":
                desk.wait(400)
            case "refuse":
                desk.here.refusals[("LINK", "UNLINK")[which % 2], "n1", ""] = 5
            case "let":
                desk.here.refusals.clear()
            case _:
                pass

    def end(self) -> None:
        """All trouble ends: what is open is closed, unmounted, ended."""
        desk = self.desk
        desk.here.refusals.clear()
        desk.here.busy.clear()
        desk.wait(400)
        for caller in self.callers:
            if caller.connection not in self.gone:
                assert len(caller.statuses) == self.asked.get(caller.connection, 0), "each request has its one answer"
        for caller in self.callers:
            if caller.connection not in self.gone:
                caller.close()
        desk.mounted()
        for service in list(desk.local.services):
            if kind_of(service) is ServiceKind.HAND:
                desk.call().unmount(service)
        for caller in self.callers:
            desk.ocfs2(1, told.ProcessEnded(caller.peer.pid, caller.peer.started))
        desk.wait(400)


@pytest.mark.parametrize("seed", range(50))
def test_every_request_has_its_one_answer_and_nothing_is_left_behind(seed: int) -> None:
    r = random.Random(seed)  # noqa: S311 (a seed is a walk)
    walk = Walk()
    for _ in range(100):
        walk.do((r.choice(WHATS), r.randrange(4), r.choice(SERVICES)))
    walk.end()
    desk = walk.desk
    assert desk.left, desk.local
    assert not any(desk.here.refs.values()), "the kernel counts nobody any more"
    assert not [a for a in desk.done if isinstance(a, Log) and a.event is Event.SURPRISE]
    assert not [a for a in desk.done if isinstance(a, do.Exit | do.PowerOff)]
    assert not [s for s in desk.state.sessions.values() if s.fs and s.role.name != "FREE"]
    assert desk.state.service is False, "o2cb_controld is not needed any more"
