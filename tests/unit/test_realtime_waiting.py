"""What waits to be sent to a Realtime client, and its bounds."""

import asyncio

import pytest

from avatar.conversation.outbox import OutboxOverflow
from avatar.server.realtime.waiting import ENOUGH_CHARS, MAX_CHARS, MAX_EVENTS, Waiting


async def is_done(task: "asyncio.Task[None]") -> bool:
    await asyncio.sleep(0.01)
    return task.done()


async def test_first_in_first_out_and_an_empty_one_is_waited_for() -> None:
    waiting = Waiting()
    asyncio.get_running_loop().call_later(5, waiting.put, "one")
    assert await waiting.get() == "one"
    waiting.put("two")
    waiting.put("three")
    assert [await waiting.get(), await waiting.get()] == ["two", "three"]


@pytest.mark.parametrize(
    ("events", "most"), [(["x" * ENOUGH_CHARS, ""], MAX_EVENTS), (["x"] * 64, 64)], ids=["long ones", "many"]
)
async def test_room_is_there_again_when_some_are_sent(events: list[str], most: int) -> None:
    waiting = Waiting()
    await waiting.room(most)
    for event in events:
        waiting.put(event)
    room = asyncio.create_task(waiting.room(most))
    assert not await is_done(room)
    await waiting.get()
    assert await is_done(room)


@pytest.mark.parametrize("events", [["x"] * (MAX_EVENTS + 1), ["x" * MAX_CHARS, "x"]], ids=["too many", "too long"])
async def test_who_reads_nothing_is_given_up_and_nothing_kept_for_it(events: list[str]) -> None:
    waiting = Waiting()
    for event in events:
        waiting.put(event)
    waiting.put("late")
    await waiting.room(2)
    with pytest.raises(OutboxOverflow):
        await waiting.get()
