"""Speech to text as the test says: a fixed text or a function of the audio; late, failing or hanging on demand."""

import asyncio
from collections.abc import Callable

import numpy as np

from avatar.core.audio import Pcm, silence
from avatar.core.errors import EngineFailed
from avatar.engines.base import Capabilities, Transcript


class FakeSpeechToText:
    """Fills `SpeechToText`.

    Counters: streams `opened` and `closed`; transcriptions `finished` (by `finish`) and `cancelled` (`partial` or
    `finish` given up by its caller). All-zero audio is `""` whatever `text` says. `error` is raised, and `hang` waits
    for ever, in place of a transcript.
    """

    name = "fake speech to text"

    def __init__(
        self,
        text: str | Callable[[Pcm], str] = "hello there",
        language: str | None = "en",
        delay_s: float = 0.0,
        error: Exception | None = None,
        hang: bool = False,
    ) -> None:
        self.text = text
        self.language = language
        self.delay_s = delay_s
        self.error = error
        self.hang = hang
        self.capabilities = Capabilities(streams=True, concurrent=1000)
        self.opened = self.closed = self.finished = self.cancelled = 0
        self.languages: list[str | None] = []
        """Asked for, stream by stream."""

    async def warm_up(self) -> None: ...

    async def aclose(self) -> None: ...

    def open(self, language: str | None = None) -> "FakeTranscriptStream":
        self.opened += 1
        self.languages.append(language)
        return FakeTranscriptStream(self, language)


class FakeTranscriptStream:
    """Fills `TranscriptStream`."""

    def __init__(self, engine: FakeSpeechToText, language: str | None) -> None:
        self._engine = engine
        self._language = language
        self._pieces: list[Pcm] = []
        self._closed = asyncio.Event()

    def accept(self, pcm: Pcm) -> None:
        self._pieces.append(pcm.copy())

    async def partial(self) -> Transcript:
        return await self._transcribe()

    async def finish(self) -> Transcript:
        transcript = await self._transcribe()
        self._engine.finished += 1
        return transcript

    async def aclose(self) -> None:
        if not self._closed.is_set():
            self._closed.set()
            self._engine.closed += 1

    async def _transcribe(self) -> Transcript:
        engine = self._engine
        pcm = np.concatenate(self._pieces) if self._pieces else silence(0)
        try:
            await self._work()
        except asyncio.CancelledError:
            engine.cancelled += 1
            raise
        if engine.error is not None:
            raise engine.error
        if not pcm.any():
            return Transcript("", engine.language)
        text = engine.text(pcm) if callable(engine.text) else engine.text
        return Transcript(text, self._language or engine.language)

    async def _work(self) -> None:
        """Take the engine's time over it, unless the stream is closed meanwhile."""
        try:
            async with asyncio.timeout(None if self._engine.hang else self._engine.delay_s):
                await self._closed.wait()
        except TimeoutError:
            return
        raise EngineFailed("The utterance was closed while it was being transcribed.")
