"""Whether recordings are judged as people would, and told so in words."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from avatar.core.audio import INPUT_RATE_HZ, Pcm
from avatar.voices.embedding import Vectors
from avatar.voices.quality import FRAME_SAMPLES, judge, sides_cosine, speakers_cosine, speech_bounds, trimmed

RNG = np.random.default_rng(7)


def voice(
    seconds: float, *, level: float = 0.1, noise: float = 0.0005, pause_every: int = 10
) -> tuple[Pcm, list[float]]:
    """Noise that comes and goes like syllables, and the probabilities a perfect judge would give."""
    frames = int(seconds * INPUT_RATE_HZ / FRAME_SAMPLES)
    spoken = np.arange(frames) % pause_every < pause_every - 3
    envelope = np.repeat(np.where(spoken, level, 0.0), FRAME_SAMPLES)
    pcm = envelope * RNG.normal(size=envelope.size) + noise * RNG.normal(size=envelope.size)
    return pcm.astype(np.float32), np.where(spoken, 0.95, 0.02).tolist()


def vectors(*directions: tuple[int, int]) -> Vectors:
    """So many windows along each axis, a little apart."""
    out = []
    for axis, count in directions:
        made = RNG.normal(0, 0.02, (count, 256))
        made[:, axis] += 1
        out.append(made / np.linalg.norm(made, axis=1, keepdims=True))
    together: Vectors = np.concatenate(out).astype(np.float32)
    return together


ONE = vectors((0, 10))


def test_a_good_recording_has_no_reasons() -> None:
    quality = judge(*voice(10), ONE, ONE)
    assert quality.flaws == quality.reasons == ()
    assert quality.duration_s == pytest.approx(10, abs=0.05)
    assert quality.speech_s == pytest.approx(7, abs=0.2)
    assert quality.snr_db == pytest.approx(46, abs=1)
    assert quality.level_db == pytest.approx(-20, abs=0.5)


@pytest.mark.parametrize(
    ("recording", "windows", "reason"),
    [
        (voice(2), ONE, "too short"),
        (voice(10, pause_every=4), ONE, ""),
        ((voice(30)[0], [0.02] * 937), ONE, "too little speech"),
        (voice(10, level=0.001, noise=0), ONE, "too quiet"),
        (voice(10, noise=0.05), ONE, "too much noise"),
        ((np.clip(voice(10)[0] * 30, -1, 1), voice(10)[1]), ONE, "overdriven"),
        (voice(10), vectors((0, 6), (1, 6)), "More than one voice"),
        (voice(10), vectors((0, 11), (1, 1)), ""),
    ],
)
def test_what_is_wrong_is_said(recording: tuple[Pcm, list[float]], windows: Vectors, reason: str) -> None:
    reasons = judge(*recording, windows, ONE).reasons
    assert any(reason in said for said in reasons) if reason else not reasons


def test_speech_is_found_with_a_margin_inside_the_recording() -> None:
    frame_s = FRAME_SAMPLES / INPUT_RATE_HZ
    assert speech_bounds([0.0] * 10) is None
    assert speech_bounds([0.0] * 5 + [0.9, 0.1, 0.9] + [0.0] * 9) == pytest.approx((2 * frame_s, 11 * frame_s))
    assert speech_bounds([0.9]) == pytest.approx((0, frame_s))
    pcm = np.arange(48_000, dtype=np.float32)
    assert trimmed(pcm, 24_000, (0.5, 1.0)).tolist() == pcm[12_000:24_000].tolist()


@given(st.integers(0, 40), st.integers(0, 2**32 - 1))
def test_any_windows_get_a_cosine(count: int, seed: int) -> None:
    windows = np.random.default_rng(seed).normal(size=(count, 256)).astype(np.float32)
    windows /= np.linalg.norm(windows, axis=1, keepdims=True)
    assert -1.001 <= speakers_cosine(windows) <= 1.001
    assert -1.001 <= sides_cosine(windows) <= 1.001


def test_windows_that_are_all_the_same_are_one_speaker() -> None:
    assert speakers_cosine(np.tile(ONE[:1], (8, 1))) == 1.0


@pytest.mark.parametrize(
    ("spans", "two"),
    [
        (vectors((0, 8), (1, 8)), True),
        (vectors((0, 30), (1, 9)), True),
        (vectors((0, 40)), False),
        (vectors((0, 30), (1, 2), (0, 30)), False),  # a cough
        (vectors((0, 7), (1, 7)), False),  # too little to tell
    ],
)
def test_two_recordings_put_together_are_parted_where_they_meet(spans: Vectors, two: bool) -> None:
    assert (sides_cosine(spans) < 0.5) == two


def test_who_speaks_after_somebody_else_is_told() -> None:
    quality = judge(*voice(20), ONE, vectors((0, 23), (1, 23)))
    assert quality.flaws == ("many_voices",)
    assert "two recordings" in quality.reasons[0]
