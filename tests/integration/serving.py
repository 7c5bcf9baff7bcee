"""A real server on a real socket: uvicorn as in production, the engines a test brings, a store in a folder."""

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import aiohttp
import uvicorn

from avatar.app import assemble
from avatar.cli.serving import uvicorn_config
from avatar.conversation.lineup import Pick
from avatar.conversation.terms import Engines
from avatar.core.audio import Pcm, float_to_pcm16, pcm16_to_float
from avatar.engines.base import STAGES, Engine, Stage
from avatar.service import Service
from avatar.settings import Settings, load
from tests.unit.conversation import Fakes

SETTLE_S = 10
BUFFER_BYTES = 1 << 16
"""The kernel's own buffers hold half a minute of audio: too long to wait for a test of clients that do not read."""


def fake_engines(fakes: Fakes | None = None) -> Engines:
    """Fakes in every stage."""
    return (fakes or Fakes()).engines


def picks_of(engines: Engines) -> dict[Stage, Pick]:
    """Engines that exist already, as what a service begins with."""

    def pick(engine: Engine) -> Pick:
        return Pick(engine.name, None, "", "given", lambda: engine)

    return {stage: pick(getattr(engines, stage)) for stage in STAGES}


@dataclass
class Server:
    """Where it is, and its inside for a look after the fact."""

    url: str
    service: Service

    @asynccontextmanager
    async def client(self, **headers: str) -> AsyncIterator["WireClient"]:
        """A WebSocket client at `/ws/chat`."""
        async with aiohttp.ClientSession() as http, http.ws_connect(f"{self.url}/ws/chat", headers=headers) as ws:
            yield WireClient(ws)

    async def get(self, path: str) -> tuple[int, Any]:
        """Status and JSON of a GET."""
        async with aiohttp.ClientSession() as http, http.get(self.url + path) as response:
            return response.status, await response.json()


@dataclass
class WireClient:
    """Sends and notes messages as any client would."""

    ws: aiohttp.ClientWebSocketResponse
    messages: list[dict[str, Any]] = field(default_factory=list)
    audio: bytes = b""

    async def send(self, type_: str, **fields: Any) -> None:
        await self.ws.send_json({"type": type_, **fields})

    async def start(self, **fields: Any) -> dict[str, Any]:
        await self.send("session.start", **fields)
        return await self.until("session.ready")

    async def speak(self, pcm: Pcm, rate_hz: int = 16_000, frame_ms: int = 20) -> Self:
        """Send audio in real time."""
        frame = rate_hz * frame_ms // 1000
        loop = asyncio.get_running_loop()
        began = loop.time()
        for start in range(0, pcm.size, frame):
            await self.ws.send_bytes(float_to_pcm16(pcm[start : start + frame]))
            await asyncio.sleep(max(0.0, began + (start + frame) / rate_hz - loop.time()))
        return self

    async def until(self, type_: str, timeout_s: float = SETTLE_S) -> dict[str, Any]:
        """Read until a message of that type; all that comes is noted."""
        async with asyncio.timeout(timeout_s):
            while True:
                message = await self.read()
                if message is not None and message["type"] == type_:
                    return message

    async def read(self) -> dict[str, Any] | None:
        """One frame; None for audio. Raises `ConnectionError` when the server hung up."""
        frame = await self.ws.receive()
        if frame.type is aiohttp.WSMsgType.BINARY:
            self.audio += frame.data
            return None
        if frame.type is not aiohttp.WSMsgType.TEXT:
            raise ConnectionError(f"closed with {self.ws.close_code}")
        message: dict[str, Any] = json.loads(frame.data)
        self.messages.append(message)
        return message

    @property
    def pcm(self) -> Pcm:
        """All audio that came."""
        return pcm16_to_float(self.audio)


def settings_for(folder: Path, **overrides: Any) -> Settings:
    """Settings with everything in `folder`."""
    return load(overrides={"data_dir": folder, "models_dir": folder / "models", **overrides})


@asynccontextmanager
async def serving(engines: Engines | Mapping[Stage, Pick], settings: Settings) -> AsyncIterator[Server]:
    """Serve until the body ends; then every task and child is gone."""
    service = Service(settings, picks_of(engines) if isinstance(engines, Engines) else engines)
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)  # as `avatar serve` does it
    listening.bind(("127.0.0.1", 0))
    listening.listen()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_BYTES)
    server = uvicorn.Server(uvicorn_config(assemble(service), settings))
    server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign,assignment]  # those are pytest's
    running = asyncio.create_task(server.serve([listening]))
    here = Server(f"http://127.0.0.1:{listening.getsockname()[1]}", service)
    try:
        await _ready(here, running)
        yield here
    finally:
        server.should_exit = True
        await running
        listening.close()


async def _ready(server: Server, running: "asyncio.Task[None]") -> None:
    async with asyncio.timeout(60):
        while not running.done():
            try:
                status, _ = await server.get("/readyz")
            except aiohttp.ClientConnectionError:
                status = 0
            if status == 200:
                return
            await asyncio.sleep(0.02)
    await running


async def settled(condition: Callable[[], bool]) -> None:
    """Wait until `condition()` holds; `TimeoutError` if it does not soon."""
    async with asyncio.timeout(SETTLE_S):
        while not condition():  # noqa: ASYNC110  (what is watched has no event to wait for)
            await asyncio.sleep(0.01)
