"""The voice of a recording: what F5-TTS is shown of it before each clause, and how that is kept.

The preparation is the official one: silence off both ends, up to twelve seconds, made as loud as the model expects, and
text that ends in a full stop. What is left of a longer recording must keep the words that are said in it: it is cut
where a pause falls together with a comma or full stop. Knows no network and no files.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from torch import Tensor

from avatar.core.audio import Pcm, ms_to_samples, silence
from avatar.engines.tts.f5.mel import BANDS, SAMPLE_RATE_HZ, log_mel
from avatar.engines.tts.parts import letters

MIN_S = 1.0
"""Less says nothing of a voice."""
BEST_S = 12.0
"""Longer recordings are cut, if they can be (official `preprocess_ref_audio_text`)."""
MAX_S = 20.0
"""What is longer and cannot be cut is refused: the model has been trained on up to 30 s, recording and speech."""

TARGET_RMS = 0.1
"""Quieter recordings are made as loud, and the speech as quiet as they were."""
_TAIL_MS = 50
_SILENT = 10 ** (-42 / 20)
_BLOCK_MS = 10
_PAUSE_BLOCKS = 15
_FIT_S = 0.3
"""A pause and a comma this far apart, by the letters before and after, are the same."""
_COMMA = re.compile(r"[.!?…,;:](?=\s)|[。！？，、；：]")


@dataclass(frozen=True)
class Voice:
    """`mel`: float32[T, 100] on the CPU. `text`: said in it, with its end. `gain`: from the speech to the recording."""

    mel: Tensor
    text: str
    gain: float = 1.0

    @property
    def frames(self) -> int:
        """Its length as the official package counts, without the last frame's half."""
        return len(self.mel) - 1

    @property
    def bytes_per_frame(self) -> float:
        """How fast it speaks: bytes of UTF-8 take about the same time in English and in Chinese."""
        return len(self.text.encode()) / self.frames


def hear(pcm: Pcm, text: str) -> Voice:
    """The voice of pcm[n], 24 kHz, in which `text` is said. Raises `ValueError` with what to do instead."""
    pcm = _without_edges(pcm)
    if not any(char.isalnum() for char in text):
        raise ValueError("F5-TTS needs the words of a recording: give its reference text.")
    if pcm.size < MIN_S * SAMPLE_RATE_HZ:
        raise ValueError(f"F5-TTS needs at least {MIN_S:.0f} s of speech to hear a voice.")
    pcm, text = _excerpt(pcm, text.strip())
    return heard(np.concatenate([pcm, silence(ms_to_samples(_TAIL_MS, SAMPLE_RATE_HZ))]), text)


def heard(pcm: Pcm, text: str) -> Voice:
    """The voice of all of pcm[n], as it is."""
    rms = float(np.sqrt(np.mean(np.square(pcm))))
    gain = min(rms / TARGET_RMS, 1.0)
    return Voice(log_mel(torch.from_numpy(pcm / np.float32(gain))), with_end(text), gain)


def with_end(text: str) -> str:
    """A reference text as the official package ends it."""
    if text.endswith("。"):
        return text
    return text + ("  " if text.endswith(".") else ".  ")


def to_bytes(voice: Voice) -> bytes:
    """A voice to keep: 400 bytes a frame."""
    text = torch.tensor(list(voice.text.encode()), dtype=torch.uint8)
    return safetensors.torch.save({"mel": voice.mel, "text": text, "gain": torch.tensor(voice.gain)})


def from_bytes(data: bytes) -> Voice:
    """What `to_bytes` was given. Raises `ValueError` on anything else."""
    try:
        kept = safetensors.torch.load(data)
        mel, text, gain = kept["mel"], bytes(kept["text"].tolist()).decode(), float(kept["gain"])
    except (SafetensorError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise ValueError("This is no voice that was kept.") from error
    if mel.ndim != 2 or mel.shape[1] != BANDS or len(mel) < 2 or mel.dtype != torch.float32 or not text:
        raise ValueError("This is no voice of F5-TTS.")
    return Voice(mel, text, gain)


def _without_edges(pcm: Pcm) -> Pcm:
    loud = np.flatnonzero(_loudness(pcm) > _SILENT)
    if not loud.size:
        return silence(0)
    block = ms_to_samples(_BLOCK_MS, SAMPLE_RATE_HZ)
    return pcm[int(loud[0]) * block : (int(loud[-1]) + 1) * block]


def _excerpt(pcm: Pcm, text: str) -> tuple[Pcm, str]:
    """The longest beginning of both, up to `BEST_S`, that ends in a pause; all of them if they are short, or must."""
    length_s = pcm.size / SAMPLE_RATE_HZ
    if length_s <= BEST_S:
        return pcm, text
    spoken = letters(text)
    for end, share in sorted(_pauses(pcm), reverse=True):
        commas = [match.end() for match in _COMMA.finditer(text)]
        far_s = [abs(spoken[comma - 1] / spoken[-1] - share) * length_s for comma in commas]
        if end <= BEST_S * SAMPLE_RATE_HZ and far_s and min(far_s) < _FIT_S:
            return pcm[:end], text[: commas[int(np.argmin(far_s))]]
    if length_s <= MAX_S:
        return pcm, text
    raise ValueError(f"F5-TTS takes recordings of up to {MAX_S:.0f} s: 6 to {BEST_S:.0f} s are best.")


def _pauses(pcm: Pcm) -> Iterator[tuple[int, float]]:
    """Where somebody pauses, after `MIN_S` at least: (sample in the middle, share of all speech before it)."""
    quiet = _loudness(pcm) <= max(_SILENT, 0.05 * float(np.sqrt(np.mean(np.square(pcm)))))
    block = ms_to_samples(_BLOCK_MS, SAMPLE_RATE_HZ)
    spoken = np.cumsum(~quiet)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], quiet, [False]]).astype(np.int8)))
    for start, end in zip(edges[::2], edges[1::2], strict=True):
        if end - start >= _PAUSE_BLOCKS and start * block > MIN_S * SAMPLE_RATE_HZ:
            yield int(start + end) // 2 * block, float(spoken[start] / spoken[-1])


def _loudness(pcm: Pcm) -> NDArray[np.float32]:
    """RMS of each block of 10 ms; what is left over of the last is not looked at."""
    block = ms_to_samples(_BLOCK_MS, SAMPLE_RATE_HZ)
    blocks = pcm[: pcm.size // block * block].reshape(-1, block)
    rms: NDArray[np.float32] = np.sqrt(np.mean(np.square(blocks), axis=1))
    return rms
