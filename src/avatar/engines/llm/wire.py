"""Chat completions as OpenAI's API writes them, which every engine here reads: the request out, the chunks back in.

Owns the translation between `engines.base` and those dictionaries. Knows no transport and no engine.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from secrets import token_hex
from typing import Any

from avatar.engines.base import Delta, Message, Sampling, TokensSpent, Tool, ToolCall, ToolCallPiece

_THINK, _THOUGHT = "<think>", "</think>"


def request(messages: Sequence[Message], tools: Sequence[Tool], sampling: Sampling) -> dict[str, Any]:
    """The body of a streaming request; what `sampling` leaves open is left out."""
    body: dict[str, Any] = {"messages": message_dicts(messages), "max_tokens": sampling.max_tokens, "stream": True}
    if tools:
        body["tools"] = tool_dicts(tools)
        if sampling.tool_choice != "auto":
            body["tool_choice"] = _choice(sampling.tool_choice)
    if sampling.schema:
        body["response_format"] = {"type": "json_schema", "json_schema": {"name": "answer", "schema": sampling.schema}}
    elif sampling.schema is not None:
        body["response_format"] = {"type": "json_object"}
    for key in ("temperature", "top_p", "seed"):
        if (value := getattr(sampling, key)) is not None:
            body[key] = value
    return body


def message_dicts(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """The prompt as `messages`."""
    return [_message_dict(message) for message in messages]


def tool_dicts(tools: Sequence[Tool]) -> list[dict[str, Any]]:
    """The functions on offer as `tools`."""
    return [
        {
            "type": "function",
            "function": {"name": tool.name, "description": tool.description, "parameters": tool.parameters},
        }
        for tool in tools
    ]


class ThoughtFilter:
    """Drops a `<think>…</think>` that an answer begins with, in whatever pieces it comes."""

    def __init__(self) -> None:
        self._held: str | None = ""

    def push(self, text: str) -> str:
        """What of `text` is to be said; what may yet turn out to be a thought is held back."""
        if self._held is None:
            return text
        self._held = (self._held + text).lstrip()
        if self._held.startswith(_THINK):
            _, thought, said = self._held.partition(_THOUGHT)
            if not thought:
                return ""
            self._held = None if said.strip() else said
            return said.lstrip()
        return "" if _THINK.startswith(self._held) else self.rest()

    def rest(self) -> str:
        """What is still held back at the end, unless it is a thought."""
        held, self._held = self._held or "", None
        return "" if held.startswith(_THINK) else held


@dataclass
class _Call:
    id: str
    name: str = ""
    arguments: str = ""
    told: int | None = None
    """Characters of the arguments that were given in pieces; None: the call is not begun."""
    is_over: bool = False
    """No more is given in pieces."""

    def pieces(self) -> Iterator[ToolCallPiece]:
        """What was not given yet, once it is known what is called."""
        if self.name and not self.is_over and self.told != len(self.arguments):
            yield ToolCallPiece(self.id, self.name, self.arguments[self.told :])
            self.told = len(self.arguments)

    def end(self) -> bool:
        """Another call is there, and this one over if it is whole; whether it is."""
        with suppress(ValueError):
            self.is_over = self.is_over or (bool(self.name) and json.loads(self.arguments) is not None)
        return self.is_over


@dataclass
class ChunkReader:
    """Reads the chunks of one answer: drops what a model thinks before it speaks, and completes its tool calls.

    Of a call whose chunks come among those of another there are pieces when the other is whole.
    """

    given: bool = False
    """A delta has been made: what fails now is lost, not refused."""
    finished: bool = False
    _calls: dict[int, _Call] = field(default_factory=dict)
    _thoughts: ThoughtFilter = field(default_factory=ThoughtFilter)

    def read(self, chunk: Mapping[str, Any]) -> Delta | None:
        """The delta in `chunk`, if there is one. Tool calls come in pieces, and with the last one whole."""
        choice = next(iter(chunk.get("choices") or ()), None) or {}
        delta = choice.get("delta") or {}
        self._collect(delta.get("tool_calls") or ())
        text = self._thoughts.push(delta.get("content") or "")
        if reason := choice.get("finish_reason"):
            self.given = self.finished = True
            return replace(self._last(text + self._thoughts.rest(), reason), spent=_spent(chunk))
        pieces = tuple(self._pieces()) if delta.get("tool_calls") else ()
        if not text and not pieces:
            return None
        self.given = True
        return Delta(text, call_pieces=pieces)

    def _last(self, text: str, reason: str) -> Delta:
        calls = tuple(ToolCall(call.id, call.name, call.arguments or "{}") for call in self._calls.values())
        if calls:
            return Delta(text, calls, "tool_calls")
        return Delta(text, finish_reason="length" if reason == "length" else "stop")

    def _collect(self, fragments: Sequence[Mapping[str, Any]]) -> None:
        """Calls are streamed in fragments: id and name first, then the arguments bit by bit."""
        for fragment in fragments:
            index, function = fragment.get("index") or 0, fragment.get("function") or {}
            if index not in self._calls:
                self._calls[index] = _Call(self._own_id(fragment.get("id")))
            call = self._calls[index]
            call.name = function.get("name") or call.name
            call.arguments += function.get("arguments") or ""

    def _own_id(self, told: str | None) -> str:
        """Some servers give none, or the same to each."""
        is_own = told and all(call.id != told for call in self._calls.values())
        return told if told and is_own else f"call_{token_hex(12)}"

    def _pieces(self) -> Iterator[ToolCallPiece]:
        calls = list(self._calls.values())
        for call in calls:
            yield from call.pieces()
            if call is not calls[-1] and not call.end():
                return


def _spent(chunk: Mapping[str, Any]) -> TokensSpent | None:
    """Of servers that tell unasked, in the chunk that ends the answer: llama.cpp's in `timings`, some in `usage`.

    OpenAI's is told on request alone, in a chunk of its own after that one; it is neither asked nor waited for.
    """
    if usage := chunk.get("usage"):
        return TokensSpent(usage.get("prompt_tokens") or 0, usage.get("completion_tokens") or 0)
    if timings := chunk.get("timings"):
        read = (timings.get("cache_n") or 0) + (timings.get("prompt_n") or 0)
        return TokensSpent(read, timings.get("predicted_n") or 0)
    return None


def _choice(wish: str) -> str | dict[str, Any]:
    return wish if wish == "required" else {"type": "function", "function": {"name": wish}}


def _message_dict(message: Message) -> dict[str, Any]:
    entry: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.tool_calls:
        entry["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in message.tool_calls
        ]
    if message.tool_call_id is not None:
        entry["tool_call_id"] = message.tool_call_id
    return entry
