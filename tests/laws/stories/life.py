"""Stories that break laws 15 to 18, 21 and 22."""

from libo2cb.events import Event
from tests.laws.history import O2CB, OCFS2, Kernel, Process
from tests.laws.stories.cluster import SECOND, F, Story, Telling, mounted_pair


def exits_while_mounted() -> Story:
    s = mounted_pair()
    s.say("n1", OCFS2, Event.SIGNAL_REFUSED, signal="SIGTERM", cause="a group is live")
    s.say("n1", OCFS2, Event.EXITING, cause="SIGTERM")
    return s


def ends_while_mounted() -> Story:
    s = mounted_pair()
    s.process("n1", O2CB, Process.ENDED, code=0)
    return s


def allows_shutdown() -> Story:
    s = mounted_pair()
    s.say("n1", OCFS2, Event.SHUTDOWN_ASKED, question=1)
    s.say("n1", OCFS2, Event.SHUTDOWN_ANSWERED, question=1, allow=True)
    return s


def silent_about_shutdown() -> Story:
    s = mounted_pair()
    s.say("n1", OCFS2, Event.SHUTDOWN_ASKED, question=1)
    return s


def silent_about_signal() -> Story:
    s = mounted_pair()
    s.process("n1", OCFS2, Process.SIGNALLED, signal="SIGTERM")
    return s


def refuses_without_reason() -> Story:
    s = mounted_pair()
    s.say("n1", OCFS2, Event.SIGNAL_REFUSED, signal="SIGTERM")
    return s


def remembers_signal() -> Story:
    s = Story()
    s.cluster(1)
    s.process("n1", OCFS2, Process.SIGNALLED, signal="SIGTERM")
    s.say("n1", OCFS2, Event.SIGNAL_REFUSED, signal="SIGTERM", cause="a group is live")
    s.say("n1", OCFS2, Event.EXITING, cause="SIGTERM")
    return s


def ready_too_early() -> Story:
    s = Story()
    s.boot(1)
    s.up(1)
    s.told(1, 1, 2)
    s.make(1, 1)
    s.say("n1", O2CB, Event.READY, cause="")
    return s


def ready_without_itself() -> Story:
    s = Story()
    s.boot(1)
    s.up(1)
    s.told(1, 1)
    s.say("n1", O2CB, Event.READY, cause="")
    return s


def ready_unknowing() -> Story:
    s = Story()
    s.boot(1)
    s.up(1)
    s.make(1, 1)
    s.say("n1", O2CB, Event.READY, cause="")
    return s


def ready_with_wrong_address() -> Story:
    s = Story()
    s.boot(1)
    s.up(1)
    s.told(1, 1, 2)
    s.say("n1", O2CB, Event.NODE_WANTED, number=2, name="n2", address="10.0.0.22", port=7777)
    s.make(1, 1)
    s.make(1, 2)
    s.say("n1", O2CB, Event.READY, cause="")
    return s


def ready_with_queue() -> Story:
    s = Story()
    s.boot(1)
    s.up(1)
    s.told(1, 1, 2)
    s.make(1, 1)
    s.say("n1", O2CB, Event.CHANGE_QUEUED, number=2, name="n2", links=[F], cause="its old address is linked")
    s.say("n1", O2CB, Event.READY, cause="")
    return s


def mount_waits(word: Event | None, **fields: object) -> Story:
    s = Story()
    s.mono = 0
    s.cluster(1)
    s.ask(1, Event.MOUNT_ASKED, uid=0)
    if word:
        s.mono = 6 * SECOND
        s.say("n1", OCFS2, word, **fields)
    s.mono = 40 * SECOND
    s.ask(1, Event.MOUNT_ANSWERED, code=110, cause="deadline")
    return s


def mount_waits_silently() -> Story:
    return mount_waits(None)


def waits_for_nothing_named() -> Story:
    return mount_waits(Event.WAITING, what="MOUNT", seconds=5)


def stopped_silently() -> Story:
    s = mounted_pair()
    s.mono = 0
    s.stop(1)
    s.mono = 20 * SECOND
    s.say("n2", O2CB, Event.CHANGE_CANCELLED, number=9)
    return s


def mount_waits_aloud() -> Story:
    return mount_waits(Event.WAITING, what="MOUNT", seconds=5, cause="n2 has not stopped; it is fenced in 24 s")


def unmount_unanswered() -> Story:
    s = mounted_pair()
    s.ask(1, Event.UNMOUNT_ASKED, uid=0)
    return s


def never_leaves() -> Story:
    s = mounted_pair()
    s.told(1, 1, quorate=False, left=(2,))
    s.stop(1)
    s.unmounted(1)
    s.ask(1, Event.UNMOUNT_ASKED, uid=0)
    s.ask(1, Event.UNMOUNT_ANSWERED, code=0)
    return s


def resets_another() -> Story:
    s = mounted_pair()
    s.kernel("n1", Kernel.POWER_OFF, target="n2", why="put out")
    return s


def reset_that_does_nothing() -> Story:
    s = mounted_pair()
    s.kernel("n1", Kernel.POWER_OFF, why="put out", errno=0)
    return s


def resets_itself() -> Story:
    s = mounted_pair()
    s.say("n1", OCFS2, Event.PUT_OUT, cause="recovered by n2")
    s.kernel("n1", Kernel.POWER_OFF, why="put out", errno=0)
    s.off(1)
    return s


def loop_blocked() -> Story:
    s = Story()
    s.cluster(1)
    s.say("n1", OCFS2, Event.SURPRISE, state="running", cause="the event loop was blocked for 2.1 s in open(2)")
    return s


def slow_callback() -> Story:
    s = Story()
    s.cluster(1)
    s.say("n1", OCFS2, Event.SURPRISE, state="asyncio", cause="Executing <Handle f()> took 0.310 seconds")
    return s


def imports_late() -> Story:
    s = Story()
    s.cluster(1)
    s.say("n1", OCFS2, Event.SURPRISE, state="running", cause="module decimal was imported after ready")
    return s


def change_queued_silently() -> Story:
    s = Story()
    s.mono = 0
    s.cluster(1)
    s.say("n1", O2CB, Event.CHANGE_QUEUED, number=2, name="n2", links=[F], cause="linked")
    s.mono = 20 * SECOND
    s.say("n1", O2CB, Event.NODE_REMOVED, number=2, name="n2")
    return s


def blocked_by_a_wait() -> Story:
    s = Story()
    s.cluster(1)
    s.say("n1", OCFS2, Event.WAITING, what="MOUNT", seconds=5, cause="the loop was blocked")
    return s


BREAKS: dict[int, tuple[Telling, ...]] = {
    15: (
        exits_while_mounted,
        ends_while_mounted,
        allows_shutdown,
        silent_about_shutdown,
        silent_about_signal,
        refuses_without_reason,
        remembers_signal,
    ),
    16: (ready_too_early, ready_without_itself, ready_unknowing, ready_with_wrong_address),
    17: (mount_waits_silently, change_queued_silently, waits_for_nothing_named, stopped_silently),
    18: (unmount_unanswered, never_leaves),
    21: (resets_another, reset_that_does_nothing),
    22: (loop_blocked, blocked_by_a_wait, slow_callback, imports_late),
}
"""By law: stories that break it."""
