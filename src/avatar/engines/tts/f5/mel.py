"""The mel spectrogram that F5-TTS and its vocoder share: 100 bands of 24 kHz audio, 94 frames a second.

As torchaudio's `MelSpectrogram` computes it (HTK mels, triangles of height 1, magnitudes), without torchaudio.
"""

from functools import cache

import torch
from torch import Tensor

SAMPLE_RATE_HZ = 24_000
N_FFT = 1024
HOP_SAMPLES = 256
BANDS = 100
FLOOR = 1e-5
"""Magnitudes below count as this: the logarithm has a bottom."""


def log_mel(pcm: Tensor) -> Tensor:
    """pcm[n], float32, 24 kHz, -1…1, more than 512 samples -> float32[n // 256 + 1, 100]: frames are centred."""
    spectrum = torch.stft(pcm, N_FFT, HOP_SAMPLES, window=window().to(pcm.device), return_complex=True)
    bands = spectrum.abs().T @ filterbank().to(pcm.device)
    return bands.clamp(min=FLOOR).log()


@cache
def window() -> Tensor:
    """Hann, float32[1024]."""
    return torch.hann_window(N_FFT)


@cache
def filterbank() -> Tensor:
    """float32[513, 100]: what each frequency adds to each band, a triangle between its neighbours' centres."""
    frequencies = torch.linspace(0, SAMPLE_RATE_HZ // 2, N_FFT // 2 + 1)
    top = 2595 * torch.log10(torch.tensor(1 + SAMPLE_RATE_HZ / 2 / 700, dtype=torch.float64))
    centres = 700 * (10 ** (torch.linspace(0, float(top), BANDS + 2) / 2595) - 1)
    widths = centres.diff()
    distances = centres - frequencies[:, None]
    rising, falling = -distances[:, :-2] / widths[:-1], distances[:, 2:] / widths[1:]
    return torch.minimum(rising, falling).clamp(min=0)
