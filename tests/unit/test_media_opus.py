"""Own audio as Ogg/Opus: what is read back is what went in."""

import io

import numpy as np
import pytest
import soundfile

from avatar.core.audio import resample, silence
from avatar.media.opus import encode_ogg_opus


def tone(seconds: float, rate_hz: int) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    return (0.3 * np.sin(2 * np.pi * 440 * np.arange(int(seconds * rate_hz)) / rate_hz)).astype(np.float32)


@pytest.mark.parametrize("rate_hz", [8_000, 16_000, 22_050, 24_000, 44_100, 48_000, 96_000])
def test_any_rate_comes_back_with_its_length_and_its_sound(rate_hz: int) -> None:
    file = encode_ogg_opus(tone(1.0, rate_hz), rate_hz)

    pcm, read_hz = soundfile.read(io.BytesIO(file), dtype="float32")
    assert soundfile.info(io.BytesIO(file)).subtype == "OPUS"
    assert pcm.size / read_hz == pytest.approx(1.0, abs=0.001)
    spectrum = np.abs(np.fft.rfft(resample(pcm, read_hz, 8_000)[:8_000]))
    assert int(spectrum.argmax()) == pytest.approx(440, abs=2)
    assert float(np.sqrt(np.mean(pcm**2))) == pytest.approx(0.3 / np.sqrt(2), rel=0.1)


def test_bitrate_sets_the_size() -> None:
    noise = np.random.default_rng(1).normal(0, 0.1, 48_000 * 4).astype(np.float32)

    small, large = (len(encode_ogg_opus(noise, 48_000, bitrate)) for bitrate in (16_000, 64_000))

    assert small * 2 < 16_000
    assert 3 < large / small < 5


@pytest.mark.parametrize("samples", [0, 1, 959, 961])
def test_less_than_a_frame_is_still_a_file_that_plays(samples: int) -> None:
    pcm, _ = soundfile.read(io.BytesIO(encode_ogg_opus(silence(samples), 48_000)))

    assert pcm.size >= samples
