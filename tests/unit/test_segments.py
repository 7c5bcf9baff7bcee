"""Segments of speech: in order, apart, bounded, and nothing voiced is lost."""

from itertools import groupby, pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from avatar.core.segments import (
    LONGEST_FRAMES,
    MIN_SPEECH_FRAMES,
    PADDING_FRAMES,
    PAUSE_FRAMES,
    SPEECH,
    Segment,
    find_speech,
)

runs = st.lists(st.tuples(st.sampled_from([0.0, 0.3, 0.6, 1.0]), st.integers(1, 600)), max_size=20)


def drawn(pieces: list[tuple[float, int]]) -> list[float]:
    return [value for value, length in pieces for _ in range(length)]


@given(runs)
def test_laws(pieces: list[tuple[float, int]]) -> None:
    probabilities = drawn(pieces)
    segments = find_speech(probabilities)
    assert all(0 <= s.start < s.end <= len(probabilities) for s in segments)
    assert all(s.end - s.start <= LONGEST_FRAMES + 2 * PADDING_FRAMES for s in segments)
    assert all(before.end <= after.start for before, after in pairwise(segments))
    assert all(SPEECH / 2 < s.voice <= 1 for s in segments if s.end - s.start < PAUSE_FRAMES)
    covered = np.zeros(len(probabilities), bool)
    for segment in segments:
        covered[segment.start : segment.end] = True
    place = 0
    for voiced, group in groupby(probability >= SPEECH for probability in probabilities):
        length = len(list(group))
        if voiced and length >= MIN_SPEECH_FRAMES:
            assert covered[place : place + length].all()
        place += length


def test_two_sentences_are_two_segments_with_a_margin() -> None:
    probabilities = drawn([(0.0, 20), (0.9, 40), (0.0, PAUSE_FRAMES), (0.9, 40), (0.0, 20)])
    assert [(s.start, s.end) for s in find_speech(probabilities)] == [(14, 66), (70, 122)]


def test_a_short_gap_is_inside_and_a_click_is_nothing() -> None:
    assert len(find_speech(drawn([(0.9, 10), (0.1, PAUSE_FRAMES - 1), (0.9, 10)]))) == 1
    assert find_speech(drawn([(0.1, 50), (0.9, MIN_SPEECH_FRAMES - 1), (0.1, 50)])) == []
    assert find_speech([]) == []


def test_an_endless_speech_is_cut_where_it_is_quietest() -> None:
    probabilities = drawn([(0.9, 400), (0.55, 1), (0.9, 300)])
    first, second = find_speech(probabilities)
    assert first.end == second.start == 400
    assert isinstance(first, Segment)
