"""`/ws/chat`: a session that takes the place of the default one, while everything falls apart."""

import asyncio
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

from fastapi import WebSocket
from starlette.websockets import WebSocketState

from avatar.conversation.opening import House, Request
from avatar.conversation.outbox import MAX_CONTROL, Outbox
from avatar.core.events import SpeechStarted
from avatar.server.chat import Chat
from avatar.server.wire.server import Limits

LIMITS = Limits(max_buffer_bytes=1, max_buffer_chunks=1, max_utterance_s=1, max_message_bytes=1, max_text_chars=1)


@dataclass
class Session:
    """Takes ten seconds to close, and meanwhile its client reads nothing: the outbox overflows."""

    outbox: Outbox
    engines: Any = field(default_factory=lambda: SimpleNamespace(names=dict))
    is_closed: bool = False

    async def aclose(self) -> None:
        try:
            for _ in range(MAX_CONTROL + 2):
                self.outbox.put(SpeechStarted(0))
            await asyncio.sleep(10)
        finally:
            self.is_closed = True


class SlowHouse:
    """Opens sessions and keeps them."""

    def __init__(self) -> None:
        self.sessions: list[Session] = []

    async def open(self, request: Request, outbox: Outbox) -> Any:
        self.sessions.append(Session(outbox))
        options = SimpleNamespace(mode="push_to_talk", output_rate_hz=24_000)
        return SimpleNamespace(
            session=self.sessions[-1], options=options, conversation_id="conv_1", resume_token="token"
        )


class Socket:
    """Says nothing for a second, and then `session.start`."""

    application_state = WebSocketState.DISCONNECTED

    def __init__(self) -> None:
        self._has_started = False

    async def receive(self) -> dict[str, Any]:
        await asyncio.sleep(1 if not self._has_started else 100)
        self._has_started = True
        return {"type": "websocket.receive", "text": '{"type": "session.start"}'}

    async def send_text(self, text: str) -> None:
        await asyncio.sleep(0)


async def test_a_default_session_that_gives_way_when_all_ends_leaves_neither_open() -> None:
    house = SlowHouse()
    await Chat(cast(WebSocket, Socket()), cast(House, house), LIMITS, 10).run()
    assert [session.is_closed for session in house.sessions] == [True, True]
