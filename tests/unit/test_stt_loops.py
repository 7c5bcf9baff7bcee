"""Seeing that a decoder is stuck."""

from hypothesis import given
from hypothesis import strategies as st

from avatar.engines.stt.loops import loop_period, without_loop

phrases = st.lists(st.integers(0, 30_000), min_size=1, max_size=12, unique=True)


@given(st.lists(st.integers(40_000, 50_000), unique=True), phrases, st.integers(12, 30))
def test_a_loop_is_said_once(start: list[int], phrase: list[int], times: int) -> None:
    assert loop_period(start + phrase * times) > 0
    assert without_loop(start + phrase * times) == start + phrase


@given(st.lists(st.integers(0, 50_000), unique=True))
def test_what_does_not_repeat_is_left_alone(tokens: list[int]) -> None:
    assert loop_period(tokens) == 0
    assert without_loop(tokens) == tokens


def test_people_do_repeat_themselves() -> None:
    for said in ([7] * 8, [1, 2] * 4, [1, 2, 3] * 3, [1, 2, 3, 4, 5] * 2):
        assert without_loop(said) == said
