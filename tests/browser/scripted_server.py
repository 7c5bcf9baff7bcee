"""A server that speaks the wire of `/ws/chat` as a test tells it to, and serves the built page.

The page is the thing under test, so this is no engine: it says exactly what the test says, and keeps what it gets.
"""

import asyncio
import json
from pathlib import Path
from typing import Any

from aiohttp import WSCloseCode, WSMsgType, web

READY: dict[str, Any] = {
    "type": "session.ready",
    "session_id": "s1",
    "conversation_id": "c1",
    "resume_token": "r1",
    "mode": "live",
    "engines": {
        "vad": "silero (v6)",
        "end_of_turn": "smart-turn (v3)",
        "stt": "moonshine (moonshine-tiny-en)",
        "llm": "llama.cpp (SmolLM2-135M-Instruct.Q4_1)",
        "tts": "espeak-ng (en-us)",
    },
    "output": {"format": "pcm16", "sample_rate": 22050},
    "limits": {
        "max_buffer_bytes": 10_000_000,
        "max_buffer_chunks": 1000,
        "max_utterance_s": 60.0,
        "max_message_bytes": 1 << 20,
        "max_text_chars": 8000,
    },
}
CSP = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'"
"""As strict as it gets: the page must work under it."""

WAIT_S = 10.0


class Connection:
    """One page's socket: what came, and a way to answer."""

    def __init__(self, socket: web.WebSocketResponse) -> None:
        self.socket = socket
        self.messages: list[dict[str, Any]] = []
        self.frames: list[bytes] = []
        self._unread: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    async def expect(self, kind: str) -> dict[str, Any]:
        """The next message of this type; others before it are passed over."""
        async with asyncio.timeout(WAIT_S):
            while (message := await self._unread.get())["type"] != kind:
                pass
        return message

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [message for message in self.messages if message["type"] == kind]

    async def say(self, kind: str, **fields: Any) -> None:
        await self.socket.send_json({"type": kind, "session_id": "s1", **fields})

    async def ready(self, **fields: Any) -> None:
        await self.socket.send_json({**READY, **fields})

    async def sound(self, pcm: bytes, chunk_bytes: int = 4410) -> None:
        for at in range(0, len(pcm), chunk_bytes):
            await self.socket.send_bytes(pcm[at : at + chunk_bytes])

    async def done(self, turn_id: str, status: str = "completed", heard_text: str = "", **metrics: Any) -> None:
        await self.say(
            "reply.done", turn_id=turn_id, status=status, heard_text=heard_text, metrics={"trace": [], **metrics}
        )

    async def close(self, code: int = WSCloseCode.GOING_AWAY) -> None:
        await self.socket.close(code=code)

    async def read(self) -> None:
        async for message in self.socket:
            if message.type == WSMsgType.BINARY:
                self.frames.append(message.data)
            elif message.type == WSMsgType.TEXT:
                data = json.loads(message.data)
                self.messages.append(data)
                if data["type"] == "ping":
                    await self.say("pong")
                self._unread.put_nowait(data)


class ScriptedServer:
    """Use it as `async with ScriptedServer(folder_of_the_built_page) as server`."""

    url: str

    def __init__(self, page_files: Path) -> None:
        self._page_files = page_files
        self._new: asyncio.Queue[Connection] = asyncio.Queue()
        self.connections: list[Connection] = []

    async def next_connection(self) -> Connection:
        """Waits for a page to connect; nothing has been answered yet."""
        async with asyncio.timeout(WAIT_S):
            return await self._new.get()

    async def session(self, **ready: Any) -> Connection:
        """Waits for a page to connect and to start its session, and says that it is ready."""
        connection = await self.next_connection()
        start = await connection.expect("session.start")
        await connection.ready(mode=start["mode"], **ready)
        return connection

    async def __aenter__(self) -> "ScriptedServer":
        app = web.Application()
        app.router.add_get("/ws/chat", self._chat)
        app.router.add_get("/ws/events", self._events)
        app.router.add_get("/{path:.*}", self._file)
        self._runner = web.AppRunner(app, shutdown_timeout=1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}/"
        return self

    async def __aexit__(self, *_: object) -> None:
        for connection in self.connections:
            await connection.close()
        await self._runner.cleanup()

    async def _chat(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        connection = Connection(socket)
        self.connections.append(connection)
        self._new.put_nowait(connection)
        await connection.read()
        return socket

    async def _events(self, request: web.Request) -> web.WebSocketResponse:
        """Nothing ever happens."""
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for _ in socket:
            pass
        return socket

    async def _file(self, request: web.Request) -> web.FileResponse:
        path = self._page_files / (request.match_info["path"] or "index.html")
        if not path.is_file():
            raise web.HTTPNotFound
        return web.FileResponse(path, headers={"Content-Security-Policy": CSP})
