"""F5-TTS as a `TextToSpeech` that clones.

A clause or two is spoken at once and whole, on the one thread that has the device; one that nobody wants any more ends
within a step of its sampling. The official package fades a clause's end into the next one; here that end would have to
wait until the next is made, so `parts` takes the silence off both and makes the pause. Owns the voices and the device.
"""

import asyncio
import threading
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path

import torch

from avatar.core.audio import resample, silence
from avatar.core.errors import EngineFailed
from avatar.core.voices import Reference
from avatar.engines.base import Capabilities, SpeechChunk
from avatar.engines.tts.checkpoints import CheckpointError
from avatar.engines.tts.devices import Device, choose_device
from avatar.engines.tts.f5.flow import Stopped
from avatar.engines.tts.f5.mel import HOP_SAMPLES, SAMPLE_RATE_HZ
from avatar.engines.tts.f5.model import OWN_BYTES_PER_S, OWN_TEXT, F5Model
from avatar.engines.tts.f5.reference import Voice, from_bytes, hear, to_bytes
from avatar.engines.tts.f5.text import clean
from avatar.engines.tts.parts import Part, estimated_part, speak_parts, split
from avatar.engines.worker import ModelThreads

NOBODY = "default"
"""The voice that the model makes up."""

TOTAL_S, LEAST_S = 22.0, 6.0
"""Recording and speech at a time (official `infer_process`), and the least speech that is for a long recording."""


class F5Tts:
    """The model in the folder `weights`.

    `device`: `cuda` (in float16) or `cpu` (in float32); `auto` takes a GPU if there is one. `steps`: of the sampling;
    16 take half the time of 32. `speed`: 1 is a recording's own. `seed`: of the noise that speech is made of, so that
    the same text sounds the same.
    """

    sample_rate_hz = SAMPLE_RATE_HZ
    conditioning_version = "f5-tts-1"
    capabilities = Capabilities(frozenset({"en", "zh"}), streams=True, clones=True, has_own_voices=False)

    def __init__(
        self,
        weights: Path,
        *,
        device: Device = "auto",
        steps: int = 32,
        speed: float = 1.0,
        seed: int = 0,
    ) -> None:
        self._device = choose_device(device)
        self._weights = weights
        self._steps = steps
        self._speed = speed
        self._seed = seed
        self._voices: dict[str, Voice] = {}
        self._threads = ModelThreads("f5-tts", self._load)

    @property
    def name(self) -> str:
        return f"f5-tts (v1, {self._steps} steps, {self._device.type})"

    @property
    def voices(self) -> tuple[str, ...]:
        return (NOBODY, *self._voices)

    async def warm_up(self) -> None:
        await self._threads.warm_up()

    async def aclose(self) -> None:
        await self._threads.aclose()

    def speak(
        self, text: AsyncIterator[str], *, voice: str | None = None, language: str | None = None
    ) -> AsyncGenerator[SpeechChunk, None]:
        known = self._voices.get(voice or "")  # fixed for a stream, whatever is forgotten meanwhile

        async def synthesize(words: str) -> Part:
            unwanted = threading.Event()
            try:
                return await self._threads.run(lambda loaded: self._say(*loaded, known, words, unwanted))
            finally:
                unwanted.set()

        most = _part_bytes(known, self._speed)
        return speak_parts(_short(text, most), synthesize, SAMPLE_RATE_HZ, max_chars=most, pace=self._speed)

    async def condition(self, reference: Reference) -> bytes:
        def listen() -> bytes:
            try:
                pcm = resample(reference.pcm, reference.rate_hz, SAMPLE_RATE_HZ)
                return to_bytes(hear(pcm, clean(reference.text)))
            except ValueError as error:
                raise EngineFailed(str(error)) from error

        return await asyncio.to_thread(listen)

    def learn(self, voice: str, conditioning: bytes) -> None:
        try:
            self._voices[voice] = from_bytes(conditioning)
        except ValueError:
            raise EngineFailed("What was kept of this voice cannot be read: enrol it again.") from None

    def forget(self, voice: str) -> None:
        self._voices.pop(voice, None)

    def _load(self) -> tuple[F5Model, Voice]:
        """The model, and the voice it makes up, which also warms it up."""
        try:
            model = F5Model.load(self._weights, device=self._device, dtype=precision(self._device), steps=self._steps)
        except CheckpointError as error:
            raise EngineFailed(f"F5-TTS cannot be loaded. {error}") from error
        return model, model.own_voice(self._seed)

    def _say(self, model: F5Model, own: Voice, known: Voice | None, text: str, unwanted: threading.Event) -> Part:
        try:
            pcm = model.speak(known or own, clean(text).strip(), speed=self._speed, seed=self._seed, stop=unwanted)
        except Stopped:
            pcm = silence(0)
        return estimated_part(text, pcm, SAMPLE_RATE_HZ)


def precision(device: torch.device) -> torch.dtype:
    """Half precision where it is fast (compute capability 7.0), as the official package does."""
    fast = device.type == "cuda" and torch.cuda.get_device_capability(device) >= (7, 0)
    return torch.float16 if fast else torch.float32


def _part_bytes(voice: Voice | None, speed: float) -> int:
    """How much text is spoken at once after the recording of `voice`."""
    if voice is None:
        return int((TOTAL_S - len(OWN_TEXT) / OWN_BYTES_PER_S) * OWN_BYTES_PER_S * speed)
    frames_per_s = SAMPLE_RATE_HZ / HOP_SAMPLES
    room_s = max(TOTAL_S - voice.frames / frames_per_s, LEAST_S)
    return int(room_s * frames_per_s * voice.bytes_per_frame * speed)


async def _short(text: AsyncIterator[str], most_bytes: int) -> AsyncGenerator[str, None]:
    """The same text in pieces of at most `most_bytes` of UTF-8, if a character takes no more."""
    try:
        async for piece in text:
            widest = max((len(clean(char).encode()) for char in piece), default=1)
            for part in split(piece, max(most_bytes // widest, 1)):
                yield part
    finally:
        if isinstance(text, AsyncGenerator):
            await text.aclose()
