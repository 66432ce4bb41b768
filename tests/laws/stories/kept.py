"""Stories that keep every law, most of which look like breaking one."""

from libo2cb.events import Event
from tests.laws.history import O2CB, OCFS2, Engine, Kernel, Process
from tests.laws.stories.cluster import (
    SECOND,
    F,
    G,
    Story,
    Telling,
    answered_alone,
    joining_pair,
    mounted_pair,
    mounted_three,
)
from tests.laws.stories.life import mount_waits_aloud, ready_with_queue, resets_itself
from tests.laws.stories.ordering import (
    back_while_its_queued_rmdir_is_under_way,
    back_while_its_rmdir_is_under_way,
    classic_mkdir_overtaken,
    classic_pair,
    classic_unwanted_while_made,
    held_by_something_else,
)


def death_and_recovery() -> Story:
    """The story that LAWS and ORDERING are about: n3 dies, is fenced, recovered, and removed."""
    s = mounted_three()
    s.lose(3, 1, 2)
    for survivor in (1, 2):
        s.fenced(3, survivor)
    s.recover(3, 1, 2)
    return s


def return_and_leave() -> Story:
    """n3 comes back at another address and mounts; n2 unmounts; n1 is killed in between and comes back."""
    s = death_and_recovery()
    s.engine("n3", Engine.READDRESSED, number=3, address="10.0.0.23")
    s.back(3, "10.0.0.23")
    s.ring = "1.12"
    s.up(3)
    s.told(3, 1, 2, 3)
    s.make(3, 1)
    s.make(3, 2)
    s.make(3, 3, "10.0.0.23")
    for n in (1, 2):
        s.told(n, 1, 2, 3)
        s.make(n, 3, "10.0.0.23")
    s.ask(3, Event.MOUNT_ASKED, uid=0, pid=1)
    s.kernel("n3", Kernel.MAKE_REGION, fs=F, errno=0)
    for n in (1, 2):
        s.stop(n)
    for n in (1, 2, 3):
        s.link(3, n)
        if n != 3:
            s.link(n, 3)
        s.start(n, s.lives(1, 2, 3))
    for n in (1, 2, 3):
        s.finish(n, s.lives(1, 2, 3))
    s.ask(3, Event.MOUNT_ANSWERED, code=0)
    s.mounted(3)
    s.ask(3, Event.MOUNT_RESULT, code=0)
    s.process("n1", O2CB, Process.KILLED)
    s.up(1, O2CB)
    s.say("n1", O2CB, Event.MEMBERS, ring=s.ring, quorate=True, members=[1, 2, 3], joined=[], left=[])
    s.say("n1", O2CB, Event.READY, cause="adopted")
    s.unmounted(2)
    s.ask(2, Event.UNMOUNT_ASKED, uid=0)
    s.ask(2, Event.UNMOUNT_ANSWERED, code=0)
    s.say("n2", OCFS2, Event.LEFT, fs=F, life=s.life(2))
    for n in (1, 2, 3):
        s.unlink(2, n)
    s.kernel("n2", Kernel.REMOVE_REGION, fs=F, errno=0)
    for n in (1, 3):
        s.stop(n)
    for n in (1, 3):
        s.start(n, s.lives(1, 3), count=2)
        s.unlink(n, 2)
    for n in (1, 3):
        s.finish(n, s.lives(1, 3), count=2)
    return s


def killed_before_the_stop_line() -> Story:
    """n2 stops, answers, and is killed before its line is written; n1, who has its answer, starts."""
    s = mounted_three()
    s.lose(3, 1)
    s.fenced(3, 1)
    s.start(1, s.lives(1, 2), s.lives(3))
    s.unlink(1, 3)
    s.rmdir(1, 3)
    s.process("n2", OCFS2, Process.KILLED)
    s.say("n1", OCFS2, Event.AWAY, life=s.life(2))
    s.stop(1)
    s.up(2, OCFS2)
    s.told(2, 1, 2, left=())
    for n in (1, 2):
        s.start(n, s.lives(1, 2), s.lives(3), count=2)
    s.unlink(2, 3)
    s.rmdir(2, 3)
    for n in (1, 2):
        s.finish(n, s.lives(1, 2), count=2)
    return s


def killed_before_the_start_line() -> Story:
    """n2 makes the START, says so, and is killed before its line is written; n1 finishes."""
    s = mounted_pair()
    for n in (1, 2):
        s.stop(n)
    s.start(1, s.lives(1, 2), count=2)
    s.finish(1, s.lives(1, 2), count=2)
    s.process("n2", OCFS2, Process.KILLED)
    return s


def late_lines_of_the_dead() -> Story:
    """A last call and a last line of n2 come after its power went: they concern nobody."""
    s = mounted_pair()
    s.off(2)
    s.kernel("n2", Kernel.REMOVE_NODE, name="n1", errno=16)
    s.kernel("n2", Kernel.LINK, fs=F, name="n9", errno=2)
    s.say("n2", OCFS2, Event.LIFE_FENCED, life=s.life(1), cause="assumed")
    return s


def pinned_at_rest() -> Story:
    """n2 is off and nobody has fenced it by hand yet: its link and its node stand, and that is the state of rest."""
    s = mounted_pair()
    s.off(2)
    s.told(1, 1, left=(2,))
    s.stop(1)
    return s


def refused_while_held() -> Story:
    s = held_by_something_else()
    s.say("n1", O2CB, Event.NODE_REFUSED, number=2, name="n2", errno=16, cause="EBUSY: something else pins it")
    return s


def assumed_and_true() -> Story:
    """Fencing "assumed" of a node whose power has really gone."""
    s = mounted_three()
    s.lose(3, 1, 2)
    s.fenced(3, 1, "assumed")
    s.recover(3, 1, 2)
    return s


def acknowledged() -> Story:
    s = mounted_three()
    s.lose(3, 1, 2)
    s.say("n1", OCFS2, Event.ACKNOWLEDGED, life=s.life(3)[:10], uid=0)
    s.recover(3, 1, 2)
    return s


def daemon_comes_back() -> Story:
    s = mounted_pair()
    s.process("n2", OCFS2, Process.KILLED)
    s.say("n1", OCFS2, Event.AWAY, life=s.life(2))
    s.stop(1)
    s.up(2, OCFS2)
    s.say("n2", OCFS2, Event.MEMBERS, ring=s.ring, quorate=True, members=[1, 2], joined=[], left=[])
    for n in (1, 2):
        s.start(n, s.lives(1, 2), count=2)
    for n in (1, 2):
        s.finish(n, s.lives(1, 2), count=2)
    return s


def replaced_under_mount() -> Story:
    s = mounted_pair()
    s.say("n1", OCFS2, Event.REPLACED)
    s.say("n1", OCFS2, Event.EXITING, cause="replaced")
    s.process("n1", OCFS2, Process.ENDED, code=0)
    return s


def signals_answered() -> Story:
    s = mounted_pair()
    s.process("n1", OCFS2, Process.SIGNALLED, signal="SIGTERM")
    s.say("n1", OCFS2, Event.SIGNAL_REFUSED, signal="SIGTERM", cause="7B61593D is mounted")
    s.say("n1", OCFS2, Event.SHUTDOWN_ASKED, question=1)
    s.say("n1", OCFS2, Event.SHUTDOWN_ANSWERED, question=1, allow=False, cause="7B61593D is mounted")
    return s


def lost_client_that_mounted() -> Story:
    """The client dies after mount(2): the mount table decides, and the group is kept."""
    s = answered_alone()
    s.mounted(1)
    s.ask(1, Event.CLIENT_LOST, cause="closed")
    return s


def stranger_refused() -> Story:
    s = mounted_pair()
    s.ask(1, Event.MOUNT_ASKED, G, uid=1000)
    s.ask(1, Event.MOUNT_ANSWERED, G, code=13)
    s.say("n1", OCFS2, Event.VIOLATION, peer="uid 1000 pid 77", cause="no such word: XYZZY")
    return s


def leaver_while_answering() -> Story:
    """n1 has linked n2, answered for it, and left before n2 tells its client: it owes no link any more."""
    s = joining_pair()
    s.link(2, 1)
    s.link(2, 2)
    s.stop(1)
    s.link(1, 2)
    for n in (1, 2):
        s.start(n, s.lives(1, 2), count=2)
    s.unmounted(1)
    s.unlink(1, 2)
    s.unlink(1, 1)
    s.kernel("n1", Kernel.REMOVE_REGION, fs=F, errno=0)
    s.say("n1", OCFS2, Event.LEFT, fs=F, life=s.life(1))
    s.finish(2, s.lives(1, 2), count=2)
    s.ask(2, Event.MOUNT_ANSWERED, code=0)
    s.mounted(2)
    s.ask(2, Event.MOUNT_RESULT, code=0)
    return s


def leaver_before_the_finish() -> Story:
    """n1 leaves in the midst of n2's join: it is not in the FINISH, and n2 takes its link down before it answers."""
    s = joining_pair()
    s.link(2, 1)
    s.link(2, 2)
    s.stop(1)
    s.link(1, 2)
    for n in (1, 2):
        s.start(n, s.lives(1, 2), count=2)
    s.unmounted(1)
    s.unlink(1, 2)
    s.unlink(1, 1)
    s.kernel("n1", Kernel.REMOVE_REGION, fs=F, errno=0)
    s.say("n1", OCFS2, Event.LEFT, fs=F, life=s.life(1))
    s.unlink(2, 1)
    s.finish(2, s.lives(2), count=2)
    s.ask(2, Event.MOUNT_ANSWERED, code=0)
    s.mounted(2)
    s.ask(2, Event.MOUNT_RESULT, code=0)
    return s


def all_asked_is_answered() -> Story:
    """Each kind of answer to a LOCK, and a client that goes away while its MOUNT waits."""
    s = Story()
    s.mono = 0
    s.cluster(1)
    answers = (Event.LOCK_GRANTED, Event.LOCK_QUEUED, Event.LOCK_REFUSED, Event.LOCK_CANCELLED)
    for request, answer in enumerate(answers):
        s.say("n1", O2CB, Event.LOCK_ASKED, number=1, address="10.0.0.1", port=7777, request=request)
        s.say("n1", O2CB, answer, number=1, request=request)
    s.ask(1, Event.MOUNT_ASKED, uid=0)
    s.ask(1, Event.CLIENT_LOST, cause="closed")
    s.mono = 60 * SECOND
    s.ask(1, Event.MOUNT_ASKED, G, uid=0)
    s.ask(1, Event.MOUNT_ANSWERED, G, code=16)
    return s


def questions_to_the_dead() -> Story:
    """Both daemons are killed with everything open, and what they owed is void."""
    s = Story()
    s.mono = 0
    s.cluster(1)
    s.say("n1", O2CB, Event.LOCK_ASKED, number=1, address="10.0.0.1", port=7777, request=1)
    s.say("n1", O2CB, Event.CHANGE_QUEUED, number=2, name="n2", links=[F], cause="linked")
    s.ask(1, Event.MOUNT_ASKED, uid=1000)
    s.ask(1, Event.UNMOUNT_ASKED, G, uid=0)
    for daemon in (O2CB, OCFS2):
        s.process("n1", daemon, Process.SIGNALLED, signal="SIGTERM")
        s.say("n1", daemon, Event.SHUTDOWN_ASKED, question=1)
        s.process("n1", daemon, Process.KILLED)
    s.mono = 60 * SECOND
    s.up(1)
    s.told(1, 1)
    s.ask(1, Event.MOUNT_ASKED, uid=0)
    s.ask(1, Event.MOUNT_ANSWERED, code=16)
    return s


def two_daemons_of_one_kind() -> Story:
    """A second daemon is started by mistake: it finds the name taken, and ends."""
    s = mounted_pair()
    s.say("n1", OCFS2, Event.NAME_TAKEN, socket="@ocfs2_controld_sock", pid=101, program="ocfs2_controld")
    s.say("n1", OCFS2, Event.EXITING, cause="its name is taken")
    return s


def unknown_life_is_stated_away() -> Story:
    """Nobody knows what n2 was before; its present life says who it is, and mounts."""
    s = mounted_pair()
    s.say("n2", OCFS2, Event.STATED, ring=s.ring, life=s.life(2))
    s.say("n1", OCFS2, Event.LIFE_FENCED, life="2/unknown", cause="a newer life")
    return s


def unmounted_and_still_in_use() -> Story:
    """`umount -l` with a file still open: the group stays, and the daemon says for what it waits."""
    s = mounted_pair()
    s.unmounted(1)
    s.ask(1, Event.UNMOUNT_ASKED, uid=0)
    s.ask(1, Event.UNMOUNT_ANSWERED, code=0)
    s.say("n1", OCFS2, Event.WAITING, what="the leave of 7B61593D", seconds=5, cause="its device is still in use")
    return s


def unmounted_and_mounted_again() -> Story:
    s = mounted_pair()
    s.unmounted(1)
    s.ask(1, Event.UNMOUNT_ASKED, uid=0)
    s.ask(1, Event.UNMOUNT_ANSWERED, code=0)
    s.ask(1, Event.MOUNT_ASKED, uid=0)
    s.ask(1, Event.MOUNT_ANSWERED, code=0)
    return s


def waits_that_end_in_time() -> Story:
    """Everything that waits gets on at once; a minute later nothing is owed."""
    s = Story()
    s.mono = 0
    s.cluster(1, 2)
    s.mount_all(1, 2)
    s.say("n1", O2CB, Event.CHANGE_QUEUED, number=3, name="n3", links=[F], cause="linked")
    s.say("n1", O2CB, Event.NODE_MADE, number=3, name="n3", address="10.0.0.3", port=7777)
    for n in (1, 2):
        s.stop(n)
    for n in (1, 2):
        s.start(n, s.lives(1, 2), count=2)
    s.stop(1, G)
    s.say("n1", OCFS2, Event.LEFT, fs=G, life=s.life(1))
    s.stop(2, G)
    s.say("n2", OCFS2, Event.JOIN_UNDONE, fs=G, life=s.life(2), cause="refused")
    s.mono = 60 * SECOND
    s.say("n1", O2CB, Event.CHANGE_QUEUED, number=4, name="n4", links=[F], cause="linked")
    s.say("n1", O2CB, Event.CHANGE_CANCELLED, number=4)
    s.stop(1)
    s.say("n1", OCFS2, Event.GROUP_STOPPED, fs=G, cause="a join")
    s.start(1, s.lives(1), count=3, fs=G)
    s.stop(2)
    for n in (1, 2):
        s.start(n, s.lives(1, 2), count=3)
    return s


def paused_while_it_waits() -> Story:
    """A node that stands still says nothing, and owes nothing."""
    s = Story()
    s.mono = 0
    s.cluster(1)
    s.ask(1, Event.MOUNT_ASKED, uid=0)
    s.engine("n1", Engine.PAUSED)
    s.mono = 60 * SECOND
    s.engine("n1", Engine.RESUMED)
    s.ask(1, Event.MOUNT_ANSWERED, code=110)
    return s


def leaver_without_the_start() -> Story:
    """n2 leaves in the middle of a START, which it never makes: nobody waits for it."""
    s = mounted_pair()
    for n in (1, 2):
        s.stop(n)
    s.start(1, s.lives(1, 2), count=2)
    s.unmounted(2)
    s.ask(2, Event.UNMOUNT_ASKED, uid=0)
    s.ask(2, Event.UNMOUNT_ANSWERED, code=0)
    s.say("n2", OCFS2, Event.LEFT, fs=F, life=s.life(2))
    for n in (1, 2):
        s.unlink(2, n)
    s.kernel("n2", Kernel.REMOVE_REGION, fs=F, errno=0)
    s.finish(1, s.lives(1, 2), count=2)
    return s


def leave_that_missed_its_deadline() -> Story:
    s = mounted_pair()
    s.ask(1, Event.UNMOUNT_ASKED, uid=0)
    s.ask(1, Event.UNMOUNT_ANSWERED, code=0)
    s.unmounted(1)
    s.told(1, 1, quorate=False, left=(2,))
    s.stop(1)
    s.say("n1", OCFS2, Event.DEADLINE, fs=F, cause="the engine is silent; the leave is tried again when it answers")
    return s


def classic_removal() -> Story:
    """n2 dies and stays; it leaves the configuration while it beats, falls silent, and is removed."""
    s = classic_pair()
    s.told(1, 1, left=(2,))
    s.configured(1, 1)
    s.kernel("n1", Kernel.SILENT, fs=F, number=2)
    s.rmdir(1, 2)
    return s


def classic_beats_at_rest() -> Story:
    s = classic_pair()
    s.configured(1, 1)
    return s


def classic_dead_at_rest() -> Story:
    s = classic_pair()
    s.kernel("n1", Kernel.SILENT, fs=F, number=2)
    s.told(1, 1, left=(2,))
    return s


def classic_back_while_its_second_rmdir_is_under_way() -> Story:
    """The rmdir that begins once n2's overtaken mkdir is done cannot be recalled either; n2 is made again."""
    s = classic_unwanted_while_made()
    s.rmdir(1, 2)
    s.say("n1", O2CB, Event.NODE_REMOVED, number=2, name="n2", address="10.0.0.2", port=7777)
    s.make(1, 2)
    s.say("n1", O2CB, Event.NODE_MADE, number=2, name="n2", address="10.0.0.2", port=7777)
    return s


def classic_back_before_the_daemon_hears_of_it() -> Story:
    """n1 says that n2 is made, and begins to remove it, before it hears that n2 is configured again."""
    s = classic_mkdir_overtaken()
    s.configured(1, 1, 2)
    s.say("n1", O2CB, Event.NODE_MADE, number=2, name="n2", address="10.0.0.2", port=7777)
    s.rmdir(1, 2)
    s.make(1, 2)
    return s


def classic_gone_before_the_daemon_hears_of_it() -> Story:
    """n1 says that n2 is made, and wanted, before it hears that n2 is not; its rmdir is overtaken by n2's return."""
    s = classic_pair()
    s.kernel("n1", Kernel.SILENT, fs=F, number=2)
    s.say("n1", O2CB, Event.NODE_WANTED, number=2, name="n2", address="10.0.0.2", port=7777)
    s.configured(1, 1)
    s.say("n1", O2CB, Event.NODE_MADE, number=2, name="n2", address="10.0.0.2", port=7777)
    s.say("n1", O2CB, Event.NODE_UNWANTED, number=2)
    s.configured(1, 1, 2)
    s.say("n1", O2CB, Event.NODE_WANTED, number=2, name="n2", address="10.0.0.2", port=7777)
    s.rmdir(1, 2)
    s.make(1, 2)
    return s


def classic_end() -> Story:
    """Nothing needs it any more, and it takes its tree away."""
    s = classic_pair()
    s.kernel("n1", Kernel.SILENT, fs=F, number=2)
    s.unmounted(1)
    s.kernel("n1", Kernel.REMOVE_REGION, fs=F, errno=0)
    s.say("n1", O2CB, Event.NOT_READY, cause="this daemon is ending")
    s.rmdir(1, 2)
    s.rmdir(1, 1)
    s.say("n1", O2CB, Event.EXITING, cause="asked to end")
    s.process("n1", O2CB, Process.ENDED, code=0)
    return s


def start_made_again() -> Story:
    """n1's answer to a START is lost with its change; the same START is still due when n2 is back, and made again."""
    s = mounted_pair()
    for n in (1, 2):
        s.stop(n)
    s.start(1, s.lives(1, 2), count=2)
    s.stop(1)
    for n in (1, 2):
        s.start(n, s.lives(1, 2), count=2)
    for n in (1, 2):
        s.finish(n, s.lives(1, 2), count=2)
    return s


def joiner_behind() -> Story:
    """n3 joins and withdraws. n1 and n2 have started without it already when it makes the START that it was in."""
    s = mounted_pair()
    s.mono = 0
    s.boot(3)
    s.up(3)
    s.told(3, 1, 2, 3)
    for n in (1, 2):
        s.told(n, 1, 2, 3)
    for n in (1, 2, 3):
        s.make(n, 3)
    for n in (1, 2):
        s.make(3, n)
    for n in (1, 2):
        s.stop(n)
    for n in (1, 2):
        s.link(n, 3)
        s.start(n, s.lives(1, 2, 3), count=2)
    for n in (1, 2):
        s.stop(n)
    for n in (1, 2):
        s.unlink(n, 3)
        s.start(n, s.lives(1, 2), count=3)
    s.kernel("n3", Kernel.MAKE_REGION, fs=F, errno=0)
    for n in (1, 2, 3):
        s.link(3, n)
    s.start(3, s.lives(1, 2, 3), count=2)
    s.stop(3)
    for n in (1, 2, 3):
        s.unlink(3, n)
    s.kernel("n3", Kernel.REMOVE_REGION, fs=F, errno=0)
    s.say("n3", OCFS2, Event.REGION_REMOVED, fs=F)
    s.mono = 60 * SECOND
    s.say("n3", O2CB, Event.CHANGE_CANCELLED, number=1)
    return s


def put_out_with_nothing_mounted() -> Story:
    """n1's daemon hung, is expelled, and ends. There is nothing in its kernel: the next one may mount."""
    s = Story()
    s.cluster(1)
    s.say("n1", OCFS2, Event.READY, cause="the groups of this node are known")
    s.say("n1", OCFS2, Event.PUT_OUT, cause="expelled by n2: it owes its statement for 30 s")
    s.say("n1", OCFS2, Event.EXITING, cause="expelled by n2: it owes its statement for 30 s")
    s.process("n1", OCFS2, Process.ENDED, code=1)
    s.up(1, OCFS2)
    s.told(1, 1)
    s.mount_all(1)
    return s


def newcomer_that_fits_nobody() -> Story:
    """n3's daemon understands nothing that the others say: it says so, and ends before it was ever ready."""
    s = mounted_pair()
    s.boot(3)
    s.up(3)
    s.say("n3", OCFS2, Event.VIOLATION, peer="n1", cause="protocol 2.0 is not ours, 1.0")
    s.say("n3", OCFS2, Event.EXITING, cause="this daemon cannot talk to the running cluster: n1: protocol 2.0")
    s.process("n3", OCFS2, Process.ENDED, code=1)
    return s


KEEPS: tuple[Telling, ...] = (
    classic_removal,
    classic_beats_at_rest,
    classic_dead_at_rest,
    classic_end,
    classic_back_while_its_second_rmdir_is_under_way,
    classic_back_before_the_daemon_hears_of_it,
    classic_gone_before_the_daemon_hears_of_it,
    mounted_pair,
    death_and_recovery,
    return_and_leave,
    killed_before_the_stop_line,
    killed_before_the_start_line,
    late_lines_of_the_dead,
    pinned_at_rest,
    refused_while_held,
    assumed_and_true,
    acknowledged,
    daemon_comes_back,
    replaced_under_mount,
    signals_answered,
    lost_client_that_mounted,
    stranger_refused,
    leaver_while_answering,
    leaver_before_the_finish,
    ready_with_queue,
    mount_waits_aloud,
    resets_itself,
    all_asked_is_answered,
    questions_to_the_dead,
    two_daemons_of_one_kind,
    unknown_life_is_stated_away,
    unmounted_and_still_in_use,
    unmounted_and_mounted_again,
    waits_that_end_in_time,
    paused_while_it_waits,
    leaver_without_the_start,
    leave_that_missed_its_deadline,
    start_made_again,
    joiner_behind,
    newcomer_that_fits_nobody,
    put_out_with_nothing_mounted,
    back_while_its_rmdir_is_under_way,
    back_while_its_queued_rmdir_is_under_way,
)
