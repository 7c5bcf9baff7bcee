"""Enrolment: from a recording as it was uploaded to all that is needed to speak like it.

The steps and what each makes; which voice it is for, and when it is tried again, is for the library and the jobs to
say. What it needs of decoders and engines comes in as functions. CPU work runs in threads, one BLAS thread at a time.
"""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from threadpoolctl import ThreadpoolController

from avatar.core.audio import INPUT_RATE_HZ, Pcm, resample
from avatar.core.errors import NoSpeech, Overloaded
from avatar.core.voices import Reference
from avatar.voices.embedding import SpeakerEncoder, Vectors, mean_vector
from avatar.voices.folder import REFERENCE_RATE_HZ, VoiceFolder
from avatar.voices.quality import FRAME_SAMPLES, MAX_S, Quality, Unfit, judge, speech_bounds, trimmed

STEPS = ("decode", "trim", "quality", "embedding", "transcribe", "conditioning")
OnStep = Callable[[str], None]

_TARGET_DB = -23.0
_PEAK = 0.95


class Cloner(Protocol):
    """An engine that speaks like a recording; `avatar.engines.base.ClonesVoices` is the whole of it."""

    @property
    def conditioning_version(self) -> str: ...

    async def condition(self, reference: Reference) -> bytes: ...

    def learn(self, voice: str, conditioning: bytes) -> None: ...

    def forget(self, voice: str) -> None: ...


@dataclass(frozen=True)
class Means:
    """What others do for an enrolment.

    `decode`: an encoded file to float32[n] at 24 kHz, of at most `MAX_S`. `recognise`: raises `BadAudio` for what is no
    audio file, at a look at its beginning. `speech`: the speech probability of each
    frame of 512 samples at 16 kHz; blocking. `transcribe`: text and language of float32[n] at 16 kHz.
    """

    decode: Callable[[bytes], Awaitable[Pcm]]
    recognise: Callable[[bytes], Awaitable[None]]
    speech: Callable[[Pcm], list[float]]
    transcribe: Callable[[Pcm, str | None], Awaitable[tuple[str, str | None]]]


@dataclass(frozen=True)
class Studied:
    """What a recording turned out to be."""

    reference: Pcm
    """float32[n] at 24 kHz, trimmed, at an even loudness."""
    speech: Pcm
    """The same at 16 kHz, as loud as it was."""
    embedding: Vectors
    quality: Quality

    def as_reference(self, text: str | None, language: str | None) -> Reference:
        """What an engine takes."""
        return Reference(self.reference, REFERENCE_RATE_HZ, text or "", language)


class Enrolment:
    """`speaker_weights`: the folder of `ge2e-speaker`, asked for when it is first needed."""

    def __init__(self, means: Means, speaker_weights: Callable[[], Path]) -> None:
        self._means = means
        self._speaker_weights = speaker_weights
        self._encoder: SpeakerEncoder | None = None
        self._blas = ThreadpoolController()
        self._loading = asyncio.Lock()

    async def recognise(self, data: bytes) -> None:
        """Raises `BadAudio` for what is no audio file; what nobody has time to look at passes."""
        with suppress(Overloaded):
            await self._means.recognise(data)

    async def study(self, data: bytes, on_step: OnStep) -> Studied:
        """Decode, trim, judge, embed. Raises `BadAudio`, `NoSpeech` or `BufferLimit` for what cannot be used (`Unfit`
        with the reasons), `EngineFailed` without the speaker encoder's weights."""
        on_step("decode")
        decoded = await self._means.decode(data)
        on_step("trim")
        wide, narrow, probabilities = await asyncio.to_thread(self._trim, decoded)
        on_step("quality")
        slices = await self._encoded(SpeakerEncoder.slices, narrow)
        spans = await self._encoded(SpeakerEncoder.spans, narrow)
        quality = judge(narrow, probabilities, slices, spans)
        if quality.flaws:
            raise Unfit(quality)
        on_step("embedding")
        windows = await self._encoded(SpeakerEncoder.windows, narrow)
        return Studied(_even_loudness(wide), narrow, mean_vector(windows), quality)

    async def embed(self, data: bytes) -> tuple[Vectors, float]:
        """The embedding of a file and its length in seconds without the silence around it. Raises like `study`, but
        judges nothing except that somebody speaks."""
        _, narrow, _ = await asyncio.to_thread(self._trim, await self._means.decode(data))
        return mean_vector(await self._encoded(SpeakerEncoder.windows, narrow)), narrow.size / INPUT_RATE_HZ

    async def embed_speech(self, pcm: Pcm, rate_hz: int) -> Vectors:
        """The embedding of our own speech, which needs no decoding."""
        wide = await asyncio.to_thread(resample, pcm, rate_hz, REFERENCE_RATE_HZ)
        _, narrow, _ = await asyncio.to_thread(self._trim, wide)
        return mean_vector(await self._encoded(SpeakerEncoder.windows, narrow))

    async def transcribe(self, speech: Pcm, language: str | None) -> tuple[str, str | None]:
        """What is said, and in which language, as far as the transcriber can tell."""
        return await self._means.transcribe(speech, language)

    def _trim(self, decoded: Pcm) -> tuple[Pcm, Pcm, list[float]]:
        narrow = resample(decoded, REFERENCE_RATE_HZ, INPUT_RATE_HZ)
        probabilities = self._means.speech(np.pad(narrow, (0, -narrow.size % FRAME_SAMPLES)))
        bounds = speech_bounds(probabilities)
        if bounds is None:
            raise NoSpeech("Nobody speaks in this recording. Read a few sentences aloud.")
        frames = slice(*(round(second * INPUT_RATE_HZ / FRAME_SAMPLES) for second in bounds))
        return (
            trimmed(decoded, REFERENCE_RATE_HZ, bounds),
            trimmed(narrow, INPUT_RATE_HZ, bounds),
            probabilities[frames],
        )

    async def _encoded(self, encode: Callable[[SpeakerEncoder, Pcm], Vectors], narrow: Pcm) -> Vectors:
        async with self._loading:
            if self._encoder is None:
                self._encoder = await asyncio.to_thread(lambda: SpeakerEncoder(self._speaker_weights()))
        return await asyncio.to_thread(self._on_one_core, encode, self._encoder, narrow)

    def _on_one_core(
        self, encode: Callable[[SpeakerEncoder, Pcm], Vectors], encoder: SpeakerEncoder, pcm: Pcm
    ) -> Vectors:
        """BLAS threads spin while they wait for each other: 0.3 to 3 s on a busy machine for what takes 0.1 s alone."""
        with self._blas.limit(limits=1, user_api="blas"):
            return encode(encoder, pcm)


async def condition(
    folder: VoiceFolder, cloners: Sequence[Cloner], voice_id: str, key: str, reference: Callable[[], Reference]
) -> None:
    """Let every engine know the voice, each by what it makes of the recording; what was made before is not made again.

    `key` names the recording with its text and language (`conditioning_key`); `reference` is read only when needed.
    """
    for cloner in cloners:
        data = await asyncio.to_thread(folder.conditioning, key, cloner.conditioning_version)
        if data is None:
            data = await cloner.condition(await asyncio.to_thread(reference))
            await asyncio.to_thread(folder.save_conditioning, key, cloner.conditioning_version, data)
        cloner.learn(voice_id, data)


def conditioning_key(content_sha256: str, text: str | None, language: str | None) -> str:
    """What conditioning depends on besides the engine, as a name for a folder."""
    return hashlib.sha256("\0".join((content_sha256, text or "", language or "")).encode()).hexdigest()


def _even_loudness(pcm: Pcm) -> Pcm:
    """To -23 dBFS (EBU R 128's level, without its weighting), peaks below full scale."""
    rms = float(np.sqrt(np.mean(np.square(pcm, dtype=np.float64))))
    gain = 10 ** (_TARGET_DB / 20) / max(rms, 1e-6)
    return pcm * np.float32(min(gain, _PEAK / max(float(np.abs(pcm).max()), 1e-6)))


__all__ = ["MAX_S", "STEPS", "Cloner", "Enrolment", "Means", "Studied", "condition", "conditioning_key"]
