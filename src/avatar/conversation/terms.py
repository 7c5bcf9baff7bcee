"""The terms of a session: its engines, the limits that all sessions share, and what its client chose.

Plain values; knows engine Protocols only.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from avatar.conversation.plan import Plan, ReplyPolicy
from avatar.conversation.precedence import Precedence
from avatar.conversation.push_to_talk import AudioKind, BufferLimits
from avatar.core.turns import Eagerness, TurnPolicy
from avatar.engines.base import EndOfTurn, LanguageModel, SpeechToText, TextToSpeech, VoiceActivity


@dataclass(frozen=True)
class Engines:
    """The loaded models, shared by all sessions."""

    vad: VoiceActivity
    end_of_turn: EndOfTurn
    stt: SpeechToText
    llm: LanguageModel
    tts: TextToSpeech
    precedence: Precedence
    """Who may use the language model on a guess, of all sessions that share it."""

    def names(self) -> dict[str, str]:
        """Stage to engine name."""
        return {stage: getattr(self, stage).name for stage in ("vad", "end_of_turn", "stt", "llm", "tts")}

    def all(self) -> tuple[VoiceActivity, EndOfTurn, SpeechToText, LanguageModel, TextToSpeech]:
        """Every engine, in the order of a turn."""
        return (self.vad, self.end_of_turn, self.stt, self.llm, self.tts)


@dataclass(frozen=True)
class ToolPolicy:
    """How long a call waits for the client."""

    approval_timeout_s: float = 60.0
    """For a person's leave to make it."""
    client_timeout_s: float = 30.0
    """For the result, if it is the client that makes it."""


@dataclass(frozen=True)
class SessionPolicy:
    """Limits and thresholds that all sessions share."""

    turns: TurnPolicy = field(default_factory=TurnPolicy)
    eagerness: Eagerness = "medium"
    backchannels: tuple[str, ...] = ()
    reply: ReplyPolicy = field(default_factory=ReplyPolicy)
    buffer: BufferLimits = field(default_factory=BufferLimits)
    stt_timeout_s: float = 20.0
    tools: ToolPolicy = field(default_factory=ToolPolicy)


@dataclass(frozen=True)
class SessionOptions:
    """What the client chose for this session."""

    mode: Literal["push_to_talk", "live"]
    audio: AudioKind
    input_rate_hz: int
    output_rate_hz: int
    instructions: str
    voice: str | None = None
    language: str | None = None
    eagerness: Eagerness = "medium"


@dataclass(frozen=True)
class Conduct:
    """What a client decides for itself that a conversation else decides for it."""

    answers: bool = True
    """Each spoken turn is answered."""
    interrupts: bool = True
    """Who speaks over a reply ends it; else it goes on, and what they said is not answered by itself."""
    each_turn_stands: bool = False
    """Turns are told, empty ones too, and are not made one when their speaker goes on."""
    plan: Callable[[], Plan] | None = None
    """How replies to spoken turns are made, if not from the log and the options."""
    outlook: Callable[[], Plan] | None = None
    """What `plan` will give if nothing changes until the turn is over; asked while it is spoken."""
