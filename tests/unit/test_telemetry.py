"""Turns as OpenTelemetry spans, caught by an exporter of the SDK's own."""

import builtins
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from avatar.conversation import telemetry
from avatar.core.errors import EngineFailed, SetupError
from avatar.core.trace import Span, TurnMetrics
from tests.unit.conversation import CONVERSATION, Fakes, talking

METRICS = TurnMetrics(voice_to_voice_ms=300, trace=(Span("stt", -50, 100), Span("wire", 300, 310)))


@pytest.fixture
def exporter(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    exporter, provider = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(telemetry, "_provider", provider)
    return exporter


def emit(status: Any = "completed") -> None:
    telemetry.emit("turn_1", "conv_1", status, {"stt": "ears", "llm": "brain"}, METRICS, age_ms=2000)


def lasted_ms(span: ReadableSpan) -> float:
    assert span.start_time is not None
    assert span.end_time is not None
    return (span.end_time - span.start_time) / 1e6


def test_a_turn_is_one_trace_with_its_stages_inside(exporter: InMemorySpanExporter) -> None:
    emit()
    stt, wire, turn = exporter.get_finished_spans()
    assert [span.name for span in (turn, stt, wire)] == ["turn", "stt", "wire"]
    assert turn.parent is None
    for stage in (stt, wire):
        assert stage.parent is not None
        assert stage.parent.span_id == turn.context.span_id
        assert stage.context.trace_id == turn.context.trace_id
    assert lasted_ms(turn) == pytest.approx(2050)
    assert lasted_ms(stt) == pytest.approx(150)
    assert stt.start_time == turn.start_time
    assert wire.start_time is not None
    assert stt.end_time is not None
    assert (wire.start_time - stt.end_time) / 1e6 == pytest.approx(200)
    assert turn.status.status_code is StatusCode.UNSET
    assert dict(stt.attributes or {}) == {"avatar.engine": "ears"}
    assert not wire.attributes


def test_a_failed_turn_is_an_error(exporter: InMemorySpanExporter) -> None:
    emit("failed")
    turn = exporter.get_finished_spans()[-1]
    assert turn.status.status_code is StatusCode.ERROR
    assert turn.status.description is None


async def test_a_session_emits_its_turns_and_nothing_that_was_said(exporter: InMemorySpanExporter) -> None:
    fakes = Fakes()
    fakes.stt.text, fakes.llm.replies = "my secret question", "A secret answer."
    async with talking(fakes) as client:
        await client.speak(1)
        await client.rest(4)
        fakes.llm.error = EngineFailed("a secret reason")
        client.session.say("another secret")
        await client.rest(2)
    turns = [span for span in exporter.get_finished_spans() if span.name == "turn"]
    assert [(turn.attributes or {})["avatar.status"] for turn in turns] == ["completed", "failed"]
    attributes = dict(turns[0].attributes or {})
    assert attributes["avatar.turn_id"] == client.done[0].turn_id
    assert attributes["avatar.conversation_id"] == CONVERSATION
    assert attributes["avatar.engine.llm"] == "fake language model"
    assert attributes["avatar.voice_to_voice_ms"] == client.done[0].metrics.voice_to_voice_ms
    spans = exporter.get_finished_spans()
    assert [span.name for span in spans[:7]] == [span.name for span in client.done[0].metrics.trace]
    assert "secret" not in "".join(span.to_json() for span in spans)


def test_without_a_provider_nothing_happens() -> None:
    emit()


def test_a_missing_exporter_is_said_and_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    import_ = builtins.__import__

    def without_exporter(name: str, *rest: Any) -> Any:
        if name.startswith("opentelemetry.exporter"):
            raise ImportError(name)
        return import_(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without_exporter)
    with pytest.raises(SetupError, match=r"\[otel\]"):
        telemetry.export_to("http://localhost:4318", "1")
