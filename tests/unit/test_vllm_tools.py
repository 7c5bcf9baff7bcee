"""Tools on vLLM, with a stand-in for its engine: what the prompt holds and what is made of the text."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from avatar.engines.base import Message, Sampling, TokensSpent, Tool
from avatar.engines.llm.vllm import Vllm

NOW = Tool("now", "The time.", {"type": "object"})


class Letters:
    """A tokenizer of one token a letter."""

    def apply_chat_template(self, messages: list[Any], tools: Any, **_: Any) -> list[int]:
        return self.encode(f"{'tools ' if tools else ''}{messages[-1]['content']}|")

    def encode(self, text: str, **_: Any) -> list[int]:
        return [ord(letter) for letter in text]


class Writer:
    """Writes `text` in pieces, and notes the prompt."""

    errored = False

    def __init__(self, text: str) -> None:
        self.text = text
        self.prompt = ""

    async def generate(self, prompt: dict[str, list[int]], *_: Any) -> AsyncIterator[Any]:
        self.prompt = "".join(map(chr, prompt["prompt_token_ids"]))
        pieces = [self.text[start : start + 3] for start in range(0, len(self.text), 3)]
        for piece, reason in [*((piece, None) for piece in pieces), ("", "stop")]:
            yield SimpleNamespace(outputs=[SimpleNamespace(text=piece, finish_reason=reason, token_ids=[*piece])])


@pytest.mark.parametrize(
    ("choice", "written", "prompt"),
    [
        ("auto", 'Well. <tool_call>{"name": "now", "arguments": {}}</tool_call>', "tools Hi|"),
        ("required", 'now", "arguments": {}}\n</tool_call>', 'tools Hi|<tool_call>\n{"name": "'),
        ("now", "{}}\n</tool_call>", 'tools Hi|<tool_call>\n{"name": "now", "arguments": '),
    ],
)
async def test_tools(choice: str, written: str, prompt: str) -> None:
    engine, writer = Vllm(Path("model")), Writer(written)
    engine._engine, engine._tokenizer = writer, Letters()
    engine._vllm = SimpleNamespace(SamplingParams=lambda **_: None)
    async with aclosing(engine._answer([Message("user", "Hi")], [NOW], Sampling(tool_choice=choice))) as deltas:
        *said, last = [delta async for delta in deltas]
    assert "".join(delta.text for delta in said).strip() == ("Well." if choice == "auto" else "")
    assert [(call.name, call.arguments) for call in last.tool_calls] == [("now", "{}")]
    assert writer.prompt == prompt
    assert last.spent == TokensSpent(len(prompt), len(written))
    engine._templating.shutdown()
