"""A second, better speech engine for sessions that ask for `quality` "high".

It has a seat in the lineup: it is loaded when the first of them begins and freed when the last has been gone for a
while. Where it cannot be had the fast engine speaks, and where it fails or hangs in the middle of a reply the fast one
goes on from there. Knows engine Protocols.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial

from avatar.conversation.lineup import HIGH, Hold, Lineup, Loaded, Pick
from avatar.conversation.vram import free_vram_bytes
from avatar.conversation.watch import Watchdog
from avatar.core.audio import Resampler, silence
from avatar.core.errors import Conflict, EngineError, EngineFailed, EngineTimeout, SetupError, describe
from avatar.engines.base import Capabilities, Engine, Mark, SpeechChunk, TextToSpeech

logger = logging.getLogger(__name__)


def on_demand(
    pick: Pick, wants_vram_bytes: int, load_timeout_s: float, free_vram: Callable[[], int | None] = free_vram_bytes
) -> Pick:
    """`pick` for what is loaded while sessions wait: made only if so much GPU memory is free, or if there is no GPU."""

    def build() -> Engine:
        free_bytes = free_vram()
        if free_bytes is not None and free_bytes < wants_vram_bytes:
            gib = 1 << 30
            raise EngineFailed(
                f"It wants {wants_vram_bytes / gib:.1f} GiB of GPU memory, {free_bytes / gib:.1f} are free."
            )
        return pick.build()

    return replace(pick, build=build, load_timeout_s=load_timeout_s)


class HighQuality:
    """Sees to it that the lineup's seat is taken while sessions want the better engine, and not for long after."""

    def __init__(self, lineup: Lineup, choose: Callable[[], Pick], idle_s: float, patience_s: float) -> None:
        """`choose`: what to load where nothing is, called off the loop; raises `SetupError`. `patience_s`: how long a
        session waits for it."""
        self._lineup = lineup
        self._seat = lineup.seats[HIGH]
        self._choose = choose
        self._idle_s = idle_s
        self._patience_s = patience_s
        self._users = 0
        self._freeing: asyncio.TimerHandle | None = None

    @asynccontextmanager
    async def speaker(
        self, hold: Hold, stall_timeout_s: float, tell: Callable[[str], None]
    ) -> AsyncIterator["WithFallback"]:
        """The engine, loaded, to be wanted until the end of this and kept by `hold`, whose own takes its place where it
        fails; then `tell` is given the reason. Raises `EngineError` with the reason when it cannot be had.

        Of `stall_timeout_s`, the longest gap in a reply, it has the first half, and what takes its place the other.
        """
        self._users += 1
        self._stay()
        try:
            loaded = await self._loaded()
            hold.keep(loaded)
            assert isinstance(loaded.engine, TextToSpeech)
            failed = partial(self._failed, loaded, tell)
            yield WithFallback(loaded.engine, hold.engines.tts, stall_timeout_s / 2, failed)
        finally:
            self._users -= 1
            if not self._users:
                self._freeing = asyncio.get_running_loop().call_later(self._idle_s, self._free)

    def close(self) -> None:
        """Free nothing any more: the lineup will."""
        self._stay()

    async def _loaded(self) -> Loaded:
        try:
            if self._seat.loaded is None and self._seat.coming is None:
                self._lineup.load(HIGH, await asyncio.to_thread(self._choose))
            async with asyncio.timeout(self._patience_s):
                return await self._lineup.loaded(HIGH)
        except (SetupError, Conflict) as error:
            raise EngineFailed(str(error)) from error
        except TimeoutError:
            raise EngineTimeout(f"It was not loaded within {self._patience_s:g} s.") from None

    def _failed(self, loaded: Loaded, tell: Callable[[str], None], error: EngineError) -> None:
        """One that hangs would do so for every session to come."""
        why = describe(error).message
        if isinstance(error, EngineTimeout):
            self._lineup.retire(loaded, why)
        tell(why)

    def _free(self) -> None:
        if self._seat.loaded is not None and self._seat.coming is None:
            logger.info("%s was idle and is freed", self._seat.loaded.engine.name)
            self._lineup.retire(self._seat.loaded)

    def _stay(self) -> None:
        if self._freeing is not None:
            self._freeing.cancel()


class WithFallback:
    """Fills `TextToSpeech`: `best` speaks, and `plain` goes on where it fails or gives nothing for `limit_s`; then
    `failed` is told. After a time-out `plain` speaks alone: nobody waits twice."""

    def __init__(
        self, best: TextToSpeech, plain: TextToSpeech, limit_s: float, failed: Callable[[EngineError], None]
    ) -> None:
        self.best = best
        self._plain = plain
        self._limit_s = limit_s
        self._failed = failed
        self._hangs = False

    @property
    def name(self) -> str:
        return self.best.name

    @property
    def capabilities(self) -> Capabilities:
        return self.best.capabilities

    @property
    def sample_rate_hz(self) -> int:
        return self.best.sample_rate_hz

    @property
    def voices(self) -> tuple[str, ...]:
        return self.best.voices

    async def warm_up(self) -> None:
        await self.best.warm_up()

    async def aclose(self) -> None:
        """Nothing: both belong to others."""

    async def speak(
        self, text: AsyncIterator[str], *, voice: str | None = None, language: str | None = None
    ) -> AsyncGenerator[SpeechChunk, None]:
        words = _Words(text)
        try:
            if not self._hangs:
                try:
                    async with aclosing(self._begin(words, voice, language)) as chunks:
                        async for chunk in chunks:
                            words.note(chunk)
                            yield chunk
                    return
                except EngineError as error:
                    self._report(error)
            async with aclosing(self._go_on(words, voice, language)) as chunks:
                async for chunk in chunks:
                    yield chunk
        finally:
            if isinstance(text, AsyncGenerator):
                await text.aclose()

    def _begin(self, words: "_Words", voice: str | None, language: str | None) -> AsyncGenerator[SpeechChunk, None]:
        """The best engine, with a limit on every wait for it; that it waits for text is not its fault."""
        watchdog = Watchdog("high-quality voice", self._limit_s)

        async def pieces() -> AsyncGenerator[str, None]:
            watchdog.allow(None)
            async for piece in words.text:
                words.given += piece
                watchdog.allow(self._limit_s)
                yield piece
                watchdog.allow(None)
            watchdog.allow(self._limit_s)

        return watchdog.watch(self.best.speak(pieces(), voice=voice, language=language))

    def _report(self, error: EngineError) -> None:
        """The log gets the names alone: a remote engine's words may quote what it was to say."""
        names = " from ".join(type(one).__name__ for one in (error, error.__cause__) if one is not None)
        logger.warning("%s failed (%s), %s goes on", self.best.name, names, self._plain.name)
        if isinstance(error, EngineTimeout):
            self._hangs = True
            error = EngineTimeout("It did not speak in time.")
        self._failed(error)

    async def _go_on(
        self, words: "_Words", voice: str | None, language: str | None
    ) -> AsyncGenerator[SpeechChunk, None]:
        """The plain engine, at the rate of the best one, its marks counted from where that stopped."""
        own_hz, rate_hz = self._plain.sample_rate_hz, self.sample_rate_hz
        spoken, samples = words.spoken, words.samples
        resampler, made = Resampler(own_hz, rate_hz), samples

        def moved(marks: tuple[Mark, ...], latest: int) -> tuple[Mark, ...]:
            return tuple(
                Mark(spoken + mark.text_end, min(samples + mark.sample * rate_hz // own_hz, latest)) for mark in marks
            )

        marks: tuple[Mark, ...] = ()
        async with aclosing(self._plain.speak(words.left(), voice=voice, language=language)) as chunks:
            async for chunk in chunks:
                pcm = resampler.push(chunk.pcm) if chunk.pcm.size else silence(0)
                made += pcm.size
                marks = chunk.marks or marks
                yield SpeechChunk(pcm, moved(chunk.marks, made))
        yield SpeechChunk(resampler.push(silence(0), last=True), moved(marks[-1:], made))


@dataclass
class _Words:
    """A text on its way into speech."""

    text: AsyncIterator[str]
    given: str = ""
    """What an engine took of it."""
    spoken: int = 0
    """Characters of that which were spoken, in so many `samples`."""
    samples: int = 0

    def note(self, chunk: SpeechChunk) -> None:
        """It was spoken."""
        self.samples += chunk.pcm.size
        self.spoken = chunk.marks[-1].text_end if chunk.marks else self.spoken

    async def left(self) -> AsyncGenerator[str, None]:
        """What was given and not spoken, and all that follows."""
        if left := self.given[self.spoken :]:
            yield left
        async for piece in self.text:
            yield piece
