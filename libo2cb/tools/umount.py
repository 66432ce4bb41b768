"""`umount.ocfs2`, as umount(8) calls it: umount(2), then a word to the daemon.

    umount.ocfs2 DIRECTORY|DEVICE [-flnrv] [--config FILE]

On a real kernel umount(2) itself runs `ocfs2_hb_ctl -K -u UUID` and waits for it, once for the last mount of a volume;
that is the UNMOUNT that counts. This helper says UNMOUNT again after umount(2) has worked and the mount table shows the
volume no more, because kernels differ (hb_ctl_path may be /bin/true). It is no error when the daemon has heard of it
(ENOENT), or does not answer: it finds the end of a mount by itself. With other mounts of the volume left, nothing is
said.

In the sandbox there is no kernel that calls: this helper takes the mount out of the table and holds the device, as
umount(2) does while its helper runs, then says UNMOUNT, and lets the device go.

Exit codes, of mount(8)'s: 0 unmounted; 1 wrong usage; 32 not unmounted, the line on stderr says why.
"""

import argparse
import ctypes
import errno
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from libo2cb.config import Config
from libo2cb.errors import KernelRefusal, O2cbError
from libo2cb.join import DaemonRefused, group_leave
from libo2cb.mounts import Mount, NoDevice, SandboxMounts, identify
from libo2cb.report_client import server_uids
from libo2cb.superblock import SuperblockError, read_superblock
from libo2cb.tools import common, helper
from libo2cb.tools.common import Failure
from libo2cb.tools.human import clean
from libo2cb.tools.mount import kernel_mount
from libo2cb.tools.mount_options import MS_RDONLY, MS_REMOUNT, MountOptions
from protocol.client import MOUNT_SERVICE

COMMAND: Final = "umount.ocfs2"
USAGE: Final = "usage: umount.ocfs2 DIRECTORY|DEVICE [-flnrv] [--config FILE]\n"
MNT_FORCE: Final = 1
MNT_DETACH: Final = 2
_HINTS: Final = {
    errno.EBUSY: "something uses it; see `fuser -vm` of the directory",
    errno.EPERM: "only root can unmount",
    errno.EINVAL: "it is not a mount point; see findmnt",
}


def _parser() -> common.Arguments:
    parser = common.Arguments(COMMAND)
    parser.add_argument("place")
    parser.add_argument("--config")
    for flag, name in (("-f", "force"), ("-l", "lazy"), ("-r", "read_only"), ("-v", "verbose"), ("-n", "ignored")):
        parser.add_argument(flag, dest=name, action="store_true")
    parser.add_argument("-t", dest="fstype", choices=("ocfs2",))
    return parser


def _parsed(arguments: Sequence[str]) -> argparse.Namespace:
    options = _parser().parse_args(arguments)
    common.given(options.place, "DIRECTORY|DEVICE")
    return options


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; its exit code."""
    interrupted = "interrupted; what is unmounted the daemon finds by itself, see findmnt"
    return helper.main(COMMAND, USAGE, _parsed, _run, argv, interrupted=(interrupted, helper.EXIT_FAILED))


def _run(options: argparse.Namespace) -> int:
    config = common.configuration(options.config)
    home = common.enter_home(config, COMMAND)
    mount = _find(common.mount_table(config).mounts(), options.place)
    if home is not None:
        _sandbox_umount(config, SandboxMounts(home / "mounts"), mount)
    else:
        _kernel_umount(config, mount, options)
    if options.verbose and mount not in common.mount_table(config).mounts():
        common.say(COMMAND, f"{mount.source} is no longer mounted on {mount.mount_point}")
    return 0


def _find(mounts: list[Mount], place: str) -> Mount:
    """The last mount at a directory or of a device.

    Raises:
        Failure: there is none, or a device is mounted at several places.
    """
    paths = {os.path.abspath(place), os.path.realpath(place)}  # noqa: PTH100 (the name that the user knows, too)
    if here := [mount for mount in mounts if mount.mount_point in paths]:
        return here[-1]
    with suppress(NoDevice):
        identity = identify(place)
        of_device = [mount for mount in mounts if mount.device == identity]
        if len(of_device) == 1:
            return of_device[0]
        if of_device:
            places = ", ".join(mount.mount_point for mount in of_device)
            raise Failure(f"{place} is mounted at several places: name one of {places}")
    raise Failure(f"{place} is no OCFS2 mount of this node")


def _sandbox_umount(config: Config, table: SandboxMounts, mount: Mount) -> None:
    entry = table.leave(mount.mount_point, hold=True)
    try:
        if all(other.device != mount.device for other in table.mounts()):
            _tell(config, entry.uuid)
    finally:
        # Somebody else may hold it as well; then ours ends with this process, and theirs stays.
        holds = [hold for hold in table.holds() if hold.identity == entry.identity]
        if all(hold.holder is not None and hold.holder.pid == os.getpid() for hold in holds):
            table.release(entry.device)


def _kernel_umount(config: Config, mount: Mount, options: argparse.Namespace) -> None:
    uuid = None
    with suppress(SuperblockError):  # a device that died can be unmounted all the same
        uuid = read_superblock(mount.source).uuid
    flags = MNT_FORCE * options.force | MNT_DETACH * options.lazy
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.umount2(os.fsencode(mount.mount_point), flags) != 0:
        code = ctypes.get_errno()
        if code == errno.EBUSY and options.read_only:
            kernel_mount(mount.source, mount.mount_point, MountOptions(MS_REMOUNT | MS_RDONLY))
            common.say(COMMAND, f"{mount.mount_point} is busy: it stays mounted, read-only")
            return
        raise KernelRefusal("umount", clean(mount.mount_point), code, do=_HINTS.get(code, "see dmesg"))
    if uuid is not None and all(other.device != mount.device for other in common.mount_table(config).mounts()):
        _tell(config, uuid)


def _tell(config: Config, uuid: str) -> None:
    """UNMOUNT. The mount is gone whatever the answer, and the daemon sees that by itself."""
    try:
        group_leave(uuid, MOUNT_SERVICE, socket_name=config.sockets.clients, trusted_uids=server_uids(config))
    except DaemonRefused as refusal:
        if refusal.status != errno.ENOENT:
            common.say(COMMAND, f"it is unmounted, but ocfs2_controld says: {refusal.said}")
    except O2cbError as error:
        common.say(COMMAND, f"it is unmounted, and ocfs2_controld will find that by itself: {error}")


if __name__ == "__main__":
    sys.exit(main())
