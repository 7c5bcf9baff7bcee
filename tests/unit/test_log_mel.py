"""Whisper's spectrogram, against the one in faster-whisper."""

import numpy as np
import pytest
from faster_whisper.feature_extractor import FeatureExtractor
from hypothesis import given
from hypothesis import strategies as st

from avatar.core.audio import Pcm, silence
from avatar.engines.end_of_turn.log_mel import FRAMES, MELS, WINDOW_SAMPLES, log_mel
from tests.speech import spoken


def reference(window: Pcm) -> Pcm:
    """faster-whisper's features of exactly eight seconds, normalised first."""
    normal = (window - window.mean()) / np.sqrt(window.var() + 1e-7)
    return np.asarray(FeatureExtractor(chunk_length=8)(normal, padding=0), dtype=np.float32)


def test_the_filters_are_whispers() -> None:
    from avatar.engines.end_of_turn import log_mel as module

    np.testing.assert_allclose(module._FILTERS, FeatureExtractor().mel_filters, atol=1e-7)


async def test_speech_gives_what_whisper_would_see() -> None:
    speech = await spoken("What is the capital of France? And what is the capital of Spain?")
    for pcm in (speech, np.concatenate([speech] * 4)[-WINDOW_SAMPLES:]):
        window = np.concatenate((silence(WINDOW_SAMPLES - pcm.size), pcm))
        np.testing.assert_allclose(log_mel(pcm), reference(window), atol=1e-3)


@given(st.integers(0, 2 * WINDOW_SAMPLES))
def test_any_length_gives_the_same_shape(samples: int) -> None:
    features = log_mel(np.random.default_rng(0).standard_normal(samples, dtype=np.float32))
    assert features.shape == (MELS, FRAMES)
    assert features.dtype == np.float32
    assert np.isfinite(features).all()


def test_only_the_last_eight_seconds_count() -> None:
    pcm = np.random.default_rng(0).standard_normal(WINDOW_SAMPLES + 5000, dtype=np.float32)
    assert np.array_equal(log_mel(pcm), log_mel(pcm[5000:]))


@pytest.mark.parametrize("gain", [0.1, 5.0])
def test_loudness_does_not_matter(gain: float) -> None:
    pcm = np.random.default_rng(0).standard_normal(50_000, dtype=np.float32) * np.float32(0.1)
    np.testing.assert_allclose(log_mel(pcm * np.float32(gain)), log_mel(pcm), atol=1e-2)
