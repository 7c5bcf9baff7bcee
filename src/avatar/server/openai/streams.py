"""Answers that come bit by bit, and clients that leave before the end: their work is stopped, and its engine freed.

Knows HTTP and asyncio; nothing of what is being sent.
"""

import asyncio
import json
import secrets
from collections.abc import AsyncGenerator, Awaitable, Mapping
from contextlib import aclosing
from typing import Any, TypeVar

from fastapi import Request
from fastapi.responses import StreamingResponse
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from avatar.server.openai import errors

T = TypeVar("T")

EVENT_STREAM = "text/event-stream"
CLIENT_LEFT = 499  # nginx's number for it; nobody is there to read it


async def while_connected(request: Request, work: Awaitable[T]) -> T:
    """The result of `work`, which is cancelled when the client leaves. The request's body must have been read."""
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_left(request.receive))
    try:
        await asyncio.wait([working, leaving], return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise HTTPException(CLIENT_LEFT, "The client left.")
    finally:
        for task in (working, leaving):
            task.cancel()
        await asyncio.wait([working, leaving])


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def begin(request: Request, stream: AsyncGenerator[T, None]) -> AsyncGenerator[T, None]:
    """`stream`, once it has given its first item: what fails before that is an HTTP error like any other."""
    try:
        first = await while_connected(request, anext(stream))
    except StopAsyncIteration:
        return _followed_by([], stream)
    return _followed_by([first], stream)


async def _followed_by(first: list[T], rest: AsyncGenerator[T, None]) -> AsyncGenerator[T, None]:
    async with aclosing(rest):
        for item in first:
            yield item
        async for item in rest:
            yield item


class LiveResponse(StreamingResponse):
    """Sends what `body` gives as it comes, and closes it however this ends: also when the client leaves, or takes
    nothing for `send_timeout_s`."""

    def __init__(
        self,
        body: AsyncGenerator[bytes, None],
        media_type: str,
        send_timeout_s: float,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(body, media_type=media_type, headers={"Cache-Control": "no-store", **(headers or {})})
        self._body = body
        self._send_timeout_s = send_timeout_s

    async def stream_response(self, send: Send) -> None:
        async def send_in_time(message: Message) -> None:
            async with asyncio.timeout(self._send_timeout_s):
                await send(message)

        try:
            async with aclosing(self._body):
                await super().stream_response(send_in_time)
        except Exception as error:  # too late for a status: the server ends the connection, and so the client sees it
            errors.log(error)


def event(data: dict[str, Any]) -> bytes:
    """A server-sent event, as OpenAI's clients read it."""
    return b"data: " + json.dumps(data).encode() + b"\n\n"


DONE = b"data: [DONE]\n\n"


async def events(items: AsyncGenerator[dict[str, Any], None], end: bytes = b"") -> AsyncGenerator[bytes, None]:
    """`items` as server-sent events, then `end`. An error on the way is the last of them."""
    try:
        async with aclosing(items):
            async for item in items:
                yield event(item)
    except Exception as error:
        errors.log(error)
        yield event(errors.body(error))
    else:
        yield end


class RequestIds:
    """ASGI middleware: every answer has an `x-request-id`, which OpenAI's clients tell their callers."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request_id = f"req_{secrets.token_hex(16)}".encode()

        async def send_named(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", ()), (b"x-request-id", request_id)]}
            await send(message)

        await self._app(scope, receive, send_named)
