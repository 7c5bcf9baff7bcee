"""The better voice on virtual time: loaded once and on demand, freed when idle, and never in the way of a reply."""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass, field

import numpy as np
import pytest

from avatar.conversation.lineup import HIGH, Lineup, Pick
from avatar.conversation.quality import HighQuality, WithFallback, on_demand
from avatar.core.errors import EngineError, EngineFailed, EngineTimeout, SetupError
from avatar.core.progress import JobProgress
from avatar.engines.base import STAGES, Engine, Mark, SpeechChunk
from tests.fakes.tts import FakeTextToSpeech
from tests.unit.conversation import Fakes

GIB = 1 << 30
STALL_S = 10.0


class Slow(FakeTextToSpeech):
    """Takes `load_s` to load."""

    load_s = 2.0

    async def warm_up(self) -> None:
        await asyncio.sleep(self.load_s)
        await super().warm_up()


class Breaks(FakeTextToSpeech):
    """Fails after `good` chunks of the first piece."""

    def __init__(self, good: int, breaks_with: Exception | None = None) -> None:
        super().__init__(sample_rate_hz=24_000)
        self.good = good
        self.breaks_with = breaks_with or EngineFailed("Out of memory.")

    async def speak(
        self, text: AsyncIterator[str], *, voice: str | None = None, language: str | None = None
    ) -> AsyncGenerator[SpeechChunk, None]:
        async with aclosing(super().speak(text, voice=voice, language=language)) as chunks:
            left = self.good
            async for chunk in chunks:
                if not left:
                    raise self.breaks_with
                left -= 1
                yield chunk


def is_freed(engine: Slow) -> bool:
    return engine.closed


@dataclass(eq=False)
class Place:
    """A lineup of fakes, on a GPU that is as full as a test says, and what sessions with high quality do there."""

    free_bytes: int | None = None
    load_timeout_s: float = 60
    idle_s: float = 300
    made: list[Slow] = field(default_factory=list)
    told: list[JobProgress] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        fakes = Fakes().engines
        first = {stage: ready(getattr(fakes, stage)) for stage in STAGES}
        self.lineup = Lineup(first, self.told.append, lambda: None)
        self.high = HighQuality(self.lineup, self.choose, self.idle_s, self.load_timeout_s)

    def choose(self) -> Pick:
        pick = Pick("slow", None, "", "", self._build)
        return on_demand(pick, 4 * GIB, self.load_timeout_s, lambda: self.free_bytes)

    def _build(self) -> Slow:
        self.made.append(Slow())
        return self.made[-1]

    @asynccontextmanager
    async def session(self) -> AsyncIterator[WithFallback]:
        async with AsyncExitStack() as held:
            hold = self.lineup.hold()
            held.callback(hold.release)
            yield await held.enter_async_context(self.high.speaker(hold, STALL_S, self.notices.append))


def ready(engine: Engine, name: str = "") -> Pick:
    return Pick(name or engine.name, None, "", "given", lambda: engine)


@asynccontextmanager
async def open_place(place: Place) -> AsyncIterator[Place]:
    place.lineup.start()
    await at_rest(place.lineup)
    yield place
    place.high.close()
    await place.lineup.aclose()
    assert all(map(is_freed, place.made))


async def at_rest(lineup: Lineup) -> None:
    while lineup._tasks:
        await asyncio.wait(lineup._tasks)


async def test_it_is_loaded_once_however_many_want_it_and_freed_when_idle() -> None:
    async with open_place(Place()) as place:
        seat = place.lineup.seats[HIGH]
        sessions = [place.session() for _ in range(5)]
        speakers = await asyncio.gather(*(session.__aenter__() for session in sessions))
        assert len(place.made) == len({id(speaker.best) for speaker in speakers}) == 1
        assert seat.loaded
        assert seat.loaded.holds == 5
        for session in sessions[1:]:
            await session.__aexit__(None, None, None)
        await asyncio.sleep(1000)
        assert not is_freed(place.made[0])
        await sessions[0].__aexit__(None, None, None)
        await asyncio.sleep(299)
        assert not is_freed(place.made[0])
        async with place.session():  # just in time
            await asyncio.sleep(500)
        await asyncio.sleep(299)
        assert not is_freed(place.made[0])
        await asyncio.sleep(2)
        assert is_freed(place.made[0])
        assert (seat.state, place.told[-1].key, place.told[-1].state) == ("unloaded", "tts_high", "done")
        async with place.session():
            assert len(place.made) == 2


async def test_it_may_be_freed_as_soon_as_nobody_wants_it() -> None:
    async with open_place(Place(idle_s=0)) as place:
        waits = place.session()
        waiting = asyncio.create_task(waits.__aenter__())
        await asyncio.sleep(1)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5), place.session():
                pass
        await waiting
        await asyncio.sleep(1)
        assert not is_freed(place.made[0])
        await waits.__aexit__(None, None, None)
        await asyncio.sleep(1)
        assert is_freed(place.made[0])


async def test_who_leaves_while_it_is_loaded_does_not_leave_it_for_ever() -> None:
    async with open_place(Place()) as place:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1), place.session():
                pass
        await asyncio.sleep(10)
        assert place.made[0].warmed_up
        assert not is_freed(place.made[0])
        await asyncio.sleep(300)
        assert is_freed(place.made[0])


@pytest.mark.parametrize(("free_bytes", "loads"), [(None, True), (5 * GIB, True), (3 * GIB, False)])
async def test_short_memory_is_told(free_bytes: int | None, loads: bool) -> None:
    async with open_place(Place(free_bytes)) as place:
        if loads:
            async with place.session():
                pass
        else:
            with pytest.raises(EngineFailed, match=r"4\.0 GiB.*3\.0 are free"):
                async with place.session():
                    pass
            assert "4.0 GiB" in place.lineup.seats[HIGH].problem
        assert bool(place.made) == loads


async def test_it_looks_for_memory_when_nothing_else_is_being_loaded() -> None:
    async with open_place(Place(5 * GIB)) as place:

        class Big(FakeTextToSpeech):
            async def warm_up(self) -> None:
                await asyncio.sleep(5)
                place.free_bytes = 2 * GIB

        place.lineup.load("tts", ready(Big(), "big"))
        with pytest.raises(EngineFailed, match=r"2\.0 are free"):
            async with place.session():
                pass
        assert not place.made


async def test_nothing_set_up_is_told() -> None:
    def nothing() -> Pick:
        raise SetupError("No engine for it is set up (tts.high_engine).")

    async with open_place(Place()) as place:
        place.high = HighQuality(place.lineup, nothing, 300, 60)
        with pytest.raises(EngineFailed, match="high_engine"):
            async with place.session():
                pass


async def test_loading_that_takes_for_ever_is_told_and_holds_up_nobody() -> None:
    async with open_place(Place(load_timeout_s=1)) as place:
        with pytest.raises(EngineTimeout):
            async with place.session():
                pass
        other = FakeTextToSpeech()
        place.lineup.load("tts", ready(other, "other"))
        await at_rest(place.lineup)
        assert place.lineup.engines.tts is other
        assert place.lineup.seats[HIGH].state == "failed"
        assert is_freed(place.made[0])


async def test_what_was_loaded_by_hand_speaks() -> None:
    async with open_place(Place()) as place:
        chosen = FakeTextToSpeech()
        place.lineup.load(HIGH, ready(chosen))
        async with place.session() as speaker:
            assert speaker.best is chosen
        assert not place.made


async def test_one_that_hangs_is_not_given_to_anybody_else() -> None:
    async with open_place(Place()) as place, place.session() as first:
        place.made[0].hang = True
        began_s = asyncio.get_running_loop().time()
        chunks = await speak(first, "One two.")
        assert asyncio.get_running_loop().time() - began_s < STALL_S
        assert chunks[-1].marks[-1].text_end == 8
        assert place.notices == ["It did not speak in time."]
        seat = place.lineup.seats[HIGH]
        assert (seat.state, seat.problem) == ("failed", place.notices[0])
        async with place.session() as second:
            assert second.best is place.made[1]
        assert not is_freed(place.made[0])  # its session may still look at it


async def speak(engine: WithFallback, *pieces: str) -> list[SpeechChunk]:
    async def text() -> AsyncIterator[str]:
        for piece in pieces:
            yield piece

    async with aclosing(engine.speak(text())) as chunks:
        return [chunk async for chunk in chunks]


def with_fallback(best: FakeTextToSpeech, plain: FakeTextToSpeech, told: list[EngineError]) -> WithFallback:
    return WithFallback(best, plain, STALL_S / 2, told.append)


@pytest.mark.parametrize("good", [0, 1, 7, 12])
@pytest.mark.parametrize("error", [EngineFailed("Out of memory."), RuntimeError("a bug")])
async def test_where_it_fails_the_plain_one_goes_on(good: int, error: Exception) -> None:
    best, plain, told = Breaks(good, error), FakeTextToSpeech(sample_rate_hz=16_000), list[EngineError]()
    pieces = ("One two three. ", "Four five six. ", "Seven.")
    chunks = await speak(with_fallback(best, plain, told), *pieces)
    text = "".join(pieces)
    marks = [mark for chunk in chunks for mark in chunk.marks]
    assert marks == sorted(marks, key=lambda mark: (mark.text_end, mark.sample))
    assert marks[-1].text_end == len(text)
    assert len(told) == 1
    assert error in (told[0], told[0].__cause__)
    spoken = max((mark.text_end for chunk in chunks[:good] for mark in chunk.marks), default=0)
    assert "".join(plain.spoken) == text[spoken:]
    samples = np.concatenate([chunk.pcm for chunk in chunks]).size
    whole = sum(chunk.pcm.size for chunk in await speak(with_fallback(FakeTextToSpeech(), plain, told), *pieces))
    assert samples == pytest.approx(whole, rel=0.25)


async def test_what_works_is_left_alone() -> None:
    best, plain, told = FakeTextToSpeech(), FakeTextToSpeech(), list[EngineError]()
    chunks = await speak(with_fallback(best, plain, told), "One two.")
    assert chunks[-1].marks[-1] == Mark(8, sum(chunk.pcm.size for chunk in chunks))
    assert (plain.spoken, told) == ([], [])


async def test_one_that_hangs_is_waited_for_once() -> None:
    best, plain, told = FakeTextToSpeech(), FakeTextToSpeech(sample_rate_hz=16_000), list[EngineError]()
    engine, now = with_fallback(best, plain, told), asyncio.get_running_loop().time
    best.hang = True
    for waited_s in (STALL_S / 2, 0):
        began_s = now()
        chunks = await speak(engine, "One two. ", "Three.")
        assert now() - began_s == pytest.approx(waited_s)
        assert chunks[-1].marks[-1].text_end == 15
    assert best.active == 0
    assert plain.spoken == ["One two. ", "Three."] * 2
    assert [type(error) for error in told] == [EngineTimeout]


async def test_that_the_language_model_takes_its_time_is_not_its_fault() -> None:
    best, told = FakeTextToSpeech(), list[EngineError]()

    async def text() -> AsyncIterator[str]:
        for piece in ("One. ", "Two."):
            await asyncio.sleep(10 * STALL_S)
            yield piece
        await asyncio.sleep(10 * STALL_S)

    async with aclosing(with_fallback(best, FakeTextToSpeech(), told).speak(text())) as chunks:
        assert [mark.text_end async for chunk in chunks for mark in chunk.marks][-1] == 9
    assert not told


async def test_no_word_of_what_was_to_be_said_is_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    refusal = EngineFailed("The server refused.")
    refusal.__cause__ = ValueError("400: cannot say 'One two'")
    with caplog.at_level(logging.DEBUG):
        await speak(with_fallback(Breaks(0, refusal), FakeTextToSpeech(), []), "One two.")
    assert "EngineFailed from ValueError" in caplog.text
    assert "One two" not in caplog.text


async def test_closing_closes_both_ends() -> None:
    best = FakeTextToSpeech()
    closed = False

    async def text() -> AsyncIterator[str]:
        nonlocal closed
        try:
            yield "One two three."
        finally:
            closed = True

    stream = with_fallback(best, FakeTextToSpeech(), []).speak(text())
    await anext(stream)
    await stream.aclose()
    assert closed
    assert best.active == 0
