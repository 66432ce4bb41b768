"""Stories that break laws 1 to 5."""

from libo2cb.events import Event
from tests.laws.history import O2CB, OCFS2, Kernel, Process
from tests.laws.stories.cluster import F, Story, Telling, mounted_pair, mounted_three


def rmdir_under_link() -> Story:
    s = mounted_pair()
    s.rmdir(1, 2, errno=16)
    return s


def write_under_link() -> Story:
    s = mounted_pair()
    s.attribute(1, "n2", "ipv4_address", "10.0.0.9", errno=16)
    return s


def classic_pair() -> Story:
    """n1 and n2 with disk heartbeat: both configured, F mounted on both."""
    s = Story()
    for n in (1, 2):
        s.boot(n)
    s.process("n1", O2CB, Process.STARTED, pid=101)
    s.say("n1", O2CB, Event.STARTING, pid=101, driver="classic")
    s.configured(1, 1, 2)
    s.told(1, 1, 2)
    s.make(1, 1)
    s.make(1, 2)
    s.kernel("n1", Kernel.MAKE_REGION, fs=F, errno=0)
    s.mounted(1)
    s.kernel("n1", Kernel.BEATS, fs=F, number=2)
    return s


def classic_removal_of_a_beating_node() -> Story:
    """n2 has left the configuration, and its connection is cut; on the disk it is seen to write on."""
    s = classic_pair()
    s.configured(1, 1)
    s.rmdir(1, 2)
    return s


def classic_removal_of_a_dead_but_configured_node() -> Story:
    s = classic_pair()
    s.kernel("n1", Kernel.SILENT, fs=F, number=2)
    s.told(1, 1, left=(2,))
    s.rmdir(1, 2)
    return s


def classic_mkdir_overtaken() -> Story:
    """n2 is removed and comes back, and leaves the configuration again while its mkdir runs."""
    s = classic_pair()
    s.kernel("n1", Kernel.SILENT, fs=F, number=2)
    s.configured(1, 1)
    s.say("n1", O2CB, Event.NODE_UNWANTED, number=2)
    s.rmdir(1, 2)
    s.say("n1", O2CB, Event.NODE_REMOVED, number=2, name="n2", address="10.0.0.2", port=7777)
    s.configured(1, 1, 2)
    s.say("n1", O2CB, Event.NODE_WANTED, number=2, name="n2", address="10.0.0.2", port=7777)
    s.configured(1, 1)
    s.say("n1", O2CB, Event.NODE_UNWANTED, number=2)
    s.make(1, 2)
    return s


def classic_unwanted_while_made() -> Story:
    """And n2 is back while its rmdir, the next call, runs."""
    s = classic_mkdir_overtaken()
    s.say("n1", O2CB, Event.NODE_MADE, number=2, name="n2", address="10.0.0.2", port=7777)
    s.configured(1, 1, 2)
    s.say("n1", O2CB, Event.NODE_WANTED, number=2, name="n2", address="10.0.0.2", port=7777)
    return s


def classic_second_removal_of_a_returned_node() -> Story:
    """The rmdir that n2's return overtook is let pass; n2 is made again, and nothing is under way any more."""
    s = classic_unwanted_while_made()
    s.rmdir(1, 2)
    s.say("n1", O2CB, Event.NODE_REMOVED, number=2, name="n2", address="10.0.0.2", port=7777)
    s.make(1, 2)
    s.say("n1", O2CB, Event.NODE_MADE, number=2, name="n2", address="10.0.0.2", port=7777)
    s.rmdir(1, 2)
    return s


def classic_removal_after_it_was_made_and_wanted() -> Story:
    """n2 is back before its mkdir is answered, so no rmdir of it is handed out; one comes all the same."""
    s = classic_pair()
    s.kernel("n1", Kernel.SILENT, fs=F, number=2)
    s.configured(1, 1)
    s.rmdir(1, 2)
    s.make(1, 2)
    s.configured(1, 1, 2)
    s.say("n1", O2CB, Event.NODE_WANTED, number=2, name="n2", address="10.0.0.2", port=7777)
    s.say("n1", O2CB, Event.NODE_MADE, number=2, name="n2", address="10.0.0.2", port=7777)
    s.rmdir(1, 2)
    return s


def classic_removal_after_its_change_was_cancelled() -> Story:
    """n2 is back before it falls silent; what was queued is cancelled, and its rmdir comes all the same."""
    s = classic_pair()
    s.configured(1, 1)
    s.say("n1", O2CB, Event.NODE_UNWANTED, number=2)
    s.say("n1", O2CB, Event.CHANGE_QUEUED, number=2, name="n2", links=[F], cause="it beats")
    s.configured(1, 1, 2)
    s.say("n1", O2CB, Event.NODE_WANTED, number=2, name="n2", address="10.0.0.2", port=7777)
    s.say("n1", O2CB, Event.CHANGE_CANCELLED, number=2)
    s.kernel("n1", Kernel.SILENT, fs=F, number=2)
    s.rmdir(1, 2)
    return s


def classic_forgotten_removal() -> Story:
    """n2 has left the configuration and is silent, and its node stays."""
    s = classic_pair()
    s.kernel("n1", Kernel.SILENT, fs=F, number=2)
    s.configured(1, 1)
    s.told(1, 1, left=(2,))
    return s


def link_to_nothing() -> Story:
    s = mounted_pair()
    s.kernel("n1", Kernel.LINK, fs=F, name="n7", errno=2)
    return s


def link_to_incomplete() -> Story:
    s = mounted_pair()
    s.kernel("n1", Kernel.MAKE_NODE, name="n3", errno=0)
    s.attribute(1, "n3", "ipv4_port", 7777)
    s.kernel("n1", Kernel.LINK, fs=F, name="n3", errno=0)
    return s


def link_before_local() -> Story:
    s = Story()
    s.boot(1)
    s.kernel("n1", Kernel.MAKE_NODE, name="n1", errno=0)
    s.attribute(1, "n1", "ipv4_port", 7777)
    s.attribute(1, "n1", "ipv4_address", "10.0.0.1")
    s.attribute(1, "n1", "num", 1)
    s.kernel("n1", Kernel.MAKE_REGION, fs=F, errno=0)
    s.kernel("n1", Kernel.LINK, fs=F, name="n1", errno=0)
    return s


def number_first() -> Story:
    s = Story()
    s.boot(1)
    s.kernel("n1", Kernel.MAKE_NODE, name="n2", errno=0)
    s.attribute(1, "n2", "num", 2, errno=22)
    return s


def local_first() -> Story:
    s = Story()
    s.boot(1)
    s.kernel("n1", Kernel.MAKE_NODE, name="n1", errno=0)
    s.attribute(1, "n1", "local", 1, errno=22)
    return s


def forgotten_removal() -> Story:
    s = Story()
    s.cluster(1, 2)
    s.off(2)
    s.told(1, 1, left=(2,))
    return s


def forgotten_addition() -> Story:
    s = Story()
    s.cluster(1, 2)
    s.told(1, 1, 2, 3)
    s.told(2, 1, 2)
    return s


def held_by_something_else() -> Story:
    """n2 is off, and something that no link shows keeps its node."""
    s = Story()
    s.cluster(1, 2)
    s.off(2)
    s.kernel("n1", Kernel.HELD, name="n2")
    s.told(1, 1, left=(2,))
    s.rmdir(1, 2, errno=16)
    return s


def forgotten_after_release() -> Story:
    s = held_by_something_else()
    s.kernel("n1", Kernel.RELEASED, name="n2")
    return s


def ebusy_internal() -> Story:
    s = mounted_pair()
    s.say("n1", O2CB, Event.SURPRISE, state="idle", cause="internal failure: rmdir n2: EBUSY")
    return s


def ebusy_ends_the_daemon() -> Story:
    s = Story()
    s.cluster(1)
    s.say("n1", O2CB, Event.EXITING, cause="rmdir n2: Device or resource busy")
    return s


def ebusy_refused_as_internal() -> Story:
    s = Story()
    s.cluster(1)
    s.say("n1", O2CB, Event.NODE_REFUSED, number=2, name="n2", errno=16, cause="internal failure")
    return s


def link_to_strange_address() -> Story:
    s = Story()
    s.boot(1)
    s.boot(2)
    s.kernel("n1", Kernel.MAKE_REGION, fs=F, errno=0)
    s.make(1, 2, "10.0.0.99")
    s.kernel("n1", Kernel.LINK, fs=F, name="n2", errno=0)
    return s


def new_life_on_old_address() -> Story:
    s = Story()
    s.cluster(1, 2)
    s.off(2)
    s.back(2, "10.0.0.22")
    s.kernel("n1", Kernel.MAKE_REGION, fs=F, errno=0)
    s.link(1, 2)
    return s


def old_address_stays() -> Story:
    s = mounted_pair()
    s.off(2)
    s.back(2, "10.0.0.22")
    return s


def restart_tears_down() -> Story:
    s = mounted_pair()
    s.process("n1", OCFS2, Process.KILLED)
    s.up(1, OCFS2)
    s.unlink(1, 2)
    return s


def restart_removes_member() -> Story:
    s = mounted_three()
    s.process("n1", OCFS2, Process.KILLED)
    for n in (1, 2, 3):
        s.unlink(1, n)
    s.rmdir(1, 3)
    return s


def removes_itself() -> Story:
    s = mounted_pair()
    s.unlink(1, 1)
    s.rmdir(1, 1)
    return s


def removes_a_member_whose_removal_was_queued() -> Story:
    """n3 leaves, its removal is queued, and it is back: nothing is under way any more that could be excused."""
    s = Story()
    s.cluster(1, 2, 3)
    s.mount_all(1, 2)
    s.told(1, 1, 2, left=(3,))
    s.say("n1", O2CB, Event.NODE_UNWANTED, number=3)
    s.say("n1", O2CB, Event.CHANGE_QUEUED, number=3, name="n3", links=[], cause="ocfs2_controld holds its lock")
    s.told(1, 1, 2, 3)
    s.say("n1", O2CB, Event.NODE_WANTED, number=3, name="n3", address="10.0.0.3", port=7777)
    s.rmdir(1, 3)
    return s


def removes_a_member_twice() -> Story:
    """The first rmdir was under way when n3 came back; the second was begun after it."""
    s = back_while_its_rmdir_is_under_way()
    s.rmdir(1, 3)
    return s


def removes_a_member_that_was_made_anew() -> Story:
    """n1's rmdir was under way, and cannot be the one that comes after n3 was made."""
    s = Story()
    s.cluster(1, 2)
    s.mount_all(1, 2)
    s.say("n1", O2CB, Event.NODE_UNWANTED, number=3)
    s.boot(3)
    s.told(1, 1, 2, 3)
    s.say("n1", O2CB, Event.NODE_WANTED, number=3, name="n3", address="10.0.0.3", port=7777)
    s.make(1, 3)
    s.say("n1", O2CB, Event.NODE_MADE, number=3, name="n3", address="10.0.0.3", port=7777)
    s.rmdir(1, 3)
    return s


def _unpinned_and_back() -> Story:
    """n3 dies, and its removal is queued behind its link. START takes that away, and n3 is back."""
    s = mounted_three()
    s.lose(3, 1, 2)
    s.say("n1", O2CB, Event.NODE_UNWANTED, number=3)
    s.say("n1", O2CB, Event.CHANGE_QUEUED, number=3, name="n3", links=[F], cause="F links it")
    for survivor in (1, 2):
        s.fenced(3, survivor)
        s.start(survivor, s.lives(1, 2), s.lives(3))
        s.unlink(survivor, 3)
    s.say("n1", O2CB, Event.CHANGE_QUEUED, number=3, name="n3", links=[], cause="ocfs2_controld holds its lock")
    s.say("n1", OCFS2, Event.LOCK_CLOSED, number=3, address="10.0.0.3", port=7777)
    s.back(3)
    s.told(1, 1, 2, 3)
    return s


def back_while_its_queued_rmdir_is_under_way() -> Story:
    """The rmdir had begun when its node came back. No law is broken."""
    s = _unpinned_and_back()
    s.say("n1", O2CB, Event.NODE_WANTED, number=3, name="n3", address="10.0.0.3", port=7777)
    s.rmdir(1, 3)
    s.say("n1", O2CB, Event.NODE_REMOVED, number=3, name="n3", address="10.0.0.3", port=7777)
    s.make(1, 3)
    s.say("n1", O2CB, Event.NODE_MADE, number=3, name="n3", address="10.0.0.3", port=7777)
    for survivor in (1, 2):
        s.finish(survivor, s.lives(1, 2))
    s.told(2, 1, 2, 3)
    return s


def removes_a_member_whose_change_was_cancelled() -> Story:
    """The rmdir had not begun, and is not to be made: that is said."""
    s = _unpinned_and_back()
    s.say("n1", O2CB, Event.CHANGE_CANCELLED, number=3)
    s.rmdir(1, 3)
    return s


def removes_a_member_that_was_back_before_its_unlink() -> Story:
    """n3 is back while its link still stands: its change is off, and the unlink begins no rmdir."""
    s = mounted_three()
    s.lose(3, 1, 2)
    s.say("n1", O2CB, Event.NODE_UNWANTED, number=3)
    s.say("n1", O2CB, Event.CHANGE_QUEUED, number=3, name="n3", links=[F], cause="F links it")
    for survivor in (1, 2):
        s.fenced(3, survivor)
    lost = s.lives(3)
    s.back(3)
    s.told(1, 1, 2, 3)
    s.start(1, s.lives(1, 2), lost)
    s.unlink(1, 3)
    s.say("n1", OCFS2, Event.LOCK_CLOSED, number=3, address="10.0.0.3", port=7777)
    s.rmdir(1, 3)
    return s


def back_while_its_rmdir_is_under_way() -> Story:
    """n3 leaves, and is back while n1's rmdir runs: that goes through, and n3 is made again. No law is broken."""
    s = Story()
    s.cluster(1, 2, 3)
    s.mount_all(1, 2)
    s.told(1, 1, 2, left=(3,))
    s.say("n1", O2CB, Event.NODE_UNWANTED, number=3)
    s.told(1, 1, 2, 3)
    s.say("n1", O2CB, Event.NODE_WANTED, number=3, name="n3", address="10.0.0.3", port=7777)
    s.rmdir(1, 3)
    s.say("n1", O2CB, Event.NODE_REMOVED, number=3, name="n3", address="10.0.0.3", port=7777)
    s.make(1, 3)
    s.say("n1", O2CB, Event.NODE_MADE, number=3, name="n3", address="10.0.0.3", port=7777)
    return s


BREAKS: dict[int, tuple[Telling, ...]] = {
    1: (
        rmdir_under_link,
        write_under_link,
        classic_removal_of_a_beating_node,
        classic_removal_of_a_dead_but_configured_node,
        classic_second_removal_of_a_returned_node,
        classic_removal_after_it_was_made_and_wanted,
        classic_removal_after_its_change_was_cancelled,
    ),
    2: (link_to_nothing, link_to_incomplete, link_before_local, number_first, local_first),
    3: (
        forgotten_removal,
        classic_forgotten_removal,
        forgotten_addition,
        forgotten_after_release,
        ebusy_internal,
        ebusy_ends_the_daemon,
        ebusy_refused_as_internal,
    ),
    4: (link_to_strange_address, new_life_on_old_address, old_address_stays),
    5: (
        restart_tears_down,
        restart_removes_member,
        removes_itself,
        removes_a_member_whose_removal_was_queued,
        removes_a_member_that_was_back_before_its_unlink,
        removes_a_member_whose_change_was_cancelled,
        removes_a_member_twice,
        removes_a_member_that_was_made_anew,
    ),
}
"""By law: stories that break it."""
