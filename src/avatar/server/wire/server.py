"""What a client may get, and the one function that writes it."""

import json
from typing import Annotated, Literal

from pydantic import Field

from avatar.core.trace import Stage
from avatar.server.wire.model import WireModel


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


def encode(message: ServerBase) -> str:
    """The JSON text of a server message; fields that are not known are left out, except nulls inside metrics.

    It is plain ASCII: models stream halves of characters, which nothing else could carry.
    """
    data = message.model_dump(mode="json")
    return json.dumps({key: value for key, value in data.items() if value is not None})
