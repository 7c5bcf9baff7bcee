"""A server on a real socket that speaks OpenAI's chat completions for a `LanguageModel`, and can be told to fail.

Holds what an adapter must survive: refusals, garbage, a cut in the middle. Sees when its client goes away.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Any

from aiohttp import web

from avatar.engines.base import LanguageModel, Message, Sampling, Tool, ToolCall

Misbehaviour = Callable[[web.Request], Awaitable[web.StreamResponse | None]]


class OpenAIServer:
    """Answers with `model`, unless `misbehave` answers first. `requests` holds the bodies it was sent."""

    def __init__(self, model: LanguageModel) -> None:
        self.model = model
        self.models: list[dict[str, Any]] = [{"id": "fake", "object": "model", "created": 0, "owned_by": "tests"}]
        self.misbehave: Misbehaviour | None = None
        self.requests: list[dict[str, Any]] = []
        self.asked = asyncio.Event()
        self.gone = asyncio.Event()
        self.base_url = ""

    @asynccontextmanager
    async def running(self) -> AsyncIterator["OpenAIServer"]:
        app = web.Application()
        app.router.add_get("/v1/models", self._models)
        app.router.add_post("/v1/chat/completions", self._complete)
        runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.base_url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
        try:
            yield self
        finally:
            await runner.cleanup()

    async def _models(self, request: web.Request) -> web.StreamResponse:
        return web.json_response({"object": "list", "data": self.models})

    async def _complete(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.requests.append(body)
        self.asked.set()
        try:
            return (self.misbehave and await self.misbehave(request)) or await self._answer(request, body)
        except (asyncio.CancelledError, ConnectionError):
            self.gone.set()
            raise

    async def _answer(self, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        messages = [Message(entry["role"], entry["content"]) for entry in body["messages"]]
        tools = [Tool(**tool["function"]) for tool in body.get("tools", ())]
        sampling = Sampling(body["max_tokens"], tool_choice=_choice(body.get("tool_choice", "auto")))
        if sum(self.model.count_tokens(message.content) for message in messages) > self.model.context_tokens:
            return refusal(400, "This model's maximum context length is exceeded.")
        response = await start_stream(request)
        async with aclosing(self.model.stream(messages, tools=tools, sampling=sampling)) as deltas:
            async for delta in deltas:
                for fragment in _fragments(delta.tool_calls):
                    await send(response, {"tool_calls": [fragment]})
                await send(response, {"content": delta.text}, delta.finish_reason)
        await response.write(b"data: [DONE]\n\n")
        return response


def _choice(wish: str | dict[str, Any]) -> str:
    return wish if isinstance(wish, str) else wish["function"]["name"]


def _fragments(calls: Sequence[ToolCall]) -> Iterator[dict[str, Any]]:
    """As servers stream calls: who is called first, then what with, bit by bit; parallel ones in turns."""
    for index, call in enumerate(calls):
        yield {"index": index, "id": call.id, "type": "function", "function": {"name": call.name, "arguments": ""}}
    for place in range(max((len(call.arguments) for call in calls), default=0)):
        for index, call in enumerate(calls):
            if place < len(call.arguments):
                yield {"index": index, "function": {"arguments": call.arguments[place]}}


def refusal(status: int, message: str) -> web.Response:
    """An error as such servers report it."""
    return web.json_response({"error": {"message": message, "type": "error", "code": status}}, status=status)


async def start_stream(request: web.Request) -> web.StreamResponse:
    """The beginning of a stream of events."""
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    return response


async def send(response: web.StreamResponse, delta: dict[str, Any], finish_reason: str | None = None) -> None:
    """One chunk of a completion."""
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    chunk = {"id": "1", "object": "chat.completion.chunk", "created": 0, "model": "fake", "choices": [choice]}
    await response.write(b"data: " + json.dumps(chunk).encode() + b"\n\n")
