"""Stories that break laws 6 to 9."""

from libo2cb.events import Event
from tests.laws.history import OCFS2, Kernel, Process
from tests.laws.stories.cluster import F, G, Story, Telling, mounted_pair, mounted_three


def start_without_stop() -> Story:
    s = mounted_three()
    s.off(3)
    s.ring = "1.8"
    for n in (1, 2):
        s.told(n, 1, 2, left=(3,))
    s.fenced(3, 1)
    s.start(1, s.lives(1, 2), s.lives(3))
    return s


def start_without_quorum() -> Story:
    s = mounted_pair()
    s.ring = "1.8"
    for n in (1, 2):
        s.told(n, n, quorate=False, left=(3 - n,))
        s.stop(n)
    s.start(1, s.lives(1, 2))
    return s


def start_in_stale_ring() -> Story:
    s = mounted_pair()
    for n in (1, 2):
        s.stop(n)
    s.ring = "1.8"
    s.start(1, s.lives(1, 2))
    return s


def start_before_fence() -> Story:
    s = mounted_three()
    s.ring = "1.8"
    for n in (1, 2):
        s.told(n, 1, 2, left=(3,))
        s.stop(n)
    s.unmounted(3)
    s.start(1, s.lives(1, 2), s.lives(3))
    return s


def start_before_all_stopped() -> Story:
    s = mounted_three()
    s.lose(3, 1)
    s.told(2, 1, 2, left=(3,))
    s.fenced(3, 1)
    s.start(1, s.lives(1, 2), s.lives(3))
    s.stop(2)
    return s


def no_stop_without_quorum() -> Story:
    s = mounted_pair()
    s.told(1, 1, quorate=False, left=(2,))
    s.finish(1, s.lives(1, 2))
    return s


def never_stops() -> Story:
    s = mounted_pair()
    s.say("n1", OCFS2, Event.ENGINE_DOWN, cause="gone")
    return s


def never_stops_after_a_loss() -> Story:
    s = mounted_pair()
    s.say("n1", OCFS2, Event.LIFE_LOST, fs=F, life=s.life(2), cause="NODEDOWN")
    return s


def finish_after_stop() -> Story:
    s = mounted_pair()
    for n in (1, 2):
        s.stop(n)
    s.start(1, s.lives(1, 2), count=2)
    s.start(2, s.lives(1, 2), count=2)
    s.stop(1)
    s.finish(1, s.lives(1, 2), count=2)
    return s


def finish_after_loss() -> Story:
    s = mounted_pair()
    for n in (1, 2):
        s.stop(n)
    s.start(1, s.lives(1, 2), count=2)
    s.start(2, s.lives(1, 2), count=2)
    s.say("n1", OCFS2, Event.LIFE_LOST, fs=F, life=s.life(2), cause="NODEDOWN")
    s.finish(1, s.lives(1, 2), count=2)
    return s


def finish_of_older() -> Story:
    s = mounted_pair()
    for n in (1, 2):
        s.stop(n)
        s.start(n, s.lives(1, 2), count=2)
    s.finish(1, s.lives(1, 2), count=1)
    return s


def finish_before_all() -> Story:
    s = mounted_pair()
    for n in (1, 2):
        s.stop(n)
    s.start(1, s.lives(1, 2), count=2)
    s.finish(1, s.lives(1, 2), count=2)
    s.start(2, s.lives(1, 2), count=2)
    return s


def start_of_older() -> Story:
    s = mounted_pair()
    for n in (1, 2):
        s.stop(n)
    s.start(1, s.lives(1, 2), count=0)
    return s


def start_twice() -> Story:
    s = mounted_pair()
    for n in (1, 2):
        s.stop(n)
        s.start(n, s.lives(1, 2), count=2)
    s.start(1, s.lives(1, 2), count=2)
    return s


def finish_of_none() -> Story:
    s = mounted_pair()
    s.finish(1, s.lives(1, 2), fs=G)
    return s


def daemon_death_unlinks() -> Story:
    s = mounted_pair()
    s.process("n2", OCFS2, Process.KILLED)
    s.say("n1", OCFS2, Event.AWAY, life=s.life(2))
    s.stop(1)
    s.unlink(1, 2)
    return s


def starts_with_the_away() -> Story:
    s = mounted_pair()
    s.process("n2", OCFS2, Process.KILLED)
    s.say("n1", OCFS2, Event.AWAY, life=s.life(2))
    s.stop(1)
    s.start(1, s.lives(1, 2), count=2)
    return s


def recovered_goes_on() -> Story:
    s = mounted_three()
    s.ring = "1.8"
    for n in (1, 2):
        s.told(n, 1, 2, left=(3,))
        s.stop(n)
    s.fenced(3, 1, "assumed")
    for n in (1, 2):
        s.start(n, s.lives(1, 2), s.lives(3))
    s.ring = "1.12"
    s.told(3, 1, 2, 3)
    s.stop(3)
    s.start(3, s.lives(1, 2, 3))
    return s


def put_out_goes_on() -> Story:
    s = mounted_pair()
    s.say("n1", OCFS2, Event.PUT_OUT, cause="recovered by n2")
    s.unlink(1, 2)
    return s


def put_out_links() -> Story:
    s = Story()
    s.cluster(1)
    s.kernel("n1", Kernel.MAKE_REGION, fs=F, errno=0)
    s.say("n1", OCFS2, Event.PUT_OUT, cause="recovered by n2")
    s.link(1, 1)
    return s


def put_out_finishes() -> Story:
    s = mounted_pair()
    s.say("n1", OCFS2, Event.PUT_OUT, cause="recovered by n2")
    s.finish(1, s.lives(1, 2))
    return s


def put_out_leaves() -> Story:
    s = mounted_pair()
    s.say("n1", OCFS2, Event.PUT_OUT, cause="recovered by n2")
    s.say("n1", OCFS2, Event.LEFT, fs=F, life=s.life(1))
    return s


def put_out_answers() -> Story:
    s = mounted_pair()
    s.say("n1", OCFS2, Event.PUT_OUT, cause="recovered by n2")
    s.ask(1, Event.MOUNT_ANSWERED, code=0)
    return s


BREAKS: dict[int, tuple[Telling, ...]] = {
    6: (
        start_without_stop,
        start_without_quorum,
        start_in_stale_ring,
        start_before_fence,
        start_before_all_stopped,
        no_stop_without_quorum,
        never_stops,
        never_stops_after_a_loss,
    ),
    7: (
        finish_after_stop,
        finish_after_loss,
        finish_of_older,
        finish_before_all,
        start_of_older,
        start_twice,
        finish_of_none,
    ),
    8: (daemon_death_unlinks, starts_with_the_away),
    9: (
        recovered_goes_on,
        put_out_goes_on,
        put_out_links,
        put_out_finishes,
        put_out_leaves,
        put_out_answers,
    ),
}
"""By law: stories that break it."""
