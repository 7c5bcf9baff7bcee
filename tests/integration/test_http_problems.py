"""Refusals over HTTP are answers, not accidents."""

import logging
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from tests.integration.serving import fake_engines, serving, settings_for


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/api/conversations/conv_AAAAAAAAAAAAAAAAAAAAAA", 404, "NOT_FOUND"),
        ("/api/conversations?cursor=nonsense", 400, "BAD_MESSAGE"),
        ("/api/conversations?limit=nonsense", 400, "BAD_MESSAGE"),
        ("/nowhere", 404, "NOT_FOUND"),
    ],
)
async def test_a_refused_request_leaves_no_traceback(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, path: str, status: int, code: str
) -> None:
    async with serving(fake_engines(), settings_for(tmp_path)) as server:
        with caplog.at_level(logging.WARNING):
            answered, body = await server.get(path)
    assert (answered, body["code"]) == (status, code)
    assert [record.getMessage() for record in caplog.records if record.name.startswith("uvicorn")] == []


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/api/models/download"),
        ("POST", "/api/tts/qwen3/models/validate"),
        ("POST", "/api/engines/tts/load"),
        ("PATCH", "/api/conversations/conv_AAAAAAAAAAAAAAAAAAAAAA"),
    ],
)
async def test_a_large_body_is_refused_before_it_is_read(tmp_path: Path, method: str, path: str) -> None:
    async def endless() -> AsyncIterator[bytes]:
        yield b'{"key": "'
        for _ in range(200):
            yield bytes(100_000)

    async with serving(fake_engines(), settings_for(tmp_path)) as server, aiohttp.ClientSession() as http:
        headers = {"Content-Type": "application/json"}
        async with http.request(method, server.url + path, data=endless(), headers=headers) as response:
            assert response.status == 413
            assert (await response.json())["code"] == "BUFFER_LIMIT"
