"""Slots: bounded, waited for, always given back."""

import asyncio

import pytest

from avatar.conversation.admission import SessionManager
from avatar.core.errors import GpuMemory, ServerFull


async def hold(sessions: SessionManager, seconds: float) -> None:
    async with sessions.slot():
        await asyncio.sleep(seconds)


async def test_a_full_house_is_said_after_the_wait() -> None:
    sessions = SessionManager(2, wait_s=1.0)
    loop = asyncio.get_running_loop()
    async with sessions.slot(), sessions.slot():
        began = loop.time()
        with pytest.raises(ServerFull, match="2 conversations"):
            await hold(sessions, 0)
        assert loop.time() - began == pytest.approx(1.0)
    assert sessions.active == 0


async def test_a_slot_that_comes_free_in_time_is_taken() -> None:
    sessions = SessionManager(1, wait_s=1.0)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(hold(sessions, 0.5))
        await asyncio.sleep(0)
        await hold(sessions, 0.1)


@pytest.mark.parametrize("way_out", [ValueError, asyncio.CancelledError, KeyboardInterrupt])
async def test_a_slot_is_given_back_on_every_way_out(way_out: type[BaseException]) -> None:
    sessions = SessionManager(1, wait_s=0.1)
    with pytest.raises(way_out):
        async with sessions.slot():
            raise way_out
    await hold(sessions, 0)
    assert sessions.active == 0


async def test_a_cancelled_wait_takes_no_slot() -> None:
    sessions = SessionManager(1, wait_s=5)
    async with sessions.slot():
        waiting = asyncio.create_task(hold(sessions, 0))
        await asyncio.sleep(0.1)
        waiting.cancel()
        await asyncio.wait([waiting])
    await hold(sessions, 0)


async def test_a_full_gpu_refuses_and_gives_the_slot_back() -> None:
    used = [0.95]
    sessions = SessionManager(1, 0.1, 0.9, lambda: used[0])
    with pytest.raises(GpuMemory, match="95%"):
        await hold(sessions, 0)
    used[0] = 0.5
    await hold(sessions, 0)


async def test_without_a_gpu_memory_is_not_asked_for() -> None:
    await hold(SessionManager(1, 0.1, 0.9, lambda: None), 0)
