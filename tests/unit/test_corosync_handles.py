"""What surrounds corosync's libraries: declarations, errors, callbacks, worker, host names, the choice of engine."""

import asyncio
import socket
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from libo2cb.config import parse
from libo2cb.engine import choose
from libo2cb.engine.corosync import build, errors, handles, libraries, nodelist
from libo2cb.engine.corosync.channel import CorosyncChannel
from libo2cb.engine.corosync.handles import Cmap, Cpg, Quorum
from libo2cb.engine.corosync.libraries import FFI
from libo2cb.engine.corosync.membership import CorosyncMembership, _MembershipLink
from libo2cb.engine.corosync.resolver import Resolver
from libo2cb.engine.corosync.said import Confchg, KeyChanged, Message, NodeList, TotemConfchg
from libo2cb.engine.corosync.worker import Worker
from libo2cb.engine.port import ChannelMember, Configured, MembershipEvent
from libo2cb.engine.sandbox import SandboxChannel, SandboxMembership
from libo2cb.errors import O2cbError
from protocol.identity import Ring

PATIENCE = 20.0


def test_the_declarations_are_those_of_the_build_module() -> None:
    said = "run python -m libo2cb.engine.corosync.build"
    assert build.generate() == build.TARGET.read_text(encoding="utf-8"), said


def test_neither_compiler_nor_parser_is_imported_at_run_time() -> None:
    code = (
        "import sys; import libo2cb.engine.corosync.membership, libo2cb.engine.corosync.channel; "
        "print([m for m in sys.modules if m.split('.')[0] in ('pycparser', 'cffi', 'setuptools')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


# errors


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (2, "cpg_join failed with CS_ERR_LIBRARY (2): corosync does not run, or has just ended; start it"),
        (11, "CS_ERR_ACCESS (11): corosync admits only root and the users in its uidgid.d; run the daemon as root, or"),
        (15, "make /dev/shm larger"),
        (9999, "cpg_join failed with an error of corosync (9999)"),
    ],
)
def test_an_error_names_call_code_and_meaning_and_what_to_do(code: int, words: str) -> None:
    error = errors.CorosyncError("cpg_join", code)
    assert isinstance(error, O2cbError)
    assert words in error.sentence()
    assert (error.call, error.error) == ("cpg_join", code)


@contextmanager
def loaded_from(monkeypatch: pytest.MonkeyPatch, name: str, file: str, package: str) -> Iterator[None]:
    """Have the libraries loaded anew, one of them from another file."""
    monkeypatch.setitem(libraries._FILES, name, (file, package))
    libraries.libraries.cache_clear()
    try:
        yield
    finally:
        libraries.libraries.cache_clear()


def test_a_library_that_is_missing_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = loaded_from(monkeypatch, "cpg", "libcpg-of-nobody.so.4", "libcpg4")
    with elsewhere, pytest.raises(errors.LibraryMissing) as caught:
        CorosyncChannel("group")
    assert "libcpg-of-nobody.so.4 cannot be loaded" in caught.value.sentence()
    assert "apt-get install libcpg4" in caught.value.sentence()


def test_a_library_of_an_older_corosync_is_named_before_anything_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    """Libcmap stands for a libquorum of 3.0: it has the file name, and not the functions."""
    elder = loaded_from(monkeypatch, "quorum", "libcmap.so.4", "libquorum5")
    with elder, pytest.raises(errors.LibraryTooOld) as caught:
        CorosyncMembership("o2cb")
    assert "libcmap.so.4 is too old: it has no quorum_" in caught.value.sentence()
    assert "install corosync 3.1 or later" in caught.value.sentence()


def test_a_call_that_says_try_again_is_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libraries, "RETRY_TIME", 0.1)

    class Library:
        def __init__(self, *answers: int) -> None:
            self.answers = list(answers)

        def cpg_join(self, _number: int) -> int:
            return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    libraries.insist(Library(6, 6, 1), "cpg_join", 1)
    with pytest.raises(errors.CorosyncError, match=r"CS_ERR_TRY_AGAIN \(6\)"):
        libraries.insist(Library(6), "cpg_join", 1)
    with pytest.raises(errors.CorosyncError, match="CS_ERR_EXIST"):
        libraries.insist(Library(6, 14), "cpg_join", 1)
    with pytest.raises(errors.CorosyncError, match="CS_ERR_TRY_AGAIN"):
        libraries.call(Library(6, 1), "cpg_join", 1)


# callbacks: called as the libraries call them


class Library:
    """Calls back from its dispatch."""

    def __init__(self, *steps: Callable[[], int]) -> None:
        self.steps = list(steps)

    def cpg_dispatch(self, _number: int, _how: int) -> int:
        return self.steps.pop(0)() if self.steps else errors.TRY_AGAIN

    quorum_dispatch = cmap_dispatch = cpg_dispatch

    def cpg_finalize(self, _number: int) -> int:
        return errors.LIBRARY


@contextmanager
def opened(kind: type[Cpg | Quorum | Cmap], number: int, *steps: Callable[[], int]) -> Iterator[Any]:
    handle: Any = kind.__new__(kind)
    handle._number, handle._library = number, Library(*steps)
    handle._said, handle._failed = deque(), None
    kind.OPEN[number] = handle
    try:
        yield handle
    finally:
        kind.OPEN.pop(number, None)


def step(callback: Any, *arguments: Any) -> Callable[[], int]:
    def called() -> int:
        callback(*arguments)
        return errors.OK

    return called


def test_each_callback_becomes_a_value() -> None:
    data = FFI.new("char[]", b"a\0b")
    members = FFI.new("struct cpg_address[]", [(1, 11, 0), (3, 33, 0)])
    left, joined = FFI.new("struct cpg_address[]", [(2, 22, 3)]), FFI.new("struct cpg_address[]", [(3, 33, 1)])
    nodes = FFI.new("uint32_t[]", [1, 3])
    ring = FFI.new("struct cpg_ring_id *", (1, 1 << 40))[0]
    steps = (
        step(handles._deliver, 7, FFI.NULL, 1, 11, data, 3),
        step(handles._deliver, 7, FFI.NULL, 1, 11, FFI.NULL, 0),
        step(handles._confchg, 7, FFI.NULL, members, 2, left, 1, joined, 1),
        step(handles._confchg, 7, FFI.NULL, members, 1, FFI.NULL, 0, FFI.NULL, 0),
        step(handles._totem, 7, ring, 2, nodes),
    )
    with opened(Cpg, 7, *steps) as cpg:
        assert list(cpg.take(100)) == [
            Message(ChannelMember(1, 11), b"a\0b"),
            Message(ChannelMember(1, 11), b""),
            Confchg(
                (ChannelMember(1, 11), ChannelMember(3, 33)), ((ChannelMember(2, 22), 3),), ((ChannelMember(3, 33), 1),)
            ),
            Confchg((ChannelMember(1, 11),), (), ()),
            TotemConfchg(Ring(1 << 40, 1), (1, 3)),
        ]
    ring = FFI.new("struct quorum_ring_id *", (1, 9))[0]
    both = (
        step(handles._nodelist, 7, ring, 2, nodes, 1, nodes, 0, FFI.NULL),
        step(handles._quorum, 7, 1, ring, 0, nodes),
    )
    with opened(Quorum, 7, *both) as quorum:
        assert list(quorum.take(1)) == [NodeList(Ring(9, 1), (1, 3), (1,), ())], "no more than was asked for"
        (said,) = quorum.take(1)
        assert (said.ring, said.quorate) == (Ring(9, 1), True)
    key, nothing = FFI.new("char[]", b"nodelist.\xff"), FFI.new("struct cmap_notify_value *", (0, 0, FFI.NULL))[0]
    with opened(Cmap, 7, step(handles._key_changed, 7, 1, 4, key, nothing, nothing, FFI.NULL)) as cmap:
        assert [said.key for said in cmap.take(9)] == ["nodelist.\udcff"]


def test_an_exception_in_a_callback_is_raised_where_it_was_dispatched() -> None:
    with opened(Cpg, 7, step(handles._deliver, 7, FFI.NULL, 1, 11, FFI.NULL, 0)) as cpg:
        cpg.say = None  # whatever can go wrong there
        with pytest.raises(TypeError, match="not callable"):
            list(cpg.take(1))
        assert list(cpg.take(1)) == [], "it is raised once"


def test_a_lost_connection_is_an_error_and_a_closed_one_says_nothing_more() -> None:
    message = step(handles._deliver, 7, FFI.NULL, 1, 11, FFI.NULL, 0)
    with opened(Cpg, 7, message, lambda: errors.LIBRARY) as cpg:
        heard = cpg.take(100)
        assert isinstance(next(heard), Message)
        with pytest.raises(errors.CorosyncError, match="cpg_dispatch failed with CS_ERR_LIBRARY"):
            next(heard)
    with opened(Cpg, 7, message, message) as cpg:
        heard = cpg.take(100)
        next(heard)
        cpg.finalize()
        cpg.finalize()
        assert list(heard) == []


@pytest.mark.parametrize(
    ("kind", "raw", "value"),
    [
        (2, b"\x01", 1),
        (6, b"\x02\0\0\0", 2),
        (5, b"\xff\xff\xff\xff", -1),
        (8, b"\xff" * 8, 2**64 - 1),
        (10, b"\0\0\0\0\0\0\xf0\x3f", 1.0),
        (11, b"name\0", "name"),
        (11, b"\xff", "\udcff"),
        (6, b"\x02", b"\x02"),
        (12, b"raw", b"raw"),
    ],
)
def test_values_of_cmap(kind: int, raw: bytes, value: object) -> None:
    assert handles._value(kind, raw) == value


# the worker


def test_the_worker_makes_one_call_after_the_other_on_one_thread_and_ends() -> None:
    async def run() -> None:
        seen: list[str] = []
        worker = Worker("w", lambda: seen.append("entered"))
        threads = await asyncio.gather(*(worker.call(threading.current_thread) for _ in range(3)))
        assert len(set(threads)) == 1
        with pytest.raises(ZeroDivisionError):
            await worker.call(lambda: 1 // 0)
        go = threading.Event()
        stuck = worker.call(lambda: go.wait(PATIENCE))
        stuck.cancel()
        behind = worker.call(lambda: seen.append("after the stuck one"))
        assert seen == ["entered"], "while a call hangs, the loop goes on and the next call waits"
        worker.end()
        go.set()
        await behind
        await asyncio.to_thread(threads[0].join, PATIENCE)
        assert not threads[0].is_alive()

    asyncio.run(run())


def test_without_a_thread_a_call_is_not_made_and_the_next_one_tries_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        worker = Worker("w")
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", _no_thread)
            with pytest.raises(OSError, match="no thread can be started"):
                await worker.call(lambda: 1)
            assert Resolver().resolve(["n1"], PATIENCE) == {}
        assert await worker.call(lambda: 2) == 2
        worker.end()

    asyncio.run(run())


def _no_thread(_thread: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")


def test_a_call_that_comes_back_after_the_loop_hurts_nobody() -> None:
    go, worker = threading.Event(), Worker("w")

    async def run() -> threading.Thread:
        thread = await worker.call(threading.current_thread)
        worker.call(lambda: go.wait(PATIENCE))
        return thread

    thread = asyncio.run(run())
    worker.end()
    go.set()
    thread.join(PATIENCE)
    assert not thread.is_alive()


# a list of keys


class CmapLibrary:
    """Two keys; the second one is answered with an error."""

    def __init__(self, get: int, end: int) -> None:
        self.keys = [b"nodelist.node.0.name", b"nodelist.node.1.name"]
        self.get, self.end, self.open = get, end, 0

    def cmap_iter_init(self, _number: int, _prefix: bytes, _iterator: Any) -> int:
        self.open += 1
        return errors.OK

    def cmap_iter_next(self, _number: int, _iterator: int, key: Any, size: Any, _kind: Any) -> int:
        if not self.keys:
            return self.end
        name = self.keys[0] + b"\0"
        FFI.buffer(key)[0 : len(name)] = name
        size[0] = 3
        return errors.OK

    def cmap_get(self, _number: int, _key: Any, value: Any, size: Any, kind: Any) -> int:
        name = self.keys.pop(0)
        FFI.buffer(value)[0:3] = b"n1\0"
        size[0], kind[0] = 3, handles.CMAP_STRING
        return errors.OK if b".0." in name else self.get

    def cmap_iter_finalize(self, _number: int, _iterator: int) -> int:
        self.open -= 1
        return errors.OK


@pytest.mark.parametrize(
    ("get", "end", "call"),
    [
        (errors.NOT_EXIST, errors.NO_SECTIONS, None),
        (errors.NO_SPACE, errors.NO_SECTIONS, None),
        (errors.LIBRARY, errors.NO_SECTIONS, "cmap_get"),
        (errors.OK, errors.LIBRARY, "cmap_iter_next"),
    ],
)
def test_half_a_list_of_keys_is_none(get: int, end: int, call: str | None) -> None:
    """Corosync dies while it is asked: what was read until then must not be taken for the whole configuration."""
    cmap: Any = Cmap.__new__(Cmap)
    cmap._number, cmap._library = 7, CmapLibrary(get, end)
    if call is None:
        assert cmap.read("nodelist.") == {"nodelist.node.0.name": "n1"}
    else:
        with pytest.raises(errors.CorosyncError, match=rf"{call} failed with CS_ERR_LIBRARY"):
            cmap.read("nodelist.")
    assert cmap._library.open == 0


# a reload in the midst of a reading


class Keys:
    """A cmap that says what a test says, and counts who reads."""

    def __init__(self) -> None:
        self.lists = [("n1",), ("half", "of"), ("n1", "n2")]
        self.notices = 0

    def read(self, prefix: str) -> dict[str, Any]:
        if prefix != "nodelist.":
            return {}
        names = self.lists.pop(0)
        if self.lists:
            self.notices = 1  # it changes while it is read
        return {f"nodelist.node.{i}.{k}": v for i, n in enumerate(names) for k, v in (("nodeid", i + 1), ("name", n))}

    def take(self, limit: int) -> Iterator[KeyChanged]:
        notices, self.notices = min(limit, self.notices), 0
        yield from [KeyChanged("nodelist.local_node_pos")] * notices


def test_what_was_read_while_it_changed_is_never_told() -> None:
    async def run() -> None:
        heard: list[MembershipEvent] = []
        came = asyncio.Event()

        def sink(event: MembershipEvent) -> None:
            heard.append(event)
            came.set()

        worker = Worker("w")
        session = SimpleNamespace(worker=worker, pause=lambda _: None, resume=lambda _: None, tell=sink)
        link: Any = _MembershipLink(session, Resolver(), count(1))  # type: ignore[arg-type]
        link._cmap, link._attached = Keys(), True
        link._configuration = nodelist.read({}, 1, "n1", {})
        link._hear_key(KeyChanged("config.reload_in_progress"))
        await asyncio.wait_for(came.wait(), PATIENCE)
        assert [[n.name for n in e.nodes] for e in heard if isinstance(e, Configured)] == [["n1", "n2"]]
        link.detached()
        worker.end()

    asyncio.run(run())


# host names


def test_host_names_are_resolved_and_a_silent_resolver_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    go = threading.Event()
    asked: list[str] = []

    def getaddrinfo(host: bytes, *_: Any) -> list[Any]:
        name = host.decode()
        asked.append(name)
        if name == "silent":
            go.wait(PATIENCE)
        if name == "unknown":
            raise socket.gaierror(-2, "Name or service not known")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("10.0.0.1", 0))]

    monkeypatch.setattr("libo2cb.engine.corosync.resolver.socket.getaddrinfo", getaddrinfo)
    resolver = Resolver()
    assert resolver.resolve([]) == {}
    assert resolver.resolve(["db1", "unknown"], PATIENCE) == {"db1": "10.0.0.1"}
    assert resolver.resolve(["db1", "silent"], 0.05) == {"db1": "10.0.0.1"}, "what was found before stays"
    assert resolver.resolve(["db3"], 0.05) == {}
    assert "db3" not in asked, "there is one thread at most"
    go.set()
    assert resolver.resolve(["db1"], PATIENCE) == {"db1": "10.0.0.1"}
    assert resolver.resolve(["silent", "db3"], PATIENCE).keys() == {"silent", "db3"}


def test_the_systems_resolver_knows_this_machine() -> None:
    assert Resolver().resolve(["localhost"]) == {"localhost": "127.0.0.1"}


# the choice


def test_the_engine_is_the_one_that_is_named() -> None:
    engine = '[engine]\nkind = "sandbox"\nhub = "/x/hub.sock"\nnode = "n1"\n'
    sandbox = parse(engine + '[kernel]\ndriver = "sandbox"\nroot = "/x/kernel"\n[fencing]\nkind = "none"\n')
    assert isinstance(choose.membership(sandbox, "a"), SandboxMembership)
    assert isinstance(choose.channel(sandbox, "a"), SandboxChannel)
    code = """if True:
        import sys
        from libo2cb.config import parse
        from libo2cb.engine import choose
        config = parse('[engine]\\nkind = "corosync"\\n[kernel]\\ndriver = "sandbox"\\nroot = "/x/kernel"\\n')
        print("corosync" in str(sys.modules.keys()))
        try:
            choose.membership(config, "a"), choose.channel(config, "a")
        except Exception as error:
            print(type(error).__name__)
        print("libo2cb.engine.sandbox" in sys.modules)
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    said = done.stdout.splitlines()
    assert said[0] == said[-1] == "False", "nobody imports what he was not asked for"
    assert said[1:-1] in ([], ["LibraryMissing"])


def test_a_group_has_128_bytes_and_a_message_64_kib() -> None:
    with pytest.raises(ValueError, match="128 bytes at most"):
        CorosyncChannel("ö" * 65)
    assert nodelist.SEATS == 128


def test_the_package_lists_its_modules() -> None:
    package = Path(build.__file__).parent
    said = (package / "__init__.py").read_text()
    for path in package.glob("*.py"):
        assert path.name in said or path.name == "__init__.py"
