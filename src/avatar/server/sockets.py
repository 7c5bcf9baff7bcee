"""What the WebSockets here have in common: frames, and a goodbye that waits for nobody. Knows no message."""

import asyncio
from contextlib import suppress

from fastapi import WebSocket
from starlette.websockets import WebSocketDisconnect, WebSocketState

GOODBYE_S = 1.0
"""How long a client's place is kept for it to take the last words and the closing frame."""
# RFC 6455 and its registry
CLOSE_NORMAL, CLOSE_POLICY, CLOSE_INTERNAL_ERROR, CLOSE_TRY_AGAIN_LATER = 1000, 1008, 1011, 1013


async def receive(socket: WebSocket) -> str | bytes:
    """The next frame. Raises `WebSocketDisconnect`."""
    message = await socket.receive()
    if message["type"] == "websocket.disconnect":
        raise WebSocketDisconnect(message.get("code", 1005))
    text: str | None = message.get("text")
    data: bytes = message.get("bytes") or b""
    return data if text is None else text


async def hang_up(socket: WebSocket, code: int, last_words: str | None = None, reason: str = "") -> None:
    """Close it, unless it is closed. Raises nothing: the client may be faster, or take nothing."""
    if socket.application_state is not WebSocketState.CONNECTED:
        return
    with suppress(RuntimeError, OSError, WebSocketDisconnect):  # a time-out is an OSError
        async with asyncio.timeout(GOODBYE_S):
            if last_words is not None:
                await socket.send_text(last_words)
            await socket.close(code, reason)
