"""What the language model is told of the conversation: the turns so far, as heard, cut to fit its context.

Pure. Knows tokens only through the counting function it is given.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from avatar.core.errors import BadMessage


@dataclass(frozen=True)
class CalledTool:
    """A tool that the model had called, with `arguments` (JSON text of an object), and the `result` it was told."""

    id: str
    name: str
    arguments: str = field(repr=False)
    result: str = field(repr=False)


@dataclass(frozen=True)
class PastTurn:
    """One exchange: what the user said, what was called for the answer, and what they heard of it."""

    user_text: str
    heard_text: str
    interrupted: bool = False
    calls: tuple[CalledTool, ...] = ()


@dataclass(frozen=True)
class Line:
    """One message of a prompt; `called`: the assistant asks for this call, or (role `tool`) this is what it came to."""

    role: Literal["system", "user", "assistant", "tool"]
    content: str
    called: CalledTool | None = None


INTERRUPTED = "(I interrupted you there.)"
"""Said for the user, before their next message: the model is told where it was cut off. A mark in the reply itself
would be imitated by small models, and a system message in the middle is refused by many chat templates."""
UNHEARD = "…"
"""Said for the assistant where tools were called and nothing was heard: after a tool's result comes its word."""

# Chat templates add role markers around each message: about this many tokens in ChatML, Llama and Mistral formats.
MESSAGE_OVERHEAD_TOKENS = 8
PROMPT_MARGIN_TOKENS = 32
"""Left free besides the answer: begin and end markers of the chat template, and the count's own error."""
# When history must shrink it shrinks to this share of the room, so that the prompt's beginning stays the same for
# many turns and the engine's prefix cache stays warm.
SHRINK_TO = 0.6


class History:
    """The turns of one conversation, oldest first."""

    def __init__(self, count_tokens: Callable[[str], int]) -> None:
        self._count_tokens = count_tokens
        self._turns: list[tuple[PastTurn, int]] = []

    def add(self, turn: PastTurn) -> None:
        """Append a finished exchange. One in which nothing was said leaves no trace."""
        if turn.user_text:
            self._turns.append((turn, sum(self._cost(line) for line in _lines(turn))))

    def prompt(self, instructions: str, user_text: str, room_tokens: int) -> list[Line]:
        """The prompt for `user_text`: instructions, as many recent turns as fit in `room_tokens`, the new message.

        Raises `BadMessage` when instructions and message alone are more than the model can read.
        """
        frame = [Line("system", instructions)] if instructions else []
        asked = Line("user", user_text)
        left = room_tokens - sum(self._cost(line) for line in [*frame, asked])
        if left < 0:
            raise BadMessage("That is more text than the language model can read at once. Say it in smaller parts.")
        self._shrink(left)
        past = [line for turn, _ in self._turns for line in _lines(turn)]
        return _merge([*frame, *past, asked])

    def _shrink(self, room_tokens: int) -> None:
        used = sum(cost for _, cost in self._turns)
        if used <= room_tokens:
            return
        while self._turns and used > room_tokens * SHRINK_TO:
            used -= self._turns.pop(0)[1]

    def _cost(self, line: Line) -> int:
        asked = line.called if line.role == "assistant" else None
        written = line.content + (asked.name + asked.arguments if asked else "")
        return self._count_tokens(written) + MESSAGE_OVERHEAD_TOKENS


def call_lines(calls: Sequence[CalledTool], said: str = "") -> list[Line]:
    """How the model is told of its calls, before which it `said` something: one after another, whatever was called at
    once, since many chat templates know one call a message only."""
    lines = [line for call in calls for line in (Line("assistant", "", call), Line("tool", call.result, call))]
    return [replace(lines[0], content=said), *lines[1:]] if lines else []


def _lines(turn: PastTurn) -> list[Line]:
    lines = [Line("user", turn.user_text), *call_lines(turn.calls)]
    heard = turn.heard_text or (UNHEARD if turn.calls else "")
    if not heard:
        return lines
    lines.append(Line("assistant", heard))
    return [*lines, Line("user", INTERRUPTED)] if turn.interrupted else lines


def _merge(lines: list[Line]) -> list[Line]:
    """Join neighbours of one role (a reply nobody heard leaves two user messages): many templates demand turns."""
    merged: list[Line] = []
    for line in lines:
        if merged and merged[-1].role == line.role and line.called is None:
            merged[-1] = Line(line.role, merged[-1].content + "\n" + line.content)
        else:
            merged.append(line)
    return merged
