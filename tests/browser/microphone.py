"""WAV files for Chromium's fake microphone."""

from pathlib import Path

import numpy as np
import soundfile

RATE_HZ = 48_000
HUM_HZ = 140


def hum(path: Path) -> Path:
    """Two seconds of harmonics that swell like syllables: noise suppression lets it through, unlike a steady tone."""
    time_s = np.arange(2 * RATE_HZ) / RATE_HZ
    voice = sum(np.sin(2 * np.pi * HUM_HZ * k * time_s) / k for k in range(1, 12))
    soundfile.write(path, 0.15 * voice * (0.6 + 0.4 * np.sin(2 * np.pi * 3 * time_s)), RATE_HZ, subtype="PCM_16")
    return path


def tone(seconds: float, rate_hz: int = 22_050, amplitude: float = 0.25) -> bytes:
    """PCM16 of a 220 Hz tone: what the scripted server sends as a reply's sound."""
    time_s = np.arange(round(seconds * rate_hz)) / rate_hz
    return bytes((amplitude * 32767 * np.sin(2 * np.pi * 220 * time_s)).astype("<i2").tobytes())
