"""How a reply is to be made: what the user said, the prompt, the voice, the tools, the limits.

Plain values that whoever asks for a reply fills in. Knows engine Protocols; nothing of how a reply is made of them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from avatar.conversation.tool_use import Caller
from avatar.core.audio import Pcm
from avatar.engines.base import Message, Sampling, TextToSpeech, Tool


@dataclass(frozen=True)
class Said:
    """What the user said in this turn; `pcm` (16 kHz) where they spoke it. Empty `text`: nobody said anything."""

    text: str = field(repr=False)
    language: str | None = None
    pcm: Pcm | None = field(default=None, repr=False)


@dataclass(frozen=True)
class ReplyPolicy:
    """Limits of a reply; the settings section `conversation` explains each."""

    first_token_timeout_s: float = 20.0
    stall_timeout_s: float = 10.0
    playout_lead_s: float = 0.8
    sampling: Sampling = field(default_factory=Sampling)
    max_tool_rounds: int = 5


@dataclass(frozen=True)
class Speaker:
    """The voice a reply is spoken in."""

    engine: TextToSpeech
    voice: str | None
    language: str | None
    rate_hz: int
    """Of the audio the client gets."""
    speed: float = 1.0
    is_silent: bool = False
    """The reply is written only."""
    is_paced: bool = True
    """Audio is sent as it is played; else as it is made, by clients that know themselves what they have played."""


@dataclass(frozen=True)
class Plan:
    """How a reply is to be made; `prompt` gets what the user said in this turn, and the tools on offer."""

    prompt: Callable[[str, Sequence[Tool]], Sequence[Message]]
    speaker: Speaker
    sampling: Sampling
    tools: Sequence[Tool] = ()
    """Those whose calls are not the reply's to make: with such a call it ends. Looked at only when the model is asked,
    after `prompt` was."""
    caller: Caller | None = None
    """What the server itself calls, while the reply goes on."""
    is_unasked: bool = False
    """It is made also if the user said nothing."""
