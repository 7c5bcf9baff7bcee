"""What a client may send, and the one function that reads it."""

import json
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, TypeAdapter, ValidationError, field_validator

from avatar.core.errors import BadMessage
from avatar.server.wire.model import WireModel

MIN_RATE_HZ, MAX_RATE_HZ = 8_000, 48_000
"""PCM16 rates a client may declare: telephone to studio, all of them within what soxr converts well."""
MAX_TEXT_CHARS = 8_000
"""Longest typed turn and longest instructions: a page of text, far inside every model's context."""

MAX_TOOLS = 32
"""Functions a client may bring: more than any model here tells apart."""
MAX_SCHEMA_BYTES = 8_192
MAX_RESULT_CHARS = 1 << 16
"""As much as is taken from an MCP server."""

Id = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_\-]+$")]
Language = Annotated[str, Field(min_length=2, max_length=16, pattern=r"^[A-Za-z]{2,3}(-[A-Za-z0-9]+)*$")]
Rate = Annotated[int, Field(strict=True, ge=MIN_RATE_HZ, le=MAX_RATE_HZ)]
StrictStr = Annotated[str, Field(strict=True)]


class AudioFormat(WireModel):
    """Format of the binary frames the client sends."""

    format: Literal["webm", "pcm16"]
    sample_rate: Rate = Field(16_000, description="`pcm16` only: mono, little-endian.")


class OutputFormat(WireModel):
    """Format of the binary frames the client wants back (always PCM16 mono)."""

    sample_rate: Rate | None = Field(None, description="Default: what the voice engine makes.")


class ToolOffer(WireModel):
    """A function that the client calls for the model: `tool.call` asks for it, `tool.result` answers."""

    name: Annotated[str, Field(strict=True, pattern=r"^[A-Za-z0-9_-]{1,64}$")]
    description: StrictStr = Field("", max_length=1_024, description="What it does and when to use it, for the model.")
    parameters: dict[str, Any] = Field(
        default_factory=lambda: {"type": "object", "properties": {}},
        description="JSON Schema of an object; at most 8,192 bytes.",
    )

    @field_validator("parameters")
    @classmethod
    def _describe_an_object(cls, parameters: dict[str, Any]) -> dict[str, Any]:
        if parameters.get("type") != "object":
            raise ValueError('its "type" must be "object"')
        if len(json.dumps(parameters)) > MAX_SCHEMA_BYTES:
            raise ValueError(f"it is longer than {MAX_SCHEMA_BYTES} bytes")
        return parameters


def _no_name_twice(tools: tuple[ToolOffer, ...]) -> tuple[ToolOffer, ...]:
    if len({tool.name for tool in tools}) < len(tools):
        raise ValueError("two tools have the same name")
    return tools


class SessionStart(WireModel):
    """Optional first message: how this session goes."""

    type: Literal["session.start"]
    mode: Literal["push_to_talk", "live"] = "push_to_talk"
    audio: AudioFormat | None = Field(None, description="Default: webm for push_to_talk, pcm16 16000 Hz for live.")
    conversation_id: Id | None = Field(None, description="Go on with this conversation.")
    resume_token: StrictStr | None = Field(
        None, max_length=256, description="Go on with the conversation of the session that was given this token."
    )
    voice_id: StrictStr | None = Field(
        None, max_length=128, description="Id or name of a voice; empty or unset: the default one."
    )
    quality: Literal["fast", "high"] = Field(
        "fast", description="`high`: a better speech engine, where the server has one set up; it may take time to load."
    )
    language: Language | None = Field(None, description="ISO 639-1; unset: detected.")
    instructions: StrictStr | None = Field(None, max_length=MAX_TEXT_CHARS, description="System prompt.")
    output: OutputFormat = OutputFormat(sample_rate=None)
    eagerness: Literal["low", "medium", "high"] | None = Field(
        None, description="Live mode: how soon a turn is taken for over; unset: as the server is set up."
    )
    tools: Annotated[tuple[ToolOffer, ...], AfterValidator(_no_name_twice)] = Field(
        (), max_length=MAX_TOOLS, description="Functions of the client's, besides the tools that the server has."
    )


class SessionUpdate(WireModel):
    """Changes for the turns to come; what is absent stays."""

    type: Literal["session.update"]
    voice_id: StrictStr | None = Field(
        None, max_length=128, description="Id or name of a voice; empty: the default one."
    )
    language: Language | None = None
    instructions: StrictStr | None = Field(None, max_length=MAX_TEXT_CHARS)


class AudioEnd(WireModel):
    """Push-to-talk: the utterance is complete."""

    type: Literal["audio.end"]


class AudioClear(WireModel):
    """Forget the audio sent since the last turn."""

    type: Literal["audio.clear"]


class Text(WireModel):
    """A typed turn."""

    type: Literal["text"]
    text: StrictStr = Field(min_length=1, max_length=MAX_TEXT_CHARS)


class Interrupt(WireModel):
    """Stop the reply."""

    type: Literal["interrupt"]


class Playback(WireModel):
    """How much of a reply has really been played."""

    type: Literal["playback"]
    turn_id: Id
    played_ms: float = Field(ge=0, le=86_400_000)


class ToolApprove(WireModel):
    """The user lets a call be made, or does not; for a `tool.call` with `needs_approval`."""

    type: Literal["tool.approve"]
    call_id: Id
    approve: Annotated[bool, Field(strict=True)]


class ToolAnswer(WireModel):
    """What came of a `tool.call` to one of the client's own tools."""

    type: Literal["tool.result"]
    call_id: Id
    text: StrictStr = Field(max_length=MAX_RESULT_CHARS, description="For the model; of a failure too.")
    is_error: bool = False


class Ping(WireModel):
    """Answered by `pong`."""

    type: Literal["ping"]


AnyClientMessage = (
    SessionStart | SessionUpdate | AudioEnd | AudioClear | Text | Interrupt | Playback | ToolApprove | ToolAnswer | Ping
)
ClientMessage = Annotated[AnyClientMessage, Field(discriminator="type")]

_CLIENT: TypeAdapter[Any] = TypeAdapter(ClientMessage)


def parse(frame: str) -> AnyClientMessage:
    """Turn a text frame into a message. Raises `BadMessage` that says which field is wrong."""
    try:
        data = json.loads(frame)
    except (ValueError, RecursionError):
        raise BadMessage("That text frame is not JSON. Send one JSON object with a `type`.") from None
    if not isinstance(data, dict):
        raise BadMessage("A message is a JSON object with a `type`, not a bare value.")
    try:
        message: AnyClientMessage = _CLIENT.validate_python(data)
    except ValidationError as error:
        raise BadMessage(_explain(error)) from None
    return message


def _explain(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    if first["type"] == "union_tag_not_found":
        return "The message has no `type`."
    if first["type"] == "union_tag_invalid":
        return "That message type is unknown. Known: " + str(first["ctx"]["expected_tags"]) + "."
    where = ".".join(str(part) for part in first["loc"][1:])
    return f"`{first['loc'][0]}`: field `{where}` is wrong: {first['msg']}."
