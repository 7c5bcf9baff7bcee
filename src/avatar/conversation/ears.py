"""A live microphone: PCM in, turn-taking actions out, and the utterance they are about.

Owns framing, voice activity, end-of-turn questions and the audio of the turn in progress. Knows nothing of replies:
what an action means is its listener's affair. All times are milliseconds of input audio, as far as it was taken, and of
the silence that was put in; `sent_ms` tells where in what the microphone sent that is.
"""

import asyncio
import logging
import math
from collections import deque
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Protocol, TypeVar

import numpy as np

from avatar.conversation.utterance import Utterance
from avatar.conversation.watch import within
from avatar.core.audio import (
    INPUT_RATE_HZ,
    Framer,
    LiveResampler,
    Pcm,
    Resampler,
    check_whole_samples,
    ms_to_samples,
    pcm16_to_float,
    samples_to_ms,
    silence,
)
from avatar.core.completeness import Completeness, completeness
from avatar.core.errors import AvatarError, BufferLimit
from avatar.core.lead_in import lead_in_frames
from avatar.core.turn_events import (
    AbandonTurn,
    Action,
    AskEnd,
    AskOverlap,
    AudioCleared,
    BeginTurn,
    CommitTurn,
    EndVerdict,
    Event,
    Frame,
    OverlapSound,
    OverlapStage,
    OverlapVerdict,
)
from avatar.core.turns import Phase, TurnPolicy, TurnTaking
from avatar.engines.base import EndOfTurn, VoiceActivity

logger = logging.getLogger(__name__)

T = TypeVar("T")

VERDICT_TIMEOUT_S = 0.5
"""End-of-turn detection that takes longer is worth nothing: by then the ceiling is near."""
FRAMES_AT_ONCE = 8
"""Frames dealt with before the event loop gets its turn: half a millisecond of voice activity."""
QUIET_FRAMES = 3
"""Frames judged together while nothing is going on. It takes most of a listening session's cost away, and puts the
first sign of speech off by 64 ms at most, and nothing else: whoever begins to speak is not about to end."""
MAX_HELD_FRAMES = 1200
"""Frames that may wait, for a verdict or for their turn: 38 s, more than one message of 1 MiB holds at 16 kHz."""

MOST_PHASES = 320
"""Of a resampler's filter: 22,050 and 44,100 Hz have as many, or half. Odd rates have up to 16,000, which takes half
a second to make: those are resampled in blocks, 21 ms late."""

ONSET_LEAD_MS = 96
"""Voice activity comes that late; an echo is told by 100 ms and more of it."""
LONGEST_ECHO_SAMPLES = 600 * INPUT_RATE_HZ // 1000
"""Of sound that is compared with the reply: enough to tell, and quick."""
STALL_S = 1.5
"""A microphone that is silent on the wire for this long in the middle of a turn is muted or cut off. Networks stall for
less, as a rule; what comes after a longer stall begins a new turn."""
MOST_SHIFTS = 64
"""Places where the microphone's time and the ears' part that are kept apart: more than one turn has."""


class OverlapJudge(Protocol):
    """Tells what a voice over the reply is."""

    def is_echo(self, pcm: Pcm) -> bool:
        """Is it the reply itself? float32[n], mono, 16 kHz; quick enough for the event loop."""
        ...

    def judge(self, words: str, *, over: bool) -> OverlapSound:
        """By its words; `over`: there will be no more of them."""
        ...


class Ears:
    """Feed it the microphone with `hear`; it calls `act` for each action, in order, from the event loop."""

    def __init__(
        self,
        vad: VoiceActivity,
        end_of_turn: EndOfTurn,
        new_utterance: Callable[[], Utterance],
        overlap: OverlapJudge,
        policy: TurnPolicy,
        rate_hz: int,
        act: Callable[[Action], None],
        began_ms: float = 0.0,
    ) -> None:
        """`began_ms`: how much the microphone had sent before."""
        self._end_of_turn = end_of_turn
        self._new_utterance = new_utterance
        self._overlap = overlap
        self._act = act
        self._turns = TurnTaking(policy)
        self._voice = vad.open()
        self._frame_samples = vad.frame_samples
        self._framer = Framer(vad.frame_samples)
        self._resampler = _resampler(rate_hz)
        self._frame_ms = samples_to_ms(vad.frame_samples, INPUT_RATE_HZ)
        preroll_ms = policy.preroll_ms + policy.min_speech_ms + policy.barge_in_ms
        self._preroll: deque[Pcm] = deque(maxlen=max(1, int(preroll_ms / self._frame_ms)))
        self._heard_frames = round(began_ms / self._frame_ms)
        self._shift_ms = began_ms - self._heard_frames * self._frame_ms
        self._shifts: deque[tuple[float, float]] = deque()
        self._is_input_rate = rate_hz == INPUT_RATE_HZ
        self._wire = bytearray()
        self._wire_frame_bytes = 2 * ms_to_samples(self._frame_ms, rate_hz)
        self._held: deque[Pcm] = deque()
        self._judged: deque[float] = deque()
        self._asking = False
        self._verdict: asyncio.Task[None] | None = None
        self._carried = silence(0)
        self._loop = asyncio.get_running_loop()
        self._last_audio_s = -math.inf
        self._stall_check: asyncio.TimerHandle | None = None
        self.utterance: Utterance | None = None

    @property
    def untouched(self) -> bool:
        """Whether nothing was heard yet."""
        return self._last_audio_s == -math.inf

    @property
    def waits(self) -> bool:
        """Whether frames are held until a verdict comes."""
        return self._asking

    def hear(self, pcm16: bytes) -> None:
        """Take the next audio (little-endian int16, mono, at this microphone's rate).

        Raises `BadAudio` on half a sample, `BufferLimit` when it floods in.
        """
        check_whole_samples(pcm16)
        self._last_audio_s = self._loop.time()
        self._wire += pcm16
        whole = len(self._wire) // self._wire_frame_bytes
        if whole < (QUIET_FRAMES if self._turns.idle else 1):
            return
        pcm = pcm16_to_float(bytes(self._wire[: whole * self._wire_frame_bytes]))
        del self._wire[: whole * self._wire_frame_bytes]
        frames = list(pcm.reshape(whole, -1) if self._is_input_rate else self._framer.push(self._resampler.push(pcm)))
        room = MAX_HELD_FRAMES - len(self._held)
        self._held.extend(frames[:room])
        if len(frames) > room:
            self._shift((len(frames) - room) * self._frame_ms)
        self._catch_up()
        if len(frames) > room:
            raise BufferLimit("Audio comes in much faster than real time. Send it as it is recorded.")

    def tell(self, event: Event) -> None:
        """What the machine must know of the reply."""
        for action in self._turns.step(event):
            self._do(action)

    def ms_since(self, at_ms: float) -> float:
        """How much audio has come in since `at_ms`: waiting for a verdict counts, as it does for the user."""
        return (self._heard_frames + len(self._held)) * self._frame_ms - at_ms

    def sent_ms(self, at_ms: float) -> float:
        """Where that is in what the microphone sent: without the silence that was put in, with what was dropped."""
        sent_ms = at_ms + self._shift_ms
        for since_ms, by_ms in self._shifts:
            if at_ms > since_ms:
                sent_ms += max(by_ms, since_ms - at_ms)
        return sent_ms

    def _shift(self, by_ms: float) -> None:
        """So much was dropped here; less than nothing: so much silence is put in."""
        self._shifts.append((self.ms_since(0), by_ms))
        if len(self._shifts) > MOST_SHIFTS:
            self._shift_ms += self._shifts.popleft()[1]

    def take(self) -> Utterance:
        """The turn is committed: its utterance now belongs to the caller, who closes it."""
        utterance, self.utterance = self.utterance, None
        return utterance or self._new_utterance()

    def carry(self, pcm: Pcm) -> Utterance | None:
        """The turn about to begin, or just begun, goes on with `pcm` (16 kHz): its speaker had not finished after all.

        Returns an utterance that was replaced, for the caller to close.
        """
        begun = self.utterance
        if begun is None:
            self._carried = pcm
            return None
        self.utterance = self._new_utterance()
        self.utterance.accept(np.concatenate([pcm, begun.pcm]))
        return begun

    def clear(self) -> Utterance | None:
        """Forget the turn in progress, but neither the time nor the reply: its utterance, for the caller to close."""
        if self._verdict is not None:
            self._verdict.cancel()
        if self._stall_check is not None:
            self._stall_check.cancel()
        self._asking = False
        self._heard_frames += len(self._held)
        self._held.clear()
        self._judged.clear()
        self._preroll.clear()
        self.tell(AudioCleared())
        utterance, self.utterance = self.utterance, None
        return utterance

    async def aclose(self) -> None:
        """Forget the microphone: no action is called after this."""
        utterance = self.clear()
        if self._verdict is not None:
            await asyncio.wait([self._verdict])
        if utterance is not None:
            await utterance.aclose()

    def _catch_up(self) -> None:
        """Judge what is held, unless a verdict comes first; leave the loop to others now and then."""
        for _ in range(FRAMES_AT_ONCE):
            if self._asking or not self._judge():
                return
            self._frame(self._held.popleft(), self._judged.popleft())
        self._loop.call_soon(self._catch_up)

    def _judge(self) -> bool:
        """Whether the next frame is judged now; one that may wait for company while nobody speaks is not."""
        if not self._judged and len(self._held) >= (QUIET_FRAMES if self._turns.idle else 1):
            together = [self._held[index] for index in range(min(len(self._held), QUIET_FRAMES))]
            self._judged.extend(
                self._voice.probabilities(together[0] if len(together) == 1 else np.concatenate(together))
            )
        return bool(self._judged)

    def _frame(self, frame: Pcm, probability: float) -> None:
        start_ms = self._heard_frames * self._frame_ms
        self._heard_frames += 1
        if self.utterance is None:
            self._preroll.append(frame)
        else:
            self.utterance.accept(frame)
        was_paused = self._turns.phase is Phase.PAUSED
        lead_ms = self._lead_ms() if self._turns.may_begin_overlap(probability) else 0.0
        self.tell(Frame(start_ms, start_ms + self._frame_ms, probability, lead_ms))
        if self._turns.phase is Phase.SPEAKING and self.utterance is not None:
            if was_paused:
                self.utterance.goes_on()
            self.utterance.draft(may_be_all=self._turns.silent_ms > 0)

    def _do(self, action: Action) -> None:
        match action:
            case AskEnd():
                self._ask(self._end_verdict)
            case AskOverlap(OverlapStage.SOUND):
                echo = self._overlap.is_echo(self._since_onset())
                self.tell(OverlapVerdict(OverlapSound.ECHO if echo else OverlapSound.UNKNOWN))
            case AskOverlap(stage):
                self._ask(partial(self._overlap_verdict, over=stage is OverlapStage.OVER))
            case BeginTurn(at_ms):
                self._begin(at_ms)
                self._act(action)
            case _:
                self._act(action)
                if isinstance(action, CommitTurn | AbandonTurn):
                    self._preroll.clear()

    def _begin(self, at_ms: float) -> None:
        self.utterance = self._new_utterance()
        self.utterance.accept(self._carried)
        self._carried = silence(0)
        buffered = np.concatenate([silence(0), *self._preroll])
        since_ms = self._heard_frames * self._frame_ms - at_ms + self._turns.policy.preroll_ms
        self.utterance.accept(buffered[-ms_to_samples(since_ms, INPUT_RATE_HZ) :])
        self._preroll.clear()
        self._watch_for_stall(STALL_S)

    def _watch_for_stall(self, wait_s: float) -> None:
        if self._stall_check is not None:
            self._stall_check.cancel()
        self._stall_check = self._loop.call_later(wait_s, self._check_stall)

    def _check_stall(self) -> None:
        """No turn waits for a microphone that sends nothing: its silence is put in for it."""
        if self.utterance is None:
            return
        left_s = self._last_audio_s + STALL_S - self._loop.time()
        if left_s <= 0:
            frames = int(self._turns.ceiling_ms / self._frame_ms) + 1
            self._shift(-frames * self._frame_ms)
            self._held.extend([silence(self._frame_samples)] * frames)
            self._catch_up()
        self._watch_for_stall(left_s if left_s > 0 else STALL_S)

    def _lead_ms(self) -> float:
        """Of sound right before the newest frame."""
        return lead_in_frames(list(self._preroll)[:-1]) * self._frame_ms

    def _since_onset(self) -> Pcm:
        """What may be an echo, from a little before voice activity noticed it."""
        frames = int((self._heard_frames * self._frame_ms - self._turns.onset_ms + ONSET_LEAD_MS) / self._frame_ms)
        return np.concatenate([silence(0), *list(self._preroll)[-frames:]])

    def _ask(self, verdict: Callable[[], Awaitable[Event]]) -> None:
        """Frames that come meanwhile are held, so that the answer falls at the same place in any run."""

        async def ask() -> None:
            answer = await verdict()
            self._asking = False
            self.tell(answer)
            self._catch_up()

        self._asking = True
        self._verdict = asyncio.create_task(ask(), name="verdict")

    async def _end_verdict(self) -> EndVerdict:
        assert self.utterance is not None
        sound = self._in_time(partial(self._end_of_turn.probability, self.utterance.pcm), "end-of-turn detection")
        words = self._in_time(self.utterance.last_words, "speech recognition")
        probability, said = await asyncio.gather(sound, words)
        return EndVerdict(probability, completeness(said.text, said.language) if said else Completeness.UNKNOWN)

    async def _overlap_verdict(self, *, over: bool) -> OverlapVerdict:
        assert self.utterance is not None
        pcm = self.utterance.pcm
        if self._overlap.is_echo(pcm[-LONGEST_ECHO_SAMPLES:]):
            return OverlapVerdict(OverlapSound.ECHO)

        async def listen() -> str:
            return (await utterance.listen()).text

        utterance = self.utterance
        words = await self._in_time(listen, "speech recognition")
        return OverlapVerdict(OverlapSound.UNKNOWN if words is None else self._overlap.judge(words, over=over))

    async def _in_time(self, answer: Callable[[], Awaitable[T]], what: str) -> T | None:
        """None when it comes too late, or not at all: the machine goes by what it knows."""
        try:
            return await within(VERDICT_TIMEOUT_S, answer(), what)
        except AvatarError as error:
            logger.warning("%s gave no answer in time (%s)", what, type(error).__name__)
            return None


def _resampler(rate_hz: int) -> LiveResampler | Resampler:
    """To what the engines take, as late as need be: an answer waits for what it holds back."""
    is_small_ratio = INPUT_RATE_HZ // math.gcd(rate_hz, INPUT_RATE_HZ) <= MOST_PHASES
    return LiveResampler(rate_hz, INPUT_RATE_HZ) if is_small_ratio else Resampler(rate_hz, INPUT_RATE_HZ)
