"""`/ws/events` on a real server, and its feed: who gets which news, and what a slow reader costs."""

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from avatar.core.progress import JobProgress, JobState, bytes_progress
from avatar.server.events import MAX_WAITING, Feed, Subscription, TooSlow
from tests.integration.serving import Server, fake_engines, serving, settings_for, settled


def job(key: str, state: JobState = "running", scope: str = "models", **more: Any) -> JobProgress:
    return JobProgress(scope, key, state, **more)


async def all_of(subscription: Subscription) -> list[JobProgress]:
    """What can be had without waiting."""
    had: list[JobProgress] = []
    while True:
        try:
            async with asyncio.timeout(0):
                had.append(await subscription.get())
        except TimeoutError:
            return had


async def test_the_present_comes_first_then_changes() -> None:
    feed = Feed()
    feed.publish(job("a", "paused"))
    feed.publish(job("b"))
    feed.publish(job("b", "done"))
    with feed.subscribe() as subscription:
        assert await all_of(subscription) == [job("a", "paused")]
        feed.publish(job("a"))
        assert await subscription.get() == job("a")
        feed.publish(job("a", "failed", message="No room."))
        assert await subscription.get() == job("a", "failed", message="No room.")
    with feed.subscribe() as later:
        assert await all_of(later) == []


async def test_a_scope_keeps_other_jobs_out() -> None:
    feed = Feed()
    feed.publish(job("a", scope="voices"))
    feed.publish(job("a"))
    with feed.subscribe(["voices", "engines"]) as subscription:
        feed.publish(job("b", scope="engines"))
        feed.publish(job("b"))
        assert [progress.scope for progress in await all_of(subscription)] == ["voices", "engines"]


async def test_a_slow_reader_gets_the_newest_state_of_each_job() -> None:
    feed = Feed()
    with feed.subscribe() as subscription:
        for count in range(10_000):
            feed.publish(bytes_progress("models", str(count % 3), "downloading", count, 10_000, None))
        feed.publish(job("1", "done"))
        news = await all_of(subscription)
    assert [(progress.key, progress.done_bytes) for progress in news] == [("0", 9999), ("1", None), ("2", 9998)]


async def test_a_reader_with_news_of_too_many_jobs_is_let_go() -> None:
    feed = Feed()
    with feed.subscribe() as subscription:
        for count in range(MAX_WAITING + 1):
            feed.publish(job(str(count), "done"))
        with pytest.raises(TooSlow):
            await subscription.get()
    with feed.subscribe() as again:
        assert await all_of(again) == []


async def test_threads_may_publish() -> None:
    feed = Feed()

    def work(name: str) -> None:
        for count in range(500):
            feed.publish(bytes_progress("models", name, "downloading", count, 500, None))
        feed.publish(job(name, "done"))

    with feed.subscribe() as subscription:
        threads = [threading.Thread(target=work, args=(str(count),)) for count in range(4)]
        for thread in threads:
            thread.start()
        ended: set[str] = set()
        async with asyncio.timeout(10):
            while len(ended) < 4:
                progress = await subscription.get()
                assert progress.key not in ended
                ended |= {progress.key} if progress.ended else set()
        for thread in threads:
            thread.join()


@pytest_asyncio.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    async with serving(fake_engines(), settings_for(tmp_path)) as running:
        yield running


@asynccontextmanager
async def listening(server: Server, query: str = "", **headers: str) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    async with (
        aiohttp.ClientSession() as http,
        http.ws_connect(f"{server.url}/ws/events{query}", headers=headers) as socket,
    ):
        yield socket


async def test_over_the_wire(server: Server) -> None:
    feed = server.service.feed
    feed.publish(bytes_progress("models", "tiny", "downloading", 500, 2000, 100.0))
    feed.publish(job("声音", scope="voices"))
    async with listening(server, "?scope=models") as some, listening(server) as everything:
        assert await some.receive_json(timeout=5) == {
            "type": "progress",
            "scope": "models",
            "key": "tiny",
            "state": "running",
            "step": "downloading",
            "fraction": 0.25,
            "done_bytes": 500,
            "total_bytes": 2000,
            "bytes_per_s": 100.0,
            "eta_s": 15.0,
        }
        await some.send_str("what is sent is not looked at")
        feed.publish(job("tiny", "done"))
        assert await some.receive_json(timeout=5) == {
            "type": "progress",
            "scope": "models",
            "key": "tiny",
            "state": "done",
        }
        assert {(await everything.receive_json(timeout=5))["key"] for _ in range(2)} == {"tiny", "声音"}


async def test_a_page_of_another_site_is_refused(server: Server) -> None:
    with pytest.raises(aiohttp.WSServerHandshakeError, match="403"):
        async with listening(server, Origin="https://evil.example"):
            pass


async def test_nothing_is_left_of_a_listener_that_went(server: Server) -> None:
    feed = server.service.feed
    async with listening(server):
        assert len(feed._subscriptions) == 1
    await settled(lambda: not feed._subscriptions)
