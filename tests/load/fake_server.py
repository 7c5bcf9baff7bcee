"""A server that speaks `/ws/chat` with known delays and no model, so that a caller's measurements can be checked.

An utterance ends after `END_OF_TURN_MS` of silence by its samples; the reply is audible `think_ms` later. Not a double
of AVATAR's session: it has no turn-taking beyond that.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from aiohttp import WSMsgType, web

from avatar.core.audio import INPUT_RATE_HZ, float_to_pcm16, pcm16_to_float

END_OF_TURN_MS = 200
REPLY_HZ = 24_000
LEADING_SILENCE_MS = 30
LOUD = 0.02


@dataclass
class FakeServer:
    """`silent` and `error` are how it misbehaves; `received` keeps each client message, `audio_bytes` counts frames."""

    think_ms: int = 50
    reply_ms: int = 200
    silent: bool = False
    error: str = ""
    refuse: str = ""
    hang_up: bool = False
    url: str = ""
    received: list[dict[str, Any]] = field(default_factory=list)
    binary: list[bytes] = field(default_factory=list)
    _interrupt: asyncio.Event = field(default_factory=asyncio.Event)

    async def handle(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        if self.refuse:
            await socket.send_json({"type": "error", "code": self.refuse, "message": "No.", "fatal": True})
            await socket.close()
            return socket
        await socket.send_json({"type": "session.ready", "session_id": "s", "engines": {"llm": "fake"}})
        quiet_ms, replies = -1.0, list[asyncio.Task[None]]()
        async for message in socket:
            if message.type is WSMsgType.TEXT:
                self.received.append(json.loads(message.data))
                ended = self.received[-1]["type"] == "audio.end"
                if self.received[-1]["type"] == "interrupt":
                    self._interrupt.set()
            else:
                self.binary.append(message.data)
                quiet_ms, ended = _hear(message.data, quiet_ms) if self._is_live() else (quiet_ms, False)
            if ended:
                replies.append(asyncio.create_task(self._reply(socket, f"t{len(replies)}")))
        for reply in replies:
            reply.cancel()
        await asyncio.gather(*replies, return_exceptions=True)
        return socket

    def _is_live(self) -> bool:
        return any(message.get("mode") == "live" for message in self.received)

    async def _reply(self, socket: web.WebSocketResponse, turn_id: str) -> None:
        async def say(kind: str, **fields: Any) -> None:
            await socket.send_json({"type": kind, "session_id": "s", "turn_id": turn_id, **fields})

        if self.hang_up:
            await socket.close(code=1011)
            return
        if self.silent:
            return
        await say("transcript", text="a question", is_final=True)
        if self.error:
            await say("error", code=self.error, message="No.", fatal=False)
            await say("reply.done", status="failed", heard_text="", metrics={})
            return
        await asyncio.sleep(self.think_ms / 1000)
        await say("reply.text", delta="Yes.", is_final=True, text="Yes.")
        await say("reply.audio", sample_rate=REPLY_HZ)
        pcm = np.full(REPLY_HZ * self.reply_ms // 1000, 0.2, np.float32)
        pcm[: REPLY_HZ * LEADING_SILENCE_MS // 1000] = 0.0
        for frame in np.split(pcm, 10):
            await socket.send_bytes(float_to_pcm16(frame))
        status = "interrupted"
        try:
            await asyncio.wait_for(self._interrupt.wait(), self.reply_ms / 1000)
            self._interrupt.clear()
        except TimeoutError:
            status = "completed"
        await say("reply.done", status=status, heard_text="Yes.", metrics={"llm_ttft_ms": 12.0, "stt_ms": None})


def _hear(data: bytes, quiet_ms: float) -> tuple[float, bool]:
    """Milliseconds of silence after speech (-1: nobody has spoken), and whether the turn has just ended."""
    pcm = pcm16_to_float(data)
    if np.abs(pcm).max() > LOUD:
        return 0.0, False
    if quiet_ms < 0:
        return quiet_ms, False
    quiet_ms += pcm.size * 1000 / INPUT_RATE_HZ
    return (-1.0, True) if quiet_ms >= END_OF_TURN_MS else (quiet_ms, False)


@asynccontextmanager
async def serving(server: FakeServer) -> AsyncIterator[FakeServer]:
    """Serve on a free port of this machine; `server.url` says where."""
    app = web.Application()
    app.router.add_get("/ws/chat", server.handle)
    runner = web.AppRunner(app, shutdown_timeout=1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    server.url = f"ws://{host}:{port}/ws/chat"
    try:
        yield server
    finally:
        await runner.cleanup()
