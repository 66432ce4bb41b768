"""One thread for calls in order: what it answers, what it gives up, and whom it holds up."""

import asyncio
import subprocess
import sys
import threading
from errno import EAGAIN
from functools import partial
from typing import TypeVar

import pytest

from libo2cb.service.threads import Worker

DEADLINE = 60.0


R = TypeVar("R")


async def within(answer: "asyncio.Future[R]") -> R:
    return await asyncio.wait_for(answer, DEADLINE)


def test_calls_are_made_and_answered_in_their_order_by_one_thread() -> None:
    async def scene() -> None:
        worker, made, told = Worker("w"), list[int](), list[int]()
        threads: set[int] = set()

        def call(number: int) -> int:
            threads.add(threading.get_ident())
            made.append(number)
            return number

        answers = [worker.do(partial(call, number)) for number in range(200)]
        for answer in answers:
            answer.add_done_callback(lambda a: told.append(a.result()))
        await within(asyncio.gather(*answers))
        await asyncio.sleep(0)
        assert made == told == list(range(200))
        assert len(threads) == 1
        worker.close()

    asyncio.run(scene())


def test_an_error_is_the_answer_of_its_call_alone() -> None:
    async def scene() -> None:
        worker = Worker("w")
        bad, good = worker.do(lambda: 1 // 0), worker.do(lambda: 7)
        with pytest.raises(ZeroDivisionError):
            await within(bad)
        assert await within(good) == 7
        worker.close()

    asyncio.run(scene())


def test_a_call_under_way_is_named_and_what_waits_can_be_given_up() -> None:
    async def scene() -> None:
        worker, hold, begun = Worker("w"), threading.Event(), threading.Event()

        def stuck() -> None:
            begun.set()
            hold.wait(DEADLINE)

        first = worker.do(stuck, "rmdir of node n3")
        begun.wait(DEADLINE)
        dropped = worker.do(lambda: 1)
        under_way = worker.under_way
        assert under_way is not None
        assert under_way[0] == "rmdir of node n3"
        worker.clear()
        last = worker.do(lambda: 2)
        hold.set()
        await within(first)
        assert await within(last) == 2
        assert not dropped.done()
        await within(worker.do(lambda: None))
        worker.close()
        assert not worker.do(lambda: 3).done()

    asyncio.run(scene())


def test_without_a_thread_the_answer_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene() -> None:
        def refuse(_: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        monkeypatch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(OSError, match="no thread can be started") as caught:
            await within(Worker("w").do(lambda: 1))
        assert caught.value.errno == EAGAIN

    asyncio.run(scene())


def test_a_call_that_never_returns_keeps_the_process_from_nothing() -> None:
    program = (
        "import asyncio, threading\n"
        "from libo2cb.service.threads import Worker\n"
        "async def main():\n"
        "    worker = Worker('w')\n"
        "    worker.do(threading.Event().wait)\n"
        "    await asyncio.sleep(0.05)\n"
        "    worker.close()\n"
        "asyncio.run(main())\n"
    )
    done = subprocess.run([sys.executable, "-c", program], check=False, timeout=DEADLINE)
    assert done.returncode == 0
