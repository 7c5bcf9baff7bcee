"""`WS /v1/realtime`: OpenAI's Realtime protocol on a socket.

Three tasks: one reads the client, one the live session, one writes; the end of one is the end of all. Knows no engine.
"""

import asyncio
import json
import logging
import secrets
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress

from fastapi import APIRouter, WebSocket
from starlette.websockets import WebSocketDisconnect, WebSocketState

from avatar.conversation.admission import SessionManager
from avatar.conversation.opening import House, Request
from avatar.conversation.outbox import Outbox, OutboxOverflow
from avatar.conversation.session import LiveSession
from avatar.core.audio import INPUT_RATE_HZ
from avatar.core.errors import AvatarError, CapacityError, Overloaded, ServerFull, describe
from avatar.core.events import ReplyAudioFrame
from avatar.server.hosts import is_own_page
from avatar.server.realtime import beta, errors
from avatar.server.realtime.client_events import ClientEvent, parse, read
from avatar.server.realtime.errors import BadEvent
from avatar.server.realtime.server_events import Event, ServerEvents
from avatar.server.realtime.session import RealtimeSession, Session, TranscriptionSession
from avatar.server.realtime.talk import Talk

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
    house: Callable[[], House], sessions: SessionManager, send_timeout_s: float, origins: Sequence[str]
) -> APIRouter:
    """The route. `house` raises while engines load; `origins`: web origins besides the server's own."""
    routes = APIRouter()

    @routes.websocket("/v1/realtime")
    async def realtime(socket: WebSocket) -> None:
        if not is_own_page(socket, origins):
            await socket.close(CLOSE_POLICY)
            return
        offered = socket.scope.get("subprotocols", [])
        await socket.accept(SUBPROTOCOL if SUBPROTOCOL in offered else None)
        try:
            async with sessions.slot():
                await Connection(socket, house(), send_timeout_s, is_beta=_is_beta(socket, offered)).run()
        except (CapacityError, Overloaded) as error:
            await _refuse(socket, error)

    return routes


def _is_beta(socket: WebSocket, offered: Sequence[str]) -> bool:
    header = socket.headers.get("openai-beta", "")
    return socket.query_params.get("beta") == "1" or header == "realtime=v1" or BETA_SUBPROTOCOL in offered


def mint(kind: str) -> str:
    """An id that nobody can guess."""
    return f"{kind}_{secrets.token_hex(10)}"


async def _refuse(socket: WebSocket, error: AvatarError) -> None:
    code = "session_limit_reached" if isinstance(error, ServerFull) else None
    told = ServerEvents(mint).make("error", error=errors.fields_of_problem(describe(error), code))
    with suppress(WebSocketDisconnect, RuntimeError):  # it did not wait for the answer
        await socket.send_text(json.dumps(told))
        await socket.close(CLOSE_TRY_AGAIN_LATER)


class Connection:
    """One client."""

    def __init__(self, socket: WebSocket, house: House, send_timeout_s: float, *, is_beta: bool) -> None:
        self._socket = socket
        self._house = house
        self._send_timeout_s = send_timeout_s
        self._is_beta = is_beta
        self._outbox = Outbox()
        self._waiting: deque[str] = deque()
        self._more = asyncio.Event()
        self._room = asyncio.Event()

    async def run(self) -> None:
        """Until either side hangs up, or something breaks that should not."""
        opened = await self._house.open(Request(mode="live", input_rate_hz=INPUT_RATE_HZ), self._outbox)
        session = opened.session
        talk = Talk(session, self._house, self._settings(), mint, self._tell)
        broken: BaseException | None = None
        try:
            talk.begin()
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._read(talk))
                tasks.create_task(self._hear(talk, session))
                tasks.create_task(self._write())
        except* (WebSocketDisconnect, OutboxOverflow, OSError) as ends:  # a time-out is an OSError
            logger.debug("a realtime session ended: %s", ends.exceptions)
        except* Exception as errors_:
            logger.error("a realtime session broke", exc_info=errors_)
            broken = errors_
        finally:
            await talk.aclose()
            await session.aclose()
            await self._hang_up(broken)

    def _settings(self) -> Session:
        query = self._socket.query_params
        if query.get("intent") == "transcription":
            return TranscriptionSession(type="transcription")
        model = (query.get("model") or "avatar")[:256]
        return RealtimeSession(type="realtime", model=model, instructions=self._house.instructions)

    async def _hang_up(self, broken: BaseException | None) -> None:
        if self._socket.application_state is not WebSocketState.CONNECTED:
            return
        with suppress(RuntimeError, OSError, WebSocketDisconnect):  # the client was faster, or takes nothing
            async with asyncio.timeout(GOODBYE_S):
                if broken is not None:
                    told = errors.fields_of_problem(describe(broken))
                    await self._socket.send_text(json.dumps(ServerEvents(mint).make("error", error=told)))
                await self._socket.close(CLOSE_NORMAL if broken is None else CLOSE_INTERNAL_ERROR)

    async def _read(self, talk: Talk) -> None:
        while True:
            message = await self._socket.receive()
            if message["type"] == "websocket.disconnect":
                raise WebSocketDisconnect(message.get("code", 1005))
            try:
                event = self._event(message.get("text"), message.get("bytes"))
            except BadEvent as error:
                self._tell(talk.events.error(error))
            else:
                talk.take(event)

    def _event(self, text: str | None, data: bytes | None) -> ClientEvent:
        frame = text if text is not None else data or b""
        if not self._is_beta:
            return parse(frame)
        try:
            loaded = json.loads(frame)
        except (ValueError, RecursionError):
            return parse(frame)
        return read(beta.from_client(loaded))

    async def _hear(self, talk: Talk, session: LiveSession) -> None:
        while True:
            event = await self._outbox.get()
            talk.hear(event)
            if isinstance(event, ReplyAudioFrame):
                while len(self._waiting) >= MAX_WAITING_AUDIO:
                    self._room.clear()
                    await self._room.wait()
                session.audio_sent(event.turn_id)

    def _tell(self, event: Event) -> None:
        told = beta.from_server(event) if self._is_beta else event
        if told is not None:
            self._waiting.append(json.dumps(told, ensure_ascii=False))
            self._more.set()

    async def _write(self) -> None:
        """Send what there is. Raises `TimeoutError` when the client has not read for too long."""
        while True:
            while self._waiting:
                if len(self._waiting) > MAX_WAITING:
                    raise OutboxOverflow
                async with asyncio.timeout(self._send_timeout_s):
                    await self._socket.send_text(self._waiting.popleft())
                self._room.set()
            self._more.clear()
            await self._more.wait()
