"""A server on a real socket that speaks OpenAI's speech route as vLLM-Omni does, and can be told to fail.

It hums 50 ms a character at 24 kHz, after 0.1 s of silence, in blocks that cut samples in two.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
from aiohttp import web

from avatar.core.audio import float_to_pcm16

RATE_HZ = 24_000
_BLOCK_BYTES = 1999

Misbehaviour = Callable[[web.Request], Awaitable[web.StreamResponse | None]]


class SpeechServer:
    """Answers unless `misbehave` answers first; `requests` holds the bodies it was sent. `voices`: what it tells of its
    voices, None when it has no such route."""

    def __init__(self) -> None:
        self.voices: dict[str, Any] | None = {"voices": ["vivian", "ryan"], "uploaded_voices": []}
        self.models = ["tiny-tts"]
        self.misbehave: Misbehaviour | None = None
        self.requests: list[dict[str, Any]] = []
        self.gone = asyncio.Event()
        self.base_url = ""

    @asynccontextmanager
    async def running(self) -> AsyncIterator["SpeechServer"]:
        app = web.Application(client_max_size=1 << 26)
        app.router.add_get("/v1/models", self._models)
        app.router.add_get("/v1/audio/voices", self._voices)
        app.router.add_post("/v1/audio/speech", self._speak)
        runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.base_url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
        try:
            yield self
        finally:
            await runner.cleanup()

    async def _models(self, request: web.Request) -> web.StreamResponse:
        data = [{"id": name, "object": "model", "created": 0, "owned_by": "tests"} for name in self.models]
        return web.json_response({"object": "list", "data": data})

    async def _voices(self, request: web.Request) -> web.StreamResponse:
        return web.json_response(self.voices) if self.voices is not None else web.Response(status=404)

    async def _speak(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.requests.append(body)
        try:
            return (self.misbehave and await self.misbehave(request)) or await self._hum(request, body["input"])
        except (asyncio.CancelledError, ConnectionError):
            self.gone.set()
            raise

    async def _hum(self, request: web.Request, text: str) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "audio/pcm"})
        await response.prepare(request)
        for block in blocks(text):
            await response.write(block)
            await asyncio.sleep(0)
        return response


def blocks(text: str) -> list[bytes]:
    """The whole hum, cut at odd places."""
    tone = 0.3 * np.sin(np.arange(len(text) * RATE_HZ // 20) / 17)
    data = float_to_pcm16(np.concatenate([np.zeros(RATE_HZ // 10), tone]).astype(np.float32))
    return [data[start : start + _BLOCK_BYTES] for start in range(0, len(data), _BLOCK_BYTES)]
