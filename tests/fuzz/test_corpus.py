"""The kept scripts, against the real daemon; and the fuzzer's own parts."""

import random
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import client
from protocol.framing import encode
from tests.fuzz.labs import CORPUS, Target
from tests.fuzz.running import Broken, Runner, kind, shortest
from tests.fuzz.scripts import CLIENTS, STEPS, Script, Step, mutated, obeyed, parsed, written
from tests.process.conftest import Up, up

__all__ = ["up"]


@pytest.mark.process
def test_no_kept_script_breaks_the_daemon(up: Up) -> None:
    target = Target(up(1))
    scripts = {path.name: parsed(path.read_text()) for path in sorted(CORPUS.glob("*.txt"))}
    assert len(scripts) > 10
    assert not any(map(obeyed, scripts.values()))
    seen: set[str] = set()
    for name, script in scripts.items():
        try:
            seen |= target.run(script)
        except Broken as error:
            pytest.fail(f"{name}: {error}")
    assert {"STATUS 0 OK", "ITEM", "ITEMCOUNT 1"} <= seen
    assert len(seen) > 20, sorted(seen)


steps = st.builds(Step, st.sampled_from(STEPS), st.integers(0, CLIENTS - 1), st.binary(max_size=300))


@given(st.lists(steps).map(tuple))
def test_a_script_is_read_as_it_was_written(script: Script) -> None:
    assert parsed("# for people\n" + written(script)) == script


@pytest.mark.parametrize("line", ["jump 0", "open 9", "send 0 00 00", "send 0 zz"])
def test_what_is_no_script_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match=r"is no step|non-hexadecimal"):
        parsed(line)


def test_the_same_seed_makes_the_same_scripts() -> None:
    corpus = [parsed(path.read_text()) for path in sorted(CORPUS.glob("*.txt"))]

    def made() -> list[Script]:
        chance = random.Random(7)  # noqa: S311 (to be the same again)
        return [mutated(chance, corpus) for _ in range(200)]

    assert made() == made()
    assert len(set(made())) > 100


def test_a_script_that_says_replace_is_told_also_in_pieces() -> None:
    whole = (Step("open", 0), Step("pad", 0, b"REPLACE"))
    pieces = (Step("open", 0), Step("send", 0, b"REP"), Step("pad", 1, b"DUMP"), Step("send", 0, b"LACE"))
    assert obeyed(whole)
    assert obeyed(pieces)
    assert not obeyed((Step("send", 0, b"REP"), Step("send", 1, b"LACE")))


def test_what_breaks_is_made_short() -> None:
    script = tuple(Step("pad", i % CLIENTS, b"x" * 100) for i in range(20))
    script = (*script, Step("send", 1, b"poison and more"), *script)

    def fails(candidate: Script) -> bool:
        return any(s.client == 1 and s.data.startswith(b"poi") for s in candidate)

    assert shortest(script, fails) == (Step("send", 1, b"poi"),)


@pytest.mark.parametrize("text", [b"", b"STATUS -5 x", b"STATUS 0 ", b"MOUNT a b c d e", b"nonsense"])
def test_an_answer_that_no_daemon_gives_is_seen(text: bytes) -> None:
    with pytest.raises(Broken):
        kind(text)


@pytest.mark.parametrize("answer", [encode(b"nonsense"), encode(b"STATUS 0 OK")[:100]])
def test_a_server_that_answers_wrongly_is_found(answer: bytes) -> None:
    """The first connection is that of the client that keeps to the rules, the second the script's."""
    good, bad = socket.socketpair(), socket.socketpair()
    ends = [good[0], bad[0]]
    with good[1] as server, bad[1] as other:
        server.sendall(b"".join(client.items(["demo"])) * 2)
        other.sendall(answer)
        other.shutdown(socket.SHUT_WR)
        with pytest.raises(Broken):
            Runner(lambda: ends.pop(0), b"U" * 32, b"/dev/x").run((Step("open", 0), Step("read", 0)))
