"""The conversations API over a real store."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
import pytest_asyncio
from fastapi import FastAPI

from avatar.core.errors import ServerFull
from avatar.server import conversations, problems
from avatar.store import Store, Turn, TurnRecord, new_id

AUDIO = (np.sin(np.arange(16_000, dtype=np.float32) / 10), 16_000)


@pytest_asyncio.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    store = await Store.open(tmp_path)
    yield store
    await store.aclose()


@pytest_asyncio.fixture
async def client(store: Store) -> AsyncIterator[httpx2.AsyncClient]:
    app = FastAPI()
    problems.install(app)
    app.include_router(conversations.router(lambda: store))

    @app.get("/full")
    async def full() -> None:
        raise ServerFull("All places are taken; try again in a minute.")

    @app.get("/bug")
    async def bug() -> None:
        raise KeyError("what somebody said")

    transport = httpx2.ASGITransport(app, raise_app_exceptions=False)
    async with httpx2.AsyncClient(transport=transport, base_url="http://avatar") as client:
        yield client


async def conversation_with_turn(store: Store, user: str = "今天天气怎么样", heard: str = "晴天") -> Turn:
    conversation = await store.create_conversation(language="zh")
    return await store.save_turn(
        TurnRecord(
            conversation_id=conversation.id,
            input_kind="speech",
            status="interrupted",
            user_text=user,
            generated_text=f"{heard}，很热",
            heard_text=heard,
            timings={"voice_to_voice_ms": 412.5},
            engines={"stt": "moonshine"},
            user_audio=AUDIO,
        )
    )


def assert_problem(response: httpx2.Response, status: int, code: str) -> dict[str, Any]:
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = response.json()
    assert (body["status"], body["code"], body["type"]) == (status, code, "about:blank")
    assert body["title"]
    assert body["detail"]
    return body


async def test_pages(client: httpx2.AsyncClient, store: Store) -> None:
    made = [(await store.create_conversation(title=str(n))).id for n in range(5)]
    first = (await client.get("/api/conversations", params={"limit": 3})).json()
    rest = (await client.get("/api/conversations", params={"limit": 3, "cursor": first["next_cursor"]})).json()
    assert [item["id"] for item in first["items"] + rest["items"]] == made[::-1]
    assert rest["next_cursor"] is None
    assert first["items"][0]["created_at"].endswith("Z")


async def test_a_conversation_with_its_turns(client: httpx2.AsyncClient, store: Store) -> None:
    saved = await conversation_with_turn(store)
    body = (await client.get(f"/api/conversations/{saved.conversation_id}")).json()
    (turn,) = body["turns"]
    assert (body["title"], body["language"]) == ("今天天气怎么样", "zh")
    assert (turn["id"], turn["heard_text"], turn["status"]) == (saved.id, "晴天", "interrupted")
    assert turn["timings"] == {"voice_to_voice_ms": 412.5}
    assert (turn["has_user_audio"], turn["has_reply_audio"]) == (True, False)


@pytest.mark.parametrize("query", ["天气", "今天天气", "晴天，很热"])
async def test_search(client: httpx2.AsyncClient, store: Store, query: str) -> None:
    saved = await conversation_with_turn(store)
    await conversation_with_turn(store, "别的", "好的")
    (hit,) = (await client.get("/api/conversations/search", params={"q": query})).json()["items"]
    assert hit["turn_id"] == saved.id
    assert query in hit["excerpt"]


@pytest.mark.parametrize("query", ['"', "*", "NEAR(a b)", "a AND", "%", "';DROP TABLE turns;--", "\0", "😀", " "])
async def test_any_query_is_safe(client: httpx2.AsyncClient, store: Store, query: str) -> None:
    await conversation_with_turn(store)
    response = await client.get("/api/conversations/search", params={"q": query})
    assert (response.status_code, response.json()) == (200, {"items": []})


async def test_rename_and_delete(client: httpx2.AsyncClient, store: Store) -> None:
    turn = await conversation_with_turn(store)
    url = f"/api/conversations/{turn.conversation_id}"
    renamed = await client.patch(url, json={"title": "  Weather "})
    assert (renamed.status_code, renamed.json()["title"]) == (200, "Weather")
    assert (await client.delete(url)).status_code == 204
    assert_problem(await client.get(url), 404, "NOT_FOUND")
    assert_problem(await client.delete(url), 404, "NOT_FOUND")
    assert_problem(await client.patch(url, json={"title": "x"}), 404, "NOT_FOUND")
    assert_problem(await client.get(f"{url}/turns/{turn.id}/audio/user"), 404, "NOT_FOUND")
    assert_problem(await client.get(f"{url}/export"), 404, "NOT_FOUND")


async def test_export_as_json(client: httpx2.AsyncClient, store: Store) -> None:
    turn = await conversation_with_turn(store)
    response = await client.get(f"/api/conversations/{turn.conversation_id}/export")
    assert response.headers["content-type"] == "application/json"
    assert response.json() == (await client.get(f"/api/conversations/{turn.conversation_id}")).json()
    disposition = response.headers["content-disposition"]
    assert disposition.startswith(f'attachment; filename="{turn.conversation_id}.json"; ')
    assert disposition.endswith("filename*=UTF-8''%E4%BB%8A%E5%A4%A9%E5%A4%A9%E6%B0%94%E6%80%8E%E4%B9%88%E6%A0%B7.json")


async def test_export_as_markdown_is_what_was_heard(client: httpx2.AsyncClient, store: Store) -> None:
    turn = await conversation_with_turn(store)
    response = await client.get(f"/api/conversations/{turn.conversation_id}/export", params={"format": "markdown"})
    assert response.headers["content-type"] == "text/markdown; charset=utf-8"
    assert "**You:** 今天天气怎么样" in response.text
    assert "**AVATAR:** 晴天 *(interrupted)*" in response.text
    assert "很热" not in response.text


async def test_what_was_said_again_is_not_printed_twice(client: httpx2.AsyncClient, store: Store) -> None:
    conversation = await store.create_conversation()
    for user_text, superseded in (("I would like", True), ("I would like tea.", False)):
        said = TurnRecord(
            conversation_id=conversation.id,
            input_kind="speech",
            status="interrupted",
            user_text=user_text,
            superseded=superseded,
        )
        await store.save_turn(said)
    url = f"/api/conversations/{conversation.id}"
    printed = (await client.get(f"{url}/export", params={"format": "markdown"})).text
    assert printed.count("**You:**") == 1
    assert "**You:** I would like tea." in printed
    assert [turn["superseded"] for turn in (await client.get(url)).json()["turns"]] == [True, False]


async def test_a_title_cannot_break_out_of_the_download_header(client: httpx2.AsyncClient, store: Store) -> None:
    conversation = await store.create_conversation(title='a"\r\nSet-Cookie: x=1; ../../b')
    response = await client.get(f"/api/conversations/{conversation.id}/export")
    assert response.status_code == 200
    assert "set-cookie" not in response.headers
    assert "/" not in response.headers["content-disposition"].replace("%2F", "/").split("''")[1]


async def audio_url(store: Store) -> tuple[str, bytes]:
    turn = await conversation_with_turn(store)
    path = await store.audio_path(turn.conversation_id, turn.id, "user")
    return f"/api/conversations/{turn.conversation_id}/turns/{turn.id}/audio/user", path.read_bytes()


async def test_the_whole_recording(client: httpx2.AsyncClient, store: Store) -> None:
    url, data = await audio_url(store)
    response = await client.get(url)
    assert (response.status_code, response.content) == (200, data)
    assert response.headers["content-type"] == "audio/ogg"
    assert response.headers["accept-ranges"] == "bytes"
    assert response.headers["cache-control"] == "private, no-store"


@pytest.mark.parametrize(
    ("asked", "start", "end"),
    [("0-9", 0, 10), ("10-19", 10, 20), ("100-", 100, None), ("-7", -7, None), ("5-999999", 5, None)],
)
async def test_a_range_of_the_recording(
    client: httpx2.AsyncClient, store: Store, asked: str, start: int, end: int | None
) -> None:
    url, data = await audio_url(store)
    response = await client.get(url, headers={"Range": f"bytes={asked}"})
    part = data[start:end]
    first = data.index(part) if start < 0 else start
    assert (response.status_code, response.content) == (206, part)
    assert response.headers["content-range"] == f"bytes {first}-{first + len(part) - 1}/{len(data)}"
    assert response.headers["content-length"] == str(len(part))


async def test_a_range_past_the_end(client: httpx2.AsyncClient, store: Store) -> None:
    url, data = await audio_url(store)
    response = await client.get(url, headers={"Range": f"bytes={len(data)}-"})
    assert (response.status_code, response.headers["content-range"]) == (416, f"bytes */{len(data)}")


async def test_a_range_of_another_version_gets_the_whole(client: httpx2.AsyncClient, store: Store) -> None:
    url, data = await audio_url(store)
    etag = (await client.get(url)).headers["etag"]
    same = await client.get(url, headers={"Range": "bytes=0-9", "If-Range": etag})
    other = await client.get(url, headers={"Range": "bytes=0-9", "If-Range": '"other"'})
    assert (same.status_code, other.status_code, other.content) == (206, 200, data)


async def test_a_recording_belongs_to_its_conversation(client: httpx2.AsyncClient, store: Store) -> None:
    turn, other = await conversation_with_turn(store), await conversation_with_turn(store)
    base = f"/api/conversations/{other.conversation_id}/turns"
    assert_problem(await client.get(f"{base}/{turn.id}/audio/user"), 404, "NOT_FOUND")
    assert_problem(await client.get(f"{base}/{other.id}/audio/reply"), 404, "NOT_FOUND")
    body = assert_problem(await client.get(f"{base}/{other.id}/audio/both"), 400, "BAD_MESSAGE")
    assert body["fields"][0]["field"] == "path.side"


@pytest.mark.parametrize("trick", ["..%2F..%2F..%2Fetc%2Fpasswd", "%2e%2e", "..\\..", "%00", ".pending", "conv_%0a"])
async def test_an_id_is_never_a_path(client: httpx2.AsyncClient, store: Store, trick: str) -> None:
    turn = await conversation_with_turn(store)
    for url in (
        f"/api/conversations/{trick}",
        f"/api/conversations/{trick}/turns/{turn.id}/audio/user",
        f"/api/conversations/{turn.conversation_id}/turns/{trick}/audio/user",
        f"/api/conversations/{trick}/export",
    ):
        assert_problem(await client.get(url), 404, "NOT_FOUND")
    assert_problem(await client.delete(f"/api/conversations/{trick}"), 404, "NOT_FOUND")


@pytest.mark.parametrize(
    ("method", "path", "body", "field"),
    [
        ("GET", "?limit=0", None, "query.limit"),
        ("GET", "?limit=101", None, "query.limit"),
        ("GET", "?limit=many", None, "query.limit"),
        ("GET", "/search", None, "query.q"),
        ("GET", "/search?q=", None, "query.q"),
        ("GET", "/search?q=" + "a" * 201, None, "query.q"),
        ("GET", "/" + "a" * 65, None, "path.conversation_id"),
        ("GET", "/conv_x/export?format=pdf", None, "query.format"),
        ("PATCH", "/conv_x", {"title": " "}, "body.title"),
        ("PATCH", "/conv_x", {"title": 7}, "body.title"),
        ("PATCH", "/conv_x", {}, "body.title"),
        ("PATCH", "/conv_x", {"title": "x" * 201}, "body.title"),
        ("PATCH", "/conv_x", {"title": "x", "id": "y"}, "body.id"),
    ],
)
async def test_a_wrong_request_says_which_field(
    client: httpx2.AsyncClient, method: str, path: str, body: object, field: str
) -> None:
    problem = assert_problem(await client.request(method, "/api/conversations" + path, json=body), 400, "BAD_MESSAGE")
    assert [item["field"] for item in problem["fields"]] == [field]
    assert field in problem["detail"]


async def test_a_broken_body_and_a_wrong_cursor(client: httpx2.AsyncClient) -> None:
    json = {"content-type": "application/json"}
    for content in (b"{", b'{"title": "\xff"}', b'{"title": "\\ud800"}'):
        assert_problem(await client.patch("/api/conversations/x", content=content, headers=json), 400, "BAD_MESSAGE")
    problem = assert_problem(await client.get("/api/conversations?cursor=nonsense"), 400, "BAD_MESSAGE")
    assert "nonsense" not in problem["detail"]


async def test_other_failures_are_problems_too(client: httpx2.AsyncClient) -> None:
    assert_problem(await client.get("/nowhere"), 404, "NOT_FOUND")
    not_allowed = await client.post("/api/conversations")
    assert_problem(not_allowed, 405, "BAD_MESSAGE")
    assert not_allowed.headers["allow"] == "GET"
    assert_problem(await client.get("/full"), 503, "SERVER_FULL")
    assert "somebody" not in str(assert_problem(await client.get("/bug"), 500, "ENGINE_FAILED"))


async def test_a_store_that_fails_is_a_problem(client: httpx2.AsyncClient, store: Store) -> None:
    await store.aclose()
    assert_problem(await client.delete(f"/api/conversations/{new_id('conv')}"), 507, "NOT_SAVED")
