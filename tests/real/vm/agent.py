"""Runs in a guest: takes requests from the host over a virtio-serial port, and answers each.

Both are JSON, one a line. A request has an id and an "op":

    run    argv, env, cwd, input, seconds   answered once the command has ended: code, out (stdout and stderr as they
                                            came), kernel (messages since the last answer), seconds, memory
    nurse  argv, env, cwd                   start a process that has imported what calls need (nursery.py)
    call   module, function, arguments, seconds   have it call a function, in a fork; answered as run
    sweep                                   kill whatever runs in the guest but this agent and the nursery
    off                                     end; the guest is switched off then

`code` is an exit code, below zero for a signal, None when the command was killed because its seconds were over. A
command leads a session of its own; what it leaves running stays until a sweep.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, BinaryIO, Final

PORT: Final = "agent"
SHARE: Final = "/out"
"""The directory that the host sees, too: what a call says can be read there while it runs."""
MOST_OUTPUT: Final = 4 << 20
"""Bytes of a command's output that are brought back: the last ones."""
RECORD: Final = 8192

Request = dict[str, Any]


class KernelLog:
    """The kernel's messages, each given out once: "4,WARNING: ...", the level before the text."""

    def __init__(self) -> None:
        self._file = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        self._lock = threading.Lock()

    def new(self) -> list[str]:
        """The messages since the last call."""
        found: list[str] = []
        with self._lock:
            while True:
                try:
                    record = os.read(self._file, RECORD)
                except BlockingIOError:
                    return found
                except BrokenPipeError:
                    found.append("3,vm: kernel messages were overwritten before they were read")
                    continue
                head, _, text = record.decode("utf-8", "replace").partition(";")
                found.append(f"{int(head.split(',')[0]) & 7},{text.splitlines()[0]}")


class Agent:
    """Serves one port until it is told to stop."""

    def __init__(self, reader: BinaryIO, writer: BinaryIO) -> None:
        self._reader = reader
        self._writer = writer
        self._lock = threading.Lock()
        self._kernel = KernelLog()
        self._nursery: subprocess.Popen[str] | None = None
        self._nursing = threading.Lock()

    def serve(self) -> None:
        """Take requests; commands run beside each other."""
        self._answer(0, {"ready": time.monotonic()})
        while line := self._reader.readline():
            request: Request = json.loads(line)
            if request["op"] == "off":
                return
            threading.Thread(target=self._carry_out, args=(request,), daemon=True).start()

    def _carry_out(self, request: Request) -> None:
        try:
            does = {"run": self._run, "nurse": self._nurse, "call": self._call, "sweep": self._sweep}
            answer = does[request["op"]](request)
        except (OSError, LookupError, ValueError) as error:
            answer = {"code": 126, "out": f"{type(error).__name__}: {error}"}
        self._answer(request["id"], answer)

    def _answer(self, number: int, answer: dict[str, Any]) -> None:
        available = Path("/proc/meminfo").read_text().split("MemAvailable:")[1].split()[0]
        with self._lock:
            answer |= {"id": number, "kernel": self._kernel.new(), "available": int(available)}
            self._writer.write(json.dumps(answer).encode() + b"\n")
            self._writer.flush()

    def _run(self, request: Request) -> dict[str, Any]:
        begin = time.monotonic()
        with tempfile.TemporaryFile() as output:
            process = subprocess.Popen(
                request["argv"],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                cwd=request["cwd"],
                env={**os.environ, **request["env"]},
                start_new_session=True,
            )
            try:
                process.communicate(request["input"].encode(), timeout=request["seconds"])
                code: int | None = process.returncode
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                code = None
            return {"code": code, "out": _end_of(output), "seconds": time.monotonic() - begin}

    def _nurse(self, request: Request) -> dict[str, Any]:
        with self._nursing:
            if self._nursery is None:
                self._nursery = subprocess.Popen(
                    request["argv"],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                    cwd=request["cwd"],
                    env={**os.environ, **request["env"]},
                )
                self._of_nursery("ready")
        return {"code": 0}

    def _of_nursery(self, key: str) -> Any:
        assert self._nursery is not None
        assert self._nursery.stdout is not None
        line = self._nursery.stdout.readline()
        if not line:
            raise OSError(f"the nursery has ended: {self._nursery.wait()}")
        return json.loads(line)[key]

    def _call(self, request: Request) -> dict[str, Any]:
        begin = time.monotonic()
        with self._nursing, tempfile.NamedTemporaryFile(dir=SHARE, prefix="call") as output:
            if self._nursery is None or self._nursery.stdin is None:
                raise ValueError("no nursery was started")
            call = {key: request[key] for key in ("module", "function", "arguments")}
            self._nursery.stdin.write(json.dumps(call | {"out": output.name}) + "\n")
            self._nursery.stdin.flush()
            pid, late = self._of_nursery("pid"), threading.Event()

            def end() -> None:
                late.set()
                with suppress(ProcessLookupError):
                    os.killpg(pid, signal.SIGKILL)

            timer = threading.Timer(request["seconds"], end)
            timer.start()
            code = self._of_nursery("code")
            timer.cancel()
            return {
                "code": None if late.is_set() else code,
                "out": _end_of(output),
                "seconds": time.monotonic() - begin,
            }

    def _sweep(self, _: Request) -> dict[str, Any]:
        """Kill all but the kernel's threads, the first process, this one and the nursery."""
        spared = {1, os.getpid(), self._nursery.pid if self._nursery else 0}
        for _again in range(100):
            running = {int(each.name) for each in Path("/proc").iterdir() if each.name.isdigit()} - spared
            found = [pid for pid in running if _is_a_scenes(pid)]
            if not found:
                return {"code": 0}
            for pid in found:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.02)
        return {"code": 1, "out": f"these do not die: {found}"}


def _end_of(output: IO[bytes]) -> str:
    size = output.seek(0, os.SEEK_END)
    output.seek(max(0, size - MOST_OUTPUT))
    return output.read().decode("utf-8", "replace")


def _is_a_scenes(pid: int) -> bool:
    with suppress(OSError):
        # A kernel thread has no command line; neither has a zombie.
        return Path(f"/proc/{pid}/cmdline").read_bytes() != b""
    return False


def main() -> None:
    """Find the port, and serve it."""
    for name in Path("/sys/class/virtio-ports").glob("*/name"):
        if name.read_text().strip() == PORT:
            # It can be opened only once, and so its two directions share a descriptor.
            port = os.open(f"/dev/{name.parent.name}", os.O_RDWR | os.O_CLOEXEC)
            with os.fdopen(port, "rb", closefd=False) as reader, os.fdopen(port, "wb") as writer:
                Agent(reader, writer).serve()
            return
    sys.exit(f"there is no virtio port {PORT}")


if __name__ == "__main__":
    main()
