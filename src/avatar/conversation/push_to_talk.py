"""A push-to-talk utterance: a bounded buffer of what the client sends, then decoded, checked for speech, transcribed.

Knows no socket and no turn.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

from avatar.conversation.plan import Said
from avatar.conversation.watch import within
from avatar.core.audio import INPUT_RATE_HZ, Pcm, pcm16_to_float, resample, samples_to_ms
from avatar.core.errors import BadAudio, BufferLimit, NoSpeech
from avatar.engines.base import SpeechToText, VoiceActivity

AudioKind = Literal["webm", "pcm16"]

_CONTAINER_MAGIC = (b"\x1a\x45\xdf\xa3", b"OggS", b"RIFF", b"fLaC", b"ID3")


class Decoder(Protocol):
    """Turns a recording of any accepted container into PCM, outside this process."""

    async def decode(self, data: bytes, *, max_s: float) -> Pcm:
        """16 kHz mono. Raises `BadAudio`, `BufferLimit`."""
        ...


@dataclass(frozen=True)
class BufferLimits:
    """Bounds of one utterance."""

    max_bytes: int = 10_000_000
    max_chunks: int = 1000
    max_s: float = 60.0


def check_is_raw(chunk: bytes) -> None:
    """Raise `BadAudio` when a chunk declared as PCM16 begins like a file: it would be heard as noise."""
    if chunk.startswith(_CONTAINER_MAGIC):
        raise BadAudio("This is an audio file, but raw PCM16 was declared. Declare audio.format `webm` for recordings.")


class AudioBuffer:
    """What was sent since the last turn. Over a bound it empties itself and raises `BufferLimit`."""

    def __init__(self, kind: AudioKind, rate_hz: int, limits: BufferLimits, now: Callable[[], float]) -> None:
        self._kind = kind
        self._rate_hz = rate_hz
        self._limits = limits
        self._now = now
        self.clear()

    def clear(self) -> None:
        """Forget all of it."""
        self._chunks: list[bytes] = []
        self._bytes = 0
        self._began_s = 0.0

    @property
    def empty(self) -> bool:
        """Whether nothing was sent."""
        return self._bytes == 0

    def add(self, chunk: bytes) -> None:
        """Take the next chunk. Raises `BufferLimit`, and `BadAudio` for a file declared as PCM16."""
        if not self._chunks:
            self._began_s = self._now()
            if self._kind == "pcm16":
                check_is_raw(chunk)
        self._chunks.append(chunk)
        self._bytes += len(chunk)
        broken = self._broken_bound()
        if broken:
            self.clear()
            raise BufferLimit(f"One utterance may hold {broken}; what you sent was dropped. Say it in smaller parts.")

    def _broken_bound(self) -> str | None:
        limits = self._limits
        if self._bytes > limits.max_bytes:
            return f"{limits.max_bytes:,} bytes"
        if len(self._chunks) > limits.max_chunks:
            return f"{limits.max_chunks} chunks"
        raw_s = self._bytes / 2 / self._rate_hz if self._kind == "pcm16" else 0.0
        if max(raw_s, self._now() - self._began_s) > limits.max_s:
            return f"{limits.max_s:g} seconds"
        return None

    def take(self) -> bytes:
        """All of it, leaving the buffer empty."""
        data = b"".join(self._chunks)
        self.clear()
        return data


class Recording:
    """One complete push-to-talk utterance on its way to text."""

    def __init__(
        self,
        data: bytes,
        kind: AudioKind,
        rate_hz: int,
        max_s: float,
        decoder: Decoder,
        vad: VoiceActivity,
        stt: SpeechToText,
        language: str | None,
        min_speech_ms: float,
        timeout_s: float,
    ) -> None:
        self._data = data
        self._kind = kind
        self._rate_hz = rate_hz
        self._max_s = max_s
        self._decoder = decoder
        self._vad = vad
        self._stt = stt
        self._language = language
        self._min_speech_ms = min_speech_ms
        self._timeout_s = timeout_s

    async def listen(self) -> Said:
        """What was said in it. Raises `BadAudio`, `BufferLimit`, `NoSpeech` and the engines' errors."""
        pcm = await self._decode()
        spoken_ms = await asyncio.to_thread(voiced_ms, self._vad, pcm)
        if spoken_ms < self._min_speech_ms:
            raise NoSpeech("No speech was heard in that recording. Check the microphone and speak again.")
        stream = self._stt.open(self._language)
        try:
            stream.accept(pcm)
            transcript = await within(self._timeout_s, stream.finish(), "speech recognition")
        finally:
            await stream.aclose()
        text = transcript.text.strip()
        if not text:
            raise NoSpeech("There was sound, but no words could be made out. Speak again, closer to the microphone.")
        return Said(text, transcript.language, pcm)

    async def _decode(self) -> Pcm:
        if self._kind == "pcm16":
            return await asyncio.to_thread(self._resample)  # a minute at 48 kHz takes 30 ms
        return await self._decoder.decode(self._data, max_s=self._max_s)

    def _resample(self) -> Pcm:
        return resample(pcm16_to_float(self._data), self._rate_hz, INPUT_RATE_HZ)


def voiced_ms(vad: VoiceActivity, pcm: Pcm, threshold: float = 0.5) -> float:
    """Milliseconds of `pcm` (16 kHz) in which `vad` hears speech. Blocks: about 1 ms for each second of audio."""
    whole = pcm[: pcm.size - pcm.size % vad.frame_samples]
    voiced = sum(probability >= threshold for probability in vad.open().probabilities(whole)) if whole.size else 0
    return voiced * samples_to_ms(vad.frame_samples, INPUT_RATE_HZ)
