"""The turn-taking machine: when a turn begins, may be over, is over, and when a reply is interrupted.

Pure: `step(event)` changes the state and returns actions; the caller does them. Time is milliseconds of input audio,
so the same audio gives the same turns however it was chunked and however fast it came. It knows no engine, clock or
socket. The table of states is in docs/TURN_TAKING.md.
"""

import math
from dataclasses import dataclass, replace
from enum import Enum
from typing import Literal

from avatar.core.completeness import Completeness
from avatar.core.habits import PauseHabit
from avatar.core.turn_events import (
    AbandonTurn,
    Action,
    AskEnd,
    AskOverlap,
    AudioCleared,
    BeginTurn,
    CommitTurn,
    DropReply,
    EndVerdict,
    Event,
    Frame,
    HoldReply,
    InterruptReply,
    LowerReply,
    OverlapSound,
    OverlapStage,
    OverlapVerdict,
    PrepareReply,
    ReplyBegan,
    ReplyEnded,
    ReplyHeard,
    ResumeReply,
)

Eagerness = Literal["low", "medium", "high"]
# How many times as long to wait, and how much less (below 1) or more (above 1) to believe that a turn is over.
_EAGERNESS: dict[Eagerness, tuple[float, float]] = {"low": (1.7, 0.6), "medium": (1.0, 1.0), "high": (0.7, 1.5)}
# Shorter silence is no pause: stop consonants are as long.
LEAST_SILENCE_MS = 192


@dataclass(frozen=True)
class TurnPolicy:
    """Thresholds; the settings section `turn_taking` explains each."""

    speech_threshold: float = 0.5
    min_speech_ms: float = 96
    eager_ms: float = 96
    eager_tries: int = 3
    silence_ms: float = 224
    ceiling_ms: float = 1200
    ceiling_least_ms: float = 800
    ceiling_most_ms: float = 3000
    end_threshold: float = 0.5
    barge_in_ms: float = 96
    barge_in_sure_ms: float = 640
    holds_replies: bool = True
    """False for clients that cannot hold what they are playing: a barge-in stops the reply at once."""
    max_turn_ms: float = 60_000
    preroll_ms: float = 300
    """Audio kept from before the first voiced frame: voice activity notices soft consonants late."""

    def after_silence(self, silence_ms: float, threshold: float, preroll_ms: float) -> "TurnPolicy":
        """The same, but a silence of that length ends a turn, whatever was said."""
        return replace(
            self,
            speech_threshold=threshold,
            preroll_ms=preroll_ms,
            silence_ms=math.inf,
            ceiling_ms=silence_ms,
            ceiling_least_ms=silence_ms,
            ceiling_most_ms=silence_ms,
        )

    def with_eagerness(self, eagerness: Eagerness) -> "TurnPolicy":
        """The same, for people who want to be answered sooner (high) or who think while they speak (low)."""
        waits, doubt = _EAGERNESS[eagerness]
        return replace(
            self,
            silence_ms=max(LEAST_SILENCE_MS, self.silence_ms * waits),
            end_threshold=1 - (1 - self.end_threshold) * doubt if doubt < 1 else self.end_threshold / doubt,
            ceiling_ms=self.ceiling_ms * waits,
            ceiling_least_ms=self.ceiling_least_ms * waits,
            ceiling_most_ms=self.ceiling_most_ms * waits,
        )


# Once speech has begun, voice activity may dip this far below the threshold before it counts as silence
# (Silero's own `neg_threshold` default).
HYSTERESIS = 0.15
# A gap this short inside the first syllables does not start the count anew: plosives hold one or two frames of silence.
ONSET_GAP_MS = 64
# The end is asked about so long before `silence_ms`: by then the answer is there (Smart Turn takes 35 ms, the words are
# known already), and a stop consonant that it took for an end is over. An end it did not see is asked about once more.
ASK_AHEAD_MS = 64
# After a pause, voice must last this long to count as going on: one frame of 32 ms may be a click or a breath.
RESUME_MS = 64
# Voice over a reply lowers it after two frames: one may be a click.
LOWER_MS = 64
# Part of the ceiling that is waited when only the words, or only the sound, say that the turn is over. On the corpus of
# benchmarks/endpointing.py: 2.5 % of turns cut off; with one witness enough, 30 %.
WAIT_BY_WORDS = 0.4
WAIT_BY_SOUND = 0.8
# So much voice over a reply holds a word or two: worth asking what they are.
WORDS_MS = 352
# A silence this long ends a backchannel; "uh-huh" has a gap of its own.
OVERLAP_PAUSE_MS = 160
# Once our own voice was heard in the microphone, the reply is not lowered at every syllable of it.
ECHO_MS = 1500.0
# Who speaks over a reply so soon after their own last sound had not finished: the turn was ended too early.
REGRET_MS = 2000.0


class Phase(Enum):
    """Where the user is."""

    QUIET = "quiet"
    ONSET = "onset"
    OVERLAP = "overlap"
    SPEAKING = "speaking"
    PAUSED = "paused"


class TurnTaking:
    """One microphone's turns."""

    def __init__(self, policy: TurnPolicy) -> None:
        self.policy = policy
        self.phase = Phase.QUIET
        self._habit = PauseHabit(policy.ceiling_ms, policy.ceiling_least_ms, policy.ceiling_most_ms)
        self._reply_live = self._reply_heard = False
        self._echo_at_ms = -ECHO_MS
        self._turn_ended_ms = -REGRET_MS
        self._now_ms = 0.0
        self._forget()

    def _forget(self) -> None:
        self.phase = Phase.QUIET
        self._start_ms = 0.0
        self._voiced_ms = self._lead_ms = 0.0
        self._last_voice_ms = 0.0
        self._tries = 0
        self._prepared = False
        self._asked = False
        self._ask_at_ms = self._enough_ms = math.inf
        self._lowered = False

    @property
    def ceiling_ms(self) -> float:
        """Silence that ends the turn in any case, as this speaker's pauses have it by now."""
        return self._habit.ceiling_ms

    @property
    def onset_ms(self) -> float:
        """Where the voice that is being judged began."""
        return self._start_ms

    @property
    def silent_ms(self) -> float:
        """For how long the user has been silent."""
        return self._now_ms - self._last_voice_ms

    @property
    def idle(self) -> bool:
        """Whether nobody speaks, neither the user nor a reply."""
        return self.phase is Phase.QUIET and not self._reply_live

    def may_begin_overlap(self, probability: float) -> bool:
        """Whether a next frame of that `probability` is the first of a voice over a reply that is being heard, and may
        be the user's."""
        is_first = self.phase is Phase.QUIET and probability >= self.policy.speech_threshold
        return is_first and self._holds and not self._echoes

    @property
    def _holds(self) -> bool:
        """A voice over the reply holds it until it is known what it is."""
        return self._reply_heard and self.policy.holds_replies

    @property
    def _echoes(self) -> bool:
        """Our own voice was heard in the microphone not long ago."""
        return self._now_ms - self._echo_at_ms < ECHO_MS

    def step(self, event: Event) -> list[Action]:
        """Take one event; return what to do about it, in order."""
        match event:
            case Frame():
                return self._frame(event)
            case EndVerdict(probability, words):
                return self._end_verdict(probability, words)
            case OverlapVerdict(sound):
                return self._judged(sound)
            case AudioCleared():
                return self._raised()
            case ReplyBegan():
                self._reply_live, self._reply_heard = True, False
            case ReplyHeard():
                self._reply_heard = self._reply_live
            case ReplyEnded():
                self._reply_live = self._reply_heard = self._lowered = False
                if self.phase is Phase.OVERLAP:
                    self.phase = Phase.SPEAKING
        return []

    def _frame(self, frame: Frame) -> list[Action]:
        self._now_ms = frame.end_ms
        match self.phase:
            case Phase.QUIET:
                return self._quiet(frame)
            case Phase.ONSET:
                return self._onset(frame)
            case Phase.OVERLAP:
                return self._overlap(frame)
            case Phase.SPEAKING:
                return self._speaking(frame)
            case Phase.PAUSED:
                return self._paused(frame)

    def _quiet(self, frame: Frame) -> list[Action]:
        if frame.probability < self.policy.speech_threshold:
            return []
        self.phase = Phase.ONSET
        self._start_ms = frame.start_ms
        self._voiced_ms = 0.0
        self._lead_ms = frame.lead_ms
        return self._onset(frame)

    def _onset(self, frame: Frame) -> list[Action]:
        if frame.probability >= self.policy.speech_threshold:
            self._voiced_ms += frame.end_ms - frame.start_ms
            self._last_voice_ms = frame.end_ms
        elif frame.end_ms - self._last_voice_ms > ONSET_GAP_MS:
            return self._raised()
        sound_ms = self._voiced_ms + self._lead_ms
        if sound_ms < (self.policy.barge_in_ms if self._reply_live else self.policy.min_speech_ms):
            return self._lower(sound_ms)
        if self._holds:
            return [AskOverlap(OverlapStage.SOUND)]
        self.phase = Phase.SPEAKING
        began: list[Action] = [BeginTurn(self._start_ms)]
        return [*self._interrupt(), *began] if self._reply_live else began

    # --- voice over a reply that is being heard ---

    def _lower(self, sound_ms: float) -> list[Action]:
        if not self._holds or self._lowered or self._echoes or sound_ms < LOWER_MS:
            return []
        self._lowered = True
        return [LowerReply()]

    def _raised(self) -> list[Action]:
        """Forget what was said; a reply that was touched goes on."""
        touched = self._lowered or self.phase is Phase.OVERLAP
        self._forget()
        return [ResumeReply()] if touched and self._reply_live else []

    def _overlap(self, frame: Frame) -> list[Action]:
        if frame.probability >= self.policy.speech_threshold - HYSTERESIS:
            self._voiced_ms += frame.end_ms - frame.start_ms
            self._last_voice_ms = frame.end_ms
        if self._voiced_ms >= self.policy.barge_in_sure_ms:
            return self._judged(OverlapSound.SPEECH)
        if frame.end_ms - self._last_voice_ms >= OVERLAP_PAUSE_MS:
            return [AskOverlap(OverlapStage.OVER)]
        if self._voiced_ms >= WORDS_MS and not self._asked:
            self._asked = True
            return [AskOverlap(OverlapStage.WORDS)]
        return []

    def _judged(self, sound: OverlapSound) -> list[Action]:
        if sound is OverlapSound.ECHO:
            self._echo_at_ms = self._now_ms
        if sound is OverlapSound.UNKNOWN and self._now_ms - self._last_voice_ms >= OVERLAP_PAUSE_MS:
            sound = OverlapSound.SPEECH  # nothing more will come to tell by: rather listen than talk on
        match self.phase, sound:
            case (Phase.ONSET, OverlapSound.ECHO):
                return self._raised()
            case (Phase.ONSET, _):
                self.phase = Phase.OVERLAP
                return [HoldReply(), BeginTurn(self._start_ms)]
            case (Phase.OVERLAP, OverlapSound.SPEECH):
                self.phase = Phase.SPEAKING
                return [*self._interrupt(), *self._pause(self._now_ms)]
            case (Phase.OVERLAP, OverlapSound.BACKCHANNEL | OverlapSound.ECHO | OverlapSound.NOISE):
                return [AbandonTurn(self._last_voice_ms), *self._raised()]
            case _:  # it goes on, or it is too late to tell
                return []

    def _interrupt(self) -> list[Action]:
        pause_ms = self._start_ms - self._turn_ended_ms
        if pause_ms < REGRET_MS:
            self._habit.went_on_after(pause_ms)
        return [InterruptReply()]

    # --- a turn ---

    def _speaking(self, frame: Frame) -> list[Action]:
        if frame.probability >= self.policy.speech_threshold - HYSTERESIS:
            self._last_voice_ms = frame.end_ms
        if frame.end_ms - self._start_ms >= self.policy.max_turn_ms:
            return self._commit(frame.end_ms)
        return self._pause(frame.end_ms)

    def _pause(self, now_ms: float) -> list[Action]:
        """The turn may be over, if it has been silent for long enough to think of it."""
        if now_ms - self._last_voice_ms < self.policy.eager_ms:
            return []
        self.phase = Phase.PAUSED
        self._voiced_ms = 0.0
        self._ask_at_ms = self.policy.silence_ms - ASK_AHEAD_MS
        self._enough_ms = self._habit.ceiling_ms
        if self._tries >= self.policy.eager_tries:
            return []
        self._tries += 1
        self._prepared = True
        return [PrepareReply()]

    def _paused(self, frame: Frame) -> list[Action]:
        if frame.probability >= self.policy.speech_threshold:
            self._voiced_ms += frame.end_ms - frame.start_ms
            return self._resume(frame) if self._voiced_ms >= RESUME_MS else []
        self._voiced_ms = 0.0
        silence_ms = frame.end_ms - self._last_voice_ms
        if silence_ms >= self._enough_ms:
            return self._commit(frame.end_ms)
        if silence_ms >= self._ask_at_ms:
            self._ask_at_ms = self.policy.silence_ms if self._ask_at_ms < self.policy.silence_ms else math.inf
            return [AskEnd()]
        return []

    def _end_verdict(self, probability: float | None, words: Completeness) -> list[Action]:
        """Two witnesses: if both say that the turn is over it is soon; if one does, it gets part of the ceiling."""
        if self.phase is not Phase.PAUSED:
            return []
        over = probability is not None and probability >= self.policy.end_threshold
        part = 1.0
        if over and words in (Completeness.FINISHED, Completeness.UNKNOWN):
            part = 0.0
        elif words is Completeness.FINISHED:
            part = WAIT_BY_WORDS
        elif over and words is Completeness.UNCLEAR:
            part = WAIT_BY_SOUND
        self._enough_ms = max(self.policy.silence_ms, part * self._habit.ceiling_ms)
        return self._commit(self._now_ms) if self._now_ms - self._last_voice_ms >= self._enough_ms else []

    def _resume(self, frame: Frame) -> list[Action]:
        self.phase = Phase.SPEAKING
        self._habit.went_on_after(frame.end_ms - self._last_voice_ms)
        self._last_voice_ms = frame.end_ms
        dropped: list[Action] = [DropReply()] if self._prepared else []
        self._prepared = False
        return dropped

    def _commit(self, at_ms: float) -> list[Action]:
        commit = CommitTurn(self._last_voice_ms, at_ms)
        self._habit.ended()
        self._turn_ended_ms = self._last_voice_ms
        self._forget()
        return [commit]
