"""A voice that hums: a sine tone as long as the text, with a mark at the end of each word, and counters.

Time passes by `asyncio.sleep` alone, so a virtual clock drives it. It holds to `tests/contract/test_tts_contract.py`.
"""

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterator

import numpy as np

from avatar.core.audio import ms_to_samples, silence
from avatar.engines.base import Capabilities, Mark, SpeechChunk

_WORD = re.compile(r"\S+")
_TONE_HZ = 220.0


class FakeTextToSpeech:
    """Hums `ms_per_char` for each character, in chunks of `chunk_ms`, `delay_s` after it gets each piece.

    With an `error` it raises that instead of the first chunk of a piece; with `hang` it waits for ever there.
    All arguments but the rate are attributes that a test may change between pieces.
    """

    name = "fake text to speech"
    capabilities = Capabilities(streams=True, concurrent=8)
    voices = ("hum", "low hum")

    def __init__(
        self,
        sample_rate_hz: int = 24_000,
        ms_per_char: float = 50,
        chunk_ms: float = 40,
        delay_s: float = 0.0,
        error: Exception | None = None,
        hang: bool = False,
    ) -> None:
        self.sample_rate_hz = sample_rate_hz
        self.ms_per_char = ms_per_char
        self.chunk_ms = chunk_ms
        self.delay_s = delay_s
        self.error = error
        self.hang = hang
        self.spoken: list[str] = []
        self.requests: list[tuple[str | None, str | None]] = []
        self.active = 0
        self.closed_early = 0
        self.warmed_up = False
        self.closed = False

    async def warm_up(self) -> None:
        self.warmed_up = True

    async def aclose(self) -> None:
        self.closed = True

    async def speak(
        self, text: AsyncIterator[str], *, voice: str | None = None, language: str | None = None
    ) -> AsyncGenerator[SpeechChunk, None]:
        self.requests.append((voice, language))
        complete = False
        self.active += 1
        chars = samples = 0
        try:
            async for piece in text:
                self.spoken.append(piece)
                await asyncio.sleep(self.delay_s)
                await self._trouble()
                for chunk in self._hum(piece, chars, samples):
                    yield chunk
                    samples += chunk.pcm.size
                chars += len(piece)
            complete = True
        finally:
            self.active -= 1
            self.closed_early += not complete
            if isinstance(text, AsyncGenerator):
                await text.aclose()

    async def _trouble(self) -> None:
        if self.error is not None:
            raise self.error
        if self.hang:
            await asyncio.Event().wait()

    def _hum(self, piece: str, chars_before: int, samples_before: int) -> list[SpeechChunk]:
        """The whole piece as chunks; a word's mark lies in the chunk that ends the word."""
        if not any(char.isalnum() for char in piece):
            return [SpeechChunk(silence(0), (Mark(chars_before + len(piece), samples_before),))]
        per_char = ms_to_samples(self.ms_per_char, self.sample_rate_hz)
        total, step = per_char * len(piece), ms_to_samples(self.chunk_ms, self.sample_rate_hz)
        tone = 0.3 * np.sin(2 * np.pi * _TONE_HZ / self.sample_rate_hz * np.arange(total))
        ends = sorted({word.end() for word in _WORD.finditer(piece)} | {len(piece)})
        return [
            SpeechChunk(
                tone[start : start + step].astype(np.float32),
                tuple(
                    Mark(chars_before + end, samples_before + end * per_char)
                    for end in ends
                    if start < end * per_char <= start + step
                ),
            )
            for start in range(0, total, step)
        ]
