"""A bare member of a process group: what corosync itself tells, and when, without any daemon in between.

    python -m tests.real.corosync.ear GROUP [--talk] [--rounds N SIZE]

Run on a machine of a cluster; writes one JSON object a line, times are CLOCK_MONOTONIC in ns:

    {"joined": 1}                                       it is a member; said first, with its own node
    {"mono": ..., "members": [1, 2, 3], "left": [[3, 3]], "came": [], "heard": {"1": 17}, "own": [[17, ...], ...]}

    left, came   node and corosync's reason: 1 JOIN, 2 LEAVE, 3 NODEDOWN, 4 NODEUP, 5 PROCDOWN
    heard        for each sender the number of its last message that was delivered here before this change
    own          the last of our own messages that were delivered to us before it, each with its time

With --talk it says messages without a pause, numbered from 1. With --rounds it sends that many messages, each
when the one before has come back, writes how long each took in ns as {"rounds": [...]}, and ends. It also ends with
its corosync.
"""

import argparse
import json
import select
import sys
import time
from collections import deque
from typing import Final

from libo2cb.engine.corosync.errors import CorosyncError
from libo2cb.engine.corosync.handles import Cpg
from libo2cb.engine.corosync.said import Confchg, Message, TotemConfchg

_KEPT: Final = 256
_BATCH: Final = 64
_ON_THE_WAY: Final = 200
_TALK_SIZE: Final = 1000
"""Bytes of a message of --talk: corosync puts many small ones into one packet."""


class Ear:
    """One member.

    Args:
        group: whose.
    """

    def __init__(self, group: str) -> None:
        self.cpg = Cpg.open()
        self.node = self.cpg.local()
        self.members: list[int] = []
        self.heard: dict[int, int] = {}
        self.own: deque[tuple[int, int]] = deque(maxlen=_KEPT)
        self.said = 0
        self.cpg.join(group.encode())
        self._poll = select.poll()
        self._poll.register(self.cpg.fileno(), select.POLLIN)

    def listen(self, seconds: float | None) -> None:
        """Hear what comes, waiting for it so long; None: without end."""
        self._poll.poll(None if seconds is None else seconds * 1000)
        for event in self.cpg.take(_BATCH):
            now = time.monotonic_ns()
            match event:
                case Message(sender, payload):
                    number = int(payload[:16])
                    self.heard[sender.node] = number
                    if sender.node == self.node:
                        self.own.append((number, now))
                case Confchg(members, left, joined):
                    first = not self.members
                    self.members = [it.node for it in members]
                    if first:
                        tell(joined=self.node)
                    tell(
                        mono=now,
                        members=self.members,
                        left=[[it.node, reason] for it, reason in left],
                        came=[[it.node, reason] for it, reason in joined],
                        heard=self.heard,
                        own=list(self.own),
                    )
                case TotemConfchg():
                    pass

    def say(self, size: int = 16) -> bool:
        """Send the next message; False when corosync takes none just now."""
        if self.cpg.mcast(f"{self.said + 1:016d}".encode().ljust(size, b".")):
            self.said += 1
            return True
        return False

    def talk(self) -> None:
        """Always have so many messages on the way that each visit of the token finds some."""
        while True:
            while self.said - self.heard.get(self.node, 0) < _ON_THE_WAY and self.say(_TALK_SIZE):
                pass
            self.listen(0.001)

    def rounds(self, count: int, size: int) -> list[int]:
        """How long each of so many messages takes to come back, in ns."""
        found = []
        for _ in range(count):
            began = time.monotonic_ns()
            while not self.say(size):
                self.listen(0.001)
            while self.heard.get(self.node) != self.said:
                self.listen(None)
            found.append(time.monotonic_ns() - began)
        return found


def tell(**fields: object) -> None:
    """Write a line."""
    sys.stdout.write(json.dumps(fields) + "\n")
    sys.stdout.flush()


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m tests.real.corosync.ear")
    parser.add_argument("group")
    parser.add_argument("--talk", action="store_true", help="say messages without a pause")
    parser.add_argument("--rounds", type=int, nargs=2, metavar=("N", "SIZE"), help="measure so many, and end")
    options = parser.parse_args()
    ear = Ear(options.group)
    while not ear.members:
        ear.listen(None)
    if options.rounds:
        tell(rounds=ear.rounds(*options.rounds))
        return 0
    try:
        if options.talk:
            ear.talk()
        while True:
            ear.listen(None)
    except CorosyncError as gone:
        tell(ended=str(gone))
        return 1


if __name__ == "__main__":
    sys.exit(main())
