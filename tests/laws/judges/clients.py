"""Laws 12 to 14: what clients are told, and who is believed."""

from collections import Counter
from collections.abc import Iterator, Mapping

from libo2cb.events import Event
from tests.laws.history import O2CB, OCFS2, Client, Fact, Process, Source
from tests.laws.verdict import Breach, Hearing, Key, Rule

_D = Source.DAEMON
At = tuple[str, str]
_MOUNT_SERVICES = ("", "ocfs2")
"""The service names of a mount; others are tools that hold the group without one."""


class KernelDecides(Rule):
    """Law 12, from the mount table and the kernel's regions; who holds a group without a mount, from the log.

    No LEFT while the mount table shows the filesystem (a daemon speaks here of its own leave). UNMOUNT of a service
    that was mounted, while the table still shows it, is answered 0. At rest and with quorum a region that nothing is
    mounted on and nobody holds is gone: after a client that ended silently, a failed mount, a mount that went without
    an UNMOUNT. A daemon that was killed has lost its unresolved clients: the kernel alone resolves them. Judged
    elsewhere: the exclusive open, and when it is tried (process tests).
    """

    law = 12
    title = "the outcome of a mount is what the kernel says"

    def hears(self) -> Mapping[Key, Hearing]:
        self._holders: dict[At, dict[str, bool]] = {}
        self._gone: dict[At, int] = {}
        self._waiting: dict[str, int] = {}
        return {
            (_D, Event.WAITING): self.waiting,
            (_D, Event.MOUNT_ANSWERED): self.answered,
            (_D, Event.MOUNT_RESULT): self.result,
            (_D, Event.CLIENT_LOST): self.client_lost,
            (_D, Event.UNMOUNT_ANSWERED): self.unmount,
            (_D, Event.LEFT): self.left,
            (_D, Event.STARTING): self.starting,
            (Source.CLIENT, Client.UNMOUNTED): self.unmounted,
        }

    def waiting(self, fact: Fact) -> Iterator[Breach]:
        if fact.daemon == OCFS2:
            self._waiting[fact.node or ""] = fact.order
        return iter(())

    def _of(self, fact: Fact) -> dict[str, bool]:
        """Services that hold the group, and whether their outcome is known."""
        return self._holders.setdefault((fact.node or "", fact.fs), {})

    def answered(self, fact: Fact) -> Iterator[Breach]:
        if not fact.number("code"):
            self._of(fact).setdefault(fact.text("service"), False)
        return iter(())

    def result(self, fact: Fact) -> Iterator[Breach]:
        if fact.number("code"):
            self._of(fact).pop(fact.text("service"), None)
        else:
            self._of(fact)[fact.text("service")] = True
        return iter(())

    def client_lost(self, fact: Fact) -> Iterator[Breach]:
        mounted = fact.fs in self.world.node(fact.node or "").mounts
        holders = self._of(fact)
        for service in [s for s, known in holders.items() if not known]:
            if mounted:
                holders[service] = True
            else:
                del holders[service]
        return iter(())

    def starting(self, fact: Fact) -> Iterator[Breach]:
        if fact.daemon == OCFS2:
            for (node, fs), holders in self._holders.items():
                if node == fact.node and fs not in self.world.node(node).mounts:
                    for service in [s for s, known in holders.items() if not known]:
                        del holders[service]
        return iter(())

    def unmounted(self, fact: Fact) -> Iterator[Breach]:
        if set(self.world.node(fact.node or "").mounts.get(fact.fs, ())) <= {fact.text("mount_point")}:
            self._gone[fact.node or "", fact.fs] = fact.order
            for service in _MOUNT_SERVICES:
                self._of(fact).pop(service, None)
        return iter(())

    def unmount(self, fact: Fact) -> Iterator[Breach]:
        points = self.world.node(fact.node or "").mounts.get(fact.fs)
        code, service = fact.number("code"), fact.text("service")
        if points and code and self._of(fact).get(service):
            yield self.breach(
                f"UNMOUNT of {fact.fs} on {fact.node} is answered {code} while it is still mounted; 0 is due",
                min(points.values()),
                fact.order,
            )
        if not code and not points:
            self._of(fact).pop(service, None)

    def left(self, fact: Fact) -> Iterator[Breach]:
        node = self.world.node(fact.node or "")
        points = node.mounts.get(fact.fs)
        if points and (node.life is None or self.world.life(fact.text("life")) == node.life):
            yield self.breach(
                f"{node.name} leaves {fact.fs}, which is mounted on {', '.join(sorted(points))}",
                min(points.values()),
                fact.order,
            )

    def at_rest(self) -> Iterator[Breach]:
        for node in self.world.nodes.values():
            daemon = node.daemon_up(OCFS2)
            if node.dead or node.paused or daemon is None or daemon.told is None or not daemon.told.quorate:
                continue
            for fs in sorted(node.regions):
                held = self._holders.get((node.name, fs)) or (
                    self._waiting.get(node.name, -1) > self._gone.get((node.name, fs), daemon.order)
                )
                if fs not in node.mounts and not held:
                    yield self.breach(
                        f"at rest {node.name} keeps region {fs}, which is not mounted and nobody holds",
                        daemon.told.order,
                    )


class NoInputHurts(Rule):
    """Law 13: a violation does not end the daemon, and every question gets its answer.

    An exit is laid to a violation when its cause names the violation's cause or peer, or when the process ends by
    itself without saying EXITING. Who was never ready may go: it cannot talk to the running cluster, and says so. At
    rest no MOUNT and no LOCK is unanswered; questions to an incarnation that is over died with its socket. Judged
    elsewhere: bounded memory and service to others meanwhile (fuzz and process tests).
    """

    law = 13
    title = "no input hurts anyone else; silence is never the answer"

    def hears(self) -> Mapping[Key, Hearing]:
        self._violations: dict[At, list[Fact]] = {}
        self._exiting: set[At] = set()
        self._ready: set[At] = set()
        self._mounts: Counter[tuple[str, str, str]] = Counter()
        self._locks: dict[tuple[str, int, int], int] = {}
        answers = (Event.LOCK_GRANTED, Event.LOCK_QUEUED, Event.LOCK_REFUSED, Event.LOCK_CANCELLED)
        return {
            (_D, Event.VIOLATION): self.violation,
            (_D, Event.READY): self.ready,
            (_D, Event.EXITING): self.exiting,
            (_D, Process.ENDED): self.ended,
            (_D, Process.KILLED): self.over,
            (_D, Event.STARTING): self.over,
            (_D, Event.MOUNT_ASKED): self.mount,
            (_D, Event.MOUNT_ANSWERED): self.mount_answered,
            (_D, Event.CLIENT_LOST): self.client_lost,
            (_D, Event.LOCK_ASKED): self.lock,
            **{(_D, event): self.lock_answered for event in answers},
        }

    def violation(self, fact: Fact) -> Iterator[Breach]:
        self._violations.setdefault((fact.node or "", fact.daemon), []).append(fact)
        return iter(())

    def ready(self, fact: Fact) -> Iterator[Breach]:
        self._ready.add((fact.node or "", fact.daemon))
        return iter(())

    def exiting(self, fact: Fact) -> Iterator[Breach]:
        at = (fact.node or "", fact.daemon)
        self._exiting.add(at)
        if at not in self._ready:
            return  # it cannot talk to the running cluster, says so, and has never served anybody
        cause = fact.text("cause")
        for violation in self._violations.get(at, ()):
            if any(word and word in cause for word in (violation.text("cause"), violation.text("peer"))):
                yield self.breach(
                    f"{fact.daemon} on {fact.node} exits over a violation: {cause}", violation.order, fact.order
                )
                return

    def ended(self, fact: Fact) -> Iterator[Breach]:
        at = (fact.node or "", fact.daemon)
        violations = self._violations.get(at)
        if violations and at not in self._exiting:
            last = violations[-1]
            yield self.breach(
                f"{fact.daemon} on {fact.node} ended with code {fact.number('code')} after a violation by "
                f"{last.text('peer')}",
                last.order,
                fact.order,
            )
        yield from self.over(fact)

    def over(self, fact: Fact) -> Iterator[Breach]:
        node, daemon = fact.node or "", fact.daemon
        self._violations.pop((node, daemon), None)
        self._exiting.discard((node, daemon))
        self._ready.discard((node, daemon))
        self._locks = {key: order for key, order in self._locks.items() if key[0] != node}
        if daemon == OCFS2:
            for key in [key for key in self._mounts if key[0] == node]:
                del self._mounts[key]
        return iter(())

    def mount(self, fact: Fact) -> Iterator[Breach]:
        self._mounts[fact.node or "", fact.fs, fact.text("service")] += 1
        return iter(())

    def mount_answered(self, fact: Fact) -> Iterator[Breach]:
        key = (fact.node or "", fact.fs, fact.text("service"))
        self._mounts[key] = max(0, self._mounts[key] - 1)
        return iter(())

    def client_lost(self, fact: Fact) -> Iterator[Breach]:
        for key, count in self._mounts.items():
            if count > 0 and key[:2] == (fact.node, fact.fs):
                self._mounts[key] -= 1
                break
        return iter(())

    def lock(self, fact: Fact) -> Iterator[Breach]:
        self._locks[fact.node or "", fact.number("number"), fact.number("request")] = fact.order
        return iter(())

    def lock_answered(self, fact: Fact) -> Iterator[Breach]:
        self._locks.pop((fact.node or "", fact.number("number"), fact.number("request")), None)
        return iter(())

    def at_rest(self) -> Iterator[Breach]:
        for (name, fs, _), count in self._mounts.items():
            if count > 0 and self._answers(name, OCFS2):
                yield self.breach(f"at rest {count} MOUNT of {fs} on {name} have no answer")
        for (name, number, request), order in self._locks.items():
            if self._answers(name, O2CB):
                yield self.breach(f"at rest LOCK {request} of node number {number} on {name} has no answer", order)

    def _answers(self, name: str, daemon: str) -> bool:
        node = self.world.node(name)
        return not node.dead and not node.paused and node.daemon_up(daemon) is not None


class OnlyRoot(Rule):
    """Law 14: nothing is granted to another uid than root's (in a sandbox: its owner's).

    An answer does not name its client; it is laid to another uid only when no root client waits for the same. A name
    taken is told with its holder, and the incarnation that found it so is never ready. Judged elsewhere: that our tools
    check the server's uid (tests of the tools).
    """

    law = 14
    title = "only root changes anything, and only root is believed"

    def hears(self) -> Mapping[Key, Hearing]:
        self._asking: dict[tuple[str, str, str, str], list[tuple[int, int]]] = {}
        self._taken: dict[At, int] = {}
        return {
            (_D, Event.MOUNT_ASKED): self.asked,
            (_D, Event.UNMOUNT_ASKED): self.asked,
            (_D, Event.MOUNT_ANSWERED): self.answered,
            (_D, Event.UNMOUNT_ANSWERED): self.answered,
            (_D, Event.ACKNOWLEDGED): self.acknowledged,
            (_D, Event.NAME_TAKEN): self.taken,
            (_D, Event.READY): self.ready,
            (_D, Event.STARTING): self.starting,
        }

    def _root(self, uid: int) -> bool:
        return uid in (0, self.world.owner)

    def _key(self, fact: Fact) -> tuple[str, str, str, str]:
        return (fact.node or "", fact.fs, fact.text("service"), fact.kind.split("_", maxsplit=1)[0])

    def asked(self, fact: Fact) -> Iterator[Breach]:
        self._asking.setdefault(self._key(fact), []).append((fact.number("uid"), fact.order))
        return iter(())

    def answered(self, fact: Fact) -> Iterator[Breach]:
        asking = self._asking.get(self._key(fact))
        if not asking:
            return
        granted = not fact.number("code")
        it = next((a for a in asking if self._root(a[0]) is granted), asking[0])
        asking.remove(it)
        if granted and not self._root(it[0]):
            yield self.breach(
                f"{fact.node} grants uid {it[0]} what is root's: {fact.kind} 0 for {fact.fs}", it[1], fact.order
            )

    def acknowledged(self, fact: Fact) -> Iterator[Breach]:
        if not self._root(fact.number("uid")):
            yield self.breach(
                f"{fact.node} believes uid {fact.number('uid')} that {fact.text('life')} is off", fact.order
            )

    def taken(self, fact: Fact) -> Iterator[Breach]:
        self._taken[fact.node or "", fact.daemon] = fact.order
        if not fact.text("pid") and not fact.text("program"):
            yield self.breach(
                f"{fact.daemon} on {fact.node} finds {fact.text('socket')} taken, and not by whom", fact.order
            )

    def ready(self, fact: Fact) -> Iterator[Breach]:
        order = self._taken.get((fact.node or "", fact.daemon))
        if order is not None:
            yield self.breach(f"{fact.daemon} on {fact.node} is ready although its name is taken", order, fact.order)

    def starting(self, fact: Fact) -> Iterator[Breach]:
        self._taken.pop((fact.node or "", fact.daemon), None)
        self._asking = {
            key: asking for key, asking in self._asking.items() if key[0] != fact.node or fact.daemon != OCFS2
        }
        return iter(())


RULES: tuple[type[Rule], ...] = (KernelDecides, NoInputHurts, OnlyRoot)
