"""The load test's caller on Pipecat's wire: only bytes are translated, speaking and measuring are `Caller`'s own.

The wire is one protobuf message, `Frame`, whose only field is one of a few kinds (`pipecat/frames/frames.proto`). Two
matter here, audio and messages; the messages are JSON of RTVI, Pipecat's protocol for clients. They become what
`/ws/chat` would have sent.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any, Self

import aiohttp
from tests.load.caller import Caller, CallFailed

from avatar.core.audio import INPUT_RATE_HZ

_AUDIO, _MESSAGE, _INTERRUPTION = 2, 4, 5
"""Fields of `Frame`."""
_AUDIO_BYTES, _AUDIO_RATE_HZ, _AUDIO_CHANNELS = 3, 4, 5
"""Fields of `AudioRawFrame`."""
_JSON = 1
"""Field of `MessageFrame`."""
_VARINT, _BYTES = 0, 2
"""Wire types of protobuf."""


class PipecatCaller(Caller):
    """A session of a Pipecat bot behind its FastAPI WebSocket transport. Live only."""

    async def __aenter__(self) -> Self:
        """Connect. Raises `CallFailed` with the reason."""
        self._http = aiohttp.ClientSession()
        try:
            socket = await self._http.ws_connect(self._url, max_msg_size=0)
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            await self._http.close()
            raise CallFailed(type(error).__name__) from None
        self._socket = _Translator(socket)  # type: ignore[assignment]  # what `Caller` uses of a socket
        self._tasks = (asyncio.create_task(self._listen()), asyncio.create_task(self._tick()))
        return self


class _Translator:
    """A WebSocket that takes and gives what one of `/ws/chat` would."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._speaking = False
        self._text: list[str] = []

    async def send_bytes(self, pcm16: bytes) -> None:
        await self._socket.send_bytes(audio_frame(pcm16))

    async def send_json(self, message: dict[str, Any]) -> None:
        """Playback reports are dropped: Pipecat takes none."""
        if message["type"] == "interrupt":
            await self._socket.send_bytes(_tag(_INTERRUPTION, _BYTES) + _varint(0))

    async def close(self) -> None:
        await self._socket.close()

    async def __aiter__(self) -> AsyncIterator[aiohttp.WSMessage]:
        async for message in self._socket:
            if message.type is aiohttp.WSMsgType.BINARY:
                for translated in self._translate(message.data):
                    yield translated

    def _translate(self, data: bytes) -> Iterator[aiohttp.WSMessage]:
        for kind, body in fields(data):
            if kind == _AUDIO:
                yield from self._audio(dict(fields(body)))
            elif kind == _MESSAGE:
                yield from self._rtvi(json.loads(dict(fields(body))[_JSON]))
            elif kind == _INTERRUPTION:
                yield from self._done("interrupted")

    def _audio(self, frame: dict[int, Any]) -> Iterator[aiohttp.WSMessage]:
        if not self._speaking:
            self._speaking = True
            yield _text({"type": "reply.audio", "turn_id": "", "sample_rate": frame[_AUDIO_RATE_HZ]})
        yield aiohttp.WSMessage(aiohttp.WSMsgType.BINARY, frame[_AUDIO_BYTES], None)

    def _rtvi(self, message: dict[str, Any]) -> Iterator[aiohttp.WSMessage]:
        match message["type"], message.get("data"):
            case "user-transcription", {"text": text, "final": True}:
                yield _text({"type": "transcript", "text": text, "is_final": True})
            case "bot-transcription", {"text": text}:
                self._text.append(text)
            case "bot-stopped-speaking", _:
                yield _text({"type": "reply.text", "text": " ".join(self._text), "is_final": True})
                yield from self._done("completed")
            case "error", _:
                yield _text({"type": "error", "code": "ENGINE_FAILED"})

    def _done(self, status: str) -> Iterator[aiohttp.WSMessage]:
        if self._speaking:
            self._speaking, self._text = False, []
            yield _text({"type": "reply.done", "status": status, "metrics": {}})


def audio_frame(pcm16: bytes) -> bytes:
    """A frame of microphone audio (PCM16, mono, 16 kHz) as Pipecat's `ProtobufFrameSerializer` reads it."""
    body = (
        _tag(_AUDIO_BYTES, _BYTES) + _varint(len(pcm16)) + pcm16,
        _tag(_AUDIO_RATE_HZ, _VARINT) + _varint(INPUT_RATE_HZ),
        _tag(_AUDIO_CHANNELS, _VARINT) + _varint(1),
    )
    return _tag(_AUDIO, _BYTES) + _varint(sum(map(len, body))) + b"".join(body)


def fields(data: bytes) -> Iterator[tuple[int, Any]]:
    """Number and value, int or bytes, of each field of a protobuf message. Raises `ValueError` for other types."""
    place = 0
    while place < len(data):
        tag, place = _read_varint(data, place)
        value, place = _read_varint(data, place)
        if tag & 7 == _VARINT:
            yield tag >> 3, value
        elif tag & 7 == _BYTES:
            yield tag >> 3, data[place : place + value]
            place += value
        else:
            raise ValueError(f"protobuf wire type {tag & 7}")


def _read_varint(data: bytes, place: int) -> tuple[int, int]:
    """The number at `place` and where the next one begins."""
    value = shift = 0
    while data[place] & 0x80:
        value |= (data[place] & 0x7F) << shift
        place, shift = place + 1, shift + 7
    return value | data[place] << shift, place + 1


def _tag(field: int, wire_type: int) -> bytes:
    return _varint(field << 3 | wire_type)


def _varint(value: int) -> bytes:
    low = bytearray()
    while value > 0x7F:
        low.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*low, value))


def _text(message: dict[str, Any]) -> aiohttp.WSMessage:
    return aiohttp.WSMessage(aiohttp.WSMsgType.TEXT, json.dumps(message), None)
