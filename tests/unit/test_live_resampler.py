"""The resampler for what somebody waits for: the same whatever the pieces, true to the band, and never late."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from avatar.core.audio import LiveResampler, Pcm

RATES = [(48_000, 24_000), (48_000, 16_000), (48_000, 8_000), (24_000, 16_000), (8_000, 16_000), (44_100, 16_000)]


def tone(hz: float, rate_hz: int, seconds: float = 0.5) -> Pcm:
    return np.sin(2 * np.pi * hz * np.arange(int(seconds * rate_hz)) / rate_hz).astype(np.float32)


def loudness_db(pcm: Pcm) -> float:
    return float(20 * np.log10(np.sqrt(2 * np.mean(np.square(pcm[pcm.size // 4 :]))) + 1e-9))


@given(st.sampled_from(RATES), st.lists(st.integers(0, 1500), min_size=1, max_size=12))
def test_any_pieces_give_the_same(rates: tuple[int, int], sizes: list[int]) -> None:
    pcm = np.random.default_rng(0).normal(0, 0.1, sum(sizes)).astype(np.float32)
    whole = LiveResampler(*rates).push(pcm)
    resampler, pieces, start = LiveResampler(*rates), [np.zeros(0, np.float32)], 0
    for size in sizes:
        pieces.append(resampler.push(pcm[start : start + size]))
        start += size
    assert whole.size == -(-pcm.size * rates[1] // rates[0])
    assert np.allclose(np.concatenate(pieces), whole, atol=1e-6)


@pytest.mark.parametrize("rates", RATES)
def test_speech_passes_and_nothing_folds_back(rates: tuple[int, int]) -> None:
    band_hz = min(rates) / 2
    for part in (0.05, 0.5, 0.85):
        assert loudness_db(LiveResampler(*rates).push(tone(part * band_hz, rates[0]))) == pytest.approx(0, abs=0.1)
    if rates[0] > rates[1]:
        for part in (1.1, 1.5):
            assert loudness_db(LiveResampler(*rates).push(tone(part * band_hz, rates[0]))) < -60


@pytest.mark.parametrize("rates", RATES)
def test_it_is_3_ms_late_at_most(rates: tuple[int, int]) -> None:
    click = np.zeros(rates[0] // 2, np.float32)
    click[rates[0] // 4] = 1
    out = LiveResampler(*rates).push(click)
    assert 0 <= np.argmax(np.abs(out)) / rates[1] - 0.25 <= 0.0031


def test_equal_rates_pass_untouched() -> None:
    pcm = tone(440, 16_000)
    assert LiveResampler(16_000, 16_000).push(pcm) is pcm
