"""Guesses make room for turns that are over."""

import asyncio
from contextlib import AsyncExitStack

import pytest

from avatar.conversation.precedence import LET_GO_S, Precedence


@pytest.mark.parametrize(("slots", "guesses"), [(1, 1), (2, 1), (4, 2), (8, 4)])
async def test_half_of_the_slots_are_for_guesses(slots: int, guesses: int) -> None:
    precedence = Precedence(slots)
    begun = 0
    async with AsyncExitStack() as working:
        while precedence.may_prepare():
            await working.enter_async_context(precedence.working())
            begun += 1
    assert begun == guesses
    assert precedence.may_prepare()


async def test_when_all_slots_are_taken_the_oldest_guess_goes() -> None:
    precedence = Precedence(2)
    dropped: list[str] = []
    precedence.prepared("a", lambda: dropped.append("a"))
    precedence.prepared("b", lambda: dropped.append("b"))
    async with precedence.working():
        precedence.make_way()
        assert dropped == []
        async with precedence.working():
            precedence.make_way()
            assert dropped == ["a"]
            precedence.settled("b")
            precedence.make_way()
    assert dropped == ["a"]


async def test_work_on_a_reply_begins_when_nobody_reads_ahead_any_more() -> None:
    precedence, order = Precedence(2), []

    async def read() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.1)  # an engine takes its time to let go
            order.append("let go")

    task = asyncio.create_task(read())
    precedence.reads(task)
    await asyncio.sleep(0)
    async with precedence.working():
        order.append("at work")
    assert order == ["let go", "at work"]
    assert task.cancelled()


async def test_who_is_being_stopped_is_not_stopped_again_and_who_hangs_is_not_waited_for() -> None:
    precedence, cancels, let_go = Precedence(4), [], asyncio.Event()

    async def read() -> None:
        while not let_go.is_set():
            try:
                await let_go.wait()
            except asyncio.CancelledError as error:
                cancels.append(error)

    task = asyncio.create_task(read())
    precedence.reads(task)
    await asyncio.sleep(0)
    began_s = asyncio.get_running_loop().time()
    async with precedence.working(), precedence.working():
        assert asyncio.get_running_loop().time() - began_s == pytest.approx(2 * LET_GO_S)
    assert len(cancels) == 1
    let_go.set()
    await task
