"""Log-mel spectrogram of the last eight seconds, as Whisper computes it.

Written out because its only packaged form, inside faster-whisper, drags CTranslate2 and FFmpeg in with it.
"""

import numpy as np
from numpy.typing import NDArray

from avatar.core.audio import INPUT_RATE_HZ, Pcm

WINDOW_SAMPLES = 8 * INPUT_RATE_HZ
MELS = 80
FRAMES = 800

# Whisper's front end (Radford et al. 2022, section 2.2): 25 ms windows every 10 ms.
_FFT_SAMPLES = 400
_HOP_SAMPLES = 160
_POWER_FLOOR = 1e-10
_RANGE_LOG10 = 8.0


def log_mel(pcm: Pcm) -> NDArray[np.float32]:
    """float32[80, 800] of the last 8 s of `pcm` (float32[n], mono, 16 kHz; shorter gets zeros in front).

    The samples are first brought to zero mean and unit variance, so loudness does not matter.
    """
    window = np.zeros(WINDOW_SAMPLES, dtype=np.float32)
    tail = pcm[-WINDOW_SAMPLES:]
    window[WINDOW_SAMPLES - tail.size :] = tail
    window = (window - window.mean()) / np.sqrt(window.var() + np.float32(1e-7))
    padded = np.pad(window, _FFT_SAMPLES // 2, mode="reflect")
    frames = np.lib.stride_tricks.sliding_window_view(padded, _FFT_SAMPLES)[::_HOP_SAMPLES][:FRAMES]
    spectrum = np.fft.rfft(frames * _HANN)
    power = spectrum.real**2 + spectrum.imag**2
    mels = np.log10(np.maximum(_FILTERS @ power.T, _POWER_FLOOR))
    mels = np.maximum(mels, mels.max() - _RANGE_LOG10)
    features: NDArray[np.float32] = ((mels + 4.0) / 4.0).astype(np.float32)
    return features


def _slaney_filters() -> NDArray[np.float32]:
    """Triangular filters float32[80, 201], equal in area, spaced on Slaney's mel scale (Auditory Toolbox, 1998):
    linear, 66.7 Hz a mel, up to 1 kHz = 15 mel, then 27 mel to each factor of 6.4."""
    linear_hz, knee_hz, knee_mel, step = 200 / 3, 1000.0, 15.0, np.log(6.4) / 27
    top_mel = knee_mel + np.log(INPUT_RATE_HZ / 2 / knee_hz) / step
    mel = np.linspace(0, top_mel, MELS + 2)
    edges_hz = np.where(mel < knee_mel, linear_hz * mel, knee_hz * np.exp(step * (mel - knee_mel)))
    bins_hz = np.fft.rfftfreq(_FFT_SAMPLES, 1 / INPUT_RATE_HZ)
    low, centre, high = (edges_hz[i : i + MELS, np.newaxis] for i in range(3))
    triangles = np.minimum((bins_hz - low) / (centre - low), (high - bins_hz) / (high - centre))
    filters: NDArray[np.float32] = (np.maximum(triangles, 0) * 2 / (high - low)).astype(np.float32)
    return filters


_HANN = np.hanning(_FFT_SAMPLES + 1)[:-1].astype(np.float32)
_FILTERS = _slaney_filters()
