"""F5-TTS put together: a voice and a clause in, audio out.

Owns how long a clause takes, and what the model's own voice is. Synchronous, for one thread at a time. Knows no
session.
"""

import threading
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from avatar.core.audio import Pcm
from avatar.engines.tts.f5.checkpoint import read_network, read_vocoder
from avatar.engines.tts.f5.dit import MAX_FRAMES
from avatar.engines.tts.f5.files import check_fit, read_vocabulary, vocabulary_file
from avatar.engines.tts.f5.flow import Flow
from avatar.engines.tts.f5.mel import BANDS, HOP_SAMPLES, SAMPLE_RATE_HZ
from avatar.engines.tts.f5.reference import Voice, with_end
from avatar.engines.tts.f5.text import TextTokenizer
from avatar.engines.tts.f5.vocos import Vocos
from avatar.engines.tts.parts import LETTERS_PER_S

SHORT_BYTES = 10
SHORT_SPEED = 0.3
"""Text under 10 bytes is given more time (official `infer_batch_process`)."""

OWN_TEXT = "Hello, it is good to hear from you, and I hope you are well today."
OWN_BYTES_PER_S = LETTERS_PER_S


@dataclass(frozen=True)
class F5Model:
    """A loaded model on one device."""

    tokenizer: TextTokenizer
    flow: Flow
    vocoder: Vocos

    @classmethod
    def load(cls, folder: Path, *, device: torch.device, dtype: torch.dtype, steps: int) -> "F5Model":
        """Read the model in `folder`. Raises `CheckpointError`."""
        check_fit(folder)
        tokenizer = TextTokenizer(read_vocabulary(vocabulary_file(folder)))
        network = read_network(folder, device=device, dtype=dtype)
        return cls(tokenizer, Flow.of(network, steps), read_vocoder(folder, device=device))

    def own_voice(self, seed: int) -> Voice:
        """The voice that the model makes up when it is shown none; the same for the same seed."""
        text = with_end(OWN_TEXT)
        frames = int(len(text) / OWN_BYTES_PER_S * SAMPLE_RATE_HZ / HOP_SAMPLES)
        nobody = torch.zeros(0, BANDS)
        mel = self.flow.sample(_noise(frames, seed), nobody, self._numbers(text), threading.Event())
        return Voice(mel.cpu(), text)

    def speak(self, voice: Voice, text: str, *, speed: float, seed: int, stop: threading.Event) -> Pcm:
        """float32[n] at 24 kHz, -1…1, silence around it included. Raises `flow.Stopped` within a step."""
        numbers = self._numbers(voice.text + text)
        frames = max(voice.frames + frames_of(text, voice, speed), len(numbers) + 1, len(voice.mel) + 1)
        return self.render(voice, numbers, _noise(min(frames, MAX_FRAMES), seed), stop)

    @torch.inference_mode()
    def render(self, voice: Voice, numbers: Tensor, noise: Tensor, stop: threading.Event) -> Pcm:
        """The audio after the recording's, from `noise` for both."""
        mel = self.flow.sample(noise, voice.mel, numbers, stop)
        pcm = self.vocoder(mel[voice.frames :][None])[0] * voice.gain
        made: Pcm = np.clip(pcm.cpu().numpy(), -1, 1)
        return made

    def _numbers(self, text: str) -> Tensor:
        return torch.tensor(self.tokenizer.encode(text))


def frames_of(text: str, voice: Voice, speed: float) -> int:
    """How long `text` takes, as fast as the recording is spoken."""
    size = len(text.encode())
    return int(size / voice.bytes_per_frame / (SHORT_SPEED if size < SHORT_BYTES else speed))


def _noise(frames: int, seed: int) -> Tensor:
    """The same on every device."""
    return torch.randn(frames, BANDS, generator=torch.Generator().manual_seed(seed))
