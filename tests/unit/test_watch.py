"""Limits on what a session waits for."""

import asyncio
from collections.abc import AsyncGenerator

import pytest

from avatar.conversation.watch import Watchdog, within
from avatar.core.errors import EngineFailed, EngineTimeout, Overloaded


async def late(seconds: float) -> str:
    await asyncio.sleep(seconds)
    return "done"


async def broken(error: Exception) -> None:
    raise error


async def test_in_time() -> None:
    assert await within(1, late(0.5), "thing") == "done"


async def test_too_late_says_what_and_how_long() -> None:
    with pytest.raises(EngineTimeout, match="thing gave nothing for 1 seconds"):
        await within(1, late(2), "thing")


@pytest.mark.parametrize("error", [ValueError("secret"), TimeoutError("theirs")])
async def test_a_stray_error_becomes_a_failure_without_its_text(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(EngineFailed) as raised:
        await within(1, broken(error), "thing")
    assert "secret" not in str(raised.value)
    assert raised.value.__cause__ is error
    assert f"the thing failed: {type(error).__name__}" in caplog.text
    assert "in broken" in caplog.text
    assert "secret" not in caplog.text


async def test_an_error_of_the_tree_passes() -> None:
    with pytest.raises(Overloaded):
        await within(1, broken(Overloaded("busy")), "thing")


class Ticks:
    """A generator that gives numbers after the given gaps, and knows whether it was closed."""

    def __init__(self, *gaps_s: float, error: Exception | None = None) -> None:
        self.gaps_s = gaps_s
        self.error = error
        self.closed = False

    async def run(self) -> AsyncGenerator[int, None]:
        try:
            for number, gap_s in enumerate(self.gaps_s):
                await asyncio.sleep(gap_s)
                yield number
            if self.error is not None:
                raise self.error
        finally:
            self.closed = True


async def collect(watchdog: Watchdog, ticks: Ticks) -> list[int]:
    return [number async for number in watchdog.watch(ticks.run())]


async def test_gaps_within_the_limit() -> None:
    assert await collect(Watchdog("stream", 1), Ticks(0.9, 0.9, 0.9)) == [0, 1, 2]


async def test_a_gap_beyond_the_limit_closes_the_stream() -> None:
    ticks = Ticks(0.5, 3)
    with pytest.raises(EngineTimeout, match="stream gave nothing for 1 seconds"):
        await collect(Watchdog("stream", 1), ticks)
    assert ticks.closed


async def test_the_limit_can_be_lifted_while_waiting() -> None:
    watchdog = Watchdog("stream", 1)
    asyncio.get_running_loop().call_later(0.5, watchdog.allow, None)
    assert await collect(watchdog, Ticks(5)) == [0]


async def test_and_set_again() -> None:
    watchdog = Watchdog("stream", 1)
    loop = asyncio.get_running_loop()
    loop.call_later(0.5, watchdog.allow, None)
    loop.call_later(2, watchdog.allow, 1.0)
    with pytest.raises(EngineTimeout):
        await collect(watchdog, Ticks(5))
    assert loop.time() == pytest.approx(3.0)


@pytest.mark.parametrize(
    ("error", "raised"),
    [(ValueError(), EngineFailed), (TimeoutError(), EngineFailed), (Overloaded("busy"), Overloaded)],
)
async def test_errors_of_a_stream(error: Exception, raised: type[Exception]) -> None:
    with pytest.raises(raised):
        await collect(Watchdog("stream", 1), Ticks(0.1, error=error))
