"""The responses of a Realtime session: when one begins, what of a reply becomes which event, and how it ends.

Knows the live session's replies; neither sockets nor where a client's events come from.
"""

import asyncio
import base64
from collections.abc import Sequence
from dataclasses import dataclass, field

from avatar.conversation.opening import VOICE_DELETED
from avatar.conversation.plan import Plan, Said
from avatar.core.audio import Pcm
from avatar.core.errors import Problem, RateLimited
from avatar.core.events import (
    ErrorOccurred,
    ReplyAudioFrame,
    ReplyCallPiece,
    ReplyCalls,
    ReplyDone,
    ReplyTextDelta,
    TranscriptReady,
)
from avatar.server.realtime import errors, formats
from avatar.server.realtime.client_events import ResponseWish
from avatar.server.realtime.conversation import Conversation
from avatar.server.realtime.errors import BadEvent
from avatar.server.realtime.hearing import Hearing
from avatar.server.realtime.items import InputItem, Item, ItemReference, UserMessage, with_transcript
from avatar.server.realtime.loudspeaker import Loudspeaker
from avatar.server.realtime.planning import NO_WISH, Course, Planner, has_its_voice
from avatar.server.realtime.responses import Reason, Response, ResponseStatus, Usage
from avatar.server.realtime.server_events import Event
from avatar.server.realtime.session import RealtimeSession, with_default_voice
from avatar.server.realtime.sounds import without_sound
from avatar.server.realtime.state import TalkState
from avatar.server.realtime.tool_calls import Called, ToolCalls
from avatar.server.realtime.tool_servers import ToolServers
from avatar.server.realtime.tools import McpTool, Tool

MAX_ASIDES = 8
"""Responses outside the conversation at the same time: the language model has others to answer."""
TOKENS_PER_AUDIO_S = 20
"""What OpenAI counts for audio it makes: a token every 50 ms."""


@dataclass
class _Live:
    """A response on its way."""

    response: Response
    course: Course
    calls: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Id: name, and arguments as far as they are written."""
    sounded_samples: int = 0
    text: str = ""
    problem: ErrorOccurred | None = None

    def note_call(self, call_id: str, name: str, arguments: str) -> bool:
        """The model wants a call; whether that is told now. What is being said comes first, and what we call is called
        last."""
        if self.calls and call_id not in self.calls and not self.course.calls_in_parallel:
            return False
        self.calls[call_id] = (name, arguments)
        is_speaking = self.text and self.course.settings.modality == "audio"
        return not is_speaking and name not in self.course.offers


class Answers:
    """At most one response for the conversation, and any number beside it. `spoke`: audio was sent."""

    def __init__(
        self,
        state: TalkState,
        hearing: Hearing,
        servers: ToolServers,
        tool_calls: ToolCalls,
        loudspeaker: Loudspeaker | None,
    ) -> None:
        self.spoke = False
        self._state = state
        self._servers = servers
        self._tool_calls = tool_calls
        self._planner = Planner(state.house, state.live.engines, state.conversation, servers)
        self._hearing = hearing
        self._loudspeaker = loudspeaker
        self._responses: dict[str, _Live] = {}
        self._course: Course | None = None
        self._turn_of_item: dict[str, str] = {}
        self._owes_answer = False

    # --- how one begins -------------------------------------------------------------------------

    @property
    def active(self) -> str | None:
        """The turn of the conversation's own response."""
        return next((turn for turn, live in self._responses.items() if live.response.conversation is not None), None)

    def turn_of(self, item_id: str) -> str | None:
        """The live session's turn in which a message was spoken."""
        return self._turn_of_item.get(item_id)

    def plan_turn(self) -> Plan:
        """For a reply to what is being said."""
        self._course = self._course_of_turn()
        return self._course.plan

    def outlook(self) -> Plan:
        """The same while it is still being said; nothing is answered by this one."""
        return self._course_of_turn(is_outlook=True).plan

    def _course_of_turn(self, *, is_outlook: bool = False) -> Course:
        assert isinstance(self._state.settings, RealtimeSession)
        settings = self.with_a_voice(self._state.settings)
        return self._planner.course(settings, NO_WISH, is_turn=True, is_outlook=is_outlook)

    def turn_understood(self, event: TranscriptReady) -> None:
        """A turn was spoken, and may be being answered."""
        if not event.is_answered:
            self._owes_answer = self._owes_answer or (bool(event.text) and self._state.answers_turns)
            self.pay()
        elif self._course is not None:
            self._settle()
            self._begin(event.turn_id, self._course, self._state.conversation)

    def create(self, wish: ResponseWish) -> None:
        """Answer. Raises `BadEvent`, `RateLimited`."""
        if not isinstance(self._state.settings, RealtimeSession):
            raise BadEvent("invalid_value", "A transcription session answers nothing.", "type")
        aside = wish.conversation == "none"
        if not aside and self.active is not None:
            raise errors.active_response(self._responses[self.active].response.id)
        if aside and sum(live.response.conversation is None for live in self._responses.values()) >= MAX_ASIDES:
            raise RateLimited(f"{MAX_ASIDES} responses outside the conversation are being made. Wait for one to end.")
        settings = self.with_a_voice(self._state.settings)
        tools = self._tools(settings, wish)
        course = self._planner.course(settings, wish, is_turn=False)
        sounds = [without_sound(item, f"response.input[{place}]")[1] for place, item in enumerate(wish.input or ())]
        self._servers.ask(tools)
        waited = self._untold_of(wish)
        asked = [] if aside else self._settle()

        async def listen() -> Said:
            for told in waited:
                await told.wait()
            if course.own_input is not None:
                await self._listen_to(course.own_input, wish.input or (), sounds)
            await self._servers.asked(tools)
            texts = map(self._state.conversation.text_of, asked)
            return Said(" ".join(text for text in texts if text))

        turn_id = self._state.live.respond(course.plan, listen, aside=aside)
        self._begin(turn_id, course, None if aside else self._state.conversation)

    def _untold_of(self, wish: ResponseWish) -> list[asyncio.Event]:
        """What a response must wait for: that the words are known of all that it answers."""
        untold = self._hearing.untold
        if wish.input is None:
            return list(untold.values())
        return [untold[item.id] for item in wish.input if isinstance(item, ItemReference) and item.id in untold]

    async def _listen_to(self, own: list[Item], asked: Sequence[InputItem], sounds: Sequence[bytes]) -> None:
        """Find out what is said in a response's own input. Raises the engines' errors."""
        for place, item in enumerate(own):
            if isinstance(asked[place], ItemReference):
                own[place] = self._state.conversation.latest(item)
            elif isinstance(item, UserMessage) and sounds[place]:
                own[place] = with_transcript(item, await self._hearing.words_in(sounds[place]))

    def with_a_voice(self, settings: RealtimeSession) -> RealtimeSession:
        """The session's settings; a voice that was deleted gives way to the default, and the client is told."""
        if not has_its_voice(settings, self._state.house, self._state.live.engines):
            settings = with_default_voice(settings)
            self._state.settings = settings
            self._state.tell_fallback(VOICE_DELETED)
        return settings

    def _tools(self, settings: RealtimeSession, wish: ResponseWish) -> Sequence[Tool]:
        """Of a response. Raises `BadEvent`."""
        tools = settings.tools if wish.tools is None else wish.tools
        if wish.conversation != "none":
            self._servers.check(tools, "response.tools")
            return tools
        if wish.tools and any(isinstance(tool, McpTool) for tool in wish.tools):
            raise BadEvent("unsupported_value", "MCP servers are called in the conversation alone.", "response.tools")
        return ()

    def create_unbidden(self) -> None:
        """Answer what nobody asked to be answered; why that cannot be is told."""
        try:
            self.create(NO_WISH)
        except BadEvent as error:
            self._state.tell(self._state.events.error(error))

    def pay(self) -> None:
        """Answer what was said while another answer went on, once nothing is in the way."""
        if self._owes_answer and self.active is None and not self._hearing.untold and self._hearing.speech is None:
            self._owes_answer = False  # also when there can be none, which is told once
            self.create_unbidden()

    def _settle(self) -> list[str]:
        """What a response that begins now answers."""
        self._owes_answer = False
        return self._hearing.take_unanswered()

    def _begin(self, turn_id: str, course: Course, conversation: Conversation | None) -> None:
        if conversation is not None:
            self._hearing.stop_waiting()
            if self.active is not None:
                self._end(self.active, "cancelled", "turn_detected")
        response = Response(self._state.events, course.settings, conversation)
        self._responses[turn_id] = _Live(response, course)
        self._state.tell(*response.created(), self._state.events.no_limits())

    # --- how it goes on -------------------------------------------------------------------------

    def hear(self, event: ReplyTextDelta | ReplyAudioFrame | ReplyCallPiece | ReplyCalls | ReplyDone) -> None:
        """What a reply comes to; those of responses that are over come to nothing."""
        live = self._responses.get(event.turn_id)
        if live is None:
            return
        match event:
            case ReplyTextDelta(turn_id, delta):
                live.text += delta
                self._state.tell(*live.response.say(delta))
                self._note_spoken(turn_id, live)
            case ReplyAudioFrame(_, pcm):
                self._sound(live, pcm)
            case ReplyCallPiece(_, call_id, name, piece):
                _, written = live.calls.get(call_id, ("", ""))
                if live.note_call(call_id, name, written + piece):
                    self._state.tell(*live.response.write_call(call_id, name, piece))
            case ReplyCalls(_, calls):
                for call in calls:
                    if live.note_call(*call):
                        self._state.tell(*live.response.call(*call))
            case ReplyDone():
                self._done(event, live)

    def _sound(self, live: _Live, pcm: Pcm) -> None:
        self.spoke = True
        live.sounded_samples += pcm.size
        form, response = live.course.form, live.response
        data = formats.encode(form, pcm)
        if self._loudspeaker is None:
            self._state.tell(*response.sound(base64.b64encode(data).decode()))
        elif response.message_id is not None:
            self._loudspeaker.play(response.id, response.message_id, pcm, formats.rate_hz(form))
        self._state.conversation.note_sound(response.message_id, form, data)

    def _note_spoken(self, turn_id: str, live: _Live) -> None:
        item_id = live.response.message_id
        if item_id is None or item_id in self._turn_of_item or live.course.settings.modality == "text":
            return
        spoken = self._state.live.spoken(turn_id)
        if spoken is not None and live.response.conversation is not None:
            self._turn_of_item[item_id] = turn_id
            self._state.conversation.note_spoken(item_id, spoken)

    # --- how it ends ----------------------------------------------------------------------------

    def cancel(self, response_id: str | None) -> None:
        """Stop this response, or the conversation's. Raises `BadEvent` when there is none."""
        for turn_id, live in self._responses.items():
            if response_id in (None, live.response.id) and (response_id or live.response.conversation is not None):
                self._state.live.cancel(turn_id)
                self._end(turn_id, "cancelled", "client_cancelled")
                return
        raise errors.no_active_response()

    def failed(self, event: ErrorOccurred) -> bool:
        """Something went wrong with a response, whose end follows; False if it is none of ours."""
        live = self._responses.get(event.turn_id or "")
        if live is not None:
            live.problem = event
        return live is not None

    def _done(self, event: ReplyDone, live: _Live) -> None:
        problem = live.problem.problem if live.problem else None
        match event.status:
            case "completed" if event.is_cut_short:
                self._end(event.turn_id, "incomplete", "max_output_tokens")
            case "completed":
                self._end(event.turn_id, "completed")
            case "interrupted":
                self._end(event.turn_id, "cancelled", "turn_detected")
            case _:
                self._end(event.turn_id, "failed", error=_why(problem))
                problem = None  # it was told
        if problem is not None:
            self._state.tell(self._state.events.make("error", error=errors.fields_of_problem(problem)))
        self.pay()

    def _end(
        self, turn_id: str, status: ResponseStatus, reason: Reason | None = None, error: dict[str, str] | None = None
    ) -> None:
        live = self._responses.pop(turn_id)
        made: list[Called] = []
        events = self._call(live, made) if status == "completed" else []
        sound_s = live.sounded_samples / formats.rate_hz(live.course.form)
        most = live.course.settings.max_output_tokens
        written = live.text + "".join(name + arguments for name, arguments in live.calls.values())
        said_tokens = self._state.live.engines.llm.count_tokens(written)  # may be an overestimate
        usage = Usage(
            input_text=live.course.prompt_tokens(),
            output_text=said_tokens if most == "inf" else min(said_tokens, most),
            output_audio=round(sound_s * TOKENS_PER_AUDIO_S),
        )
        self._state.tell(*events, *live.response.done(status, usage, reason, error))
        for called in made:
            self._tool_calls.make(called)
        if self._loudspeaker is not None and sound_s:
            self._loudspeaker.end(live.response.id)
        if live.response.conversation is not None:
            self._hearing.wait_for_user(sound_s)

    def _call(self, live: _Live, made: list[Called]) -> list[Event]:
        """The calls that end a response; those that we make, at once, are `made`."""
        response, events = live.response, list[Event]()
        for call_id, (name, arguments) in live.calls.items():
            offer = live.course.offers.get(name)
            if offer is None:
                events += response.call(call_id, name, arguments)
                continue
            terms, runs = offer.terms, not offer.needs_approval
            item, told = response.mcp_call(terms.server_label, offer.tool.name, arguments, runs=runs)
            events += told
            called = Called(offer, item, len(response.output) - 1)
            if runs:
                made.append(called)
            else:
                request_id, told = response.ask_approval(item)
                events += told
                self._tool_calls.await_approval(request_id, called)
        return events


def _why(problem: Problem | None) -> dict[str, str]:
    """Why a response failed, for its end. No `error` beside it tells it again: there are clients that hang up then."""
    if problem is None:
        return {"type": "server_error", "code": "server_error"}
    told = errors.fields_of_problem(problem)
    return {name: told[name] for name in ("type", "code", "message")}
