"""One Realtime session: a client's events become calls on a live session, and what that tells becomes server events.

Each event is dealt with in one step, and what it comes to is told in that step: the order is that of the state's own
changes. Knows the live session and no socket.
"""

import asyncio
import base64
import binascii
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from avatar.conversation.opening import VOICE_FALLBACK, House
from avatar.conversation.reply import Said
from avatar.conversation.session import Conduct, LiveSession
from avatar.core.audio import float_to_pcm16, samples_to_ms
from avatar.core.errors import AvatarError, BufferLimit, describe
from avatar.core.events import (
    ErrorOccurred,
    ReplyAudioFrame,
    ReplyCalls,
    ReplyDone,
    ReplyTextDelta,
    SessionEvent,
    SpeechStarted,
    SpeechStopped,
    TranscriptReady,
)
from avatar.server.realtime import errors, formats
from avatar.server.realtime import session as sessions
from avatar.server.realtime.client_events import (
    AudioAppend,
    AudioClear,
    AudioCommit,
    ClientEvent,
    ItemCreate,
    ItemDelete,
    ItemRetrieve,
    ItemTruncate,
    OutputClear,
    ResponseCancel,
    ResponseCreate,
    ResponseWish,
    SessionUpdate,
)
from avatar.server.realtime.conversation import Conversation
from avatar.server.realtime.errors import BadEvent
from avatar.server.realtime.formats import AudioFormat
from avatar.server.realtime.items import InputAudio, UserMessage
from avatar.server.realtime.planning import NO_WISH, Course, Planner, check, turn_policy
from avatar.server.realtime.responses import Reason, Response, ResponseStatus, Usage
from avatar.server.realtime.server_events import Event, ServerEvents
from avatar.server.realtime.session import RealtimeSession, ServerVad, Session

logger = logging.getLogger(__name__)

LEAST_COMMIT_MS = 100
SESSION_S = 3600
"""What clients are told of a session's length; nobody ends it then."""
TOKENS_PER_AUDIO_S = 20
"""What OpenAI counts for audio it makes: a token every 50 ms."""


@dataclass
class _Live:
    """A response on its way."""

    response: Response
    course: Course
    calls: list[tuple[str, str, str]] = field(default_factory=list)
    sounded_samples: int = 0
    text: str = ""
    problem: ErrorOccurred | None = None


class Talk:
    """`tell` takes each server event, in order. Close it after the live session."""

    def __init__(
        self,
        session: LiveSession,
        house: House,
        settings: Session,
        mint: Callable[[str], str],
        tell: Callable[[Event], None],
    ) -> None:
        self.settings = settings
        self.events = ServerEvents(mint)
        self._session = session
        self._house = house
        self._mint = mint
        self._tell_client = tell
        self._id = mint("sess")
        self._conversation = Conversation(mint("conv"), mint)
        self._planner = Planner(house, session.engines, self._conversation)
        self._responses: dict[str, _Live] = {}
        self._course: Course | None = None
        self._turns: dict[str, tuple[str, float]] = {}
        self._turn_of_item: dict[str, str] = {}
        self._unheard: dict[str, asyncio.Event] = {}
        self._unanswered: list[str] = []
        self._speech: str | None = None
        self._speech_began_ms = 0.0
        self._spoke = self._owes_answer = False
        self._buffer = bytearray()
        self._taken_ms = 0.0
        self._tasks: set[asyncio.Task[None]] = set()
        self._idle: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        """The first events."""
        self._listen()
        told = sessions.wire(self.settings, self._id, int(time.time()) + SESSION_S)
        self._tell(self.events.session("created", told))
        if isinstance(self.settings, RealtimeSession):
            about = {"id": self._conversation.id, "object": "realtime.conversation"}
            self._tell(self.events.make("conversation.created", conversation=about))

    async def aclose(self) -> None:
        """Leave no task behind."""
        self._stop_waiting()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _tell(self, *events: Event) -> None:
        for event in events:
            self._tell_client(event)

    # --- what the client does -------------------------------------------------------------------

    def take(self, event: ClientEvent) -> None:
        """Deal with an event, and tell what was wrong with it."""
        try:
            self._take(event)
        except BadEvent as error:
            error.event_id = event.event_id
            self._tell(self.events.error(error))
        except AvatarError as error:
            told = errors.fields_of_problem(describe(error), event_id=event.event_id)
            self._tell(self.events.make("error", error=told | {"type": "invalid_request_error"}))

    def _take(self, event: ClientEvent) -> None:
        match event:
            case SessionUpdate(session=patch):
                self._update(patch)
            case AudioAppend(audio=audio):
                self._append(audio)
            case AudioCommit():
                self._commit()
            case AudioClear():
                self._clear()
            case OutputClear():
                raise BadEvent("invalid_value", "`output_audio_buffer.clear` is for WebRTC and SIP.", "type")
            case ResponseCreate(response=wish):
                self._create_response(wish or NO_WISH)
            case ResponseCancel(response_id=response_id):
                self._cancel(response_id)
            case _:
                self._take_item(event)

    def _update(self, patch: dict[str, Any]) -> None:
        old = self.settings
        new = sessions.update(old, patch, spoken=self._spoke)
        if type(new) is not type(old) and self._conversation.items:
            raise BadEvent("invalid_value", "The type of a session cannot be changed once it was used.", "session.type")
        check(new, self._house, self._session.engines)
        self.settings = new
        self._session.forget_prepared()
        heard, before = new.audio.input, old.audio.input
        if (heard.turn_detection, heard.format) != (before.turn_detection, before.format):
            self._listen()
        else:
            self._behave()
        language = heard.transcription.language if heard.transcription else None
        self._session.update(voice=None, language=language, instructions=None)
        self._tell(self.events.session("updated", sessions.wire(new, self._id, int(time.time()) + SESSION_S)))

    def _listen(self) -> None:
        """Hear as the session's settings have it."""
        heard = self.settings.audio.input
        self._buffer.clear()
        turns = turn_policy(self._house.policy.turns, heard.turn_detection)
        self._session.listen(turns, formats.rate_hz(heard.format), self._taken_ms)
        self._behave()

    def _behave(self) -> None:
        self._stop_waiting()
        detection = self.settings.audio.input.turn_detection
        answers = isinstance(self.settings, RealtimeSession) and detection is not None and detection.create_response
        interrupts = detection is not None and detection.interrupt_response
        self._session.conduct = Conduct(answers, interrupts, each_turn_stands=True, plan=self._plan_turn)

    def _plan_turn(self) -> Any:
        """For a reply to what is being said."""
        assert isinstance(self.settings, RealtimeSession)
        self._course = self._planner.course(self.settings, NO_WISH, is_turn=True)
        return self._course.plan

    # --- what is heard --------------------------------------------------------------------------

    @property
    def _form(self) -> AudioFormat:
        return self.settings.audio.input.format

    def _append(self, audio: str) -> None:
        try:
            data = base64.b64decode(audio, validate=True)
        except (binascii.Error, ValueError):
            raise BadEvent("invalid_value", "Invalid 'audio': expected base64.", "audio") from None
        if len(data) % formats.sample_bytes(self._form):
            raise BadEvent("invalid_value", "Invalid 'audio': expected whole samples of 16 bits.", "audio")
        pcm16 = data if formats.sample_bytes(self._form) == 2 else float_to_pcm16(formats.decode(self._form, data))
        self._taken_ms += formats.duration_ms(self._form, len(data))
        if self.settings.audio.input.turn_detection is not None:
            if pcm16:
                self._session.audio(pcm16)
            return
        if self._buffered_ms(len(self._buffer) + len(pcm16)) > self._house.policy.buffer.max_s * 1000:
            self._buffer.clear()
            raise BufferLimit("The input audio buffer is full, and was emptied. Commit shorter turns.")
        self._buffer += pcm16

    def _buffered_ms(self, size: int) -> float:
        return samples_to_ms(size // 2, formats.rate_hz(self._form))

    def _commit(self) -> None:
        if self.settings.audio.input.turn_detection is not None:
            if not self._session.end_turn():
                raise errors.commit_empty(0)
            return
        buffered_ms = self._buffered_ms(len(self._buffer))
        if buffered_ms < LEAST_COMMIT_MS:
            raise errors.commit_empty(buffered_ms)
        pcm16 = bytes(self._buffer)
        self._buffer.clear()
        item_id = self._mint("item")
        self._add_spoken(item_id)
        self._transcribe(item_id, pcm16, formats.rate_hz(self._form))

    def _clear(self) -> None:
        self._buffer.clear()
        self._session.clear_audio()
        self._tell(self.events.cleared())

    def _add_spoken(self, item_id: str) -> None:
        """What was said is an item; its words are known later."""
        self._tell(self.events.committed(item_id, self._conversation.last_id))
        content = [InputAudio(type="input_audio", transcript=None)]
        item, before = self._conversation.create(UserMessage(id=item_id, content=list(content)))
        self._tell(self.events.item_added(item, before), self.events.item_done(item, before))
        self._unheard[item_id] = asyncio.Event()
        self._unanswered.append(item_id)

    def _transcribe(self, item_id: str, pcm16: bytes, rate_hz: int) -> None:
        async def transcribe() -> None:
            try:
                said = await self._session.transcribe(pcm16, rate_hz)
                self._understood(item_id, said.text, samples_to_ms(len(pcm16) // 2, rate_hz) / 1000)
            except AvatarError as error:
                self._not_understood(item_id, error)

        task = asyncio.create_task(transcribe(), name="transcription")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _understood(self, item_id: str, text: str, seconds: float) -> None:
        if item_id in self._conversation:
            item = self._conversation.retrieve(item_id)
            if isinstance(item, UserMessage):
                parts = [
                    part.model_copy(update={"transcript": text}) if isinstance(part, InputAudio) else part
                    for part in item.content
                ]
                self._conversation.replace(item.model_copy(update={"content": parts}))
        if self._transcribes and self._is_waited_for(item_id):
            if text:
                self._tell(self.events.transcription_delta(item_id, text))
            self._tell(self.events.transcription_completed(item_id, text, seconds))
        self._heard(item_id)

    def _not_understood(self, item_id: str, error: AvatarError) -> None:
        problem = describe(error)
        if self._transcribes and self._is_waited_for(item_id):
            self._tell(self.events.transcription_failed(item_id, problem.code.lower(), problem.message))
        self._heard(item_id)

    @property
    def _transcribes(self) -> bool:
        return self.settings.audio.input.transcription is not None

    def _is_waited_for(self, item_id: str) -> bool:
        return item_id in self._unheard and not self._unheard[item_id].is_set()

    def _heard(self, item_id: str) -> None:
        if item_id in self._unheard:
            self._unheard.pop(item_id).set()

    # --- items ----------------------------------------------------------------------------------

    def _take_item(self, event: ClientEvent) -> None:
        match event:
            case ItemRetrieve(item_id=item_id):
                self._tell(self.events.item_retrieved(self._conversation.retrieve(item_id)))
                return
            case ItemCreate():
                self._create_item(event)
            case ItemDelete(item_id=item_id):
                self._conversation.delete(item_id)
                self._tell(self.events.item_deleted(item_id))
            case ItemTruncate(item_id=item_id, content_index=content_index, audio_end_ms=audio_end_ms):
                heard = self._conversation.truncate(item_id, content_index, audio_end_ms)
                if turn_id := self._turn_of_item.get(item_id):
                    self._session.cut_heard(turn_id, heard)
                self._tell(self.events.item_truncated(item_id, content_index, audio_end_ms))
        self._session.forget_prepared()

    def _create_item(self, event: ItemCreate) -> None:
        spoken = _audio_of(event.item) if isinstance(event.item, UserMessage) else b""
        item, before = self._conversation.create(event.item, event.previous_item_id)
        self._tell(self.events.item_added(item, before), self.events.item_done(item, before))
        if isinstance(item, UserMessage):
            self._unanswered.append(item.id or "")
        if spoken and item.id:
            self._unheard[item.id] = asyncio.Event()
            pcm16 = float_to_pcm16(formats.decode(self._form, spoken[: len(spoken) // 2 * 2]))
            self._transcribe(item.id, pcm16, formats.rate_hz(self._form))

    # --- responses ------------------------------------------------------------------------------

    @property
    def _active(self) -> str | None:
        """The turn of the conversation's own response."""
        return next((turn for turn, live in self._responses.items() if live.response.conversation is not None), None)

    def _create_response(self, wish: ResponseWish) -> None:
        if not isinstance(self.settings, RealtimeSession):
            raise BadEvent("invalid_value", "A transcription session answers nothing.", "type")
        aside = wish.conversation == "none"
        if not aside and self._active is not None:
            raise errors.active_response(self._responses[self._active].response.id)
        course = self._planner.course(self.settings, wish, is_turn=False)
        waited = list(self._unheard.values())
        asked = [] if aside else self._unanswered
        if not aside:
            self._unanswered = []
            self._owes_answer = False

        async def listen() -> Said:
            for heard in waited:
                await heard.wait()
            return Said(" ".join(text for item_id in asked if (text := self._text_of(item_id))))

        turn_id = self._session.respond(course.plan, listen, aside=aside)
        self._begin_response(turn_id, course, None if aside else self._conversation)

    def _text_of(self, item_id: str) -> str:
        if item_id not in self._conversation:
            return ""
        content = getattr(self._conversation.retrieve(item_id), "content", [])
        texts = (part.transcript if isinstance(part, InputAudio) else part.text for part in content)
        return " ".join(text for text in texts if text)

    def _begin_response(self, turn_id: str, course: Course, conversation: Conversation | None) -> None:
        self._stop_waiting()
        if conversation is not None and self._active is not None:
            self._end_response(self._active, "cancelled", "turn_detected")
        response = Response(self.events, course.settings, conversation)
        self._responses[turn_id] = _Live(response, course)
        self._tell(*response.created())

    def _cancel(self, response_id: str | None) -> None:
        for turn_id, live in self._responses.items():
            if response_id in (None, live.response.id) and (response_id or live.response.conversation is not None):
                self._session.cancel(turn_id)
                self._end_response(turn_id, "cancelled", "client_cancelled")
                return
        raise errors.no_active_response()

    def _end_response(
        self, turn_id: str, status: ResponseStatus, reason: Reason | None = None, error: dict[str, str] | None = None
    ) -> None:
        live = self._responses.pop(turn_id)
        events = live.response.end_message("completed" if status == "completed" else "incomplete")
        if status == "completed":
            for call_id, name, arguments in live.calls:
                events += live.response.call(call_id, name, _pieces(arguments))
        count = self._session.engines.llm.count_tokens
        sound_s = live.sounded_samples / formats.rate_hz(live.course.form)
        usage = Usage(
            input_text=live.course.prompt_tokens(),
            output_text=count(live.text),
            output_audio=round(sound_s * TOKENS_PER_AUDIO_S),
        )
        self._tell(*events, *live.response.done(status, usage, reason, error))
        if live.response.conversation is not None:
            self._wait_for_user(sound_s)

    # --- what the session tells -----------------------------------------------------------------

    def hear(self, event: SessionEvent) -> None:
        """What the live session has to say."""
        match event:
            case SpeechStarted(at_ms):
                self._stop_waiting()
                self._speech, self._speech_began_ms = self._mint("item"), at_ms
                self._tell(self.events.speech_started(self._speech, at_ms))
            case SpeechStopped():
                self._speech_stopped(event)
            case TranscriptReady(is_final=True):
                self._transcript(event)
            case ErrorOccurred():
                self._problem(event)
            case ReplyTextDelta() | ReplyAudioFrame() | ReplyCalls() | ReplyDone():
                if event.turn_id in self._responses:
                    self._reply(event, self._responses[event.turn_id])

    def _speech_stopped(self, event: SpeechStopped) -> None:
        item_id, self._speech = self._speech, None
        if item_id is None:
            return
        self._tell(self.events.speech_stopped(item_id, event.at_ms))
        if event.turn_id is None:
            return
        self._turns[event.turn_id] = (item_id, (event.at_ms - self._speech_began_ms) / 1000)
        self._add_spoken(item_id)

    @property
    def _answers_by_itself(self) -> bool:
        detection = self.settings.audio.input.turn_detection
        return isinstance(self.settings, RealtimeSession) and detection is not None and detection.create_response

    def _transcript(self, event: TranscriptReady) -> None:
        if event.turn_id not in self._turns:
            return  # of items that were there before
        item_id, seconds = self._turns.pop(event.turn_id)
        self._understood(item_id, event.text, seconds)
        if not event.is_answered:
            self._owes_answer = self._owes_answer or (bool(event.text) and self._answers_by_itself)
            self._pay()
        elif self._course is not None:
            self._unanswered, self._owes_answer = [], False
            self._begin_response(event.turn_id, self._course, self._conversation)

    def _pay(self) -> None:
        """Answer what was said while another answer went on."""
        if self._owes_answer and self._active is None and not self._unheard and self._speech is None:
            self._respond_unbidden()

    def _respond_unbidden(self) -> None:
        try:
            self._create_response(NO_WISH)
        except BadEvent as error:
            self._tell(self.events.error(error))

    def _problem(self, event: ErrorOccurred) -> None:
        turn_id = event.turn_id or ""
        if turn_id in self._responses:
            self._responses[turn_id].problem = event
        elif turn_id in self._turns:
            item_id, _ = self._turns.pop(turn_id)
            if self._transcribes:
                self._tell(self.events.transcription_failed(item_id, event.problem.code.lower(), event.problem.message))
            self._heard(item_id)
        elif event.problem.code != VOICE_FALLBACK:
            self._tell(self.events.make("error", error=errors.fields_of_problem(event.problem)))

    def _reply(self, event: ReplyTextDelta | ReplyAudioFrame | ReplyCalls | ReplyDone, live: _Live) -> None:
        match event:
            case ReplyTextDelta(turn_id, delta):
                live.text += delta
                self._tell(*live.response.say(delta))
                self._note_spoken(turn_id, live)
            case ReplyAudioFrame(turn_id, pcm):
                self._spoke = True
                live.sounded_samples += pcm.size
                self._tell(*live.response.sound(base64.b64encode(formats.encode(live.course.form, pcm)).decode()))
            case ReplyCalls(_, calls):
                if live.text and live.course.settings.modality == "audio":
                    live.calls += calls  # what is being said comes first
                    return
                for call_id, name, arguments in calls:
                    self._tell(*live.response.call(call_id, name, _pieces(arguments)))
            case ReplyDone():
                self._reply_done(event, live)

    def _note_spoken(self, turn_id: str, live: _Live) -> None:
        item_id = live.response.message_id
        if item_id is None or item_id in self._turn_of_item or live.course.settings.modality == "text":
            return
        spoken = self._session.spoken(turn_id)
        if spoken is not None and live.response.conversation is not None:
            self._turn_of_item[item_id] = turn_id
            self._conversation.note_spoken(item_id, spoken)

    def _reply_done(self, event: ReplyDone, live: _Live) -> None:
        problem = live.problem.problem if live.problem else None
        match event.status:
            case "completed" if event.is_cut_short:
                self._end_response(event.turn_id, "incomplete", "max_output_tokens")
            case "completed":
                self._end_response(event.turn_id, "completed")
            case "interrupted":
                self._end_response(event.turn_id, "cancelled", "turn_detected")
            case _:
                code = problem.code.lower() if problem else "server_error"
                self._end_response(event.turn_id, "failed", error={"type": "server_error", "code": code})
        if problem is not None:
            self._tell(self.events.make("error", error=errors.fields_of_problem(problem)))
        self._pay()

    # --- when nobody speaks ---------------------------------------------------------------------

    def _stop_waiting(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None

    def _wait_for_user(self, sound_s: float) -> None:
        """From when the response has been played; `sound_s` is how long it is."""
        self._stop_waiting()
        detection = self.settings.audio.input.turn_detection
        if isinstance(detection, ServerVad) and detection.idle_timeout_ms is not None and self._speech is None:
            wait_s = sound_s + detection.idle_timeout_ms / 1000
            self._idle = asyncio.get_running_loop().call_later(wait_s, self._nobody_spoke, self._taken_ms)

    def _nobody_spoke(self, since_ms: float) -> None:
        self._idle = None
        if self._speech is not None or self._active is not None:
            return
        item_id = self._mint("item")
        self._tell(self.events.timeout_triggered(item_id, since_ms, self._taken_ms))
        self._add_spoken(item_id)
        self._understood(item_id, "", 0.0)
        self._respond_unbidden()


def _audio_of(item: UserMessage) -> bytes:
    parts: Sequence[Any] = item.content
    try:
        return b"".join(
            base64.b64decode(part.audio, validate=True) for part in parts if isinstance(part, InputAudio) and part.audio
        )
    except (binascii.Error, ValueError):
        raise BadEvent("invalid_value", "Invalid 'item.content': expected base64 audio.", "item.content") from None


def _pieces(arguments: str) -> list[str]:
    """Arguments as they are streamed."""
    return [arguments[start : start + 64] for start in range(0, len(arguments), 64)]
