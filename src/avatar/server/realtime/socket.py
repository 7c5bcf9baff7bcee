"""`WS /v1/realtime`: OpenAI's Realtime protocol on a socket.

Three tasks: one reads the client, one the live session, one writes; the end of one is the end of all. Knows no engine.
"""

import asyncio
import json
import logging
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress

from fastapi import APIRouter, WebSocket
from starlette.websockets import WebSocketDisconnect, WebSocketState

from avatar.conversation.admission import SessionManager
from avatar.conversation.opening import House
from avatar.conversation.outbox import OutboxOverflow
from avatar.core.errors import AvatarError, CapacityError, Overloaded, ServerFull, describe
from avatar.server.access import key_of
from avatar.server.ephemeral import EphemeralKeys
from avatar.server.hosts import is_own_page
from avatar.server.realtime import errors
from avatar.server.realtime.client_secrets import beginning
from avatar.server.realtime.connection import Connection, connected, mint
from avatar.server.realtime.server_events import ServerEvents
from avatar.server.realtime.session import Session, TranscriptionSession

logger = logging.getLogger(__name__)

SUBPROTOCOL = "realtime"
BETA_SUBPROTOCOL = "openai-beta.realtime-v1"
MAX_WAITING_AUDIO = 64
"""Events that may wait for the socket before more audio is taken from the session."""
MAX_WAITING = 4096
"""A client that lets so many wait reads nothing."""
GOODBYE_S = 1.0
# RFC 6455 and its registry
CLOSE_NORMAL, CLOSE_POLICY, CLOSE_INTERNAL_ERROR, CLOSE_TRY_AGAIN_LATER = 1000, 1008, 1011, 1013


def router(
    house: Callable[[], House],
    sessions: SessionManager,
    send_timeout_s: float,
    origins: Sequence[str],
    keys: EphemeralKeys[Session],
) -> APIRouter:
    """The route. `house` raises while engines load; `origins`: web origins besides the server's own."""
    routes = APIRouter()

    @routes.websocket("/v1/realtime")
    async def realtime(socket: WebSocket) -> None:
        if not is_own_page(socket, origins):
            await socket.close(CLOSE_POLICY)
            return
        offered = socket.scope.get("subprotocols", [])
        agreed = keys.find(key_of(socket) or "")
        await socket.accept(SUBPROTOCOL if SUBPROTOCOL in offered else None)
        try:
            async with sessions.slot():
                here = house()
                settings = agreed or _settings(socket, here)
                await Line(socket, here, settings, send_timeout_s, is_beta=_is_beta(socket, offered)).run()
        except (CapacityError, Overloaded) as error:
            await _refuse(socket, error)

    return routes


def _is_beta(socket: WebSocket, offered: Sequence[str]) -> bool:
    header = socket.headers.get("openai-beta", "")
    return socket.query_params.get("beta") == "1" or header == "realtime=v1" or BETA_SUBPROTOCOL in offered


def _settings(socket: WebSocket, house: House) -> Session:
    """What a session begins with for which nothing was agreed before."""
    query = socket.query_params
    if query.get("intent") == "transcription":
        return TranscriptionSession(type="transcription")
    return beginning(house, {}, model=query.get("model"))


async def _refuse(socket: WebSocket, error: AvatarError) -> None:
    code = "session_limit_reached" if isinstance(error, ServerFull) else None
    told = ServerEvents(mint).make("error", error=errors.fields_of_problem(describe(error), code))
    with suppress(WebSocketDisconnect, RuntimeError):  # it did not wait for the answer
        await socket.send_text(json.dumps(told))
        await socket.close(CLOSE_TRY_AGAIN_LATER)


class Line:
    """One client's socket."""

    def __init__(
        self, socket: WebSocket, house: House, settings: Session, send_timeout_s: float, *, is_beta: bool
    ) -> None:
        self._socket = socket
        self._house = house
        self._settings = settings
        self._send_timeout_s = send_timeout_s
        self._is_beta = is_beta
        self._waiting: deque[str] = deque()
        self._more = asyncio.Event()
        self._less = asyncio.Event()

    async def run(self) -> None:
        """Until either side hangs up, or something breaks that should not. Raises `Overloaded` without engines."""
        async with connected(self._house, self._settings, self._send, is_beta=self._is_beta) as connection:
            broken = await self._serve(connection)
        await self._hang_up(broken)

    async def _serve(self, connection: Connection) -> BaseException | None:
        """What broke, if something did that should not."""
        broken: BaseException | None = None
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._read(connection))
                tasks.create_task(connection.hear(self._room))
                tasks.create_task(self._write())
        except* (WebSocketDisconnect, OutboxOverflow, OSError) as ends:  # a time-out is an OSError
            logger.debug("a realtime session ended: %s", ends.exceptions)
        except* Exception as errors_:
            logger.error("a realtime session broke", exc_info=errors_)
            broken = errors_
        return broken

    async def _hang_up(self, broken: BaseException | None) -> None:
        if self._socket.application_state is not WebSocketState.CONNECTED:
            return
        with suppress(RuntimeError, OSError, WebSocketDisconnect):  # the client was faster, or takes nothing
            async with asyncio.timeout(GOODBYE_S):
                if broken is not None:
                    told = errors.fields_of_problem(describe(broken))
                    await self._socket.send_text(json.dumps(ServerEvents(mint).make("error", error=told)))
                await self._socket.close(CLOSE_NORMAL if broken is None else CLOSE_INTERNAL_ERROR)

    async def _read(self, connection: Connection) -> None:
        while True:
            message = await self._socket.receive()
            if message["type"] == "websocket.disconnect":
                raise WebSocketDisconnect(message.get("code", 1005))
            text = message.get("text")
            connection.take(text if text is not None else message.get("bytes") or b"")

    def _send(self, text: str) -> None:
        self._waiting.append(text)
        self._more.set()

    async def _room(self) -> None:
        while len(self._waiting) >= MAX_WAITING_AUDIO:
            self._less.clear()
            await self._less.wait()

    async def _write(self) -> None:
        """Send what there is. Raises `TimeoutError` when the client has not read for too long."""
        while True:
            while self._waiting:
                if len(self._waiting) > MAX_WAITING:
                    raise OutboxOverflow
                async with asyncio.timeout(self._send_timeout_s):
                    await self._socket.send_text(self._waiting.popleft())
                self._less.set()
            self._more.clear()
            await self._more.wait()
