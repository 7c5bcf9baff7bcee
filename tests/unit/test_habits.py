"""What is learnt of a speaker's pauses."""

from hypothesis import given
from hypothesis import strategies as st

from avatar.core.habits import PauseHabit

events = st.lists(st.none() | st.floats(0, 10_000), max_size=60)


def learn(events: list[float | None]) -> PauseHabit:
    habit = PauseHabit(1500, 800, 3000)
    for pause_ms in events:
        if pause_ms is None:
            habit.ended()
        else:
            habit.went_on_after(pause_ms)
    return habit


@given(events)
def test_the_ceiling_stays_within_its_bounds(events: list[float | None]) -> None:
    assert 800 <= learn(events).ceiling_ms <= 3000


@given(events, st.floats(0, 10_000))
def test_a_pause_never_lowers_it_and_is_below_it_unless_at_the_top(events: list[float | None], pause_ms: float) -> None:
    before = learn(events).ceiling_ms
    after = learn([*events, pause_ms]).ceiling_ms
    assert after >= before
    assert after > pause_ms or after == 3000


def test_a_long_thought_is_forgotten_in_a_few_turns() -> None:
    assert learn([2000.0, *[None] * 4]).ceiling_ms < 2100
    assert learn([2000.0, *[None] * 30]).ceiling_ms == 800
