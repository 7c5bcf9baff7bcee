"""`WS /v1/realtime`: OpenAI's Realtime protocol on a socket; with `?call_id=` in a call that goes on over WebRTC.

Three tasks: one reads the client, one the live session, one writes; the end of one is the end of all. Knows no engine.
"""

import asyncio
import json
import logging
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from fastapi import APIRouter, WebSocket
from starlette.websockets import WebSocketDisconnect

from avatar.conversation.admission import SessionManager
from avatar.conversation.opening import House
from avatar.conversation.outbox import OutboxOverflow
from avatar.core.errors import CapacityError, NotFound, Overloaded, ServerFull, describe
from avatar.server import sockets
from avatar.server.access import key_of
from avatar.server.ephemeral import EphemeralKeys
from avatar.server.hosts import is_own_page
from avatar.server.realtime import errors
from avatar.server.realtime.calls import NO_CALL, Calls
from avatar.server.realtime.client_secrets import beginning
from avatar.server.realtime.connection import Connection, connected, mint
from avatar.server.realtime.server_events import ServerEvents
from avatar.server.realtime.session import Session, TranscriptionSession
from avatar.server.realtime.waiting import Waiting

logger = logging.getLogger(__name__)

PATH = "/v1/realtime"
SUBPROTOCOL = "realtime"
BETA_SUBPROTOCOL = "openai-beta.realtime-v1"
MAX_WAITING_AUDIO = 64
"""Events that may wait for the socket before more audio is taken from the session."""
MAX_EARLY = 16
"""Of what is said to a call that does not go on yet; more waits in the socket."""


def router(
    house: Callable[[], House],
    sessions: SessionManager,
    calls: Calls,
    keys: EphemeralKeys[Session],
    send_timeout_s: float,
    origins: Sequence[str],
) -> APIRouter:
    """The route. `house` raises while engines load; `origins`: web origins besides the server's own."""
    routes = APIRouter()

    @routes.websocket(PATH)
    async def realtime(socket: WebSocket) -> None:
        if not is_own_page(socket, origins):
            await socket.close(sockets.CLOSE_POLICY)
            return
        offered = socket.scope.get("subprotocols", [])
        await socket.accept(SUBPROTOCOL if SUBPROTOCOL in offered else None)
        line, call_id = Line(socket, send_timeout_s), socket.query_params.get("call_id")
        key = key_of(socket) or ""
        agreed = keys.find(key)
        try:
            if call_id is not None:
                async with calls.joined(call_id, key if agreed else None) as call:
                    await line.join(call)
                return
            async with sessions.slot():
                here = house()
                await line.talk(here, agreed or _settings(socket, here), is_beta=_is_beta(socket, offered))
        except (CapacityError, Overloaded) as error:
            code = "session_limit_reached" if isinstance(error, ServerFull) else None
            await sockets.hang_up(socket, sockets.CLOSE_TRY_AGAIN_LATER, _error(error, code))
        except NotFound as error:
            await sockets.hang_up(socket, sockets.CLOSE_POLICY, _error(error))

    return routes


def _is_beta(socket: WebSocket, offered: Sequence[str]) -> bool:
    asked = [one.strip() for one in socket.headers.get("openai-beta", "").split(",")]  # of other betas too, perhaps
    return socket.query_params.get("beta") == "1" or "realtime=v1" in asked or BETA_SUBPROTOCOL in offered


def _settings(socket: WebSocket, house: House) -> Session:
    """What a session begins with for which nothing was agreed before."""
    query = socket.query_params
    if query.get("intent") == "transcription":
        return TranscriptionSession(type="transcription")
    return beginning(house, {}, model=query.get("model"))


def _error(error: BaseException, code: str | None = None) -> str:
    """What ends the connection, as an event."""
    return json.dumps(ServerEvents(mint).make("error", error=errors.fields_of_problem(describe(error), code)))


class Line:
    """One client's socket."""

    def __init__(self, socket: WebSocket, send_timeout_s: float) -> None:
        self._socket = socket
        self._send_timeout_s = send_timeout_s
        self._waiting = Waiting()

    async def talk(self, house: House, settings: Session, *, is_beta: bool) -> None:
        """Hold a session, until either side hangs up, or something breaks that should not. Raises `Overloaded` without
        engines."""
        async with connected(house, settings, self._waiting.put, is_beta=is_beta) as connection:
            broken = await self._serve(connection, connection.hear(self._room))
        await self._hang_up(broken)

    async def _hang_up(self, broken: BaseException | None) -> None:
        if broken is None:
            await sockets.hang_up(self._socket, sockets.CLOSE_NORMAL)
        else:
            await sockets.hang_up(self._socket, sockets.CLOSE_INTERNAL_ERROR, _error(broken))

    async def join(self, call: "asyncio.Future[Connection]") -> None:
        """Take part in a call as soon as it goes on: hear of all that happens in it, and have a say, until either ends.
        Raises `NotFound` for one that is over, or never came to be."""
        try:
            said = await self._until_there(call)
        except WebSocketDisconnect:
            return
        if call.cancelled() or call.result().over.is_set():
            raise NotFound(NO_CALL)
        connection = call.result()
        with connection.joined(self._waiting.put):
            for frame in said:
                connection.take(frame)
            broken = await self._serve(connection, _until_over(connection))
        await self._hang_up(broken)

    async def _until_there(self, call: "asyncio.Future[Connection]") -> list[str | bytes]:
        """Wait for a call; what the client says meanwhile. Raises `WebSocketDisconnect`."""
        said: list[str | bytes] = []
        while not call.done() and len(said) < MAX_EARLY:
            hearing = asyncio.ensure_future(sockets.receive(self._socket))
            either: list[asyncio.Future[Any]] = [call, hearing]
            try:
                await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
                if hearing.done():
                    said.append(hearing.result())
            finally:
                hearing.cancel()
                await asyncio.wait([hearing])
        await asyncio.wait([call])
        return said

    async def _serve(self, connection: Connection, life: Coroutine[None, None, None]) -> BaseException | None:
        """What broke, if something did that should not."""
        broken: BaseException | None = None
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._read(connection))
                tasks.create_task(life)
                tasks.create_task(self._write())
        except* (WebSocketDisconnect, OutboxOverflow, OSError) as ends:  # a time-out is an OSError
            logger.debug("a realtime session ended: %s", ends.exceptions)
        except* Exception as errors_:
            logger.error("a realtime session broke", exc_info=errors_)
            broken = errors_
        return broken

    async def _read(self, connection: Connection) -> None:
        while True:
            await self._waiting.room()
            connection.take(await sockets.receive(self._socket))

    async def _room(self) -> None:
        await self._waiting.room(MAX_WAITING_AUDIO)

    async def _write(self) -> None:
        """Send what there is. Raises `TimeoutError` when the client has not read for too long."""
        while True:
            event = await self._waiting.get()
            async with asyncio.timeout(self._send_timeout_s):
                await self._socket.send_text(event)


async def _until_over(connection: Connection) -> None:
    await connection.over.wait()
    raise WebSocketDisconnect(sockets.CLOSE_NORMAL)
