"""A second, better speech engine for sessions that ask for `quality` "high".

It is loaded when the first of them begins and freed when the last has been gone for a while. Where it cannot be had the
fast engine speaks, and where it fails in the middle of a reply the fast one goes on from there. Knows engine Protocols.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing

from avatar.conversation.lineup import Pick
from avatar.core.audio import Resampler, silence
from avatar.core.errors import EngineError, EngineFailed, EngineTimeout, SetupError, describe
from avatar.engines.base import Capabilities, Mark, SpeechChunk, TextToSpeech

logger = logging.getLogger(__name__)


class HighQuality:
    """The engine `pick` chooses, loaded once however many want it. `free_vram` gives None without a GPU."""

    def __init__(
        self,
        pick: Callable[[], Pick] | None,
        free_vram: Callable[[], int | None],
        wants_vram_bytes: int,
        idle_s: float,
        load_timeout_s: float,
    ) -> None:
        self._pick = pick
        self._free_vram = free_vram
        self._wants_vram_bytes = wants_vram_bytes
        self._idle_s = idle_s
        self._load_timeout_s = load_timeout_s
        self._engine: TextToSpeech | None = None
        self._users = 0
        self._lock = asyncio.Lock()
        self._unloading: asyncio.Task[None] | None = None

    async def take(self) -> TextToSpeech:
        """The engine, loaded; `release` it once. Raises `EngineError` with the reason when it cannot be had."""
        async with self._lock:
            if self._unloading is not None:
                self._unloading.cancel()
                self._unloading = None
            if self._engine is None:
                self._engine = await self._load()
            self._users += 1
            return self._engine

    def release(self) -> None:
        """One user less; without any, it is freed after a while."""
        self._users -= 1
        if not self._users:
            self._unloading = asyncio.create_task(self._unload_later(), name="unload the high-quality voice")

    async def aclose(self) -> None:
        """Free it now."""
        if self._unloading is not None:
            self._unloading.cancel()
            await asyncio.wait([self._unloading])
        engine, self._engine = self._engine, None
        if engine is not None:
            await engine.aclose()

    async def _load(self) -> TextToSpeech:
        if self._pick is None:
            raise EngineFailed("No engine for it is set up (tts.high_engine).")
        free_bytes = await asyncio.to_thread(self._free_vram)
        if free_bytes is not None and free_bytes < self._wants_vram_bytes:
            gib = 1 << 30
            raise EngineFailed(
                f"It wants {self._wants_vram_bytes / gib:.1f} GiB of GPU memory, {free_bytes / gib:.1f} are free."
            )
        try:
            pick = await asyncio.to_thread(self._pick)
        except SetupError as error:
            raise EngineFailed(str(error)) from error
        engine = await asyncio.to_thread(pick.build)
        try:
            async with asyncio.timeout(self._load_timeout_s):
                await engine.warm_up()
        except TimeoutError:
            await engine.aclose()
            raise EngineTimeout(f"{pick.engine} was not loaded within {self._load_timeout_s:g} s.") from None
        except BaseException:
            await engine.aclose()
            raise
        assert isinstance(engine, TextToSpeech)
        logger.info("%s speaks where high quality is asked for", engine.name)
        return engine

    async def _unload_later(self) -> None:
        await asyncio.sleep(self._idle_s)
        async with self._lock:
            if not self._users and self._engine is not None:
                engine, self._engine = self._engine, None
                logger.info("%s was idle and is freed", engine.name)
                await engine.aclose()


class WithFallback:
    """Fills `TextToSpeech`: `best` speaks, and `plain` goes on where it fails; then `tell` is given the reason."""

    def __init__(self, best: TextToSpeech, plain: TextToSpeech, tell: Callable[[str], None]) -> None:
        self.best = best
        self._plain = plain
        self._tell = tell

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
        given, spoken, samples = "", 0, 0

        async def listened() -> AsyncGenerator[str, None]:
            nonlocal given
            async for piece in text:
                given += piece
                yield piece

        async def rest() -> AsyncGenerator[str, None]:
            if left := given[spoken:]:
                yield left
            async for piece in text:
                yield piece

        try:
            try:
                async with aclosing(self.best.speak(listened(), voice=voice, language=language)) as chunks:
                    async for chunk in chunks:
                        samples += chunk.pcm.size
                        spoken = chunk.marks[-1].text_end if chunk.marks else spoken
                        yield chunk
                return
            except EngineError as error:
                logger.warning("%s failed, %s goes on", self.best.name, self._plain.name, exc_info=error)
                self._tell(describe(error).message)
            async with aclosing(self._go_on(rest(), voice, language, spoken, samples)) as chunks:
                async for chunk in chunks:
                    yield chunk
        finally:
            if isinstance(text, AsyncGenerator):
                await text.aclose()

    async def _go_on(
        self, text: AsyncIterator[str], voice: str | None, language: str | None, spoken: int, samples: int
    ) -> AsyncGenerator[SpeechChunk, None]:
        """The plain engine, at the rate of the best one, its marks counted from where that stopped."""
        own_hz, rate_hz = self._plain.sample_rate_hz, self.sample_rate_hz
        resampler, made = Resampler(own_hz, rate_hz), samples

        def moved(marks: tuple[Mark, ...], latest: int) -> tuple[Mark, ...]:
            return tuple(
                Mark(spoken + mark.text_end, min(samples + mark.sample * rate_hz // own_hz, latest)) for mark in marks
            )

        marks: tuple[Mark, ...] = ()
        async with aclosing(self._plain.speak(text, voice=voice, language=language)) as chunks:
            async for chunk in chunks:
                pcm = resampler.push(chunk.pcm) if chunk.pcm.size else silence(0)
                made += pcm.size
                marks = chunk.marks or marks
                yield SpeechChunk(pcm, moved(chunk.marks, made))
        yield SpeechChunk(resampler.push(silence(0), last=True), moved(marks[-1:], made))
