"""What is heard in a Realtime session, where it is a matter of what comes first."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from types import SimpleNamespace
from typing import Any, cast

import pytest

from avatar.conversation.opening import House
from avatar.conversation.terms import SessionPolicy
from avatar.core.audio import float_to_pcm16
from avatar.core.errors import BufferLimit, RateLimited
from avatar.core.events import SpeechStarted, SpeechStopped
from avatar.server.realtime.conversation import Conversation
from avatar.server.realtime.hearing import MAX_AT_ONCE, MAX_UNTOLD, Hearing
from avatar.server.realtime.server_events import Event, ServerEvents
from avatar.server.realtime.session import RealtimeSession, update
from avatar.server.realtime.state import TalkState
from tests.unit.conversation import Client, Fakes, talking, tone

VAD: dict[str, Any] = {"type": "server_vad"}
FORMAT = {"type": "audio/pcm", "rate": 16_000}
SECOND = bytes(32_000)


class Heard:
    """A live session's, whose events come when the test says so."""

    def __init__(self, client: Client) -> None:
        numbers = count()

        def mint(kind: str) -> str:
            return f"{kind}_{next(numbers)}"

        house = cast(House, SimpleNamespace(policy=SessionPolicy()))
        session = RealtimeSession(type="realtime")
        self.told: list[Event] = []
        self.state = TalkState(
            session, client.session, house, ServerEvents(mint), Conversation("conv", mint), self.told.append
        )
        self.hearing = Hearing(self.state, lambda: None, lambda: None)
        self.client = client

    def detect(self, detection: dict[str, Any] | None) -> None:
        patch = {"type": "realtime", "audio": {"input": {"turn_detection": detection, "format": FORMAT}}}
        self.state.settings = update(self.state.settings, patch, spoken=False)
        self.hearing.listen()

    async def hear(self, amplitude: float, ms: int) -> None:
        for _ in range(0, ms, 20):
            self.hearing.hear(float_to_pcm16(tone(amplitude, 20)))
            await asyncio.sleep(0.02)

    @property
    def kinds(self) -> list[str]:
        return [event["type"] for event in self.told]


@asynccontextmanager
async def hearing(fakes: Fakes | None = None) -> AsyncIterator[Heard]:
    async with talking(fakes) as client:
        heard = Heard(client)
        yield heard
        await heard.hearing.aclose()


async def test_a_turn_that_the_client_committed_first_is_not_answered_unheard() -> None:
    async with hearing() as heard:
        heard.detect(VAD)
        await heard.hear(0.3, 800)
        (started,) = heard.client.of(SpeechStarted)
        assert isinstance(started, SpeechStarted)
        heard.hearing.speech_started(started.at_ms)
        while not heard.client.of(SpeechStopped):
            await heard.hear(0.0, 20)
        (stopped,) = heard.client.of(SpeechStopped)
        assert isinstance(stopped, SpeechStopped)
        assert stopped.turn_id is not None
        heard.hearing.commit()  # before the end of the turn is told
        heard.hearing.speech_stopped(stopped)
        await asyncio.sleep(5)
        assert [turn.status for turn in heard.client.done] == ["interrupted"]
        assert heard.kinds.count("input_audio_buffer.speech_stopped") == 1
        assert heard.kinds.count("input_audio_buffer.committed") == 1


async def test_what_was_sent_for_the_client_to_commit_counts_no_more_once_turns_were_looked_for() -> None:
    async with hearing() as heard:
        heard.detect(None)
        for _ in range(40):
            heard.hearing.hear(SECOND)
        heard.detect(VAD)
        await heard.hear(0.0, 100)
        heard.detect(None)
        for _ in range(60):
            heard.hearing.hear(SECOND)
        with pytest.raises(BufferLimit):
            heard.hearing.hear(SECOND)


async def test_recordings_take_turns_and_there_are_only_so_many() -> None:
    fakes = Fakes()
    fakes.stt.delay_s = 1.0
    speech = float_to_pcm16(tone(0.3, 1000))
    async with hearing(fakes) as heard:
        heard.detect(None)
        for _ in range(MAX_UNTOLD):
            heard.hearing.hear(speech)
            heard.hearing.commit()
        heard.hearing.hear(speech)
        with pytest.raises(RateLimited):
            heard.hearing.commit()
        await asyncio.sleep(0.5)
        assert fakes.stt.opened == MAX_AT_ONCE
        await asyncio.sleep(1)
        heard.hearing.commit()  # nothing of it was lost
        await asyncio.sleep(MAX_UNTOLD)
        assert fakes.stt.finished == MAX_UNTOLD + 1
        assert not heard.hearing.untold
