"""The scenes of the demo, in their order.

No order is slept for. The hub is told who hears what first (`order`, `hold`, `release`), the fence command waits at a
gate, a client is stopped where it is to die; whatever must have happened is waited for by REPORT or by a logged event.
"""

import signal
from collections.abc import Collection, Mapping
from typing import Final

from libo2cb.sandbox import power
from libo2cb.tools.mount import PAUSE
from tests.demo.paper import Paper
from tests.demo.stage import LABEL, NODES, Stage
from tests.demo.telling import Names
from tests.demo.timeline import Timeline
from tests.process.lab import DAEMONS, O2CB, OCFS2, exit_code

ELSEWHERE: Final = "10.0.0.23"
SURVIVORS: Final = ("n1", "n2")


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_DEATH: Final = _words(
    "POWER HANG OFF ORDER HOLD RELEASE HEARS STOP QUEUED FENCE FENCED START UNLINK STARTED UNLOCK RMDIR FINISH"
)
_FOLLOWS: Final = _words("STOP QUEUED UNLINK STARTED RMDIR")
"""What is shown of a node that does as the other."""


class Play:
    """The demo, scene by scene.

    Args:
        stage: what it plays on.
        paper: what it is shown on.
    """

    def __init__(self, stage: Stage, paper: Paper) -> None:
        self._stage = stage
        self._lab = stage.lab
        self._paper = paper
        names = Names({stage.volume.uuid: LABEL}, dict(enumerate(NODES, 1)))
        self._names = names
        self._timeline = Timeline(stage.root, names)

    def run(self) -> None:
        """All scenes."""
        for scene in (
            self._healthy,
            self._as_written_down,
            self._o2cb_first,
            self._ocfs2_first,
            self._elsewhere,
            self._asked_to_end,
            self._client_dies,
            self._daemons_die,
            self._the_end,
        ):
            scene()

    def _scene(self, title: str, look: str) -> None:
        self._paper.scene(title, look)
        self._timeline.begin()

    def _show(self, wanted: Mapping[str, Collection[str]]) -> None:
        self._paper.steps(self._timeline.more(wanted), self._timeline.zero)

    def _status(self, name: str) -> int:
        lines, code = self._stage.status(name)
        self._paper.screen(f"{name}# ocfs2_hb_ctl -I", lines, code)
        return code

    def _healthy(self) -> None:
        self._scene(
            "A healthy cluster",
            f"All three nodes mount the volume {LABEL}. A node joins when every member holds the lock of its node "
            "entry and has linked it: the link is how the kernel knows who is alive, and it pins the entry.",
        )
        self._stage.mount_everywhere()
        self._show({name: {"MOUNTED"} for name in NODES})
        assert self._status("n1") == 0

    def _recovered(self) -> None:
        """Wait until n3 is gone from both others, and all of that is in the logs."""
        for name in SURVIVORS:
            node = self._stage[name]
            node.group(self._stage.volume, members=list(SURVIVORS), lost=[])
            node.event(OCFS2, "life_fenced")
            node.event(OCFS2, "group_finished")
            node.event(O2CB, "node_removed", name="n3")
            assert set(node.addresses()) == set(SURVIVORS)
        self._lab.rest()

    def _returns(self, address: str | None = None) -> None:
        """n3 is switched on again, and mounts."""
        self._lab.power_on("n3", address)
        self._stage["n3"].ready()
        self._mark()
        self._stage["n3"].mount(self._stage.volume, f"/{LABEL}")
        for node in self._lab.nodes.values():
            node.group(self._stage.volume, members=list(NODES))
            node.event(OCFS2, "group_finished")
        self._lab.rest()

    def _mark(self) -> None:
        for node in self._lab.nodes.values():
            node.mark()

    def _back(self) -> None:
        self._returns()
        self._paper.line("  n3 is switched on again, and mounts.")

    def _as_written_down(self) -> None:
        self._scene(
            "Story 0: the race as it was written down",
            "n3 dies. ocfs2_controld hears of it and stops; o2cb_controld is told to remove n3, but the link still "
            "pins it. Look at RMDIR: queued behind the link, it comes after UNLINK, and that after the verified "
            "power-off.",
        )
        wanted = {"n1": _DEATH, "n2": _FOLLOWS}
        self._mark()
        for name in SURVIVORS:
            self._lab.order(name, OCFS2, O2CB)
        with self._stage.slow_fence():
            self._lab.power_off("n3")
            for name in SURVIVORS:
                self._stage[name].event(OCFS2, "group_stopped")
                self._stage[name].event(O2CB, "change_queued", name="n3")
            self._stage["n1"].event(OCFS2, "fence_begun")
            self._show(wanted)
            self._paper.line("  The fence command takes its time. Meanwhile, on n1:")
            assert self._status("n1") == 2
        self._recovered()
        self._show(wanted)
        for name in SURVIVORS:
            self._lab.order(name)
        self._back()

    def _o2cb_first(self) -> None:
        self._scene(
            "Story 1: o2cb_controld hears first",
            "n3 hangs, and may wake up and write at any time. On n1 o2cb_controld is told to remove it while "
            "ocfs2_controld has heard nothing: without the lock the node would vanish beneath a live link. Look at "
            "QUEUED before STOP, and at FENCE: this time it is the fence that ends n3.",
        )
        self._mark()
        self._lab.hold("n1", OCFS2)
        power.pause(self._lab.sandbox, "n3")
        self._stage["n1"].event(O2CB, "change_queued", name="n3")
        self._show({"n1": _DEATH})
        self._paper.line("  The change is queued behind the link; on n1:")
        assert self._status("n1") == 1
        self._lab.release("n1", OCFS2)
        self._recovered()
        assert not self._lab.is_on("n3")
        self._show({"n1": _DEATH})
        self._back()

    def _ocfs2_first(self) -> None:
        self._scene(
            "Story 2: ocfs2_controld hears first",
            "On n1 o2cb_controld hears nothing until the group has recovered. The entry of n3 stands on without a "
            "link, which hurts nobody. Look at RMDIR: nothing is queued this time, it follows HEARS at once.",
        )
        self._mark()
        self._lab.hold("n1", f"{O2CB}.membership")
        self._lab.power_off("n3")
        self._stage["n1"].event(OCFS2, "lock_closed", number=3)
        self._stage["n1"].event(OCFS2, "group_finished")
        assert "n3" in self._stage["n1"].addresses()
        self._lab.release("n1", f"{O2CB}.membership")
        self._recovered()
        self._show({"n1": _DEATH})

    def _elsewhere(self) -> None:
        self._scene(
            "n3 comes back with another address",
            f"A new life of n3, now at {ELSEWHERE}. Look at the order in which n1 takes it in: the node with all its "
            "attributes, then its lock, then the link; so no link ever stands on an address that n3 does not have.",
        )
        self._returns(ELSEWHERE)
        assert self._stage["n1"].addresses()["n3"] == ELSEWHERE
        self._show({"n1": _words("MKDIR MADE JOIN GRANT LOCK WAITS STOP LINK STARTED FINISH"), "n3": {"MOUNTED"}})

    def _asked_to_end(self) -> None:
        self._scene(
            "Asked to end under a live mount",
            "SIGTERM to each daemon of n1, then the engine's own question whether it may stop. All are refused, each "
            "with its reason: whoever ended now would leave a mounted filesystem without anybody to speak for it.",
        )
        node = self._stage["n1"]
        node.mark()
        for daemon in DAEMONS:
            node.signal(daemon, signal.SIGTERM)
            node.event(daemon, "signal_refused", signal="SIGTERM")
        answer = self._lab.hub("ask_shutdown", node="n1")
        assert not answer["allowed"]
        assert all(node.lives(daemon) for daemon in DAEMONS)
        for daemon, _ in answer["vetoes"]:
            node.event(daemon, "shutdown_answered", allow=False)
        self._show({"n1": _words("STAYS ASK NO YES VERDICT")})

    def _client_dies(self) -> None:
        spare = self._lab.volume("spare")
        self._names.labels[spare.uuid] = spare.label
        self._scene(
            "A client dies between MOUNT and MRESULT",
            f"On n2 mount.ocfs2 was told that it may mount {spare.label}, and is killed before it says what came of "
            "it. The kernel's mount table decides: nothing is mounted, so the group is left, and nothing stays behind.",
        )
        node = self._stage["n2"]
        node.mark()
        client = node.begin_mount(spare, f"/{spare.label}", {PAUSE: "after-status"})
        node.event(OCFS2, "mount_answered", fs=spare.uuid, code=0)
        client.stopped()
        assert node.links(spare) == ["n2"]
        client.process.kill()
        client.wait()
        node.event(OCFS2, "client_lost", fs=spare.uuid)
        node.event(OCFS2, "left", fs=spare.uuid)
        self._lab.rest()
        assert node.links(spare) == []
        self._show({"n2": _words("MOUNT GRANT LOCK LINK STARTED FINISH ANSWER LOST UNLINK LEFT")})

    def _daemons_die(self) -> None:
        self._scene(
            "kill -9 of each daemon of n1 while it is mounted",
            "A daemon's death is not a node's death. Each successor finds node tree, links, locks and mounts as they "
            "stand, and takes them over; the group stops for ocfs2_controld, and runs on with it. Look for calls to "
            "the kernel's tree of n1: there is none.",
        )
        node = self._stage["n1"]
        before = node.calls(), node.links(self._stage.volume)
        for daemon in DAEMONS:
            self._mark()
            node.kill(daemon)
            node.start(daemon)
            node.event(daemon, "ready")
            self._lab.rest()
        for name in NODES:
            self._stage[name].event(OCFS2, "group_finished")
        assert (node.calls(), node.links(self._stage.volume)) == before
        own = _words("KILLED BEGINS ADOPTS READY STOP STARTED FINISH MKDIR RMDIR LINK UNLINK WRITE")
        self._show({"n1": own, "n2": _words("AWAY STOP STARTED FINISH LINK UNLINK")})
        self._paper.line("  Calls to the kernel's tree of n1 meanwhile: none. Its links: " + " ".join(before[1]))

    def _the_end(self) -> None:
        self._scene(
            "Unmount, and stop",
            "A leave is finished by the leaver itself and waits for nobody. Then each daemon may go: ocfs2_controld "
            "first, and o2cb_controld when nobody needs the nodes any more, which it takes away, the local one last.",
        )
        umounts = [node.tool("umount", f"/{LABEL}") for node in self._lab.nodes.values()]
        for umount in umounts:
            umount.worked()
        self._lab.rest()
        for daemon in (OCFS2, O2CB):
            for node in self._lab.nodes.values():
                node.signal(daemon, signal.SIGTERM)
            for node in self._lab.nodes.values():
                code = exit_code(node.process(daemon))
                assert code == 0, f"{daemon} on {node.name} ended with {code}"
        for node in self._lab.nodes.values():
            assert node.is_empty(), f"something is left in the tree of {node.name}"
        self._show({"n1": _words("UMOUNTED UNMOUNT UNLINK LEFT EXITS RMDIR"), "n2": {"LEFT"}, "n3": {"LEFT"}})
