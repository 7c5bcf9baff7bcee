"""The consonant before the voice."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from avatar.core.audio import Pcm
from avatar.core.lead_in import LEAST_FLOOR, MOST_FRAMES, lead_in_frames


def frames(*rms: float) -> list[Pcm]:
    noise = np.random.default_rng(0).standard_normal(512).astype(np.float32)
    return [noise * np.float32(level / noise.std()) for level in rms]


@pytest.mark.parametrize(
    ("before", "leads"),
    [
        ((), 0),
        ((0.002,) * 10, 0),
        ((0.002, 0.002, 0.02), 1),
        ((0.002, 0.02, 0.02), 2),
        ((0.002, 0.02, 0.02, 0.02), MOST_FRAMES),
        ((0.002, 0.02, 0.002), 0),  # it is not right before the voice
        ((0.0, 0.0, 3 * LEAST_FLOOR), 0),  # a noise gate opens
        ((0.02, 0.02, 0.02), 0),  # where the room is that loud, nothing stands out
    ],
)
def test_sound_right_before_the_voice_leads_into_it(before: tuple[float, ...], leads: int) -> None:
    assert lead_in_frames(frames(*before)) == leads


@given(st.lists(st.floats(0.002, 0.01), max_size=15), st.floats(1, 10))
def test_how_loud_the_microphone_is_makes_no_difference(before: list[float], gain: float) -> None:
    assert lead_in_frames(frames(*before)) == lead_in_frames(frames(*(gain * level for level in before)))
