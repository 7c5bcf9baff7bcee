"""A session of OpenAI's Agents SDK (`openai-agents`) at our server; every stream is held to the protocol's grammar."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from agents.realtime import (
    RealtimeAgent,
    RealtimeModelConfig,
    RealtimeRunner,
    RealtimeSession,
    RealtimeSessionEvent,
    RealtimeSessionModelSettings,
)

from avatar.core.audio import Pcm, float_to_pcm16, resample
from tests import realtime_grammar

RATE_HZ = 24_000
CHUNK_MS = 40


@dataclass
class Call:
    """A session, and all that the SDK made of what came."""

    session: RealtimeSession
    _coming: AsyncIterator[RealtimeSessionEvent]
    events: list[RealtimeSessionEvent] = field(default_factory=list)

    async def until(self, type_: str, timeout_s: float = 10) -> Any:
        """Read until an event of the SDK's of that type. An error of the server's, or of the SDK's, fails the test."""
        async with asyncio.timeout(timeout_s):
            async for event in self._coming:
                self.events.append(event)
                assert event.type != "error", event.error
                if event.type == type_:
                    return event
        raise ConnectionError("The session ended.")

    async def speak(self, pcm: Pcm) -> None:
        """Send 16 kHz audio in real time."""
        data = resample(pcm, 16_000, RATE_HZ)
        step = RATE_HZ * CHUNK_MS // 1000
        for start in range(0, data.size, step):
            await self.session.send_audio(float_to_pcm16(data[start : start + step]))
            await asyncio.sleep(CHUNK_MS / 1000)

    @property
    def types(self) -> list[str]:
        return [event.type for event in self.events]

    @property
    def server_events(self) -> list[dict[str, Any]]:
        """What the server sent, as far as it was read."""
        raw = [event.data for event in self.events if event.type == "raw_model_event"]
        return [event.data for event in raw if event.type == "raw_server_event"]

    def of(self, type_: str) -> list[dict[str, Any]]:
        """The server's events of that type."""
        return [event for event in self.server_events if event["type"] == type_]

    @property
    def audio(self) -> bytes:
        return b"".join(event.audio.data for event in self.events if event.type == "audio")

    @property
    def said(self) -> list[tuple[str, str]]:
        """Who said what, in the SDK's own history: text or transcript of each message."""
        messages = [item for item in self.session._history if item.type == "message"]
        return [(item.role, _words_of(item.content)) for item in messages]


@asynccontextmanager
async def agent_at(
    url: str, agent: RealtimeAgent[Any], settings: RealtimeSessionModelSettings | None = None
) -> AsyncIterator[Call]:
    """Connect `agent` to the server at `url`, with the SDK's own defaults but for `settings`."""
    config = RealtimeModelConfig(
        url=f"{url.replace('http', 'ws')}/v1/realtime?model=any", api_key="none", initial_model_settings=settings or {}
    )
    async with await RealtimeRunner(agent, config={"tracing_disabled": True}).run(model_config=config) as session:
        call = Call(session, aiter(session))
        yield call
    realtime_grammar.check(call.server_events, ended=False)


def _words_of(content: Any) -> str:
    return "".join(getattr(part, "text", None) or getattr(part, "transcript", None) or "" for part in content)
