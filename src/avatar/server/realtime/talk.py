"""One Realtime session: a client's events become calls on a live session, and what that tells becomes server events.

Each event is dealt with in one step, and what it comes to is told in that step: the order is that of the state's own
changes. What is heard is `hearing`'s affair, responses are `answers`'. Knows the live session and no transport.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Any, Literal, assert_never

from avatar.conversation.opening import VOICE_FALLBACK, House
from avatar.conversation.session import LiveSession
from avatar.conversation.terms import Conduct
from avatar.core.errors import AvatarError, describe
from avatar.core.events import (
    ErrorOccurred,
    ReplyAudioFrame,
    ReplyAudioStarted,
    ReplyCallPiece,
    ReplyCalls,
    ReplyDone,
    ReplyHeld,
    ReplyLowered,
    ReplyResumed,
    ReplyTextDelta,
    ReplyTextDone,
    SessionEvent,
    SpeechStarted,
    SpeechStopped,
    ToolCalled,
    ToolReturned,
    TranscriptReady,
)
from avatar.server.realtime import errors, formats
from avatar.server.realtime import session as sessions
from avatar.server.realtime.answers import Answers
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
    SessionUpdate,
)
from avatar.server.realtime.conversation import Conversation
from avatar.server.realtime.errors import BadEvent
from avatar.server.realtime.hearing import Hearing
from avatar.server.realtime.items import McpApprovalResponse, UserMessage
from avatar.server.realtime.loudspeaker import Loudspeaker
from avatar.server.realtime.planning import NO_WISH, check
from avatar.server.realtime.server_events import Event, ServerEvents
from avatar.server.realtime.session import RealtimeSession, Session
from avatar.server.realtime.sounds import without_sound
from avatar.server.realtime.state import TalkState
from avatar.server.realtime.tool_calls import ToolCalls
from avatar.server.realtime.tool_servers import ToolServers

SESSION_S = 3600
"""What clients are told of a session's length; nobody ends it then."""


class Talk:
    """`tell` takes each server event, in order; the `loudspeaker`, where there is one, the sound. Close it first."""

    def __init__(
        self,
        session: LiveSession,
        house: House,
        settings: Session,
        mint: Callable[[str], str],
        tell: Callable[[Event], None],
        loudspeaker: Loudspeaker | None = None,
    ) -> None:
        self.events = ServerEvents(mint)
        self._id, self._expires_at_s = mint("sess"), int(time.time()) + SESSION_S
        self._conversation = Conversation(mint("conv"), mint)
        self._state = TalkState(settings, session, house, self.events, self._conversation, tell)
        self._hearing = Hearing(self._state, lambda: self._answers.create_unbidden(), lambda: self._answers.pay())
        self._servers = ToolServers(self._state)
        self._tool_calls = ToolCalls(self._state)
        self._answers = Answers(self._state, self._hearing, self._servers, self._tool_calls, loudspeaker)
        self._loudspeaker = loudspeaker
        if loudspeaker is not None:
            loudspeaker.on_change = lambda change, response_id: self._tell_output(change, response_id)

    def begin(self) -> None:
        """The first events."""
        self._hearing.listen()
        self._behave()
        self._state.tell(self.session_event("created"))
        if isinstance(self._state.settings, RealtimeSession):
            about = {"id": self._conversation.id, "object": "realtime.conversation"}
            self._state.tell(self.events.make("conversation.created", conversation=about))
            self._servers.ask(self._state.settings.tools)

    def session_event(self, change: Literal["created", "updated"]) -> Event:
        """The session as it is now."""
        return self.events.session(change, sessions.wire(self._state.settings, self._id, self._expires_at_s))

    async def aclose(self) -> None:
        """Leave no task behind."""
        await asyncio.gather(self._hearing.aclose(), self._tool_calls.aclose(), self._servers.aclose())

    # --- what the client does -------------------------------------------------------------------

    @property
    def input_rate_hz(self) -> int:
        """Of what `audio` takes; a `session.update` may change it."""
        return formats.rate_hz(self._hearing.form)

    def audio(self, pcm16: bytes) -> None:
        """Microphone audio (mono, little-endian int16, `input_rate_hz`), where it comes beside the events."""
        try:
            self._hearing.hear(pcm16, is_endless=True)
        except AvatarError as error:
            self.refuse(error)

    def take(self, event: ClientEvent) -> None:
        """Deal with an event, and tell what was wrong with it."""
        try:
            self._take(event)
        except AvatarError as error:
            self.refuse(error, event.event_id)

    def refuse(self, error: AvatarError, event_id: str | None = None) -> None:
        """Tell what is wrong with what the client sent."""
        if isinstance(error, BadEvent):
            error.event_id = error.event_id or event_id
            told = errors.fields_of(error)
        else:
            told = errors.fields_of_problem(describe(error), event_id=event_id)
        self._state.tell(self.events.make("error", error=told))

    def _take(self, event: ClientEvent) -> None:
        match event:
            case SessionUpdate(session=patch):
                self._update(patch)
            case AudioAppend(audio=audio):
                self._hearing.append(audio)
            case AudioCommit():
                self._hearing.commit()
            case AudioClear():
                self._hearing.clear()
            case OutputClear():
                self._clear_output()
            case ResponseCreate(response=wish):
                self._answers.create(wish or NO_WISH)
            case ResponseCancel(response_id=response_id):
                self._answers.cancel(response_id)
            case ItemRetrieve(item_id=item_id):
                item, sounds = self._conversation.retrieve(item_id), self._conversation.sounds
                self._state.tell(self.events.item_retrieved(item, sounds.of(item_id)))
            case ItemCreate() | ItemDelete() | ItemTruncate():
                self._change_items(event)
                self._state.live.forget_prepared()

    def _update(self, patch: dict[str, Any]) -> None:
        state, old = self._state, self._state.settings
        if isinstance(old, RealtimeSession):
            old = self._answers.with_a_voice(old)
        new = sessions.update(old, patch, spoken=self._answers.spoke)
        if type(new) is not type(old) and self._conversation.items:
            raise BadEvent("invalid_value", "The type of a session cannot be changed once it was used.", "session.type")
        notice = check(new, state.house, state.live.engines)
        if isinstance(new, RealtimeSession):
            self._servers.check(new.tools, "session.tools")
        state.settings = new
        state.live.forget_prepared()
        heard, before = new.audio.input, old.audio.input
        if (heard.turn_detection, heard.format) != (before.turn_detection, before.format):
            self._hearing.listen()
        self._behave()
        state.tell(self.session_event("updated"))
        if notice and sessions.voice_of(new) != sessions.voice_of(old):
            state.tell_fallback(notice)
        if isinstance(new, RealtimeSession):
            self._servers.ask(new.tools)

    def _behave(self) -> None:
        """Conduct turns as the settings have it."""
        self._hearing.stop_waiting()
        transcription = self._state.settings.audio.input.transcription
        language = transcription.language if transcription else None
        self._state.live.change_language(language or self._state.house.language)
        detection = self._state.detection
        interrupts = detection is not None and detection.interrupt_response
        self._state.live.conduct = Conduct(
            self._state.answers_turns,
            interrupts,
            each_turn_stands=True,
            plan=self._answers.plan_turn,
            outlook=self._answers.outlook,
        )

    # --- items ----------------------------------------------------------------------------------

    def _change_items(self, event: ItemCreate | ItemDelete | ItemTruncate) -> None:
        match event:
            case ItemCreate():
                self._create_item(event)
            case ItemDelete(item_id=item_id):
                self._conversation.delete(item_id)
                self._state.tell(self.events.item_deleted(item_id))
            case ItemTruncate(item_id=item_id, content_index=content_index, audio_end_ms=audio_end_ms):
                self._truncate(item_id, content_index, audio_end_ms)

    def _truncate(self, item_id: str, content_index: int, audio_end_ms: int) -> None:
        heard = self._conversation.truncate(item_id, content_index, audio_end_ms)
        if turn_id := self._answers.turn_of(item_id):
            self._state.live.cut_heard(turn_id, heard)
        self._state.tell(self.events.item_truncated(item_id, content_index, audio_end_ms))

    def _create_item(self, event: ItemCreate) -> None:
        if isinstance(event.item, McpApprovalResponse):
            self._tool_calls.check(event.item)
        silent, sound = without_sound(event.item, "item")
        if sound:
            self._hearing.check_has_time()
        item, before = self._conversation.create(silent, event.previous_item_id, by_client=True)
        self._conversation.note_sound(item.id, self._hearing.form, sound)
        self._state.tell(self.events.item_added(item, before), self.events.item_done(item, before))
        if isinstance(item, UserMessage):
            self._hearing.written(item, sound)
        elif isinstance(item, McpApprovalResponse):
            self._tool_calls.answered(item)

    # --- what is played here --------------------------------------------------------------------

    def _clear_output(self) -> None:
        """Play nothing more; what was not heard, which is known here, is gone from the conversation."""
        if self._loudspeaker is None:
            raise BadEvent("invalid_value", "`output_audio_buffer.clear` is for WebRTC and SIP.", "type")
        for cut in self._loudspeaker.clear():
            if cut.had_started:
                self._tell_output("cleared", cut.response_id)
            if (most_ms := self._conversation.sound_ms(cut.item_id)) is not None:
                self._truncate(cut.item_id, 0, int(min(cut.played_ms, most_ms)))

    def _tell_output(self, change: str, response_id: str) -> None:
        self._state.tell(self.events.make(f"output_audio_buffer.{change}", response_id=response_id))

    # --- what the session tells -----------------------------------------------------------------

    def hear(self, event: SessionEvent) -> None:
        """What the live session has to say."""
        match event:
            case SpeechStarted(at_ms):
                self._hearing.speech_started(at_ms)
                if self._loudspeaker is not None and self._state.live.conduct.interrupts:
                    self._clear_output()
            case SpeechStopped():
                self._hearing.speech_stopped(event)
                self._answers.pay()
            case TranscriptReady(is_final=True):
                if self._hearing.turn_understood(event):
                    self._answers.turn_understood(event)
            case ErrorOccurred():
                self._problem(event)
            case ReplyTextDelta() | ReplyAudioFrame() | ReplyCallPiece() | ReplyCalls() | ReplyDone():
                self._answers.hear(event)
            case TranscriptReady() | ReplyTextDone() | ReplyAudioStarted() | ToolCalled() | ToolReturned():
                pass  # the protocol has no event for it, or tells it by others
            case ReplyLowered() | ReplyHeld() | ReplyResumed():
                pass  # clients cannot hold what they play, so nothing is held here: `planning.turn_policy`
            case _:
                assert_never(event)

    def _problem(self, event: ErrorOccurred) -> None:
        problem = event.problem
        if self._answers.failed(event) or self._hearing.turn_failed(event.turn_id or "", problem):
            return
        if problem.code != VOICE_FALLBACK:
            self._state.tell(self.events.make("error", error=errors.fields_of_problem(problem)))
