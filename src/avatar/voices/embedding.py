"""The GE2E speaker encoder in numpy: a recording to 256 numbers that lie close together for the same speaker.

Three LSTM layers over 40 mel bands, in windows of 1.6 s. Architecture, front end and constants are those of Resemblyzer
0.1.4, whose weights it reads (SV2TTS and MockingBird have the same). torch would be 200 MB for 1.4 M parameters.
Blocking; knows no file but the weights.
"""

from collections.abc import Iterable
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from avatar.core.audio import INPUT_RATE_HZ, Pcm
from avatar.voices.checkpoint import read_tensors

DIMENSIONS = 256

_FFT = 400  # 25 ms
_HOP = 160  # 10 ms
_BANDS = 40
_WINDOW_FRAMES = 160
_STEP_FRAMES = 77  # 1.3 windows a second
SLICE_S, SLICE_STEP_S = 0.8, 0.2
_SLICE_FRAMES, _SLICE_STEP_FRAMES = 80, 20
SPAN_S, SPAN_STEP_S = 1.6, 0.4
_SPAN_STEP_FRAMES = 40
_MIN_COVERAGE = 0.75  # of the last window
_LAYERS = 3
_LEVEL_DB = -30.0  # quieter recordings are raised to it

Vectors = NDArray[np.float32]


class SpeakerEncoder:
    """The encoder with the weights `pretrained.pt` in `folder`. Raises `EngineFailed` when they cannot be read."""

    version = "ge2e-resemblyzer-0.1"

    def __init__(self, folder: Path) -> None:
        state = read_tensors(folder / "pretrained.pt", "model_state")
        self._layers = [
            (
                state[f"lstm.weight_ih_l{layer}"].T.copy(),
                state[f"lstm.weight_hh_l{layer}"].T.copy(),
                state[f"lstm.bias_ih_l{layer}"] + state[f"lstm.bias_hh_l{layer}"],
            )
            for layer in range(_LAYERS)
        ]
        self._linear = state["linear.weight"].T.copy(), state["linear.bias"]

    def windows(self, pcm: Pcm) -> Vectors:
        """float32[windows, 256], each of length 1, of `pcm` (float32[n], mono, 16 kHz) without its silences."""
        frames = mel(_raise_level(pcm))
        starts = list(range(0, max(1, len(frames) - _WINDOW_FRAMES + _STEP_FRAMES), _STEP_FRAMES))
        covered = (pcm.size - starts[-1] * _HOP) / (_WINDOW_FRAMES * _HOP)
        if covered < _MIN_COVERAGE and len(starts) > 1:
            starts.pop()
        frames = np.pad(frames, ((0, max(0, starts[-1] + _WINDOW_FRAMES - len(frames))), (0, 0)))
        return self._forward(_cut(frames, starts, _WINDOW_FRAMES))

    def slices(self, pcm: Pcm) -> Vectors:
        """float32[slices, 256], each of length 1: shorter windows, of `SLICE_S`, one every `SLICE_STEP_S`.

        Too short for a voice's portrait, and short enough to hold one turn of a dialogue each.
        """
        return self._every(pcm, _SLICE_FRAMES, _SLICE_STEP_FRAMES)

    def spans(self, pcm: Pcm) -> Vectors:
        """float32[spans, 256], each of length 1: windows of `SPAN_S`, one every `SPAN_STEP_S`, pauses and all."""
        return self._every(pcm, _WINDOW_FRAMES, _SPAN_STEP_FRAMES)

    def embed(self, pcm: Pcm) -> Vectors:
        """float32[256] of length 1 of the whole recording."""
        return mean_vector(self.windows(pcm))

    def _every(self, pcm: Pcm, length: int, step: int) -> Vectors:
        frames = mel(_raise_level(pcm))
        starts = range(0, max(1, len(frames) - length + 1), step)
        frames = np.pad(frames, ((0, max(0, length - len(frames))), (0, 0)))
        return self._forward(_cut(frames, starts, length))

    def _forward(self, batch: Vectors) -> Vectors:
        states = batch.transpose(1, 0, 2)  # time first
        for weights_in, weights_state, bias in self._layers:
            states = _lstm(states @ weights_in + bias, weights_state)
        weights, bias = self._linear
        raw = np.maximum(states[-1] @ weights + bias, 0)
        vectors: Vectors = raw / np.maximum(np.linalg.norm(raw, axis=1, keepdims=True), 1e-9)
        return vectors


def mean_vector(vectors: Vectors) -> Vectors:
    """The direction `vectors` have in common: float32[256] of length 1."""
    mean = vectors.mean(axis=0)
    unit: Vectors = (mean / max(float(np.linalg.norm(mean)), 1e-9)).astype(np.float32)
    return unit


def cosine(one: Vectors, other: Vectors) -> float:
    """Similarity -1…1 of two vectors of length 1."""
    return float(np.dot(one, other))


def _lstm(inputs: Vectors, weights_state: Vectors) -> Vectors:
    """One layer: `inputs` float32[time, batch, 4 * 256] already multiplied in; gates in torch's order i, f, g, o."""
    width = weights_state.shape[0]
    out = np.empty((*inputs.shape[:2], width), np.float32)
    hidden = np.zeros(out.shape[1:], np.float32)
    cell = np.zeros_like(hidden)
    for step, given in enumerate(inputs):
        gates = given + hidden @ weights_state
        entry, forget, leave = (_sigmoid(gates[:, at * width : (at + 1) * width]) for at in (0, 1, 3))
        cell = forget * cell + entry * np.tanh(gates[:, 2 * width : 3 * width])
        hidden = leave * np.tanh(cell)
        out[step] = hidden
    return out


def _sigmoid(x: Vectors) -> Vectors:
    y: Vectors = 0.5 * (np.tanh(0.5 * x) + 1.0)
    return y


def _cut(frames: Vectors, starts: Iterable[int], length: int) -> Vectors:
    return np.stack([frames[start : start + length] for start in starts])


def _raise_level(pcm: Pcm) -> Pcm:
    rms = float(np.sqrt(np.mean(np.square(pcm)))) if pcm.size else 0.0
    target = 10 ** (_LEVEL_DB / 20)
    return pcm if rms >= target or rms == 0.0 else pcm * np.float32(target / rms)


def mel(pcm: Pcm) -> Vectors:
    """Power mel spectrogram float32[n // 160 + 1, 40], as librosa's `melspectrogram` gives it (zeros at both ends)."""
    padded = np.pad(pcm, _FFT // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, _FFT)[::_HOP]
    window = np.hanning(_FFT + 1)[:-1].astype(np.float32)  # periodic
    power = np.abs(np.fft.rfft(frames * window, axis=1)) ** 2
    bands: Vectors = (power @ _filters()).astype(np.float32)
    return bands


@cache
def _filters() -> NDArray[np.float64]:
    """Triangles of equal area on Slaney's mel scale (linear to 1 kHz, then logarithmic): float64[201, 40]."""
    log_step = np.log(6.4) / 27

    def to_hz(mels: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.where(mels < 15, mels * 200 / 3, 1000 * np.exp(log_step * (mels - 15)))

    top = 15 + np.log(INPUT_RATE_HZ / 2 / 1000) / log_step
    edges = to_hz(np.linspace(0, top, _BANDS + 2))
    hz = np.linspace(0, INPUT_RATE_HZ / 2, _FFT // 2 + 1)
    rising = (hz[:, None] - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - hz[:, None]) / (edges[2:] - edges[1:-1])
    triangles: NDArray[np.float64] = np.maximum(0, np.minimum(rising, falling)) * 2 / (edges[2:] - edges[:-2])
    return triangles
