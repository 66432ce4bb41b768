"""Stories that break laws 10 and 11."""

from libo2cb.events import Event
from tests.laws.history import OCFS2, Kernel
from tests.laws.stories.cluster import F, Story, Telling, joining_pair, mounted_pair, mounted_three


def answered_before_linked() -> Story:
    s = joining_pair()
    s.link(2, 1)
    s.link(2, 2)
    s.stop(1)
    s.start(2, s.lives(1, 2), count=2)
    s.ask(2, Event.MOUNT_ANSWERED, code=0)
    return s


def answered_before_it_links() -> Story:
    s = joining_pair()
    s.link(2, 2)
    s.link(1, 2)
    s.stop(1)
    s.start(2, s.lives(1, 2), count=2)
    s.start(1, s.lives(1, 2), count=2)
    s.ask(2, Event.MOUNT_ANSWERED, code=0)
    return s


def answered_without_start() -> Story:
    s = Story()
    s.cluster(1)
    s.ask(1, Event.MOUNT_ASKED, uid=0)
    s.kernel("n1", Kernel.MAKE_REGION, fs=F, errno=0)
    s.link(1, 1)
    s.ask(1, Event.MOUNT_ANSWERED, code=0)
    return s


def writers_without_links() -> Story:
    s = Story()
    s.cluster(1, 2)
    s.mount_all(1)
    s.mounted(2)
    return s


def unmount_waits() -> Story:
    s = mounted_three()
    s.lose(3, 1, 2)
    s.unmounted(1)
    s.ask(1, Event.UNMOUNT_ASKED, uid=0)
    s.fenced(3, 1)
    s.recover(3, 1, 2)
    s.ask(1, Event.UNMOUNT_ANSWERED, code=0)
    return s


def fenced_alive() -> Story:
    s = mounted_pair()
    s.fenced(2, 1, "assumed")
    return s


def expelled_counts_as_fenced() -> Story:
    s = mounted_pair()
    s.say("n1", OCFS2, Event.EXPELLED, peer="n2", cause="owes an answer")
    s.say("n1", OCFS2, Event.LIFE_FENCED, life="2/unknown", cause="put out of the engine")
    return s


def writer_left_out() -> Story:
    s = mounted_pair()
    s.ring = "1.8"
    s.told(1, 1, left=(2,))
    s.stop(1)
    s.start(1, s.lives(1))
    return s


BREAKS: dict[int, tuple[Telling, ...]] = {
    10: (
        answered_before_linked,
        answered_before_it_links,
        answered_without_start,
        writers_without_links,
        unmount_waits,
    ),
    11: (fenced_alive, expelled_counts_as_fenced, writer_left_out),
}
"""By law: stories that break it."""
