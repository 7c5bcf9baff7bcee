"""Finished turns as OpenTelemetry spans: ids, engine names, milliseconds and status, never what was said.

Without a tracer provider nothing happens. `export_to` makes one for this module alone: web frameworks trace addresses
and queries as soon as the process has one. Whoever embeds or launches the server with such a provider gets turns too.
"""

import time
from collections.abc import Callable, Mapping

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import StatusCode

from avatar.core.errors import SetupError
from avatar.core.events import ReplyStatus
from avatar.core.trace import Stage, TurnMetrics

NAME = "avatar"
TIMEOUT_S = 2.0
"""A collector that takes longer misses these spans; a server that is told to stop waits no longer for it."""
_provider: trace.TracerProvider | None = None
ENGINE_OF: Mapping[Stage, str] = {
    "endpoint": "end_of_turn",
    "stt": "stt",
    "llm_first_token": "llm",
    "first_clause": "llm",
    "tts_first_audio": "tts",
}


def emit(
    turn_id: str,
    conversation_id: str,
    status: ReplyStatus,
    engines: Mapping[str, str],
    metrics: TurnMetrics,
    age_ms: float,
) -> None:
    """One trace: the turn until now and, inside it, its stages. `age_ms`: how long ago its speech ended."""
    now_ns = time.time_ns()

    def at(ms: float) -> int:
        return now_ns + int((ms - age_ms) * 1e6)

    tracer = trace.get_tracer(NAME, tracer_provider=_provider)
    began_ms = min([0.0, *(span.start_ms for span in metrics.trace)])
    turn = tracer.start_span("turn", Context(), start_time=at(began_ms))
    if not turn.is_recording():
        return
    turn.set_attributes({"avatar.turn_id": turn_id, "avatar.conversation_id": conversation_id})
    turn.set_attributes({f"avatar.engine.{stage}": name for stage, name in engines.items()})
    turn.set_attributes({f"avatar.{key}": value for key, value in metrics.numbers().items() if "trace." not in key})
    turn.set_attribute("avatar.status", status)
    if status == "failed":
        turn.set_status(StatusCode.ERROR)
    inside = trace.set_span_in_context(turn, Context())
    for span in metrics.trace:
        engine = engines.get(ENGINE_OF.get(span.name, ""))
        stage = tracer.start_span(span.name, inside, start_time=at(span.start_ms))
        if engine is not None:
            stage.set_attribute("avatar.engine", engine)
        stage.end(at(span.end_ms))
    turn.end(now_ns)


def export_to(endpoint: str, version: str) -> Callable[[], None]:
    """Send spans to the OTLP/HTTP collector at `endpoint`, from a thread of the SDK's.

    The result ends that: it sends what is left and blocks for as long as that takes. Raises `SetupError` when the
    packages of the extra `otel` are missing.
    """
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        raise SetupError(
            "telemetry.otlp_endpoint is set, but OpenTelemetry's SDK and exporter are not installed. Install them, "
            "`pip install -c constraints.txt -e '.[otel]'`, or unset it."
        ) from None
    provider = TracerProvider(resource=Resource.create({"service.name": NAME, "service.version": version}))
    provider.add_span_processor(
        BatchSpanProcessor(OTLPSpanExporter(f"{endpoint.rstrip('/')}/v1/traces", timeout=TIMEOUT_S))
    )

    def end() -> None:
        global _provider
        _provider = None
        provider.shutdown()

    global _provider
    _provider = provider
    return end
