"""The kernel as the clients see it through the shim: mount(2) and umount(2) on the node's mount table, and the tap.

One packet of the shim is one thing that a client does. It stands still until it is answered, so a test can stop it at
each of them (`stop`) and knows that nothing has happened yet behind it.
"""

import os
import socket
import struct
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from libo2cb.errors import KernelRefusal
from libo2cb.processes import peer_credentials
from libo2cb.sandbox.mounts import SandboxMounts
from libo2cb.superblock import read_superblock
from tests.process.node import DEADLINE

_PACKET: Final = 4096
_ANSWER: Final = struct.Struct("i")
_REMOUNT: Final = 32
SHIM: Final = Path(__file__).with_name("shim.c")


@dataclass(frozen=True, slots=True)
class Deed:
    """One thing that a client did.

    Attributes:
        word: connect, close, write, read or mount.
        data: the bytes of write and read.
        words: the arguments of mount.
        errno: the answer to mount.
    """

    word: str
    data: bytes = b""
    words: tuple[str, ...] = ()
    errno: int = 0


@dataclass(slots=True)
class Stop:
    """A client that shall stand still, or does.

    Attributes:
        word: at which of its deeds.
        needle: what the deed's bytes or arguments hold.
        mount: for a mount, let it take effect before it stands still.
        reached: set once it stands there.
        go: set to let it go on.
    """

    word: str
    needle: bytes
    mount: bool = False
    reached: threading.Event = field(default_factory=threading.Event)
    go: threading.Event = field(default_factory=threading.Event)

    def wait(self) -> None:
        """Wait until it stands there."""
        assert self.reached.wait(DEADLINE), f"no client comes to {self.word} {self.needle!r}"


class Kernel:
    """What the shim talks to.

    Args:
        path: of its socket.
        mounts: the node's mount table.
    """

    def __init__(self, path: Path, mounts: SandboxMounts) -> None:
        self.path = path
        self.mounts = mounts
        self.outcome = 0
        """The errno of each mount(2) from now on; 0: as the mount table says."""
        self._deeds: dict[int, list[Deed]] = {}
        self._stops: list[Stop] = []
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._listener.bind(str(path))
        self._listener.listen(64)
        self._threads = [threading.Thread(target=self._accept, name="shim", daemon=True)]
        self._threads[0].start()

    def close(self) -> None:
        """Serve nobody any more; whoever stands still fails."""
        for stop in self._stops:
            stop.go.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        self._listener.close()

    def deeds(self, pid: int) -> list[Deed]:
        """What a process has done, in order."""
        return list(self._deeds.get(pid, ()))

    @contextmanager
    def stop(self, word: str, needle: str = "", *, mount: bool = False) -> Iterator[Stop]:
        """Within, the first client that comes to this deed stands still before it, until `go`, or the end."""
        stop = Stop(word, needle.encode(), mount)
        self._stops.append(stop)
        try:
            yield stop
        finally:
            self._stops.remove(stop)
            stop.go.set()

    @contextmanager
    def refusing(self, code: int) -> Iterator[None]:
        """Within, each mount(2) fails with this errno."""
        self.outcome = code
        try:
            yield
        finally:
            self.outcome = 0

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(client,), name="shim client", daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, client: socket.socket) -> None:
        with client:
            deeds = self._deeds.setdefault(peer_credentials(client)[0], [])
            while packet := client.recv(_PACKET):
                word, _, rest = packet.partition(b"\0")
                answer = self._take(client, deeds, word.decode(), rest)
                try:
                    client.send(_ANSWER.pack(answer), socket.MSG_NOSIGNAL)
                except OSError:
                    return

    def _take(self, client: socket.socket, deeds: list[Deed], word: str, rest: bytes) -> int:
        stop = next((s for s in self._stops if s.word == word and s.needle in rest and not s.reached.is_set()), None)
        if stop is not None and not stop.mount:
            stop.reached.set()
            stop.go.wait()
            if _has_ended(client):
                return 0  # killed while it stood there: it does nothing more
        answer = 0
        if word == "mount":
            words = tuple(os.fsdecode(w) for w in rest.split(b"\0")[:-1])
            answer = self._mount(*words)
            deeds.append(Deed(word, words=words, errno=answer))
        else:
            deeds.append(Deed(word, data=rest))
        if stop is not None and stop.mount:
            stop.reached.set()
            stop.go.wait()
        return answer

    def _mount(self, source: str, point: str, _type: str, flags: str, _data: str) -> int:
        if self.outcome:
            return self.outcome
        if int(flags, 16) & _REMOUNT:
            return 0
        try:
            self.mounts.enter(source, point, read_superblock(source).uuid)
        except KernelRefusal as refusal:
            return refusal.errno
        return 0


def _has_ended(client: socket.socket) -> bool:
    """Whether a client that waits for its answer has ended instead."""
    try:
        return not client.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False


def build(into: Path) -> Path:
    """Compile the shim.

    Raises:
        subprocess.CalledProcessError: the compiler refuses it.
    """
    shim = into / "shim.so"
    subprocess.run(("gcc", "-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror", "-o", shim, SHIM), check=True)
    return shim
