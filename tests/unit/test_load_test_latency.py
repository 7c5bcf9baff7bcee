"""The load test's arithmetic: ends of speech, what a loudspeaker plays when, percentiles."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from avatar.core.audio import Pcm, silence
from tests.load.latency import Player, speech_end_samples, summary

RATE_HZ = 1000


def loud(samples: int) -> Pcm:
    return np.full(samples, 0.5, np.float32)


def test_speech_ends_with_its_last_loud_sample() -> None:
    noise = np.random.default_rng(0).normal(0, 0.003, 500).astype(np.float32)

    assert speech_end_samples(np.concatenate((silence(100), loud(50), silence(20), loud(30), noise))) == 200
    assert speech_end_samples(loud(1)) == 1
    assert speech_end_samples(silence(100)) == 0
    assert speech_end_samples(silence(0)) == 0


def test_the_level_of_a_recording_does_not_move_its_end() -> None:
    pcm = np.concatenate((loud(50), loud(50) * np.float32(0.01)))

    assert speech_end_samples(pcm) == speech_end_samples(pcm * np.float32(0.1)) == 50


def test_first_audible_sample_counts_from_the_arrival_of_its_frame() -> None:
    player = Player(RATE_HZ)
    player.push(np.concatenate((silence(7), loud(13))), 10.0)

    assert player.first_audible_s == pytest.approx(10.007)


def test_silence_sent_ahead_is_played_before_the_first_audible_sample() -> None:
    player = Player(RATE_HZ)
    player.push(silence(300), 10.0)
    player.push(loud(100), 10.01)

    assert player.first_audible_s == pytest.approx(10.3)


def test_a_late_frame_is_a_gap_and_an_early_one_is_not() -> None:
    player = Player(RATE_HZ)
    for arrival_s in (1.0, 1.05, 1.1, 1.45):
        player.push(loud(100), arrival_s)

    assert player.gaps_s == pytest.approx(0.15)


def test_played_is_what_has_left_the_loudspeaker() -> None:
    player = Player(RATE_HZ)
    player.push(loud(400), 2.0)

    assert [player.played_s(now_s) for now_s in (2.0, 2.1, 2.4, 9.0)] == pytest.approx([0.0, 0.1, 0.4, 0.4])


@given(st.lists(st.tuples(st.floats(0, 2), st.integers(1, 500)), min_size=1, max_size=20))
def test_playing_takes_as_long_as_the_audio_and_its_gaps(frames: list[tuple[float, int]]) -> None:
    player, now_s = Player(RATE_HZ), 5.0
    first_s = 5.0 + frames[0][0]
    for wait_s, samples in frames:
        now_s += wait_s
        player.push(loud(samples), now_s)

    total_s = sum(samples for _, samples in frames) / RATE_HZ
    assert player.received_s == pytest.approx(total_s)
    assert player.first_audible_s == pytest.approx(first_s)
    end_s = first_s + total_s + player.gaps_s
    assert player.played_s(end_s - 0.001) == pytest.approx(total_s - 0.001)


def test_percentiles() -> None:
    figures = summary([float(value) for value in range(1, 101)])

    assert figures == {
        "n": 100,
        "p50": pytest.approx(50.5),
        "p95": pytest.approx(95.05),
        "p99": pytest.approx(99.01),
        "max": 100.0,
    }
    assert summary([7.0]) == {"n": 1, "p50": 7.0, "p95": 7.0, "p99": 7.0, "max": 7.0}
    assert summary([]) == {"n": 0}
