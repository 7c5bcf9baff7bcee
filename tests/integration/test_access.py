"""Keys: who brings one is let in by every door, and nobody else by any."""

import hmac
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import openai
import pytest
import pytest_asyncio

from avatar.app import create_app
from avatar.core.errors import SetupError
from avatar.server import access
from tests.integration.serving import Server, fake_engines, serving, settings_for

KEY = "a-key-of-this-test-0123456789"
OTHER = "another-key-of-this-test-0123456789"
NOT_KEYS = ["", "a-key-of-this-test", KEY + "x", KEY.upper(), "密钥"]
BEHIND = ["/", "/api/conversations", "/v1/models", "/v1/nowhere", "/nowhere", "//api/conversations", "/healthz/"]


@pytest_asyncio.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    async with serving(fake_engines(), settings_for(tmp_path, server={"api_keys": [KEY, OTHER]})) as running:
        yield running


async def get(server: Server, path: str, **headers: str) -> tuple[int, str, Any]:
    async with aiohttp.ClientSession() as http, http.get(server.url + path, headers=headers) as answer:
        is_json = "json" in answer.content_type
        return answer.status, answer.content_type, await (answer.json() if is_json else answer.text())


@pytest.mark.parametrize("path", BEHIND)
async def test_without_a_key_nothing_opens(server: Server, path: str) -> None:
    assert (await get(server, path))[0] == 401
    for key in NOT_KEYS:
        assert (await get(server, path, Authorization=f"Bearer {key}"))[0] == 401
    assert (await get(server, path, Cookie=f"{access.COOKIE}={KEY}"))[0] == 401


@pytest.mark.parametrize("key", [KEY, OTHER])
async def test_any_of_the_keys_opens(server: Server, key: str) -> None:
    assert (await get(server, "/api/conversations", Authorization=f"Bearer {key}"))[0] == 200
    assert (await get(server, "/api/conversations", Authorization=f"bearer  {key} "))[0] == 200


async def test_probes_want_no_key(server: Server) -> None:
    assert (await get(server, "/healthz"))[0] == (await get(server, "/readyz"))[0] == 200


async def test_a_refusal_is_in_the_words_of_who_asks(server: Server) -> None:
    _, kind, body = await get(server, "/api/conversations")
    assert (kind, body["code"]) == ("application/problem+json", "UNAUTHORIZED")
    _, _, body = await get(server, "/v1/models")
    assert (body["error"]["type"], body["error"]["code"]) == ("invalid_request_error", "invalid_api_key")
    _, kind, body = await get(server, "/", Accept="text/html,*/*")
    assert kind == "text/html"
    assert 'name="key"' in body


async def test_the_official_client_takes_the_refusal_for_what_it_is(server: Server) -> None:
    async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="wrong") as client:
        with pytest.raises(openai.AuthenticationError):
            await client.models.list()


async def test_sockets(server: Server) -> None:
    for wrong in ({}, {"Authorization": "Bearer wrong"}, {"Sec-WebSocket-Protocol": f"x, {access.KEY_SUBPROTOCOL}no"}):
        with pytest.raises(aiohttp.WSServerHandshakeError, match="401"):
            async with server.client(**wrong):
                pass
    for right in ({"Authorization": f"Bearer {KEY}"}, {"Sec-WebSocket-Protocol": access.KEY_SUBPROTOCOL + OTHER}):
        async with server.client(**right) as client:
            await client.start()


async def test_a_browser_gets_a_cookie_for_the_key(server: Server) -> None:
    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as http:
        for form in ({"key": "wrong"}, {}, {"key": KEY * 1000}):
            async with http.post(f"{server.url}/login", data=form, allow_redirects=False) as answer:
                assert (answer.status, answer.cookies) == (401, {})
        async with http.post(f"{server.url}/login", data={"key": KEY}, allow_redirects=False) as answer:
            assert (answer.status, answer.headers["Location"]) == (303, "/")
            cookie = answer.cookies[access.COOKIE]
        assert KEY not in cookie.value
        assert (cookie["httponly"], cookie["samesite"]) == (True, "strict")
        async with http.get(f"{server.url}/api/conversations") as answer:
            assert answer.status == 200
    given = f"{access.COOKIE}={cookie.value}"
    async with server.client(Cookie=given, Origin=server.url) as client:
        await client.start()
    for origin in ("http://evil.example", server.url + "0", "null"):
        assert (await get(server, "/api/conversations", Cookie=given, Origin=origin))[0] == 401


async def test_without_keys_everything_is_open(tmp_path: Path) -> None:
    async with serving(fake_engines(), settings_for(tmp_path)) as server:
        assert (await get(server, "/api/conversations"))[0] == 200


async def test_a_page_of_an_allowed_origin_may_ask(tmp_path: Path) -> None:
    page = "https://home.example"
    settings = settings_for(tmp_path, server={"api_keys": [KEY], "allowed_origins": [page]})
    asks = {"Origin": page, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
    async with serving(fake_engines(), settings) as server, aiohttp.ClientSession() as http:
        async with http.options(f"{server.url}/v1/models", headers=asks) as answer:
            assert (answer.status, answer.headers["Access-Control-Allow-Origin"]) == (200, page)
        async with http.options(f"{server.url}/v1/models", headers=asks | {"Origin": "https://evil.example"}) as answer:
            assert "Access-Control-Allow-Origin" not in answer.headers


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.7", "avatar.example"])
def test_an_address_others_reach_wants_a_key_or_a_word(tmp_path: Path, host: str) -> None:
    with pytest.raises(SetupError, match=r"server\.api_keys"):
        create_app(settings_for(tmp_path, server={"host": host}))
    access.check(host, [KEY], open_to_all=False)
    access.check(host, [], open_to_all=True)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_this_machine_alone_wants_none(host: str) -> None:
    access.check(host, [], open_to_all=False)


@pytest.mark.parametrize("key", ["short", "with a space in it!", "x" * 300])
def test_a_key_that_cannot_work_is_refused_and_not_repeated(tmp_path: Path, key: str) -> None:
    with pytest.raises(SetupError, match=r"server\.api_keys") as refusal:
        settings_for(tmp_path, server={"api_keys": [key]})
    assert key not in str(refusal.value)


def test_comparison_takes_no_short_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every key is compared, and by the function that takes as long whatever differs."""
    compared: list[bool] = []
    compare = hmac.compare_digest

    def watched(first: bytes, second: bytes) -> bool:
        compared.append(compare(first, second))
        return compared[-1]

    keys = access.Keys([KEY, OTHER])
    monkeypatch.setattr("avatar.server.access.hmac.compare_digest", watched)
    assert keys.admits(KEY)
    assert compared == [True, False]


def test_keys_are_not_in_the_repr_of_the_settings(tmp_path: Path) -> None:
    assert KEY not in repr(settings_for(tmp_path, server={"api_keys": [KEY]}))
