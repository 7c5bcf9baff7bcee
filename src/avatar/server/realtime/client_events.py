"""What a client may send, and the one function that reads it."""

import json
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, ValidationError

from avatar.server.realtime.errors import BadEvent, check_depth, explain
from avatar.server.realtime.formats import AudioFormat
from avatar.server.realtime.items import InputItem, NewItem
from avatar.server.realtime.model import MAX_AUDIO_CHARS, Id, Json, Strict, Text
from avatar.server.realtime.session import Modalities, OutputTokens, Voice
from avatar.server.realtime.tools import MAX_TOOLS, Tool, ToolChoice

ITEM_DEPTH = 4
"""A list of items, an item, its content, a part of that."""


class _Event(Strict):
    event_id: Annotated[str, Field(max_length=512)] | None = None


class SessionUpdate(_Event):
    """Change the session; `session.update` reads the rest."""

    type: Literal["session.update"]
    session: dict[str, Any]


class AudioAppend(_Event):
    """More microphone audio, in base64."""

    type: Literal["input_audio_buffer.append"]
    audio: str = Field(max_length=MAX_AUDIO_CHARS, repr=False)


class AudioCommit(_Event):
    """What is in the buffer is a turn."""

    type: Literal["input_audio_buffer.commit"]


class AudioClear(_Event):
    """Forget what is in the buffer."""

    type: Literal["input_audio_buffer.clear"]


class OutputClear(_Event):
    """WebRTC: play nothing more of this response."""

    type: Literal["output_audio_buffer.clear"]


class ItemCreate(_Event):
    """Put an item into the conversation: after another, at the beginning (`root`), or at the end."""

    type: Literal["conversation.item.create"]
    item: NewItem
    previous_item_id: Id | None = None


class ItemRetrieve(_Event):
    """Tell an item, audio included."""

    type: Literal["conversation.item.retrieve"]
    item_id: Id


class ItemDelete(_Event):
    """Take an item out."""

    type: Literal["conversation.item.delete"]
    item_id: Id


class ItemTruncate(_Event):
    """Nothing after `audio_end_ms` was heard."""

    type: Literal["conversation.item.truncate"]
    item_id: Id
    content_index: Annotated[int, Field(ge=0)]
    audio_end_ms: Annotated[int, Field(ge=0)]


class ResponseOutput(Strict):
    """How this response sounds."""

    format: AudioFormat | None = None
    voice: Voice | None = None


class ResponseAudio(Strict):
    """Only what goes out."""

    output: ResponseOutput | None = None


class ResponseWish(Strict):
    """What of the session is otherwise for this response alone."""

    conversation: Literal["auto", "none"] | None = None
    input: Annotated[list[InputItem], Field(max_length=1024)] | None = None
    instructions: Text | None = None
    output_modalities: Modalities | None = None
    audio: ResponseAudio | None = None
    tools: Annotated[list[Tool], Field(max_length=MAX_TOOLS)] | None = None
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    max_output_tokens: OutputTokens | None = None
    metadata: (
        Annotated[
            dict[Annotated[str, Field(max_length=64)], Annotated[str, Field(max_length=512)]], Field(max_length=16)
        ]
        | None
    ) = None
    prompt: Json | None = None
    reasoning: Json | None = None


class ResponseCreate(_Event):
    """Answer."""

    type: Literal["response.create"]
    response: ResponseWish | None = None


class ResponseCancel(_Event):
    """Stop answering."""

    type: Literal["response.cancel"]
    response_id: Id | None = None


ClientEvent = (
    SessionUpdate
    | AudioAppend
    | AudioCommit
    | AudioClear
    | OutputClear
    | ItemCreate
    | ItemRetrieve
    | ItemDelete
    | ItemTruncate
    | ResponseCreate
    | ResponseCancel
)

_EVENT: TypeAdapter[ClientEvent] = TypeAdapter(Annotated[ClientEvent, Field(discriminator="type")])


def parse(frame: str | bytes) -> ClientEvent:
    """Read one text frame. Raises `BadEvent`, with the event's own id if it has one."""
    try:
        return _EVENT.validate_json(frame)
    except ValidationError:
        return read(_json(frame))  # once more, for what is wrong with it


def read(data: Any) -> ClientEvent:
    """Read an event that is JSON no more. Raises `BadEvent`."""
    if not isinstance(data, dict):
        raise BadEvent("invalid_event", "An event is a JSON object with a `type`.")
    try:
        check_depth(data)
        data = _with_plain_items(data)
        return _EVENT.validate_python(data)
    except (ValidationError, BadEvent) as error:
        bad = explain(error, data) if isinstance(error, ValidationError) else error
        bad.event_id = _event_id(data)
        raise bad from None


def _event_id(data: dict[str, Any]) -> str | None:
    """As it can be told again."""
    try:
        return _Event.model_validate({"event_id": data.get("event_id")}).event_id
    except ValidationError:
        return None


def _with_plain_items(event: dict[str, Any]) -> dict[str, Any]:
    """Clients that send an item as their own library has it send its empty fields too, as nulls: those are left out."""
    response = event.get("response")
    if isinstance(response, dict) and isinstance(response.get("input"), list):
        event = event | {"response": response | {"input": _without_nulls(response["input"])}}
    return event | {"item": _without_nulls(event["item"])} if "item" in event else event


def _without_nulls(data: Any, depth: int = ITEM_DEPTH) -> Any:
    if isinstance(data, dict) and depth:
        return {name: _without_nulls(value, depth - 1) for name, value in data.items() if value is not None}
    return [_without_nulls(one, depth - 1) for one in data] if isinstance(data, list) and depth else data


def _json(frame: str | bytes) -> Any:
    try:
        return json.loads(frame)
    except (ValueError, RecursionError):
        raise BadEvent("invalid_json", "That text frame is not JSON.") from None
