"""The turn-taking machine: when a turn begins, may be over, is over, and when a reply is interrupted.

Pure: `step(event)` changes the state and returns actions; the caller does them. Time is milliseconds of input audio,
so the same audio gives the same turns however it was chunked and however fast it came. It knows no engine, clock or
socket. The table of states is in docs/TURN_TAKING.md.
"""

from dataclasses import dataclass
from enum import Enum

from avatar.core.habits import PauseHabit


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
    barge_in_ms: float = 160
    max_turn_ms: float = 60_000


# Once speech has begun, voice activity may dip this far below the threshold before it counts as silence
# (Silero's own `neg_threshold` default).
HYSTERESIS = 0.15
# A gap this short inside the first syllables does not start the count anew: plosives hold one or two frames of silence.
ONSET_GAP_MS = 64
# After a pause, voice must last this long to count as going on: one frame of 32 ms may be a click or a breath.
RESUME_MS = 64
# Who speaks over a reply so soon after their own last sound had not finished: the turn was ended too early.
REGRET_MS = 2000.0

# --- events -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Frame:
    """One frame of voice activity: speech `probability` from `start_ms` to `end_ms`."""

    start_ms: float
    end_ms: float
    probability: float


@dataclass(frozen=True)
class EndVerdict:
    """Answer to `AskEnd`: how likely the turn is over. None: the detector could not say in time."""

    probability: float | None


@dataclass(frozen=True)
class AudioCleared:
    """What was said of the present turn is to be forgotten."""


@dataclass(frozen=True)
class ReplyBegan:
    """A committed reply is live; speech is now a barge-in."""


@dataclass(frozen=True)
class ReplyEnded:
    """No reply is live."""


Event = Frame | EndVerdict | AudioCleared | ReplyBegan | ReplyEnded

# --- actions ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class BeginTurn:
    """Speech began at `at_ms`: collect audio from a little before it."""

    at_ms: float


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


Action = BeginTurn | InterruptReply | PrepareReply | DropReply | AskEnd | CommitTurn


class Phase(Enum):
    """Where the user is."""

    QUIET = "quiet"
    ONSET = "onset"
    SPEAKING = "speaking"
    PAUSED = "paused"


class TurnTaking:
    """One microphone's turns."""

    def __init__(self, policy: TurnPolicy) -> None:
        self.policy = policy
        self.phase = Phase.QUIET
        self._habit = PauseHabit(policy.ceiling_ms, policy.ceiling_least_ms, policy.ceiling_most_ms)
        self._reply_live = False
        self._turn_ended_ms = -REGRET_MS
        self._now_ms = 0.0
        self._forget()

    def _forget(self) -> None:
        self.phase = Phase.QUIET
        self._start_ms = 0.0
        self._voiced_ms = 0.0
        self._last_voice_ms = 0.0
        self._tries = 0
        self._prepared = False
        self._asked = False

    @property
    def ceiling_ms(self) -> float:
        """Silence that ends the turn in any case, as this speaker's pauses have it by now."""
        return self._habit.ceiling_ms

    @property
    def idle(self) -> bool:
        """Whether nobody speaks, neither the user nor a reply."""
        return self.phase is Phase.QUIET and not self._reply_live

    def step(self, event: Event) -> list[Action]:
        """Take one event; return what to do about it, in order."""
        match event:
            case Frame():
                return self._frame(event)
            case EndVerdict(probability):
                over = probability is not None and probability >= self.policy.end_threshold
                return self._commit(self._now_ms) if over and self.phase is Phase.PAUSED else []
            case AudioCleared():
                self._forget()
            case ReplyBegan():
                self._reply_live = True
            case ReplyEnded():
                self._reply_live = False
        return []

    def _frame(self, frame: Frame) -> list[Action]:
        self._now_ms = frame.end_ms
        match self.phase:
            case Phase.QUIET:
                return self._quiet(frame)
            case Phase.ONSET:
                return self._onset(frame)
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
        return self._onset(frame)

    def _onset(self, frame: Frame) -> list[Action]:
        if frame.probability >= self.policy.speech_threshold:
            self._voiced_ms += frame.end_ms - frame.start_ms
            self._last_voice_ms = frame.end_ms
        elif frame.end_ms - self._last_voice_ms > ONSET_GAP_MS:
            self.phase = Phase.QUIET
            return []
        needed_ms = self.policy.barge_in_ms if self._reply_live else self.policy.min_speech_ms
        if self._voiced_ms < needed_ms:
            return []
        self.phase = Phase.SPEAKING
        pause_ms = self._start_ms - self._turn_ended_ms
        if self._reply_live and pause_ms < REGRET_MS:
            self._habit.went_on_after(pause_ms)
        began: list[Action] = [BeginTurn(self._start_ms)]
        return [InterruptReply(), *began] if self._reply_live else began

    def _speaking(self, frame: Frame) -> list[Action]:
        if frame.probability >= self.policy.speech_threshold - HYSTERESIS:
            self._last_voice_ms = frame.end_ms
        if frame.end_ms - self._start_ms >= self.policy.max_turn_ms:
            return self._commit(frame.end_ms)
        if frame.end_ms - self._last_voice_ms < self.policy.eager_ms:
            return []
        self.phase = Phase.PAUSED
        self._voiced_ms = 0.0
        self._asked = False
        if self._tries >= self.policy.eager_tries:
            return []
        self._tries += 1
        self._prepared = True
        return [PrepareReply()]

    def _paused(self, frame: Frame) -> list[Action]:
        if frame.probability >= self.policy.speech_threshold:
            self._voiced_ms += frame.end_ms - frame.start_ms
            if self._voiced_ms >= RESUME_MS:
                return self._resume(frame)
        else:
            self._voiced_ms = 0.0
        silence_ms = frame.end_ms - self._last_voice_ms
        if silence_ms >= self._habit.ceiling_ms:
            return self._commit(frame.end_ms)
        if silence_ms >= self.policy.silence_ms and not self._asked:
            self._asked = True
            return [AskEnd()]
        return []

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
