"""Client events: every one is read, and whatever else comes is answered with an error and nothing worse."""

import json
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.realtime import RealtimeClientEvent, RealtimeConversationItemUserMessage
from openai.types.realtime.realtime_conversation_item_user_message import Content as UserContent
from pydantic import TypeAdapter

from avatar.core.errors import AvatarError, NoSpeech, NotFound, RateLimited, ServerFull, describe
from avatar.server.openai.errors import body
from avatar.server.realtime import client_events
from avatar.server.realtime.client_events import parse
from avatar.server.realtime.errors import BadEvent, fields_of, fields_of_problem
from avatar.server.realtime.items import InputText, UserMessage

TEXT = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hi"}]}
EVENTS: list[dict[str, Any]] = [
    {"type": "session.update", "session": {"type": "realtime"}},
    {"type": "input_audio_buffer.append", "audio": "AAAA"},
    {"type": "input_audio_buffer.commit"},
    {"type": "input_audio_buffer.clear"},
    {"type": "output_audio_buffer.clear"},
    {"type": "conversation.item.create", "item": TEXT, "previous_item_id": "root"},
    {"type": "conversation.item.create", "item": TEXT | {"role": "system", "id": "item_1", "status": "completed"}},
    {
        "type": "conversation.item.create",
        "item": {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "x"}]},
    },
    {
        "type": "conversation.item.create",
        "item": {"type": "message", "role": "user", "content": [{"type": "input_audio", "audio": "AAAA"}]},
    },
    {
        "type": "conversation.item.create",
        "item": {"type": "function_call", "name": "f", "arguments": "{}", "call_id": "c"},
    },
    {"type": "conversation.item.create", "item": {"type": "function_call_output", "call_id": "c", "output": "x"}},
    {
        "type": "conversation.item.create",
        "item": {"type": "mcp_approval_response", "id": "a", "approval_request_id": "b", "approve": True},
    },
    {"type": "conversation.item.retrieve", "item_id": "item_1"},
    {"type": "conversation.item.delete", "item_id": "item_1"},
    {"type": "conversation.item.truncate", "item_id": "item_1", "content_index": 0, "audio_end_ms": 100},
    {"type": "response.create"},
    {
        "type": "response.create",
        "response": {
            "conversation": "none",
            "input": [TEXT, {"type": "item_reference", "id": "item_1"}],
            "instructions": "x",
            "output_modalities": ["text"],
            "audio": {"output": {"voice": "x"}},
            "tools": [],
            "tool_choice": "none",
            "max_output_tokens": "inf",
            "metadata": {"a": "b"},
        },
    },
    {"type": "response.cancel", "response_id": "resp_1"},
]


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event["type"])
def test_every_event_is_read(event: dict[str, Any]) -> None:
    assert parse(json.dumps(event | {"event_id": "e"})).event_id == "e"
    assert parse(json.dumps(event).encode()).type == event["type"]
    if "item_reference" not in json.dumps(event):  # which the SDK has in a type of its own
        TypeAdapter[Any](RealtimeClientEvent).validate_python(event)


def test_items_may_come_with_all_the_fields_that_the_sdk_has() -> None:
    part = UserContent(type="input_text", text="Hi.")
    item = RealtimeConversationItemUserMessage(type="message", role="user", content=[part]).model_dump()
    assert None in item.values()
    assert None in item["content"][0].values()
    for event in (
        {"type": "conversation.item.create", "item": item},
        {"type": "response.create", "response": {"input": [item], "metadata": None}},
    ):
        told = parse(json.dumps(event))
        found: Any = told.item if isinstance(told, client_events.ItemCreate) else None
        if isinstance(told, client_events.ResponseCreate) and told.response and told.response.input:
            found = told.response.input[0]
        assert isinstance(found, UserMessage)
        assert found.content == [InputText(type="input_text", text="Hi.")]


def test_no_event_of_the_sdk_is_missing() -> None:
    def types(union: Any) -> set[str]:
        return {get_args(model.model_fields["type"].annotation)[0] for model in get_args(union)}

    assert types(client_events.ClientEvent) == types(get_args(RealtimeClientEvent)[0])
    assert {event["type"] for event in EVENTS} == types(client_events.ClientEvent)


def deep(levels: int) -> str:
    """An event that nests so deep."""
    return f'{{"event_id": "event_7", "type": "session.update", "x": {"[" * levels}{"]" * levels}}}'


@pytest.mark.parametrize(
    ("frame", "code", "param"),
    [
        ("{", "invalid_json", None),
        ("[" * 5000, "invalid_json", None),
        ("[]", "invalid_event", None),
        (deep(100), "missing_required_parameter", "session"),
        (deep(250), "invalid_value", None),
        (deep(900), "invalid_value", None),
        ({}, "missing_required_parameter", "type"),
        ({"type": "input_audio_buffer.eat"}, "invalid_value", "type"),
        ({"type": 7}, "invalid_value", "type"),
        ({"type": "input_audio_buffer.append"}, "missing_required_parameter", "audio"),
        ({"type": "input_audio_buffer.append", "audio": "A", "extra": 1}, "unknown_parameter", "extra"),
        ({"type": "conversation.item.create"}, "missing_required_parameter", "item"),
        ({"type": "conversation.item.create", "item": {}}, "missing_required_parameter", "item.type"),
        ({"type": "conversation.item.create", "item": {"type": "message"}}, "missing_required_parameter", "item.role"),
        ({"type": "conversation.item.create", "item": TEXT | {"role": "nobody"}}, "invalid_value", "item.role"),
        (
            {"type": "conversation.item.create", "item": TEXT | {"role": "assistant"}},
            "invalid_value",
            "item.content[0].type",
        ),
        (
            {"type": "conversation.item.truncate", "item_id": "x", "content_index": 0, "audio_end_ms": -1},
            "integer_below_min_value",
            "audio_end_ms",
        ),
        (
            {"type": "conversation.item.truncate", "item_id": "x", "content_index": 0, "audio_end_ms": "1"},
            "invalid_type",
            "audio_end_ms",
        ),
        ({"type": "response.create", "response": {"modalities": ["text"]}}, "unknown_parameter", "response.modalities"),
        (
            {"type": "response.create", "response": {"max_output_tokens": 0}},
            "integer_below_min_value",
            "response.max_output_tokens",
        ),
    ],
)
def test_what_is_told_of_a_wrong_event(frame: Any, code: str, param: str | None) -> None:
    if isinstance(frame, dict):
        frame = json.dumps(frame | {"event_id": "event_7"})
    with pytest.raises(BadEvent) as refusal:
        parse(frame)
    assert refusal.value.openai_code == code
    assert str(refusal.value.param).startswith(str(param))
    assert refusal.value.event_id == ("event_7" if frame.startswith('{"') else None)


@pytest.mark.parametrize("fields", [{"event_id": "\ud800"}, {"\ud800": 1}, {"type": "\ud800"}])
def test_half_a_character_is_not_told_again(fields: dict[str, Any]) -> None:
    with pytest.raises(BadEvent) as refusal:
        parse(json.dumps({"type": "input_audio_buffer.commit"} | fields))
    assert json.dumps(fields_of(refusal.value), ensure_ascii=False).encode()
    assert refusal.value.event_id is None


def test_nothing_of_an_event_is_in_its_refusal_or_repr() -> None:
    with pytest.raises(BadEvent) as refusal:
        parse(json.dumps({"type": "response.create", "response": {"instructions": ["my secret"]}}))
    assert "secret" not in str(refusal.value)
    assert "SECRET" not in repr(parse('{"type": "input_audio_buffer.append", "audio": "SECRET"}'))


def mutations(event: dict[str, Any]) -> st.SearchStrategy[Any]:
    """The event with one of its values put in the place of another's, or something else there, or without it."""

    def places(data: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        inner = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
        return [path, *(place for key, value in inner for place in places(value, (*path, key)))]

    def put(data: Any, path: tuple[Any, ...], value: Any) -> Any:
        if not path:
            return value
        copy = dict(data) if isinstance(data, dict) else list(data)
        copy[path[0]] = put(copy[path[0]], path[1:], value)
        return copy

    other = st.sampled_from(
        [None, True, 0, -1, 1.5, "", "x" * 600, [], {}, {"type": "message"}, ["x"], "\ud800", 1 << 70]
    )
    return st.tuples(st.sampled_from(places(event)), other).map(lambda drawn: put(event, *drawn))


@given(
    st.sampled_from(EVENTS).flatmap(mutations) | st.sampled_from(EVENTS), st.sampled_from([None, "e1", 5, "x" * 999])
)
def test_any_event_is_read_or_refused(event: Any, event_id: Any) -> None:
    if isinstance(event, dict) and event_id is not None:
        event = event | {"event_id": event_id}
    try:
        read = parse(json.dumps(event))
    except BadEvent as refusal:
        told, code = refusal.event_id, refusal.openai_code
    else:
        told, code = read.event_id, "none"
    assert code
    sent = event.get("event_id") if isinstance(event, dict) else None
    assert told in (sent, None)
    assert told == sent or not isinstance(sent, str) or len(sent) > 512


@given(st.text() | st.binary())
def test_any_frame_is_read_or_refused(frame: str | bytes) -> None:
    with pytest.raises(BadEvent):
        parse(frame)


@pytest.mark.parametrize("error", [RateLimited("Later."), ServerFull("Full."), NoSpeech("Silence."), NotFound("Gone.")])
def test_an_error_is_of_the_same_type_over_http(error: AvatarError) -> None:
    assert fields_of_problem(describe(error))["type"] == body(error)["error"]["type"]
