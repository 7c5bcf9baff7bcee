"""Refusals over HTTP are answers, not accidents."""

import logging
from pathlib import Path

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
