"""`/v1/chat/completions`: the language model as it is, for clients that want no voice.

What is sent is what the model gets: no instructions of ours, no history. Knows the engine by its Protocol.
"""

import secrets
import time
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from avatar.conversation.opening import House
from avatar.conversation.watch import Watchdog
from avatar.core.errors import PromptTooLong, UnusableSchema
from avatar.engines.base import Delta, LanguageModel, Message, Sampling, TokensSpent, ToolCall, ToolCallPiece
from avatar.server.openai import errors
from avatar.server.openai.chat_request import ChatRequest
from avatar.server.openai.models import model_name
from avatar.server.openai.service import Service
from avatar.server.openai.stopping import StopFilter
from avatar.server.openai.streams import DONE, EVENT_STREAM, LiveResponse, begin, events, while_connected

TEMPLATE_TOKENS = 32
"""Left free besides prompt and answer: the marks of the chat template, and the count's own error."""


@dataclass
class Answer:
    """One completion as it grows."""

    house: House
    asked: ChatRequest
    id: str = field(default_factory=lambda: f"chatcmpl-{secrets.token_hex(12)}")
    created: int = field(default_factory=lambda: int(time.time()))
    text: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    finish_reason: str = "stop"
    spent: TokensSpent | None = None
    _first_call: str | None = None

    async def think(self, llm: LanguageModel) -> AsyncGenerator[Delta, None]:
        """The model's deltas, less what lies behind a stop sequence."""
        policy = self.house.policy.reply
        watchdog = Watchdog("language model", policy.first_token_timeout_s)
        stopping = StopFilter(self.asked.stop_sequences)
        messages, tools = self.asked.prompt(), self.asked.offered_tools()
        stream = llm.stream(messages, tools=tools, sampling=self._sampling(llm, messages))
        try:
            async with aclosing(watchdog.watch(stream)) as deltas:
                async for delta in deltas:
                    watchdog.allow(policy.stall_timeout_s)
                    yield self._note(stopping.push(delta))
                    if stopping.stopped:
                        return
        except PromptTooLong as error:
            raise errors.WrongField("messages", str(error), "context_length_exceeded") from None
        except UnusableSchema as error:
            param = "tools" if self.asked.schema_of_answer is None else "response_format"
            raise errors.WrongField(param, str(error)) from None

    def _note(self, delta: Delta) -> Delta:
        calls, pieces = delta.tool_calls, delta.call_pieces
        if not self.asked.parallel_tool_calls:
            ids = chain((piece.id for piece in pieces), (call.id for call in calls))
            first = self._first_call = self._first_call or next(ids, None)
            calls = tuple(call for call in calls if call.id == first)
            pieces = tuple(piece for piece in pieces if piece.id == first)
        self.text += delta.text
        self.tool_calls += calls
        self.finish_reason = delta.finish_reason or self.finish_reason
        self.spent = delta.spent or self.spent
        return Delta(delta.text, calls, delta.finish_reason, call_pieces=pieces)

    def _sampling(self, llm: LanguageModel, messages: Sequence[Message]) -> Sampling:
        asked = self.asked
        used = sum(llm.count_tokens(message.content) + TEMPLATE_TOKENS for message in messages)
        room = max(llm.context_tokens - used, TEMPLATE_TOKENS)
        temperature = self.house.policy.reply.sampling.temperature if asked.temperature is None else asked.temperature
        if (schema := asked.schema_of_answer) is not None and not llm.capabilities.writes_json:
            raise errors.unsupported("response_format", f"{llm.name} writes free text; describe the form in a message.")
        most = min(asked.max_new_tokens or room, room)
        return Sampling(most, temperature, asked.top_p, asked.seed, asked.tool_wish, schema)

    @property
    def usage(self) -> dict[str, int]:
        """As the engine tells, or, where it does not, as it estimates, which is rather too much."""
        if self.spent is not None:
            prompt, completion = self.spent.prompt, self.spent.completion
        else:
            count = self.house.engines.llm.count_tokens
            prompt = sum(count(message.content) for message in self.asked.prompt())
            completion = count(self.text) + sum(count(call.name + call.arguments) for call in self.tool_calls)
            completion = min(completion, self.asked.max_new_tokens or completion)
        return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}

    def head(self, kind: str) -> dict[str, Any]:
        """What every object of this completion begins with."""
        model = model_name(self.house.engines.llm.name)
        return {"id": self.id, "object": kind, "created": self.created, "model": model}


def router(service: Service) -> APIRouter:
    """The route."""
    routes = APIRouter()

    @routes.post("/chat/completions")
    async def completions(asked: ChatRequest, request: Request) -> Response:
        asked.refuse_what_cannot_be()
        answer = Answer(service.house(), asked)
        if asked.stream:
            chunks = await begin(request, _tell(service, answer))
            return LiveResponse(events(chunks, DONE), EVENT_STREAM, service.send_timeout_s)
        await while_connected(request, _think_it_through(service, answer))
        return JSONResponse(_whole(answer))

    return routes


async def _think_it_through(service: Service, answer: Answer) -> None:
    async with service.at_work() as engines, aclosing(answer.think(engines.llm)) as deltas:
        async for _ in deltas:
            pass


async def _tell(service: Service, answer: Answer) -> AsyncGenerator[dict[str, Any], None]:
    """The chunks; the role comes with the first thing that is said, so that a failure before it is one of HTTP."""
    head, with_usage = answer.head("chat.completion.chunk"), answer.asked.include_usage
    usage: dict[str, Any] = {"usage": None} if with_usage else {}

    def chunk(delta: dict[str, Any], finish_reason: str | None = None) -> dict[str, Any]:
        return (
            head | {"choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}]} | usage
        )

    async with service.at_work() as engines, aclosing(answer.think(engines.llm)) as deltas:
        role: dict[str, Any] = {"role": "assistant"}
        written: dict[str, str] = {}
        async for delta in deltas:
            calls = list(_told(delta, written))
            if delta.text or (role and not calls):
                yield chunk(role | {"content": delta.text})
                role = {}
            for call in calls:
                yield chunk(role | {"tool_calls": [call]})
                role = {}
    yield chunk({}, answer.finish_reason)
    if with_usage:
        yield head | {"choices": [], "usage": answer.usage}


def _whole(answer: Answer) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": answer.text or None, "refusal": None}
    if answer.tool_calls:
        message["tool_calls"] = [_call(call) for call in answer.tool_calls]
    else:
        message["content"] = answer.text
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": answer.finish_reason}
    return answer.head("chat.completion") | {"choices": [choice], "usage": answer.usage}


def _told(delta: Delta, written: dict[str, str]) -> Iterator[dict[str, Any]]:
    """What chunks tell of calls; `written`: their arguments as far as they were told, by id."""

    def rest(call: ToolCall) -> ToolCallPiece:
        return ToolCallPiece(call.id, call.name, call.arguments[len(written.get(call.id, "")) :])

    for piece in chain(delta.call_pieces, map(rest, delta.tool_calls)):
        is_new = piece.id not in written
        written[piece.id] = written.get(piece.id, "") + piece.arguments
        if is_new or piece.arguments:
            told = _call(piece) if is_new else {"function": {"arguments": piece.arguments}}
            yield {"index": list(written).index(piece.id), **told}


def _call(call: ToolCall | ToolCallPiece) -> dict[str, Any]:
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
