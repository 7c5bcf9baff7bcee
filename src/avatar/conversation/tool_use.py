"""Tools that the server itself calls while a reply is made, and how the language model is told what came of it.

    language model -> calls -> results -> language model -> ...

Owns the bounds of that loop: how often, and how much of a result fits into the context. Knows no MCP, no client and no
approval: those are a `Caller`'s. Nothing is called before the turn is committed; that is the reply's to see to.
"""

import asyncio
import json
import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Protocol

from avatar.core.errors import AvatarError, describe
from avatar.core.history import MESSAGE_OVERHEAD_TOKENS, CalledTool, Line, call_lines
from avatar.engines.base import LanguageModel, Message, Tool, ToolCall

logger = logging.getLogger(__name__)

ENOUGH = "Not called: that was enough for one answer. Answer now, with what you know."
UNKNOWN = "(The user interrupted before anything came back; whether it was done is not known.)"
CUT = " (cut off)"
OFFER_SHARE = 0.25
LEAST_RESULT_TOKENS = 16
"""A result is never cut below this; a context that has no room for it is full anyway, and the engine says so."""
_MAX_CHARS_PER_TOKEN = 16
"""No text has more; what lies beyond cannot fit, and counting it would take long."""


@dataclass(frozen=True)
class CallOutcome:
    """What a call came to: text for the model, also of a failure or a refusal."""

    text: str = field(repr=False)
    is_error: bool = False


class Caller(Protocol):
    """A set of tools that the server itself can call: MCP servers, or whatever else."""

    async def offer(self) -> Sequence[Tool]:
        """The tools for the reply that is about to be made. Waits no longer than a few seconds for those that are
        not known yet; what cannot be had is left out. Asked before the prompt is made, also for an eager reply."""
        ...

    async def call(self, turn_id: str, call: ToolCall) -> CallOutcome:
        """Call a tool, by any name that the model came up with. It ends within a limit of its own; what fails is an
        outcome that says so. Several may run at once. Cancelling it cancels the call, or the wait for leave to call."""
        ...


@dataclass
class _Made:
    call: ToolCall
    result: str = UNKNOWN

    @property
    def told(self) -> CalledTool:
        """As the model is told of it. Chat templates read the arguments, and fail on what is no JSON object."""
        return CalledTool(self.call.id, self.call.name, readable_arguments(self.call.arguments), self.result)


class ToolUse:
    """What one reply calls. `running`: the calls on their way, for who must stop each of them at once."""

    def __init__(self, turn_id: str, caller: Caller | None, llm: LanguageModel, max_rounds: int) -> None:
        self._turn_id = turn_id
        self._caller = caller
        self._llm = llm
        self._rounds_left = max_rounds
        self._made: list[_Made] = []
        self.offered: tuple[Tool, ...] = ()
        self.running: list[asyncio.Task[None]] = []

    async def begin(self) -> None:
        """Ask which tools there are."""
        self.offered = await on_offer(self._caller, self._llm)

    @property
    def made(self) -> tuple[CalledTool, ...]:
        """All calls so far, in order, those too of which nothing has come back."""
        return tuple(made.told for made in self._made)

    @property
    def is_spent(self) -> bool:
        """Whether the model was told that it was enough: no more calls."""
        return self._rounds_left < 0

    async def make(self, said: str, calls: Sequence[ToolCall], room_tokens: int) -> list[Message]:
        """Make `calls`, all at once; the messages that tell of them, which take `room_tokens` at most.

        `said` is what the model said before them in the same breath.
        """
        made = [_Made(call) for call in calls]
        self._made += made
        self._rounds_left -= 1
        if self.is_spent:
            for refused in made:
                refused.result = ENOUGH
        else:
            room_tokens -= cost(_messages(made, said), self._llm.count_tokens)
            async with asyncio.TaskGroup() as tasks:
                self.running = [tasks.create_task(self._call(one, room_tokens // len(made))) for one in made]
        return _messages(made, said)

    async def _call(self, made: _Made, room_tokens: int) -> None:
        assert self._caller is not None
        try:
            outcome = await self._caller.call(self._turn_id, made.call)
        except AvatarError as error:
            outcome = CallOutcome(describe(error).message, is_error=True)
        except Exception:
            logger.exception("turn %s: a tool could not be called", self._turn_id)
            outcome = CallOutcome("The tool failed.", is_error=True)
        text = outcome.text.encode("utf-8", "replace").decode()  # JSON may hold halves of characters
        made.result = await asyncio.to_thread(fitting, text, room_tokens, self._llm.count_tokens)


async def on_offer(caller: Caller | None, llm: LanguageModel) -> tuple[Tool, ...]:
    """The tools there are. They may take `OFFER_SHARE` of the context; the last are left out."""
    offer = () if caller is None else tuple(await caller.offer())
    room_tokens = OFFER_SHARE * llm.context_tokens
    for place, tool in enumerate(offer):
        room_tokens -= offer_cost([tool], llm.count_tokens)
        if room_tokens < 0:
            for left_out in offer[place:]:
                warn_once("the tool %s is not offered: the model's context is too small for so many", left_out.name)
            return offer[:place]
    return offer


@lru_cache(maxsize=256)
def warn_once(message: str, name: str) -> None:
    """Log `message` of a tool or a server, the first time: tools are offered several times a second."""
    logger.warning(message, name)


def _messages(made: Sequence[_Made], said: str) -> list[Message]:
    return [message_of(line) for line in call_lines([one.told for one in made], said)]


def message_of(line: Line) -> Message:
    """A line of the prompt as engines take it."""
    called = line.called
    if called is None:
        return Message(line.role, line.content)
    if line.role == "tool":
        return Message("tool", line.content, tool_call_id=called.id)
    return Message(line.role, line.content, (ToolCall(called.id, called.name, called.arguments),))


def fitting(text: str, room_tokens: int, count_tokens: Callable[[str], int]) -> str:
    """The beginning of `text` that fits, marked where it was cut."""
    room_tokens = max(room_tokens, LEAST_RESULT_TOKENS)
    end = min(len(text), room_tokens * _MAX_CHARS_PER_TOKEN)
    if end == len(text) and count_tokens(text) <= room_tokens:
        return text
    room_tokens -= count_tokens(CUT)
    while end and (used := count_tokens(text[:end])) > room_tokens:
        end = min(end - 1, end * max(room_tokens, 0) // used)
    return text[:end] + CUT


def cost(messages: Sequence[Message], count_tokens: Callable[[str], int]) -> int:
    """What they take of the context."""
    written = [
        message.content + "".join(call.name + call.arguments for call in message.tool_calls) for message in messages
    ]
    return sum(count_tokens(text) + MESSAGE_OVERHEAD_TOKENS for text in written)


def offer_cost(tools: Sequence[Tool], count_tokens: Callable[[str], int]) -> int:
    """What it takes of the context to have them on offer."""
    written = (json.dumps([tool.name, tool.description, tool.parameters], ensure_ascii=False) for tool in tools)
    return sum(count_tokens(text) + MESSAGE_OVERHEAD_TOKENS for text in written)


def callable_name(name: str) -> str:
    """A tool's name as models take it: letters, digits, `_` and `-`, up to 64, as OpenAI has it."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", name)[:64]


def readable_arguments(arguments: str) -> str:
    """As a chat template can read them: what is no JSON object, as models sometimes write, is an empty one."""
    try:
        return arguments if isinstance(json.loads(arguments), dict) else "{}"
    except ValueError:
        return "{}"
