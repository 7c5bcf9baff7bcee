"""The messages of `/ws/chat`, as types: what a client may send and what it may get.

Owns names, fields, bounds and the one parse and one encode function. Knows no socket and no session.
`web/src/wire.ts` and `docs/PROTOCOL.md` are generated from this file.
"""

import json
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, field_validator

from avatar.core.errors import BadMessage
from avatar.core.trace import Stage

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


class WireModel(BaseModel):
    """A JSON object of the wire; unknown fields are refused, so a typo never passes in silence."""

    model_config = ConfigDict(frozen=True, extra="forbid")


# --- client to server ---------------------------------------------------------------------------


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

# --- server to client ---------------------------------------------------------------------------


class ServerBase(WireModel):
    """What every server message carries once it is known."""

    session_id: str | None = None


class ReadyOutput(WireModel):
    """Format of the audio the server sends."""

    format: Literal["pcm16"] = "pcm16"
    sample_rate: int


class Limits(WireModel):
    """Bounds of what the client sends."""

    max_buffer_bytes: int
    max_buffer_chunks: int
    max_utterance_s: float
    max_message_bytes: int
    max_text_chars: int


class SessionReady(ServerBase):
    """The session has its slot; turns may begin."""

    type: Literal["session.ready"] = "session.ready"
    conversation_id: str
    resume_token: str
    mode: Literal["push_to_talk", "live"]
    engines: dict[str, str] = Field(description="Stage (vad, end_of_turn, stt, llm, tts) to engine name.")
    output: ReadyOutput
    limits: Limits


class SpeechStarted(ServerBase):
    """The user began to speak."""

    type: Literal["speech.started"] = "speech.started"
    at_ms: float = Field(description="Milliseconds of input audio since the session began.")


class SpeechStopped(ServerBase):
    """The user's speech ended."""

    type: Literal["speech.stopped"] = "speech.stopped"
    at_ms: float


class Transcript(ServerBase):
    """What the user said; until it is final, what is sure of it so far."""

    type: Literal["transcript"] = "transcript"
    turn_id: str
    text: str
    is_final: bool


class ReplyText(ServerBase):
    """A piece of the answer's text; the final one carries the whole."""

    type: Literal["reply.text"] = "reply.text"
    turn_id: str
    delta: str
    is_final: bool = False
    text: str | None = None


class ToolCall(ServerBase):
    """The model has a tool called. Nothing is called before the turn is over; one `tool.result` follows."""

    type: Literal["tool.call"] = "tool.call"
    turn_id: str
    call_id: str
    server: str | None = Field(
        None,
        description="Label of the MCP server that has the tool; absent: it is the client's, to call and to answer.",
    )
    name: str
    arguments: str = Field(description="JSON text as the model wrote it; it may be no JSON at all.")
    needs_approval: bool = Field(False, description="Nothing happens until `tool.approve`.")


class ToolResult(ServerBase):
    """What the model is told of a call; also after `tool.approve` or `tool.result` did not come in time."""

    type: Literal["tool.result"] = "tool.result"
    turn_id: str
    call_id: str
    text: str
    is_error: bool


class ReplyAudio(ServerBase):
    """The binary frames that follow, until `reply.done`, are this turn's PCM16."""

    type: Literal["reply.audio"] = "reply.audio"
    turn_id: str
    sample_rate: int


class ReplyLower(ServerBase):
    """There is a voice over this reply: play it at a quarter of its loudness until `reply.hold` or `reply.resume`."""

    type: Literal["reply.lower"] = "reply.lower"
    turn_id: str


class ReplyHold(ServerBase):
    """Stop playing this reply at once, but keep what has come of it: `reply.resume` or `reply.done` follows."""

    type: Literal["reply.hold"] = "reply.hold"
    turn_id: str


class ReplyResume(ServerBase):
    """It was no interruption: go on playing where the reply was, as loud as before."""

    type: Literal["reply.resume"] = "reply.resume"
    turn_id: str


class TraceSpan(WireModel):
    """One stage of a turn, in milliseconds from where `voice_to_voice_ms` begins; negative before that."""

    name: Stage
    start_ms: float
    end_ms: float


class ReplyMetrics(WireModel):
    """Where the turn's time went, in milliseconds; null where a stage did not run."""

    endpoint_ms: float | None = Field(None, description="Last speech sample to the decision that the turn is over.")
    stt_ms: float | None = Field(None, description="Transcription asked to transcript.")
    tools_ms: float | None = Field(None, description="LLM asked, and tools called for it, before it said a word.")
    llm_ttft_ms: float | None = Field(None, description="LLM request to its first token.")
    first_clause_ms: float | None = Field(None, description="First token to first clause.")
    tts_ttfa_ms: float | None = Field(None, description="First clause to first audio.")
    queue_ms: float | None = Field(None, description="First audio, held until the turn is over, to its being sent.")
    wire_ms: float | None = Field(None, description="First audio being sent to the socket having taken it.")
    own_ms: float | None = Field(
        None, description="Decision that the turn is over to first audio taken, less what engines were at work."
    )
    voice_to_voice_ms: float | None = Field(
        None,
        description="Last speech sample (push-to-talk: `audio.end`; typed turns: the message) to first audio sent.",
    )
    eager_tries: int = Field(0, description="Replies of this turn that were prepared and dropped.")
    wasted_tokens: int = Field(0, description="Tokens the dropped ones had.")
    wasted_ms: float = Field(0.0, description="Engine work on the dropped ones.")
    underruns: int = Field(0, description="Times the reply ran dry while it played, as the server counts.")
    trace: tuple[TraceSpan, ...] = Field((), description="The stages that ran, in the order of a turn.")


class ReplyDone(ServerBase):
    """The reply is over; nothing of this turn follows, and the turn is saved."""

    type: Literal["reply.done"] = "reply.done"
    turn_id: str
    status: Literal["completed", "interrupted", "failed"]
    heard_text: str
    metrics: ReplyMetrics


class Error(ServerBase):
    """Something went wrong: what happened and what to do."""

    type: Literal["error"] = "error"
    code: str
    message: str
    fatal: bool = False
    turn_id: str | None = None


class Pong(ServerBase):
    """Answer to `ping`."""

    type: Literal["pong"] = "pong"


ServerMessage = Annotated[
    SessionReady
    | SpeechStarted
    | SpeechStopped
    | Transcript
    | ReplyText
    | ToolCall
    | ToolResult
    | ReplyAudio
    | ReplyLower
    | ReplyHold
    | ReplyResume
    | ReplyDone
    | Error
    | Pong,
    Field(discriminator="type"),
]

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


def encode(message: ServerBase) -> str:
    """The JSON text of a server message; fields that are not known are left out, except nulls inside metrics.

    It is plain ASCII: models stream halves of characters, which nothing else could carry.
    """
    data = message.model_dump(mode="json")
    return json.dumps({key: value for key, value in data.items() if value is not None})


def _explain(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    if first["type"] == "union_tag_not_found":
        return "The message has no `type`."
    if first["type"] == "union_tag_invalid":
        return "That message type is unknown. Known: " + str(first["ctx"]["expected_tags"]) + "."
    where = ".".join(str(part) for part in first["loc"][1:])
    return f"`{first['loc'][0]}`: field `{where}` is wrong: {first['msg']}."
