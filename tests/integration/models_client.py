"""Asking a server for models: its fixtures, and what every test of models says to it."""

import asyncio
import json
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from avatar.hub import presence
from avatar.settings import Settings
from tests.integration.hub_server import Hub, hub
from tests.integration.serving import Server, fake_engines, serving, settings_for, settled

__all__ = ["hub"]  # the fixture

BASE = "Qwen/Qwen3-TTS-12Hz-0.6B-Base"
TOKENIZER = "Qwen/Qwen3-TTS-Tokenizer-12Hz"
SCOPE = "qwen3_tts_models"


def safetensors(size_bytes: int) -> bytes:
    header = json.dumps({"w": {"dtype": "U8", "shape": [size_bytes], "data_offsets": [0, size_bytes]}}).encode()
    return struct.pack("<Q", len(header)) + header + bytes(size_bytes)


TOKENIZER_FILES = {
    "config.json": b'{"model_type": "qwen3_tts_tokenizer_12hz"}',
    "model.safetensors": safetensors(1 << 20),
    "preprocessor_config.json": b"{}",
}


@pytest.fixture
def tokenizer_hub(hub: Hub) -> Hub:
    """The hub with the 12 Hz tokenizer, at both providers."""
    hub.repos[TOKENIZER] = dict(TOKENIZER_FILES)
    return hub


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.delenv(presence.QWEN_TTS_DIR, raising=False)
    return settings_for(tmp_path)


@pytest_asyncio.fixture
async def server(settings: Settings) -> AsyncIterator[Server]:
    async with serving(fake_engines(), settings) as running:
        yield running


async def call(server: Server, method: str, path: str, body: object = None, **headers: str) -> tuple[int, Any]:
    """Status and JSON, or text where it is not JSON."""
    async with (
        aiohttp.ClientSession() as http,
        http.request(method, server.url + path, json=body, headers=headers) as response,
    ):
        text = await response.text()
        return response.status, json.loads(text) if text and "json" in response.content_type else text


@asynccontextmanager
async def news(server: Server, scope: str = "models") -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    async with aiohttp.ClientSession() as http, http.ws_connect(f"{server.url}/ws/events?scope={scope}") as socket:
        yield socket


async def until(socket: aiohttp.ClientWebSocketResponse, *states: str) -> list[dict[str, Any]]:
    """What is told until a job is in one of these states."""
    told: list[dict[str, Any]] = []
    async with asyncio.timeout(15):
        while not told or told[-1]["state"] not in states:
            told.append(await socket.receive_json())
    return told


async def received(server: Server, size_bytes: int, key: str = "tiny") -> None:
    """Wait until that much of the weights is on the disk, and the hub has gone silent."""
    part = server.service.settings.models_dir / key / "sub/model.bin.part"
    await settled(lambda: part.exists() and part.stat().st_size >= size_bytes)
