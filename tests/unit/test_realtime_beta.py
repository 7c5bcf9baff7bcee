"""The beta's events: whatever comes in its names is read or refused, and nothing worse."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avatar.server.realtime import beta
from avatar.server.realtime.client_events import ClientEvent, ItemCreate, ResponseCreate, SessionUpdate, read
from avatar.server.realtime.errors import BadEvent
from avatar.server.realtime.session import RealtimeSession, update
from tests.unit.realtime_stream import new_stream

NEW = RealtimeSession(type="realtime")
ITEM = {"type": "message", "role": "user", "content": [{"type": "text", "text": "Hi."}]}


def taken(event: Any) -> ClientEvent:
    """As a connection of the beta takes it. Raises `BadEvent`."""
    told = read(beta.from_client(json.loads(json.dumps(event))))
    if isinstance(told, SessionUpdate):
        update(NEW, told.session, spoken=False)
    return told


def test_what_the_beta_meant() -> None:
    event = taken({"type": "conversation.item.create", "item": ITEM})
    assert isinstance(event, ItemCreate)
    assert event.item.wire()["content"] == [{"type": "input_text", "text": "Hi."}]
    event = taken({"type": "response.create", "response": {"modalities": ["audio", "text"], "temperature": 1}})
    assert isinstance(event, ResponseCreate) and event.response is not None  # noqa: PT018  (for mypy)
    assert event.response.output_modalities == ["audio"]


@pytest.mark.parametrize(
    ("event", "param"),
    [
        ({"type": "conversation.item.create", "item": ITEM | {"content": ["x"]}}, "item.content[0]"),
        ({"type": "conversation.item.create", "item": ITEM | {"content": [{"type": []}]}}, "item.content[0].type"),
        ({"type": "response.create", "response": {"modalities": 5}}, "response.output_modalities"),
        ({"type": "session.update", "session": {"modalities": "audio"}}, "session.output_modalities"),
        ({"type": "session.update", "session": {"input_audio_format": ["x"]}}, "session.audio.input.format"),
        ({"type": "session.update", "session": {"input_audio_format": "mp3"}}, "session.audio.input.format.type"),
        ({"type": "transcription_session.update", "session": {"input_audio_format": []}}, "session.audio.input.format"),
    ],
)
def test_what_is_told_of_what_does_not_fit(event: Any, param: str) -> None:
    with pytest.raises(BadEvent) as refusal:
        taken(event)
    assert refusal.value.param == param


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from(["text", "pcm16"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
    max_leaves=4,
)


def some(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """An object with some of these fields, each as it should be or anything; or anything in its place."""
    return anything | st.fixed_dictionaries({}, optional={name: anything | field for name, field in fields.items()})


parts = some(type=st.sampled_from(["text", "audio", "input_text"]), text=st.just("x"), audio=st.just("AAAA"))
items = some(
    type=st.just("message"), role=st.sampled_from(["user", "assistant"]), content=st.lists(parts, max_size=2), id=parts
)
flat = some(
    modalities=st.just(["text"]),
    input_audio_format=st.just("pcm16"),
    output_audio_format=st.just("g711_ulaw"),
    input_audio_transcription=some(model=st.just("x")),
    turn_detection=some(type=st.just("server_vad")),
    voice=st.just("alloy"),
    speed=st.just(1.0),
    tools=st.just([]),
    max_response_output_tokens=st.just("inf"),
    temperature=st.just(0.8),
    audio=some(input=parts),
    type=st.just("realtime"),
    input=st.lists(items, max_size=2),
)
TYPES = ["session.update", beta.TRANSCRIPTION_UPDATE, "conversation.item.create", "response.create"]


@given(some(type=st.sampled_from(TYPES), session=flat, response=flat, item=items, event_id=st.just("e")))
def test_any_event_of_the_beta_is_read_or_refused(event: Any) -> None:
    try:
        taken(event)
    except BadEvent as refusal:
        assert refusal.openai_code  # noqa: PT017  (whichever it is)


@pytest.mark.parametrize("type_", TYPES)
@given(st.data())
def test_any_field_of_the_beta_is_read_or_refused(type_: str, data: st.DataObject) -> None:
    name = {"conversation.item.create": "item", "response.create": "response"}.get(type_, "session")
    try:
        taken({"type": type_, name: data.draw(items if name == "item" else flat)})
    except BadEvent as refusal:
        assert refusal.openai_code  # noqa: PT017  (whichever it is)


def test_the_beta_s_client_events() -> None:
    flat = {
        "type": "session.update",
        "session": {
            "modalities": ["text", "audio"],
            "voice": "alloy",
            "input_audio_format": "g711_ulaw",
            "turn_detection": None,
            "temperature": 0.8,
            "input_audio_transcription": {"model": "whisper-1"},
            "max_response_output_tokens": 100,
        },
    }
    assert beta.from_client(flat)["session"] == {
        "type": "realtime",
        "output_modalities": ["audio"],
        "max_output_tokens": 100,
        "audio": {
            "input": {
                "turn_detection": None,
                "transcription": {"model": "whisper-1"},
                "format": {"type": "audio/pcmu"},
            },
            "output": {"voice": "alloy"},
        },
    }
    writing = flat | {"type": "transcription_session.update"}
    writing["session"] = {"modalities": ["text"], "input_audio_format": "pcm16", "turn_detection": None}
    assert beta.from_client(writing) == {
        "type": "session.update",
        "session": {
            "type": "transcription",
            "audio": {"input": {"turn_detection": None, "format": {"type": "audio/pcm", "rate": 24_000}}},
        },
    }
    item = {"type": "message", "role": "assistant", "content": [{"type": "text", "text": "x"}]}
    created = beta.from_client({"type": "conversation.item.create", "item": item})
    assert created["item"]["content"][0]["type"] == "output_text"
    told = beta.from_server(new_stream().sent[0])
    assert told is not None
    assert (told["session"]["voice"], told["session"]["input_audio_format"]) == ("alloy", "pcm16")
