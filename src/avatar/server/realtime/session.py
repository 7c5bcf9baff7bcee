"""The session object: its defaults, and what a partial `session.update` makes of it."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, TypeAdapter, ValidationError
from pydantic_core import PydanticCustomError

from avatar.server.realtime.errors import explain, voice_is_locked
from avatar.server.realtime.formats import AudioFormat, PcmFormat
from avatar.server.realtime.model import Id, Json, Strict, Text
from avatar.server.realtime.tools import MAX_TOOLS, Tool, ToolChoice

MAX_OUTPUT_TOKENS = 4096
"""OpenAI's bound; `inf` is the engine's own."""

Include = list[Literal["item.input_audio_transcription.logprobs"]]


def _one(modalities: list[Any]) -> list[Any]:
    if len(modalities) != 1:
        raise PydanticCustomError("modalities", "supported combinations are: ['text'] and ['audio']")
    return modalities


Modalities = Annotated[list[Literal["text", "audio"]], AfterValidator(_one)]
OutputTokens = Annotated[int, Field(ge=1, le=MAX_OUTPUT_TOKENS)] | Literal["inf"]


_AUDIO: Literal["text", "audio"] = "audio"


class ServerVad(Strict):
    """The turn ends after a silence."""

    type: Literal["server_vad"]
    threshold: Annotated[float, Field(ge=0, le=1)] = 0.5
    prefix_padding_ms: Annotated[int, Field(ge=0, le=10_000)] = 300
    silence_duration_ms: Annotated[int, Field(ge=0, le=10_000)] = 500
    idle_timeout_ms: Annotated[int, Field(ge=5_000, le=30_000)] | None = None
    create_response: bool = True
    interrupt_response: bool = True


class SemanticVad(Strict):
    """The turn ends when it sounds and reads finished."""

    type: Literal["semantic_vad"]
    eagerness: Literal["low", "medium", "high", "auto"] = "auto"
    create_response: bool = True
    interrupt_response: bool = True


TurnDetection = Annotated[ServerVad | SemanticVad, Field(discriminator="type")]


class NoiseReduction(Strict):
    """Accepted; the engines here hear through noise by themselves."""

    type: Literal["near_field", "far_field"] | None = None
    strength: float | None = None


class Transcription(Strict):
    """Whether clients are told what was said. The engine is the server's, whatever the `model`."""

    model: Annotated[str, Field(max_length=128)] | None = None
    language: Annotated[str, Field(max_length=16)] | None = None
    languages: list[str] | None = None
    prompt: Text | None = None
    keywords: list[str] | None = None
    delay: Literal["minimal", "low", "medium", "high", "xhigh"] | None = None


class VoiceId(Strict):
    """A voice of the library, by its id."""

    id: Id


Voice = Annotated[str, Field(min_length=1, max_length=128)] | VoiceId


class AudioInput(Strict):
    """What is heard."""

    format: AudioFormat = PcmFormat(type="audio/pcm")
    transcription: Transcription | None = None
    noise_reduction: NoiseReduction | None = None
    turn_detection: TurnDetection | None = ServerVad(type="server_vad")


class AudioOutput(Strict):
    """What is said."""

    format: AudioFormat = PcmFormat(type="audio/pcm")
    voice: Voice = "alloy"
    speed: Annotated[float, Field(ge=0.25, le=1.5)] = 1.0


class Audio(Strict):
    """Both ways."""

    input: AudioInput = AudioInput()
    output: AudioOutput = AudioOutput()


class TranscriptionAudio(Strict):
    """One way."""

    input: AudioInput = AudioInput(transcription=Transcription())


class TokenLimits(Strict):
    """How much of the conversation is kept."""

    post_instructions: Annotated[int, Field(ge=0)] | None = None


class RetentionRatio(Strict):
    """When the context is full, cut it down to this part of it."""

    type: Literal["retention_ratio"]
    retention_ratio: Annotated[float, Field(ge=0, le=1)]
    token_limits: TokenLimits | None = None


class RealtimeSession(Strict):
    """A session that talks."""

    type: Literal["realtime"]
    model: Annotated[str, Field(max_length=256)] = "avatar"
    output_modalities: Modalities = Field(default_factory=lambda: [_AUDIO])
    instructions: Text = ""
    tools: list[Tool] = Field(default_factory=list, max_length=MAX_TOOLS)
    tool_choice: ToolChoice = "auto"
    parallel_tool_calls: bool = True
    max_output_tokens: OutputTokens = "inf"
    audio: Audio = Audio()
    truncation: Literal["auto", "disabled"] | RetentionRatio = "auto"
    tracing: Literal["auto"] | Json | None = None
    prompt: Json | None = None
    include: Include | None = None
    reasoning: Json | None = None


class TranscriptionSession(Strict):
    """A session that only writes down."""

    type: Literal["transcription"]
    audio: TranscriptionAudio = TranscriptionAudio()
    include: Include | None = None


Session = RealtimeSession | TranscriptionSession

_SESSION: TypeAdapter[Session] = TypeAdapter(Annotated[Session, Field(discriminator="type")])

_MAY_BE_NULL = frozenset(
    "transcription noise_reduction turn_detection idle_timeout_ms tracing prompt include reasoning token_limits".split()
)
"""Where null is a value. Anywhere else it says as much as an absent field, which stays as it is."""
_WHOLE = frozenset({"voice", "tool_choice", "truncation", "tracing", "prompt", "reasoning"})
"""Objects that are replaced, not merged."""
_TOLD_AS_NULL = _MAY_BE_NULL - {"reasoning", "token_limits"} | {"language"}
"""What OpenAI's server tells though it is null. Other fields it tells when they have a value, and there are clients
whose types refuse a field that they do not know."""
_SECRETS = frozenset({"authorization", "headers"})
_OURS = frozenset({"id", "object", "expires_at", "model", "client_secret"})
"""What a client that sends back what it was sent need not take out; none of it can be changed."""


def update(session: Session, patch: dict[str, Any], *, spoken: bool) -> Session:
    """`session` with the fields of `patch` (`type` among them) in place of its own; what is absent stays.

    `spoken`: audio was sent in the session's voice, which is then for good. Raises `BadEvent`; nothing is changed then.
    """
    given = {name: value for name, value in _without_nulls(patch, _MAY_BE_NULL).items() if name not in _OURS}
    _check(given)
    base = session.wire() if given["type"] == session.type else {}
    updated = _check(_merged(base, given))
    if spoken and voice_of(updated) != voice_of(session):
        raise voice_is_locked()
    return updated


def with_default_voice(session: RealtimeSession) -> RealtimeSession:
    """The session with the voice of one that names none, also where audio was sent."""
    output = session.audio.output.model_copy(update={"voice": AudioOutput().voice})
    return session.model_copy(update={"audio": session.audio.model_copy(update={"output": output})})


def wire(session: Session, session_id: str, expires_at_s: int) -> dict[str, Any]:
    """The session as `session.created` and `session.updated` tell it: without the keys to MCP servers."""
    head = {"object": f"realtime.{'transcription_' * (session.type == 'transcription')}session", "id": session_id}
    told = _without_nulls(session.wire(), _TOLD_AS_NULL)
    if "tools" in told:
        told["tools"] = [_told_tool(tool) for tool in told["tools"]]
    return head | told | {"expires_at": expires_at_s}


def _told_tool(tool: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in tool.items() if value is not None and name not in _SECRETS}


def _check(given: dict[str, Any]) -> Session:
    try:
        return _SESSION.validate_python(given)
    except ValidationError as error:
        raise explain(error, given, "session") from None


def voice_of(session: Session) -> Voice | None:
    """The voice asked for; None: nobody speaks in such a session."""
    return session.audio.output.voice if isinstance(session, RealtimeSession) else None


def _without_nulls(patch: dict[str, Any], but: frozenset[str]) -> dict[str, Any]:
    return {
        name: _without_nulls(value, but) if isinstance(value, dict) and name not in _WHOLE else value
        for name, value in patch.items()
        if value is not None or name in but
    }


def _merged(base: dict[str, Any], patch: dict[str, Any]) -> dict[str, Any]:
    """Objects merge, but for those of another `type`: their fields mean something else."""
    merged = dict(base)
    for name, value in patch.items():
        old = base.get(name)
        merged[name] = value
        if isinstance(value, dict) and isinstance(old, dict) and name not in _WHOLE:
            same_kind = value.get("type", old.get("type")) == old.get("type")
            merged[name] = _merged(old, value) if same_kind else value
    return merged
