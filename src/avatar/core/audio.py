"""PCM as AVATAR holds it: float32 mono arrays in -1…1, and the conversions at its edges.

Owns sample formats, framing and resampling. Knows no container, socket, clock or engine.
"""

import math
from collections.abc import Iterator
from functools import cache

import numpy as np
import soxr
from numpy.typing import NDArray

from avatar.core.errors import BadAudio

Pcm = NDArray[np.float32]
"""float32[n], mono, -1…1; the sample rate travels beside it (16 kHz unless a name says otherwise)."""

INPUT_RATE_HZ = 16_000
"""What every speech-to-text, voice-activity and end-of-turn engine takes."""

_INT16_SCALE = 32768.0
# A resampler's filter: half its zero crossings, the share of the band where it has fallen to half, its window: 60 dB.
_CROSSINGS, _PASS, _KAISER = 24, 0.94, 5.65
_INT16_MIN, _INT16_MAX = np.float32(-32768), np.float32(32767)


def check_whole_samples(data: bytes) -> None:
    """Raise `BadAudio` on an odd number of bytes."""
    if len(data) % 2:
        raise BadAudio("PCM16 audio must hold an even number of bytes: each sample is two.")


def pcm16_to_float(data: bytes) -> Pcm:
    """Little-endian int16 bytes to float32 in -1…1. Raises `BadAudio` on an odd number of bytes."""
    check_whole_samples(data)
    return np.frombuffer(data, dtype="<i2").astype(np.float32) / np.float32(_INT16_SCALE)


def float_to_pcm16(pcm: Pcm) -> bytes:
    """Float32 in -1…1 to little-endian int16 bytes; what lies outside is clipped."""
    scaled = pcm * np.float32(_INT16_SCALE)
    np.rint(scaled, out=scaled)
    scaled.clip(_INT16_MIN, _INT16_MAX, out=scaled)  # np.clip goes through layers that cost more than the work
    data: bytes = scaled.astype("<i2").tobytes()
    return data


def silence(samples: int) -> Pcm:
    """`samples` zeros."""
    return np.zeros(samples, dtype=np.float32)


def samples_to_ms(samples: int, rate_hz: int) -> float:
    """Length in milliseconds of `samples` at `rate_hz`."""
    return samples * 1000.0 / rate_hz


def ms_to_samples(ms: float, rate_hz: int) -> int:
    """Whole samples in `ms` milliseconds at `rate_hz`."""
    return int(ms * rate_hz / 1000.0)


class Framer:
    """Cuts a stream of any chunking into frames of exactly `frame_samples`, keeping the rest for later."""

    def __init__(self, frame_samples: int) -> None:
        self._frame_samples = frame_samples
        self._rest: Pcm = silence(0)

    def push(self, pcm: Pcm) -> Iterator[Pcm]:
        """Yield every whole frame that `pcm` completes, in order."""
        buffered = np.concatenate((self._rest, pcm)) if self._rest.size else pcm
        whole = buffered.size - buffered.size % self._frame_samples
        self._rest = buffered[whole:].copy()
        for start in range(0, whole, self._frame_samples):
            yield buffered[start : start + self._frame_samples]


class Resampler:
    """Streaming mono resampler (soxr, quality HQ); equal rates pass through untouched."""

    def __init__(self, from_hz: int, to_hz: int) -> None:
        self._stream = None if from_hz == to_hz else soxr.ResampleStream(from_hz, to_hz, 1, dtype="float32")

    def push(self, pcm: Pcm, *, last: bool = False) -> Pcm:
        """Resample the next piece; `last` flushes what the filter still holds."""
        if self._stream is None:
            return pcm
        out: Pcm = self._stream.resample_chunk(pcm, last=last)
        return out


class LiveResampler:
    """Streaming mono resampler for what somebody waits for: 1 to 3 ms late, where soxr, which works in blocks, is 4 to
    38 (21 at the mean). Passes 88 % of the band, and keeps what would fold back 60 dB down. For rates in a small ratio.
    """

    def __init__(self, from_hz: int, to_hz: int) -> None:
        common = math.gcd(from_hz, to_hz)
        self._up, self._down = to_hz // common, from_hz // common
        self._phases = _lowpass(self._up, self._down)
        self._held = silence(self._phases.shape[1] - 1)
        self._next = 0

    def push(self, pcm: Pcm) -> Pcm:
        """Resample the next piece (float32[n], mono)."""
        if self._up == self._down or not pcm.size:
            return pcm
        buffered = np.concatenate((self._held, pcm))
        due = np.arange(self._next, pcm.size * self._up, self._down)
        self._next = int(due[-1]) + self._down if due.size else self._next
        self._next -= pcm.size * self._up
        windows = np.lib.stride_tricks.sliding_window_view(buffered, self._phases.shape[1])[due // self._up]
        self._held = buffered[pcm.size :]
        out: Pcm = np.einsum("nk,nk->n", windows, self._phases[due % self._up])
        return out


@cache
def _lowpass(up: int, down: int) -> Pcm:
    """A windowed sinc for a stream with `up` - 1 zeros after each sample, cut into the taps that meet samples: one row
    for each place between two of them, the latest sample last."""
    widest = max(up, down)
    half = math.ceil(_CROSSINGS * widest / up) * up
    time = np.arange(-half, half) / widest
    taps = up / widest * _PASS * np.sinc(_PASS * time) * np.kaiser(2 * half, _KAISER)
    phases: Pcm = taps.reshape(-1, up).T[:, ::-1].astype(np.float32)
    return phases


def resample(pcm: Pcm, from_hz: int, to_hz: int) -> Pcm:
    """Resample a whole piece at once."""
    if from_hz == to_hz:
        return pcm
    out: Pcm = soxr.resample(pcm, from_hz, to_hz).astype(np.float32)
    return out
