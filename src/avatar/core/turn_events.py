"""What turn-taking is told and what it decides: the events and actions of `core/turns.py`.

Plain data. Times are milliseconds of input audio.
"""

from dataclasses import dataclass
from enum import Enum

from avatar.core.completeness import Completeness

# --- voice over a reply ---------------------------------------------------------------------------


class OverlapStage(Enum):
    """How much there is to judge voice over a reply by."""

    SOUND = "its first syllable"
    WORDS = "a word or two, and it goes on"
    OVER = "all of it"


class OverlapSound(Enum):
    """What voice over a reply may be."""

    SPEECH = "the user takes the turn"
    BACKCHANNEL = "the user listens"
    ECHO = "the reply itself, through the room"
    NOISE = "nothing that was said"
    UNKNOWN = "one cannot tell yet"


# --- events -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Frame:
    """One frame of voice activity: speech `probability` from `start_ms` to `end_ms`. `lead_ms`: sound that leads into
    it, and is no voice by itself (told only where `TurnTaking.may_begin_overlap`)."""

    start_ms: float
    end_ms: float
    probability: float
    lead_ms: float = 0.0


@dataclass(frozen=True)
class EndVerdict:
    """Answer to `AskEnd`: how likely the turn is over by its sound (None: the detector could not say in time), and what
    its words say."""

    probability: float | None
    words: Completeness = Completeness.UNKNOWN


@dataclass(frozen=True)
class OverlapVerdict:
    """Answer to `AskOverlap`: what the voice over the reply is, as far as one can tell."""

    sound: OverlapSound


@dataclass(frozen=True)
class AudioCleared:
    """What was said of the present turn is to be forgotten."""


@dataclass(frozen=True)
class ReplyBegan:
    """A committed reply is live; speech is now a barge-in."""


@dataclass(frozen=True)
class ReplyHeard:
    """The client has begun to play the live reply."""


@dataclass(frozen=True)
class ReplyEnded:
    """No reply is live."""


Event = Frame | EndVerdict | OverlapVerdict | AudioCleared | ReplyBegan | ReplyHeard | ReplyEnded

# --- actions ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class BeginTurn:
    """Speech began at `at_ms`: collect audio from a little before it."""

    at_ms: float


@dataclass(frozen=True)
class LowerReply:
    """There is voice over the live reply: play it lower until more is known."""


@dataclass(frozen=True)
class HoldReply:
    """The user seems to speak over the live reply: stop playing, but keep what there is to play."""


@dataclass(frozen=True)
class ResumeReply:
    """It was nothing: go on with the reply where it was, as loud as before."""


@dataclass(frozen=True)
class AbandonTurn:
    """What was heard since `BeginTurn` is no turn; its last sound was at `speech_end_ms`."""

    speech_end_ms: float


@dataclass(frozen=True)
class AskOverlap:
    """Ask what the voice over the reply is; answer with `OverlapVerdict` before the next `Frame`."""

    stage: OverlapStage


@dataclass(frozen=True)
class InterruptReply:
    """The user speaks over the live reply: stop it."""


@dataclass(frozen=True)
class PrepareReply:
    """A pause: make a reply from what was said so far, and hold it."""


@dataclass(frozen=True)
class DropReply:
    """The user goes on: the prepared reply is worthless."""


@dataclass(frozen=True)
class AskEnd:
    """Ask end-of-turn detection; answer with `EndVerdict` before the next `Frame`."""


@dataclass(frozen=True)
class CommitTurn:
    """The turn is over: its speech ended at `speech_end_ms`, and this was decided at `at_ms`."""

    speech_end_ms: float
    at_ms: float


Action = (
    BeginTurn
    | AbandonTurn
    | LowerReply
    | HoldReply
    | ResumeReply
    | AskOverlap
    | InterruptReply
    | PrepareReply
    | DropReply
    | AskEnd
    | CommitTurn
)
