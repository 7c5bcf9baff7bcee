"""An inaudible mark in synthetic speech: it tells whoever has the key that a clip was made here.

In cells of 32 ms by 62.5 Hz between 300 Hz and 4 kHz the sound is made 1.5 dB louder or softer, by a pattern that the
key draws and that repeats every 1.024 s (the patchwork method of Bender et al. 1996, on a spectrogram). The detector
averages a clip over that period, compares it with the pattern at every shift, and asks how far the best stands out. The
mark survives cropping, resampling, level changes and codecs; it does not survive somebody who knows the scheme, and not
every short or noisy clip. How often is measured in `benchmarks/results/2026-11-20-voices.md`. Pure.
"""

import hashlib
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from avatar.core.audio import INPUT_RATE_HZ, Pcm, Resampler, resample, silence

THRESHOLD = 5.5
"""Of `score`: above it a clip is marked. Of 2030 unmarked clips of 2 to 8 s none came above 5.3."""

_DEPTH_DB = 1.5
_FFT = 512
_HOP = 128  # 8 ms
_SLOT_FRAMES = 4
_SLOTS = 32
_PERIOD_FRAMES = _SLOT_FRAMES * _SLOTS
_CELL_BINS = 2
_CELLS = 59
_BINS = slice(10, 10 + _CELLS * _CELL_BINS)

_NEIGHBOUR_CELLS, _NEIGHBOUR_FRAMES = 9, 13  # what a cell is compared with
_CLIP_DB = 8.0
_SILENT_DB = 35.0  # this far below the loudest frames, nothing is counted
_NORMAL_MAD = 1.4826  # a normal distribution's deviation over its median absolute one

Grid = NDArray[np.float64]


def embed(pcm: Pcm, rate_hz: int, key: str) -> Pcm:
    """`pcm` (float32[n], mono, any rate from 8 kHz) with the mark; of the same length. Blocking: 4 ms a second."""
    return Marking(rate_hz, key).push(pcm, last=True)


class Marking:
    """Puts the mark into speech as it comes; what it gives runs about 50 ms behind what it has got."""

    def __init__(self, rate_hz: int, key: str) -> None:
        self._pattern = _pattern(key)
        self._down, self._up = Resampler(rate_hz, INPUT_RATE_HZ), Resampler(INPUT_RATE_HZ, rate_hz)
        self._held = silence(0)  # sound that waits for its change
        self._heard = silence(_FFT - _HOP)  # at 16 kHz, not all of it in a frame yet
        self._overlap = np.zeros(_FFT - _HOP)
        self._frames = 0
        self._early = _FFT - _HOP  # of the change, before the first sample

    def push(self, pcm: Pcm, *, last: bool = False) -> Pcm:
        """The next marked sound; with `last` all that is left. Any chunking gives the same sound. Blocking."""
        self._held = np.concatenate((self._held, pcm))
        narrow = self._down.push(pcm, last=last)
        change = self._up.push(self._change(np.pad(narrow, (0, _FFT if last else 0))), last=last)
        if last:
            change = np.pad(change, (0, self._held.size))[: self._held.size]
        out, self._held = self._held[: change.size], self._held[change.size :]
        marked: Pcm = np.clip(out + change, -1.0, 1.0)
        return marked

    def _change(self, narrow: Pcm) -> Pcm:
        """What the mark adds at 16 kHz, as far as no further frame reaches into it."""
        self._heard = np.concatenate((self._heard, narrow))
        count = max((self._heard.size - _FFT) // _HOP + 1, 0)
        if not count:
            return silence(0)
        spectra = _spectra(self._heard[: (count - 1) * _HOP + _FFT])
        self._heard = self._heard[count * _HOP :]
        slots = (self._frames + np.arange(count)) // _SLOT_FRAMES % _SLOTS
        self._frames += count
        changes = np.zeros_like(spectra)
        gains = 10 ** (np.repeat(self._pattern[slots], _CELL_BINS, axis=1) * (_DEPTH_DB / 20)) - 1
        changes[:, _BINS] = spectra[:, _BINS] * gains
        pieces = np.fft.irfft(changes, axis=1) * _window() * (2 * _HOP / _FFT)
        out = np.zeros((count + _FFT // _HOP - 1, _HOP))
        out.ravel()[: self._overlap.size] = self._overlap
        for quarter in range(_FFT // _HOP):  # overlap and add
            out[quarter : quarter + count] += pieces[:, quarter * _HOP : (quarter + 1) * _HOP]
        self._overlap = out[count:].ravel().copy()
        early, self._early = self._early, max(self._early - count * _HOP, 0)
        return out[:count].ravel()[early:].astype(np.float32)


def score(pcm: Pcm, rate_hz: int, key: str) -> float:
    """How far the mark stands out from chance, in deviations; 0 for less than a second of sound. Blocking."""
    narrow = resample(pcm, rate_hz, INPUT_RATE_HZ)
    if narrow.size < INPUT_RATE_HZ:
        return 0.0
    residue = _residue(narrow)
    folded = np.zeros((_PERIOD_FRAMES, _CELLS))
    np.add.at(folded, np.arange(len(residue)) % _PERIOD_FRAMES, residue)
    pattern = np.repeat(_pattern(key), _SLOT_FRAMES, axis=0)
    alike = np.fft.ifft((np.fft.fft(folded, axis=0) * np.conj(np.fft.fft(pattern, axis=0))).sum(axis=1)).real
    usual = _NORMAL_MAD * float(np.median(np.abs(alike)))
    return float(alike.max()) / usual if usual > 0 else 0.0


@lru_cache(maxsize=8)
def _pattern(key: str) -> Grid:
    """+1 or -1 for each slot and cell; every second slot is the one before it turned over, so that slow changes of the
    voice itself cancel out."""
    seed = int.from_bytes(hashlib.sha256(b"avatar watermark 1\0" + key.encode()).digest()[:16], "little")
    drawn = np.random.Generator(np.random.PCG64(seed)).choice([-1.0, 1.0], size=(_SLOTS // 2, _CELLS))
    return np.stack([drawn, -drawn], axis=1).reshape(_SLOTS, _CELLS)


def _spectra(pcm: Pcm) -> NDArray[np.complex128]:
    frames = np.lib.stride_tricks.sliding_window_view(pcm, _FFT)[::_HOP]
    return np.fft.rfft(frames * _window(), axis=1)


@lru_cache(maxsize=1)
def _window() -> Grid:
    window: Grid = np.sqrt(np.hanning(_FFT + 1)[:-1])
    return window


def _residue(pcm: Pcm) -> Grid:
    """Level of each cell in dB against its neighbours in frequency and in time; 0 in silence."""
    levels = 20 * np.log10(np.abs(_spectra(pcm)[:, _BINS]) + 1e-7)
    cells = levels.reshape(len(levels), _CELLS, _CELL_BINS).mean(axis=2)
    loudness = cells.mean(axis=1)
    is_sound = (loudness > np.percentile(loudness, 95) - _SILENT_DB)[:, None]
    against_cells = np.clip(cells - _moving_mean(cells.T, _NEIGHBOUR_CELLS).T, -_CLIP_DB, _CLIP_DB) * is_sound
    residue: Grid = (against_cells - _moving_mean(against_cells, _NEIGHBOUR_FRAMES)) * is_sound
    return residue


def _moving_mean(grid: Grid, width: int) -> Grid:
    """Along the first axis, the edges repeated."""
    padded = np.pad(grid, ((width // 2 + 1, width // 2), (0, 0)), mode="edge")
    sums = np.cumsum(padded, axis=0)
    mean: Grid = (sums[width:] - sums[:-width]) / width
    return mean
