"""One process that uses many filesystems, as fsck.ocfs2 would: joins their groups, and holds them while it lives.

    python -m tests.real.corosync.crowd SOCKET DEVICE FIRST COUNT [--at-once 50]

Run on a node. The groups are those of the UUIDs FIRST, FIRST + 1, ...; all nodes may use the same ones. DEVICE is any
file. So many joins are under way at once. When all have joined it writes {"joined": [...]}: for each, in their order,
nanoseconds from MOUNT to STATUS. It ends with its input.
"""

import argparse
import json
import os
import select
import sys
import time
from typing import Final

from libo2cb.join import GroupJoin
from tests.process.node import CLUSTER

SERVICE: Final = "fsck.ocfs2"
TRUSTED: Final = frozenset({0, os.geteuid()})


def uuid_of(number: int) -> str:
    """The UUID of a group of a crowd."""
    return f"{number:032X}"


def join_all(socket: str, device: str, first: int, count: int, at_once: int) -> list[int]:
    """Join groups; for each how long it took, in ns.

    Raises:
        O2cbError: one was refused.
    """
    took = [0] * count
    waiting: dict[int, tuple[int, int, GroupJoin]] = {}
    poll = select.poll()
    begun = 0
    while begun < count or waiting:
        while begun < count and len(waiting) < at_once:
            began = time.monotonic_ns()
            join = GroupJoin(uuid_of(first + begun), CLUSTER, device, SERVICE, socket_name=socket, trusted_uids=TRUSTED)
            waiting[join.fileno()] = begun, began, join
            poll.register(join.fileno(), select.POLLIN)
            begun += 1
        for fileno, _ in poll.poll():
            number, began, join = waiting[fileno]
            if join.receive():
                took[number] = time.monotonic_ns() - began
                poll.unregister(fileno)
                del waiting[fileno]
                join.complete(0)
    return took


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m tests.real.corosync.crowd")
    parser.add_argument("socket")
    parser.add_argument("device")
    parser.add_argument("first", type=int)
    parser.add_argument("count", type=int)
    parser.add_argument("--at-once", type=int, default=50)
    options = parser.parse_args()
    took = join_all(options.socket, options.device, options.first, options.count, options.at_once)
    print(json.dumps({"joined": took}), flush=True)
    sys.stdin.read()
    return 0


if __name__ == "__main__":
    sys.exit(main())
