"""A line to `/v1/realtime` by OpenAI's own client; every stream is held to the protocol's grammar."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import openai
from openai.resources.realtime.realtime import AsyncRealtimeConnection

from avatar.core.audio import Pcm, float_to_pcm16, resample
from tests import realtime_grammar
from tests.integration.realtime_events import Noted
from tests.unit.conversation import tone

SPEECH, QUIET = tone(0.3, 800), tone(0.0, 900)
HELLO = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hello."}]}
ANSWER = "I am fine. How are you?"
"""What the fake model says, to whatever."""
WEATHER = {"type": "function", "name": "weather", "parameters": {"type": "object", "properties": {}}}
MANUAL: dict[str, Any] = {"audio": {"input": {"turn_detection": None, "transcription": {"model": "any"}}}}
SERVER_VAD: dict[str, Any] = {"audio": {"input": {"transcription": {"model": "any"}}}}
TEXT: dict[str, Any] = {"output_modalities": ["text"]}


@dataclass
class Line(Noted):
    """A connection, and all that came over it."""

    connection: AsyncRealtimeConnection
    events: list[dict[str, Any]] = field(default_factory=list)

    async def send(self, type_: str, **fields: Any) -> None:
        await self.connection.send({"type": type_, **fields})  # type: ignore[arg-type]

    async def until(self, type_: str, count: int = 1, timeout_s: float = 10) -> dict[str, Any]:
        """Read until there have been so many of that type since now."""
        async with asyncio.timeout(timeout_s):
            while True:
                event: dict[str, Any] = json.loads(await self.connection.recv_bytes())
                self.events.append(event)
                count -= event["type"] == type_
                if count == 0:
                    return event

    async def update(self, **session: Any) -> dict[str, Any]:
        await self.send("session.update", session={"type": "realtime", **session})
        told: dict[str, Any] = (await self.until("session.updated"))["session"]
        return told

    async def speak(self, pcm: Pcm, encode: Callable[[Pcm], bytes] = float_to_pcm16, rate_hz: int = 24_000) -> None:
        """Send 16 kHz audio in another form, in real time."""
        data = resample(pcm, 16_000, rate_hz)
        step = rate_hz // 25
        for start in range(0, data.size, step):
            audio = base64.b64encode(encode(data[start : start + step])).decode()
            await self.send("input_audio_buffer.append", audio=audio)
            await asyncio.sleep(0.04)

    @property
    def audio(self) -> bytes:
        return b"".join(base64.b64decode(event["delta"]) for event in self.of("response.output_audio.delta"))


@asynccontextmanager
async def calling(client: openai.AsyncOpenAI, model: str = "any") -> AsyncIterator[Line]:
    """Connect, and check in the end all that came."""
    async with client.realtime.connect(model=model) as connection:
        line = Line(connection)
        await line.until("session.created")
        yield line
    realtime_grammar.check([_without_our_rate(event) for event in line.events], ended=False)


def _without_our_rate(event: dict[str, Any]) -> dict[str, Any]:
    """16 kHz is an extension of ours; the SDK's types know 24 alone."""
    told: dict[str, Any] = json.loads(json.dumps(event).replace('"rate": 16000', '"rate": 24000'))
    return told
