"""A guest, as the host drives it: commands go in, and exit codes, output and kernel messages come back.

    with Guest(Hardware("n1"), directory) as guest:
        guest.run("modprobe ocfs2").worked()
        with guest.scene("links"):          fails if the kernel complains meanwhile; then nothing is left running
            guest.python("tests.real.vm.measure", "links").worked()

A guest takes several commands at once, from several threads. It dies with the thread that made it.
"""

import json
import re
import shutil
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

from tests.real.vm.machine import SOURCE, Hardware, Machine

BOOT_SECONDS: Final = 300.0
"""After so long a guest that does not answer counts as hung. It takes 5 s on an idle host."""
SECONDS: Final = 120.0
"""What a command may take unless it is said."""
TOLD_MESSAGES: Final = 40
"""Of the kernel, in a scene that has failed."""
SPARE: Final = 120.0
"""How much longer than the command's own time we wait for the guest's answer."""
COMPLAINTS: Final = re.compile(
    r"BUG:|Oops|WARNING:|kernel BUG at|general protection fault|Call Trace|blocked for more than|"
    r"detected buffer overflow|refcount_t:|list_(add|del) corruption|possible recursive locking|"
    r"unregister_netdevice: wait"
)


class GuestDied(AssertionError):
    """A guest is gone, or answers no more."""


class KernelComplained(AssertionError):
    """The guest's kernel says that something in it is wrong."""


@dataclass(frozen=True, slots=True)
class Done:
    """What came of a command.

    Attributes:
        command: it.
        code: exit code; below zero for a signal; None when its time was over.
        out: stdout and stderr, as they came.
        seconds: how long it took in the guest.
    """

    command: str
    code: int | None
    out: str
    seconds: float

    def worked(self) -> str:
        """Its output.

        Raises:
            AssertionError: its exit code is not 0.
        """
        assert self.code == 0, f"{self.command}: {self.code} after {self.seconds:.1f} s\n{self.out}"
        return self.out


@dataclass(frozen=True, slots=True)
class Cost:
    """What a scene took.

    Attributes:
        scene: its name, and the guest's.
        seconds: wall clock.
        processor: seconds that QEMU computed.
        memory: megabytes that QEMU has.
        available: megabytes that are free in the guest.
    """

    scene: str
    seconds: float
    processor: float
    memory: float
    available: float

    def __str__(self) -> str:
        return (
            f"{self.scene:<60} {self.seconds:6.1f} s, {self.processor:6.1f} s of processor, "
            f"{self.memory:4.0f} MB; {self.available:4.0f} MB free inside"
        )


@dataclass(slots=True)
class _Waiting:
    """Requests that wait for their answer; None once there will be none."""

    futures: dict[int, Future[dict[str, Any]]] = field(default_factory=dict)
    last: int = 0
    over: bool = False


class Guest:
    """A running guest.

    Args:
        hardware: what it is made of.
        within: a directory for what it writes. Whoever made that removes it.
    """

    def __init__(self, hardware: Hardware, within: Path) -> None:
        self.name = hardware.name
        self.kernel: list[str] = []
        self.costs: list[Cost] = []
        self._home = Path(tempfile.mkdtemp(prefix=f"{hardware.name}-", dir=within))
        self._lock = threading.Lock()
        self._waiting = _Waiting()
        self._available = 0.0
        self._judged = 0
        try:
            self.machine = Machine(hardware, self._home)
        except BaseException:
            shutil.rmtree(self._home, ignore_errors=True)
            raise
        self._socket = socket.socket(socket.AF_UNIX)
        self._ready = self._expect()[1]
        self._reader = threading.Thread(target=self._read, name=f"guest {self.name}", daemon=True)
        try:
            self._connect()
            self._reader.start()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        self.ready()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def out(self) -> Path:
        """The host's side of the directory /out in the guest."""
        return self._home

    def ready(self) -> None:
        """Wait until it takes commands.

        Raises:
            GuestDied: it does not get so far.
        """
        self._answer(self._ready, "boot", BOOT_SECONDS)

    # Commands.

    def run(
        self,
        command: str | Sequence[str],
        *,
        seconds: float = SECONDS,
        text: str = "",
        environ: Mapping[str, str] | None = None,
    ) -> Done:
        """Run a command to its end: text is for bash, a sequence is a program with its arguments.

        Raises:
            GuestDied: the guest did not answer.
        """
        argv = ["/bin/bash", "-c", command] if isinstance(command, str) else list(command)
        answer = self._ask(
            seconds + SPARE,
            op="run",
            argv=argv,
            seconds=seconds,
            input=text,
            env={"PYTHONPATH": str(SOURCE), **(environ or {})},
            cwd=str(SOURCE),
        )
        shown = command if isinstance(command, str) else " ".join(command)
        return Done(shown, answer["code"], answer.get("out", ""), answer.get("seconds", 0.0))

    def python(self, module: str, *arguments: str, seconds: float = SECONDS) -> Done:
        """Run one of our modules, with the interpreter that runs this."""
        return self.run([sys.executable, "-m", module, *arguments], seconds=seconds)

    def call(self, module: str, function: str, *arguments: object, seconds: float = SECONDS) -> Done:
        """Call a function of one of our modules, in a process that is forked from one that has imported it already.

        Raises:
            GuestDied: the guest did not answer.
        """
        # What a test waits for is slow in an emulated processor on a busy host.
        environ = {"PYTHONPATH": str(SOURCE), "OCFS2_LAB_DEADLINE": str(int(seconds / 2))}
        nursery = [sys.executable, "-m", "tests.real.vm.nursery"]
        self._ask(BOOT_SECONDS, op="nurse", argv=nursery, env=environ, cwd=str(SOURCE))
        answer = self._ask(
            seconds + SPARE, op="call", module=module, function=function, arguments=arguments, seconds=seconds
        )
        shown = f"{module}.{function}{arguments}"
        return Done(shown, answer["code"], answer.get("out", ""), answer.get("seconds", 0.0))

    def sweep(self) -> None:
        """Kill all that scenes have left running.

        Raises:
            GuestDied: the guest did not answer.
            AssertionError: something there cannot be killed.
        """
        answer = self._ask(SPARE, op="sweep")
        assert answer["code"] == 0, answer["out"]

    @contextmanager
    def scene(self, name: str) -> Iterator[None]:
        """Within, the kernel must not complain; at the end nothing runs any more. Costs are noted.

        Raises:
            KernelComplained: it has.
        """
        begin, (computed, _) = time.monotonic(), self.machine.usage()
        self._judged = len(self.kernel)
        try:
            yield
        except Exception as failure:
            failure.add_note("\n".join([f"{self.name}'s kernel:", *self.kernel[self._judged :][-TOLD_MESSAGES:]]))
            raise
        finally:
            if self.machine.lives():
                with suppress(GuestDied):
                    self.sweep()
                with suppress(ProcessLookupError):
                    now, memory = self.machine.usage()
                    seconds = time.monotonic() - begin
                    self.costs.append(
                        Cost(f"{self.name}: {name}", seconds, now - computed, memory, self._available / 1024)
                    )
        self.judge()

    def judge(self) -> None:
        """See whether the kernel has complained since the scene began.

        Raises:
            KernelComplained: it has.
        """
        new = self.kernel[self._judged :]
        if bad := [line for line in new if COMPLAINTS.search(line)]:
            raise KernelComplained("\n".join([f"{self.name}: {bad[0]}", *new[-200:]]))

    def messages(self, pattern: str = "") -> list[str]:
        """What the kernel has said in this scene so far, without the levels; of it, what matches."""
        self._ask(SPARE, op="run", argv=["/bin/true"], seconds=SPARE, input="", env={}, cwd="/")
        lines = [line.partition(",")[2] for line in self.kernel[self._judged :]]
        return [line for line in lines if re.search(pattern, line)]

    # The end.

    def power_off(self) -> None:
        """Cut its power: QEMU is killed, and nothing in the guest hears of it before."""
        self.machine.kill()

    def close(self) -> None:
        """End it, and remove what it has left. May be called again."""
        self.machine.kill()
        self._socket.close()
        if self._reader.ident is not None:
            self._reader.join()
        shutil.rmtree(self._home, ignore_errors=True)

    # The port.

    def _connect(self) -> None:
        end = time.monotonic() + BOOT_SECONDS
        while True:
            try:
                self._socket.connect(str(self.machine.agent))
            except (FileNotFoundError, ConnectionRefusedError):
                if not self.machine.lives() or time.monotonic() > end:
                    raise GuestDied(f"{self.name}: QEMU does not start: {self.machine.last_words()}") from None
                time.sleep(0.01)
            else:
                return

    def _expect(self) -> tuple[int, Future[dict[str, Any]]]:
        with self._lock:
            number = self._waiting.last
            self._waiting.last += 1
            future: Future[dict[str, Any]] = Future()
            if self._waiting.over:
                future.cancel()
            self._waiting.futures[number] = future
            return number, future

    def _ask(self, patience: float, /, **request: Any) -> dict[str, Any]:
        number, future = self._expect()
        line = json.dumps({"id": number, **request}).encode() + b"\n"
        with suppress(OSError), self._lock:
            self._socket.sendall(line)
        return self._answer(future, " ".join(request.get("argv", [request["op"]]))[:200], patience)

    def _answer(self, future: Future[dict[str, Any]], what: str, seconds: float) -> dict[str, Any]:
        try:
            return future.result(seconds)
        except FutureTimeoutError:
            raise GuestDied(f"{self.name}: no answer in {seconds:.0f} s: {what}\n{self._last_words()}") from None
        except BaseException as error:
            if not future.cancelled():
                raise
            raise GuestDied(f"{self.name} died: {what}\n{self._last_words()}") from error

    def _last_words(self) -> str:
        return "\n".join([*self.kernel[-50:], self.machine.last_words()])

    def _read(self) -> None:
        """Give each answer to whoever waits for it, until the guest is gone."""
        try:
            with self._socket.makefile("rb") as lines:
                for line in lines:
                    answer = json.loads(line)
                    self.kernel += answer["kernel"]
                    self._available = answer["available"]
                    with self._lock:
                        future = self._waiting.futures.pop(answer["id"], None)
                    if future is not None:
                        future.set_result(answer)
        except (OSError, ValueError):
            pass
        with self._lock:
            self._waiting.over = True
            left = list(self._waiting.futures.values())
        for future in left:
            future.cancel()
