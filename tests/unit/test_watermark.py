"""The watermark: found where it was put, through what clips go through, and nowhere else."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avatar.core.audio import Pcm, resample, silence
from avatar.core.watermark import THRESHOLD, Marking, embed, score
from avatar.engines.tts.espeak_library import library

RATE_HZ = 22_050
KEY = "avatar"
TEXT = "The weather is nice today, and we are going for a walk in the park. How many people do you think will come?"


@pytest.fixture(scope="module")
def speech() -> Pcm:
    return library().synthesize(TEXT, "en-us", 175).pcm.astype(np.float32) / np.float32(32768)


@pytest.fixture(scope="module")
def marked(speech: Pcm) -> Pcm:
    return embed(speech, RATE_HZ, KEY)


def test_it_is_found(speech: Pcm, marked: Pcm) -> None:
    assert score(marked, RATE_HZ, KEY) > 2 * THRESHOLD
    assert score(speech, RATE_HZ, KEY) < THRESHOLD


def test_another_key_finds_nothing(marked: Pcm) -> None:
    assert all(score(marked, RATE_HZ, f"key {number}") < THRESHOLD for number in range(20))


@pytest.mark.parametrize("seconds", [0.0, 0.013, 0.5, 1.337])
def test_a_cut_off_beginning_does_not_lose_it(marked: Pcm, seconds: float) -> None:
    assert score(marked[int(seconds * RATE_HZ) :], RATE_HZ, KEY) > THRESHOLD


@pytest.mark.parametrize("rate_hz", [8_000, 16_000, 24_000, 48_000])
def test_it_survives_other_rates(marked: Pcm, rate_hz: int) -> None:
    assert score(resample(marked, RATE_HZ, rate_hz), rate_hz, KEY) > THRESHOLD


def test_it_survives_another_level_and_some_noise(marked: Pcm) -> None:
    noise = np.random.default_rng(1).normal(0, 0.1 * np.sqrt(np.mean(marked**2)), marked.size)
    assert score(0.1 * marked, RATE_HZ, KEY) > THRESHOLD
    assert score((marked + noise).astype(np.float32), RATE_HZ, KEY) > THRESHOLD


def test_it_lies_well_below_the_speech(speech: Pcm, marked: Pcm) -> None:
    assert marked.shape == speech.shape
    assert marked.dtype == np.float32
    below_db = 10 * np.log10(np.mean((marked - speech) ** 2) / np.mean(speech**2))
    assert below_db < -15


@settings(max_examples=25)
@given(st.integers(0, 30_000), st.sampled_from([8_000, 16_000, 24_000, 44_100]), st.integers(0, 99))
def test_any_sound_keeps_its_length_and_bounds(samples: int, rate_hz: int, seed: int) -> None:
    pcm = np.random.default_rng(seed).uniform(-1, 1, samples).astype(np.float32)
    marked = embed(pcm, rate_hz, KEY)
    assert marked.shape == pcm.shape
    assert np.abs(marked).max(initial=0) <= 1
    assert score(pcm, rate_hz, KEY) >= 0


@settings(max_examples=20)
@given(st.lists(st.integers(0, 9_000), max_size=8), st.sampled_from([16_000, RATE_HZ, 24_000]))
def test_any_chunking_gives_the_same_sound(cuts: list[int], rate_hz: int) -> None:
    pcm = np.random.default_rng(3).uniform(-0.5, 0.5, 9_000).astype(np.float32)
    marking, edges = Marking(rate_hz, KEY), [0, *sorted(cuts), pcm.size]
    pieces = [marking.push(pcm[start:end]) for start, end in pairwise(edges)]
    whole = np.concatenate([*pieces, marking.push(silence(0), last=True)])
    np.testing.assert_allclose(whole, embed(pcm, rate_hz, KEY), atol=1e-4)


def test_silence_stays_silent() -> None:
    assert not embed(silence(20_000), 16_000, KEY).any()
    assert score(silence(40_000), 16_000, KEY) < THRESHOLD
