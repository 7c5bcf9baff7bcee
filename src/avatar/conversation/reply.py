"""One reply: prepared in one cancellable task, held until its turn is committed, played, and cut when interrupted.

    listen -> thought (language model, tools) -> clauses -> speech -> playout

It knows engine Protocols, the outbox and nothing of how its turn was found or where its outcome goes. Nothing of a
reply that is never committed reaches the client.
"""

import asyncio
import logging
import math
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, field

import numpy as np

from avatar.conversation.outbox import Outbox
from avatar.conversation.plan import Plan, ReplyPolicy, Said
from avatar.conversation.playout import Playout
from avatar.conversation.precedence import Precedence
from avatar.conversation.thought import Thought
from avatar.conversation.watch import Watchdog
from avatar.core.audio import Pcm, Resampler, samples_to_ms, silence
from avatar.core.echo import EchoReference
from avatar.core.errors import AvatarError, EngineFailed, describe
from avatar.core.events import (
    ReplyHeld,
    ReplyLowered,
    ReplyResumed,
    ReplyStatus,
    SessionEvent,
    TranscriptReady,
)
from avatar.core.heard import HeardText
from avatar.core.history import CalledTool
from avatar.core.trace import TurnMetrics, TurnTrace, Waste
from avatar.engines.base import LanguageModel
from avatar.media.tempo import Tempo

logger = logging.getLogger(__name__)

ANSWER_S = 2.0
"""Who says "yes" so shortly before a question ends answers it."""


class Spoken:
    """How a reply sounds, for those who must know later what was heard of it."""

    def __init__(self, heard: HeardText, playout: Playout) -> None:
        self._heard = heard
        self._playout = playout

    @property
    def duration_ms(self) -> float:
        """Of what was sent so far."""
        return samples_to_ms(self._playout.sent_samples, self._playout.rate_hz)

    def text_until(self, ms: float) -> str:
        """What had been said by then, word by word."""
        return self._heard.until_ms(ms, self._playout.rate_hz)


@dataclass(frozen=True)
class Outcome:
    """How a reply ended."""

    status: ReplyStatus
    said: Said
    generated_text: str = field(repr=False)
    heard_text: str = field(repr=False)
    pcm: Pcm = field(repr=False)
    """What was heard of it, at the client's rate."""
    error: AvatarError | None = None
    calls: tuple[CalledTool, ...] = ()
    """What the server called for it."""


class Reply:
    """Start it, then `commit` or `drop` it; a committed one ends by itself or by `interrupt`."""

    def __init__(
        self,
        turn_id: str,
        listen: Callable[[], Awaitable[Said]],
        plan: Plan,
        llm: LanguageModel,
        policy: ReplyPolicy,
        outbox: Outbox,
        precedence: Precedence,
    ) -> None:
        self.turn_id = turn_id
        self.said = Said("")
        self.superseded = False
        """Whether the turn goes on as another, which stands for both."""
        self._listen = listen
        self._plan = plan
        self._speaker = speaker = plan.speaker
        self._policy = policy
        self._outbox = outbox
        self._now = asyncio.get_running_loop().time
        self._committed = asyncio.Event()
        self._trace = TurnTrace()
        self._waste = Waste()
        self._began_at_s = self._now()
        self._over_at_s = math.inf
        self.voice_ended_at_s = 0.0
        self._held: list[SessionEvent] = []
        self._heard = HeardText()
        lead_s = policy.playout_lead_s if speaker.is_paced else math.inf
        self._playout = Playout(outbox, turn_id, speaker.rate_hz, lead_s)
        self._thought = Thought(turn_id, plan, llm, policy, precedence, self._heard, self._trace, self._emit)
        self._pcm: list[Pcm] = []
        self._ended: Outcome | None = None
        self._parts: list[asyncio.Task[None]] = []
        self._task = asyncio.create_task(self._run(), name=f"reply {turn_id}")

    # --- what the session does to it ------------------------------------------------------------

    def commit(self, voice_ended_at_s: float, endpoint_ms: float | None, waste: Waste) -> None:
        """The turn is over: let out what is ready. `voice_ended_at_s` (loop clock) starts voice-to-voice latency."""
        self.voice_ended_at_s = voice_ended_at_s
        self._waste = waste
        if endpoint_ms is not None:
            self._trace.note("endpoint", voice_ended_at_s, voice_ended_at_s + endpoint_ms / 1000)
        self._committed.set()
        for event in self._held:
            self._outbox.put(event)
        self._held.clear()

    @property
    def committed(self) -> bool:
        """Whether its turn is over."""
        return self._committed.is_set()

    @property
    def metrics(self) -> TurnMetrics:
        """Where its time went; of use once it is committed."""
        return self._trace.metrics(self.voice_ended_at_s, self._waste, self._playout.underruns)

    @property
    def work_ms(self) -> float:
        """For how long its engines have been at work; being held until the turn is over is not work."""
        silent_s = math.inf if "first_clause" in self._trace else 0.0
        voiced_at_s = self._trace.end_s("tts_first_audio") or silent_s
        until_s = min(max(self._thought.rests_since_s, voiced_at_s), self._over_at_s, self._now())
        return (until_s - self._began_at_s) * 1000

    @property
    def tokens(self) -> int:
        """Of its text, so far."""
        return self._thought.tokens

    @property
    def is_cut_short(self) -> bool:
        """The model wrote as much as it may, and would have gone on."""
        return self._thought.is_cut_short

    @property
    def audible(self) -> bool:
        """Whether the client has got some of its sound."""
        return "wire" in self._trace

    def report_sent(self) -> None:
        """The socket has taken some of its audio."""
        self._trace.follow("wire", "queue", self._now())

    def lower(self) -> None:
        """There is a voice over it."""
        self._outbox.put(ReplyLowered(self.turn_id))

    def hold(self) -> None:
        """Not a sample more until `resume` or the end; what is being made goes on being made."""
        self._playout.hold()
        self._outbox.put(ReplyHeld(self.turn_id))

    def resume(self) -> None:
        """As before `lower` and `hold`."""
        self._playout.resume()
        self._outbox.put(ReplyResumed(self.turn_id))

    def echo_reference(self) -> EchoReference:
        """The last seconds of what was sent: what may come back through the room."""
        return self._playout.echo_reference()

    @property
    def is_unasked(self) -> bool:
        """Whether it is made also if nothing was said."""
        return self._plan.is_unasked

    @property
    def rate_hz(self) -> int:
        """Of its audio."""
        return self._playout.rate_hz

    @property
    def spoken(self) -> Spoken:
        """How it sounds; outlives it."""
        return Spoken(self._heard, self._playout)

    @property
    def text(self) -> str:
        """What there is of it so far."""
        return self._heard.text

    @property
    def awaits_answer(self) -> bool:
        """Whether it is as good as over, and ends with a question."""
        over = self._thought.rests_since_s < math.inf and self._playout.left_s < ANSWER_S
        return over and self._heard.text.rstrip().endswith(("?", "？"))

    def report_played(self, played_ms: float) -> None:
        """The client's word on how much of it was played."""
        self._playout.report(played_ms)

    def interrupt(self) -> Outcome:
        """Stop now: no further sample is sent, the work underneath is cancelled. What had ended stays as it ended."""
        if self._ended is None and self._task.done():
            self._ended = self._conclude()
        elif self._ended is None:
            self._ended = self._outcome("interrupted", self._playout.stop())
            for task in (*self._thought.tool_use.running, *self._parts, self._task):  # each: none gets a step more
                task.cancel()
        return self._ended

    async def drop(self) -> None:
        """It was for nothing: stop, and wait until the engines have let go."""
        self._task.cancel()
        await asyncio.wait([self._task])
        self._failure()  # whatever it was, nobody was waiting for this reply

    async def outcome(self) -> Outcome:
        """Wait until it has ended. Cancelling this cancels the reply."""
        try:
            await asyncio.wait([self._task])
        except asyncio.CancelledError:
            await self.drop()
            raise
        if self._ended is None:
            self._ended = self._conclude()
        self._failure()  # of engines that were being stopped: seen, and of no interest
        return self._ended

    def _conclude(self) -> Outcome:
        """How it ended by itself."""
        if self._task.cancelled():
            return self._outcome("interrupted", self._playout.stop())
        error = self._failure()
        if error is None:
            return self._outcome("completed", self._playout.sent_samples)
        if not isinstance(error, AvatarError):
            logger.error("turn %s failed", self.turn_id, exc_info=error)
            error = EngineFailed(describe(error).message)
        return self._outcome("failed", self._playout.stop(), error)

    def _failure(self) -> BaseException | None:
        """What ended the task; asyncio complains of errors that nobody asks for."""
        return None if self._task.cancelled() else self._task.exception()

    def _outcome(self, status: ReplyStatus, heard_samples: int, error: AvatarError | None = None) -> Outcome:
        text = self._heard.text
        heard = text if status == "completed" or self._speaker.is_silent else self._heard.until(heard_samples)
        pcm = np.concatenate([silence(0), *self._pcm])[:heard_samples]
        return Outcome(status, self.said, text, heard, pcm, error, self._thought.tool_use.made)

    # --- the one task ---------------------------------------------------------------------------

    async def _run(self) -> None:
        try:
            await self._answer()
        finally:
            self._over_at_s = self._now()

    async def _answer(self) -> None:
        asked_at_s = self._now()
        self.said = await self._listen()
        if self.said.pcm is not None:
            self._trace.note("stt", asked_at_s, self._now())
        if self.said.text:
            self._emit(TranscriptReady(self.turn_id, self.said.text))
        elif not self._plan.is_unasked:
            return
        await self._thought.tool_use.begin()
        messages = self._plan.prompt(self.said.text, self._thought.tools)
        try:
            async with asyncio.TaskGroup() as tasks:
                thinking = tasks.create_task(self._thought.run(messages, self._committed))
                self._parts = [thinking, tasks.create_task(self._speak())]
        except BaseExceptionGroup as group:
            raise group.exceptions[0] from None
        await self._playout.drain()

    async def _speak(self) -> None:
        """Clauses to audio; held at the first chunk until the turn is committed."""
        speaker = self._speaker
        if speaker.is_silent:
            await self._committed.wait()
            return
        watchdog = Watchdog("speech engine", self._policy.stall_timeout_s)
        resampler = Resampler(speaker.engine.sample_rate_hz, speaker.rate_hz)
        tempo = Tempo(speaker.speed, speaker.rate_hz)
        ratio = speaker.rate_hz / speaker.engine.sample_rate_hz / speaker.speed
        speech = speaker.engine.speak(
            self._pieces(watchdog), voice=speaker.voice, language=speaker.language or self.said.language
        )
        async with aclosing(watchdog.watch(speech)) as chunks:
            async for chunk in chunks:
                if chunk.pcm.size and "tts_first_audio" not in self._trace:
                    self._trace.follow("tts_first_audio", "first_clause", self._now())
                await self._committed.wait()
                self._heard.add_marks((mark.text_end, int(mark.sample * ratio)) for mark in chunk.marks)
                await self._play(await self._at_pace(tempo, resampler.push(chunk.pcm)))
        await self._committed.wait()
        await self._play(await self._at_pace(tempo, resampler.push(silence(0), last=True), last=True))
        if self._playout.sent_samples == 0 and "first_clause" in self._trace:
            raise EngineFailed("The speech engine made no sound. Ask again, or try another voice.")

    async def _at_pace(self, tempo: Tempo, pcm: Pcm, *, last: bool = False) -> Pcm:
        if self._speaker.speed == 1.0:
            return pcm
        return await asyncio.to_thread(tempo.push, pcm, last=last)

    async def _pieces(self, watchdog: Watchdog) -> AsyncGenerator[str, None]:
        """What there is to say; waiting for the language model is not the speech engine's fault."""
        while True:
            watchdog.allow(None)
            clause = await self._thought.clauses.get()
            watchdog.allow(self._policy.stall_timeout_s)
            if clause is None:
                return
            self._heard.add_clause(clause)
            if clause.spoken:
                yield clause.spoken

    async def _play(self, pcm: Pcm) -> None:
        if not pcm.size:
            return
        if "queue" not in self._trace:
            self._trace.follow("queue", "tts_first_audio", self._now())
        self._pcm.append(pcm)
        await self._playout.send(pcm)

    def _emit(self, event: SessionEvent) -> None:
        if self._committed.is_set():
            self._outbox.put(event)
        else:
            self._held.append(event)
