"""The arithmetic of a turn's trace."""

from hypothesis import given
from hypothesis import strategies as st

from avatar.core.trace import STAGES, Span, Stage, TurnMetrics, TurnTrace, Waste

moments = st.floats(-1e4, 1e4)
notes = st.lists(st.tuples(st.sampled_from(STAGES), moments, moments))


def test_times_are_counted_from_the_last_sample_of_speech() -> None:
    trace = TurnTrace()
    trace.note("stt", 9.9, 10.15)
    trace.note("llm_first_token", 10.15, 10.3)
    trace.follow("first_clause", "llm_first_token", 10.32)
    trace.follow("tts_first_audio", "first_clause", 10.4)
    trace.follow("queue", "tts_first_audio", 10.5)
    metrics = trace.metrics(10.0, Waste(), underruns=2)
    assert metrics == TurnMetrics(
        stt_ms=250,
        llm_ttft_ms=150,
        first_clause_ms=20,
        tts_ttfa_ms=80,
        queue_ms=100,
        voice_to_voice_ms=500,
        underruns=2,
        trace=(
            Span("stt", -100, 150),
            Span("llm_first_token", 150, 300),
            Span("first_clause", 300, 320),
            Span("tts_first_audio", 320, 400),
            Span("queue", 400, 500),
        ),
    )


def test_what_follows_a_stage_that_never_ran_did_not_run_either() -> None:
    trace = TurnTrace()
    trace.follow("wire", "queue", 1.0)
    assert trace.metrics(0.0, Waste(), 0) == TurnMetrics()
    assert TurnMetrics().numbers() == {"eager_tries": 0, "wasted_tokens": 0, "wasted_ms": 0.0, "underruns": 0}


def test_numbers_hold_all_that_is_known() -> None:
    trace = TurnTrace()
    trace.note("stt", 0.1, 0.2)
    numbers = trace.metrics(0.0, Waste().plus(3, 40.04).plus(0, 60), 0).numbers()
    assert numbers == {
        "stt_ms": 100,
        "eager_tries": 2,
        "wasted_tokens": 3,
        "wasted_ms": 100,
        "underruns": 0,
        "trace.stt.start_ms": 100,
        "trace.stt.end_ms": 200,
    }


@given(notes, moments)
def test_the_first_note_of_a_stage_counts_and_stages_keep_their_order(
    noted: list[tuple[Stage, float, float]], origin_s: float
) -> None:
    trace = TurnTrace()
    first: dict[Stage, float] = {}
    for stage, start_s, end_s in noted:
        trace.note(stage, start_s, end_s)
        first.setdefault(stage, end_s)
    assert {stage: trace.end_s(stage) for stage in STAGES if stage in trace} == first
    names = [span.name for span in trace.metrics(origin_s, Waste(), 0).trace]
    assert names == [stage for stage in STAGES if stage in first]
