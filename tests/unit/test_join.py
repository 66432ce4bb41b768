"""The client's side of the mount protocol, against a server on a real socket that says what it is told to say."""

import errno
import io
import os
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Self

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libo2cb import connection as connection_module
from libo2cb.errors import (
    ConfigurationError,
    InternalFailure,
    IoError,
    O2cbError,
    PermissionDenied,
    ServiceUnavailable,
)
from libo2cb.join import DaemonRefused, GroupJoin, JoinState, begin_group_join, complete_group_join, group_leave
from libo2cb.processes import socket_address
from libo2cb.verbose import o2cb_set_verbose

UUID = "94A94C12FF614DD894BF9D0CF62F3987"
ME = frozenset({os.getuid()})
DEADLINE = 30.0
OK = b"STATUS 0 OK"


def record(text: bytes) -> bytes:
    return text.ljust(256, b"\0")


class Server:
    """A listening socket, and the connections that it took. It does only what a test tells it to."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._open = ExitStack()
        self.listener = self._open.enter_context(socket.socket(socket.AF_UNIX))
        self.listener.settimeout(DEADLINE)
        self.listener.bind(socket_address(name))
        self.listener.listen(16)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def accept(self) -> socket.socket:
        peer = self._open.enter_context(self.listener.accept()[0])
        peer.settimeout(DEADLINE)
        return peer

    def take(self) -> tuple[socket.socket, bytes]:
        """The next connection, with the text of its first record."""
        peer = self.accept()
        return peer, text_from(peer)


def text_from(peer: socket.socket) -> bytes:
    data = b""
    while len(data) < 256 and (piece := peer.recv(256 - len(data))):
        data += piece
    return data.partition(b"\0")[0]


@pytest.fixture(params=["path", "abstract"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    name = str(tmp_path / "s") if request.param == "path" else f"@test-join-{os.getpid()}-{tmp_path.name}"
    with Server(name) as made:
        yield made


def ask(server: Server, device: str = "/dev/vdb", service: str = "ocfs2") -> GroupJoin:
    return GroupJoin(UUID, "demo", device, service, socket_name=server.name, trusted_uids=ME)


def behind(work: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def test_a_mount_from_begin_to_end(server: Server) -> None:
    heard: list[bytes] = []

    def daemon() -> None:
        peer, text = server.take()
        heard.append(text)
        peer.sendall(record(OK))
        heard.append(text_from(peer))
        peer.sendall(record(OK))
        heard.append(text_from(peer))
        leaver, text = server.take()
        heard.append(text)
        leaver.sendall(record(b"STATUS 0 left it"))

    thread = behind(daemon)
    join = begin_group_join(UUID, "demo", "/dev/vdb", socket_name=server.name, trusted_uids=ME)
    assert (join.state, join.already, join.said) == (JoinState.JOINED, False, "OK")
    complete_group_join(join, 0)
    assert join.state is JoinState.OVER
    assert group_leave(UUID, socket_name=server.name, trusted_uids=ME) == "left it"
    thread.join(DEADLINE)
    assert heard == [
        b"MOUNT ocfs2 %s demo /dev/vdb ocfs2" % UUID.encode(),
        b"MRESULT ocfs2 %s 0 ocfs2" % UUID.encode(),
        b"",
        b"UNMOUNT ocfs2 %s ocfs2" % UUID.encode(),
    ]


def test_already_mounted_is_joined(server: Server) -> None:
    with ask(server) as join:
        server.take()[0].sendall(record(b"STATUS 114 Already mounted, go ahead"))
        join.wait(timeout=DEADLINE)
        assert (join.already, join.said) == (True, "Already mounted, go ahead")


@pytest.mark.parametrize("result", [errno.ENODEV, -1485330940, -(2**31)])
def test_a_failed_mount_is_told_with_its_number(server: Server, result: int) -> None:
    heard: list[bytes] = []

    def daemon() -> None:
        peer, _ = server.take()
        peer.sendall(record(OK))
        heard.append(text_from(peer))
        peer.sendall(record(OK))

    thread = behind(daemon)
    join = ask(server, "/dev/vdb", "fsck.ocfs2")
    join.wait(timeout=DEADLINE)
    join.complete(result)
    thread.join(DEADLINE)
    assert heard == [f"MRESULT ocfs2 {UUID} {result} fsck.ocfs2".encode()]


@pytest.mark.parametrize(("code", "words"), [(16, "EBUSY"), (-114, "error -114"), (-16, "error -16")])
def test_a_refusal_carries_the_daemons_own_sentence(server: Server, code: int, words: str) -> None:
    join = ask(server)
    peer, _ = server.take()
    peer.sendall(record(f"STATUS {code} n3 is not fenced yet; switch it off".encode()))
    with pytest.raises(DaemonRefused) as raised:
        join.wait(timeout=DEADLINE)
    assert (raised.value.status, raised.value.said) == (code, "n3 is not fenced yet; switch it off")
    assert str(raised.value).startswith(f"filesystem {UUID} was not joined ({words}")
    assert str(raised.value).endswith("n3 is not fenced yet; switch it off")
    assert raised.value.name == "O2CB_ET_CONFIGURATION_ERROR"
    assert text_from(peer) == b""
    assert join.fileno() == -1


def test_complete_and_leave_honour_errors(server: Server) -> None:
    def daemon() -> None:
        peer, _ = server.take()
        peer.sendall(record(OK))
        text_from(peer)
        peer.sendall(record(b"STATUS 22 Unknown service"))
        server.take()[0].sendall(record(b"STATUS 2 not mounted anywhere"))

    thread = behind(daemon)
    join = begin_group_join(UUID, "demo", "/dev/vdb", socket_name=server.name, trusted_uids=ME)
    with pytest.raises(DaemonRefused, match=r"the mount's result \(success\).*Unknown service"):
        join.complete(0)
    assert join.fileno() == -1
    with pytest.raises(DaemonRefused, match=r"was not left.*not mounted anywhere"):
        group_leave(UUID, socket_name=server.name, trusted_uids=ME)
    thread.join(DEADLINE)


def test_several_joins_at_once_each_with_its_own_answer(server: Server) -> None:
    joins = [ask(server, f"/dev/vd{n}") for n in "abc"]
    peers = [server.take() for _ in joins]
    assert [text.split()[4] for _, text in peers] == [b"/dev/vda", b"/dev/vdb", b"/dev/vdc"]
    for number, (peer, _) in reversed(list(enumerate(peers))):
        peer.sendall(record(b"STATUS 0 you are %d" % number))
    for number, join in enumerate(joins):
        join.wait(timeout=DEADLINE)
        assert join.said == f"you are {number}"
        join.close()


def test_a_loop_of_its_own_watches_the_descriptor(server: Server) -> None:
    with ask(server) as join:
        assert not join.receive()
        assert select.select([join], [], [], 0)[0] == []
        peer, _ = server.take()
        peer.sendall(record(OK)[:100])
        assert select.select([join], [], [], DEADLINE)[0] == [join]
        assert not join.receive()
        peer.sendall(record(OK)[100:])
        assert select.select([join], [], [], DEADLINE)[0] == [join]
        assert join.receive()
        assert join.receive()


def test_progress_is_shown_while_waiting(server: Server) -> None:
    seen: list[float] = []

    def waiting(seconds: float) -> None:
        seen.append(seconds)
        if len(seen) == 3:
            server.take()[0].sendall(record(OK))

    join = begin_group_join(
        UUID, "demo", "/dev/vdb", socket_name=server.name, trusted_uids=ME, waiting=waiting, every=0.02
    )
    assert seen == sorted(seen)
    assert seen[0] >= 0.02
    assert seen[2] >= 0.06
    assert join.state is JoinState.JOINED
    join.close()


def test_an_interrupt_leaves_no_connection_behind(server: Server) -> None:
    def waiting(_: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        begin_group_join(UUID, "demo", "/d", socket_name=server.name, trusted_uids=ME, waiting=waiting, every=0.01)
    peer, _ = server.take()
    assert peer.recv(1) == b""


def test_a_wait_may_end(server: Server) -> None:
    with pytest.raises(IoError, match=r"was not answered in 0\.05 s: see what"):
        begin_group_join(UUID, "demo", "/d", socket_name=server.name, trusted_uids=ME, timeout=0.05)
    with pytest.raises(ValueError, match="more than 0"):
        ask(server).wait(every=0)


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        (b"", IoError, "ended without an answer"),
        (record(OK)[:255], IoError, "ended inside an answer, after 255 of 256 bytes"),
        (record(b"rubbish"), IoError, "answers what is no message"),
        (record(b"STATUS 0"), IoError, "answers what is no message"),
        (record(b"STATUS zero OK"), IoError, "answers what is no message"),
        (record(b"\xff" * 255), IoError, "answers what is no message"),
        (record(b"ITEM x"), InternalFailure, "answered ITEM where STATUS was due"),
        (record(b"MOUNT a b c d ocfs2"), InternalFailure, "answered MOUNT where STATUS was due"),
        (record(OK) * 2, IoError, "says more than it was asked"),
        (record(OK) + b"x", IoError, "says more than it was asked"),
    ],
)
def test_whatever_else_comes_is_a_clear_error(server: Server, answer: bytes, kind: type[O2cbError], words: str) -> None:
    join = ask(server)
    peer, _ = server.take()
    peer.sendall(answer)
    peer.shutdown(socket.SHUT_WR)
    with pytest.raises(kind) as raised:
        join.wait(timeout=DEADLINE)
    assert words in str(raised.value)
    assert join.fileno() == -1


def test_an_answer_with_rubbish_behind_its_nul_is_an_answer(server: Server) -> None:
    with ask(server) as join:
        server.take()[0].sendall((OK + b"\0").ljust(256, b"\xff"))
        join.wait(timeout=DEADLINE)
        assert join.said == "OK"


def test_a_daemon_that_dies_or_speaks_before_the_result_is_an_error(server: Server) -> None:
    for last, words in ((b"", "ended without an answer"), (record(OK), "says more than it was asked")):
        join = ask(server)
        peer, _ = server.take()
        peer.sendall(record(OK))
        join.wait(timeout=DEADLINE)
        peer.sendall(last)
        peer.shutdown(socket.SHUT_WR)
        with pytest.raises(IoError) as raised:
            join.complete(0)
        assert words in str(raised.value)


def test_there_is_nothing_to_complete_before_and_after(server: Server) -> None:
    join = ask(server)
    with pytest.raises(ServiceUnavailable, match="no open join"):
        join.complete(0)
    join.close()
    join.close()
    for call in (lambda: join.complete(0), join.receive, join.wait):
        with pytest.raises(ServiceUnavailable, match="no open join"):
            call()


def test_a_stranger_on_the_name_is_not_believed_and_told_nothing(server: Server) -> None:
    stranger = frozenset({os.getuid() + 1})
    with pytest.raises(PermissionDenied) as raised:
        GroupJoin(UUID, "demo", "/d", socket_name=server.name, trusted_uids=stranger)
    assert f"uid {os.getuid()} listens there with " in str(raised.value)
    assert f"(pid {os.getpid()})" in str(raised.value)
    assert text_from(server.accept()) == b""


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("@nobody-is-here", ServiceUnavailable),
        ("/nowhere/socket", ServiceUnavailable),
        ("/dev/null/socket", ServiceUnavailable),
        ("/" + "x" * 200, ConfigurationError),
        ("@" + "x" * 200, ConfigurationError),
        ("a\0b", ConfigurationError),
        ("", ConfigurationError),
        ("@", ConfigurationError),
        ("/\ud800", ConfigurationError),
    ],
)
def test_a_name_without_a_daemon_is_refused(name: str, kind: type[O2cbError]) -> None:
    with pytest.raises(kind) as raised:
        group_leave(UUID, socket_name=name)
    assert str(raised.value).isprintable()
    assert str(raised.value).startswith("socket ")


@pytest.mark.parametrize(
    ("uuid", "device"), [("x" * 300, "/d"), ("a b", "/d"), (UUID, "/" + "d" * 255), (UUID, "a\0b"), (UUID, "\ud800")]
)
def test_what_cannot_be_sent_is_refused_before_anything_is(server: Server, uuid: str, device: str) -> None:
    with pytest.raises(IoError, match="cannot be sent"):
        GroupJoin(uuid, "demo", device, socket_name=server.name, trusted_uids=ME)
    server.listener.setblocking(False)
    with pytest.raises(BlockingIOError):
        server.listener.accept()


def test_names_keep_their_bytes(server: Server) -> None:
    with ask(server, os.fsdecode(b"/dev/my \xff disk")):
        assert server.take()[1] == b"MOUNT ocfs2 %s demo /dev/my \xff disk ocfs2" % UUID.encode()


def test_a_full_queue_is_waited_for(tmp_path: Path) -> None:
    with Server(str(tmp_path / "s")) as server, ExitStack() as crowd:
        server.listener.listen(0)
        full = 0
        while not full:
            one = crowd.enter_context(socket.socket(socket.AF_UNIX))
            one.setblocking(False)
            full = one.connect_ex(server.name)
        assert full == errno.EAGAIN
        said: list[str] = []
        thread = behind(lambda: said.append(group_leave(UUID, socket_name=server.name, trusted_uids=ME)))
        crowd.close()  # they stay in the queue, and whoever takes one finds its end
        while not (text := text_from(peer := server.accept())):
            pass
        assert text.startswith(b"UNMOUNT")
        peer.sendall(record(b"STATUS 0 your turn"))
        thread.join(DEADLINE)
        assert said == ["your turn"]


def test_a_queue_that_stays_full_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_module, "CONNECT_TIMEOUT", 1.0)
    with Server(str(tmp_path / "s")) as server, ExitStack() as crowd:
        server.listener.listen(0)
        while True:
            one = crowd.enter_context(socket.socket(socket.AF_UNIX))
            one.setblocking(False)
            if one.connect_ex(server.name):
                break
        start = time.monotonic()
        with pytest.raises(ServiceUnavailable, match="is jammed: its daemon took no connection in 1 s"):
            group_leave(UUID, socket_name=server.name, trusted_uids=ME)
        assert time.monotonic() - start > 0.9  # it did wait


def test_everything_that_passes_is_told(server: Server) -> None:
    stream = io.StringIO()
    o2cb_set_verbose(stream)
    try:
        with ask(server) as join:
            server.take()[0].sendall(record(OK))
            join.wait(timeout=DEADLINE)
        with pytest.raises(ServiceUnavailable):
            group_leave(UUID, socket_name="@nobody-is-here")
    finally:
        o2cb_set_verbose(None)
    assert stream.getvalue().splitlines() == [
        f'o2cb: connect("{server.name}") = 0',
        f"o2cb: -> {server.name} 256 bytes: MOUNT ocfs2 {UUID} demo /dev/vdb ocfs2",
        f"o2cb: <- {server.name} 256 bytes: STATUS 0 OK",
        'o2cb: connect("@nobody-is-here") = -1 ECONNREFUSED (Connection refused)',
    ]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.binary(max_size=300) | st.sampled_from([OK, record(OK), b"STATUS 114 x"]), max_size=4))
def test_any_answer_is_joined_or_refused(pieces: list[bytes]) -> None:
    with Server(f"@test-join-any-{os.getpid()}") as server:
        join = ask(server)
        peer, _ = server.take()
        data = b"".join(pieces)
        peer.sendall(data)
        peer.shutdown(socket.SHUT_WR)
        try:
            join.wait(timeout=DEADLINE)
        except O2cbError as error:
            refused = str(error)
            assert refused.isprintable()
        else:
            assert data.startswith(b"STATUS")
            assert len(data) == 256
        join.close()
