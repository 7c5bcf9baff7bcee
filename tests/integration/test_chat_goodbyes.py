"""How `/ws/chat` lets go of clients that do not let go of it properly."""

import asyncio
import json
import logging
from contextlib import suppress
from pathlib import Path

import aiohttp
import pytest

from avatar.core.audio import Pcm
from tests.fakes.vad import FakeVoiceActivity, FakeVoiceStream
from tests.integration.serving import fake_engines, serving, settings_for, settled
from tests.unit.conversation import Fakes


async def test_a_client_that_takes_nothing_is_dropped_in_time(tmp_path: Path) -> None:
    """Its slot is free soon after `send_timeout_s`: there is no waiting for it to take the goodbye."""
    settings = settings_for(tmp_path, server={"send_timeout_s": 0.5})
    long_answer = json.dumps({"type": "ping", "x" * 500_000: 1})  # the error names the field
    async with serving(fake_engines(), settings) as server, aiohttp.ClientSession() as http:
        ws = await http.ws_connect(f"{server.url}/ws/chat", max_msg_size=0)
        connection = ws._response.connection
        assert connection is not None
        assert connection.transport is not None
        connection.transport.pause_reading()
        sending = asyncio.create_task(send_all(ws, [long_answer] * 40))
        try:
            await settled(lambda: server.service.sessions.active == 1)
            await settled(lambda: server.service.sessions.active == 0)
        finally:
            connection.transport.abort()
            await sending
            await ws.close()


async def send_all(ws: aiohttp.ClientWebSocketResponse, frames: list[str]) -> None:
    with suppress(ConnectionError):
        for frame in frames:
            await ws.send_str(frame)


async def test_a_client_that_leaves_while_it_waits_for_a_slot(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    settings = settings_for(tmp_path, admission={"max_sessions": 1, "wait_s": 0.3})
    async with serving(fake_engines(), settings) as server, server.client() as first:
        await first.start()
        with caplog.at_level(logging.WARNING):
            async with server.client() as second:
                assert second.ws._response.connection is not None
                second.ws._response.connection.transport.abort()  # type: ignore[union-attr]
            await asyncio.sleep(0.6)
    assert [record.getMessage() for record in caplog.records if record.name.startswith("uvicorn")] == []


async def test_a_session_that_breaks_says_so_and_is_gone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    class Broken(FakeVoiceActivity):
        def open(self) -> FakeVoiceStream:
            return BrokenStream()

    class BrokenStream(FakeVoiceStream):
        def probabilities(self, pcm: Pcm) -> list[float]:
            raise RuntimeError("secret")

    async with serving(fake_engines(Fakes(vad=Broken())), settings_for(tmp_path)) as server, server.client() as client:
        await client.start(mode="live")
        await client.ws.send_bytes(bytes(3200))
        error = await client.until("error")
        assert (error["code"], error["fatal"]) == ("ENGINE_FAILED", True)
        assert "secret" not in error["message"]
        with pytest.raises(ConnectionError, match="1011"):
            await client.until("never")
        await settled(lambda: server.service.sessions.active == 0)
    told = {record.name for record in caplog.records if record.levelno == logging.ERROR}
    assert "avatar.server.chat" in told
    assert "uvicorn.error" not in told
