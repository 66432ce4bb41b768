"""Laws 15 to 18, 21 and 22: how daemons live, wait and end."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from libo2cb.events import Event
from protocol.identity import Life
from tests.laws.history import O2CB, OCFS2, Client, Engine, Fact, Kernel, Process, Source
from tests.laws.state import Daemon, Node
from tests.laws.verdict import Breach, Hearing, Key, Rule

_D = Source.DAEMON
At = tuple[str, str]
Resets = dict[Life, tuple[str, int]]
_LARGEST = 254

PATIENCE = 5_000_000_000
"""ns that something may wait without a word (law 17)."""

SLACK = 5_000_000_000
"""ns more that the word may take on a busy machine: a check must not fail because the machine was slow."""


class NoQuietExit(Rule):
    """Law 15: from EXITING and processes seen to end, against the kernel's regions and the mount table.

    A node is in use while a filesystem is mounted or a region stands, whatever a daemon believes. Then neither daemon
    ends by itself, unless it was replaced by command, or it never served because its name was taken; and the engine's
    shutdown question is answered no, with the reason. Being killed from outside is no exit. At rest each signal has an
    answer (several at once may get one), and each shutdown question.
    """

    law = 15
    title = "no quiet exit while a group is live"

    def hears(self) -> Mapping[Key, Hearing]:
        self._excused: set[At] = set()
        self._signals: dict[At, tuple[int, str]] = {}
        self._refused: dict[At, tuple[int, str]] = {}
        self._questions: dict[tuple[str, str, int], int] = {}
        return {
            (_D, Event.STARTING): self.starting,
            (_D, Process.STARTED): self.starting,
            (_D, Event.REPLACED): self.excuse,
            (_D, Event.NAME_TAKEN): self.excuse,
            (_D, Process.SIGNALLED): self.signalled,
            (_D, Event.SIGNAL_REFUSED): self.refused,
            (_D, Event.EXITING): self.exiting,
            (_D, Process.ENDED): self.ended,
            (_D, Event.SHUTDOWN_ASKED): self.asked,
            (_D, Event.SHUTDOWN_ANSWERED): self.answered,
        }

    def starting(self, fact: Fact) -> Iterator[Breach]:
        at = (fact.node or "", fact.daemon)
        self._excused.discard(at)
        self._signals.pop(at, None)
        self._refused.pop(at, None)
        self._questions = {key: order for key, order in self._questions.items() if key[:2] != at}
        return iter(())

    def excuse(self, fact: Fact) -> Iterator[Breach]:
        self._excused.add((fact.node or "", fact.daemon))
        return iter(())

    def signalled(self, fact: Fact) -> Iterator[Breach]:
        self._signals[fact.node or "", fact.daemon] = (fact.order, fact.text("signal"))
        return iter(())

    def refused(self, fact: Fact) -> Iterator[Breach]:
        at = (fact.node or "", fact.daemon)
        self._signals.pop(at, None)
        self._refused[at] = (fact.order, fact.text("signal"))
        if not fact.text("cause"):
            yield self.breach(
                f"{fact.daemon} on {fact.node} refuses {fact.text('signal')} and does not say why", fact.order
            )

    def exiting(self, fact: Fact) -> Iterator[Breach]:
        at = (fact.node or "", fact.daemon)
        signal = self._signals.pop(at, None)
        refused = self._refused.get(at)
        if at in self._excused:
            return
        node = self.world.node(at[0])
        if node.in_use:
            yield self.breach(f"{at[1]} exits on {at[0]} ({fact.text('cause')}) while {_uses(node)}", fact.order)
        elif (
            refused
            and self.world.signals_recorded
            and signal is None
            and refused[1]
            and refused[1] in fact.text("cause")
        ):
            yield self.breach(f"{at[1]} on {at[0]} exits by {refused[1]}, which it had refused", refused[0], fact.order)

    def ended(self, fact: Fact) -> Iterator[Breach]:
        at = (fact.node or "", fact.daemon)
        node = self.world.node(at[0])
        if node.in_use and at not in self._excused:
            yield self.breach(
                f"{at[1]} ends on {at[0]} with code {fact.number('code')} while {_uses(node)}", fact.order
            )
        yield from self.starting(fact)

    def asked(self, fact: Fact) -> Iterator[Breach]:
        self._questions[fact.node or "", fact.daemon, fact.number("question")] = fact.order
        return iter(())

    def answered(self, fact: Fact) -> Iterator[Breach]:
        asked = self._questions.pop((fact.node or "", fact.daemon, fact.number("question")), -1)
        node = self.world.node(fact.node or "")
        if fact.flag("allow"):
            if node.in_use:
                yield self.breach(f"{fact.daemon} lets {node.name} shut down while {_uses(node)}", asked, fact.order)
        elif not fact.text("cause"):
            yield self.breach(
                f"{fact.daemon} on {node.name} forbids the shutdown and does not say why", asked, fact.order
            )

    def at_rest(self) -> Iterator[Breach]:
        for (name, daemon), (order, signal) in self._signals.items():
            if _serves(self.world.node(name), daemon):
                yield self.breach(f"at rest {signal} to {daemon} on {name} has no answer", order)
        for (name, daemon, question), order in self._questions.items():
            if _serves(self.world.node(name), daemon):
                yield self.breach(f"at rest shutdown question {question} to {daemon} on {name} has no answer", order)


class ReadinessIsTruth(Rule):
    """Law 16: READY of o2cb_controld against the kernel's tree and the membership that this incarnation has read.

    With the classic driver it is the configuration in place of the membership.

    A difference passes when this incarnation has named it before (CHANGE_QUEUED, NODE_REFUSED, NODE_UNFIT). Addresses
    are those that NODE_WANTED names, where it does. Judged elsewhere: what READY of ocfs2_controld means, and that the
    service manager hears it (process tests).
    """

    law = 16
    title = "readiness is truth"

    def hears(self) -> Mapping[Key, Hearing]:
        return {(_D, Event.READY): self.ready}

    def ready(self, fact: Fact) -> Iterator[Breach]:
        if fact.daemon != O2CB:
            return
        node = self.world.node(fact.node or "")
        daemon = node.daemons.get(O2CB, Daemon(fact.order))
        told = daemon.told
        if told is None:
            yield self.breach(f"{O2CB} on {node.name} is ready before it knows any membership", fact.order)
            return
        named = daemon.queued | daemon.unfit
        standing = {d.number: d for d in node.tree.values() if d.complete}
        known = node.configured if daemon.classic else told.members
        wanted = {n for n in known if 1 <= n <= _LARGEST}
        ready = f"{O2CB} on {node.name} is ready"
        own = standing.get(node.number)
        if node.number and (own is None or not own.local) and node.number not in daemon.queued:
            yield self.breach(f"{ready}, and its own node does not stand complete", told.order, fact.order)
        for number in sorted(wanted ^ set(standing)):
            if number not in named and number != node.number:
                what = "does not stand" if number in wanted else "stands and is no member"
                yield self.breach(
                    f"{ready}: node number {number} {what}, and no queue names it", told.order, fact.order
                )
        for number in sorted(wanted & set(standing) - named):
            address = daemon.wanted.get(number, "")
            if address not in ("", standing[number].address):
                yield self.breach(
                    f"{ready}: node number {number} stands at {standing[number].address}, wanted at {address}",
                    told.order,
                    fact.order,
                )


@dataclass(slots=True)
class _Wait:
    order: int
    mono: int
    named: bool = False


class StuckSaysWhy(Rule):
    """Law 17, where times are recorded: a wait beyond PATIENCE and SLACK has had a WAITING of its daemon meanwhile.

    Waits: a MOUNT for its answer, a queued change of a node, a stopped group. A daemon that was killed or whose node
    was paused meanwhile owes nothing. Each WAITING names what and why. Judged elsewhere: that status says the same, and
    that the sentence helps a tired operator (golden files, and people).
    """

    law = 17
    title = "anything stuck says why"

    _begins: Mapping[str, str] = {
        Event.MOUNT_ASKED: "MOUNT",
        Event.CHANGE_QUEUED: "change of node",
        Event.GROUP_STOPPED: "stopped group",
    }
    _ends: Mapping[str, str] = {
        Event.MOUNT_ANSWERED: "MOUNT",
        Event.CLIENT_LOST: "MOUNT",
        Event.NODE_MADE: "change of node",
        Event.NODE_REMOVED: "change of node",
        Event.CHANGE_CANCELLED: "change of node",
        Event.GROUP_STARTED: "stopped group",
        Event.REGION_REMOVED: "stopped group",
        Event.LEFT: "stopped group",
        Event.JOIN_UNDONE: "stopped group",
    }

    def hears(self) -> Mapping[Key, Hearing]:
        self._waits: dict[tuple[str, str], dict[tuple[str, str], _Wait]] = {}
        self._now = 0
        return {
            (_D, Event.WAITING): self.waiting,
            (_D, Event.STARTING): self.over,
            (_D, Process.KILLED): self.over,
            (_D, Process.ENDED): self.over,
            (Source.ENGINE, Engine.PAUSED): self.paused,
            (Source.ENGINE, Engine.RESUMED): self.paused,
            (Source.ENGINE, Engine.DIED): self.paused,
            **{(_D, event): self.begin for event in self._begins},
            **{(_D, event): self.end for event in self._ends},
        }

    def _of(self, fact: Fact) -> dict[tuple[str, str], _Wait]:
        self._now = max(self._now, fact.mono or 0)
        return self._waits.setdefault((fact.node or "", fact.daemon), {})

    def begin(self, fact: Fact) -> Iterator[Breach]:
        what = self._begins[fact.kind]
        waits, key = self._of(fact), (what, fact.fs or fact.text("number"))
        if fact.mono is not None and key not in waits:
            waits[key] = _Wait(fact.order, fact.mono)
        return iter(())

    def end(self, fact: Fact) -> Iterator[Breach]:
        waits, key = self._of(fact), (self._ends[fact.kind], fact.fs or fact.text("number"))
        if fact.kind in (Event.LEFT, Event.JOIN_UNDONE):
            node = self.world.node(fact.node or "")
            if node.life is not None and self.world.life(fact.text("life")) != node.life:
                return
        wait = waits.pop(key, None)
        if wait and fact.mono is not None:
            yield from self._judged((fact.node or "", fact.daemon), key, wait, fact.mono, fact.order)

    def _judged(self, who: At, key: tuple[str, str], wait: _Wait, now: int, order: int) -> Iterator[Breach]:
        if not wait.named and now - wait.mono > PATIENCE + SLACK:
            seconds = (now - wait.mono) / 1e9
            yield self.breach(
                f"{who[1]} on {who[0]}: {key[0]} {key[1]} waited {seconds:.1f} s, and nothing said for what",
                wait.order,
                order,
            )

    def waiting(self, fact: Fact) -> Iterator[Breach]:
        for wait in self._of(fact).values():
            wait.named = True
        if not fact.text("what") or not fact.text("cause"):
            yield self.breach(f"{fact.daemon} on {fact.node} waits and does not say for what, or why", fact.order)

    def over(self, fact: Fact) -> Iterator[Breach]:
        self._of(fact).clear()
        return iter(())

    def paused(self, fact: Fact) -> Iterator[Breach]:
        for daemon in (O2CB, OCFS2):
            self._waits.pop((fact.node or "", daemon), None)
        return iter(())

    def at_rest(self) -> Iterator[Breach]:
        for who, waits in self._waits.items():
            if _serves(self.world.node(who[0]), who[1]):
                for key, wait in waits.items():
                    yield from self._judged(who, key, wait, self._now, -1)


class LeavingIsPossible(Rule):
    """Law 18: what was asked to leave has left at rest, or somebody said why not; without regard to quorum.

    UNMOUNT has its answer. After an UNMOUNT answered 0, with nothing mounted and no MOUNT since, the region is gone,
    unless WAITING or DEADLINE was said since then, or the engine is down. A daemon that is down, or has come since,
    owes nothing: law 12 has its region resolved by the kernel.
    """

    law = 18
    title = "leaving is always possible"

    def hears(self) -> Mapping[Key, Hearing]:
        self._asked: dict[At, int] = {}
        self._leaving: dict[At, int] = {}
        return {
            (_D, Event.UNMOUNT_ASKED): self.asked,
            (_D, Event.UNMOUNT_ANSWERED): self.answered,
            (_D, Event.MOUNT_ASKED): self.stays,
            (_D, Event.WAITING): self.said,
            (_D, Event.DEADLINE): self.said,
            (_D, Event.STARTING): self.starting,
            (Source.CLIENT, Client.MOUNTED): self.stays,
        }

    def asked(self, fact: Fact) -> Iterator[Breach]:
        self._asked[fact.node or "", fact.fs] = fact.order
        return iter(())

    def answered(self, fact: Fact) -> Iterator[Breach]:
        at = (fact.node or "", fact.fs)
        self._asked.pop(at, None)
        if not fact.number("code"):
            self._leaving[at] = fact.order
        return iter(())

    def stays(self, fact: Fact) -> Iterator[Breach]:
        self._leaving.pop((fact.node or "", fact.fs), None)
        return iter(())

    def said(self, fact: Fact) -> Iterator[Breach]:
        if fact.daemon == OCFS2:
            self._leaving = {at: order for at, order in self._leaving.items() if at[0] != fact.node}
        return iter(())

    def starting(self, fact: Fact) -> Iterator[Breach]:
        if fact.daemon == OCFS2:
            self._asked = {at: order for at, order in self._asked.items() if at[0] != fact.node}
        return self.said(fact)

    def at_rest(self) -> Iterator[Breach]:
        for (name, fs), order in self._asked.items():
            if _serves(self.world.node(name), OCFS2):
                yield self.breach(f"at rest UNMOUNT of {fs} on {name} has no answer", order)
        for (name, fs), order in self._leaving.items():
            node = self.world.node(name)
            daemon = node.daemon_up(OCFS2)
            if daemon and not daemon.engine_down and not node.paused and fs in node.regions and fs not in node.mounts:
                yield self.breach(f"at rest {name} has not left {fs} after its UNMOUNT, and nothing says why", order)


class OwnResetOnly(Rule):
    """Law 21, the part that applies: a node's own reset is a power-off of its own home, and it works.

    From the kernel's journal and the engine's history. A reset may be the last thing that a journal has of a life.
    """

    law = 21
    title = "a node resets itself, and nobody else"

    def hears(self) -> Mapping[Key, Hearing]:
        self._reset: Resets = {}
        return {(Source.KERNEL, Kernel.POWER_OFF): self.power_off}

    def power_off(self, fact: Fact) -> Iterator[Breach]:
        node = self.world.node(fact.node or "")
        target = fact.text("target") or node.name
        if target != node.name:
            yield self.breach(f"{node.name} resets {target}, another home: {fact.text('why')}", fact.order)
        elif node.life is not None and fact.done:
            self._reset[node.life] = (node.name, fact.order)

    def at_rest(self) -> Iterator[Breach]:
        for life, (name, order) in self._reset.items():
            if not self.world.over(life):
                yield self.breach(f"at rest {name} goes on in life {life}, which it has reset", order)


_BLOCKED = re.compile(
    r"loop\b.*\b(blocked|stalled)|\b(blocked|stalled)\b.*\bloop|^Executing <.* took \d", re.IGNORECASE
)
_IMPORTED = re.compile(r"\bimport(ed|s|ing)?\b.*\bafter ready\b", re.IGNORECASE)


class LoopNeverBlocks(Rule):
    """Law 22, as far as a log shows it: no line says that the event loop was blocked, or that a ready daemon imports.

    Lines of asyncio's debug mode ("Executing ... took 0.3 seconds") count; a log line that is none of the daemons'
    events is a SURPRISE with its text as the cause. Judged elsewhere: answers while the engine hangs, and sys.modules
    of a ready daemon (process tests).
    """

    law = 22
    title = "the loop never blocks"

    def hears(self) -> Mapping[Key, Hearing]:
        return {(_D, Event.SURPRISE): self.said, (_D, Event.WAITING): self.said}

    def said(self, fact: Fact) -> Iterator[Breach]:
        for field in ("cause", "state", "what"):
            text = fact.text(field)
            if _BLOCKED.search(text) or _IMPORTED.search(text):
                yield self.breach(f"{fact.daemon} on {fact.node}: {text}", fact.order)
                return


def _serves(node: Node, daemon: str) -> bool:
    return not node.dead and not node.paused and node.daemon_up(daemon) is not None


def _uses(node: Node) -> str:
    mounted = [f"{fs} is mounted" for fs in sorted(node.mounts)]
    return ", ".join(mounted + [f"region {fs} stands" for fs in sorted(set(node.regions) - set(node.mounts))])


RULES: tuple[type[Rule], ...] = (
    NoQuietExit,
    ReadinessIsTruth,
    StuckSaysWhy,
    LeavingIsPossible,
    OwnResetOnly,
    LoopNeverBlocks,
)
