"""The official SDK, pointed at a server of the tests: what it accepts is right, and what it refuses is wrong."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai

from tests.integration.serving import Server, fake_engines, serving, settings_for, settled
from tests.unit.conversation import Fakes


@dataclass
class Talk:
    """A server on fakes, and a client of OpenAI's."""

    server: Server
    fakes: Fakes
    client: openai.AsyncOpenAI

    @property
    def asked(self) -> Sequence[tuple[str, str]]:
        """What the model was last asked, after the instructions: roles and words."""
        return [(message.role, message.content) for message in self.fakes.llm.requests[-1]][1:]


@asynccontextmanager
async def talking_openai(folder: Path, fakes: Fakes | None = None, **settings: Any) -> AsyncIterator[Talk]:
    """Serve; the client checks the shape of every answer, and tries nothing twice."""
    fakes = fakes or Fakes()
    async with (
        serving(fake_engines(fakes), settings_for(folder, **settings)) as server,
        openai.AsyncOpenAI(
            base_url=f"{server.url}/v1", api_key="none", max_retries=0, _strict_response_validation=True
        ) as client,
    ):
        yield Talk(server, fakes, client)
        await settled(lambda: fakes.llm.active == fakes.tts.active == fakes.stt.opened - fakes.stt.closed == 0)


@asynccontextmanager
async def talking_alone(folder: Path, fakes: Fakes) -> AsyncIterator[Talk]:
    """The same with a place for one session, which is free again in the end."""
    async with talking_openai(folder, fakes, admission={"max_sessions": 1, "wait_s": 0.2}) as talk:
        yield talk
        await settled(lambda: talk.server.service.sessions.active == 0)
