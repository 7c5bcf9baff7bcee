"""`/ws/events`: the progress of jobs, of every kind, to whoever wants to know.

A `Feed` holds the newest state of each unfinished job and hands changes to its subscribers. Knows no job: whoever does
work is given `Feed.publish` as a plain function.
"""

import asyncio
import json
import logging
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter, Query, WebSocket
from starlette.websockets import WebSocketDisconnect

from avatar.core.progress import JobProgress
from avatar.server import hosts, sockets

logger = logging.getLogger(__name__)

JobId = tuple[str, str]

MAX_WAITING = 4096
"""Jobs with news for one subscriber. Who lets more of them pile up is let go, and finds the present state on return."""


class TooSlow(Exception):
    """The subscriber takes its news so slowly that some of it would be lost."""


class Subscription:
    """One reader's news: of each job only the newest state, in the order in which the jobs first had news."""

    def __init__(self, lock: threading.Lock, scopes: frozenset[str], present: Iterable[JobProgress]) -> None:
        self._lock = lock
        self._scopes = scopes
        self._waiting: dict[JobId, JobProgress] = {}
        self._too_slow = False
        self._loop = asyncio.get_running_loop()
        self._news = asyncio.Event()
        for job in present:
            self.offer(job)

    def offer(self, progress: JobProgress) -> None:
        """Take a state, instead of an older one of the same job. The caller holds the lock, in any thread."""
        if self._too_slow or (self._scopes and progress.scope not in self._scopes):
            return
        self._waiting[progress.scope, progress.key] = progress
        if len(self._waiting) > MAX_WAITING:
            self._too_slow = True
            self._waiting.clear()
        self._loop.call_soon_threadsafe(self._news.set)

    async def get(self) -> JobProgress:
        """The next state, waiting for one. Raises `TooSlow`."""
        while True:
            with self._lock:
                if self._too_slow:
                    raise TooSlow
                if self._waiting:
                    return self._waiting.pop(next(iter(self._waiting)))
            self._news.clear()  # whoever offers from another thread sets it later, on this loop
            await self._news.wait()


class Feed:
    """Passes the progress of jobs on. Bounded by the number of unfinished jobs, however fast they report."""

    def __init__(self) -> None:
        self._unfinished: dict[JobId, JobProgress] = {}
        self._subscriptions: set[Subscription] = set()
        self._lock = threading.Lock()

    def publish(self, progress: JobProgress) -> None:
        """Tell everybody, at once and without waiting for anybody; from any thread."""
        job = (progress.scope, progress.key)
        with self._lock:
            if progress.ended:
                self._unfinished.pop(job, None)
            else:
                self._unfinished[job] = progress
            for subscription in self._subscriptions:
                subscription.offer(progress)

    @contextmanager
    def subscribe(self, scopes: Sequence[str] = ()) -> Iterator[Subscription]:
        """News of these kinds of jobs (of all, if none is named), the present state of unfinished ones first."""
        with self._lock:
            subscription = Subscription(self._lock, frozenset(scopes), self._unfinished.values())
            self._subscriptions.add(subscription)
        try:
            yield subscription
        finally:
            with self._lock:
                self._subscriptions.discard(subscription)


def router(feed: Feed, send_timeout_s: float, origins: Sequence[str]) -> APIRouter:
    """The route. `origins`: web origins besides the server's own that may listen."""
    routes = APIRouter()

    @routes.websocket("/ws/events")
    async def events(socket: WebSocket, scope: Annotated[list[str] | None, Query()] = None) -> None:
        if not hosts.is_own_page(socket, origins):
            await socket.close(sockets.CLOSE_POLICY)  # before accept: the browser sees 403
            return
        with feed.subscribe(scope or ()) as subscription:
            await socket.accept()
            await _serve(socket, subscription, send_timeout_s)

    return routes


async def _serve(socket: WebSocket, subscription: Subscription, send_timeout_s: float) -> None:
    """Send news until the client hangs up, or takes none for too long."""
    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(_listen(socket))
            tasks.create_task(_send(socket, subscription, send_timeout_s))
    except* (WebSocketDisconnect, OSError) as ends:  # a time-out is an OSError
        logger.debug("a listener left: %s", ends.exceptions)
    except* TooSlow:
        await sockets.hang_up(socket, sockets.CLOSE_TRY_AGAIN_LATER)


async def _listen(socket: WebSocket) -> None:
    """Nothing is expected from the client but its leaving; what it sends is not looked at."""
    while True:
        await sockets.receive(socket)


async def _send(socket: WebSocket, subscription: Subscription, send_timeout_s: float) -> None:
    while True:
        progress = await subscription.get()
        async with asyncio.timeout(send_timeout_s):
            await socket.send_text(encode(progress))


def encode(progress: JobProgress) -> str:
    """The JSON text of one message; what is not known is left out. Plain ASCII, as on `/ws/chat`."""
    known = {name: value for name, value in asdict(progress).items() if value not in (None, "")}
    return json.dumps({"type": "progress", **known})
