"""Where speech may be cut: around it, and at its quiet places. Pure; knows no model."""

import numpy as np
from numpy.typing import NDArray

from avatar.core.audio import INPUT_RATE_HZ, Pcm

_FRAME_SAMPLES = INPUT_RATE_HZ // 100
_QUIET_FRAMES = 20
SILENCE_RMS = 1e-3
"""-60 dBFS: quieter than the noise of any open microphone, so no 10 ms of speech is in it."""


def is_silent(pcm: Pcm) -> bool:
    """Nothing in `pcm` (float32[n], mono, 16 kHz) is loud enough to be speech."""
    return float(_rms(pcm).max(initial=0.0)) < SILENCE_RMS


def trim(pcm: Pcm, *, margin_samples: int, floor: float) -> Pcm:
    """`pcm` from `margin_samples` before its first loud 10 ms to as many after its last; zeros where it has none.

    Loud is `floor` times the loudest and more. Silence comes back as it is.
    """
    rms = _rms(pcm)
    loud = np.flatnonzero(rms >= max(floor * float(rms.max(initial=0.0)), SILENCE_RMS))
    if not loud.size:
        return pcm
    start = int(loud[0]) * _FRAME_SAMPLES
    end = (int(loud[-1]) + 1) * _FRAME_SAMPLES
    return np.pad(pcm, margin_samples)[start : end + 2 * margin_samples]


def cut_at_quiet(pcm: Pcm, longest_samples: int) -> list[Pcm]:
    """`pcm` in pieces of at most `longest_samples`, each cut at the quietest 0.2 s of its second half.

    A cut depends on nothing that comes after `longest_samples`: more audio leaves all but the last piece as they were.
    """
    pieces = []
    while pcm.size > longest_samples:
        rms = _rms(pcm[longest_samples // 2 : longest_samples])
        blurred = np.convolve(rms, np.ones(_QUIET_FRAMES), mode="valid")
        cut = longest_samples // 2 + (int(blurred.argmin()) + _QUIET_FRAMES // 2) * _FRAME_SAMPLES
        pieces.append(pcm[:cut])
        pcm = pcm[cut:]
    return [*pieces, pcm]


def _rms(pcm: Pcm) -> NDArray[np.float32]:
    """Loudness of every 10 ms, the last one filled with zeros."""
    frames = np.pad(pcm, (0, -pcm.size % _FRAME_SAMPLES)).reshape(-1, _FRAME_SAMPLES)
    rms: NDArray[np.float32] = np.sqrt((frames * frames).mean(axis=1))
    return rms
