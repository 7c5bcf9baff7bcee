"""The names a server answers to: a page whose own name was pointed at this machine (DNS rebinding) gets nothing."""

from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio

from tests.integration.serving import Server, fake_engines, serving, settings_for

OURS = ["127.0.0.1:{port}", "localhost:{port}", "LocalHost", "[::1]:{port}", "page.localhost:{port}", "home.example"]
THEIRS = ["evil.example:{port}", "evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "10.0.0.1", "["]


@pytest_asyncio.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    settings = settings_for(tmp_path, server={"allowed_origins": ["https://home.example"]})
    async with serving(fake_engines(), settings) as running:
        yield running


def called(server: Server, host: str) -> dict[str, str]:
    host = host.format(port=server.url.rpartition(":")[2])
    return {"Host": host, "Origin": f"http://{host}"}


async def status(server: Server, headers: dict[str, str]) -> int:
    async with (
        aiohttp.ClientSession() as http,
        http.get(f"{server.url}/api/conversations", headers=headers) as response,
    ):
        return response.status


@pytest.mark.parametrize("host", OURS)
async def test_its_own_names(server: Server, host: str) -> None:
    headers = called(server, host)
    assert await status(server, headers) == 200
    async with server.client(**headers) as client:
        await client.start()


@pytest.mark.parametrize("host", THEIRS)
async def test_other_names(server: Server, host: str) -> None:
    headers = called(server, host)
    assert await status(server, headers) == 421
    with pytest.raises(aiohttp.WSServerHandshakeError, match="421"):
        async with server.client(**headers):
            pass


async def test_a_server_that_listens_to_others_has_whatever_name_they_give_it(tmp_path: Path) -> None:
    settings = settings_for(tmp_path, server={"host": "0.0.0.0"})
    async with serving(fake_engines(), settings) as server:
        assert await status(server, called(server, "avatar.home:{port}")) == 200
