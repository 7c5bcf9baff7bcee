"""The policy, as laws over any sessions."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avatar.engines.tts.qwen3.scheduler import (
    BUCKETS,
    CHUNKS,
    FRAME_S,
    MAX_LEAD_S,
    NEAR_UNDERRUN_S,
    RAMP,
    Standing,
    bucket,
    choose,
    due_frames,
)

standings = st.lists(st.builds(Standing, st.floats(-5, 5), st.booleans(), st.booleans()), max_size=80)


@given(standings, st.integers(1, 64))
def test_who_waits_for_text_or_is_far_ahead_gets_nothing_and_everybody_else_does(
    given_: list[Standing], limit: int
) -> None:
    chosen = choose(given_, limit)
    able = [n for n, one in enumerate(given_) if one.has_text and (not one.has_spoken or one.lead_s <= MAX_LEAD_S)]
    assert len(set(chosen)) == len(chosen) == min(limit, len(able))
    assert set(chosen) <= set(able)


@given(standings, st.integers(1, 64))
def test_first_packets_come_first_then_the_least_lead(given_: list[Standing], limit: int) -> None:
    chosen = choose(given_, limit)
    urgency = [(given_[n].has_spoken, given_[n].lead_s if given_[n].has_spoken else 0.0) for n in chosen]
    assert urgency == sorted(urgency)
    for n, one in enumerate(given_):
        if n not in chosen and len(chosen) == limit and one.has_text and not one.has_spoken:
            assert not any(given_[other].has_spoken for other in chosen)


def test_among_equals_the_first_come() -> None:
    assert choose([Standing(0.0, False, True)] * 5, 3) == [0, 1, 2]


@given(st.integers(-20, 20), st.integers(0, 50), st.floats(-5, 5), st.booleans())
def test_what_is_decoded_was_pending_and_has_a_shape_that_is_run(
    pending: int, packets: int, lead_s: float, still: bool
) -> None:
    frames = due_frames(pending, packets, lead_s, still)
    assert frames in (0, *CHUNKS)
    assert frames <= max(pending, 0)
    assert frames <= RAMP[min(packets, len(RAMP) - 1)]
    if pending > 0 and (still or lead_s < NEAR_UNDERRUN_S or pending >= RAMP[-1]):
        assert frames


def test_packets_grow_while_there_is_time() -> None:
    sizes, pending, packets = [], 0, 0
    for _ in range(40):
        pending += 1
        if frames := due_frames(pending, packets, 1.0):
            sizes.append(frames)
            pending, packets = pending - frames, packets + 1
    assert sizes == [1, 1, 2, 4, 8, 8, 8, 8]


def test_near_an_underrun_they_are_small() -> None:
    assert [due_frames(1, 9, lead_s) for lead_s in (FRAME_S, 3 * FRAME_S)] == [1, 0]
    assert due_frames(7, 9, 0.0) == 4


@given(st.integers(1, 64))
def test_a_bucket_is_the_smallest_that_holds(rows: int) -> None:
    size = bucket(rows)
    assert size >= rows
    assert not any(rows <= other < size for other in BUCKETS)


def test_no_bucket_holds_too_many() -> None:
    with pytest.raises(ValueError, match="65 rows do not fit into a batch of 64"):
        bucket(65)
