"""One live session: joins the ears, the replies and the log, whatever the transport.

A codec calls its methods and reads the outbox. It knows engine Protocols only.
"""

import asyncio
import logging
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any

from avatar.conversation.ears import Ears
from avatar.conversation.log import ConversationLog
from avatar.conversation.outbox import Outbox
from avatar.conversation.overlap import Overlap
from avatar.conversation.plan import Plan, Said
from avatar.conversation.planner import Planner
from avatar.conversation.push_to_talk import AudioBuffer, AudioKind, Decoder, Recording, check_is_raw
from avatar.conversation.reading_ahead import ReadingAhead
from avatar.conversation.replies import Listen, Replies
from avatar.conversation.reply import Reply, Spoken
from avatar.conversation.terms import Conduct, Engines, SessionOptions, SessionPolicy
from avatar.conversation.tool_use import Caller
from avatar.conversation.utterance import Utterance
from avatar.core.audio import INPUT_RATE_HZ, ms_to_samples
from avatar.core.errors import AvatarError, BadMessage, BufferLimit, NoSpeech
from avatar.core.events import SpeechStarted, SpeechStopped, TranscriptReady
from avatar.core.turn_events import (
    AbandonTurn,
    Action,
    BeginTurn,
    CommitTurn,
    DropReply,
    HoldReply,
    InterruptReply,
    LowerReply,
    PrepareReply,
    ReplyBegan,
    ReplyEnded,
    ReplyHeard,
    ResumeReply,
)
from avatar.core.turns import TurnPolicy
from avatar.store.records import new_id

logger = logging.getLogger(__name__)

MAX_CARRIED_TURNS = 2
"""Speech that goes on before its answer is heard makes one utterance, up to so many times the longest turn: a radio in
the room never ends."""


class LiveSession:
    """All methods are called on the event loop; none blocks. `aclose` ends every task it started."""

    def __init__(
        self,
        options: SessionOptions,
        engines: Engines,
        policy: SessionPolicy,
        decoder: Decoder,
        log: ConversationLog,
        outbox: Outbox,
        caller: Caller | None = None,
    ) -> None:
        """`caller`: what the model may have called."""
        self.conduct = Conduct()
        self._outbox = outbox
        self._options = options
        self._engines = engines
        self._policy = policy
        self._decoder = decoder
        self._log = log
        self._planner = Planner(engines, policy.reply, log, caller)
        self._turn_id = new_id("turn")
        self._tasks: set[asyncio.Task[None]] = set()
        self._replies = Replies(engines, policy.reply, outbox, log, lambda: self.conduct, self._tell_ears, self._spawn)
        self._ahead = ReadingAhead(engines.llm, engines.precedence)
        now = asyncio.get_running_loop().time
        self._buffer = AudioBuffer(options.audio, options.input_rate_hz, policy.buffer, now)
        self._ears: Ears | None = None
        if options.mode == "live":
            self._ears = self._new_ears(policy.turns.with_eagerness(options.eagerness), options.input_rate_hz)

    # --- what the client does -------------------------------------------------------------------

    def audio(self, chunk: bytes) -> None:
        """Audio in the declared format. Raises `BadAudio`, `BufferLimit`."""
        if self._ears is not None:
            if self._ears.untouched:  # a file shows at its head; sound may look like one anywhere
                check_is_raw(chunk)
            self._ears.hear(chunk)
            return
        self._replies.interrupt()
        if self._buffer.empty:
            self._read_ahead("")
        self._buffer.add(chunk)

    def end_audio(self) -> None:
        """Push-to-talk: the utterance is complete. Raises `NoSpeech` for an empty one, `BadMessage` in live mode."""
        if self._ears is not None:
            raise BadMessage("`audio.end` is for push-to-talk; in live mode the server finds the end of a turn.")
        if self._buffer.empty:
            raise NoSpeech("No audio was sent since the last turn. Send audio, then `audio.end`.")
        recording = self._recording(self._buffer.take(), self._options.audio, self._options.input_rate_hz)
        self._replies.begin(recording.listen, self._plan, "speech")

    def _recording(self, data: bytes, kind: AudioKind, rate_hz: int) -> Recording:
        return Recording(
            data,
            kind,
            rate_hz,
            self._policy.buffer.max_s,
            self._decoder,
            self._engines.vad,
            self._engines.stt,
            self._options.language,
            self._policy.turns.min_speech_ms,
            self._policy.stt_timeout_s,
        )

    def clear_audio(self) -> None:
        """Forget audio that is not part of a turn yet."""
        self._buffer.clear()
        if self._ears is not None:
            self._forget_speech(self._ears)

    def _forget_speech(self, ears: Ears) -> None:
        self._replies.drop_prepared()
        utterance = ears.clear()
        if utterance is None:
            return
        self._spawn(utterance.aclose())
        if self.conduct.each_turn_stands:
            self._outbox.put(SpeechStopped(ears.sent_ms(ears.ms_since(0))))

    def say(self, text: str) -> None:
        """A typed turn. Raises `BadMessage` when there is nothing in it."""
        if not text.strip():
            raise BadMessage("That message is empty. Send some text.")

        async def typed() -> Said:
            return Said(text.strip(), self._options.language)

        self._replies.begin(typed, self._plan, "text")

    def interrupt(self) -> None:
        """Stop the reply, if there is one."""
        self._replies.interrupt()

    def played(self, turn_id: str, played_ms: float) -> None:
        """The client's report of what it has really played."""
        self._replies.played(turn_id, played_ms)

    def audio_sent(self, turn_id: str) -> None:
        """The transport's report that the socket took audio of this turn."""
        self._replies.sent(turn_id)

    def update(self, *, language: str | None, instructions: str | None) -> None:
        """Change what the turns to come use; None leaves a thing as it is."""
        changes = {"language": language, "instructions": instructions}
        given: dict[str, Any] = {name: value for name, value in changes.items() if value is not None}
        self._options = replace(self._options, **given)

    def change_language(self, language: str | None) -> None:
        """Listen and speak in this language in the turns to come; None: as the engines take it."""
        self._options = replace(self._options, language=language)

    @property
    def voice(self) -> str | None:
        """The engine's voice for the turns to come; None: its default."""
        return self._options.voice

    def change_voice(self, voice: str | None) -> None:
        """Speak the turns to come with one of the engine's voices; None: its default."""
        self._options = replace(self._options, voice=voice)

    @property
    def engines(self) -> Engines:
        """Those this session keeps."""
        return self._engines

    def listen(self, turns: TurnPolicy | None, rate_hz: int, began_ms: float) -> None:
        """Find turns in what is heard from now on by other rules, or (None) not at all. Time goes on at `began_ms`."""
        ears, self._ears = self._ears, None
        if ears is not None:
            self._forget_speech(ears)
            self._spawn(ears.aclose())
        self._options = replace(self._options, input_rate_hz=rate_hz)
        if turns is not None:
            self._ears = self._new_ears(turns, rate_hz, began_ms)
            if self._replies.live is not None:
                self._tell_ears(ReplyBegan())

    async def transcribe(self, pcm16: bytes, rate_hz: int) -> Said:
        """What is said in a whole utterance (little-endian int16), which is no turn by itself. Empty if nothing is.

        Raises the engines' errors.
        """
        try:
            return await self._recording(pcm16, "pcm16", rate_hz).listen()
        except NoSpeech:
            return Said("")

    def respond(self, plan: Plan, listen: Listen, *, aside: bool = False) -> str:
        """Reply without a turn of speech, by `plan`, once `listen` has told what was said; returns the reply's turn.

        It takes the place of the live reply, unless it is an `aside`: that is neither remembered nor saved, nobody
        interrupts it by speaking, and there may be several.
        """
        if aside:
            return self._replies.begin_aside(listen, plan)
        return self._replies.begin(listen, lambda: plan, "text")

    def cancel(self, turn_id: str) -> None:
        """Stop this reply, if it is live; an aside as well."""
        self._replies.cancel(turn_id)

    def forget_prepared(self) -> None:
        """What a reply to this turn would be made of has changed."""
        self._replies.drop_prepared()

    def spoken(self, turn_id: str) -> Spoken | None:
        """How the live reply, or an aside, sounds."""
        return self._replies.spoken(turn_id)

    def cut_heard(self, turn_id: str, heard_text: str) -> None:
        """The client knows better how much of a reply was heard."""

        async def cut() -> None:
            try:
                await self._log.cut(turn_id, heard_text)
            except AvatarError as error:
                logger.error("what was heard of turn %s was not saved", turn_id, exc_info=error)

        self._spawn(cut())

    async def aclose(self) -> None:
        """End the session: stop the reply, save what was heard, leave no task behind."""
        self._replies.cancel_all()
        if self._ears is not None:
            await self._ears.aclose()
        await self._ahead.aclose()
        while self._tasks:
            await asyncio.wait(self._tasks)

    # --- turns ----------------------------------------------------------------------------------

    def _new_ears(self, turns: TurnPolicy, rate_hz: int, began_ms: float = 0.0) -> Ears:
        vad, end_of_turn = self._engines.vad, self._engines.end_of_turn
        overlap = Overlap(lambda: self._replies.live, self._policy.backchannels)
        return Ears(vad, end_of_turn, self._new_utterance, overlap, turns, rate_hz, self._act, began_ms)

    def _new_utterance(self) -> Utterance:
        turn_id = self._turn_id

        def tell(draft: str) -> None:
            self._outbox.put(TranscriptReady(turn_id, draft, is_final=False))

        return Utterance(self._engines.stt, self._options.language, self._policy.stt_timeout_s, tell, self._read_ahead)

    def _act(self, action: Action) -> None:
        """Do what the turn-taking machine decided."""
        match action:
            case BeginTurn(at_ms):
                self._begin_spoken(at_ms)
            case AbandonTurn(speech_end_ms):
                self._abandon(speech_end_ms)
            case LowerReply() | HoldReply() | ResumeReply() | InterruptReply():
                self._talked_over(action)
            case PrepareReply():
                self._prepare_spoken()
            case DropReply():
                self._replies.drop_prepared()
            case CommitTurn():
                self._commit_spoken(action)

    def _talked_over(self, action: LowerReply | HoldReply | ResumeReply | InterruptReply) -> None:
        live = self._replies.live
        if live is None:
            return
        match action:
            case LowerReply():
                live.lower()
            case HoldReply():
                live.hold()
            case ResumeReply():
                live.resume()
            case InterruptReply():
                if self.conduct.interrupts:
                    self._barge_in(live)

    def _begin_spoken(self, at_ms: float) -> None:
        assert self._ears is not None
        self._replies.turn_begins()
        self._outbox.put(SpeechStarted(self._ears.sent_ms(at_ms)))
        self._read_ahead("")

    def _abandon(self, speech_end_ms: float) -> None:
        assert self._ears is not None
        self._outbox.put(SpeechStopped(self._ears.sent_ms(speech_end_ms)))
        self._spawn(self._ears.take().aclose())

    def _read_ahead(self, words: str) -> None:
        """What is said so far may be these words; where it is all past, there is nothing to be quick about."""
        outlook = self._plan if self.conduct.plan is None else self.conduct.outlook
        if outlook is not None and self.conduct.answers and not self._replies.is_one:
            self._ahead.read(outlook(), words)

    def _prepare_spoken(self) -> None:
        may_prepare = self.conduct.answers and self._replies.live is None and self._engines.precedence.may_prepare()
        if may_prepare and self._ears is not None and self._ears.utterance is not None:
            self._replies.prepare(self._ears.utterance.listen, self._turn_id, self._plan())

    def _commit_spoken(self, turn: CommitTurn) -> None:
        assert self._ears is not None
        turn_id, self._turn_id = self._turn_id, new_id("turn")
        self._outbox.put(SpeechStopped(self._ears.sent_ms(turn.speech_end_ms), turn_id))
        utterance = self._ears.take()
        utterance.end_drafts()
        if self.conduct.answers and (self.conduct.interrupts or self._replies.live is None):
            self._replies.commit(turn_id, self._plan, self._ears.ms_since(turn.speech_end_ms), utterance)
        else:
            self._replies.drop_prepared()
            self._spawn(self._replies.ending.hear_out(utterance, turn_id))

    def _plan(self) -> Plan:
        if self.conduct.plan is not None:
            return self.conduct.plan()
        return self._planner.plan(self._options)

    def _barge_in(self, reply: Reply) -> None:
        """The user speaks again. If nothing of the reply was heard yet, nor anything called for it, they had only
        paused: it is still one turn."""
        utterance = self._replies.utterance
        outcome = reply.interrupt()
        unheard = outcome.status == "interrupted" and not outcome.heard_text and not outcome.calls
        if self._ears is None or utterance is None or not unheard or self.conduct.each_turn_stands:
            self._replies.end(reply, outcome)
        elif utterance.pcm.size < ms_to_samples(MAX_CARRIED_TURNS * self._policy.turns.max_turn_ms, INPUT_RATE_HZ):
            replaced = self._ears.carry(utterance.pcm)
            if replaced is not None:
                self._spawn(replaced.aclose())
            self._replies.carry_on(reply)
        else:
            self._replies.end(reply, outcome)
            too_long = BufferLimit("You spoke for too long without a pause. Say it in smaller parts.")
            self._replies.ending.report(too_long, None)

    def _tell_ears(self, event: ReplyBegan | ReplyHeard | ReplyEnded) -> None:
        if self._ears is not None:
            self._ears.tell(event)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
