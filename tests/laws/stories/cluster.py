"""A cluster whose story is told fact by fact."""

from collections.abc import Callable

from libo2cb.events import Event
from tests.laws.history import O2CB, OCFS2, Client, Engine, HistoryBuilder, Kernel, Process

F = "7B61593D"
G = "94A94C12"
SECOND = 1_000_000_000


class Story(HistoryBuilder):
    """A cluster n1, n2, n3 told fact by fact; each method is one thing that happens, as real runs record it."""

    def __init__(self) -> None:
        super().__init__()
        self.boots = {1: 1, 2: 1, 3: 1}
        self.ring = "1.4"

    def life(self, n: int) -> str:
        return f"{n}/boot-{n}-{self.boots[n]}"

    def lives(self, *numbers: int) -> list[str]:
        return [self.life(n) for n in numbers]

    def boot(self, n: int, address: str | None = None) -> None:
        self.engine(
            f"n{n}", Engine.BOOTED, number=n, boot=f"boot-{n}-{self.boots[n]}", address=address or f"10.0.0.{n}"
        )

    def off(self, n: int) -> None:
        self.engine(f"n{n}", Engine.DIED, cause="power off")

    def back(self, n: int, address: str | None = None) -> None:
        self.boots[n] += 1
        self.boot(n, address)

    def up(self, n: int, *daemons: str) -> None:
        for daemon in daemons or (O2CB, OCFS2):
            self.process(f"n{n}", daemon, Process.STARTED, pid=100 + n)
            self.say(f"n{n}", daemon, Event.STARTING, pid=100 + n)
            self.say(f"n{n}", daemon, Event.ENGINE_UP, cluster="c", local=n)

    def told(self, n: int, *members: int, quorate: bool = True, left: tuple[int, ...] = ()) -> None:
        fields = {"ring": self.ring, "quorate": quorate, "members": list(members), "joined": [], "left": list(left)}
        self.engine(f"n{n}", Engine.MEMBERS, **fields)
        for daemon in (O2CB, OCFS2):
            self.say(f"n{n}", daemon, Event.MEMBERS, **fields)

    def configured(self, n: int, *numbers: int) -> None:
        """The engine tells n the configuration."""
        self.engine(f"n{n}", Engine.CONFIGURED, nodes=[f"{m}=10.0.0.{m}" for m in numbers])

    def attribute(self, n: int, name: str, attribute: str, value: object, errno: int = 0) -> None:
        self.kernel(f"n{n}", Kernel.SET_NODE, name=name, attribute=attribute, value=value, errno=errno)

    def make(self, n: int, m: int, address: str | None = None) -> None:
        self.kernel(f"n{n}", Kernel.MAKE_NODE, name=f"n{m}", errno=0)
        self.attribute(n, f"n{m}", "ipv4_port", 7777)
        self.attribute(n, f"n{m}", "ipv4_address", address or f"10.0.0.{m}")
        self.attribute(n, f"n{m}", "num", m)
        if n == m:
            self.attribute(n, f"n{m}", "local", 1)

    def rmdir(self, n: int, m: int, errno: int = 0) -> None:
        self.kernel(f"n{n}", Kernel.REMOVE_NODE, name=f"n{m}", errno=errno)

    def link(self, n: int, m: int, fs: str = F) -> None:
        self.kernel(f"n{n}", Kernel.LINK, fs=fs, name=f"n{m}", errno=0)
        self.say(f"n{n}", OCFS2, Event.LINKED, fs=fs, number=m, name=f"n{m}", life=self.life(m))

    def unlink(self, n: int, m: int, fs: str = F) -> None:
        self.kernel(f"n{n}", Kernel.UNLINK, fs=fs, name=f"n{m}", errno=0)

    def stop(self, n: int, fs: str = F) -> None:
        self.say(f"n{n}", OCFS2, Event.GROUP_STOPPED, fs=fs, cause="a member is lost")

    def start(self, n: int, members: list[str], lost: list[str] | None = None, count: int = 1, fs: str = F) -> None:
        self.say(
            f"n{n}",
            OCFS2,
            Event.GROUP_STARTED,
            fs=fs,
            start=f"{self.ring}#{count}",
            members=members,
            lost=lost or [],
        )

    def finish(self, n: int, members: list[str], count: int = 1, fs: str = F) -> None:
        self.say(f"n{n}", OCFS2, Event.GROUP_FINISHED, fs=fs, start=f"{self.ring}#{count}", members=members)

    def ask(self, n: int, what: Event, fs: str = F, **fields: object) -> None:
        self.say(f"n{n}", OCFS2, what, fs=fs, service="ocfs2", **fields)

    def mounted(self, n: int, fs: str = F) -> None:
        self.client(f"n{n}", Client.MOUNTED, fs)

    def unmounted(self, n: int, fs: str = F) -> None:
        self.client(f"n{n}", Client.UNMOUNTED, fs)

    def cluster(self, *numbers: int) -> None:
        """All nodes up, their trees complete, the daemons ready."""
        for n in numbers:
            self.boot(n)
        for n in numbers:
            self.up(n)
            self.told(n, *numbers)
            for m in numbers:
                self.make(n, m)
            self.say(f"n{n}", O2CB, Event.READY, cause="the tree stands")

    def mount_all(self, *numbers: int, fs: str = F) -> None:
        """All these nodes mount a filesystem in one START."""
        for n in numbers:
            self.ask(n, Event.MOUNT_ASKED, fs, uid=0, pid=1)
            self.kernel(f"n{n}", Kernel.MAKE_REGION, fs=fs, errno=0)
            for m in numbers:
                self.link(n, m, fs)
            self.start(n, self.lives(*numbers), fs=fs)
        for n in numbers:
            self.finish(n, self.lives(*numbers), fs=fs)
            self.ask(n, Event.MOUNT_ANSWERED, fs, code=0)
        for n in numbers:
            self.mounted(n, fs)
            self.ask(n, Event.MOUNT_RESULT, fs, code=0)

    def lose(self, n: int, *survivors: int) -> None:
        """Node n loses its power; the survivors hear of it and stop."""
        self.off(n)
        self.ring = f"1.{int(self.ring.split('.')[1]) + 4}"
        for s in survivors:
            self.told(s, *survivors, left=(n,))
            self.say(f"n{s}", OCFS2, Event.LIFE_LOST, fs=F, life=self.life(n), cause="NODEDOWN")
            self.stop(s)

    def fenced(self, n: int, by: int, cause: str = "power-off confirmed") -> None:
        self.say(f"n{by}", OCFS2, Event.LIFE_FENCED, life=self.life(n), cause=cause)

    def recover(self, n: int, *survivors: int, count: int = 1) -> None:
        for s in survivors:
            self.start(s, self.lives(*survivors), self.lives(n), count)
            self.unlink(s, n)
        for s in survivors:
            self.finish(s, self.lives(*survivors), count)
            self.rmdir(s, n)


def mounted_pair() -> Story:
    s = Story()
    s.cluster(1, 2)
    s.mount_all(1, 2)
    return s


def mounted_three() -> Story:
    s = Story()
    s.cluster(1, 2, 3)
    s.mount_all(1, 2, 3)
    return s


def joining_pair() -> Story:
    """n1 has the filesystem, and n2 has asked for it and made its region; nothing is stopped or linked for it yet."""
    s = Story()
    s.cluster(1, 2)
    s.mount_all(1)
    s.ask(2, Event.MOUNT_ASKED, uid=0)
    s.kernel("n2", Kernel.MAKE_REGION, fs=F, errno=0)
    return s


def answered_alone() -> Story:
    """The only node has joined and told its client to go on."""
    s = Story()
    s.cluster(1)
    s.ask(1, Event.MOUNT_ASKED, uid=0)
    s.kernel("n1", Kernel.MAKE_REGION, fs=F, errno=0)
    s.link(1, 1)
    s.start(1, s.lives(1))
    s.finish(1, s.lives(1))
    s.ask(1, Event.MOUNT_ANSWERED, code=0)
    return s


Telling = Callable[[], Story]
