"""What a live session tells its client, whatever the transport. Codecs turn these into wire messages.

Knows no wire names. What was said, and its sound, stay out of every `repr` and
so out of logs. Times are milliseconds of input audio (`at_ms`) or durations.
"""

from dataclasses import dataclass, field
from typing import Literal

from avatar.core.audio import Pcm
from avatar.core.errors import Problem
from avatar.core.trace import TurnMetrics

ReplyStatus = Literal["completed", "interrupted", "failed"]


@dataclass(frozen=True)
class SpeechStarted:
    """The user began to speak at `at_ms`."""

    at_ms: float


@dataclass(frozen=True)
class SpeechStopped:
    """The user's last sound of this turn ended at `at_ms`."""

    at_ms: float
    turn_id: str | None = None
    """None: it was no turn after all."""


@dataclass(frozen=True)
class TranscriptReady:
    """What the user said in this turn; what is not final only grows."""

    turn_id: str
    text: str = field(repr=False)
    is_final: bool = True
    is_answered: bool = True
    """A reply to it is on its way."""


@dataclass(frozen=True)
class ReplyTextDelta:
    """The next piece of the answer."""

    turn_id: str
    delta: str = field(repr=False)


@dataclass(frozen=True)
class ReplyTextDone:
    """The answer's text is complete."""

    turn_id: str
    text: str = field(repr=False)


@dataclass(frozen=True)
class ReplyCallPiece:
    """The model is writing a call that will be among `ReplyCalls`: more of its arguments. No text comes in between."""

    turn_id: str
    call_id: str
    name: str
    arguments: str = field(repr=False)


@dataclass(frozen=True)
class ReplyCalls:
    """The model wants these tools called: (id, name, arguments as JSON text)."""

    turn_id: str
    calls: tuple[tuple[str, str, str], ...] = field(repr=False)


@dataclass(frozen=True)
class ToolCalled:
    """A tool is called for the reply: by this server, once it may, or (no `server`) by the client."""

    turn_id: str
    call_id: str
    name: str
    arguments: str = field(repr=False)
    """JSON text, as the model wrote it."""
    server: str | None = None
    """Label of the MCP server that has the tool."""
    needs_approval: bool = False
    """It waits for the client's leave."""


@dataclass(frozen=True)
class ToolReturned:
    """What came of a call; each has one such end."""

    turn_id: str
    call_id: str
    text: str = field(repr=False)
    is_error: bool = False


@dataclass(frozen=True)
class ReplyAudioStarted:
    """Audio of this turn follows, at `rate_hz`."""

    turn_id: str
    rate_hz: int


@dataclass(frozen=True)
class ReplyAudioFrame:
    """A slice of the reply: float32[n], mono."""

    turn_id: str
    pcm: Pcm = field(repr=False)


@dataclass(frozen=True)
class ReplyLowered:
    """Play this reply lower: there is a voice over it."""

    turn_id: str


@dataclass(frozen=True)
class ReplyHeld:
    """Stop playing this reply at once, but keep what there is of it."""

    turn_id: str


@dataclass(frozen=True)
class ReplyResumed:
    """Go on playing this reply from where it is, as loud as before."""

    turn_id: str


@dataclass(frozen=True)
class ReplyDone:
    """The reply is over and saved; nothing of this turn follows."""

    turn_id: str
    status: ReplyStatus
    heard_text: str = field(repr=False)
    metrics: TurnMetrics = field(default_factory=TurnMetrics)
    is_cut_short: bool = False
    """The model wrote as much as it may, and would have gone on."""


@dataclass(frozen=True)
class ErrorOccurred:
    """Something went wrong; the session lives unless the problem is fatal."""

    problem: Problem
    turn_id: str | None = None


SessionEvent = (
    SpeechStarted
    | SpeechStopped
    | TranscriptReady
    | ReplyTextDelta
    | ReplyTextDone
    | ReplyCallPiece
    | ReplyCalls
    | ToolCalled
    | ToolReturned
    | ReplyAudioStarted
    | ReplyAudioFrame
    | ReplyLowered
    | ReplyHeld
    | ReplyResumed
    | ReplyDone
    | ErrorOccurred
)
