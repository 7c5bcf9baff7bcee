"""The better voice on virtual time: loaded once and on demand, freed when idle, and never in the way of a reply."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

import numpy as np
import pytest

from avatar.conversation.lineup import Pick
from avatar.conversation.quality import HighQuality, WithFallback
from avatar.core.errors import EngineFailed, EngineTimeout
from avatar.engines.base import Mark, SpeechChunk
from tests.fakes.tts import FakeTextToSpeech

GIB = 1 << 30


class Slow(FakeTextToSpeech):
    """Takes `load_s` to load."""

    load_s = 2.0

    async def warm_up(self) -> None:
        await asyncio.sleep(self.load_s)
        await super().warm_up()


class Breaks(FakeTextToSpeech):
    """Fails after `good` chunks of the first piece."""

    def __init__(self, good: int) -> None:
        super().__init__(sample_rate_hz=24_000)
        self.good = good

    async def speak(
        self, text: AsyncIterator[str], *, voice: str | None = None, language: str | None = None
    ) -> AsyncGenerator[SpeechChunk, None]:
        async with aclosing(super().speak(text, voice=voice, language=language)) as chunks:
            left = self.good
            async for chunk in chunks:
                if not left:
                    raise EngineFailed("Out of memory.")
                left -= 1
                yield chunk


def is_freed(engine: Slow) -> bool:
    return engine.closed


def high(made: list[Slow], free_bytes: int | None = None, load_timeout_s: float = 60) -> HighQuality:
    def build() -> Slow:
        made.append(Slow())
        return made[-1]

    pick = Pick("slow", None, "", "", build)
    return HighQuality(lambda: pick, lambda: free_bytes, 4 * GIB, idle_s=300, load_timeout_s=load_timeout_s)


async def test_it_is_loaded_once_however_many_want_it_and_freed_when_idle() -> None:
    made: list[Slow] = []
    quality = high(made)
    engines = await asyncio.gather(*(quality.take() for _ in range(5)))
    assert len(made) == len(set(map(id, engines))) == 1
    for _ in range(4):
        quality.release()
    await asyncio.sleep(1000)
    assert not is_freed(made[0])
    quality.release()
    await asyncio.sleep(299)
    assert not is_freed(made[0])
    await quality.take()  # just in time
    quality.release()
    await asyncio.sleep(299)
    assert not is_freed(made[0])
    await asyncio.sleep(2)
    assert is_freed(made[0])
    await quality.take()
    assert len(made) == 2
    quality.release()
    await quality.aclose()
    assert is_freed(made[1])


@pytest.mark.parametrize(("free_bytes", "loads"), [(None, True), (5 * GIB, True), (3 * GIB, False)])
async def test_short_memory_is_told(free_bytes: int | None, loads: bool) -> None:
    made: list[Slow] = []
    quality = high(made, free_bytes)
    if loads:
        await quality.take()
        quality.release()
    else:
        with pytest.raises(EngineFailed, match=r"4\.0 GiB.*3\.0 are free"):
            await quality.take()
    assert bool(made) == loads
    await quality.aclose()


async def test_nothing_set_up_and_loading_that_takes_for_ever_are_told() -> None:
    with pytest.raises(EngineFailed, match="high_engine"):
        await HighQuality(None, lambda: None, 0, 1, 1).take()
    made: list[Slow] = []
    quality = high(made, load_timeout_s=1)
    with pytest.raises(EngineTimeout):
        await quality.take()
    assert is_freed(made[0])
    await quality.aclose()


async def speak(engine: WithFallback, *pieces: str) -> list[SpeechChunk]:
    async def text() -> AsyncIterator[str]:
        for piece in pieces:
            yield piece

    async with aclosing(engine.speak(text())) as chunks:
        return [chunk async for chunk in chunks]


@pytest.mark.parametrize("good", [0, 1, 7, 12])
async def test_where_it_fails_the_plain_one_goes_on(good: int) -> None:
    best, plain, told = Breaks(good), FakeTextToSpeech(sample_rate_hz=16_000), list[str]()
    pieces = ("One two three. ", "Four five six. ", "Seven.")
    chunks = await speak(WithFallback(best, plain, told.append), *pieces)
    text = "".join(pieces)
    marks = [mark for chunk in chunks for mark in chunk.marks]
    assert marks == sorted(marks, key=lambda mark: (mark.text_end, mark.sample))
    assert marks[-1].text_end == len(text)
    assert told == ["Out of memory."]
    spoken = max((mark.text_end for chunk in chunks[:good] for mark in chunk.marks), default=0)
    assert "".join(plain.spoken) == text[spoken:]
    samples = np.concatenate([chunk.pcm for chunk in chunks]).size
    whole = sum(chunk.pcm.size for chunk in await speak(WithFallback(FakeTextToSpeech(), plain, told.append), *pieces))
    assert samples == pytest.approx(whole, rel=0.25)


async def test_what_works_is_left_alone() -> None:
    best, plain, told = FakeTextToSpeech(), FakeTextToSpeech(), list[str]()
    chunks = await speak(WithFallback(best, plain, told.append), "One two.")
    assert chunks[-1].marks[-1] == Mark(8, sum(chunk.pcm.size for chunk in chunks))
    assert (plain.spoken, told) == ([], [])


async def test_closing_closes_both_ends() -> None:
    best = FakeTextToSpeech()
    closed = False

    async def text() -> AsyncIterator[str]:
        nonlocal closed
        try:
            yield "One two three."
        finally:
            closed = True

    stream = WithFallback(best, FakeTextToSpeech(), lambda why: None).speak(text())
    await anext(stream)
    await stream.aclose()
    assert closed
    assert best.active == 0
