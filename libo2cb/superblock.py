r"""What an OCFS2 volume says of itself: UUID, label, sizes, slots, and the cluster that it belongs to.

The superblock is an inode-shaped block, number 2, whatever the block size (512, 1024, 2048 or 4096 bytes), so it is
looked for at four places. All numbers are little-endian. The offsets, checked against volumes of mkfs.ocfs2 1.8.7:

    0x000  8   signature "OCFSV2\0\0"          0x100  2   slots
    0x050  8   its own block number, 2         0x110  64  label, NUL padded
    0x0c0  2+2 revision 0.90                   0x150  16  UUID
    0x0e0  4   incompatible features           0x160  4   cluster stack
    0x0e8  8+8 root and system directory       0x164  1   stack flags
    0x0f8  4   log2 of the block size          0x168  16  cluster name, ends at NUL; mkfs leaves
    0x0fc  4   log2 of the cluster size                   rubbish behind it

Nothing here writes. Reading a device may block without limit: never on an event loop.
"""

import errno as errnos
import os
import shlex
import stat
import struct
from dataclasses import dataclass

from libo2cb.errors import ConfigurationError
from libo2cb.verbose import Scope, verbosef
from libo2cb.wording import shown

BLOCK_SIZES = (512, 1024, 2048, 4096)
SUPERBLOCK_BLOCK = 2
READ_BYTES = (SUPERBLOCK_BLOCK + 1) * BLOCK_SIZES[-1]
"""All that is ever read: the first 12 KiB."""

SIGNATURE = b"OCFSV2\0\0"
OLD_SIGNATURE = b"OracleCFS"
OLD_SIGNATURE_OFFSET = 8
REVISION = (0, 90)
MAX_SLOTS = 255
MIN_CLUSTER_BITS = 12
MAX_CLUSTER_BITS = 20

INCOMPAT_HEARTBEAT_DEVICE = 0x0002
INCOMPAT_LOCAL_MOUNT = 0x0008
INCOMPAT_USERSPACE_STACK = 0x0080
INCOMPAT_CLUSTER_INFO = 0x4000
GLOBAL_HEARTBEAT = 0x01

CLASSIC_STACK = "o2cb"
STACK_BYTES = 4

_OWN_NUMBER = struct.Struct("<Q")
_SUPER = struct.Struct(
    "<HH28xIIQQIIH"
)  # from 0xc0 on: revision .. incompat, ro_compat, root, system, bits, bits, slots


@dataclass(frozen=True, slots=True)
class Superblock:
    """What a volume says of itself. Nothing in it is to be trusted as a name of a file or node.

    Attributes:
        uuid: 32 upper-case hexadecimal digits.
        label: up to 64 bytes, may be empty or hold blanks; stray bytes by surrogateescape.
        block_size: 512 to 4096 bytes.
        cluster_size: allocation unit, 4 KiB to 1 MiB, in bytes.
        slots: how many nodes may mount it at once, 1 to 255.
        stack: cluster stack, 4 characters: "o2cb", "pcmk", "cman"; "" for a local volume.
        cluster: name of the cluster, up to 16 bytes; "" for a local volume, and for a classic one that names none.
        global_heartbeat: whether the o2cb stack heartbeats on devices of its own.
    """

    uuid: str
    label: str
    block_size: int
    cluster_size: int
    slots: int
    stack: str
    cluster: str
    global_heartbeat: bool

    @property
    def local(self) -> bool:
        """Whether one node mounts it alone, without any cluster."""
        return not self.stack


class SuperblockError(ConfigurationError):
    """The device or image cannot be used as an OCFS2 volume. `path` is what was read."""

    def __init__(
        self, path: str, *, says: str = "", why: str = "", do: str = "", cause: BaseException | None = None
    ) -> None:
        super().__init__(shown(path, 200), says=says, why=why, do=do, cause=cause)
        self.args = (path,)
        self.path = path


class Unreadable(SuperblockError):
    """It cannot be opened or read, or is neither a block device nor a regular file."""


class Truncated(SuperblockError):
    """It ends before its superblock does."""


class NotOcfs2(SuperblockError):
    """No superblock at any of the four places."""


class OldOcfs(SuperblockError):
    """A volume of OCFS release 1, or of a pre-release of OCFS2."""


class HeartbeatDevice(SuperblockError):
    """A device for global heartbeats, without a file system."""


class Corrupt(SuperblockError):
    """A superblock whose fields contradict each other or the format."""


def read_superblock(path: str | os.PathLike[str]) -> Superblock:
    """Read the superblock of a block device or image file.

    Raises:
        Unreadable, Truncated, NotOcfs2, OldOcfs, HeartbeatDevice, Corrupt: each a SuperblockError.
    """
    name = os.fspath(path)
    try:
        data = _read_start(name)
    except (OSError, ValueError) as error:  # ValueError: a NUL byte in the path
        raise Unreadable(name, says="cannot be read", do=_advice(error)) from error
    return parse_superblock(data, name)


def _advice(error: Exception) -> str:
    number = error.errno if isinstance(error, OSError) else None
    return {
        errnos.ENOENT: "check the name of the device",
        errnos.EACCES: "do it as root",
        errnos.EPERM: "do it as root",
        errnos.ENXIO: "check that the device has a medium and a driver",
    }.get(number or 0, "")


def _read_start(path: str) -> bytes:
    """The first READ_BYTES, or all there is. Never waits for the other end of a FIFO."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError as error:
        verbosef(Scope.OCFS2, "open", path, "O_RDONLY", result=error)
        raise
    verbosef(Scope.OCFS2, "open", path, "O_RDONLY", result=fd)
    try:
        mode = os.fstat(fd).st_mode
        if not (stat.S_ISBLK(mode) or stat.S_ISREG(mode)):
            raise Unreadable(
                path,
                says="is neither a block device nor an image file",
                do="name the device that holds the volume, not where it is mounted",
            )
        data = b""
        while len(data) < READ_BYTES:
            try:
                piece = os.pread(fd, READ_BYTES - len(data), len(data))
            except OSError as error:
                verbosef(Scope.OCFS2, "pread", fd, READ_BYTES - len(data), len(data), result=error)
                raise
            verbosef(Scope.OCFS2, "pread", fd, READ_BYTES - len(data), len(data), result=len(piece))
            if not piece:
                break
            data += piece
        return data
    finally:
        os.close(fd)


def parse_superblock(data: bytes, name: str = "image") -> Superblock:
    """Find and check the superblock in the first bytes of a volume.

    Args:
        data: the volume from its start, READ_BYTES of it or all there is.
        name: what errors call it.

    Raises:
        Truncated, NotOcfs2, OldOcfs, HeartbeatDevice, Corrupt: each a SuperblockError.
    """
    reasons: list[SuperblockError] = []
    for size in BLOCK_SIZES:
        block = data[SUPERBLOCK_BLOCK * size : (SUPERBLOCK_BLOCK + 1) * size]
        if not block.startswith(SIGNATURE):
            continue
        # A volume that was formatted anew with another block size may show the old signature at a place that comes
        # first: a block that does not fit is put aside, and only if none fits is it the answer.
        try:
            return _decode(block, size, name)
        except (Corrupt, Truncated) as error:
            reasons.append(error)
    if reasons:
        raise reasons[0]
    if data.startswith(OLD_SIGNATURE, OLD_SIGNATURE_OFFSET):
        raise OldOcfs(
            name,
            says="holds OCFS release 1 or a pre-release of OCFS2",
            why="such volumes have no superblock that OCFS2 can mount",
            do="copy its files to a volume made by mkfs.ocfs2",
        )
    if len(data) < (SUPERBLOCK_BLOCK + 1) * BLOCK_SIZES[0]:
        raise Truncated(
            name, says="is too short", why=f"it has {len(data)} bytes, and a superblock ends at 1536 at the earliest"
        )
    raise NotOcfs2(
        name,
        says="is no OCFS2 volume",
        why="there is no superblock at 1, 2, 4 or 8 KiB",
        do="check the name of the device, or make the volume with mkfs.ocfs2",
    )


def _decode(block: bytes, size: int, name: str) -> Superblock:
    """The superblock in a block that has the signature."""
    if len(block) < size:
        raise Truncated(
            name, says="is too short", why=f"it ends inside its superblock, {size - len(block)} bytes early"
        )
    major, minor, incompat, _, root, system, block_bits, cluster_bits, slots = _SUPER.unpack_from(block, 0xC0)
    (number,) = _OWN_NUMBER.unpack_from(block, 0x50)
    if number == SUPERBLOCK_BLOCK and incompat & INCOMPAT_HEARTBEAT_DEVICE:
        raise HeartbeatDevice(
            name,
            says="is a heartbeat device",
            why="it carries global heartbeats and no file system",
            do="name the device that holds the volume",
        )
    stack, cluster, flags = _cluster_info(block, incompat)
    for wrong, why in (
        (number != SUPERBLOCK_BLOCK, f"it calls itself block {number}, and is block {SUPERBLOCK_BLOCK}"),
        ((major, minor) != REVISION, f"its revision is {major}.{minor}, and only 0.90 is known"),
        (block_bits != size.bit_length() - 1, f"it says 2^{block_bits} byte blocks, and lies at block 2 of {size}"),
        (
            not MIN_CLUSTER_BITS <= cluster_bits <= MAX_CLUSTER_BITS,
            f"its cluster size is 2^{cluster_bits} bytes, outside 4 KiB to 1 MiB",
        ),
        (not 1 <= slots <= MAX_SLOTS, f"it has {slots} node slots, outside 1 to {MAX_SLOTS}"),
        (not root or not system, "it names no root or no system directory"),
        (stack is None, "its cluster stack is not four letters or digits"),
    ):
        if wrong:
            raise Corrupt(
                name, says="has a damaged superblock", why=why, do=f"look at it with: fsck.ocfs2 -n {shlex.quote(name)}"
            )
    return Superblock(
        uuid=block[0x150:0x160].hex().upper(),
        label=_text(block[0x110:0x150]),
        block_size=size,
        cluster_size=1 << cluster_bits,
        slots=slots,
        stack=stack or "",
        cluster=cluster,
        global_heartbeat=bool(flags & GLOBAL_HEARTBEAT),
    )


def _cluster_info(block: bytes, incompat: int) -> tuple[str | None, str, int]:
    """Stack, cluster name and stack flags; None as the stack if it is none."""
    if incompat & INCOMPAT_LOCAL_MOUNT:
        return "", "", 0
    if not incompat & (INCOMPAT_USERSPACE_STACK | INCOMPAT_CLUSTER_INFO):
        return CLASSIC_STACK, "", 0
    stack = block[0x160 : 0x160 + STACK_BYTES]
    fits = stack.isalnum() and stack.isascii()
    # Flags are defined only together with the cluster-info feature; elsewhere the byte is reserved.
    flags = block[0x164] if incompat & INCOMPAT_CLUSTER_INFO else 0
    return stack.decode("ascii") if fits else None, _text(block[0x168:0x178]), flags


def _text(field: bytes) -> str:
    return field.partition(b"\0")[0].decode("utf-8", "surrogateescape")


def relabel_command(device: str) -> str:
    """The line that gives a volume the stack and cluster that run on this node; it needs that cluster online."""
    return f"tunefs.ocfs2 --update-cluster-stack {shlex.quote(device)}"


def relabel_offline_command(device: str, stack: str, cluster: str) -> str:
    """The line that gives a volume a stack and cluster by name, with no cluster online and no node using the volume."""
    return f"o2cluster {shlex.quote(f'--update={stack},{cluster},none')} {shlex.quote(device)}"
