"""What callers say: real recordings from a folder, or questions that espeak-ng reads out."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import soundfile

from avatar.core.audio import INPUT_RATE_HZ, Pcm, float_to_pcm16, resample
from tests.load.latency import speech_end_samples
from tests.load.recorder import record_webm
from tests.speech import spoken

FRAME_S = 0.02
FRAME_SAMPLES = int(FRAME_S * INPUT_RATE_HZ)

NOISE_RMS = 0.0005
"""A quiet room through a good microphone, -66 dB of full scale: no real microphone gives zeros."""

PRESS_S = 0.25
"""People press the button, then speak. They let go of it with the last sound: that much haste is the worst case."""

QUESTIONS = (
    "What is the capital of France?",
    "How many days are there in a week?",
    "Tell me something about the moon.",
    "What should I cook for dinner tonight?",
    "Why is the sky blue?",
    "Can you recommend a good book?",
)


@dataclass(frozen=True)
class Question:
    """Speech (float32[n], mono, 16 kHz) that ends with its last audible sample."""

    pcm: Pcm = field(repr=False)

    @cached_property
    def frames(self) -> list[bytes]:
        """PCM16 frames of 20 ms with room noise; the last one holds the last sample of speech, at its end."""
        short = -self.pcm.size % FRAME_SAMPLES
        pcm = np.concatenate((np.zeros(short, np.float32), self.pcm))
        return list(cut_frames(pcm + room_noise(pcm.size)))

    @cached_property
    def webm(self) -> bytes:
        """What a browser records while the button is down: `PRESS_S` of the room, then the speech."""
        before = room_noise(int(PRESS_S * INPUT_RATE_HZ))
        return record_webm(np.concatenate((before, self.pcm)), INPUT_RATE_HZ)

    @property
    def pressed_s(self) -> float:
        """Length of `webm`."""
        return PRESS_S + self.pcm.size / INPUT_RATE_HZ


def room_noise(samples: int, seed: int = 0) -> Pcm:
    """Gaussian noise at `NOISE_RMS`."""
    return np.random.default_rng(seed).normal(0, NOISE_RMS, samples).astype(np.float32)


def cut_frames(pcm: Pcm) -> Iterator[bytes]:
    """Whole frames of PCM16, 20 ms each."""
    for start in range(0, pcm.size - FRAME_SAMPLES + 1, FRAME_SAMPLES):
        yield float_to_pcm16(pcm[start : start + FRAME_SAMPLES])


def question(pcm: Pcm) -> Question:
    """Cut what comes after the speech. Raises `ValueError` for a recording without any."""
    end = speech_end_samples(pcm)
    if not end:
        raise ValueError("the recording holds no speech")
    return Question(pcm[:end])


async def spoken_questions() -> list[Question]:
    """`QUESTIONS`, read out."""
    return [question(await spoken(text)) for text in QUESTIONS]


def recorded_questions(folder: Path) -> list[Question]:
    """Every WAV of `folder`, of any rate, mixed to mono. Raises `ValueError` if there is none."""
    files = sorted(folder.glob("*.wav"))
    if not files:
        raise ValueError(f"no .wav file in {folder}")
    return [question(_read(file)) for file in files]


def _read(file: Path) -> Pcm:
    pcm, rate_hz = soundfile.read(file, dtype="float32", always_2d=True)
    return resample(pcm.mean(axis=1), rate_hz, INPUT_RATE_HZ)
