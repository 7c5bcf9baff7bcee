"""What follows from the bytes of a transfer."""

from hypothesis import given
from hypothesis import strategies as st

from avatar.core.progress import ENDED, JobProgress, JobState, bytes_progress


def test_the_time_left_follows_from_the_rate() -> None:
    progress = bytes_progress("models", "tiny", "downloading", 250, 1000, 50.0)
    assert (progress.state, progress.fraction, progress.eta_s) == ("running", 0.25, 15.0)


def test_what_cannot_be_known_is_not_told() -> None:
    no_size = bytes_progress("models", "tiny", "downloading", 250, None, 50.0)
    assert (no_size.fraction, no_size.eta_s, no_size.bytes_per_s) == (None, None, 50.0)
    assert bytes_progress("models", "tiny", "downloading", 250, 1000, None).eta_s is None
    assert bytes_progress("models", "tiny", "downloading", 250, 1000, 0.0).eta_s is None


@given(st.integers(0, 10**12), st.none() | st.integers(0, 10**12), st.none() | st.floats(0, 1e10))
def test_a_fraction_is_one_and_time_is_not_negative(done: int, total: int | None, rate: float | None) -> None:
    progress = bytes_progress("models", "tiny", "", done, total, rate)
    assert progress.fraction is None or 0 <= progress.fraction <= 1
    assert progress.eta_s is None or progress.eta_s >= 0


def test_which_states_are_the_end() -> None:
    states: tuple[JobState, ...] = ("queued", "running", "paused", "done", "failed", "cancelled")
    assert {state for state in states if JobProgress("s", "k", state).ended} == ENDED
