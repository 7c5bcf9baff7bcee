"""`POST /v1/realtime/calls`: Realtime sessions over WebRTC. An SDP offer comes in, an answer goes out, a call goes on.

A call is a task that holds a session's slot, and is ended by either side or with the server. Knows no WebRTC: that is
the extra `webrtc`, imported with the first call.
"""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from fastapi import APIRouter, Request
from starlette.datastructures import UploadFile
from starlette.responses import JSONResponse, Response

from avatar.conversation.admission import SessionManager
from avatar.conversation.opening import House
from avatar.core.errors import NotFound, RateLimited, ServerFull, Unsupported
from avatar.server.access import key_of
from avatar.server.ephemeral import EphemeralKeys
from avatar.server.openai import errors
from avatar.server.openai.errors import WrongField
from avatar.server.realtime.client_secrets import beginning
from avatar.server.realtime.connection import Connection, mint
from avatar.server.realtime.ice import IceServer
from avatar.server.realtime.session import Session

logger = logging.getLogger(__name__)

SDP = "application/sdp"
WEBRTC = "avatar.server.realtime.webrtc_call"
MAX_SDP_BYTES = 1 << 16
"""A browser's offer has 2 to 8 kB."""
MAX_SESSION_BYTES = 1 << 20
BODY_S = 10.0
MAX_JOINED = 4
"""Sockets beside a call's own client: the application's server, one that takes its place, and two that look on. They
are none of `admission.max_sessions`, and each is sent all that is told."""
NO_CALL = "There is no such call, or it has ended."


class _Progress:
    """How far a call has come: first there is our answer, and then the connection. `secret`: the ephemeral key it was
    begun with, if it was; `joined`: how many take part beside its client, or wait to."""

    def __init__(self, secret: str | None) -> None:
        self.secret = secret
        self.joined = 0
        loop = asyncio.get_running_loop()
        self.answered: asyncio.Future[str] = loop.create_future()
        self.connected: asyncio.Future[Connection] = loop.create_future()


class Calls:
    """The calls of a server. `aclose` ends them all."""

    def __init__(
        self,
        house: Callable[[], House],
        sessions: SessionManager,
        servers: Sequence[IceServer],
        send_timeout_s: float,
    ) -> None:
        self._house = house
        self._sessions = sessions
        self._servers = servers
        self._send_timeout_s = send_timeout_s
        self._live: dict[str, tuple[_Progress, asyncio.Task[None]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        """Of the live calls, and of those that are hanging up."""

    async def begin(self, offer: str, settings: Session, secret: str | None, *, is_beta: bool) -> tuple[str, str]:
        """A new call's id and our answer; it goes on by itself. Raises `BadMessage`, `CapacityError`, `Overloaded`."""
        call_id, progress = mint("rtc"), _Progress(secret)
        task = asyncio.create_task(self._hold(offer, settings, progress, is_beta=is_beta), name=f"call {call_id}")
        self._live[call_id] = progress, task
        self._tasks.add(task)
        task.add_done_callback(lambda _: self._live.pop(call_id, None))
        task.add_done_callback(self._tasks.discard)
        try:
            return call_id, await progress.answered
        except BaseException:
            task.cancel()
            raise

    @asynccontextmanager
    async def joined(self, call_id: str, secret: str | None) -> "AsyncIterator[asyncio.Future[Connection]]":
        """This call, for one who takes part in it: its connection once its client has come, cancelled if it does not.
        Who has but an ephemeral key (`secret`) takes part in those that were begun with it. Raises `NotFound`,
        `RateLimited` when there are too many."""
        progress, _ = self._live.get(call_id, (None, None))
        if progress is None or secret not in (None, progress.secret):
            raise NotFound(NO_CALL)
        if progress.joined >= MAX_JOINED:
            raise RateLimited(f"{MAX_JOINED} sockets have joined this call, and no more may. Close one of them first.")
        progress.joined += 1
        try:
            yield progress.connected
        finally:
            progress.joined -= 1

    def hang_up(self, call_id: str) -> None:
        """End this call. Raises `NotFound`."""
        if call_id not in self._live:
            raise NotFound(NO_CALL)
        _, task = self._live.pop(call_id)
        task.cancel()

    async def aclose(self) -> None:
        """Hang up on everybody."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _hold(self, offer: str, settings: Session, progress: _Progress, *, is_beta: bool) -> None:
        try:
            async with self._sessions.slot():
                await self._talk(offer, settings, progress, is_beta=is_beta)
        except Exception as error:
            if progress.answered.done():
                logger.error("a call broke", exc_info=error)
            else:
                progress.answered.set_exception(error)
        finally:
            progress.answered.cancel()  # whoever waits for it still, waits in vain
            progress.connected.cancel()

    async def _talk(self, offer: str, settings: Session, progress: _Progress, *, is_beta: bool) -> None:
        await asyncio.to_thread(import_module, WEBRTC)  # the first time it takes half a second
        from avatar.server.realtime.webrtc_call import Call

        began = progress.connected.set_result
        call = Call(self._house(), settings, self._servers, self._send_timeout_s, began, is_beta=is_beta)
        try:
            progress.answered.set_result(await call.answer(offer))
            await call.hold()
        finally:
            await call.aclose()


def router(house: Callable[[], House], calls: Calls, keys: EphemeralKeys[Session]) -> APIRouter:
    """The routes, to be mounted below `/v1`. `house` raises while engines load."""
    routes = APIRouter()

    @routes.post("/realtime/calls", response_class=Response)
    async def call(request: Request) -> Response:
        """Begin a call: an SDP offer as the body (`application/sdp`), or as `sdp`, beside `session`, in a form."""
        return await _begin(request, is_beta=False)

    @routes.post("/realtime", response_class=Response)
    async def beta_call(request: Request) -> Response:
        """The same where the beta had it, with the beta's events."""
        return await _begin(request, is_beta=True)

    @routes.post("/realtime/calls/{call_id}/hangup", response_class=Response)
    async def hang_up(call_id: str) -> Response:
        """End a call."""
        calls.hang_up(call_id)
        return Response()

    async def _begin(request: Request, *, is_beta: bool) -> Response:
        _require_webrtc()
        offer, asked = await _read(request)
        key = key_of(request) or ""
        agreed = keys.find(key)
        settings = beginning(house(), asked, base=agreed, model=request.query_params.get("model"))
        try:
            call_id, answer = await calls.begin(offer, settings, key if agreed else None, is_beta=is_beta)
        except ServerFull as full:
            told = errors.body(full)
            told["error"]["code"] = "session_limit_reached"
            return JSONResponse(told, full.http_status)
        return Response(answer, 201, {"Location": f"/v1/realtime/calls/{call_id}"}, SDP)

    return routes


def _require_webrtc() -> None:
    if find_spec("aiortc") is None:
        raise Unsupported("Calls over WebRTC want an extra: install `avatar-voice[webrtc]`, and start again.")


async def _read(request: Request) -> tuple[str, dict[str, Any]]:
    """The offer, and what of a session is asked for. Raises `WrongField`."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    try:
        async with asyncio.timeout(BODY_S):
            if kind == SDP:
                return _sdp(await request.body()), {}
            if kind == "multipart/form-data":
                return await _form(request)
    except TimeoutError:
        raise WrongField("sdp", f"The offer did not arrive within {BODY_S:g} s.") from None
    raise WrongField("sdp", f"Send the SDP offer as `{SDP}`, or as the field `sdp` of a multipart form.")


async def _form(request: Request) -> tuple[str, dict[str, Any]]:
    async with request.form(max_files=2, max_fields=2, max_part_size=MAX_SESSION_BYTES) as form:
        parts = {name: await _bytes(form.get(name)) for name in ("sdp", "session")}
    if not parts["session"]:
        return _sdp(parts["sdp"]), {}
    try:
        session = json.loads(parts["session"])
    except (ValueError, RecursionError):
        session = None
    if not isinstance(session, dict):
        raise WrongField("session", "`session` is a JSON object.")
    return _sdp(parts["sdp"]), session


async def _bytes(part: UploadFile | str | None) -> bytes:
    if isinstance(part, UploadFile):
        return await part.read(MAX_SESSION_BYTES)
    return (part or "").encode()


def _sdp(body: bytes) -> str:
    if not 0 < len(body) <= MAX_SDP_BYTES:
        raise WrongField("sdp", f"An SDP offer has 1 to {MAX_SDP_BYTES:,} bytes.")
    return body.decode(errors="replace")
