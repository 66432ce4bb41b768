"""`mount.ocfs2`, as mount(8) calls it: join the volume's group, mount(2), say how it went.

    mount.ocfs2 DEVICE DIRECTORY [-fnrsvw] [-o OPTIONS] [--config FILE]

The configuration is named by --config or $OCFS2_CONTROLD_CONFIG, for mount(8) passes no options of ours. What the
daemon says reaches the user on stderr. Exit codes, of mount(8)'s:

    0   mounted
    1   wrong usage
    8   ended by a signal; nothing is left behind
    32  not mounted; the last line says why

Ctrl-C, SIGTERM and SIGHUP: before the daemon's answer the connection is closed, which withdraws the mount; between the
answer and mount(2) the daemon is told that nothing will come; once mount(2) has worked the mount is finished, and the
user told that it stands.
"""

import argparse
import ctypes
import errno
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Final

from libo2cb.config import Config
from libo2cb.errors import KernelRefusal, O2cbError
from libo2cb.join import DaemonRefused, GroupJoin, begin_group_join
from libo2cb.mounts import NoDevice, SandboxMounts, identify
from libo2cb.report_client import server_uids
from libo2cb.superblock import Superblock, read_superblock
from libo2cb.tools import common, helper, mount_options
from libo2cb.tools.common import Failure
from libo2cb.tools.helper import Interrupted
from libo2cb.tools.human import clean
from libo2cb.tools.mount_options import MountOptions
from libo2cb.tools.waiting import Waiting
from libo2cb.wording import errno_words
from protocol.client import MOUNT_SERVICE

COMMAND: Final = "mount.ocfs2"
USAGE: Final = "usage: mount.ocfs2 DEVICE DIRECTORY [-fnrsvw] [-o OPTIONS] [--config FILE]\n"
EXIT_INTERRUPTED: Final = 8
PAUSE: Final = "OCFS2_MOUNT_PAUSE"
"""Environment, with the sandbox driver only: "after-status" stops this process between the answer and the mount."""

_HINTS: Final = {
    errno.ENODEV: "the kernel has no ocfs2: modprobe ocfs2",
    errno.EPERM: "only root can mount",
    errno.EBUSY: "the device or the directory is in use; see findmnt",
    errno.EINVAL: "dmesg says which option or which cluster value does not fit",
    errno.EROFS: "the device is read-only: mount it with -r",
    errno.ESRCH: "the kernel's control device is not held by a daemon",
}


class Signals:
    """SIGINT, SIGTERM and SIGHUP: raise Interrupted while that is safe, else remember it."""

    CAUGHT: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def __init__(self) -> None:
        self._came: str | None = None
        self._raise = False
        for number in self.CAUGHT:
            signal.signal(number, self._caught)

    def came(self) -> str | None:
        """Name of the last signal that came; None while none has."""
        return self._came

    def _caught(self, number: int, _frame: FrameType | None) -> None:
        self._came = signal.Signals(number).name
        if self._raise:
            raise Interrupted

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """Within, a signal raises Interrupted, also one that came before."""
        self._raise = True
        try:
            if self._came:
                raise Interrupted
            yield
        finally:
            self._raise = False


def _parser() -> common.Arguments:
    parser = common.Arguments(COMMAND)
    parser.add_argument("device")
    parser.add_argument("directory")
    parser.add_argument("-o", dest="options", action="append", default=[])
    parser.add_argument("--config")
    for flag, name in (("-f", "fake"), ("-r", "read_only"), ("-w", "read_write"), ("-v", "verbose")):
        parser.add_argument(flag, dest=name, action="store_true")
    for ignored in ("-n", "-s"):  # no mtab is written here, and the filesystem judges its options
        parser.add_argument(ignored, dest="ignored", action="store_true")
    parser.add_argument("-t", dest="fstype", choices=("ocfs2",))  # mount(8) may pass the type again
    return parser


def _parsed(arguments: Sequence[str]) -> argparse.Namespace:
    options = _parser().parse_args(arguments)
    common.given(options.device, "DEVICE")
    common.given(options.directory, "DIRECTORY")
    return options


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; its exit code."""
    return helper.main(
        COMMAND,
        USAGE,
        _parsed,
        lambda options: _run(options, Signals()),
        argv,
        interrupted=("interrupted; nothing is mounted and nothing is left behind", EXIT_INTERRUPTED),
    )


def _run(options: argparse.Namespace, signals: Signals) -> int:
    how = mount_options.parse(options.options, read_only=options.read_only, read_write=options.read_write)
    config = common.configuration(options.config)
    home = common.enter_home(config, COMMAND)
    device = os.path.abspath(options.device)  # noqa: PTH100 (the name that the user knows, without resolving links)
    directory = os.path.abspath(options.directory) if home else os.path.realpath(options.directory)  # noqa: PTH100
    if how.remount:
        if home is None and not options.fake:
            kernel_mount(device, directory, how)
        return 0
    volume = read_superblock(device)
    if not volume.local:
        common.check_stack(volume, device)
    _refuse_twice(config, device, directory)
    if home is None and not Path(directory).is_dir():
        raise Failure(f"{directory} is no directory to mount on: mkdir it first")
    if options.fake:
        return 0
    attach = (
        partial(_sandbox_mount, SandboxMounts(home / "mounts"), device, directory, volume)
        if home
        else partial(kernel_mount, device, directory, with_stack(how, volume))
    )
    if volume.local:
        attach()
    else:
        _mount(config, volume, (device, directory), attach, signals)
    if options.verbose:
        common.say(COMMAND, f"{device} ({volume.label or volume.uuid}) is mounted on {directory}")
    return 0


def with_stack(how: MountOptions, volume: Superblock) -> MountOptions:
    """The options with which the kernel checks that volume and running stack fit, as Debian's helper says them."""
    return MountOptions(how.flags, (*how.data, "heartbeat=none" if volume.local else f"cluster_stack={volume.stack}"))


def _refuse_twice(config: Config, device: str, directory: str) -> None:
    """Refuse a second mount of one volume on one directory before anybody is asked.

    Raises:
        Failure: it is mounted there.
    """
    identity = identify(device)
    for mount in common.mount_table(config).mounts():
        if mount.device == identity and mount.mount_point == directory:
            raise Failure(f"{device} is mounted on {directory} already")


def _mount(
    config: Config, volume: Superblock, places: tuple[str, str], attach: Callable[[], None], signals: Signals
) -> None:
    """Join, attach, tell the daemon. See the module's text for what a signal does where."""
    device, directory = places
    name = volume.label or volume.uuid[:8]
    waiting = Waiting(COMMAND, f"{name} in cluster {volume.cluster}", volume.uuid, partial(common.group_facts, config))
    try:
        with signals.interruptible():
            join = begin_group_join(
                volume.uuid,
                volume.cluster,
                device,
                MOUNT_SERVICE,
                socket_name=config.sockets.clients,
                trusted_uids=server_uids(config),
                waiting=waiting.tick,
            )
    except DaemonRefused as refusal:
        raise Failure(_refusal(name, directory, refusal, waiting, volume.uuid)) from refusal
    except O2cbError as error:
        raise Failure(f"{name} was not mounted: {error}") from error
    finally:
        waiting.done()
    with join:
        if config.kernel.driver == "sandbox" and os.environ.get(PAUSE) == "after-status":
            os.kill(os.getpid(), signal.SIGSTOP)
        if signals.came():
            _tell(join, errno.EINTR)
            raise Interrupted
        if warning := join.said.partition("; ")[2]:  # "OK; fencing is manual: ..."
            common.say(COMMAND, warning)
        try:
            attach()
        except O2cbError as error:
            _tell(join, error.errno if isinstance(error, KernelRefusal) else errno.EIO)
            raise
        if trouble := _tell(join, 0):
            common.say(COMMAND, f"{name} is mounted on {directory}, and the daemon will find that by itself: {trouble}")
    if signals.came():
        common.say(COMMAND, f"{signals.came()} came too late: {name} is mounted on {directory}; umount undoes it")


def _tell(join: GroupJoin, code: int) -> str:
    """MRESULT. What the kernel did counts, whatever the answer; the sentence of what went wrong, or ""."""
    try:
        join.complete(code)
    except O2cbError as error:
        return str(error)
    return ""


def _refusal(name: str, directory: str, refusal: DaemonRefused, waiting: Waiting, fs: str) -> str:
    """What happened, in the daemon's words, and what to do, where status knew it."""
    sentence = f"{name} was not mounted on {directory}: {refusal.said} ({errno_words(refusal.status)})"
    report = waiting.last.ocfs2 if waiting.last else None
    do = next((wait.do for wait in (report.waits if report else ()) if wait.fs == fs and wait.do), None)
    return f"{sentence}; {do}" if do else sentence


def kernel_mount(device: str, directory: str, how: MountOptions) -> None:
    """mount(2).

    Raises:
        KernelRefusal: with the kernel's errno.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    # NULL is "no options"; an empty text is options without a heartbeat mode, which the kernel refuses with EINVAL.
    data = os.fsencode(",".join(how.data)) or None
    if libc.mount(os.fsencode(device), os.fsencode(directory), b"ocfs2", ctypes.c_ulong(how.flags), data) == 0:
        return
    code = ctypes.get_errno()
    raise KernelRefusal("mount", f"{clean(device)} on {clean(directory)}", code, do=_HINTS.get(code, "see dmesg"))


def _sandbox_mount(table: SandboxMounts, device: str, directory: str, volume: Superblock) -> None:
    """The sandbox's mount(2).

    Raises:
        KernelRefusal: as the kernel would.
    """
    try:
        table.enter(device, directory, volume.uuid, clustered=not volume.local)
    except NoDevice as error:
        raise KernelRefusal("mount", f"{device} on {directory}", error.errno) from error


if __name__ == "__main__":
    sys.exit(main())
