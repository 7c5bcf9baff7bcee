"""How a response is to be made: from the session's settings, a response's own wishes, and the conversation.

Knows the house's voices and limits; neither sockets nor events.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from avatar.conversation.opening import House
from avatar.conversation.plan import Plan, Speaker
from avatar.conversation.terms import Engines
from avatar.conversation.tool_use import cost, fitting, offer_cost, readable_arguments
from avatar.conversation.voices import Choice
from avatar.core.errors import BadMessage, NotFound
from avatar.core.history import PROMPT_MARGIN_TOKENS
from avatar.core.turns import TurnPolicy
from avatar.engines.base import Message, Sampling
from avatar.engines.base import Tool as EngineTool
from avatar.server.openai import speech
from avatar.server.openai.errors import WrongField
from avatar.server.realtime import formats
from avatar.server.realtime.client_events import ResponseOutput, ResponseWish
from avatar.server.realtime.conversation import Conversation, prompt
from avatar.server.realtime.errors import BadEvent
from avatar.server.realtime.formats import AudioFormat
from avatar.server.realtime.items import Item
from avatar.server.realtime.responses import ResponseSettings
from avatar.server.realtime.session import (
    OutputTokens,
    RealtimeSession,
    SemanticVad,
    ServerVad,
    Session,
    Voice,
)
from avatar.server.realtime.tool_servers import Offer, ToolServers
from avatar.server.realtime.tools import (
    ChosenFunction,
    ChosenMcp,
    FunctionTool,
    McpTool,
    Tool,
    ToolChoice,
    offered_name,
)
from avatar.server.realtime.truncation import kept

BARGE_IN_MS = 160
"""Voice that ends a response: clients cannot hold what they play until more is known, so be a little surer."""
NO_WISH = ResponseWish()


@dataclass(frozen=True)
class Course:
    """A response that is about to begin: how to make it, and how to tell it."""

    plan: Plan
    settings: ResponseSettings
    form: AudioFormat
    prompt_tokens: Callable[[], int]
    offers: dict[str, Offer]
    """Tools of MCP servers, by the names that the model knows them by; complete once it was asked."""
    own_input: list[Item] | None = None
    """What it answers in the conversation's place; the prompt is made of it when the model is asked."""
    calls_in_parallel: bool = True
    """Whether more than the first of several calls count."""


def turn_policy(policy: TurnPolicy, detection: ServerVad | SemanticVad | None) -> TurnPolicy | None:
    """The rules for turns that `detection` comes to."""
    if detection is None:
        return None
    policy = replace(policy, holds_replies=False, barge_in_ms=BARGE_IN_MS)
    if isinstance(detection, ServerVad):
        return policy.after_silence(detection.silence_duration_ms, detection.threshold, detection.prefix_padding_ms)
    return policy.with_eagerness("medium" if detection.eagerness == "auto" else detection.eagerness)


def check(session: Session, house: House, engines: Engines) -> str:
    """Raise `BadEvent` for what of a session cannot be had here; what to tell of a voice that another speaks for."""
    if not isinstance(session, RealtimeSession):
        return ""
    _tool_choice(session.tool_choice, session.tools, "session.tool_choice")
    return _voice(session.audio.output.voice, house, engines, "session.audio.output.voice").notice


def has_its_voice(session: RealtimeSession, house: House, engines: Engines) -> bool:
    """Whether the voice that was found when the session was given it is there still."""
    try:
        _voice(session.audio.output.voice, house, engines, "session.audio.output.voice")
    except BadEvent:
        return False
    return True


class Planner:
    """Makes courses for one session; `session` may be changed at any time, and what is made later follows it."""

    def __init__(self, house: House, engines: Engines, conversation: Conversation, servers: ToolServers) -> None:
        self._house = house
        self._servers = servers
        self._engines = engines
        self._conversation = conversation
        self._left_out: set[str | None] = set()
        self._count_tokens = engines.llm.count_tokens

    def course(
        self, session: RealtimeSession, wish: ResponseWish, *, is_turn: bool, is_outlook: bool = False
    ) -> Course:
        """For a turn of speech, whose text comes last in the prompt, or for what the items are. Of an `outlook`, whose
        words may be wrong, nothing is kept. Raises `BadEvent`."""
        output = (wish.audio.output if wish.audio else None) or ResponseOutput()
        form = output.format or session.audio.output.format
        voice = output.voice or session.audio.output.voice
        modality = (wish.output_modalities or session.output_modalities)[0]
        tools = session.tools if wish.tools is None else wish.tools
        choice = wish.tool_choice or session.tool_choice
        most: OutputTokens = wish.max_output_tokens or session.max_output_tokens
        instructions = session.instructions if wish.instructions is None else wish.instructions
        speaker = Speaker(
            self._engines.tts,
            _voice(voice, self._house, self._engines, "response.audio.output.voice").voice,
            _language(session) or self._house.language,
            formats.rate_hz(form),
            session.audio.output.speed,
            is_silent=modality == "text",
            is_paced=False,
        )
        sampling = replace(
            self._house.policy.reply.sampling, tool_choice=_tool_choice(choice, tools, "response.tool_choice")
        )
        if most != "inf":
            sampling = replace(sampling, max_tokens=min(most, self._engines.llm.context_tokens // 2))
        own = None if wish.input is None else self._conversation.resolve(wish.input)
        asked: list[int] = [0]
        offers: dict[str, Offer] = {}
        on_offer = _functions(tools) if choice != "none" else []

        def ask(user_text: str, _: Sequence[EngineTool]) -> list[Message]:
            if wish.conversation != "none" and choice != "none":
                self._offer(tools, choice, offers, on_offer)
            said = user_text if is_turn else ""
            messages, left_out = self._prompt(session, instructions, own, said, sampling, on_offer)
            if not is_outlook:
                self._left_out |= left_out
            asked[0] = self._cost(messages)
            return messages

        plan = Plan(
            ask,
            speaker,
            sampling,
            on_offer,
            is_unasked=not is_turn,
        )
        audio = {"format": form.wire(), "voice": voice if isinstance(voice, str) else voice.id}
        settings = ResponseSettings(modality, audio, most, wish.metadata)
        parallel = wish.parallel_tool_calls
        in_parallel = session.parallel_tool_calls if parallel is None else parallel
        return Course(plan, settings, form, lambda: asked[0], offers, own, in_parallel)

    def _offer(
        self, tools: Sequence[Tool], choice: ToolChoice, offers: dict[str, Offer], on_offer: list[EngineTool]
    ) -> None:
        """Add what MCP servers offer now, as late as it can be: they may have been asked only just before."""
        if isinstance(choice, ChosenMcp):
            tools = [tool for tool in tools if isinstance(tool, McpTool) and tool.server_label == choice.server_label]
            on_offer.clear()
        for offer in self._servers.offers(tools, {tool.name for tool in on_offer}):
            offers[offer.name] = offer
        on_offer += [offer.described for offer in offers.values()]
        if isinstance(choice, ChosenMcp) and choice.name not in (None, *(offer.tool.name for offer in offers.values())):
            raise BadMessage(f"The MCP server {choice.server_label} has no tool of that name on offer.")

    def _prompt(
        self,
        session: RealtimeSession,
        instructions: str,
        own: Sequence[Item] | None,
        user_text: str,
        sampling: Sampling,
        on_offer: Sequence[EngineTool],
    ) -> tuple[list[Message], set[str | None]]:
        """What the model is asked, and the items that there is no room for from now on."""
        frame = [Message("system", instructions)] if instructions else []
        last = [Message("user", user_text)] if user_text else []
        room = self._engines.llm.context_tokens - sampling.max_tokens - PROMPT_MARGIN_TOKENS
        room -= offer_cost(on_offer, self._count_tokens) + self._cost(frame)

        def told(items: Sequence[Item]) -> list[Message]:
            return [self._readable(message, room) for message in prompt("", items)] + last

        if own is not None:
            return _as_templates_want(frame + told(own)), set()
        items = [item for item in self._conversation.items if item.id not in self._left_out]
        newest = kept(items, session.truncation, room, lambda items: self._cost(told(items)))
        left_out = {item.id for item in items[: len(items) - len(newest)]}
        return _as_templates_want(frame + told(newest)), left_out

    def _readable(self, message: Message, room: int) -> Message:
        """As chat templates take it; of what a tool came to only the beginning, if it fills half of the room."""
        calls = tuple(replace(call, arguments=readable_arguments(call.arguments)) for call in message.tool_calls)
        if message.role == "tool":
            return replace(message, content=fitting(message.content, room // 2, self._count_tokens))
        return replace(message, tool_calls=calls)

    def _cost(self, messages: Sequence[Message]) -> int:
        return cost(messages, self._count_tokens)


def _as_templates_want(messages: list[Message]) -> list[Message]:
    """What a user said twice running is one message; and the last word is not the model's own, which it had nothing to
    add to: a client that asks for a response without having said anything gets one."""
    merged: list[Message] = []
    for message in messages:
        if merged and message.role == merged[-1].role == "user":
            merged[-1] = replace(message, content=f"{merged[-1].content}\n{message.content}")
        else:
            merged.append(message)
    if all(message.role == "system" for message in merged):
        merged.append(Message("user", "(The conversation begins.)"))
    elif merged[-1].role == "assistant":
        merged.append(Message("user", "(Go on.)"))
    return merged


def _language(session: RealtimeSession) -> str | None:
    return session.audio.input.transcription.language if session.audio.input.transcription else None


def _voice(voice: Voice, house: House, engines: Engines, param: str) -> Choice:
    try:
        named = voice if isinstance(voice, str) else speech.VoiceId(id=voice.id)
        return speech.choose_voice(house, engines.tts, named)
    except (WrongField, NotFound) as error:
        raise BadEvent("invalid_value", str(error), param) from None


def _functions(tools: Sequence[Tool]) -> list[EngineTool]:
    return [
        EngineTool(tool.name, tool.description or "", dict(tool.parameters or {"type": "object", "properties": {}}))
        for tool in tools
        if isinstance(tool, FunctionTool)
    ]


def _tool_choice(choice: ToolChoice, tools: Sequence[Tool], param: str) -> str:
    if isinstance(choice, ChosenMcp):
        if not any(isinstance(tool, McpTool) and tool.server_label == choice.server_label for tool in tools):
            raise BadEvent("invalid_value", "There is no MCP server of that label.", param)
        return "required" if choice.name is None else offered_name(choice.server_label, choice.name)
    if isinstance(choice, ChosenFunction):
        if not any(isinstance(tool, FunctionTool) and tool.name == choice.name for tool in tools):
            raise BadEvent("invalid_value", "There is no tool of that name.", param)
        return choice.name
    return "required" if choice == "required" and tools else "auto"
