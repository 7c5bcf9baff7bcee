"""`/ws/chat`: turns wire messages into calls on a live session, and the session's events into wire messages.

One task reads, one writes; a session's slot is held exactly as long as both run. Knows no engine.
"""

import asyncio
import logging
import math
import secrets
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import assert_never

from fastapi import APIRouter, WebSocket
from starlette.websockets import WebSocketDisconnect

from avatar.conversation.admission import SessionManager
from avatar.conversation.opening import HoldingSession, House, Request
from avatar.conversation.outbox import Outbox, OutboxOverflow
from avatar.core.audio import float_to_pcm16
from avatar.core.errors import AvatarError, BadMessage, CapacityError, Overloaded, describe
from avatar.core.events import (
    ErrorOccurred,
    ReplyAudioFrame,
    ReplyAudioStarted,
    ReplyCallPiece,
    ReplyCalls,
    ReplyDone,
    ReplyHeld,
    ReplyLowered,
    ReplyResumed,
    ReplyTextDelta,
    ReplyTextDone,
    SessionEvent,
    SpeechStarted,
    SpeechStopped,
    ToolCalled,
    ToolReturned,
    TranscriptReady,
)
from avatar.engines.base import Tool
from avatar.server import sockets
from avatar.server.hosts import is_own_page
from avatar.server.wire import client, server

logger = logging.getLogger(__name__)

_ALIKE: dict[type, Callable[..., server.ServerBase]] = {
    SpeechStarted: server.SpeechStarted,
    ReplyTextDelta: server.ReplyText,
    ReplyLowered: server.ReplyLower,
    ReplyHeld: server.ReplyHold,
    ReplyResumed: server.ReplyResume,
    ToolCalled: server.ToolCall,
    ToolReturned: server.ToolResult,
}
"""Events whose messages have the very same fields."""

_ANY = Request(tools=())
"""What a client gets that asks for nothing in particular."""
FIRST_MESSAGE_WAIT_S = 0.25
"""`session.start` is optional: a client that says nothing for this long gets a default session, ready to talk."""


def router(
    house: Callable[[], House],
    sessions: SessionManager,
    limits: server.Limits,
    send_timeout_s: float,
    origins: Sequence[str],
) -> APIRouter:
    """The route. `house` raises while engines load; `origins`: web origins besides the server's own."""
    routes = APIRouter()

    @routes.websocket("/ws/chat")
    async def chat(socket: WebSocket) -> None:
        if not is_own_page(socket, origins):
            await socket.close(sockets.CLOSE_POLICY)  # before accept: the browser sees 403
            return
        await socket.accept()
        try:
            async with sessions.slot():
                await Chat(socket, house(), limits, send_timeout_s).run()
        except (CapacityError, Overloaded) as error:
            problem = describe(error)
            told = server.Error(code=problem.code, message=problem.message, fatal=True)
            await sockets.hang_up(socket, sockets.CLOSE_TRY_AGAIN_LATER, server.encode(told), problem.code)

    return routes


class Chat:
    """One connection: `_read` and `_write` run side by side, and the end of one is the end of both."""

    def __init__(self, socket: WebSocket, house: House, limits: server.Limits, send_timeout_s: float) -> None:
        self._socket = socket
        self._house = house
        self._limits = limits
        self._send_timeout_s = send_timeout_s
        self._session_id = "sess_" + secrets.token_urlsafe(12)
        self._outbox = Outbox()
        self._session: HoldingSession | None = None
        self._started = False
        self._sending = asyncio.Lock()
        self._sending_since_s = math.inf
        self._now = asyncio.get_running_loop().time

    async def run(self) -> None:
        """Until either side hangs up, or something breaks that should not."""
        broken: BaseException | None = None
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._read())
                tasks.create_task(self._write())
                tasks.create_task(self._watch())
        except* (WebSocketDisconnect, OutboxOverflow, OSError) as ends:  # a time-out is an OSError
            logger.debug("session %s ended: %s", self._session_id, ends.exceptions)
        except* Exception as errors:
            logger.error("session %s broke", self._session_id, exc_info=errors)
            broken = errors
        finally:
            if self._session is not None:
                await self._session.aclose()
            if broken is None:
                await sockets.hang_up(self._socket, sockets.CLOSE_NORMAL)
            else:
                await sockets.hang_up(
                    self._socket, sockets.CLOSE_INTERNAL_ERROR, server.encode(self._complaint(broken, fatal=True))
                )

    async def _read(self) -> None:
        frame = await self._first_frame()
        while True:
            await self._take(frame)
            frame = await sockets.receive(self._socket)

    async def _first_frame(self) -> str | bytes:
        try:
            async with asyncio.timeout(FIRST_MESSAGE_WAIT_S):
                return await sockets.receive(self._socket)
        except TimeoutError:
            await self._open(_ANY)
            return await sockets.receive(self._socket)

    # --- client to server -----------------------------------------------------------------------

    async def _take(self, frame: str | bytes) -> None:
        try:
            if isinstance(frame, bytes):
                (await self._begun()).audio(frame)
            else:
                await self._do(client.parse(frame))
        except AvatarError as error:
            await self._send(self._complaint(error))

    async def _do(self, message: client.AnyClientMessage) -> None:
        match message:
            case client.Ping():
                await self._send(server.Pong(session_id=self._session_id))
            case client.SessionStart():
                await self._start(message)
            case client.SessionUpdate():
                await self._update(message, await self._begun())
            case _:
                self._pass_on(message, await self._begun())

    async def _update(self, message: client.SessionUpdate, session: HoldingSession) -> None:
        if message.voice_id is not None:
            await self._house.change_voice(session, message.voice_id, self._outbox)
        session.update(language=message.language, instructions=message.instructions)

    def _pass_on(self, message: client.AnyClientMessage, session: HoldingSession) -> None:
        match message:
            case client.AudioEnd():
                session.end_audio()
            case client.AudioClear():
                session.clear_audio()
            case client.Text():
                session.say(message.text)
            case client.Interrupt():
                session.interrupt()
            case client.Playback():
                session.played(message.turn_id, message.played_ms)
            case client.ToolApprove():
                session.toolbox.approve(message.call_id, message.approve)
            case client.ToolAnswer():
                session.toolbox.result(message.call_id, message.text, message.is_error)

    async def _start(self, message: client.SessionStart) -> None:
        if self._started:
            raise BadMessage("`session.start` must be the first message. Open a new connection for another session.")
        audio = message.audio
        request = Request(
            mode=message.mode,
            audio=audio.format if audio else None,
            input_rate_hz=audio.sample_rate if audio and audio.format == "pcm16" else None,
            output_rate_hz=message.output.sample_rate,
            conversation_id=message.conversation_id,
            resume_token=message.resume_token,
            voice=message.voice_id,
            language=message.language,
            instructions=message.instructions,
            quality=message.quality,
            eagerness=message.eagerness,
            tools=tuple(Tool(**dict(tool)) for tool in message.tools),
        )
        await self._open(request)
        self._started = True

    async def _begun(self) -> HoldingSession:
        session = self._session or await self._open(_ANY)
        self._started = True
        return session

    async def _open(self, request: Request) -> HoldingSession:
        opened = await self._house.open(request, self._outbox)
        unused, self._session = self._session, opened.session
        ready = server.SessionReady(
            session_id=self._session_id,
            conversation_id=opened.conversation_id,
            resume_token=opened.resume_token,
            mode=opened.options.mode,
            engines=opened.session.engines.names(),
            output=server.ReadyOutput(sample_rate=opened.options.output_rate_hz),
            limits=self._limits,
        )
        try:
            await self._send(ready)
        finally:
            if unused is not None:  # the default one
                await unused.aclose()
        return opened.session

    def _complaint(self, error: BaseException, *, fatal: bool = False) -> server.Error:
        problem = describe(error)
        fatal = fatal or problem.fatal
        return server.Error(session_id=self._session_id, code=problem.code, message=problem.message, fatal=fatal)

    # --- server to client -----------------------------------------------------------------------

    async def _write(self) -> None:
        while True:
            event = await self._outbox.get()
            if not isinstance(event, ReplyAudioFrame):
                await self._send(self._message(event))
                continue
            await self._send(float_to_pcm16(event.pcm))
            if self._session is not None:
                self._session.audio_sent(event.turn_id)

    async def _send(self, message: server.ServerBase | bytes) -> None:
        """Send one frame; `_watch` ends a session whose client does not read."""
        async with self._sending:
            self._sending_since_s = self._now()
            if isinstance(message, bytes):
                await self._socket.send_bytes(message)
            else:
                await self._socket.send_text(server.encode(message))
            self._sending_since_s = math.inf

    async def _watch(self) -> None:
        """Raise `TimeoutError` when the client has not read for too long. A timer for each frame would cost more."""
        while True:
            await asyncio.sleep(self._send_timeout_s / 10)
            if self._now() - self._sending_since_s > self._send_timeout_s:
                raise TimeoutError

    def _message(self, event: SessionEvent) -> server.ServerBase:
        known = self._session_id
        match event:
            case (
                SpeechStarted()
                | ReplyTextDelta()
                | ReplyLowered()
                | ReplyHeld()
                | ReplyResumed()
                | ToolCalled()
                | ToolReturned()
            ):
                return _ALIKE[type(event)](session_id=known, **vars(event))
            case SpeechStopped(at_ms):
                return server.SpeechStopped(session_id=known, at_ms=at_ms)
            case TranscriptReady(turn_id, text, is_final):
                return server.Transcript(session_id=known, turn_id=turn_id, text=text, is_final=is_final)
            case ReplyTextDone(turn_id, text):
                return server.ReplyText(session_id=known, turn_id=turn_id, delta="", is_final=True, text=text)
            case ReplyAudioStarted(turn_id, rate_hz):
                return server.ReplyAudio(session_id=known, turn_id=turn_id, sample_rate=rate_hz)
            case ReplyDone(turn_id, status, heard_text, metrics):
                timings = server.ReplyMetrics(**asdict(metrics))
                return server.ReplyDone(
                    session_id=known, turn_id=turn_id, status=status, heard_text=heard_text, metrics=timings
                )
            case ErrorOccurred(problem, error_turn_id):
                return server.Error(
                    session_id=known,
                    code=problem.code,
                    message=problem.message,
                    fatal=problem.fatal,
                    turn_id=error_turn_id,
                )
            case ReplyAudioFrame() | ReplyCallPiece() | ReplyCalls():
                raise AssertionError("audio is a binary frame, and tools are called by the session itself")
            case _:
                assert_never(event)
