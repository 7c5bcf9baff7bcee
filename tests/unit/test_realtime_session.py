"""The session object: defaults, partial updates, and what is told of a wrong one."""

from itertools import count
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.realtime import RealtimeServerEvent
from pydantic import TypeAdapter

from avatar.server.realtime import formats
from avatar.server.realtime.errors import BadEvent
from avatar.server.realtime.server_events import ServerEvents
from avatar.server.realtime.session import RealtimeSession, Session, TranscriptionSession, update, wire
from avatar.server.realtime.tools import McpTool, is_allowed, needs_approval

NEW = RealtimeSession(type="realtime")
SERVER_EVENT: TypeAdapter[Any] = TypeAdapter(RealtimeServerEvent)
TOOL = {"type": "function", "name": "weather", "description": "…", "parameters": {"type": "object"}}


def events() -> ServerEvents:
    numbers = count()
    return ServerEvents(lambda kind: f"{kind}_{next(numbers)}")


def change(session: Session, spoken: bool = False, **patch: Any) -> Session:
    return update(session, {"type": session.type, **patch}, spoken=spoken)


def test_what_a_new_session_is() -> None:
    told = wire(NEW, "sess_1", 60)
    assert (told["object"], told["id"], told["type"]) == ("realtime.session", "sess_1", "realtime")
    assert told["output_modalities"] == ["audio"]
    assert told["audio"]["input"]["turn_detection"] == {
        "type": "server_vad",
        "threshold": 0.5,
        "prefix_padding_ms": 300,
        "silence_duration_ms": 500,
        "idle_timeout_ms": None,
        "create_response": True,
        "interrupt_response": True,
    }
    assert (
        told["audio"]["input"]["format"] == told["audio"]["output"]["format"] == {"type": "audio/pcm", "rate": 24_000}
    )
    SERVER_EVENT.validate_python(events().session("created", told))


def test_what_is_absent_stays() -> None:
    session = change(NEW, audio={"input": {"turn_detection": {"type": "server_vad", "silence_duration_ms": 700}}})
    session = change(
        session, instructions="Be kind.", audio={"input": {"turn_detection": {"threshold": 0.7, "type": "server_vad"}}}
    )
    session = change(session, audio={"output": {"speed": 1.2}})
    told = wire(session, "s", 0)
    assert told["instructions"] == "Be kind."
    detection = told["audio"]["input"]["turn_detection"]
    assert (detection["silence_duration_ms"], detection["threshold"]) == (700, 0.7)
    assert told["audio"]["output"] == {"format": {"type": "audio/pcm", "rate": 24_000}, "voice": "alloy", "speed": 1.2}


def test_another_turn_detection_begins_anew() -> None:
    session = change(NEW, audio={"input": {"turn_detection": {"type": "server_vad", "create_response": False}}})
    session = change(session, audio={"input": {"turn_detection": {"type": "semantic_vad", "eagerness": "low"}}})
    assert wire(session, "s", 0)["audio"]["input"]["turn_detection"] == {
        "type": "semantic_vad",
        "eagerness": "low",
        "create_response": True,
        "interrupt_response": True,
    }
    session = change(session, audio={"input": {"turn_detection": None}})
    assert wire(session, "s", 0)["audio"]["input"]["turn_detection"] is None


def test_null_is_a_value_only_where_it_is_one() -> None:
    session = change(
        NEW, audio={"input": {"transcription": {"model": "whisper-1"}, "noise_reduction": {"type": "near_field"}}}
    )
    session = change(session, instructions="x", tools=[TOOL])
    session = change(session, instructions=None, tools=None, audio={"input": {"transcription": None, "format": None}})
    told = wire(session, "s", 0)
    assert (told["instructions"], len(told["tools"])) == ("x", 1)
    assert told["audio"]["input"]["transcription"] is None
    assert told["audio"]["input"]["noise_reduction"] == {"type": "near_field"}


def test_what_nobody_asked_for_is_not_told() -> None:
    """Pipecat's types know three fields of a transcription, and refuse a fourth."""
    told = wire(change(NEW, audio={"input": {"transcription": {"model": "whisper-1"}}}), "s", 0)
    assert told["audio"]["input"]["transcription"] == {"model": "whisper-1", "language": None, "prompt": None}
    assert (told["audio"]["input"]["noise_reduction"], told["tracing"], told["include"]) == (None, None, None)
    assert "reasoning" not in told


def test_lists_and_choices_are_replaced() -> None:
    session = change(NEW, tools=[TOOL], tool_choice={"type": "function", "name": "weather"})
    session = change(session, tools=[TOOL | {"name": "time"}], tool_choice={"type": "mcp", "server_label": "files"})
    told = wire(session, "s", 0)
    assert [tool["name"] for tool in told["tools"]] == ["time"]
    assert told["tool_choice"] == {"type": "mcp", "server_label": "files", "name": None}
    assert told["tools"] == [TOOL | {"name": "time"}]
    SERVER_EVENT.validate_python(events().session("updated", told))


def test_a_session_may_be_sent_back_as_it_was_told() -> None:
    told = wire(NEW, "sess_1", 60)
    assert update(NEW, told, spoken=True) == NEW


def test_keys_of_mcp_servers_are_kept_and_not_told() -> None:
    mcp = {"type": "mcp", "server_label": "files", "server_url": "https://x/mcp", "authorization": "secret-key"}
    session = change(change(NEW, tools=[mcp]), instructions="x")
    assert "secret-key" not in str(wire(session, "s", 0)) + repr(session)
    assert isinstance(session, RealtimeSession)
    assert getattr(session.tools[0], "authorization") == "secret-key"  # noqa: B009  (whatever tool it is)


def test_the_voice_is_for_good_once_it_was_heard() -> None:
    session = change(NEW, audio={"output": {"voice": {"id": "voice_1"}}})
    assert change(session, spoken=True, instructions="x", audio={"output": {"voice": {"id": "voice_1"}}})
    with pytest.raises(BadEvent, match="voice") as refusal:
        change(session, spoken=True, audio={"output": {"voice": "alloy"}})
    assert refusal.value.openai_code == "cannot_update_voice"


def test_a_session_that_only_writes_down() -> None:
    session = update(
        NEW, {"type": "transcription", "audio": {"input": {"transcription": {"language": "de"}}}}, spoken=False
    )
    assert isinstance(session, TranscriptionSession)
    told = wire(session, "sess_1", 60)
    assert told["object"] == "realtime.transcription_session"
    assert told["audio"]["input"]["transcription"]["language"] == "de"
    SERVER_EVENT.validate_python(events().session("created", told))
    with pytest.raises(BadEvent):
        change(session, instructions="x")


@pytest.mark.parametrize(
    ("patch", "code", "param"),
    [
        ({}, "missing_required_parameter", "session.type"),
        ({"type": "nothing"}, "invalid_value", "session.type"),
        ({"type": "realtime", "modalities": ["audio"]}, "unknown_parameter", "session.modalities"),
        (
            {"type": "realtime", "output_modalities": ["text", "audio"]},
            "invalid_value",
            "session.output_modalities",
        ),
        ({"type": "realtime", "instructions": 5}, "invalid_type", "session.instructions"),
        ({"type": "realtime", "output_modalities": []}, "invalid_value", "session.output_modalities"),
        (
            {"type": "realtime", "audio": {"output": {"speed": 2}}},
            "decimal_above_max_value",
            "session.audio.output.speed",
        ),
        (
            {"type": "realtime", "audio": {"input": {"turn_detection": {"type": "server_vad", "idle_timeout_ms": 1}}}},
            "integer_below_min_value",
            "session.audio.input.turn_detection.idle_timeout_ms",
        ),
        (
            {"type": "realtime", "audio": {"output": {"format": {"type": "audio/mp3"}}}},
            "invalid_value",
            "session.audio.output.format.type",
        ),
        (
            {"type": "realtime", "audio": {"input": {"format": {"type": "audio/pcm", "rate": 44_100}}}},
            "invalid_value",
            "session.audio.input.format.rate",
        ),
        (
            {"type": "realtime", "audio": {"input": {"turn_detection": {"type": "server_vad", "threshold": 2}}}},
            "decimal_above_max_value",
            "session.audio.input.turn_detection.threshold",
        ),
        (
            {"type": "realtime", "tools": [TOOL, {"type": "function"}]},
            "missing_required_parameter",
            "session.tools[1].name",
        ),
        ({"type": "realtime", "tools": [{"name": "x"}]}, "missing_required_parameter", "session.tools[0].type"),
        (
            {"type": "realtime", "tools": [TOOL, {"type": "function", "function": {"name": "x"}}]},
            "missing_required_parameter",
            "session.tools[1].name",
        ),
        ({"type": "realtime", "max_output_tokens": 5000}, "integer_above_max_value", "session.max_output_tokens"),
        (
            {"type": "realtime", "audio": {"input": {"noise_reduction": {"strength": float("nan")}}}},
            "invalid_value",
            "session.audio.input.noise_reduction.strength",
        ),
        *(
            (
                {"type": "realtime", "tools": [TOOL | {"parameters": {"a": [bad]}}]},
                "invalid_value",
                "session.tools[0].parameters",
            )
            for bad in (float("nan"), float("inf"), "\ud800")
        ),
        ({"type": "realtime", "prompt": {"id": float("nan")}}, "invalid_value", "session.prompt"),
        ({"type": "realtime", "tool_choice": "maybe"}, "invalid_value", "session.tool_choice"),
        (
            {"type": "realtime", "tool_choice": {"type": "function"}},
            "missing_required_parameter",
            "session.tool_choice.name",
        ),
        (
            {"type": "realtime", "tool_choice": {"type": "function", "function": {"name": "x"}}},
            "missing_required_parameter",
            "session.tool_choice.name",
        ),
        (
            {"type": "realtime", "truncation": {"type": "retention_ratio", "retention_ratio": 2}},
            "decimal_above_max_value",
            "session.truncation.retention_ratio",
        ),
        ({"type": "realtime", "audio": {"output": {"voice": 5}}}, "invalid_type", "session.audio.output.voice"),
        (
            {"type": "realtime", "audio": {"output": {"voice": {"id": ""}}}},
            "string_below_min_length",
            "session.audio.output.voice.id",
        ),
    ],
)
def test_what_is_told_of_a_wrong_update(patch: dict[str, Any], code: str, param: str) -> None:
    with pytest.raises(BadEvent) as refusal:
        update(NEW, patch, spoken=False)
    assert refusal.value.openai_code == code
    assert str(refusal.value.param).startswith(param)
    assert param in str(refusal.value)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-10, 10_000) | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
known_names = st.sampled_from(
    "type audio input output format rate turn_detection threshold voice id speed tools tool_choice instructions "
    "transcription truncation retention_ratio max_output_tokens name include".split()
)
patches = st.recursive(
    st.none()
    | st.sampled_from(["realtime", "transcription", "server_vad", "audio/pcm", "inf", 0.5, 24_000])
    | json_values,
    lambda inner: st.dictionaries(known_names, inner, max_size=4) | st.lists(inner, max_size=2),
    max_leaves=12,
)


@given(st.dictionaries(known_names, patches, max_size=5))
def test_any_update_is_taken_or_refused_and_always_told(patch: dict[str, Any]) -> None:
    try:
        session = update(NEW, {"type": "realtime", **patch}, spoken=False)
    except BadEvent as refusal:
        SERVER_EVENT.validate_python(events().error(refusal))
        return
    told = wire(session, "s", 0)
    if "16000" not in str(told):  # our own extension, which the SDK's types do not know
        SERVER_EVENT.validate_python(events().session("updated", told))
    assert update(session, told, spoken=True) == session


@pytest.mark.parametrize(
    "form",
    [{"type": "audio/pcm"}, {"type": "audio/pcm", "rate": 16_000}, {"type": "audio/pcmu"}, {"type": "audio/pcma"}],
)
def test_audio_there_and_back(form: dict[str, Any]) -> None:
    session = change(NEW, audio={"input": {"format": form}})
    assert isinstance(session, RealtimeSession)
    ours = session.audio.input.format
    data = formats.encode(ours, formats.decode(ours, bytes(range(240))))
    assert len(data) == 240
    assert formats.duration_ms(ours, 240) == 240 * 1000 / formats.rate_hz(ours) / formats.sample_bytes(ours)
    assert (formats.decode(ours, data) == formats.decode(ours, bytes(range(240)))).all()


@pytest.mark.parametrize(
    ("rule", "asked"),
    [
        (None, {"read", "write"}),
        ("always", {"read", "write"}),
        ("never", set()),
        ({"never": {"read_only": True}}, {"write"}),
        ({"never": {"tool_names": ["write"]}}, {"read"}),
        ({"never": {}, "always": {"tool_names": ["write"]}}, {"write"}),
        ({"always": {"tool_names": ["write"]}}, {"read", "write"}),
    ],
)
def test_which_tools_of_a_server_the_client_is_asked_for(rule: Any, asked: set[str]) -> None:
    server = McpTool.model_validate({"type": "mcp", "server_label": "files", "require_approval": rule})
    tools = {"read": True, "write": False}
    assert {name for name, read_only in tools.items() if needs_approval(server, name, read_only)} == asked


@pytest.mark.parametrize(
    ("allowed", "offered"),
    [(None, {"read", "write"}), (["write"], {"write"}), ({"read_only": True}, {"read"}), ({"tool_names": []}, set())],
)
def test_which_tools_of_a_server_are_on_offer(allowed: Any, offered: set[str]) -> None:
    server = McpTool.model_validate({"type": "mcp", "server_label": "files", "allowed_tools": allowed})
    tools = {"read": True, "write": False}
    assert {name for name, read_only in tools.items() if is_allowed(server, name, read_only)} == offered
