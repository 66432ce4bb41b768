"""The log, its ring, the signals and the command line: what both daemons show to the outside."""

import asyncio
import json
import os
import select
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libo2cb.events import Event, Log, log
from libo2cb.service import cli
from libo2cb.service.logs import Logger, Origin
from libo2cb.service.ring import LineRing
from libo2cb.service.signals import ASKED, watch

ORIGIN = Origin("ocfs2_controld", "i1", "b1", "n1")


def written(tmp_path: Path, *entries: Log, **options: Any) -> bytes:
    path = tmp_path / "log"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    try:
        logger = Logger(ORIGIN, descriptor=descriptor, **options)
        for entry in entries:
            logger.write(entry)
        assert logger.close(60)
    finally:
        os.close(descriptor)
    return path.read_bytes()


def test_a_json_line_has_the_fields_of_the_interface_in_order(tmp_path: Path) -> None:
    line = written(tmp_path, log(Event.LINKED, fs="A1", number=3, members=["1/b"], name=None), form="json")
    fields = json.loads(line)
    assert list(fields) == [
        *("time", "mono", "boot", "node", "daemon", "incarnation", "event", "level"),
        *("fs", "number", "members"),
    ]
    assert datetime.fromisoformat(fields["time"]).utcoffset() is not None
    assert len(fields["time"]) == len("2026-01-01T00:00:00.000000Z")
    assert (fields["boot"], fields["node"], fields["daemon"], fields["incarnation"]) == (
        "b1",
        "n1",
        "ocfs2_controld",
        "i1",
    )
    assert (fields["event"], fields["level"]) == ("linked", "info")
    assert (fields["fs"], fields["number"], fields["members"]) == ("A1", 3, ["1/b"])


def test_the_human_form_is_one_readable_line(tmp_path: Path) -> None:
    entry = log(Event.GROUP_STOPPED, level="warning", fs="A1", cause="n3 is lost", ok=True, nodes=[1, 2], empty="")
    line = written(tmp_path, entry).decode()
    time, rest = line.split(" ", 1)
    assert datetime.fromisoformat(time).year > 2000
    assert rest == 'warning n1 ocfs2_controld group_stopped fs=A1 cause="n3 is lost" ok=yes nodes=[1 2] empty=""\n'


@settings(deadline=None)
@given(
    value=st.text() | st.integers() | st.lists(st.text()), name=st.sampled_from(["fs", "time", "event", "self", "node"])
)
def test_nothing_in_a_field_breaks_a_line(value: Any, name: str) -> None:
    entry = Log(Event.VIOLATION, ((name, value),))
    for form in ("human", "json"):
        reading, writing = os.pipe()
        try:
            logger = Logger(ORIGIN, form=form, descriptor=writing)
            logger.write(entry)
            assert logger.close(60)
            line = os.read(reading, 1 << 16)
        finally:
            os.close(reading)
            os.close(writing)
        assert line.endswith(b"\n")
        assert line.count(b"\n") == 1
        text = line[:-1].decode()
        assert text.isprintable()
        if form == "json":
            key = f"{name}_" if name in {"time", "event", "node"} else name
            assert json.loads(text)[key] == value
        assert logger.ring.text().count(b"\n") == 1


def test_bytes_of_a_stranger_stay_readable(tmp_path: Path) -> None:
    entry = log(Event.MOUNT_ASKED, device="/dev/\udcff\n")
    assert rb'device="/dev/\udcff\n"' in written(tmp_path, entry)
    assert json.loads(written(tmp_path, entry, form="json"))["device"] == "/dev/\udcff\n"


def test_lines_below_the_level_are_only_in_the_ring(tmp_path: Path) -> None:
    ring = LineRing()
    out = written(
        tmp_path, log(Event.VIEW, "debug"), log(Event.READY), log(Event.NOT_READY, "error"), level="info", ring=ring
    )
    assert [line.split()[4] for line in out.splitlines()] == [b"ready", b"not_ready"]
    assert [line.split()[4] for line in ring.text().splitlines()] == [b"view", b"ready", b"not_ready"]


def test_the_origin_is_filled_in_when_it_is_known(tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as file:
        origin = Origin("o2cb_controld", "i1")
        logger = Logger(origin, form="json", descriptor=file.fileno())
        logger.write(log(Event.STARTING))
        origin.node, origin.boot = "n7", "b7"
        logger.write(log(Event.READY))
        assert logger.close(60)
    lines = [json.loads(line) for line in (tmp_path / "log").read_bytes().splitlines()]
    assert [(line["node"], line["boot"]) for line in lines] == [("", ""), ("n7", "b7")]


def test_many_lines_of_several_threads_are_whole_and_in_order(tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as file:
        logger = Logger(ORIGIN, form="json", descriptor=file.fileno(), limit=64 << 20)

        def work(who: int) -> None:
            for number in range(500):
                logger.write(log(Event.VIEW, who=who, number=number))

        threads = [threading.Thread(target=work, args=(who,)) for who in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert logger.close(60)
    lines = [json.loads(line) for line in (tmp_path / "log").read_bytes().splitlines()]
    assert len(lines) == 2000
    assert [line["mono"] for line in lines] == sorted(line["mono"] for line in lines)
    for who in range(4):
        assert [line["number"] for line in lines if line["who"] == who] == list(range(500))


@contextmanager
def stuck_pipe() -> Iterator[tuple[int, int]]:
    reading, writing = os.pipe()
    try:
        yield reading, writing
    finally:
        os.close(reading)
        os.close(writing)


def read_views(reading: int, count: int) -> list[dict[str, Any]]:
    """So many lines of the event VIEW; a line that tells of dropped ones may be among them."""
    lines: list[dict[str, Any]] = []
    half = b""
    poll = select.poll()
    poll.register(reading, select.POLLIN)
    while sum(line["event"] == "view" for line in lines) < count:
        assert poll.poll(60_000), "the lines that were kept do not come"
        *whole, half = (half + os.read(reading, 1 << 16)).split(b"\n")
        lines += map(json.loads, whole)
    return [line for line in lines if line["event"] == "view"]


@pytest.mark.parametrize("blocking", [True, False])
def test_a_reader_that_is_stuck_costs_lines_and_never_time(*, blocking: bool) -> None:
    with stuck_pipe() as (reading, writing):
        os.set_blocking(writing, blocking)
        logger = Logger(ORIGIN, form="json", descriptor=writing, limit=64 << 10)
        for number in range(5000):  # would never end, if it waited for the reader
            logger.write(log(Event.VIEW, number=number))
        lost = logger.dropped
        assert lost > 0
        assert not logger.close(0.01), "not all was written, and it was not waited for"

        lines = read_views(reading, 5000 - lost)
        numbers = [line["number"] for line in lines]
        assert numbers == sorted(set(numbers)), "in order, and none twice"
        assert logger.close(60)


def test_dropped_lines_are_counted_and_said_as_soon_as_there_is_room() -> None:
    with stuck_pipe() as (reading, writing):
        logger = Logger(ORIGIN, form="json", descriptor=writing, limit=64 << 10)
        for number in range(5000):
            logger.write(log(Event.VIEW, number=number))
        lost = logger.dropped
        told = logger._told
        assert lost > told
        read_views(reading, 5000 - lost)
        while not logger._writer.has_room():
            pass
        logger.write(log(Event.READY))
        logger.write(log(Event.EXITING))
        text = b""
        while b'"exiting"' not in text or not text.endswith(b"\n"):
            text += os.read(reading, 1 << 16)
        said, ready, exiting = map(json.loads, text.splitlines()[-3:])
        assert (said["event"], said["count"], said["level"]) == ("logs_dropped", lost - told, "warning")
        assert (ready["event"], exiting["event"]) == ("ready", "exiting"), "it is said once"
        assert logger.close(60)


def test_lines_of_a_loop_come_by_themselves_and_together() -> None:
    async def story() -> None:
        reading, writing = os.pipe()
        try:
            logger = Logger(ORIGIN, form="json", descriptor=writing)
            for number in range(20):
                logger.write(log(Event.VIEW, number=number))
            assert not select.select([reading], [], [], 0)[0], "the thread is not called in the midst of it"
            come = asyncio.Event()
            asyncio.get_running_loop().add_reader(reading, come.set)
            await asyncio.wait_for(come.wait(), 60)
            asyncio.get_running_loop().remove_reader(reading)
            assert os.read(reading, 1 << 16).count(b"\n") == 20, "one write"
            logger.write(log(Event.READY))
            assert logger.flush(60), "who flushes does not wait for the loop"
            assert os.read(reading, 1 << 16).count(b"\n") == 1
            logger.write(log(Event.EXITING))
            assert logger.close(60)
            assert os.read(reading, 1 << 16).count(b"\n") == 1
        finally:
            os.close(reading)
            os.close(writing)

    asyncio.run(story())


def test_a_reader_that_is_gone_hurts_nobody() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        logger = Logger(ORIGIN, descriptor=writing)
        logger.write(log(Event.READY))
        assert logger.close(60)
        assert logger.dropped == 1
    finally:
        os.close(writing)


@given(st.lists(st.binary(max_size=60).filter(lambda line: b"\n" not in line)), st.integers(64, 200))
def test_the_ring_keeps_the_newest_whole_lines(lines: list[bytes], limit: int) -> None:
    ring = LineRing(limit)
    for line in lines:
        ring.append(line)
        assert ring.size == len(ring.text()) <= limit
    cut = limit // 4
    shown = [line + b"\n" if len(line) < cut else line[: cut - 7] + b" [cut]\n" for line in lines]
    kept = ring.text().splitlines(keepends=True) if not any(b"\r" in line for line in lines) else None
    if kept is not None:
        assert b"".join(shown).endswith(ring.text())
        older = shown[: len(shown) - ring.text().count(b"\n")]
        assert not older or ring.size + len(older[-1]) > limit


def test_signals_become_events_and_segv_keeps_its_meaning() -> None:
    async def play() -> list[str]:
        seen: list[str] = []
        before = signal.getsignal(signal.SIGSEGV)
        unwatch = watch(seen.append)
        try:
            assert signal.getsignal(signal.SIGSEGV) is before
            assert signal.getsignal(signal.SIGPIPE) is signal.SIG_IGN
            for count, each in enumerate(ASKED, 1):
                os.kill(os.getpid(), each)
                async with asyncio.timeout(60):
                    while len(seen) < count:  # noqa: ASYNC110 (the event is the callback itself)
                        await asyncio.sleep(0.001)
        finally:
            unwatch()
        return seen

    handler = signal.getsignal(signal.SIGPIPE)
    assert asyncio.run(play()) == ["SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT"]
    assert signal.getsignal(signal.SIGPIPE) is handler


CONFIG = """\
[engine]
kind = "sandbox"
hub = "/srv/s/hub.sock"
node = "n1"
[kernel]
driver = "sandbox"
root = "/srv/s/n1/kernel"
[fencing]
kind = "none"
[log]
format = "json"
"""


def test_the_command_line_goes_over_the_file(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text(CONFIG)
    config = cli.configure(cli.parse("d", "It serves.", ["--config", str(path)]))
    assert (config.cluster.port, config.log.format, config.log.level) == (7777, "json", "info")
    config = cli.configure(cli.parse("d", "It serves.", ["-D", "--port", "7000", "--config", str(path)]))
    assert (config.cluster.port, config.log.format, config.log.level) == (7000, "human", "debug")


@pytest.mark.parametrize("port", ["0", "65535", "x", "-1", "²", ""])
def test_a_wrong_port_is_refused(port: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.parse("d", "It serves.", [f"--port={port}"])
    assert caught.value.code == 2
    assert "a port is a number from 1 to 65534" in capsys.readouterr().err


def test_version_help_and_failure(capsys: pytest.CaptureFixture[str]) -> None:
    for option, words in [("-V", "o2cb_controld 0.1.0 (protocol 1.0)"), ("-h", "stays in the foreground")]:
        with pytest.raises(SystemExit) as caught:
            cli.parse("o2cb_controld", "It serves.", [option])
        assert caught.value.code == 0
        assert words in capsys.readouterr().out
    with pytest.raises(SystemExit) as caught:
        cli.fail("o2cb_controld", "one\ntwo")
    assert caught.value.code == 1
    assert capsys.readouterr().err == "o2cb_controld: one\no2cb_controld: two\n"
