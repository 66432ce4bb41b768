"""Stories that break laws 12 to 14."""

from libo2cb.events import Event
from tests.laws.history import O2CB, OCFS2, Kernel, Process
from tests.laws.stories.cluster import F, G, Story, Telling, answered_alone, mounted_pair


def leaves_while_mounted() -> Story:
    s = mounted_pair()
    s.say("n1", OCFS2, Event.LEFT, fs=F, life=s.life(1))
    return s


def unmount_refused_while_mounted() -> Story:
    s = mounted_pair()
    s.ask(1, Event.UNMOUNT_ASKED, uid=0)
    s.ask(1, Event.UNMOUNT_ANSWERED, code=16)
    return s


def kept_for_a_lost_client() -> Story:
    s = answered_alone()
    s.ask(1, Event.CLIENT_LOST, cause="closed")
    return s


def kept_after_mount_gone() -> Story:
    s = mounted_pair()
    s.unmounted(1)
    return s


def kept_after_failed_mount() -> Story:
    s = mounted_pair()
    s.kernel("n1", Kernel.MAKE_REGION, fs=G, errno=0)
    s.ask(1, Event.MOUNT_ASKED, G, uid=0)
    s.link(1, 1, G)
    s.start(1, s.lives(1), fs=G)
    s.ask(1, Event.MOUNT_ANSWERED, G, code=0)
    s.ask(1, Event.MOUNT_RESULT, G, code=5)
    return s


def violation_ends_daemon() -> Story:
    s = Story()
    s.cluster(1)
    s.say("n1", OCFS2, Event.READY, cause="the groups of this node are known")
    s.say("n1", OCFS2, Event.VIOLATION, peer="uid 1000 pid 77", cause="no such word: XYZZY")
    s.say("n1", OCFS2, Event.EXITING, cause="unhandled: no such word: XYZZY")
    return s


def violation_crashes_daemon() -> Story:
    s = Story()
    s.cluster(1)
    s.say("n1", OCFS2, Event.VIOLATION, peer="uid 1000 pid 77", cause="no such word")
    s.process("n1", OCFS2, Process.ENDED, code=1)
    return s


def silent_mount() -> Story:
    s = Story()
    s.cluster(1)
    s.ask(1, Event.MOUNT_ASKED, uid=0)
    return s


def silent_lock() -> Story:
    s = Story()
    s.cluster(1)
    s.say("n1", O2CB, Event.LOCK_ASKED, number=1, address="10.0.0.1", port=7777, request=4)
    return s


def stranger_mounts() -> Story:
    s = mounted_pair()
    s.ask(1, Event.UNMOUNT_ASKED, uid=1000)
    s.ask(1, Event.UNMOUNT_ANSWERED, code=0)
    return s


def stranger_acknowledges() -> Story:
    s = mounted_pair()
    s.say("n1", OCFS2, Event.ACKNOWLEDGED, life=s.life(2), uid=1000)
    return s


def ready_without_name() -> Story:
    s = Story()
    s.boot(1)
    s.up(1)
    s.say("n1", OCFS2, Event.NAME_TAKEN, socket="@ocfs2_controld_sock", pid=77, program="evil")
    s.say("n1", OCFS2, Event.READY, cause="")
    return s


def taken_by_nobody() -> Story:
    s = Story()
    s.boot(1)
    s.up(1)
    s.say("n1", OCFS2, Event.NAME_TAKEN, socket="@ocfs2_controld_sock")
    return s


def stranger_gets_a_mount() -> Story:
    s = mounted_pair()
    s.ask(1, Event.MOUNT_ASKED, G, uid=1000)
    s.ask(1, Event.MOUNT_ANSWERED, G, code=0)
    return s


BREAKS: dict[int, tuple[Telling, ...]] = {
    12: (
        leaves_while_mounted,
        unmount_refused_while_mounted,
        kept_for_a_lost_client,
        kept_after_mount_gone,
        kept_after_failed_mount,
    ),
    13: (violation_ends_daemon, violation_crashes_daemon, silent_mount, silent_lock),
    14: (stranger_mounts, stranger_gets_a_mount, stranger_acknowledges, ready_without_name, taken_by_nobody),
}
"""By law: stories that break it."""
