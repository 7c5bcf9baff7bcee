"""A language model that says what the test tells it to, as slowly as the test wants, and counts what was asked of it.

Time passes by `asyncio.sleep` alone, so a virtual clock drives it. It holds to `tests/contract/test_llm_contract.py`.
"""

import asyncio
import re
from collections.abc import AsyncGenerator, Callable, Sequence

from avatar.core.errors import PromptTooLong
from avatar.engines.base import Capabilities, Delta, Message, Sampling, TokensSpent, Tool, ToolCall, ToolCallPiece

_CJK = "\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"\s*(?:[{_CJK}]|[^\s{_CJK}]+)|\s+$")

Replies = str | Sequence[str] | Callable[[Sequence[Message]], str]


class FakeLanguageModel:
    """Gives `replies` word by word: always the same text, one after another (the last for ever), or computed.

    With `calls` the answer ends in those, as long as tools are on offer and no result of one is the last message
    (`always_calls`: then too); without, in one of a tool that must be called.
    The arguments come in pieces of `piece_chars` before, each taking `token_s`, if that is more than none.
    After `error_after` deltas it raises `error`, if there is one, or waits for ever, if it `hang`s.
    All arguments are attributes that a test may change between requests.
    """

    name = "fake language model"
    capabilities = Capabilities(streams=True, concurrent=8)

    def __init__(
        self,
        replies: Replies = "I am fine. How are you?",
        first_token_s: float = 0.0,
        token_s: float = 0.0,
        error: Exception | None = None,
        error_after: int = 0,
        hang: bool = False,
        context_tokens: int = 4096,
        calls: Sequence[ToolCall] = (),
    ) -> None:
        self.calls = calls
        self.always_calls = False
        self.piece_chars = 0
        self.spent: TokensSpent | None = None
        self.replies = replies
        self.first_token_s = first_token_s
        self.token_s = token_s
        self.error = error
        self.error_after = error_after
        self.hang = hang
        self.context_tokens = context_tokens
        self.requests: list[tuple[Message, ...]] = []
        self.tools: list[tuple[Tool, ...]] = []
        self.samplings: list[Sampling] = []
        self.active = 0
        self.closed_early = 0
        self.read_s = 0.0
        """How long it takes to read a prompt ahead."""
        self.read: list[tuple[Message, ...]] = []
        self.read_cancelled = 0
        self.warmed_up = False
        self.closed = False

    async def warm_up(self) -> None:
        self.warmed_up = True

    async def aclose(self) -> None:
        self.closed = True

    def count_tokens(self, text: str) -> int:
        """Words, a Chinese or Japanese character being one."""
        return len(_WORD.findall(text))

    async def stream(
        self, messages: Sequence[Message], *, tools: Sequence[Tool] = (), sampling: Sampling | None = None
    ) -> AsyncGenerator[Delta, None]:
        self._check(messages)
        self.requests.append(tuple(messages))
        self.tools.append(tuple(tools))
        self.samplings.append(sampling or Sampling())
        words = _WORD.findall(self._reply(messages))
        most = (sampling or Sampling()).max_tokens
        complete = False
        self.active += 1
        try:
            for position, word in enumerate(words[:most]):
                await self._trouble(position)
                await asyncio.sleep(self.token_s if position else self.first_token_s)
                yield Delta(text=word)
            calls = self._calls(messages, tools, sampling or Sampling())
            pieces = [piece for call in calls for piece in self._pieces(call)]
            for position, piece in enumerate(pieces, min(len(words), most)):
                await self._trouble(position)
                await asyncio.sleep(self.token_s)
                yield Delta(call_pieces=(piece,))
            await self._trouble(min(len(words), most) + len(pieces))
            complete = True
            if calls:
                yield Delta(tool_calls=calls, finish_reason="tool_calls", spent=self.spent)
            else:
                yield Delta(finish_reason="length" if len(words) > most else "stop", spent=self.spent)
        finally:
            self.active -= 1
            self.closed_early += not complete

    async def read_ahead(
        self, messages: Sequence[Message], *, tools: Sequence[Tool] = (), sampling: Sampling | None = None
    ) -> None:
        self._check(messages)
        self.read.append(tuple(messages))
        self.read_cancelled += 1
        await asyncio.sleep(self.read_s)
        self.read_cancelled -= 1

    def _check(self, messages: Sequence[Message]) -> None:
        if sum(self.count_tokens(message.content) for message in messages) > self.context_tokens:
            raise PromptTooLong(
                f"The conversation does not fit into the fake's context of {self.context_tokens} tokens."
            )

    def _calls(self, messages: Sequence[Message], tools: Sequence[Tool], sampling: Sampling) -> tuple[ToolCall, ...]:
        if not tools or (messages[-1].role == "tool" and not self.always_calls):
            return ()
        if self.calls or sampling.tool_choice == "auto":
            return tuple(self.calls)
        name = tools[0].name if sampling.tool_choice == "required" else sampling.tool_choice
        return (ToolCall(f"call_{len(self.requests)}", name, "{}"),)

    def _pieces(self, call: ToolCall) -> list[ToolCallPiece]:
        if not self.piece_chars:
            return []
        starts = range(0, len(call.arguments), self.piece_chars)
        parts = ["", *(call.arguments[start : start + self.piece_chars] for start in starts)]
        return [ToolCallPiece(call.id, call.name, part) for part in parts]

    async def _trouble(self, given: int) -> None:
        if given < self.error_after:
            return
        if self.error is not None:
            raise self.error
        if self.hang:
            await asyncio.Event().wait()

    def _reply(self, messages: Sequence[Message]) -> str:
        if isinstance(self.replies, str):
            return self.replies
        if callable(self.replies):
            return self.replies(messages)
        return self.replies[min(len(self.requests), len(self.replies)) - 1]
